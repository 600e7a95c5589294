"""Aggregate rows: every model over all folds and seeds, and tests of models in pairs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from eval.detection.bootstrap import draw_weights, find_interval, find_p_value
from eval.detection.corpus import Corpus
from eval.detection.fit import FitKey, FitResult
from eval.detection.metrics import binary_scores, count_confusion, encode, label_scores
from eval.detection.scoring import (
    Predictions,
    Scores,
    TestedWindows,
    alarm_labels,
    gather,
    score,
    score_constant,
    shorten,
)
from eval.detection.splits import Protocol
from eval.models.registry import pair_tasks
from eval.results import MEASURES, Comparison, Confusion, Costs, Labelling, Pooled, Row, Run
from traffic.labels import LABELS, NORMAL

# Added to a setting: the part of the tests that no model had seen before, where some models had.
UNSEEN = "captures that no model has seen"
_TESTED = ("f1", "binary_macro_f1", "false_share")
# Of pairs alone: macro-F1 over the labels of the anomalous windows, each called by its likeliest
# anomaly. So naming is compared whatever the models make of normal or not.
NAMING = "naming_f1"
_METHOD = "bootstrap over devices, the same draws for both models, percentile interval, two-sided"

Reader = Callable[[FitKey], FitResult]


@dataclass(frozen=True)
class _Group:
    """Rows of one model, setting and labelling."""

    model: str
    setting: str
    labelling: Labelling
    rows: tuple[Row, ...]


def pool_rows(
    corpus: Corpus, rows: Sequence[Row], read: Reader, protocol: Protocol, binary: set[str]
) -> list[Pooled]:
    """One row for each model, setting and labelling.

    Where a model had seen a test capture before, its row says so and is compared with nothing; then
    there is one more block of rows, of all models on the captures that none of them had seen.

    Args:
        corpus: all windows.
        rows: of every fit.
        read: gives the result of a fit.
        protocol: of the run.
        binary: models that tell no labels apart.
    """
    pooled = []
    for group in _group(rows):
        predictions = [read(_key(row)).predictions for row in group.rows]
        alarms, tells_two = alarm_labels(protocol.alarm), group.model in binary
        tested = gather(corpus, group.labelling, predictions, alarms, tells_two)
        scored = score(tested, predictions, protocol.resamples, whole=True)
        seen = tuple(sorted({name for row in group.rows for name in row.seen_in_training}))
        pooled.append(
            Pooled(
                model=group.model,
                setting=group.setting,
                amount=group.rows[0].amount,
                labelling=group.labelling,
                scores=scored.scores,
                per_label=scored.per_label,
                confusion=scored.confusion,
                curves=scored.curves,
                trained_windows=round(float(np.mean([row.trained_windows for row in group.rows]))),
                tested_windows=sum(row.tested_windows for row in group.rows),
                invalid=sum(row.invalid for row in group.rows),
                abstained=sum(row.abstained for row in group.rows),
                seen_in_training=seen,
                notes=_note(group.rows, tested, scored),
                folds=tuple(dict.fromkeys(row.fold for row in group.rows)),
                seeds=tuple(sorted({row.seed for row in group.rows})),
                fold_mean={name: _mean(_values(group.rows, name)) for name in MEASURES},
                seed_spread={name: _seed_spread(group.rows, name) for name in MEASURES},
                costs=_mean_costs([row.costs for row in group.rows]),
                compared=not seen,
            )
        )
    return pooled


def compare_models(
    corpus: Corpus, rows: Sequence[Row], read: Reader, protocol: Protocol, binary: set[str]
) -> list[Comparison]:
    """Test every model against the protocol's references, on folds that neither had seen before."""
    groups = [group for group in _group(rows) if UNSEEN not in group.setting]
    compared: list[Comparison] = []
    for setting, labelling in dict.fromkeys((group.setting, group.labelling) for group in groups):
        here = {g.model: g for g in groups if (g.setting, g.labelling) == (setting, labelling)}
        counts = {model: _count_unseen(corpus, group, read) for model, group in here.items()}
        for model, other in _pair(list(here), protocol):
            both = [key for key in counts[model] if key in counts[other]]
            if not both:
                continue
            one, two = (np.stack([counts[name][key] for key in both]) for name in (model, other))
            names = (*_TESTED, NAMING) if not {model, other} & binary else _TESTED[1:]
            compared += [
                Comparison(
                    model=model,
                    other=other,
                    setting=setting,
                    labelling=labelling,
                    measure=measure,
                    **_compare(measure, one, two, protocol),
                )
                for measure in names
            ]
    return compared


