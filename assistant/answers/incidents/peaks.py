"""When a trouble was worst, who is to blame for it, and whether what was written got through."""

import re

from assistant.answers.asked import Answer, Asked, Reply, say
from assistant.answers.incidents.sides import find_end_of
from assistant.answers.topics import find_labelled
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import find_culprits, find_targets
from assistant.diagnosis.playbook import find_place
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.fact import Fact, kind_of
from assistant.facts.requests import is_refused
from traffic.capture import SAMPLE_S
from traffic.labels import ATTACKS

_WORST = re.compile(
    r"\b(?:worst|strongest|heaviest|peak\w*|busiest|highest|at its (?:height|worst)|am (?:schlimmsten|staerksten)"
    r"|schlimmster|hoehepunkt|peor|mas fuerte|pico)\b"
)
_MOMENT = re.compile(
    r"\b(?:when|moment|time|minute|second|point|wann|zeitpunkt|cuando|momento|hora|at its (?:height|worst)|peak\w*"
    r"|hoehepunkt|pico)\b"
)


_PEAKS = frozenset(("rate", "least", "peak"))


def answer_peak(asked: Asked) -> Answer | None:
    """When what is meant was worst; None where that is not asked, or nothing of it was counted."""
    plain, incident = asked.query.plain, asked.incident
    if incident is None or not (_WORST.search(plain) and _MOMENT.search(plain)):
        return None
    named = [
        one for one in find_labelled(asked) if any(kind_of(each) in _PEAKS for each in one.facts)
    ]
    incident = incident if incident in named or not named else named[0]
    facts = incident.facts
    told = next((one for one in facts if kind_of(one) in _PEAKS), None) or _count(asked, incident)
    if told is None:
        return None
    return Answer(told, tuple(one for one in facts if one is not told))


def _count(asked: Asked, incident: Incident) -> Fact | None:
    """The ten seconds in which most failed, or was sent again."""
    view, device = asked.view, incident.device
    start_s, end_s = find_start(incident)[0], find_end(incident)
    rows = view.exchanges
    mine = ((rows["server"] == device) | (rows["client"] == device)) & rows["ts"].between(
        start_s, end_s
    )
    failed = rows[mine & ((rows["outcome"] == "unanswered") | is_refused(rows))]
    if incident.label == "packet_loss":
        again = view.evidence_of(device, ("retransmission",))
        again = again[again["slot"].between(start_s // SAMPLE_S, end_s // SAMPLE_S)]
        counts, kind = again.groupby("slot")["count"].sum(), "peak_lost"
    else:
        counts, kind = failed.groupby(failed["ts"] // SAMPLE_S).size(), "peak_failed"
    if counts.empty:
        return None
    return say(
        kind, name=view.name_of(device), peak_time_s=float(counts.idxmax()) * SAMPLE_S,
        n=int(counts.max()), all=int(counts.sum()),
    )  # fmt: skip


_BLAME = re.compile(
    r"\b(?:to blame|blame for|guilty|at fault|schuld|culpa|culpable|whose fault|whose doing)\b"
)
_WHO = re.compile(r"\b(?:who|whose|wer|quien|which|what|welche\w*|cual)\b")


def answer_blame(asked: Asked) -> Answer | None:
    """Whose fault it is: who attacks, else where it lies; None where that is not asked."""
    plain, incident = asked.query.plain, asked.incident
    if incident is None or not incident.facts or asked.either:
        return None
    if not (_BLAME.search(plain) and _WHO.search(plain)):
        return None
    culprits = find_culprits(incident)
    if incident.label in ATTACKS:
        line = say("blame_attack_of", names=asked.view.names_of(culprits))
        return Answer(line, incident.facts, about=culprits[0])
    place = find_place(incident.label, incident.facts)
    at = find_end_of(asked, incident)
    names = asked.view.name_of(at) if at else asked.name_ends(incident)
    return Answer(say("blame_fault" if at else "place", place=place, names=names), incident.facts)


_THROUGH = re.compile(
    r"\b(?:g[eo]t|gets|getting|go|goes|went|came|come|make|made) (?:it )?through\b|\b(?:accept\w*|succe\w+|take effect"
    r"|took effect|arrive\w*|durchgekommen|angekommen|angenommen|aceptad\w*|pasaron|llegaron)\b"
)
_WRITES = re.compile(
    r"\b(?:writ\w+|wrote|commands?|changes?|values?|set ?points?|befehle?|geschrieben|escrit\w*|comandos?|anything"
    r"|something)\b"
)


def answer_through(asked: Asked) -> Answer | None:
    """Whether what a stranger wrote was accepted; None where that is not asked, or nobody did."""
    plain, incident = asked.query.plain, asked.incident
    if incident is None or incident.label != "unauthorized_command":
        return None
    if not (_THROUGH.search(plain) and _WRITES.search(plain)):
        return None
    culprits, targets = find_culprits(incident), find_targets(incident)
    rows = asked.view.exchanges
    rows = rows[
        rows["client"].isin(culprits) & rows["server"].isin(targets) & rows["kind"].eq("write")
    ]
    if rows.empty:
        return None
    good = int(((rows["outcome"] == "answered") & ~is_refused(rows)).sum())
    reply: Reply = ("yes" if good else "no") if asked.polar else ""
    line = say(
        "through_writes" if good else "through_none", reply, n=good, all=len(rows),
        names=asked.view.names_of(culprits), name=asked.view.names_of(targets),
    )  # fmt: skip
    return Answer(line, incident.facts)
