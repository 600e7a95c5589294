"""Labelled captures as one table of windows, under both labellings.

Reading a large capture takes minutes, so what was made of it is cached, under a key of every byte
that it was made from and of the code that made it. Names of files never enter the key, the numbers
or the truth, and the order of captures is that of their content's hashes.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import traffic
from eval.models.features import make_features
from eval.results import DataUsed, Labelling
from traffic.capture import SAMPLE_S, Capture
from traffic.datasets import find_labelled, name_capture
from traffic.datasets.formats import FORMS, Form, label_flows
from traffic.datasets.labelling import label_samples, label_windows
from traffic.errors import UserError
from traffic.files import file_hash
from traffic.labels import LABELS, NORMAL, UNKNOWN
from traffic.plant import Plant, load_plant
from traffic.samples import make_samples
from traffic.windows import WINDOW_SAMPLES, Windows, make_windows

log = logging.getLogger(__name__)

LABELLINGS: tuple[Labelling, ...] = ("published", "corrected")
# Between two samples of one label: shorter breaks belong to one event, as between two beacons.
_BRIDGED_S = 600.0
# Files beside a capture that its tables may depend on: other logs, truth, the inventory.
_BESIDE = (".log", ".csv", ".json", ".yaml", ".labeled", ".gz")


# ---- One capture ----


_TABLES = ("flows", "activity", "evidence", "samples", "windows", "intervals")


@dataclass(frozen=True)
class LabelledCapture:
    """One capture with its windows and its truth.

    Attributes:
        name: for tables; nothing is read from it.
        form: of its files, one of ``traffic.datasets.formats.FORMS``.
        network: captures of one origin share it.
        capture: flows, activity and evidence.
        windows: all of them; ``table`` holds ``published`` and ``corrected``, our labels or
            ``unknown``.
        intervals: ``labelling device label start_s end_s``, the true ones, with breaks of ten
            minutes bridged.
        plant: the inventory, where there is one.
    """

    name: str
    form: str
    network: str
    capture: Capture
    windows: Windows
    intervals: pd.DataFrame
    plant: Plant | None


def load_capture(path: Path, folder: Path) -> LabelledCapture:
    """Read a capture that ``traffic.datasets.labelled.find_labelled`` found, from the cache if it
    was read before.

    Args:
        path: of the capture.
        folder: of the cache.

    Raises:
        UserError: it or its truth cannot be read.
    """
    form = next((form for form in FORMS if form.fits(path)), None)
    if form is None:
        raise UserError(
            f"{path} has no truth beside it; expected one of the forms of labelled captures; "
            "add its truth"
        )
    cached = folder / _key(path, form)
    if not cached.is_dir():
        _write_cached(_make(path, form), cached)
    return _read_cached(cached, path, form)


def _make(path: Path, form: Form) -> LabelledCapture:
    marked = form.load(path)
    capture = marked.capture
    windows = make_windows(make_samples(capture, marked.plant))
    table, intervals = windows.table, []
    for labelling in LABELLINGS:
        labels = marked.labels
        if labels is None:
            labels = label_flows(capture.flows, labelling == "corrected")
        labelled = label_windows(windows, capture, labels, marked.intervals)
        table = table.assign(**{labelling: labelled.table["label"].to_numpy(object)})
        truth = label_samples(windows.samples, capture, labels, marked.intervals)
        found = _find_intervals(windows.samples.assign(label=truth["label"]))
        intervals.append(found.assign(labelling=labelling))
    windows = Windows(windows.samples, table, windows.rows)
    name, network, true = name_capture(path), _network(path, form), pd.concat(intervals)
    return LabelledCapture(name, form.name, network, capture, windows, true, marked.plant)


def _write_cached(made: LabelledCapture, folder: Path) -> None:
    """Write a capture's tables, whole or not at all. Parquet, not pickles: those run code when read."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent))
    capture, windows = made.capture, made.windows
    tables = (capture.flows, capture.activity, capture.evidence, windows.samples, windows.table)
    for name, table in zip(_TABLES, (*tables, made.intervals), strict=True):
        table.to_parquet(draft / f"{name}.parquet")
    np.save(draft / "rows.npy", windows.rows)
    known = {"notes": capture.notes, "plant": made.plant is not None}
    (draft / "known.json").write_text(json.dumps(known), encoding="utf-8")
    with suppress(OSError):  # another run was faster
        draft.rename(folder)
    shutil.rmtree(draft, ignore_errors=True)


