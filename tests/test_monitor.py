"""A plant watched live says what its recording says, and goes on after every stop."""

import ctypes
import dataclasses
import io
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from assistant.audit import check_audit
from assistant.detection import analyse
from assistant.history import History
from assistant.monitor.alarm_list import find_standing, list_alarms, read_meter
from assistant.monitor.clock import SlotClock
from assistant.monitor.open import open_source
from assistant.monitor.recent import Recent
from assistant.monitor.records import make_head, pack_records
from assistant.monitor.replay import Clock, PacketReplay, open_replay, read_rows
from assistant.monitor.source import Batch, Part
from assistant.monitor.watch import Monitor, find_position, give_back
from assistant.monitor.watched import Bounds, SlotReport, Watched
from assistant.monitor.zeek_folder import ZeekFolder
from assistant.session import load_models
from assistant.settings import Settings
from eval.research.alarm_delay import read_events
from traffic.pcap.records import read_pieces, read_records
from traffic.plant import load_plant
from traffic.reader import find_pcaps
from traffic.zeek.conn import read_zeek, write_conn_log

SAMPLES = Path(__file__).resolve().parents[1] / "assistant" / "samples"
PLANTS = sorted(path.parent.name for path in SAMPLES.glob("*/plant.yaml"))


@pytest.fixture(scope="session")
def models():
    return load_models(Settings())


def watch(models, source, home: Path, name: str, plant=None, **bounds) -> list[SlotReport]:
    """Watch a source to its end; what it gave."""
    history = History(home / "history.sqlite")
    watched = Watched(source, models.llm, models.card, history, home / "monitor", name, plant,
                      bounds=Bounds(**bounds))  # fmt: skip
    reports: list[SlotReport] = []
    running = Monitor(watched)
    running.run(reports.append, lambda: False)
    running.close()
    history.close()
    return reports


@pytest.mark.parametrize("name", PLANTS)
def test_a_replay_ends_with_the_incidents_of_the_file(name, models, tmp_path):
    """The same label, device, role, times and facts. What was raised on the way and is no incident
    of the whole file was taken back, or is over."""
    plant = load_plant(SAMPLES / name / "plant.yaml")
    watch(models, open_replay(SAMPLES / name, 0), tmp_path, name, plant)
    history = History(tmp_path / "history.sqlite")
    alarms = list_alarms(history)
    history.close()
    expected = analyse(SAMPLES / name, models.llm, models.card, plant).incidents
    told = {
        (one.label, one.device, one.content.role, one.incident_end_s, one.content.facts)
        for one in alarms
    }
    wanted = {
        (one.label, one.device, one.role, one.end_s, tuple(fact.text for fact in one.facts))
        for one in expected
    }
    assert wanted <= told
    assert len({one.incident for one in alarms}) == len(alarms)
    going = {one.incident for one in alarms if one.returned_s is None}
    assert len(going) <= len(wanted)
    assert check_audit(tmp_path / "history.sqlite").outcome == "whole"


def test_slots_judged_one_by_one_end_alike(models, tmp_path):
    """However many slots are closed at once, every window is judged once and the end is the same.

    An id is that of the first raising, whose start may have been seen otherwise then.
    """
    ends = []
    for most in (1, 30):
        home = tmp_path / str(most)
        path = SAMPLES / "press-shop"
        reports = watch(models, open_replay(path, 0), home, "p", most_slots=most)
        rows = sqlite3.connect(home / "monitor" / "monitor.sqlite").execute(
            "SELECT device, slot, mark, label FROM verdicts ORDER BY device, slot"
        )
        history = History(home / "history.sqlite")
        alarms = [(one.label, one.device, one.incident_end_s) for one in list_alarms(history)]
        history.close()
        fresh = sum(int(one.judged.fresh.sum()) - one.judged.revised for one in reports)
        kept = rows.fetchall()
        assert len(kept) == fresh
        ends.append((kept, alarms))
    assert ends[0] == ends[1]


