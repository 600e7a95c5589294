"""Captures that come over HTTP: bounded while they arrive, told by their first bytes, gone after."""

import errno
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import HTTPException

from traffic.pcap.records import is_capture
from traffic.pcap.unpack import read_head

MOST_BYTES = 500_000_000
_KINDS = {b"PK": "a zip archive", b"<": "HTML or XML", b"7z": "a 7z archive", b"MZ": "a program",
          b"\x7fELF": "a program", b"%PDF": "a PDF", b"\x89PNG": "a picture"}  # fmt: skip
_HEAD_BYTES = 4096
_EXPECTED = "expected a pcap, a pcapng or a Zeek conn.log, packed by gzip or not"


def check_announced(length: str | None, most_bytes: int) -> None:
    """Refuse what says itself that it is too large, before a byte of it is read.

    Raises:
        HTTPException: 411 without a length, 413 beyond ``most_bytes``.
    """
    if length is None or not length.isdigit():
        raise HTTPException(411, "the length is missing; expected Content-Length")
    if int(length) > most_bytes:
        raise HTTPException(413, _too_large(int(length), most_bytes))


def _too_large(size: int, most_bytes: int) -> str:
    return (
        f"the capture has {size:,} bytes or more; expected at most {most_bytes:,}; "
        "cut it to the minutes that matter, or read it with `faultwise ask --capture` on the machine itself"
    )


async def receive(stream: AsyncIterator[bytes], folder: Path, most_bytes: int) -> Path:
    """Write an upload to a file, which is the caller's to remove.

    Args:
        stream: the body.
        folder: for the file.
        most_bytes: of the body, whatever its length said.

    Raises:
        HTTPException: 413 for too much, 415 for what is no capture, 507 where the disk is full.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix="upload-", dir=folder, delete=False) as file:
            path, size = Path(file.name), 0
            try:
                async for piece in stream:
                    if size == 0 and piece:
                        check_head(piece)
                    size += len(piece)
                    if size > most_bytes:
                        raise HTTPException(413, _too_large(size, most_bytes))
                    file.write(piece)
                if size == 0:
                    raise HTTPException(415, f"the upload is empty; {_EXPECTED}")
                file.flush()
                check_head(read_head(path, _HEAD_BYTES))
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            return path
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HTTPException(507, f"the disk of {folder} is full; free some room") from error
        raise


def check_head(head: bytes) -> None:
    """Refuse what cannot be a capture, by its first bytes.

    Raises:
        HTTPException: 415, with what it looks like.
    """
    if is_capture(head[:4]) or head[:2] == b"\x1f\x8b":
        return
    start = head[:64].lstrip()
    looks = next((name for mark, name in _KINDS.items() if start.startswith(mark)), "")
    is_log = not looks and re.match(rb'#separator|#fields|\{"|[\d.]+\t', start) is not None
    if not is_log:
        raise HTTPException(
            415,
            f"that is no capture but {looks or 'something else'}, by its first bytes; {_EXPECTED}",
        )
