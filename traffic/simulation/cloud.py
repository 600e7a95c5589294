"""What healthy devices do beyond the router: clouds asked and told, updates, browsing, calls."""

import numpy as np

from traffic.plant import Device
from traffic.simulation.distributions import (
    beats,
    between,
    lognormal,
    pauses,
    public_address,
    visits,
)
from traffic.simulation.flows import attempt, exchange, refuse, session
from traffic.simulation.plant import Stage, vendor
from traffic.simulation.services import lookup

# Normal life that looks like trouble: services that have died, tails of sessions, mishaps,
# maintenance.
#
# A device that calls a dead service looks like a bot that calls a dead controller, and is far more
# common: half of the skill of telling them apart is learned from ``dead_service``.


def stray(stage: Stage, device: Device) -> None:
    """Tails of sessions that the log had already closed: a lone FIN or RST, more often than one
    would think."""
    rng = stage.rng
    ts = visits(rng, stage.start_s, stage.end_s, between(rng, 20, 900))
    hosts = vendor(stage)
    single = {
        "duration": np.nan,
        "orig_bytes": np.nan,
        "resp_bytes": np.nan,
        "proto": "tcp",
        "orig_ip_bytes": 40.0,
    }
    lone = rng.random(len(ts)) < 0.7
    given = {
        "id.orig_h": device.address,
        "id.resp_h": hosts[rng.integers(len(hosts), size=len(ts))],
        "id.resp_p": int(rng.choice([80, 443])),
    }
    given["id.orig_p"] = stage.ledger.ports(len(ts))
    words = {"conn_state": np.where(lone, "SH", "OTH"), "history": np.where(lone, "F", "R")}
    stage.ledger.add(
        ts, **given, **words, orig_pkts=1.0, resp_pkts=0.0, resp_ip_bytes=0.0, **single
    )


def dead_service(stage: Stage, device: Device) -> None:
    """Calls a service that never answers any more, by one policy or another, with or without a
    name; else healthy."""
    rng = stage.rng
    host = str(public_address(rng, 1)[0])
    port = int(rng.choice([443, 80, 8883, 1883, 5222, 8080, int(rng.integers(1024, 65535))]))
    begin = stage.start_s
    if rng.random() < 0.4:  # it answered once
        begin = rng.uniform(stage.start_s, stage.end_s)
        alive = beats(rng, stage.start_s, begin, between(rng, 5, 900), 0.05)
        given = {
            "duration": lognormal(rng, 1, 1, len(alive)),
            "ask_bytes": 300,
            "answer_bytes": 900,
            "exchanges": 3,
        }
        session(stage.ledger, alive, device.address, host, port, **given)
    steady = between(rng, 3, 900)
    again = (
        pauses(rng, begin, stage.end_s)
        if rng.random() < 0.5
        else beats(rng, begin, stage.end_s, steady, between(rng, 1e-3, 0.3))
    )
    if rng.random() < 0.8:
        lookup(stage, device, again, float(rng.choice([1, 30, 300])))
    given = {
        "tries": str(
            rng.choice(
                ["once", "linux_short", "linux", "linux_long", "windows", "lwip", "impatient"]
            )
        )
    }
    if rng.random() < 0.25:
        refuse(stage.ledger, again, device.address, host, port)
    else:
        attempt(stage.ledger, again, device.address, host, port, **given)


def mishaps(stage: Stage, device: Device) -> None:
    """A session that fails now and then, at no place in particular."""
    rng = stage.rng
    ts = visits(rng, stage.start_s, stage.end_s, between(rng, 200, 7200))
    bad = rng.random(len(ts)) < 0.3
    attempt(
        stage.ledger,
        ts[~bad],
        device.address,
        public_address(rng, int((~bad).sum())),
        443,
        tries=stage.tries(device.address),
    )
    refuse(stage.ledger, ts[bad], device.address, public_address(rng, int(bad.sum())), 443)


def shell(stage: Stage, device: Device) -> None:
    """Someone works on a device: SSH, its web page, a file, a few writes to a controller. Rare, and
    normal."""
    rng = stage.rng
    others = [d for d in stage.plant.devices if d != device]
    if not others:
        return
    for _ in range(int(rng.integers(1, 4))):
        other = others[int(rng.integers(len(others)))]
        ts = np.array([rng.uniform(stage.start_s, stage.end_s)])
        port = int(rng.choice([22, 80, 443, 445, 21, 3389, 5900, 23, 8080]))
        length = np.array([between(rng, 3, 1800)])
        given = {
            "exchanges": length * between(rng, 0.1, 20),
            "ask_bytes": lognormal(rng, 60, 1),
            "answer_bytes": lognormal(rng, 200, 1.5),
        }
        session(stage.ledger, ts, device.address, other.address, port, duration=length, **given)
        if other.role == "plc":
            at = ts + np.sort(rng.uniform(0, length, int(rng.integers(1, 8))))
            stage.ledger.note(at, device.address, other.address, "modbus_write", 16, distinct=1)
            talk = {
                "exchanges": len(at) * 3,
                "ask_bytes": 14,
                "answer_bytes": 30,
                "service": "modbus",
                "app": "modbus",
            }
            session(
                stage.ledger,
                ts,
                device.address,
                other.address,
                502,
                duration=length,
                code=3,
                asks=1.0,
                **talk,
            )


