"""Where live traffic comes from: Zeek's folder through whatever happens to it, an interface, a flood."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.monitor import interface
from assistant.monitor.flood import thin_out
from assistant.monitor.zeek_folder import ZeekFolder
from traffic.errors import UserError
from traffic.pcap.records import Records, read_records

SAMPLES = Path(__file__).resolve().parents[1] / "assistant" / "samples"


def make_log(kind: str, opened: int, rows: range) -> tuple[bytes, list[bytes]]:
    """The header and the rows of a conn.log, each row with a time and a uid of its own."""
    lines = (SAMPLES / "bottling-line" / "conn.log").read_bytes().splitlines(keepends=True)
    head = [line for line in lines if line.startswith(b"#")]
    cells = [line.rstrip(b"\n").split(b"\t") for line in lines if not line.startswith(b"#")]
    names = next(line for line in head if line.startswith(b"#fields")).decode().split()[1:]
    if kind == "tsv":
        stamp = b"#open\t2026-11-27-00-00-%02d\n" % opened
        return b"".join([*head[:-2], stamp, *head[-2:]]), [
            b"\t".join([*one[:1], b"C%d" % n, *one[2:]]) + b"\n"
            for n, one in ((n, cells[n % len(cells)]) for n in rows)
        ]
    objects = []
    for n in rows:
        row = dict(zip(names, (cell.decode() for cell in cells[n % len(cells)]), strict=False))
        row = {name: cell for name, cell in row.items() if cell != "-"}  # JSON leaves them out
        objects.append(json.dumps(row | {"uid": f"C{n}", "ts": float(row["ts"])}).encode() + b"\n")
    return b"", objects


def drain(source: ZeekFolder) -> list[bytes]:
    """All lines that the source has now."""
    lines: list[bytes] = []
    empty = 0
    while empty < 2:
        batch = source.read(0)
        found = [line for part in batch.parts for line in part.data.splitlines(keepends=True)]
        assert len(batch.ts) == len(found)
        lines += found
        empty = 0 if found else empty + 1
    return lines


@pytest.mark.parametrize("kind", ["tsv", "json"])
@pytest.mark.parametrize("current", [True, False])
def test_growing_rotated_and_packed_logs_are_read_once(kind, current, tmp_path):
    live = tmp_path / "current" if current else tmp_path
    live.mkdir(exist_ok=True)
    path = live / "conn.log"
    head, rows = make_log(kind, 0, range(40))
    path.write_bytes(head + b"".join(rows[:10]) + rows[10][:25])  # the last line is not whole yet
    source = ZeekFolder(tmp_path)
    assert drain(source) == rows[:10]
    with path.open("ab") as file:
        file.write(rows[10][25:] + b"".join(rows[11:20]))
    assert drain(source) == rows[10:20]
    # Rotated: renamed, written to once more, then packed into a folder of the day; a new one begins.
    with path.open("ab") as file:
        file.write(b"".join(rows[20:22]))
        path.rename(live / "conn-26-11-27_01.00.00.log")
        file.write(b"".join(rows[22:25]) + (b"#close\t2026\n" if kind == "tsv" else b""))
    second, more = make_log(kind, 1, range(100, 120))
    path.write_bytes(second + b"".join(more[:5]))
    assert drain(source) == rows[20:25] + more[:5]
    day = tmp_path / "2026-11-27"
    day.mkdir()
    packed = day / "conn.00:00:00-01:00:00.log.gz"
    packed.write_bytes(gzip.compress((live / "conn-26-11-27_01.00.00.log").read_bytes()))
    (live / "conn-26-11-27_01.00.00.log").unlink()
    source._looked_s = -1e9
    assert drain(source) == []
    with path.open("ab") as file:
        file.write(b"".join(more[5:]))
    assert drain(source) == more[5:]


@pytest.mark.parametrize("kind", ["tsv", "json"])
def test_a_rotation_during_a_stop_is_caught_up(kind, tmp_path):
    path = tmp_path / "conn.log"
    head, rows = make_log(kind, 0, range(30))
    path.write_bytes(head + b"".join(rows[:10]))
    (tmp_path / "2026-11-26").mkdir()
    old, past = make_log(kind, 9, range(500, 510))
    archive = tmp_path / "2026-11-26" / "conn.10:00:00-11:00:00.log.gz"
    archive.write_bytes(gzip.compress(old + b"".join(past)))
    source = ZeekFolder(tmp_path)
    assert drain(source) == rows[:10]  # not the archive of the past
    position = json.loads(json.dumps(source.read(0).position))
    source.close()
    # While nobody watches: more rows, a rotation, another one, and a log that grows.
    day = tmp_path / "2026-11-27"
    day.mkdir()
    for number, (first, some) in enumerate(
        [(head, rows), make_log(kind, 1, range(100, 110)), make_log(kind, 2, range(200, 210))]
    ):
        if number == 2:
            path.write_bytes(first + b"".join(some))
            continue
        gone = day / f"conn.0{number}:00:00-0{number + 1}:00:00.log.gz"
        gone.write_bytes(gzip.compress(first + b"".join(some)))
        os.utime(gone, (2e9 + number, 2e9 + number))
    again = ZeekFolder(tmp_path, position)
    uids = drain(again)
    expected = (
        rows[10:] + make_log(kind, 1, range(100, 110))[1] + make_log(kind, 2, range(200, 210))[1]
    )
    assert uids == expected
    assert drain(ZeekFolder(tmp_path, json.loads(json.dumps(again.read(0).position)))) == []


def test_a_folder_that_disappears_is_said_and_goes_on_when_it_is_back(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    head, rows = make_log("tsv", 0, range(20))
    (folder / "conn.log").write_bytes(head + b"".join(rows[:10]))
    source = ZeekFolder(folder)
    assert drain(source) == rows[:10]
    shutil.copytree(folder, tmp_path / "away")
    shutil.rmtree(folder)
    assert [one.kind for one in source.read(0).troubles] == ["folder_gone"]
    shutil.copytree(tmp_path / "away", folder)  # another inode, the same log
    with (folder / "conn.log").open("ab") as file:
        file.write(b"".join(rows[10:]))
    assert drain(source) == rows[10:]


def test_no_folder_at_the_first_start_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="no folder; expected the one that Zeek writes"):
        ZeekFolder(tmp_path / "nowhere")


# ---- A flood ----


def of_pairs(pairs: list[int]) -> Records:
    """Ethernet frames of IPv4 between 10.0.0.0 and the hosts of some numbers."""
    frames = np.zeros((len(pairs), 60), np.uint8)
    frames[:, 12] = 8
    frames[:, 26], frames[:, 30] = 10, 10
    frames[:, 33] = pairs
    n = len(pairs)
    size = np.full(n, 60, np.int32)
    return Records(frames.ravel(), np.arange(n, dtype=float), np.arange(n) * 60, size, size,
                   np.ones(n, np.int32), np.arange(1, n + 1, dtype=np.int32))  # fmt: skip


def test_the_busiest_pair_is_thinned_first():
    records = of_pairs([1] * 90 + [2, 3, 2, 3, 2])
    (kept,), left_out = thin_out([records], 15)
    hosts = kept.buffer[kept.at + 33].tolist()
    assert hosts == [1] * 10 + [2, 3, 2, 3, 2]
    assert left_out == 80


@given(st.lists(st.integers(1, 200), min_size=1, max_size=120), st.integers(1, 150))
def test_never_more_than_the_most_and_the_first_of_each_pair_where_all_fit(pairs, most):
    parts = [of_pairs(pairs[:50]), of_pairs(pairs[50:])]
    kept, left_out = thin_out(parts, most)
    n = sum(len(one.ts) for one in kept)
    assert n + left_out == len(pairs)
    assert n <= most or not left_out
    assert n >= min(most, len(set(pairs)))
    if len(set(pairs)) <= most:
        assert {int(host) for one in kept for host in one.buffer[one.at + 33]} == set(pairs)


# ---- An interface ----

_LIVE = """
import json, sys, time
from assistant.monitor.interface import Interface, drop_privileges
import subprocess
source = Interface("watch0")
drop_privileges()
held = [line for line in open("/proc/self/status") if line.startswith("CapEff")]
print(json.dumps(held[0].split()[1]), flush=True)
frames, kinds = [], []
end = time.monotonic() + 60
while time.monotonic() < end and "done" not in kinds:
    batch = source.read(0.1)
    kinds += [one.kind for one in batch.troubles]
    for part in batch.parts:
        at = 0
        while at < len(part.data):
            size = int.from_bytes(part.data[at + 8 : at + 12], "little")
            frames.append(part.data[at + 16 : at + 16 + size].hex())
            at += 16 + size
    if any(bytes.fromhex(one)[14:18] == b"LAST" for one in frames):
        break
    print("read", flush=True)
