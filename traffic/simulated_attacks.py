"""Attacks from inside and outside: scans, floods, logins, writes. Every row they make carries the attack's label.

An attack takes the stage and its time and returns its cause in one sentence. What the two sides' truth is follows from
the rows themselves.
"""

import numpy as np

from traffic.simulated_flows import attempt, exchange, ping, refuse, session
from traffic.simulated_plant import Stage, beats, between, lognormal, public_address

__all__ = ["ATTACKS", "flood", "intruder", "victim"]

OPEN_PORTS = {
    "plc": (80, 102, 502, 44818),
    "camera": (80, 443, 554, 8000),
    "server": (22, 80, 443, 445, 1883, 3306, 5432, 8086),
    "broker": (22, 1883, 8883),
    "router": (22, 53, 80, 443),
    "workstation": (135, 139, 445, 3389),
    "hmi": (80, 135, 445, 5900),
}
_FAMOUS = np.array([22, 23, 80, 81, 443, 445, 502, 1883, 2323, 3389, 4840, 5555, 7547, 8080, 8443, 37215, 44818, 52869])


def intruder(stage: Stage, outside: float = 0.25) -> str:
    """Who attacks: a device that has been taken over, a machine nobody knows, or someone beyond the router."""
    rng = stage.rng
    if rng.random() < outside:
        return str(public_address(rng, 1)[0])
    if rng.random() < 0.15:
        used = {device.address for device in stage.plant.devices}
        free = [host for host in range(2, 254) if stage.network + str(host) not in used]
        return stage.network + str(rng.choice(free))
    return str(rng.choice([device.address for device in stage.plant.devices]))


def victim(stage: Stage, attacker: str, *roles: str) -> str:
    """A device that is not the attacker, of the given roles if there is one."""
    others = [d.address for d in stage.plant.devices if d.address != attacker]
    wanted = [d.address for d in stage.having(*roles) if d.address != attacker]
    if not others:
        return str(public_address(stage.rng, 1)[0])
    return str(stage.rng.choice(wanted or others))


def recon(stage: Stage, start_s: float, end_s: float) -> str:
    """One of many ways to look around."""
    ways = (_ports, _ports, _hosts, _hosts, _internet, _internet, _datagrams, _registers, _pings)
    return ways[int(stage.rng.integers(len(ways)))](stage, start_s, end_s)


def _pace(stage: Stage, start_s: float, end_s: float, n: int) -> np.ndarray:
    """Times of n probes: as fast as tools go, or as slow as they must to hide."""
    rng = stage.rng
    rate = between(rng, 0.05, 1) if rng.random() < 0.2 else between(rng, 1, 600)
    times = start_s + np.cumsum(rng.exponential(1 / rate, n))
    return times[times < end_s]


def _probe(
    stage: Stage, ts: np.ndarray, src: str, dst: np.ndarray, port: np.ndarray, answer: np.ndarray, **more: object
) -> None:
    """Probes answered by ``open``, ``closed`` or silence (``filtered``), with nmap's one or two ports or fresh ones."""
    rng, ledger = stage.rng, stage.ledger
    half = rng.random() < 0.6
    fixed = int(rng.integers(1024, 65000))
    ports = np.full(len(ts), fixed) if half else ledger.ports(len(ts))
    label = {"label": "recon", **more}
    closed, silent, lively = (answer == word for word in ("closed", "filtered", "open"))
    refuse(ledger, ts[closed], src, dst[closed], port[closed], orig_p=ports[closed], **label)
    policy = "once" if half or rng.random() < 0.5 else str(rng.choice(["linux_short", "impatient"]))
    attempt(ledger, ts[silent], src, dst[silent], port[silent], orig_p=ports[silent], tries=policy, **label)
    if half and rng.random() < 0.7:  # nmap asks the silent ones once more, from the next port
        attempt(
            ledger,
            ts[silent] + rng.uniform(0.2, 1.5),
            src,
            dst[silent],
            port[silent],
            orig_p=ports[silent] + 1,
            tries="once",
            **label,
        )
    given = {"orig_p": ports[lively], "ending": {"reset_client": 1}, **label}
    if half:
        session(ledger, ts[lively], src, dst[lively], port[lively], duration=0.01, exchanges=0, **given)
    else:
        given["ask_bytes"], given["answer_bytes"] = rng.integers(0, 300), rng.integers(0, 900)
        session(ledger, ts[lively], src, dst[lively], port[lively], duration=between(rng, 0.01, 8), **given)


