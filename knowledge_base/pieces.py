"""Vectors of word pieces: what late interaction compares, small enough to keep for every passage.

A sentence's one vector blurs what its words say apart; with a vector for each word piece, each word
of a question finds the word of a passage that answers to it (MaxSim: Khattab and Zaharia, ColBERT,
SIGIR 2020). Kept are pieces of telling words only, turned to the axes along which they differ most
and rounded to bytes: 128 bytes a piece, where 384 floats ranked no better.
"""

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from knowledge_base.minilm import Embedded
from knowledge_base.words import STOP_WORDS, WORD

AXES = 128
MOST_PIECES = 256  # of one passage; the packaged model reads no more
FILE = "pieces.sqlite3"
_ASKED_AT_ONCE = 500  # SQLite takes 999 values in a question where it is old


def find_axes(pieces: np.ndarray) -> np.ndarray:
    """The directions along which word pieces differ most, shape (hidden, at most ``AXES``).

    Args:
        pieces: unit vectors, shape (n, hidden).
    """
    _, vectors = np.linalg.eigh(pieces.T @ pieces)  # ascending
    return np.ascontiguousarray(vectors[:, ::-1][:, :AXES], dtype=np.float32)


def telling_pieces(read: Embedded) -> np.ndarray:
    """Unit vectors of the pieces that belong to a text's telling words, shape (n, hidden)."""
    taken = np.zeros(len(read.spans), dtype=bool)
    for word in WORD.finditer(read.text):
        if word[0].lower() not in STOP_WORDS:
            taken |= pieces_of(word, read)
    return unit(read.pieces[taken][:MOST_PIECES])


def pieces_of(word: re.Match[str], read: Embedded) -> np.ndarray:
    """Which pieces lie within a word, shape (n_pieces,), bool."""
    start, end = word.span()
    return (read.spans[:, 0] >= start) & (read.spans[:, 1] <= end)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The rows at length 1; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def to_bytes(pieces: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Unit vectors as int8 along the axes: 127 stands for 1."""
    return np.round(unit(pieces @ axes) * 127).astype(np.int8)


class Pieces:
    """The word pieces of the passages of one store, in an SQLite file beside Chroma's."""

    def __init__(self, folder: Path) -> None:
        """Open the file, or make it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(folder / FILE, check_same_thread=False)
        # A store counts only after `Store.settle` has brought its files to the disk.
        self._file.execute("PRAGMA synchronous = OFF")
        with self._file:
            self._file.execute("CREATE TABLE IF NOT EXISTS axes (hidden INTEGER, values_ BLOB)")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS pieces (chunk TEXT PRIMARY KEY, width INTEGER, values_ BLOB)"
            )
        self._axes: np.ndarray | None = None

    def axes(self) -> np.ndarray | None:
        """The axes of this store, shape (hidden, n_axes); None before the first passage."""
        if self._axes is None:
            row = self._file.execute("SELECT hidden, values_ FROM axes").fetchone()
            if row is not None:
                self._axes = np.frombuffer(row[1], dtype=np.float32).reshape(row[0], -1)
        return self._axes

    def set_axes(self, axes: np.ndarray) -> None:
        """Keep the axes, once and before any passage."""
        with self._file:
            self._file.execute("INSERT INTO axes VALUES (?, ?)", (len(axes), axes.tobytes()))
        self._axes = axes

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """Keep passages' pieces, int8 of shape (n_pieces, n_axes), by chunk id."""
        rows = [(chunk, one.shape[1], one.tobytes()) for chunk, one in values.items()]
        with self._file:
            self._file.executemany("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?)", rows)

    def get(self, chunks: Iterable[str]) -> dict[str, np.ndarray]:
        """Those that are there, by chunk id, int8 of shape (n_pieces, n_axes)."""
        wanted, found = list(chunks), dict[str, np.ndarray]()
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[start : start + _ASKED_AT_ONCE]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT chunk, width, values_ FROM pieces WHERE chunk IN ({marks})"  # noqa: S608
            for chunk, width, values in self._file.execute(sql, some):
                found[chunk] = np.frombuffer(values, dtype=np.int8).reshape(-1, width)
        return found

    def ids(self) -> set[str]:
        """The chunks that have pieces here."""
        return {row[0] for row in self._file.execute("SELECT chunk FROM pieces")}

    def delete(self, chunks: Sequence[str]) -> None:
        """Forget passages."""
        with self._file:
            self._file.executemany("DELETE FROM pieces WHERE chunk = ?", [(one,) for one in chunks])

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
