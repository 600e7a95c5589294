"""The alarm list as people read it, and what they do with an alarm."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.app.subject import ShownAlarm, Subject
from assistant.app.views.markup import render
from assistant.diagnosis.playbook import read_playbook
from assistant.history import History, IncidentRecord
from assistant.monitor.alarm_list import FLOOD, RANK, Alarm, name_alarm
from assistant.monitor.sensor import SENSOR
from traffic.errors import UserError
from traffic.labels import TAXONOMY
from traffic.plant import Plant

# What the list shows, by its name on the page.
FILTERS: dict[str, tuple[str, ...]] = {
    "To do": ("active",),
    "Going on": ("active", "acknowledged"),
    "Hidden": ("shelved", "suppressed"),
    "Over": ("returned",),
    "All": ("active", "acknowledged", "returned", "shelved", "suppressed"),
}
# For how long an alarm may be shelved here, by what the page calls it; longer ones are said in chat.
SHELVING_S = {
    "1 hour": 3_600.0,
    "4 hours": 14_400.0,
    "8 hours": 28_800.0,
    "1 day": 86_400.0,
    "7 days": 604_800.0,
}
_FADING_S = 30.0  # an alarm whose trouble was not seen for so long is not said to go on
_STATE_RANK = ("active", "acknowledged", "shelved", "suppressed", "returned")
_MARKS = {"active": "●", "acknowledged": "✓", "returned": "↩", "shelved": "‖", "suppressed": "‖"}
_ASKED_OF_SENSOR = "What did the sensor not see?"


@dataclass(frozen=True)
class Filter:
    """Which alarms are shown: a key of ``FILTERS``, and words that a row has to hold."""

    states: str = "All"
    words: str = ""


def name_label(label: str) -> str:
    """What a label is called in a list; what is about the sensor has none."""
    return read_playbook(label).short if label in TAXONOMY else label


def name_cause(alarm: Alarm) -> str:
    """What an alarm is about, in a few words."""
    if alarm.label == SENSOR:
        return alarm.content.text
    meaning = TAXONOMY[alarm.label].meaning
    if not alarm.content.sign:
        return meaning
    return f"{'Likely' if alarm.tier == 'alarm' else 'First sign, perhaps'}: {meaning}"


def select_alarms(shown: Sequence[ShownAlarm], chosen: Filter, plant: Plant) -> list[ShownAlarm]:
    """The alarms that a filter lets through: what waits for somebody first, the gravest of these
    first, then the newest."""
    states, words = FILTERS[chosen.states], chosen.words.lower().split()

    def fits(one: ShownAlarm) -> bool:
        alarm = one.alarm
        names = map(plant.name_of, (alarm.device, *alarm.content.together))
        told = (*names, name_cause(alarm), alarm.label, alarm.priority)
        text = " ".join((*told, one.standing.state, one.remark))
        return one.standing.state in states and all(word in text.lower() for word in words)

    def order(one: ShownAlarm) -> tuple[int, int, int, float]:
        alarm = one.alarm
        rank = _STATE_RANK.index(one.standing.state)
        return rank, -RANK[alarm.tier], -RANK[alarm.priority], -alarm.raised_s

    return sorted(filter(fits, shown), key=order)


def render_alarms(
    subject: Subject, history: History, chosen: str, wanted: Filter, operators: int = 1
) -> str:
    """The list with the meter above it, and in a flood a banner with the rows folded.

    Args:
        subject: whose alarms.
        history: states and remarks.
        chosen: the incident whose alarm is looked at; "" for none.
        wanted: which are shown.
        operators: on shift.
    """
    every = subject.alarms(history)
    listed = select_alarms(every, wanted, subject.plant)
    meter = subject.meter(history, operators)
    flood = meter is not None and meter.flood
    groups: dict[str, list[ShownAlarm]] = {}
    for one in listed:
        groups.setdefault(name_cause(one.alarm) if flood else "", []).append(one)
    return render(
        "alarms.html.jinja",
        groups=groups,
        hidden=len(every) - len(listed),
        flood=flood,
        meter=meter,
        bound=FLOOD,
        chosen=chosen,
        clock=subject.clock(history),
        plant=subject.plant,
        cause=name_cause,
        name=name_alarm,
        meaning=name_label,
        marks=_MARKS,
        judged=subject.picture().judged,
        begun=subject.analysis is not None,
        live=subject.live is not None,
    )


def render_alarm(subject: Subject, history: History, chosen: str) -> str:
    """One alarm: what was measured, cause, consequence, response, until when, whom to call."""
    found = find_alarm(subject, history, chosen)
    if found is None:
        return render("alarm.html.jinja", one=None)
    alarm, plant = found.alarm, subject.plant
    said = alarm.content
    return render(
        "alarm.html.jinja",
        one=found,
        alarm=alarm,
        said=said,
        sensor=alarm.label == SENSOR,
        name=plant.name_of(alarm.device),
        cause=name_cause(alarm),
        clock=subject.clock(history),
        respond_by_s=alarm.raised_s + 60.0 * said.respond_min,
        concerned=[plant.name_of(one) for one in dict.fromkeys((*said.related, *said.peers))][:8],
        facts=[fact for fact in said.facts if fact != said.text][:4],
        mark=_MARKS[found.standing.state],
        fading=is_fading(alarm, subject.now_s(history)),
    )


def is_fading(alarm: Alarm, now_s: float) -> bool:
    """Whether the trouble of an alarm was not seen for a while, though it is not over yet."""
    return alarm.returned_s is None and now_s - alarm.incident_end_s >= _FADING_S


def find_alarm(subject: Subject, history: History, incident: str) -> ShownAlarm | None:
    """The alarm of an incident; None where there is none any more."""
    return next((one for one in subject.alarms(history) if one.alarm.incident == incident), None)


def question_of(alarm: Alarm, plant: Plant) -> str:
    """What is asked of an alarm by one click."""
    if alarm.label == SENSOR:
        return _ASKED_OF_SENSOR
    return f"What is wrong with {plant.short_name_of(alarm.device)}?"


# ---- What people do with an alarm ----


def declare(
    history: History, alarm: Alarm, act: str, who: str, why: str = "", span_s: float = 0.0
) -> str:
    """Acknowledge, shelve or undo; returns what is true now.

    Args:
        history: where it is kept, with the audit log.
        alarm: of what is looked at.
        act: ``acknowledge``, ``shelve`` or ``undo``.
        who: the person.
        why: the reason; shelving needs one.
        span_s: for how long it is shelved.

    Raises:
        UserError: shelved without a reason, or the history cannot be written.
    """
    if act == "undo":
        undone = history.undo(alarm.incident, who)
        return f"Taken back: {undone.state} by {undone.who}." if undone else "Nothing to take back."
    if act == "shelve" and not why.strip():
        raise UserError("Say why: a shelved alarm needs a reason that the next shift can read.")
    # Of a capture nothing was kept before somebody says something of it.
    history.add_incident(
        IncidentRecord(alarm.incident, alarm.device, alarm.label, alarm.content.start_s,
                       alarm.incident_end_s, alarm.content.text)
    )  # fmt: skip
    state = "shelved" if act == "shelve" else "acknowledged"
    until_s = time.time() + span_s if act == "shelve" else None
    history.set_state(alarm.incident, state, who, why.strip(), until_s, act=act)
    return f"Shelved by {who}." if act == "shelve" else f"Acknowledged by {who}."
