"""Controllers and who talks to them: Modbus servers and clients, an OPC UA server and client.

    register   0 level      1 temperature   2 inflow   3 outflow   4 inlet valve   5 outlet valve
               6 heater     7 level wanted  8 temperature wanted   9 seconds running   10 alarms
               11... recipe

All are tenths of a percent or of a degree; 7 and 8 are setpoints, and whatever is written to them
is obeyed.
"""

import asyncio
import http.client
import logging
import math
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from asyncua import Client, Node, Server, ua
from pymodbus.client import ModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ConnectionException, ModbusException, NoSuchIdException
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from eval.testbed.programs.infrastructure import find_address, send, send_batches
from eval.testbed.programs.process import machine_random, periodic, retry_pauses
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

# ---- Modbus clients: HMIs every second, the historian slowly and widely, an engineer at times ----

_MOST_REGISTERS = 125  # of one request, Modbus application protocol 1.1b3, 6.3


def hmi(machine: Machine, site: Site, _folder: Path) -> None:
    """Poll what is ``polled`` every ``poll_s``, and write a setpoint about every ``write_s``."""
    _run_all(_pollers(machine, site, None))


def historian(machine: Machine, site: Site, _folder: Path) -> None:
    """Poll many registers slowly, and store them every ``write_s`` on the recorder."""
    rows: list[Any] = []
    store, write_s = machine.settings["store"], machine.settings["write_s"]
    sending = (machine, site, rows, store, "PUT", "/history", write_s)
    sender = threading.Thread(target=send_batches, args=sending)
    _run_all([*_pollers(machine, site, rows), sender])


def workstation(machine: Machine, site: Site, _folder: Path) -> None:
    """Look up a name, fetch pages or read a controller about every ``pace_s``, as an engineer does."""
    rng = machine_random(machine, site)
    # Nobody has the last name, and yet every browser asks for it.
    known = [*(other.name for other in site.with_role("historian", "mes", "recorder")), "wpad"]
    while True:
        time.sleep(rng.expovariate(1 / machine.settings["pace_s"]))
        host = rng.choice(machine.settings["hosts"])
        try:
            if rng.random() < 0.3 and machine.settings["polled"]:
                entry = rng.choice(machine.settings["polled"])
                with _connect(machine, site, entry) as client:
                    for _ in range(3):
                        _read(client, entry)
                        time.sleep(1)
            elif rng.random() < 0.5:
                find_address(machine, site, rng.choice(known))
            else:
                for size in [rng.randint(500, 60000) for _ in range(rng.randint(1, 4))]:
                    send(machine, site, {"host": host, "port": 80}, "GET", f"/pages/{size}")
        except (OSError, http.client.HTTPException, ModbusException) as error:
            log.warning("%s", _describe(error))


def _pollers(machine: Machine, site: Site, rows: list[Any] | None) -> list[threading.Thread]:
    polled = machine.settings["polled"]
    return [threading.Thread(target=_poll, args=(machine, site, entry, rows)) for entry in polled]


def _run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _poll(machine: Machine, site: Site, entry: Mapping[str, Any], rows: list[Any] | None) -> None:
    """Connect, read at the machine's rhythm until that fails, wait, and again, for ever.

    A session that has lasted ``session_s`` is ended in peace and opened anew; so is, with
    ``idle_close_s``, one on which nothing was asked for so long.
    """
    rng, poll_s = machine_random(machine, site, entry), machine.settings["poll_s"]
    wait = retry_pauses(machine, rng)
    while True:
        try:
            with _connect(machine, site, entry) as client:
                log.info("connected to %s", entry["name"])
                wait = retry_pauses(machine, rng)
                until_s = time.time() + machine.settings.get("session_s", math.inf)
                for now_s in periodic(poll_s, rng):
                    if now_s > until_s:
                        break
                    values = _read(client, entry)
                    if "idle_close_s" in machine.settings:
                        time.sleep(machine.settings["idle_close_s"])
                        break
                    if rows is not None:
                        rows.append([round(now_s, 3), entry["name"], *values])
                    setpoints = entry.get("setpoints")
                    if setpoints and rng.random() < poll_s / entry["write_s"]:
                        register, value = rng.choice(setpoints), rng.randint(300, 700)
                        answer = client.write_register(register, value, device_id=entry["unit"])
                        how = " refused" if answer.isError() else ""
                        log.info("%s: setpoint %d to %d%s", entry["name"], register, value, how)
        except (OSError, ModbusException) as error:
            log.warning("poll of %s failed: %s", entry["name"], _describe(error))
        time.sleep(next(wait))


