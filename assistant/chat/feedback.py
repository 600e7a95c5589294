"""Operators' remarks on an answer (false alarm, confirmed, shelved ...), read and kept.

Feedback never changes a verdict by itself: wrongly confirmed "normal" windows would silence a live
bot, so whatever trains on it later checks it first.
"""

import re
import time
from dataclasses import dataclass

from assistant.detection.incidents import Incident
from assistant.diagnosis import Diagnosis
from assistant.history import Feedback, History, IncidentRecord
from traffic.labels import LABELS, NORMAL

MAX_REASON_CHARS = 500
_REASON = re.compile(
    r"(?:\b(?:because(?: of)?|becuase|since|due to|reason:?)|[:,])\s+(.+)",
    re.IGNORECASE | re.DOTALL,
)
_SPAN = re.compile(
    r"\bfor\s+(\d+|an?|one|two|three)\s*(minute|min|hour|h|day|week)s?\b", re.IGNORECASE
)
_SPAN_S = {
    "minute": 60.0, "min": 60.0, "hour": 3600.0, "h": 3600.0, "day": 86400.0, "week": 604800.0,
}  # fmt: skip
_COUNT = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}

_SHELVE_HOW = (
    "To shelve it I need a time and a reason, for example: shelve for some hours because of "
    "maintenance."
)
_SHELVED = "Shelved with that reason; it comes back by itself when the time is over."
_ANSWERS = {
    "false_alarm": "Kept as a false alarm, and acknowledged. The verdict stays as it was shown: "
    "before anything learns from this, it is checked against what is known.",
    "confirm": "Kept as confirmed, and acknowledged.",
    "wrong": "Kept: the answer was wrong. If you know what it was, say so, for example: it was a "
    "misconfiguration.",
    "acknowledge": "Acknowledged.",
}
_WANT_REASON = " A reason would help whoever reads it later."


@dataclass(frozen=True)
class Remark:
    """A remark; ``act`` is ``false_alarm``, ``confirm``, ``wrong``, ``acknowledge``, ``shelve``."""

    act: str
    why: str
    label: str
    span_s: float | None


def read_remark(text: str) -> Remark:
    """Read an operator's remark.

    >>> read_remark("mark as false alarm because we ran a scan")
    Remark(act='false_alarm', why='we ran a scan', label='normal', span_s=None)
    """
    lowered = text.lower()
    reason = _REASON.search(text)
    why = reason[1].strip(" .!")[:MAX_REASON_CHARS] if reason else ""
    span = _SPAN.search(lowered)
    span_s = float(_COUNT.get(span[1], 0) or span[1]) * _SPAN_S[span[2]] if span else None
    spaced = lowered.replace("_", " ")
    named = next((name for name in LABELS[1:] if name.replace("_", " ") in spaced), "")
    act = _act(lowered)
    return Remark(act, why, NORMAL if act == "false_alarm" else named, span_s)


def keep(
    remark: Remark,
    diagnosis: Diagnosis,
    incident: Incident,
    history: History,
    who: str,
    now_s: float | None = None,
) -> str:
    """Keep a remark; returns what to answer.

    Raises:
        UserError: the history cannot be written.
    """
    at_s = time.time() if now_s is None else now_s
    keep_incident(incident, diagnosis.cause, history)
    if remark.act == "shelve":
        if not remark.why or remark.span_s is None:
            return _SHELVE_HOW
        history.set_state(incident.id, "shelved", who, remark.why, at_s + remark.span_s, now_s=at_s)
        return _SHELVED
    if remark.act != "acknowledge":
        label = remark.label or (incident.label if remark.act == "confirm" else "")
        history.add_feedback(
            Feedback(
                incident.device, incident.start_s, incident.end_s, incident.id, incident.label,
                label, who, remark.why, at_s,
            )
        )  # fmt: skip
    history.set_state(incident.id, "acknowledged", who, remark.why, now_s=at_s)
    return _ANSWERS[remark.act] + ("" if remark.why else _WANT_REASON)


def keep_incident(incident: Incident, summary: str, history: History) -> None:
    """Keep an incident in the history, so that it can be found again and given a state."""
    where = (incident.id, incident.device, incident.label, incident.start_s, incident.end_s)
    history.add_incident(IncidentRecord(*where, summary))


def _act(lowered: str) -> str:
    if re.search(r"\b(shelve|snooze|mute|suppress)", lowered):
        return "shelve"
    if re.search(r"\bignore", lowered):
        return "shelve" if _SPAN.search(lowered) else "false_alarm"
    if re.search(r"\b(ack|acknowledge)", lowered):
        return "acknowledge"
    if re.search(r"\b(wrong|incorrect|not (?:right|correct|true))\b", lowered):
        return "wrong"
    if re.search(r"\b(confirm\w*|correct|right|true|real)\b", lowered):
        return "confirm"
    return "false_alarm"
