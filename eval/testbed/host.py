"""The machine that a lab runs on: whether it can, and how processes get into namespaces."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from traffic.errors import UserError

DEBIAN = "iproute2 nftables tcpdump nmap hping3 mosquitto dnsmasq-base chrony openssh-server openssh-client"
_TOOLS = "ip tc nft tcpdump nmap hping3 mosquitto dnsmasq chronyd sshd ssh unshare setpriv"
_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork"]
_CLONE_NEWNET = 0x40000000


def check_host() -> None:
    """Refuse at once where a lab cannot run.

    Raises:
        UserError: not Linux, not root, namespaces are forbidden, or a tool is missing; all missing
            ones are named.
    """
    if sys.platform != "linux":
        raise UserError(
            f"the testbed needs Linux's network namespaces; this is {sys.platform}; run it on Linux"
        )
    if os.geteuid() != 0:
        raise UserError(
            "the testbed makes network namespaces; "
            f"expected root, not user {os.geteuid()}; run it with sudo"
        )
    if missing := [tool for tool in _TOOLS.split() if which(tool) is None]:
        raise UserError(
            f"the testbed needs {', '.join(missing)}; expected on the path; "
            f"`apt-get install -y {DEBIAN}`"
        )
    probe = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True)
    if probe.returncode:
        raise UserError(
            f"this machine forbids namespaces ({probe.stderr.strip()}); expected unshare to work; "
            "in a container, start it with the capability SYS_ADMIN"
        )


def enter(module: str, arguments: Sequence[str]) -> int:
    """Run ``python -m module arguments`` as the first process of a lab's namespaces.

    An interruption is passed on and waited for, so that the run inside can say that it is
    incomplete; whatever is left then is killed with its process namespace, as all of it is where
    this process is killed.

    Returns:
        Its exit status.
    """
    command = ["setpriv", "--pdeathsig", "KILL", *_UNSHARE, "--kill-child", "--mount-proc"]
    command += [sys.executable, "-m", module, *arguments]
    # A session of its own, lest a terminal interrupts it as well, in the middle of writing what it
    # was told to write.
    process = subprocess.Popen(command, start_new_session=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                for child in children.read_text().split():
                    os.kill(int(child), signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


def join_namespace(path: Path) -> None:
    """Move this process, which must have one thread, into a machine's network namespace."""
    with path.open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")
