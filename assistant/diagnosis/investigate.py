"""Gather what a capture says to a question: whose incident, which facts, how sure, what else.

Nothing is worded here. One function for each case: an incident explains it, a device has none, no
device has any, the capture does not hold what was asked for.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from assistant.detection.incidents import Incident, worst_first
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.choosing import END, choose_incidents, is_bystander, measure_part
from assistant.diagnosis.differential import RuledOut, rule_out
from assistant.diagnosis.grounding import check
from assistant.diagnosis.health import Condition, describe_health, judge_health
from assistant.diagnosis.playbook import read_playbook
from assistant.diagnosis.standing import Standing, judge, kind_of, verdict_fact
from assistant.facts.devices import end_facts, health_fact, newcomer_facts, talk_facts
from assistant.facts.fact import Fact, Value, listed, make_fact
from assistant.facts.logs_and_readings import BACKGROUND, quote_lines, record_facts
from assistant.facts.notices import notice_facts
from assistant.facts.profiles import PROFILES
from assistant.facts.sensor import find_blindness, sensor_facts
from assistant.questions.entities import Mention, list_addresses, list_machines, read_devices
from traffic.discovery import describe_hosts_without_ip, find_plant_networks
from traffic.labels import NORMAL
from traffic.plant import is_link_local

MOST_FACTS, MOST_OTHERS, MOST_RECORDS = 5, 5, 3
_HOLDS = {
    "devices": "This capture holds {n:device}: {names}.",
    "no_devices": "No address in this capture is in a private network, so none was taken for a device of the "
    "plant; name the plant's own with --local.",
}
_ASKS_FOR_ENDS = re.compile(
    r"(?i)\b(connection|session)s?\b.*\b(end|break|clos|drop|lose|lost)|\b(los\w+|disconnect)"
)
_HIDES_ANSWERS = ("one_way", "cut")  # blindness that makes whatever is asked look unanswered
_NO_KIND = (
    "No device is known as {kind} here (plant.yaml names roles and zones), so all devices were "
    "looked at."
)
_PARTLY_MISSING = "Not in this capture: {names}; the answer is about the rest."
SEVERAL = "More devices fit the question; this is the one with the worst incident or the first."


@dataclass(frozen=True)
class Investigation:
    """What an answer may say.

    Attributes:
        device: address the question is about; "" where the capture does not hold what was asked
            for.
        mention: what the question pointed at.
        standing: how sure.
        facts: shown as evidence, the strongest first.
        context: known as well: names, times, what numbers of the text refer to.
        incident: what explains it; None where nothing does.
        others: further incidents of the device, or of the plant where no device was asked for.
        apart: causes that numbers rule out, or leave open.
        notes: what the operator should know about this answer.
        condition: how the device is doing, where no incident explains it.
        quotes: lines of its own log, as quotations: shown to people, given to no model.
    """

    device: str
    mention: Mention
    standing: Standing
    facts: tuple[Fact, ...]
    context: tuple[Fact, ...] = ()
    incident: Incident | None = None
    others: tuple[Incident, ...] = ()
    apart: RuledOut = field(default_factory=lambda: RuledOut((), ()))
    notes: tuple[str, ...] = ()
    condition: Condition | None = None
    quotes: tuple[Fact, ...] = ()

    @property
    def unshown(self) -> tuple[Fact, ...]:
        """What a text may take numbers from beside ``facts``."""
        condition = (self.condition.headline, *self.condition.facts) if self.condition else ()
        # Whom to look at, and what is not here, may be named in no fact.
        checks = self.condition.checks if self.condition else ()
        named = [*checks, *self.mention.missing]
        words: dict[str, Value] = {f"w{n}": one for n, one in enumerate(named)}
        apart = (
            *self.apart.excluded,
            *self.apart.open,
            *([Fact("words", "", words)] if words else []),
        )
        return (*self.context, *apart, *condition, *self.quotes)


def investigate(
    question: str, analysis: Analysis, device: str | None = None, focus: Incident | None = None
) -> Investigation:
    """Gather what the capture says to a question.

    Args:
        question: the operator's words.
        analysis: the capture with its verdicts and incidents.
        device: address or name that the question is about, where that is known already; it wins
            over the words.
        focus: the incident that a talk is about, which is meant where the words name no other.
    """
    found = _add_records(_investigate(question, analysis, device, focus), analysis)
    # Whatever is said, what the sensor could not see is said beside it, where it may matter.
    view, capture = analysis.view, analysis.capture
    named = found.device if found.mention.devices else ""
    missed = sensor_facts(capture.quality, slight=False)
    beside = [
        *_list_newcomers(analysis, named),
        *notice_facts(view, capture.notices, named),
        *missed,
    ]
    ends = end_facts(view, named) if named and _ASKS_FOR_ENDS.search(question) else []
    return replace(found, facts=(*_sound(ends), *found.facts, *_sound(beside)))


def _list_newcomers(analysis: Analysis, device: str) -> list[Fact]:
    """Writers that are not judged, but for those of whom an incident tells."""
    view = analysis.view
    told = [one for one in analysis.incidents if one.label == "unauthorized_command"]
    names = [{view.name_of(end) for end in (one.device, *one.peers)} for one in told]
    found = newcomer_facts(view, device)
    return [
        fact
        for fact in found
        if not any({fact.values["client"], fact.values["server"]} <= ends for ends in names)
    ]


def _add_records(found: Investigation, analysis: Analysis) -> Investigation:
    """Add what the device, and whoever causes its incident, say of themselves. It raises no
    standing: who gets into a device can write its log."""
    incident = found.incident
    span = (incident.start_s, incident.end_s) if incident else ()
    cause = incident.device if incident else found.device
    shown, rest, quotes = list[Fact](), list[Fact](), list[Fact]()
    for device, most in {cause: 1, found.device: MOST_RECORDS}.items():
        known = _sound(record_facts(analysis.view, device, *span))
        telling = [fact for fact in known if kind_of(fact) not in BACKGROUND]
        facts = telling[:most] or (list(known[:1]) if device == found.device else [])
        shown = facts + shown
        rest += [fact for fact in known if fact not in facts]
        quotes = quote_lines(analysis.view, device, facts) + quotes
    return replace(
        found, facts=(*found.facts, *shown), context=(*found.context, *rest), quotes=tuple(quotes)
    )


def _investigate(
    question: str, analysis: Analysis, device: str | None, focus: Incident | None
) -> Investigation:
    mention = read_devices(device if device is not None else question, analysis)
    named = mention.devices or mention.peers
    if device is not None and not (named or mention.missing):
        mention = Mention(missing=(device,))
    if mention.missing and not named:
        return _find_nothing(mention, analysis)
    if device is None and focus is not None:  # who is named is meant, unless the talk is about it
        parts = [measure_part(focus, one, analysis.view) for one in named]
        focus = focus if min(parts, default=END) >= END else None
    incidents = choose_incidents(question, mention, analysis, focus)
    if incidents:
        return _explain(incidents[0], incidents[1:], mention, analysis)
    if named and list_addresses(analysis):
        return _describe_device(mention, analysis)
    # Who is well says nothing of a plant whose machines were not taken for devices.
    unjudged = not _list_devices(analysis) or _find_unjudged_networks(analysis)
    return _find_nothing(mention, analysis) if unjudged else _describe_all(mention, analysis)


def _list_devices(analysis: Analysis) -> list[str]:
    """All devices that can be asked about; none where they have only addresses that they gave
    themselves, since what goes on in the plant goes on between others."""
    found = list_machines(analysis)
    local = analysis.view.local
    return found if any(one not in local or not is_link_local(one) for one in found) else []


def _find_unjudged_networks(analysis: Analysis) -> tuple[str, ...]:
    """Public networks in which industrial traffic runs and no address was taken for a device."""
    ours = [ipaddress.ip_address(one) for one in analysis.view.local]
    return tuple(
        network
        for network in find_plant_networks(analysis.capture)
        if not any(one in ipaddress.ip_network(network) for one in ours)
    )


def _explain(
    main: Incident, others: list[Incident], mention: Mention, analysis: Analysis
) -> Investigation:
    """An incident explains it."""
    device = mention.devices[0] if mention.devices else main.device
    # The standing rests on these facts, so each must say what its own values say.
    sound = _sound(main.facts)
    lost = len(main.facts) - len(sound)
    span = (main.device, main.start_s, main.end_s, analysis.samples, analysis.capture)
    exclusion = PROFILES[main.label].exclusion
    outright = exclusion is not None and exclusion.outright
    denied = outright and bool(rule_out((main.label,), *span).excluded)
    verdict = verdict_fact(main, analysis.verdicts)
    notes = _notes(mention)
    if SEVERAL in notes and all(map(main.touches, mention.devices)):
        notes.remove(SEVERAL)
    if lost:
        notes.append(
            f"{lost} of its facts did not pass the check of their own numbers and are left out."
        )
    blind = find_blindness(analysis.capture.quality, main.device, analysis.view.seen_s)
    standing = judge(main, analysis.verdicts, sound, contradicted=denied)
    beside = is_bystander(main, device, analysis.view)
    return Investigation(
        device=device,
        mention=mention,
        standing="inconclusive" if blind in _HIDES_ANSWERS or beside else standing,
        facts=sound[:MOST_FACTS],
        context=(
            _names_and_times(device, [main, *others], len(others), analysis),
            *([verdict] if verdict else []),
            *(fact for one in others for fact in one.facts),
            *sound[MOST_FACTS:],
            Fact("lost-facts", "", {"n": float(lost)}),
        ),
        incident=main,
        others=tuple(others),
        apart=rule_out(read_playbook(main.label).apart, *span),
        notes=tuple(notes),
    )


def _describe_device(mention: Mention, analysis: Analysis) -> Investigation:
    """No incident: the device is well, or nothing can be said."""
    device = (*mention.devices, *_partners(mention.peers, analysis), *mention.peers)[0]
    *described, share = analysis.facts_of(device)
    health = judge_health(device, analysis.verdicts, analysis.view)
    condition = describe_health(health, analysis.verdicts, analysis.view)
    elsewhere = worst_first(list(analysis.incidents))
    # A blind sensor sees normal windows: they say nothing.
    judged = [] if health.reason in _HIDES_ANSWERS else [*condition.facts, share]
    return Investigation(
        device=device,
        mention=mention,
        standing=health.standing,
        facts=_sound([*judged, *described])[:MOST_FACTS],
        context=(
            _names_and_times(device, elsewhere, len(elsewhere), analysis),
            *(fact for one in elsewhere for fact in one.facts),
        ),
        others=tuple(elsewhere),
        notes=tuple(_notes(mention)),
        condition=condition,
    )


def _describe_all(mention: Mention, analysis: Analysis) -> Investigation:
    """No incident anywhere: the health of the devices, the most doubtful first."""
    view, verdicts = analysis.view, analysis.verdicts
    known = [judge_health(one, verdicts, view) for one in _doubtful_first(analysis)]
    # Who was seen for a minute can neither be called well nor keep all others from being called so;
    # it is said.
    judged = [one for one in known if not one.brief and one.reason != "unheard"] or known
    brief = [view.name_of(one.device) for one in known if one not in judged and one.brief]
    silent = [view.name_of(one.device) for one in known if one not in judged and not one.brief]
    signed = [one for one in judged if one.device in view.signs]
    doubtful = (one for one in [*signed, *judged] if one.standing != "normal")
    worst = next(doubtful, judged[0])
    condition = describe_health(worst, verdicts, view)
    blind = worst.reason in _HIDES_ANSWERS
    facts = [] if blind else list(condition.facts)
    if brief:
        values: dict[str, Value] = {"n": len(brief), "names": listed(brief)}
        sentence = "{n:device} could not be judged, seen too briefly: {names}."
        facts.append(make_fact("brief", sentence, values))
    if silent:
        values = {"n": len(silent), "names": listed(silent)}
        sentence = "{n:device} could not be judged, as nothing that it sent was seen: {names}."
        facts.append(make_fact("silent", sentence, values))
    if not blind:  # a blind sensor sees normal windows: they say nothing
        facts += [health_fact(view, one.device, verdicts) for one in judged]
    return Investigation(
        device=worst.device,
        mention=mention,
        standing=worst.standing,
        facts=_sound(facts)[: MOST_FACTS + len(condition.facts)],
        context=(
            _names_and_times(worst.device, [], 0, analysis),
            Fact("all", "", {"n": float(len(known))}),
        ),
        notes=tuple(_notes(mention)),
        condition=condition,
    )


_PUBLIC = (
    "This capture holds no device: its industrial traffic is between addresses of {networks}, none of them private; if "
    "they are the plant's, --local with these networks makes them devices."
)
_PUBLIC_TOO = (
    "Nothing stood out at the {n:device} here, but there is industrial traffic between public addresses of {networks} "
    "that was not judged; if they are the plant's, --local with these networks makes them devices."
)


def _find_nothing(mention: Mention, analysis: Analysis) -> Investigation:
    """The capture does not hold what was asked for: say what it holds."""
    names = [analysis.view.name_of(address) for address in _list_devices(analysis)]
    values: dict[str, Value] = {
        "asked": ", ".join(mention.missing),
        "n": len(names),
        "names": listed(names, 12),
    }
    kind = "devices" if names else "no_devices"
    fact = make_fact(kind, _HOLDS[kind], values)
    if not (names and mention.missing) and (networks := _find_unjudged_networks(analysis)):
        sentence = _PUBLIC_TOO if names else _PUBLIC
        fact = make_fact("no_devices", sentence, values | {"networks": listed(networks, 12)})
    without = describe_hosts_without_ip(analysis.capture)
    hosts: dict[str, Value] = {
        "hosts": len(without),
        "spoken": listed([f"{mac} ({does})" for mac, does in without.items()], 12),
    }
    bare = make_fact("hosts", "It holds {hosts:host} without an IP address: {spoken}.", hosts)
    facts = (fact, *([bare] if without else []), *talk_facts(analysis.view))
    return Investigation("", mention, "inconclusive", facts)


def _sound(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Facts whose text says what their own values say."""
    return tuple(fact for fact in facts if not check(fact.text, [fact], ()).removed)


