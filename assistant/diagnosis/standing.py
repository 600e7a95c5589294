"""How sure an answer may be: decided by code from evidence, never by how a sentence sounds.

confirmed       hard evidence of the label's own kind, and a confident verdict; or a condition that needs no model
likely          a verdict and at least one fact
inconclusive    the model abstained, numbers contradict it, or there is nothing to judge
normal          no incident, and the device is well (assistant.diagnosis.health)
"""

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from assistant.detection.incidents import Incident
from assistant.detection.rules import DECISIVE, SUGGESTIVE
from assistant.facts.fact import Fact, kind_of, make_fact
from assistant.facts.profiles import PROFILES

Standing = Literal["confirmed", "likely", "inconclusive", "normal"]

_SURE = 0.8  # mean calibrated probability of a confident verdict
_MOSTLY = 0.5  # share of abstentions above which nothing is concluded
_ENOUGH = 30  # sure windows, five minutes of them, that no number of unsure ones takes back
_ANSWERED = 0.99  # share of connections
_BEACON = 3  # contacts, as in assistant.facts.attribution.shows_contacts
_CONTACTS = frozenset({"contact", "calls", "calls_refused"})
_ORDER: tuple[Standing, ...] = ("inconclusive", "likely", "confirmed")


def judge(
    incident: Incident, verdicts: pd.DataFrame, facts: Sequence[Fact], contradicted: bool = False
) -> Standing:
    """How sure an answer about an incident may be.

    Args:
        incident: what is claimed.
        verdicts: one row per window of all devices.
        facts: those of the incident that passed the check of their own numbers.
        contradicted: numbers of the same time deny the label.
    """
    kinds = {kind_of(fact) for fact in facts}
    if kinds & DECISIVE:
        return "confirmed"
    if kinds & SUGGESTIVE:
        return "likely"
    rows = _rows(incident, verdicts)
    contradicted = contradicted or is_everyday(incident.label, facts)
    if not facts or not incident.windows or rows.empty or contradicted:
        return "inconclusive"
    unsure = rows["abstained"].astype(bool)
    abstained = float(unsure.mean())
    if abstained > _MOSTLY and int((~unsure).sum()) < _ENOUGH:
        return "inconclusive"
    hard = bool(kinds & PROFILES[incident.label].conclusive)
    sure = float(rows["probability"].mean()) >= _SURE and abstained <= 1 - _SURE
    # A dead cloud service and a dead controller look the same, however sure the model is.
    return "confirmed" if hard and sure and not is_unanswered(incident.label, facts) else "likely"


def is_unanswered(label: str, facts: Sequence[Fact]) -> bool:
    """Whether a beacon's other end hardly ever answered."""
    contacts = [fact for fact in facts if kind_of(fact) in _CONTACTS]
    return label == "c2" and bool(contacts) and all(map(_is_vain, contacts))


_VAIN = 0.8  # of the attempts; a service that died had answered some before


def _is_vain(contact: Fact) -> bool:
    values = contact.values
    tried, vain = values.get("attempts"), values.get("unanswered")
    if values.get("sessions") == 0:
        return True
    return (
        isinstance(tried, float | int) and isinstance(vain, float | int) and vain >= _VAIN * tried
    )


def is_everyday(label: str, facts: Sequence[Fact]) -> bool:
    """Whether the numbers of a suspicion are those of ordinary work: packets of a flood that are all
    answered, and fewer than any flood has; contacts with a controller that are too few for a beacon."""
    values = {name: value for fact in facts for name, value in fact.values.items()}
    profile = PROFILES[label]
    if profile.flood and profile.exclusion and "peak_pkts_per_s" in values:
        answered = float(values.get("answered_share", 0.0)) >= _ANSWERED
        return answered and profile.exclusion.denies(values)
    if label == "c2":
        contacts = [fact for fact in facts if kind_of(fact) == "contact"]
        known = [float(one.values["attempts"]) for one in contacts if "attempts" in one.values]
        return any(attempts < _BEACON for attempts in known)
    return False


def lower(standing: Standing) -> Standing:
    """One step less sure: evidence was lost."""
    return _ORDER[max(_ORDER.index(standing) - 1, 0)] if standing in _ORDER else "inconclusive"


def verdict_fact(incident: Incident, verdicts: pd.DataFrame) -> Fact | None:
    """How many windows say so and with what probability; None where no window was asked."""
    rows = _rows(incident, verdicts)
    if rows.empty:
        return None
    values: dict[str, float | str] = {
        "n": len(rows),
        "mean_share": float(rows["probability"].mean()),
        "unsure": int(rows["abstained"].astype(bool).sum()),
    }
    sentence = (
        "{n:window} of its traffic look so, with a mean probability of {mean_share}; "
        "{unsure} of them are unsure."
    )
    return make_fact("verdict", sentence, values, rows["start_s"].tolist())


def _rows(incident: Incident, verdicts: pd.DataFrame) -> pd.DataFrame:
    inside = (verdicts["start_s"] < incident.end_s) & (verdicts["end_s"] > incident.start_s)
    so = inside & (verdicts["label"] == incident.label)
    mine = verdicts[so & (verdicts["device"] == incident.device)]
    # Nobody judges an intruder outside: what is known of it, its victims show.
    return mine if len(mine) else verdicts[so & verdicts["device"].isin(incident.related)]
