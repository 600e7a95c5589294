"""The machines' programs, asked by real protocols in one short lab.

Run as a module inside a lab's namespaces, this file starts the programs and asks them; every test
then reads the answers.
"""

import asyncio
import csv
import http.client
import json
import multiprocessing
import os
import re
import signal
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from eval.testbed.generator import draw_site
from eval.testbed.host import check_host, enter, join_namespace
from eval.testbed.lab import open_lab
from eval.testbed.programs.infrastructure import ask_time
from eval.testbed.programs.process import machine_random, retry_pauses
from eval.testbed.site import Machine, Site
from traffic.errors import UserError

SEED = 1
HERE = Path(__file__).resolve()
STARTED = (
    *("dns-1", "ntp-1", "plc-1", "plc-2", "gateway-1", "broker-1", "sensor-5", "edge-1"),
    *("robot-1", "camera-1"),
)
ANYWHERE = "10.99.99.99"
Answers = dict[str, Any]


# ---- inside the lab ----


def ask_in_lab(folder: Path) -> None:
    """Ask while all is well, then with settings changed, then with a resolver that is mute; write
    the answers."""
    site = draw_site(SEED)
    gateway = site.named("gateway-1")
    with open_lab(site, folder) as lab:
        for name in (*STARTED, *(machine.name for machine in site.machines if machine.beyond)):
            lab.start(name)
        ask_from("ws-1", ask_when_well, site, folder)
        lab.start("plc-1", exceptions=1.0)
        lab.start("plc-2", ignores_other_units=True)
        lab.start("gateway-1", dead=gateway.settings["units"][:1])
        lab.start("broker-1", users={"spare": "only"})
        lab.start("sensor-5", retry={"first_s": 0.5}, dns_timeout_s=0.5)
        lab.start("dns-1", answers={"plc-1": ANYWHERE, "plc-2": ""})
        lab.start("edge-1", cloud="nowhere.example", batch_s=1.0, dns_timeout_s=0.5)
        ask_from("ws-1", ask_when_changed, site, folder)
        soon(lambda: find_in_log(folder, "sensor-5", "login refused"))
        soon(lambda: find_in_log(folder, "edge-1", "nowhere.example: cannot resolve"))
        lab.start("dns-1", mute=True)
        ask_from("ws-1", ask_when_mute, site, folder)
        (folder / "died.json").write_text(json.dumps(lab.died()))


def ask_from(name: str, ask: Callable[[Site], Answers], site: Site, folder: Path) -> None:
    """Run the questions in a machine's network."""

    def answer() -> None:
        join_namespace(Path("/run/netns") / name)
        (folder / f"{ask.__name__}.json").write_text(json.dumps(ask(site)))

    asker = multiprocessing.get_context("fork").Process(target=answer)
    asker.start()
    asker.join()


def ask_when_well(site: Site) -> Answers:
    at = {machine.name: machine.address for machine in site.machines}
    sensor, plc = site.named("sensor-5").settings, site.named("plc-1").settings
    cloud = next(machine.address for machine in site.machines if machine.beyond)
    names = ("plc-1", "wpad", next(iter(site.named("dns-1").settings["names"])))
    return {
        "names": {name: soon(lambda name=name: look_up(site, name)) for name in names},
        "clock_offset_s": soon(lambda: ask_time(at["ntp-1"])),
        "registers": soon(lambda: modbus(site, "plc-1", count=20)),
        "setpoint": soon(lambda: modbus(site, "plc-1", register=7, value=512)),
        "beyond_last": soon(lambda: modbus(site, "plc-1", count=1, address=plc["registers"])),
        "other_unit": soon(lambda: modbus(site, "plc-2", count=1, unit=99)),
        "serial_unit": soon(lambda: modbus(site, "gateway-1", count=12)),
        "login": soon(lambda: log_in(at["broker-1"], sensor["user"], sensor["password"])),
        "wrong_login": soon(lambda: log_in(at["broker-1"], sensor["user"], "guess")),
        "message": soon(lambda: hear(at["broker-1"], sensor)),
        "stream": soon(lambda: play(at["camera-1"])),
        "page_bytes": soon(lambda: len(fetch(cloud, "/pages/1234"))),
        "session": soon(lambda: talk(cloud)),
        "ssh": soon(lambda: banner(at["edge-1"])),
        "axes": soon(lambda: asyncio.run(axes(site))),
    }


def ask_when_changed(site: Site) -> Answers:
    sensor, broker = site.named("sensor-5").settings, site.named("broker-1").address
    names = ("plc-1", "plc-2", "ntp-1")
    return {
        "names": {name: soon(lambda name=name: look_up(site, name)) for name in names},
        "refused": soon(lambda: modbus(site, "plc-1", count=1)),
        "other_unit": soon(lambda: modbus(site, "plc-2", count=1, unit=99)),
        "dead_unit": soon(lambda: modbus(site, "gateway-1", count=12)),
        "login": soon(lambda: log_in(broker, sensor["user"], sensor["password"])),
        "spare_login": soon(lambda: log_in(broker, "spare", "only")),
    }


