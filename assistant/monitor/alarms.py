"""Alarms that a person can bear (ISA-18.2, IEC 62682): one for each incident, from raising to return.

    first sign ─▶ notification ─▶ borne out, or hard and going on: the alarm is raised    or withdrawn
    incident seen ─▶ raised ─▶ going on … ─▶ no evidence for the off-delay ─▶ returned ─▶ raised again …
                                     └─▶ acknowledged, shelved (the history's states, by people)

An incident is known again in the next slot by its id, or by its label, device and time: it keeps the
id under which it was first raised, however it grows. What comes again and again is one alarm that
stands: from the third time on an hour without it ends it.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pandas as pd

from assistant.audit import append_audit
from assistant.detection.incidents import Incident, Severity
from assistant.diagnosis.playbook import find_cause, read_playbook
from assistant.diagnosis.standing import judge
from assistant.facts.fact import Fact, kind_of
from assistant.history import History, IncidentRecord
from assistant.monitor.alarm_list import RANK, Alarm, AlarmContent, Tier, list_alarms
from assistant.monitor.matching import Seen, drop_earlier, join_parts, match, match_signs
from assistant.monitor.newest import Sign
from assistant.monitor.sensor import SENSOR, Condition
from traffic.labels import ATTACKS
from traffic.plant import Plant

Act = Literal["raise", "change", "grow", "return", "withdraw"]

OFF_DELAY_S = 120.0
# A job of every quarter of an hour that looks wrong is one condition and not four alarms an hour.
_STANDING_TIMES, _STANDING_OFF_DELAY_S = 3, 3600.0
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Change:
    """What happened to an alarm: raised, called out higher or elsewhere (``change``), followed
    (``grow``), over (``return``), or taken back because what came later does not bear it out
    (``withdraw``). ``suppressed`` says why nobody is called, "" where somebody is."""

    act: Act
    alarm: Alarm
    suppressed: str = ""


class Alarms:
    """The alarms of one history file; only the monitor raises and returns them."""

    def __init__(
        self,
        history: History,
        plant: Plant | None = None,
        source: str = "",
        off_delay_s: float = OFF_DELAY_S,
        run: str = "",
    ) -> None:
        """Go on with the alarms that a source has in the file; those of others are left alone.

        Args:
            history: the file.
            plant: names and contacts.
            source: whose alarms these are.
            off_delay_s: without new evidence for so long an alarm is over.
            run: of a recording, when its replay began: what an earlier run raised is not what this
                one raises, and is over.
        """
        self._history, self._plant, self._off_delay_s = history, plant or Plant(), off_delay_s
        self._source, self._run = source, run
        self._end_earlier_runs()
        self._last_seen: dict[str, float] = {}
        self._raised_as: dict[str, str] = {}

    def update(
        self,
        incidents: Sequence[Incident],
        verdicts: pd.DataFrame,
        conditions: Sequence[Condition],
        now_s: float,
        at_s: float,
        signs: Sequence[Sign] = (),
        over: bool = False,
    ) -> list[Change]:
        """Bring the alarms to what is seen now.

        Args:
            incidents: of the recent past.
            verdicts: of its windows.
            conditions: what is wrong with the sensor.
            now_s: until when it was seen.
            at_s: this machine's clock.
            signs: of what no rule proves yet; those that an incident or an alarm tells are left out.
            over: the recording is: what its signs did not become they will not become.

        Returns:
            What changed, in the order in which it did; all of it is kept when this returns, or
            none of it.
        """
        seen = [
            _see(one, verdicts, self._plant, now_s, self._off_delay_s)
            for one in _with_ids(incidents)
        ]
        first = [_see_sign(one, self._plant) for one in signs]
        conditions_ = map(_see_condition, conditions)
        return self._update([*seen, *conditions_], now_s, at_s, signs=first, over=over)

    def _end_earlier_runs(self) -> None:
        """Let what an earlier run of this recording raised be over: its traffic came to its end."""
        ended = [
            one
            for one in list_alarms(self._history)
            if one.returned_s is None and one.source == self._source and one.run < self._run
        ]
        if ended:
            over = [Change("return", _returned(one, one.incident_end_s)) for one in ended]
            self._keep(over, time.time())

    def _own_id(self, incident: str) -> str:
        """The id under which an incident is raised: its own, or where that of another source or
        run has it, one of this run."""
        sql = "SELECT 1 FROM alarms WHERE incident = ? AND NOT (source = ? AND run = ?)"
        if not self._history.file.rows(sql, incident, self._source, self._run):
            return incident
        mark = hashlib.sha256(f"{self._source} {self._run}".encode()).hexdigest()[:6]
        return f"{incident}-{mark}"

    def name_incidents(self, incidents: Sequence[Incident]) -> tuple[Incident, ...]:
        """The incidents that ``update`` got last, each under the id of its alarm, so that what is
        said of one is said of the other; one that came again since has an id of its own."""
        taken = set(self._raised_as.values())

        def name(own: str) -> str:
            return self._raised_as.get(own) or (f"{own}-before" if own in taken else own)

        return tuple(replace(one, id=name(one.id)) for one in _with_ids(incidents))

    def update_sensor(
        self, conditions: Sequence[Condition], now_s: float, at_s: float
    ) -> list[Change]:
        """The same where no slot was judged: incidents stay as they are."""
        return self._update([_see_condition(one) for one in conditions], now_s, at_s, sensor=True)

    def _update(
        self,
        seen: Sequence[Seen],
        now_s: float,
        at_s: float,
        sensor: bool = False,
        signs: Sequence[Seen] = (),
        over: bool = False,
    ) -> list[Change]:
        alarms = list_alarms(self._history, since_s=now_s - _DAY_S)
        mine = (self._source, self._run)
        known = {one.incident: one for one in alarms if (one.source, one.run) == mine}
        seen = join_parts(drop_earlier(seen), known)
        named = [replace(one, id=self._own_id(one.id)) for one in seen]
        pairs = match(named, known)
        if not sensor:
            self._raised_as = {
                one.id: before.incident if before else own.id
                for one, (own, before) in zip(seen, pairs, strict=True)
            }
        changes: list[Change] = []
        pairs += [
            _promote(one, before, self._plant) for one, before in match_signs(signs, seen, known)
        ]
        for one, before in pairs:
            changes += self._follow(one, before, now_s, at_s)
        matched = {before.incident if before else own.id for own, before in pairs}
        matched |= {one.id for one in named}
        kept = ((name, at) for name, at in self._last_seen.items() if name in known)
        self._last_seen = dict(kept) | dict.fromkeys(matched, now_s)
        for alarm in known.values():
            about_sensor = alarm.label == SENSOR
            if alarm.returned_s is not None or alarm.incident in matched:
                continue
            if sensor and not about_sensor:
                continue
            if about_sensor:
                changes.append(Change("return", _returned(alarm, now_s)))
                continue
            if alarm.times >= _STANDING_TIMES:
                if now_s - alarm.incident_end_s > self._off_delay_of(alarm):
                    changes.append(Change("return", _returned(alarm, now_s)))
                continue
            since_s = self._last_seen.setdefault(alarm.incident, now_s)
            if now_s - since_s >= self._off_delay_s or (over and alarm.content.sign):
                changes.append(Change("withdraw", _returned(alarm, now_s)))
        if changes:
            self._keep(changes, at_s)
        return [one for one in changes if one.act != "grow"]

    def _follow(self, one: Seen, before: Alarm | None, now_s: float, at_s: float) -> list[Change]:
        """Raise, change or return one alarm. What was a notification and is an alarm now is raised:
        who took note of the one has not answered the other."""
        again = before is not None and (
            one.going
            and one.end_s > before.incident_end_s
            and (
                before.returned_s is not None
                or one.start_s - before.incident_end_s > self._off_delay_of(before)
            )
        )
        lifted = before is not None and one.tier == "alarm" and before.tier != "alarm"
        raised = before is None or again or lifted
        alarm = Alarm(
            incident=before.incident if before else one.id,
            label=one.label,
            device=one.device,
            tier=one.tier if before is None or raised else _higher(one.tier, before.tier),
            priority=one.priority
            if before is None or raised
            else _higher(one.priority, before.priority),
            raised_s=now_s if before is None or raised else before.raised_s,
            returned_s=None if before is None or raised else before.returned_s,
            at_s=at_s if before is None or raised else before.at_s,
            times=1 if before is None else before.times + again,
            incident_end_s=one.end_s,
            content=one.content,
            source=self._source,
            run=self._run,
        )
        changes = []
        if raised:
            changes.append(Change("raise", alarm, self._suppression(alarm.device, now_s)))
        elif before is not None and alarm != before:
            loud = (alarm.tier, alarm.priority, alarm.device) != (
                before.tier,
                before.priority,
                before.device,
            )
            changes.append(Change("change" if loud else "grow", alarm))
        stands = now_s - one.end_s <= self._off_delay_of(alarm)
        if alarm.returned_s is None and not (one.going or stands):
            changes.append(Change("return", _returned(alarm, now_s)))
        return changes

    def _off_delay_of(self, alarm: Alarm) -> float:
        """Without new evidence for so long it is over."""
        standing = alarm.times >= _STANDING_TIMES
        return max(self._off_delay_s, _STANDING_OFF_DELAY_S) if standing else self._off_delay_s

    def _suppression(self, device: str, now_s: float) -> str:
        sql = (
            "SELECT who, why FROM maintenance WHERE (device = ? OR device = '') AND start_s <= ?"
            " AND end_s > ? ORDER BY id DESC LIMIT 1"
        )
        rows = self._history.file.rows(sql, device, now_s, now_s)
        return f"maintenance, {rows[0]['who']}: {rows[0]['why']}" if rows else ""

    def _keep(self, changes: Sequence[Change], at_s: float) -> None:
        with self._history.change() as connection:
            for one in changes:
                alarm = one.alarm
                record = IncidentRecord(
                    alarm.incident, alarm.device, alarm.label, alarm.content.start_s,
                    alarm.incident_end_s, alarm.content.text,
                )  # fmt: skip
                self._history.put_incident(connection, record)
                row = asdict(alarm) | {"content": json.dumps(asdict(alarm.content))}
                names = ", ".join(row)
                marks = ", ".join(f":{name}" for name in row)
                connection.execute(
                    f"INSERT OR REPLACE INTO alarms ({names}) VALUES ({marks})",  # noqa: S608
                    row,
                )
                if one.act == "raise":
                    connection.execute(
                        "INSERT INTO raisings (incident, tier, device, raised_s, suppressed)"
                        " VALUES (?, ?, ?, ?, ?)",
                        (alarm.incident, alarm.tier, alarm.device, alarm.raised_s, one.suppressed),
                    )
                if one.act != "grow":
                    append_audit(
                        connection, "faultwise", one.act, alarm.incident, at_s, tier=alarm.tier,
                        priority=alarm.priority, device=alarm.device, label=alarm.label,
                        raised_s=alarm.raised_s, returned_s=alarm.returned_s, times=alarm.times,
                        suppressed=one.suppressed,
                    )  # fmt: skip


def make_alarms(
    incidents: Sequence[Incident], verdicts: pd.DataFrame, plant: Plant | None, end_s: float
) -> list[Alarm]:
    """The alarms of a recording as they stand at its end, which nobody raised: those that go on
    first, then the newest.

    Args:
        incidents: of the recording.
        verdicts: of its windows.
        plant: names and contacts.
        end_s: of the recording.
    """
    seen = [_see(one, verdicts, plant or Plant(), end_s, OFF_DELAY_S) for one in incidents]
    alarms = [
        Alarm(
            one.id, one.label, one.device, one.tier, one.priority, one.start_s,
            None if one.going else one.end_s, 0.0, 1, one.end_s, one.content,
        )
        for one in seen
    ]  # fmt: skip
    return sorted(alarms, key=lambda one: (one.returned_s is not None, -one.raised_s, one.incident))


def _see(
    incident: Incident, verdicts: pd.DataFrame, plant: Plant, now_s: float, off_delay_s: float
) -> Seen:
    words = read_playbook(incident.label)
    known = find_cause(incident.facts)
    checks = words.target_checks if incident.role == "target" else words.checks
    checks = known.checks if known else checks
    sure = judge(incident, verdicts, incident.facts) != "inconclusive"
    does = f"{plant.name_of(incident.device)} {words.does(incident.role)}."
    content = _make_content(incident, plant, checks, incident.facts)
    fellows = _find_fellows(incident)
    explained = known is not None and (bool(fellows) or not sure)
    cause = known.meaning if known is not None and explained else does
    content = replace(content, cause=cause, together=fellows)
    # What may be an attack is told, however little facts say of it.
    told = incident.severity != "low" or bool(incident.label in ATTACKS and incident.facts)
    tier: Tier = "alarm" if sure else "notification" if told else "log"
    going = now_s - incident.end_s <= off_delay_s
    return Seen(
        incident.id, incident.label, incident.device, tier, incident.severity,
        incident.start_s, incident.end_s, going, content, fellows,
    )  # fmt: skip


def _find_fellows(incident: Incident) -> tuple[str, ...]:
    """The other devices that a rule says fell silent with the incident's: its first peers."""
    fact = incident.facts[0] if incident.facts else None
    if fact is None or kind_of(fact) != "silent_together":
        return ()
    return incident.peers[: int(fact.values["members"]) - 1]


