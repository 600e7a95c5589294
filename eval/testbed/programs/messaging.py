"""MQTT: the broker (mosquitto), sensors that publish, the edge that sends batches to a cloud."""

import json
import logging
import math
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from paho.mqtt.client import CallbackAPIVersion, Client, ConnectFlags, MQTTMessage, error_string
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from eval.testbed.programs.infrastructure import find_address, send_batches
from eval.testbed.programs.process import machine_random, retry_pauses, run_daemon
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

_MOSQUITTO = """\
listener {port} 0.0.0.0
max_connections {most}
allow_anonymous false
password_file {folder}/passwords
persistence false
user root
log_dest stderr
log_timestamp false
"""
# What is measured: mean and swing, in degrees Celsius, bar, mm/s, litres a second, percent, ampere.
_QUANTITIES = {
    "temperature": (45.0, 20.0),
    "pressure": (4.0, 1.5),
    "vibration": (2.5, 1.5),
    "flow": (8.0, 4.0),
    "humidity": (50.0, 15.0),
    "current": (12.0, 6.0),
}


def broker(machine: Machine, _site: Site, _folder: Path) -> None:
    """Serve MQTT on ``port`` to ``users`` with their password, ``max_connections`` at a time."""
    with tempfile.TemporaryDirectory() as own:
        users = machine.settings["users"].items()
        passwords = Path(own) / "passwords"
        passwords.touch(0o600)
        passwords.write_text("".join(f"{user}:{password}\n" for user, password in users))
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
        config = Path(own) / "mosquitto.conf"
        most, port = machine.settings.get("max_connections", -1), machine.settings.get("port", 1883)
        config.write_text(_MOSQUITTO.format(port=port, most=most, folder=own))
        run_daemon(["mosquitto", "-c", str(config)])


def sensor(machine: Machine, site: Site, folder: Path) -> None:
    """Publish a reading every ``period_s``; what the broker was sent is a line of sensors.csv."""
    rng, settings = machine_random(machine, site), machine.settings
    wait, readings = retry_pauses(machine, rng), _readings(machine, rng)
    table = os.open(folder / "sensors.csv", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    while True:
        try:
            client = _connect(machine, site)
            log.info("connected to %s", settings["broker"])
            wait = retry_pauses(machine, rng)
            _listen(client, rng.random() * settings["period_s"])
            while True:
                now_s, value = time.time(), next(readings)
                payload = _payload(machine, now_s, value, rng)
                client.publish(settings["topic"], payload, settings["qos"])
                line = f"{now_s:.3f},{machine.name},{settings['quantity']},{value}\n"
                os.write(table, line.encode())
                _listen(client, settings["period_s"] * (1 + rng.uniform(-0.02, 0.02)))
        except OSError as error:
            log.warning("broker %s: %s", settings["broker"], error)
        time.sleep(next(wait))


def edge(machine: Machine, site: Site, _folder: Path) -> None:
    """Take what sensors publish under ``topic`` and post it to ``cloud`` every ``batch_s``."""
    rng, settings = machine_random(machine, site), machine.settings
    wait = retry_pauses(machine, rng)
    rows: list[Any] = []
    target = {"host": settings["cloud"], "port": settings.get("cloud_port", 80)}
    sending = (machine, site, rows, target, "POST", "/telemetry", settings["batch_s"])
    threading.Thread(target=send_batches, args=sending, daemon=True).start()

    def keep(_client: Client, _data: object, message: MQTTMessage) -> None:
        rows.append([message.topic, message.payload.decode()])

    while True:
        try:
            client = _connect(machine, site)
            log.info("connected to %s", settings["broker"])
            wait = retry_pauses(machine, rng)
            client.on_message = keep
            client.subscribe(settings["topic"], qos=1)
            while True:
                _listen(client, 60.0)
        except OSError as error:
            log.warning("broker %s: %s", settings["broker"], error)
        time.sleep(next(wait))


def _connect(machine: Machine, site: Site) -> Client:
    """A client whose login the broker has accepted.

    Raises:
        OSError: no name, no connection, login refused, or no word from the broker.
    """
    settings = machine.settings
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.get("client_id", machine.name),
        protocol=MQTTProtocolVersion(settings.get("mqtt_version", 4)),
    )
    client.username_pw_set(machine.settings["user"], machine.settings["password"])
    client.on_connect = _note_refusal
    address = find_address(machine, site, machine.settings["broker"])
    client.connect(address, machine.settings["port"], machine.settings.get("keepalive_s", 60))
    until_s = time.monotonic() + 10
    while not client.is_connected():
        if code := client.loop(1.0):
            raise OSError(error_string(code))
        if time.monotonic() > until_s:
            raise OSError("connected, but no answer to the login")
    return client


def _note_refusal(
    _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _more: object
) -> None:
    if reason.is_failure:
        log.error("login refused: %s", reason)


def _listen(client: Client, length_s: float) -> None:
    """Take what comes and keep the session alive for a while."""
    until_s = time.monotonic() + length_s
    while (left_s := until_s - time.monotonic()) > 0:
        if code := client.loop(min(left_s, 10.0)):
            raise OSError(error_string(code))


def _readings(machine: Machine, rng: Random) -> Iterator[float]:
    """Values that swing slowly about a mean, with noise."""
    mean, swing = _QUANTITIES[machine.settings["quantity"]]
    mean, turn_s = mean + swing * rng.uniform(-0.5, 0.5), rng.uniform(120, 1800)
    while True:
        angle = 2 * math.pi * time.time() / turn_s
        yield round(mean + swing * (0.4 * math.sin(angle) + rng.gauss(0, 0.03)), 3)


def _payload(machine: Machine, now_s: float, value: float, rng: Random) -> bytes:
    """JSON of ``payload_bytes``, filled up with the raw samples that such nodes send along."""
    fields = {"id": machine.name, "ts": round(now_s, 3), machine.settings["quantity"]: value}
    room = machine.settings["payload_bytes"] - len(json.dumps(fields)) - len(', "raw": ""')
    if room > 0:
        fields["raw"] = rng.randbytes((room + 1) // 2).hex()[:room]
    return json.dumps(fields).encode()