def _connect(machine: Machine, site: Site, entry: Mapping[str, Any]) -> ModbusTcpClient:
    """A connected client, which repeats a request ``retries`` times before it counts as failed."""
    client = ModbusTcpClient(
        find_address(machine, site, entry["name"]),
        port=entry["port"],
        timeout=machine.settings.get("timeout_s", 2.0),
        retries=machine.settings.get("retries", 1),
    )
    if not client.connect():
        raise OSError(f"no connection to port {entry['port']}")
    return client


def _read(client: ModbusTcpClient, entry: Mapping[str, Any]) -> list[int]:
    """The registers of an entry, in as many requests as needed; an exception costs its values."""
    last, name, unit = entry["address"] + entry["count"], entry["name"], entry["unit"]
    inputs = entry.get("function") == 4
    read = client.read_input_registers if inputs else client.read_holding_registers
    registers: list[int] = []
    for address in range(entry["address"], last, _MOST_REGISTERS):
        answer = read(address, count=min(_MOST_REGISTERS, last - address), device_id=unit)
        if answer.isError():
            log.warning("%s unit %d: exception %d", name, unit, answer.exception_code)
        registers += answer.registers
    return registers


def _describe(error: Exception) -> str:
    """In a device's words; the library's say where in its own code it was."""
    if isinstance(error, ConnectionException):
        return "connection lost"
    return "no answer" if isinstance(error, ModbusException) else str(error)


# ---- Modbus servers: a controller with a live process, and a gateway to serial units ----

SETPOINTS = (7, 8)


class Tank:
    """A heated tank with a valve at either end; it moves on when it is looked at."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._since = self._now = time.monotonic()
        self.level, self.temperature = rng.uniform(30, 70), rng.uniform(20, 60)
        self._size, self._demand = rng.uniform(20, 200), rng.uniform(0.2, 0.6)

    @property
    def age_s(self) -> float:
        """Seconds since the program has started."""
        return time.monotonic() - self._since

    def move(self, registers: list[int]) -> None:
        """Advance the process to now by the registers' setpoints, and write its state into them."""
        ahead_s = min(time.monotonic() - self._now, 60.0)
        self._now = time.monotonic()
        level_wanted, temperature_wanted = (registers[setpoint] / 10 for setpoint in SETPOINTS)
        inlet = _clamp(self._demand + 0.05 * (level_wanted - self.level), 0, 1)
        heater = _clamp(0.3 + 0.1 * (temperature_wanted - self.temperature), 0, 1)
        flow = self._demand * (1 + self._rng.uniform(-0.05, 0.05))
        self.level = _clamp(self.level + (inlet - flow) * 100 / self._size * ahead_s, 0, 100)
        self.temperature += ((heater - 0.3) * 0.5 + self._rng.uniform(-0.05, 0.05)) * ahead_s
        self.temperature = _clamp(self.temperature, 5, 120)
        alarms = (self.level > 95) | (self.level < 5) << 1 | (self.temperature > 100) << 2
        valves = [inlet * 900, flow * 900, inlet * 1000, flow * 1000, heater * 1000]
        state = [self.level * 10, self.temperature * 10, *valves]
        registers[:7] = [round(value) for value in state]
        registers[9:11] = [int(self._now - self._since) % 65536, int(alarms)]


def plc(machine: Machine, site: Site, _folder: Path) -> None:
    """Serve one unit's registers; a share ``exceptions`` of requests gets exception 4."""
    rng, unit = machine_random(machine, site), machine.settings["unit"]
    action = partial(_answer, machine, unit, Tank(rng), rng)
    device = _device(unit, machine.settings.get("registers", 60), rng, action)
    silent = bool(machine.settings.get("ignores_other_units"))
    asyncio.run(_serve(machine.settings.get("port", 502), [device], silent))


