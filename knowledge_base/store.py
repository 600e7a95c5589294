"""The Chroma folder: chunks with their vectors, in process, no telemetry, no embedding function of its own."""

from pathlib import Path

import numpy as np

from knowledge_base.chunks import Chunk
from knowledge_base.documents import Kind

__all__ = ["Store"]

_BATCH = 1000
# Candidates that Chroma's graph keeps in view. By default 100: of 540 passages it missed near ones, others after each
# build, so that equal documents answered differently. A folder made before keeps what it was made with until a rebuild.
_SEARCHED = 500


class Store:
    """One Chroma collection on disk. Vectors are passed in: Chroma's own function would fetch a model."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, or make it."""
        import chromadb
        from chromadb.config import Settings

        self._client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
        self._chunks = self._client.get_or_create_collection(
            "chunks", embedding_function=None, configuration={"hnsw": {"space": "cosine", "ef_search": _SEARCHED}}
        )

    def put(self, chunks: list[Chunk], vectors: np.ndarray) -> None:
        """Add chunks, or replace those of equal id; ``vectors`` has shape (len(chunks), dimension)."""
        for start in range(0, len(chunks), _BATCH):
            batch = chunks[start : start + _BATCH]
            self._chunks.upsert(
                ids=[chunk.id for chunk in batch],
                embeddings=vectors[start : start + _BATCH],
                documents=[chunk.text for chunk in batch],
                metadatas=[
                    {"document": c.document, "section": c.section, "page": c.page or 0, "kind": c.kind} for c in batch
                ],
            )

    def ids(self) -> set[str]:
        """The ids of all chunks."""
        return set(self._chunks.get(include=[])["ids"])

    def chunks(self) -> list[Chunk]:
        """All chunks, sorted by id."""
        got = self._chunks.get(include=["documents", "metadatas"])
        made = [
            Chunk(identity, str(m["document"]), str(m["section"]), int(m["page"]) or None, text, m["kind"])  # type: ignore[arg-type]
            for identity, text, m in zip(got["ids"], got["documents"] or [], got["metadatas"] or [], strict=True)
        ]
        return sorted(made, key=lambda chunk: chunk.id)

    def vectors(self, ids: list[str]) -> dict[str, np.ndarray]:
        """The vectors of those chunks that are there, by id, each of shape (dimension,)."""
        got = self._chunks.get(ids=ids, include=["embeddings"])
        return dict(zip(got["ids"], np.asarray(got["embeddings"], dtype=np.float32), strict=True))

    def nearest(self, vector: np.ndarray, count: int, kind: Kind | None) -> list[str]:
        """The ids of the chunks nearest by cosine, best first."""
        where = {"kind": kind} if kind else None
        got = self._chunks.query(query_embeddings=[vector], n_results=count, where=where, include=[])  # type: ignore[arg-type, list-item]
        return got["ids"][0]

    def delete(self, ids: list[str]) -> None:
        """Take chunks out of every answer; their vectors stay in the file until a rebuild."""
        for start in range(0, len(ids), _BATCH):
            self._chunks.delete(ids=ids[start : start + _BATCH])

    def close(self) -> None:
        """Let go of the folder's files."""
        self._client.close()  # type: ignore[attr-defined]  # PersistentClient has it, its declared type has not
