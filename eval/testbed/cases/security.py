"""Cases of attackers and of what looks like them: scans, sweeps, beacons, uploads, downloads."""

import ipaddress
import re
from functools import partial

from eval.testbed.cases.background import add_controller, add_panel, polls, sent
from eval.testbed.cases.case import (
    NOT_HEALTHY,
    CaseTruth,
    Draw,
    Kind,
    Scene,
    Step,
    run_tools,
    set_up,
)
from eval.testbed.events.actions import tool_command
from eval.testbed.site import ROUTER, Machine

_SYN = "tcp.flags.syn == 1 && tcp.flags.ack == 0"


def _silent(machine: Machine, *accepted: int) -> Step:
    """A firewall on a machine that drops whatever comes to other ports."""
    ports = ", ".join(map(str, accepted or (9,)))
    rules = (
        "add table inet wall; add chain inet wall in { type filter hook input priority 0; }; "
        f"add rule inet wall in tcp dport {{ {ports} }} accept; add rule inet wall in tcp flags syn drop; "
        "add rule inet wall in udp dport 1-65535 drop"
    )
    return set_up(machine.name, ["nft", rules])


# ---- Scans ----


def _vertical(count: int, way: str, draw: Draw) -> Scene:
    """Many ports of one host within seconds: refused, dropped, or UDP with ICMP unreachable."""
    target = add_controller(draw)
    add_panel(draw, polls(target, 0, 10))
    outside = draw.random() < 0.3
    scanner = draw.add("laptop", outside=outside)
    at_s, scan_s = draw.seconds(60, 150), draw.seconds(5, 60)
    rate = count / scan_s
    first = draw.choice([1, 100, 8000])
    nmap = ["nmap", "-n", "-Pn", "--disable-arp-ping", "-sU" if way == "udp" else "-sS"]
    nmap += [
        f"-p{first}-{first + count - 1}",
        "--max-retries",
        "0" if way != "tcp_refused" else "1",
    ]
    nmap += ["--min-rate", f"{rate:.2f}", "--max-rate", f"{rate:.2f}", target.address]
    steps = [Step(at_s, 9e9, run_tools(scanner, nmap))]
    if way == "tcp_silent":
        steps.insert(0, _silent(target, 502))
    pair = f"{sent(scanner, target)}"
    back = f"{sent(target, scanner)}"
    measures = {
        "tcp_refused": {"tried": f"{pair} && {_SYN}", "refused": f"{back} && tcp.flags.reset == 1"},
        "tcp_silent": {"tried": f"{pair} && {_SYN}"},
        "udp": {"tried": f"{pair} && udp && !icmp", "unreachable": f"{back} && icmp.type == 3"},
    }[way]
    return Scene(draw.site(), CaseTruth(
        "is someone scanning?",
        f"{scanner.address} tries {count} ports of {target.address} in about {scan_s:.0f} s, {{tried}} probes",
        device=scanner.address, peers=(target.address,), protocol="udp" if way == "udp" else "tcp",
        facts={"ports": count, "first_port": first, "length_s": scan_s,
               "answered": way != "tcp_silent", "label": "recon"},
        measures=measures, must=(re.escape(scanner.address), "scan"), must_not=NOT_HEALTHY,
    ), at_s + scan_s + draw.seconds(50, 120), tuple(steps))  # fmt: skip


def _horizontal(way: str, draw: Draw) -> Scene:
    """Every address of a /24, which lies behind the router or is the plant's own."""
    target = add_controller(draw)
    add_panel(draw, polls(target, 0, 10))
    scanner = draw.add("laptop")
    at_s, rate = draw.seconds(60, 150), draw.uniform(10, 60)
    own = ipaddress.ip_network(f"{scanner.address}/24", strict=False)
    away = ipaddress.ip_network(f"{draw.outside_address()}/24", strict=False)
    network = own if way in ("arp", "modbus") else away
    port = draw.choice([22, 23, 80, 445, 502, 44818]) if way == "tcp" else 502
    pace = ["--min-rate", f"{rate:.2f}", "--max-rate", f"{rate:.2f}", "--max-retries", "0"]
    command = {
        "tcp": ["nmap", "-n", "-Pn", "-sS", f"-p{port}"],
        "tcp_silent": ["nmap", "-n", "-Pn", "-sS", f"-p{port}"],
        "icmp": ["nmap", "-n", "-sn", "-PE"],
        "arp": ["nmap", "-n", "-sn", "-PR"],
        "modbus": ["nmap", "-n", "-sT", f"-p{port}", "--script", "modbus-discover"],
    }[way]
    # Behind the router is one machine for all addresses of the network, or nothing that answers.
    kind = "blackhole" if way == "tcp_silent" else "local"
    route = ["ip", "route", "add", kind, str(network), *(["dev", "lo"] if kind == "local" else [])]
    steps = [set_up(ROUTER, route)] if network is away else []
    steps.append(Step(at_s, 9e9, run_tools(scanner, [*command, *pace, str(network)])))
    sent = f"ip.src == {scanner.address} && ip.dst == {network}"
    measures = {
        "icmp": {"tried": f"{sent} && icmp.type == 8"},
        "arp": {"tried": f"arp.opcode == 1 && arp.src.proto_ipv4 == {scanner.address}"},
        "modbus": {"tried": f"arp.opcode == 1 && arp.src.proto_ipv4 == {scanner.address}",
                   "asked": f"ip.src == {scanner.address} && modbus"},
    }.get(way, {"tried": f"{sent} && {_SYN} && tcp.dstport == {port}"})  # fmt: skip
    protocol = {"icmp": "icmp", "arp": "arp", "modbus": "modbus"}.get(way, "tcp")
    return Scene(draw.site(), CaseTruth(
        "is someone scanning?",
        f"{scanner.address} tries the addresses of {network} ({way}), {{tried}} probes",
        device=scanner.address, peers=(str(network),), protocol=protocol,
        facts={"port": port, "network": str(network), "label": "recon"}, measures=measures,
        must=(re.escape(scanner.address), "scan|sweep"), must_not=NOT_HEALTHY,
    ), at_s + 256 / rate * 2 + draw.seconds(50, 120), tuple(steps))  # fmt: skip


