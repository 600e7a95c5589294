"""Controllers: Modbus servers with a live process behind their registers, and a gateway to serial
units.

    register   0 level      1 temperature   2 inflow   3 outflow   4 inlet valve   5 outlet valve   6 heater
               7 level wanted   8 temperature wanted   9 seconds running   10 alarms   11... recipe
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

from eval.testbed.programs.infrastructure import find, send, send_batches
from eval.testbed.programs.process import beats, dice_of, pauses
from eval.testbed.site import Machine, Site

# OPC UA: a robot that serves its axes, and the MES that subscribes to them and reads them now and
# then.

log = logging.getLogger(__name__)

_NAMESPACE = "urn:plant:robot"


def opcua_server(machine: Machine, site: Site, folder: Path) -> None:
    """Serve ``axes`` positions on ``port``, moved every ``cycle_s``."""
    del folder
    asyncio.run(_serve_opcua(machine, dice_of(machine, site)))


def opcua_client(machine: Machine, site: Site, folder: Path) -> None:
    """Subscribe to the axes of ``server`` at ``publish_ms``, and read them all every ``read_s``,
    for ever."""
    del folder
    dice = dice_of(machine, site)
    wait = pauses(machine, dice)
    while True:
        start_s = time.monotonic()
        try:
            url = f"opc.tcp://{find(machine, site, machine.settings['server'])}:{machine.settings['port']}"
            asyncio.run(_follow(machine, url, dice))
        except (OSError, ua.UaError, asyncio.CancelledError) as error:
            log.warning(
                "%s: session lost: %s", machine.settings["server"], error or type(error).__name__
            )
            if time.monotonic() - start_s > 30:  # it had been connected
                wait = pauses(machine, dice)
        time.sleep(next(wait))


async def _serve_opcua(machine: Machine, dice: Random) -> None:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://0.0.0.0:{machine.settings['port']}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(_NAMESPACE)
    robot = await server.nodes.objects.add_object(index, "Robot")
    names = [f"Axis{number}" for number in range(1, machine.settings["axes"] + 1)]
    axes = [
        await robot.add_variable(ua.NodeId.from_string(f"ns={index};s={name}"), name, 0.0)
        for name in names
    ]
    turn_s = [dice.uniform(3, 12) for _ in axes]
    async with server:
        log.info("OPC UA server on port %d", machine.settings["port"])
        while True:
            for axis, turn in zip(axes, turn_s, strict=True):
                await axis.write_value(90 * math.sin(2 * math.pi * time.monotonic() / turn))
            await asyncio.sleep(machine.settings["cycle_s"])


async def _follow(machine: Machine, url: str, dice: Random) -> None:
    """Hold one session until it fails."""
    async with Client(url, timeout=machine.settings.get("timeout_s", 4.0)) as client:
        index = await client.get_namespace_index(_NAMESPACE)
        names = [f"Axis{number}" for number in range(1, machine.settings["axes"] + 1)]
        axes = [client.get_node(ua.NodeId.from_string(f"ns={index};s={name}")) for name in names]
        subscription = await client.create_subscription(machine.settings["publish_ms"], _Changes())
        await subscription.subscribe_data_change(axes)
        log.info("connected to %s, %d axes", machine.settings["server"], len(axes))
        while True:
            await asyncio.sleep(machine.settings["read_s"] * (1 + dice.uniform(-0.1, 0.1)))
            await client.read_values(axes)


class _Changes:
    """What a subscription reports is taken and forgotten: the MES would book it."""

    def datachange_notification(self, node: Node, value: Any, data: Any) -> None:
        del node, value, data


# Those who ask controllers: HMIs every second, the historian slowly and widely, an engineer now and
# then.

_MOST_REGISTERS = 125  # of one request, Modbus application protocol 1.1b3, 6.3


def hmi(machine: Machine, site: Site, folder: Path) -> None:
    """Poll what is ``polled`` every ``poll_s``, and write a setpoint about every ``write_s``."""
    del folder
    _all_at_once(
        [
            threading.Thread(target=_poll, args=(machine, site, entry, None))
            for entry in _polled(machine)
        ]
    )


def historian(machine: Machine, site: Site, folder: Path) -> None:
    """Poll many registers slowly, and store what came in batches of ``write_s`` on the recorder's
    file service."""
    del folder
    rows: list[Any] = []
    threads = [
        threading.Thread(target=_poll, args=(machine, site, entry, rows))
        for entry in _polled(machine)
    ]
    sending = (
        machine,
        site,
        rows,
        machine.settings["store"],
        "PUT",
        "/history",
        machine.settings["write_s"],
    )
    _all_at_once([*threads, threading.Thread(target=send_batches, args=sending)])


def workstation(machine: Machine, site: Site, folder: Path) -> None:
    """An engineer's computer: names looked up, pages fetched, a controller read, at an irregular
    ``pace_s``."""
    del folder
    dice = dice_of(machine, site)
    # Nobody has the last name, and yet every browser asks for it.
    known = [*(other.name for other in site.having("historian", "mes", "recorder")), "wpad"]
    while True:
        time.sleep(dice.expovariate(1 / machine.settings["pace_s"]))
        host = dice.choice(machine.settings["hosts"])
        try:
            if dice.random() < 0.3 and machine.settings["polled"]:
                _read_once(machine, site, dice.choice(machine.settings["polled"]))
            elif dice.random() < 0.5:
                find(machine, site, dice.choice(known))
            else:
                _browse(
                    machine,
                    site,
                    host,
                    [dice.randint(500, 60000) for _ in range(dice.randint(1, 4))],
                )
        except (OSError, http.client.HTTPException, ModbusException) as error:
            log.warning("%s", _what_failed(error))


def _polled(machine: Machine) -> list[Mapping[str, Any]]:
    return list(machine.settings["polled"])


def _all_at_once(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _poll(machine: Machine, site: Site, entry: Mapping[str, Any], rows: list[Any] | None) -> None:
    """Connect, read at the machine's rhythm until that fails, wait, and again, for ever."""
    dice = dice_of(machine, site)
    dice.seed(f"{machine.name} {entry}")
    wait = pauses(machine, dice)
    while True:
        try:
            with _connect(machine, site, entry) as client:
                log.info("connected to %s", entry["name"])
                wait = pauses(machine, dice)
                for now_s in beats(machine.settings["poll_s"], dice):
                    values = _read(client, entry)
                    if rows is not None:
                        rows.append([round(now_s, 3), entry["name"], *values])
                    if (
                        entry.get("setpoints")
                        and dice.random() < machine.settings["poll_s"] / entry["write_s"]
                    ):
                        _write(
                            client, entry, dice.choice(entry["setpoints"]), dice.randint(300, 700)
                        )
        except (OSError, ModbusException) as error:
            log.warning("poll of %s failed: %s", entry["name"], _what_failed(error))
        time.sleep(next(wait))


