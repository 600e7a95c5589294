"""A knowledge base that several machines read: its owner publishes it to a Qdrant server.

owner (Chroma, one process) ─▶ publish ─▶ faultwise-N, faultwise-N-manifest ─▶ alias faultwise ─▶ readers

The owner stays the truth. Each publication is written whole under a new number, and then the alias
points there in one step: a reader has the old one or the new one, whatever is killed when. Readers
change nothing. Needs `qdrant-client` (the extra ``qdrant``).
"""

import threading
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from knowledge_base.chunks import Chunk
from knowledge_base.counted import count_words
from knowledge_base.documents import Kind
from knowledge_base.embeddings import Embedder, Made, SentenceEmbedder
from knowledge_base.index import Index, Progress
from knowledge_base.manifest import Manifest
from knowledge_base.store import Store
from knowledge_base.vocabulary import Vocabulary
from traffic.errors import UserError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

T = TypeVar("T")
_ALIAS = "faultwise"
_AT_ONCE = 256  # points in one request
_KEPT = 2  # publications: the last, and the one before, from which a reader may be reading


class QdrantStore(Store):
    """The chunks of one publication, with what the embedder made of them."""

    def __init__(self, client: "QdrantClient", name: str) -> None:
        """Take a publication that is there or is being made."""
        self._server, self._name = client, name

    def create(self, dimension: int) -> None:
        """Make it, empty."""
        from qdrant_client import models

        vectors = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
        manifest = models.VectorParams(size=1, distance=models.Distance.DOT)
        for name, config in ((self._name, vectors), (f"{self._name}-manifest", manifest)):
            self._server.delete_collection(name)  # left by a publication that was killed
            self._server.create_collection(name, vectors_config=config)

    def put(self, chunks: Sequence[Chunk], made: Made) -> None:
        """Add chunks, or replace those of equal id."""
        from qdrant_client import models

        for some in _cut(chunks):
            points = [
                models.PointStruct(
                    id=int(chunk.id, 16),
                    vector=made.vectors[chunk.id].tolist(),
                    payload={
                        "document": chunk.document,
                        "section": chunk.section,
                        "page": chunk.page,
                        "text": chunk.text,
                        "kind": chunk.kind,
                        "start": chunk.start,
                        "end": chunk.end,
                        "width": made.pieces[chunk.id].shape[1],
                        "pieces": b64encode(made.pieces[chunk.id].tobytes()).decode(),
                    },
                )
                for chunk in some
            ]
            self._server.upsert(self._name, points, wait=True)

    def put_manifest(self, manifest: Manifest, axes: np.ndarray) -> None:
        """Keep what the publication holds."""
        from qdrant_client import models

        said = {
            "manifest": manifest.model_dump_json(),
            "hidden": len(axes),
            "axes": b64encode(axes.astype(np.float32).tobytes()).decode(),
        }
        point = models.PointStruct(id=0, vector=[1.0], payload=said)
        self._server.upsert(f"{self._name}-manifest", [point], wait=True)

    @cached_property
    def _said(self) -> dict[str, Any]:
        return self._server.retrieve(f"{self._name}-manifest", [0])[0].payload or {}

    def manifest(self) -> Manifest:
        """What the publication holds."""
        return Manifest.model_validate_json(self._said["manifest"])

    def axes(self) -> np.ndarray | None:
        """The axes of the word pieces, shape (hidden, n_axes)."""
        values = np.frombuffer(b64decode(self._said["axes"]), dtype=np.float32)
        return values.reshape(self._said["hidden"], -1)

    def passages(self, ids: Iterable[str]) -> None:
        """Nothing is kept here: all chunks are read from the server."""

    def words(self, chunks: Sequence[Chunk]) -> Vocabulary:
        """The words of chunks that are sorted by id."""
        return count_words(chunks)

    def ids(self) -> set[str]:
        """The ids of all chunks."""
        return {_chunk_id(point.id) for point in self._scroll(False)}

    def chunks(self) -> list[Chunk]:
        """All chunks, sorted by id."""
        names = ["document", "section", "page", "text", "kind", "start", "end"]
        found = [
            Chunk(_chunk_id(point.id), **(point.payload or {})) for point in self._scroll(names)
        ]
        return sorted(found, key=lambda chunk: chunk.id)

    def _scroll(self, payload: bool | list[str]) -> Iterator[Any]:
        at: Any = None
        while True:
            points, at = self._server.scroll(
                self._name, limit=_AT_ONCE, offset=at, with_payload=payload
            )
            yield from points
            if at is None:
                return

    def made(self, ids: list[str]) -> Made:
        """All that an embedder made of those chunks."""
        vectors, pieces = dict[str, np.ndarray](), dict[str, np.ndarray]()
        for some in _cut(ids):
            numbers = [int(one, 16) for one in some]
            wanted = ["width", "pieces"]
            for point in self._server.retrieve(self._name, numbers, wanted, with_vectors=True):
                said: Any = point.payload
                name = _chunk_id(point.id)
                vectors[name] = np.asarray(point.vector, dtype=np.float32)
                values = np.frombuffer(b64decode(said["pieces"]), dtype=np.int8)
                pieces[name] = values.reshape(-1, said["width"])
        return Made(vectors, pieces, self.axes())

    def vectors(self, ids: list[str]) -> dict[str, np.ndarray]:
        """The vectors of those chunks that are there, by id, each of shape (dimension,)."""
        return dict(self.made(ids).vectors)

    def searchable(self, ids: Sequence[str]) -> Iterator[str]:
        """Those of the chunks that have a unit vector and word pieces."""
        for chunk, vector in self.vectors([*ids]).items():
            if abs(float(vector @ vector) - 1) < 0.01:
                yield chunk

    def nearest(self, vector: np.ndarray, count: int, kind: Kind | None) -> list[str]:
        """The ids of the chunks nearest by cosine, best first."""
        from qdrant_client import models

        of_kind = None
        if kind:
            match = models.MatchValue(value=kind)
            of_kind = models.Filter(must=[models.FieldCondition(key="kind", match=match)])
        got = self._server.query_points(
            self._name, vector.tolist(), query_filter=of_kind, limit=count, with_payload=False
        )
        return [_chunk_id(point.id) for point in got.points]

    def close(self) -> None:
        """Nothing to let go of: the client is the reader's."""