# ---- Calls to the outside ----


def _beacon(answer: str, draw: Draw) -> Scene:
    """Calls with a period to one outside address: never answered, refused, or answered."""
    device = draw.add(draw.choice(["camera", "sensor", "gateway"]))
    period_s, jitter = draw.seconds(10, 40), draw.choice([0.0, 0.05, 0.2])
    port = draw.choice([443, 4444, 8080, 666, 23])
    steps: list[Step] = []
    if answer == "unanswered":
        address = draw.outside_address()
        steps.append(set_up(ROUTER, ["ip", "route", "add", "blackhole", address]))
    else:
        controller = draw.add("cnc", outside=True)
        address = controller.address
        if answer == "answered":
            listen = tool_command("tcp", "listen", port, "--answer-bytes", draw.randint(10, 90))
            steps.append(Step(-1, 9e9, run_tools(controller, listen)))
    tool = tool_command("tcp", "beacon", address, port, period_s, "--jitter", jitter)
    steps.append(Step(5, 9e9, run_tools(device, tool)))  # its far end is up by then
    calls = f"ip.src == {device.address} && ip.dst == {address} && {_SYN}"
    return Scene(draw.site(), CaseTruth(
        f"what does {device.address} call outside?",
        f"it calls {address}:{port} about every {period_s:.0f} s from first to last, {answer}: {{calls}} SYNs",
        standing=("likely", "confirmed", "inconclusive"),
        device=device.address, peers=(address,), protocol="tcp",
        facts={"port": port, "every_s": period_s, "jitter": jitter, "answer": answer, "label": "c2"},
        measures={"calls": calls}, must=(re.escape(address),), must_not=NOT_HEALTHY,
    ), draw.seconds(420, 600), tuple(steps))  # fmt: skip


def upload(draw: Draw) -> Scene:
    """Many megabytes to an outside peer that nobody has called before."""
    device, taker = (
        draw.add(draw.choice(["historian", "workstation"])),
        draw.add("store", outside=True),
    )
    at_s, size, port = (
        draw.seconds(120, 240),
        draw.randint(3, 9) * 10**6,
        draw.choice([443, 21, 8443]),
    )
    kbit = draw.randint(1500, 5000)
    listen = tool_command("tcp", "listen", port)
    send = tool_command("tcp", "bulk", taker.address, port, kbit, "--bytes", size)
    frames = f"{sent(device, taker)} && tcp.len > 0"
    return Scene(draw.site(), CaseTruth(
        f"does {device.address} send data out?",
        f"it sends {size / 1e6:.1f} MB to {taker.address}, which nobody has called before",
        device=device.address, peers=(taker.address,), protocol="tcp",
        facts={"port": port, "bytes": size, "direction": "out", "label": "exfiltration"},
        measures={"frames": frames}, must=(re.escape(taker.address),), must_not=NOT_HEALTHY,
    ), at_s + size * 8 / kbit / 1000 + draw.seconds(60, 120), (
        Step(-1, 9e9, run_tools(taker, listen)), Step(at_s, 9e9, run_tools(device, send))))  # fmt: skip


def download(draw: Draw) -> Scene:
    """A device fetches many megabytes over HTTP: it asked for them, so nobody floods it."""
    device, store = (
        draw.add(draw.choice(["hmi", "camera"])),
        draw.add("cloud", "cloud", outside=True),
    )
    at_s, size = draw.seconds(100, 200), draw.randint(3, 9) * 10**6
    fetch = tool_command("tcp", "fetch", store.address, 80, size)
    got = f"{sent(store, device)} && tcp.len > 0"
    return Scene(draw.site(), CaseTruth(
        f"is {device.address} under attack?",
        f"no: it downloads {size / 1e6:.1f} MB from {store.address}, which it asked for",
        standing=("normal", "inconclusive"),
        device=device.address, peers=(store.address,), protocol="http",
        facts={"port": 80, "bytes": size, "direction": "in", "label": "normal", "label_not": ["ddos", "dos"]},
        measures={"frames": got}, must=("download|received|asked for",), must_not=(r"\A[^\n]*flood",),
    ), at_s + draw.seconds(60, 120), (Step(at_s, 9e9, run_tools(device, fetch)),))  # fmt: skip


KINDS: dict[str, Kind] = {
    **{
        f"scan_{way}_{count}": partial(_vertical, count, way)
        for count in (30, 100, 1000)
        for way in ("tcp_refused", "tcp_silent", "udp")
    },
    **{
        f"sweep_{way}": partial(_horizontal, way)
        for way in ("tcp", "tcp_silent", "icmp", "arp", "modbus")
    },
    **{
        f"beacon_{answer}": partial(_beacon, answer)
        for answer in ("unanswered", "refused", "answered")
    },
    "upload": upload,
    "download": download,
}
