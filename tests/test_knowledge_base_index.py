"""The index: what is added, replaced, removed and mended, with one owner, and after a kill at any
step."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from word_vectors import WordVectors

from knowledge_base.about import Scope
from knowledge_base.chunks import Chunk
from knowledge_base.embeddings import Made, SentenceEmbedder, read_sample_vectors, sample_files
from knowledge_base.index import Index, ensure_samples, open_index
from knowledge_base.manifest import FORMAT
from knowledge_base.retriever import search
from knowledge_base.store import Store
from traffic.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def index(home: Path) -> Iterator[Index]:
    with open_index(home, WordVectors()) as opened:
        yield opened


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_pump(folder: Path, speed: int = 1450, name: str = "pump.md", title: str = "Pump") -> Path:
    """A manual of one passage."""
    return write(folder / name, f"# {title}\nImpeller speed {speed}.\n")


def titles(index: Index) -> list[str]:
    return [entry.title for entry in index.list()]


def answers(index: Index, question: str) -> list[str]:
    return [passage.text for passage in search(index, question)]


def in_process(script: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a second process with this knowledge base's home as its first argument."""
    return run(["-c", script, str(home), *arguments])


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    setting = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=setting, capture_output=True, text=True, timeout=300)


class TestAdding:
    def test_a_document_is_added_once_and_then_unchanged(self, index, tmp_path):
        pump = write(tmp_path / "pump.md", "# Pump\nThe impeller speed is 1450.\n")
        assert index.add([pump]).added == ("Pump",)
        again = index.add([pump])
        assert (again.added, again.unchanged, again.replaced) == ((), ("Pump",), ())
        assert len(index.chunks()) == 1

    def test_a_new_version_of_the_same_path_replaces_the_old_one(self, index, tmp_path):
        pump = write_pump(tmp_path)
        index.add([pump])
        write(pump, "# Pump, second edition\nImpeller speed 2900.\n")
        assert index.add([pump]).replaced == ("Pump, second edition",)
        assert answers(index, "impeller speed") == ["Impeller speed 2900."]

    def test_a_new_version_from_another_folder_replaces_the_old_one(self, index, tmp_path):
        index.add([write_pump(tmp_path / "v1")])
        said = index.add([write_pump(tmp_path / "v2", 2900)])
        assert said.replaced == ("Pump",)
        assert f"from {tmp_path / 'v1' / 'pump.md'}" in said.notes[0]
        assert answers(index, "impeller speed") == ["Impeller speed 2900."]

    def test_two_files_of_one_folder_are_never_versions_of_each_other(self, index, tmp_path):
        write(tmp_path / "line1" / "manual.md", "# Manual\nImpeller speed 1450.\n")
        write(tmp_path / "line2" / "manual.md", "# Manual\nImpeller speed 2900.\n")
        assert index.add([tmp_path]).added == ("Manual", "Manual")
        assert index.add([tmp_path]).unchanged == ("Manual", "Manual")
        found = sorted(answers(index, "impeller speed"))
        assert found == ["Impeller speed 1450.", "Impeller speed 2900."]

    def test_a_copy_is_kept_once_and_said(self, index, tmp_path):
        first = write(tmp_path / "a.md", "# Pump\nSpeed 1450.\n")
        said = index.add([first, write(tmp_path / "b.md", "# Pump\nSpeed 1450.\n")])
        assert (said.added, said.unchanged) == (("Pump",), ("Pump",))
        assert said.notes == (f"{tmp_path / 'b.md'} holds the same as {first}; it is kept once",)

    def test_only_changed_passages_are_embedded_again(self, index, tmp_path):
        pump = write(tmp_path / "pump.md", "# Pump\n## A\nOne.\n## B\nTwo.\n")
        index.add([pump])
        write(pump, "# Pump\n## A\nOne.\n## B\nThree.\n")
        before = index.embedder.embedded
        index.add([pump])
        assert index.embedder.embedded - before == 1

    def test_one_unreadable_path_adds_nothing(self, index, tmp_path):
        pump = write(tmp_path / "pump.md", "# Pump\nSpeed.\n")
        with pytest.raises(UserError, match="does not exist"):
            index.add([pump, tmp_path / "none.md"])
        assert index.list() == ()

    def test_progress_counts_chunks(self, index, tmp_path):
        seen: list[tuple[int, int]] = []
        text = "# Pump\n" + "".join(f"## Part {n}\nText {n}.\n" for n in range(70))
        pump = write(tmp_path / "pump.md", text)
        index.add([pump], lambda done, total: seen.append((done, total)))
        assert seen == [(64, 70), (70, 70)]