_ENDINGS = (
    {"closed": 1},
    {"closed": 3, "reset_server": 2, "half_server": 1},
    {"closed_by_server": 1, "reset_client": 0.3, "reset_twice": 0.2},
    {"half_server": 1, "open": 0.4},
    {"closed": 1, "closed_by_server": 1, "half_client": 0.1, "reset_late": 0.5},
)


def _tls_or_plain(rng: np.random.Generator) -> dict:
    kind = rng.choice(["tls", "http", "other"], p=[0.7, 0.22, 0.08])
    if kind == "tls":
        return {
            "port": int(rng.choice([443, 443, 443, 8443])),
            "service": "ssl",
            "hello": (500, 3500),
        }
    if kind == "http":
        return {"port": int(rng.choice([80, 80, 8080])), "service": "http", "hello": (0, 1)}
    return {
        "port": int(rng.choice([5222, 5228, 8883, 4070, 9443, 2195])),
        "service": "",
        "hello": (200, 3000),
    }


def _visit(
    stage: Stage,
    device: Device,
    ts: np.ndarray,
    hosts: np.ndarray,
    length: np.ndarray,
    **sizes: object,
) -> None:
    """Sessions with one service; names are asked before, most of the time."""
    rng, n = stage.rng, len(ts)
    how = _tls_or_plain(rng)
    named = rng.random() < 0.9
    if named:
        lookup(stage, device, ts)
    hello = rng.integers(*how.pop("hello"))
    given = {
        "ask_bytes": lognormal(rng, between(rng, 60, 2000), 0.5, n),
        "answer_bytes": lognormal(rng, between(rng, 60, 4000), 0.8, n) + hello,
    }
    given.update(ending=_ENDINGS[int(rng.integers(len(_ENDINGS)))], named=named, steady=False)
    given.update(
        exchanges=np.rint(lognormal(rng, between(rng, 1, 6), 0.4, n)).clip(1),
        tries=stage.tries(device.address),
        **how,
    )
    given.update(sizes)
    session(
        stage.ledger,
        ts,
        device.address,
        hosts[rng.integers(len(hosts), size=n)],
        duration=length,
        **given,
    )


def polling(stage: Stage, device: Device) -> None:
    """Asks its cloud every few seconds to hours, one session or several at once; lost now and
    then."""
    rng = stage.rng
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 3, 3600), between(rng, 1e-3, 0.4))
    if rng.random() < 0.3:
        ts = np.sort((ts[:, None] + rng.uniform(0, 1.5, (1, int(rng.integers(2, 7))))).ravel())
    bare = rng.random() < 0.15  # a connection opened and closed: is the internet there?
    sizes = {"exchanges": 0} if bare else {}
    _visit(
        stage,
        device,
        ts,
        vendor(stage),
        lognormal(rng, between(rng, 0.05, 20), 0.7, len(ts)),
        **sizes,
    )


def timed_out(stage: Stage, device: Device) -> None:
    """Sessions that the far end closes after exactly so many seconds of idling: S1 and S3 rows of
    equal length."""
    rng = stage.rng
    limit = float(rng.choice([30, 60, 75, 120, 180, 240, 300, 305, 600]))
    ts = beats(rng, stage.start_s, stage.end_s, limit * rng.uniform(1, 4), between(rng, 1e-3, 0.2))
    _visit(
        stage,
        device,
        ts,
        vendor(stage),
        limit + rng.normal(0, 0.1, len(ts)),
        ending={"half_server": 1, "open": 1},
    )


def pushed(stage: Stage, device: Device) -> None:
    """One session with the vendor for hours, with a word of life every so often."""
    rng = stage.rng
    ts = np.array(
        [
            stage.start_s - rng.uniform(1, 3600)
            if rng.random() < 0.8
            else rng.uniform(stage.start_s, stage.end_s)
        ]
    )
    length = stage.end_s - ts + 600
    words = length / between(rng, 5, 900)
    _visit(
        stage,
        device,
        ts,
        vendor(stage),
        length,
        exchanges=words,
        ending={"open": 1},
        ask_bytes=rng.integers(20, 120),
        answer_bytes=rng.integers(0, 120),
    )


