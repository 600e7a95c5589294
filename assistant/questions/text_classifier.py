"""Of which class a text is, by its likeness with thousands that people wrote.

    words, pairs of words, four letters    ┐
    sentence vector, and its squares       ├─▶ ridge regression ─▶ a score for each class

Which kind of query a question is (`kinds`) and which trouble it complains of (diagnosis/symptoms) are read
so. Tried and left, on questions of others: sentence vectors without their squares (0.73, with them 0.79), the
sentence model tuned by LoRA for two rounds (0.74).
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.sparse import csr_array

from assistant.questions.plain import DEVICE
from knowledge_base.embeddings import SentenceEmbedder

_RIDGE = 1.5
_MEANING = 3.0  # weight of the squares of meaning beside the pieces
_AXES = 96  # of the sentence vector; all 384 are no better
_COMMON = 4  # classes
_LEAST_SEEN = 2  # times; a piece that one question has alone tells nothing


@dataclass(frozen=True)
class TextClassifier:
    """Weights for each class.

    Attributes:
        classes: names of the columns.
        rareness: row of ``weights`` and rareness of each piece of text.
        weights: of pieces, (pieces, classes).
        axes: the sentence vector's directions that tell most, (hidden, axes).
        squares: of products of two of these, (classes, axes, axes).
        common: words in texts of so many classes that they name none.
        learnt: hash of what it learned from.
    """

    classes: tuple[str, ...]
    rareness: Mapping[str, tuple[int, float]]
    weights: np.ndarray
    axes: np.ndarray
    squares: np.ndarray
    common: frozenset[str]
    learnt: str

    def score(self, plain: Sequence[str]) -> np.ndarray:
        """How much each plain text is like those of each class, (texts, classes)."""
        rows, meaning = weigh(plain, self.rareness), _turn(_read_all(plain), self.axes)
        alike = np.einsum("ni,kij,nj->nk", meaning, self.squares, meaning, optimize=True)
        return np.asarray(rows @ self.weights + _MEANING * alike)


# ---- What it sees of a text ----


@lru_cache(maxsize=16384)  # 24 MB; as many as are learned from
def read_meaning(plain: str) -> np.ndarray:
    """The sentence vector of a plain question or sentence, (hidden,)."""
    spoken = re.sub(rf"\b{DEVICE}\b", "the device", plain)
    return _embedder().read_question(spoken).vector


def _read_all(plain: Sequence[str]) -> np.ndarray:
    return np.stack([read_meaning(one) for one in plain])


def _turn(meaning: np.ndarray, axes: np.ndarray) -> np.ndarray:
    turned = meaning @ axes
    return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True))


@cache
def _embedder() -> SentenceEmbedder:
    return SentenceEmbedder()


def weigh(texts: Sequence[str], rareness: Mapping[str, tuple[int, float]]) -> csr_array:
    """Pieces of each text, the rare ones heavier, as rows of length 1; unknown ones shorten them."""
    values: list[float] = []
    columns: list[int] = []
    ends = [0]
    for text in texts:
        counts = Counter(_pieces(text))
        row = {
            rareness[one][0]: rareness[one][1] * n for one, n in counts.items() if one in rareness
        }
        unknown = sum(n for one, n in counts.items() if one not in rareness)
        length = math.hypot(*row.values(), math.sqrt(math.log(len(rareness)) * unknown)) or 1.0
        values += [weight / length for weight in row.values()]
        columns += row
        ends.append(len(columns))
    return csr_array((values, columns, ends), shape=(len(texts), len(rareness)))


def _pieces(text: str) -> list[str]:
    words = re.findall(r"\w+", text)
    grams = [f" {word} "[at : at + 4] for word in words for at in range(max(len(word) - 1, 1))]
    pairs = [f"{one} {two}" for one, two in pairwise(["^", *words])]
    return [*grams, *pairs, *(f"#{word}" for word in words)]


# ---- Where it comes from ----


@cache
def load_classifier(path: Path) -> TextClassifier:
    """Read weights from a file."""
    with safe_open(path, "np") as file:
        told = file.metadata()
        pieces, common = (
            file.get_tensor(name).tobytes().decode().split("\n") for name in ("pieces", "common")
        )
        rareness = file.get_tensor("rareness").astype(np.float64)
        weights, axes, squares = (
            file.get_tensor(name).astype(np.float32) for name in ("weights", "axes", "squares")
        )
    rows = {piece: (at, float(rareness[at])) for at, piece in enumerate(pieces)}
    return TextClassifier(
        tuple(told["classes"].split()),
        rows,
        weights,
        axes,
        squares,
        frozenset(filter(None, common)),
        told["learnt"],
    )


def fit_classifier(texts_of: Mapping[str, Sequence[str]]) -> TextClassifier:
    """Fit the weights to plain texts by class: ridge regression on one column a class."""
    classes = tuple(texts_of)
    texts = [text for some in texts_of.values() for text in some]
    meant = [at for at, some in enumerate(texts_of.values()) for _ in some]
    seen = Counter(piece for text in texts for piece in set(_pieces(text)))
    told = [(piece, count) for piece, count in seen.items() if count >= _LEAST_SEEN]
    rareness = {
        piece: (at, math.log(len(texts) / count) + 0.1) for at, (piece, count) in enumerate(told)
    }
    rows, whole = weigh(texts, rareness), _read_all(texts)
    axes = np.linalg.svd(whole, full_matrices=False)[2][:_AXES].T
    meaning = _turn(whole, axes)
    kernel = (rows @ rows.T).toarray() + _MEANING * (meaning @ meaning.T) ** 2
    kernel += _RIDGE * np.eye(len(texts))
    shares = np.linalg.solve(kernel, np.eye(len(classes))[meant])  # (texts, classes)
    squares = np.stack([(meaning * one[:, None]).T @ meaning for one in shares.T])
    common, learnt = _find_common(texts_of), hash_texts(texts_of)
    return TextClassifier(classes, rareness, rows.T @ shares, axes, squares, common, learnt)


def _find_common(texts_of: Mapping[str, Sequence[str]]) -> frozenset[str]:
    words = (set(re.findall(r"\w+", " ".join(some))) for some in texts_of.values())
    classes = Counter(word for one in words for word in one)
    return frozenset(word for word, count in classes.items() if count >= _COMMON)


def hash_texts(texts_of: Mapping[str, Sequence[str]]) -> str:
    """Names a set of texts by class."""
    text = "\n".join(f"{name}\t{one}" for name, some in texts_of.items() for one in some)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_classifier(model: TextClassifier, path: Path) -> None:
    """Write the weights, halves for the many of them."""
    tensors = {
        "pieces": _to_bytes(model.rareness),
        "common": _to_bytes(sorted(model.common)),
        "rareness": np.array([rare for _, rare in model.rareness.values()], np.float32),
        "weights": model.weights.astype(np.float16, order="C"),
        "axes": model.axes.astype(np.float16, order="C"),
        "squares": model.squares.astype(np.float16, order="C"),
    }
    save_file(tensors, path, {"classes": " ".join(model.classes), "learnt": model.learnt})


def _to_bytes(words: Iterable[str]) -> np.ndarray:
    return np.frombuffer("\n".join(words).encode(), np.uint8).copy()
