"""`faultwise eval detection`: models on the same windows by one protocol, from captures to a file
of results.

check ─▶ read captures ─▶ folds ─▶ fits (model x fold x setting x labelling x seed) ─▶ pool ─▶
compare ─▶ JSON
everything a user can get wrong is found before the first fit          each fit is on disk when it ends
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import traffic
from assistant.llm.adapters import prompt_fingerprint
from assistant.offline import hush_libraries
from eval.detection.aggregate import compare_models, pool_rows
from eval.detection.corpus import Corpus, describe_data
from eval.detection.fit import Fit, Setup, fit_fold, list_folds, read_corpus
from eval.detection.leakage import (
    check_doubles,
    check_folder,
    check_leaks,
    check_single_captures,
    check_split,
    find_untold,
)
from eval.detection.splits import Protocol, read_protocol
from eval.detection.store import Ledger, write_fit
from eval.models.registry import MODELS, make_model
from eval.provenance import find_commit, find_machine, find_versions, now, own_command
from eval.results import Comparison, Pooled, Row, Run, write_run
from traffic.errors import UserError

log = logging.getLogger(__name__)

# These stand in every table, also beside a single model: what a line of code reaches, and the best
# classical model.
ALWAYS = ("one-line-rule", "xgboost")
Progress = Callable[[int, int], None]


def evaluate_detection(
    data: Path,
    protocol_name: str,
    out: Path,
    kept: Path,
    models: Sequence[str] = (),
    seeds: int | None = None,
    without: Sequence[str] = (),
    quick: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Measure models on labelled captures and write ``<out>/detection-<protocol>.json``.

    A run that was killed goes on where it stood when the same is asked again.

    Args:
        data: folder of labelled captures of any form that ``traffic.datasets.labelled`` knows.
        protocol_name: one of ``eval.detection.splits.PROTOCOLS``.
        out: gets the results, and beside them the folder in which the run keeps its fits while it
            goes on.
        kept: folder for captures that were read once.
        models: names as ``eval.models.registry.make_model`` takes them; the protocol's where empty.
            ALWAYS are added.
        seeds: fits of each model on each fold; the protocol's where None.
        without: labels that are left out.
        quick: small budgets, minutes instead of an hour: shows that it works.
        jobs: fits at once, each on one core; as many as there are cores where None.
        progress: called with the numbers of fits that ended and that there are.

    Raises:
        UserError: something asked for does not exist, the captures do not give what the protocol
            needs, or they would make its numbers worthless.
    """
    started = time.monotonic()
    protocol = _read_protocol(protocol_name, quick, seeds)
    names = _choose_models(models, protocol)
    check_folder(data)
    jobs = jobs or os.cpu_count() or 1
    setup = Setup(data, kept, protocol, tuple(sorted(without)), quick, jobs == 1)
    read_corpus.cache_clear()  # the folder may have changed since this process last read it
    list_folds.cache_clear()
    corpus = read_corpus(setup.data, setup.kept, setup.without)
    _check(corpus, protocol)
    fits = _list_fits(corpus, setup, names)
    binary = _check_models(names, quick)
    name = f"detection-{protocol.name}{'-quick' if quick else ''}"
    with Ledger(out / f"{name}.fits" / _fingerprint(corpus, setup)) as ledger:
        rows = _fit_all(setup, fits, ledger, jobs, progress)
        rows.sort(key=lambda row: names.index(row.model))
        log.info("pooling %d fits", len(rows))
        pooled = pool_rows(corpus, rows, ledger.judged, protocol, binary)
        compared = compare_models(corpus, rows, ledger.judged, protocol, binary)
    notes = _note(data, without, jobs, time.monotonic() - started)
    run = _make_run(name, corpus, setup, names, rows, pooled, compared, notes)
    write_run(run, out)
    return run


def _read_protocol(name: str, quick: bool, seeds: int | None) -> Protocol:
    protocol = read_protocol(name, quick)
    if seeds is None:
        return protocol
    if seeds < 1:
        raise UserError(f"seeds is {seeds}; expected at least 1; correct --seeds")
    return protocol.model_copy(update={"seeds": seeds})


def _make_run(
    name: str,
    corpus: Corpus,
    setup: Setup,
    names: tuple[str, ...],
    rows: Sequence[Row],
    pooled: Sequence[Pooled],
    compared: Sequence[Comparison],
    notes: tuple[str, ...],
) -> Run:
    """All that was measured, with all that it was measured with."""
    return Run(
        name=name,
        created=now(),
        command=own_command(),
        commit=find_commit(),
        quick=setup.quick,
        protocol=setup.protocol.model_dump(mode="json"),
        data=describe_data(corpus),
        models=names,
        seeds=tuple(range(setup.protocol.seeds)),
        versions=find_versions(),
        prompt_fingerprint=prompt_fingerprint(),
        machine=find_machine(),
        rows=tuple(rows),
        pooled=tuple(pooled),
        comparisons=tuple(compared),
        notes=notes,
    )


