"""What was before, and how it comes: whether it worked until it broke, and with which rhythm it fails."""

import re

import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, say
from assistant.answers.plant.descriptions import describe_talks
from assistant.detection.incidents import Incident
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.fact import Fact, kind_of
from assistant.facts.requests import is_refused
from traffic.capture import SAMPLE_S

WORKED = re.compile(
    r"\b(?:work(?:ed|ing)?|function(?:ed)?|succe\w+|go through|went through|funktioniert|gingen?|funciono"
    r"|funcionaba)\b"
    r"|\b(?:did|has|was|were) (?:\w+ )?(?:answer(?:ed)?|connect(?:ed)?|ok|fine|accept(?:ed)?)\b"
)
_LEARNS_S = 60.0  # before it there is too little to say what was before
_JUST_BEFORE_S = 1.0
_FEWEST = 5  # events that show a rhythm
_STEADY = 0.25  # of the median gap: most gaps of a rhythm are within
_EVEN = 0.05  # apart so little, gaps are alike
# Facts that say how often something comes.
STRENGTHS = frozenset(("period", "rhythm", "clockwork", "rhythm_kept"))
_VAIN = ("refused", "unanswered")


def answer_worked(asked: Asked) -> Answer | None:
    """Whether what fails now worked before it began, and until when; None where no incident is meant."""
    incident = asked.incident
    if incident is None:
        return None
    start_s = find_start(incident)[0]
    ends = {incident.device, *incident.peers}
    name = asked.view.name_of(incident.device)
    rows = asked.view.exchanges
    good = rows[_between(rows, ends) & (rows["outcome"] == "answered")]
    if asked.query.unit is not None:
        good = good[good["unit"] == asked.query.unit]
    times = good.loc[good["ts"] < start_s, "ts"]
    kind = "worked_requests"
    if times.empty:
        sessions = asked.view.sessions
        held = sessions[_between(sessions, ends) & ~sessions["ended"].isin(_VAIN)]
        # Who is let in and turned away at once is no success.
        early = held["start_s"] < start_s - _JUST_BEFORE_S
        times, kind = held.loc[early, "start_s"], "worked_connections"
    if len(times):
        line = say(
            kind, asked.reply(True), name=name, n=len(times), first_time_s=float(times.min()),
            last_time_s=float(times.max()),
        )  # fmt: skip
        return Answer(line, incident.facts)
    early = start_s - asked.view.start_s < _LEARNS_S
    reply: Reply = "unclear" if early or asked.blind else asked.reply(False)
    kind = "worked_unknown" if early else "worked_never"
    return Answer(say(kind, reply, name=name, start_time_s=start_s), incident.facts)


MET = re.compile(
    r"\b(?:talk\w*|sp(?:eak|oke)\w*|contact\w*|connect\w*|call\w*|known?|seen|met|meet|exchang\w*|visit\w*"
    r"|dealt|deal|been (?:there|here)|gone there|used|gesprochen|hablad\w*)\b"
)


def answer_met(asked: Asked) -> Answer | None:
    """Whether two had to do with each other before: those that a question names, else the ends of the
    incident of the one that it names; None where there are no two."""
    incident = asked.incident if asked.incident and asked.incident.touches(asked.device) else None
    others = (
        [one for one in (incident.device, *incident.peers) if one != asked.device]
        if incident
        else []
    )
    second = asked.second or next(iter(others), "")
    if not asked.device or not second:
        return None
    names = asked.view.names_of((asked.device, second))
    talks = asked.talks[asked.talks["src"].eq(second) | asked.talks["dst"].eq(second)]
    if talks.empty:
        return Answer(say("met_never", asked.reply(False), names=names))
    first_s, shown = float(talks["since_s"].min()), tuple(describe_talks(talks, asked.view))
    before_s = find_start(incident)[0] - first_s if incident else 0.0
    after_s = first_s - asked.view.start_s
    if before_s >= _LEARNS_S / 2:
        line = say(
            "met_before", asked.reply(True), names=names, first_time_s=first_s, before_s=before_s
        )
    elif after_s < _LEARNS_S:
        reply: Reply = "unclear" if asked.polar else ""
        line = say("met_from_start", reply, names=names, first_time_s=first_s)
    else:
        line = say(
            "met_then", asked.reply(False), names=names, first_time_s=first_s, after_s=after_s
        )
    return Answer(line, shown)


def _between(rows: pd.DataFrame, ends: set[str]) -> pd.Series:
    return rows["client"].isin(ends) & rows["server"].isin(ends)


def find_failures(asked: Asked, incident: Incident) -> pd.Series:
    """When something failed that an incident is about: what was sent again, by slot; requests in vain or
    refused; else connections that broke."""
    start_s, end_s = find_start(incident)[0], max(find_end(incident), incident.end_s)
    if incident.label == "packet_loss":
        again = asked.view.evidence_of(incident.device, ("retransmission",))
        again = again[again["slot"].between(start_s // SAMPLE_S, end_s // SAMPLE_S)]
        return (again["slot"].repeat(again["count"].astype(int)) * SAMPLE_S).astype(float)
    rows = asked.view.exchanges
    mine = (rows["client"] == incident.device) | (rows["server"] == incident.device)
    failed = rows[mine & ((rows["outcome"] == "unanswered") | is_refused(rows))]
    ts = failed.loc[failed["ts"].between(start_s, end_s), "ts"]
    if len(ts) >= _FEWEST:
        return ts.sort_values()
    talks = asked.view.sessions
    mine = talks["client"].eq(incident.device) | talks["server"].eq(incident.device)
    broken = talks[mine & talks["ended"].isin(["reset", "refused", "unanswered"])]
    return broken.loc[broken["end_s"].between(start_s, end_s), "end_s"].sort_values()


def answer_interval(asked: Asked) -> Answer | None:
    """At which interval it comes: what was measured of it, else from the failures themselves."""
    incident = asked.incident
    known = [one for one in incident.facts if kind_of(one) in STRENGTHS] if incident else []
    if incident is None or not known:
        return answer_rhythm(asked)
    return Answer(known[0], tuple(one for one in incident.facts if one != known[0]))


def answer_rhythm(asked: Asked) -> Answer | None:
    """Whether it comes at regular intervals, and which; None where too few failures show it."""
    incident = asked.incident
    if incident is None or not incident.facts:
        return None
    gaps = find_failures(asked, incident).diff().dropna()
    if len(gaps) + 1 < _FEWEST:
        return None
    low_s, median_s, high_s = (float(gaps.quantile(q)) for q in (0.1, 0.5, 0.9))
    steady = high_s - low_s <= 2 * _STEADY * median_s
    even = high_s - low_s <= _EVEN * median_s
    fact: Fact = say(
        "rhythm_even" if even else "rhythm_steady" if steady else "rhythm_unsteady",
        asked.reply(steady), n=len(gaps) + 1,
        name=asked.view.name_of(incident.device), median_s=median_s, low_s=low_s, high_s=high_s,
    )  # fmt: skip
    return Answer(fact, incident.facts)