def ask_when_mute(site: Site) -> Answers:
    time.sleep(0.5)
    try:
        return {"name": look_up(site, "plc-1")}
    except TimeoutError as error:
        return {"name": str(error)}


def soon(ask: Callable[[], Any]) -> Any:
    """The answer as soon as there is one: a program may still be starting."""
    for _ in range(40):
        try:
            return ask()
        except OSError as error:
            said = repr(error)
            time.sleep(0.25)
    return said


def find_in_log(folder: Path, name: str, what: str) -> None:
    if what not in (folder / "logs" / f"{name}.log").read_text():
        raise OSError(f"{name} has not said {what!r} yet")


def look_up(site: Site, name: str) -> list[str] | str:
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode

    domain = site.named("dns-1").settings["domain"]
    question = dns.message.make_query(name if "." in name else f"{name}.{domain}", "A")
    try:
        answer = dns.query.udp(question, site.named("dns-1").address, timeout=1)
    except dns.exception.Timeout:
        raise TimeoutError("silence") from None
    found = [str(record) for records in answer.answer for record in records]
    return found or dns.rcode.to_text(answer.rcode())


def modbus(
    site: Site, name: str, count: int = 0, address: int = 0, unit: int | None = None,
    register: int = 0, value: int = 0,
) -> Any:  # fmt: skip
    """The registers read, or read back after a write, the exception code, or "silence"."""
    from pymodbus.client import ModbusTcpClient
    from pymodbus.exceptions import ModbusIOException

    machine = site.named(name)
    unit = unit or machine.settings.get("unit") or machine.settings["units"][0]
    with ModbusTcpClient(machine.address, port=502, timeout=1.5, retries=0) as client:
        if not client.connect():
            raise OSError("no connection")
        try:
            if count == 0:
                client.write_register(register, value, device_id=unit)
            where = address or register
            answer = client.read_holding_registers(where, count=count or 1, device_id=unit)
        except ModbusIOException:
            return "silence"
    return f"exception {answer.exception_code}" if answer.isError() else answer.registers


def log_in(broker: str, user: str, password: str) -> int:
    """The return code of an MQTT 3.1.1 login (3.2.2.3): 0 accepted, 5 not authorised."""
    texts = ("tester", user, password)
    fields = b"".join(struct.pack("!H", len(text)) + text.encode() for text in texts)
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + fields
    with socket.create_connection((broker, 1883), timeout=3) as client:
        client.sendall(bytes([0x10, len(body)]) + body)
        return client.recv(4)[3]


def hear(broker: str, sensor: Any) -> list[Any]:
    from paho.mqtt import subscribe

    login = {"username": sensor["user"], "password": sensor["password"]}
    message = subscribe.simple(sensor["topic"], hostname=broker, auth=login)
    return [len(message.payload), json.loads(message.payload)]


def play(camera: str) -> list[Any]:
    """First lines of the replies to a stream's setup; version and type of the first RTP packet."""
    with (
        socket.create_connection((camera, 554), timeout=3) as control,
        socket.socket(type=socket.SOCK_DGRAM) as media,
    ):
        media.bind(("", 0))
        media.settimeout(3)
        port = media.getsockname()[1]
        transport = f"Transport: RTP/AVP;client_port={port}-{port + 1}\r\n"
        replies = []
        for verb, more in (("DESCRIBE", ""), ("SETUP", transport), ("PLAY", "")):
            request = f"{verb} rtsp://{camera}/live RTSP/1.0\r\nCSeq: 1\r\n{more}\r\n"
            control.sendall(request.encode())
            replies.append(control.recv(4096).decode().splitlines()[0])
        packet = media.recv(2048)
    return [replies, packet[0] >> 6, packet[1] & 0x7F]


def fetch(address: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=3)
    connection.request("GET", path)
    return connection.getresponse().read()


def talk(address: str) -> str:
    context = ssl._create_unverified_context()
    with context.wrap_socket(socket.create_connection((address, 443), timeout=3)) as session:
        session.sendall(b"hello ")
        return session.recv(100).decode()


def banner(address: str) -> str:
    with socket.create_connection((address, 22), timeout=3) as client:
        return client.recv(100).decode()


async def axes(site: Site) -> list[float]:
    from asyncua import Client, ua

    robot = site.named("robot-1")
    async with Client(f"opc.tcp://{robot.address}:{robot.settings['port']}") as client:
        index = await client.get_namespace_index("urn:plant:robot")
        names = [f"ns={index};s=Axis{n}" for n in range(1, robot.settings["axes"] + 1)]
        nodes = [client.get_node(ua.NodeId.from_string(name)) for name in names]
        return await client.read_values(nodes)


# ---- outside ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one lab left behind: the answers, the logs, the readings."""
    try:
        check_host()
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)]))
        assert enter(HERE.stem, [str(folder)]) == 0
    return folder


