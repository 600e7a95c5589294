"""Any Zeek log, in any form it is written in, read as a table or piece by piece.

Zeek writes TSV under a header of ``#`` lines, or JSON with one object a line; both may be gzipped.
Other tools keep the same columns as Parquet. A log is read in pieces of bounded size, so that one
larger than memory can be passed on as it is read.
Formats: https://docs.zeek.org/en/master/log-formats.html
"""

import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from traffic.errors import UserError
from traffic.zeek.columns import Kind, Rows, Valid, arrow_type, check_fields, to_frame, with_types
from traffic.zeek.objects import read_objects
from traffic.zeek.tsv import read_tsv

PIECE_BYTES = 32 << 20
_PIECE_ROWS = 250_000
# A line of this length is no row: what a damaged disk or a bomb holds is not kept in memory.
_LONGEST_LINE = 4 << 20
_KEPT_OF_LINE = 200
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


# What people take for a capture, by how it begins, and what to do with it.
_TAKEN_FOR = (
    (b"PK\x03\x04", ": it is a zip, to be unpacked first"),
    (b"<", ": it is a page of HTML or XML, as a login or an error saves one"),
)


def _guess(start: bytes) -> str:
    """What a file is instead, where its first bytes tell it; else how it begins, where that is text."""
    known = next((words for mark, words in _TAKEN_FOR if start.startswith(mark)), "")
    text = start[:16].decode("latin-1")
    if text.isascii() and (text.isprintable() or text.strip().isprintable()):
        return f"{known} (it starts with {text!a})"  # who saved a page knows it again
    return known or ", nor text of another kind"


@dataclass(frozen=True)
class Log:
    """One log's rows in the order they were written; ``notes`` say what was skipped."""

    table: pa.Table
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """The rows in pandas: float64 and ``str``, NaN where unset."""
        return to_frame(self.table)


@dataclass
class LogReader:
    """A log that is read once, piece by piece; what was skipped is known when it has ended.

    Attributes:
        path: TSV or JSON lines, plain or gzipped, or Parquet; the content decides.
        kinds: wanted columns; unset is null, ``(empty)`` is ``""``.
        needed: columns without which the log is of no use.
        name: what Zeek calls such a log, for messages: ``conn.log``.
        valid: rows for which it is false are malformed, like rows with a wrong number of fields.
        piece_bytes: how much is held at once, of text.
        columns: those of the wanted columns that the log has, as far as it is read.
    """

    path: Path
    kinds: Mapping[str, Kind]
    needed: tuple[str, ...]
    name: str
    valid: Valid | None = None
    piece_bytes: int = PIECE_BYTES
    columns: list[str] = field(default_factory=list)
    _bad: int = 0
    _first_bad: int = 0
    _cut: bool = False

    def read(self) -> Iterator[pa.Table]:
        """The well-formed rows, some of the wanted columns in each piece.

        Raises:
            UserError: the file is missing, empty, not a Zeek log, or lacks a needed column.
        """
        start = _first_bytes(self.path)
        if start.startswith(_PARQUET):
            yield from map(self._count, self._read_parquet())
            return
        pieces = self.read_lines()
        first = next(pieces, b"")
        if not first.strip():
            raise UserError(
                f"{self.path} is empty; expected a pcap or a Zeek log; record it again or pass another path"
            )
        start = first[:64].lstrip()
        if start.startswith(b"#"):
            all_pieces = _chain(first, pieces)
            found = read_tsv(all_pieces, self.kinds, self.needed, self.name, self.path, self.valid)
            yield from map(self._count, found)
        elif start.startswith(b"{"):
            yield from map(self._count, self._read_objects(_chain(first, pieces)))
        else:
            raise UserError(
                f"{self.path} is not a Zeek log{_guess(start)}; "
                f"expected {self.name} as TSV with a #fields line or as JSON lines; pass Zeek's log or a pcap"
            )

    def notes(self) -> tuple[str, ...]:
        """What was skipped, one sentence each."""
        notes = []
        if self._bad:
            rows = "1 malformed row was" if self._bad == 1 else f"{self._bad:,} malformed rows were"
            notes.append(f"{self.path.name}: {rows} skipped, the first on line {self._first_bad}.")
        if self._cut:
            notes.append(
                f"{self.path.name}: the archive is cut short; what could be unpacked was read."
            )
        return tuple(notes)

    def _count(self, rows: Rows) -> pa.Table:
        if rows.bad and not self._bad:
            self._first_bad = rows.first_bad
        self._bad += rows.bad
        there = set(self.columns) | set(rows.table.column_names)
        self.columns = [column for column in self.kinds if column in there]
        return rows.table

    def _read_objects(self, pieces: Iterator[bytes]) -> Iterator[Rows]:
        """JSON leaves out what is unset, so a column that no object has is one the log lacks."""
        n = 0
        for rows in read_objects(pieces, self.kinds, self.valid):
            table = rows.table
            held = [c for c in table.column_names if table[c].null_count < table.num_rows]
            n += table.num_rows
            yield Rows(table.select(held), rows.bad, rows.first_bad)
        check_fields(tuple(self.columns), self.needed, f"{n:,} objects", self.path, self.name)

    def _read_parquet(self) -> Iterator[Rows]:
        try:
            there = tuple(pq.read_schema(self.path).names)
            check_fields(there, self.needed, f"{len(there)} columns", self.path, self.name)
            wanted = {column: kind for column, kind in self.kinds.items() if column in there}
            words = [column for column, kind in wanted.items() if kind in ("text", "flag")]
            file = pq.ParquetFile(self.path, read_dictionary=words)
            above = 0
            yield Rows(pa.table({c: pa.array([], arrow_type(kind)) for c, kind in wanted.items()}))
            for batch in file.iter_batches(_PIECE_ROWS, columns=list(wanted)):
                table = _from_parquet(pa.table(batch).select(list(wanted)), wanted)
                good = np.ones(len(batch), bool) if self.valid is None else self.valid(table)
                bad = np.flatnonzero(~good)
                first = above + int(bad[0]) + 1 if len(bad) else 0
                yield Rows(table.filter(pa.array(good)) if len(bad) else table, len(bad), first)
                above += len(batch)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # names may be no UTF-8
            said = "".join(c if c.isprintable() else " " for c in str(error)[:200])
            raise UserError(
                f"{self.path} cannot be read as Parquet ({' '.join(said.split())}); "
                f"expected the columns of Zeek's {self.name}; write it again"
            ) from None

    def read_lines(self) -> Iterator[bytes]:
        """Whole lines of valid UTF-8, about ``piece_bytes`` of them at once."""
        with self.path.open("rb") as file:
            archive = _Unpacked(file, self.path) if file.read(len(_GZIP)) == _GZIP else None
            file.seek(0)
            stream = io.BufferedReader(archive) if archive else file
            first = True
            while data := stream.read(self.piece_bytes):
                if not data.endswith(b"\n"):
                    data += _end_of_line(stream)
                yield _as_utf8(data.removeprefix(_BYTE_ORDER_MARK) if first else data)
                first = False
            self._cut = archive is not None and archive.cut


