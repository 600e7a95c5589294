"""What devices do for their job, by role: controllers, robots, sensors, cameras, computers."""

from dataclasses import dataclass

import numpy as np

from traffic.plant import Device
from traffic.simulation.distributions import log_uniform, lognormal, setting_s, usual
from traffic.simulation.flows import Columns, Datagrams, Numbers, Payload, modbus, session, udp_flow
from traffic.simulation.plant import CONTROLLERS, SimulatedPlant, service_addresses
from traffic.simulation.services import ask_names, lookup


def _session_starts(sim: SimulatedPlant, every_s: float) -> np.ndarray:
    """Starts of back-to-back sessions, the first one usually before the capture; one session where
    ``every_s`` is infinite."""
    before = sim.rng.random() < 0.93
    start = sim.start_s + (-sim.rng.uniform(1, 7200) if before else sim.rng.uniform(0, 300))
    return np.arange(start, sim.end_s, every_s) if np.isfinite(every_s) else np.array([start])


# ---- controllers: PLCs, drives and gateways, polled by panels, historians and each other ----

_READS, _WRITES = (*[3] * 12, *[4] * 6, 1, 2), (6, 6, 16, 16, 5, 15)  # Modbus function codes
# The other control protocols: port, Zeek's service, payload of a request and of an answer.
_PROTOCOLS = {
    "enip": (44818, "enip", (40, 120), (40, 600)),
    "opcua": (4840, "", (80, 300), (80, 2000)),
    "s7": (102, "", (30, 60), (40, 250)),
    "iec104": (2404, "", (6, 30), (6, 250)),
    "dnp3": (20000, "dnp3_tcp", (18, 40), (20, 250)),
    "ads": (48898, "", (50, 120), (50, 500)),
}
# Who polls controllers: how likely each, and the usual seconds between two polls.
_CLIENTS = {
    "hmi": (0.35, (0.4, 2.5)),
    "historian": (0.95, (4.0, 22.0)),
    "server": (0.25, (1.0, 60.0)),
    "workstation": (0.01, (1.0, 30.0)),
}
_OTHER_PERIOD_S = (0.1, 5.0)
_MODBUS_READ_MOST = 125  # registers of one request, Modbus application protocol 1.1b3, 6.3


def polled_controller(sim: SimulatedPlant, device: Device) -> None:
    """Adds the polls of everyone who needs a controller's values."""
    rng = sim.rng
    clients = [d for d in sim.having(*_CLIENTS) if rng.random() < _CLIENTS[d.role][0]]
    panels = sim.having("hmi") or sim.having("historian", "server")
    if panels and not any(d.role == "hmi" for d in clients):
        clients.append(sim.draw_device(panels))
    favourite = sim.draw_once("", "language", lambda: _draw_protocol(sim))
    protocol = favourite if rng.random() < 0.9 else _draw_protocol(sim)
    for client in clients:
        if device.role != "gateway":
            _poll(sim, client, device, protocol)
            continue
        units = sim.draw_once(device.address, "units", lambda: int(rng.integers(1, 6)))
        each_unit = client.role == "historian" and rng.random() < 0.8
        for _ in range(units if each_unit else 1):  # a session for each
            _poll(sim, client, device, "modbus")
    if device.role == "plc" and rng.random() < 0.1:
        peers = [d for d in sim.having("plc", "drive") if d != device]
        if peers:
            _poll(sim, device, sim.draw_device(peers), protocol)


def _draw_protocol(sim: SimulatedPlant) -> str:
    share, n = 0.9 if sim.flavour == "industrial" else 0.5, len(_PROTOCOLS)
    return str(sim.rng.choice(["modbus", *_PROTOCOLS], p=[share] + [(1 - share) / n] * n))


@dataclass(frozen=True)
class _Question:
    """What a client asks a controller in each poll, in ``requests`` requests."""

    port: int
    requests: int
    ask_bytes: Numbers
    answer_bytes: Numbers
    columns: Columns


