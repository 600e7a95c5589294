"""A question becomes a diagnosis: fixed code picks the evidence, templates or a checked model word
it.

question ─▶ finding (device, incident, facts, standing) ─▶ passages ─▶ text ─▶ check of numbers and
citations ─▶ answer
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from assistant.detection.pipeline import Analysis
from assistant.diagnosis.compose import compose
from assistant.diagnosis.grounding import Citation, check, cite, resolve
from assistant.diagnosis.investigate import Finding, find, known_facts
from assistant.diagnosis.playbook import read_playbook
from assistant.diagnosis.standing import Standing, is_unanswered, lower
from assistant.facts.fact import Fact
from assistant.questions.intents import read_intent, specific_words
from assistant.questions.scope import is_in_scope
from knowledge_base.index import Index
from knowledge_base.retriever import Passage, search, similar
from traffic.labels import TAXONOMY

COMPOSED = "composed"
_MANUALS, _SIMILAR = 3, 2
_DEAD_SERVICE = "A node calls a cloud service that is gone, again and again; it only looked infected, the pauses grew."
_FOREIGN = (
    "The question names no device, fault or document that I know here, "
    "so this is what stands out in the capture."
)
_DOWNGRADED = "A sentence of this answer had no source and was removed; the answer counts as less sure for it."


@dataclass(frozen=True)
class Diagnosis:
    """An answer with everything it rests on.

    Attributes:
        question: as it was asked.
        standing: ``confirmed``, ``likely``, ``inconclusive`` or ``normal``.
        device: address; "" where the capture holds nothing that was asked for.
        facts: what was measured.
        cause: the answer in one sentence.
        ruled_out: other causes and the numbers against them; those left open are marked so.
        checks: what to do next, in order.
        citations: passages that the text quotes.
        similar: past incidents that the text quotes; numbered after ``citations``.
        text: the whole answer, markdown that reads well as plain text.
        written_by: ``composed`` or the name of the model that worded it.
        notes: what the operator should know about this answer.
        label: one of ``LABELS``, "" where nothing was judged.
        incidents: ids, the one that explains first.
        context: further facts that the text takes names, times and numbers from.
    """

    question: str
    standing: Standing
    device: str
    facts: tuple[Fact, ...]
    cause: str
    ruled_out: tuple[str, ...]
    checks: tuple[str, ...]
    citations: tuple[Citation, ...]
    similar: tuple[Citation, ...]
    text: str
    written_by: str
    notes: tuple[str, ...]
    label: str = ""
    incidents: tuple[str, ...] = ()
    context: tuple[Fact, ...] = ()

    @property
    def known(self) -> tuple[Fact, ...]:
        """All that the text may take numbers from."""
        return (*self.facts, *self.context)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, texts and numbers, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def diagnose(
    question: str, analysis: Analysis, index: Index | None, device: str | None = None
) -> Diagnosis:
    """Answer a question about a capture from its evidence.

    Args:
        question: the operator's words; they choose device and incident, nothing else.
        analysis: the capture with its verdicts and incidents.
        index: the knowledge base; without one nothing is cited.
        device: address or name, where it is known already.

    Returns:
        A diagnosis whose every number and citation resolves.
    """
    finding = find(question, analysis, device)
    if device is None and not is_in_scope(question, read_intent(question), finding.asked, index):
        finding = replace(finding, notes=(_FOREIGN, *finding.notes))
    citations, similar = sources_for(question, finding, analysis, index)
    return _draft(question, finding, citations, similar, analysis)


def sources_for(
    question: str, finding: Finding, analysis: Analysis, index: Index | None
) -> tuple[tuple[Citation, ...], tuple[Citation, ...]]:
    """Passages of manuals and past incidents that fit a finding, numbered in one row.

    Returns:
        Citations of manuals, then of past incidents.
    """
    if index is None:
        return (), ()

    incident = finding.incident
    described = _described(finding, analysis)
    by_cause = search(index, described, k=_MANUALS, kind="manual") if incident else []
    by_words = (
        search(index, question, k=_MANUALS, kind="manual") if specific_words(question) else []
    )
    # One passage of a section is enough; the two best for the cause come before those for the
    # operator's words.
    ranked = [*by_cause[:2], *by_words, *by_cause]
    manuals = {(one.document, one.section): one for one in reversed(ranked)}
    manuals = {
        place: manuals[place]
        for place in dict.fromkeys((one.document, one.section) for one in ranked)
    }
    past = _past_incidents(incident.label, described, index) if incident else []
    if incident and is_unanswered(incident.label, incident.facts):
        past = [
            *past[:1],
            *(one for one in similar(index, _DEAD_SERVICE, k=1) if one not in past[:1]),
        ]
    cited = resolve(
        cite([*list(manuals.values())[:_MANUALS], *past], f"{described} {question}"), index
    )
    # Numbers follow what is left, so that an answer never shows a gap.
    cited = tuple(replace(one, number=number) for number, one in enumerate(cited, start=1))
    return tuple(c for c in cited if c.kind != "incident"), tuple(
        c for c in cited if c.kind == "incident"
    )


def _past_incidents(label: str, described: str, index: Index) -> list[Passage]:
    """Past incidents like this one: those resolved as the same label, else the nearest one."""
    mark = f"Label: {label}."
    same = {chunk.document for chunk in index.chunks() if mark in chunk.text}
    found = similar(index, f"{mark} {read_playbook(label).terms}", k=2 * _SIMILAR) + similar(
        index, described, k=_SIMILAR
    )
    distinct = {passage.document: passage for passage in reversed(found)}
    order = list(dict.fromkeys(passage.document for passage in found))
    chosen = [name for name in order if name in same] or order[:1]
    return [distinct[name] for name in chosen[:_SIMILAR]]


def _described(finding: Finding, analysis: Analysis) -> str:
    """What the knowledge base is asked: the label's meaning and terms, and what kind of device it
    is."""
    if finding.incident is None:
        return ""
    label = finding.incident.label
    devices = analysis.plant.devices if analysis.plant else ()
    kind = next((f"{one.role} {one.model}" for one in devices if one.address == finding.device), "")
    return f"{kind} {TAXONOMY[label].meaning}. {read_playbook(label).terms}".strip()


def _draft(
    question: str,
    finding: Finding,
    citations: tuple[Citation, ...],
    similar: tuple[Citation, ...],
    analysis: Analysis,
) -> Diagnosis:
    """Compose, check, and where something had no source compose again, one step less sure."""
    wording = compose(finding, citations, similar, analysis)
    checked = check(wording.text, known_facts(finding), (*citations, *similar))
    if checked.removed and finding.incident is not None:
        notes = (*finding.notes, _DOWNGRADED)
        finding = replace(finding, standing=lower(finding.standing), notes=notes)
        wording = compose(finding, citations, similar, analysis)
        checked = check(wording.text, known_facts(finding), (*citations, *similar))
    incidents = ([finding.incident] if finding.incident else []) + list(finding.others)
    return Diagnosis(
        question=question,
        standing=finding.standing,
        device=finding.device,
        facts=finding.facts,
        cause=wording.headline,
        ruled_out=wording.ruled_out,
        checks=wording.checks,
        citations=citations,
        similar=similar,
        text=checked.text.strip(),
        written_by=COMPOSED,
        notes=finding.notes,
        label=finding.incident.label
        if finding.incident
        else ("normal" if finding.standing == "normal" else ""),
        incidents=tuple(one.id for one in incidents),
        context=known_facts(finding)[len(finding.facts) :],
    )