def _ports(stage: Stage, start_s: float, end_s: float) -> str:
    rng = stage.rng
    src = intruder(stage)
    dst = victim(stage, src)
    n = int(between(rng, 20, 8000) if rng.random() < 0.5 else 1000)
    port = rng.permutation(np.arange(1, max(n + 1, 10000)))[:n]
    ts = _pace(stage, start_s, end_s, n)
    role = next((d.role for d in stage.plant.devices if d.address == dst), "")
    usual = "filtered" if rng.random() < 0.3 else "closed"
    answer = np.where(np.isin(port, OPEN_PORTS.get(role, (80,))), "open", usual)[: len(ts)]
    _probe(stage, ts, src, np.full(len(ts), dst, object), port[: len(ts)], answer)
    return f"{src} scans {len(ts)} ports of {dst}"


def _hosts(stage: Stage, start_s: float, end_s: float) -> str:
    rng = stage.rng
    src = intruder(stage, outside=0.1)
    port = rng.choice(_FAMOUS, size=int(rng.integers(1, 6)), replace=False)
    hosts = np.array([stage.network + str(host) for host in rng.permutation(np.arange(1, 255))], object)
    dst, asked = np.repeat(hosts, len(port)), np.tile(port, len(hosts))
    ts = _pace(stage, start_s, end_s, len(dst))
    dst, asked = dst[: len(ts)], asked[: len(ts)]
    alive = np.isin(dst, [d.address for d in stage.plant.devices])
    if rng.random() < 0.6:  # on the same wire: who does not answer ARP is never probed
        stage.ledger.note(ts, src, dst, "arp_request", count=np.where(alive, 1, 2))
        stage.ledger.note(ts[~alive], src, dst[~alive], "arp_unanswered", count=2)
        exchange(
            stage.ledger,
            ts[:: len(port)],
            src,
            stage.resolver,
            53,
            service="dns",
            app="dns",
            code=3,
            asks=1.0,
            label="recon",
        )
        seen = alive
    else:
        seen = np.ones(len(ts), bool)
    answer = np.where(alive, rng.choice(["closed", "open", "filtered"], size=len(ts), p=[0.6, 0.25, 0.15]), "filtered")
    _probe(stage, ts[seen], src, dst[seen], asked[seen], answer[seen])
    return f"{src} scans the network for port {', '.join(map(str, port))}"


def _internet(stage: Stage, start_s: float, end_s: float) -> str:
    """A worm that looks for others of its kind beyond the router."""
    rng = stage.rng
    src = intruder(stage, outside=0)
    ts = _pace(stage, start_s, end_s, int(between(rng, 50, 12000)))
    port = rng.choice(rng.choice(_FAMOUS, size=int(rng.integers(1, 4)), replace=False), size=len(ts))
    answer = rng.choice(["filtered", "closed", "open"], size=len(ts), p=[0.95, 0.04, 0.01])
    _probe(stage, ts, src, public_address(rng, len(ts)), port, answer)
    return f"{src} scans random addresses of the internet"


def _datagrams(stage: Stage, start_s: float, end_s: float) -> str:
    rng, ledger = stage.rng, stage.ledger
    src = intruder(stage)
    dst = victim(stage, src)
    ts = _pace(stage, start_s, end_s, int(between(rng, 30, 2000)))
    port = rng.integers(1, 65535, len(ts))
    exchange(
        ledger,
        ts,
        src,
        dst,
        port,
        in_pkts=0,
        ask_bytes=rng.integers(0, 60),
        orig_p=int(rng.integers(1024, 65000)),
        label="recon",
    )
    told = ts[rng.random(len(ts)) < between(rng, 0.02, 0.9)] + 0.001
    ping(ledger, told, dst, src, kind=3, code=3, in_pkts=0, size_bytes=36)
    ledger.note(told, dst, src, "unreachable", 3)
    return f"{src} scans UDP ports of {dst}"