def browsing(stage: Stage, device: Device) -> None:
    """People at a page, or a voice assistant that is asked something: bursts of sessions with many
    new peers."""
    rng = stage.rng
    pages = visits(rng, stage.start_s, stage.end_s, between(rng, 20, 900) / max(stage.busy, 0.2))
    for _ in range(int(rng.integers(1, 4))):
        ts = np.sort(np.repeat(pages, rng.integers(1, 9, len(pages))))
        ts = np.sort(ts + rng.exponential(1.5, len(ts)))
        hosts = public_address(rng, max(int(between(rng, 5, 80)), 1))
        sizes = {"answer_bytes": lognormal(rng, 9000, 1.6, len(ts))}
        _visit(
            stage, device, ts, hosts, lognormal(rng, between(rng, 0.3, 60), 1.2, len(ts)), **sizes
        )
    if rng.random() < 0.4:
        ts = np.sort(pages + rng.exponential(2, len(pages)))
        many = np.rint(lognormal(rng, 12, 1, len(ts))).clip(2)
        given = {
            "out_pkts": many,
            "in_pkts": np.rint(many * rng.uniform(0.7, 3)),
            "ask_bytes": 300,
            "answer_bytes": 900,
        }
        exchange(
            stage.ledger,
            ts,
            device.address,
            public_address(rng, len(ts)),
            443,
            duration=lognormal(rng, 8, 1.3, len(ts)),
            **given,
        )


def upload(stage: Stage, device: Device) -> None:
    """A regular upload to a place it has always known: measurements, pictures, a backup."""
    rng = stage.rng
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 60, 7200), 0.05)
    size = lognormal(rng, between(rng, 1e5, 2e8), 0.4, len(ts))
    length = size / between(rng, 5e4, 5e6)
    _visit(
        stage,
        device,
        ts,
        vendor(stage),
        length,
        exchanges=np.maximum(size / 60000, 1),
        ask_bytes=60000,
        answer_bytes=200,
    )


def update(stage: Stage, device: Device) -> None:
    """New firmware comes from the vendor, once."""
    rng = stage.rng
    ts = np.array([rng.uniform(stage.start_s, stage.end_s)])
    size = between(rng, 5e5, 5e8)
    _visit(
        stage,
        device,
        ts,
        vendor(stage),
        np.array([size / between(rng, 2e5, 1e7)]),
        exchanges=max(size / 1e6, 1),
        ask_bytes=200,
        answer_bytes=1e6,
    )


def relay(stage: Stage, device: Device) -> None:
    """UDP with the world: STUN, calls, tunnels; some of it never answered."""
    rng = stage.rng
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 10, 900), 0.1)
    back = rng.choice([0, 1, 1, 1])
    many = rng.integers(1, 6, len(ts))
    given = {
        "out_pkts": many,
        "in_pkts": many * back,
        "ask_bytes": rng.integers(20, 200),
        "answer_bytes": rng.integers(20, 200),
    }
    exchange(
        stage.ledger,
        ts,
        device.address,
        str(vendor(stage)[0]),
        int(rng.choice([3478, 19302, 10001, 32100, 51820, 4500])),
        duration=many * 0.4,
        **given,
    )


# What a device does beyond the router, and how likely each is, by kind of device.
_QUIET = ((polling, 0.25), (dead_service, 0.1), (mishaps, 0.1))


_CLOUD = (
    (polling, 0.7),
    (pushed, 0.4),
    (timed_out, 0.2),
    (upload, 0.12),
    (update, 0.06),
    (dead_service, 0.22),
    (mishaps, 0.3),
    (stray, 0.2),
)


BEYOND = {
    "plc": ((dead_service, 0.03), (polling, 0.05)),
    "drive": (),
    "gateway": _QUIET,
    "switch": ((polling, 0.1), (dead_service, 0.05)),
    "hmi": (*_QUIET, (browsing, 0.25), (stray, 0.1)),
    "sensor": ((polling, 0.15), (pushed, 0.1), (dead_service, 0.1), (update, 0.03)),
    "camera": (*_CLOUD, (relay, 0.4)),
    "router": (*_QUIET, (relay, 0.1)),
    "server": (*_CLOUD, (browsing, 0.1)),
    "broker": _QUIET,
    "historian": _QUIET,
    "edge": _QUIET,
    "mes": _QUIET,
    "recorder": _QUIET,
    "robot": ((polling, 0.1), (dead_service, 0.05)),
    "hub": (*_CLOUD, (polling, 0.6), (pushed, 0.4)),
    "plug": (*_CLOUD, (relay, 0.2)),
    "assistant": (*_CLOUD, *_CLOUD, (browsing, 0.9), (timed_out, 0.5), (stray, 0.5), (relay, 0.3)),
    "television": (*_CLOUD, (browsing, 0.9), (relay, 0.4)),
    "laptop": (*_CLOUD, (browsing, 1.0), (browsing, 0.5), (stray, 0.5), (relay, 0.5), (shell, 0.2)),
    "workstation": (*_CLOUD, (browsing, 0.7), (shell, 0.3)),
    "printer": ((polling, 0.3), (dead_service, 0.1)),
}
