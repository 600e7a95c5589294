"""results/<run>.json: everything that a run of the detection harness measured, and with what.

One row is one model that was fitted once: model x fold x setting x seed x labelling. A pooled row
is one model over all folds and seeds of a setting and labelling. A number that cannot be measured
is null, never 0.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from traffic.errors import UserError
from traffic.labels import LABELS

# What the numbers of a table of results mean, in the order in which a table shows them.


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


# The names of `eval.results.Row.scores` and `Pooled.scores`. Anomalous is whatever the protocol
# calls an alarm.
MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure(meaning="windows with the right label", better="higher"),
    "precision": Measure(meaning="precision, mean over labels", better="higher"),
    "recall": Measure(meaning="recall, mean over labels", better="higher"),
    "f1": Measure(meaning="F1, mean over labels true or said", better="higher"),
    "weighted_f1": Measure(
        meaning="F1, mean over labels weighted by their windows", better="higher"
    ),
    "binary_accuracy": Measure(meaning="windows rightly normal or anomalous", better="higher"),
    "binary_precision": Measure(
        meaning="of the windows called anomalous, those that are", better="higher"
    ),
    "binary_recall": Measure(meaning="of the anomalous windows, those called so", better="higher"),
    "binary_f1": Measure(meaning="F1 of anomalous", better="higher"),
    "binary_macro_f1": Measure(meaning="mean F1 of normal and anomalous", better="higher"),
    "pr_auc": Measure(meaning="average precision of 1 - P(normal) for anomalous", better="higher"),
    "false_share": Measure(meaning="of the normal windows, those called anomalous", better="lower"),
    "false_share_at_recall_75": Measure(
        meaning="false_share at the threshold at which 75 % of the anomalous windows are found",
        better="lower",
    ),
    "false_per_device_day": Measure(
        meaning="false alarms (abstentions are none) per device and day that it was seen",
        better="lower",
        unit="windows",
    ),
    "incidents_per_10_min": Measure(
        meaning="incidents raised per operator (one a capture) and 10 minutes",
        better="lower",
        unit="incidents",
    ),
    "false_incidents_per_10_min": Measure(
        meaning="of these, such as no true interval accounts for", better="lower", unit="incidents"
    ),
    "found_share": Measure(meaning="of the true intervals, those with an alarm", better="higher"),
    "time_to_detection_s": Measure(
        meaning="from a true interval's start to the end of its first window with an alarm, median of those found",
        better="lower",
        unit="s",
    ),
    "calibration_error": Measure(
        meaning="expected calibration error of the label's probability", better="lower"
    ),
    "risk_area": Measure(meaning="mean share of wrong answers over all coverages", better="lower"),
    "coverage_at_5_percent": Measure(
        meaning="most windows answered with at most 5 % wrong", better="higher"
    ),
}


# Parts of a file of results: numbers with their intervals, costs, curves, what was read and where
# it ran.

Labelling = Literal["published", "corrected"]


class Form(BaseModel):
    """A file from outside: nothing extra passes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(Form):
    """A number and its 95 % bootstrap interval over devices (incidents for what counts intervals).

    Attributes:
        value: null where it cannot be measured.
        low: null where there are fewer than two devices to draw from.
        high: see ``low``.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


class LabelScores(Form):
    """One label's scores; ``windows`` is how many truly have it."""

    precision: float | None
    recall: float | None
    f1: float | None
    windows: int


class Costs(Form):
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


class Confusion(Form):
    """``counts[i][j]``: windows of true label ``labels[i]`` that were said to be ``labels[j]``; the
    last column may be INVALID, whose row is all zeros."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Curve(Form):
    """Points of a curve, at most 101."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Reliability(Form):
    """Bins of the said label's probability: mean probability, share that was right, windows. Empty
    bins are left out"""

    confidence: tuple[float, ...]
    right: tuple[float, ...]
    windows: tuple[int, ...]


