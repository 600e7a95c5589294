"""results/<run>.json: everything that a run of the detection harness measured, and with what.

One row is one model that was fitted once: model x fold x setting x seed x labelling. A pooled row
is one model over all folds and seeds of a setting and labelling. A number that cannot be measured
is null, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, JsonValue, field_validator

from traffic.files import Strict, read_json, write_text
from traffic.labels import LABELS

Labelling = Literal["published", "corrected"]

# ---- what the numbers mean ----


@dataclass(frozen=True)
class Measure:
    """What a number means.

    Attributes:
        meaning: one sentence, for a table's head or foot.
        better: which way is good.
        unit: "" for shares and scores in [0, 1].
    """

    meaning: str
    better: Literal["higher", "lower"]
    unit: str = ""


# The names of `Row.scores` and `Pooled.scores`, in the order in which a table shows them. Anomalous
# is whatever the protocol calls an alarm.
MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure("windows with the right label", "higher"),
    "precision": Measure("precision, mean over labels", "higher"),
    "recall": Measure("recall, mean over labels", "higher"),
    "f1": Measure("F1, mean over labels true or said", "higher"),
    "weighted_f1": Measure("F1, mean over labels weighted by their windows", "higher"),
    "binary_accuracy": Measure("windows rightly normal or anomalous", "higher"),
    "binary_precision": Measure("of the windows called anomalous, those that are", "higher"),
    "binary_recall": Measure("of the anomalous windows, those called so", "higher"),
    "binary_f1": Measure("F1 of anomalous", "higher"),
    "binary_macro_f1": Measure("mean F1 of normal and anomalous", "higher"),
    "pr_auc": Measure("average precision of 1 - P(normal) for anomalous", "higher"),
    "false_share": Measure("of the normal windows, those called anomalous", "lower"),
    "false_share_at_recall_75": Measure(
        "false_share at the threshold at which 75 % of the anomalous windows are found", "lower"
    ),
    "false_per_device_day": Measure(
        "false alarms (abstentions are none) per device and day that it was seen",
        "lower",
        "windows",
    ),
    "incidents_per_10_min": Measure(
        "incidents raised per operator (one a capture) and 10 minutes", "lower", "incidents"
    ),
    "false_incidents_per_10_min": Measure(
        "of these, such as no true interval accounts for", "lower", "incidents"
    ),
    "found_share": Measure("of the true intervals, those with an alarm", "higher"),
    "time_to_detection_s": Measure(
        "from a true interval's start to the end of its first window with an alarm, "
        "median of those found",
        "lower",
        "s",
    ),
    "calibration_error": Measure("expected calibration error of the label's probability", "lower"),
    "risk_area": Measure("mean share of wrong answers over all coverages", "lower"),
    "coverage_at_5_percent": Measure("most windows answered with at most 5 % wrong", "higher"),
}

# ---- parts of a file ----


class Estimate(Strict):
    """A number and its 95 % bootstrap interval over devices (incidents for what counts intervals).

    Attributes:
        value: null where it cannot be measured.
        low: null where there are fewer than two devices to draw from.
        high: see ``low``.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


class LabelScores(Strict):
    """One label's scores; ``windows`` is how many truly have it."""

    precision: float | None
    recall: float | None
    f1: float | None
    windows: int


class Costs(Strict):
    """What a model took.

    Attributes:
        fit_s: wall-clock seconds of fitting.
        windows_per_s: windows scored in a second of wall clock, one process.
        cpu_s: CPU seconds of fitting and scoring.
        peak_memory_bytes: most memory that the process held, above what it held before the model
            was made.
        model_bytes: size of what would have to be stored to use the fitted model.
        energy_j: of fitting and scoring.
        energy_from: how it was obtained.
        watts: per busy core, where ``energy_from`` is not RAPL.
    """

    fit_s: float
    windows_per_s: float | None
    cpu_s: float
    peak_memory_bytes: int | None
    model_bytes: int | None
    energy_j: float
    energy_from: Literal["RAPL", "CPU-seconds x stated watts"]
    watts: float | None


class Confusion(Strict):
    """``counts[i][j]``: windows of true label ``labels[i]`` that were said to be ``labels[j]``; the
    last column may be INVALID, whose row is all zeros."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Curve(Strict):
    """Points of a curve, at most 101."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Reliability(Strict):
    """Bins of the said label's probability: mean probability, share that was right, windows. Empty
    bins are left out"""

    confidence: tuple[float, ...]
    right: tuple[float, ...]
    windows: tuple[int, ...]


class Curves(Strict):
    """``pr``: x recall, y precision of anomalous. ``risk_coverage``: x coverage, y share of wrong
    answers."""

    pr: Curve | None
    reliability: Reliability | None
    risk_coverage: Curve | None


class DataUsed(Strict):
    """One capture: ``sha256`` is of its content (windows, features and truth), so that renaming
    changes nothing.

    ``network`` groups captures of one origin; ``unknown`` counts windows left out because their
    truth is not settled; ``published`` and ``corrected`` count windows by label.
    """

    name: str
    sha256: str
    form: str
    network: str
    windows: int
    devices: int
    hours: float
    published: Mapping[str, int]
    corrected: Mapping[str, int]
    unknown: Mapping[Labelling, int]


