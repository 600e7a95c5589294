"""`faultwise eval detection`: models on the same windows by one protocol, into a file of results.

check ─▶ read captures ─▶ folds ─▶ fits (model x fold x setting x labelling x seed) ─▶ pool ─▶ JSON

Everything a user can get wrong is found before the first fit.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

from joblib import Parallel, delayed, parallel_config

import traffic
from assistant.llm.adapters import prompt_fingerprint
from assistant.offline import hush_libraries
from eval.detection.aggregate import compare_models, pool_rows
from eval.detection.corpus import describe_data, leave_out, load_corpus
from eval.detection.fit import (
    Experiment,
    FitKey,
    Memory,
    Setup,
    fit_fold,
    fit_path,
    make_experiment,
    read_fit,
    write_fit,
)
from eval.detection.leakage import (
    check_duplicates,
    check_folder,
    check_leaks,
    check_single_captures,
    check_split,
    find_unlabelled,
)
from eval.detection.splits import Protocol, read_protocol
from eval.models.classifier import WindowClassifier
from eval.models.registry import MODELS, make_model
from eval.models.transfer import TextTuner, list_methods
from eval.provenance import find_commit, find_machine, find_versions, now, own_command
from eval.results import Run, write_run
from traffic.errors import UserError
from traffic.files import own_folder

log = logging.getLogger(__name__)

# These stand in every table, also beside a single model: what a line of code reaches, and the best
# classical model.
ALWAYS = ("one-line-rule", "xgboost")
Progress = Callable[[int, int], None]


def evaluate_detection(
    data: Path,
    protocol_name: str,
    out: Path,
    cache: Path,
    models: Sequence[str] = (),
    seeds: int | None = None,
    without: Sequence[str] = (),
    quick: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
    share: float | None = None,
    tune_texts: TextTuner | None = None,
) -> Run:
    """Measure models on labelled captures and write ``<out>/detection-<protocol>.json``.

    A run that was killed goes on where it stood when the same is asked again.

    Args:
        data: folder of labelled captures of any form that ``traffic.datasets.labelled`` knows.
        protocol_name: one of ``eval.detection.splits.PROTOCOLS``.
        out: gets the results, and beside them the folder of the run's fits.
        cache: folder for captures that were read once.
        models: names as ``eval.models.registry.make_model`` takes them; the protocol's where empty.
            ALWAYS are added.
        seeds: fits of each model on each fold; the protocol's where None.
        without: labels that are left out.
        quick: small budgets, minutes instead of an hour: shows that it works.
        jobs: fits at once, each on one core; as many as there are cores where None.
        progress: called with the numbers of fits that ended and that there are.
        share: of a new network's labels, those that models are moved by; the protocol's where None.
        tune_texts: trains language models, where the protocol moves models.

    Raises:
        UserError: something asked for does not exist, the captures do not give what the protocol
            needs, or they would make its numbers worthless.
    """
    started = time.monotonic()
    protocol = _read_protocol(protocol_name, quick, seeds, share)
    names = tuple(dict.fromkeys([*(tuple(models) or protocol.models or MODELS), *ALWAYS]))
    jobs = jobs or os.cpu_count() or 1
    setup = Setup(data, cache, protocol, tuple(sorted(without)), quick, jobs == 1, tune_texts)
    experiment = _open_checked(setup)
    # Every model is made once, so that a missing one is found now.
    made = {name: make_model(name, 0, quick) for name in names}
    name = f"detection-{protocol.name}{'-quick' if quick else ''}"
    folder = out / f"{name}.fits" / _fingerprint(experiment)
    keys = _list_fits(experiment, made)
    lock = own_folder(folder, "the run's folder")
    try:
        _fit_all(experiment, keys, folder, jobs, progress)
        run = _pool(name, experiment, made, keys, folder)
    finally:
        lock.release()
    run = run.model_copy(update={"notes": _note(setup, jobs, time.monotonic() - started)})
    write_run(run, out)
    return run


def _pool(
    name: str,
    experiment: Experiment,
    models: Mapping[str, WindowClassifier],
    keys: Sequence[FitKey],
    folder: Path,
) -> Run:
    """What all fits of a run's folder say together, and with what they were made."""
    corpus, protocol = experiment.corpus, experiment.setup.protocol
    read, binary = partial(read_fit, folder), {name for name in models if models[name].binary}
    rows = [read(key).row for key in keys]
    rows.sort(key=lambda row: list(models).index(row.model))
    log.info("pooling %d fits", len(rows))
    return Run(
        name=name,
        created=now(),
        command=own_command(),
        commit=find_commit(),
        quick=experiment.setup.quick,
        protocol=protocol.model_dump(mode="json"),
        data=describe_data(corpus),
        models=tuple(models),
        seeds=tuple(range(protocol.seeds)),
        versions=find_versions(),
        prompt_fingerprint=prompt_fingerprint(),
        machine=find_machine(),
        rows=tuple(rows),
        pooled=tuple(pool_rows(corpus, rows, read, protocol, binary)),
        comparisons=tuple(compare_models(corpus, rows, read, protocol, binary)),
        notes=(),
    )