def _make_content(
    one: Incident | Sign, plant: Plant, checks: Sequence[str], facts: Sequence[Fact]
) -> AlarmContent:
    """What an alarm, or a sign of one, says; but for its cause."""
    words = read_playbook(one.label)
    return AlarmContent(
        text=facts[0].text if facts else words.gloss,
        cause="",
        consequence=words.consequence,
        response=checks[0] if checks else "",
        respond_min=words.respond_min,
        contact=_find_contact([one.device, *one.related, *one.peers], plant),
        role=one.role,
        peers=one.peers,
        related=one.related,
        facts=tuple(fact.text for fact in facts),
        start_s=one.start_s,
    )


def _see_sign(sign: Sign, plant: Plant) -> Seen:
    words, known = read_playbook(sign.label), find_cause((sign.fact,))
    checks = words.target_checks if sign.role == "target" else words.checks
    checks = known.checks if known else checks
    does = f"Perhaps {plant.name_of(sign.device)} {words.does(sign.role)}: too little was seen for an alarm."
    content = replace(
        _make_content(sign, plant, checks, (sign.fact,)),
        cause=known.meaning if known else does,
        together=sign.related if kind_of(sign.fact) == "quiet_together" else (),
        sign=True,
        counted=sign.count,
    )
    mark = f"{sign.device} {sign.label} {sign.start_s:.0f} {' '.join(sorted(sign.peers))}"
    mark = hashlib.sha256(f"sign {mark}".encode()).hexdigest()[:8]
    priority: Severity = "medium" if sign.label in ATTACKS else "low"
    return Seen(
        f"{sign.label}-{mark}", sign.label, sign.device, "notification", priority, sign.start_s,
        sign.end_s, True, content, (), sign.hard, sign.stands, known is not None,
    )  # fmt: skip