class TestRemoving:
    def test_a_removed_document_never_answers_and_others_do(self, index, tmp_path):
        index.add([write(tmp_path / "a.md", "# Pump\nImpeller speed 1450.\n")])
        index.add([write(tmp_path / "b.md", "# Fan\nImpeller speed 900.\n")])
        index.remove("Pump")
        assert titles(index) == ["Fan"]
        assert answers(index, "impeller speed") == ["Impeller speed 900."]
        assert "Impeller speed 1450." not in answers(index, "impeller speed 1450")

    def test_a_passage_shared_by_two_documents_stays_while_one_needs_it(self, index, tmp_path):
        index.add([write(tmp_path / "a.md", "# Pump\n## A\nSame.\n## B\nOne.\n")])
        index.add([write(tmp_path / "b.md", "# Pump\n## A\nSame.\n## B\nTwo.\n")])
        index.remove(index.list()[0].id)
        assert index.check().ok
        assert answers(index, "same pump") != []

    def test_an_unknown_name_is_told_the_near_ones(self, index, tmp_path):
        index.add([write(tmp_path / "a.md", "# Pump manual\nSpeed.\n")])
        with pytest.raises(UserError, match=r"0 documents are called 'Pmp manual'.*'Pump manual'"):
            index.remove("Pmp manual")

    def test_one_title_of_two_documents_asks_for_the_id(self, index, tmp_path):
        for name in ("a", "b"):
            write(tmp_path / name / "m.md", f"# Manual\nSpeed {name}.\n")
        index.add([tmp_path])
        with pytest.raises(UserError, match=rf"2 documents.*{index.list()[0].id}"):
            index.remove("Manual")


class TestOwner:
    def test_a_second_process_is_told_who_owns_the_folder(self, index, home):
        script = "import sys; from knowledge_base.index import open_index; open_index(sys.argv[1])"
        done = in_process(script, home)
        assert done.returncode != 0
        message = done.stderr.strip().splitlines()[-1]
        assert f"in use by process {os.getpid()} (" in message
        assert "end that one first" in message

    def test_a_closed_or_killed_owner_leaves_no_lock(self, home):
        assert in_process(START + "kill()", home, "64").returncode == -signal.SIGKILL
        for _ in range(2):
            open_index(home, WordVectors()).close()

    def test_a_home_that_is_a_file_is_an_error(self, tmp_path):
        with pytest.raises(UserError, match="cannot be written"):
            open_index(write(tmp_path / "home", "a file"), WordVectors())


class TestAnotherEmbedder:
    def test_it_is_refused_until_a_rebuild(self, home, tmp_path):
        pump = write_pump(tmp_path)
        with open_index(home, WordVectors(64)) as index:
            index.add([pump])
        with open_index(home, WordVectors(32)) as index:
            assert titles(index) == ["Pump"]
            with pytest.raises(UserError, match=r"words-64 \(dimension 64\).*words-32.*kb rebuild"):
                search(index, "impeller speed")
            with pytest.raises(UserError, match="kb rebuild"):
                index.add([pump])
            ensure_samples(index)  # adds nothing, and must not stand in the way of the rebuild
            index.rebuild()
            assert answers(index, "impeller speed") == ["Impeller speed 1450."]
            assert (index.manifest.embedder, index.manifest.dimension) == ("words-32", 32)

    def test_a_folder_without_weights_is_told_with_its_path(self, tmp_path):
        with pytest.raises(UserError, match=rf"{tmp_path} holds no sentence model"):
            SentenceEmbedder(tmp_path)

    def test_a_fingerprint_follows_the_weights(self, tmp_path):
        write(tmp_path / "config.json", "{}")
        weights = tmp_path / "model.safetensors"
        prints = set()
        for value in (b"a" * 200_000, b"a" * 199_999 + b"b"):
            weights.write_bytes(value)
            prints.add(SentenceEmbedder(tmp_path).fingerprint)
        assert len(prints) == 2


