"""What all programs share: random numbers, periods, retries, and servers of the system."""

import logging
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from shutil import which

from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

# ---- When a machine does things, and how long it waits after failures in a row ----

_RETRY = {"first_s": 5.0, "factor": 1.0, "most_s": 60.0, "jitter": 0.1}


def machine_random(machine: Machine, site: Site, what: object = "") -> Random:
    """Random numbers of one machine, and where it does several things at once, of one of them.

    Two of a kind do not act in step, and the same site acts the same again.
    """
    seed = f"{machine.name} {what}" if what else f"{site.seed} {machine.name}"
    return Random(seed)  # noqa: S311 - a rhythm, not a secret


def periodic(period_s: float, rng: Random, jitter: float = 0.02) -> Iterator[float]:
    """Sleep from period to period and yield the time of each, first after a random part of one.

    What takes longer than a period costs the periods that it misses, as in a device's own loop.
    """
    due = time.monotonic() + rng.random() * period_s
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        yield time.time()
        due = max(due + period_s * (1 + rng.uniform(-jitter, jitter)), time.monotonic())


def retry_pauses(machine: Machine, rng: Random) -> Iterator[float]:
    """Seconds to wait after each failure in a row, from the machine's ``retry``.

    Examples:
        >>> from itertools import islice
        >>> retry = {"first_s": 2, "factor": 3, "most_s": 15, "jitter": 0}
        >>> machine = Machine("a", "plc", "", "", settings={"retry": retry})
        >>> list(islice(retry_pauses(machine, Random(1)), 4))
        [2.0, 6.0, 15.0, 15.0]
    """
    retry = _RETRY | machine.settings.get("retry", {})
    wait = float(retry["first_s"])
    while True:
        yield wait * (1 + rng.uniform(-1, 1) * retry["jitter"])
        wait = min(wait * retry["factor"], float(retry["most_s"]))


def longest_retry_pause_s(machine: Machine, failing_s: float) -> float:
    """How long a machine may wait for its next attempt after failing for a time.

    Examples:
        >>> retry = {"first_s": 2, "factor": 3, "most_s": 30, "jitter": 0}
        >>> machine = Machine("a", "plc", "", "", settings={"retry": retry})
        >>> longest_retry_pause_s(machine, 10.0)  # after pauses of 2 and 6 s
        18.0
    """
    retry = _RETRY | machine.settings.get("retry", {})
    wait = passed = float(retry["first_s"])
    while passed <= failing_s and wait < retry["most_s"] and retry["factor"] > 1:
        wait = min(wait * retry["factor"], float(retry["most_s"]))
        passed += wait
    return wait * (1 + retry["jitter"])


# ---- Real servers of the operating system: what they print becomes lines of the machine's log ----

_SSHD = """\
Port 22
HostKey {folder}/host
AuthorizedKeysFile {folder}/keys
PidFile none
PermitRootLogin yes
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""


def run_daemon(command: Sequence[str]) -> int:
    """Run a server that stays in the foreground until it ends; returns its exit status."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as server:
        for line in server.stdout or ():
            log.info("%s", line.rstrip())
    log.error("%s ended with status %d", Path(command[0]).name, server.returncode)
    return server.returncode


def ssh_server(machine: Machine, _site: Site) -> None:
    """Accept SSH on port 22 for root by the key in ``ssh_key``; the host key is made anew."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        key, config = folder / "key", folder / "config"
        key.touch(0o600)
        key.write_text(machine.settings["ssh_key"])
        public = ["ssh-keygen", "-y", "-f", str(key)]
        with (folder / "keys").open("wb") as known:
            subprocess.run(public, check=True, stdout=known)
        host = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host")]
        subprocess.run(host, check=True)
        config.write_text(_SSHD.format(folder=folder))
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd leaves its privileges
        run_daemon([which("sshd") or "sshd", "-D", "-e", "-f", str(config)])
