"""Any Zeek log, in any form it is written in, becomes a table.

Zeek writes TSV under a header of ``#`` lines, or JSON with one object a line; both may be gzipped. A whole log is
parsed by pyarrow in one go; only a log with damage in it is taken line by line, so each bad row is counted and placed.
Formats: https://docs.zeek.org/en/master/log-formats.html
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from traffic.errors import UserError
from traffic.zeek_json import read_objects
from traffic.zeek_rows import Kind, Valid
from traffic.zeek_tsv import cut_sections, read_section

__all__ = ["Log", "read_bytes", "read_log"]

_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Log:
    """One log's rows in the order they were written; ``notes`` say what was skipped."""

    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_log(
    path: Path, kinds: Mapping[str, Kind], needed: tuple[str, ...], name: str, valid: Valid | None = None
) -> Log:
    """Read the wanted columns of one log.

    Args:
        path: TSV or JSON lines, plain or gzipped; the content decides.
        kinds: wanted columns; a number becomes float64, a flag ``"T"`` or ``"F"``; unset is NaN, ``(empty)`` is ``""``.
        needed: columns without which the log is of no use.
        name: what Zeek calls such a log, for messages: ``conn.log``.
        valid: rows for which it is false are malformed, like rows with a wrong number of fields.

    Returns:
        A table with those of the wanted columns that the log has; possibly no rows.

    Raises:
        UserError: the file is missing, empty, not a Zeek log, or lacks a needed column.
    """
    data, cut = read_bytes(path)
    data = _as_utf8(data)
    start = data[:64].lstrip()
    if start.startswith(b"#"):
        parts = [read_section(part, kinds, valid) for part in cut_sections(data, path, needed, name)]
    elif start.startswith(b"{"):
        parts = [read_objects(data, kinds, needed, name, path, valid)]
    else:
        raise UserError(
            f"{path} is not a Zeek log (it starts with {_quote(start)}); "
            f"expected {name} as TSV with a #fields line or as JSON lines; pass Zeek's log or a pcap"
        )
    table = pd.concat([part.table for part in parts], ignore_index=True) if len(parts) > 1 else parts[0].table
    return Log(table, _notes(path, [line for part in parts for line in part.bad_lines], cut))


def read_bytes(path: Path) -> tuple[bytes, bool]:
    """The content of a file, unpacked if gzipped, and whether the archive was cut short.

    Raises:
        UserError: there is no such file, it cannot be read, or it is empty.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a capture; check the path") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); expected a readable file; check it") from error
    cut = False
    if data.startswith(_GZIP):
        data, cut = _inflate(data, path)
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if not data[:4096].strip() and not data.strip():
        raise UserError(f"{path} is empty; expected a pcap or a Zeek log; record it again or pass another path")
    return data, cut


def _as_utf8(data: bytes) -> bytes:
    """Zeek writes ASCII or UTF-8; other bytes are damage, and would make the parser drop a row without a word."""
    if data.isascii():
        return data
    return data.decode("utf-8", "replace").encode()


def _inflate(data: bytes, path: Path) -> tuple[bytes, bool]:
    """Unpack as far as the archive is good; logs are often copied while they are being written."""
    pieces = []
    while data.startswith(_GZIP):
        member = zlib.decompressobj(wbits=31)
        try:
            pieces.append(member.decompress(data))
        except zlib.error as error:
            if not pieces:
                raise UserError(
                    f"{path} is a damaged gzip file ({error}); expected a whole one; copy it again"
                ) from None
            return b"".join(pieces), True
        if not member.eof:
            return b"".join(pieces), True
        data = member.unused_data
    return b"".join(pieces), False


def _notes(path: Path, bad_lines: list[int], cut: bool) -> tuple[str, ...]:
    notes = []
    if bad_lines:
        rows = "1 malformed row was" if len(bad_lines) == 1 else f"{len(bad_lines):,} malformed rows were"
        notes.append(f"{path.name}: {rows} skipped, the first on line {min(bad_lines)}.")
    if cut:
        notes.append(f"{path.name}: the archive is cut short; what could be unpacked was read.")
    return tuple(notes)


def _quote(start: bytes) -> str:
    return ascii(start[:16].decode("latin-1"))
