"""What is known about a question before a word is written: whose incident, which facts, how sure,
what it is not."""

from dataclasses import dataclass

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.differential import RuledOut, rule_out
from assistant.diagnosis.grounding import check
from assistant.diagnosis.health import Condition, Health, describe_health, judge_health
from assistant.diagnosis.playbook import find_symptoms, read_playbook
from assistant.diagnosis.standing import Standing, judge, verdict_fact
from assistant.facts.devices import health_fact
from assistant.facts.fact import Fact, listed, make_fact
from assistant.questions.entities import Asked, list_addresses, read_devices, worst_first
from traffic.labels import NORMAL
from traffic.plant import Device


def choose_incidents(question: str, asked: Asked, analysis: Analysis) -> list[Incident]:
    """Incidents of the devices that were asked for, or that touch them; of everybody, where nobody
    was asked for."""
    fitting = find_symptoms(question)
    ordered = worst_first(list(analysis.incidents))
    ordered.sort(key=lambda one: one.label not in fitting)
    targets = asked.devices[:1] or asked.peers
    if not targets:
        return ordered
    own = [one for one in ordered if one.device in targets]
    return own + [
        one for one in ordered if one not in own and set(targets) & {*one.peers, *one.related}
    ]


MOST_FACTS, MOST_OTHERS = 5, 5
# Numbers that can deny a label outright; the others only speak for or against it.
_DENIED_BY_NUMBERS = ("packet_loss", "name_resolution", "spoofing")


@dataclass(frozen=True)
class Finding:
    """What an answer may say.

    Attributes:
        device: address the question is about; "" where nothing in the capture bears what was asked
            for.
        incident: what explains it; None where nothing does.
        others: further incidents of the device, or of the plant where no device was asked for.
        facts: shown as evidence, the strongest first.
        context: known as well: names, times, what numbers of the text refer to.
        standing: how sure.
        apart: causes that numbers rule out, or leave open.
        asked: what the question pointed at.
        condition: how the device is doing, where no incident explains it.
        notes: what the operator should know about this answer.
    """

    device: str
    incident: Incident | None
    others: tuple[Incident, ...]
    facts: tuple[Fact, ...]
    context: tuple[Fact, ...]
    standing: Standing
    apart: RuledOut
    asked: Asked
    notes: tuple[str, ...]
    condition: Condition | None = None


def find(question: str, analysis: Analysis, device: str | None = None) -> Finding:
    """Gather what the capture says to a question.

    Args:
        question: the operator's words.
        analysis: the capture with its verdicts and incidents.
        device: address or name that the question is about, where that is known already; it wins
            over the words.
    """
    asked = read_devices(device if device is not None else question, analysis)
    if device is not None and not (asked.devices or asked.peers or asked.missing):
        asked = Asked(missing=(device,))
    if asked.missing and not (asked.devices or asked.peers):
        return _nowhere(asked, analysis)
    incidents = choose_incidents(question, asked, analysis)
    if incidents:
        return _explained(incidents[0], incidents[1:], asked, analysis)
    if not list_addresses(analysis):
        return _nowhere(asked, analysis)
    return (
        _unexplained(asked, analysis)
        if asked.devices or asked.peers
        else _all_well(asked, analysis)
    )


def known_facts(finding: Finding) -> tuple[Fact, ...]:
    """All that a text about a finding may take numbers from."""
    condition = (finding.condition.headline, *finding.condition.facts) if finding.condition else ()
    return (
        *finding.facts,
        *finding.context,
        *finding.apart.excluded,
        *finding.apart.open,
        *condition,
    )


def name_of(address: str, analysis: Analysis) -> str:
    """The device's name with its address, or the address alone."""
    return analysis.plant.name_of(address) if analysis.plant else address


def _explained(main: Incident, others: list[Incident], asked: Asked, analysis: Analysis) -> Finding:
    device = asked.devices[0] if asked.devices else main.device
    sound, lost = _sound(main.facts)
    playbook = read_playbook(main.label)
    span = (main.device, main.start_s, main.end_s, analysis.samples, analysis.capture)
    denied = main.label in _DENIED_BY_NUMBERS and bool(rule_out((main.label,), *span).excluded)
    verdict = verdict_fact(main, analysis.verdicts)
    context = [_about(device, main, others, analysis), *([verdict] if verdict else [])]
    context += [fact for one in others for fact in _sound(one.facts)[0]]
    notes = _notes(asked)
    notes += (
        [f"{lost} of its facts did not pass the check of their own numbers and are left out."]
        if lost
        else []
    )
    return Finding(
        device=device,
        incident=main,
        others=tuple(others),
        facts=sound[:MOST_FACTS],
        context=(*context, *sound[MOST_FACTS:], _counted(lost)),
        standing=judge(main, analysis.verdicts, sound, contradicted=denied),
        apart=rule_out(playbook.apart, *span),
        asked=asked,
        notes=tuple(notes),
    )


def _unexplained(asked: Asked, analysis: Analysis) -> Finding:
    """No incident: the device is well, or nothing can be said."""
    device = (asked.devices or _talkers(asked.peers, analysis))[0]
    *described, share = analysis.facts_of(device)
    health = judge_health(device, analysis.verdicts, analysis.scene)
    condition = describe_health(health, analysis.verdicts, analysis.scene)
    elsewhere = worst_first(list(analysis.incidents))
    return Finding(
        device=device,
        incident=None,
        others=tuple(elsewhere),
        facts=_sound([*condition.facts, share, *described])[0][:MOST_FACTS],
        context=(
            _about(device, None, elsewhere, analysis),
            *(fact for one in elsewhere for fact in one.facts),
        ),
        standing=health.standing,
        apart=RuledOut((), ()),
        asked=asked,
        notes=tuple(_notes(asked)),
        condition=condition,
    )


