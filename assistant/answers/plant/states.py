"""What people declared of an incident, in words: acknowledged, shelved until 18:00, a false alarm.

The words stand in states.yaml. Clock times are those of this machine's time zone, as the operator
says them; the zone is named where it is not UTC, which all other times here are in.
"""

import time
from datetime import datetime, timedelta

from assistant.answers.asked import read_sentences
from assistant.detection.incidents import Incident
from assistant.facts.fact import Fact, Value, make_fact
from assistant.history import JUDGEMENTS, History, State

# What says something of the verdict stays worth saying after a later acknowledgement.
VERDICT_ACTS = JUDGEMENTS
_WEEK = timedelta(days=6)


def say_state(kind: str, **values: Value) -> Fact:
    """The sentence of a kind in states.yaml with its values."""
    return make_fact("state", read_sentences("states.yaml")[kind], values)


def describe_state(incident: Incident, history: History, now_s: float | None = None) -> Fact | None:
    """One sentence about what was last declared of an incident.

    Args:
        incident: as the capture shows it; the same cause has another id in another capture, so
            that what was said of an incident of this device and label that began no later than
            this one ends is told as earlier.
        history: states and remarks.
        now_s: the present, seconds since the epoch; by default the clock's.

    Returns:
        A fact whose values bear its names and times; None where nothing was declared.
    """
    now_s = time.time() if now_s is None else now_s
    standing = history.standing(incident.id)
    if standing:
        return _describe(standing, now_s)
    for one in history.incidents(incident.device, incident.label):
        standing = history.standing(one.id)
        if one.id != incident.id and one.start_s <= incident.end_s and standing:
            told = _describe(standing, now_s)
            values: dict[str, Value] = told.values | {"start_time_s": one.start_s}
            return say_state("earlier", text=told.text, **values)
    return None


def short_state(incident_id: str, history: History, now_s: float | None = None) -> str:
    """The present state of an incident in a few words, for lists: "shelved until 18:00".

    A false alarm, a confirmation or another cause is said rather than that it was acknowledged.
    """
    now_s = time.time() if now_s is None else now_s
    standing = history.standing(incident_id)
    state = history.state(incident_id, now_s)
    if state.state == "shelved":
        return say_state("short_shelve", until=name_moment(state.until_s or now_s, now_s)).text
    if state.state != "acknowledged":
        return state.state
    verdicts = [one for one in standing if one.act in VERDICT_ACTS]
    if not verdicts:
        return say_state("short_acknowledge").text
    return describe_remark(verdicts[-1], now_s, "short_").text


def describe_remark(remark: State, now_s: float, prefix: str = "") -> Fact:
    """One declared state as a sentence, "ana shelved it until 18:00: maintenance"; ``prefix``
    ``kept_`` words it as the answer to who declared it, ``short_`` for a list."""
    label = remark.label.replace("_", " ")
    why = _one_line(remark.why)
    if label and label in why.lower() and len(why) < len(label) + 12:
        why = ""  # "it was packet loss" says the label again
    values: dict[str, Value] = {
        "who": _one_line(remark.who),
        "reason": f": {why}" if why else "",
        "state": remark.state,
        "label": label,
        "declared_time_s": remark.at_s,
    }
    kind = remark.act
    if kind == "wrong" and remark.label:
        kind = "wrong_named"
    if remark.until_s is not None:
        # The word "until" is what is shown; the exact moment stands beside it.
        values |= {"until": name_moment(remark.until_s, now_s), "until_time_s": remark.until_s}
        if kind == "shelve" and not prefix and remark.until_s <= now_s:
            kind = "shelve_over"
    return say_state(f"{prefix}{kind}" if kind else "declared", **values)


def name_moment(at_s: float, now_s: float) -> str:
    """A moment as a clock on the wall shows it: 18:00, Monday 06:00, 2026-12-24 06:00; with the
    zone where this machine's is not UTC."""
    at, now = (datetime.fromtimestamp(one).astimezone() for one in (at_s, now_s))
    form = "%H:%M"
    if at.date() != now.date():
        near = timedelta(0) < at.date() - now.date() <= _WEEK
        form = "%A %H:%M" if near else "%Y-%m-%d %H:%M"
    zone = f" {at.tzname()}" if at.utcoffset() else ""
    return f"{at.strftime(form)}{zone}"


def _describe(standing: list[State], now_s: float) -> Fact:
    """The newest remark, after the newest one on the verdict where that is another."""
    newest = standing[-1]
    verdicts = [one for one in standing[:-1] if one.act in VERDICT_ACTS]
    parts = [newest] if newest.act in VERDICT_ACTS or not verdicts else [verdicts[-1], newest]
    told = [describe_remark(one, now_s) for one in parts]
    values: dict[str, Value] = {}
    for number, one in enumerate(told):
        values |= {f"part_{number}": one.text} | one.values
    return make_fact(
        "state", "; ".join(f"{{part_{number}}}" for number in range(len(told))), values
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
