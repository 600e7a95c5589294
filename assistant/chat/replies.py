"""Short answers inside a conversation: since when, who else, what to check, how sure.

Each function words one kind of question about what is in focus; numbers stand in facts, so that
every reply can be checked like a whole diagnosis.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis import Diagnosis
from assistant.diagnosis.grounding import Citation, cite, resolve
from assistant.diagnosis.health import judge_health, name_health
from assistant.diagnosis.playbook import read_playbook
from assistant.diagnosis.standing import is_unanswered, verdict_fact
from assistant.facts.fact import Fact, Value, listed, make_fact
from assistant.questions.entities import list_addresses, worst_first
from knowledge_base.documents import Kind
from knowledge_base.index import Index
from knowledge_base.retriever import search
from traffic.labels import ATTACKS, NORMAL
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
    "confirmed": "Confirmed: the thing itself was measured, and the judgement of the traffic "
    "agrees with it.",
    "likely": "Likely, not confirmed: the traffic looks so, but something that would prove it is "
    "missing.",
    "inconclusive": "Not certain: there is too little evidence, or it contradicts itself. Treat "
    "the answer as a hint.",
    "normal": "As sure as traffic allows: hardly any of the judged windows was unusual.",
}
_SINCE = "At {name} it began at {start_time_s} and ended at {end_time_s}, after {span_s}."
_STILL = (
    "At {name} it began at {start_time_s} and still goes on when the capture ends, after {span_s}."
)
_STILL_S = 60.0  # an incident that ends this near to the capture's end goes on
_PARTNERS = "In the whole capture {name} talks with {n:address}, most with these: {names}."
_MAYBE_ATTACK = (
    "Traffic like this belongs to attacks. Whether somebody means harm, traffic alone does not "
    "say: a test, a scanner of your own or a broken program can look the same."
)
_FAULT = "That is a technical fault. Nothing measured points at an attack by itself."
_USUAL = (
    "This is what it did in the whole capture; what is usual over weeks, only longer captures tell."
)


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
        known = analysis.facts_of(diagnosis.device)
        facts = [fact for fact in known if fact.id.startswith("traffic")]
        line = f"There is no incident for {name}, so nothing began."
        return _lines([line], facts, Fact("name", "", {"name": name}))
    values: dict[str, Value] = {
        "name": analysis.view.name_of(incident.device),
        "start_time_s": incident.start_s,
        "end_time_s": incident.end_s,
        "span_s": max(incident.end_s - incident.start_s, 0.0),
    }
    sentence = _STILL if incident.end_s >= analysis.capture.end_s - _STILL_S else _SINCE
    return _lines([], [make_fact("since", sentence, values), *incident.facts[:1]])


def say_others(diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis) -> ReplyDraft:
    """Who else suffers from the same cause, whom it concerns, who has incidents of their own."""
    view = analysis.view
    lines: list[str] = []
    facts: list[Fact] = []

    def add_names(sentence: str, addresses: Iterable[str]) -> None:
        names = [view.name_of(one) for one in addresses]
        if names:
            values: dict[str, Value] = {"n": len(names), "names": listed(names, 8)}
            facts.append(make_fact("list", sentence, values))

    shown = {diagnosis.device}
    if incident is not None:
        shown |= {incident.device, *incident.related}
        add_names("The same cause shows at {n:other device}: {names}.", incident.related)
        add_names("It involves {n:other address}: {names}.", incident.peers)
        if not incident.related:
            lines.append("No other device shows the same cause.")
    worst = dict.fromkeys(one.device for one in worst_first(list(analysis.incidents)))
    rest = [device for device in worst if device not in shown]
    add_names("{n:other device} have incidents of their own: {names}.", rest)
    if not rest:
        lines.append("No further device has an incident in this capture.")
    peers = view.peers_of(diagnosis.device).sort_values("pkts", ascending=False, kind="stable")
    partners = [view.name_of(one) for one in peers.index if not is_group(str(one))]
    if partners:
        values: dict[str, Value] = {"n": len(partners), "names": listed(partners, 5)}
        values["name"] = view.name_of(diagnosis.device)
        facts.append(make_fact("partners", _PARTNERS, values))
    return _lines(lines, facts)


def say_checks(diagnosis: Diagnosis) -> ReplyDraft:
    """The next steps in order, with the manual that describes them."""
    if not diagnosis.checks:
        nothing = "There is nothing to check: no incident was found for this device."
        return ReplyDraft(nothing, diagnosis=diagnosis)
    steps = [f"{number}. {step}" for number, step in enumerate(diagnosis.checks, start=1)]
    lines = ["**Check in this order**", *steps]
    if diagnosis.citations:
        lines += ["", "**From the manuals**", *list_quotations(diagnosis.citations[:2])]
    return ReplyDraft("\n".join(lines), diagnosis.facts, diagnosis.citations, diagnosis)


def say_attack(diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis) -> ReplyDraft:
    """Attack or fault, as far as traffic tells."""
    if incident is None:
        nothing = "Nothing in the traffic of this device looks like an attack or a fault."
        line = nothing if diagnosis.standing == "normal" else diagnosis.cause
        return _lines([line], diagnosis.facts[:2], *diagnosis.context)
    certainty = {
        "confirmed": "It is confirmed that the device",
        "likely": "It is likely that the device",
    }
    opening = certainty.get(diagnosis.standing, "It is not certain, but it may be that the device")
    lines = [
        f"{opening} {read_playbook(incident.label).does(incident.role)}.",
        _MAYBE_ATTACK if incident.label in ATTACKS else _FAULT,
        *_doubt(incident),
    ]
    if incident.techniques:
        lines.append(f"Consistent with MITRE ATT&CK for ICS {listed(incident.techniques)}.")
    known = Fact("techniques", "", {f"t{i}": one for i, one in enumerate(incident.techniques)})
    facts = list(incident.facts[:2])
    more = [one for one in analysis.incidents if one.label in ATTACKS and one is not incident]
    if more:
        sentence = "{n:other incident} of this capture look like attacks."
        facts.append(make_fact("more", sentence, {"n": len(more)}))
    return _lines(lines, facts, known)


def say_certainty(
    diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis
) -> ReplyDraft:
    """What the standing rests on: the model's probability, hard facts, what was ruled out or not."""
    lines = [_SURENESS[diagnosis.standing]]
    if incident is None:
        return _lines(lines, diagnosis.facts[:2])
    verdict = verdict_fact(incident, analysis.verdicts)
    facts = [*([verdict] if verdict else []), *diagnosis.facts[:2]]
    draft = _lines([*lines, *_doubt(incident)], facts, *diagnosis.known)
    ruled_out = [f"- {one}" for one in diagnosis.ruled_out]
    return replace(draft, text="\n".join([draft.text, *ruled_out]))


