"""The index for an engineer's own chain: langchain's retriever and document loader on top.

with open_index(home) as index:
    retriever = PassageRetriever(index=index, k=3)
    retriever.invoke("what does exception 0x0B mean?")
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from knowledge_base.chunks import make_chunks
from knowledge_base.documents import Kind, read_documents
from knowledge_base.index import Index
from knowledge_base.retriever import Passage, search


class PassageRetriever(BaseRetriever):
    """Passages that answer, as ``search`` finds them; none where the knowledge base does not
    answer. The caller keeps the index open."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: Index
    k: int = 5
    kind: Kind | None = None

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # langchain's signature
        **_: Any,
    ) -> list[Document]:
        return [to_langchain(one) for one in search(self.index, query, self.k, self.kind)]


def to_langchain(passage: Passage) -> Document:
    """A passage with what a citation needs as metadata."""
    metadata = {
        "document": passage.document,
        "section": passage.section,
        "page": passage.page,
        "kind": passage.kind,
        "about": passage.about,
        "example": passage.example,
        "score": passage.score,
    }
    return Document(id=passage.chunk_id, page_content=passage.text, metadata=metadata)


class DocumentLoader(BaseLoader):
    """The passages of a file or folder, as they would be indexed."""

    def __init__(self, path: Path | str, about: str | None = None) -> None:
        """Take what ``read_documents`` takes; nothing is read yet."""
        self.path, self.about = path, about

    def lazy_load(self) -> Iterator[Document]:
        """Read the documents.

        Raises:
            UserError: as ``read_documents``.
        """
        for document in read_documents(self.path, self.about).documents:
            for chunk in make_chunks(document):
                metadata = {
                    "document": chunk.document,
                    "section": chunk.section,
                    "page": chunk.page,
                    "kind": chunk.kind,
                    "about": document.about,
                    "source": document.path,
                }
                yield Document(id=chunk.id, page_content=chunk.text, metadata=metadata)
