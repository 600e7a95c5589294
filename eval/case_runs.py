"""Whole runs over cases: what was asked, with what, on which machine, and what came of it."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eval.answers.answers import evaluate_answers, plan_cases, summarise
from eval.answers.captures import Roots
from eval.answers.cases import find_cases
from eval.answers.results import AnswersRun, Origin, RetrievalRun, Skipped
from eval.answers.retrieval import evaluate_retrieval
from eval.provenance import find_commit, find_machine, find_versions, now, own_command

if TYPE_CHECKING:
    from assistant.settings import Settings

__all__ = ["run_answers", "run_retrieval"]

Progress = Callable[[int, int], None]
_NO_RERANKER = (
    "No reranker ships: reordering passages by their sentence nearest to the question (the same sentence model) found "
    "the answer first less often than rank fusion did; --reranker takes a cross-encoder."
)


def run_retrieval(
    cases: Sequence[Path], documents: Path, reranker: Path | None, progress: Progress | None = None
) -> RetrievalRun:
    """Ask the questions of ``cases``, or the shipped ones.

    Raises:
        UserError: see ``evaluate_retrieval``.
    """
    paths = tuple(cases) or find_cases("retrieval")
    searched = evaluate_retrieval(paths, documents, reranker, progress)
    why = f"no folder {documents} of documents (--documents)"
    skipped = (Skipped(cases=searched.skipped, why=why),) if searched.skipped else ()
    return RetrievalRun(
        name="retrieval",
        origin=_origin(),
        cases=_hashes(paths),
        documents=searched.documents,
        chunks=searched.chunks,
        embedder=searched.embedder,
        reranker=reranker.name if reranker else "",
        variants=searched.variants,
        questions=searched.questions,
        skipped=skipped,
        notes=(*_said(skipped), *(() if reranker else (_NO_RERANKER,))),
    )


def run_answers(
    cases: Sequence[Path], data: Path, recordings: Path, settings: "Settings", progress: Progress | None = None
) -> AnswersRun:
    """Ask the cases of ``cases``, or the shipped ones, with the models that the settings name.

    Raises:
        UserError: see ``plan_cases`` and ``evaluate_answers``; or a model cannot be loaded.
    """
    from assistant.session import load_models

    paths, roots = tuple(cases) or find_cases("answers"), Roots(data, recordings)
    plan = plan_cases(paths, roots)
    models = load_models(settings)
    answered = evaluate_answers(plan, roots, models, progress)
    sources = {name: source.data for name, source in plan.sources.items() if source.data and name in answered.captures}
    learned = sorted(name for name, path in sources.items() if any(one in path for one in _names(models.card.data)))
    seen = (f"The adapter was trained with captures {', '.join(learned)}.",) if learned else ()
    return AnswersRun(
        name="answers",
        origin=_origin(),
        cases=_hashes(paths),
        captures=answered.captures,
        adapter=f"{models.card.name} {models.card.base_fingerprint[:12]}",
        writer=settings.remote_url or (settings.writer.name if settings.writer else ""),
        measured=summarise(answered),
        results=answered.results,
        skipped=answered.skipped,
        notes=(*_said(answered.skipped), *seen),
    )


def _origin() -> Origin:
    return Origin(
        created=now(),
        command=own_command(),
        commit=find_commit(),
        versions=find_versions(),
        machine=find_machine(),
    )


def _hashes(paths: Sequence[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _said(skipped: Sequence[Skipped]) -> tuple[str, ...]:
    return tuple(f"{one.cases} {'case' if one.cases == 1 else 'cases'} left out: {one.why}" for one in skipped)


def _names(learned: Sequence[str]) -> list[str]:
    """Names of real captures, by the folder they lie in."""
    return [name for name in learned if not name.startswith("simulated-")]
