"""The words of an index on the disk: the same as counted, whatever changed or broke in between."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from word_vectors import WordVectors

from knowledge_base.chunks import Chunk
from knowledge_base.counted import BESIDE, FOLDER, count_words, open_words
from knowledge_base.index import open_index
from knowledge_base.retriever import search
from knowledge_base.store import Store
from knowledge_base.vocabulary import Vocabulary, make_terms

TEXTS = [
    "Fault F-07: the drive is too warm.",
    "| Register | Name |\n| --- | --- |\n| 40001 | Speed |",
    "BadSecureChannelClosed ends the channel 0x0B.",
    "…",  # no word at all
    "Update the firmware of the drive, then E 12 goes.",
]
ASKED = ["drive firmware", "f07", "40001", "0xb", "channel"]


def make_chunks(texts: list[str]) -> list[Chunk]:
    numbered = enumerate(texts)
    return [Chunk(f"{at:016x}", "Manual", "Part", None, text, "manual") for at, text in numbered]


def told(words: Vocabulary) -> dict[str, object]:
    """All that a vocabulary says."""
    scores = [words.bm25.get_scores(make_terms(one)).tolist() for one in ASKED]
    plain = {one.name: getattr(words, one.name) for one in fields(words)}
    return plain | {"bm25": scores, "terms": [*words.terms], "kinds": words.kinds.tolist()}


def test_words_are_read_as_they_were_counted(tmp_path):
    chunks = make_chunks(TEXTS)
    counted = told(count_words(chunks))
    assert told(open_words(tmp_path, chunks)) == counted
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]
    assert told(open_words(tmp_path, chunks)) == counted
    assert counted["rarity"]["drive"] == pytest.approx(np.log1p(5 / 2))
    assert counted["codes"] == {"f07": "F-07", "0xb": "0x0B", "e12": "E12"}
    assert counted["names"] == {"badsecurechannelclosed": "BadSecureChannelClosed"}
    assert counted["numbered"] == {"40001"}


@pytest.mark.parametrize(
    "texts", [[*TEXTS, "A new valve V-9."], TEXTS[1:], [*TEXTS[:2], "Another."], ["…"]]
)
def test_after_a_change_they_are_those_of_the_passages_that_are_there(tmp_path, texts):
    open_words(tmp_path, make_chunks(TEXTS))
    now = make_chunks(texts)
    renamed = {text: f"{at:016x}" for at, text in enumerate(TEXTS)}
    now = sorted(
        (replace(one, id=renamed.get(one.text, "f" * 15 + one.id[-1])) for one in now),
        key=lambda one: one.id,
    )
    for _ in range(2):
        assert told(open_words(tmp_path, now)) == told(count_words(now))


def test_a_passage_that_was_counted_is_not_cut_into_words_again(tmp_path):
    first, *others = make_chunks(TEXTS)
    open_words(tmp_path, [first, *others])
    # An id is the hash of what a passage says, so that this cannot be but here.
    words = open_words(tmp_path, [replace(first, text="Valve."), *others[:2]])
    assert "drive" in words.terms[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("file", "breaks"),
    [
        ("words.json", cut),
        ("words.json", lambda path: path.write_text('{"by": "another version"}')),
        ("tokens.npy", cut),
        ("ends.npy", Path.unlink),
        ("data.csc.index.npy", cut),
        ("vocab.index.json", cut),
        ("params.index.json", Path.unlink),
    ],
)
def test_what_cannot_be_read_is_counted_again(tmp_path, file: str, breaks: Callable[[Path], None]):
    chunks = make_chunks(TEXTS)
    counted = told(open_words(tmp_path, chunks))
    breaks(tmp_path / FOLDER / file)
    assert told(open_words(tmp_path, chunks)) == counted
    assert told(open_words(tmp_path, chunks)) == counted


def add_pumps(home: Path, folder: Path) -> None:
    """Two pumps, asked for once, so that their words are kept."""
    for n in (1, 2):
        (folder / f"pump{n}.md").write_text(
            f"# Pump {n}\n\n## Speed\n\nPump {n} turns at {n}450.\n"
        )
    with open_index(home, WordVectors()) as index:
        index.add([folder / "pump1.md", folder / "pump2.md"])
        assert search(index, "speed pump")


def test_passages_are_read_as_they_were_added(home, tmp_path):
    add_pumps(home, tmp_path)
    with open_index(home, WordVectors()) as index:
        assert index.store.passages(index.sources()) == index.store.chunks()
        assert index.chunks() == index.store.chunks()
        index.remove("Pump 1")
        assert index.store.passages(index.sources()) is None
        assert [one.document for one in index.chunks()] == ["Pump 2"]


@pytest.mark.parametrize(
    "breaks",
    [
        lambda path: path.write_bytes(b"no database, but longer than its head" * 9),
        lambda path: path.write_bytes(path.read_bytes().replace(b"2450", b"9450")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"passages", b"massages")),
        lambda path: path.unlink(),
    ],
)
def test_passages_that_are_not_what_was_added_are_not_taken(home, tmp_path, breaks):
    add_pumps(home, tmp_path)
    with open_index(home, WordVectors()) as index:
        breaks(index.store.folder / FOLDER / "passages.db")
        assert index.store.passages(index.sources()) is None
        assert [one.text for one in search(index, "speed pump 2")][:1] == ["Pump 2 turns at 2450."]


def test_what_another_version_counted_is_counted_again(tmp_path):
    first, *others = make_chunks(TEXTS)
    open_words(tmp_path, [first, *others])
    kept = tmp_path / FOLDER / "words.json"
    kept.write_text(kept.read_text().replace('"by":"', '"by":"0', 1))
    words = open_words(tmp_path, [replace(first, text="Valve."), *others])
    assert "valv" in words.terms[0]


def test_what_a_killed_process_left_is_not_copied(tmp_path):
    store = Store(tmp_path / "store-1")
    (store.folder / f"{BESIDE}x").mkdir()
    store.words(make_chunks(TEXTS))
    copy = store.copy(tmp_path / "store-2")
    assert (copy.folder / FOLDER).is_dir()
    assert not (copy.folder / f"{BESIDE}x").exists()
    store.close()
    copy.close()


def test_a_rebuild_leaves_no_word_of_what_was_removed(home, tmp_path):
    for name in ("pump", "zebrafish"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\nSpeed of the {name} is 3.\n")
    with open_index(home, WordVectors()) as index:
        index.add([tmp_path / "pump.md", tmp_path / "zebrafish.md"])
        assert search(index, "speed zebrafish")
        index.remove("zebrafish")
        index.rebuild()
        search(index, "speed zebrafish")
        words = (index.store.folder / FOLDER / "words.json").read_text()
    assert "pump" in words
    assert "zebrafish" not in words
