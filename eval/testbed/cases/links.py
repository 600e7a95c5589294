"""Cases of links and of addresses: nobody answers, packets are lost, answers are slow."""

import contextlib
import re
from collections.abc import Iterator

from eval.testbed.cases.background import add_controller, add_panel, polls
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
from eval.testbed.events.actions import (
    discard_output,
    packets_lost,
    tool_command,
    tool_running,
    unplugged,
)
from eval.testbed.lab import Lab
from eval.testbed.site import ROUTER


def nobody_there(draw: Draw) -> Scene:
    """A client calls an address of its own network that nobody has: ARP is never answered."""
    address = draw.free_address()
    entry = {"name": address, "port": 502, "unit": 1, "address": 0, "count": 8, "function": 3}
    client = add_panel(draw, entry)
    asked = f"arp.opcode == 1 && arp.dst.proto_ipv4 == {address}"
    return Scene(draw.site(), CaseTruth(
        f"why does {address} not answer?",
        f"nobody has the address: {{asked}} ARP requests of {client.address} without an answer",
        device=address, peers=(client.address,), protocol="arp",
        facts={"label": "device_silent"}, measures={"asked": asked},
        must=(re.escape(address), "answer|silent|ARP"), must_not=NOT_HEALTHY,
    ), draw.seconds(240, 400))  # fmt: skip


def never_answers(draw: Draw) -> Scene:
    """A client calls an address beyond the router that drops what comes: SYN without an answer."""
    address, port = draw.outside_address(), draw.choice([502, 4840, 44818])
    entry = {"name": address, "port": port, "unit": 1, "address": 0, "count": 8, "function": 3}
    client = add_panel(draw, entry, timeout_s=3.0)
    tried = f"ip.src == {client.address} && ip.dst == {address} && tcp.flags == 2"
    hole = set_up(ROUTER, ["ip", "route", "add", "blackhole", address])
    return Scene(draw.site(), CaseTruth(
        f"why does {address} not answer?",
        f"{{tried}} SYNs of {client.address} to port {port} without an answer",
        device=address, peers=(client.address,), protocol="tcp",
        facts={"port": port, "label": "device_silent"}, measures={"tried": tried},
        must=(re.escape(address), "answer|silent"), must_not=NOT_HEALTHY,
    ), draw.seconds(240, 400), (hole,))  # fmt: skip


def goes_silent(draw: Draw) -> Scene:
    """A controller loses its power after some minutes."""
    server = add_controller(draw)
    client = add_panel(draw, polls(server, 0, 10), poll_s=1.0)
    at_s = draw.seconds(120, 200)

    said = f"ip.src == {server.address}"
    return Scene(draw.site(), CaseTruth(
        f"why does {server.address} not answer?",
        f"it says nothing more after {{said_last_s}} s; {client.address} goes on asking",
        device=server.address, peers=(client.address,), protocol="tcp",
        facts={"port": 502, "label": "device_silent"}, measures={"said": said},
        must=(re.escape(server.address), "answer|silent"), must_not=NOT_HEALTHY,
    ), at_s + draw.seconds(120, 240), (Step(at_s, 9e9, lambda lab: unplugged(lab, server.name)),))  # fmt: skip


def loss(draw: Draw) -> Scene:
    """A cable loses a share of its packets, each way."""
    server, share = add_controller(draw), round(draw.uniform(0.05, 0.25), 3)
    clients = [add_panel(draw, polls(server, 0, 20), poll_s=0.5, timeout_s=3.0) for _ in range(2)]
    at_s = draw.choice([0.0, draw.seconds(60, 120)])

    step = Step(at_s, 9e9, lambda lab: packets_lost(lab, server.name, share))
    again = f"tcp.analysis.retransmission && ip.addr == {server.address}"
    return Scene(draw.site(), CaseTruth(
        "are we losing packets?",
        f"yes: the cable of {server.address} loses {share:.0%} each way, {{again}} segments are sent again",
        device=server.address, peers=tuple(one.address for one in clients), protocol="tcp",
        facts={"share": share, "label": "packet_loss"}, measures={"again": again},
        must=("loss|lost|sent again|retransmi",), must_not=NOT_HEALTHY,
    ), at_s + draw.seconds(240, 300), (step,))  # fmt: skip