def _read_cached(folder: Path, path: Path, form: Form) -> LabelledCapture:
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES}
    known = json.loads((folder / "known.json").read_text(encoding="utf-8"))
    notes = tuple(known["notes"])
    capture = Capture(tables["flows"], tables["activity"], tables["evidence"], notes=notes)
    windows = Windows(tables["samples"], tables["windows"], np.load(folder / "rows.npy"))
    plant = load_plant(path.with_name("plant.yaml")) if known["plant"] else None
    # The name is today's: it may have changed since.
    name, network = name_capture(path), _network(path, form)
    return LabelledCapture(name, form.name, network, capture, windows, tables["intervals"], plant)


def _find_intervals(samples: pd.DataFrame) -> pd.DataFrame:
    """Stretches in which a device's samples have one label other than normal: ``device label
    start_s end_s``."""
    told = samples.loc[~samples["label"].isin([NORMAL, UNKNOWN]), ["device", "label", "start_s"]]
    told = told.sort_values(["device", "label", "start_s"], kind="stable")
    same = (told["device"] == told["device"].shift()) & (told["label"] == told["label"].shift())
    stretch = (~same | (told["start_s"].diff() > _BRIDGED_S)).cumsum().rename("stretch")
    found = told.groupby(stretch).agg(
        device=("device", "first"),
        label=("label", "first"),
        start_s=("start_s", "min"),
        end_s=("start_s", "max"),
    )
    return found.assign(end_s=found["end_s"] + SAMPLE_S).reset_index(drop=True)


def _network(path: Path, form: Form) -> str:
    """The network of a capture: its data set, or the folder of a user's own."""
    return form.name if form.name != "your own" else path.parent.name


