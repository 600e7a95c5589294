"""What one fit said about the windows of its fold: all that scores are made of, small enough to
keep for every fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.detection.alarms import Raised


@dataclass(frozen=True)
class Said:
    """What a model said about some windows, each of shape (n,).

    Attributes:
        code: places in ``eval.detection.metrics.ALL_SAID``.
        confidence: probability of what was said; 0 where it could not be read.
        alarm: probability that the window deserves an alarm; 0 where it could not be read.
        abstained: serving would keep the answer to itself.
    """

    code: np.ndarray
    confidence: np.ndarray
    alarm: np.ndarray
    abstained: np.ndarray

    def take(self, which: np.ndarray) -> "Said":
        """What was said about some of the windows."""
        return Said(
            self.code[which], self.confidence[which], self.alarm[which], self.abstained[which]
        )


@dataclass(frozen=True)
class Judged:
    """One fit on one fold.

    Attributes:
        rows: places in the corpus of the windows that are scored, shape (n,).
        said: about these.
        raised: incidents by capture's hash, so that no name decides an order; empty where none were
            made.
        delays: by capture's hash, seconds to the detection of each thing that truly happened, NaN
            where it never came; empty where the fold holds no whole captures.
    """

    rows: np.ndarray
    said: Said
    raised: Mapping[str, Raised]
    delays: Mapping[str, np.ndarray]


def write_judged(judged: Judged, path: Path) -> None:
    """Keep it, whole or not at all."""
    draft = path.with_suffix(".tmp")
    raised, delays = list(judged.raised.items()), list(judged.delays.items())
    with draft.open("wb") as file:
        np.savez_compressed(
            file,
            rows=judged.rows,
            code=judged.said.code.astype(np.int8),
            confidence=judged.said.confidence.astype(np.float32),
            alarm=judged.said.alarm.astype(np.float32),
            abstained=judged.said.abstained,
            raised_names=np.array([name for name, _ in raised], dtype=str),
            raised=np.array(
                [[one.incidents, one.false, one.minutes] for _, one in raised], float
            ).reshape(-1, 3),
            delay_names=np.array([name for name, _ in delays], dtype=str),
            delay_counts=np.array([len(one) for _, one in delays], np.int64),
            delays=np.concatenate([np.empty(0), *(one for _, one in delays)]),
        )
    draft.replace(path)


def read_judged(path: Path) -> Judged:
    """Read what `write_judged` kept."""
    with np.load(path, allow_pickle=False) as kept:
        said = Said(
            kept["code"].astype(np.int64), kept["confidence"], kept["alarm"], kept["abstained"]
        )
        raised = {
            str(name): Raised(int(row[0]), int(row[1]), float(row[2]))
            for name, row in zip(kept["raised_names"], kept["raised"], strict=True)
        }
        parts = (
            np.split(kept["delays"], np.cumsum(kept["delay_counts"])[:-1])
            if len(kept["delay_counts"])
            else []
        )
        delays = {str(name): part for name, part in zip(kept["delay_names"], parts, strict=True)}
        return Judged(kept["rows"], said, raised, delays)
