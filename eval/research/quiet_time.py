"""What fitting alarms to a quiet time gives on the rest of the same plant's traffic.

    python -m eval.research.quiet_time CAPTURE... [--share 0.5] [--false-share 0.005] [--adapter FOLDER]

The normal windows of the first part of a capture set the bounds, as `faultwise finetune refresh
--quiet` does; the rest is judged with them and without. A capture without an inventory has one
bound. One that the adapter learned from is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from assistant.detection.classify import classify, find_alarms
from assistant.llm.adapters import POCKET, AdapterCard, load_adapter
from assistant.llm.calibration import fit_role_bounds
from assistant.llm.local import LocalLLM
from eval.report.tables import ReportTable, render_table
from eval.research.command import Out, publish, start
from traffic.datasets import load_labelled
from traffic.errors import UserError
from traffic.labels import NORMAL


@dataclass(frozen=True)
class Rest:
    """The part of a capture that set no bound: shares of its windows that are alarmed.

    Attributes:
        name: of the capture.
        quiet: windows that set the bounds.
        normal, odd: windows of the rest by truth.
        false_before, false_after: of the normal ones, by the card's bound and by the fitted ones.
        found_before, found_after: of the anomalous ones.
    """

    name: str
    quiet: int
    normal: int
    odd: int
    false_before: float
    false_after: float
    found_before: float
    found_after: float


def judge_rest(
    path: Path, llm: LocalLLM, card: AdapterCard, share: float, false_share: float
) -> Rest:
    """Fit bounds on the first part of a labelled capture, and judge the rest.

    Args:
        path: of the capture.
        llm: the model with the card's adapter.
        card: what it was trained on.
        share: of the capture's time, what sets the bounds.
        false_share: of quiet windows, those that may be alarmed.

    Raises:
        UserError: the adapter knows it, or its first part holds too few windows.
    """
    one = load_labelled(path)
    if one.name in (*card.data, *card.split.get("calibrate", ())):
        raise UserError(
            f"{path} was learned from or calibrated on by {card.name}; expected a capture that it "
            "never saw; leave it out"
        )
    verdicts = classify(one.windows, llm, card)
    odd = 1.0 - verdicts[f"p_{NORMAL}"].to_numpy(float)
    true = one.windows.table["label"].to_numpy(object) != NORMAL
    start_s = verdicts["start_s"].to_numpy(float)
    until_s = start_s.min() + share * np.ptp(start_s)
    first = (start_s < until_s) & ~true
    # Windows that straddle the border share samples with those before it.
    rest = start_s >= until_s + 60.0
    roles = {device.address: device.role for device in one.plant.devices} if one.plant else {}
    role = verdicts["device"].map(lambda device: roles.get(device, "")).to_numpy(str)
    bounds = fit_role_bounds(odd[first], role[first], card.threshold, false_share)
    if not bounds:
        raise UserError(
            f"{path} has {int(first.sum())} normal windows in its first part; expected "
            f"{round(1 / false_share)} or more; give a longer capture or a larger --share"
        )
    fitted = card.model_copy(update={"role_thresholds": bounds})
    alarms = find_alarms(fitted, verdicts["device"], one.plant)
    before, after = odd >= card.threshold, odd >= alarms
    normal, anomalous = rest & ~true, rest & true
    return Rest(
        one.name, int(first.sum()), int(normal.sum()), int(anomalous.sum()),
        *(_mean(which[of]) for of in (normal, anomalous) for which in (before, after)),
    )  # fmt: skip


def _mean(which: np.ndarray) -> float:
    return float(which.mean()) if len(which) else float("nan")


def render_rest(rows: Sequence[Rest], command: str) -> str:
    """Markdown: a row a capture, and all of their windows together."""
    table = pd.DataFrame([vars(one) for one in rows])
    weights = {"false": table["normal"], "found": table["odd"]}
    sums = [
        float((table[f"{kind}_{when}"].fillna(0.0) * weights[kind]).sum() / weights[kind].sum())
        if weights[kind].sum()
        else float("nan")
        for kind in ("false", "found")
        for when in ("before", "after")
    ]
    counts = (int(table[name].sum()) for name in ("quiet", "normal", "odd"))
    heads = (
        "capture", "quiet windows", "normal after", "anomalous after", "false before", "false fitted",
        "alarmed before", "alarmed fitted",
    )  # fmt: skip
    cells = [_cells(one) for one in (*rows, Rest("all", *counts, *sums))]
    note = f"Made by `{command}`; the bounds are those of the windows before."
    return (
        render_table(ReportTable("After a quiet time", heads, tuple(cells), notes=(note,))) + "\n"
    )


def _cells(one: Rest) -> tuple[str, ...]:
    shares = (one.false_before, one.false_after, one.found_before, one.found_after)
    said = ("–" if np.isnan(share) else f"{share:.1%}" for share in shares)
    return (one.name, f"{one.quiet:,}", f"{one.normal:,}", f"{one.odd:,}", *said)


def main(
    captures: list[Path],
    share: float = 0.5,
    false_share: float = 0.005,
    adapter: Path = POCKET,
    out: Out = None,
) -> None:
    """Judge captures and print or write the table."""
    llm, card = load_adapter(adapter)
    rows = [judge_rest(one, llm, card, share, false_share) for one in captures]
    options = f"--share {share:g} --false-share {false_share:g}"
    report = render_rest(rows, f"python -m eval.research.quiet_time CAPTURE... {options}")
    publish(report, out)


if __name__ == "__main__":
    start(main)
