"""Controllers and those who ask them: PLCs, drives, gateways and robots polled by panels,
historians and each other."""

from typing import Any

import numpy as np

from traffic.plant import Device
from traffic.simulation.distributions import beats, between, lognormal, setting_s, usual, visits
from traffic.simulation.flows import exchange, session
from traffic.simulation.plant import Stage, vendor
from traffic.simulation.services import lookup, unknown_name

# What the computers of a plant do: histories stored, batches sent on, disks filled, engineers at
# work.

_WEB = ((80, "http"), (80, "http"), (80, "http"), (443, "ssl"), (8080, "http"))
_SHORT_S = 0.02


def history(stage: Stage, device: Device) -> None:
    """A historian stores what it has read, in batches, with the file service of a recorder or
    server."""
    stores = stage.having("recorder") or stage.having("server")
    if stores:
        port, service = _WEB[int(stage.rng.integers(len(_WEB)))]
        _post(
            stage,
            device,
            np.array([stores[0].address], object),
            setting_s(stage.rng, 15, 60),
            port,
            service,
        )


def batches(stage: Stage, device: Device) -> None:
    """An edge gateway sends on what sensors published, to its cloud."""
    port, service = _WEB[int(stage.rng.integers(len(_WEB)))]
    _post(stage, device, vendor(stage)[:2], setting_s(stage.rng, 8, 35), port, service)


def _post(
    stage: Stage, device: Device, hosts: np.ndarray, period_s: float, port: int, service: str
) -> None:
    rng = stage.rng
    ts = beats(rng, stage.start_s, stage.end_s, period_s, between(rng, 5e-3, 0.1))
    inside = str(hosts[0]).startswith(stage.network)
    lookup(stage, device, ts, remember_s=1.0 if rng.random() < 0.9 else None, inside=inside)
    size = lognormal(rng, usual(rng, 4e3, 100e3), 0.4, len(ts))
    length = lognormal(rng, between(rng, 3e-3, 0.3), 0.5, len(ts))
    given = {
        "ask_bytes": size,
        "answer_bytes": rng.integers(100, 400),
        "service": service,
        "named": True,
    }
    dst = hosts[rng.integers(len(hosts), size=len(ts))]
    session(
        stage.ledger,
        ts,
        device.address,
        dst,
        port,
        duration=length,
        tries=stage.tries(device.address),
        **given,
    )


def remote(stage: Stage, device: Device) -> None:
    """One TLS session with the maker's remote service, with a word every so often."""
    rng = stage.rng
    ts = np.array([stage.start_s - rng.uniform(1, 3600)])
    length = stage.end_s - ts + 600
    sizes: dict[str, Any] = {
        "exchanges": length / setting_s(rng, 8, 40),
        "ask_bytes": rng.integers(60, 260),
    }
    sizes |= {"answer_bytes": rng.integers(60, 270), "tries": stage.tries(device.address)}
    host = str(vendor(stage)[0])
    session(
        stage.ledger,
        ts,
        device.address,
        host,
        443,
        duration=length,
        service="ssl",
        ending={"open": 1},
        **sizes,
    )


def engineer(stage: Stage, device: Device) -> None:
    """Someone at a workstation: names looked up, pages fetched, a controller read, at an irregular
    pace."""
    rng = stage.rng
    ts = visits(rng, stage.start_s, stage.end_s, usual(rng, 4, 22))
    what = rng.choice(3, size=len(ts), p=rng.dirichlet([3.0, 3.0, 3.0]))
    unknown_name(stage, device, ts[what == 0], rng.uniform(0.05, 0.5))
    _pages(stage, device, ts[what == 1])
    controllers = stage.having("plc", "drive", "gateway")
    at = ts[what == 2]
    if not controllers or not len(at):
        return
    dst = np.array([one.address for one in controllers], object)[
        rng.integers(len(controllers), size=len(at))
    ]
    lookup(stage, device, at, remember_s=1.0, inside=True)
    asks = {"app": "modbus", "code": 3, "asks": 1.0, "distinct": 1, "service": "modbus"}
    sizes = {
        "exchanges": rng.integers(2, 6),
        "ask_bytes": 12,
        "answer_bytes": 9 + 2 * rng.integers(5, 60),
    }
    length = rng.uniform(0.5, 6) + rng.uniform(0, 0.3, len(at))
    session(stage.ledger, at, device.address, dst, 502, duration=length, **asks, **sizes)


