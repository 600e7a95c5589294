"""Zeek's TSV: rows under a header of ``#`` lines, read in pieces.

Logs that were put one behind the other repeat their header, which may change columns. A piece is
parsed by pyarrow in one go; only a piece with damage in it is taken line by line, so each bad row is
counted and placed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from traffic.errors import UserError
from traffic.zeek.columns import WORDS, Kind, Rows, Valid, arrow_type, check_fields, make_rows

# IoT-23's conn.log.labeled joins its last three columns with three spaces.
_JOINT = "   "
_HEADER = b"#fields"
_LONGEST_TOP = 1 << 20  # bytes before the first header


@dataclass(frozen=True)
class _Header:
    """What stands above rows: their columns, and how cells are separated and left unset."""

    fields: tuple[str, ...] = ()
    joint: tuple[str, ...] = ()  # the columns that the last field holds, joined by spaces
    separator: str = "\t"
    unset: str = "-"
    empty: str = "(empty)"


def read_tsv(
    pieces: Iterator[bytes],
    kinds: Mapping[str, Kind],
    needed: tuple[str, ...],
    name: str,
    path: Path,
    valid: Valid | None,
) -> Iterator[Rows]:
    """Read a log piece by piece.

    Args:
        pieces: whole lines of UTF-8 each.
        kinds, needed, name, valid: as ``traffic.zeek.logs.read_log`` has them.
        path: for messages.

    Raises:
        UserError: no header, or one that lacks a needed column.
    """
    header, above, top = _Header(), 0, b""
    for data in pieces:
        if not header.fields:
            top = data = top + data
            starts = _header_starts(data)
            if not starts and len(data) < _LONGEST_TOP:
                continue
            if not starts:
                break
            header = _read_options(data[: starts[0]])
        else:
            starts = _header_starts(data)
        first = 0
        for start in [*starts, len(data)]:
            if header.fields and start > first:
                rows = memoryview(data)[first:start]
                yield _read_rows(rows, header, kinds, above + data.count(b"\n", 0, first), valid)
            if start < len(data):
                end = _line_end(data, start)
                line = above + data.count(b"\n", 0, start) + 1
                header = _read_header(data[start:end], header, line, needed, path, name)
                first = min(end + 1, len(data))
        above += data.count(b"\n")
    if not header.fields:
        raise UserError(
            f"{path} has no #fields line; expected Zeek's {name}; pass the log with its header"
        )


def _header_starts(data: bytes) -> list[int]:
    starts = [0] if data.startswith(_HEADER) else []
    at = data.find(b"\n" + _HEADER)
    while at >= 0:
        starts.append(at + 1)
        at = data.find(b"\n" + _HEADER, at + 1)
    return starts


def _line_end(data: bytes, start: int) -> int:
    end = data.find(b"\n", start)
    return len(data) if end < 0 else end


def _read_options(above: bytes) -> _Header:
    header = _Header()
    for line in above.decode().splitlines():
        separator = re.fullmatch(r"#separator (?:\\x([0-7][0-9a-fA-F])|([ -~]))", line.rstrip())
        if separator:
            given = bytes.fromhex(separator[1]).decode() if separator[1] else separator[2]
            header = replace(header, separator=given)
        elif line.startswith(("#unset_field", "#empty_field")):
            parts = line.split(header.separator, 1)
            if len(parts) == 2:
                unset = line.startswith("#unset")
                header = replace(
                    header,
                    unset=parts[1] if unset else header.unset,
                    empty=header.empty if unset else parts[1],
                )
    return header


def _read_header(
    line: bytes, before: _Header, number: int, needed: tuple[str, ...], path: Path, name: str
) -> _Header:
    fields = tuple(line.rstrip(b"\r").decode().split(before.separator)[1:])
    joint = tuple(fields[-1].split(_JOINT)) if fields and _JOINT in fields[-1] else ()
    named = (*fields[:-1], *joint) if joint else fields
    check_fields(named, needed, f"line {number} lists {len(named)} fields", path, name)
    return replace(before, fields=fields, joint=joint)


def _read_rows(
    rows: memoryview, header: _Header, kinds: Mapping[str, Kind], above: int, valid: Valid | None
) -> Rows:
    there = (*header.fields, *header.joint)
    wanted = {column: kind for column, kind in kinds.items() if column in there}
    try:
        table = _parse(rows, header, wanted)
        if valid is None or valid(table).all():
            return Rows(table)
    except pa.ArrowInvalid:
        pass  # which rows are damaged, and on which lines, is found line by line
    return _read_damaged(rows, header, wanted, above, valid)


def _parse(
    rows: memoryview | bytes, header: _Header, wanted: Mapping[str, Kind], typed: bool = True
) -> pa.Table:
    """The wanted columns; all of them as plain text where they are not ``typed``."""
    types = {name: arrow_type(kind) if typed else pa.string() for name, kind in wanted.items()}
    if not len(rows):
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})
    joint = header.fields[-1:] if header.joint else ()
    columns = [name for name in header.fields if name in wanted or name in joint]
    table = csv.read_csv(
        pa.BufferReader(pa.py_buffer(rows)),
        read_options=csv.ReadOptions(column_names=list(header.fields), block_size=8 << 20),
        parse_options=csv.ParseOptions(
            delimiter=header.separator,
            quote_char=False,
            # Comments have another number of fields than rows, so this sees them; a bad row ends
            # the fast path.
            invalid_row_handler=lambda row: "skip" if row.text.startswith("#") else "error",
        ),
        convert_options=csv.ConvertOptions(
            column_types=types | dict.fromkeys(joint, WORDS),
            include_columns=columns,
            null_values=[header.unset],
            strings_can_be_null=True,
        ),
    )
    if header.joint:
        table = _split_joint(table, header, wanted, types)
    table = table.select(list(wanted))
    return _empty(table, header.empty)


def _split_joint(
    table: pa.Table, header: _Header, wanted: Mapping[str, Kind], types: Mapping[str, pa.DataType]
) -> pa.Table:
    """Split the joint field, which holds few different values, each once."""
    words = table[header.fields[-1]].unify_dictionaries().combine_chunks()
    values = [value or "" for value in words.dictionary.to_pylist()]
    parts = [value.split(_JOINT) + [header.unset] * len(header.joint) for value in values]
    table = table.drop_columns([header.fields[-1]])
    for i, column in enumerate(header.joint):
        if column in wanted:
            names = [None if part[i] == header.unset else part[i] for part in parts]
            split = pa.array(names, pa.string()).take(words.indices)
            is_words = pa.types.is_dictionary(types[column])
            table = table.append_column(column, split.dictionary_encode() if is_words else split)
    return table


def _empty(table: pa.Table, mark: str) -> pa.Table:
    """What stands for an empty set becomes an empty text."""
    for i, field in enumerate(table.schema):
        column = table.column(i)
        if pa.types.is_dictionary(field.type):
            if not any(pc.index(chunk.dictionary, mark).as_py() >= 0 for chunk in column.chunks):
                continue
            column = column.cast(pa.string())
        elif field.type != pa.string():
            continue
        changed = pc.if_else(pc.equal(column, mark), "", column)
        is_words = pa.types.is_dictionary(field.type)
        table = table.set_column(
            i, field.name, changed.dictionary_encode() if is_words else changed
        )
    return table


def _read_damaged(
    piece: memoryview, header: _Header, wanted: Mapping[str, Kind], above: int, valid: Valid | None
) -> Rows:
    lines = [line.rstrip("\r") for line in bytes(piece).decode().split("\n")]
    rows = [i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    # A carriage return within a row would be a line end to the parser.
    fits = len(header.fields) - 1
    whole = [i for i in rows if lines[i].count(header.separator) == fits and "\r" not in lines[i]]
    text = "\n".join(lines[i] for i in whole).encode()
    cells: pd.DataFrame = _parse(text, header, wanted, typed=False).to_pandas()
    broken = [above + 1 + i for i in sorted(set(rows) - set(whole))]
    return make_rows(cells, wanted, np.asarray(whole, dtype=int) + above + 1, broken, valid)
