"""A sentence model of a few lines for tests of the index: a text's vector is the count of its words
by hash."""

import re
import zlib

import numpy as np

from knowledge_base.minilm import Embedded
from knowledge_base.scale import PACKAGED


class WordVectors:
    """Equal words, equal vectors; no file, no torch."""

    scale = PACKAGED

    def __init__(self, dimension: int = 64) -> None:
        self.dimension = dimension
        self.fingerprint = f"words-{dimension}"
        self.embedded = 0  # texts so far

    def read(self, texts: list[str]) -> list[Embedded]:
        self.embedded += len(texts)
        return [self._read(text) for text in texts]

    def read_question(self, text: str) -> Embedded:
        return self.read([text])[0]

    def _read(self, text: str) -> Embedded:
        words = [*re.finditer(r"\w+", text.lower())]
        pieces = np.zeros((len(words), self.dimension), np.float32)
        for row, word in enumerate(words):
            pieces[row, zlib.crc32(word[0].encode()) % self.dimension] = 1
        total = pieces.sum(axis=0)
        spans = np.array([word.span() for word in words], dtype=np.int64).reshape(-1, 2)
        return Embedded(total / np.linalg.norm(total), pieces, spans, text)
