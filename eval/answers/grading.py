"""Grade one answer against its case: fixed checks, no model judges.

Each measure is met, not met, or does not apply.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from assistant.diagnosis import Diagnosis
from assistant.diagnosis.citations import resolve
from assistant.diagnosis.grounding import check
from assistant.diagnosis.standing import Standing
from assistant.report import without_marks
from eval.answers.cases import NO_CAUSE, Case
from eval.answers.results import CaseResult
from eval.results import Measure
from knowledge_base.index import Index
from traffic.labels import LABELS, NORMAL

# Shares of the cases to which each applies, in the order of a table.
MEASURES: Mapping[str, Measure] = {
    "right": Measure("cause, device, standing and words together", "higher"),
    "cause": Measure("the label is a right one; where none is given, says what it must", "higher"),
    "unmisled": Measure(
        "claims no wrong cause, raises nothing where all is well, says nothing that it must not",
        "higher",
    ),
    "watchful": Measure("calls nothing well that is not known to be", "higher"),
    "standing": Measure("as sure as the evidence allows", "higher"),
    "device": Measure("about a device that is meant, or the one at the root", "higher"),
    "mentions": Measure("says what must be said", "higher"),
    "reserved": Measure("the cause claims nothing that it must not", "higher"),
    "sourced": Measure(
        "every number, time, address and quotation is found in facts or passages", "higher"
    ),
    "cited": Measure(
        "every citation resolves in the knowledge base, and every number in brackets is one",
        "higher",
    ),
    "intact": Measure("no sentence had to be removed for want of a source", "higher"),
    "refused": Measure(
        "of the questions that are none for this assistant, those refused", "higher"
    ),
    "answered": Measure("of the others, those not refused", "higher"),
    "valid": Measure(
        "the answer can be read: it has a text, a known standing and a known label", "higher"
    ),
}
# What decides whether an answer is right, where it applies.
_RIGHT = ("cause", "standing", "device", "mentions", "reserved")
_RAISED = ("likely", "confirmed")
_BRACKETS = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Answer:
    """What was said to a question.

    Attributes:
        text: as shown.
        diagnosis: what it rests on, if it rests on one.
        removed: how many sentences were taken out for want of a source.
        refused: the question is none for this assistant, or what is asked for is not there.
        seconds: from the question to the answer, the capture being read.
    """

    text: str
    diagnosis: Diagnosis | None
    removed: int = 0
    refused: bool = False
    seconds: float = 0.0


def grade_answer(
    case: Case, answer: Answer, devices: Sequence[str], index: Index | None
) -> CaseResult:
    """Grade an answer by its case.

    Args:
        case: with its ``{source}`` and ``{target}`` filled in.
        answer: what the assistant answered.
        devices: addresses of the case's devices.
        index: the knowledge base that citations must resolve in.
    """
    diagnosis = answer.diagnosis
    headline, label, said = "", NO_CAUSE, ""
    if diagnosis:
        headline, label, said = diagnosis.cause, diagnosis.label or NO_CAUSE, diagnosis.standing
    shown = without_marks(answer.text)
    missing = _find_missing(case, answer.text.lower(), shown)
    claimed = (
        *(one for one in case.denies if one.lower() in headline.lower()),
        *(one for one in case.must_not if re.search(one, shown, re.IGNORECASE)),
    )
    unsupported = _unsupported(answer, index)
    cause = label in case.causes if case.causes else not missing if case.must else None
    named = any(one and one in shown.split("\n")[0] for one in devices)
    device = diagnosis is not None and (diagnosis.device in devices or named)
    well = NORMAL in case.standings
    cleared = said == NORMAL and bool(case.standings) and not well
    expected = not (case.refused or case.error)
    measures: dict[str, bool | None] = {
        "cause": cause if expected else None,
        "unmisled": not (claimed or cleared or _claims_wrongly(case, label, said)),
        "watchful": not cleared if case.standings and not well else None,
        "standing": said in case.standings if case.standings else None,
        "device": device if devices else None,
        "mentions": not missing if case.mentions or case.must else None,
        "reserved": not claimed if case.denies or case.must_not else None,
        "sourced": None if unsupported is None else not unsupported,
        "cited": _is_cited(answer, index) if diagnosis and index else None,
        "intact": not answer.removed,
        "refused": answer.refused if case.refused else None,
        "answered": not answer.refused if expected else None,
        "valid": _is_valid(answer),
    }
    measures["right"] = (
        answer.refused if case.refused else all(measures[name] is not False for name in _RIGHT)
    )
    return CaseResult(
        id=case.id,
        capture=case.capture,
        question=case.question,
        by=case.by,
        device=diagnosis.device if diagnosis else "",
        label=diagnosis.label if diagnosis else "",
        standing=said,
        headline=headline or answer.text.split("\n")[0],
        missing=missing,
        claimed=claimed,
        unsupported=unsupported or (),
        seconds=answer.seconds,
        measures={name: measures[name] for name in MEASURES},
    )


def grade_refusal(case: Case, message: str) -> CaseResult:
    """Grade the one line that refuses a capture: it has to match the case's ``error``."""
    right = bool(case.error and re.search(case.error, message))
    measures = dict.fromkeys(MEASURES, None) | {"right": right, "valid": "\n" not in message}
    return CaseResult(
        id=case.id, capture=case.capture, question=case.question, by=case.by, device="", label="",
        standing="", headline=message, missing=() if right else (case.error or "an answer",),
        claimed=(), unsupported=(), seconds=0.0, measures=measures,
    )  # fmt: skip


def _find_missing(case: Case, text: str, shown: str) -> tuple[str, ...]:
    """What a text in small letters had to mention, and its words as shown had to match, and do not."""

    def mentions(alternatives: str) -> bool:
        return any(word.strip().lower() in text for word in alternatives.split("|"))

    return (
        *(one for one in case.mentions if not mentions(one)),
        *(one for one in case.must if not re.search(one, shown, re.IGNORECASE)),
    )


def _claims_wrongly(case: Case, label: str, standing: str) -> bool:
    """Whether a cause is claimed that is not right, or anything is raised where nothing may be."""
    if case.causes:
        return label not in (*case.causes, NO_CAUSE)
    return standing in _RAISED and bool(case.standings) and not set(_RAISED) & set(case.standings)


def _unsupported(answer: Answer, index: Index | None) -> tuple[str, ...] | None:
    """Sentences of a diagnosis without a source; None for a text whose facts are not at hand."""
    diagnosis = answer.diagnosis
    if diagnosis is None or answer.text != diagnosis.text:
        return None
    cited = (*diagnosis.citations, *diagnosis.similar)
    return check(answer.text, diagnosis.known, cited, index).removed


def _is_cited(answer: Answer, index: Index | None) -> bool:
    """Whether all citations resolve, and the text's brackets point at nothing else."""
    if answer.diagnosis is None or index is None:
        return True
    cited = (*answer.diagnosis.citations, *answer.diagnosis.similar)
    bracketed = {int(number) for number in _BRACKETS.findall(answer.text)}
    resolved = len(resolve(cited, index)) == len(cited)
    return resolved and bracketed <= {one.number for one in cited}


def _is_valid(answer: Answer) -> bool:
    if not answer.text.strip():
        return False
    diagnosis = answer.diagnosis
    return diagnosis is None or (
        diagnosis.standing in get_args(Standing) and diagnosis.label in ("", *LABELS)
    )
