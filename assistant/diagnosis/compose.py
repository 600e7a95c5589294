"""The composed answer: a label's fixed sentences, facts as computed, quotations; no model writes.

An answer stays data, ``Sections``, until ``render_answer`` makes its text: who changes a part (a
model that words what was seen) changes that section and renders again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.detection.rules import HEADLINES
from assistant.diagnosis.choosing import attacks, find_culprits, find_targets, is_bystander
from assistant.diagnosis.citations import Citation
from assistant.diagnosis.investigate import MOST_OTHERS, Investigation
from assistant.diagnosis.playbook import find_cause, read_playbook
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.diagnosis.standing import is_unanswered
from assistant.facts.fact import Fact, find_whole, kind_of, listed, show
from assistant.facts.moments import UTC_CLOCK, Clock
from prompts.render import render
from traffic.labels import ATTACKS

_BESIDE = (
    "{sure}: the traffic of {who} looked unusual while {cause} {does}, {when}; that the one has to do with the "
    "other no packet shows."
)
_CERTAINTY = {"confirmed": "Confirmed", "likely": "Likely", "inconclusive": "Not certain"}
_ORIGIN = "Composed from measured facts and cited documents, without a language model."
_ALL_WELL = "Healthy: no incident was found; every device that could be judged behaves as usual."
_ROLES = {"source": ", not its victim", "both": " and suffers from it too"}
_STEADY = 0.05  # half of the intervals within this share of the median: a clock, not a back-off
_ORDINARY_PORTS = ("80", "443", "8080", "8443", "8883", "1883", "123", "53")
_MOST_CHECKS, _MOST_RULED_OUT = 5, 4
_BEFORE_SENSOR = 3
MOST_SHOWN, MOST_ALSO = 5, 2  # facts and further incidents of a short answer


@dataclass(frozen=True)
class Sections:
    """The parts of an answer, in the order in which they are shown.

    Attributes:
        headline: the answer in one sentence.
        further: the same of what else was asked at once.
        notes: what the operator should know about the answer.
        explanation: what it means.
        seen: texts of the facts; ``worded`` stands in their place where a model worded them.
        also: further incidents, under ``also_title``.
        ruled_out: other causes and the numbers against them.
        checks: what to do next, in order.
        manuals, similar: passages to quote.
        log_lines: lines of devices' own logs, quoted.
        origin: who wrote it.
        whole: the question is why or what is wrong: meaning, further incidents and checks belong to
            the short answer.
        quotes: passages are the answer itself.
        gloss: how many lines of the explanation the short answer shows.
        steps: what to do was asked for, and the headline is the first step.
        most: how many facts the short answer shows.
        alike: how many of ``similar``, the first ones, are incidents of this plant with the same
            signs: a short answer shows them.
        clock: how its moments read.
    """

    headline: str
    notes: tuple[str, ...]
    explanation: tuple[str, ...]
    seen: tuple[str, ...]
    also_title: str
    also: tuple[str, ...]
    ruled_out: tuple[str, ...]
    checks: tuple[str, ...]
    manuals: tuple[Citation, ...]
    similar: tuple[Citation, ...]
    origin: str = _ORIGIN
    worded: str = ""
    log_lines: tuple[str, ...] = ()
    whole: bool = True
    quotes: bool = False
    most: int = MOST_SHOWN
    alike: int = 0
    steps: bool = False
    gloss: int = 1
    further: tuple[str, ...] = ()
    clock: Clock = UTC_CLOCK


def render_answer(sections: Sections, long: bool = False) -> str:
    """Make the text of an answer: markdown that reads well as plain text.

    Args:
        sections: of the answer.
        long: all of them; else the answer, five facts, and what to do next.
    """
    return render(
        "diagnosis.jinja",
        **vars(sections),
        long=long,
        most_also=MOST_ALSO,
        written=sections.origin != _ORIGIN,
    )


_DATE = re.compile(r"(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}) UTC(:(?= ))?")
_ADDRESS = re.compile(r" \(((?:\d{1,3}\.){3}\d{1,3}|[0-9a-f:]*:[0-9a-f:]+)\)")


def shorten_repeats(text: str) -> str:
    """A device is named once with its address, later by its name; a day is said once.

    >>> shorten_repeats("a (10.0.0.5) at 2026-01-02 03:04:05 UTC, a (10.0.0.5) at 2026-01-02 03:04:06 UTC")
    'a (10.0.0.5) at 2026-01-02 03:04:05 UTC, a at 03:04:06'
    """
    known: set[str] = set()
    day = ""

    def name(match: re.Match[str]) -> str:
        first = match[1] not in known
        known.add(match[1])
        return match[0] if first else ""

    def date(match: re.Match[str]) -> str:
        nonlocal day
        same, day = match[1] == day, match[1]
        # A colon after a time alone would read as a part of it.
        short = match[2] + (" -" if match[3] else "")
        return short if same else match[0]

    return _DATE.sub(date, _ADDRESS.sub(name, text))


def compose(
    found: Investigation,
    citations: tuple[Citation, ...],
    similar: tuple[Citation, ...],
    analysis: Analysis,
) -> Sections:
    """Word what was found.

    Args:
        found: what is known.
        citations, similar: passages and past incidents to quote.
        analysis: names of devices and the capture's end.
    """
    apart = found.apart
    return Sections(
        headline=_headline(found, analysis),
        notes=found.notes,
        explanation=tuple(_explanation(found.incident, analysis)) if found.incident else (),
        gloss=1
        + bool(found.incident and is_unanswered(found.incident.label, found.incident.facts)),
        seen=tuple(
            fact.text for fact in put_sensor_early(found.facts) if fact is not _leading(found)
        ),
        also_title="Also seen" if found.incident else "Elsewhere in this capture",
        also=tuple(_also(found, analysis)),
        ruled_out=tuple(fact.text for fact in (*apart.excluded, *apart.open))[:_MOST_RULED_OUT],
        checks=_checks(found),
        manuals=citations,
        similar=similar,
        log_lines=tuple(fact.text for fact in found.quotes),
        clock=clock_of(analysis),
    )


def clock_of(analysis: Analysis) -> Clock:
    """The clock of the plant, for a capture."""
    zone = analysis.plant.time_zone if analysis.plant else ""
    return Clock(zone, analysis.capture.start_s, analysis.capture.end_s)


def put_sensor_early(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """What is not judged, what the sensor missed or says itself, and what a device's own log or
    readings tell, after the three strongest facts, so that a short answer does not leave it out."""
    sensor = [fact for fact in facts if kind_of(fact) in ("new_unjudged", "sensor", "notice")]
    own = [fact for fact in facts if kind_of(fact).startswith(("log", "reading"))]
    about = [*sensor[:1], *own[:1], *sensor[1:], *own[1:]]
    others = [fact for fact in facts if fact not in about]
    return (*others[:_BEFORE_SENSOR], *about, *others[_BEFORE_SENSOR:])


# Facts of a suspicion that say more than its label: who was refused what, and who asks for whom in vain.
_TELLING = frozenset(("refusals", "arp"))


def _leading(found: Investigation) -> Fact | None:
    """The fact that answers by itself; None where a label's sentence has to."""
    if found.incident is None or not found.facts:
        return None
    return found.facts[0] if kind_of(found.facts[0]) in HEADLINES | _TELLING else None


