"""The vectors of the shipped documents, made once: a fresh machine need not embed them before its first answer.

    python -m knowledge_base.sample_vectors      makes manuals/vectors.safetensors again after a document has changed

A chunk that is not in the file, or another embedder, costs time and nothing else: it is embedded when it is added.
"""

from pathlib import Path

import numpy as np

from knowledge_base.chunks import make_chunks
from knowledge_base.documents import read_documents
from knowledge_base.embeddings import Embedder

__all__ = ["VECTORS", "read_sample_vectors", "sample_files", "write_sample_vectors"]

_HERE = Path(__file__).parent
VECTORS = _HERE / "manuals" / "vectors.safetensors"


def sample_files() -> tuple[Path, ...]:
    """The shipped manuals and past incidents."""
    return tuple(sorted([*(_HERE / "manuals").glob("*.md"), *(_HERE / "incidents").glob("*.md")]))


def read_sample_vectors(fingerprint: str, path: Path = VECTORS) -> dict[str, np.ndarray]:
    """Unit vectors by chunk id, each of shape (dimension,); none where another embedder made them."""
    from safetensors import safe_open

    if not path.exists():
        return {}
    with safe_open(path, "numpy") as stored:
        made = stored.metadata()
        if made["embedder"] != fingerprint:
            return {}
        vectors = stored.get_tensor("vectors").astype(np.float32)  # (n_chunks, dimension)
    return dict(zip(made["chunks"].split(), vectors, strict=True))


def write_sample_vectors(embedder: Embedder, path: Path = VECTORS) -> int:
    """Embed the shipped documents; half precision moves a cosine by less than 0.001. Returns how many chunks."""
    from safetensors.numpy import save_file

    documents = [document for file in sample_files() for document in read_documents(file).documents]
    chunks = {chunk.id: chunk.context for document in documents for chunk in make_chunks(document)}
    vectors = embedder.embed([*chunks.values()]).astype(np.float16)
    save_file({"vectors": vectors}, path, {"embedder": embedder.fingerprint, "chunks": " ".join(chunks)})
    return len(chunks)


if __name__ == "__main__":
    from knowledge_base.embeddings import SentenceEmbedder

    write_sample_vectors(SentenceEmbedder())