def answers(folder: Path, ask: Callable[[Site], Answers]) -> Answers:
    return json.loads((folder / f"{ask.__name__}.json").read_text())


@pytest.fixture
def well(folder: Path) -> Answers:
    return answers(folder, ask_when_well)


def test_the_resolver_answers_for_the_plant_and_beyond_and_wrongly_or_not_when_set_so(
    folder: Path, well: Answers
) -> None:
    site = draw_site(SEED)
    name, address = next(iter(site.named("dns-1").settings["names"].items()))
    plc, ntp = site.named("plc-1").address, site.named("ntp-1").address
    assert well["names"] == {"plc-1": [plc], name: [address], "wpad": "NXDOMAIN"}
    changed = answers(folder, ask_when_changed)["names"]
    assert changed == {"plc-1": [ANYWHERE], "plc-2": "NXDOMAIN", "ntp-1": [ntp]}
    assert answers(folder, ask_when_mute) == {"name": "silence"}


@pytest.mark.parametrize(
    ("ask", "what", "answer"),
    [
        (ask_when_well, "setpoint", [512]),  # it obeys
        (ask_when_well, "beyond_last", "exception 2"),
        (ask_when_well, "other_unit", "exception 11"),
        (ask_when_changed, "other_unit", "silence"),
        (ask_when_changed, "refused", "exception 4"),
        (ask_when_changed, "dead_unit", "exception 11"),  # of a gateway
        (ask_when_well, "login", 0),
        (ask_when_well, "wrong_login", 5),
        (ask_when_changed, "login", 5),
        (ask_when_changed, "spare_login", 0),
        (ask_when_well, "stream", [["RTSP/1.0 200 OK"] * 3, 2, 96]),
        (ask_when_well, "page_bytes", 1234),  # through the router
        (ask_when_well, "session", "hello accepted"),
    ],
)
def test_programs_answer_as_their_protocols_say(
    folder: Path, ask: Callable[[Site], Answers], what: str, answer: Any
) -> None:
    assert answers(folder, ask)[what] == answer


def test_values_of_the_plant_lie_where_they_can(well: Answers) -> None:
    assert abs(well["clock_offset_s"]) < 1
    level, temperature, *_ = well["registers"]
    assert (len(well["registers"]), len(well["serial_unit"])) == (20, 12)
    assert 0 <= level <= 1000
    assert 50 <= temperature <= 1200
    assert len(well["axes"]) == draw_site(SEED).named("robot-1").settings["axes"]
    assert all(-90 <= axis <= 90 for axis in well["axes"])
    assert well["ssh"].startswith("SSH-2.0-OpenSSH")


def test_a_sensor_publishes_what_it_measures(folder: Path, well: Answers) -> None:
    sensor = draw_site(SEED).named("sensor-5")
    size, said = well["message"]
    assert size == sensor.settings["payload_bytes"]
    assert said["id"] == sensor.name
    rows = list(csv.reader((folder / "sensors.csv").open()))
    measured = {(name, quantity) for _, name, quantity, _ in rows}
    assert measured == {(sensor.name, sensor.settings["quantity"])}
    assert said[sensor.settings["quantity"]] in [float(value) for *_, value in rows]
    times = [float(ts) for ts, *_ in rows]
    assert times == sorted(times)


def test_trouble_is_logged_and_nobody_dies_of_it(folder: Path) -> None:
    """The sensor and the edge lost their broker, the edge its cloud."""
    assert json.loads((folder / "died.json").read_text()) == []
    form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ([\w-]+) \w+\[\d+\]: .+")
    logs = {path.stem: path.read_text() for path in (folder / "logs").glob("*.log")}
    for name, text in logs.items():
        found = [form.fullmatch(line) for line in text.splitlines()]
        assert all(line and line[1] == name for line in found), name
        assert "system started" in text.splitlines()[0]
    assert "login refused: Not authorized" in logs["sensor-5"]
    assert "not sent to nowhere.example: cannot resolve" in logs["edge-1"]
    assert "device failure, function 3 refused" in logs["plc-1"]


def test_a_device_waits_as_it_is_set() -> None:
    site = Site(1, "10.0.0.0/24", "10.0.0.1", ())

    def waits(**retry: float) -> list[float]:
        machine = Machine("a", "plc", "", "", settings={"retry": retry})
        return list(islice(retry_pauses(machine, machine_random(machine, site)), 4))

    assert waits(first_s=2, factor=3, most_s=15, jitter=0) == [2, 6, 15, 15]
    assert waits(first_s=5, factor=1, most_s=5, jitter=0) == [5, 5, 5, 5]
    varied = waits(first_s=10, factor=1, most_s=10, jitter=0.3)
    assert all(7 <= wait <= 13 for wait in varied)
    assert len(set(varied)) == 4
    assert varied == waits(first_s=10, factor=1, most_s=10, jitter=0.3)


if __name__ == "__main__":
    signal.alarm(60)  # a lab that hangs ends, and all in it
    ask_in_lab(Path(sys.argv[1]))
