"""Tables of sensor readings, CSV in any of its habits, as one long table: when, which sensor, what value.

    time,sensor,quantity,value          long: a row per reading; text columns together name the sensor
    Time;TT-101;TT-102                  wide: a row per moment; a column per sensor
    1795703529.922,sensor-2,current,14.8      no header: columns are told by what they hold

Delimiter, decimal comma, header and the column of times are found by content.
"""

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from traffic.device_logs.lines import read_head
from traffic.device_logs.syslog import seconds
from traffic.errors import UserError

_DELIMITERS = (";", "\t", ",", "|")
_TIME_NAMES = frozenset(
    ("time", "timestamp", "ts", "t", "datetime", "date_time", "epoch", "zeit", "zeitstempel", "time_s",
     "time_ms", "unixtime", "heure", "hora", "moment", "sample_time", "utc")
)  # fmt: skip
_DATE_NAMES = frozenset(("date", "datum", "day", "fecha"))
# Columns that say how good a reading is, or in what unit, name no other sensor.
_BESIDE = frozenset(("quality", "status", "unit", "units", "einheit", "comment", "flag", "state"))
_NOTHING = frozenset(("", "nan", "na", "n/a", "null", "none", "-", "--", "---", "bad", "nil"))
_MOST_SENSORS = 5_000
_HEAD_ROWS = 200
_EPOCHS = ((1e8, 1e10, 1.0), (1e11, 1e13, 1e3), (1e14, 1e16, 1e6), (1e17, 1e19, 1e9))
_MOST = 0.9  # share of a column that must be times where its name does not say so
_MOST_NAMED = 0.5


@dataclass(frozen=True)
class ReadingsFile:
    """The readings of one file.

    Attributes:
        source: the file's name.
        readings: ``ts sensor value``, sorted by sensor and time; ``value`` NaN where it is none.
            ``sensor`` is a category.
        words: for each sensor the words that may name its device: cells and headings.
        notes: what was skipped or assumed.
    """

    source: str
    readings: pd.DataFrame
    words: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def is_readings(path: Path) -> bool:
    """Whether a file looks like a table of readings: times and numbers by column, and what a table
    made for another purpose has is not there."""
    lines = read_head(path)
    try:
        form = _detect(lines, str(path))
    except UserError:
        return False
    names = {name.lower() for name in form.names}
    # Flows, packets, labels and truth tables have times and numbers too.
    return form.addresses < 2 and not names & {"label", "start_s", "src", "dst", "attack"}


@dataclass(frozen=True)
class _Form:
    """How a file is written; ``time`` holds one column, or those of date and time; ``addresses`` is how
    many columns hold IP addresses."""

    delimiter: str
    comma: bool
    header: bool
    names: tuple[str, ...]
    time: tuple[int, ...]
    keys: tuple[int, ...]
    values: tuple[int, ...]
    renamed: int
    addresses: int


def read_readings(path: Path) -> ReadingsFile:
    """Read a table of readings.

    Raises:
        UserError: it is no table, has no column of times or none of numbers; a message says which.
    """
    head = read_head(path)
    if not head:
        raise UserError(
            f"{path} cannot be read as text; expected CSV with times and readings; check the file"
        )
    form = _detect(head, str(path))
    table, skipped = _read_table(path, form)
    ts, day_first = _read_times([table.iloc[:, at] for at in form.time])
    good = np.isfinite(ts)
    table, ts = table[good], ts[good]
    keys = [table.iloc[:, at].str.strip() for at in form.keys]
    sensor, cells = _name_sensors(keys)
    pieces = []
    words: dict[str, tuple[str, ...]] = {}
    for at in form.values:
        value = _numbers(table.iloc[:, at], form.comma)
        alone = len(form.values) == 1 and keys
        heading = "" if alone else form.names[at]
        names = [" ".join(filter(None, (name, heading))) for name in cells] or [heading]
        words |= {
            name: tuple(filter(None, (*key, heading)))
            for name, key in zip(names, cells.values() if cells else [()], strict=True)
        }
        code = sensor if cells else np.zeros(len(table), np.int64)
        piece = {"ts": ts, "sensor": pd.Categorical.from_codes(code, names), "value": value}
        pieces.append(pd.DataFrame(piece))
    known = list(dict.fromkeys(name for piece in pieces for name in piece["sensor"].cat.categories))
    readings = pd.concat(
        [piece.assign(sensor=piece["sensor"].cat.set_categories(known)) for piece in pieces],
        ignore_index=True,
    )
    readings = readings.sort_values(["sensor", "ts"], kind="stable", ignore_index=True)
    notes = _say_skipped(path.name, skipped, int((~good).sum()), form, day_first)
    return ReadingsFile(path.name, readings, words, tuple(notes))


# ---- The form ----