def _connect(machine: Machine, site: Site, entry: Mapping[str, Any]) -> ModbusTcpClient:
    """A client that is connected; it sends a request again ``retries`` times before the poll counts
    as failed."""
    client = ModbusTcpClient(
        find(machine, site, entry["name"]),
        port=entry["port"],
        timeout=machine.settings.get("timeout_s", 2.0),
        retries=machine.settings.get("retries", 1),
    )
    if not client.connect():
        raise OSError(f"no connection to port {entry['port']}")
    return client


def _read(client: ModbusTcpClient, entry: Mapping[str, Any]) -> list[int]:
    """The registers of an entry, in as many requests as they take; an exception is logged and costs
    its values."""
    last = entry["address"] + entry["count"]
    registers: list[int] = []
    for address in range(entry["address"], last, _MOST_REGISTERS):
        count = min(_MOST_REGISTERS, last - address)
        read = (
            client.read_input_registers
            if entry.get("function") == 4
            else client.read_holding_registers
        )
        answer = read(address, count=count, device_id=entry["unit"])
        if answer.isError():
            log.warning(
                "%s unit %d: exception %d", entry["name"], entry["unit"], answer.exception_code
            )
        registers += answer.registers
    return registers


def _write(client: ModbusTcpClient, entry: Mapping[str, Any], register: int, value: int) -> None:
    answer = client.write_register(register, value, device_id=entry["unit"])
    log.info(
        "%s: setpoint %d to %d%s",
        entry["name"],
        register,
        value,
        " refused" if answer.isError() else "",
    )


def _what_failed(error: Exception) -> str:
    """In a device's words; the library's say where in its own code it was."""
    if isinstance(error, ConnectionException):
        return "connection lost"
    return "no answer" if isinstance(error, ModbusException) else str(error)


def _read_once(machine: Machine, site: Site, entry: Mapping[str, Any]) -> None:
    with _connect(machine, site, entry) as client:
        for _ in range(3):
            _read(client, entry)
            time.sleep(1)


def _browse(machine: Machine, site: Site, host: str, sizes: list[int]) -> None:
    for size in sizes:
        send(machine, site, {"host": host, "port": 80}, "GET", f"/pages/{size}")


SETPOINTS = (7, 8)


