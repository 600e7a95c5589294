"""A labelled capture as the harness needs it: all windows under both labellings, and the tables incidents come from.

Reading a large capture takes minutes, so what was made of it is kept, under a key of every byte that it was made from
and of the code that made it. Names of files never enter the key, the numbers or the truth.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import traffic
from eval.results import Labelling
from traffic.capture import SAMPLE_S, Capture
from traffic.datasets.formats import FORMS, Form, Marked, label_flows
from traffic.datasets.labelled import name_capture
from traffic.datasets.truth import label_samples, label_windows
from traffic.errors import UserError
from traffic.labels import NORMAL, UNKNOWN
from traffic.plant import Plant, load_plant
from traffic.samples import make_samples
from traffic.windows import Windows, make_windows

__all__ = ["LABELLINGS", "LabelledCapture", "load_capture"]

LABELLINGS: tuple[Labelling, ...] = ("published", "corrected")
# Between two samples of one label: shorter breaks belong to one happening, as between two beacons.
_BRIDGED_S = 600.0
_TABLES = ("flows", "activity", "evidence", "samples", "windows", "intervals")
# What may lie beside a capture and say something about it: logs of other protocols, truth, the inventory.
_BESIDE = (".log", ".csv", ".json", ".yaml", ".labeled", ".gz")


@dataclass(frozen=True)
class LabelledCapture:
    """One capture.

    Attributes:
        name: for tables; nothing is read from it.
        form: of its files, one of ``traffic.datasets.formats.FORMS``.
        network: captures of one origin share it.
        capture: flows, activity and evidence.
        windows: all of them; ``table`` holds ``published`` and ``corrected``, our labels or ``unknown``.
        intervals: ``labelling device label start_s end_s``: what truly happened, breaks of ten minutes bridged.
        plant: the inventory, where there is one.
    """

    name: str
    form: str
    network: str
    capture: Capture
    windows: Windows
    intervals: pd.DataFrame
    plant: Plant | None


def load_capture(path: Path, kept: Path) -> LabelledCapture:
    """Read a capture that ``traffic.datasets.labelled.find_labelled`` found, or what was kept of it.

    Args:
        path: of the capture.
        kept: the folder where captures are kept.

    Raises:
        UserError: it or its truth cannot be read.
    """
    form = next((form for form in FORMS if form.fits(path)), None)
    if form is None:
        raise UserError(f"{path} has no truth beside it; expected one of the forms of labelled captures; add its truth")
    folder = kept / _key(path, form)
    if not (folder / "notes.json").is_file():
        _keep(_make(path, form), folder)
    return _read(path, form, folder)


def _make(path: Path, form: Form) -> LabelledCapture:
    marked = form.load(path)
    windows = make_windows(make_samples(marked.capture, marked.plant))
    table, intervals = windows.table, []
    for labelling in LABELLINGS:
        labels = _flow_labels(marked, labelling)
        told = label_windows(windows, marked.capture, labels, marked.intervals)
        table = table.assign(**{labelling: told.table["label"].to_numpy(object)})
        truth = label_samples(windows.samples, marked.capture, labels, marked.intervals)
        intervals.append(_find_intervals(windows.samples.assign(label=truth["label"])).assign(labelling=labelling))
    windows = Windows(windows.samples, table, windows.rows)
    name, network = name_capture(path), _network(path, form)
    return LabelledCapture(name, form.name, network, marked.capture, windows, pd.concat(intervals), marked.plant)


def _flow_labels(marked: Marked, labelling: Labelling) -> pd.Series:
    return marked.labels if marked.labels is not None else label_flows(marked.capture.flows, labelling == "corrected")


def _find_intervals(samples: pd.DataFrame) -> pd.DataFrame:
    """Stretches in which a device's samples have one label other than normal: ``device label start_s end_s``."""
    told = samples.loc[~samples["label"].isin([NORMAL, UNKNOWN]), ["device", "label", "start_s"]]
    told = told.sort_values(["device", "label", "start_s"], kind="stable")
    same = (told["device"] == told["device"].shift()) & (told["label"] == told["label"].shift())
    stretch = (~same | (told["start_s"].diff() > _BRIDGED_S)).cumsum().rename("stretch")
    found = told.groupby(stretch).agg(
        device=("device", "first"), label=("label", "first"), start_s=("start_s", "min"), end_s=("start_s", "max")
    )
    return found.assign(end_s=found["end_s"] + SAMPLE_S).reset_index(drop=True)


def _network(path: Path, form: Form) -> str:
    """Where a capture comes from: a data set is a network of its own; a user's captures are told by their folder."""
    return form.name if form.name != "your own" else path.parent.name


def _keep(made: LabelledCapture, folder: Path) -> None:
    """Write the tables, whole or not at all."""
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    draft.mkdir(parents=True)
    tables = (
        made.capture.flows, made.capture.activity, made.capture.evidence,
        made.windows.samples, made.windows.table, made.intervals,
    )  # fmt: skip
    for name, table in zip(_TABLES, tables, strict=True):
        table.to_parquet(draft / f"{name}.parquet")
    np.save(draft / "rows.npy", made.windows.rows)
    notes = {"notes": list(made.capture.notes), "plant": made.plant is not None}
    (draft / "notes.json").write_text(json.dumps(notes), encoding="utf-8")
    try:
        draft.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(draft)


def _read(path: Path, form: Form, folder: Path) -> LabelledCapture:
    tables: Mapping[str, pd.DataFrame] = {name: pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES}
    said = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
    capture = Capture(tables["flows"], tables["activity"], tables["evidence"], tuple(said["notes"]))
    windows = Windows(tables["samples"], tables["windows"], np.load(folder / "rows.npy"))
    plant = load_plant(path.with_name("plant.yaml")) if said["plant"] else None
    return LabelledCapture(
        name_capture(path), form.name, _network(path, form), capture, windows, tables["intervals"], plant
    )


def _key(path: Path, form: Form) -> str:
    """Of the capture's bytes, of what lies beside it and of the code; of no name but those of Zeek's logs."""
    beside = sorted(_hash(file) for file in path.parent.iterdir() if file != path and file.suffix in _BESIDE)
    # A form that reads the truth from a file's name says so: CIC IoMT 2024, and the Modbus sandbox.
    told = path.name if form.name in ("CIC IoMT 2024", "Modbus sandbox") else ""
    return hashlib.sha256("\n".join([form.name, told, _hash(path), *beside, _code()]).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    root = Path(traffic.__file__).parent
    files: Sequence[Path] = sorted([*root.rglob("*.py"), *root.rglob("corrections/*.csv")])
    own = Path(__file__).read_bytes()
    return hashlib.sha256(own + b"".join(file.read_bytes() for file in files)).hexdigest()


def _hash(path: Path) -> str:
    if not path.is_file():
        return ""
    stat = path.stat()
    return _hash_at(path, stat.st_mtime_ns, stat.st_size)


@cache
def _hash_at(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
