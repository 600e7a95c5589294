"""The composed answer: fixed sentences of a label, facts as they were computed, quotations; no
model writes here."""

from dataclasses import dataclass
from datetime import UTC, datetime

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.grounding import Citation
from assistant.diagnosis.investigate import MOST_OTHERS, Finding, name_of
from assistant.diagnosis.playbook import read_playbook
from assistant.diagnosis.standing import is_unanswered, kind_of
from assistant.facts.fact import listed
from prompts.render import render
from traffic.labels import ATTACKS

_CERTAINTY = {"confirmed": "Confirmed", "likely": "Likely", "inconclusive": "Not certain"}
_ORIGIN = "Composed from measured facts and cited documents, without a language model."
_ALL_WELL = "Healthy: no incident was found; every device that could be judged behaves as usual."
_ROLES = {"source": ", not its victim", "both": " and suffers from it too"}
_STILL_S = 60.0
_OVER = {"until_time_s", "again_time_s"}
_STEADY = 0.05  # half of the intervals within this share of the median: a clock, not a back-off
_ORDINARY_PORTS = ("80", "443", "8080", "8443", "8883", "1883", "123", "53")
_MOST_CHECKS, _MOST_RULED_OUT = 5, 4


@dataclass(frozen=True)
class Wording:
    """An answer in words, and the parts of it that others show on their own."""

    headline: str
    ruled_out: tuple[str, ...]
    checks: tuple[str, ...]
    text: str


