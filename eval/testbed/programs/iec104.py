"""IEC 60870-5-104: stations and who asks them (c104, TCP port 2404).

c104 is under the GPL: it runs in the lab's own processes and is an extra of its own.
"""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import c104

from eval.testbed.programs.infrastructure import find_address
from eval.testbed.programs.process import machine_random, periodic
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

_PORT = 2404


def iec104_server(machine: Machine, site: Site, _folder: Path) -> None:
    """A station with ``measurands`` sent every ``period_s``, and ``commands`` it obeys.

    Both are information object addresses, ``station`` is its common address.
    """
    rng, settings = machine_random(machine, site), machine.settings
    server = c104.Server(ip="0.0.0.0", port=settings.get("port", _PORT))  # noqa: S104
    station = server.add_station(common_address=settings["station"])
    every_ms = int(settings["period_s"] * 1000)
    kind = c104.Type.M_ME_NC_1
    points = [
        station.add_point(io_address=address, type=kind, report_ms=every_ms)
        for address in settings["measurands"]
    ]
    for address in settings.get("commands", []):
        station.add_point(io_address=address, type=c104.Type.C_SC_NA_1)
    server.start()
    log.info("station %d, %d measurands", settings["station"], len(points))
    while True:
        for point in points:
            point.value = round(rng.gauss(50.0, 2.0), 2)
        time.sleep(1.0)


def iec104_client(machine: Machine, site: Site, _folder: Path) -> None:
    """Ask ``server`` for everything now and then, and command it every ``command_s``.

    ``stations`` are interrogated every ``poll_s``, ``commands`` are object addresses of the first.
    """
    rng, settings = machine_random(machine, site), machine.settings
    client = c104.Client()
    connection = client.add_connection(
        ip=find_address(machine, site, settings["server"]),
        port=settings.get("port", _PORT),
        init=c104.Init.INTERROGATION,
    )
    stations = [connection.add_station(common_address=number) for number in settings["stations"]]
    kind = c104.Type.C_SC_NA_1
    points = [
        stations[0].add_point(io_address=address, type=kind)
        for address in settings.get("commands", [])
    ]
    client.start()
    threading.Thread(target=_begin_transfer, args=(connection,), daemon=True).start()
    if points:
        threading.Thread(target=_command, args=(points, settings["command_s"], rng)).start()
    for _ in periodic(settings["poll_s"], rng):
        if connection.is_connected:
            for number in settings["stations"]:
                connection.interrogation(common_address=number)


def _begin_transfer(connection: c104.Connection) -> None:
    """Say STARTDT on each new connection (IEC 60870-5-104, 5.3), which c104 does on its first only."""
    while True:
        if connection.is_connected and connection.is_muted:
            connection.unmute()
        time.sleep(0.2)


def _command(points: Sequence[c104.Point], every_s: float, rng: Random) -> None:
    for _ in periodic(every_s, rng):
        for point in points:
            point.value = rng.random() < 0.5
            if not point.transmit(cause=c104.Cot.ACTIVATION):
                log.error("command to %d refused", point.io_address)
