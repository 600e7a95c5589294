"""All labelled captures of a folder as one table of windows, in an order that no file's name decides."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from eval.detection.corpus import LABELLINGS, LabelledCapture, load_capture
from eval.models.features import make_features
from eval.results import DataUsed, Labelling
from traffic.datasets.labelled import find_labelled
from traffic.errors import UserError
from traffic.labels import LABELS, UNKNOWN

__all__ = ["Corpus", "describe_data", "hash_windows", "leave_out", "load_corpus", "make_corpus"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """Windows of several captures, one row each; a device's windows stand together, in the order of time.

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
        labels={one: np.concatenate([table[one].to_numpy(object) for table in tables]) for one in LABELLINGS},
        window_hash=np.concatenate([hashes[i] for i in order]),
    )


def leave_out(corpus: Corpus, labels: Sequence[str]) -> Corpus:
    """The same where windows of some labels count as of unknown truth: neither trained on nor scored.

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
    bits = np.ascontiguousarray(features + np.float32(0), np.float32).reshape(len(features), -1).view(np.uint32)
    odd = np.random.default_rng(20260101).integers(1, 2**63, bits.shape[1], np.uint64) | np.uint64(1)
    mixed = np.zeros(len(bits), np.uint64)
    for column in range(bits.shape[1]):  # by column: the products of all of them at once would not fit
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
    counts = {labelling: pd.Series(labels[mine]).value_counts() for labelling, labels in corpus.labels.items()}
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
    """Of what was seen and of the truth; the order of devices, their names and the file's count for nothing."""
    digest = hashlib.sha256(np.sort(hashes).tobytes())
    for labelling in LABELLINGS:
        digest.update(np.sort(one.windows.table[labelling].to_numpy(str)).tobytes())
    return digest.hexdigest()