def _pair(models: Sequence[str], protocol: Protocol) -> Iterator[tuple[str, str]]:
    """Every model with each of the protocol's references, and models of two tasks with those of
    one; two references are compared once, not both ways."""
    references = [model for model in protocol.against if model in models]
    for model, other in product(models, references):
        if model not in references[: references.index(other) + 1]:
            yield model, other
    yield from pair_tasks(models).items()


def _group(rows: Sequence[Row]) -> list[_Group]:
    seen = {name for row in rows for name in row.seen_in_training}
    blocks: list[tuple[str, Sequence[Row]]] = [("", rows)]
    if seen:
        blocks.append((UNSEEN, [row for row in rows if not seen & set(row.test)]))
    groups: dict[tuple[str, str, Labelling], list[Row]] = {}
    for block, mine in blocks:
        for row in mine:
            setting = "; ".join(part for part in (row.setting, block) if part)
            groups.setdefault((row.model, setting, row.labelling), []).append(row)
    return [_Group(*key, tuple(mine)) for key, mine in groups.items()]


def _note(rows: Sequence[Row], tested: TestedWindows, scored: Scores) -> tuple[str, ...]:
    """Notes that all fits share, and whether one answer to every window would be as good."""
    notes = [note for note in rows[0].notes if all(note in row.notes for row in rows)]
    chance = score_constant(tested)
    for name in ("f1", "binary_macro_f1"):
        value = scored.scores[name].value
        if value is not None and value <= chance[name] + 1e-9:
            notes.append(
                f"{name} no better than the same answer to every window ({chance[name]:.3f})"
            )
    return tuple(notes)


def _key(row: Row) -> FitKey:
    return FitKey(row.model, row.fold, row.setting, row.labelling, row.seed)


def _count_unseen(corpus: Corpus, group: _Group, read: Reader) -> dict[tuple[str, int], np.ndarray]:
    """Windows by device of the corpus, true label, and label as predicted and as named: shape (2,
    devices, true, predicted), for each fold and seed of which the model had seen nothing."""

    def count(one: Predictions) -> np.ndarray:
        truth = encode(corpus.labels[group.labelling][one.rows])
        devices, device = int(corpus.device.max()) + 1, corpus.device[one.rows]
        codes = (one.code, one.named)
        return np.stack([count_confusion(truth, code, device, devices) for code in codes])

    unseen = [row for row in group.rows if not row.seen_in_training]
    return {(row.fold, row.seed): count(read(_key(row)).predictions) for row in unseen}


