"""Is this machine ready? One finding per question, each with what to do."""

import importlib.metadata
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from assistant.offline import FLAGS
from assistant.session import load_models, open_knowledge, read_plant
from assistant.settings import Settings
from traffic.errors import UserError

_CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
_FREE_BYTES = 500_000_000  # a knowledge base of a few thousand pages, its rebuild beside it, and a year of history
_MEMORY_BYTES = 2_000_000_000  # torch, the pocket model and a capture of a million flows


@dataclass(frozen=True)
class Finding:
    """One answer: ``note`` is worth knowing and needs nothing, ``problem`` stops something from
    working."""

    subject: str
    state: Literal["ok", "note", "problem"]
    words: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything a command will need, in the order in which it needs it."""
    return [
        Finding("python", "ok", sys.version.split()[0]),
        *_packages(_CONSTRAINTS),
        _machine(),
        _offline(),
        _home(settings.home),
        _model(settings),
        _knowledge(settings),
        _plant(settings),
        _writer(settings),
    ]


def render_findings(findings: list[Finding]) -> str:
    """A line each; the word stands first, so that it reads without colour."""
    return "\n".join(
        f"{one.state:<8} {one.subject}: {one.words}{'; ' + one.remedy if one.remedy else ''}"
        for one in findings
    )


def _packages(constraints: Path) -> list[Finding]:
    """Missing and too old packages are problems; another version than the tested one is a note."""
    wrong = [finding for need in _needs() if (finding := _package(need))]
    tested = _pins(constraints) if constraints.is_file() else {}
    differ = sorted(
        f"{name} {have} (tested {pin})"
        for name, pin in tested.items()
        if (have := _version(name)) not in (None, pin)
    )
    if differ:
        words = f"{len(differ)} of {len(tested)} differ from the tested versions: {', '.join(differ[:3])}"
        remedy = "pip install -c constraints.txt -e ."
        return [*wrong, Finding("packages", "note", words, remedy)]
    compared = (
        f"{len(tested)} tested versions"
        if tested
        else "no constraints.txt here, so only minimum versions"
    )
    return wrong or [Finding("packages", "ok", f"as needed ({compared} compared)")]


def _needs() -> list[tuple[str, str]]:
    """(name, minimum) of every package that faultwise always needs."""
    wanted = [
        need for need in importlib.metadata.requires("faultwise") or [] if "extra ==" not in need
    ]
    return [
        (name, least)
        for need in wanted
        for name, least in re.findall(r"^([\w.-]+)\s*>=\s*([\w.]+)", need)
    ]


def _package(need: tuple[str, str]) -> Finding | None:
    name, least = need
    have = _version(name)
    if have is None:
        return Finding(
            "packages", "problem", f"{name} is missing", f"pip install -c constraints.txt {name}"
        )
    if _numbers(have) < _numbers(least):
        return Finding(
            "packages",
            "problem",
            f"{name} {have} is older than {least}",
            f"pip install '{name}>={least}'",
        )
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


def _machine() -> Finding:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    words = f"{os.cpu_count()} cores, {memory / 1e9:.1f} GB of memory"
    if memory < _MEMORY_BYTES:
        return Finding("machine", "problem", words, f"{_MEMORY_BYTES / 1e9:.0f} GB are needed")
    return Finding("machine", "ok", words)


def _offline() -> Finding:
    unset = [name for name, value in FLAGS.items() if os.environ.get(name) != value]
    if unset:
        return Finding(
            "offline",
            "problem",
            f"not set: {', '.join(unset)}",
            "start through the faultwise command",
        )
    return Finding("offline", "ok", f"{len(FLAGS)} flags set; the network is not needed")


def _home(home: Path) -> Finding:
    above = next(folder for folder in (home, *home.parents) if folder.is_dir())
    if not os.access(above, os.W_OK):
        return Finding(
            "home",
            "problem",
            f"{home} cannot be written",
            "name another with --home or FAULTWISE_HOME",
        )
    free = shutil.disk_usage(above).free
    words = f"{home}, {free / 1e9:.1f} GB free"
    if free < _FREE_BYTES:
        return Finding(
            "home",
            "problem",
            words,
            f"free {_FREE_BYTES / 1e9:.1f} GB, or name another with --home",
        )
    return Finding("home", "ok", words)


def _model(settings: Settings) -> Finding:
    """Loads it: the only check that finds a truncated file."""
    try:
        models = load_models(settings)
    except UserError as mistake:
        return Finding("model", "problem", str(mistake))
    return Finding(
        "model", "ok", f"{settings.adapter}, {models.card.name} of {models.card.created}"
    )


def _knowledge(settings: Settings) -> Finding:
    try:
        with open_knowledge(settings) as index:
            count, problems = len(index.list()), index.check().problems
    except UserError as mistake:
        return Finding("knowledge base", "problem", str(mistake))
    if problems:
        return Finding(
            "knowledge base", "problem", "; ".join(problems), "run `faultwise kb rebuild`"
        )
    return Finding("knowledge base", "ok", f"{count} documents, index and manifest agree")


def _plant(settings: Settings) -> Finding:
    try:
        plant = read_plant(settings)
    except UserError as mistake:
        return Finding("plant", "problem", str(mistake))
    if plant is None:
        return Finding(
            "plant",
            "note",
            "none named",
            "`faultwise plant discover CAPTURE > plant.yaml` drafts one",
        )
    return Finding("plant", "ok", f"{settings.plant}, {len(plant.devices)} devices")


def _writer(settings: Settings) -> Finding:
    """Whether the server that words the answers answers itself; a folder was loaded with the model
    already."""
    url = settings.remote_url
    if url is None:
        words = str(
            settings.writer or "no chat model: answers are composed from facts and quoted passages"
        )
        return Finding("writer", "ok" if settings.writer else "note", words)

    try:
        httpx.get(f"{url.rstrip('/')}/models", timeout=5, trust_env=False).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as trouble:
        return Finding(
            "writer",
            "problem",
            f"{url} does not answer: {trouble}",
            "start it, or drop --model-url",
        )
    return Finding("writer", "ok", f"{url} answers")
