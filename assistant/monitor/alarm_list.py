"""Alarms as they stand: read by whoever shows them, with what people did and how many there are.

raised, going on      ─▶ active        ─▶ acknowledged (somebody has taken it)
over                  ─▶ returned
hidden, for a time    ─▶ shelved (who, why, until)   suppressed (maintenance: who, why, until)

How many an operator can bear: about one in ten minutes; more than ten are a flood (EEMUA 191).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from assistant.audit import append_audit
from assistant.detection.incidents import Incident, Severity
from assistant.facts.fact import Fact
from assistant.history import History
from traffic.errors import UserError
from traffic.plant import Plant

Tier = Literal["log", "notification", "alarm"]
AlarmState = Literal["active", "acknowledged", "returned", "shelved", "suppressed"]

RANK = {"log": 0, "notification": 1, "alarm": 2, "low": 0, "medium": 1, "high": 2}
# Each run of a recording has the same times: only the newest counts.
_NEWEST_RUN = " AND a.run = (SELECT max(b.run) FROM alarms AS b WHERE b.source = a.source)"
METER_S, FLOOD, FLOOD_OVER = 600.0, 10, 5
_DAY_S = 86_400.0


@dataclass(frozen=True)
class AlarmContent:
    """What an alarm says.

    Attributes:
        text: what was measured, the strongest fact.
        cause, consequence, response: in the words of the playbook.
        respond_min: within how many minutes somebody should respond.
        contact: whom to call, of plant.yaml; "" where nobody is named.
        role: of the device in the incident.
        peers, related: addresses that it points at, and that suffer from the same cause.
        facts: all that was measured.
        start_s: first moment of the evidence.
        sign: whether it is a first sign, which no incident bears out yet.
        counted: how much of it, of a sign.
        together: the other devices of which it says the same, at the same moment.
    """

    text: str
    cause: str
    consequence: str
    response: str
    respond_min: int
    contact: str
    role: str
    peers: tuple[str, ...]
    related: tuple[str, ...]
    facts: tuple[str, ...]
    start_s: float
    sign: bool = False
    counted: int = 0
    together: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alarm:
    """One alarm as it stands.

    Attributes:
        incident: id of its incident, the same for as long as it grows.
        label: one of ``LABELS``, or ``sensor``.
        device: address; the interface or folder of a sensor.
        tier: ``alarm`` asks for a response, ``notification`` is read when there is time, ``log``
            is looked up.
        priority: ``low``, ``medium`` or ``high``.
        raised_s: when it was raised last, by the traffic's clock.
        returned_s: when it was over; None while it goes on.
        at_s: when it was raised last, by this machine's clock.
        times: how often it was raised.
        incident_end_s: newest evidence.
        content: what it says.
        source: which source showed it: the interface, the folder, the recording.
        run: when the replay of a recording began, ISO 8601; "" of what is live.
    """

    incident: str
    label: str
    device: str
    tier: Tier
    priority: Severity
    raised_s: float
    returned_s: float | None
    at_s: float
    times: int
    incident_end_s: float
    content: AlarmContent
    source: str = ""
    run: str = ""


def name_alarm(alarm: Alarm, plant: Plant) -> str:
    """Whom an alarm is of: its device, and how many others."""
    more = len(alarm.content.together)
    return plant.name_of(alarm.device) + (f" and {more} more" if more else "")


def list_alarms(history: History, since_s: float | None = None, tier: Tier = "log") -> list[Alarm]:
    """Alarms of a tier or above, those that go on first, then the newest.

    Args:
        history: the open history.
        since_s: those that were over before this are left out.
        tier: the lowest.
    """
    sql = (
        "SELECT * FROM alarms WHERE returned_s IS NULL OR ?1 IS NULL OR returned_s >= ?1"
        " ORDER BY returned_s IS NOT NULL, raised_s DESC, incident"
    )
    rows = history.file.rows(sql, since_s)
    alarms = (Alarm(**(row | {"content": _read_content(row["content"])})) for row in rows)
    return [one for one in alarms if RANK[one.tier] >= RANK[tier]]


def _read_content(text: str) -> AlarmContent:
    found: dict[str, Any] = json.loads(text)
    lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    return AlarmContent(**(found | lists))


def read_incident(alarm: Alarm) -> Incident:
    """What an alarm says, as an incident: of a first sign, what it may become."""
    content = alarm.content
    facts = tuple(Fact("sign", text, {}) for text in content.facts)
    return Incident(
        alarm.incident, alarm.device, content.role, alarm.label, alarm.priority, content.start_s,
        alarm.incident_end_s, (), facts, content.peers, (), content.related,
    )  # fmt: skip


# ---- What people did ----


@dataclass(frozen=True)
class Standing:
    """The state of an alarm: by whom, why and until when where somebody declared it."""

    state: AlarmState
    who: str = ""
    why: str = ""
    until_s: float | None = None


def find_standing(alarm: Alarm, history: History, at_s: float) -> Standing:
    """The state of an alarm.

    Args:
        alarm: as it stands.
        history: holds what people declared of its incident.
        at_s: this machine's clock. An acknowledgement counts for the raising before it; raised
            again, an alarm is active again.
    """
    said = history.state(alarm.incident, at_s)
    if said.state == "shelved":
        return Standing("shelved", said.who, said.why, said.until_s)
    rows = history.file.rows(
        "SELECT suppressed FROM raisings WHERE incident = ? ORDER BY id DESC LIMIT 1",
        alarm.incident,
    )
    if rows and rows[0]["suppressed"]:
        return Standing("suppressed", "", rows[0]["suppressed"])
    if alarm.returned_s is not None:
        return Standing("returned")
    if said.state == "acknowledged" and said.at_s >= alarm.at_s:
        return Standing("acknowledged", said.who, said.why)
    return Standing("active")


def suppress(
    history: History, device: str, start_s: float, end_s: float, who: str, why: str, now_s: float
) -> None:
    """Declare maintenance: what is raised of a device meanwhile calls nobody, and is kept.

    Args:
        history: the open history.
        device: address; "" for the whole plant.
        start_s, end_s: of the maintenance, seconds since the epoch.
        who, why: the person and the reason, in their words.
        now_s: when it is declared.

    Raises:
        UserError: without a reason, or an end after the start and the present.
    """
    if not why.strip() or end_s <= max(start_s, now_s):
        raise UserError(
            f"cannot suppress {device or 'the plant'} until {end_s:.0f} for {why!r}; "
            "expected a reason, and an end that is still to come; give both"
        )
    with history.change() as connection:
        connection.execute(
            "INSERT INTO maintenance (device, start_s, end_s, who, why, at_s) VALUES (?, ?, ?, ?, ?, ?)",
            (device, start_s, end_s, who, why, now_s),
        )
        append_audit(
            connection, who, "suppress", device, now_s, start_s=start_s, end_s=end_s, why=why
        )


# ---- How many there are ----


@dataclass(frozen=True)
class Meter:
    """How many alarms called an operator.

    Attributes:
        last: in the last ten minutes, by operator.
        flood: whether there are more than anybody can follow: it begins above ten in ten minutes
            and is over below five.
        actors: ``device``, ``label`` and how often, of the day, the most first.
    """

    last: float
    flood: bool
    actors: tuple[tuple[str, str, int], ...]


def read_meter(history: History, now_s: float, operators: int = 1) -> Meter:
    """Count the alarms of the last ten minutes, and who raises most in a day.

    Args:
        history: the open history.
        now_s: by the traffic's clock.
        operators: on shift, at least 1.
    """
    sql = (
        "SELECT r.raised_s FROM raisings AS r JOIN alarms AS a ON a.incident = r.incident"  # noqa: S608 - no text from outside
        f" WHERE r.tier = 'alarm' AND r.suppressed = '' AND r.raised_s > ? AND r.raised_s <= ?{_NEWEST_RUN}"
        " ORDER BY r.raised_s"
    )
    times = [row["raised_s"] for row in history.file.rows(sql, now_s - _DAY_S, now_s)]
    actors = history.file.rows(
        "SELECT r.device, a.label, count(*) AS n FROM raisings AS r JOIN alarms AS a"  # noqa: S608
        f" ON a.incident = r.incident WHERE r.tier = 'alarm' AND r.raised_s > ? AND r.raised_s <= ?{_NEWEST_RUN}"
        " GROUP BY r.device, a.label ORDER BY n DESC, r.device LIMIT 10",
        now_s - _DAY_S,
        now_s,
    )
    last = sum(one > now_s - METER_S for one in times) / operators
    return Meter(
        last,
        _is_flood(times, now_s, operators),
        tuple((row["device"], row["label"], row["n"]) for row in actors),
    )


def _is_flood(times: Sequence[float], now_s: float, operators: int) -> bool:
    """Follow the count over the raisings, since the bounds differ by whether one goes on."""
    flood = False
    events = sorted([(one, 1) for one in times] + [(one + METER_S, -1) for one in times])
    count = 0
    for at_s, step in events:
        if at_s > now_s:
            break
        count += step
        flood = count > FLOOD * operators or (flood and count >= FLOOD_OVER * operators)
    return flood
