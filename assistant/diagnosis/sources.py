"""Find the passages of manuals and the past incidents that an answer may cite.

A device's manual is cited only where the device is known to be of that model; a general guide may
always be. What came with faultwise is an example, and stays marked as one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.citations import Citation, cite, resolve
from assistant.diagnosis.investigate import Investigation
from assistant.diagnosis.playbook import read_playbook
from assistant.diagnosis.standing import is_unanswered
from assistant.outcomes import make_signs, outcome_id
from assistant.questions.queries import specific_words
from knowledge_base.about import fits
from knowledge_base.index import Index
from knowledge_base.likeness import find_alike, is_by_likeness
from knowledge_base.retriever import Passage, search, similar
from traffic.identities import SOURCES
from traffic.labels import TAXONOMY

_MANUALS, _SIMILAR = 3, 2
_LOOKED_AT = 12  # passages of manuals among which those of other devices are left out
_TELLING = ("make", "model", "order number", "name")
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
    concerned = [found.device, *((incident.device, *incident.peers) if incident else ())]
    known = [question, *(text for device in concerned for text in read_identity(device, analysis))]
    by_cause = _fitting_manuals(described, known, index) if incident else []
    by_words = _fitting_manuals(question, known, index) if specific_words(question) else []
    # One passage of a section is enough; the two best for the cause come before those for the
    # operator's words.
    manuals: dict[tuple[str, str], Passage] = {}
    for one in [*by_cause[:2], *by_words, *by_cause]:
        manuals.setdefault((one.document, one.section), one)
    past = _past_incidents(incident, described, analysis, index) if incident else []
    if incident and is_unanswered(incident.label, incident.facts):
        dead = _by_words(index, _DEAD_SERVICE, 1)
        past = [*past[:1], *(one for one in dead if one not in past[:1])]
    chosen = [*list(manuals.values())[:_MANUALS], *past]
    cited = resolve(cite(chosen, f"{described} {question}"), index)
    # Numbers follow what is left, so that an answer never shows a gap.
    cited = tuple(replace(one, number=number) for number, one in enumerate(cited, start=1))
    return (
        tuple(one for one in cited if one.kind != "incident"),
        tuple(one for one in cited if one.kind == "incident"),
    )


def quote_alike(
    incident: Incident, analysis: Analysis, index: Index | None, question: str
) -> tuple[Citation, ...]:
    """Citations of this plant's past incidents with signs like those of an incident."""
    if index is None:
        return ()
    return resolve(cite(_find_alike(incident, analysis, index), question), index)


def keep_by_words(citations: Iterable[Citation], index: Index | None) -> tuple[Citation, ...]:
    """Those that are not of incidents that are found by their signs alone."""
    return tuple(
        one for one in citations if index is None or not is_by_likeness(index, one.chunk_id)
    )


def _find_alike(incident: Incident, analysis: Analysis, index: Index) -> list[Passage]:
    return find_alike(index, make_signs(incident, analysis), _SIMILAR, outcome_id(incident.id))


def read_identity(device: str, analysis: Analysis) -> list[str]:
    """What is known of a device: what the inventory says of it, and what it says of itself where
    that is more than the name of a program."""
    entries = analysis.plant.devices if analysis.plant else ()
    known = [
        text
        for one in entries
        if one.address == device
        for text in (one.name, one.role, one.model, one.zone, *one.aliases)
        if text
    ]
    said = analysis.capture.identities
    sure = {source for source, of in SOURCES.items() if of.sure != "low"}
    own = said[
        (said["device"] == device)
        & (said["unit"] < 0)
        & said["field"].isin(_TELLING)
        & said["source"].isin(sure)
    ]
    return [*known, *own["value"].astype(str)]


def keep_fitting(passages: Iterable[Passage], known: Sequence[str]) -> list[Passage]:
    """Passages of general guides, and of manuals of devices that are known to be meant."""
    return [one for one in passages if not one.about or fits(one.about, known)]


def _fitting_manuals(text: str, known: Sequence[str], index: Index) -> list[Passage]:
    found = search(index, text, k=_LOOKED_AT, kind="manual")
    return keep_fitting(found, known)[:_MANUALS]


def _past_incidents(
    incident: Incident, described: str, analysis: Analysis, index: Index
) -> list[Passage]:
    """Past incidents like this one: by what was measured where that is kept of them; else those
    resolved as the same label, else the nearest one."""
    alike = _find_alike(incident, analysis, index)
    label = incident.label
    mark = f"Label: {label}."
    same = {chunk.document for chunk in index.chunks() if mark in chunk.text}
    by_label = _by_words(index, f"{mark} {read_playbook(label).terms}", 2 * _SIMILAR)
    nearest: dict[str, Passage] = {}
    for passage in [*by_label, *_by_words(index, described, _SIMILAR)]:
        nearest.setdefault(passage.document, passage)
    chosen = [name for name in nearest if name in same] or list(nearest)[: 0 if alike else 1]
    return [*alike, *(nearest[name] for name in chosen)][:_SIMILAR]


def _by_words(index: Index, text: str, k: int) -> list[Passage]:
    """Past incidents by a description, but for those of which is known what was measured: words
    that fit say less than that."""
    found = similar(index, text, k)
    return [one for one in found if not is_by_likeness(index, one.chunk_id)]


def _describe(incident: Incident, device: str, analysis: Analysis) -> str:
    """What the knowledge base is asked: the kind of device, the label's meaning and terms."""
    devices = analysis.plant.devices if analysis.plant else ()
    kind = next((f"{one.role} {one.model}" for one in devices if one.address == device), "")
    label = incident.label
    return f"{kind} {TAXONOMY[label].meaning}. {read_playbook(label).terms}".strip()
