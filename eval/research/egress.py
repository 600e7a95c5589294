"""Every command in a network namespace with loopback alone, traced: what does it try to reach?

    python -m eval.research.egress [--only NAME...] [--out FILE]

Each command runs under `unshare --net` with strace on all of its processes and threads. An address
beyond loopback in connect, sendto, sendmsg or sendmmsg is a finding, whoever calls: Python, torch,
a library in C, a child. Needs Linux with unshare, ip and strace; it begins with a call that does go
out, which has to be found.
"""

import ipaddress
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.report.tables import ReportTable, render_table
from eval.research.command import Out, choose, publish, start
from traffic.errors import UserError

SAMPLES = Path(__file__).parents[2] / "assistant" / "samples"
_LINE = str(SAMPLES / "filling-line")
_PLANT = f"{_LINE}/plant.yaml"
# What runs, in words of the command line; {data} holds two labelled captures, {out} is empty.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "ask": ("ask", "why does plc-4 not answer?", "--capture", _LINE, "--plant", _PLANT),
    "kb search": ("kb", "search", "a controller does not answer ARP"),
    "monitor": ("monitor", "--replay", str(SAMPLES / "press-shop"), "--speed", "0"),
    "serve": ("serve", "--capture", _LINE, "--plant", _PLANT, "--port", "7899"),
    "doctor": ("doctor",),
    "training": (
        "finetune", "refresh", "--site", "demo", "--data", "{data}", "--plants", "0", "--per-label",
        "5", "--epochs", "1", "--max-minutes", "0.2",
    ),
    "eval": (
        "eval", "detection", "--protocol", "random", "--data", "{data}", "--models",
        "one-line-rule,knn", "--seeds", "1", "--jobs", "1", "--quick", "--out", "{out}",
    ),
}  # fmt: skip
_CALLS = "connect,sendto,sendmsg,sendmmsg"
_TO = re.compile(
    r'sin_addr=inet_addr\("([0-9.]+)"\)|inet_pton\(AF_INET6, "([0-9a-fA-F:.]+)"|sun_path="?(@?[^"]+)'
)
_SERVED_S, _PATIENCE_S = 60.0, 400.0


@dataclass(frozen=True)
class Traced:
    """What a command did: its exit status, how many calls named an address of a network, and those
    beyond loopback."""

    name: str
    status: int
    calls: int
    beyond: tuple[str, ...]


def find_addresses(trace: str) -> list[str]:
    """The addresses of networks that strace's lines name, in order.

    >>> find_addresses('connect(3, {sa_family=AF_INET, sin_addr=inet_addr("192.0.2.1")}, 16) = -1')
    ['192.0.2.1']
    """
    return [first or second for first, second, _ in _TO.findall(trace) if first or second]


def is_beyond(address: str) -> bool:
    """Whether an address is not of this machine itself.

    >>> is_beyond("127.0.0.53"), is_beyond("::1"), is_beyond("0.0.0.0"), is_beyond("10.0.0.1")
    (False, False, False, True)
    """
    one = ipaddress.ip_address(address)
    mapped = getattr(one, "ipv4_mapped", None)
    return not (one.is_loopback or one.is_unspecified or (mapped and mapped.is_loopback))


def trace(name: str, words: Sequence[str], folder: Path) -> Traced:
    """Run a command in a namespace with loopback alone; a server for a while.

    Raises:
        UserError: this machine has no unshare, ip or strace, or may not make a namespace.
    """
    missing = [one for one in ("unshare", "ip", "strace") if shutil.which(one) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is missing here; expected Linux with it; install it")
    log = folder / f"{name.replace(' ', '-')}.trace"
    inside = f'ip link set lo up && exec strace -f -qq --seccomp-bpf -e trace={_CALLS} -o "$0" "$@"'
    command = ["unshare", "--map-root-user", "--net", "sh", "-c", inside, str(log), *words]
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            status = process.wait(_SERVED_S if name == "serve" else _PATIENCE_S)
        except subprocess.TimeoutExpired:
            # Its whole session: a server outlives the shell that began it.
            os.killpg(process.pid, signal.SIGTERM)
            time.sleep(1.0)
            os.killpg(process.pid, signal.SIGKILL)
            status = 0 if name == "serve" else -signal.SIGKILL
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    found = find_addresses(text)
    return Traced(name, status, len(found), tuple(dict.fromkeys(filter(is_beyond, found))))


def trace_all(names: Sequence[str], folder: Path) -> list[Traced]:
    """First a call that goes out, which has to be seen; then the commands."""
    out = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))"
    known = trace("a call that goes out", (sys.executable, "-c", out), folder)
    if known.beyond != ("192.0.2.1",):
        raise UserError(
            f"a call to 192.0.2.1 was seen as {known.beyond}; expected it; see whether strace may "
            "trace and unshare make a namespace here"
        )
    data = folder / "data"
    data.mkdir()
    for sample in ("press-shop", "tank-farm"):
        shutil.copytree(SAMPLES / sample, data / sample)
    places = {"{data}": str(data), "{out}": str(folder / "out")}
    found = [known]
    for name in names:
        words = [places.get(word, word) for word in COMMANDS[name]]
        home = ["--home", str(folder / "home")]
        found.append(trace(name, (sys.executable, "-m", "assistant.cli", *words, *home), folder))
        sys.stderr.write(f"{found[-1]}\n")
    return found


def render_traced(found: Sequence[Traced]) -> str:
    """Markdown: a row a command."""
    rows = tuple(
        (one.name, str(one.status), str(one.calls), ", ".join(one.beyond) or "none")
        for one in found
    )
    heads = ("command", "exit", "calls that name an address", "beyond loopback")
    note = (
        "Made by `python -m eval.research.egress`; the first row is the check of the check: a call "
        "that does go out."
    )
    return render_table(ReportTable("What is called without a network", heads, rows, notes=(note,)))


def main(only: list[str] | None = None, out: Out = None) -> None:
    """Trace commands, all by default, and print or write the table; exit 1 where one called out."""
    with tempfile.TemporaryDirectory() as folder:
        found = trace_all(choose(only, list(COMMANDS)), Path(folder))
    publish(render_traced(found) + "\n", out)
    sys.exit(1 if any(one.beyond for one in found[1:]) else 0)


if __name__ == "__main__":
    start(main)