def _pages(stage: Stage, device: Device, at: np.ndarray) -> None:
    rng = stage.rng
    hosts = vendor(stage)
    ts = np.sort(np.repeat(at, rng.integers(1, 5, len(at))))
    ts = ts + np.arange(len(ts)) % 5 * rng.uniform(0.005, 0.3)
    lookup(stage, device, ts, remember_s=_SHORT_S)
    port, service = _WEB[int(rng.integers(len(_WEB)))]
    sizes = {
        "ask_bytes": rng.integers(80, 500),
        "answer_bytes": lognormal(rng, usual(rng, 3e3, 40e3), 1.0, len(ts)),
    }
    given = {
        "duration": lognormal(rng, between(rng, 5e-3, 0.5), 0.7, len(ts)),
        "service": service,
        "named": True,
    }
    dst = hosts[rng.integers(len(hosts), size=len(ts))]
    session(stage.ledger, ts, device.address, dst, port, **given, **sizes)


def archive(stage: Stage, device: Device) -> None:
    """Servers write to each other and to disks: regular, large, and nothing to worry about."""
    rng = stage.rng
    others = [
        d
        for d in stage.having("server", "historian", "recorder", "workstation", "hmi")
        if d != device
    ]
    if not others or rng.random() < 0.4:
        return
    port = int(rng.choice([445, 21, 22, 1433, 5432, 8086, 3306, 9200]))
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 5, 1800), 0.05)
    size = lognormal(rng, between(rng, 1e3, 3e7), 0.8, len(ts))
    length = np.maximum(size / between(rng, 1e5, 2e7), 0.05)
    given = {
        "exchanges": np.maximum(size / 16000, 1),
        "ask_bytes": 16000 if rng.random() < 0.6 else 200,
    }
    dst = others[int(rng.integers(len(others)))].address
    session(stage.ledger, ts, device.address, dst, port, duration=length, answer_bytes=300, **given)


_READS, _WRITES = (*[3] * 12, *[4] * 6, 1, 2), (6, 6, 16, 16, 5, 15)
# port, service, request and answer payload of the control protocols beside Modbus
_PROTOCOLS = {
    "enip": (44818, "enip", (40, 120), (40, 600)),
    "opcua": (4840, "", (80, 300), (80, 2000)),
    "s7": (102, "", (30, 60), (40, 250)),
    "iec104": (2404, "", (6, 30), (6, 250)),
    "dnp3": (20000, "dnp3_tcp", (18, 40), (20, 250)),
    "ads": (48898, "", (50, 120), (50, 500)),
}
# Who polls controllers, how likely each, and how many seconds usually lie between two polls.
_APPETITE = {
    "hmi": (0.35, (0.4, 2.5)),
    "historian": (0.95, (4.0, 22.0)),
    "server": (0.25, (1.0, 60.0)),
    "workstation": (0.01, (1.0, 30.0)),
}
_MODBUS_READ_MOST = 125  # registers of one request, Modbus application protocol 1.1b3, 6.3


def controller(stage: Stage, device: Device) -> None:
    """A PLC, drive or gateway: everyone who must know polls it."""
    rng = stage.rng
    clients = [d for d in stage.having(*_APPETITE) if rng.random() < _APPETITE[d.role][0]]
    panels = stage.having("hmi") or stage.having("historian", "server")
    if panels and not any(d.role == "hmi" for d in clients):
        clients.append(panels[int(rng.integers(len(panels)))])
    favourite = stage.habit("", "language", lambda: _language(stage))
    language = favourite if rng.random() < 0.9 else _language(stage)
    for client in clients:
        if device.role != "gateway":
            poll(stage, client, device, language)
            continue
        units = stage.habit(device.address, "units", lambda: int(rng.integers(1, 6)))
        for _ in range(
            units if client.role == "historian" and rng.random() < 0.8 else 1
        ):  # a session for each
            poll(stage, client, device, "modbus")
    if device.role == "plc" and rng.random() < 0.1:
        peers = [d for d in stage.having("plc", "drive") if d != device]
        if peers:
            poll(stage, device, peers[int(rng.integers(len(peers)))], language)


def _language(stage: Stage) -> str:
    share = 0.9 if stage.flavour == "industrial" else 0.5
    return str(
        stage.rng.choice(
            ["modbus", *_PROTOCOLS], p=[share] + [(1 - share) / len(_PROTOCOLS)] * len(_PROTOCOLS)
        )
    )


