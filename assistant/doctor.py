"""Check whether this machine is ready: one result for each question, each with what to do."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import httpx

from assistant.offline import FLAGS
from assistant.registry import check_registered
from assistant.session import find_adapter, load_models, open_knowledge, read_plant
from assistant.settings import Settings
from traffic.errors import UserError

_CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
# A knowledge base of a few thousand pages, its rebuild beside it, and a year of history.
_FREE_BYTES = 500_000_000
_MEMORY_BYTES = 2_000_000_000  # torch, the pocket model and a capture of a million flows


@dataclass(frozen=True)
class Check:
    """The result of one check: a ``note`` is worth knowing, a ``problem`` stops something."""

    subject: str
    state: Literal["ok", "note", "problem"]
    words: str
    remedy: str = ""


def examine(settings: Settings) -> list[Check]:
    """Look at everything a command will need, in the order in which it needs it."""
    return [
        Check("python", "ok", sys.version.split()[0]),
        *_packages(_CONSTRAINTS),
        _machine(),
        _offline(),
        _home(settings.home),
        _model(settings),
        _knowledge(settings),
        _plant(settings),
        _writer(settings),
    ]


def render_checks(checks: list[Check]) -> str:
    """A line each; the word stands first, so that it reads without colour."""
    return "\n".join(
        f"{one.state:<8} {one.subject}: {one.words}{'; ' + one.remedy if one.remedy else ''}"
        for one in checks
    )


def _packages(constraints: Path) -> list[Check]:
    """Missing and too old packages are problems; another version than the tested one is a note."""
    wrong = [check for need in _needs() if (check := _package(*need))]
    tested = _pins(constraints) if constraints.is_file() else {}
    versions = {name: _version(name) for name in tested}
    differ = sorted(
        f"{name} {versions[name]} (tested {pin})"
        for name, pin in tested.items()
        if versions[name] not in (None, pin)
    )
    if differ:
        count = f"{len(differ)} of {len(tested)} differ from the tested versions"
        remedy = "pip install -c constraints.txt -e ."
        return [*wrong, Check("packages", "note", f"{count}: {', '.join(differ[:3])}", remedy)]
    compared = "no constraints.txt here, so only minimum versions"
    if tested:
        compared = f"{len(tested)} tested versions"
    return wrong or [Check("packages", "ok", f"as needed ({compared} compared)")]


def _needs() -> list[tuple[str, str]]:
    """(name, minimum) of every package that faultwise always needs."""
    wanted = importlib.metadata.requires("faultwise") or []
    return [
        (name, least)
        for need in wanted
        if "extra ==" not in need
        for name, least in re.findall(r"^([\w.-]+)\s*>=\s*([\w.]+)", need)
    ]


def _package(name: str, least: str) -> Check | None:
    have = _version(name)
    if have is None:
        remedy = f"pip install -c constraints.txt {name}"
        return Check("packages", "problem", f"{name} is missing", remedy)
    if _numbers(have) < _numbers(least):
        older = f"{name} {have} is older than {least}"
        return Check("packages", "problem", older, f"pip install '{name}>={least}'")
    return None


def _version(name: str) -> str | None:
    """Without the build's tag: 2.13.0+cpu is the tested 2.13.0."""
    try:
        return importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _pins(constraints: Path) -> dict[str, str]:
    lines = (line.strip() for line in constraints.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))  # type: ignore[misc]


def _machine() -> Check:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    words = f"{os.cpu_count()} cores, {memory / 1e9:.1f} GB of memory"
    if memory < _MEMORY_BYTES:
        return Check("machine", "problem", words, f"{_MEMORY_BYTES / 1e9:.0f} GB are needed")
    return Check("machine", "ok", words)


def _offline() -> Check:
    unset = [name for name, value in FLAGS.items() if os.environ.get(name) != value]
    if unset:
        words, remedy = f"not set: {', '.join(unset)}", "start through the faultwise command"
        return Check("offline", "problem", words, remedy)
    return Check("offline", "ok", f"{len(FLAGS)} flags set; the network is not needed")