class TestRebuild:
    def test_it_erases_what_was_removed(self, home, tmp_path):
        def bytes_on_disk() -> bytes:
            files = (path for path in (home / "knowledge_base").rglob("*") if path.is_file())
            return b"".join(path.read_bytes() for path in files)

        with open_index(home, WordVectors()) as index:
            index.add([write(tmp_path / "secret.md", "# Secret\nThe xylophone code.\n")])
            index.add([write(tmp_path / "fan.md", "# Fan\nImpeller speed.\n")])
            index.remove("Secret")
            assert b"xylophone" in bytes_on_disk()  # why a rebuild is needed at all
        # By a process that never held the text: Chroma writes unused memory to its graph's file.
        assert in_process(START + "index.rebuild()\nindex.close()", home, "64").returncode == 0
        assert b"xylophone" not in bytes_on_disk()
        with open_index(home, WordVectors()) as index:
            assert answers(index, "impeller speed") == ["Impeller speed."]

    def test_it_copies_vectors(self, index, tmp_path):
        index.add([write_pump(tmp_path)])
        embedded = index.embedder.embedded
        index.rebuild()
        assert index.embedder.embedded == embedded
        assert index.check().ok

    def test_an_empty_knowledge_base_can_be_rebuilt(self, index):
        index.rebuild()
        assert index.check().ok
        assert answers(index, "anything") == []