def poll(stage: Stage, client: Device, server: Device, language: str) -> None:
    """Cyclic questions in one long session, in sessions that are renewed, or in a new session for
    each."""
    rng = stage.rng
    period = stage.habit(
        client.address,
        "polls",
        lambda: setting_s(rng, *_APPETITE.get(client.role, (1, (0.1, 5.0)))[1]),
    )
    manner = rng.choice(["endless", "renewed", "each"], p=[0.91, 0.05, 0.04])
    asks = _speak(stage, client, server, language)
    each = asks.pop("each")
    if manner == "each":
        period = max(period, between(rng, 1, 60))
        ts = beats(rng, stage.start_s, stage.end_s, period, between(rng, 1e-3, 0.1))
        length, exchanges = (
            lognormal(rng, between(rng, 0.01, 0.6), 0.4, len(ts)),
            np.array(rng.integers(1, 9)),
        )
    else:
        ts = renewals(stage, float("inf") if manner == "endless" else between(rng, 60, 3600))
        length = np.diff([*ts, stage.end_s + 600]) - rng.uniform(0.05, 2)
        exchanges = np.maximum(length / period, 1) * each
    ending = (
        {"closed": 12, "reset_client": 0.3, "reset_server": 0.3}
        if manner != "endless"
        else {"open": 1}
    )
    if language == "modbus":
        _writes(stage, client, server, ts)
    given = {
        "duration": length,
        "exchanges": exchanges,
        "ending": ending,
        "tries": stage.tries(client.address),
    }
    session(stage.ledger, ts, client.address, server.address, **given, **asks)


def renewals(stage: Stage, every_s: float) -> np.ndarray:
    """Starts of back-to-back sessions, the first one usually before the capture."""
    before = stage.rng.random() < 0.93
    start = stage.start_s + (-stage.rng.uniform(1, 7200) if before else stage.rng.uniform(0, 300))
    if not np.isfinite(every_s):
        return np.array([start])
    return np.arange(start, stage.end_s, every_s)


def _speak(stage: Stage, client: Device, server: Device, language: str) -> dict:
    """Port, sizes and evidence of the protocol, and how many questions a poll takes (``each``)."""
    rng = stage.rng
    if language != "modbus":
        port, service, ask, answer = _PROTOCOLS[language]
        sizes: dict[str, Any] = {
            "ask_bytes": rng.integers(*ask),
            "answer_bytes": rng.integers(*answer),
        }
        return {"port": port, "service": service, "each": int(rng.choice([1, 1, 2])), **sizes}
    held = stage.habit(server.address, "registers", lambda: usual(rng, 50, 350))
    words = usual(rng, 8, 45) if client.role == "hmi" else held * rng.choice([0.3, 1.0, 1.0])
    each = int(np.ceil(words / _MODBUS_READ_MOST))
    scattered = int(np.rint(between(rng, 2, 12))) if rng.random() < 0.08 else 1
    if server.role == "gateway":
        words, each, scattered = rng.uniform(5, 40), 1, 1
        if rng.random() < 0.1:  # one dead serial unit behind it, known and tolerated
            at = visits(rng, stage.start_s, stage.end_s, between(rng, 120, 1800))
            stage.ledger.note(at, client.address, server.address, "modbus_exception", 11)
    sizes = {
        "ask_bytes": 12,
        "answer_bytes": 9 + 2 * max(round(words / each), 1),
        "each": each * scattered,
    }
    asks = {
        "app": "modbus",
        "code": int(rng.choice(_READS)),
        "asks": 1.0,
        "distinct": each * scattered,
    }
    return {"port": 502, "service": "modbus", **sizes, **asks}


def _writes(stage: Stage, client: Device, server: Device, ts: np.ndarray) -> None:
    """Setpoints now and then, as a matter of course, or a heartbeat register every few seconds."""
    rng = stage.rng
    if rng.random() > (0.8 if client.role == "hmi" and server.role != "gateway" else 0.05):
        return
    heartbeat = rng.random() < 0.1
    mean = between(rng, 1, 20) if heartbeat else usual(rng, 20, 300)
    at = (
        beats(rng, stage.start_s, stage.end_s, mean)
        if heartbeat
        else visits(rng, stage.start_s, stage.end_s, mean)
    )
    kind = {"code": int(rng.choice(_WRITES)), "distinct": int(rng.integers(1, 4))}
    stage.ledger.note(at[at >= ts[0]], client.address, server.address, "modbus_write", **kind)


