"""How long one was without an answer or a message of another: "how long did the historian get no data?"."""

import re
from typing import Any

import pandas as pd

from assistant.answers.asked import Answer, Asked, say
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.fact import Fact

_WHEN = re.compile(
    r"\b(?:how (?:long|much time|many (?:seconds|minutes))|when|since|until|wie lange|wann|seit"
    r"|cuanto (?:tiempo|dur\w+)|cuando|desde)\b"
)
_THINGS = (
    r"(?:data|values?|answers?|repl(?:y|ies)|responses?|readings?|samples?|messages?|updates?|records?|traffic"
    r"|daten|werte?|antwort\w*|messwerte|nachrichten|datos|valores|respuestas?|mensajes)"
)
_NOTHING = re.compile(
    r"\b(?:g[eo]ts?|had|ha[sv]e|receiv\w*|saw|sees?|hea(?:r|rd|rs)|miss\w*|lack\w*|lost|loses?"
    r"|bekam|bekommt|hatte|recib\w+|tuvo)"
    rf" (?:\w+ )?(?:nothing|(?:no|any|its|the|new|keine?n?|ningun) (?:\w+ )?{_THINGS}|nichts|nada)\b"
    rf"|\b(?:without|ohne|sin) (?:any |new |the |its |neue )?{_THINGS}\b"
    rf"|\bno {_THINGS}\b|\bkeine {_THINGS}\b"
    r"|\b(?:gaps?|holes?|luecken?|huecos?)\b(?: in| en)?"
)
_AWAY = re.compile(
    r"\b(?:unreachable|away|gone|off ?line|down|unavailable|silent|quiet|mute|stumm|not (?:reachable"
    r"|available|there)"
    r"|nicht erreichbar|weg|ausgefallen)\b"
)
_MOST, _FEWEST = 5, 5  # gaps that are told; answers that show a rhythm
_TELL_ABSENCE = ("device_silent", "service_down", "flapping", "name_resolution")
# Nine of ten come within the usual time; a gap is so many times that, and at least so long.
_MOSTLY, _USUAL, _LEAST_S, _LEAST_OPEN_S = 0.9, 2.0, 2.0, 10.0


def answer_gap(asked: Asked) -> Answer | None:
    """How long, from when to when a device was without what it gets else; None where that is not asked,
    or nothing that comes more than a few times was read."""
    plain = asked.query.plain
    incident = asked.incident
    told = (
        incident is not None and incident.label in _TELL_ABSENCE and incident.device == asked.device
    )
    away = _AWAY.search(plain) and not told
    if not (asked.device and _WHEN.search(plain) and (away or _NOTHING.search(plain))):
        return None
    gaps = find_gaps(asked)
    if gaps.empty:
        return None
    first, *others = (_say(asked, gap) for gap in gaps.head(_MOST).itertuples())
    longest = gaps.iloc[0]
    return Answer(first, (*others, *_meanwhile(asked, longest["start_s"], longest["end_s"])))


def _say(asked: Asked, gap: Any) -> Fact:
    kind = "gap_none" if not gap.is_gap else "gap_open" if gap.open else "gap"
    return say(
        f"{kind}_sent" if gap.sends else kind,
        client=asked.view.name_of(gap.client), server=asked.view.name_of(gap.server),
        span_s=float(gap.span_s), start_time_s=float(gap.start_s), end_time_s=float(gap.end_s),
        usual_s=float(gap.usual_s),
    )  # fmt: skip


def find_gaps(asked: Asked) -> pd.DataFrame:
    """Times without an answer or a message between one client and its server, the longest first, or the
    longest time between two where there is no gap: ``client server start_s end_s span_s usual_s is_gap
    open sends``."""
    rows = asked.requests
    sent = rows[(rows["kind"] == "publish") & (rows["client"] == asked.device)]
    rows = sent if len(sent) >= _FEWEST else rows  # what a sensor is there for
    rows = rows[(rows["outcome"] == "answered") | (rows["kind"] == "publish")]
    rows = rows.assign(sends=rows["kind"] == "publish")[["client", "server", "ts", "sends"]]
    rows = rows.astype({"client": "str", "server": "str"})
    pairs = rows.groupby(["client", "server"])["ts"]
    rows = rows[pairs.transform("size") >= _FEWEST]
    # That nothing came after the last one is a gap too.
    ends = rows.groupby(["client", "server"], as_index=False)["sends"].all()
    ends = ends.assign(ts=asked.view.last_s)
    rows = pd.concat([rows.assign(open=False), ends.assign(open=True)], ignore_index=True)
    rows = rows.sort_values(["client", "server", "ts"], kind="stable", ignore_index=True)
    rows["start_s"] = rows.groupby(["client", "server"])["ts"].shift()
    rows["span_s"] = rows["ts"] - rows["start_s"]
    spans = rows.groupby(["client", "server"])["span_s"]
    rows["usual_s"] = spans.transform("quantile", _MOSTLY)
    rows = rows.dropna(subset="span_s").rename(columns={"ts": "end_s"})
    least_s = rows["open"].map({True: _LEAST_OPEN_S, False: _LEAST_S})
    rows["is_gap"] = rows["span_s"] >= (_USUAL * rows["usual_s"]).clip(lower=least_s)
    rows = rows.sort_values(["is_gap", "span_s"], ascending=False, kind="stable")
    if rows.empty:
        return rows
    pair = ["client", "server"]
    same = (rows[pair] == rows[pair].iloc[0]).all(axis=1)
    return rows[same & (rows["is_gap"] | (rows["span_s"] == rows["span_s"].iloc[0]))]


def _meanwhile(asked: Asked, start_s: float, end_s: float) -> tuple[Fact, ...]:
    """What is known of the device in that time."""
    return tuple(
        one.facts[0]
        for one in asked.analysis.incidents
        if one.facts
        and one.touches(asked.device)
        and find_start(one)[0] <= end_s
        and find_end(one) >= start_s
    )