START = """
import os, signal, sys
from knowledge_base.index import open_index
from word_vectors import WordVectors
index = open_index(sys.argv[1], WordVectors(int(sys.argv[2])))
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""


class TestKilled:
    def test_ten_kills_leave_the_old_or_the_new_state(self):
        """A hundred more: ``python tests/kills.py``. In a process of its own, since one that has
        opened Chroma cannot be forked."""
        done = run([str(ROOT / "tests" / "kills.py"), "--kills", "10", "--documents", "3"])
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("10 kills (")

    def test_what_a_killed_change_left_is_erased_at_the_next_start(self, home, tmp_path):
        with open_index(home, WordVectors(64)) as index:
            index.add([write_pump(tmp_path)])
            store = index.manifest.store
        assert in_process(START + "index.rebuild(kill)", home, "32").returncode == -signal.SIGKILL
        assert len([*(home / "knowledge_base").glob("store-*")]) == 2
        with open_index(home, WordVectors(64)) as index:
            assert [one.name for one in index.folder.glob("store-*")] == [store]
            assert answers(index, "impeller speed") == ["Impeller speed 1450."]

    def test_a_change_that_fails_changes_nothing(self, index, tmp_path):
        index.add([write_pump(tmp_path)])
        write_pump(tmp_path, 2900)

        def fail(_done: int, _all: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            index.add([tmp_path / "pump.md"], fail)
        assert answers(index, "impeller speed") == ["Impeller speed 1450."]
        index.close()
        assert len([*index.folder.glob("store-*")]) == 1

    @pytest.mark.parametrize("pattern", ["chroma.sqlite3", "*/data_level0.bin"])
    def test_a_broken_store_is_found_and_made_anew(self, home, tmp_path, pattern):
        text = "# Pump\n" + "".join(f"## Part {n}\nText {n}.\n" for n in range(1100))
        pump = write(tmp_path / "pump.md", text)
        with open_index(home, WordVectors()) as index:
            index.add([pump])
            (broken,) = (index.folder / index.manifest.store).glob(pattern)
        broken.write_bytes(b"nothing" * 1000)
        with open_index(home, WordVectors()) as index:
            assert index.check().problems == ("Pump: 1100 of 1100 chunks are lost",)
            assert index.repair() == (f"Pump was read again from {pump}",)
            assert index.check().ok
            assert answers(index, "text 7 part 7") != []

    def test_lost_chunks_are_found_and_read_again(self, home, tmp_path):
        names = ("pump", "fan")
        pump, fan = (write_pump(tmp_path, name=f"{name}.md", title=name) for name in names)
        with open_index(home, WordVectors()) as index:
            index.add([pump, fan])
            store = index.folder / index.manifest.store
            lost = [chunk.id for chunk in index.chunks()]
        fan.unlink()
        damaged = Store(store)
        damaged.delete(lost)
        damaged.close()
        with open_index(home, WordVectors()) as index:
            assert {entry.title for entry in index.check().damaged} == {"pump", "fan"}
            said = index.repair()
            assert said[0].startswith("fan was removed: ")
            assert said[1] == f"pump was read again from {pump}"
            assert index.check().ok
            assert titles(index) == ["pump"]

    def test_an_altered_passage_is_found(self, index, tmp_path):
        index.add([write(tmp_path / "pump.md", "# Pump\nSpeed 1450.\n")])
        (chunk,) = index.chunks()
        forged = replace(chunk, text="Speed 9999.")
        index.store.put([forged], Made({forged.id: np.ones(64, np.float32) / 8}))
        assert index.check().problems == ("Pump: 1 of 1 chunks are lost",)

    def test_a_manifest_that_is_no_manifest_is_an_error(self, home):
        write(home / "knowledge_base" / "manifest.json", '{"documents": 3}')
        with pytest.raises(UserError, match="is no manifest"):
            open_index(home, WordVectors())
        write(home / "knowledge_base" / "manifest.json", "{}")
        open_index(home, WordVectors()).close()  # the failed start has let go of the lock


class TestSamples:
    def test_they_are_added_once_and_a_removed_one_stays_away(self, home):
        with open_index(home, WordVectors()) as index:
            assert len(ensure_samples(index).added) == len(sample_files()) == len(index.list())
            index.remove("Network troubleshooting guide")
            assert ensure_samples(index).added == ()
        with open_index(home, WordVectors()) as index:
            assert ensure_samples(index).added == ()
            assert "Network troubleshooting guide" not in titles(index)

    def test_shipped_vectors_hold_every_shipped_passage(self, home):
        """Fails when a document has changed: run ``python -m knowledge_base.embeddings``."""
        vectors = read_sample_vectors(SentenceEmbedder().fingerprint)
        with open_index(home) as index:
            ensure_samples(index)
            assert (
                {chunk.id for chunk in index.chunks()}
                == vectors.vectors.keys()
                == vectors.pieces.keys()
            )

    def test_vectors_of_another_embedder_are_not_used(self):
        assert read_sample_vectors("words-64") == Made()


def test_the_nearest_are_really_the_nearest(tmp_path):
    """Passages crowd by topic, and a graph that is searched too narrowly misses whole crowds."""
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.normal(size=(8, 384)) / np.sqrt(384), 113, axis=0)[:900]
    vectors = (topics + 0.02 * rng.normal(size=(900, 384))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = [Chunk(f"{n:016x}", "manual", "section", None, "text", "manual") for n in range(900)]
    store = Store(tmp_path)
    store.put(chunks, Made({chunk.id: one for chunk, one in zip(chunks, vectors, strict=True)}))
    for asked in rng.normal(size=(20, 384)).astype(np.float32):
        exact = {chunks[row].id for row in np.argsort(-(vectors @ asked))[:30]}
        assert set(store.nearest(asked / np.linalg.norm(asked), 30, None)) == exact
    store.close()


def test_a_store_larger_than_one_reading_is_read_whole(tmp_path):
    """Chroma asks SQLite, which takes no more than 32,766 rows at once."""
    count = 33_000
    chunks = [
        Chunk(f"{n:016x}", "manual", "section", None, f"text {n}", "manual") for n in range(count)
    ]
    vectors = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    store = Store(tmp_path)
    store.put(chunks, Made({chunk.id: one for chunk, one in zip(chunks, vectors, strict=True)}))
    assert store.chunks() == chunks
    assert len(store.ids()) == count
    store.close()


def make_old(home: Path) -> None:
    """A store as the first version wrote it: no marks, no word pieces."""
    folder = home / "knowledge_base"
    kept = json.loads((folder / "manifest.json").read_text())
    del kept["version"]
    for entry in kept["documents"]:
        del entry["about"], entry["example"]
    (folder / "manifest.json").write_text(json.dumps(kept))
    (folder / kept["store"] / "pieces.sqlite3").unlink()


class TestOldStore:
    def test_repair_makes_it_anew_and_keeps_what_has_no_file_any_more(self, home, tmp_path):
        kept, gone = (
            write(tmp_path / name, f"# {name}\nImpeller speed 1450.\n")
            for name in ("kept.md", "gone.md")
        )
        with open_index(home, WordVectors()) as index:
            index.add([kept, gone])
        make_old(home)
        gone.unlink()
        with open_index(home, WordVectors()) as index:
            assert not index.check().ok
            (said,) = index.repair()
            assert "2 documents were made anew" in said
            assert "1 of them as they were" in said
            assert index.check().ok
            assert len(search(index, "impeller speed 1450")) == 2

    def test_what_a_document_is_about_stays(self, home, tmp_path):
        with open_index(home, WordVectors()) as index:
            index.add([write_pump(tmp_path)], about="Acme P-7", scope=Scope(site="north"))
        manifest = home / "knowledge_base" / "manifest.json"
        kept = json.loads(manifest.read_text()) | {"version": FORMAT - 1}
        manifest.write_text(json.dumps(kept))
        with open_index(home, WordVectors()) as index:
            index.upgrade()
            (entry,) = index.list()
            assert (entry.about, entry.scope.site) == ("Acme P-7", "north")

    def test_opening_with_the_samples_does_it_too_and_marks_them(self, home, tmp_path):
        with open_index(home, WordVectors()) as index:
            ensure_samples(index)
            index.add([write(tmp_path / "own.md", "# Own\nImpeller.\n")])
        make_old(home)
        with open_index(home, WordVectors()) as index:
            ensure_samples(index)
            assert {e.title for e in index.list() if not e.example} == {"Own"}
            assert index.check().ok


class TestWhose:
    OWN = "# Acme P-7 pump\nRetransmissions are counted in register 9.\n"

    @pytest.mark.parametrize(("examples", "shown"), [(None, False), (True, True), (False, False)])
    def test_examples_give_way_to_documents_of_the_plant(self, home, tmp_path, examples, shown):
        with open_index(home, WordVectors(), examples) as index:
            ensure_samples(index)
            before = {one.example for one in index.sources().values()}
            assert before == ({True} if examples is not False else set())
            index.add([write(tmp_path / "own.md", self.OWN)])
            assert {one.example for one in index.sources().values()} == (
                {False, True} if shown else {False}
            )
            own = [
                one for one in search(index, "retransmissions register 9", 20) if not one.example
            ]
            assert [one.about for one in own] == ["Acme P-7"]

    def test_its_own_incidents_put_away_only_the_shipped_incidents(self, home, tmp_path):
        path = next(one for one in sample_files() if one.stem.startswith("inc-"))
        text = path.read_text().replace("INC-2025-004", "OUR-1")
        with open_index(home, WordVectors()) as index:
            ensure_samples(index)
            index.add([write(tmp_path / "our.md", text)])
            kinds = {(one.kind, one.example) for one in index.sources().values()}
            assert kinds == {("incident", False), ("manual", True)}

    @pytest.mark.parametrize(
        ("given", "about"), [(None, "Acme P-7"), ("Acme P-9", "Acme P-9"), ("general", "")]
    )
    def test_what_a_document_is_about_is_given_or_found(self, index, tmp_path, given, about):
        path = write(tmp_path / "own.md", self.OWN)
        index.add([path])
        assert index.list()[0].about == "Acme P-7"
        index.add([path], about=given)
        assert [one.about for one in index.list()] == [about]