def implicit_io(stage: Stage, device: Device) -> None:
    """Cyclic UDP of EtherNet/IP and its like: one flow for hours, many small packets each way."""
    rng = stage.rng
    peers = [d for d in stage.having("drive", "plc") if d != device]
    if not peers or rng.random() < 0.6:
        return
    rate, start = between(rng, 1, 100), stage.start_s - 60
    length = stage.end_s - start + 60
    sizes = {"ask_bytes": rng.integers(20, 120), "answer_bytes": rng.integers(20, 120)}
    given = {
        "out_pkts": rate * length,
        "in_pkts": rate * length,
        "duration": length,
        "orig_p": 2222,
    }
    exchange(
        stage.ledger, np.array([start]), device.address, peers[0].address, 2222, **given, **sizes
    )


def axes(stage: Stage, device: Device) -> None:
    """A robot or its like serves OPC UA: who plans the work subscribes to its values and reads them
    now and then."""
    rng = stage.rng
    clients = stage.having("mes") or stage.having("historian", "server", "hmi")
    if not clients:
        return
    client = clients[int(rng.integers(len(clients)))]
    ts = renewals(stage, float("inf") if rng.random() < 0.85 else between(rng, 120, 3600))
    length = np.diff([*ts, stage.end_s + 600]) - 0.5
    values = int(usual(rng, 3, 12, 4.0))
    # A notification and the next publish request (OPC UA part 4, 5.13.5), each alone on its way.
    # Clients also look every second or so whether the server still lives.
    rate = 1 / setting_s(rng, 0.4, 2.2) + 1 / usual(rng, 0.8, 5)
    told: dict[str, Any] = {"exchanges": length * rate, "ask_bytes": rng.integers(60, 130)}
    told |= {
        "answer_bytes": 90 + values * rng.integers(12, 40),
        "tries": stage.tries(client.address),
    }
    given = {"duration": length, "ending": {"open": 1}, "late": 1.0}
    session(stage.ledger, ts, client.address, device.address, 4840, **given, **told)


# Pictures: cameras that stream to a recorder, by RTP over UDP, within the RTSP connection, or over
# HTTP.


_WAYS = ((554, "rtsp"), (8554, ""), (80, "http"), (443, "ssl"))
_OFTEN = (0.7, 0.1, 0.1, 0.1)


def camera(stage: Stage, device: Device) -> None:
    """Streams to a recorder (RTSP, RFC 2326; RTP, RFC 3550); day and night differ."""
    rng = stage.rng
    recorders = stage.having("recorder") or stage.having("historian", "server")
    recorders = recorders or stage.having("workstation", "hmi", "television", "laptop")
    if not recorders or rng.random() < 0.08:
        return
    recorder = recorders[int(rng.integers(len(recorders)))]
    bytes_per_s = usual(rng, 15e3, 120e3) * (0.6 + 0.4 * min(stage.busy, 1))
    ts = renewals(stage, float("inf") if rng.random() < 0.85 else between(rng, 120, 3600))
    length = np.diff([*ts, stage.end_s + 300]) - 0.5
    rtsp = {
        "orig": recorder.address,
        "resp": device.address,
        "tries": stage.tries(recorder.address),
    }
    if rng.random() < 0.68:
        asked = np.maximum(length / setting_s(rng, 15, 45), 4)
        keeping = {
            "exchanges": asked,
            "ask_bytes": rng.integers(60, 250),
            "answer_bytes": rng.integers(40, 300),
        }
        session(
            stage.ledger,
            ts,
            port=554,
            duration=length,
            service="rtsp",
            ending={"open": 1},
            **keeping,
            **rtsp,
        )
        size = float(rng.uniform(700, 1400))
        reports = np.rint(length / 5) if rng.random() < 0.2 else 0  # RTCP, where anyone cares
        media: dict[str, Any] = {
            "out_pkts": np.rint(length * bytes_per_s / size),
            "in_pkts": reports,
            "duration": length - 0.2,
        }
        media |= {"ask_bytes": size, "answer_bytes": 60}
        port = int(rng.integers(6970, 60000))
        exchange(stage.ledger, ts + 0.2, device.address, recorder.address, port, **media)
        return
    port, service = _WAYS[int(rng.choice(len(_WAYS), p=_OFTEN))]
    pictures = length * usual(rng, 5, 20)
    given = {"ask_bytes": 0, "answer_bytes": bytes_per_s * length / pictures, "ending": {"open": 1}}
    session(
        stage.ledger,
        ts,
        port=port,
        service=service,
        duration=length,
        exchanges=pictures,
        **given,
        **rtsp,
    )


# MQTT: sensors that publish, and whoever subscribes to what they say.