def _detect(lines: Sequence[str], source: str) -> _Form:
    if any(line.startswith(("#separator", "#fields", "{")) for line in lines[:10]):
        raise UserError(
            f"{source} is a log of Zeek or of JSON lines, no table of readings; expected CSV; pass a capture as such"
        )
    lines = [part for line in lines for part in line.split("\r")]  # a line may end so, as for Arrow
    lines = [line for line in lines if line.strip() and not line.startswith("#")][:_HEAD_ROWS]
    delimiter = max(_DELIMITERS, key=lambda mark: _steadiness(lines, mark))
    rows = list(csv.reader(lines, delimiter=delimiter))
    width = len(rows[0]) if rows else 0
    body = [row for row in rows[1:] if len(row) == width]
    if width < 2 or not body:
        raise UserError(
            f"{source} is no table of two columns or more; expected CSV with a column of times and readings beside it; "
            "check the file"
        )
    comma = delimiter != "," and any(
        re.fullmatch(r"-?\d+,\d+", cell.strip()) for row in body for cell in row
    )
    first = pd.Series(rows[0], dtype="object")
    header = (
        not np.isfinite(_numbers(first, comma)).any()
        and not np.isfinite(_read_times([first])[0]).any()
    )
    body = body if header else [rows[0], *body]
    columns = [pd.Series([row[at] for row in body], dtype="object") for at in range(width)]
    names, renamed = _name_columns(rows[0] if header else [""] * width)
    time = _find_time(columns, names)
    if not time:
        raise UserError(
            f"{source} has no column of times (columns: {', '.join(names)[:120]}); expected ISO times, seconds or "
            "milliseconds since the epoch, or local dates; name the column time"
        )
    others = [at for at in range(width) if at not in time]
    beside = [at for at in others if names[at].lower() in _BESIDE]
    values = [at for at in others if at not in beside and _is_numeric(columns[at], comma)]
    keys = [at for at in others if at not in values and at not in beside]
    if not values:
        raise UserError(
            f"{source} has times but no column of numbers; expected readings beside them; check the file"
        )
    addresses = sum(
        bool(columns[at].str.fullmatch(r" *(?:\d{1,3}\.){3}\d{1,3} *").mean() > 0.5) for at in keys
    )
    return _Form(
        delimiter, comma, header, names, time, tuple(keys), tuple(values), renamed, addresses
    )


def _steadiness(lines: Sequence[str], mark: str) -> float:
    """How many cells a delimiter makes in the typical line, if nearly all lines have as many."""
    widths = [line.count(mark) for line in lines]
    if not widths:
        return 0.0
    usual = max(set(widths), key=widths.count)
    return usual * (widths.count(usual) >= 0.8 * len(widths))


