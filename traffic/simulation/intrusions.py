"""Attacks quieter than a flood: passwords tried, data taken, addresses forged, brokers abused,
commands sent."""

from typing import Any

import numpy as np

from traffic.simulation.distributions import (
    beats,
    between,
    lognormal,
    pauses,
    public_address,
    visits,
)
from traffic.simulation.flows import attempt, exchange, ping, refuse, session
from traffic.simulation.plant import Stage, bot, intruder, victim

# Bots and their controllers: beacons answered or not, sessions of hours, the next binary fetched.
#
# A controller that is gone and a cloud service that is gone look much alike;
# ``traffic.simulation.cloud`` makes the other half.


def c2(stage: Stage, start_s: float, end_s: float) -> str:
    """A device reports to a controller: by beacons or in one long session; answered, dead, or first
    one, then other."""
    rng = stage.rng
    src = bot(stage)
    pivot = (
        rng.random() < 0.1
    )  # through another machine of the plant, where only that one reaches out
    host = (
        victim(stage, src, "workstation", "server", "hmi")
        if pivot
        else str(public_address(rng, 1)[0])
    )
    port = int(
        rng.choice([23, 80, 443, 6667, 8080, 1312, 48101, 53, *rng.integers(1024, 65535, 6)])
    )
    dead_from = {
        "answered": end_s,
        "dead": start_s,
        "dying": rng.uniform(start_s, end_s),
        "session": end_s,
    }
    manner = str(rng.choice(list(dead_from), p=[0.3, 0.38, 0.08, 0.24]))
    split = dead_from[manner]
    if rng.random() < 0.15:
        _ask_name(stage, src, start_s)
    if manner == "session":
        _long_session(stage, src, host, port, start_s, end_s)
    else:
        period_s = between(
            rng, 5, min(300, max((end_s - start_s) / 5, 10))
        )  # one call alone is nothing to learn from
        _beacons(
            stage, src, host, port, beats(rng, start_s, split, period_s, between(rng, 1e-3, 0.5))
        )
        _calls(stage, src, host, port, split, end_s)
    if rng.random() < 0.3:
        _fetch(
            stage,
            src,
            str(public_address(rng, 1)[0]) if rng.random() < 0.5 else host,
            rng.uniform(start_s, end_s),
        )
    return f"{src} reports to a controller at {host}:{port} ({manner})"


def _ask_name(stage: Stage, src: str, at: float) -> None:
    """An ordinary question at the resolver, which is no party to the rest."""
    given = {"answer_bytes": 80, "service": "dns", "app": "dns", "code": -2, "asks": 1.0}
    exchange(stage.ledger, np.array([at - 0.2]), src, stage.resolver, 53, **given)


def _beacons(stage: Stage, src: str, host: str, port: int, ts: np.ndarray) -> None:
    rng = stage.rng
    service = {80: "http", 443: "ssl", 6667: "irc"}.get(port, "")
    sizes = {
        "exchanges": rng.integers(1, 5),
        "ask_bytes": lognormal(rng, between(rng, 4, 600), 0.2, len(ts)),
        "answer_bytes": rng.integers(0, 900),
    }
    ending = [
        {"closed": 1},
        {"half_server": 1, "reset_server": 0.1},
        {"reset_client": 1},
        {"reset_server": 1},
    ][int(rng.integers(4))]
    lasting = lognormal(rng, between(rng, 0.05, 35), 0.2, len(ts))
    if rng.random() < 0.1:
        many = rng.integers(1, 4, len(ts))
        exchange(
            stage.ledger,
            ts,
            src,
            host,
            port,
            out_pkts=many,
            in_pkts=many,
            ask_bytes=60,
            answer_bytes=60,
            label="c2",
        )
        return
    session(
        stage.ledger,
        ts,
        src,
        host,
        port,
        duration=lasting,
        ending=ending,
        service=service,
        label="c2",
        **sizes,
    )


def _calls(stage: Stage, src: str, host: str, port: int, start_s: float, end_s: float) -> None:
    """A controller that is gone is called again and again, each time from a fresh port."""
    rng = stage.rng
    steady = beats(rng, start_s, end_s, between(rng, 3, 120), between(rng, 1e-3, 0.3))
    ts = steady if rng.random() < 0.85 else pauses(rng, start_s, end_s)
    if rng.random() < 0.2:
        refuse(stage.ledger, ts, src, host, port, label="c2")
        return
    policy = str(
        rng.choice(["linux_short", "linux", "linux_long", "once", "lwip", "windows", "impatient"])
    )
    attempt(stage.ledger, ts, src, host, port, tries=policy, label="c2")


def _long_session(
    stage: Stage, src: str, host: str, port: int, start_s: float, end_s: float
) -> None:
    """IRC and its kin: hours of little, cut now and then and opened again."""
    rng = stage.rng
    cuts = np.concatenate([[start_s], visits(rng, start_s, end_s, between(rng, 300, 7200))])
    length = np.maximum(np.diff([*cuts, end_s]) - rng.uniform(1, 5), 1)
    words = np.maximum(length / between(rng, 3, 60), 2)
    sizes = {
        "exchanges": words,
        "ask_bytes": rng.integers(2, 90),
        "answer_bytes": rng.integers(2, 90),
    }
    service = "irc" if port == 6667 else ""
    session(
        stage.ledger,
        cuts,
        src,
        host,
        port,
        duration=length,
        service=service,
        label="c2",
        ending={"open": 1, "reset_late": 1},
        **sizes,
    )


