"""Read a knowledge base: which chunks may answer, and what they come from.

What owns the documents and changes them is ``knowledge_base.index.Index``; what reads a publication
of another machine is ``knowledge_base.published.Published``. Both are read as a ``Reader`` is.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from knowledge_base.chunks import Chunk
from knowledge_base.documents import Kind
from knowledge_base.embeddings import Embedder
from knowledge_base.manifest import Entry, Manifest, find_entry
from knowledge_base.minilm import Embedded
from knowledge_base.store import Store
from traffic.errors import UserError

_AMONG = 4  # times the wanted passages of a kind that are looked at among those of all kinds


class Reader:
    """One version of a knowledge base, open for questions.

    Attributes:
        folder: where it lies, or the address of its server.
        manifest: the documents and their chunks.
        embedder: reads questions.
        examples: whether the shipped documents answer; None: until the plant has its own.
        memo: what readers derived from this version; emptied at every change.
    """

    folder: Path
    manifest: Manifest
    embedder: Embedder
    examples: bool | None
    memo: dict[str, Any]

    @cached_property
    def store(self) -> Store:
        """The Chroma folder that the manifest points to."""
        return Store(self.folder / self.manifest.store)

    def __enter__(self) -> Self:
        """Nothing more to do: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Nothing to give back."""

    def follow(self) -> None:
        """Take the newest version, where another process makes them."""

    def list(self) -> tuple[Entry, ...]:
        """The documents, sorted by title."""
        return self.manifest.documents

    def entry(self, name: str) -> Entry:
        """The document of that title, id, path or file name.

        Raises:
            UserError: no document is called so, or several are.
        """
        return find_entry(self.list(), name)

    def passages(self, entry: Entry) -> Sequence[Chunk]:
        """The passages of a document in reading order."""
        stored = {chunk.id: chunk for chunk in self._stored()}
        return [stored[chunk] for chunk in entry.chunks if chunk in stored]

    def chunks(self) -> Sequence[Chunk]:
        """The chunks that may answer, sorted by id: examples among them only where they are
        shown."""
        if "chunks" not in self.memo:
            sources = self.sources()
            kept = self.store.passages(sources) if sources else None
            stored = kept if kept is not None else self._stored()
            self.memo["chunks"] = [chunk for chunk in stored if chunk.id in sources]
        return self.memo["chunks"]

    def by_id(self) -> Mapping[str, Chunk]:
        """The same by id."""
        if "by_id" not in self.memo:
            self.memo["by_id"] = {chunk.id: chunk for chunk in self.chunks()}
        return self.memo["by_id"]

    def sources(self) -> Mapping[str, Entry]:
        """The document of each chunk that may answer, by chunk id; of equal ones the plant's."""
        if "sources" not in self.memo:
            shown = [entry for entry in self.list() if self._is_shown(entry)]
            shown.sort(key=lambda entry: not entry.example)
            by_chunk: dict[str, Entry] = {}
            for entry in shown:
                for chunk in entry.chunks:
                    by_chunk.setdefault(chunk, entry)
            self.memo["sources"] = by_chunk
        return self.memo["sources"]

    def nearest(self, vector: np.ndarray, count: int, kind: Kind | None) -> Sequence[str]:
        """The ids of the chunks nearest by cosine that may answer, best first."""
        sources = self.sources()
        if "hidden" not in self.memo:
            self.memo["hidden"] = len(self.manifest.chunk_ids) - len(sources)
        hidden = self.memo["hidden"]
        if kind is not None:
            # Chroma's own filter takes 4 ms for each 1,000 passages of the kind; of a kind that is
            # not rare enough are among the nearest of all.
            near, by_id = self.store.nearest(vector, _AMONG * count + hidden, None), self.by_id()
            found = [chunk for chunk in near if chunk in by_id and by_id[chunk].kind == kind]
            if len(found) >= count:
                return found[:count]
        found = self.store.nearest(vector, count + hidden, kind)
        return [chunk for chunk in found if chunk in sources][:count]

    def _is_shown(self, entry: Entry) -> bool:
        """Examples give way to a plant's own: incidents to its incidents, all to its documents."""
        if self.examples is not None or not entry.example:
            return self.examples is not False or not entry.example
        own = {one.kind for one in self.list() if not one.example}
        return not own or (own == {"incident"} and entry.kind != "incident")

    def _stored(self) -> Sequence[Chunk]:
        live = self.manifest.chunk_ids
        return [chunk for chunk in self.store.chunks() if chunk.id in live] if live else []

    def read_question(self, question: str) -> Embedded:
        """What the sentence model makes of a question.

        Raises:
            UserError: the stored vectors were made by another embedder.
        """
        self._need_same_embedder()
        return self.embedder.read_question(question)

    @property
    def comparable(self) -> bool:
        """Whether the stored vectors, if any, were made by the embedder in use."""
        return self.manifest.embedder in ("", self.embedder.fingerprint)

    def _need_same_embedder(self) -> None:
        made_by = self.manifest.embedder
        if not self.comparable:
            raise UserError(
                f"the vectors in {self.folder} were made by {made_by} (dimension {self.manifest.dimension}), the "
                f"model in use is {self.embedder.fingerprint}; expected the same; run `faultwise kb rebuild`"
            )
