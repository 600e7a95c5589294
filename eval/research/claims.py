"""Claims that a run can decide: small forms in a hypothesis's file, and what the numbers say of each.

A claim holds where its interval lies wholly on the right side of its bound, fails where it lies wholly on the other,
and is open where the bound lies inside, or where the number is not there. Bounds are fixed in the file before any run.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from eval.differences import State
from eval.measures import MEASURES
from eval.results import Labelling

__all__ = ["AnswersClaim", "Beats", "Changes", "Claim", "Costs", "Labels", "Outcome", "Place", "Reaches"]
__all__ += ["LLM", "Renamed", "Retrieves"]

LLM = "llm"  # stands in a file for the language model that is asked about


@dataclass(frozen=True)
class Outcome:
    """What the numbers say of a claim, and the numbers."""

    state: State
    text: str


class _Form(BaseModel):
    """A file from outside: nothing extra passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Claim(_Form):
    """``says`` in words; where ``beside`` it is shown and decides nothing."""

    says: str
    beside: bool = False
    labelling: Labelling = "corrected"


class _Bounded(_Claim):
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> "_Bounded":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("expected one of at_least and at_most")
        return self

    @property
    def bound(self) -> str:
        """The bound in words."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"


def _known(measure: str) -> str:
    if measure not in MEASURES:
        raise ValueError(f"no measure is called {measure}")
    return measure


class Beats(_Claim):
    """One model is better than each of the others, by more than ``margin``, on the same windows."""

    kind: Literal["beats"]
    protocol: str
    setting: str = ""
    model: str
    others: tuple[str, ...] = Field(min_length=1)
    measure: str
    margin: float = Field(0.0, ge=0)

    _measure = field_validator("measure")(_known)


class Reaches(_Bounded):
    """A model's measure keeps a bound, in one setting or, with ``setting: every``, in each."""

    kind: Literal["reaches"]
    protocol: str
    setting: str = ""
    model: str
    measure: str

    _measure = field_validator("measure")(_known)


class Place(_Form):
    """A protocol and one of its settings."""

    protocol: str
    setting: str = ""


class Changes(_Bounded):
    """How much a model's measure changes from one place to another keeps a bound.

    ``learns``: only a model that is trained inside the run can decide it.
    """

    kind: Literal["changes"]
    before: Place
    after: Place
    model: str
    measure: str
    learns: bool = False

    _measure = field_validator("measure")(_known)


class Labels(_Bounded):
    """Every label of an anomaly with at least ``windows`` windows keeps a bound."""

    kind: Literal["labels"]
    protocol: str
    model: str
    measure: Literal["precision", "recall", "f1"]
    windows: int = Field(ge=1)


class Costs(_Bounded):
    """What a model costs keeps a bound; costs are measured once and have no interval."""

    kind: Literal["costs"]
    protocol: str
    model: str
    cost: Literal["fit_s", "windows_per_s", "cpu_s", "peak_memory_bytes", "model_bytes", "energy_j"]


class Retrieves(_Bounded):
    """A way of searching keeps a bound; ``variant`` is the beginning of its name."""

    kind: Literal["retrieves"]
    variant: str
    measure: Literal[
        "recall_at_1", "recall_at_5", "mrr", "ndcg_at_10", "refused_rightly", "refused_wrongly", "seconds_per_question"
    ]


class Renamed(_Claim):
    """The shipped capture gives the same texts under other addresses; decided by doing it, not by a run."""

    kind: Literal["renamed"]


class AnswersClaim(_Bounded):
    """A share of the answers keeps a bound."""

    kind: Literal["answers"]
    measure: str


Claim = Annotated[
    Beats | Reaches | Changes | Labels | Costs | Retrieves | Renamed | AnswersClaim, Field(discriminator="kind")
]