def _fetch(stage: Stage, src: str, host: str, at: float) -> None:
    """The next stage of the malware, a binary for each processor, comes over plain HTTP."""
    rng = stage.rng
    ts = at + np.cumsum(rng.uniform(0.3, 5, int(rng.integers(1, 12))))
    given = {
        "exchanges": 1,
        "ask_bytes": 149,
        "answer_bytes": lognormal(rng, 90e3, 0.8, len(ts)),
        "service": "http",
    }
    session(
        stage.ledger,
        ts,
        src,
        host,
        int(rng.choice([80, 80, 8080])),
        duration=lognormal(rng, 1.5, 0.5, len(ts)),
        label="c2",
        **given,
    )


_LOGINS = (
    *(
        (22, "ssh"),
        (22, "ssh"),
        (23, ""),
        (23, ""),
        (21, "ftp"),
        (1883, "mqtt"),
        (1883, "mqtt"),
        (1883, "mqtt"),
    ),
    *((80, "http"), (3389, ""), (5900, "")),
)
_REFUSALS = (
    {"closed": 1},
    {"closed": 1, "reset_server": 1},
    {"reset_client": 1, "closed_by_server": 1},
)


def brute_force(stage: Stage, start_s: float, end_s: float) -> str:
    """Passwords are tried, one short session after another, at a device of the plant, or at
    strangers by a worm."""
    rng, ledger = stage.rng, stage.ledger
    src = intruder(stage, outside=0.3)
    port, service = _LOGINS[int(rng.integers(len(_LOGINS)))]
    ts = beats(rng, start_s, end_s, 1 / between(rng, 0.15, 15), rng.uniform(0.02, 0.8))
    outward = src.startswith(stage.network) and rng.random() < 0.3
    hosts = public_address(rng, int(between(rng, 1, 40)) if outward else 1)
    if not outward:
        wanted = (
            ("broker",)
            if service == "mqtt"
            else ("server", "historian", "edge", "camera", "plc", "router")
        )
        hosts[0] = victim(stage, src, *wanted)
    dst = hosts[np.sort(rng.integers(len(hosts), size=len(ts)))]
    shed = rng.random(len(ts)) < rng.choice([0, 0, 0.1, 0.5])
    given = {"label": "brute_force", "service": service, "ending": _REFUSALS[int(rng.integers(3))]}
    given |= {
        "app": service,
        "duration": lognormal(rng, between(rng, 0.1, 8), 0.4, int((~shed).sum())),
    }
    sizes: dict[str, Any] = {"exchanges": rng.integers(2, 14), "ask_bytes": rng.integers(10, 160)}
    sizes |= {"answer_bytes": rng.integers(9, 300)}
    if service == "mqtt":  # CONNECT and CONNACK, MQTT 3.1.1, 3.1 and 3.2: refused, and that is all
        sizes = {
            "exchanges": 1,
            "ask_bytes": rng.integers(25, 90, int((~shed).sum())),
            "answer_bytes": 4,
        }
        given |= {"duration": lognormal(rng, between(rng, 1e-3, 1), 0.4, int((~shed).sum()))}
    session(ledger, ts[~shed], src, dst[~shed], port, **given, **sizes)
    (attempt if rng.random() < 0.5 else refuse)(
        ledger, ts[shed], src, dst[shed], port, label="brute_force"
    )
    if service == "mqtt":
        ledger.note(ts[~shed], src, dst[~shed], "mqtt_refused", int(rng.choice([4, 5])))
    return f"{src} tries passwords on port {port} of {', '.join(hosts[:3])}{' and others' if len(hosts) > 3 else ''}"


def exfiltration(stage: Stage, start_s: float, end_s: float) -> str:
    """Data leaves for a place it never went to: at once, in pieces, or hidden in names."""
    rng, ledger = stage.rng, stage.ledger
    src, host = bot(stage), str(public_address(rng, 1)[0])
    way = str(rng.choice(["whole", "pieces", "names"], p=[0.45, 0.4, 0.15]))
    port, service = [
        (443, "ssl"),
        (80, "http"),
        (21, "ftp"),
        (22, "ssh"),
        (int(rng.integers(1024, 65535)), ""),
    ][int(rng.integers(5))]
    size = between(rng, 3e6, 3e9)
    if way == "names":
        ts = beats(rng, start_s, end_s, 1 / between(rng, 1, 50), 0.3)
        given = {"service": "dns", "app": "dns", "code": -2, "asks": 1.0, "label": "exfiltration"}
        exchange(
            ledger,
            ts,
            src,
            stage.resolver,
            53,
            ask_bytes=rng.integers(120, 250, len(ts)),
            answer_bytes=150,
            **given,
        )
        return f"{src} sends data out hidden in DNS questions"
    ts = (
        np.array([start_s])
        if way == "whole"
        else beats(rng, start_s, end_s, between(rng, 5, 90), 0.3)
    )
    length = (
        np.full(len(ts), end_s - start_s) if way == "whole" else lognormal(rng, 3, 0.5, len(ts))
    )
    sizes = {
        "exchanges": max(size / max(len(ts), 1) / 60000, 1),
        "ask_bytes": 60000,
        "answer_bytes": 100,
    }
    session(
        ledger, ts, src, host, port, duration=length, service=service, label="exfiltration", **sizes
    )
    return f"{src} sends {size / 1e6:.0f} MB to {host}"


