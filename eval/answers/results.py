"""Files of results that `eval retrieval` and `eval answers` write."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field
from scipy.stats import binomtest

from eval.provenance import find_commit, find_machine, find_versions, now, own_command
from eval.results import Estimate, MachineFacts
from traffic.files import Strict


class Origin(Strict):
    """How and with what a file of results was made; fields as in ``eval.results.Run``."""

    created: str
    command: str
    commit: str
    versions: Mapping[str, str]
    machine: MachineFacts


class Skipped(Strict):
    """Cases that could not be asked, and what is missing for them."""

    cases: int
    why: str


class Placed(Strict):
    """The result of one way of ranking for one question.

    Attributes:
        rank: of the first passage in an accepted place, from 1; null where none was found.
        ndcg_at_10: null for a question that nothing answers.
        silent: no passage at all.
        first: where the first passage stands; "" where there is none.
    """

    rank: int | None
    ndcg_at_10: float | None
    silent: bool
    first: str


class QuestionResult(Strict):
    """One question in every way of ranking; ``answerable`` is false where nothing answers it."""

    id: str
    group: str
    question: str
    answerable: bool
    placed: Mapping[str, Placed]


class Variant(Strict):
    """One way of ranking over a group of questions, "" for all of them.

    The first four are means over answerable questions; a silent one counts as not found.
    ``refused_rightly`` is the share of unanswerable questions without a passage,
    ``refused_wrongly`` that of answerable ones.
    """

    variant: str
    group: str
    questions: int
    unanswerable: int
    recall_at_1: Estimate
    recall_at_5: Estimate
    mrr: Estimate
    ndcg_at_10: Estimate
    refused_rightly: Estimate
    refused_wrongly: Estimate
    seconds_per_question: float | None = None


class RetrievalRun(Strict):
    """A whole file of `eval retrieval`."""

    version: Literal[1] = 1
    kind: Literal["retrieval"] = "retrieval"
    name: str
    origin: Origin
    cases: Mapping[str, str] = Field(description="SHA-256 by file of cases")
    documents: Mapping[str, str] = Field(description="content hash by document")
    chunks: int
    embedder: str
    reranker: str
    variants: tuple[Variant, ...]
    questions: tuple[QuestionResult, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


class CaseResult(Strict):
    """One case: the answer, and which measures it met; null where a measure does not apply.

    Attributes:
        device: address that the answer is about.
        label: its cause.
        standing: how sure it is.
        headline: the cause in a sentence.
        missing: what it should have mentioned and did not.
        claimed: what it must not claim and does.
        unsupported: sentences without a source.
        seconds: from the question to the answer, the capture being read.
        measures: by name of ``eval.answers.grading.MEASURES``.
    """

    id: str
    capture: str
    question: str
    by: str
    device: str
    label: str
    standing: str
    headline: str
    missing: tuple[str, ...]
    claimed: tuple[str, ...]
    unsupported: tuple[str, ...]
    seconds: float = 0.0
    measures: Mapping[str, bool | None]


class Measured(Strict):
    """One measure over a group of cases ("" for all): share of those to which it applies."""

    measure: str
    group: str
    cases: int
    share: Estimate


class AnswersRun(Strict):
    """A whole file of `eval answers`; ``groups`` says by capture what its cases are counted with."""

    version: Literal[1] = 1
    kind: Literal["answers"] = "answers"
    name: str
    origin: Origin
    cases: Mapping[str, str] = Field(description="SHA-256 by file of cases")
    captures: Mapping[str, str] = Field(description="content hash by capture")
    groups: Mapping[str, str] = {}
    adapter: str
    writer: str
    measured: tuple[Measured, ...]
    results: tuple[CaseResult, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


def measure_share(met: Sequence[bool]) -> Estimate:
    """A share with its 95 % interval (Wilson, 1927), which holds for few cases and for none missed."""
    if not met:
        return Estimate(value=None)
    interval = binomtest(sum(met), len(met)).proportion_ci(method="wilson")
    low, high = (round(float(end), 6) for end in interval)
    return Estimate(value=sum(met) / len(met), low=low, high=high)


# ---- What both kinds of files say of how they were made ----


def make_origin() -> Origin:
    """This process, its code and its machine."""
    return Origin(
        created=now(),
        command=own_command(),
        commit=find_commit(),
        versions=find_versions(),
        machine=find_machine(),
    )


def hash_files(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of each file by its name, with its folder where that is one of captures."""
    return {_name_file(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _name_file(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if path.name == "cases.yaml" else path.name


def note_skipped(skipped: Sequence[Skipped]) -> tuple[str, ...]:
    """A note for each reason that left cases out."""
    return tuple(
        f"{one.cases} {'case' if one.cases == 1 else 'cases'} left out: {one.why}"
        for one in skipped
    )
