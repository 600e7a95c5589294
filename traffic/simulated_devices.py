"""What the machines of a plant do for their living: controllers polled, sensors publishing, cameras streaming."""

import numpy as np

from traffic.plant import Device
from traffic.simulated_flows import exchange, session
from traffic.simulated_plant import Stage, beats, between, lognormal, vendor, visits
from traffic.simulated_services import lookup

__all__ = ["MACHINES", "poll"]

CONTROLLERS = ("plc", "drive", "gateway")
_READS, _WRITES = (3, 3, 3, 4, 1, 2), (6, 16, 16, 5, 15)
# port, service, request and answer payload of the control protocols beside Modbus
_PROTOCOLS = {
    "enip": (44818, "enip", (40, 120), (40, 600)),
    "opcua": (4840, "", (80, 300), (80, 2000)),
    "s7": (102, "", (30, 60), (40, 250)),
    "iec104": (2404, "", (6, 30), (6, 250)),
    "dnp3": (20000, "dnp3_tcp", (18, 40), (20, 250)),
    "ads": (48898, "", (50, 120), (50, 500)),
}


def controller(stage: Stage, device: Device) -> None:
    """A PLC, drive or gateway: everyone who must know polls it."""
    rng = stage.rng
    clients = [d for d in stage.having("hmi", "server", "workstation") if rng.random() < _APPETITE[d.role]]
    clients = clients or stage.having("hmi", "server")[:1]
    language = "modbus" if device.role == "gateway" else str(rng.choice(["modbus", "modbus", *_PROTOCOLS]))
    for client in clients:
        poll(stage, client, device, language)
    if device.role == "plc" and rng.random() < 0.25:
        peers = [d for d in stage.having("plc", "drive") if d != device]
        if peers:
            poll(stage, device, peers[int(rng.integers(len(peers)))], language)


_APPETITE = {"hmi": 0.7, "server": 0.5, "workstation": 0.05}


def poll(stage: Stage, client: Device, server: Device, language: str) -> None:
    """Cyclic questions in one long session, in sessions that are renewed, or in a new session for each."""
    rng = stage.rng
    period = between(rng, 0.05, 30)
    manner = rng.choice(["endless", "renewed", "each"], p=[0.55, 0.2, 0.25])
    if manner == "each":
        period = max(period, between(rng, 1, 60))
        ts = beats(rng, stage.start_s, stage.end_s, period, between(rng, 1e-3, 0.1))
        length, exchanges = lognormal(rng, between(rng, 0.01, 0.6), 0.4, len(ts)), np.array(rng.integers(1, 9))
    else:
        ts = _renewals(stage, float("inf") if manner == "endless" else between(rng, 60, 3600))
        length = np.diff([*ts, stage.end_s + 600]) - rng.uniform(0.05, 2)
        exchanges = np.maximum(length / period, 1) * int(rng.integers(1, 4))
    ending = {"closed": 3, "reset_client": 0.3, "reset_server": 0.3} if manner != "endless" else {"open": 1}
    asks = _speak(stage, client, server, language, ts)
    session(
        stage.ledger,
        ts,
        client.address,
        server.address,
        duration=length,
        exchanges=exchanges,
        ending=ending,
        tries=stage.tries(client.address),
        **asks,
    )


def _renewals(stage: Stage, every_s: float) -> np.ndarray:
    """Starts of back-to-back sessions, the first one usually before the capture."""
    start = (
        stage.start_s - stage.rng.uniform(1, 7200)
        if stage.rng.random() < 0.85
        else stage.start_s + stage.rng.uniform(0, 300)
    )
    if not np.isfinite(every_s):
        return np.array([start])
    return np.arange(start, stage.end_s, every_s)


def _speak(stage: Stage, client: Device, server: Device, language: str, ts: np.ndarray) -> dict:
    """Port, sizes and evidence of the protocol; some clients of Modbus also write, as a matter of course."""
    rng = stage.rng
    if language != "modbus":
        port, service, ask, answer = _PROTOCOLS[language]
        return {
            "port": port,
            "service": service,
            "ask_bytes": rng.integers(*ask),
            "answer_bytes": rng.integers(*answer),
        }
    registers = int(np.rint(between(rng, 1, 20)))
    words = int(rng.integers(1, 125))
    if rng.random() < 0.45:
        _writes(stage, client, server, ts)
    if server.role == "gateway" and rng.random() < 0.3:  # one dead serial unit behind it, known and tolerated
        at = visits(rng, stage.start_s, stage.end_s, between(rng, 120, 1800))
        stage.ledger.note(at, client.address, server.address, "modbus_exception", 11)
    asks = {"app": "modbus", "code": int(rng.choice(_READS)), "asks": rng.uniform(0.5, 0.95), "distinct": registers}
    return {"port": 502, "service": "modbus", "ask_bytes": 12, "answer_bytes": 9 + 2 * words, **asks}


