"""A bundle for a machine without internet: whole, checked, installed by its own script; and whether
anything would call out."""

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from assistant.bundle import ROOT, fill, make_bundle, pack
from assistant.doctor import _WATCH, judge_calls
from traffic.errors import UserError

NO_INDEX = ("--no-index", "--find-links", "/nowhere")


def make_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel that installs one empty module."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("bundle")
    made = tmp_path / "faultwise"
    (made / "wheels").mkdir(parents=True)
    for name, version in (("faultwise", "0.1.0"), ("numpy", "2.5.1")):
        make_wheel(made / "wheels", name, version)
    manual = tmp_path / "pump.md"
    manual.write_text("# Pump\n")
    fill(made, ROOT, [manual])
    return made


@pytest.fixture
def folder(filled, tmp_path):
    return shutil.copytree(filled, tmp_path / "faultwise")


def test_every_file_is_in_the_list_of_checksums(folder, tmp_path):
    sums = (folder / "SHA256SUMS").read_text().splitlines()
    there = {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}
    assert {line.split("  ")[1] for line in sums} == there - {"SHA256SUMS"}
    assert {"manuals/pump.md", "install.sh", "sbom.json", "constraints.txt"} <= there
    first, second = (pack(folder, tmp_path / name) for name in ("a.tar", "b.tar"))
    assert first.sha256 == second.sha256
    with tarfile.open(first.path) as archive:
        assert archive.getmember("faultwise/install.sh").mode & 0o111


def test_the_list_of_parts_names_each_wheel_with_its_hash(folder):
    parts = json.loads((folder / "sbom.json").read_text())
    assert parts["bomFormat"] == "CycloneDX"
    assert {(one["name"], one["version"]) for one in parts["components"]} == {
        ("faultwise", "0.1.0"), ("numpy", "2.5.1"),
    }  # fmt: skip
    assert "SHA-256" in json.dumps(parts)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (
            lambda folder: (folder / "python.txt").write_text("3.9 linux x86_64\n"),
            "is for Python 3.9",
        ),
        (lambda folder: (folder / "manuals" / "pump.md").write_text("# Pamp\n"), "damaged"),
    ],
)
def test_the_installer_refuses_what_does_not_fit(folder, tmp_path, harm, says):
    harm(folder)
    command = ["sh", str(folder / "install.sh"), str(tmp_path / "venv")]
    env = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "venv").exists()


def test_what_cannot_be_fetched_is_one_line(tmp_path):
    with pytest.raises(UserError, match="pip could not"):
        make_bundle(tmp_path / "x.tar", index=NO_INDEX)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="source tree"):
        make_bundle(tmp_path / "x.tar", root=tmp_path)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_one_that_systemd_takes(tmp_path):
    unit = tmp_path / "faultwise.service"
    text = (ROOT / "deploy" / "faultwise.service").read_text()
    unit.write_text(text.replace("/opt/faultwise/bin/faultwise", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert "faultwise.service" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("act", "calls"),
    [
        ("socket.getaddrinfo('hub.example.invalid', 443)", "hub.example.invalid"),
        ("s.connect(('192.0.2.1', 9))", "192.0.2.1"),
        ("s.sendto(b'x', ('192.0.2.7', 9))", "192.0.2.7"),
        ("s.sendto(b'x', ('127.0.0.1', 9))", ""),
    ],
)
def test_a_call_beyond_this_machine_is_seen(act, calls):
    watch = _WATCH.split("from assistant")[0]
    script = f"{watch}\nimport socket, contextlib\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    script += f"with contextlib.suppress(OSError):\n    {act}\n"
    # In a network of its own, so that a test never sends anything.
    inside = ["unshare", "--net", "--map-root-user"] if shutil.which("unshare") else []
    done = subprocess.run([*inside, sys.executable, "-c", script], capture_output=True, text=True)
    found = judge_calls(done.returncode, done.stderr)
    assert (found.state == "problem") == bool(calls)
    assert calls in found.words
