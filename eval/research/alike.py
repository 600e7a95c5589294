"""From which likeness on a past incident is the same cause again: the bound of `knowledge_base.likeness`.

    python -m eval.research.alike [--plants 4] [--false-share 0.01]

Plants are simulated with one cause each, judged as the product judges a capture, and the incidents
at the devices of the truth are compared in pairs, never two of one plant. The same cause is the same
sentence of the truth without its addresses and numbers ("# calls #, which does not exist"), seen
from the same side. Half of the plants set the bound: the least one that shows at most
``--false-share`` of the pairs of other causes. What it does is measured on the other half.
Shares are means over causes; their intervals resample causes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Annotated

import numpy as np
import typer

from assistant.detection.pipeline import analyse_capture
from assistant.llm.adapters import POCKET, AdapterCard, load_adapter
from assistant.llm.local import LocalLLM
from assistant.outcomes import make_signs
from eval.detection.bootstrap import resample_mean
from eval.research.command import start
from knowledge_base.likeness import LEAST, likeness
from traffic.labels import LABELS, NORMAL
from traffic.simulation.simulate import simulate

_FIRST_SEED = 9600  # no model was trained with these plants, and no case asks about them
_DEVICES, _HOURS = 8, 0.25
_STEP = 0.01  # of the bound
_NAMES = re.compile(r"\b[\w-]*\d[\w.:%-]*")  # addresses, ports, shares, names of devices


@dataclass(frozen=True)
class Past:
    """An incident of a simulated plant.

    Attributes:
        plant: the seed.
        cause: the truth without names and numbers, and the side it was seen from.
        signs: as ``knowledge_base.likeness`` has them.
    """

    plant: int
    cause: str
    signs: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Two incidents of different plants."""

    cause: str
    same: bool
    alike: float


def gather(plant: int, label: str, llm: LocalLLM, card: AdapterCard) -> list[Past]:
    """Simulate a plant with one cause; its incidents at a time and a device that the truth names."""
    made = simulate(plant, _DEVICES, _HOURS, [label])
    flows = made.capture.flows.drop(columns=["label"], errors="ignore")
    analysis = analyse_capture(replace(made.capture, flows=flows), llm, card, made.plant)
    found = []
    for incident in analysis.incidents:
        concerned = made.truth["cause"].str.contains(incident.device, regex=False)
        rows = made.truth[
            ((made.truth["device"] == incident.device) | concerned)
            & (made.truth["start_s"] <= incident.end_s)
            & (made.truth["end_s"] >= incident.start_s)
        ]
        for row in rows.head(1).itertuples():
            cause = f"{_NAMES.sub('#', str(row.cause))} ({row.direction})"
            found.append(Past(plant, cause, make_signs(incident, analysis)))
    return found


def compare(past: Sequence[Past]) -> list[Pair]:
    """How alike incidents of different plants are."""
    return [
        Pair(one.cause, one.cause == other.cause, likeness(one.signs, other.signs))
        for one, other in combinations(past, 2)
        if one.plant != other.plant
    ]


def fit_bound(pairs: Sequence[Pair], false_share: float) -> float:
    """The least bound that at most a share of the pairs of other causes reaches."""
    others = np.array([pair.alike for pair in pairs if not pair.same])
    bounds = np.arange(_STEP, 1 + _STEP, _STEP)
    return next(float(round(one, 2)) for one in bounds if (others >= one).mean() <= false_share)


def describe(pairs: Sequence[Pair], bound: float) -> str:
    """One line: shares of pairs that the bound shows, means over causes with 95 % intervals."""
    parts = [f"bound {bound:.2f}"]
    for words, same in (("same cause shown", True), ("other cause shown", False)):
        by_cause: dict[str, list[bool]] = {}
        for pair in pairs:
            if pair.same == same:
                by_cause.setdefault(pair.cause, []).append(pair.alike >= bound)
        share = resample_mean([float(np.mean(hits)) for hits in by_cause.values()])
        count = sum(map(len, by_cause.values()))
        parts.append(
            f"{words} {share.value:.3f} ({share.low:.2f} to {share.high:.2f}) "
            f"of {count} pairs, {len(by_cause)} causes"
        )
    return "; ".join(parts)


def main(
    plants: Annotated[int, typer.Option(help="Of each label.")] = 4, false_share: float = 0.01
) -> None:
    """Fit on the even plants, and print what the bound does on the odd ones."""
    llm, card = load_adapter(POCKET)
    past = []
    for number, label in enumerate(one for one in LABELS if one != NORMAL):
        for n in range(plants):
            past += gather(_FIRST_SEED + plants * number + n, label, llm, card)
            typer.echo(f"\r{label} {n + 1}/{plants}   ", nl=False, err=True)
    typer.echo(err=True)
    fitted = compare([one for one in past if one.plant % 2 == 0])
    held_out = compare([one for one in past if one.plant % 2])
    bound = fit_bound(fitted, false_share)
    for name, pairs, at in (
        ("fitted on", fitted, bound),
        ("held out", held_out, bound),
        ("held out, as it ships", held_out, LEAST),
    ):
        typer.echo(f"{name}: {describe(pairs, at)}")


if __name__ == "__main__":
    start(main)