_MOST_ENDS = 3  # of an attack, in the first line


def _headline(found: Investigation, analysis: Analysis) -> str:
    mention, incident = found.mention, found.incident
    if mention.missing and not found.device:
        missing = listed(mention.missing)
        if len(mention.missing) > 1:
            return f"{missing} are not in this capture: nothing was sent by them and nobody asked for them."
        return f"{missing} is not in this capture: nothing was sent by it and nobody asked for it."
    if not found.device:
        uncertain = _CERTAINTY["inconclusive"]
        return f"{uncertain}: this capture holds no device whose traffic could be judged."
    if found.condition is not None:
        named = mention.devices or mention.peers
        all_well = found.standing == "normal" and not (found.condition.checks or named)
        return _ALL_WELL if all_well else found.condition.headline.text
    assert incident is not None
    if is_bystander(incident, found.device, analysis.view):
        who, cause = map(analysis.view.name_of, (found.device, incident.device))
        does = read_playbook(incident.label).does(incident.role)
        return _BESIDE.format(
            sure=_CERTAINTY["inconclusive"],
            who=who,
            cause=cause,
            does=does,
            when=_when(incident, analysis),
        )
    if leading := _leading(found):
        name = analysis.view.name_of(found.device)
        listed_too = found.device in (incident.device, *incident.peers, *incident.related)
        hidden = find_whole(name, leading.text) is None and " more" in leading.text
        one_of = f" {name} is one of them." if hidden and listed_too else ""
        return f"{_CERTAINTY[found.standing]}: {leading.text}{one_of}"
    who = analysis.view.name_of(found.device)
    if found.device in incident.peers[:1] and incident.role == "target":
        who = analysis.view.name_of(incident.device)  # who does it is asked about
    elif found.device != incident.device and found.device not in find_culprits(incident):
        if incident.label == "ddos" and attacks(
            incident, found.device
        ):  # its fact names all who do it
            return f"{_CERTAINTY[found.standing]}: {found.facts[0].text}"
        cause = analysis.view.name_of(incident.device)
        who = f"{who} is affected; the cause lies at {cause}, which"
    else:
        return f"{_CERTAINTY[found.standing]}: {who} {_act(incident, analysis)}, {_when(incident, analysis)}."
    does = read_playbook(incident.label).does(incident.role)
    return f"{_CERTAINTY[found.standing]}: {who} {does}, {_when(incident, analysis)}."