def _choose_models(models: Sequence[str], protocol: Protocol) -> tuple[str, ...]:
    chosen = tuple(models) or protocol.models or MODELS
    return tuple(dict.fromkeys([*chosen, *ALWAYS]))


def _check_models(names: Sequence[str], quick: bool) -> set[str]:
    """Make every model once, so that a missing one is found now; say which tell no labels apart."""
    return {name for name in names if make_model(name, 0, quick).binary}


def _check(corpus: Corpus, protocol: Protocol) -> None:
    check_doubles(corpus)
    check_leaks(corpus)
    check_single_captures(corpus, protocol)


def _list_fits(corpus: Corpus, setup: Setup, models: Sequence[str]) -> list[Fit]:
    """Every fit of the run; the slowest models first, so that none of them is left for the end."""
    fits = []
    for labelling in setup.protocol.labellings:
        folds = list_folds(setup, labelling).values()
        for fold in folds:
            check_split(corpus, fold, setup.protocol.split)
        fits += [
            Fit(model, fold.name, fold.setting, labelling, seed)
            for model in models
            for fold in folds
            for seed in range(setup.protocol.seeds)
        ]
    return sorted(fits, key=lambda fit: -models.index(fit.model))


def _fit_all(
    setup: Setup, fits: Sequence[Fit], ledger: Ledger, jobs: int, progress: Progress | None
) -> list[Row]:
    """Do what was not done yet, and give the rows of all fits."""
    todo = [fit for fit in fits if fit not in ledger.rows]
    if len(todo) < len(fits):
        log.info("%d of %d fits were done before", len(fits) - len(todo), len(fits))
    done = len(fits) - len(todo)
    for row in _run(setup, todo, ledger.folder, jobs):
        ledger.remember(row)
        done += 1
        log.info("%d of %d fits: %s, %s %s, %s, seed %d", done, len(fits), row.model, row.fold, row.setting,
                 row.labelling, row.seed)  # fmt: skip
        if progress:
            progress(done, len(fits))
    return [ledger.rows[fit] for fit in fits]


def _run(setup: Setup, todo: Sequence[Fit], folder: Path, jobs: int) -> Iterator[Row]:
    if jobs == 1:
        yield from (_fit_and_write(setup, fit, folder) for fit in todo)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (os.getpid(),)) as processes:
        waiting = [processes.submit(_fit_batch, setup, batch, folder) for batch in _batch(todo)]
        try:
            for future in as_completed(waiting):
                yield from future.result()
        finally:
            for future in waiting:
                future.cancel()


def _batch(todo: Sequence[Fit]) -> list[list[Fit]]:
    """Fits of one model, fold and setting together: one that does not learn is asked once for all
    of them."""
    batches: dict[tuple[str, str, str], list[Fit]] = {}
    for fit in todo:
        batches.setdefault((fit.model, fit.fold, fit.setting), []).append(fit)
    return list(batches.values())


def _fit_batch(setup: Setup, batch: Sequence[Fit], folder: Path) -> list[Row]:
    return [_fit_and_write(setup, fit, folder) for fit in batch]


def _fit_and_write(setup: Setup, fit: Fit, folder: Path) -> Row:
    """In whichever process: what ended is on disk before anything else begins."""
    fitted = fit_fold(setup, fit)
    write_fit(folder, fit, fitted)
    return fitted.row


def _begin(parent: int) -> None:
    """Prepare a process: one core each, and no life after the run it works for."""
    os.environ["OMP_NUM_THREADS"] = "1"
    hush_libraries()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _fingerprint(corpus: Corpus, setup: Setup) -> str:
    """Of all that decides a fit's numbers but its own name: data, protocol, budgets and code."""
    root = Path(traffic.__file__).parents[1]
    digest = hashlib.sha256(
        setup.protocol.model_dump_json(exclude={"seeds", "models", "against"}).encode()
    )
    digest.update(repr((corpus.hashes, setup.without, setup.quick, prompt_fingerprint())).encode())
    for package in ("traffic", "prompts", "assistant", "eval"):
        for file in sorted((root / package).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _note(data: Path, without: Sequence[str], jobs: int, seconds: float) -> tuple[str, ...]:
    notes = [f"{seconds / 60:.1f} minutes in this process, {jobs} fits at once, one core each"]
    if untold := find_untold(data):
        notes.append(
            f"{len(untold)} captures have no truth and are left out: {', '.join(p.name for p in untold)}"
        )
    if without:
        notes.append(f"left out, neither trained on nor scored: {', '.join(sorted(without))}")
    return tuple(notes)
