"""A store in Qdrant keeps what Chroma's keeps, and a published knowledge base answers as its owner
does."""

import numpy as np
import pytest
from qdrant_client import QdrantClient

from knowledge_base.chunks import Chunk
from knowledge_base.embeddings import Made
from knowledge_base.index import open_index
from knowledge_base.published import Published, QdrantStore, connect, open_published, publish
from knowledge_base.retriever import find_passage, search
from knowledge_base.store import Store
from traffic.errors import UserError

PLACE = "http://10.0.0.9:6333"
QUESTIONS = ["Modbus exception 0x0B", "why is the camera slow?", "what does E-1042 mean"]


@pytest.fixture
def server():
    client = QdrantClient(":memory:")
    yield client
    client.close()


def make(count: int) -> tuple[list[Chunk], Made]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds = ("manual", "incident", "threat")
    chunks = [
        Chunk(f"{(n * 2**60 + n) % 2**64:016x}", f"Pump {n % 3}", "Ports › 502", n % 2 or None,
              f"Text {n} – ½", kinds[n % 3], n, n + 9)
        for n in range(1, count + 1)
    ]  # fmt: skip
    pieces = rng.integers(-127, 128, size=(count, 5, 128), dtype=np.int8)
    pieces[0] = 0
    ids = [chunk.id for chunk in chunks]
    axes = rng.normal(size=(384, 128)).astype(np.float32)
    return chunks, Made(
        dict(zip(ids, vectors, strict=True)), dict(zip(ids, pieces, strict=True)), axes
    )


@pytest.fixture(params=["chroma", "qdrant"])
def store(request, tmp_path, server):
    if request.param == "chroma":
        opened = Store(tmp_path / "store")
    else:
        opened = QdrantStore(server, "faultwise-1")
        opened.create(384)
    yield opened
    opened.close()


def test_what_is_put_is_read_back(store):
    chunks, made = make(600)
    store.put(chunks, made)
    assert store.chunks() == sorted(chunks, key=lambda chunk: chunk.id)
    assert store.ids() == {chunk.id for chunk in chunks}
    if isinstance(store, QdrantStore):
        store.put_manifest(open_manifest(), made.axes)
    wanted = [chunk.id for chunk in chunks[:300]]
    found = store.made([*wanted, "00000000000000ff"])
    assert found.vectors.keys() == found.pieces.keys() == set(wanted)
    for one in wanted:
        np.testing.assert_allclose(found.vectors[one], made.vectors[one], atol=1e-6)
        np.testing.assert_array_equal(found.pieces[one], made.pieces[one])
    np.testing.assert_array_equal(store.axes(), made.axes)
    assert {*store.searchable(wanted)} == set(wanted)


def open_manifest():
    from knowledge_base.manifest import Manifest

    return Manifest()


def test_the_nearest_come_first_and_a_kind_is_kept_to(store):
    chunks, made = make(300)
    store.put(chunks, made)
    kinds = {chunk.id: chunk.kind for chunk in chunks}
    for chunk in chunks[:10]:
        asked = made.vectors[chunk.id]
        every = sorted(kinds, key=lambda one: -float(made.vectors[one] @ asked))
        assert store.nearest(asked, 20, None) == every[:20]
        incidents = [one for one in every if kinds[one] == "incident"]
        assert store.nearest(asked, 20, "incident") == incidents[:20]


def test_putting_again_changes_nothing_and_a_changed_one_is_replaced(store):
    chunks, made = make(20)
    store.put(chunks, made)
    store.put(chunks, made)
    assert len(store.chunks()) == 20


def test_readers_answer_as_the_owner_does(stocked_home, server):
    with open_index(stocked_home) as index:
        count = publish(index, server, PLACE)
        assert count == len(index.chunks())
        readers = [open_published(server, PLACE, index.embedder) for _ in range(2)]
        for question in QUESTIONS:
            wanted = search(index, question)
            assert wanted
            for reader in readers:
                found = search(reader, question)
                assert [one.chunk_id for one in found] == [one.chunk_id for one in wanted]
                np.testing.assert_allclose(
                    [one.score for one in found], [one.score for one in wanted], atol=1e-3
                )
                assert find_passage(reader, found[0].chunk_id).text == found[0].text
        assert readers[0].check(apart=False).ok
        incidents = search(readers[0], QUESTIONS[1], kind="incident")
        assert {one.kind for one in incidents} == {"incident"}


def test_a_reader_follows_the_newest_publication_and_changes_nothing(home, server, tmp_path):
    manual = tmp_path / "pump.md"
    manual.write_text("# Pump P-7\n\n## Speed\n\nThe pump runs at 1450 rpm.\n")
    with open_index(home) as index:
        index.add([manual])
        publish(index, server, PLACE)
        reader = open_published(server, PLACE, index.embedder)
        assert "1450" in search(reader, "pump speed")[0].text
        manual.write_text("# Pump P-7\n\n## Speed\n\nThe pump runs at 2900 rpm.\n")
        index.add([manual])
        assert "1450" in search(reader, "pump speed")[0].text  # not published yet
        publish(index, server, PLACE)
        assert [one.text for one in search(reader, "pump speed")] == ["The pump runs at 2900 rpm."]
        index.remove("Pump P-7")
        manual.write_text("# Fan F-2\n\n## Speed\n\nThe fan runs at 900 rpm.\n")
        index.add([manual])
        publish(index, server, PLACE)
        names = {one.name for one in server.get_collections().collections}
        assert names == {f"faultwise-{n}{end}" for n in (2, 3) for end in ("", "-manifest")}
        assert "900" in search(reader, "fan speed")[0].text
        for change in (
            lambda: reader.add([manual]),
            lambda: reader.remove("Fan F-2"),
            reader.rebuild,
        ):
            with pytest.raises(UserError, match="only read"):
                change()


class KilledError(Exception):
    """Ends a publication in its midst."""


def test_a_publication_that_is_killed_leaves_the_one_before(stocked_home, server):
    def kill(done: int, of: int) -> None:
        raise KilledError(done, of)

    with open_index(stocked_home) as index:
        publish(index, server, PLACE)
        reader = open_published(server, PLACE, index.embedder)
        before = [one.chunk_id for one in search(reader, QUESTIONS[0])]
        with pytest.raises(KilledError):
            publish(index, server, PLACE, kill)
        assert [one.chunk_id for one in search(reader, QUESTIONS[0])] == before
        publish(index, server, PLACE)
        assert [one.chunk_id for one in search(reader, QUESTIONS[0])] == before
        assert isinstance(reader, Published)


def test_what_is_missing_is_said_in_one_line(home, server):
    with pytest.raises(UserError, match="has no published knowledge base"):
        open_published(server, PLACE)
    with open_index(home) as index, pytest.raises(UserError, match="holds no document"):
        publish(index, server, PLACE)
    with pytest.raises(UserError, match="no address of a Qdrant server"):
        connect("qdrant.local")
    with pytest.raises(UserError, match="does not answer as a Qdrant server"):
        open_published(connect("http://127.0.0.1:9"), "http://127.0.0.1:9")