def _name_columns(header: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Names of columns, each once; and how many had the name of another."""
    names: list[str] = []
    renamed = 0
    for number, cell in enumerate(header, start=1):
        plain = re.sub(r"[\x00-\x1f\x7f]+", " ", cell).strip()[:80] or f"column {number}"
        name, copy = plain, 1
        while name in names:
            copy += 1
            name = f"{plain} ({copy})"
        renamed += copy > 1
        names.append(name)
    return tuple(names), renamed


def _find_time(columns: Sequence[pd.Series], names: Sequence[str]) -> tuple[int, ...]:
    """The column of times: by its name, else the first that holds nothing but times."""
    lower = [re.sub(r"[\s\[(].*$", "", name.lower()) for name in names]
    dates = [at for at, name in enumerate(lower) if name in _DATE_NAMES]
    times = [at for at, name in enumerate(lower) if name in _TIME_NAMES]
    pairs = [(dates[0], times[0])] if dates and times else []
    single = [(at,) for at in (*times, *dates, *range(len(columns)))]
    for at in (*single, *pairs):
        least = _MOST_NAMED if set(at) & {*times, *dates} else _MOST
        if np.isfinite(_read_times([columns[one] for one in at])[0]).mean() >= least:
            return at
    return ()


def _is_numeric(column: pd.Series, comma: bool) -> bool:
    value = _numbers(column, comma)
    told = ~column.str.strip().str.lower().isin(_NOTHING)
    return bool(told.any()) and np.isfinite(value[told]).mean() >= 0.5


# ---- The columns ----


def _read_table(path: Path, form: _Form) -> tuple[pd.DataFrame, int]:
    """All cells as text, and how many rows had another number of cells."""
    skipped = 0

    def skip(row: Any) -> str:
        nonlocal skipped
        skipped += not row.text.lstrip("\ufeff").startswith("#")
        return "skip"

    names = [str(at) for at in range(len(form.names))]
    read = pacsv.ReadOptions(
        column_names=names, skip_rows=0, encoding=_encoding(path), block_size=8 << 20
    )
    parse = pacsv.ParseOptions(delimiter=form.delimiter, invalid_row_handler=skip)
    convert = pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
    )
    try:
        table = pacsv.read_csv(path, read, parse, convert).to_pandas()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as CSV ({str(error).splitlines()[0][:160]}); expected one table; check the file"
        ) from error
    comments = table.iloc[:, 0].str.startswith("#")
    table = table[~comments.to_numpy(bool)]
    return (table.iloc[1:] if form.header else table).reset_index(drop=True), skipped


def _encoding(path: Path) -> str:
    """UTF-8, UTF-16 by its mark, else Latin-1."""
    with path.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
        stream.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block := stream.read(1 << 24):
                decoder.decode(block)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


def _numbers(column: pd.Series, comma: bool) -> np.ndarray:
    """Values, NaN where a cell is no number."""
    text = column.str.strip()
    if comma:
        text = text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    value = pd.to_numeric(text, errors="coerce").to_numpy(float)
    return np.where(np.isfinite(value), value, np.nan)


def _read_times(columns: Sequence[pd.Series]) -> tuple[np.ndarray, bool | None]:
    """Seconds since the epoch, NaN where a cell is no time; and whether local dates were read with
    the day first (None: there was nothing to choose)."""
    text = columns[0].str.strip()
    if len(columns) > 1:
        text = text.str.cat(columns[1].str.strip(), sep=" ")
    number = pd.to_numeric(text.str.replace(",", ".", regex=False), errors="coerce").to_numpy(float)
    ts = np.full(len(text), np.nan)
    for low, high, scale in _EPOCHS:
        inside = (number >= low) & (number < high)
        ts[inside] = number[inside] / scale
    rest = np.isnan(ts) & np.isnan(number)
    if not rest.any():
        return ts, None
    code, unique = pd.factorize(text[rest])
    words = pd.Series(unique, dtype="object").str.replace(r",(\d+)$", r".\1", regex=True)
    iso = words.str.match(r"(?:19|20)\d\d[-/.]\d\d?[-/.]\d\d?").to_numpy(bool)
    found = np.full(len(words), np.nan)
    plain = words[iso].str.replace(r"^(\d{4})[/.](\d\d?)[/.]", r"\1-\2-", regex=True)
    found[iso] = seconds(pd.to_datetime(plain, utc=True, format="ISO8601", errors="coerce"))
    parts = words.str.extract(
        r"^(\d{1,2})[./-](\d{1,2})[./-]((?:19|20)\d\d|\d\d)[ T,]+(\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?)( ?[AaPp][Mm])?$"
    )
    local = parts[0].notna().to_numpy() & ~iso
    day_first = None
    if local.any():
        parts = parts[local]
        first, second = parts[0].astype(int), parts[1].astype(int)
        dotted = words[local].str.contains(r"^\d+\.").any()
        day_first = bool(
            dotted or (first > 12).any() or not ((second > 12).any() or parts[4].notna().any())
        )
        day, month = (first, second) if day_first else (second, first)
        year = parts[2].astype(int)
        date = pd.DataFrame(
            {"year": year.where(year > 99, year + 2000), "month": month, "day": day}
        )
        clock = parts[3].where(parts[3].str.count(":") > 1, parts[3] + ":00")
        half = parts[4].fillna("").str.strip().str.lower()
        hour = clock.str.extract(r"^(\d+)")[0].astype(int)
        shift_h = np.where(
            half.eq("pm") & (hour < 12), 12, np.where(half.eq("am") & (hour == 12), -12, 0)
        )
        moment = pd.to_datetime(date, utc=True, errors="coerce") + pd.to_timedelta(
            clock, errors="coerce"
        )
        found[local] = seconds(moment) + 3600.0 * shift_h
    ts[rest] = np.append(found, np.nan)[code]
    return ts, day_first


def _name_sensors(keys: Sequence[pd.Series]) -> tuple[np.ndarray, dict[str, tuple[str, ...]]]:
    """The number of each row's sensor, and the cells that name each, by name."""
    if not keys:
        return np.zeros(0, np.int64), {}
    table = pd.concat(keys, axis=1, ignore_index=True).fillna("")
    code = table.groupby(list(table.columns), sort=True).ngroup().to_numpy()
    number = int(code.max(initial=-1)) + 1
    if number > _MOST_SENSORS:
        raise UserError(
            f"the text columns of a table name {number:,} sensors; expected at most {_MOST_SENSORS:,}; "
            "leave out the columns that name none"
        )
    first = table.iloc[np.unique(code, return_index=True)[1]]
    cells = [
        tuple(re.sub(r"[\x00-\x1f\x7f]+", " ", cell)[:80] for cell in row)
        for row in first.to_numpy()
    ]
    return code, {
        " ".join(filter(None, cell)) or f"sensor {n}": cell for n, cell in enumerate(cells)
    }


def _say_skipped(
    name: str, ragged: int, untimed: int, form: _Form, day_first: bool | None
) -> list[str]:
    notes = []
    if ragged:
        notes.append(
            f"{name}: {ragged:,} rows have another number of cells than the first and were skipped."
        )
    if untimed:
        notes.append(f"{name}: {untimed:,} rows tell no time and were skipped.")
    if form.renamed:
        notes.append(f"{name}: {form.renamed} columns have the name of another and were numbered.")
    if day_first is not None:
        order = "day first" if day_first else "month first"
        notes.append(f"{name}: its local dates were read with the {order}, as UTC.")
    return notes
