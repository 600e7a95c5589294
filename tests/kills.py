"""Kill a process at random moments while it changes a knowledge base, and look what is left.

python tests/kills.py --kills 100

Each round adds a document, replaces one, removes one, builds the index anew or asks the first question
of a version (whose words are counted and kept), in a process that is killed (SIGKILL) at a random
moment of it. Afterwards the knowledge base must hold exactly what it held before or exactly what the
change was to leave, passage by passage, ``kb check`` must find nothing wrong, and the words that are
kept must be those of its passages.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import chromadb  # noqa: F401  # once here, so that no process of a round waits for it
from word_vectors import WordVectors

from knowledge_base.counted import FOLDER, count_words
from knowledge_base.index import open_index
from knowledge_base.retriever import search

ACTS = ("add", "replace", "remove", "rebuild", "ask")
PASSAGES = 40  # of one document
_fork = multiprocessing.get_context("fork")
State = dict[str, list[str]]  # the passages of each document, by title, sorted


@dataclass
class Tally:
    """What became of the kills."""

    kills: int = 0
    acts: Counter[str] = field(default_factory=Counter)
    old: int = 0
    new: int = 0
    wrong: list[str] = field(default_factory=list)


def kill_changes(folder: Path, kills: int, seed: int, documents: int = 5) -> Tally:
    """Kill ``kills`` changes; changes that end before they are killed do not count."""
    rng = random.Random(seed)
    sources, home = folder / "documents", folder / "home"
    sources.mkdir(parents=True)
    versions = dict.fromkeys(range(documents), 1)
    for number in versions:
        _write(sources, number, 1)
    _run(_change, home, "add", str(sources))
    took_s = dict.fromkeys(ACTS, 0.3)
    tally = Tally()
    before = _look(home, tally, "at the start")
    while tally.kills < kills:
        act = rng.choice(ACTS if len(versions) > 2 else ("add", "replace", "ask"))
        number = max(versions) + 1 if act == "add" else rng.choice(sorted(versions))
        after = dict(versions)
        if act in ("add", "replace"):
            after[number] = versions.get(number, 0) + 1
            _write(sources, number, after[number])
        elif act == "remove":
            del after[number]
        what = str(sources / f"{number}.md") if act in ("add", "replace") else f"Device {number}"
        killed_s = rng.uniform(0, 1.1 * took_s[act])
        ended = _run(_change, home, act, what, killed_s=killed_s)
        if ended is not None:
            took_s[act] = (took_s[act] + ended) / 2
        else:
            tally.kills += 1
            tally.acts[act] += 1
        place = f"{act} {what}, {'killed' if ended is None else 'ended'} after {killed_s:.3f} s"
        now = _look(home, tally, place)
        wanted = {f"Device {n}": _passages(n, v) for n, v in after.items()}
        if now == wanted:
            tally.new += ended is None
            versions = after
        elif now == before and ended is None:
            tally.old += 1
        else:
            tally.wrong.append(f"{place}: {_difference(now, before, wanted)}")
        before = now
        for n in {*versions, number}:
            _write(sources, n, versions.get(n, 0))
    return tally


def _passages(number: int, version: int) -> list[str]:
    return sorted(
        f"Setting {n} of device {number} has the value v{version}n{n}." for n in range(PASSAGES)
    )


def _write(folder: Path, number: int, version: int) -> None:
    path = folder / f"{number}.md"
    if not version:
        path.unlink(missing_ok=True)
        return
    parts = (f"## Part {n}\n{text}\n" for n, text in enumerate(_passages(number, version)))
    path.write_text(f"# Device {number}\n" + "".join(parts), encoding="utf-8")


def _difference(now: State, before: State, wanted: State) -> str:
    texts = Counter(text for some in now.values() for text in some)
    told = Counter(text for some in before.values() for text in some)
    aim = Counter(text for some in wanted.values() for text in some)
    return (
        f"{len(now)} documents, {texts.total()} passages; before {len(before)} and {told.total()}, "
        f"wanted {len(wanted)} and {aim.total()}"
    )


def _run(
    change: Callable[..., None], *arguments: object, killed_s: float | None = None
) -> float | None:
    """Run in a process of its own; how long it took from its start of the change, None where it was
    killed."""
    here, there = _fork.Pipe()
    process = _fork.Process(target=change, args=(there, *arguments))
    process.start()
    there.close()
    here.recv()  # it begins
    start_s = time.monotonic()
    if killed_s is not None:
        process.join(killed_s)
    if killed_s is not None and process.is_alive():
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    took_s = time.monotonic() - start_s
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the change ended with {process.exitcode}")
    return took_s if process.exitcode == 0 else None


def _change(there: Connection, home: Path, act: str, what: str) -> None:
    with open_index(home, WordVectors()) as index:
        there.send("begins")
        if act in ("add", "replace"):
            index.add([what])
        elif act == "remove":
            index.remove(what)
        elif act == "ask":  # the look before has counted the words already
            shutil.rmtree(index.store.folder / FOLDER)
            search(index, "value of setting 1")
        else:
            index.rebuild()


def _look(home: Path, tally: Tally, place: str) -> State:
    """What the knowledge base holds; whatever is unsound goes to the tally."""
    here, there = _fork.Pipe()
    process = _fork.Process(target=_tell, args=(there, home))
    process.start()
    there.close()
    try:
        state, problems = here.recv()
    except EOFError:
        state, problems = {}, ["it cannot be opened"]
    process.join()
    tally.wrong += [f"{place}: {problem}" for problem in problems]
    return state


def _tell(there: Connection, home: Path) -> None:
    with open_index(home, WordVectors()) as index:
        stored = {chunk.id: chunk.text for chunk in index.store.chunks()}
        named = [chunk for entry in index.list() for chunk in entry.chunks]
        problems = [
            one for one in index.check(apart=False).problems if "has changed since" not in one
        ]
        if len(named) != len(set(named)) or stored.keys() != set(named):
            problems.append(f"{len(stored)} passages stored, {len(named)} named")
        state = {
            entry.title: sorted(stored.get(chunk, "") for chunk in entry.chunks)
            for entry in index.list()
        }
        living = {text for texts in state.values() for text in texts}
        found = [p.text for p in search(index, "value of setting 3 of device 1", k=20)]
        kept, counted = index.store.words(index.chunks()), count_words(index.chunks())
        if (kept.rarity, [*kept.terms]) != (counted.rarity, [*counted.terms]):
            problems.append("the words that are kept are not those of the passages")
        problems += [f"a stale passage answers: {text}" for text in found if text not in living]
    there.send((state, problems))


def main() -> None:
    """Kill as often as asked and say what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--documents", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_changes(Path(folder), asked.kills, asked.seed, asked.documents)
    sys.stdout.write(
        f"{tally.kills} kills ({', '.join(f'{n} {act}' for act, n in sorted(tally.acts.items()))}): "
        f"{tally.old} left the old state, {tally.new} the new, {len(tally.wrong)} findings\n"
    )
    sys.stdout.writelines(f"- {one}\n" for one in tally.wrong)
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
