"""Diagnose: fixed code picks the evidence for a question, a template words it, a check lets it out.

question ─▶ investigate ─▶ find_sources ─▶ compose ─▶ check ─▶ Diagnosis
            device, incident,  manuals,     sections    numbers,
            facts, standing    past ones                citations
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from assistant.detection.pipeline import Analysis
from assistant.diagnosis.citations import Citation
from assistant.diagnosis.compose import MOST_ALSO, Sections, compose, render_answer, shorten_repeats
from assistant.diagnosis.grounding import Checked, check
from assistant.diagnosis.investigate import Investigation, investigate
from assistant.diagnosis.sources import find_sources, keep_by_words
from assistant.diagnosis.standing import Standing, lower
from assistant.facts.fact import Fact, kind_of
from knowledge_base.index import Index
from traffic.labels import NORMAL

COMPOSED = "composed"
_REMOVED = "A sentence of this answer had no source and was removed"
_LESS_SURE = "the answer counts as less sure for it"
_NOT_IN_JSON = ("sections", "removed")


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
        text: the short answer, markdown that reads well as plain text; ``long`` has the rest.
        written_by: ``composed`` or the name of the model that worded it.
        notes: what the operator should know about this answer.
        sections: what the text was rendered from; not part of its JSON.
        label: one of ``LABELS``, "" where nothing was judged.
        incidents: ids, the one that explains first.
        context: further facts that the text takes names, times and numbers from.
        removed: how many sentences had no source and were taken out; not part of its JSON.
        cut: what a model wrote and no fact bears; not part of the text. In its JSON where there is
            any.
        kind: what was asked for, a key of questions/queries.yaml.
        refused: what was asked for is not here, so that there is no answer.
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
    sections: Sections = field(repr=False)
    label: str = ""
    incidents: tuple[str, ...] = ()
    context: tuple[Fact, ...] = ()
    removed: int = 0
    cut: tuple[str, ...] = ()
    kind: str = "why"
    refused: bool = False

    @property
    def known(self) -> tuple[Fact, ...]:
        """All that the text may take numbers from."""
        return (*self.facts, *self.context)

    @property
    def told(self) -> tuple[str, ...]:
        """Ids of the incidents that it lists."""
        return tuple(str(one.values["id"]) for one in self.facts if kind_of(one) == "incident_one")

    @property
    def long(self) -> str:
        """The whole answer: every fact, other causes, passages, past cases."""
        cited = (*self.citations, *self.similar)
        return check_answer(self.sections, self.known, cited, long=True).text.strip()

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, texts and numbers, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in _NOT_IN_JSON and (name != "cut" or value)
        }


def count_rest(sections: Sections) -> Fact:
    """How many facts and incidents a short answer leaves out."""
    rest = {"seen": len(sections.seen) - sections.most, "also": len(sections.also) - MOST_ALSO}
    return Fact("rest", "", {name: float(n) for name, n in rest.items()})


def check_answer(
    sections: Sections, known: Sequence[Fact], citations: Sequence[Citation], long: bool = False
) -> Checked:
    """Render an answer and take out what has no source."""
    checked = check(render_answer(sections, long), (*known, count_rest(sections)), citations)
    # The clock last: what is checked says UTC, as facts do.
    text = shorten_repeats(sections.clock.tell(checked.text.strip()))
    return replace(checked, text=text)


def diagnose(
    question: str, analysis: Analysis, index: Index | None, device: str | None = None
) -> Diagnosis:
    """Say what is wrong with the device that a question means, or why, from evidence.

    Args:
        question: the operator's words; they choose device and incident, nothing else.
        analysis: the capture with its verdicts and incidents.
        index: the knowledge base; without one nothing is cited.
        device: address or name, where it is known already.

    Returns:
        A diagnosis whose every number and citation resolves.
    """
    return explain(question, investigate(question, analysis, device), analysis, index)


def explain(
    question: str, found: Investigation, analysis: Analysis, index: Index | None
) -> Diagnosis:
    """The same from what was found."""
    citations, similar = find_sources(question, found, analysis, index)

    def word() -> tuple[Sections, Checked]:
        sections = compose(found, citations, similar, analysis)
        sections = replace(sections, alike=len(similar) - len(keep_by_words(similar, index)))
        known = (*found.facts, *found.unshown)
        return sections, check_answer(sections, known, (*citations, *similar))

    sections, checked = word()
    if checked.removed:
        # Evidence was lost: compose again with a note, one step less sure of an incident.
        note = f"{_REMOVED}."
        if found.incident is not None:
            note = f"{_REMOVED}; {_LESS_SURE}."
            found = replace(found, standing=lower(found.standing))
        found = replace(found, notes=(*found.notes, note))
        sections, checked = word()
    incidents = [found.incident, *found.others] if found.incident else found.others
    normal = NORMAL if found.standing == "normal" else ""
    return Diagnosis(
        question=question,
        standing=found.standing,
        device=found.device,
        facts=found.facts,
        cause=sections.headline,
        ruled_out=sections.ruled_out,
        checks=sections.checks,
        citations=citations,
        similar=similar,
        text=checked.text.strip(),
        written_by=COMPOSED,
        notes=found.notes,
        label=found.incident.label if found.incident else normal,
        incidents=tuple(one.id for one in incidents),
        context=(*found.unshown, count_rest(sections)),
        sections=sections,
        removed=len(checked.removed),
        refused=not found.device,
    )
