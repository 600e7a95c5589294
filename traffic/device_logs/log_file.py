"""One log file as a table of its lines: time, device, severity, template, and the peer that it names.

What the lines say stays here: a template's number goes on, its words go into a table of their own.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from traffic.device_logs.lines import Piece, read_head, read_pieces
from traffic.device_logs.syslog import LogLines, parse_lines
from traffic.device_logs.templates import Templates, first_numbers
from traffic.errors import UserError

_IS_LOG = (
    0.5  # share of a file's first lines that tell a time and, with most of these, a host or a level
)
_ADDRESS = r"(?P<ip>(?:\d{1,3}\.){3}\d{1,3})(?:(?::|#|,? port[ =])(?P<port>\d{1,5})\b)?"


@dataclass(frozen=True)
class LogFile:
    """The lines of one file.

    Attributes:
        source: the file's name.
        lines: one row per line, in the order of the file: ``ts host severity template count
            line number peer port``. ``host`` as written, "" where a line tells none;
            ``number`` is the first in the text, NaN without one; ``peer`` is the address that the
            line names, or that of the device it names, "" without one, ``port`` is beside it, -1
            without one.
        words: of each template.
        failing: templates whose words tell of a failure.
        notes: what was skipped or mended.
    """

    source: str
    lines: pd.DataFrame
    words: dict[int, str]
    failing: frozenset[int]
    notes: tuple[str, ...]


def is_log(path: Path, near_s: float) -> bool:
    """Whether most of a file's first lines are those of a log, by content."""
    return _looks_like_log(read_head(path), near_s)


def _looks_like_log(lines: list[str], near_s: float) -> bool:
    lines = [line for line in lines if line.strip()][:200]
    parsed = parse_lines(lines, near_s)
    # A table whose first column is a time has no hosts, no levels and no tags.
    told = (parsed.table["host"] != "") | (parsed.table["severity"] >= 0)
    return bool(lines) and int(told.sum()) >= _IS_LOG * len(lines)


def read_log(path: Path, near_s: float, names: Mapping[str, str]) -> LogFile:
    """Read a log.

    Args:
        path: a text file, plain or gzip.
        near_s: seconds since the epoch that the log is about; gives a line its year.
        names: addresses by name, lower case; an address is its own name.

    Raises:
        UserError: it cannot be read, is no text, or hardly a line of its beginning tells a time.
    """
    pieces = read_pieces(path)
    first = next(pieces, Piece([], 1))
    head = [line for line in islice(first.lines, 400) if line.strip()]
    parsed = parse_lines(head, near_s, known=names)
    # Named by the user, so that a time is enough: an application's own log tells no host.
    if not len(parsed.table) or len(parsed.table) < 0.1 * len(head):
        raise UserError(
            f"{path}: {len(parsed.table)} of its first {len(head)} lines begin with a time; expected syslog "
            "(RFC 5424, RFC 3164), ISO times or a journal's export; pass a file of these forms"
        )
    templates = Templates()
    tables, continued, cut, mended, truncated, damaged = [], 0, 0, 0, False, False
    for piece in chain([first], pieces):
        read = parse_lines(piece.lines, near_s, piece.first, names)
        tables.append(_describe(read, templates, names))
        continued += read.continued
        cut, mended = cut + piece.cut, mended + piece.mended
        truncated |= piece.truncated
        damaged |= piece.damaged
    lines = pd.concat(tables, ignore_index=True)
    said = [
        *_say_skipped(path.name, len(lines), continued, cut, mended, templates.beyond, truncated)
    ]
    if damaged:
        said.append(f"{path.name}: the archive is cut or damaged; what could be unpacked was read.")
    return LogFile(path.name, lines, templates.words(), templates.failing(), tuple(said))


def _describe(read: LogLines, templates: Templates, names: Mapping[str, str]) -> pd.DataFrame:
    peer, port = _read_peers(read.texts, names)
    # Few hosts and peers in many lines: categories keep a million of them small.
    return read.table.assign(
        host=read.table["host"].astype("category"),
        template=templates.number(read.texts),
        number=first_numbers(read.texts),
        peer=pd.Categorical(peer),
        port=port,
    ).astype({"host": "object"})


def _read_peers(texts: pa.Array, names: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """The first address in each line with its port, else the address of the first device that it
    names."""
    address = pc.extract_regex(texts, pattern=_ADDRESS)
    ip = pc.struct_field(address, "ip")
    port = pc.cast(pc.replace_with_mask(*_blank(pc.struct_field(address, "port"))), pa.int64())
    words = sorted((name for name in names if len(name) >= 3 and not name[0].isdigit()), key=len)
    if words:
        pattern = rf"(?i)\b(?P<name>{'|'.join(map(re.escape, reversed(words)))})\b"
        named = pc.struct_field(pc.extract_regex(texts, pattern=pattern), "name")
        named = pc.utf8_lower(named).dictionary_encode()
        meant = pa.array([names.get(word) for word in named.dictionary.to_pylist()], pa.string())
        ip = pc.coalesce(ip, meant.take(named.indices))
    return (
        pc.fill_null(ip, "").to_numpy(zero_copy_only=False),
        pc.fill_null(port, -1).to_numpy(zero_copy_only=False),
    )


def _blank(texts: pa.Array) -> tuple[pa.Array, pa.Array, pa.Scalar]:
    """Arguments that make empty texts null: a group that took no part is "" in RE2."""
    return texts, pc.fill_null(pc.equal(texts, ""), False), pa.scalar(None, pa.string())


def _say_skipped(
    name: str, read: int, continued: int, cut: int, mended: int, beyond: int, truncated: bool
) -> Iterator[str]:
    if continued:
        told = f"{name}: {continued:,} of {read + continued:,} lines tell no time"
        yield f"{told}; they belong to the line before them and were not counted."
    if cut:
        yield f"{name}: {cut:,} lines were longer than 4,096 bytes and were cut."
    if mended:
        yield f"{name}: {mended:,} lines were not UTF-8 and were read as Latin-1."
    if beyond:
        yield f"{name}: {beyond:,} lines have forms beyond the first thousand kinds; they are counted as one kind."
    if truncated:
        yield f"{name}: only its first 16 GB were read."