# ---- Stops ----

_RUN = """
import sys; sys.path.insert(0, sys.argv[3])
from pathlib import Path
from test_monitor import SAMPLES, watch
from assistant.monitor.replay import open_replay, read_rows
from assistant.monitor.watch import find_position
from assistant.session import load_models
from assistant.settings import Settings
import test_monitor
home, name = Path(sys.argv[1]), sys.argv[2]
source = open_replay(SAMPLES / name, 0, find_position(home / "monitor", name))
read = source.read
def told(wait_s):
    print("read", flush=True)
    return read(wait_s)
source.read = told
watch(load_models(Settings()), source, home, name, most_slots=2)
"""


def run_and_kill(home: Path, name: str, after: int | None) -> int:
    """Run a monitor in a process of its own; kill it after it has read so many batches."""
    done = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(home), name, str(Path(__file__).parent)],
        stdout=subprocess.PIPE, text=True, cwd=SAMPLES.parents[1],
        env=os.environ | {"PYTHONPATH": str(SAMPLES.parents[1])},
    )  # fmt: skip
    for number, _ in enumerate(done.stdout or []):
        if number == after:
            done.send_signal(signal.SIGKILL)
            break
    if done.stdout:
        done.stdout.close()
    return done.wait()


def kept_of(home: Path) -> list[list]:
    """All that a monitor kept, without the times of this machine."""
    state = sqlite3.connect(home / "monitor" / "monitor.sqlite")
    history = sqlite3.connect(home / "history.sqlite")
    return [
        state.execute("SELECT * FROM verdicts ORDER BY device, slot").fetchall(),
        history.execute("SELECT incident, tier, device, raised_s FROM raisings").fetchall(),
        history.execute(
            "SELECT incident, raised_s, returned_s, times, content FROM alarms ORDER BY 1"
        ).fetchall(),
        history.execute("SELECT act, subject, content FROM audit").fetchall(),
    ]


def test_killed_at_any_moment_it_loses_and_doubles_nothing(tmp_path):
    rng = np.random.default_rng(14)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run_and_kill(whole, "filling-line", None) == 0
    for after in (1, *rng.integers(3, 20, 3).tolist()):
        assert run_and_kill(broken, "filling-line", int(after)) == -signal.SIGKILL
        assert check_audit(broken / "history.sqlite").outcome in ("whole", "not there")
    assert run_and_kill(broken, "filling-line", None) == 0
    assert kept_of(broken) == kept_of(whole)
    assert check_audit(broken / "history.sqlite").outcome == "whole"


# ---- Slots and clocks ----


def test_a_slot_is_over_when_its_lateness_has_passed():
    clock = SlotClock(lateness_s=1.0, back_s=30.0)
    assert clock.closable() is None
    clock.see(np.array([100.0, 109.9]), float("nan"))
    assert clock.closable() == 9  # [90, 100)
    clock.see(np.array([110.9]), 100.0)
    assert clock.closable() == 9
    clock.see(np.array([111.0]), 100.0)
    assert clock.closable() == 10
    clock.see(np.array([105.0, 111.5]), 110.0)
    assert (clock.newest_s, clock.late) == (111.5, 1)


def test_one_stamp_that_cannot_be_moves_nothing():
    clock = SlotClock(1.0, 30.0)
    clock.see(np.array([100.0]), float("nan"))
    assert not clock.see(np.array([4e9]), 90.0)
    assert not clock.see(np.array([101.0]), 90.0)
    assert clock.newest_s == 101.0


def test_a_clock_that_was_set_begins_anew_once_enough_stamps_say_so():
    clock = SlotClock(1.0, 30.0)
    clock.see(np.array([10_000.0]), float("nan"))
    assert not clock.see(np.full(19, 500.0), 9_990.0)
    assert clock.see(np.array([501.0]), 9_990.0)
    assert clock.newest_s == pytest.approx(500.0)
    assert not clock.see(np.full(20, 90_000.0), float("nan"))
    assert clock.newest_s == 90_000.0  # set forward, or nothing came for a day


