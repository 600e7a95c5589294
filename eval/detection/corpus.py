"""A labelled capture as the harness needs it: all windows under both labellings, and the tables
incidents come from.

Reading a large capture takes minutes, so what was made of it is kept, under a key of every byte
that it was made from and of the code that made it. Names of files never enter the key, the numbers
or the truth.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
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
from traffic.datasets.formats import FORMS, Form, Marked, label_flows
from traffic.datasets.labelling import label_samples, label_windows
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL, UNKNOWN
from traffic.plant import Plant, load_plant
from traffic.samples import make_samples
from traffic.windows import Windows, make_windows

LABELLINGS: tuple[Labelling, ...] = ("published", "corrected")
# Between two samples of one label: shorter breaks belong to one happening, as between two beacons.
_BRIDGED_S = 600.0
_TABLES = ("flows", "activity", "evidence", "samples", "windows", "intervals")
# What may lie beside a capture and say something about it: logs of other protocols, truth, the
# inventory.
_BESIDE = (".log", ".csv", ".json", ".yaml", ".labeled", ".gz")


@dataclass(frozen=True)
class LabelledCapture:
    """One capture.

    Attributes:
        name: for tables; nothing is read from it.
        form: of its files, one of ``traffic.datasets.formats.FORMS``.
        network: captures of one origin share it.
        capture: flows, activity and evidence.
        windows: all of them; ``table`` holds ``published`` and ``corrected``, our labels or
            ``unknown``.
        intervals: ``labelling device label start_s end_s``: what truly happened, breaks of ten
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


def load_capture(path: Path, kept: Path) -> LabelledCapture:
    """Read a capture that ``traffic.datasets.labelled.find_labelled`` found, or what was kept of
    it.

    Args:
        path: of the capture.
        kept: the folder where captures are kept.

    Raises:
        UserError: it or its truth cannot be read.
    """
    form = next((form for form in FORMS if form.fits(path)), None)
    if form is None:
        raise UserError(
            f"{path} has no truth beside it; expected one of the forms of labelled captures; add its truth"
        )
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
        intervals.append(
            _find_intervals(windows.samples.assign(label=truth["label"])).assign(
                labelling=labelling
            )
        )
    windows = Windows(windows.samples, table, windows.rows)
    name, network = name_capture(path), _network(path, form)
    return LabelledCapture(
        name, form.name, network, marked.capture, windows, pd.concat(intervals), marked.plant
    )


def _flow_labels(marked: Marked, labelling: Labelling) -> pd.Series:
    return (
        marked.labels
        if marked.labels is not None
        else label_flows(marked.capture.flows, labelling == "corrected")
    )


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
    """Where a capture comes from: a data set is a network of its own; a user's captures are told by
    their folder."""
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
    tables: Mapping[str, pd.DataFrame] = {
        name: pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES
    }
    said = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
    capture = Capture(tables["flows"], tables["activity"], tables["evidence"], tuple(said["notes"]))
    windows = Windows(tables["samples"], tables["windows"], np.load(folder / "rows.npy"))
    plant = load_plant(path.with_name("plant.yaml")) if said["plant"] else None
    return LabelledCapture(
        name_capture(path),
        form.name,
        _network(path, form),
        capture,
        windows,
        tables["intervals"],
        plant,
    )


def _key(path: Path, form: Form) -> str:
    """Of the capture's bytes, of what lies beside it and of the code; of no name but those of
    Zeek's logs."""
    beside = sorted(
        _hash(file) for file in path.parent.iterdir() if file != path and file.suffix in _BESIDE
    )
    # A form that reads the truth from a file's name says so: CIC IoMT 2024, and the Modbus sandbox.
    told = path.name if form.name in ("CIC IoMT 2024", "Modbus sandbox") else ""
    return hashlib.sha256(
        "\n".join([form.name, told, _hash(path), *beside, _code()]).encode()
    ).hexdigest()[:32]


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