class Tank:
    """A heated tank with a valve at either end; it moves on when it is looked at."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._since = self._now = time.monotonic()
        self.level, self.temperature = dice.uniform(30, 70), dice.uniform(20, 60)
        self._size, self._demand = dice.uniform(20, 200), dice.uniform(0.2, 0.6)

    def move(self, registers: list[int]) -> None:
        """Advance the process to now, by the setpoints in the registers, and write its state into
        them."""
        ahead_s = min(time.monotonic() - self._now, 60.0)
        self._now = time.monotonic()
        level_wanted, temperature_wanted = (registers[setpoint] / 10 for setpoint in SETPOINTS)
        inlet = _within(self._demand + 0.05 * (level_wanted - self.level), 0, 1)
        heater = _within(0.3 + 0.1 * (temperature_wanted - self.temperature), 0, 1)
        flow = self._demand * (1 + self._dice.uniform(-0.05, 0.05))
        self.level = _within(self.level + (inlet - flow) * 100 / self._size * ahead_s, 0, 100)
        self.temperature += ((heater - 0.3) * 0.5 + self._dice.uniform(-0.05, 0.05)) * ahead_s
        self.temperature = _within(self.temperature, 5, 120)
        alarms = (self.level > 95) | (self.level < 5) << 1 | (self.temperature > 100) << 2
        state = [
            self.level * 10,
            self.temperature * 10,
            inlet * 900,
            flow * 900,
            inlet * 1000,
            flow * 1000,
            heater * 1000,
        ]
        registers[:7] = [round(value) for value in state]
        registers[9:11] = [int(self._now - self._since) % 65536, int(alarms)]


def plc(machine: Machine, site: Site, folder: Path) -> None:
    """Serve one unit's registers; ``exceptions`` of the requests are answered with exception 4,
    device failure."""
    del folder
    dice = dice_of(machine, site)
    action = partial(_answer, machine, Tank(dice), dice)
    device = _device(machine.settings["unit"], machine.settings.get("registers", 60), dice, action)
    silent = bool(machine.settings.get("ignores_other_units"))
    asyncio.run(_serve(machine.settings.get("port", 502), [device], silent))


def modbus_gateway(machine: Machine, site: Site, folder: Path) -> None:
    """Serve the units of a serial line one after another; a dead one costs a time-out, then
    exception 0x0B."""
    del folder
    dice = dice_of(machine, site)
    asyncio.run(_serve_line(machine, dice))


async def _serve_line(machine: Machine, dice: Random) -> None:
    line = asyncio.Lock()
    count = machine.settings.get("registers", 40)
    devices = [
        _device(unit, count, dice, partial(_relay, machine, unit, line, Tank(dice), dice))
        for unit in machine.settings["units"]
    ]
    await _serve(machine.settings.get("port", 502), devices, silent=False)


async def _serve(port: int, devices: list[SimDevice], silent: bool) -> None:
    """Serve the devices; a request for any other unit meets silence, or exception 0x0B as a gateway
    says it."""
    others = SimDevice(0, [SimData(0, count=65536, datatype=DataType.REGISTERS)], action=_nobody)
    server = ModbusTcpServer(
        [*devices, others],
        address=("", port),
        ignore_missing_devices=silent,
        trace_connect=_connected,
    )
    log.info("Modbus server on port %d, units %s", port, [device.id for device in devices])
    await server.serve_forever()


async def _answer(machine: Machine, tank: Tank, dice: Random, *request: Any) -> ExcCodes | None:
    """What pymodbus calls before it reads or writes: function, start, address, count, registers,
    values to write."""
    function, _, address, _, registers, values = request
    await asyncio.sleep(
        dice.uniform(0, machine.settings.get("scan_s", 0.01))
    )  # until the scan cycle ends
    if dice.random() < machine.settings.get("exceptions", 0.0):
        log.error("device failure, function %d refused", function)
        return ExcCodes.DEVICE_FAILURE
    if values:
        log.info("register %d set to %s", address, list(values))
    tank.move(registers)
    return None


async def _relay(
    machine: Machine, unit: int, line: asyncio.Lock, tank: Tank, dice: Random, *request: Any
) -> ExcCodes | None:
    async with line:
        if unit in machine.settings.get("dead", []):
            await asyncio.sleep(machine.settings.get("serial_timeout_s", 0.5))
            log.warning("serial unit %d does not answer", unit)
            return ExcCodes.GATEWAY_NO_RESPONSE
        # A request and its answer at 19,200 baud, eleven bits a byte, and the unit's own delay.
        await asyncio.sleep((13 + 2 * request[3]) * 11 / 19200 + dice.uniform(0.002, 0.01))
    return await _answer(machine, tank, dice, *request)


def _device(unit: int, count: int, dice: Random, action: partial) -> SimDevice:
    values = [dice.randrange(2000) for _ in range(max(count, 11))]
    values[7], values[8] = dice.randint(300, 700), dice.randint(200, 700)
    return SimDevice(unit, [SimData(0, values=values, datatype=DataType.REGISTERS)], action=action)


async def _nobody(*request: Any) -> ExcCodes | None:
    raise NoSuchIdException(f"function {request[0]} for a unit that is not there")


def _connected(up: bool) -> None:
    log.info("client %s", "connected" if up else "disconnected")


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
