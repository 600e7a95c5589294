"""Labelled captures: what models are trained on and judged by. A capture is one unit, wherever data are split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from traffic.capture import Capture
from traffic.corrections import label_flows
from traffic.errors import UserError
from traffic.labels import FAULTS, UNKNOWN
from traffic.samples import make_samples
from traffic.simulate import simulate
from traffic.sources import read_capture
from traffic.truth import label_windows
from traffic.windows import Windows, make_windows

__all__ = ["Labelled", "find_labelled", "load_labelled", "simulate_labelled"]


@dataclass(frozen=True)
class Labelled:
    """The windows of one capture with their truth; windows whose truth is unknown are left out.

    Attributes:
        name: names the capture in a model's card; nothing is ever read from it.
        windows: ``table`` holds ``label`` and ``direction``.
        unknown: how many windows were left out.
    """

    name: str
    windows: Windows
    unknown: int


def find_labelled(folder: Path) -> list[Path]:
    """Every labelled Zeek log below a folder, sorted.

    Raises:
        UserError: there is none.
    """
    found = sorted(folder.rglob("conn.log.labeled"))
    if not found:
        raise UserError(
            f"{folder} holds no conn.log.labeled; expected IoT-23's form, a folder per capture; check --data"
        )
    return found


def load_labelled(path: Path, corrected: bool = True) -> Labelled:
    """Read a labelled Zeek log.

    Args:
        path: a ``conn.log.labeled`` as IoT-23 publishes it; its folder's name becomes the capture's.
        corrected: apply ``traffic/corrections``; otherwise the labels count as published.

    Raises:
        UserError: the log cannot be read or holds no labels.
    """
    capture = read_capture(path)
    if "detailed-label" not in capture.flows:
        raise UserError(
            f"{path} has no column detailed-label; expected a labelled Zeek log as in IoT-23; name another file"
        )
    return _label(path.parent.name, capture, label_flows(capture.flows, corrected), None)


def simulate_labelled(
    seed: int, devices: int, hours: float, scenarios: Sequence[str] | None = None, quiet: bool = False
) -> Labelled:
    """A simulated plant's windows; each seed is a capture of its own."""
    plant = simulate(seed, devices, hours, scenarios, quiet)
    # Attacks are told by the flows they are made of; only what leaves no flow of its own is told by its interval.
    faults = plant.truth[plant.truth["label"].isin([*FAULTS, "spoofing"])]
    return _label(f"simulated-{seed}", plant.capture, plant.capture.flows["label"], faults)


def _label(name: str, capture: Capture, flow_labels: pd.Series, intervals: pd.DataFrame | None) -> Labelled:
    windows = label_windows(make_windows(make_samples(capture)), capture, flow_labels, intervals)
    known = (windows.table["label"] != UNKNOWN).to_numpy()
    return Labelled(name, windows.take(known), int((~known).sum()))