# All labelled captures of a folder as one table of windows, in an order that no file's name
# decides.

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """Windows of several captures, one row each; a device's windows stand together, in the order of
    time.

    Attributes:
        captures: in the order of their content's hashes.
        hashes: of each capture's content, sha256.
        features: shape (n, 6, n_features), float32.
        capture: shape (n,), place in ``captures``.
        device: shape (n,), a number for each device of each capture.
        start_s: shape (n,), start of each window.
        labels: by labelling, shape (n,), our labels or ``unknown``, objects.
        window_hash: shape (n,), uint64, of the features alone: equal traffic has equal hashes.
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


def load_corpus(data: Path, kept: Path) -> Corpus:
    """Read every labelled capture below a folder.

    Args:
        data: the folder.
        kept: where captures that were read once are kept.

    Raises:
        UserError: there is none, or one cannot be read, or a feature is no number.
    """
    found = find_labelled(data)
    captures = []
    for place, path in enumerate(found):
        log.info("reading %s (%d of %d)", path, place + 1, len(found))
        captures.append(load_capture(path, kept))
    return make_corpus(captures)


def make_corpus(captures: Sequence[LabelledCapture]) -> Corpus:
    """Put captures together.

    Raises:
        UserError: a feature is no number.
    """
    features = [make_features(one.windows) for one in captures]
    hashes = [hash_windows(one) for one in features]
    contents = [_hash_content(one, each) for one, each in zip(captures, hashes, strict=True)]
    order = sorted(range(len(captures)), key=contents.__getitem__)
    ordered = [captures[i] for i in order]
    capture = np.repeat(np.arange(len(order)), [len(features[i]) for i in order])
    names = np.concatenate([one.windows.table["device"].to_numpy(object) for one in ordered])
    tables = [one.windows.table for one in ordered]
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
    """The same where windows of some labels count as of unknown truth: neither trained on nor
    scored.

    Raises:
        UserError: there is no such label.
    """
    if unknown := sorted(set(labels) - set(LABELS[1:])):
        raise UserError(
            f"no label to leave out is called {', '.join(unknown)}; expected some of {', '.join(LABELS[1:])}; "
            "correct --without"
        )
    told = {
        labelling: np.where(np.isin(known.astype(str), list(labels)), UNKNOWN, known).astype(object)
        for labelling, known in corpus.labels.items()
    }
    return replace(corpus, labels=told)


def hash_windows(features: np.ndarray) -> np.ndarray:
    """One number per window, equal for equal features: shape (n,), uint64."""
    bits = (
        np.ascontiguousarray(features + np.float32(0), np.float32)
        .reshape(len(features), -1)
        .view(np.uint32)
    )
    odd = np.random.default_rng(20260101).integers(1, 2**63, bits.shape[1], np.uint64) | np.uint64(
        1
    )
    mixed = np.zeros(len(bits), np.uint64)
    for column in range(
        bits.shape[1]
    ):  # by column: the products of all of them at once would not fit
        mixed = (mixed ^ (bits[:, column] * odd[column])) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def describe_data(corpus: Corpus) -> tuple[DataUsed, ...]:
    """What a run's results say of each capture, by name."""
    described = [_describe(corpus, place) for place in range(len(corpus.captures))]
    return tuple(sorted(described, key=lambda one: one.name))


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
        published=_known(counts["published"]),
        corrected=_known(counts["corrected"]),
        unknown={labelling: int(count.get(UNKNOWN, 0)) for labelling, count in counts.items()},
    )


def _known(counts: pd.Series) -> dict[str, int]:
    return {label: int(counts[label]) for label in LABELS if label in counts}


def _hash_content(one: LabelledCapture, hashes: np.ndarray) -> str:
    """Of what was seen and of the truth; the order of devices, their names and the file's count for
    nothing."""
    digest = hashlib.sha256(np.sort(hashes).tobytes())
    for labelling in LABELLINGS:
        digest.update(np.sort(one.windows.table[labelling].to_numpy(str)).tobytes())
    return digest.hexdigest()