def sensor(stage: Stage, device: Device) -> None:
    """Publishes to the broker of the plant, or to one in the cloud: in one session or in one for
    each message."""
    rng = stage.rng
    brokers = stage.having("broker")
    inside = bool(brokers) and rng.random() < 0.975
    broker = brokers[int(rng.integers(len(brokers)))].address if inside else str(vendor(stage)[0])
    secret = rng.random() < (_habit_of_secrecy(stage) if inside else 0.8)
    asks = {} if secret else {"app": "mqtt", "asks": 1.0, "distinct": int(rng.integers(1, 4))}
    given = {
        "port": 8883 if secret else 1883,
        "service": "ssl" if secret else "mqtt",
        "named": not inside,
        **asks,
    }
    period_s, size = _publishes(stage, device)
    overhead = int(rng.integers(20, 60))  # topic and headers
    payload = {
        "ask_bytes": size + overhead + (29 if secret else 0),
        "answer_bytes": rng.choice([0, 0, 4]),
    }
    if rng.random() < 0.96:
        ts = renewals(stage, float("inf") if rng.random() < 0.94 else between(rng, 300, 7200))
        length = np.diff([*ts, stage.end_s + 600]) - 0.5
        how = {
            "duration": length,
            "exchanges": np.maximum(length / period_s, 1),
            "ending": {"open": 1},
        }
        how["alive_s"] = _keeps_alive(stage, period_s, bool(payload["answer_bytes"]))
    else:
        ts = beats(rng, stage.start_s, stage.end_s, max(period_s, 3.0), rng.uniform(0, 0.1))
        length = lognormal(rng, 0.3, 0.8, len(ts))
        how = {
            "duration": length,
            "exchanges": rng.integers(2, 6),
            "ending": {"closed": 9, "reset_client": 1},
        }
    lookup(stage, device, ts, inside=inside)
    session(
        stage.ledger,
        ts,
        device.address,
        broker,
        tries=stage.tries(device.address),
        **how,
        **payload,
        **given,
    )


def _habit_of_secrecy(stage: Stage) -> float:
    """Share of the sensors of this plant that speak TLS to its broker: all, some or, mostly,
    none."""
    return float(
        stage.habit("", "secrecy", lambda: stage.rng.choice([0.0, 0.3, 1.0], p=[0.9, 0.05, 0.05]))
    )


def _publishes(stage: Stage, device: Device) -> tuple[float, float]:
    """Seconds between two messages of a sensor, and bytes of each."""
    rng = stage.rng
    period_s = stage.habit(device.address, "publishes", lambda: setting_s(rng, 1.0, 12.0))
    return period_s, stage.habit(device.address, "message", lambda: usual(rng, 150, 1000))


def _keeps_alive(stage: Stage, period_s: float, answered: bool) -> float:
    """Seconds between two PINGREQ (MQTT 3.1.1, 3.1.2.10): where nothing else is said, or nothing
    else comes back."""
    rng = stage.rng
    keepalive_s = float(
        rng.choice([10, 15, 20, 30, 60, 120, 300], p=[0.08, 0.2, 0.1, 0.25, 0.27, 0.05, 0.05])
    )
    heard = answered or rng.random() < 0.25  # some clients only mind what they themselves sent
    return 0.0 if heard and period_s < keepalive_s else keepalive_s


def subscriber(stage: Stage, device: Device) -> None:
    """A device that listens to the broker: to every sensor, or to some."""
    rng = stage.rng
    brokers = stage.having("broker")
    if not brokers:
        return
    heard = stage.having("sensor")
    if rng.random() < 0.15:
        heard = [one for one in heard if rng.random() < 0.4]
    said = [_publishes(stage, one) for one in heard]
    ts = renewals(stage, float("inf"))
    length = stage.end_s - ts + 60
    rate = sum(1 / period_s for period_s, _ in said) or 1 / between(rng, 1, 60)
    size = sum(size / period_s for period_s, size in said) / rate if said else 60.0
    topics = {"distinct": max(len(said), 1), "tells": 1.0} if not _habit_of_secrecy(stage) else {}
    given = {
        "service": "mqtt",
        "app": "mqtt",
        "ending": {"open": 1},
        "tries": stage.tries(device.address),
        **topics,
    }
    sizes = {
        "ask_bytes": 0 if rng.random() < 0.6 else 4,
        "answer_bytes": size + 40,
        "exchanges": length * rate,
    }
    session(
        stage.ledger,
        ts,
        device.address,
        brokers[0].address,
        1883,
        duration=length,
        **given,
        **sizes,
    )
