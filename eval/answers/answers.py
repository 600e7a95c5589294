"""Whether answers are right: cause, standing, device, sources, refusals, over cases with a known
truth.

cases ─▶ captures (one analysis each) ─▶ ask or chat ─▶ judgement ─▶ shares with intervals
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from assistant.chat.conversation import Conversation
from assistant.detection import Analysis, analyse_capture
from assistant.diagnosis.diagnose import diagnose
from assistant.diagnosis.llm_writer import write
from assistant.history import History
from assistant.session import Models, load_models
from assistant.settings import Settings
from eval.answers.captures import Roots, Subject, find_missing, read_subject
from eval.answers.cases import Case, Source, find_cases, read_cases
from eval.answers.grading import MEASURES, Answer, judge_answer
from eval.answers.results import AnswersRun, CaseResult, Measured, Origin, RetrievalRun, Skipped
from eval.answers.retrieval import evaluate_retrieval, resample
from eval.provenance import find_commit, find_machine, find_versions, now, own_command
from knowledge_base.index import Index, ensure_samples, open_index
from traffic.errors import UserError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """What will be asked: cases by the name of their capture, and what cannot be asked."""

    sources: dict[str, Source]
    cases: tuple[Case, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Answered:
    """What a run found; ``captures`` are content hashes by name, ``origins`` say of what kind each
    capture is."""

    results: tuple[CaseResult, ...]
    captures: dict[str, str]
    origins: dict[str, str]
    skipped: tuple[Skipped, ...]


def plan_cases(paths: Sequence[Path], roots: Roots) -> Plan:
    """Read cases and find their captures, before anything heavy is loaded.

    Raises:
        UserError: a file has mistakes, or a capture is not where the folder it belongs to is.
    """
    sources: dict[str, Source] = {}
    gone: dict[str, str] = {}
    cases: list[Case] = []
    for path, file in zip(paths, read_cases(paths), strict=True):
        for name, source in file.captures.items():
            try:
                missing = find_missing(source, roots)
            except UserError as error:
                raise UserError(f"{path}: captures.{name}.{error}") from error
            sources[name] = source
            if missing:
                gone[name] = missing.why
        cases += file.cases
    why = [gone[case.capture] for case in cases if case.capture in gone]
    asked = tuple(case for case in cases if case.capture not in gone)
    return Plan(sources, asked, _counted(why))


def evaluate_answers(
    plan: Plan, roots: Roots, models: Models, progress: Progress | None = None
) -> Answered:
    """Ask every planned case; each capture is analysed once, then let go.

    Args:
        plan: from ``plan_cases``.
        roots: where captures lie.
        models: classify, and word answers where there is a writer.
        progress: told how many cases are done.

    Raises:
        UserError: a capture cannot be read.
    """
    results: list[CaseResult] = []
    captures: dict[str, str] = {}
    why: list[str] = []
    with (
        tempfile.TemporaryDirectory() as home,
        open_index(home) as index,
        closing(History(Path(home) / "history.sqlite")) as history,
    ):
        ensure_samples(index)
        for name in dict.fromkeys(case.capture for case in plan.cases):
            subject = read_subject(plan.sources[name], roots)
            analysis = analyse_capture(subject.capture, models.llm, models.card, subject.plant)
            captures[name] = subject.sha256
            for case in (case for case in plan.cases if case.capture == name):
                if absent := case.parts - subject.parts.keys():
                    why.append(f"the truth of {name} names no {min(absent)}")
                    continue
                filled = _fill(case, subject)
                said = _ask(filled, analysis, index, history, models)
                results.append(judge_answer(filled, said, _addresses(filled, subject), index))
                if progress:
                    progress(len(results), len(plan.cases))
    origins = {
        name: next(kind for kind, value in plan.sources[name] if value is not None)
        for name in captures
    }
    return Answered(tuple(results), captures, origins, (*plan.skipped, *_counted(why)))


def summarise(answered: Answered) -> tuple[Measured, ...]:
    """Each measure over all cases, then over those of each kind of capture."""
    groups = ["", *dict.fromkeys(answered.origins.values())]
    measured = []
    for group in groups:
        chosen = [one for one in answered.results if group in ("", answered.origins[one.capture])]
        for name in MEASURES:
            met = [float(value) for one in chosen if (value := one.measures[name]) is not None]
            measured.append(
                Measured(measure=name, group=group, cases=len(met), share=resample(met))
            )
    return tuple(measured)


def _counted(why: Sequence[str]) -> tuple[Skipped, ...]:
    return tuple(Skipped(cases=why.count(one), why=one) for one in dict.fromkeys(why))


def _ask(case: Case, analysis: Analysis, index: Index, history: History, models: Models) -> Answer:
    if case.by == "ask":
        diagnosis = write(diagnose(case.question, analysis, index), models.writer)
        return Answer(diagnosis.text, diagnosis, diagnosis.removed, diagnosis.refused)
    reply = Conversation(analysis, index, history, writer=models.writer).reply(case.question)
    return Answer(reply.text, reply.diagnosis, reply.removed, reply.refused)


def _fill(case: Case, subject: Subject) -> Case:
    """Put the names of the devices in the place of ``{source}`` and ``{target}``."""

    def filled(text: str) -> str:
        for part, name in subject.parts.items():
            text = text.replace(f"{{{part}}}", name)
        return text

    texts = {
        name: tuple(map(filled, getattr(case, name))) for name in ("devices", "mentions", "denies")
    }
    return case.model_copy(update={"question": filled(case.question), **texts})


def _addresses(case: Case, subject: Subject) -> tuple[str, ...]:
    names = (
        {device.name: device.address for device in subject.plant.devices} if subject.plant else {}
    )
    return tuple(names.get(one, one) for one in case.devices)


# Whole runs over cases: what was asked, with what, on which machine, and what came of it.
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
    cases: Sequence[Path],
    data: Path,
    recordings: Path,
    settings: Settings,
    progress: Progress | None = None,
) -> AnswersRun:
    """Ask the cases of ``cases``, or the shipped ones, with the models that the settings name.

    Raises:
        UserError: see ``plan_cases`` and ``evaluate_answers``; or a model cannot be loaded.
    """
    paths, roots = tuple(cases) or find_cases("answers"), Roots(data, recordings)
    plan = plan_cases(paths, roots)
    models = load_models(settings)
    answered = evaluate_answers(plan, roots, models, progress)
    sources = {
        name: source.data
        for name, source in plan.sources.items()
        if source.data and name in answered.captures
    }
    learned = sorted(
        name
        for name, path in sources.items()
        if any(one in path for one in _names(models.card.data))
    )
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
    return tuple(
        f"{one.cases} {'case' if one.cases == 1 else 'cases'} left out: {one.why}"
        for one in skipped
    )


def _names(learned: Sequence[str]) -> list[str]:
    """Names of real captures, by the folder they lie in."""
    return [name for name in learned if not name.startswith("simulated-")]
