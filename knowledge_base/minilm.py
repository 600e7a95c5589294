"""Sentence vectors of a BERT-shaped model (all-MiniLM and its kin) in numpy.

A question has a dozen word pieces: 20 ms of arithmetic, for which importing torch, transformers and
sentence-transformers took four seconds. A test holds the vectors to those of sentence-transformers.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer


@dataclass(frozen=True)
class Embedded:
    """A text as a sentence model sees it.

    Attributes:
        vector: of the text, unit length, (hidden,).
        pieces: of its word pieces in their context, (n_pieces, hidden), of any length.
        spans: the characters of each piece in ``text``, (n_pieces, 2): from, before.
        text: as the model read it; a model of English reads other languages put into English.
    """

    vector: np.ndarray
    pieces: np.ndarray
    spans: np.ndarray
    text: str


# Rows of word pieces to their hidden states, each (n_pieces, hidden).
Encode = Callable[[list[list[int]]], list[np.ndarray]]
_AT_ONCE = 16  # texts laid end to end; more fall out of the cache
_MODULES = ["Transformer", "Pooling", "Normalize"]


def is_minilm(folder: Path) -> bool:
    """Whether a folder holds a model that `MiniLM` computes exactly: BERT, mean pooling, unit length,
    taught without prompts."""
    names = ("config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json")
    files = [folder / name for name in (*names, "tokenizer.json", "model.safetensors")]
    if not all(file.is_file() for file in files):
        return False
    config, modules, pooling, _ = (_read(file) for file in files[: len(names)])
    prompts = folder / "config_sentence_transformers.json"
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and [one["type"].rpartition(".")[2] for one in modules] == _MODULES
        and [name for name, on in pooling.items() if on is True] == ["pooling_mode_mean_tokens"]
        and not (prompts.is_file() and any((_read(prompts).get("prompts") or {}).values()))
    )


class MiniLM:
    """A BERT encoder with mean pooling.

    Attributes:
        weights: by the names of the file, float32; matrices are (out, in).
    """

    def __init__(self, folder: Path) -> None:
        """Read the weights and the tokenizer of a folder that `is_minilm`."""
        config = _read(folder / "config.json")
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.eps = config["layer_norm_eps"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        longest = _read(folder / "sentence_bert_config.json")["max_seq_length"]
        self._tokenizer.enable_truncation(longest)
        stored = load_file(folder / "model.safetensors")
        self.weights = {
            name.removeprefix("bert."): weight.astype(np.float32, copy=False)
            for name, weight in stored.items()
        }

    def embed(self, texts: list[str]) -> np.ndarray:
        """Unit vectors of the texts, shape (len(texts), hidden), float32."""
        return np.stack([one.vector for one in self.read(texts)])

    def read(self, texts: list[str], encode: Encode | None = None) -> list[Embedded]:
        """The texts' own vectors and those of their word pieces.

        Args:
            texts: as they are to be read.
            encode: makes the hidden states in the place of `MiniLM.encode`.
        """
        encode = encode or self.encode
        found = self._tokenizer.encode_batch(texts)
        pieces = encode([encoding.ids for encoding in found])
        return [
            _pool(pieces[row], encoding.offsets, texts[row]) for row, encoding in enumerate(found)
        ]

    def encode(self, rows: list[list[int]]) -> list[np.ndarray]:
        """Hidden states of each row's word pieces, (n_pieces, hidden)."""
        # Matrices this small are multiplied faster by one thread: several wait for each other.
        with threadpool_limits(1, "blas"):
            return encode_by_length(rows, lambda some: map(self._encode, some))

    def _encode(self, rows: list[list[int]]) -> list[np.ndarray]:
        """The same of a few rows; they lie end to end, so nothing is padded; only attention looks at
        rows."""
        ends = np.cumsum([0, *map(len, rows)])
        table = {part: self.weights[f"embeddings.{part}_embeddings.weight"] for part in _TABLES}
        x = table["word"][np.concatenate(rows)]  # (n_tokens, hidden)
        x = x + table["position"][np.concatenate([np.arange(len(row)) for row in rows])]
        x = self._normalise(x + table["token_type"][0], "embeddings.LayerNorm")
        for layer in range(self.layers):
            name = f"encoder.layer.{layer}"
            seen = self._attend(x, ends, f"{name}.attention.self")
            seen = self._linear(seen, f"{name}.attention.output.dense")
            x = self._normalise(x + seen, f"{name}.attention.output.LayerNorm")
            wide = _gelu(self._linear(x, f"{name}.intermediate.dense"))
            x = self._normalise(
                x + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
            )
        return [x[start:end] for start, end in pairwise(ends)]

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _normalise(self, x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(axis=1, keepdims=True)
        x /= np.sqrt((x * x).mean(axis=1, keepdims=True) + self.eps)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _attend(self, x: np.ndarray, ends: np.ndarray, name: str) -> np.ndarray:
        query, key, value = (
            self._linear(x, f"{name}.{part}").reshape(len(x), self.heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )  # each (heads, n_tokens, width)
        query = query / np.sqrt(np.float32(query.shape[-1]))
        seen = np.empty_like(query)
        for start, end in pairwise(ends):
            scores = query[:, start:end] @ key[:, start:end].swapaxes(1, 2)
            scores = np.exp(scores - scores.max(axis=2, keepdims=True))
            seen[:, start:end] = scores / scores.sum(axis=2, keepdims=True) @ value[:, start:end]
        return seen.swapaxes(0, 1).reshape(x.shape)


def encode_by_length(
    rows: list[list[int]], encode: Callable[[list[list[list[int]]]], Iterable[list[np.ndarray]]]
) -> list[np.ndarray]:
    """Hand rows on in batches of about one length each, and give what comes back in their order."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    batches = [order[start : start + _AT_ONCE] for start in range(0, len(order), _AT_ONCE)]
    made = encode([[rows[row] for row in batch] for batch in batches])
    found = {
        row: one
        for batch, of in zip(batches, made, strict=True)
        for row, one in zip(batch, of, strict=True)
    }
    return [found[row] for row in range(len(rows))]


def _pool(pieces: np.ndarray, offsets: list[tuple[int, int]], text: str) -> Embedded:
    """Mean pooling; the marks at both ends of a text have no characters and are no words of it."""
    mean = pieces.mean(axis=0)
    spans = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    words = spans[:, 1] > spans[:, 0]
    return Embedded(mean / np.linalg.norm(mean), pieces[words], spans[words], text)


_TABLES = ("word", "position", "token_type")


def _gelu(x: np.ndarray) -> np.ndarray:
    """x Φ(x), with erf by Abramowitz and Stegun 7.1.26 (error below 1.5e-7): numpy has none."""
    half = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * half)
    series = np.float32(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + np.float32(coefficient)
    erf = 1 - series * t * np.exp(-half * half)
    return 0.5 * x * (1 + np.copysign(erf, x))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
