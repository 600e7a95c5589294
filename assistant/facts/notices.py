"""What a sensor's own notices claim: who did what, to whom, when and how often, as its word.

Scan::Address_Scan              address scan
ICMP::TimestampScan             ICMP timestamp scan
SSH::Password_Guessing          SSH password guessing
"""

import re
from dataclasses import dataclass

import pandas as pd

from assistant.facts.fact import Fact, Value, listed, make_fact, plural, show
from assistant.facts.traffic_view import TrafficView
from traffic.zeek.alerts import SLIPS, SURICATA

NOTICE_LOG = "The sensor's notice.log"
# Whose word it is, by how its types begin: it is somebody else's, and is shown as that.
_WHOSE = {SURICATA: "Suricata's eve.json", SLIPS: "Slips' alerts.json"}
_MOST_NOTICES = 3
_SENTENCES = {
    "notice": "{whose} reports {count:time} {kind} by {source}{whom}, from {start_time_s} to {end_time_s}.",
    "notice_once": "{whose} reports {count:time} {kind} by {source}{whom}, at {start_time_s}.",
}
_IDENTIFIER = re.compile(r"[A-Za-z0-9_:]{1,60}")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def notice_facts(
    view: TrafficView, notices: pd.DataFrame, device: str = "", most: int = _MOST_NOTICES
) -> list[Fact]:
    """What the sensor itself claims to have seen, by source and kind, the most frequent first.

    Args:
        view: names addresses.
        notices: ``Capture.notices``.
        device: whose notices; "" for all.
        most: of how many sources and kinds.
    """
    if device:
        notices = notices[(notices["src"] == device) | (notices["dst"] == device)]
    groups = notices.groupby([notices["src"].fillna(""), "type"], observed=True)
    order = groups.size().sort_values(ascending=False, kind="stable").index[:most]
    return [_tell(view, groups.get_group(one)) for one in order]


def _tell(view: TrafficView, rows: pd.DataFrame) -> Fact:
    """Notices of one kind by one source."""
    source, kind = rows["src"].iloc[0], str(rows["type"].iloc[0])
    targets = list(dict.fromkeys(rows["dst"].dropna()))
    start_s, end_s = float(rows["ts"].min()), float(rows["ts"].max())
    values: dict[str, Value] = {
        "whose": whose_word(kind), "count": len(rows), "most": _count_most(rows),
        # A type is a word of the sensor's own scripts; only what looks like one is repeated.
        "kind": kind if _IDENTIFIER.fullmatch(kind) else "another kind",
        "source": view.name_of(str(source)) if isinstance(source, str) else "an unknown address",
        "whom": f" at {view.names_of(targets)}" if targets else _word_most(rows),
        "start_time_s": start_s, "end_time_s": end_s,
    }  # fmt: skip
    name = "notice" if end_s - start_s >= 1 else "notice_once"
    return make_fact("notice", _SENTENCES[name], values)


def _count_most(rows: pd.DataFrame) -> int:
    """The largest number that notices of scans give, of what was scanned; 0 for none."""
    scans = rows[rows["claim"] == "scan"]
    return max(int(scans["n"].max()), 0) if len(scans) else 0


def _word_most(rows: pd.DataFrame) -> str:
    most = _count_most(rows)
    noun = "port" if "port" in str(rows["type"].iloc[0]).lower() else "host"
    return f" of up to {show('n', float(most))} {plural(most, noun)}" if most else ""


def select_zeeks(notices: pd.DataFrame) -> pd.DataFrame:
    """Those of Zeek itself, and not the alerts of other detectors."""
    return notices[~notices["type"].astype("str").str.startswith(tuple(_WHOSE))]


def whose_word(kind: str) -> str:
    """Whose notices of a type are: "The sensor's notice.log"."""
    return next((log for start, log in _WHOSE.items() if kind.startswith(start)), NOTICE_LOG)


def word_type(kind: str) -> str:
    """A type of notice in words; what is no identifier is not repeated.

    >>> word_type("ICMP::TimestampScan"), word_type("Scan::Port_Scan"), word_type("SSH::Password_Guessing")
    ('ICMP timestamp scan', 'port scan', 'SSH password guessing')
    """
    if not _IDENTIFIER.fullmatch(kind):
        return "another kind"
    module, _, name = kind.rpartition("::")
    words = [one if one.isupper() else one.lower() for one in _WORD.findall(name)]
    known = {one.lower() for one in words}
    first = [module] if module and module.isupper() and module.lower() not in known else []
    return " ".join([*first, *words]) or "another kind"


@dataclass(frozen=True)
class Acts:
    """What notices of one source say that it did, in words, with the numbers in them."""

    text: str
    values: dict[str, Value]


def word_acts(rows: pd.DataFrame) -> Acts:
    """Notices by kind, the most frequent first: "address scan and mask scan of up to 255 hosts"."""
    groups = rows.groupby("type", observed=True)
    kinds = groups.size().sort_values(ascending=False, kind="stable").index
    names = {kind: word_type(str(kind)) for kind in kinds}
    most = {kind: _word_most(groups.get_group(kind)) for kind in kinds}
    if len(set(most.values())) == 1:  # said once
        text = listed(names.values(), 5) + most[kinds[0]]
    else:
        text = listed((names[kind] + most[kind] for kind in kinds), 5)
    counts = (_count_most(groups.get_group(kind)) for kind in kinds)
    return Acts(text, {f"most{place}": count for place, count in enumerate(counts)})