def modbus_gateway(machine: Machine, site: Site, _folder: Path) -> None:
    """Serve a serial line's units in turn; a dead one costs a time-out, then exception 0x0B."""
    asyncio.run(_serve_line(machine, machine_random(machine, site)))


async def _serve_line(machine: Machine, rng: Random) -> None:
    line = asyncio.Lock()
    count = machine.settings.get("registers", 40)
    devices = [
        _device(unit, count, rng, partial(_relay, machine, unit, line, Tank(rng), rng))
        for unit in machine.settings["units"]
    ]
    await _serve(machine.settings.get("port", 502), devices, silent=False)


async def _serve(port: int, devices: list[SimDevice], silent: bool) -> None:
    """Serve the devices; a request for another unit meets silence, or a gateway's exception 0x0B."""
    others = SimDevice(
        0, [SimData(0, count=65536, datatype=DataType.REGISTERS)], action=_no_such_unit
    )
    server = ModbusTcpServer(
        [*devices, others],
        address=("", port),
        ignore_missing_devices=silent,
        trace_connect=_log_connection,
    )
    log.info("Modbus server on port %d, units %s", port, [device.id for device in devices])
    await server.serve_forever()


async def _answer(
    machine: Machine, unit: int, tank: Tank, rng: Random, *request: Any
) -> ExcCodes | None:
    """What pymodbus calls before it reads or writes, with the fields of the request."""
    function, _, address, count, registers, values = request
    if code := refusal(machine, unit, function, range(address, address + count), tank.age_s, rng):
        log.error("function %d at %d refused with exception %d", function, address, code)
        return ExcCodes(code)
    # The answer comes when the scan cycle ends.
    await asyncio.sleep(rng.uniform(0, machine.settings.get("scan_s", 0.01)))
    if rng.random() < machine.settings.get("exceptions", 0.0):
        log.error("device failure, function %d refused", function)
        return ExcCodes.DEVICE_FAILURE
    if values:
        log.info("register %d set to %s", address, list(values))
    tank.move(registers)
    return None


def refusal(
    machine: Machine, unit: int, function: int, addresses: range, age_s: float, rng: Random
) -> int:
    """The exception code that the first fitting entry of ``refuse`` gives a request; 0 for none.

    Examples:
        >>> refuse = [{"code": 2, "from_s": 30, "first": 40, "last": 49}]
        >>> plc = Machine("a", "plc", "", "", settings={"refuse": refuse})
        >>> [refusal(plc, 1, 3, range(45, 47), age_s, Random(1)) for age_s in (20, 30)]
        [0, 2]
        >>> refusal(plc, 1, 3, range(0, 10), 30, Random(1))
        0
    """
    for entry in machine.settings.get("refuse", []):
        if (
            entry.get("from_s", 0.0) <= age_s < entry.get("to_s", math.inf)
            and unit in entry.get("units", [unit])
            and function in entry.get("functions", [function])
            and addresses.start <= entry.get("last", 65535)
            and addresses.stop > entry.get("first", 0)
            and rng.random() < entry.get("share", 1.0)
        ):
            return int(entry["code"])
    return 0


async def _relay(
    machine: Machine, unit: int, line: asyncio.Lock, tank: Tank, rng: Random, *request: Any
) -> ExcCodes | None:
    async with line:
        if unit in machine.settings.get("dead", []):
            await asyncio.sleep(machine.settings.get("serial_timeout_s", 0.5))
            log.warning("serial unit %d does not answer", unit)
            return ExcCodes.GATEWAY_NO_RESPONSE
        # A request and its answer at 19,200 baud, eleven bits a byte, and the unit's own delay.
        await asyncio.sleep((13 + 2 * request[3]) * 11 / 19200 + rng.uniform(0.002, 0.01))
    return await _answer(machine, unit, tank, rng, *request)


