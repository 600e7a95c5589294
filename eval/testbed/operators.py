"""Those who ask controllers: HMIs every second, the historian slowly and widely, an engineer now and then."""

import http.client
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException

from eval.testbed.cloud import send, send_batches
from eval.testbed.names import find
from eval.testbed.rhythm import beats, dice_of, pauses
from eval.testbed.site import Machine, Site

__all__ = ["historian", "hmi", "workstation"]

log = logging.getLogger(__name__)

_MOST_REGISTERS = 125  # of one request, Modbus application protocol 1.1b3, 6.3


def hmi(machine: Machine, site: Site, folder: Path) -> None:
    """Poll what is ``polled`` every ``poll_s``, and write a setpoint about every ``write_s``."""
    del folder
    _all_at_once([threading.Thread(target=_poll, args=(machine, site, entry, None)) for entry in _polled(machine)])


def historian(machine: Machine, site: Site, folder: Path) -> None:
    """Poll many registers slowly, and store what came in batches of ``write_s`` on the recorder's file service."""
    del folder
    rows: list[Any] = []
    threads = [threading.Thread(target=_poll, args=(machine, site, entry, rows)) for entry in _polled(machine)]
    sending = (machine, site, rows, machine.settings["store"], "PUT", "/history", machine.settings["write_s"])
    _all_at_once([*threads, threading.Thread(target=send_batches, args=sending)])


def workstation(machine: Machine, site: Site, folder: Path) -> None:
    """An engineer's computer: names looked up, pages fetched, a controller read, at an irregular ``pace_s``."""
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
                _browse(machine, site, host, [dice.randint(500, 60000) for _ in range(dice.randint(1, 4))])
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
            with _connected(machine, site, entry) as client:
                log.info("connected to %s", entry["name"])
                wait = pauses(machine, dice)
                for now_s in beats(machine.settings["poll_s"], dice):
                    values = _read(client, entry)
                    if rows is not None:
                        rows.append([round(now_s, 3), entry["name"], *values])
                    if entry.get("setpoints") and dice.random() < machine.settings["poll_s"] / entry["write_s"]:
                        _write(client, entry, dice.choice(entry["setpoints"]), dice.randint(300, 700))
        except (OSError, ModbusException) as error:
            log.warning("poll of %s failed: %s", entry["name"], _what_failed(error))
        time.sleep(next(wait))


def _connected(machine: Machine, site: Site, entry: Mapping[str, Any]) -> ModbusTcpClient:
    """A client that is connected; it sends a request again ``retries`` times before the poll counts as failed."""
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
    """The registers of an entry, in as many requests as they take; an exception is logged and costs its values."""
    last = entry["address"] + entry["count"]
    registers: list[int] = []
    for address in range(entry["address"], last, _MOST_REGISTERS):
        count = min(_MOST_REGISTERS, last - address)
        read = client.read_input_registers if entry.get("function") == 4 else client.read_holding_registers
        answer = read(address, count=count, device_id=entry["unit"])
        if answer.isError():
            log.warning("%s unit %d: exception %d", entry["name"], entry["unit"], answer.exception_code)
        registers += answer.registers
    return registers


def _write(client: ModbusTcpClient, entry: Mapping[str, Any], register: int, value: int) -> None:
    answer = client.write_register(register, value, device_id=entry["unit"])
    log.info("%s: setpoint %d to %d%s", entry["name"], register, value, " refused" if answer.isError() else "")


def _what_failed(error: Exception) -> str:
    """In a device's words; the library's say where in its own code it was."""
    if isinstance(error, ConnectionException):
        return "connection lost"
    return "no answer" if isinstance(error, ModbusException) else str(error)


def _read_once(machine: Machine, site: Site, entry: Mapping[str, Any]) -> None:
    with _connected(machine, site, entry) as client:
        for _ in range(3):
            _read(client, entry)
            time.sleep(1)


def _browse(machine: Machine, site: Site, host: str, sizes: list[int]) -> None:
    for size in sizes:
        send(machine, site, {"host": host, "port": 80}, "GET", f"/pages/{size}")