def _draw_question(sim: SimulatedPlant, client: Device, server: Device, protocol: str) -> _Question:
    rng = sim.rng
    if protocol != "modbus":
        port, service, ask, answer = _PROTOCOLS[protocol]
        sizes = rng.integers(*ask), rng.integers(*answer)
        return _Question(port, int(rng.choice([1, 1, 2])), *sizes, {"service": service})
    registers = sim.draw_once(server.address, "registers", lambda: usual(rng, 50, 350))
    words = usual(rng, 8, 45) if client.role == "hmi" else registers * rng.choice([0.3, 1.0, 1.0])
    reads = int(np.ceil(words / _MODBUS_READ_MOST))
    scattered = int(np.rint(log_uniform(rng, 2, 12))) if rng.random() < 0.08 else 1
    if server.role == "gateway":
        words, reads, scattered = rng.uniform(5, 40), 1, 1
        if rng.random() < 0.1:  # one dead serial unit behind it, known and tolerated
            at = sim.poisson(log_uniform(rng, 120, 1800))
            sim.log.note(at, client.address, server.address, "modbus_exception", 11)
    answer_bytes = 9 + 2 * max(round(words / reads), 1)
    columns = modbus(int(rng.choice(_READS)), reads * scattered)
    return _Question(502, reads * scattered, 12, answer_bytes, columns)


def _poll(sim: SimulatedPlant, client: Device, server: Device, protocol: str) -> None:
    """Cyclic questions in one long session, in sessions that are renewed, or in a new session for
    each."""
    rng, ends = sim.rng, (client.address, server.address)
    usual_s = _CLIENTS[client.role][1] if client.role in _CLIENTS else _OTHER_PERIOD_S
    period_s = sim.draw_once(client.address, "polls", lambda: setting_s(rng, *usual_s))
    manner = rng.choice(["endless", "renewed", "each"], p=[0.91, 0.05, 0.04])
    question = _draw_question(sim, client, server, protocol)
    ending = {"closed": 12, "reset_client": 0.3, "reset_server": 0.3}
    exchanges: int | np.ndarray
    if manner == "each":
        period_s = max(period_s, log_uniform(rng, 1, 60))
        ts = sim.periodic(period_s, log_uniform(rng, 1e-3, 0.1))
        length = lognormal(rng, log_uniform(rng, 0.01, 0.6), 0.4, len(ts))
        exchanges = int(rng.integers(1, 9))
    else:
        endless = manner == "endless"
        ts = _session_starts(sim, float("inf") if endless else log_uniform(rng, 60, 3600))
        length = np.diff([*ts, sim.end_s + 600]) - rng.uniform(0.05, 2)
        exchanges = np.maximum(length / period_s, 1) * question.requests
        ending = {"open": 1} if endless else ending
    if protocol == "modbus":
        _write(sim, client, server, ts)
    payload = Payload(exchanges, question.ask_bytes, question.answer_bytes)
    options = {"ending": ending, "tries": sim.retry_policy(client.address), **question.columns}
    session(sim.log, ts, *ends, question.port, length, payload, **options)


def _write(sim: SimulatedPlant, client: Device, server: Device, ts: np.ndarray) -> None:
    """Setpoints now and then, as a matter of course, or a heartbeat register every few seconds."""
    rng = sim.rng
    if rng.random() > (0.8 if client.role == "hmi" and server.role != "gateway" else 0.05):
        return
    heartbeat = rng.random() < 0.1
    at = sim.periodic(log_uniform(rng, 1, 20)) if heartbeat else sim.poisson(usual(rng, 20, 300))
    code, distinct = int(rng.choice(_WRITES)), int(rng.integers(1, 4))
    at = at[at >= ts[0]]
    sim.log.note(at, client.address, server.address, "modbus_write", code, distinct=distinct)


def implicit_io(sim: SimulatedPlant, device: Device) -> None:
    """Cyclic UDP as EtherNet/IP's: one flow for hours, many small packets each way."""
    rng = sim.rng
    peers = [d for d in sim.having("drive", "plc") if d != device]
    if not peers or rng.random() < 0.6:
        return
    rate, start = log_uniform(rng, 1, 100), sim.start_s - 60
    length = sim.end_s - start + 60
    sizes = rng.integers(20, 120), rng.integers(20, 120)
    datagrams = Datagrams(rate * length, rate * length, *sizes)
    ts, ends, port = np.array([start]), (device.address, peers[0].address), 2222
    udp_flow(sim.log, ts, *ends, port, length, datagrams, orig_p=port)


# ---- robots ----


def opcua_server(sim: SimulatedPlant, device: Device) -> None:
    """A robot serves OPC UA: the MES subscribes to its values and reads them now and then."""
    rng = sim.rng
    clients = sim.having("mes") or sim.having("historian", "server", "hmi")
    if not clients:
        return
    client = sim.draw_device(clients)
    ts = _session_starts(sim, float("inf") if rng.random() < 0.85 else log_uniform(rng, 120, 3600))
    length = np.diff([*ts, sim.end_s + 600]) - 0.5
    values = int(usual(rng, 3, 12, 4.0))
    # A notification and the next publish request (OPC UA part 4, 5.13.5), each alone on its way.
    # Clients also look every second or so whether the server still lives.
    rate = 1 / setting_s(rng, 0.4, 2.2) + 1 / usual(rng, 0.8, 5)
    ask, answer = rng.integers(60, 130), 90 + values * rng.integers(12, 40)
    payload = Payload(length * rate, ask, answer)
    options: Columns = {"tries": sim.retry_policy(client.address), "ending": {"open": 1}}
    ends = (client.address, device.address)
    session(sim.log, ts, *ends, 4840, length, payload, late=1.0, **options)


