"""Parts of a file of results: numbers with their intervals, costs, curves, what was read and where it ran."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    *["Confusion", "Costs", "Curve", "Curves", "DataUsed", "Estimate", "Form", "LabelScores", "Labelling", "Machine"],
    "Reliability",
]

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
        peak_memory_bytes: most memory that the process held, above what it held before the model was made.
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
    """``counts[i][j]``: windows of true label ``labels[i]`` that were said to be ``labels[j]``; the last column may be
    INVALID, whose row is all zeros."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Curve(Form):
    """Points of a curve, at most 101."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Reliability(Form):
    """Bins of the said label's probability: mean probability, share that was right, windows. Empty bins are left out"""

    confidence: tuple[float, ...]
    right: tuple[float, ...]
    windows: tuple[int, ...]


class Curves(Form):
    """``pr``: x recall, y precision of anomalous. ``risk_coverage``: x coverage, y share of wrong answers."""

    pr: Curve | None
    reliability: Reliability | None
    risk_coverage: Curve | None


class DataUsed(Form):
    """One capture: ``sha256`` is of its content (windows, features and truth), so that renaming changes nothing.

    ``network`` groups captures of one origin; ``unknown`` counts windows left out because their truth is not settled;
    ``published`` and ``corrected`` count windows by label.
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