def _read_protocol(name: str, quick: bool, seeds: int | None, share: float | None) -> Protocol:
    protocol = read_protocol(name, quick)
    if seeds is not None:
        if seeds < 1:
            raise UserError(f"seeds is {seeds}; expected at least 1; correct --seeds")
        protocol = protocol.model_copy(update={"seeds": seeds})
    if share is not None:
        if not 0 < share < 1:
            raise UserError(f"share is {share:g}; expected between 0 and 1; correct --share")
        protocol = protocol.model_copy(update={"share": share})
    return protocol


def _open_checked(setup: Setup) -> Experiment:
    """Read the captures and make the folds; refuse what would make their numbers worthless."""
    check_folder(setup.data)
    corpus = leave_out(load_corpus(setup.data, setup.cache), setup.without)
    check_duplicates(corpus)
    check_leaks(corpus)
    check_single_captures(corpus, setup.protocol)
    experiment = make_experiment(setup, corpus)
    for fold in experiment.folds.values():
        check_split(corpus, fold, setup.protocol.split)
    return experiment


def _list_fits(experiment: Experiment, models: Mapping[str, WindowClassifier]) -> list[FitKey]:
    """Every fit of the run, the models listed last first: the slowest ones, which would otherwise
    be left for the end. A model stands in the settings of the methods that move it."""
    protocol = experiment.setup.protocol
    tunes_texts = experiment.setup.tune_texts is not None
    moved = {
        name: list_methods(model, protocol.methods, tunes_texts) for name, model in models.items()
    }
    return [
        FitKey(model, name, setting, labelling, seed)
        for model in reversed(list(models))
        for (labelling, name, setting), fold in experiment.folds.items()
        if not fold.method or fold.method in moved[model]
        for seed in range(protocol.seeds)
    ]


# ---- Fits, one process or several ----


def _fit_all(
    experiment: Experiment,
    keys: Sequence[FitKey],
    folder: Path,
    jobs: int,
    progress: Progress | None,
) -> None:
    """Do the fits that have no file yet."""
    todo = [key for key in keys if not fit_path(folder, key).is_file()]
    done = len(keys) - len(todo)
    if done:
        log.info("%d of %d fits were done before", done, len(keys))
    # Fits of one model, fold and setting together: a model that does not learn predicts once. All
    # methods that move a model begin with one that was fitted on the source.
    moved = bool(experiment.setup.protocol.methods)
    batches: dict[tuple[str, str, str], list[FitKey]] = {}
    for key in todo:
        setting = "" if moved else key.setting
        batches.setdefault((key.model, key.fold, setting), []).append(key)
    for key in _run(experiment, list(batches.values()), folder, jobs):
        done += 1
        log.info("%d of %d fits: %s", done, len(keys), key)
        if progress:
            progress(done, len(keys))


def _run(
    experiment: Experiment, batches: Sequence[list[FitKey]], folder: Path, jobs: int
) -> Iterator[FitKey]:
    """Do fits and give each key when its fit has ended."""
    if jobs == 1:
        for batch in batches:
            yield from _fit_batch(experiment, batch, folder)
        return
    with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        parallel = Parallel(return_as="generator_unordered")
        fit = partial(_fit_elsewhere, experiment.setup, folder, os.getpid())
        for ended in parallel(delayed(fit)(batch) for batch in batches):
            yield from ended


def _fit_batch(experiment: Experiment, batch: Sequence[FitKey], folder: Path) -> Iterator[FitKey]:
    memory = Memory()
    for key in batch:
        write_fit(folder, key, fit_fold(experiment, key, memory))
        yield key


def _fit_elsewhere(
    setup: Setup, folder: Path, parent: int, batch: Sequence[FitKey]
) -> list[FitKey]:
    """In a process of its own, which ends with the run that it works for."""
    hush_libraries()
    ended = []
    for key in _fit_batch(_open_experiment(setup, folder), batch, folder):
        ended.append(key)
        if os.getppid() != parent:
            os._exit(1)
    return ended


@lru_cache(maxsize=1)
def _open_experiment(setup: Setup, folder: Path) -> Experiment:
    """Read the run's captures, once in each process: they are too large to be sent there.

    The folder is named after their content, so that captures which changed are read again.
    """
    del folder
    return make_experiment(setup, leave_out(load_corpus(setup.data, setup.cache), setup.without))


def _fingerprint(experiment: Experiment) -> str:
    """Of all that decides a fit's numbers but its own name: data, protocol, budgets and code."""
    root = Path(traffic.__file__).parents[1]
    setup = experiment.setup
    protocol = setup.protocol.model_dump_json(exclude={"seeds", "models", "against"})
    content = (experiment.corpus.hashes, setup.without, setup.quick, prompt_fingerprint())
    digest = hashlib.sha256(f"{protocol}{content!r}".encode())
    tuners = ("finetune",) if setup.tune_texts else ()
    for package in ("traffic", "prompts", "assistant", "eval", *tuners):
        for file in sorted((root / package).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _note(setup: Setup, jobs: int, seconds: float) -> tuple[str, ...]:
    notes = [f"{seconds / 60:.1f} minutes in this process, {jobs} fits at once, one core each"]
    if unlabelled := [path.name for path in find_unlabelled(setup.data)]:
        notes.append(
            f"{len(unlabelled)} captures have no truth and are left out: {', '.join(unlabelled)}"
        )
    if setup.without:
        notes.append(f"left out, neither trained on nor scored: {', '.join(setup.without)}")
    return tuple(notes)