# ---- cameras ----

_STREAM_PORTS = ((554, "rtsp"), (8554, ""), (80, "http"), (443, "ssl"))
_STREAM_ODDS = (0.7, 0.1, 0.1, 0.1)


def video_stream(sim: SimulatedPlant, device: Device) -> None:
    """Streams to a recorder: by RTP over UDP (RFC 2326, RFC 3550), within the RTSP connection, or
    over HTTP. Day and night differ."""
    rng = sim.rng
    recorders = sim.having("recorder") or sim.having("historian", "server")
    recorders = recorders or sim.having("workstation", "hmi", "television", "laptop")
    if not recorders or rng.random() < 0.08:
        return
    recorder = sim.draw_device(recorders).address
    bytes_per_s = usual(rng, 15e3, 120e3) * (0.6 + 0.4 * min(sim.busy, 1))
    ts = _session_starts(sim, float("inf") if rng.random() < 0.85 else log_uniform(rng, 120, 3600))
    length = np.diff([*ts, sim.end_s + 300]) - 0.5
    options: Columns = {"tries": sim.retry_policy(recorder), "ending": {"open": 1}}
    if rng.random() < 0.68:
        requests = np.maximum(length / setting_s(rng, 15, 45), 4)
        payload = Payload(requests, rng.integers(60, 250), rng.integers(40, 300))
        options["service"] = "rtsp"
        session(sim.log, ts, recorder, device.address, 554, length, payload, **options)
        size = float(rng.uniform(700, 1400))
        reports = np.rint(length / 5) if rng.random() < 0.2 else 0  # RTCP, where anyone cares
        media = Datagrams(np.rint(length * bytes_per_s / size), reports, size, 60)
        port = int(rng.integers(6970, 60000))
        udp_flow(sim.log, ts + 0.2, device.address, recorder, port, length - 0.2, media)
        return
    port, options["service"] = _STREAM_PORTS[int(rng.choice(len(_STREAM_PORTS), p=_STREAM_ODDS))]
    pictures = length * usual(rng, 5, 20)
    payload = Payload(pictures, 0, bytes_per_s * length / pictures)
    session(sim.log, ts, recorder, device.address, port, length, payload, **options)


# ---- MQTT: sensors publish, others subscribe ----


def mqtt_publisher(sim: SimulatedPlant, device: Device) -> None:
    """Publishes to the broker of the plant, or to one in the cloud: in one session or in one for
    each message."""
    rng = sim.rng
    brokers = sim.having("broker")
    inside = bool(brokers) and rng.random() < 0.975
    broker = sim.draw_device(brokers).address if inside else str(service_addresses(sim)[0])
    tls = rng.random() < (_tls_share(sim) if inside else 0.8)
    columns: Columns = {"named": not inside, "service": "ssl" if tls else "mqtt"}
    if not tls:
        columns |= {"app": "mqtt", "asks": 1.0, "distinct": int(rng.integers(1, 4))}
    period_s, size = _messages(sim, device)
    overhead = int(rng.integers(20, 60))  # topic and headers
    ask, answer = size + overhead + (29 if tls else 0), rng.choice([0, 0, 4])
    exchanges: int | np.ndarray
    if rng.random() < 0.96:
        endless = rng.random() < 0.94
        ts = _session_starts(sim, float("inf") if endless else log_uniform(rng, 300, 7200))
        length = np.diff([*ts, sim.end_s + 600]) - 0.5
        exchanges = np.maximum(length / period_s, 1)
        columns |= {"ending": {"open": 1}, "alive_s": _draw_alive_s(sim, period_s, bool(answer))}
    else:
        ts = sim.periodic(max(period_s, 3.0), rng.uniform(0, 0.1))
        length = lognormal(rng, 0.3, 0.8, len(ts))
        exchanges = int(rng.integers(2, 6))
        columns["ending"] = {"closed": 9, "reset_client": 1}
    lookup(sim, device, ts, inside=inside)
    columns["tries"] = sim.retry_policy(device.address)
    port, payload = 8883 if tls else 1883, Payload(exchanges, ask, answer)
    session(sim.log, ts, device.address, broker, port, length, payload, **columns)


