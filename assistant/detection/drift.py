"""Notice that a site's windows no longer look as they did when its bounds were fitted.

    quiet time    mean P(anomalous) of each minute ─┐
    from then on  the same ─────────────────────────┴▶ p-values ─▶ martingale ≥ 1000: since when

A conformal test martingale (Vovk, Gammerman, Shafer 2022, Algorithmic Learning in a Random World,
ch. 8; crepes' simple jumper) is money that bets on p-values being small. While minutes are drawn as
those of the quiet time were it reaches 1000 with probability 1/1000 at most, however long one
looks. Minutes of a plant depend on each other, so the bound is no promise; what it gives on quiet
plants is measured by `python -m eval.research.drift`, and so is what it finds. Windows would depend
more: a window a device and minute counts, none overlap, and their mean stands for all devices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from assistant.facts.moments import show_utc
from traffic.capture import SAMPLE_S
from traffic.files import Strict, read_json, write_text
from traffic.labels import NORMAL
from traffic.windows import WINDOW_SAMPLES

USUAL = "usual.json"  # beside an adapter's card
BOUND = 1000.0
LEAST_MINUTES = 20  # of a quiet time: fewer give no p-value below 1/21
_MINUTE_S = WINDOW_SAMPLES * SAMPLE_S
_SEED = 0  # of ties between p-values, and of the order of the quiet minutes
_NAMED = 3
_LOW = 0.25


class Usual(Strict):
    """Mean P(anomalous) of each minute of a site's quiet time; no address, no time of day."""

    minutes: tuple[Annotated[float, Field(ge=0, le=1)], ...]


@dataclass(frozen=True)
class Drift:
    """Since when windows look other than in the quiet time.

    Attributes:
        since_s: the minute from which on the evidence grew, seconds since the epoch.
        noticed_s: the minute in which it was enough.
        usual, now: mean P(anomalous), in the quiet time and since.
        devices: that it comes from, the most first.
    """

    since_s: float
    noticed_s: float
    usual: float
    now: float
    devices: tuple[str, ...]


def write_usual(verdicts: pd.DataFrame, folder: Path) -> None:
    """Keep beside an adapter what is usual at its site.

    Args:
        verdicts: of windows in which nothing was wrong, as `assistant.detection.classify` gives
            them.
        folder: the adapter's; a short time leaves nothing there.
    """
    minutes = take_minutes(verdicts)["odd"].groupby(level=0).mean()
    if len(minutes) >= LEAST_MINUTES:
        usual = Usual(minutes=tuple(round(float(one), 6) for one in minutes))
        write_text(folder / USUAL, usual.model_dump_json() + "\n")


def read_usual(folder: Path) -> tuple[float, ...]:
    """What `write_usual` kept; nothing where it kept none.

    Raises:
        UserError: the file is something else.
    """
    file = folder / USUAL
    if not file.is_file():
        return ()
    return read_json(file, Usual, "what `faultwise finetune refresh --quiet` writes").minutes


def find_drift(
    verdicts: pd.DataFrame, usual: Sequence[float], bound: float = BOUND
) -> Drift | None:
    """Hold windows against a quiet time.

    Args:
        verdicts: of all windows of a capture.
        usual: from `read_usual`, at least ``LEAST_MINUTES``.
        bound: what the martingale has to reach.

    Returns:
        None where they look alike, or nothing is there to compare.
    """
    rows = take_minutes(verdicts)
    if len(usual) < LEAST_MINUTES or rows.empty:
        return None
    minutes = rows["odd"].groupby(level=0).mean()
    p_values = rank_minutes(usual, minutes.to_numpy())
    grown = bet(p_values)
    if grown.max() < bound:
        return None
    noticed = int(np.argmax(grown >= bound))
    # The martingale wavers before it grows; p-values of a changed plant lie below a quarter.
    below = np.cumsum(_LOW - p_values[noticed::-1])
    since = minutes.index[noticed - int(np.argmax(below))]
    after = rows[rows.index >= since]
    shares = after.groupby("device")["odd"].sum().sort_values(ascending=False, kind="stable")
    return Drift(
        since_s=float(since) * _MINUTE_S,
        noticed_s=float(minutes.index[noticed]) * _MINUTE_S,
        usual=float(np.mean(usual)),
        now=float(minutes.loc[since:].mean()),
        devices=tuple(map(str, shares.index[:_NAMED])),
    )


def rank_minutes(usual: Sequence[float], minutes: np.ndarray) -> np.ndarray:
    """A p-value for each minute against the quiet ones and the minutes before it, shape of
    ``minutes``: small where it is larger than they."""
    # Imported late: crepes brings scikit-learn, and only sites with a quiet time of their own need it.
    from crepes.martingales import semi_online_p_values

    reference = np.random.default_rng(_SEED).permutation(np.asarray(usual, float))
    ranked: np.ndarray = semi_online_p_values(np.concatenate([reference, minutes]), seed=_SEED)
    return ranked[len(reference) :]


def bet(p_values: np.ndarray) -> np.ndarray:
    """The martingale after each p-value, of the same shape.

    It bets on small ones only: a plant that has become calmer needs no new bounds.
    """
    from crepes.martingales import EpsilonBettingFunction, SimpleJumper

    grown: np.ndarray = SimpleJumper(bf=EpsilonBettingFunction(E=[-1, -0.5, 0])).apply(p_values)
    return grown


def render_drift(drift: Drift, names: Sequence[str] = ()) -> str:
    """A sentence for an operator; ``names`` in place of the devices' addresses."""
    return (
        f"since {show_utc(drift.since_s)} the windows of this site look unlike its quiet time: P(anomalous) is "
        f"{drift.now:.3f} in the mean, it was {drift.usual:.3f}; most of it {', '.join(names or drift.devices)}. "
        "Look at the incidents first; where they are none, the plant has changed and its bounds no "
        "longer hold: `faultwise finetune refresh`"
    )


def take_minutes(verdicts: pd.DataFrame) -> pd.DataFrame:
    """``device odd`` of the windows that start with a minute, indexed by its number."""
    slot = np.rint(verdicts["start_s"].to_numpy(float) / SAMPLE_S).astype(np.int64)
    first = slot % WINDOW_SAMPLES == 0
    odd = 1.0 - verdicts[f"p_{NORMAL}"].to_numpy(float)[first]
    device = verdicts["device"].to_numpy(object)[first]
    table = pd.DataFrame({"device": device, "odd": odd}, index=slot[first] // WINDOW_SAMPLES)
    return table.sort_index(kind="stable")
