"""Ask cases with a known truth and grade the answers: cause, standing, device, sources, refusals.

cases ─▶ captures (one analysis each) ─▶ ask or chat ─▶ grading ─▶ shares with intervals
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from assistant.chat import Conversation
from assistant.detection import Analysis, analyse_capture
from assistant.diagnosis import diagnose
from assistant.diagnosis.llm_writer import write
from assistant.history import History
from assistant.session import Models, load_models
from assistant.settings import Settings
from eval.answers.captures import CaseCapture, Roots, find_missing, read_case_capture
from eval.answers.cases import Case, Source, find_cases, read_cases
from eval.answers.grading import MEASURES, Answer, grade_answer
from eval.answers.results import AnswersRun, CaseResult, Measured, Origin, RetrievalRun, Skipped
from eval.answers.retrieval import evaluate_retrieval, resample
from eval.provenance import find_commit, find_machine, find_versions, now, own_command
from knowledge_base.index import Index, ensure_samples, open_index
from traffic.errors import UserError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """Cases to ask, the sources of their captures by name, and cases that cannot be asked."""

    sources: dict[str, Source]
    cases: tuple[Case, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class GradedAnswers:
    """Graded cases, and by capture's name its content's hash and the kind of its source."""

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
                gone[name] = missing
        cases += file.cases
    why = [gone[case.capture] for case in cases if case.capture in gone]
    here = tuple(case for case in cases if case.capture not in gone)
    return Plan(sources, here, _counted(why))


def evaluate_answers(
    plan: Plan, roots: Roots, models: Models, progress: Progress | None = None
) -> GradedAnswers:
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
            read = read_case_capture(plan.sources[name], roots)
            analysis = analyse_capture(read.capture, models.llm, models.card, read.plant)
            captures[name] = read.sha256
            for case in (case for case in plan.cases if case.capture == name):
                if absent := case.parts - read.parts.keys():
                    why.append(f"the truth of {name} names no {min(absent)}")
                    continue
                filled = _fill(case, read)
                answer = _ask(filled, analysis, index, history, models)
                results.append(grade_answer(filled, answer, _addresses(filled, read), index))
                if progress:
                    progress(len(results), len(plan.cases))
    origins = {
        name: next(kind for kind, value in plan.sources[name] if value is not None)
        for name in captures
    }
    return GradedAnswers(tuple(results), captures, origins, (*plan.skipped, *_counted(why)))


def summarise(graded: GradedAnswers) -> tuple[Measured, ...]:
    """Each measure over all cases, then over those of each kind of capture."""
    measured = []
    for group in ("", *dict.fromkeys(graded.origins.values())):
        chosen = [one for one in graded.results if group in ("", graded.origins[one.capture])]
        for name in MEASURES:
            met = [float(value) for one in chosen if (value := one.measures[name]) is not None]
            share = resample(met)
            measured.append(Measured(measure=name, group=group, cases=len(met), share=share))
    return tuple(measured)


def _counted(why: Sequence[str]) -> tuple[Skipped, ...]:
    return tuple(Skipped(cases=why.count(one), why=one) for one in dict.fromkeys(why))


def _ask(case: Case, analysis: Analysis, index: Index, history: History, models: Models) -> Answer:
    if case.by == "ask":
        diagnosis = write(diagnose(case.question, analysis, index), models.writer)
        return Answer(diagnosis.text, diagnosis, diagnosis.removed, diagnosis.refused)
    reply = Conversation(analysis, index, history, writer=models.writer).reply(case.question)
    return Answer(reply.text, reply.diagnosis, reply.removed, reply.refused)


def _fill(case: Case, capture: CaseCapture) -> Case:
    """Put the names of the devices in the place of ``{source}`` and ``{target}``."""

    def filled(text: str) -> str:
        for part, name in capture.parts.items():
            text = text.replace(f"{{{part}}}", name)
        return text

    names = ("devices", "mentions", "denies")
    texts = {name: tuple(map(filled, getattr(case, name))) for name in names}
    return case.model_copy(update={"question": filled(case.question), **texts})


def _addresses(case: Case, capture: CaseCapture) -> tuple[str, ...]:
    devices = capture.plant.devices if capture.plant else ()
    names = {device.name: device.address for device in devices}
    return tuple(names.get(one, one) for one in case.devices)


# ---- Whole runs, with all that they were made with ----

_NO_RERANKER = (
    "No reranker ships: reordering passages by their sentence nearest to the question (the same "
    "sentence model) found the answer first less often than rank fusion did; --reranker takes a "
    "cross-encoder."
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
        notes=(*_notes(skipped), *(() if reranker else (_NO_RERANKER,))),
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
    graded = evaluate_answers(plan, roots, models, progress)
    # The card names real captures by the folder they lie in.
    trained = [name for name in models.card.data if not name.startswith("simulated-")]
    learned = sorted(
        name
        for name in graded.captures
        if any(one in (plan.sources[name].data or "") for one in trained)
    )
    seen = (f"The adapter was trained with captures {', '.join(learned)}.",) if learned else ()
    return AnswersRun(
        name="answers",
        origin=_origin(),
        cases=_hashes(paths),
        captures=graded.captures,
        adapter=f"{models.card.name} {models.card.base_fingerprint[:12]}",
        writer=settings.remote_url or (settings.writer.name if settings.writer else ""),
        measured=summarise(graded),
        results=graded.results,
        skipped=graded.skipped,
        notes=(*_notes(graded.skipped), *seen),
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


def _notes(skipped: Sequence[Skipped]) -> tuple[str, ...]:
    return tuple(
        f"{one.cases} {'case' if one.cases == 1 else 'cases'} left out: {one.why}"
        for one in skipped
    )