def _tls_share(sim: SimulatedPlant) -> float:
    """Share of the sensors of this plant that speak TLS to its broker: all, some or, mostly,
    none."""
    shares, odds = [0.0, 0.3, 1.0], [0.9, 0.05, 0.05]
    return float(sim.draw_once("", "tls share", lambda: sim.rng.choice(shares, p=odds)))


def _messages(sim: SimulatedPlant, device: Device) -> tuple[float, float]:
    """Seconds between two messages of a sensor, and bytes of each."""
    period_s = sim.draw_once(device.address, "publishes", lambda: setting_s(sim.rng, 1.0, 12.0))
    return period_s, sim.draw_once(device.address, "message", lambda: usual(sim.rng, 150, 1000))


def _draw_alive_s(sim: SimulatedPlant, period_s: float, answered: bool) -> float:
    """Seconds between two PINGREQ (MQTT 3.1.1, 3.1.2.10): where nothing else is sent, or nothing
    else comes back."""
    rng, odds = sim.rng, [0.08, 0.2, 0.1, 0.25, 0.27, 0.05, 0.05]
    keepalive_s = float(rng.choice([10, 15, 20, 30, 60, 120, 300], p=odds))
    heard = answered or rng.random() < 0.25  # some clients only mind what they themselves sent
    return 0.0 if heard and period_s < keepalive_s else keepalive_s


def mqtt_subscriber(sim: SimulatedPlant, device: Device) -> None:
    """Listens to the broker: to every sensor, or to some."""
    rng = sim.rng
    brokers = sim.having("broker")
    if not brokers:
        return
    sensors = sim.having("sensor")
    if rng.random() < 0.15:
        sensors = [one for one in sensors if rng.random() < 0.4]
    messages = [_messages(sim, one) for one in sensors]
    ts = _session_starts(sim, float("inf"))
    length = sim.end_s - ts + 60
    rate = sum(1 / period_s for period_s, _ in messages) or 1 / log_uniform(rng, 1, 60)
    size = sum(size / period_s for period_s, size in messages) / rate if messages else 60.0
    columns: Columns = {"service": "mqtt", "app": "mqtt", "ending": {"open": 1}}
    if not _tls_share(sim):
        columns |= {"distinct": max(len(messages), 1), "tells": 1.0}
    columns["tries"] = sim.retry_policy(device.address)
    payload = Payload(length * rate, 0 if rng.random() < 0.6 else 4, size + 40)
    session(sim.log, ts, device.address, brokers[0].address, 1883, length, payload, **columns)


# ---- computers: histories stored, batches forwarded, backups, engineers at work ----

_WEB = ((80, "http"), (80, "http"), (80, "http"), (443, "ssl"), (8080, "http"))
_NOT_REMEMBERED_S = 0.02


def store_history(sim: SimulatedPlant, device: Device) -> None:
    """A historian stores what it has read, in batches, on a recorder or server."""
    stores = sim.having("recorder") or sim.having("server")
    if stores:
        web = _WEB[int(sim.rng.integers(len(_WEB)))]
        _post(sim, device, np.array([stores[0].address], object), setting_s(sim.rng, 15, 60), *web)


def forward_batches(sim: SimulatedPlant, device: Device) -> None:
    """An edge gateway sends on what sensors published, to its cloud."""
    web, hosts = _WEB[int(sim.rng.integers(len(_WEB)))], service_addresses(sim)[:2]
    _post(sim, device, hosts, setting_s(sim.rng, 8, 35), *web)


def _post(
    sim: SimulatedPlant, device: Device, hosts: np.ndarray, period_s: float, port: int, service: str
) -> None:
    rng = sim.rng
    ts = sim.periodic(period_s, log_uniform(rng, 5e-3, 0.1))
    inside = str(hosts[0]).startswith(sim.network)
    lookup(sim, device, ts, remember_s=1.0 if rng.random() < 0.9 else None, inside=inside)
    size = lognormal(rng, usual(rng, 4e3, 100e3), 0.4, len(ts))
    length = lognormal(rng, log_uniform(rng, 3e-3, 0.3), 0.5, len(ts))
    payload = Payload(1, size, rng.integers(100, 400))
    dst = hosts[rng.integers(len(hosts), size=len(ts))]
    columns: Columns = {
        "service": service,
        "named": True,
        "tries": sim.retry_policy(device.address),
    }
    session(sim.log, ts, device.address, dst, port, length, payload, **columns)


