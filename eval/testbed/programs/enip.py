"""EtherNet/IP devices and who asks them (cpppo: CIP in UCMM over TCP port 44818).

cpppo is under the GPL: it runs in the lab's own processes and is an extra of its own.
"""

import logging
import time
from pathlib import Path

from cpppo.server.enip import client, defaults
from cpppo.server.enip.get_attribute import attribute_operations
from cpppo.server.enip.main import main as serve

from eval.testbed.programs.infrastructure import find_address
from eval.testbed.programs.process import machine_random, periodic, retry_pauses
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

PORT = defaults.address[1]


def enip_server(machine: Machine, _site: Site, _folder: Path) -> None:
    """Serve ``tags {name: "DINT[10]"}`` on ``port``."""
    port = machine.settings.get("port", PORT)
    tags = [f"{name}={kind}" for name, kind in machine.settings["tags"].items()]
    log.info("EtherNet/IP server on port %d, tags %s", port, tags)
    serve(argv=["--no-config", "-a", f"0.0.0.0:{port}", *tags])


def enip_client(machine: Machine, site: Site, _folder: Path) -> None:
    """Read ``tags`` (``SPEED[0-3]``, or ``@class/instance/attribute``) every ``poll_s``."""
    rng, settings = machine_random(machine, site), machine.settings
    wait = retry_pauses(machine, rng)
    while True:
        try:
            address = find_address(machine, site, settings["server"])
            timeout_s = settings.get("timeout_s", 4.0)
            with client.connector(
                host=address, port=settings.get("port", PORT), timeout=timeout_s
            ) as session:
                log.info("connected to %s", settings["server"])
                wait = retry_pauses(machine, rng)
                for _ in periodic(settings["poll_s"], rng):
                    for tag in settings["tags"]:
                        _read(session, tag, timeout_s)
        # cpppo raises these where a session ends or an answer is not what it was asked for.
        except (OSError, AssertionError, StopIteration, client.ENIPStatusError) as error:
            log.warning("%s: session lost: %s", settings["server"], type(error).__name__)
        time.sleep(next(wait))


def _read(session: client.connector, tag: str, timeout_s: float) -> None:
    make = attribute_operations if tag.startswith("@") else client.parse_operations
    replies = session.pipeline(operations=make([tag]), depth=1, timeout=timeout_s)
    for _, name, _, _, status, _ in replies:
        if status:
            log.error("%s: CIP status %s", name, status)
