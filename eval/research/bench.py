"""How fast the parts are on this machine, each beside its target: ``make bench``.

Every measure runs in a process of its own, so that its peak memory is its own and no cache is warm.
Speeds depend on the machine; the ratio to nfstream does not, because both read the same file in the
same run.
"""

import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pandas as pd
from transformers import AutoTokenizer

from assistant.answers.answer import answer
from assistant.detection.pipeline import analyse
from assistant.llm.adapters import POCKET, load_adapter
from assistant.offline import hush_libraries
from eval.research.bench_knowledge import PAGES, PASSAGES, measure_ingest, measure_search, time_once
from knowledge_base.index import ensure_samples, open_index
from prompts.messages import ANSWERS, classification_prompt
from prompts.window_text import render_windows
from traffic.errors import UserError
from traffic.labels import LABELS
from traffic.reader import read_capture
from traffic.samples import make_samples
from traffic.simulation.simulate import simulate
from traffic.windows import make_windows
from traffic.zeek import write_conn_log

# ---- large captures made of small ones ----

BETWEEN_S = 60.0  # between two repetitions


def repeat_pcap(source: Path, path: Path, packets: int) -> Path:
    """Write a capture again and again, later each time, until it holds ``packets``."""
    with source.open("rb") as file:
        records = list(dpkt.pcap.Reader(file))
    span = records[-1][0] - records[0][0] + BETWEEN_S
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for i in range(packets):
            again, which = divmod(i, len(records))
            ts, frame = records[which]
            writer.writepkt(frame, ts + again * span)
    return path


