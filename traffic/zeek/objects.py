"""Zeek's JSON: one object a line, unset fields left out; read in pieces."""

import json
import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from traffic.zeek.columns import Kind, Rows, Valid, make_rows, with_types

# Zeek may write times as ISO 8601 (LogAscii::json_timestamps).
_ISO_TIME = re.compile(rb'"ts"\s*:\s*"')


def read_objects(
    pieces: Iterator[bytes], kinds: Mapping[str, Kind], valid: Valid | None
) -> Iterator[Rows]:
    """Read a log piece by piece; every table has all columns, null where no object has them.

    Args:
        pieces: whole lines of UTF-8 each.
        kinds, valid: as ``traffic.zeek.logs.read_log`` has them.
    """
    above = 0
    for data in pieces:
        try:
            table = _parse(data, kinds)
            whole = valid is None or bool(valid(table).all())
        except pa.ArrowInvalid:
            whole = False
        yield Rows(table) if whole else _read_damaged(data, kinds, above, valid)
        above += data.count(b"\n")


def _parse(data: bytes, kinds: Mapping[str, Kind]) -> pa.Table:
    if not data.strip():
        return with_types(pa.table({name: pa.array([], pa.string()) for name in kinds}), kinds)
    types = {"number": pa.float64(), "flag": pa.bool_(), "set": pa.list_(pa.string())}
    fields = {column: types.get(kind, pa.string()) for column, kind in kinds.items()}
    iso = "ts" in fields and _ISO_TIME.search(data[: 1 << 16]) is not None
    if iso:
        fields["ts"] = pa.string()
    options = arrow_json.ParseOptions(
        explicit_schema=pa.schema(list(fields.items())), unexpected_field_behavior="ignore"
    )
    read = arrow_json.ReadOptions(block_size=8 << 20)
    table = arrow_json.read_json(pa.BufferReader(data), read_options=read, parse_options=options)
    for column, kind in kinds.items():
        i = table.schema.get_field_index(column)
        if kind == "flag":
            table = table.set_column(i, column, pc.if_else(table[column], "T", "F"))
        elif kind == "set":
            table = table.set_column(i, column, pc.binary_join(table[column], ","))
    if iso:
        seconds = pa.array(_seconds(table["ts"].to_pandas().astype("str")), from_pandas=True)
        table = table.set_column(
            table.schema.get_field_index("ts"), "ts", seconds.cast(pa.float64())
        )
    return with_types(table.select(list(kinds)), kinds)


def _read_damaged(data: bytes, kinds: Mapping[str, Kind], above: int, valid: Valid | None) -> Rows:
    objects, lines, broken = [], [], []
    for number, line in enumerate(data.decode().split("\n"), start=above + 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            objects.append([_text(entry.get(column)) for column in kinds])
            lines.append(number)
        else:
            broken.append(number)
    text = pd.DataFrame(objects, columns=list(kinds)).astype("str")
    if "ts" in kinds:
        text["ts"] = _seconds(text["ts"])
    return make_rows(text, kinds, np.asarray(lines, dtype=int), broken, valid)


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return None if value is None else str(value)


def _seconds(ts: pd.Series) -> pd.Series:
    """Seconds since the epoch as text, of times of either form."""
    if not ts.str.contains("T", regex=False).fillna(False).any():
        return ts
    times = pd.to_datetime(ts, utc=True, errors="coerce", format="ISO8601")
    # In seconds: a year that 64 bits of nanoseconds do not reach is no reason to give up a log.
    epoch = (times - pd.Timestamp(0, tz="UTC").as_unit("s")) / pd.Timedelta(seconds=1)
    return epoch.astype("str").where(times.notna(), ts)
