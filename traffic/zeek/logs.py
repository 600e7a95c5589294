"""Any Zeek log, in any form it is written in, becomes a table.

Zeek writes TSV under a header of ``#`` lines, or JSON with one object a line; both may be gzipped.
A whole log is parsed by pyarrow in one go; only a log with damage in it is taken line by line, so
each bad row is counted and placed.
Formats: https://docs.zeek.org/en/master/log-formats.html
"""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv
from pyarrow import json as arrow_json

from traffic.errors import UserError

# What the readers of Zeek's TSV and JSON share: kinds of columns, and what makes a row or a header
# unfit.

Kind = Literal["number", "text", "flag"]
Valid = Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Rows:
    """Well-formed rows in the log's order, and the lines of the others."""

    table: pd.DataFrame
    bad_lines: tuple[int, ...] = ()


def check_fields(
    fields: tuple[str, ...], needed: tuple[str, ...], place: str, path: Path, name: str
) -> None:
    missing = [column for column in needed if column not in fields]
    if missing:
        columns = f"column {missing[0]}" if len(missing) == 1 else f"columns {', '.join(missing)}"
        raise UserError(
            f"{path} has no {columns} ({place}); expected Zeek's {name}; write it with Zeek's own fields"
        )
    twice = [column for column in set(fields) if fields.count(column) > 1]
    if twice:
        raise UserError(
            f"{path} names column {twice[0]} twice ({place}); expected Zeek's {name}; repair the header"
        )


