"""Rows become a table: every model over all folds and seeds, and tests of models in pairs on the
same windows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from eval.detection.bootstrap import draw_weights, find_interval, find_p_value
from eval.detection.corpus import Corpus
from eval.detection.fit import Fit
from eval.detection.metrics import binary_scores, count_confusion, encode, label_scores
from eval.detection.predictions import Judged
from eval.detection.scoring import Scorable, Scored, alarm_labels, gather, score, score_constant
from eval.detection.splits import Protocol
from eval.results import MEASURES, Comparison, Confusion, Costs, Labelling, Pooled, Row, Run
from traffic.labels import NORMAL

# Added to a setting: the part of the tests that no model had seen before, where some models had.
UNSEEN = "captures that no model has seen"
_TESTED = ("f1", "binary_macro_f1", "false_share")
_METHOD = "bootstrap over devices, the same draws for both models, percentile interval, two-sided"

Reader = Callable[[Fit], Judged]


@dataclass(frozen=True)
class _Group:
    """Rows of one model that belong together, and what they are called."""

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
        read: gives what a fit said.
        protocol: what was asked.
        binary: models that tell no labels apart.
    """
    pooled = []
    for group in _group(rows):
        judged = [read(_fit(row)) for row in group.rows]
        tested = gather(
            corpus, group.labelling, judged, alarm_labels(protocol.alarm), group.model in binary
        )
        scored = score(tested, judged, protocol.resamples, whole=True)
        first = group.rows[0]
        seen = tuple(sorted({name for row in group.rows for name in row.seen_in_training}))
        pooled.append(
            Pooled(
                model=group.model,
                setting=group.setting,
                amount=first.amount,
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
    """Every model against the protocol's references, on the fits of folds that neither had seen
    before."""
    groups = [group for group in _group(rows) if UNSEEN not in group.setting]
    compared: list[Comparison] = []
    for setting, labelling in dict.fromkeys((group.setting, group.labelling) for group in groups):
        here = {g.model: g for g in groups if (g.setting, g.labelling) == (setting, labelling)}
        counts = {model: _count_unseen(corpus, group, read) for model, group in here.items()}
        references = [model for model in protocol.against if model in here]
        # Two references are compared once, not both ways.
        pairs = [
            (m, r)
            for m, r in product(here, references)
            if m not in references[: references.index(r) + 1]
        ]
        compared += [
            _compare(model, other, setting, labelling, measure, counts, protocol)
            for model, other in pairs
            for measure in _TESTED
            if measure != "f1" or not {model, other} & binary
        ]
    return [one for one in compared if one.units]


def _group(rows: Sequence[Row]) -> list[_Group]:
    seen = {name for row in rows for name in row.seen_in_training}
    groups = []
    blocks: list[tuple[str, Sequence[Row]]] = [("", rows)]
    if seen:
        blocks.append((UNSEEN, [row for row in rows if not seen & set(row.test)]))
    for block, mine in blocks:
        keys = dict.fromkeys((row.model, row.setting, row.labelling) for row in mine)
        for model, setting, labelling in keys:
            chosen = tuple(
                r for r in mine if (r.model, r.setting, r.labelling) == (model, setting, labelling)
            )
            name = "; ".join(part for part in (setting, block) if part)
            groups.append(_Group(model, name, labelling, chosen))
    return groups


def _note(rows: Sequence[Row], tested: Scorable, scored: Scored) -> tuple[str, ...]:
    """What all fits say, and whether a model was needed for it: nobody needs one for one answer to
    every window."""
    notes = list(
        dict.fromkeys(
            note for row in rows for note in row.notes if all(note in one.notes for one in rows)
        )
    )
    chance = score_constant(tested)
    for name in ("f1", "binary_macro_f1"):
        value = scored.scores[name].value
        if value is not None and value <= chance[name] + 1e-9:
            notes.append(
                f"{name} no better than the same answer to every window ({chance[name]:.3f})"
            )
    return tuple(notes)


def _fit(row: Row) -> Fit:
    return Fit(row.model, row.fold, row.setting, row.labelling, row.seed)


def _count(corpus: Corpus, labelling: Labelling, judged: Judged) -> np.ndarray:
    """Windows by device of the corpus, true and said label."""
    truth = encode(corpus.labels[labelling][judged.rows])
    return count_confusion(
        truth, judged.said.code, corpus.device[judged.rows], int(corpus.device.max()) + 1
    )


def _count_unseen(corpus: Corpus, group: _Group, read: Reader) -> dict[tuple[str, int], np.ndarray]:
    """Windows by device, true and said label, for each fold and seed of which the model had seen
    nothing."""
    unseen = [row for row in group.rows if not row.seen_in_training]
    return {
        (row.fold, row.seed): _count(corpus, group.labelling, read(_fit(row))) for row in unseen
    }


def _compare(
    model: str,
    other: str,
    setting: str,
    labelling: Labelling,
    measure: str,
    counts: Mapping[str, Mapping[tuple[str, int], np.ndarray]],
    protocol: Protocol,
) -> Comparison:
    both = [key for key in counts[model] if key in counts[other]]
    nothing: np.ndarray = np.zeros((0, 1, 1))
    one, two = (
        sum((counts[name][key] for key in both), start=0.0) if both else nothing
        for name in (model, other)
    )
    tested = np.asarray(one).sum(axis=(1, 2)) > 0
    pair = [np.asarray(each)[tested] for each in (one, two)]
    units = int(tested.sum())
    weights = np.vstack(
        [np.ones(units), draw_weights(units, protocol.resamples, np.random.default_rng(0))]
    )
    if units:
        first, second = (
            _values_of(measure, np.tensordot(weights, each, axes=1), protocol) for each in pair
        )
        difference = first - second
    else:
        difference = np.full(len(weights), np.nan)
    spread = find_interval(difference[1:]) if units > 1 else find_interval(np.empty(0))
    p_value = find_p_value(difference[1:]) if units > 1 else float("nan")
    return Comparison(
        model=model,
        other=other,
        setting=setting,
        labelling=labelling,
        measure=measure,
        difference=_number(difference[0]),
        low=_number(spread.low),
        high=_number(spread.high),
        p_value=_number(p_value),
        units=units,
        method=f"{_METHOD}; {len(both)} fits of each",
    )


def _values_of(measure: str, counts: np.ndarray, protocol: Protocol) -> np.ndarray:
    if measure == "f1":
        return label_scores(counts)["f1"]
    return binary_scores(counts, alarm_labels(protocol.alarm))[measure]


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
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _mean_costs(costs: Sequence[Costs]) -> Costs:
    def mean(name: str) -> float | None:
        known = [value for one in costs if (value := getattr(one, name)) is not None]
        return float(f"{np.mean(known):.6g}") if known else None

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


# A run cut into parts: one setting under labels of one kind, its models best first.


@dataclass(frozen=True)
class Part:
    """What a run says under one setting with labels of one kind: its models, best first."""

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
    """A run's pooled rows by setting and labelling, corrected labels first, settings by amount
    where they have one."""
    groups: dict[tuple[str, Labelling], list[Pooled]] = {}
    for one in run.pooled:
        groups.setdefault((one.setting, one.labelling), []).append(one)
    order = {
        key: (key[1] != "corrected", of[0].amount or 0.0, UNSEEN in key[0])
        for key, of in groups.items()
    }
    return [Part(*key, _best_first(groups[key])) for key in sorted(groups, key=order.__getitem__)]


def headline(pooled: Iterable[Pooled]) -> str:
    """The measure by which models are put in order: macro-F1, or false alarms where there is
    nothing to find."""
    return "f1" if any(_anomalous(one.confusion) for one in pooled) else "false_share"


def _anomalous(confusion: Confusion) -> int:
    return sum(
        sum(row)
        for name, row in zip(confusion.labels, confusion.counts, strict=True)
        if name != NORMAL
    )


def _best_first(pooled: Sequence[Pooled]) -> tuple[Pooled, ...]:
    return order_models(pooled, headline(pooled))


def order_models(pooled: Sequence[Pooled], name: str) -> tuple[Pooled, ...]:
    """Models by a measure, best first; those without it last, by name."""
    sign = -1.0 if MEASURES[name].better == "higher" else 1.0

    def place(one: Pooled) -> tuple[float, str]:
        value = one.scores[name].value
        return (float("inf") if value is None else sign * value, one.model)

    return tuple(sorted(pooled, key=place))
