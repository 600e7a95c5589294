"""Any Zeek log, in any form it is written in, read as a table.

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

# ---- Columns and rows of either form ----

Kind = Literal["number", "text", "flag"]
Valid = Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class _Rows:
    """Well-formed rows in the log's order, and the lines of the others."""

    table: pd.DataFrame
    bad_lines: tuple[int, ...] = ()


def _check_fields(
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


def _to_kinds(
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


# ---- JSON: one object a line, unset fields left out ----


def _read_objects(
    data: bytes,
    kinds: Mapping[str, Kind],
    needed: tuple[str, ...],
    name: str,
    path: Path,
    valid: Valid | None,
) -> _Rows:
    try:
        rows = _Rows(_parse_json(data, kinds))
        damaged = valid is not None and not valid(rows.table).all()
    except pa.ArrowInvalid:
        damaged = True
    if damaged:
        rows = _read_damaged_json(data, kinds, valid)
    # JSON leaves out what is unset, so a column that no object has is a column the log lacks.
    found = tuple(column for column in kinds if rows.table[column].notna().any())
    _check_fields(found, needed, f"{len(rows.table):,} objects", path, name)
    return _Rows(rows.table[list(found)], rows.bad_lines)


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


def _read_damaged_json(data: bytes, kinds: Mapping[str, Kind], valid: Valid | None) -> _Rows:
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
    table, good = _to_kinds(text, kinds, valid)
    broken += np.asarray(numbers, dtype=int)[~good].tolist()
    return _Rows(table[good].reset_index(drop=True), tuple(sorted(broken)))


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "T" if value else "F"
    return None if value is None else str(value)


def _seconds(ts: pd.Series) -> pd.Series:
    """Seconds since the epoch; Zeek may write ISO 8601 (LogAscii::json_timestamps)."""
    if not ts.str.contains("T", regex=False).fillna(False).any():
        return ts
    times = pd.to_datetime(ts, utc=True, errors="coerce", format="ISO8601")
    epoch = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return epoch.astype("str").where(times.notna(), ts)


# ---- TSV: rows under a header of ``#`` lines, cut where a header changes ----

# IoT-23's conn.log.labeled joins its last three columns with three spaces.
_JOINT = "   "


@dataclass(frozen=True)
class _Section:
    """The rows under one ``#fields`` line."""

    fields: tuple[str, ...]
    rows: memoryview
    above: int  # lines of the file before the first row
    joint: tuple[str, ...] = ()  # the columns that the last field holds, joined by spaces
    separator: bytes = b"\t"
    unset: str = "-"
    empty: str = "(empty)"


def _cut_sections(
    data: bytes, path: Path, needed: tuple[str, ...], name: str
) -> Iterator[_Section]:
    """Cut a log where its columns change; concatenated logs repeat their header, mostly equal."""
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
        _check_fields(named, needed, f"line {number} lists {len(named)} fields", path, name)
        yield _Section(fields, rows, number, joint, **options)


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


def _read_section(section: _Section, kinds: Mapping[str, Kind], valid: Valid | None) -> _Rows:
    there = (*section.fields, *section.joint)
    wanted = {column: kind for column, kind in kinds.items() if column in there}
    try:
        table = _parse_tsv(section, section.rows, wanted)
    except pa.ArrowInvalid:
        return _read_damaged_tsv(section, wanted, valid)
    if valid is not None and not valid(table).all():
        return _read_damaged_tsv(section, wanted, valid)
    return _Rows(table)


def _parse_tsv(
    section: _Section, rows: memoryview | bytes, wanted: Mapping[str, Kind], typed: bool = True
) -> pd.DataFrame:
    numbers = {column for column, kind in wanted.items() if typed and kind == "number"}
    if not len(rows):
        types = {name: "float64" if name in numbers else "str" for name in wanted}
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in types.items()})
    joint = section.fields[-1:] if section.joint else ()
    columns = [name for name in section.fields if name in wanted or name in joint]
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
            column_types={c: pa.float64() if c in numbers else pa.string() for c in columns},
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


def _split_joint(
    frame: pd.DataFrame, section: _Section, wanted: Mapping[str, Kind]
) -> pd.DataFrame:
    """Split the joint field, which holds few different values, each once."""
    codes, values = pd.factorize(frame[section.fields[-1]])
    parts = [(value.split(_JOINT) + [section.unset] * len(section.joint)) for value in values]
    for i, column in enumerate(section.joint):
        if column in wanted:
            names = [None if part[i] == section.unset else part[i] for part in parts]
            frame[column] = pd.array(names, dtype="str").take(codes, allow_fill=True)
    return frame.drop(columns=section.fields[-1])


def _read_damaged_tsv(section: _Section, wanted: Mapping[str, Kind], valid: Valid | None) -> _Rows:
    lines = [line.rstrip("\r") for line in bytes(section.rows).decode().split("\n")]
    separator = section.separator.decode()
    rows = [i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    # A carriage return within a row would be a line end to the parser.
    fits = len(section.fields) - 1
    whole = [i for i in rows if lines[i].count(separator) == fits and "\r" not in lines[i]]
    text = "\n".join(lines[i] for i in whole).encode()
    table, good = _to_kinds(_parse_tsv(section, text, wanted, typed=False), wanted, valid)
    first = section.above + 1
    broken = set(rows) - set(np.asarray(whole, dtype=int)[good].tolist())
    return _Rows(table[good].reset_index(drop=True), tuple(sorted(first + i for i in broken)))


# ---- Files ----

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
    data, cut = _read_bytes(path)
    data = _as_utf8(data)
    start = data[:64].lstrip()
    if start.startswith(b"#"):
        sections = _cut_sections(data, path, needed, name)
        parts = [_read_section(section, kinds, valid) for section in sections]
    elif start.startswith(b"{"):
        parts = [_read_objects(data, kinds, needed, name, path, valid)]
    else:
        raise UserError(
            f"{path} is not a Zeek log (it starts with {start[:16].decode('latin-1')!a}); "
            f"expected {name} as TSV with a #fields line or as JSON lines; pass Zeek's log or a pcap"
        )
    tables = [part.table for part in parts]
    table = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    return Log(table, _notes(path, [line for part in parts for line in part.bad_lines], cut))


def _read_bytes(path: Path) -> tuple[bytes, bool]:
    """The content of a file, unpacked if gzipped, and whether the archive was cut short."""
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
    """Replace bytes that are no UTF-8: the parser would drop their rows without a word."""
    return data if data.isascii() else data.decode("utf-8", "replace").encode()


def _inflate(data: bytes, path: Path) -> tuple[bytes, bool]:
    """Unpack as far as the archive is good: logs are often copied while they are written."""
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
        n = len(bad_lines)
        rows = "1 malformed row was" if n == 1 else f"{n:,} malformed rows were"
        notes.append(f"{path.name}: {rows} skipped, the first on line {min(bad_lines)}.")
    if cut:
        notes.append(f"{path.name}: the archive is cut short; what could be unpacked was read.")
    return tuple(notes)
