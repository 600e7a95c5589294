"""The form of a rule: what it finds needs no model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.facts.fact import Fact
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S


@dataclass(frozen=True)
class RuleHit:
    """A broken thing, known without a model.

    Attributes:
        device: the address that is absent, doubled or failing.
        label: one of ``LABELS``.
        role: ``source``, or ``target`` where somebody else, perhaps unknown, is the cause.
        facts: the sentences that say why, the one that answers first.
        peers: who suffers, the most affected first.
        slots: where the evidence lies, int64, sorted.
        rules_out: labels that this explains where a model gives them to the same two.
        gone: addresses at which nobody is: this explains whatever fault anybody has with these alone.
    """

    device: str
    label: str
    role: str
    facts: tuple[Fact, ...]
    peers: tuple[str, ...]
    slots: np.ndarray
    rules_out: frozenset[str] = frozenset()
    gone: tuple[str, ...] = ()

    @property
    def fact(self) -> Fact:
        """The sentence that says why."""
        return self.facts[0]


@dataclass(frozen=True)
class Rule:
    """One rule, a row of the table in ``rules/__init__.py``.

    Attributes:
        find: what it finds in a capture.
        confirms: kinds of its facts that prove the cause.
        suggests: kinds of its facts that make the cause likely, and leave it open.
        rules_out: labels that a model may give to the same traffic of the same two, and that this
            cause explains.
        headlines: kinds of its facts that answer a question by themselves, in one sentence.
        yields_to: kinds of other rules' facts that say more of the same traffic of the same devices;
            beside these it says nothing.
    """

    find: Callable[[TrafficView], list[RuleHit]]
    confirms: frozenset[str] = frozenset()
    suggests: frozenset[str] = frozenset()
    rules_out: frozenset[str] = frozenset()
    headlines: frozenset[str] = frozenset()
    yields_to: frozenset[str] = frozenset()


def slots_of(rows: pd.DataFrame) -> np.ndarray:
    """The distinct slots of rows, sorted, int64."""
    return np.unique(rows["slot"].to_numpy(np.int64))


def slots_at(ts: pd.Series) -> np.ndarray:
    """The distinct slots of some moments in seconds, sorted, int64."""
    return np.unique(np.floor(ts.to_numpy() / SAMPLE_S).astype(np.int64))


def beside(rows: pd.DataFrame, peaks: pd.DataFrame) -> pd.DataFrame:
    """Rows in the slots of peaks and next to them: what peaks begins and ends inside a slot."""
    near = np.unique(peaks["slot"].to_numpy()[:, None] + np.arange(-1, 2))
    return rows[np.isin(rows["slot"], near)]
