"""The bytes of a capture file, mapped; a gzip file is unpacked first, up to a bound."""

import gzip
import mmap
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from traffic.errors import UserError

_GZIP = b"\x1f\x8b"
_POINTER = b"version https://git-lfs.github.com/spec/"
# Captures of one frame over and over shrink a hundredfold; a file that means harm a thousandfold.
# Small ones may do as they like.
MOST_RATIO, ALWAYS_BYTES, MOST_BYTES = 200, 64 << 20, 64 << 30
_PIECE = 1 << 16


@dataclass(frozen=True)
class Unpacked:
    """A file's bytes, and what could not be unpacked, one sentence each."""

    data: mmap.mmap
    notes: tuple[str, ...] = ()


def map_file(path: Path) -> Unpacked:
    """Map a file that is not empty; what gzip packed is unpacked to a temporary file that vanishes
    with the map.

    A damaged gzip file is unpacked up to the damage, and one that unpacks to more than
    ``MOST_RATIO`` times its size (at least ``ALWAYS_BYTES``, at most ``MOST_BYTES``) up to there.

    Raises:
        UserError: it cannot be read, holds nothing, or there is no room to unpack it.
    """
    with path.open("rb") as stream:
        if stream.read(len(_GZIP)) != _GZIP:
            return Unpacked(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    with tempfile.TemporaryFile() as unpacked:
        try:
            notes = _unpack(path, unpacked)
        except OSError as error:
            raise UserError(
                f"{path} cannot be unpacked ({error.strerror or error}); expected a gzip file, and room "
                f"in {tempfile.gettempdir()}; unpack it elsewhere"
            ) from error
        if not unpacked.tell():
            raise UserError(
                f"{path} is a gzip file that holds nothing readable; expected a pcap or pcapng in it; get it again"
            )
        unpacked.flush()
        return Unpacked(mmap.mmap(unpacked.fileno(), 0, access=mmap.ACCESS_READ), notes)


def _unpack(path: Path, unpacked: BinaryIO) -> tuple[str, ...]:
    size = path.stat().st_size
    most = min(max(MOST_RATIO * size, ALWAYS_BYTES), MOST_BYTES)
    done = 0
    try:
        with gzip.open(path) as packed:
            while piece := packed.read1(_PIECE):  # what a cut file still gives
                done += len(piece)
                if done > most:
                    return (
                        f"{path.name}: {size} bytes unpack to more than {most}; the rest was not read",
                    )
                unpacked.write(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return (
            f"{path.name}: the gzip file is damaged or cut ({error}); {done} bytes were unpacked",
        )
    return ()


def read_head(path: Path, size: int) -> bytes:
    """The first bytes of a file, those inside where it is a gzip file; fewer where there are no
    more, none where it is damaged.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(size)
        if head[: len(_GZIP)] != _GZIP:
            return head
        with gzip.open(path) as packed:
            return packed.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b""
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); expected a readable file; check it"
        ) from error


def refuse_pointer(path: Path) -> None:
    """Raise where a file is not the capture but a Git LFS pointer to it.

    Raises:
        UserError: it is one, or the file cannot be read.
    """
    if is_pointer(path):
        raise UserError(
            f"{path} is a Git LFS pointer, a text that stands for the capture; expected the capture itself; "
            "fetch it with `git lfs pull` in the repository that the file is from"
        )


def is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer (github.com/git-lfs/git-lfs, docs/spec.md).

    Raises:
        UserError: the file cannot be read.
    """
    return read_head(path, len(_POINTER)) == _POINTER
