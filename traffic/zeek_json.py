"""Zeek's JSON: one object a line, unset fields left out."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from traffic.zeek_rows import Kind, Rows, Valid, check_fields, to_kinds

__all__ = ["read_objects"]


def read_objects(
    data: bytes, kinds: Mapping[str, Kind], needed: tuple[str, ...], name: str, path: Path, valid: Valid | None
) -> Rows:
    import pyarrow as pa

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
    import pyarrow as pa
    from pyarrow import json as arrow_json

    types = {"number": pa.float64(), "text": pa.string(), "flag": pa.bool_()}
    schema = pa.schema([(column, types[kind]) for column, kind in kinds.items()])
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = arrow_json.ReadOptions(block_size=8 << 20)
    frame = arrow_json.read_json(pa.BufferReader(data), read_options=read, parse_options=options).to_pandas()
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
    """Zeek's JSON may hold times as ISO 8601 (LogAscii::json_timestamps); seconds since the epoch otherwise."""
    if not ts.str.contains("T", regex=False).fillna(False).any():
        return ts
    times = pd.to_datetime(ts, utc=True, errors="coerce", format="ISO8601")
    epoch = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return epoch.astype("str").where(times.notna(), ts)
