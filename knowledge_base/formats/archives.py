"""Office files are ZIP archives: what they unpack to is bounded before anything reads them."""

import zipfile
import zlib
from pathlib import Path

from traffic.errors import UserError

MAX_UNPACKED_BYTES = 256 * 2**20
_MAX_MEMBERS = 10_000
_CHUNK = 2**20
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError)


def check_archive(path: Path, member: str, what: str) -> None:
    """See that a file is an office archive that unpacks to a bounded size, declared and real.

    Args:
        path: the file.
        member: what such an archive must hold.
        what: names it in the message, "an XLSX workbook".

    Raises:
        UserError: it is none, is damaged, is too large, or its XML declares entities.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if member not in names:
                raise UserError(f"{path} is not {what}; expected {member} in it; check the ending")
            declared = sum(info.file_size for info in archive.infolist())
            if declared > MAX_UNPACKED_BYTES or len(names) > _MAX_MEMBERS:
                raise UserError(
                    _too_large(path, f"{declared / 2**20:.0f} MiB in {len(names)} parts")
                )
            real = 0
            for name in names:
                with archive.open(name) as part:
                    head = part.read(_CHUNK)
                    # Office writes none; entities that hold entities grow without bound.
                    if name.endswith((".xml", ".rels")) and b"<!DOCTYPE" in head[:4096]:
                        raise UserError(
                            f"{path} declares a document type in {name}; expected {what}; save it anew"
                        )
                    real += len(head)
                    while more := part.read(_CHUNK):
                        real += len(more)
                        if real > MAX_UNPACKED_BYTES:
                            raise UserError(_too_large(path, "more than it declares"))
    except (*_DAMAGED, NotImplementedError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        reason = "encrypted" if isinstance(error, RuntimeError) else str(error) or "damaged"
        raise UserError(
            f"{path} cannot be unpacked ({reason}); expected {what}; save it anew without a password"
        ) from error


def _too_large(path: Path, size: str) -> str:
    most = MAX_UNPACKED_BYTES >> 20
    return f"{path} unpacks to {size}; expected at most {most} MiB in {_MAX_MEMBERS} parts; a bomb, or split it"