def say_usual(diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis) -> ReplyDraft:
    """What the device does in this capture when nothing is wrong."""
    return _lines([_USUAL], analysis.facts_of(incident.device if incident else diagnosis.device))


def say_numbers(diagnosis: Diagnosis, incident: Incident | None, analysis: Analysis) -> ReplyDraft:
    """Every fact there is."""
    verdict = verdict_fact(incident, analysis.verdicts) if incident else None
    own = (*incident.facts, *([verdict] if verdict else [])) if incident else ()
    return _lines([], [*own, *analysis.facts_of(diagnosis.device)])


def say_devices(analysis: Analysis) -> ReplyDraft:
    """Every device with its role and how it is doing."""
    worst = {one.device: one for one in reversed(worst_first(list(analysis.incidents)))}
    roles = {one.address: one.role for one in (analysis.plant.devices if analysis.plant else ())}
    addresses = list_addresses(analysis)
    lines: list[str] = []
    values: dict[str, Value] = {}
    for number, address in enumerate(addresses[:_MOST_LISTED]):
        incident, role = worst.get(address), roles.get(address, "")
        if incident:
            state = f"{incident.severity}: {incident.label.replace('_', ' ')}"
        else:
            state = name_health(judge_health(address, analysis.verdicts, analysis.view))
        name = analysis.view.name_of(address)
        values |= {f"name{number}": name, f"role{number}": role}
        lines.append(f"- {name}{f' – {role}' if role else ''} – {state}")
    rest = len(addresses) - _MOST_LISTED
    lines += [f"- and {rest} more"] if rest > 0 else []
    known = Fact("devices", "", {**values, "rest": rest})
    return ReplyDraft("\n".join(lines) or "This capture holds no device.", (known,))


def say_incidents(analysis: Analysis, states: dict[str, str]) -> ReplyDraft:
    """Every incident, the worst first, with its state where somebody declared one."""
    incidents = worst_first(list(analysis.incidents))
    if not incidents:
        judged = analysis.verdicts
        normal = int(((judged["label"] == NORMAL) & ~judged["abstained"].astype(bool)).sum())
        sentence = "No incident was found: {normal} of {n:window} are normal."
        return _lines([], [make_fact("none", sentence, {"normal": normal, "n": len(judged)})])
    facts = []
    for one in incidents[:_MOST_LISTED]:
        values: dict[str, Value] = {
            "id": one.id,
            "name": analysis.view.name_of(one.device),
            "start_time_s": one.start_s,
            "span_s": max(one.end_s - one.start_s, 0.0),
            "state": states.get(one.id, "active"),
        }
        what = f"{one.severity}: {one.label.replace('_', ' ')}"
        sentence = f"{what} at {{name}}, {{start_time_s}}, {{span_s}} ({{state}}, {{id}})"
        facts.append(make_fact("incident", sentence, values))
    rest = len(incidents) - _MOST_LISTED
    more = [f"- and {rest} more"] if rest > 0 else []
    text = "\n".join([*(f"- {fact.text}" for fact in facts), *more])
    return ReplyDraft(text, (*facts, Fact("rest", "", {"rest": rest})))


def _doubt(incident: Incident) -> list[str]:
    """What cannot be told from traffic alone, where the label has such a doubt and it applies."""
    doubt = read_playbook(incident.label).doubt
    return [doubt] if doubt and is_unanswered(incident.label, incident.facts) else []


def _lines(lines: list[str], facts: Sequence[Fact], *known: Fact) -> ReplyDraft:
    """Sentences, then facts as a list; a single fact alone is a sentence."""
    bullets = "- " if lines or len(facts) > 1 else ""
    text = "\n".join([*lines, *(f"{bullets}{fact.text}" for fact in facts)])
    return ReplyDraft(text, (*facts, *known))


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
    text = "\n".join(["From the documents:", *list_quotations(citations)])
    return ReplyDraft(text, (), citations) if citations else None


def list_quotations(citations: Sequence[Citation]) -> list[str]:
    """One line each: its number, where it stands, what it says."""
    return [f"- [{one.number}] {one.place}: {one.quoted}" for one in citations]