def clock(seconds: float) -> str:
    """A moment as a person reads it.

    >>> clock(1545466950.0)
    '2018-12-22 08:22:30 UTC'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def compose(
    finding: Finding,
    citations: tuple[Citation, ...],
    similar: tuple[Citation, ...],
    analysis: Analysis,
) -> Wording:
    """Word a finding.

    Args:
        finding: what is known.
        citations, similar: passages and past incidents to quote.
        analysis: names of devices and the capture's end.
    """
    headline = _headline(finding, analysis)
    apart = finding.apart
    ruled_out = tuple(fact.text for fact in (*apart.excluded, *apart.open))[:_MOST_RULED_OUT]
    checks = _checks(finding, citations)
    text = render(
        "diagnosis.jinja",
        headline=headline,
        explanation=[*finding.notes, *_explanation(finding, analysis)],
        seen=[fact.text for fact in finding.facts],
        also=_also(finding, analysis),
        also_title="Also seen" if finding.incident else "Elsewhere in this capture",
        ruled_out=ruled_out,
        checks=checks,
        manuals=citations,
        similar=similar,
        origin=_ORIGIN,
    )
    return Wording(headline, ruled_out, checks, text)


def _headline(finding: Finding, analysis: Analysis) -> str:
    asked = finding.asked
    if asked.missing and not finding.device:
        return f"{listed(asked.missing)} is not in this capture: nothing was sent by it and nobody asked for it."
    if not finding.device:
        return f"{_CERTAINTY['inconclusive']}: this capture holds no device whose traffic could be judged."
    if finding.condition is not None:
        everyone = finding.standing == "normal" and not (
            finding.condition.checks or asked.devices or asked.peers
        )
        return _ALL_WELL if everyone else finding.condition.headline.text
    assert finding.incident is not None
    certainty = _CERTAINTY[finding.standing]
    return f"{certainty}: {_what(finding.incident, finding.device, analysis)}, {_when(finding.incident, analysis)}."


def _what(incident: Incident, device: str, analysis: Analysis) -> str:
    """Who does or suffers what, seen from the device that was asked about."""
    does = read_playbook(incident.label).does(incident.role)
    name = name_of(device, analysis)
    if device == incident.device:
        return f"{name} {does}"
    theirs = name_of(incident.device, analysis)
    return f"{name} is affected; the cause lies at {theirs}, which {does}"


def _when(incident: Incident, analysis: Analysis) -> str:
    start = clock(incident.start_s)
    # That it works again is told by a fact, however little is left of the capture.
    over = any(_OVER & fact.values.keys() for fact in incident.facts)
    if incident.end_s >= analysis.capture.end_s - _STILL_S and not over:
        return f"since {start} and still at the end of the capture"
    return f"from {start} to {clock(incident.end_s)}"


def _explanation(finding: Finding, analysis: Analysis) -> list[str]:
    incident = finding.incident
    if incident is None:
        return []
    playbook = read_playbook(incident.label)
    lines = [playbook.gloss]
    peers = [name_of(peer, analysis) for peer in incident.peers[:3]]
    if incident.role == "target" and peers:
        # Who claims a false address is not among those who talk with its owner; a fault comes from
        # nobody.
        blamed = incident.label in ATTACKS and incident.label != "spoofing"
        lines.append(
            f"It comes from {listed(peers)}."
            if blamed
            else f"It concerns its traffic with {listed(peers)}."
        )
    if incident.role != "target" and incident.label in ATTACKS:
        lines.append(
            f"{name_of(incident.device, analysis)} is the source of it{_ROLES[incident.role]}."
        )
    if playbook.doubt and is_unanswered(incident.label, incident.facts):
        lines += [playbook.doubt, *_leaning(incident)]
    if incident.techniques:
        lines.append(f"Consistent with MITRE ATT&CK for ICS {listed(incident.techniques)}.")
    return lines


def _leaning(incident: Incident) -> list[str]:
    """Which of the signs that part a dead service from a dead controller are there, each way."""
    facts = {kind_of(fact): fact.values for fact in incident.facts}
    contact, rhythm = facts.get("contact", {}), facts.get("rhythm", {})
    port = str(contact.get("controller", "")).rpartition(":")[2]
    steady = bool(rhythm) and float(rhythm["jitter_s"]) <= _STEADY * float(rhythm["spacing_s"])
    controller = [
        *(["no name was asked before"] if "unasked" in facts else []),
        *(["the interval is steady"] if steady else []),
        *(["the port is no ordinary one"] if port and port not in _ORDINARY_PORTS else []),
    ]
    service = [
        *(["a name was asked before"] if "asked" in facts else []),
        *(["the intervals vary"] if rhythm and not steady else []),
        *(["the port is an ordinary one"] if port in _ORDINARY_PORTS else []),
    ]
    lines = [f"Here this speaks for a controller: {listed(controller)}."] if controller else []
    return lines + ([f"Here this speaks for a dead service: {listed(service)}."] if service else [])


def _also(finding: Finding, analysis: Analysis) -> list[str]:
    """The other incidents, one line each: the fact that says who, what and when."""
    lines = []
    for one in finding.others[:MOST_OTHERS]:
        telling = [
            fact.text
            for fact in one.facts
            if "start_time_s" in fact.values or "first_time_s" in fact.values
        ]
        name = one.label.replace("_", " ")
        lines.append(
            f"{name}: {telling[0]}"
            if telling
            else f"{name}, {_when(one, analysis)}: {_first(one, analysis)}"
        )
    rest = len(finding.others) - MOST_OTHERS
    return [*lines, f"And {rest} more: ask for the list of incidents."] if rest > 0 else lines


def _first(incident: Incident, analysis: Analysis) -> str:
    return next((fact.text for fact in incident.facts), f"at {name_of(incident.device, analysis)}.")


def _checks(finding: Finding, citations: tuple[Citation, ...]) -> tuple[str, ...]:
    incident = finding.incident
    if incident is None:
        return finding.condition.checks if finding.condition else ()
    playbook = read_playbook(incident.label)
    source = incident.role != "target"
    steps = list(playbook.checks if source else playbook.target_checks)[
        : _MOST_CHECKS - bool(citations)
    ]
    if finding.device != incident.device and source:
        steps.insert(0, "Start at the device that causes this, not at the one that suffers.")
    steps += [f"Follow the manual: {one.place} [{one.number}]." for one in citations[:1]]
    return tuple(steps[:_MOST_CHECKS])
