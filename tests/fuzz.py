"""Read mutations as the product would and list those that break it.

    PYTHONPATH=. python tests/fuzz.py 100000 --from 0

reads the mutations 0 to 99999: 250 at a time as one folder of captures, one of Zeek's rotated logs and
one of devices' logs and readings, and two of them alone as well; to their samples, windows, incidents
and facts, without a model. ``python tests/fuzz.py 1 --from 123`` reads one alone.

What is no ``UserError`` is a failure, and so is more than ``LIMIT_S`` of CPU or ``LIMIT_BYTES`` of
address space. Those that fail together are read in smaller parts, so that the failure gets a number.
"""

import argparse
import faulthandler
import io
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mutations import Mutation, make_mutation

from assistant.detection.classify import choose_directions, decide, make_probabilities
from assistant.detection.pipeline import Analysis, analyse_verdicts
from assistant.llm.adapters import Bounds
from prompts.window_text import render_windows
from traffic.capture import COUNTS, Capture
from traffic.device_logs.gather import gather_records
from traffic.device_logs.log_file import read_log
from traffic.device_logs.readings import read_readings
from traffic.errors import UserError
from traffic.labels import LABELS
from traffic.pcap.records import read_records
from traffic.plant import Device, Plant
from traffic.reader import read_capture
from traffic.samples import MEASURES, make_samples
from traffic.windows import make_windows
from traffic.zeek import write_conn_log
from traffic.zeek.conn import CONN_KINDS, CONN_NEEDED, is_valid_flow
from traffic.zeek.logs import read_log as read_zeek_log

# Of CPU, one alone or all together; of address space, of which the libraries map half.
LIMIT_S, LIMIT_TOGETHER_S, LIMIT_BYTES = 5.0, 9.0, 3 << 30
_WALL_S = 120.0  # one that waits for ever uses no CPU
TOGETHER, ALONE_EVERY, _PER_WORKER = 250, 123, 2000
PLANT = Plant((Device("plc-1", "10.0.0.1", "PLC"), Device("TT-1", "192.168.1.20", "sensor")))


def read_mutations(mutations: Sequence[Mutation], folder: Path) -> Counter[str]:
    """Read mutations together: how many there were and were refused by kind, and what was found.

    Args:
        mutations: some.
        folder: an empty one, to write them in.
    """
    found: Counter[str] = Counter()
    places: dict[str, list[Path]] = {}
    for one in mutations:
        home = folder / ("records" if one.kind in _RECORDS else one.kind)
        home.mkdir(exist_ok=True)
        for name, data in one.files.items():
            (home / name).write_bytes(data)
        (first, *others) = (home / name for name in one.files)
        found[one.kind] += 1
        try:
            _CHECKS[one.kind](first)
            places.setdefault(one.kind, []).append(first)
        except UserError as error:
            _check_message(error)
            found[f"{one.kind} refused"] += 1
            for path in (first, *others):
                path.unlink()
    for kind in ("capture", "zeek"):
        if kind in places:
            _judge(read_capture(folder / kind), Plant(), found)
    if places.keys() & _RECORDS:
        capture = _quiet_capture(folder)
        records = gather_records(capture, PLANT, beside=folder / "records")
        _check_notes(records.notes)
        _judge(replace(capture, records=records), PLANT, found)
    return found


_RECORDS = {"device_log", "readings"}
_CHECKS: dict[str, Callable[[Path], object]] = {
    "capture": lambda path: _refuse_empty(read_records(path).ts, path),
    "zeek": lambda path: _refuse_empty(
        read_zeek_log(path, CONN_KINDS, CONN_NEEDED, "conn.log", is_valid_flow).table, path
    ),
    "device_log": lambda path: read_log(path, 1.7957e9, {}),
    "readings": read_readings,
}


def _refuse_empty(rows: object, path: Path) -> None:
    """Alone it would be refused, in a folder it is a note."""
    if not len(rows):  # type: ignore[arg-type]
        raise UserError(f"{path} holds nothing; expected something; check it")


def _quiet_capture(folder: Path) -> Capture:
    """One of a few flows, for records that have none beside them."""
    home = folder / "quiet"
    home.mkdir(exist_ok=True)
    (home / "conn.log").write_text(
        "#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\tduration\t"
        "orig_bytes\tresp_bytes\torig_pkts\tresp_pkts\n"
        + "".join(
            f"{1795703520 + 9 * i}\t10.0.0.1\t{4000 + i}\t10.0.0.2\t502\ttcp\tSF\t1\t9\t9\t3\t3\n"
            for i in range(9)
        )
    )
    return read_capture(home)