def _all_well(asked: Asked, analysis: Analysis) -> Finding:
    """No incident anywhere: the health of the devices, the most doubtful first."""
    known = [
        judge_health(one, analysis.verdicts, analysis.scene) for one in _doubtful_first(analysis)
    ]
    # Who was seen for a minute can neither be called well nor keep all others from being called so;
    # it is said.
    judged = [one for one in known if not one.brief] or known
    worst = next((one for one in judged if one.standing != "normal"), judged[0])
    condition = describe_health(worst, analysis.verdicts, analysis.scene)
    shares = [health_fact(analysis.scene, one.device, analysis.verdicts) for one in judged]
    facts = [*condition.facts, *_brief(known, judged, analysis), *shares]
    return Finding(
        device=worst.device,
        incident=None,
        others=(),
        facts=_sound(facts)[0][: MOST_FACTS + len(condition.facts)],
        context=(
            _about(worst.device, None, [], analysis),
            Fact("all", "", {"n": float(len(known))}),
        ),
        standing=worst.standing,
        apart=RuledOut((), ()),
        asked=asked,
        notes=tuple(_notes(asked)),
        condition=condition,
    )


def _brief(known: list[Health], judged: list[Health], analysis: Analysis) -> list[Fact]:
    rest = [name_of(one.device, analysis) for one in known if one not in judged]
    values: dict[str, float | str] = {"n": len(rest), "names": listed(rest)}
    return (
        [make_fact("brief", "{n:device} could not be judged, seen too briefly: {names}.", values)]
        if rest
        else []
    )


def _nowhere(asked: Asked, analysis: Analysis) -> Finding:
    names = [name_of(address, analysis) for address in list_addresses(analysis)]
    values: dict[str, float | str] = {
        "asked": ", ".join(asked.missing),
        "n": len(names),
        "names": listed(names, 12),
    }
    fact = make_fact("devices", "This capture holds {n:device}: {names}.", values)
    return Finding("", None, (), (fact,), (), "inconclusive", RuledOut((), ()), asked, ())


def _sound(facts: tuple[Fact, ...] | list[Fact]) -> tuple[tuple[Fact, ...], int]:
    """Facts whose text says what their own values say, and how many others there were."""
    sound = tuple(fact for fact in facts if not check(fact.text, [fact], ()).removed)
    return sound, len(facts) - len(sound)


def _about(device: str, main: Incident | None, others: list[Incident], analysis: Analysis) -> Fact:
    """Names and times that an answer may use without their being evidence."""
    incidents = [*([main] if main else []), *others]
    entry = _entry(device, analysis)
    addresses = [
        device,
        *(one.device for one in incidents),
        *(peer for one in incidents for peer in one.peers),
    ]
    values: dict[str, float | str] = {
        f"name{i}": name_of(a, analysis) for i, a in enumerate(dict.fromkeys(addresses))
    }
    for i, one in enumerate(incidents):
        values |= {f"id{i}": one.id, f"start{i}_time_s": one.start_s, f"end{i}_time_s": one.end_s}
        values |= {f"technique{i}-{j}": technique for j, technique in enumerate(one.techniques)}
        values |= {f"related{i}-{j}": name_of(a, analysis) for j, a in enumerate(one.related)}
    values |= {
        "n_incidents": len(analysis.incidents),
        "n_others": len(others),
        "n_rest": len(others) - MOST_OTHERS,
    }
    if entry is not None:
        values |= {"role": entry.role, "model": entry.model}
    return Fact(f"about-{device}", "", values)


def _counted(n: int) -> Fact:
    return Fact("lost-facts", "", {"n": float(n)})


def _entry(device: str, analysis: Analysis) -> Device | None:
    devices = analysis.plant.devices if analysis.plant else ()
    return next((one for one in devices if one.address == device), None)


def _notes(asked: Asked) -> list[str]:
    notes = []
    if asked.kind:
        kind = (
            f"an {asked.kind}"
            if asked.kind[0] in "aeioh" and asked.kind != "hall"
            else f"a {asked.kind}"
        )
        notes.append(
            f"No device is known as {kind} here (plant.yaml names roles and zones), so all devices were looked at."
        )
    if asked.missing:
        notes.append("Part of what was asked for is not in this capture.")
    if len(asked.devices) > 1:
        notes.append(
            "More devices fit the question; this is the one with the worst incident or the first."
        )
    return notes


def _talkers(peers: tuple[str, ...], analysis: Analysis) -> tuple[str, ...]:
    if not peers:
        return ()
    flows, local = analysis.capture.flows, set(list_addresses(analysis))
    mine = flows[flows["id.orig_h"].isin(peers) | flows["id.resp_h"].isin(peers)]
    ends = [*mine["id.orig_h"], *mine["id.resp_h"]]
    return tuple(
        sorted((end for end in set(ends) if end in local), key=lambda end: -ends.count(end))
    )


def _doubtful_first(analysis: Analysis) -> list[str]:
    """Devices that were judged, by how many of their windows are not normal, then by how many they
    have."""
    verdicts = analysis.verdicts
    if verdicts.empty:
        return list_addresses(analysis)
    odd = (verdicts["label"] != NORMAL) | verdicts["abstained"].astype(bool)
    counts = (
        odd.groupby(verdicts["device"])
        .agg(["sum", "size"])
        .sort_values(["sum", "size"], ascending=False)
    )
    return [str(name) for name in counts.index]