def to_kinds(
    text: pd.DataFrame, wanted: Mapping[str, Kind], valid: Valid | None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Columns of text as the kinds they should be, and which rows are well-formed."""
    table, good = text.copy(), np.ones(len(text), dtype=bool)
    for column, kind in wanted.items():
        if kind == "number":
            table[column] = pd.to_numeric(text[column], errors="coerce").astype(float)
            good &= (table[column].notna() | text[column].isna()).to_numpy()
    if valid is not None:
        good &= valid(table).to_numpy(bool)
    return table, good


# Zeek's JSON: one object a line, unset fields left out.


def read_objects(
    data: bytes,
    kinds: Mapping[str, Kind],
    needed: tuple[str, ...],
    name: str,
    path: Path,
    valid: Valid | None,
) -> Rows:
    try:
        rows = Rows(_parse_json(data, kinds))
        damaged = valid is not None and not valid(rows.table).all()
    except pa.ArrowInvalid:
        damaged = True
    if damaged:
        rows = _read_damaged_json(data, kinds, valid)
    # JSON leaves out what is unset, so a column that no object has is a column the log lacks.
    found = tuple(column for column in kinds if rows.table[column].notna().any())
    check_fields(found, needed, f"{len(rows.table):,} objects", path, name)
    return Rows(rows.table[list(found)], rows.bad_lines)


def _parse_json(data: bytes, kinds: Mapping[str, Kind]) -> pd.DataFrame:
    types = {"number": pa.float64(), "text": pa.string(), "flag": pa.bool_()}
    schema = pa.schema([(column, types[kind]) for column, kind in kinds.items()])
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = arrow_json.ReadOptions(block_size=8 << 20)
    frame = arrow_json.read_json(
        pa.BufferReader(data), read_options=read, parse_options=options
    ).to_pandas()
    for column, kind in kinds.items():
        if kind != "number":
            values = frame[column].map({True: "T", False: "F"}) if kind == "flag" else frame[column]
            frame[column] = values.astype("str")
    return frame


def _read_damaged_json(data: bytes, kinds: Mapping[str, Kind], valid: Valid | None) -> Rows:
    objects, numbers, broken = [], [], []
    for number, line in enumerate(data.decode().split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            objects.append([_text(entry.get(column)) for column in kinds])
            numbers.append(number)
        else:
            broken.append(number)
    text = pd.DataFrame(objects, columns=list(kinds)).astype("str")
    if "ts" in kinds:
        text["ts"] = _seconds(text["ts"])
    table, good = to_kinds(text, kinds, valid)
    broken += np.asarray(numbers, dtype=int)[~good].tolist()
    return Rows(table[good].reset_index(drop=True), tuple(sorted(broken)))


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "T" if value else "F"
    return None if value is None else str(value)


def _seconds(ts: pd.Series) -> pd.Series:
    """Zeek's JSON may hold times as ISO 8601 (LogAscii::json_timestamps); seconds since the epoch
    otherwise."""
    if not ts.str.contains("T", regex=False).fillna(False).any():
        return ts
    times = pd.to_datetime(ts, utc=True, errors="coerce", format="ISO8601")
    epoch = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return epoch.astype("str").where(times.notna(), ts)


# Zeek's TSV: rows under a header of ``#`` lines, cut where a header changes.

# IoT-23's conn.log.labeled joins its last three columns with three spaces.
_JOINT = "   "


@dataclass(frozen=True)
class Section:
    """The rows under one ``#fields`` line."""

    fields: tuple[str, ...]
    rows: memoryview
    above: int  # lines of the file before the first row
    joint: tuple[str, ...] = ()  # the columns that the last field holds, joined by spaces
    separator: bytes = b"\t"
    unset: str = "-"
    empty: str = "(empty)"


def cut_sections(data: bytes, path: Path, needed: tuple[str, ...], name: str) -> Iterator[Section]:
    """Cut a log where its columns change; logs that were concatenated repeat their header, mostly
    unchanged."""
    starts = _header_starts(data)
    if not starts:
        raise UserError(
            f"{path} has no #fields line; expected Zeek's {name}; pass the log with its header"
        )
    options = _header_options(data[: starts[0]])
    lines = [data[at : _line_end(data, at)].rstrip(b"\r") for at in starts]
    kept = [i for i in range(len(starts)) if i == 0 or lines[i] != lines[i - 1]]
    for i, nxt in zip(kept, [*kept[1:], None], strict=True):
        first = min(_line_end(data, starts[i]) + 1, len(data))
        rows = memoryview(data)[first : len(data) if nxt is None else starts[nxt]]
        fields = tuple(lines[i].decode().split(options["separator"].decode())[1:])
        joint = tuple(fields[-1].split(_JOINT)) if fields and _JOINT in fields[-1] else ()
        number = data.count(b"\n", 0, first)
        named = (*fields[:-1], *joint) if joint else fields
        check_fields(named, needed, f"line {number} lists {len(named)} fields", path, name)
        yield Section(fields, rows, number, joint, **options)


def _header_starts(data: bytes) -> list[int]:
    starts = [0] if data.startswith(b"#fields") else []
    at = data.find(b"\n#fields")
    while at >= 0:
        starts.append(at + 1)
        at = data.find(b"\n#fields", at + 1)
    return starts


def _line_end(data: bytes, start: int) -> int:
    end = data.find(b"\n", start)
    return len(data) if end < 0 else end


def _header_options(header: bytes) -> dict:
    options: dict = {"separator": b"\t", "unset": "-", "empty": "(empty)"}
    for line in header.decode().splitlines():
        separator = re.fullmatch(r"#separator (?:\\x([0-7][0-9a-fA-F])|([ -~]))", line.rstrip())
        if separator:
            options["separator"] = (
                bytes.fromhex(separator[1]) if separator[1] else separator[2].encode()
            )
        elif line.startswith(("#unset_field", "#empty_field")):
            parts = line.split(options["separator"].decode(), 1)
            if len(parts) == 2:
                options[line[1:6]] = parts[1]
    return options


def read_section(section: Section, kinds: Mapping[str, Kind], valid: Valid | None) -> Rows:
    wanted = {
        column: kind
        for column, kind in kinds.items()
        if column in (*section.fields, *section.joint)
    }
    try:
        table = _parse_tsv(section, section.rows, wanted)
    except pa.ArrowInvalid:
        return _read_damaged_tsv(section, wanted, valid)
    if valid is not None and not valid(table).all():
        return _read_damaged_tsv(section, wanted, valid)
    return Rows(table)


def _parse_tsv(
    section: Section, rows: memoryview | bytes, wanted: Mapping[str, Kind], typed: bool = True
) -> pd.DataFrame:
    numbers = {column for column, kind in wanted.items() if typed and kind == "number"}
    if not len(rows):
        return pd.DataFrame(
            {c: pd.Series(dtype="float64" if c in numbers else "str") for c in wanted}
        )
    columns = [
        column
        for column in section.fields
        if column in wanted or (section.joint and _JOINT in column)
    ]
    table = csv.read_csv(
        pa.BufferReader(pa.py_buffer(rows)),
        read_options=csv.ReadOptions(column_names=list(section.fields), block_size=8 << 20),
        parse_options=csv.ParseOptions(
            delimiter=section.separator.decode(),
            quote_char=False,
            # Comments have another number of fields than rows, so this sees them; a bad row ends
            # the fast path.
            invalid_row_handler=lambda row: "skip" if row.text.startswith("#") else "error",
        ),
        convert_options=csv.ConvertOptions(
            column_types={
                column: pa.float64() if column in numbers else pa.string() for column in columns
            },
            include_columns=columns,
            null_values=[section.unset],
            strings_can_be_null=True,
        ),
    )
    frame = table.to_pandas(split_blocks=True, self_destruct=True)
    if section.joint:
        frame = _split_joint(frame, section, wanted)
    for column in set(wanted) - numbers:
        frame[column] = frame[column].astype("str").replace(section.empty, "")
    return frame


def _split_joint(frame: pd.DataFrame, section: Section, wanted: Mapping[str, Kind]) -> pd.DataFrame:
    """The joint field holds few different values, so each is split once."""
    codes, values = pd.factorize(frame[section.fields[-1]])
    parts = [(value.split(_JOINT) + [section.unset] * len(section.joint)) for value in values]
    for i, column in enumerate(section.joint):
        if column in wanted:
            names = pd.array(
                [None if part[i] == section.unset else part[i] for part in parts], dtype="str"
            )
            frame[column] = names.take(codes, allow_fill=True)
    return frame.drop(columns=section.fields[-1])


def _read_damaged_tsv(section: Section, wanted: Mapping[str, Kind], valid: Valid | None) -> Rows:
    lines = [line.rstrip("\r") for line in bytes(section.rows).decode().split("\n")]
    separator = section.separator.decode()
    rows = [i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    # A carriage return within a row would be a line end to the parser.
    whole = [
        i
        for i in rows
        if lines[i].count(separator) == len(section.fields) - 1 and "\r" not in lines[i]
    ]
    text = "\n".join(lines[i] for i in whole).encode()
    table, good = to_kinds(_parse_tsv(section, text, wanted, typed=False), wanted, valid)
    first = section.above + 1
    broken = set(rows) - set(np.asarray(whole, dtype=int)[good].tolist())
    return Rows(table[good].reset_index(drop=True), tuple(sorted(first + i for i in broken)))


_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Log:
    """One log's rows in the order they were written; ``notes`` say what was skipped."""

    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_log(
    path: Path,
    kinds: Mapping[str, Kind],
    needed: tuple[str, ...],
    name: str,
    valid: Valid | None = None,
) -> Log:
    """Read the wanted columns of one log.

    Args:
        path: TSV or JSON lines, plain or gzipped; the content decides.
        kinds: wanted columns; a number becomes float64, a flag ``"T"`` or ``"F"``; unset is NaN,
            ``(empty)`` is ``""``.
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
        parts = [
            read_section(part, kinds, valid) for part in cut_sections(data, path, needed, name)
        ]
    elif start.startswith(b"{"):
        parts = [read_objects(data, kinds, needed, name, path, valid)]
    else:
        raise UserError(
            f"{path} is not a Zeek log (it starts with {_quote(start)}); "
            f"expected {name} as TSV with a #fields line or as JSON lines; pass Zeek's log or a pcap"
        )
    table = (
        pd.concat([part.table for part in parts], ignore_index=True)
        if len(parts) > 1
        else parts[0].table
    )
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
        raise UserError(
            f"{path} cannot be read ({error.strerror}); expected a readable file; check it"
        ) from error
    cut = False
    if data.startswith(_GZIP):
        data, cut = _inflate(data, path)
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if not data[:4096].strip() and not data.strip():
        raise UserError(
            f"{path} is empty; expected a pcap or a Zeek log; record it again or pass another path"
        )
    return data, cut


def _as_utf8(data: bytes) -> bytes:
    """Zeek writes ASCII or UTF-8; other bytes are damage, and would make the parser drop a row
    without a word."""
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
        rows = (
            "1 malformed row was"
            if len(bad_lines) == 1
            else f"{len(bad_lines):,} malformed rows were"
        )
        notes.append(f"{path.name}: {rows} skipped, the first on line {min(bad_lines)}.")
    if cut:
        notes.append(f"{path.name}: the archive is cut short; what could be unpacked was read.")
    return tuple(notes)


def _quote(start: bytes) -> str:
    return ascii(start[:16].decode("latin-1"))
