"""What a running monitor says: lines for a person, or JSON lines for other programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from assistant.monitor.alarm_list import Alarm, Meter, Standing, name_alarm
from assistant.monitor.alarms import Act
from assistant.monitor.sensor import Condition
from assistant.monitor.watched import SlotReport
from assistant.report import clock, plain, render_table, verdict_lines
from traffic.plant import Plant

_ACTS: dict[Act, str] = {
    "raise": "RAISED", "change": "CHANGED", "grow": "GROWS", "return": "returned", "withdraw": "withdrawn",
}  # fmt: skip


def json_lines(report: SlotReport, verdicts: bool) -> Iterator[str]:
    """One object each: ``verdict`` where wanted, ``alarm`` for a change, ``slot`` for what was
    closed, ``sensor`` for what is wrong with it."""
    if verdicts:
        for line in verdict_lines(report.judged.verdicts[report.judged.fresh]):
            yield json.dumps({"event": "verdict"} | json.loads(line))
    for change in report.changes:
        told = {"event": "alarm", "act": change.act, "suppressed": change.suppressed}
        yield json.dumps(plain(told | asdict(change.alarm)), ensure_ascii=False)
    event: dict[str, Any] = {"event": "look" if report.look else "sensor", "at_s": report.end_s}
    if report.slots:
        event = {
            "event": "slot", "end_s": report.end_s, "slots": report.slots, "devices": report.devices,
            "windows": int(report.judged.fresh.sum()), "revised": report.judged.revised,
            "late": report.late, "verdict_s": round(report.verdict_s, 3),
            "alarm_s": round(report.alarm_s, 3),
        }  # fmt: skip
    conditions = [
        {"kind": one.kind, "about": one.about, "text": one.text} for one in report.conditions
    ]
    yield json.dumps(plain(event | {"sensor": conditions}), ensure_ascii=False)


def text_lines(report: SlotReport, plant: Plant | None, meter: Meter | None) -> Iterator[str]:
    """A line for each change, with what to do under what was raised; nothing where all is as it
    was.

    In a flood only the first line of each is told: nobody reads more.
    """
    names = plant or Plant()
    if meter is not None and meter.flood and report.changes:
        yield f"FLOOD: {meter.last:.0f} alarms in ten minutes; only their first lines are shown"
    for change in report.changes:
        alarm = change.alarm
        at = clock(alarm.returned_s if alarm.returned_s is not None else report.end_s)
        what = f"{at}  {_ACTS[change.act]:9}  {alarm.tier} {alarm.priority}  {alarm.label}"
        yield f"{what}  {name_alarm(alarm, names)}  [{alarm.incident}]"
        if change.act == "raise" and not (meter is not None and meter.flood):
            yield from (f"    {line}" for line in describe(alarm, change.suppressed))
    if not (report.slots or report.look or report.changes):
        # The sensor's state changed, and no alarm of it could be kept: the disk is full.
        for one in report.conditions:
            what = (
                f"{clock(report.end_s)}  {_ACTS['raise']:9}  {one.words.tier} {one.words.priority}"
            )
            yield f"{what}  sensor  {one.about}  [not kept]"
            yield from (f"    {line}" for line in _describe_condition(one))


def _describe_condition(one: Condition) -> Iterator[str]:
    words = one.words
    yield one.text
    yield f"cause:       {words.cause}"
    yield f"consequence: {words.consequence}"
    yield f"response:    {words.response} (within {words.respond_min} min)"


def describe(alarm: Alarm, suppressed: str = "") -> Iterator[str]:
    """What an alarm says, a line each."""
    said = alarm.content
    yield said.text
    if suppressed:
        yield f"suppressed: {suppressed}"
    yield f"cause:       {said.cause}"
    yield f"consequence: {said.consequence}"
    yield f"response:    {said.response} (within {said.respond_min} min)"
    if said.contact:
        yield f"call:        {said.contact}"


def alarm_table(rows: list[tuple[Alarm, Standing]], plant: Plant | None) -> str:
    """A line per alarm: what it is, its state, and who declared that."""
    names = plant or Plant()
    heads = ["id", "tier", "priority", "label", "device", "state", "raised (UTC)", "times", "by"]
    cells = []
    for alarm, standing in rows:
        until = f" until {clock(standing.until_s)}" if standing.until_s is not None else ""
        by = ": ".join(part for part in (standing.who, standing.why) if part) + until
        cells.append([alarm.incident, alarm.tier, alarm.priority, alarm.label,
                      name_alarm(alarm, names), standing.state, clock(alarm.raised_s), alarm.times, by])  # fmt: skip
    return render_table(heads, cells)
