"""Short answers inside a conversation: since when, who else, what to check, how sure.

Each function words one kind of question about what is in focus; numbers stand in facts, so that
every reply can be checked like a whole diagnosis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.diagnose import Diagnosis
from assistant.diagnosis.grounding import Citation, cite, resolve
from assistant.diagnosis.health import judge_health, name_health
from assistant.diagnosis.playbook import read_playbook
from assistant.diagnosis.standing import is_unanswered, verdict_fact
from assistant.facts.fact import Fact, listed, make_fact
from assistant.questions.entities import list_addresses, worst_first
from knowledge_base.documents import Kind
from knowledge_base.index import Index
from knowledge_base.retriever import search
from traffic.labels import NORMAL, TAXONOMY
from traffic.plant import is_group

HELP = """I answer questions about this capture and the documents in the knowledge base. For example:
- Why is the camera slow? What is wrong with the controller?
- Since when? Which other devices? Is it an attack? How sure are you?
- What should I check first? Show me the manual. Has this happened before?
- What is normal for it? Show the numbers. List devices. List incidents.
- Mark as false alarm because of a test. Acknowledge. Shelve for some hours because of maintenance.
I only read: nothing is sent to the network, nothing is changed on a device."""
_MOST_LISTED = 30
_SURENESS = {
    "confirmed": "Confirmed: the thing itself was measured, and the judgement of the traffic agrees with it.",
    "likely": "Likely, not confirmed: the traffic looks so, but something that would prove it is missing.",
    "inconclusive": "Not certain: there is too little evidence, or it contradicts itself. Treat the answer as a hint.",
    "normal": "As sure as traffic allows: hardly any of the judged windows was unusual.",
}


@dataclass(frozen=True)
class ReplyDraft:
    """A reply before it is checked.

    Attributes:
        text: as it will be shown, but for sentences without a source.
        facts, citations: what the text may take numbers and quotations from.
        diagnosis: what the reply rests on, if it rests on one.
        checked: the text is a diagnosis's own, checked where it was made just now.
        refused: no answer, but the list of what can be asked.
    """

    text: str
    facts: tuple[Fact, ...] = ()
    citations: tuple[Citation, ...] = ()
    diagnosis: Diagnosis | None = None
    checked: bool = False
    refused: bool = False


def say_help(why: str = "") -> ReplyDraft:
    """What can be asked, after the reason why the question has no answer."""
    return ReplyDraft(f"{why}\n\n{HELP}" if why else HELP, refused=True)


def say_whole(diagnosis: Diagnosis, checked: bool) -> ReplyDraft:
    """A whole diagnosis; one that was kept from an earlier question is checked again."""
    sources = (*diagnosis.citations, *diagnosis.similar)
    return ReplyDraft(diagnosis.text, diagnosis.known, sources, diagnosis, checked)


def say_since(diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis) -> ReplyDraft:
    """When it began, how long it lasted, whether it goes on."""
    name = analysis.view.name_of(diagnosis.device)
    if incident is None:
        facts = [
            fact for fact in analysis.facts_of(diagnosis.device) if fact.id.startswith("traffic")
        ]
        return _lines([f"There is no incident for {name}, so nothing began."], facts, _named(name))
    values: dict[str, float | str] = {
        "name": analysis.view.name_of(incident.device),
        "start_time_s": incident.start_s,
        "end_time_s": incident.end_s,
        "span_s": max(incident.end_s - incident.start_s, 0.0),
    }
    going_on = incident.end_s >= analysis.capture.end_s - 60.0
    sentence = (
        "At {name} it began at {start_time_s} and still goes on when the capture ends, after {span_s}."
        if going_on
        else "At {name} it began at {start_time_s} and ended at {end_time_s}, after {span_s}."
    )
    return _lines([], [make_fact("since", sentence, values), *incident.facts[:1]])


def say_others(diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis) -> ReplyDraft:
    """Who else suffers from the same cause, whom it concerns, and who has incidents of their
    own."""
    facts, lines = [], []
    if incident is not None:
        suffering = [analysis.view.name_of(one) for one in incident.related]
        involved = [analysis.view.name_of(one) for one in incident.peers]
        if suffering:
            facts.append(
                _list_fact("The same cause shows at {n:other device}: {names}.", suffering)
            )
        if involved:
            facts.append(_list_fact("It involves {n:other address}: {names}.", involved))
        if not suffering:
            lines.append("No other device shows the same cause.")
    shown = {diagnosis.device, *((incident.device, *incident.related) if incident else ())}
    rest = list(
        dict.fromkeys(
            one.device for one in worst_first(list(analysis.incidents)) if one.device not in shown
        )
    )
    if rest:
        named = [analysis.view.name_of(one) for one in rest]
        facts.append(_list_fact("{n:other device} have incidents of their own: {names}.", named))
    else:
        lines.append("No further device has an incident in this capture.")
    partners = [analysis.view.name_of(one) for one in analysis.view.peers_of(diagnosis.device).sort_values(
        "pkts", ascending=False, kind="stable").index if not is_group(str(one))]  # fmt: skip
    if partners:
        sentence = "In the whole capture {name} talks with {n:address}, most with these: {names}."
        values: dict[str, float | str] = {"n": len(partners), "names": listed(partners, 5)}
        facts.append(
            make_fact(
                "partners", sentence, values | {"name": analysis.view.name_of(diagnosis.device)}
            )
        )
    return _lines(lines, facts)


def say_checks(diagnosis: Diagnosis) -> ReplyDraft:
    """The next steps in order, with the manual that describes them."""
    if not diagnosis.checks:
        return ReplyDraft(
            "There is nothing to check: no incident was found for this device.", diagnosis=diagnosis
        )
    steps = [f"{number}. {step}" for number, step in enumerate(diagnosis.checks, start=1)]
    quotes = [f"- [{one.number}] {one.place}: {one.quoted}" for one in diagnosis.citations[:2]]
    text = "\n".join(
        [
            "**Check in this order**",
            *steps,
            *(["", "**From the manuals**", *quotes] if quotes else []),
        ]
    )
    return ReplyDraft(text, diagnosis.facts, diagnosis.citations, diagnosis)


def say_attack(diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis) -> ReplyDraft:
    """Attack or fault, as far as traffic tells."""
    if incident is None:
        nothing = "Nothing in the traffic of this device looks like an attack or a fault."
        return _lines(
            [nothing if diagnosis.standing == "normal" else diagnosis.cause],
            diagnosis.facts[:2],
            *diagnosis.context,
        )
    label, playbook = TAXONOMY[incident.label], read_playbook(incident.label)
    certainty = {
        "confirmed": "It is confirmed that the device",
        "likely": "It is likely that the device",
    }
    opening = certainty.get(diagnosis.standing, "It is not certain, but it may be that the device")
    lines = [f"{opening} {playbook.does(incident.role)}."]
    if label.kind == "attack":
        lines.append("Traffic like this belongs to attacks. Whether somebody means harm, traffic alone does not say: a"
                     " test, a scanner of your own or a broken program can look the same.")  # fmt: skip
    else:
        lines.append("That is a technical fault. Nothing measured points at an attack by itself.")
    if playbook.doubt and is_unanswered(incident.label, incident.facts):
        lines.append(playbook.doubt)
    if incident.techniques:
        lines.append(f"Consistent with MITRE ATT&CK for ICS {listed(incident.techniques)}.")
    known = Fact("techniques", "", {f"t{i}": one for i, one in enumerate(incident.techniques)})
    attacks = [
        one
        for one in analysis.incidents
        if TAXONOMY[one.label].kind == "attack" and one is not incident
    ]
    more = [
        make_fact(
            "more", "{n:other incident} of this capture look like attacks.", {"n": len(attacks)}
        )
    ]
    return _lines(lines, [*incident.facts[:2], *(more if attacks else [])], known)


def say_certainty(
    diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis
) -> ReplyDraft:
    """What the standing rests on: the model's probability, hard facts, what was ruled out and what
    was not."""
    lines = [_SURENESS[diagnosis.standing]]
    facts: list[Fact] = []
    if incident is None:
        return _lines(lines, diagnosis.facts[:2])
    verdict = verdict_fact(incident, analysis.verdicts)
    facts += [verdict] if verdict else []
    facts += diagnosis.facts[:2]
    playbook = read_playbook(incident.label)
    if playbook.doubt and is_unanswered(incident.label, incident.facts):
        lines.append(playbook.doubt)
    draft = _lines(lines, facts)
    return ReplyDraft(
        "\n".join([draft.text, *(f"- {one}" for one in diagnosis.ruled_out)]),
        (*facts, *diagnosis.known),
    )


def say_usual(diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis) -> ReplyDraft:
    """What the device does in this capture when nothing is wrong."""
    device = (
        incident.device if incident and diagnosis.device != incident.device else diagnosis.device
    )
    facts = analysis.facts_of(device)
    lines = [
        "This is what it did in the whole capture; what is usual over weeks, only longer captures tell."
    ]
    return _lines(lines, facts)


def say_numbers(diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis) -> ReplyDraft:
    """Every fact there is."""
    facts = list(incident.facts) if incident else []
    verdict = verdict_fact(incident, analysis.verdicts) if incident else None
    return _lines(
        [], [*facts, *([verdict] if verdict else []), *analysis.facts_of(diagnosis.device)]
    )


def say_devices(analysis: Analysis) -> ReplyDraft:
    """Every device with its role and how it is doing."""
    worst = {one.device: one for one in reversed(worst_first(list(analysis.incidents)))}
    roles = {one.address: one.role for one in (analysis.plant.devices if analysis.plant else ())}
    lines: list[str] = []
    values: dict[str, float | str] = {}
    for number, address in enumerate(list_addresses(analysis)[:_MOST_LISTED]):
        incident = worst.get(address)
        health = judge_health(address, analysis.verdicts, analysis.view)
        state = (
            f"{incident.severity}: {incident.label.replace('_', ' ')}"
            if incident
            else name_health(health)
        )
        role = f" – {roles[address]}" if roles.get(address) else ""
        values |= {
            f"name{number}": analysis.view.name_of(address),
            f"role{number}": roles.get(address, ""),
        }
        lines.append(f"- {analysis.view.name_of(address)}{role} – {state}")
    rest = len(list_addresses(analysis)) - _MOST_LISTED
    lines += [f"- and {rest} more"] if rest > 0 else []
    return ReplyDraft(
        "\n".join(lines) or "This capture holds no device.",
        (Fact("devices", "", {**values, "rest": rest}),),
    )


def say_incidents(analysis: Analysis, states: dict[str, str]) -> ReplyDraft:
    """Every incident, the worst first, with its state where somebody declared one."""
    incidents = worst_first(list(analysis.incidents))
    if not incidents:
        judged = analysis.verdicts
        normal = int(((judged["label"] == NORMAL) & ~judged["abstained"].astype(bool)).sum())
        sentence = "No incident was found: {normal} of {n:window} are normal."
        return _lines([], [make_fact("none", sentence, {"normal": normal, "n": len(judged)})])
    facts, lines = [], []
    for one in incidents[:_MOST_LISTED]:
        values: dict[str, float | str] = {
            "id": one.id, "name": analysis.view.name_of(one.device), "start_time_s": one.start_s,
            "span_s": max(one.end_s - one.start_s, 0.0), "state": states.get(one.id, "active"),
        }  # fmt: skip
        what = f"{one.severity}: {one.label.replace('_', ' ')} at"
        facts.append(
            make_fact(
                "incident",
                f"{what} {{name}}, {{start_time_s}}, {{span_s}} ({{state}}, {{id}})",
                values,
            )
        )
        lines.append(f"- {facts[-1].text}")
    rest = len(incidents) - _MOST_LISTED
    lines += [f"- and {rest} more"] if rest > 0 else []
    return ReplyDraft("\n".join(lines), (*facts, Fact("rest", "", {"rest": rest})))


def _lines(lines: list[str], facts: tuple[Fact, ...] | list[Fact], *known: Fact) -> ReplyDraft:
    """Sentences, then facts as a list; a single fact alone is a sentence."""
    bullets = "- " if lines or len(facts) > 1 else ""
    return ReplyDraft(
        "\n".join([*lines, *(f"{bullets}{fact.text}" for fact in facts)]), (*facts, *known)
    )


def _named(name: str) -> Fact:
    return Fact("name", "", {"name": name})


def _list_fact(sentence: str, names: list[str]) -> Fact:
    return make_fact("list", sentence, {"n": len(names), "names": listed(names, 8)})


# ---- Passages of the documents, quoted as the answer itself ----

_MOST = 3


def quote_documents(index: Index | None, question: str, kind: Kind = "manual") -> ReplyDraft | None:
    """Passages that answer a question.

    Args:
        index: the knowledge base; None has no passage.
        question: the operator's words.
        kind: the documents that are looked at first; where they hold nothing, all are.

    Returns:
        The passages, quoted and cited; None where the knowledge base does not answer.
    """
    if index is None:
        return None

    passages = search(index, question, _MOST, kind) or search(index, question, _MOST)
    citations = resolve(cite(passages, question), index)
    return (
        ReplyDraft("\n".join(["From the documents:", *list_quotations(citations)]), (), citations)
        if citations
        else None
    )


def list_quotations(citations: Sequence[Citation]) -> list[str]:
    """One line each: its number, where it stands, what it says."""
    return [f"- [{one.number}] {one.place}: {one.quoted}" for one in citations]
