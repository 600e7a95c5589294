"""Conditions that need no model: hard evidence that something is broken, each conservative enough to raise an incident.

Every rule asks for need and for silence: somebody who keeps asking, and nobody who answers from then on. A router that
walks through its address pool asks once for each; a machine that was switched on later was never silent.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.facts.fact import Fact

__all__ = ["Evident", "slots_of"]


@dataclass(frozen=True)
class Evident:
    """A broken thing, known without a model.

    Attributes:
        device: the address that is absent, doubled or failing.
        label: one of ``LABELS``.
        role: ``source``, or ``target`` where somebody else, perhaps unknown, is the cause.
        fact: the sentence that says why.
        peers: who suffers, the most affected first.
        slots: where the evidence lies, int64, sorted.
    """

    device: str
    label: str
    role: str
    fact: Fact
    peers: tuple[str, ...]
    slots: np.ndarray


def slots_of(rows: pd.DataFrame) -> np.ndarray:
    """The distinct slots of evidence rows or moves, sorted, int64."""
    return np.unique(rows["slot"].to_numpy(np.int64))