# ---- The recent past ----


def packets(name: str) -> tuple[Batch, Path]:
    path = SAMPLES / name / "capture.pcap"
    records = read_records(path)
    head = make_head(int(records.link[0]))
    return Batch((Part("packets", head, pack_records(records)),), records.ts), path


def test_packets_are_kept_as_they_were(tmp_path):
    batch, path = packets("tank-farm")
    recent = Recent(tmp_path, 3600.0, 10**6)
    recent.append(batch, float(batch.ts.max()))
    recent.sync()
    before, after = read_records(path), read_records(tmp_path / "packets.000000.pcap")
    np.testing.assert_array_equal(before.ts, after.ts)
    for name in ("captured", "wire", "link", "frame"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    frames = [
        [one.buffer[at : at + n].tobytes() for at, n in zip(one.at, one.captured, strict=True)]
        for one in (before, after)
    ]
    assert frames[0] == frames[1]


def test_what_was_added_after_the_note_is_cut_off_again(tmp_path):
    batch, _ = packets("press-shop")
    newest_s = float(batch.ts.max())
    recent = Recent(tmp_path, 3600.0, 10**6)
    recent.append(batch, newest_s)
    noted = recent.sync()
    recent.append(batch, newest_s)
    recent.append(Batch((Part("dns", b"", b"{}\n"),), batch.ts[:1]), newest_s)
    again = Recent(tmp_path, 3600.0, 10**6)
    again.restore(noted)
    assert again.rows == len(batch.ts)
    assert len(read_records(tmp_path / "packets.000000.pcap").ts) == len(batch.ts)
    assert [path.name for path in tmp_path.iterdir()] == ["packets.000000.pcap"]


def test_the_recent_past_is_bounded_by_time_and_by_rows(tmp_path):
    batch, _ = packets("press-shop")
    n = len(batch.ts)
    recent = Recent(tmp_path, 600.0, 3 * n)
    for number in range(8):
        recent.append(batch, 10_000.0 + 130 * number)
        recent.drop_old(10_000.0 + 130 * number)
        assert recent.rows <= 3 * n
    recent.drop_old(10_000.0 + 130 * 7 + 460)
    assert recent.start_s == 10_000.0 + 130 * 6


def test_a_connection_of_a_day_brings_back_no_more_than_the_recent_past(tmp_path):
    """A session of 24 h with a packet a second, logged when it ends, of which ten minutes and what a
    piece may be older are looked back at."""
    day_s, end_s = 86_400.0, 1_700_086_400.0
    flows = read_zeek(SAMPLES / "bottling-line").flows.iloc[:1]
    flows = flows.assign(ts=end_s - day_s, duration=day_s, orig_pkts=86_401, resp_pkts=0)
    text = io.StringIO()
    write_conn_log(flows, text)
    *head, line = text.getvalue().encode().splitlines(keepends=True)
    recent = Recent(tmp_path, 600.0, 10**6)
    recent.append(Batch((Part("conn", b"".join(head), line),), np.array([end_s])), end_s)
    read = recent.read()
    assert read.flows["duration"].tolist() == [day_s]
    assert read.start_s == end_s - 600.0 - 120.0
    assert read.activity["orig_pkts"].sum() == 720 + 1  # at both ends
    assert set(read.evidence["slot"]) <= set(read.activity["slot"])


def test_a_finished_replay_begins_again_and_another_needs_its_own_state(models, tmp_path):
    path = SAMPLES / "press-shop"
    first = watch(models, open_replay(path, 0), tmp_path, "press-shop")
    assert find_position(tmp_path / "monitor", "another") == {}
    again = watch(models, open_replay(path, 0), tmp_path, "press-shop")
    assert [one.end_s for one in first] == [one.end_s for one in again]

    raised = [
        [change.alarm for report in run for change in report.changes if change.act == "raise"]
        for run in (first, again)
    ]
    assert raised[0]
    assert [one.content for one in raised[0]] == [one.content for one in raised[1]]
    with closing(History(tmp_path / "history.sqlite")) as history:
        alarms = {one.incident: one for one in list_alarms(history)}
        earlier, later = (alarms[run[-1].incident] for run in raised)
        assert earlier.incident != later.incident
        assert (earlier.returned_s, later.returned_s) == (earlier.incident_end_s, None)
        assert read_meter(history, later.raised_s).last == len(raised[1])
        history.set_state(earlier.incident, "acknowledged", "Ann")
        assert find_standing(later, history, time.time()).state == "active"
    assert check_audit(tmp_path / "history.sqlite").outcome == "whole"


class RunningClock(Clock):
    """Goes on whenever it is read, as a busy machine's does between two lines of code."""

    def __init__(self, step_s: float) -> None:
        self._now_s, self._step_s = 0.0, step_s

    def now_s(self) -> float:
        self._now_s += self._step_s
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds


@pytest.mark.parametrize("step_s", [0.0001, 0.003, 0.02, 0.05, 0.3])
def test_every_packet_is_given_once_however_the_clock_runs(step_s):
    path = SAMPLES / "press-shop"
    n = sum(len(records.ts) for one in find_pcaps(path) for records in read_pieces(one, 8192))
    source, given = PacketReplay(find_pcaps(path), 30.0, clock=RunningClock(step_s)), []
    while not (batch := source.read(0.5)).ended:
        given += batch.ts.tolist()
    assert len(given) == n
    assert batch.position == {"packets": n}


def test_a_replay_that_was_interrupted_goes_on_as_its_run_unless_it_begins_anew(models, tmp_path):
    path = SAMPLES / "press-shop"
    folder = tmp_path / "monitor"

    def begin(anew: bool) -> tuple[str, dict]:
        source, name = open_source(None, None, path, 0, "", folder, anew)
        with closing(History(tmp_path / "history.sqlite")) as history:
            watched = Watched(source, models.llm, models.card, history, folder, name)
            with closing(Monitor(watched)) as running:
                while running.step()[0] is None:
                    pass
                return running.run_id, find_position(folder, name)

    first, stopped = begin(False)
    assert stopped["packets"] > 0
    assert begin(False)[0] == first
    last, position = begin(True)
    assert last > first
    assert position == stopped


# ---- What goes wrong ----


class Script:
    """A source that gives packets of a recording as a test says, with the times it says."""

    lateness_s, back_s, live = 1.0, 30.0, False

    def __init__(self, steps: list[Batch]) -> None:
        self._steps = steps

    def read(self, wait_s: float) -> Batch:
        return self._steps.pop(0) if self._steps else Batch(position={"end": 1}, ended=True)

    def close(self) -> None:
        pass


def cut_in_slots(name: str, shift_s: float = 0.0, width_s: float = 10.0) -> list[Batch]:
    """The packets of a recording, a batch for each ten seconds, moved in time."""
    records = read_records(SAMPLES / name / "capture.pcap")
    head, slot = make_head(int(records.link[0])), np.floor(records.ts / width_s)
    batches = []
    for number in np.unique(slot):
        some = records.take(np.flatnonzero(slot == number))
        moved = dataclasses.replace(some, ts=some.ts + shift_s)
        batches.append(
            Batch((Part("packets", head, pack_records(moved)),), moved.ts, {"slot": int(number)})
        )
    return batches


def test_what_goes_on_is_an_alarm_before_its_slot_is_over(models, tmp_path):
    """A quarter of a slot after the first look that saw it, and within twelve seconds of the first
    packet; rules and the model need more of it."""
    begun_s = min(one.start_s for one in read_events(SAMPLES / "paint-shop" / "truth.json"))
    batches = cut_in_slots("paint-shop", width_s=2.5)
    source = Script([one for one in batches if one.ts.min() < begun_s + 15.0])
    source.lateness_s = 0.0
    plant = load_plant(SAMPLES / "paint-shop" / "plant.yaml")
    reports = watch(models, source, tmp_path, "paint-shop", plant, most_slots=1)
    raised = [one for report in reports if report.look for one in report.changes]
    assert [(one.act, one.alarm.tier, one.alarm.label) for one in raised] == [
        ("raise", "notification", "recon"),
        ("raise", "alarm", "recon"),
    ]
    sign, alarm = (one.alarm for one in raised)
    assert alarm.incident == sign.incident
    assert alarm.raised_s - sign.raised_s == 2.5
    assert alarm.raised_s - begun_s < 12.0


def test_only_a_past_that_is_over_ends_with_a_capture(models, tmp_path):
    batches = cut_in_slots("paint-shop")
    source = Script([batches[0], dataclasses.replace(batches[1], more=True), *batches[2:4]])
    with closing(History(tmp_path / "history.sqlite")) as history:
        folder = tmp_path / "monitor"
        running = Monitor(Watched(source, models.llm, models.card, history, folder, "paint-shop"))
        live, ended = [], False
        while not ended:
            report, ended = running.step()
            if report is not None and report.slots:
                assert running.analysis is not None
                live.append(running.analysis.view.live)
        running.close()
    assert live[:-1] == [True] * (len(live) - 1)
    assert live[-1] is False


def verdicts_in(home: Path) -> list:
    state = sqlite3.connect(home / "monitor" / "monitor.sqlite")
    return state.execute("SELECT device, slot, mark FROM verdicts ORDER BY 1, 2").fetchall()


def test_packets_that_come_late_are_counted_and_change_what_they_belong_to(models, tmp_path):
    batches = cut_in_slots("press-shop")
    watch(models, Script(list(batches)), tmp_path / "in order", "x")
    late = [*batches[:5], *batches[6:8], batches[5], *batches[8:]]  # a slot comes 20 s late
    reports = watch(models, Script(late), tmp_path / "late", "x")
    assert reports[-1].late == len(batches[5].ts)
    assert sum(one.judged.revised for one in reports) > 0
    assert verdicts_in(tmp_path / "late") == verdicts_in(tmp_path / "in order")


def test_a_clock_set_back_is_an_alarm_and_the_plant_is_judged_by_the_new_one(models, tmp_path):
    first, again = cut_in_slots("press-shop"), cut_in_slots("press-shop", shift_s=-7200.0)
    reports = watch(models, Script([*first, *again]), tmp_path, "x")
    kinds = [
        one.alarm.incident.split("-")[1]
        for one in each_change(reports)
        if one.alarm.label == "sensor"
    ]
    assert kinds.count("clock_back") >= 1
    assert min(one.end_s for one in reports) < first[0].ts[0] - 7000
    alone = watch(
        models, Script(cut_in_slots("press-shop", shift_s=-7200.0)), tmp_path / "new", "x"
    )
    assert reports[-1].devices == alone[-1].devices > 0
    starts = reports[-1].judged.verdicts["start_s"]
    assert starts.max() < first[0].ts[0]  # nothing of the old clock is left


def each_change(reports: list[SlotReport]) -> list:
    return [change for one in reports for change in one.changes]


_FULL = """
import resource, signal, sys; sys.path.insert(0, sys.argv[2])
from pathlib import Path
import test_monitor as t
from assistant.history import History
from assistant.monitor.tell import text_lines
from assistant.monitor.watch import Monitor
from assistant.monitor.watched import Bounds, Watched
from assistant.session import load_models
from assistant.settings import Settings
home = Path(sys.argv[1])
models, history = load_models(Settings()), History(home / "history.sqlite")
source = t.Script(t.cut_in_slots("press-shop"))
running = Monitor(Watched(source, models.llm, models.card, history, home / "monitor", "x"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for _ in range(3): running.step()
resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))  # no file takes a byte more
left, kinds, lines = len(source._steps), set(), []
for _ in range(4):
    report, _ = running.step()
    kinds |= {one.kind for one in report.conditions} if report else set()
    lines += text_lines(report, None, None) if report else []
assert len([one for one in lines if "[not kept]" in one]) == 1, "once, though no alarm can be kept"
assert len(source._steps) >= left - 1, "it goes on reading what it cannot keep"
assert kinds == {"disk_full"}, kinds
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
running.run(lambda report: None, lambda: False)
"""


def test_a_full_disk_is_said_and_nothing_is_lost_once_there_is_room(models, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path / "full"), str(Path(__file__).parent)],
        capture_output=True, text=True, cwd=SAMPLES.parents[1], check=False,
        env=os.environ | {"PYTHONPATH": str(SAMPLES.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    watch(models, Script(cut_in_slots("press-shop")), tmp_path / "room", "x")
    assert verdicts_in(tmp_path / "full") == verdicts_in(tmp_path / "room")


def test_a_growing_zeek_folder_gives_the_incidents_of_the_whole_log(models, tmp_path):
    """Rows are written when connections end, over a rotation, as Zeek does."""
    whole = SAMPLES / "bottling-line"
    plant = load_plant(whole / "plant.yaml")
    rows = read_rows(whole / "conn.log")
    order = np.argsort(rows.ts, kind="stable").tolist()
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "conn.log"
    log.write_bytes(rows.head)
    source = ZeekFolder(folder)
    source.live = False  # its clock is that of 2017
    history = History(tmp_path / "history.sqlite")
    running = Monitor(
        Watched(source, models.llm, models.card, history, tmp_path / "monitor", "z", plant)
    )
    for number, some in enumerate(np.array_split(order, 12)):
        if number == 6:
            log.rename(folder / "conn-1.log")
            log.write_bytes(rows.head + b"#open\t2\n")
        with log.open("ab") as file:
            file.write(b"".join(rows.lines[place] for place in some.tolist()))
        running.step()
    for _ in range(3):
        running.step()
    read = read_zeek(tmp_path / "monitor" / "recent").flows
    assert len(read) == len(rows.lines)
    running.close()
    labels = {(one.label, one.device) for one in list_alarms(history) if one.returned_s is None}
    expected = analyse(whole, models.llm, models.card, plant).incidents
    assert labels == {(one.label, one.device) for one in expected}
    history.close()


# ---- Memory ----


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="of the GNU C library")
def test_what_is_free_between_things_that_stay_is_given_back():
    def held_mb() -> float:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    pieces = [bytearray(5000) for _ in range(20_000)]
    pieces = pieces[::1000]  # 100 MB of holes between twenty that stay
    before_mb = held_mb()
    give_back()
    assert len(pieces) == 20
    assert held_mb() < before_mb - 50


_LARGE = """
import ctypes
from assistant.cli.vain_work import keep_what_is_loaded

class Use(ctypes.Structure):  # mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

library = ctypes.CDLL(None)
library.mallinfo2.restype, library.malloc.restype = Use, ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
keep_what_is_loaded()
mapped = []
for _ in range(3):
    before = library.mallinfo2().hblkhd
    block = library.malloc(ctypes.c_size_t(8_000_000))
    mapped.append(library.mallinfo2().hblkhd - before >= 8_000_000)
    library.free(block)
assert mapped == [True, True, True], mapped
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not the GNU C library")
def test_a_large_table_leaves_no_hole_however_often_it_comes():
    """By itself the library takes the second one from its heap."""
    root = str(SAMPLES.parents[1])
    done = subprocess.run(
        [sys.executable, "-c", _LARGE], capture_output=True, text=True, cwd=root, check=False,
        env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