def _device(unit: int, count: int, rng: Random, action: partial) -> SimDevice:
    values = [rng.randrange(2000) for _ in range(max(count, 11))]
    values[7], values[8] = rng.randint(300, 700), rng.randint(200, 700)
    return SimDevice(unit, [SimData(0, values=values, datatype=DataType.REGISTERS)], action=action)


async def _no_such_unit(*request: Any) -> ExcCodes | None:
    raise NoSuchIdException(f"function {request[0]} for a unit that is not there")


def _log_connection(up: bool) -> None:
    log.info("client %s", "connected" if up else "disconnected")


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


# ---- OPC UA: a robot serves its axes; the MES subscribes to them and reads them now and then ----

_NAMESPACE = "urn:plant:robot"


def opcua_server(machine: Machine, site: Site, _folder: Path) -> None:
    """Serve ``axes`` positions on ``port``, moved every ``cycle_s``."""
    asyncio.run(_serve_opcua(machine, machine_random(machine, site)))


def opcua_client(machine: Machine, site: Site, _folder: Path) -> None:
    """Subscribe to the axes of ``server`` at ``publish_ms``, and read them all every ``read_s``."""
    rng = machine_random(machine, site)
    wait, server = retry_pauses(machine, rng), machine.settings["server"]
    while True:
        start_s = time.monotonic()
        try:
            address = find_address(machine, site, server)
            asyncio.run(_follow(machine, f"opc.tcp://{address}:{machine.settings['port']}", rng))
        except (OSError, ua.UaError, asyncio.CancelledError) as error:
            log.warning("%s: session lost: %s", server, error or type(error).__name__)
            if time.monotonic() - start_s > 30:  # it had been connected
                wait = retry_pauses(machine, rng)
        time.sleep(next(wait))


async def _serve_opcua(machine: Machine, rng: Random) -> None:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://0.0.0.0:{machine.settings['port']}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(_NAMESPACE)
    robot = await server.nodes.objects.add_object(index, "Robot")
    axes = [
        await robot.add_variable(node, f"Axis{number}", 0.0)
        for number, node in enumerate(_axes(machine, index), 1)
    ]
    turn_s = [rng.uniform(3, 12) for _ in axes]
    async with server:
        log.info("OPC UA server on port %d", machine.settings["port"])
        while True:
            for axis, turn in zip(axes, turn_s, strict=True):
                await axis.write_value(90 * math.sin(2 * math.pi * time.monotonic() / turn))
            await asyncio.sleep(machine.settings["cycle_s"])


async def _follow(machine: Machine, url: str, rng: Random) -> None:
    """Hold one session until it fails."""
    async with Client(url, timeout=machine.settings.get("timeout_s", 4.0)) as client:
        index = await client.get_namespace_index(_NAMESPACE)
        axes = [client.get_node(node) for node in _axes(machine, index)]
        more = [client.get_node(node) for node in machine.settings.get("also_read", [])]
        subscription = await client.create_subscription(machine.settings["publish_ms"], _Discard())
        await subscription.subscribe_data_change(axes)
        log.info("connected to %s, %d axes", machine.settings["server"], len(axes))
        while True:
            await asyncio.sleep(machine.settings["read_s"] * (1 + rng.uniform(-0.1, 0.1)))
            for answer in await client.read_attributes([*axes, *more], ua.AttributeIds.Value):
                if answer.StatusCode is not None and not answer.StatusCode.is_good():
                    log.error("a value is refused: %s", answer.StatusCode.name)
            for node in machine.settings.get("written", []):
                try:
                    await client.get_node(node).write_value(0.0)
                except ua.UaStatusCodeError as error:
                    log.error("%s is not written: %s", node, type(error).__name__)


def _axes(machine: Machine, index: int) -> list[ua.NodeId]:
    count = machine.settings["axes"]
    return [ua.NodeId.from_string(f"ns={index};s=Axis{number}") for number in range(1, count + 1)]


class _Discard:
    def datachange_notification(self, _node: Node, _value: Any, _data: Any) -> None:
        """Forget what a subscription reports: a real MES would book it."""
