"""S7 controllers and the panels that ask them (python-snap7, ISO on TCP port 102)."""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snap7.client import Client
from snap7.error import S7ConnectionError, S7Error, S7ProtocolError, S7TimeoutError
from snap7.server import Server
from snap7.type import SrvArea

from eval.testbed.programs.infrastructure import find_address
from eval.testbed.programs.process import machine_random, periodic, retry_pauses
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)


def s7_server(machine: Machine, site: Site, _folder: Path) -> None:
    """Serve the data blocks ``blocks {number: bytes}``; others do not exist."""
    rng, server = machine_random(machine, site), Server(log=False)
    for number, size in machine.settings["blocks"].items():
        server.register_area(SrvArea.DB, int(number), bytearray(rng.randbytes(size)))
    server.start(machine.settings.get("port", 102))
    log.info("S7 server, blocks %s", dict(machine.settings["blocks"]))
    threading.Event().wait()


def s7_client(machine: Machine, site: Site, _folder: Path) -> None:
    """Read ``blocks [{db, start, size}]`` of ``server`` every ``poll_s``; stop it at ``stop_at_s``.

    A block that is written has ``write_s`` too: about how often.
    """
    rng, settings, begun_s = machine_random(machine, site), machine.settings, time.monotonic()
    wait, stop_at_s = retry_pauses(machine, rng), settings.get("stop_at_s")
    while True:
        client = Client()
        try:
            address = find_address(machine, site, settings["server"])
            client.connect(address, 0, settings.get("slot", 1), settings.get("port", 102))
            log.info(
                "connected to %s, %s", settings["server"], client.get_cpu_info().ModuleTypeName
            )
            wait = retry_pauses(machine, rng)
            for _ in periodic(settings["poll_s"], rng):
                for block in settings["blocks"]:
                    _read(client, block)
                    if rng.random() < settings["poll_s"] / block.get("write_s", float("inf")):
                        client.db_write(block["db"], block["start"], bytearray(rng.randbytes(2)))
                if stop_at_s is not None and time.monotonic() - begun_s > stop_at_s:
                    client.plc_stop()
                    log.warning("%s stopped", settings["server"])
                    stop_at_s = None
        except (OSError, S7Error) as error:
            log.warning("%s: session lost: %s", settings["server"], error)
        finally:
            client.disconnect()
        time.sleep(next(wait))


def _read(client: Client, block: Mapping[str, Any]) -> None:
    """Read a part of a block; what the controller refuses is logged."""
    try:
        client.db_read(block["db"], block["start"], block["size"])
    except (S7ConnectionError, S7TimeoutError):
        raise
    except S7ProtocolError as error:
        log.error("DB%d at %d: %s", block["db"], block["start"], error)
