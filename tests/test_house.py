"""The house itself: imports go one way, help is instant, nothing leaves the machine, the README
does not rot."""

import doctest
import importlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from assistant.offline import FLAGS, go_offline

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("traffic", "prompts", "knowledge_base", "assistant", "finetune", "eval")
BIN = Path(sys.executable).parent


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=120
    )


def tracked(*patterns: str) -> list[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: what belongs to the repository is unknown")
    return run("git", "ls-files", "--", *patterns).stdout.splitlines()


@pytest.mark.parametrize(
    "command",
    [("lint-imports", "--no-cache"), ("ruff", "check", "."), ("ruff", "format", "--check", ".")],
    ids=["imports go one way", "ruff", "format"],
)
def test_the_checkers_are_content(command: tuple[str, ...]) -> None:
    done = run(str(BIN / command[0]), *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_in_the_docstrings_are_true() -> None:
    files = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    shown = [path for path in files if "\n    >>> " in path.read_text(encoding="utf-8")]
    assert len(shown) > 50
    for path in shown:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        module = importlib.import_module(name)
        assert not doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed, name


def test_help_imports_nothing_heavy() -> None:
    heavy = {
        "torch",
        "transformers",
        "pandas",
        "numpy",
        "chromadb",
        "gradio",
        "sklearn",
        "pydantic",
        "langchain_core",
    }
    script = f"import sys; from assistant.cli.main import main; main(['--help']); print({heavy} & set(sys.modules))"
    assert run(sys.executable, "-c", script).stdout.splitlines()[-1] == "set()"


def test_importing_a_module_does_nothing() -> None:
    """No folder is made, no variable of ours is set, no thread started by any module of the house."""
    modules = [path for path in tracked(*PACKAGES) if re.fullmatch(r"\w+(/\w+)+\.py", path)]
    names = [path.removesuffix(".py").replace("/", ".") for path in modules]
    script = (
        "import importlib, os, threading\n"
        "before = dict(os.environ)\n"
        f"for name in {[name for name in names if not name.endswith('__main__')]}: importlib.import_module(name)\n"
        "changed = {name for name, value in os.environ.items() if before.get(name) != value}\n"
        "assert not [name for name in changed if name.startswith(('FAULTWISE', 'HF_', 'TRANSFORMERS'))], changed\n"
        "assert threading.active_count() == 1, threading.enumerate()"
    )
    done = run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr


def test_offline_flags_overrule_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FLAGS:
        monkeypatch.setenv(name, "something else")
    go_offline()
    assert {name: os.environ[name] for name in FLAGS} == FLAGS


def test_the_tests_cannot_leave_this_machine() -> None:
    with socket.socket() as outward, pytest.raises(ConnectionRefusedError, match=r"192\.0\.2\.1"):
        outward.connect(("192.0.2.1", 443))


def test_it_works_where_there_is_no_network(stocked_home: Path, shared: Path) -> None:
    """In a namespace without any interface that is up: models, Chroma and captures need none."""
    unshare = shutil.which("unshare")
    if unshare is None or run(unshare, "--map-root-user", "--net", "true").returncode != 0:
        pytest.skip("no namespace without network can be made here")
    faultwise = [unshare, "--map-root-user", "--net", sys.executable, "-m", "assistant.cli"]
    found = run(
        *faultwise,
        "kb",
        "search",
        "a controller does not answer ARP",
        FAULTWISE_HOME=str(stocked_home),
    )
    assert found.returncode == 0, found.stderr
    assert "ARP" in found.stdout
    log = shared / "data" / "iot23" / "44-1" / "conn.log.labeled"
    assert "192.168.1.199" in run(*faultwise, "windows", str(log)).stdout


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [
        *project["dependencies"],
        *(n for extra in project["optional-dependencies"].values() for n in extra),
    ]
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().split("\n")
    }
    assert {re.split(r"[<>=\[; ]", need)[0].lower() for need in needed} - pins == {project["name"]}


def test_the_wheel_takes_every_data_file_along() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]["package-data"]
    taken = {
        path
        for package, globs in data.items()
        for glob in globs
        for path in (ROOT / package).glob(glob)
    }
    wanted = {ROOT / path for path in tracked(*PACKAGES) if not path.endswith(".py")}
    assert wanted - taken == set()
