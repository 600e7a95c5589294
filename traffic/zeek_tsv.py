"""Zeek's TSV: rows under a header of ``#`` lines, cut where a header changes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from traffic.errors import UserError
from traffic.zeek_rows import Kind, Rows, Valid, check_fields, to_kinds

__all__ = ["Section", "cut_sections", "read_section"]

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
    """Cut a log where its columns change; logs that were concatenated repeat their header, mostly unchanged."""
    starts = _header_starts(data)
    if not starts:
        raise UserError(f"{path} has no #fields line; expected Zeek's {name}; pass the log with its header")
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
            options["separator"] = bytes.fromhex(separator[1]) if separator[1] else separator[2].encode()
        elif line.startswith(("#unset_field", "#empty_field")):
            parts = line.split(options["separator"].decode(), 1)
            if len(parts) == 2:
                options[line[1:6]] = parts[1]
    return options


def read_section(section: Section, kinds: Mapping[str, Kind], valid: Valid | None) -> Rows:
    import pyarrow as pa

    wanted = {column: kind for column, kind in kinds.items() if column in (*section.fields, *section.joint)}
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
    import pyarrow as pa
    from pyarrow import csv

    numbers = {column for column, kind in wanted.items() if typed and kind == "number"}
    if not len(rows):
        return pd.DataFrame({c: pd.Series(dtype="float64" if c in numbers else "str") for c in wanted})
    columns = [column for column in section.fields if column in wanted or (section.joint and _JOINT in column)]
    table = csv.read_csv(
        pa.BufferReader(pa.py_buffer(rows)),
        read_options=csv.ReadOptions(column_names=list(section.fields), block_size=8 << 20),
        parse_options=csv.ParseOptions(
            delimiter=section.separator.decode(),
            quote_char=False,
            # Comments have another number of fields than rows, so this sees them; a bad row ends the fast path.
            invalid_row_handler=lambda row: "skip" if row.text.startswith("#") else "error",
        ),
        convert_options=csv.ConvertOptions(
            column_types={column: pa.float64() if column in numbers else pa.string() for column in columns},
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
            names = pd.array([None if part[i] == section.unset else part[i] for part in parts], dtype="str")
            frame[column] = names.take(codes, allow_fill=True)
    return frame.drop(columns=section.fields[-1])


def _read_damaged_tsv(section: Section, wanted: Mapping[str, Kind], valid: Valid | None) -> Rows:
    lines = [line.rstrip("\r") for line in bytes(section.rows).decode().split("\n")]
    separator = section.separator.decode()
    rows = [i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    # A carriage return within a row would be a line end to the parser.
    whole = [i for i in rows if lines[i].count(separator) == len(section.fields) - 1 and "\r" not in lines[i]]
    text = "\n".join(lines[i] for i in whole).encode()
    table, good = to_kinds(_parse_tsv(section, text, wanted, typed=False), wanted, valid)
    first = section.above + 1
    broken = set(rows) - set(np.asarray(whole, dtype=int)[good].tolist())
    return Rows(table[good].reset_index(drop=True), tuple(sorted(first + i for i in broken)))