def spoofing(stage: Stage, start_s: float, end_s: float) -> str:
    """ARP poisoning: an attacker claims the addresses of two that talk, and redirects what it
    cannot relay."""
    rng, ledger = stage.rng, stage.ledger
    src = intruder(stage, outside=0)
    first = victim(stage, src, "plc", "hmi", "broker")
    second = (
        stage.network + "1" if rng.random() < 0.5 else victim(stage, src, "hmi", "server", "router")
    )
    claimed = [address for address in {first: 0, second: 0} if address != src]
    ts = beats(rng, start_s, end_s, between(rng, 0.5, 8), 0.1)
    for address in claimed:
        ledger.note(ts, address, address, "arp_conflict", count=1, distinct=2)
        told = ts if rng.random() < 0.5 else beats(rng, start_s, end_s, 8, 0.1)
        redirects = rng.integers(1, 6, len(told))
        ping(
            ledger,
            told,
            src,
            address,
            kind=5,
            code=1,
            out_pkts=redirects,
            in_pkts=0,
            size_bytes=36,
            duration=0.8,
            label="spoofing",
        )
    return f"{src} claims the address of {' and '.join(claimed)}"


def mqtt_abuse(stage: Stage, start_s: float, end_s: float) -> str:
    """A broker gets what it cannot digest, floods of messages or of connections or malformed ones,
    or a false voice."""
    rng, ledger = stage.rng, stage.ledger
    src = intruder(stage, outside=0.15)
    dst = victim(stage, src, "broker")
    way = str(
        rng.choice(
            ["messages", "connections", "malformed", "unauthorised"], p=[0.35, 0.15, 0.35, 0.15]
        )
    )
    label = {"label": "mqtt_abuse", "service": "mqtt", "app": "mqtt"}
    if way in ("messages", "unauthorised"):
        rate = between(rng, 40, 2000) if way == "messages" else between(rng, 0.5, 20)
        length = end_s - start_s
        sizes = {
            "exchanges": rate * length,
            "ask_bytes": lognormal(rng, 200, 1),
            "answer_bytes": rng.choice([0, 4]),
        }
        session(
            ledger,
            np.array([start_s]),
            src,
            dst,
            1883,
            duration=length,
            asks=1.0,
            distinct=int(between(rng, 1, 2000)),
            **sizes,
            **label,
        )
    else:
        ts = beats(rng, start_s, end_s, 1 / between(rng, 1, 40), 0.3)
        sizes = {
            "exchanges": rng.integers(1, 3),
            "ask_bytes": rng.integers(12, 400),
            "answer_bytes": 4,
        }
        how = (
            {"ending": {"reset_server": 1, "closed_by_server": 1}}
            if way == "malformed"
            else {"ending": {"open": 1, "closed": 1}}
        )
        session(
            ledger,
            ts,
            src,
            dst,
            1883,
            duration=lognormal(rng, 0.2 if way == "malformed" else 8, 0.8, len(ts)),
            **sizes,
            **how,
            **label,
        )
        if way == "malformed":
            ledger.note(ts, src, dst, "mqtt_malformed", count=rng.integers(1, 4, len(ts)))
    return f"{src} abuses the broker {dst} ({way})"


def unauthorized_command(stage: Stage, start_s: float, end_s: float) -> str:
    """Someone writes to a controller who never did, or far more than ever."""
    rng, ledger = stage.rng, stage.ledger
    src = intruder(stage, outside=0.1)
    dst = victim(stage, src, "plc", "gateway", "drive")
    single = rng.random() < 0.5
    ts = beats(rng, start_s, end_s, between(rng, 2, 60), 0.3) if single else np.array([start_s])
    length = lognormal(rng, 0.5, 0.8, len(ts)) if single else np.array([end_s - start_s])
    writes = np.rint(np.maximum(length * between(rng, 1, 30), 1))
    given = {
        "app": "modbus",
        "code": int(rng.choice([5, 6, 15, 16, 16])),
        "asks": 1.0,
        "distinct": int(between(rng, 1, 60)),
    }
    sizes = {
        "exchanges": writes,
        "ask_bytes": rng.integers(12, 60),
        "answer_bytes": 12,
        "service": "modbus",
    }
    session(
        ledger, ts, src, dst, 502, duration=length, label="unauthorized_command", **given, **sizes
    )
    refused = ts[rng.random(len(ts)) < 0.2]
    ledger.note(refused, src, dst, "modbus_exception", int(rng.choice([1, 2, 3, 4])))
    return f"{src} writes to the controller {dst}"
