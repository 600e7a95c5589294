"""Controllers: Modbus servers with a live process behind their registers, and a gateway to serial units.

    register   0 level      1 temperature   2 inflow   3 outflow   4 inlet valve   5 outlet valve   6 heater
               7 level wanted   8 temperature wanted   9 seconds running   10 alarms   11... recipe
All are tenths of a percent or of a degree; 7 and 8 are setpoints, and whatever is written to them is obeyed.
"""

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from eval.testbed.rhythm import dice_of
from eval.testbed.site import Machine, Site

__all__ = ["SETPOINTS", "Tank", "modbus_gateway", "plc"]

log = logging.getLogger(__name__)

SETPOINTS = (7, 8)


class Tank:
    """A heated tank with a valve at either end; it moves on when it is looked at."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._since = self._now = time.monotonic()
        self.level, self.temperature = dice.uniform(30, 70), dice.uniform(20, 60)
        self._size, self._demand = dice.uniform(20, 200), dice.uniform(0.2, 0.6)

    def move(self, registers: list[int]) -> None:
        """Advance the process to now, by the setpoints in the registers, and write its state into them."""
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
    """Serve one unit's registers; ``exceptions`` of the requests are answered with exception 4, device failure."""
    del folder
    dice = dice_of(machine, site)
    action = partial(_answer, machine, Tank(dice), dice)
    device = _device(machine.settings["unit"], machine.settings.get("registers", 60), dice, action)
    silent = bool(machine.settings.get("ignores_other_units"))
    asyncio.run(_serve(machine.settings.get("port", 502), [device], silent))


def modbus_gateway(machine: Machine, site: Site, folder: Path) -> None:
    """Serve the units of a serial line one after another; a dead one costs a time-out, then exception 0x0B."""
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
    """Serve the devices; a request for any other unit meets silence, or exception 0x0B as a gateway says it."""
    others = SimDevice(0, [SimData(0, count=65536, datatype=DataType.REGISTERS)], action=_nobody)
    server = ModbusTcpServer(
        [*devices, others], address=("", port), ignore_missing_devices=silent, trace_connect=_connected
    )
    log.info("Modbus server on port %d, units %s", port, [device.id for device in devices])
    await server.serve_forever()


async def _answer(machine: Machine, tank: Tank, dice: Random, *request: Any) -> ExcCodes | None:
    """What pymodbus calls before it reads or writes: function, start, address, count, registers, values to write."""
    function, _, address, _, registers, values = request
    await asyncio.sleep(dice.uniform(0, machine.settings.get("scan_s", 0.01)))  # until the scan cycle ends
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