def _home(home: Path) -> Check:
    above = next(folder for folder in (home, *home.parents) if folder.is_dir())
    other = "name another with --home"
    if not os.access(above, os.W_OK):
        return Check("home", "problem", f"{home} cannot be written", f"{other} or FAULTWISE_HOME")
    free = shutil.disk_usage(above).free
    words = f"{home}, {free / 1e9:.1f} GB free"
    if free < _FREE_BYTES:
        return Check("home", "problem", words, f"free {_FREE_BYTES / 1e9:.1f} GB, or {other}")
    return Check("home", "ok", words)


def _model(settings: Settings) -> Check:
    """Checks every file of it; a writer of one's own is loaded, which shows whether it chats."""
    try:
        adapter = find_adapter(settings)
        card = check_registered(adapter, settings.model)
        if settings.writer:
            load_models(settings)
    except UserError as mistake:
        return Check("model", "problem", str(mistake))
    return Check("model", "ok", f"{adapter}, {card.name} of {card.created}")


def _knowledge(settings: Settings) -> Check:
    subject = "knowledge base"
    try:
        with open_knowledge(settings) as index:
            count, problems = len(index.list()), index.check().problems
    except UserError as mistake:
        return Check(subject, "problem", str(mistake))
    if problems:
        return Check(subject, "problem", "; ".join(problems), "run `faultwise kb rebuild`")
    return Check(subject, "ok", f"{count} documents, index and manifest agree")


def _plant(settings: Settings) -> Check:
    try:
        plant = read_plant(settings)
    except UserError as mistake:
        return Check("plant", "problem", str(mistake))
    if plant is None:
        remedy = "`faultwise plant discover CAPTURE > plant.yaml` drafts one"
        return Check("plant", "note", "none named", remedy)
    return Check("plant", "ok", f"{settings.plant}, {len(plant.devices)} devices")


def _writer(settings: Settings) -> Check:
    """Whether the server that words the answers answers itself; a folder was loaded with the model
    already."""
    url = settings.remote_url
    if url is None:
        none = "no chat model: answers are composed from facts and quoted passages"
        return Check("writer", "ok" if settings.writer else "note", str(settings.writer or none))
    try:
        httpx.get(f"{url.rstrip('/')}/models", timeout=5, trust_env=False).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as trouble:
        words = f"{url} does not answer: {trouble}"
        return Check("writer", "problem", words, "start it, or drop --model-url")
    return Check("writer", "ok", f"{url} answers")


# Run first in a process of its own: Python tells of every name that is looked up and every address
# that is called, whoever calls it (PEP 578), and no hook can be taken off again.
_WATCH = """
import ipaddress, sys
def watch(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1] if len(args) > 1 else None
        if isinstance(address, tuple):
            try:
                inside = ipaddress.ip_address(str(address[0]).split("%")[0]).is_loopback
            except ValueError:
                inside = address[0] == "localhost"
            if not inside:
                print("CALLED", event, address[0], file=sys.stderr)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and args[0] not in (
        None, "", "localhost", "127.0.0.1", "::1"
    ):
        print("CALLED", event, args[0], file=sys.stderr)
sys.addaudithook(watch)
from assistant.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
_SAMPLE = Path(__file__).with_name("samples") / "bottling-line"


def prove_offline() -> Check:
    """Answer a question about a sample in a new home, and see whether any call goes beyond this
    machine."""
    with TemporaryDirectory() as home:
        asked = ["ask", "what is wrong?", "--capture", str(_SAMPLE), "--home", home]
        command = [sys.executable, "-c", _WATCH, *asked]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return judge_calls(done.returncode, done.stderr)


def judge_calls(status: int, stderr: str) -> Check:
    """What the watched process says of calls that left this machine."""
    calls = sorted({line[7:] for line in stderr.splitlines() if line.startswith("CALLED ")})
    if calls:
        words = f"{len(calls)} calls would leave this machine: {', '.join(calls[:4])}"
        return Check("calls", "problem", words, "tell the makers of faultwise; nothing should")
    if status:
        last = (stderr.strip().splitlines() or ["nothing was said"])[-1]
        return Check("calls", "problem", f"the sample was not answered: {last[:200]}")
    return Check("calls", "ok", "a sample was answered, and nothing called beyond this machine")