def _registers(stage: Stage, start_s: float, end_s: float) -> str:
    """Asks a controller for everything: functions, units, registers."""
    rng, ledger = stage.rng, stage.ledger
    src = intruder(stage, outside=0.1)
    dst = victim(stage, src, "plc", "gateway", "drive")
    rate = between(rng, 1, 60)
    ts, length = np.array([start_s]), end_s - start_s
    given = {
        "app": "modbus",
        "code": int(rng.choice([1, 2, 3, 4])),
        "asks": 0.9,
        "distinct": int(between(rng, 20, 500)),
        "label": "recon",
    }
    sizes = {"exchanges": length * rate, "ask_bytes": 12, "answer_bytes": rng.integers(9, 40), "service": "modbus"}
    session(ledger, ts, src, dst, 502, duration=length, ending={"closed": 1, "reset_client": 1}, **given, **sizes)
    wrong = beats(rng, start_s, end_s, between(rng, 1 / rate, 20), 0.3)
    ledger.note(wrong, src, dst, "modbus_exception", rng.choice([1, 2, 2, 3, 11], size=len(wrong)))
    ledger.note(wrong, src, dst, "modbus_other", rng.choice([7, 8, 17, 43, 43, 90], size=len(wrong)))
    return f"{src} reads every register of {dst}"


def _pings(stage: Stage, start_s: float, end_s: float) -> str:
    ledger = stage.ledger
    src = intruder(stage, outside=0.1)
    hosts = np.array([stage.network + str(host) for host in range(1, 255)], object)
    ts = _pace(stage, start_s, end_s, len(hosts))
    alive = np.isin(hosts[: len(ts)], [d.address for d in stage.plant.devices])
    ping(ledger, ts, src, hosts[: len(ts)], in_pkts=alive.astype(float), label="recon")
    ledger.note(ts[~alive], src, hosts[: len(ts)][~alive], "arp_unanswered")
    return f"{src} pings every address of the network"


def flood(stage: Stage, start_s: float, end_s: float, src: np.ndarray, dst: str, label: str) -> str:
    """Fill a host's line or its tables: one flow of a million packets, or ten thousand of one packet."""
    rng, ledger = stage.rng, stage.ledger
    kind = str(rng.choice(["syn", "syn", "udp", "udp", "icmp", "http", "slow", "checksum"]))
    rate, length = between(rng, 20, 20000), end_s - start_s
    port = int(rng.choice([80, 443, 53, 502, 1883, 8080, int(rng.integers(1, 65535))]))
    n = int(min(rate * length, between(rng, 500, 20000)))
    ts = np.sort(rng.uniform(start_s, end_s, n))
    who = src[rng.integers(len(src), size=n)]
    one = np.full(len(src), start_s) + rng.uniform(0, 2, len(src))
    many = np.full(len(src), max(rate * length / len(src), 20))
    lasting = np.maximum(length - 2, 1)
    if kind == "syn":
        _syns(stage, ts, who, dst, port, max(rate * length / n, 1), label)
    elif kind == "checksum":  # Zeek drops what its host's card had not summed yet, and counts no packets
        blank = dict.fromkeys(["duration", "orig_bytes", "resp_bytes"], np.nan) | dict.fromkeys(
            ["orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes"], 0.0
        )
        given = {
            "id.orig_h": who,
            "id.resp_h": dst,
            "id.resp_p": port,
            "id.orig_p": ledger.ports(n),
            "proto": "tcp",
            "label": label,
        }
        ledger.add(ts, conn_state="OTH", history="C", **given, **blank)
    elif kind == "udp" and rng.random() < 0.5:
        exchange(
            ledger, ts, who, dst, rng.integers(1, 65535, n), in_pkts=0, ask_bytes=rng.integers(0, 1400), label=label
        )
    elif kind == "udp":
        exchange(
            ledger,
            one,
            src,
            dst,
            port,
            out_pkts=many,
            in_pkts=0,
            ask_bytes=rng.integers(0, 1400),
            duration=lasting,
            label=label,
        )
    elif kind == "icmp":
        back = many if rng.random() < 0.4 else 0
        ping(
            ledger,
            one,
            src,
            dst,
            out_pkts=many,
            in_pkts=back,
            size_bytes=rng.integers(8, 1400),
            duration=lasting,
            label=label,
        )
    elif kind == "http":
        given = {
            "exchanges": rng.integers(1, 20),
            "ask_bytes": 250,
            "answer_bytes": rng.integers(0, 6000),
            "service": "http",
        }
        session(
            ledger,
            ts,
            who,
            dst,
            80,
            duration=lognormal(rng, 0.3, 1, n),
            label=label,
            ending={"closed": 1, "reset_client": 0.5},
            **given,
        )
    else:
        slow = ts[: int(between(rng, 50, 600))]
        given = {
            "exchanges": rng.integers(2, 40),
            "ask_bytes": 20,
            "answer_bytes": 0,
            "ending": {"open": 1, "reset_server": 1},
        }
        session(ledger, slow, who[: len(slow)], dst, 80, duration=rng.uniform(5, 120, len(slow)), label=label, **given)
    return kind