class Curves(Form):
    """``pr``: x recall, y precision of anomalous. ``risk_coverage``: x coverage, y share of wrong
    answers."""

    pr: Curve | None
    reliability: Reliability | None
    risk_coverage: Curve | None


class DataUsed(Form):
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


class Machine(Form):
    """Where it ran."""

    system: str
    cpu: str
    cores: int
    memory_bytes: int
    accelerator: str = Field(description='"" where none was used')


RESULTS_VERSION = 1
INVALID = (
    "[invalid]"  # an answer that could not be read: counted beside the classes, never one of them
)


class _Measured(Form):
    model: str
    setting: str = Field(
        description='what the protocol varied, as "50 windows of the new site"; "" for nothing'
    )
    amount: float | None = Field(description="the same as a number, the x of a curve")
    labelling: Labelling
    scores: Mapping[str, Estimate] = Field(description="by name, all of MEASURES")
    per_label: Mapping[str, LabelScores] = Field(
        description="empty in a row: its confusion tells as much"
    )
    confusion: Confusion
    curves: Curves
    trained_windows: int
    tested_windows: int
    invalid: int = Field(description="unreadable answers; wrong in every score")
    abstained: int = Field(
        description="answers that serving would keep to itself; scored like any other"
    )
    seen_in_training: tuple[str, ...] = Field(
        description="test captures that the model's card names as training data"
    )
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

    ``seed_spread``: standard deviation between seeds of the scores; null with one seed.
    ``compared`` is false where the model had seen a test capture before: such a row stands in a
        table, but is compared with nothing.
    """

    folds: tuple[str, ...]
    seeds: tuple[int, ...]
    fold_mean: Mapping[str, float | None] = Field(
        description="mean of each score over folds and seeds"
    )
    seed_spread: Mapping[str, float | None]
    costs: Costs
    compared: bool


class Comparison(Form):
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


class Run(Form):
    """A whole file."""

    version: Literal[1] = 1
    kind: Literal["detection"] = "detection"
    name: str
    created: str = Field(description="ISO 8601, UTC")
    command: str
    commit: str = Field(
        description='git revision, with "+" where the checkout differed from it; "" outside one'
    )
    quick: bool = Field(
        description="smaller budgets: shows that it works, not what models are worth"
    )
    protocol: Mapping[str, JsonValue] = Field(
        description="the YAML's content, with the budgets that were used"
    )
    data: tuple[DataUsed, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    versions: Mapping[str, str]
    prompt_fingerprint: str
    machine: Machine
    rows: tuple[Row, ...]
    pooled: tuple[Pooled, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


def write_run(run: Run, folder: Path) -> Path:
    """Write ``<folder>/<run.name>.json``, whole or not at all, and say where.

    Rows take a line each: there are thousands, and a difference between two files shows which fit
        changed.

    Raises:
        UserError: it cannot be written.
    """
    path = folder / f"{run.name}.json"
    draft = folder / f"{run.name}.json.tmp"
    whole = run.model_copy(update={"rows": ()}).model_dump_json(indent=1)
    rows = ",\n".join(row.model_dump_json(exclude_defaults=True) for row in run.rows)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(
            whole.replace('\n "rows": [],', f'\n "rows": [\n{rows}\n ],', 1) + "\n",
            encoding="utf-8",
        )
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written ({error.strerror}); expected a writable folder with room; change --out"
        ) from error
    return path


def read_run(path: Path) -> Run:
    """Read what `write_run` wrote.

    Raises:
        UserError: it is missing, or of another form or version.
    """
    try:
        return Run.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'}); expected a run's results as "
            "JSON; make it by faultwise eval detection"
        ) from error
    except ValidationError as error:
        raise UserError(
            f"{path} is no file of results ({_first(error.errors(include_url=False, include_input=False)[0])}); "
            f"expected version {RESULTS_VERSION} as this release writes it; run its command again"
        ) from error


def _first(problem: Any) -> str:
    return f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"[:200]
