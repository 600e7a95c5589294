"""Time in the plant: the server that has it (chronyd), and how often a device asks (SNTP, RFC 4330)."""

import logging
import socket
import struct
import tempfile
import time
from pathlib import Path

from eval.testbed.names import find
from eval.testbed.programs.process import run_daemon
from eval.testbed.rhythm import beats, dice_of
from eval.testbed.site import Machine, Site

__all__ = ["ask_time", "clock_server", "keep_time"]

log = logging.getLogger(__name__)

_EPOCH_1900_S = 2_208_988_800  # from 1900, where NTP counts from, to 1970
_CHRONY = "local stratum 2\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {folder}/pid\n"


def clock_server(machine: Machine, site: Site, folder: Path) -> None:
    """Serve the host's time and leave its clock alone (``-x``)."""
    del machine, site, folder
    with tempfile.TemporaryDirectory() as own:
        config = Path(own) / "chrony.conf"
        config.write_text(_CHRONY.format(folder=own))
        run_daemon(["chronyd", "-x", "-d", "-u", "root", "-f", str(config)])


def keep_time(machine: Machine, site: Site) -> None:
    """Ask ``ntp`` for the time every ``ntp_s`` for ever; sooner again after a failure, as most devices do."""
    dice = dice_of(machine, site)
    period_s = machine.settings["ntp_s"]
    for _ in beats(period_s, dice):
        for attempt in range(3):
            try:
                offset_s = ask_time(find(machine, site, machine.settings["ntp"]))
            except OSError as error:
                log.warning("time not set: %s", error)
                time.sleep(min(4.0 * 2**attempt, period_s))
            else:
                log.debug("clock offset %.6f s", offset_s)
                break


def ask_time(server: str, timeout_s: float = 2.0) -> float:
    """The server's clock less ours, in seconds.

    Raises:
        OSError: no answer in time, or one that is no NTP.
    """
    sent_s = time.time()
    whole, part = int(sent_s) + _EPOCH_1900_S, int(sent_s % 1 * 2**32)
    question = struct.pack("!B39xII", 0x23, whole, part)  # version 4, client
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_s)
        client.connect((server, 123))
        client.send(question)
        answer = client.recv(512)
    if len(answer) < 48:
        raise OSError(f"{server} answers {len(answer)} bytes; expected 48")
    whole, part = struct.unpack("!II", answer[40:48])
    return float(whole - _EPOCH_1900_S + part / 2**32 - (sent_s + time.time()) / 2)
