"""Render runs over cases as tables: shares with their intervals, then every case that failed."""

import statistics
from collections.abc import Iterable, Sequence

from assistant.report import render_table
from eval.answers.grading import MEASURES
from eval.answers.results import AnswersRun, CaseResult, RetrievalRun, Variant, measure_share
from eval.answers.retrieval import SHIPPED
from eval.results import Estimate

_SCORES = ("recall_at_1", "recall_at_5", "mrr", "ndcg_at_10", "refused_rightly", "refused_wrongly")
_HEADS = ("Recall@1", "Recall@5", "MRR", "nDCG@10", "refused rightly", "refused wrongly", "ms")
_FEET = (
    "Questions: answerable + not. 95 % intervals by bootstrap over questions. Recall@k: an "
    "accepted place among the",
    "first k passages; a question left unanswered counts as missed. Refused rightly: of the "
    "questions that nothing",
    "answers; wrongly: of the others.",
)


def show_share(share: Estimate) -> str:
    """A share with its interval, to two places.

    >>> show_share(Estimate(value=0.5, low=0.25, high=0.75)), show_share(Estimate(value=None))
    ('0.50 [0.25, 0.75]', '-')
    """
    if share.value is None:
        return "-"
    interval = "" if share.low is None else f" [{share.low:.2f}, {share.high:.2f}]"
    return f"{share.value:.2f}{interval}"


def render_retrieval(run: RetrievalRun) -> str:
    """Ways of ranking, what ships by group, then the questions that it gets wrong."""
    whole = [[one.variant, *_cells(one)] for one in run.variants if not one.group]
    groups = [[one.group, *_cells(one)] for one in run.variants if one.group]
    return "\n".join(
        [
            f"{len(run.questions)} questions, {len(run.documents)} documents, {run.chunks} passages",
            "",
            render_table(["ranking", "questions", *_HEADS], whole),
            "",
            f"{SHIPPED}, by what is hard:",
            render_table(["questions", "n", *_HEADS], groups),
            "",
            *_FEET,
            "",
            render_table(["wrong", "question", "rank", "first passage"], _misses(run)),
        ]
    )


def render_answers(run: AnswersRun) -> str:
    """Counts by source, each measure over all cases, then the cases that miss one."""
    shares = {(one.measure, one.group): one for one in run.measured}
    rows = []
    for name, measure in MEASURES.items():
        one = shares[name, ""]
        shown = f"{show_share(one.share)} of {one.cases}" if one.cases else "-"
        rows.append([name, shown, measure.meaning])
    return "\n".join(
        [
            f"{len(run.results)} cases, {len(run.captures)} captures, adapter {run.adapter}",
            "",
            render_table(SOURCE_HEADS, count_by_source(run)),
            "",
            render_table(["measure", "all", "meaning"], rows),
            "",
            render_table(["case", "missed", "question", "said"], _wrong(run.results)),
        ]
    )


SOURCE_HEADS = (
    "source", "cases", "right", "cause", "device", "standing", "false all-clears", "misleading",
    "refused", "seconds",
)  # fmt: skip


def count_by_source(run: AnswersRun) -> list[list[str]]:
    """A row of cells for each source of captures, the last for all.

    Right, cause, device and standing: how many of those to which they apply, right with its
    interval. Refused: questions left unanswered, those that are none for this assistant left out.
    Seconds: the median for one question.
    """
    by_group: dict[str, list[CaseResult]] = {}
    for one in run.results:
        by_group.setdefault(run.groups.get(one.capture, ""), []).append(one)
    return [
        *([group, *_count_cells(mine)] for group, mine in by_group.items()),
        ["all", *_count_cells(run.results)],
    ]


def _count_cells(results: Sequence[CaseResult]) -> list[str]:
    def count(name: str, met: bool = True) -> tuple[int, int]:
        known = [one.measures[name] for one in results if one.measures[name] is not None]
        return known.count(met), len(known)

    right = measure_share([bool(one.measures["right"]) for one in results])
    shares = [f"{met}/{known}" if known else "-" for met, known in map(count, _COUNTED)]
    failed = [str(count(name, False)[0]) for name in ("watchful", "unmisled", "answered")]
    seconds = statistics.median(one.seconds for one in results)
    return [str(len(results)), show_share(right), *shares, *failed, f"{seconds:.2f}"]


_COUNTED = ("cause", "device", "standing")


def _cells(one: Variant) -> Sequence[str]:
    took = "" if one.seconds_per_question is None else f"{1000 * one.seconds_per_question:.0f}"
    return [
        f"{one.questions}+{one.unanswerable}",
        *(show_share(getattr(one, name)) for name in _SCORES),
        took,
    ]


def _misses(run: RetrievalRun) -> Iterable[Sequence[object]]:
    for one in run.questions:
        placed = one.placed[SHIPPED]
        late = one.answerable and (placed.rank is None or placed.rank > 5)
        if late or (not one.answerable and not placed.silent):
            yield one.id, one.question, placed.rank or "-", placed.first or "(none)"


def _wrong(results: Iterable[CaseResult]) -> Iterable[Sequence[object]]:
    for one in results:
        missed = [name for name, met in one.measures.items() if met is False]
        if missed:
            said = f"{one.label or '-'} {one.standing}: {one.headline[:150]}"
            yield one.id, ", ".join(missed), one.question, said