class _Unpacked(io.RawIOBase):
    """A gzipped file's content as far as the archive is good: logs are often copied while they are
    written.

    ``gzip`` raises at the end of a file that is cut, and gives less of it.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._member, self._left, self._any = zlib.decompressobj(wbits=31), b"", False
        self.cut = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data and not self.cut:
            self._left = self._left or self._file.read(1 << 20)
            if self._member.eof:
                if not self._left.startswith(_GZIP):
                    return 0  # what follows the last member is padding
                self._member = zlib.decompressobj(wbits=31)
            if not self._left:
                self.cut = True
                break
            data = self._unpack(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _unpack(self, most: int) -> bytes:
        try:
            data = self._member.decompress(self._left, most)
        except zlib.error as error:
            if not self._any:
                raise UserError(
                    f"{self._path} is a damaged gzip file ({error}); expected a whole one; copy it again"
                ) from None
            self.cut = True
            return b""
        self._any = True
        self._left = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return data


def _end_of_line(stream: BinaryIO) -> bytes:
    """The rest of a line; of one that is too long to be a row only its beginning."""
    rest = stream.readline(_LONGEST_LINE)
    end = rest
    while len(end) == _LONGEST_LINE and not end.endswith(b"\n"):
        end = stream.readline(_LONGEST_LINE)
    return rest if end is rest else rest[:_KEPT_OF_LINE] + b"\n"


def read_log(
    path: Path,
    kinds: Mapping[str, Kind],
    needed: tuple[str, ...],
    name: str,
    valid: Valid | None = None,
) -> Log:
    """Read the wanted columns of one log; arguments as ``LogReader`` has them.

    Returns:
        A table with those of the wanted columns that the log has; possibly no rows.

    Raises:
        UserError: the file is missing, empty, not a Zeek log, or lacks a needed column.
    """
    reader = LogReader(path, kinds, needed, name, valid)
    pieces = [with_types(piece, kinds) for piece in reader.read()]
    schema = pa.schema([(column, arrow_type(kinds[column])) for column in reader.columns])
    table = pa.concat_tables([schema.empty_table(), *pieces], promote_options="default")
    return Log(table.select(reader.columns), reader.notes())


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a capture; check the path") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); expected a readable file; check it"
        ) from error


def is_packed(path: Path) -> bool:
    """Whether a file is gzipped; one that cannot be read is not."""
    try:
        return _first_bytes(path).startswith(_GZIP)
    except UserError:
        return False


def _chain(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from others


def _as_utf8(data: bytes) -> bytes:
    """Replace bytes that are no UTF-8: the parser would drop their rows without a word."""
    return data if data.isascii() else data.decode("utf-8", "replace").encode()


def _from_parquet(table: pa.Table, kinds: Mapping[str, Kind]) -> pa.Table:
    """Times become seconds since the epoch, flags ``"T"`` and ``"F"``."""
    for i, column in enumerate(table.column_names):
        have = table.column(i)
        if pa.types.is_timestamp(have.type):
            seconds = have.cast(pa.timestamp("us", have.type.tz)).cast(pa.int64()).to_pandas() / 1e6
            table = table.set_column(
                i, column, pa.chunked_array([pa.array(seconds, from_pandas=True)])
            )
        elif pa.types.is_list(have.type):
            table = table.set_column(
                i, column, pc.binary_join(have.cast(pa.list_(pa.string())), ",")
            )
        elif pa.types.is_boolean(have.type):
            flags = pa.array(
                have.to_pandas().map({True: "T", False: "F"}), pa.string(), from_pandas=True
            )
            table = table.set_column(i, column, pa.chunked_array([flags]))
    return with_types(table, kinds)
