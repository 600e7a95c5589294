"""Ask cases with a known truth and grade the answers: cause, standing, device, sources, refusals.

cases ─▶ captures (one analysis each) ─▶ ask or chat ─▶ grading ─▶ shares with intervals
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from assistant.answers.answer import answer
from assistant.chat import Conversation
from assistant.detection import Analysis, analyse_capture
from assistant.diagnosis.llm_writer import write
from assistant.history import History
from assistant.session import Models, load_models
from assistant.settings import Settings
from eval.answers.captures import CaseCapture, Roots, find_missing, read_case_capture
from eval.answers.cases import Case, Source, find_cases, read_cases
from eval.answers.grading import MEASURES, Answer, grade_answer, grade_refusal
from eval.answers.results import (
    AnswersRun,
    CaseResult,
    Measured,
    Skipped,
    hash_files,
    make_origin,
    measure_share,
    note_skipped,
)
from knowledge_base.index import Index, ensure_samples, open_index
from traffic.errors import UserError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """Cases to ask, the sources of their captures by name, and cases that cannot be asked."""

    sources: dict[str, Source]
    cases: tuple[Case, ...]
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


def run_answers(
    cases: Sequence[Path],
    data: Path,
    recordings: Path,
    settings: Settings,
    progress: Progress | None,
    made: Path | None,
) -> AnswersRun:
    """Ask the cases of ``cases``, or the shipped ones, with the models that the settings name.

    Where none are named, those of ``data/field`` and of ``made`` (a folder of ``python -m
    eval.testbed.cases``) are asked too, if they are there.

    Raises:
        UserError: see ``plan_cases``; or a model cannot be loaded, or a capture not be read.
    """
    beside = [one / "cases.yaml" for one in (data / "field", *([made] if made else []))]
    found = (*find_cases("answers"), *(one for one in beside if one.is_file()))
    paths, roots = tuple(cases) or found, Roots(data, recordings)
    plan = plan_cases(paths, roots)
    models = load_models(settings)
    asked = _ask_all(plan, roots, models, progress)
    skipped = (*plan.skipped, *_counted(asked.why))
    groups = {one.capture: plan.sources[one.capture].group for one in asked.results}
    return AnswersRun(
        name="answers",
        origin=make_origin(),
        cases=hash_files(paths),
        captures=asked.captures,
        adapter=f"{models.card.name} {models.card.base_fingerprint[:12]}",
        writer=settings.remote_url or (settings.writer.name if settings.writer else ""),
        groups=groups,
        measured=_summarise(asked.results, groups),
        results=tuple(asked.results),
        skipped=skipped,
        notes=(*note_skipped(skipped), *_note_learned(models, asked.captures, plan.sources)),
    )


@dataclass
class _Asked:
    """Graded answers, the hashes of the captures that were read, and why cases were left out."""

    results: list[CaseResult] = field(default_factory=list)
    captures: dict[str, str] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)


def _ask_all(plan: Plan, roots: Roots, models: Models, progress: Progress | None) -> _Asked:
    asked = _Asked()
    with (
        tempfile.TemporaryDirectory() as home,
        open_index(home) as index,
        closing(History(Path(home) / "history.sqlite")) as history,
    ):
        ensure_samples(index)
        # Each capture is analysed once, then let go.
        for name in dict.fromkeys(case.capture for case in plan.cases):
            mine = [case for case in plan.cases if case.capture == name]
            try:
                read = read_case_capture(plan.sources[name], roots)
            except UserError as error:
                if not any(case.error for case in mine):
                    raise
                asked.results += [grade_refusal(case, str(error)) for case in mine]
                continue
            analysis = analyse_capture(
                read.capture, models.llm, models.card, read.plant, read.local
            )
            asked.captures[name] = read.sha256
            for case in mine:
                if absent := case.parts - read.parts.keys():
                    asked.why.append(f"the truth of {name} names no {min(absent)}")
                    continue
                filled = _fill(case, read)
                answer = _ask(filled, analysis, index, history, models)
                graded = grade_answer(filled, answer, _addresses(filled, read), index)
                asked.results.append(graded)
                if progress:
                    progress(len(asked.results), len(plan.cases))
    return asked


def _summarise(results: Sequence[CaseResult], groups: Mapping[str, str]) -> tuple[Measured, ...]:
    """Each measure over all cases, then over those of each group."""
    measured = []
    for group in ("", *dict.fromkeys(groups[one.capture] for one in results)):
        chosen = [one for one in results if group in ("", groups[one.capture])]
        for name in MEASURES:
            met = [value for one in chosen if (value := one.measures[name]) is not None]
            share = measure_share(met)
            measured.append(Measured(measure=name, group=group, cases=len(met), share=share))
    return tuple(measured)


def _note_learned(
    models: Models, captures: Iterable[str], sources: Mapping[str, Source]
) -> tuple[str, ...]:
    """Which captures the adapter was trained with: the card names real ones by their folder."""
    trained = [name for name in models.card.data if not name.startswith("simulated-")]
    learned = [
        name for name in captures if any(one in (sources[name].data or "") for one in trained)
    ]
    named = ", ".join(sorted(learned))
    return (f"The adapter was trained with captures {named}.",) if learned else ()


def _counted(why: Sequence[str]) -> tuple[Skipped, ...]:
    return tuple(Skipped(cases=why.count(one), why=one) for one in dict.fromkeys(why))


def _ask(case: Case, analysis: Analysis, index: Index, history: History, models: Models) -> Answer:
    begun = time.perf_counter()
    if case.by == "ask":
        composed = answer(case.question, analysis, index)
        said = write(composed, models.writer, analysis.plant)
        answered = Answer(said.text, said, said.removed, said.refused)
    else:
        reply = Conversation(analysis, index, history, writer=models.writer).reply(case.question)
        answered = Answer(reply.text, reply.diagnosis, reply.removed, reply.refused)
    return replace(answered, seconds=time.perf_counter() - begun)


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