def _compare(measure: str, one: np.ndarray, two: np.ndarray, protocol: Protocol) -> dict[str, Any]:
    """The difference of two models on the same fits, from what `_count_unseen` counted, each of
    shape (fits, 2, devices, true, predicted)."""

    def measured(counts: np.ndarray) -> np.ndarray:
        if measure in ("f1", NAMING):
            return label_scores(counts)["f1"]
        return binary_scores(counts, alarm_labels(protocol.alarm))[measure]

    one, two = (each[:, int(measure == NAMING)] for each in (one, two))
    if measure == NAMING:
        odd = (np.array(LABELS) != NORMAL)[:, None]
        one, two = one * odd, two * odd
    tested = one.sum(axis=(0, 2, 3)) > 0
    units = int(tested.sum())
    drawn = draw_weights(units, protocol.resamples, np.random.default_rng(0))
    weights = np.vstack([np.ones(units), drawn])
    first, second = (
        measured(np.tensordot(weights, each.sum(axis=0)[tested], axes=1)) for each in (one, two)
    )
    difference = first - second
    resampled = difference[1:] if units > 1 else np.empty(0)
    low, high = find_interval(resampled)
    return {
        "difference": _number(difference[0]),
        "low": _number(low),
        "high": _number(high),
        "p_value": _number(find_p_value(resampled)),
        "units": units,
        "method": f"{_METHOD}; {len(one)} fits of each",
    }


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [value for row in rows if (value := row.scores[name].value) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return _number(float(np.mean(values))) if len(values) else None


def _seed_spread(rows: Sequence[Row], name: str) -> float | None:
    """Standard deviation over seeds of the mean over folds."""
    seeds = sorted({row.seed for row in rows})
    means = [_mean(_values([row for row in rows if row.seed == seed], name)) for seed in seeds]
    known = [mean for mean in means if mean is not None]
    return _number(float(np.std(known, ddof=1))) if len(known) > 1 else None


def _number(value: float) -> float | None:
    return shorten(value) if np.isfinite(value) else None


def _mean_costs(costs: Sequence[Costs]) -> Costs:
    def mean(name: str) -> float | None:
        return _mean([value for one in costs if (value := getattr(one, name)) is not None])

    memory, size = mean("peak_memory_bytes"), mean("model_bytes")
    return Costs(
        fit_s=mean("fit_s") or 0.0,
        windows_per_s=mean("windows_per_s"),
        cpu_s=mean("cpu_s") or 0.0,
        peak_memory_bytes=round(memory) if memory is not None else None,
        model_bytes=round(size) if size is not None else None,
        energy_j=mean("energy_j") or 0.0,
        energy_from=costs[0].energy_from,
        watts=costs[0].watts,
    )


# ---- Parts of a run ----


@dataclass(frozen=True)
class Part:
    """The pooled rows of a run under one setting and labelling, the best model first."""

    setting: str
    labelling: Labelling
    pooled: tuple[Pooled, ...]

    @property
    def base(self) -> str:
        """The setting alone, whichever captures it was scored on."""
        return self.setting.removesuffix(UNSEEN).removesuffix("; ")

    @property
    def unseen(self) -> bool:
        """Whether only captures count that no model was made with."""
        return self.setting.endswith(UNSEEN)

    @property
    def title(self) -> str:
        """The setting and the kind of labels in words."""
        return f"{self.setting or 'all models'}, labels as {self.labelling}"


def make_parts(run: Run) -> list[Part]:
    """Cut a run into parts, corrected labels first, settings by amount where they have one."""
    groups: dict[tuple[str, Labelling], list[Pooled]] = {}
    for one in run.pooled:
        groups.setdefault((one.setting, one.labelling), []).append(one)

    def order(key: tuple[str, Labelling]) -> tuple[bool, float, bool]:
        return key[1] != "corrected", groups[key][0].amount or 0.0, UNSEEN in key[0]

    return [
        Part(*key, order_models(groups[key], headline(groups[key])))
        for key in sorted(groups, key=order)
    ]


def headline(pooled: Iterable[Pooled]) -> str:
    """The measure that orders models: macro-F1, or false alarms where there is nothing to find."""

    def holds_anomalies(confusion: Confusion) -> bool:
        rows = zip(confusion.labels, confusion.counts, strict=True)
        return any(name != NORMAL and sum(row) for name, row in rows)

    return "f1" if any(holds_anomalies(one.confusion) for one in pooled) else "false_share"


def order_models(pooled: Sequence[Pooled], name: str) -> tuple[Pooled, ...]:
    """Models by a measure, best first; those without it last, by name."""
    sign = -1.0 if MEASURES[name].better == "higher" else 1.0

    def place(one: Pooled) -> tuple[float, str]:
        value = one.scores[name].value
        return (float("inf") if value is None else sign * value, one.model)

    return tuple(sorted(pooled, key=place))