def _chunk_id(number: Any) -> str:
    return f"{number:016x}"


class Published(Index):
    """A reader of the publication that the alias points to; made by ``open_published``."""

    def __init__(
        self, client: "QdrantClient", place: str, embedder: Embedder, examples: bool | None
    ):
        """Read the manifest.

        Raises:
            UserError: nothing is published there.
        """
        self.examples, self.embedder, self.folder = examples, embedder, Path(place)
        self.memo: dict[str, Any] = {}
        self._client, self._place = client, place
        self._changing, self._last = threading.RLock(), None
        self._name = ""
        self.follow()

    def follow(self) -> None:
        """Take the publication that the alias points to now."""
        with self._changing:
            name = _find_published(self._client)
            if not name:
                raise UserError(
                    f"{self._place} has no published knowledge base; expected one; run `faultwise kb publish "
                    f"{self._place}` on the machine that owns it"
                )
            if name != self._name:
                store = QdrantStore(self._client, name)
                self.manifest, self.store, self._name = store.manifest(), store, name
                self.memo.clear()

    def close(self) -> None:
        """Nothing is owned."""

    def _change(self, *_: Any, **__: Any) -> None:
        raise UserError(
            f"{self._place} is a published knowledge base, which is only read; expected the machine that owns it; "
            "change it there and publish it again"
        )

    _write = _commit = _change


def connect(url: str, key: str = "") -> "QdrantClient":
    """Connect to a Qdrant server.

    Raises:
        UserError: its client is not installed, or the URL is none.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url} is no address of a Qdrant server; expected http://HOST:6333")
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise UserError(
            "a published knowledge base needs qdrant-client; expected it installed; "
            "pip install 'faultwise[qdrant]'"
        ) from error
    return QdrantClient(url=url, api_key=key or None, check_compatibility=False, trust_env=False)


def open_published(
    client: "QdrantClient",
    place: str,
    embedder: Embedder | None = None,
    examples: bool | None = None,
) -> Published:
    """Open the published knowledge base of a server for reading.

    Args:
        client: connected to it.
        place: its address, for messages.
        embedder: as of the owner; the packaged MiniLM where None.
        examples: as ``open_index`` takes it.

    Raises:
        UserError: nothing is published there, or the server does not answer.
    """
    with _answering(place):
        return Published(client, place, embedder or SentenceEmbedder(), examples)


def publish(
    index: Index, client: "QdrantClient", place: str, progress: Progress | None = None
) -> int:
    """Publish all that an index holds; returns how many passages.

    Args:
        index: of the owner.
        client: connected to the server.
        place: its address, for messages.
        progress: called with (passages done, passages in all).

    Raises:
        UserError: there is nothing to publish, or the server does not answer.
    """
    live = [chunk for chunk in index.store.chunks() if chunk.id in index.manifest.chunk_ids]
    axes = index.store.axes()
    if not live or axes is None:
        raise UserError(
            f"{index.folder} holds no document; expected one to publish; add it with `faultwise kb add`"
        )
    with _answering(place):
        before = _find_published(client)
        number = int(before.rpartition("-")[2]) + 1 if before else 1
        store = QdrantStore(client, f"{_ALIAS}-{number}")
        store.create(index.manifest.dimension)
        for done, some in enumerate(_cut(live)):
            store.put(some, index.store.made([chunk.id for chunk in some]))
            if progress:
                progress(min(len(live), (done + 1) * _AT_ONCE), len(live))
        store.put_manifest(index.manifest, axes)
        _point(client, store, before)
        _forget(client, number)
    return len(live)


def _find_published(client: "QdrantClient") -> str:
    """The publication that the alias points to, "" where there is none."""
    found = (one for one in client.get_aliases().aliases if one.alias_name == _ALIAS)
    return next((one.collection_name for one in found), "")


def _point(client: "QdrantClient", store: QdrantStore, before: str) -> None:
    from qdrant_client import models

    new = models.CreateAlias(collection_name=store._name, alias_name=_ALIAS)
    steps: list[Any] = [models.CreateAliasOperation(create_alias=new)]
    if before:
        old = models.DeleteAlias(alias_name=_ALIAS)
        steps.insert(0, models.DeleteAliasOperation(delete_alias=old))
    client.update_collection_aliases(steps)


def _forget(client: "QdrantClient", number: int) -> None:
    """Erase publications that no reader can be reading."""
    for one in client.get_collections().collections:
        name = one.name.removesuffix("-manifest")
        of, _, counted = name.rpartition("-")
        if of == _ALIAS and counted.isdigit() and int(counted) <= number - _KEPT:
            client.delete_collection(one.name)


@contextmanager
def _answering(place: str) -> Iterator[None]:
    """Say in one line that a server does not answer."""
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise UserError(
            f"{place} does not answer as a Qdrant server ({error}); expected one; "
            "check its address and that it runs"
        ) from error


def _cut(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))
