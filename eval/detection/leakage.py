"""Refuse data that would make good numbers worthless: leaks, duplicates, missing parts."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from eval.detection.corpus import LABELLINGS, Corpus
from eval.detection.splits import Fold, Protocol
from eval.models.features import FEATURES
from traffic.datasets.formats import FORMS
from traffic.errors import UserError
from traffic.labels import LABELS, MODBUS_SANDBOX, UNKNOWN
from traffic.windows import WINDOW_SAMPLES

_PCAPS = (".pcap", ".pcapng", ".cap")
_SHARED = 0.5  # of a capture's windows in another one: it is the same traffic
_DISTINCT = 40  # numbers other than zero in a window; quieter ones may be equal by chance
_LEAST_DEVICES, _LEAST_WINDOWS = 4, 6


def check_folder(data: Path) -> None:
    """Look for captures without their truth and truths without their capture.

    Raises:
        UserError: a part is missing, by its name.
    """
    if not data.is_dir():
        raise UserError(f"{data} is no folder; expected one with labelled captures; correct --data")
    files = sorted(path for path in data.rglob("*") if path.is_file())
    for path in files:
        for missing in _find_missing(path):
            raise UserError(
                f"{missing} is missing beside {path}; expected a capture and its truth together; "
                "put it there, or take the other away"
            )


def _find_missing(path: Path) -> list[Path]:
    """Parts that belong to this file and are not there."""
    folder, beside = path.parent, {entry.name for entry in path.parent.iterdir()}
    wanted: Sequence[str] = ()
    if path.name == "truth.json":
        wanted = ["capture.pcap"]
    elif path.name == "capture.pcap" or (path.name == "plant.yaml" and "capture.pcap" in beside):
        wanted = [] if "capture.csv" in beside else ["truth.json"]
    elif path.name == "truth.csv":
        wanted = ["conn.log"]
    elif path.name == "evidence.csv":
        wanted = ["truth.csv", "conn.log"]
    elif path.name.endswith("_labeled.csv"):
        wanted = [f"{path.name.removesuffix('_labeled.csv')}.pcap"]
    elif path.suffix == ".pcap" and path.name.startswith(tuple(MODBUS_SANDBOX)):
        wanted = [f"{path.stem}_labeled.csv"]
    elif path.suffix == ".csv" and path.stem not in ("sensors", "truth") and _holds_intervals(path):
        captured = any(f"{path.stem}{suffix}" in beside for suffix in (*_PCAPS, ".log"))
        wanted = [] if captured else [f"{path.stem}.pcap"]
    return [folder / name for name in wanted if name not in beside]


def _holds_intervals(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        columns = file.readline(4096).strip().split(",")
    return {"device", "start_s", "end_s", "label"} <= set(columns)


def find_unlabelled(data: Path) -> tuple[Path, ...]:
    """Packet captures without truth in folders that hold no labelled capture: they are left out."""
    files = sorted(path for path in data.rglob("*") if path.is_file())
    labelled = {path.parent for path in files if any(form.fits(path) for form in FORMS)}
    return tuple(path for path in files if path.suffix in _PCAPS and path.parent not in labelled)


def check_duplicates(corpus: Corpus) -> None:
    """Look for captures that hold the same traffic, whatever their names and times.

    Raises:
        UserError: two do.
    """
    distinctive = _distinctive(corpus)
    seen = [
        np.unique(corpus.window_hash[(corpus.capture == place) & distinctive])
        for place in range(len(corpus.captures))
    ]
    for one, other in combinations(range(len(seen)), 2):
        fewer = min(len(seen[one]), len(seen[other]))
        both = len(np.intersect1d(seen[one], seen[other], assume_unique=True))
        if (fewer and both > _SHARED * fewer) or corpus.hashes[one] == corpus.hashes[other]:
            names = sorted((corpus.captures[one].name, corpus.captures[other].name))
            raise UserError(
                f"captures {names[0]} and {names[1]} hold the same traffic ({both} equal windows); "
                "expected each capture once, or a model is tested on what it learned; take one away"
            )


def _distinctive(corpus: Corpus) -> np.ndarray:
    return np.asarray((corpus.features[:, :WINDOW_SAMPLES] != 0).sum(axis=(1, 2)) >= _DISTINCT)


def check_leaks(corpus: Corpus) -> None:
    """Look for a feature that identifies a device or a label.

    Such a number never changes for a device (or a label) and differs between them, as an address or
    a name does.

    Raises:
        UserError: there is one, by its name.
    """
    highest = corpus.features.max(axis=1)  # (windows, features); zeros stand for missing samples
    for place, name in enumerate(FEATURES):
        if _identifies(highest[:, place], corpus.device, _LEAST_DEVICES):
            _refuse_leak(name, "device", "an address or a name in a number")
        for labelling in LABELLINGS:
            known = corpus.labels[labelling] != UNKNOWN
            code = pd.factorize(corpus.labels[labelling][known])[0]
            if _identifies(highest[known, place], code, 3):
                _refuse_leak(name, "label", "the answer in the question")


def _identifies(values: np.ndarray, group: np.ndarray, least: int) -> bool:
    """Whether a number is nearly constant within groups, and different between most of them."""
    if not len(values):
        return False
    table = pd.DataFrame({"group": group, "value": values}).groupby("group")["value"]
    low, high, windows = table.quantile(0.05), table.quantile(0.95), table.size()
    enough = (windows >= _LEAST_WINDOWS).to_numpy()
    if enough.sum() < least:
        return False
    constant = (low == high).to_numpy()[enough]
    different = len(np.unique(low.to_numpy()[enough]))
    return bool(constant.mean() >= 0.95 and different >= max(least, 0.5 * enough.sum()))


def _refuse_leak(name: str, of: str, why: str) -> None:
    raise UserError(
        f"feature {name} tells the {of}: it never changes for one and differs between them ({why}); "
        "expected what a device does, not who it is; take the column out"
    )


def check_single_captures(corpus: Corpus, protocol: Protocol) -> None:
    """Look for labels that only one capture holds, where captures are left out.

    Raises:
        UserError: there are some, by name.
    """
    if protocol.split != "captures":
        return
    for labelling in LABELLINGS:
        labels = corpus.labels[labelling]
        for label in LABELS:
            places = np.unique(corpus.capture[labels == label])
            if len(places) == 1:
                raise UserError(
                    f"label {label} occurs in one capture only "
                    f"({corpus.captures[places[0]].name}, {labelling} labels); {protocol.name} can "
                    "learn it or test it, not both; expected two captures or more; add one, or "
                    f"leave it out by --without {label}"
                )


def check_split(corpus: Corpus, fold: Fold, split: str) -> None:
    """Look for traffic on both sides of a split.

    Raises:
        UserError: windows that are tested are learned from as well, or captures are split that must
            not be.
    """
    distinctive = _distinctive(corpus)
    train, test = (corpus.window_hash[rows[distinctive[rows]]] for rows in (fold.train, fold.test))
    both = np.isin(np.unique(test), train).sum()
    shared = set(corpus.names(fold.train)) & set(corpus.names(fold.test))
    if split in ("windows", "time", "drift"):  # these split captures
        shared = set()
    if shared or both > 0.01 * max(len(np.unique(test)), 1):
        names = f" (captures {', '.join(sorted(shared))})" if shared else ""
        raise UserError(
            f"to test {fold.name}, {both} of the windows tested would be learned from as well"
            f"{names}; expected different traffic on both sides; take doubles away"
        )
