"""Real servers of the operating system run as a machine's program: what they say becomes lines of its log."""

import logging
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from eval.testbed.site import Machine, Site

__all__ = ["run_daemon", "ssh_server"]

log = logging.getLogger(__name__)

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
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as server:
        for line in server.stdout or ():
            log.info("%s", line.rstrip())
    log.error("%s ended with status %d", Path(command[0]).name, server.returncode)
    return server.returncode


def ssh_server(machine: Machine, site: Site) -> None:
    """Accept SSH on port 22 for root by the key in ``ssh_key``; the host key is thrown away with the folder."""
    del site
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        key = folder / "key"
        key.touch(0o600)
        key.write_text(machine.settings["ssh_key"])
        known = subprocess.run(["ssh-keygen", "-y", "-f", str(key)], check=True, capture_output=True, text=True).stdout
        (folder / "keys").write_text(known)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host")], check=True)
        (folder / "config").write_text(_SSHD.format(folder=folder))
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd leaves its privileges
        run_daemon([which("sshd") or "sshd", "-D", "-e", "-f", str(folder / "config")])