def remote_service(sim: SimulatedPlant, device: Device) -> None:
    """One TLS session with the vendor's remote service, with a message every so often."""
    rng = sim.rng
    ts = np.array([sim.start_s - rng.uniform(1, 3600)])
    length = sim.end_s - ts + 600
    exchanges = length / setting_s(rng, 8, 40)
    payload = Payload(exchanges, rng.integers(60, 260), rng.integers(60, 270))
    columns: Columns = {
        "service": "ssl",
        "tries": sim.retry_policy(device.address),
        "ending": {"open": 1},
    }
    host = str(service_addresses(sim)[0])
    session(sim.log, ts, device.address, host, 443, length, payload, **columns)


def engineering(sim: SimulatedPlant, device: Device) -> None:
    """Someone at a workstation: names looked up, pages fetched, a controller read, at irregular
    times."""
    rng = sim.rng
    ts = sim.poisson(usual(rng, 4, 22))
    what = rng.choice(3, size=len(ts), p=rng.dirichlet([3.0, 3.0, 3.0]))
    unknown, lookups = rng.uniform(0.05, 0.5), ts[what == 0]
    if len(lookups):
        ask_names(sim, device, lookups, unknown)
    _fetch_pages(sim, device, ts[what == 1])
    controllers = np.array([one.address for one in sim.having(*CONTROLLERS)], object)
    at = ts[what == 2]
    if not len(controllers) or not len(at):
        return
    dst = controllers[rng.integers(len(controllers), size=len(at))]
    lookup(sim, device, at, remember_s=1.0, inside=True)
    payload = Payload(rng.integers(2, 6), 12, 9 + 2 * rng.integers(5, 60))
    length = rng.uniform(0.5, 6) + rng.uniform(0, 0.3, len(at))
    session(sim.log, at, device.address, dst, 502, length, payload, **modbus(3, 1))


def _fetch_pages(sim: SimulatedPlant, device: Device, at: np.ndarray) -> None:
    rng = sim.rng
    hosts = service_addresses(sim)
    ts = np.sort(np.repeat(at, rng.integers(1, 5, len(at))))
    ts = ts + np.arange(len(ts)) % 5 * rng.uniform(0.005, 0.3)
    lookup(sim, device, ts, remember_s=_NOT_REMEMBERED_S)
    port, service = _WEB[int(rng.integers(len(_WEB)))]
    ask, answer = rng.integers(80, 500), lognormal(rng, usual(rng, 3e3, 40e3), 1.0, len(ts))
    length = lognormal(rng, log_uniform(rng, 5e-3, 0.5), 0.7, len(ts))
    dst, payload = hosts[rng.integers(len(hosts), size=len(ts))], Payload(1, ask, answer)
    columns: Columns = {"service": service, "named": True}
    session(sim.log, ts, device.address, dst, port, length, payload, **columns)


def backup(sim: SimulatedPlant, device: Device) -> None:
    """Servers write to each other and to disks: regular, large, and nothing to worry about."""
    rng = sim.rng
    computers = sim.having("server", "historian", "recorder", "workstation", "hmi")
    others = [d for d in computers if d != device]
    if not others or rng.random() < 0.4:
        return
    port = int(rng.choice([445, 21, 22, 1433, 5432, 8086, 3306, 9200]))
    ts = sim.periodic(log_uniform(rng, 5, 1800), 0.05)
    size = lognormal(rng, log_uniform(rng, 1e3, 3e7), 0.8, len(ts))
    length = np.maximum(size / log_uniform(rng, 1e5, 2e7), 0.05)
    payload = Payload(np.maximum(size / 16000, 1), 16000 if rng.random() < 0.6 else 200, 300)
    dst = sim.draw_device(others).address
    session(sim.log, ts, device.address, dst, port, length, payload)


# Each role's own work, and how likely a device of it does it.
JOBS = {
    "plc": ((polled_controller, 1.0), (implicit_io, 0.3)),
    "drive": ((polled_controller, 1.0),),
    "gateway": ((polled_controller, 1.0),),
    "robot": ((opcua_server, 1.0), (remote_service, 0.45)),
    "sensor": ((mqtt_publisher, 1.0),),
    "camera": ((video_stream, 1.0), (remote_service, 0.35)),
    "hmi": ((mqtt_subscriber, 0.1),),
    "edge": ((mqtt_subscriber, 0.95), (forward_batches, 0.95), (remote_service, 0.7)),
    "historian": (
        (store_history, 0.85),
        (mqtt_subscriber, 0.04),
        (backup, 0.1),
        (remote_service, 0.35),
    ),
    "recorder": ((backup, 0.1),),
    "server": ((mqtt_subscriber, 0.4), (backup, 0.5)),
    "workstation": ((engineering, 0.8),),
}
