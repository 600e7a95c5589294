r"""Lines of logs as a table: when, whose, how severe, and the text, by pattern over whole columns.

The forms that syslog daemons and devices write, each line by itself, so that a file may mix them:

    <165>1 2026-11-26T14:32:08.003Z plc-1 plc 112 ID47 [meta seq="1"] text   RFC 5424
    <34>Nov 26 14:32:08 plc-1 plc[112]: text              RFC 3164, with or without <PRI> or year
    2026-11-26T14:32:08+01:00 plc-1 plc[112]: text        rsyslog's file form, journalctl -o short-iso
    1795703528.003 plc-1 plc[112]: text                   seconds since the epoch
    __REALTIME_TIMESTAMP=1795703528003000 ...             journalctl -o export

RE2 runs the patterns (through Arrow): its time is linear in the text, whatever an attacker wrote.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

UNKNOWN = -1  # severity of a line that tells none

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PRI = r"^(?:<(?P<pri>\d{1,3})>)?"
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_ISO = rf"(?:19|20)\d\d-\d\d-\d\d[T ]{_CLOCK} ?(?:Z|[+-]\d\d:?\d\d)?"
# Cisco numbers its lines and marks a clock that was never set by a star.
_BSD = (
    rf"(?:\d+: )?[*.]?(?P<time>(?:{'|'.join(_MONTHS)}) {{1,2}}\d{{1,2}}(?: (?:19|20)\d\d)? {_CLOCK}(?: (?:19|20)\d\d)?)"
    r"(?: [A-Z]{3,4})?:? "
)
_HEADS = (
    rf"^(?:\d{{1,6}} )?<(?P<pri>\d{{1,3}})>1 (?P<time>{_ISO}|-) (?P<host>\S+) (?P<app>\S+) \S+ \S+ "
    r"(?:-|(?:\[(?:[^\]\\]|\\.)*\])+) ?(?P<rest>.*)$",
    rf"{_PRI}(?P<time>{_ISO}) (?P<rest>.*)$",
    rf"{_PRI}{_BSD}(?P<rest>.*)$",
    rf"{_PRI}(?P<time>\d{{10}}(?:\.\d{{1,9}})?) (?P<rest>.*)$",
)
_TAG = r"^(?P<host>[\w.:%-]+) (?P<tag>[^\s:\[\]]+)(?:\[[^\]\s]+\])?: ?(?P<text>.*)$"
_BARE = r"^(?P<host>[\w.:%-]+) +(?P<text>.*)$"
_LEVELS = {
    "emerg": 0, "emergency": 0, "panic": 0, "alert": 1, "crit": 2, "critical": 2, "fatal": 2,
    "err": 3, "error": 3, "severe": 3, "failure": 3, "warn": 4, "warning": 4, "notice": 5,
    "info": 6, "information": 6, "debug": 7, "trace": 7,
}  # fmt: skip
# A level at the head of the text; Cisco's and many switches' %FACILITY-3-NAME.
_LEVEL = rf"(?i)^[\s\[(<*%]*(?P<level>{'|'.join(sorted(_LEVELS, key=len, reverse=True))})\b"
_CISCO = r"^[^%]{0,40}%[A-Z0-9_]+-(?P<level>[0-7])-[A-Z0-9_]+:"
_REPEATED = r"(?i)^(?:last )?message repeated (?P<n>\d{1,9}) times?(?:: \[ ?(?P<text>.*?)\]?)?\.?$"
_COUNTED = r"^(?P<text>.*?) \(repeated (?P<n>\d{1,9}) times?\)$"
_JOURNAL = r"^(?P<key>[A-Z_][A-Z0-9_]*)=(?P<value>.*)$"


@dataclass(frozen=True)
class LogLines:
    """Lines of a log that tell a time, in their order.

    Attributes:
        table: one row per line: ``ts`` (seconds since the epoch; a time without zone is read as
            UTC), ``host`` (as written, "" where it tells none), ``severity``, ``count`` (a line
            that stands for repetitions counts as many), ``line`` (number in the file).
        texts: what the line says, beside ``table``.
        continued: lines without a time: the rest of what stands before them.
    """

    table: pd.DataFrame
    texts: pa.Array
    continued: int


def parse_lines(
    lines: list[str], near_s: float, first: int = 1, known: Iterable[str] = ()
) -> LogLines:
    """Read lines of a log.

    Args:
        lines: text, in the order of the file.
        near_s: seconds since the epoch; a line that tells no year is of the year that brings it
            nearest to this.
        first: the number of the first line.
        known: names and addresses of devices, lower case: such a word before the text is a host
            though no colon follows.
    """
    if any(line.startswith("__REALTIME_TIMESTAMP=") for line in lines[:50]):
        return _parse_journal(lines, first)
    texts = pa.array(lines, pa.string())
    head = _read_heads(texts)
    is_read = head["time"].notna().to_numpy()
    head = head[is_read].reset_index(drop=True)
    ts = _read_times(head["time"], near_s)
    good = np.isfinite(ts)
    head, ts = head[good].reset_index(drop=True), ts[good]
    host, text = _split_host(head, known)
    severity = _severities(head["pri"], text)
    table = pd.DataFrame(
        {
            "ts": ts,
            "host": host,
            "severity": severity,
            "line": first + np.flatnonzero(is_read)[good],
        }
    )
    blank = int(pc.sum(pc.equal(pc.utf8_trim_whitespace(texts), "")).as_py() or 0)
    table["count"], text = _repetitions(table["host"], text)
    return LogLines(table, text, len(lines) - blank - len(table))


def _extract(texts: pa.Array, pattern: str) -> dict[str, pa.Array]:
    """The groups of a pattern, null where it does not match."""
    found = pc.extract_regex(texts, pattern)
    # A struct's fields are flattened with its nulls.
    return dict(zip([field.name for field in found.type], found.flatten(), strict=True))


def _read_heads(texts: pa.Array) -> pd.DataFrame:
    """``pri time host app rest`` of each line by the first form that fits; null where none does."""
    names = ("pri", "time", "host", "app", "rest")
    head = {name: np.full(len(texts), None, object) for name in names}
    left = np.arange(len(texts))
    for pattern in _HEADS:
        if not len(left):
            break
        found = _extract(texts.take(pa.array(left)), pattern)
        fits = pc.is_valid(found["time"]).to_numpy(zero_copy_only=False)
        for name, values in found.items():
            head[name][left[fits]] = values.filter(pa.array(fits)).to_numpy(zero_copy_only=False)
        left = left[~fits]
    return pd.DataFrame(head, dtype="object")


def _read_times(written: pd.Series, near_s: float) -> np.ndarray:
    """Times as seconds since the epoch, NaN where one is none (the 31st of February); one that
    tells no zone is read as UTC."""
    code, unique = pd.factorize(written)
    texts = pc.replace_substring(pa.array(unique, pa.string()), pattern=",", replacement=".")

    def fits(pattern: str) -> np.ndarray:
        return pc.match_substring_regex(texts, pattern=pattern).to_numpy(zero_copy_only=False)

    ts = np.full(len(texts), np.nan)
    epoch, iso = fits(r"^\d{10}(?:\.\d+)?$"), fits(r"^\d{4}-")
    ts[epoch] = pc.cast(texts.filter(pa.array(epoch)), pa.float64()).to_numpy()
    dated = pd.Series(texts.filter(pa.array(iso)).to_numpy(zero_copy_only=False))
    ts[iso] = seconds(pd.to_datetime(dated, utc=True, format="ISO8601", errors="coerce"))
    bsd = ~epoch & ~iso
    words = pd.Series(texts.filter(pa.array(bsd)).to_numpy(zero_copy_only=False), dtype="object")
    ts[bsd] = _read_bsd(words, near_s)
    return ts[code]


def seconds(moments: pd.Series) -> np.ndarray:
    """Seconds since the epoch of timestamps, NaN for NaT.

    >>> seconds(pd.Series(pd.to_datetime(["1970-01-01 00:01:00.5"], utc=True))).tolist()
    [60.5]
    """
    return ((moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)).to_numpy(float)


def _read_bsd(texts: pd.Series, near_s: float) -> np.ndarray:
    """Times such as "Nov 26 14:32:08", with a year before or after the clock or none."""
    if texts.empty:
        return np.zeros(0)
    parts = texts.str.extract(
        r"^(?P<month>\w{3}) +(?P<day>\d+)(?: (?P<year>\d{4}))? (?P<clock>\S+)(?: (?P<last>\d{4}))?$"
    )
    year = pd.to_numeric(parts["year"].fillna(parts["last"]))
    month = parts["month"].map({name: n for n, name in enumerate(_MONTHS, start=1)})
    middle = pd.Timestamp(near_s, unit="s").year

    def at(years: pd.Series | int) -> np.ndarray:
        day = pd.DataFrame({"year": years, "month": month, "day": pd.to_numeric(parts["day"])})
        moment = pd.to_datetime(day, utc=True, errors="coerce")
        return seconds(moment + pd.to_timedelta(parts["clock"], errors="coerce"))

    told = at(year.fillna(middle).astype(int))
    guesses = np.stack([at(middle + shift) for shift in (-1, 0, 1)])
    far = np.where(np.isfinite(guesses), np.abs(guesses - near_s), np.inf)
    nearest = guesses[np.argmin(far, axis=0), np.arange(len(texts))]
    return np.where(year.notna(), told, nearest)


def _split_host(head: pd.DataFrame, known: Iterable[str]) -> tuple[pd.Series, pa.Array]:
    """Hosts and texts: the tag with its colon, or a word that is a known name, shows the host."""
    rest = pa.array(head["rest"], pa.string())
    tagged = _extract(rest, _TAG)
    bare = _extract(rest, _BARE)
    first = bare["host"].to_numpy(zero_copy_only=False)
    lower = pc.utf8_lower(bare["host"])

    def among(words: Iterable[str]) -> np.ndarray:
        found = pc.is_in(lower, value_set=pa.array(list(words), pa.string()))
        return found.to_numpy(zero_copy_only=False)

    told = head["host"].notna().to_numpy()
    level = among(_LEVELS)
    tag = pc.is_valid(tagged["text"]).to_numpy(zero_copy_only=False) & ~told & ~level
    address = pc.match_substring_regex(lower, pattern=r"^(?:\d{1,3}\.){3}\d{1,3}$")
    named = among(known) | pc.fill_null(address, False).to_numpy(zero_copy_only=False)
    named &= ~told & ~tag
    host = np.where(told, head["host"], np.where(tag | named, first, ""))
    text = pc.if_else(pa.array(named), bare["text"], rest)
    text = pc.if_else(pa.array(tag), tagged["text"], text)
    # RFC 5424 may begin its text with a byte order mark, and writes "-" for what it does not know.
    text = pc.replace_substring_regex(text, pattern="^\ufeff", replacement="")
    host = pd.Series(host, dtype="str").replace("-", "")
    return host, pc.fill_null(text, "")


def _severities(pri: pd.Series, text: pa.Array) -> np.ndarray:
    """RFC 5424's severity from the priority, else from a level at the text's head."""
    told = pd.to_numeric(pri).to_numpy(float)
    severity = np.where(np.isfinite(told), told % 8, np.nan)
    level = pd.Series(_extract(text, _LEVEL)["level"].to_pandas(), dtype="object")
    severity = np.where(np.isfinite(severity), severity, level.str.lower().map(_LEVELS))
    cisco = pd.to_numeric(pd.Series(_extract(text, _CISCO)["level"].to_pandas(), dtype="object"))
    severity = np.where(np.isfinite(severity.astype(float)), severity, cisco)
    return pd.Series(severity).astype(float).fillna(UNKNOWN).astype("int64").to_numpy()


def _repetitions(host: pd.Series, text: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """How many lines each stands for, and the text that is repeated."""
    count = np.ones(len(text), np.int64)
    rows = np.flatnonzero(pc.match_substring(text, "repeated ").to_numpy(zero_copy_only=False))
    if not len(rows):
        return count, text
    texts = pd.Series(text.to_pandas(), dtype="object")
    for pattern, more in ((_REPEATED, 0), (_COUNTED, 1)):
        found = texts.iloc[rows].str.extract(pattern)
        found = found[found["n"].notna()]
        count[found.index] = pd.to_numeric(found["n"]).clip(upper=1_000_000) + more
        texts[found.index] = found["text"]
    # "last message repeated 3 times" speaks of the line before it of the same host.
    last = texts.groupby(host.to_numpy(), sort=False).ffill()
    return count, pa.array(last.fillna("message repeated"), pa.string())


def _parse_journal(lines: list[str], first: int) -> LogLines:
    """The journal's export form: fields line by line, an empty line ends an entry."""
    found = _extract(pa.array(lines, pa.string()), _JOURNAL)
    rows = pd.DataFrame({name: values.to_pandas() for name, values in found.items()})
    rows["entry"] = np.cumsum(np.array(lines) == "")
    rows["line"] = first + np.arange(len(rows))
    start = rows[rows["key"].notna()].groupby("entry")["line"].first()
    wanted = ["__REALTIME_TIMESTAMP", "_HOSTNAME", "MESSAGE", "PRIORITY"]
    rows = rows[rows["key"].isin(wanted)].drop_duplicates(["entry", "key"])
    entries = rows.pivot(index="entry", columns="key", values="value").reindex(columns=wanted)
    entries = entries.astype("str")  # one that no entry has is of no type
    moment_us = pd.to_numeric(entries["__REALTIME_TIMESTAMP"], errors="coerce")
    good = (moment_us.notna() & entries["MESSAGE"].notna()).to_numpy()
    entries, moment_us = entries[good], moment_us[good]
    text = pa.array(entries["MESSAGE"], pa.string())
    table = pd.DataFrame(
        {
            "ts": moment_us.to_numpy(float) / 1e6,
            "host": entries["_HOSTNAME"].fillna("").astype("str").to_numpy(),
            "severity": _severities(
                entries["PRIORITY"].where(entries["PRIORITY"].str.fullmatch(r"[0-7]").eq(True)),
                text,
            ),
            "line": start.reindex(entries.index).to_numpy(),
        }
    )
    table["count"], text = _repetitions(table["host"], text)
    return LogLines(table, text, int((~good).sum()))