class MachineFacts(Strict):
    """Where it ran; ``accelerator`` is "" where none was used."""

    system: str
    cpu: str
    cores: int
    memory_bytes: int
    accelerator: str


# ---- rows and the whole file ----

RESULTS_VERSION = 1
# An answer that could not be read: counted beside the classes, never one of them.
INVALID = "[invalid]"


class _Measured(Strict):
    """What rows and pooled rows hold.

    Attributes:
        model: its name.
        setting: what the protocol varied, as "50 windows of the new site"; "" for nothing.
        amount: the same as a number, the x of a curve.
        labelling: whose labels.
        scores: by name, all of MEASURES.
        per_label: empty in a row: its confusion tells as much.
        invalid: unreadable answers; wrong in every score.
        abstained: answers that serving would keep to itself; scored like any other.
        seen_in_training: test captures that the model's card names as training data.
    """

    model: str
    setting: str
    amount: float | None
    labelling: Labelling
    scores: Mapping[str, Estimate]
    per_label: Mapping[str, LabelScores]
    confusion: Confusion
    curves: Curves
    trained_windows: int
    tested_windows: int
    invalid: int
    abstained: int
    seen_in_training: tuple[str, ...]
    notes: tuple[str, ...]

    @field_validator("scores")
    @classmethod
    def _all_measures(cls, scores: Mapping[str, Estimate]) -> Mapping[str, Estimate]:
        if odd := set(scores) ^ set(MEASURES):
            raise ValueError(f"expected all of MEASURES and no other; see {', '.join(sorted(odd))}")
        return scores

    @field_validator("per_label")
    @classmethod
    def _our_labels(cls, scores: Mapping[str, LabelScores]) -> Mapping[str, LabelScores]:
        if unknown := set(scores) - set(LABELS):
            raise ValueError(f"no label is called {', '.join(sorted(unknown))}")
        return scores


class Row(_Measured):
    """One fit and its scores on one fold.

    ``fold`` names what was tested; ``train`` and ``test`` name captures.
    """

    fold: str
    seed: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    costs: Costs


class Pooled(_Measured):
    """One model over all folds and seeds: scores of all its test windows together, costs as means
    of its fits.

    Attributes:
        fold_mean: mean of each score over folds and seeds.
        seed_spread: standard deviation between seeds of the scores; null with one seed.
        compared: false where the model had seen a test capture before: such a row stands in a
            table, but is compared with nothing.
    """

    folds: tuple[str, ...]
    seeds: tuple[int, ...]
    fold_mean: Mapping[str, float | None]
    seed_spread: Mapping[str, float | None]
    costs: Costs
    compared: bool


class Comparison(Strict):
    """A paired test of two models on the same windows: ``difference`` is ``model``'s minus
    ``other``'s measure.

    The interval and ``p_value`` (two-sided) are of a bootstrap over ``units`` devices, never over
    windows.
    """

    model: str
    other: str
    setting: str
    labelling: Labelling
    measure: str
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    units: int
    method: str


class Run(Strict):
    """A whole file.

    Attributes:
        created: ISO 8601, UTC.
        commit: git revision, with "+" where the checkout differed from it; "" outside one.
        quick: smaller budgets: shows that it works, not what models are worth.
        protocol: the YAML's content, with the budgets that were used.
    """

    version: Literal[1] = 1
    kind: Literal["detection"] = "detection"
    name: str
    created: str
    command: str
    commit: str
    quick: bool
    protocol: Mapping[str, JsonValue]
    data: tuple[DataUsed, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    versions: Mapping[str, str]
    prompt_fingerprint: str
    machine: MachineFacts
    rows: tuple[Row, ...]
    pooled: tuple[Pooled, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


# ---- reading and writing ----


def find_results() -> Path:
    """The results that lie in the checkout of this package; ``./results`` outside of one."""
    shipped = Path(__file__).resolve().parents[1] / "results"
    return shipped if shipped.is_dir() else Path("results")


def write_results(results: BaseModel, path: Path) -> None:
    """Write results of any kind as JSON, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    write_text(path, results.model_dump_json(indent=1) + "\n")


def write_run(run: Run, folder: Path) -> Path:
    """Write ``<folder>/<run.name>.json``, whole or not at all; returns where.

    Raises:
        UserError: it cannot be written.
    """
    path = folder / f"{run.name}.json"
    whole = run.model_copy(update={"rows": ()}).model_dump_json(indent=1)
    # A row takes a line: there are thousands, and a difference between files shows which changed.
    rows = ",\n".join(row.model_dump_json(exclude_defaults=True) for row in run.rows)
    write_text(path, whole.replace('\n "rows": [],', f'\n "rows": [\n{rows}\n ],', 1) + "\n")
    return path


def read_run(path: Path) -> Run:
    """Read what `write_run` wrote.

    Raises:
        UserError: it is missing, or of another form or version.
    """
    version = f"version {RESULTS_VERSION}"
    return read_json(path, Run, f"a run's results, {version}, as faultwise eval detection makes")