def _writes(stage: Stage, client: Device, server: Device, ts: np.ndarray) -> None:
    """Setpoints now and then, or a heartbeat register every few seconds."""
    rng = stage.rng
    mean = between(rng, 1, 3600)
    at = (
        beats(rng, stage.start_s, stage.end_s, mean)
        if rng.random() < 0.5
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
    given = {
        "out_pkts": rate * length,
        "in_pkts": rate * length,
        "ask_bytes": rng.integers(20, 120),
        "answer_bytes": rng.integers(20, 120),
    }
    exchange(
        stage.ledger, np.array([start]), device.address, peers[0].address, 2222, duration=length, orig_p=2222, **given
    )


def sensor(stage: Stage, device: Device) -> None:
    """Publishes to the broker of the plant, or to one in the cloud: in one session or in one for each message."""
    rng = stage.rng
    brokers = stage.having("broker")
    inside = bool(brokers) and rng.random() < 0.85
    broker = brokers[int(rng.integers(len(brokers)))].address if inside else str(vendor(stage)[0])
    secret = rng.random() < (0.25 if inside else 0.8)
    asks = {} if secret else {"app": "mqtt", "asks": rng.uniform(0.3, 0.7), "distinct": int(rng.integers(1, 6))}
    given = {"port": 8883 if secret else 1883, "service": "ssl" if secret else "mqtt", "named": not inside, **asks}
    payload = {"ask_bytes": lognormal(rng, 90, 0.7), "answer_bytes": rng.choice([0, 4])}
    if rng.random() < 0.7:
        ts = _renewals(stage, float("inf") if rng.random() < 0.7 else between(rng, 300, 7200))
        length = np.diff([*ts, stage.end_s + 600]) - 0.5
        rate = 1 / between(rng, 0.2, 60)
        how = {
            "duration": length,
            "exchanges": np.maximum(length * rate, 1),
            "ending": {"open": 1, "reset_server": 0.2},
        }
    else:
        ts = beats(rng, stage.start_s, stage.end_s, between(rng, 3, 900), rng.uniform(0, 0.1))
        how = {
            "duration": lognormal(rng, 0.3, 0.8, len(ts)),
            "exchanges": rng.integers(2, 6),
            "ending": {"closed": 5, "reset_client": 1},
        }
    if not inside:
        lookup(stage, device, ts)
    session(stage.ledger, ts, device.address, broker, tries=stage.tries(device.address), **how, **payload, **given)


def subscriber(stage: Stage, device: Device) -> None:
    """A server or HMI that listens to the broker."""
    rng = stage.rng
    brokers = stage.having("broker")
    if not brokers or rng.random() < 0.4:
        return
    start = stage.start_s - rng.uniform(1, 3600)
    length, rate = stage.end_s - start + 60, 1 / between(rng, 0.1, 20)
    given = {"service": "mqtt", "app": "mqtt", "asks": 0.02, "ending": {"open": 1}}
    sizes = {"ask_bytes": 4, "answer_bytes": lognormal(rng, 120, 0.5), "exchanges": length * rate}
    session(
        stage.ledger, np.array([start]), device.address, brokers[0].address, 1883, duration=length, **given, **sizes
    )


def camera(stage: Stage, device: Device) -> None:
    """Streams to a recorder: RTSP with RTP over UDP or inside TCP, or pictures over HTTP; day and night differ."""
    rng = stage.rng
    recorders = stage.having("server", "workstation", "hmi", "television", "laptop")
    if not recorders or rng.random() < 0.15:
        return
    recorder = recorders[int(rng.integers(len(recorders)))]
    bytes_per_s = between(rng, 10e3, 900e3) * (0.4 + 0.6 * min(stage.busy, 1))
    ts = _renewals(stage, float("inf") if rng.random() < 0.6 else between(rng, 120, 3600))
    length = np.diff([*ts, stage.end_s + 300]) - 0.5
    if rng.random() < 0.5:
        keeping = {"exchanges": np.maximum(length / 30, 4), "ask_bytes": 180, "answer_bytes": 250}
        session(stage.ledger, ts, recorder.address, device.address, 554, duration=length, service="rtsp", **keeping)
        size = float(rng.uniform(700, 1400))
        media = {
            "out_pkts": np.rint(length * bytes_per_s / size),
            "in_pkts": np.rint(length / 5),
            "ask_bytes": size,
            "answer_bytes": 60,
        }
        exchange(
            stage.ledger,
            ts + 0.2,
            device.address,
            recorder.address,
            int(rng.integers(6970, 60000)),
            duration=length - 0.2,
            **media,
        )
        return
    port = int(rng.choice([554, 80, 8080, 8554, 443]))
    given = {"exchanges": np.maximum(length, 1), "ask_bytes": 20, "answer_bytes": bytes_per_s, "duration": length}
    session(stage.ledger, ts, recorder.address, device.address, port, ending={"open": 1, "reset_client": 1}, **given)


def archive(stage: Stage, device: Device) -> None:
    """Servers write to each other and to disks: regular, large, and nothing to worry about."""
    rng = stage.rng
    others = [d for d in stage.having("server", "workstation", "hmi") if d != device]
    if not others or rng.random() < 0.4:
        return
    port = int(rng.choice([445, 21, 22, 1433, 5432, 8086, 3306, 9200]))
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 5, 1800), 0.05)
    size = lognormal(rng, between(rng, 1e3, 3e7), 0.8, len(ts))
    length = np.maximum(size / between(rng, 1e5, 2e7), 0.05)
    given = {
        "exchanges": np.maximum(size / 16000, 1),
        "ask_bytes": 16000 if rng.random() < 0.6 else 200,
        "answer_bytes": 300,
    }
    session(
        stage.ledger, ts, device.address, others[int(rng.integers(len(others)))].address, port, duration=length, **given
    )


# What a device does for its living, and how likely each is.
MACHINES = {
    "plc": ((controller, 1.0), (implicit_io, 0.3)),
    "drive": ((controller, 1.0),),
    "gateway": ((controller, 1.0),),
    "sensor": ((sensor, 1.0),),
    "camera": ((camera, 0.9),),
    "hmi": ((subscriber, 0.3),),
    "server": ((subscriber, 0.6), (archive, 0.5)),
    "broker": (),
}
