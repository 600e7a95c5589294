"""results/<run>.json: everything that a run of the detection harness measured, and with what.

One row is one model that was fitted once: model x fold x setting x seed x labelling. A pooled row is one model over
all folds and seeds of a setting and labelling. A number that cannot be measured is null, never 0.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError, field_validator

from eval.measures import MEASURES
from eval.result_parts import (
    Confusion,
    Costs,
    Curve,
    Curves,
    DataUsed,
    Estimate,
    Form,
    Labelling,
    LabelScores,
    Machine,
    Reliability,
)
from traffic.errors import UserError
from traffic.labels import LABELS

__all__ = [
    "INVALID",
    "MEASURES",
    "RESULTS_VERSION",
    "Comparison",
    "Confusion",
    "Costs",
    "Curve",
    "Curves",
    "DataUsed",
    "Estimate",
    "LabelScores",
    "Labelling",
    "Machine",
    "Pooled",
    "Reliability",
    "Row",
    "Run",
    "read_run",
    "write_run",
]

RESULTS_VERSION = 1
INVALID = "[invalid]"  # an answer that could not be read: counted beside the classes, never one of them


class _Measured(Form):
    model: str
    setting: str = Field(description='what the protocol varied, as "50 windows of the new site"; "" for nothing')
    amount: float | None = Field(description="the same as a number, the x of a curve")
    labelling: Labelling
    scores: Mapping[str, Estimate] = Field(description="by name, all of MEASURES")
    per_label: Mapping[str, LabelScores] = Field(description="empty in a row: its confusion tells as much")
    confusion: Confusion
    curves: Curves
    trained_windows: int
    tested_windows: int
    invalid: int = Field(description="unreadable answers; wrong in every score")
    abstained: int = Field(description="answers that serving would keep to itself; scored like any other")
    seen_in_training: tuple[str, ...] = Field(description="test captures that the model's card names as training data")
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
    """One model over all folds and seeds: scores of all its test windows together, costs as means of its fits.

    ``seed_spread``: standard deviation between seeds of the scores; null with one seed. ``compared`` is false where the
    model had seen a test capture before: such a row stands in a table, but is compared with nothing.
    """

    folds: tuple[str, ...]
    seeds: tuple[int, ...]
    fold_mean: Mapping[str, float | None] = Field(description="mean of each score over folds and seeds")
    seed_spread: Mapping[str, float | None]
    costs: Costs
    compared: bool


class Comparison(Form):
    """A paired test of two models on the same windows: ``difference`` is ``model``'s minus ``other``'s measure.

    The interval and ``p_value`` (two-sided) are of a bootstrap over ``units`` devices, never over windows.
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
    commit: str = Field(description='git revision, with "+" where the checkout differed from it; "" outside one')
    quick: bool = Field(description="smaller budgets: shows that it works, not what models are worth")
    protocol: Mapping[str, JsonValue] = Field(description="the YAML's content, with the budgets that were used")
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

    Rows take a line each: there are thousands, and a difference between two files shows which fit changed.

    Raises:
        UserError: it cannot be written.
    """
    path = folder / f"{run.name}.json"
    draft = folder / f"{run.name}.json.tmp"
    whole = run.model_copy(update={"rows": ()}).model_dump_json(indent=1)
    rows = ",\n".join(row.model_dump_json(exclude_defaults=True) for row in run.rows)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(whole.replace('\n "rows": [],', f'\n "rows": [\n{rows}\n ],', 1) + "\n", encoding="utf-8")
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