def _syns(stage: Stage, ts: np.ndarray, who: np.ndarray, dst: str, port: int, syns: float, label: str) -> None:
    """SYNs that are swallowed, refused, or answered by a SYN-ACK that leads nowhere."""
    rng, n = stage.rng, len(ts)
    fate = rng.choice(["S0", "S0", "REJ", "S1"])
    back = 0.0 if fate == "S0" else np.rint(syns)
    more = {"duration": 0.5 if syns > 1 else (np.nan if fate == "S0" else 0.002)}
    story = {"S0": "S", "REJ": "Sr", "S1": "Sh"}[str(fate)]
    bytes_known = np.nan if fate == "S0" and syns <= 1 else 0.0
    given = {
        "id.orig_h": who,
        "id.resp_h": dst,
        "id.resp_p": port,
        "id.orig_p": rng.integers(1024, 65535, n),
        "proto": "tcp",
    }
    sizes = {
        "orig_pkts": np.rint(syns),
        "resp_pkts": back,
        "orig_ip_bytes": 40 * np.rint(syns),
        "resp_ip_bytes": 40 * back,
    }
    sizes.update(orig_bytes=bytes_known, resp_bytes=bytes_known)
    stage.ledger.add(ts, conn_state=str(fate), history=story, label=label, **given, **sizes, **more)


def dos(stage: Stage, start_s: float, end_s: float) -> str:
    src = intruder(stage)
    dst = victim(stage, src, "plc", "broker", "server", "camera")
    kind = flood(stage, start_s, end_s, np.array([src], object), dst, "dos")
    return f"{src} floods {dst} ({kind})"


def ddos(stage: Stage, start_s: float, end_s: float) -> str:
    """A device of the plant takes part in a flood of someone outside, or the plant is flooded from everywhere."""
    rng = stage.rng
    if rng.random() < 0.6:
        addresses = [device.address for device in stage.plant.devices]
        src = rng.choice(addresses, size=min(int(rng.choice([1, 1, 1, 2, 4])), len(addresses)), replace=False).astype(
            object
        )
        dst = str(public_address(rng, 1)[0])
    else:
        src, dst = (
            public_address(rng, int(between(rng, 10, 800))),
            victim(stage, "", "server", "broker", "router", "camera"),
        )
    kind = flood(stage, start_s, end_s, src, dst, "ddos")
    return f"{dst} is flooded from {len(src)} sources ({kind})"


ATTACKS = {"recon": recon, "dos": dos, "ddos": ddos}