def _judge(capture: Capture, plant: Plant, found: Counter[str]) -> Analysis:
    """All that is computed of a capture without a model: verdicts are drawn."""
    samples = make_samples(capture, plant)
    windows = make_windows(samples)
    render_windows(windows)
    random = np.random.default_rng(len(samples))
    scores = random.normal(0, 3, (len(windows.table), len(LABELS)))
    verdicts = decide(make_probabilities(scores, 1.0), Bounds(name=0.4))
    place = windows.table[["device", "start_s", "end_s"]].reset_index(drop=True)
    verdicts.insert(3, "direction", choose_directions(windows, verdicts["label"].to_numpy()))
    for i, name in enumerate(place):
        verdicts.insert(i, name, place[name])
    analysis = analyse_verdicts(capture, plant, windows, verdicts)
    for device in sorted(analysis.view.local)[:4]:
        analysis.facts_of(device)
    write_conn_log(capture.flows, io.StringIO())
    # What no reader may give, whatever it reads.
    measures = samples[list(MEASURES)].to_numpy(float)  # NaN where nothing tells
    assert np.isfinite(samples.drop(columns=["device", *MEASURES]).to_numpy(float)).all()
    assert ((measures > 0) & np.isfinite(measures) | np.isnan(measures)).all()
    assert not (capture.flows[list(COUNTS)] < 0).any(axis=None)
    assert capture.flows["ts"].is_monotonic_increasing
    assert not (capture.exchanges["delay_s"] < 0).any()
    _check_notes(capture.notes)
    found["flows"] += len(capture.flows)
    found["exchanges"] += len(capture.exchanges)
    found["incidents"] += len(analysis.incidents)
    return analysis


def _check_notes(notes: Sequence[str]) -> None:
    assert not [note for note in notes if "\n" in note or "\0" in note], notes


def _check_message(error: UserError) -> None:
    assert "\n" not in str(error), str(error)
    assert "; expected" in str(error), str(error)


# ---- Many, in workers that may end ----


def _work(start: int, stop: int, together: int, limit_bytes: int, tell: Connection) -> None:
    faulthandler.register(signal.SIGPROF, chain=True)  # the last word of one that takes too long
    warnings.simplefilter("error")  # as in the tests: numpy's and pandas' warnings are defects here
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    for first in range(start, stop, together):
        batch = range(first, min(first + together, stop))
        waiting = [range(n, n + 1) for n in batch if n % ALONE_EVERY == 0 and together > 1]
        waiting.append(batch)
        while waiting:
            numbers = waiting.pop()
            tell.send(("began", numbers, None))
            limit_s = LIMIT_S if len(numbers) == 1 else LIMIT_TOGETHER_S
            signal.setitimer(signal.ITIMER_PROF, limit_s)
            faulthandler.dump_traceback_later(_WALL_S, exit=True)
            began = time.process_time()
            with TemporaryDirectory(prefix="mutations-") as folder:
                try:
                    found = read_mutations([make_mutation(n) for n in numbers], Path(folder))
                except BaseException as error:  # noqa: BLE001 (each is listed)
                    tell.send(("failed", numbers, "".join(traceback.format_exception(error))))
                    middle = len(numbers) // 2
                    waiting += [numbers[:middle], numbers[middle:]] if middle else []
                    continue
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    faulthandler.cancel_dump_traceback_later()
            found["slowest_ms"] = round(1000 * (time.process_time() - began))
            found["most_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            tell.send(("read", numbers, found))
    tell.send(("ended", range(0), None))


def run(start: int, stop: int, together: int = TOGETHER) -> tuple[Counter[str], dict[range, str]]:
    """Read a range in worker processes, one at a time.

    Returns:
        What was found; and tracebacks by the numbers that failed, alone where one of them does.
    """
    found: Counter[str] = Counter()
    failures: dict[range, str] = {}
    context = multiprocessing.get_context("spawn")
    while start < stop:
        end = min(start + _PER_WORKER, stop)
        listen, tell = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(start, end, together, LIMIT_BYTES, tell))
        worker.start()
        tell.close()
        numbers, ended = range(start, min(start + together, end)), False
        try:
            while True:
                word, numbers, what = listen.recv()
                if word == "failed":
                    failures[numbers] = what
                elif word == "read":
                    for name in ("slowest_ms", "most_kb"):
                        found[name] = max(found[name], what.pop(name))
                    found.update(what)
                ended = word == "ended"
        except EOFError:
            worker.join()
        if not ended:
            failures[numbers] = f"the worker ended with code {worker.exitcode}: time or memory"
            if len(numbers) > 1:
                failures |= run(numbers[0], numbers[-1] + 1, together // 7 or 1)[1]
            end = numbers[-1] + 1
        failures = {one: said for one, said in failures.items() if not any(
            other != one and set(other) <= set(one) for other in failures)}  # fmt: skip
        sys.stderr.write(f"{end}: {dict(found)}; failures {_named(failures)}\n")
        start = end
    return found, failures


def _named(failures: dict[range, str]) -> str:
    return " ".join(f"{one[0]}-{one[-1]}" if len(one) > 1 else f"{one[0]}" for one in failures)


def main() -> None:
    """Parse, read, list."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--from", dest="start", type=int, default=0)
    wanted = parser.parse_args()
    os.nice(5)
    _, failures = run(wanted.start, wanted.start + wanted.count)
    for numbers, said in failures.items():
        sys.stdout.write(f"\n--- {numbers}\n{said}\n")
    said = _named(failures) or "none"
    sys.stdout.write(f"{wanted.count} mutations from {wanted.start}: failures {said}\n")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