def _act(incident: Incident, analysis: Analysis) -> str:
    """What a device does or suffers, and of an attack to whom or by whom."""
    does = read_playbook(incident.label).does(incident.role)
    suffers = incident.role == "target"
    if incident.label not in ATTACKS or ":" in does or (suffers and incident.label == "spoofing"):
        return does
    ends = find_culprits(incident) if suffers else find_targets(incident)
    names = listed(map(analysis.view.name_of, ends), _MOST_ENDS)
    return f"{does}: {names}" if names else does


def _when(incident: Incident, analysis: Analysis) -> str:
    start = show("start_time_s", find_start(incident)[0])
    if not is_over(incident, analysis):
        last = (
            show("end_time_s", incident.end_s) if analysis.view.live else "the end of the capture"
        )
        return f"since {start} and still at {last}"
    end = show("end_time_s", find_end(incident))
    return f"at {start}" if start == end else f"from {start} to {end}"


def _explanation(incident: Incident, analysis: Analysis) -> list[str]:
    if cause := find_cause(incident.facts):
        return [cause.meaning, *_leaning(incident), *_techniques(incident)]
    playbook = read_playbook(incident.label)
    attack = incident.label in ATTACKS
    lines = [playbook.gloss]
    if playbook.doubt and is_unanswered(incident.label, incident.facts):
        lines += [playbook.doubt, *_leaning(incident)]
    peers = listed(analysis.view.name_of(peer) for peer in incident.peers[:3])
    if incident.role == "target" and peers:
        # Who claims a false address is not among those who talk with its owner; a fault comes from
        # nobody.
        blamed = attack and incident.label != "spoofing"
        begin = "It comes from" if blamed else "It concerns its traffic with"
        lines.append(f"{begin} {peers}.")
    if incident.role != "target" and attack:
        name = analysis.view.name_of(incident.device)
        lines.append(f"{name} is the source of it{_ROLES[incident.role]}.")
    return lines + _techniques(incident)


def _techniques(incident: Incident) -> list[str]:
    if not incident.techniques:
        return []
    return [f"Consistent with MITRE ATT&CK for ICS {listed(incident.techniques)}."]


def _leaning(incident: Incident) -> list[str]:
    """Which signs speak for a dead controller, and which for a dead service; none where it answers."""
    if not is_unanswered(incident.label, incident.facts):
        return []
    facts = {kind_of(fact): fact.values for fact in incident.facts}
    contact = next(facts[one] for one in ("contact", "calls", "calls_refused") if one in facts)
    rhythm = facts.get("rhythm") or facts.get("period") or {}
    port = str(contact.get("controller", "")).rpartition(":")[2]
    ordinary = port in _ORDINARY_PORTS
    steady = bool(rhythm) and float(rhythm["jitter_s"]) <= _STEADY * float(rhythm["spacing_s"])
    controller = {
        "no name was asked before": bool({"unasked", "nameless"} & facts.keys()),
        "no name asked before leads outside": "names_inside" in facts,
        "no name asked before leads there": "names_elsewhere" in facts,
        "it began later than the device was seen": "late" in facts,
        "the interval is steady": steady,
        "the port is no ordinary one": bool(port) and not ordinary,
    }
    service = {
        "a name was asked before": "asked" in facts,
        "the intervals vary": bool(rhythm) and not steady,
        "the port is an ordinary one": ordinary,
    }
    signs = {"a controller": controller, "a dead service": service}
    said = [
        f"Signs of {cause}: {listed(sign for sign in of if of[sign])}."
        for cause, of in signs.items()
        if any(of.values())
    ]
    return [" ".join(said)] if said else []


def _also(found: Investigation, analysis: Analysis) -> list[str]:
    """The other incidents, one line each: the fact that says who, what and when."""
    lines = []
    for one in found.others[:MOST_OTHERS]:
        name = read_playbook(one.label).short
        dated = [
            fact.text for fact in one.facts if fact.values.keys() & {"start_time_s", "first_time_s"}
        ]
        texts = [fact.text for fact in one.facts] or [f"at {analysis.view.name_of(one.device)}."]
        lines.append(
            f"{name}: {dated[0]}" if dated else f"{name}, {_when(one, analysis)}: {texts[0]}"
        )
    rest = len(found.others) - MOST_OTHERS
    return [*lines, f"And {rest} more: ask for the list of incidents."] if rest > 0 else lines


def find_checks(incident: Incident) -> tuple[str, ...]:
    """What to do about an incident, in order."""
    playbook, cause = read_playbook(incident.label), find_cause(incident.facts)
    if cause is not None:
        return cause.checks
    return playbook.target_checks if incident.role == "target" else playbook.checks


def _checks(found: Investigation) -> tuple[str, ...]:
    incident = found.incident
    if incident is None:
        return found.condition.checks if found.condition else ()
    steps = list(find_checks(incident)[:_MOST_CHECKS])
    source = incident.role != "target"
    if not find_cause(incident.facts) and found.device != incident.device and source:
        steps.insert(0, "Start at the device that causes this, not at the one that suffers.")
    return tuple(steps[:_MOST_CHECKS])