def delay(draw: Draw) -> Scene:
    """Answers that took milliseconds take a good part of a second for some minutes."""
    from_s, slow_s, delay_s = (
        draw.seconds(120, 200),
        draw.seconds(90, 150),
        round(draw.uniform(0.2, 0.7), 2),
    )
    before = {
        "port": 502,
        "behind": 1502,
        "delay_from_s": from_s,
        "delay_to_s": from_s + slow_s,
        "delay_s": delay_s,
    }
    server = add_controller(draw, port=1502, front=before)
    client = add_panel(draw, polls(server, 0, 10), poll_s=1.0, timeout_s=3.0)
    return Scene(draw.site(), CaseTruth(
        f"why is {server.address} slow?",
        f"its answers take {delay_s * 1000:.0f} ms longer for {slow_s:.0f} s, before and after a few ms",
        device=server.address, peers=(client.address,), protocol="modbus",
        facts={"port": 502, "delay_s": delay_s, "slow_s": slow_s, "label": "congestion"},
        measures={"slow": f"ip.src == {server.address} && modbus && tcp.time_delta > {delay_s * 0.9:.3f}"},
        must=("slow|delay|late|longer",), must_not=NOT_HEALTHY,
    ), from_s + slow_s + draw.seconds(60, 120))  # fmt: skip


def full_link(draw: Draw) -> Scene:
    """A cable that is filled for some minutes: whatever goes to the machine at its end waits.

    Its clients speak what nothing here reads, so that only TCP tells.
    """
    port, kbit, queue_ms = (
        draw.choice([4711, 9600, 6000]),
        draw.choice([1000, 2000]),
        draw.choice([500, 800]),
    )
    server = draw.add("store")
    clients = [draw.add("workstation") for _ in range(draw.randint(1, 3))]
    filler = draw.add("camera")
    from_s, lasts_s = draw.seconds(160, 220), draw.seconds(120, 180)
    listen = run_tools(server, tool_command("tcp", "listen", port))
    talk = [
        run_tools(one, tool_command("tcp", "bulk", server.address, port, 20)) for one in clients
    ]
    # Half as much again as there is room for, as video over UDP, or what TCP makes of the room.
    stream = discard_output(
        f"hping3 --udp -d 1200 -s 5004 -k -p 5004 -i u{int(6400e3 / kbit)} {server.address}".split()
    )
    copy = tool_command("tcp", "bulk", server.address, 8080, 1.5 * kbit)
    fills = draw.choice([stream, copy])
    listens = run_tools(server, tool_command("tcp", "listen", 8080))

    @contextlib.contextmanager
    def fill(lab: Lab) -> Iterator[None]:
        lab.limit(server.name, kbit, queue_ms)
        with tool_running(lab, filler.name, fills):
            yield
        lab.limit(server.name, 0)

    slow = f"ip.src == {server.address} && tcp.port == {port} && tcp.analysis.ack_rtt > {queue_ms / 2000}"
    steps = [Step(-1, 9e9, listen), Step(-1, 9e9, listens), *(Step(1, 9e9, one) for one in talk)]
    return Scene(draw.site(), CaseTruth(
        f"why is {server.address} slow?",
        f"{filler.address} fills its cable of {kbit} kbit/s for {lasts_s:.0f} s: {{slow}} segments to it are "
        f"acknowledged later than {queue_ms / 2:.0f} ms",
        device=server.address, peers=tuple(one.address for one in clients), protocol="tcp",
        facts={"port": port, "kbit": kbit, "queue_ms": queue_ms, "filler": filler.address, "label": "congestion"},
        measures={"slow": slow},
        must=("slow|delay|late|longer", re.escape(server.address)), must_not=NOT_HEALTHY,
    ), from_s + lasts_s + draw.seconds(60, 100), (*steps, Step(from_s, from_s + lasts_s, fill)))  # fmt: skip


def flapping(draw: Draw) -> Scene:
    """A loose cable: a controller goes off and on."""
    server = add_controller(draw)
    client = add_panel(draw, polls(server, 0, 10), poll_s=1.0)
    times, off_s = draw.randint(4, 8), draw.seconds(6, 14)
    steps = []

    at_s = draw.seconds(60, 90)
    for _ in range(times):
        steps.append(Step(at_s, at_s + off_s, lambda lab: unplugged(lab, server.name)))
        at_s += off_s + draw.seconds(15, 40)
    return Scene(draw.site(), CaseTruth(
        f"why does {server.address} come and go?",
        f"it is silent {times} times for about {off_s:.0f} s and comes back",
        device=server.address, peers=(client.address,), protocol="tcp",
        facts={"times": times, "off_s": off_s, "label": "flapping"}, measures={},
        must=(re.escape(server.address),), must_not=NOT_HEALTHY,
    ), at_s + 60, tuple(steps))  # fmt: skip


KINDS: dict[str, Kind] = {
    "nobody_has_address": nobody_there,
    "never_answers": never_answers,
    "goes_silent": goes_silent,
    "loss": loss,
    "slow_answers": delay,
    "full_link": full_link,
    "flapping": flapping,
}