def _names_and_times(
    device: str, incidents: Sequence[Incident], others: int, analysis: Analysis
) -> Fact:
    """Names and times that an answer may use without their being evidence."""
    devices = analysis.plant.devices if analysis.plant else ()
    peers = [peer for one in incidents for peer in one.peers]
    addresses = dict.fromkeys([device, *(one.device for one in incidents), *peers])
    name = analysis.view.name_of
    values: dict[str, Value] = {f"name{i}": name(one) for i, one in enumerate(addresses)}
    for i, one in enumerate(incidents):
        values |= {f"id{i}": one.id, f"start{i}_time_s": one.start_s, f"end{i}_time_s": one.end_s}
        values |= {f"technique{i}-{j}": technique for j, technique in enumerate(one.techniques)}
        values |= {f"related{i}-{j}": name(related) for j, related in enumerate(one.related)}
    values |= {
        "n_incidents": len(analysis.incidents),
        "n_others": others,
        "n_rest": others - MOST_OTHERS,
    }
    for entry in devices:
        if entry.address == device:
            values |= {"role": entry.role, "model": entry.model}
    return Fact(f"about-{device}", "", values)


def _notes(mention: Mention) -> list[str]:
    notes = []
    if mention.kind:
        vowel = mention.kind[0] in "aeioh" and mention.kind != "hall"
        notes.append(_NO_KIND.format(kind=f"{'an' if vowel else 'a'} {mention.kind}"))
    if mention.missing:
        notes.append(_PARTLY_MISSING.format(names=listed(mention.missing)))
    if len(mention.devices) > 1:
        notes.append(SEVERAL)
    return notes


def _partners(peers: tuple[str, ...], analysis: Analysis) -> list[str]:
    """Devices that exchanged flows with outside addresses, the busiest first."""
    flows, local = analysis.capture.flows, set(list_addresses(analysis))
    mine = flows[flows["id.orig_h"].isin(peers) | flows["id.resp_h"].isin(peers)]
    ends = [*mine["id.orig_h"], *mine["id.resp_h"]]
    return sorted(local & set(ends), key=lambda end: (-ends.count(end), end))


def _doubtful_first(analysis: Analysis) -> list[str]:
    """Devices that were judged, by windows that are not normal, then by how many they have."""
    verdicts = analysis.verdicts
    if verdicts.empty:
        return list_machines(analysis)
    odd = (verdicts["label"] != NORMAL) | verdicts["abstained"].astype(bool)
    machine = verdicts["device"].map(analysis.view.machine_of)
    counts = odd.groupby(machine).agg(["sum", "size"])
    return [str(name) for name in counts.sort_values(["sum", "size"], ascending=False).index]
