"""Find the passages of manuals and the past incidents that an answer may cite."""

from dataclasses import replace

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.grounding import Citation, cite, resolve
from assistant.diagnosis.investigate import Investigation
from assistant.diagnosis.playbook import read_playbook
from assistant.diagnosis.standing import is_unanswered
from assistant.questions.intents import specific_words
from knowledge_base.index import Index
from knowledge_base.retriever import Passage, search, similar
from traffic.labels import TAXONOMY

_MANUALS, _SIMILAR = 3, 2
_DEAD_SERVICE = (
    "A node calls a cloud service that is gone, again and again; it only looked infected, the "
    "pauses grew."
)


def find_sources(
    question: str, found: Investigation, analysis: Analysis, index: Index | None
) -> tuple[tuple[Citation, ...], tuple[Citation, ...]]:
    """Find passages of manuals and past incidents that fit, numbered in one row.

    Returns:
        Citations of manuals, then of past incidents.
    """
    if index is None:
        return (), ()
    incident = found.incident
    described = _describe(incident, found.device, analysis) if incident else ""
    by_cause = search(index, described, k=_MANUALS, kind="manual") if incident else []
    by_words = []
    if specific_words(question):
        by_words = search(index, question, k=_MANUALS, kind="manual")
    # One passage of a section is enough; the two best for the cause come before those for the
    # operator's words.
    manuals: dict[tuple[str, str], Passage] = {}
    for one in [*by_cause[:2], *by_words, *by_cause]:
        manuals.setdefault((one.document, one.section), one)
    past = _past_incidents(incident.label, described, index) if incident else []
    if incident and is_unanswered(incident.label, incident.facts):
        dead = similar(index, _DEAD_SERVICE, k=1)
        past = [*past[:1], *(one for one in dead if one not in past[:1])]
    chosen = [*list(manuals.values())[:_MANUALS], *past]
    cited = resolve(cite(chosen, f"{described} {question}"), index)
    # Numbers follow what is left, so that an answer never shows a gap.
    cited = tuple(replace(one, number=number) for number, one in enumerate(cited, start=1))
    return (
        tuple(one for one in cited if one.kind != "incident"),
        tuple(one for one in cited if one.kind == "incident"),
    )


def _past_incidents(label: str, described: str, index: Index) -> list[Passage]:
    """Past incidents like this one: those resolved as the same label, else the nearest one."""
    mark = f"Label: {label}."
    same = {chunk.document for chunk in index.chunks() if mark in chunk.text}
    by_label = similar(index, f"{mark} {read_playbook(label).terms}", k=2 * _SIMILAR)
    nearest: dict[str, Passage] = {}
    for passage in [*by_label, *similar(index, described, k=_SIMILAR)]:
        nearest.setdefault(passage.document, passage)
    chosen = [name for name in nearest if name in same] or list(nearest)[:1]
    return [nearest[name] for name in chosen[:_SIMILAR]]


def _describe(incident: Incident, device: str, analysis: Analysis) -> str:
    """What the knowledge base is asked: the kind of device, the label's meaning and terms."""
    devices = analysis.plant.devices if analysis.plant else ()
    kind = next((f"{one.role} {one.model}" for one in devices if one.address == device), "")
    label = incident.label
    return f"{kind} {TAXONOMY[label].meaning}. {read_playbook(label).terms}".strip()