def repeat_log(source: Path, path: Path, flows: int) -> int:
    """Write the flows of a log again and again, later each time; returns how many there are."""
    one = read_capture(source).flows
    span = float(one["ts"].max() - one["ts"].min()) + BETWEEN_S
    times = -(-flows // len(one))
    whole = pd.concat(
        [one.assign(ts=one["ts"] + again * span) for again in range(times)], ignore_index=True
    )[:flows]
    with path.open("w", encoding="utf-8") as stream:
        write_conn_log(whole, stream)
    return len(whole)


# ---- measures ----

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
# A plant under control for minutes, and one idle device for a day: many packets a slot, and many
# slots a packet.
_PCAPS = {
    "Modbus": SHARED / "modbus" / "characterization_modbus_6RTU_with_operate.pcap",
    "idle": SHARED / "iot23" / "honeypot-4-1" / "2018-10-25-14-06-32-192.168.1.132.pcap",
}
_LOG = SHARED / "iot23" / "34-1" / "conn.log.labeled"
_MILLION = 1_000_000


@dataclass(frozen=True)
class Row:
    """One measured value; ``reached`` is None where there is no target."""

    what: str
    value: str
    target: str = ""
    reached: bool | None = None


def measure_packets(name: str, folder: Path) -> list[Row]:
    """Packets of a million-packet capture to samples, against nfstream on the same file."""
    path = repeat_pcap(_PCAPS[name], folder / "million.pcap", _MILLION)
    start = time.perf_counter()
    samples = make_samples(read_capture(path))
    ours = _MILLION / (time.perf_counter() - start)
    what = f"{name} packets to {len(samples):,} samples"
    rows = [Row(what, f"{ours:,.0f} packets/s"), _measure_peak()]
    theirs, target = _measure_nfstream(path), "at least 4 times"
    if theirs is None:
        return [*rows, Row("against nfstream", "not installed", target)]
    rows.append(Row("nfstream, the same file to flows", f"{theirs:,.0f} packets/s"))
    ratio = ours / theirs
    return [*rows, Row("against nfstream", f"{ratio:.1f} times", target, ratio >= 4)]


def _measure_nfstream(path: Path) -> float | None:
    try:
        from nfstream import NFStreamer
    except ImportError:
        return None
    start = time.perf_counter()
    sum(1 for _ in NFStreamer(source=str(path)))
    return _MILLION / (time.perf_counter() - start)


def measure_log(folder: Path) -> list[Row]:
    """A conn.log of a million flows to windows."""
    path = folder / "conn.log"
    # Alone: making the file must not count as memory of reading it.
    flows = _run_alone(repeat_log, _LOG, path, _MILLION)
    start = time.perf_counter()
    windows = make_windows(make_samples(read_capture(path)))
    seconds = time.perf_counter() - start
    what = f"conn.log of {flows:,} flows to {len(windows):,} windows"
    row = Row(what, f"{seconds:.1f} s", "at most 3 s", seconds <= 3)
    return [row, _measure_peak(2.0)]


def measure_classification(folder: Path) -> list[Row]:
    """Windows through the pocket model: different ones, nothing cached, and steady traffic."""
    del folder
    llm, card = load_adapter()
    tokenizer = AutoTokenizer.from_pretrained(POCKET / card.base)
    windows = make_windows(make_samples(simulate(1, devices=20, hours=1.0).capture))
    texts = list(dict.fromkeys(render_windows(windows)))[:4000]
    prompts = [classification_prompt(text) for text in texts]
    choices = [ANSWERS[label] for label in LABELS]
    llm.score(prompts[:50], choices)
    start = time.perf_counter()
    llm.score(prompts, choices)
    rate = len(prompts) / (time.perf_counter() - start)
    tokens = sum(map(len, tokenizer(prompts).input_ids)) / len(prompts)
    what = f"classification of {len(prompts):,} different windows of {tokens:.0f} tokens"
    rows = [Row(what, f"{rate:,.0f} windows/s", "at least 1,000 windows/s", rate >= 1000)]
    equal = prompts[:20] * 5000
    start = time.perf_counter()
    llm.score(equal, choices)
    rate = len(equal) / (time.perf_counter() - start)
    what = f"classification of {len(equal):,} windows of 20 different texts"
    rows.append(Row(what, f"{rate:,.0f} windows/s", "at least 20,000 windows/s", rate >= 20_000))
    return [*rows, _measure_peak()]


def measure_incidents(folder: Path) -> list[Row]:
    """The botnet capture 34-1 to incidents as `faultwise incidents` makes them, model loaded too."""
    del folder
    start = time.perf_counter()
    llm, card = load_adapter()
    loaded_s = time.perf_counter() - start
    analysis = analyse(_LOG, llm, card)
    took_s = time.perf_counter() - start
    what = f"34-1: file to {len(analysis.incidents)} incidents, {len(analysis.windows):,} windows"
    return [
        Row(what, f"{took_s:.1f} s", "at most 10 s", took_s <= 10),
        Row("of it, loading the model", f"{loaded_s:.1f} s"),
        _measure_peak(),
    ]


def measure_answer(folder: Path) -> list[Row]:
    """Questions about the botnet capture 34-1, with what `ask` loads while it reads the capture."""
    analysis = analyse(_LOG, *load_adapter())
    with open_index(folder) as index:
        start = time.perf_counter()
        ensure_samples(index)
        indexed_s = time.perf_counter() - start
        question = "why is 192.168.1.195 behaving oddly?"
        first_s, *others_s = [
            time_once(lambda: answer(question, analysis, index)) for _ in range(3)
        ]
    more_s = min(others_s)
    return [
        Row("shipped manuals and incidents indexed, once", f"{indexed_s:.1f} s"),
        Row("the first question answered", f"{first_s:.2f} s", "under 2 s", first_s < 2),
        Row("a further question answered", f"{more_s:.2f} s", "under 2 s", more_s < 2),
        _measure_peak(),
    ]


_ATTACK = SHARED.parent / "kb" / "mitre-ics" / "ics-attack.json"


def measure_knowledge(folder: Path) -> list[Row]:
    """ATT&CK for ICS and a PDF manual into an empty knowledge base."""
    done = measure_ingest(folder, _ATTACK)
    rate, gb = done.passages / done.all_s, done.peak_gb
    what = f"ATT&CK and {PAGES:,} pages to {done.passages:,} passages"
    return [
        Row(what, f"{rate:.0f} passages/s", "at least 60 passages/s", rate >= 60),
        Row("of it, reading", f"{done.read_s:.1f} s"),
        Row("its CPU, where other work slows the clock", f"{done.cpu_s:.1f} s"),
        Row("its memory", f"{gb:.2f} GB", "at most 2 GB", gb <= 2),
    ]


def measure_searches(folder: Path) -> list[Row]:
    """Searches of a large knowledge base, beside plain queries of its Chroma store."""
    done = measure_search(folder)
    ours, order, read, plain = (
        1000 * float(np.percentile(seconds, 95))
        for seconds in (done.search_s, done.order_s, done.read_s, done.chroma_s)
    )
    what = f"search of {PASSAGES:,} passages, vectors given, the 95th percentile"
    return [
        Row(what, f"{ours:.0f} ms", "under 60 ms", ours < 60),
        Row(
            "of it, ordering the candidates (MaxSim)", f"{order:.0f} ms", "under 30 ms", order < 30
        ),
        Row("reading the question, the packaged sentence model", f"{read:.0f} ms"),
        Row("the first search after a change, which counts all words", f"{done.first_s:.1f} s"),
        Row("the first search of the next process", f"{done.again_s:.1f} s"),
        Row("a plain Chroma query of them", f"{plain:.0f} ms"),
        Row("filling it, vectors given", f"{done.fill_s:.0f} s"),
        _measure_peak(),
    ]


def measure_help(folder: Path) -> list[Row]:
    """The command line without work."""
    del folder
    command = [sys.executable, "-m", "assistant.cli", "--help"]
    run = partial(subprocess.run, check=True, capture_output=True)
    best = min(time_once(lambda: run(command)) for _ in range(5))
    return [Row("faultwise --help, the best of 5", f"{best:.2f} s", "under 0.5 s", best < 0.5)]


_SAMPLE = Path(__file__).parents[2] / "assistant" / "samples" / "filling-line"
_STARTS = {  # a command, and the CPU seconds that it may take from its start to its answer
    "--help": 0.2,
    "doctor": 1.5,
    "kb search 'Modbus exception 0x0B'": 2.0,
    f"ask 'what is wrong here?' --capture {_SAMPLE} --plant {_SAMPLE / 'plant.yaml'}": 3.0,
}


def measure_starts(folder: Path) -> list[Row]:
    """CPU of whole commands, user and system: what an operator waits for before the work begins."""
    rows = []
    for command, most in _STARTS.items():
        words = [sys.executable, "-m", "assistant.cli", *shlex.split(command)]
        home = os.environ | {"FAULTWISE_HOME": str(folder)}
        spent = [_children_s()]
        for _ in range(6):  # the first makes the home
            subprocess.run(words, env=home, capture_output=True, check=False)  # noqa: S603
            spent.append(_children_s())
        middle = float(np.median(np.diff(spent)[1:]))
        name = f"faultwise {' '.join(command.split()[:2])}, CPU, the median of 5"
        rows.append(Row(name, f"{middle:.2f} s", f"at most {most:g} s", middle <= most))
    return rows


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _measure_peak(most_gb: float | None = None) -> Row:
    """The most memory this process has held."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    if most_gb is None:
        return Row("its memory", f"{used:.2f} GB")
    return Row("its memory", f"{used:.2f} GB", f"at most {most_gb:.0f} GB", used <= most_gb)


MEASURES: dict[str, Callable[[Path], list[Row]]] = {
    "help": measure_help,
    "starts": measure_starts,
    "packets": partial(measure_packets, "Modbus"),
    "idle": partial(measure_packets, "idle"),
    "log": measure_log,
    "classification": measure_classification,
    "incidents": measure_incidents,
    "answer": measure_answer,
    "knowledge": measure_knowledge,
    "searches": measure_searches,
}


def measure(name: str) -> list[Row]:
    """Run one measure in this process, with a folder for what it writes."""
    with tempfile.TemporaryDirectory() as folder:
        return MEASURES[name](Path(folder))


def render(rows: list[Row]) -> str:
    """A line each: the target and whether it was reached stand behind the value."""
    words = {True: "reached", False: "MISSED", None: ""}
    return "\n".join(
        f"{r.what:<72} {r.value:>20}   {r.target:<24} {words[r.reached]}".rstrip() for r in rows
    )


def _run_alone(work: Callable[..., Any], *arguments: object) -> Any:
    fresh = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, initializer=hush_libraries) as process:
        return process.submit(work, *arguments).result()


def measure_all(names: Sequence[str]) -> Iterator[str]:
    """Measure one after the other, all by default, and yield each report as soon as it is there.

    Raises:
        UserError: a name is unknown, or the shared captures are not there.
    """
    if unknown := set(names) - set(MEASURES):
        raise UserError(
            f"no measure is called {', '.join(unknown)}; expected any of {', '.join(MEASURES)}"
        )
    if not SHARED.is_dir():
        raise UserError(
            f"no folder {SHARED}; expected the shared captures there; "
            "put them beside the repository"
        )
    return (render(_run_alone(measure, name)) for name in names or MEASURES)