def _promote(one: Seen, before: Alarm | None, plant: Plant) -> tuple[Seen, Alarm | None]:
    """A hard sign that an earlier look saw too is an alarm where there is more of it now, or where it
    stands, and nothing spoke against it since: what was failing then has not worked in between."""
    more = (
        before is not None
        and one.hard
        and (one.stands or one.content.counted > before.content.counted)
        and one.start_s <= before.incident_end_s
    )
    if before is None or not (more or before.tier == "alarm"):
        return one, before
    words = read_playbook(one.label)
    why = "nothing spoke against it since" if one.stands else "seen twice, and more the second time"
    does = f"Likely {plant.name_of(one.device)} {words.does(one.content.role)}: {why}."
    content = one.content if one.explained else replace(one.content, cause=does)
    return replace(one, tier="alarm", content=content), before


def _find_contact(addresses: Iterable[str], plant: Plant) -> str:
    named = {one.address: one.contact for one in plant.devices if one.contact}
    return next((named[one] for one in addresses if one in named), "")


def _with_ids(incidents: Sequence[Incident]) -> list[Incident]:
    """Incidents with an id each: two of one device, label and second differ in their peers alone."""
    used: set[str] = set()
    named = []
    for one in incidents:
        mark = hashlib.sha256(" ".join(sorted(one.peers)).encode()).hexdigest()[:4]
        named.append(replace(one, id=f"{one.id}-{mark}") if one.id in used else one)
        used.add(one.id)
    return named


def _higher(one: Any, other: Any) -> Any:
    """What was called out stays called out as long as it goes on."""
    return max(one, other, key=RANK.__getitem__)


def _returned(alarm: Alarm, now_s: float) -> Alarm:
    # A slot ends before what this machine's clock told of the sensor meanwhile.
    return Alarm(**(vars(alarm) | {"returned_s": max(now_s, alarm.raised_s)}))


def _see_condition(one: Condition) -> Seen:
    content = AlarmContent(
        text=one.text, cause=one.words.cause, consequence=one.words.consequence,
        response=one.words.response, respond_min=one.words.respond_min, contact="", role="source",
        peers=(), related=(), facts=(one.text,), start_s=one.since_s,
    )  # fmt: skip
    words = one.words
    return Seen(
        one.id, SENSOR, one.about, words.tier, words.priority, one.since_s, one.now_s, True, content
    )
