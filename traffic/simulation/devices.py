"""Controllers and those who ask them: PLCs, drives, gateways and robots polled by panels, historians and each other."""

from typing import Any

import numpy as np

from traffic.plant import Device
from traffic.simulation.distributions import beats, between, lognormal, setting_s, usual, visits
from traffic.simulation.flows import exchange, session
from traffic.simulation.plant import Stage

__all__ = ["axes", "controller", "implicit_io", "poll", "renewals"]

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
        for _ in range(units if client.role == "historian" and rng.random() < 0.8 else 1):  # a session for each
            poll(stage, client, device, "modbus")
    if device.role == "plc" and rng.random() < 0.1:
        peers = [d for d in stage.having("plc", "drive") if d != device]
        if peers:
            poll(stage, device, peers[int(rng.integers(len(peers)))], language)


def _language(stage: Stage) -> str:
    share = 0.9 if stage.flavour == "industrial" else 0.5
    return str(stage.rng.choice(["modbus", *_PROTOCOLS], p=[share] + [(1 - share) / len(_PROTOCOLS)] * len(_PROTOCOLS)))


def poll(stage: Stage, client: Device, server: Device, language: str) -> None:
    """Cyclic questions in one long session, in sessions that are renewed, or in a new session for each."""
    rng = stage.rng
    period = stage.habit(
        client.address, "polls", lambda: setting_s(rng, *_APPETITE.get(client.role, (1, (0.1, 5.0)))[1])
    )
    manner = rng.choice(["endless", "renewed", "each"], p=[0.91, 0.05, 0.04])
    asks = _speak(stage, client, server, language)
    each = asks.pop("each")
    if manner == "each":
        period = max(period, between(rng, 1, 60))
        ts = beats(rng, stage.start_s, stage.end_s, period, between(rng, 1e-3, 0.1))
        length, exchanges = lognormal(rng, between(rng, 0.01, 0.6), 0.4, len(ts)), np.array(rng.integers(1, 9))
    else:
        ts = renewals(stage, float("inf") if manner == "endless" else between(rng, 60, 3600))
        length = np.diff([*ts, stage.end_s + 600]) - rng.uniform(0.05, 2)
        exchanges = np.maximum(length / period, 1) * each
    ending = {"closed": 12, "reset_client": 0.3, "reset_server": 0.3} if manner != "endless" else {"open": 1}
    if language == "modbus":
        _writes(stage, client, server, ts)
    given = {"duration": length, "exchanges": exchanges, "ending": ending, "tries": stage.tries(client.address)}
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
        sizes: dict[str, Any] = {"ask_bytes": rng.integers(*ask), "answer_bytes": rng.integers(*answer)}
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
    sizes = {"ask_bytes": 12, "answer_bytes": 9 + 2 * max(round(words / each), 1), "each": each * scattered}
    asks = {"app": "modbus", "code": int(rng.choice(_READS)), "asks": 1.0, "distinct": each * scattered}
    return {"port": 502, "service": "modbus", **sizes, **asks}


def _writes(stage: Stage, client: Device, server: Device, ts: np.ndarray) -> None:
    """Setpoints now and then, as a matter of course, or a heartbeat register every few seconds."""
    rng = stage.rng
    if rng.random() > (0.8 if client.role == "hmi" and server.role != "gateway" else 0.05):
        return
    heartbeat = rng.random() < 0.1
    mean = between(rng, 1, 20) if heartbeat else usual(rng, 20, 300)
    at = beats(rng, stage.start_s, stage.end_s, mean) if heartbeat else visits(rng, stage.start_s, stage.end_s, mean)
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
    given = {"out_pkts": rate * length, "in_pkts": rate * length, "duration": length, "orig_p": 2222}
    exchange(stage.ledger, np.array([start]), device.address, peers[0].address, 2222, **given, **sizes)


def axes(stage: Stage, device: Device) -> None:
    """A robot or its like serves OPC UA: who plans the work subscribes to its values and reads them now and then."""
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
    told |= {"answer_bytes": 90 + values * rng.integers(12, 40), "tries": stage.tries(client.address)}
    given = {"duration": length, "ending": {"open": 1}, "late": 1.0}
    session(stage.ledger, ts, client.address, device.address, 4840, **given, **told)
