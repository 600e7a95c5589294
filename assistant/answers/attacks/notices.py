"""What the sensor itself reports, by its notice.log, weird.log and capture_loss.log: who scans, by its
word, where the packets show nothing of it; and all that it says, where that is asked."""

import re
from collections.abc import Callable

import pandas as pd

from assistant.answers.asked import Answer, Asked, say
from assistant.facts.fact import Fact, Value, listed
from assistant.facts.notices import notice_facts, select_zeeks, word_acts
from assistant.facts.sensor import sensor_facts
from traffic.capture import SAMPLE_S

_MOST = 8
_SCANS = re.compile(
    r"\b(?:scan|sweep|swept|prob(?:e|es|ed|ing)\b|recon|escane|sondeo|abtast)\w*|\bwho (?:pings?|pinged)\b"
)
_GUESSES = re.compile(
    r"\b(?:guess|brute)\w*|\btr(?:y|ies|ied|ying) (?:\w+ )?(?:passwords?|logins?)\b|\berraet\b|\badivin\w*"
)
# The claims of notices, what they are called in a question, and the incidents that tell more of it.
_CLAIMS: tuple[tuple[str, Callable[[str], object], str], ...] = (
    ("scan", _SCANS.search, "recon"), ("guessing", _GUESSES.search, "brute_force"),
)  # fmt: skip
# What a question narrows a scan down to, by the words of a type of notice.
_KINDS = {
    re.compile(r"\b(?:ping\w*|icmp|echo)\b"): "icmp|ping|address",
    re.compile(r"\bports?\b"): "port",
    re.compile(r"\bssh\b"): "ssh",
    re.compile(r"\btime ?stamps?\b"): "timestamp",
    re.compile(r"\bmasks?\b"): "mask",
}
_OF_OTHERS = frozenset(
    ("manual", "code", "before", "feedback", "help", "checks", "none", "meaning")
)
_SENSOR = re.compile(
    r"\b(?:zeek|bro|suricata|slips|(?:the )?sensor(?: itself)?|ids)\b.{0,40}\b(?:report|notic|warn|alert|sa(?:y|id)"
    r"|claim|complain|find|found|log|meld|sagt|avis|dice|inform)\w*|\b(?:notice|weird)[. ]?logs?\b|\bcapture.?loss\b"
    r"|\b(?:any|what|which|how many) (?:\w+ )?(?:notices?|weirds?)\b(?! of)"
)


def answer_reported(asked: Asked) -> Answer | None:
    """Who scans or guesses passwords, by the word of the sensor's own notices, where no incident tells
    it; None where that is not asked or no notice says so."""
    plain, query = asked.query.plain, asked.query
    if query.kind in _OF_OTHERS and not query.guessed:
        return None
    claim = next(((name, label) for name, asks, label in _CLAIMS if asks(plain)), None)
    if claim is None or any(one.label == claim[1] for one in asked.analysis.incidents):
        return None
    rows = select_zeeks(asked.view.notices)
    rows = rows[(rows["claim"] == claim[0]) & rows["src"].notna()]
    if asked.device:  # who is named does it, or it is done to him
        named = (rows["src"] == asked.device) | (rows["dst"] == asked.device)
        rows = rows[named if query.active else named | rows["dst"].isna()]
    rows = _narrow(rows, plain)
    if rows.empty:
        return None
    sources = rows["src"].value_counts().index
    lines = [_tell_source(asked, rows[rows["src"] == source]) for source in sources[:_MOST]]
    facts = [_tell_presence(asked, str(source)) for source in sources[:_MOST]]
    said = lines[0]
    if len(lines) > 1:
        names = asked.view.names_of(map(str, sources), _MOST)
        said = say("reported_several", n=len(sources), names=names)
        facts = [*lines, *facts]
    return Answer(said, (*facts, *notice_facts(asked.view, rows)), standing="inconclusive")


def _narrow(rows: pd.DataFrame, plain: str) -> pd.DataFrame:
    """Notices of the kind of scan that a question names; all where none is of that kind."""
    types = rows["type"].astype("str").str.lower()
    for asks, word in _KINDS.items():
        if asks.search(plain) and (mine := types.str.contains(word)).any():
            return rows[mine]
    return rows


def _tell_source(asked: Asked, rows: pd.DataFrame) -> Fact:
    view, acts = asked.view, word_acts(rows)
    targets = list(dict.fromkeys(rows["dst"].dropna()))
    start_s, end_s = float(rows["ts"].min()), float(rows["ts"].max())
    whom = say("reported_whom", targets=view.names_of(targets)) if targets else None
    far = start_s > view.end_s + SAMPLE_S or end_s < view.start_s - SAMPLE_S
    values: dict[str, Value] = {
        "source": view.name_of(str(rows["src"].iloc[0])), "what": acts.text,
        "whom": (whom or say("reported_whom_unsaid")).text, "start_time_s": start_s, "end_time_s": end_s,
        "first_time_s": float(view.flow_slots["since_s"].min()), "last_time_s": view.last_s, **acts.values,
    }  # fmt: skip
    if far and asked.polar:
        return say("reported_far_polar", **values)
    return say("reported_far" if far else "reported_near", **values)


def _tell_presence(asked: Asked, source: str) -> Fact:
    rows = asked.view.flow_slots
    flows = rows.loc[(rows["src"] == source) | (rows["dst"] == source), "flow"].nunique()
    name = asked.view.name_of(source)
    return say("reported_seen" if flows else "reported_unseen", name=name, n=flows)


def answer_reports(asked: Asked) -> Answer | None:
    """All that the sensor says of itself and of others; None where that is not asked."""
    if not _SENSOR.search(asked.query.plain) or asked.query.kind in ("help", "manual", "code"):
        return None
    notices, reports = asked.view.notices, asked.view.quality.reports
    weird = reports[reports["source"].str.startswith("weird")]
    beside = [
        say("reports_weird", source=row.source, count=int(row.count), name=row.name)
        for row in weird.itertuples(index=False)
    ][:_MOST]
    lost = [one for one in sensor_facts(asked.view.quality) if "capture_loss" in one.text]
    if notices.empty and not beside and not lost:
        return Answer(say("reports_none", asked.reply(False)), standing="inconclusive")
    if notices.empty:
        first, *rest = (*lost, *beside)
        return Answer(
            say("reports_odd", asked.reply(True), beside=first.text, **first.values), tuple(rest)
        )
    kinds = notices["type"].nunique()
    named = listed(sorted({one.split(".")[0] for one in reports["source"]} - {"notice"}))
    line = say(
        "reports", asked.reply(True), n=len(notices), kinds=int(kinds),
        beside=f"; and there is a {named}.log" if named else "",
    )  # fmt: skip
    return Answer(line, (*notice_facts(asked.view, notices, most=_MOST), *lost, *beside))
