"""One archive for a machine without internet: wheels, manuals, checksums, a list of parts, an installer.

    bundle.tar ─▶ wheels/ (faultwise, its weights within, and all it needs)   constraints.txt   python.txt
                  manuals/   sbom.json (CycloneDX)   SHA256SUMS   install.sh   faultwise.service   Containerfile

It is made where there is internet, on a machine of the same system and Python; everything after needs none.
"""

import json
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from traffic.errors import UserError
from traffic.files import file_hash, replacing, write_sums, write_text

ROOT = Path(__file__).parents[1]
_DEPLOY = ("install.sh", "faultwise.service", "Containerfile")


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written: ``files`` in it, their bytes together, its own SHA-256."""

    path: Path
    files: int
    size_bytes: int
    sha256: str


def make_bundle(
    out: Path, documents: Sequence[Path] = (), root: Path = ROOT, index: Sequence[str] = ()
) -> Bundle:
    """Fetch all that is needed, and write one archive.

    Args:
        out: the archive, a .tar: wheels are packed already.
        documents: of the plant, for its knowledge base.
        root: the source tree, with pyproject.toml, constraints.txt and deploy/.
        index: further options of pip, where packages come from.

    Raises:
        UserError: no source tree, a document that is missing, pip that cannot fetch, or a full disk.
    """
    if missing := [
        name
        for name in ("pyproject.toml", "constraints.txt", "deploy")
        if not (root / name).exists()
    ]:
        raise UserError(
            f"{root} lacks {', '.join(missing)}; expected the source tree; run it in a checkout of faultwise"
        )
    with TemporaryDirectory(prefix="faultwise-bundle-", dir=_near(out)) as scratch:
        folder = Path(scratch) / "faultwise"
        fetch_wheels(root, folder / "wheels", index)
        fill(folder, root, documents)
        return pack(folder, out)


def _near(out: Path) -> Path:
    """The folder of the archive, which has to have room for it anyway."""
    if not out.parent.is_dir():
        raise UserError(f"{out.parent} is no folder; expected one with room; make it first")
    return out.parent


def fetch_wheels(root: Path, wheels: Path, index: Sequence[str]) -> None:
    """Build faultwise's own wheel, and fetch those of all it needs in the tested versions.

    Raises:
        UserError: pip fails; its last line is said.
    """
    wheels.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel"]
    # A wheel of what is published as source alone is built here: the plant has no compiler.
    constraints = ["-c", str(root / "constraints.txt"), *index]
    command = [*pip, "-w", str(wheels), *constraints, str(root), "pip", "setuptools"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["unknown"]
        raise UserError(
            f"pip could not fetch the wheels: {lines[0][:300]}; "
            "expected a package index and room on the disk; see `pip config list`"
        )


def fill(folder: Path, root: Path, documents: Sequence[Path] = ()) -> None:
    """Put everything beside the wheels: installer, units, documents, the list of parts, checksums.

    Raises:
        UserError: a document is missing, or the list of parts cannot be made.
    """
    for name in _DEPLOY:
        shutil.copy2(root / "deploy" / name, folder / name)
    shutil.copy2(root / "constraints.txt", folder / "constraints.txt")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    write_text(folder / "python.txt", f"{version} {sys.platform} {platform.machine()}\n")
    (folder / "manuals").mkdir()
    for path in documents:
        if not path.exists():
            raise UserError(f"{path} does not exist; expected a document or a folder of them")
        target = folder / "manuals" / path.name
        shutil.copytree(path, target) if path.is_dir() else shutil.copy2(path, target)
    write_text(folder / "sbom.json", make_sbom(folder / "wheels"))
    write_sums(folder)


def make_sbom(wheels: Path) -> str:
    """The parts as CycloneDX JSON (cyclonedx.org), each with the hash of its wheel.

    Raises:
        UserError: the package cyclonedx-bom is missing, or fails.
    """
    found = [_read_name(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    lines = [
        f"{name}=={version} --hash=sha256:{file_hash(wheel)}"
        for (name, version), wheel in zip(found, sorted(wheels.glob("*.whl")), strict=True)
    ]
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "-"]
    done = subprocess.run(  # noqa: S603
        command, input="\n".join(lines), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UserError(
            f"the list of parts cannot be made: {last[:200]}; expected cyclonedx-bom; "
            "pip install -c constraints.txt 'faultwise[bundle]'"
        )
    return json.dumps(json.loads(done.stdout), indent=1) + "\n"


def _read_name(wheel: Path) -> tuple[str, str]:
    """Name and version of a wheel (PEP 427): its name up to the second dash."""
    name, version, *_ = wheel.name.split("-")
    return name, version


def pack(folder: Path, out: Path) -> Bundle:
    """Write a folder as one archive, whole or not at all; equal contents give equal bytes."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        return entry

    with replacing(out) as draft, tarfile.open(draft, "w") as archive:
        for path in sorted(folder.rglob("*")):
            name = f"{folder.name}/{path.relative_to(folder)}"
            archive.add(path, name, recursive=False, filter=plain)
    files = [one for one in folder.rglob("*") if one.is_file()]
    return Bundle(out, len(files), out.stat().st_size, file_hash(out))