def _key(path: Path, form: Form) -> str:
    """Hash of the capture, of the files beside it and of the code; of no name but those of Zeek's
    logs."""
    files = [file for file in path.parent.iterdir() if file != path and file.suffix in _BESIDE]
    # A form that reads the truth from a file's name says so: CIC IoMT 2024, and the Modbus sandbox.
    name = path.name if form.name in ("CIC IoMT 2024", "Modbus sandbox") else ""
    parts = [form.name, name, _hash(path), *sorted(map(_hash, files)), _code()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """Hash of what makes tables of captures: the code, its corrections, the libraries of tables."""
    root = Path(traffic.__file__).parent
    digest = hashlib.sha256(f"{np.__version__} {pd.__version__}".encode())
    for file in (Path(__file__), *sorted([*root.rglob("*.py"), *root.rglob("corrections/*.csv")])):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _hash(path: Path) -> str:
    if not path.is_file():
        return ""
    stat = path.stat()
    return _hash_at(path, stat.st_mtime_ns, stat.st_size)


@cache
def _hash_at(path: Path, _mtime_ns: int, _size: int) -> str:
    """A file is a neighbour of many captures: it is hashed once, and again when it has changed."""
    return file_hash(path)


# ---- All captures of a folder ----


@dataclass(frozen=True)
class Corpus:
    """Windows of several captures, one row each; a device's windows stand together in order of
    time.

    Attributes:
        captures: in the order of their content's hashes.
        hashes: of each capture's content, sha256.
        features: shape (n, 9, n_features), float32, as ``make_features`` makes them.
        capture: shape (n,), place in ``captures``.
        device: shape (n,), a number for each device of each capture.
        start_s: shape (n,), start of each window.
        labels: by labelling, shape (n,), our labels or ``unknown``, objects.
        window_hash: shape (n,), uint64, of the six samples alone: equal traffic has equal
            hashes.
    """

    captures: tuple[LabelledCapture, ...]
    hashes: tuple[str, ...]
    features: np.ndarray
    capture: np.ndarray
    device: np.ndarray
    start_s: np.ndarray
    labels: Mapping[Labelling, np.ndarray]
    window_hash: np.ndarray

    def __len__(self) -> int:
        return len(self.capture)

    def names(self, rows: np.ndarray) -> tuple[str, ...]:
        """Names of the captures that the rows are of."""
        return tuple(sorted(self.captures[place].name for place in np.unique(self.capture[rows])))

    @property
    def networks(self) -> np.ndarray:
        """The network of every window, shape (n,), objects."""
        return np.array([one.network for one in self.captures], dtype=object)[self.capture]


def load_corpus(data: Path, folder: Path) -> Corpus:
    """Read every labelled capture below a folder.

    Args:
        data: the folder.
        folder: of the cache.

    Raises:
        UserError: there is none, or one cannot be read, or a feature is no number.
    """
    found = find_labelled(data)
    captures = []
    for place, path in enumerate(found):
        log.info("reading %s (%d of %d)", path, place + 1, len(found))
        captures.append(load_capture(path, folder))
    return make_corpus(captures)


def make_corpus(captures: Sequence[LabelledCapture]) -> Corpus:
    """Put captures together.

    Raises:
        UserError: a feature is no number.
    """
    features = [make_features(one.windows) for one in captures]
    hashes = [hash_windows(one[:, :WINDOW_SAMPLES]) for one in features]
    contents = [_hash_content(one, each) for one, each in zip(captures, hashes, strict=True)]
    order = sorted(range(len(captures)), key=contents.__getitem__)
    ordered = [captures[i] for i in order]
    tables = [one.windows.table for one in ordered]
    capture = np.repeat(np.arange(len(order)), [len(table) for table in tables])
    names = np.concatenate([table["device"].to_numpy(object) for table in tables])
    return Corpus(
        captures=tuple(ordered),
        hashes=tuple(contents[i] for i in order),
        features=np.concatenate([features[i] for i in order]),
        capture=capture,
        device=pd.factorize(pd.MultiIndex.from_arrays([capture, names]))[0],
        start_s=np.concatenate([table["start_s"].to_numpy(float) for table in tables]),
        labels={
            one: np.concatenate([table[one].to_numpy(object) for table in tables])
            for one in LABELLINGS
        },
        window_hash=np.concatenate([hashes[i] for i in order]),
    )


def leave_out(corpus: Corpus, labels: Sequence[str]) -> Corpus:
    """The corpus with windows of some labels as of unknown truth: neither trained on nor scored.

    Raises:
        UserError: there is no such label.
    """
    if unknown := sorted(set(labels) - set(LABELS[1:])):
        raise UserError(
            f"no label to leave out is called {', '.join(unknown)}; expected some of "
            f"{', '.join(LABELS[1:])}; correct --without"
        )
    left = {
        labelling: np.where(np.isin(each.astype(str), list(labels)), UNKNOWN, each).astype(object)
        for labelling, each in corpus.labels.items()
    }
    return replace(corpus, labels=left)


def hash_windows(features: np.ndarray) -> np.ndarray:
    """One number per window, equal for equal features: shape (n,), uint64."""
    positive = np.ascontiguousarray(features + np.float32(0), np.float32)  # no -0
    bits = positive.reshape(len(features), -1).view(np.uint32)
    rng = np.random.default_rng(20260101)
    odd = rng.integers(1, 2**63, bits.shape[1], np.uint64) | np.uint64(1)
    mixed = np.zeros(len(bits), np.uint64)
    # By column: the products of all of them at once would not fit.
    for column in range(bits.shape[1]):
        mixed = (mixed ^ (bits[:, column] * odd[column])) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def describe_data(corpus: Corpus) -> tuple[DataUsed, ...]:
    """What a run's results say of each capture, by name."""
    every = (_describe(corpus, place) for place in range(len(corpus.captures)))
    return tuple(sorted(every, key=lambda one: one.name))


def _describe(corpus: Corpus, place: int) -> DataUsed:
    one, mine = corpus.captures[place], corpus.capture == place
    start_s = corpus.start_s[mine]
    counts = {
        labelling: pd.Series(labels[mine]).value_counts()
        for labelling, labels in corpus.labels.items()
    }
    return DataUsed(
        name=one.name,
        sha256=corpus.hashes[place],
        form=one.form,
        network=one.network,
        windows=int(mine.sum()),
        devices=len(np.unique(corpus.device[mine])),
        hours=round(float(np.ptp(start_s)) / 3600, 3) if mine.any() else 0.0,
        **{
            labelling: {label: int(count[label]) for label in LABELS if label in count}
            for labelling, count in counts.items()
        },
        unknown={labelling: int(count.get(UNKNOWN, 0)) for labelling, count in counts.items()},
    )


def _hash_content(one: LabelledCapture, hashes: np.ndarray) -> str:
    """Hash of windows and truth; the order and names of devices and files count for nothing."""
    digest = hashlib.sha256(np.sort(hashes).tobytes())
    for labelling in LABELLINGS:
        digest.update(np.sort(one.windows.table[labelling].to_numpy(str)).tobytes())
    return digest.hexdigest()
