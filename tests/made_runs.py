"""Results of runs made by hand: every number is chosen by the test that asks for it."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from eval.results import (
    MEASURES,
    Comparison,
    Confusion,
    Costs,
    Curve,
    Curves,
    DataUsed,
    Estimate,
    MachineFacts,
    Pooled,
    Reliability,
    Row,
    Run,
)

COSTS = Costs(
    fit_s=2.0,
    windows_per_s=500.0,
    cpu_s=3.0,
    peak_memory_bytes=10_000_000,
    model_bytes=1_000_000,
    energy_j=30.0,
    energy_from="CPU-seconds x stated watts",
    watts=10.0,
)
CONFUSION = Confusion(labels=("normal", "recon", "c2"), counts=((90, 8, 2), (1, 8, 1), (0, 2, 8)))
CURVES = Curves(
    pr=Curve(x=(0.0, 0.5, 1.0), y=(1.0, 0.9, 0.2)),
    reliability=Reliability(confidence=(0.3, 0.9), right=(0.25, 0.95), windows=(10, 90)),
    risk_coverage=Curve(x=(0.5, 1.0), y=(0.01, 0.1)),
)


def estimates(values: Mapping[str, Any]) -> dict[str, Estimate]:
    """All measures: those given as a value or as (value, low, high); the others are unknown."""
    given = {name: values.get(name) for name in MEASURES}
    ends = {
        name: one if isinstance(one, tuple) else (one, None, None) for name, one in given.items()
    }
    return {name: Estimate(value=one[0], low=one[1], high=one[2]) for name, one in ends.items()}


# What rows and means have in common, where a test does not say otherwise.
_ROW: dict[str, Any] = {
    **{"setting": "", "amount": None, "labelling": "corrected", "per_label": {}},
    **{"confusion": CONFUSION, "curves": CURVES, "costs": COSTS, "notes": ()},
    **{"trained_windows": 100, "tested_windows": 120, "invalid": 0, "abstained": 0},
    "seen_in_training": (),
}


def pooled(model: str, scores: Mapping[str, Any], **other: Any) -> Pooled:
    known = {**_ROW, "folds": ("a",), "seeds": (0,), "fold_mean": {}, "seed_spread": {}}
    known |= {"model": model, "scores": estimates(scores), "compared": True}
    return Pooled(**known | other)


def row(model: str, fold: str, scores: Mapping[str, Any], **other: Any) -> Row:
    known = {**_ROW, "fold": fold, "seed": 0, "train": ("b",), "test": (fold,)}
    return Row(**known | {"model": model, "scores": estimates(scores)} | other)


def data(name: str, sha256: str = "", form: str = "IoT-23", network: str = "IoT-23") -> DataUsed:
    """A capture; its content is its own where none is said."""
    sha256 = sha256 or hashlib.sha256(name.encode()).hexdigest()
    counts = {"normal": 100, "recon": 10, "c2": 10}
    unknown: dict[Any, int] = {"published": 0, "corrected": 0}
    where = {"name": name, "sha256": sha256, "form": form, "network": network}
    size = {"windows": 120, "devices": 4, "hours": 2.0}
    return DataUsed(**where, **size, published=counts, corrected=counts, unknown=unknown)


def comparison(
    model: str, other: str, difference: float, low: float, high: float, **more: Any
) -> Comparison:
    known: dict[str, Any] = {"setting": "", "labelling": "corrected", "measure": "f1"}
    known |= {"p_value": 0.01, "units": 12, "method": "paired bootstrap over devices"}
    ends = {"difference": difference, "low": low, "high": high}
    return Comparison(model=model, other=other, **ends, **known | more)


def run(
    rows: Sequence[Row] = (),
    means: Sequence[Pooled] = (),
    tests: Sequence[Comparison] = (),
    **other: Any,
) -> Run:
    """A run of these; its models and captures follow from them."""
    models = tuple(dict.fromkeys(one.model for one in [*rows, *means]))
    names = dict.fromkeys(name for one in rows for name in (*one.train, *one.test)) or ("a", "b")
    hardware = {"system": "Linux", "cpu": "x", "cores": 2, "memory_bytes": 24_000_000_000}
    known: dict[str, Any] = {
        **{"name": "loco", "created": "2026-11-21T12:00:00Z", "commit": "abc", "quick": False},
        "command": "faultwise eval detection",
        "protocol": {"name": "leave-one-capture-out"},
        "data": tuple(data(name) for name in names),
        **{"models": models, "seeds": (0,), "versions": {"numpy": "2"}, "prompt_fingerprint": "f"},
        "machine": MachineFacts(**hardware, accelerator=""),
        **{"rows": tuple(rows), "pooled": tuple(means), "comparisons": tuple(tests), "notes": ()},
    }
    return Run(**known | other)