print(json.dumps([frames, sorted(set(kinds))]), flush=True)
"""
_PLAY = """
import socket, subprocess, sys, time
from pathlib import Path
from traffic.pcap.records import read_records
def ip(*words): subprocess.run(["ip", *words], check=True)
ip("link", "add", "watch0", "type", "veth", "peer", "name", "plant0")
for name in ("watch0", "plant0"): ip("link", "set", name, "up")
live = subprocess.Popen([sys.executable, "-c", sys.argv[2]], stdout=subprocess.PIPE, text=True)
print(live.stdout.readline().strip(), flush=True)
live.stdout.readline()
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("plant0", 0))
records = read_records(Path(sys.argv[1]))
frames = [bytes(records.buffer[at : at + n]) for at, n in zip(records.at, records.captured)]
for frame in frames[:200]: out.send(frame)
time.sleep(1)
ip("link", "set", "watch0", "down")
time.sleep(2)
ip("link", "set", "watch0", "up")
time.sleep(2)
for frame in frames[200:300]: out.send(frame)
out.send(bytes(12) + b"\\x88\\xb5" + b"LAST" + bytes(60))
for line in live.stdout:
    if line.startswith("[["): print(line, flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another")
def test_a_user_who_cannot_read_the_program_is_refused():
    """Python below root's home is what nobody cannot read; elsewhere nobody can."""
    needed = [os.__file__, interface.__file__]
    readable = subprocess.run(["cat", *needed], user="nobody", capture_output=True, check=False)
    code = "from assistant.monitor.interface import drop_privileges as d\ntry: d('nobody')\n"
    code += "except Exception as error: print(error)"
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    refused = "the user nobody cannot read" in tried.stdout and "leave --user out" in tried.stdout
    assert refused == bool(readable.returncode), tried.stdout


def test_an_interface_is_read_without_rights_and_comes_back_after_it_was_down():
    unshare = shutil.which("unshare")
    own = [unshare, "--map-root-user", "--net"]
    if unshare is None or shutil.which("ip") is None:
        pytest.skip("no unshare or ip here")
    made = subprocess.run(
        [*own, "ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0"], check=False
    )
    if made.returncode:
        pytest.skip("no namespace with a veth interface can be made here")
    capture = SAMPLES / "tank-farm" / "capture.pcap"
    done = subprocess.run(
        [*own, sys.executable, "-c", _PLAY, str(capture), _LIVE],
        capture_output=True, text=True, check=True, cwd=SAMPLES.parents[1],
        env=os.environ | {"PYTHONPATH": str(SAMPLES.parents[1])},
    )  # fmt: skip
    rights, told = (json.loads(line) for line in done.stdout.splitlines() if line)
    assert int(rights, 16) == 0
    frames, kinds = told
    records = read_records(capture)
    sent = [
        records.buffer[at : at + n].tobytes().hex()
        for at, n in zip(records.at[:300], records.captured[:300], strict=True)
    ]
    arrived = [one for one in frames if one in set(sent)]
    assert arrived == sent
    assert kinds == ["interface_down"]
