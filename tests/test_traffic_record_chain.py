"""Where the records of a pcap start: found by jumps, the same as found link by link."""

import mmap
import struct
from pathlib import Path

from frames import client, write_pcap
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.pcap.records import find_records


def _find(content: bytes, order: str = "<") -> list[int]:
    with mmap.mmap(-1, len(content)) as data:
        data.write(content)
        return find_records(data, order).tolist()


def _link_by_link(content: bytes, order: str = "<") -> list[int]:
    at, starts = 24, []
    while at <= len(content) - 16:
        starts.append(at)
        at += 16 + struct.unpack_from(order + "I", content, at + 8)[0]
    return starts


def _record(length: int, fill: int, order: str = "<", seconds: int = 1_600_000_000) -> bytes:
    return struct.pack(order + "4I", seconds, 5, length, length) + bytes([fill]) * length


_LENGTHS = st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(_LENGTHS, st.integers(1, 60_000), st.sampled_from("<>"))
def test_law_jumps_find_what_single_links_find(
    lengths: list[tuple[int, int]], cut: int, order: str
) -> None:
    once = b"".join(_record(length, fill, order) for length, fill in lengths)
    content = bytes(24) + once * (1 + 800_000 // len(once))
    for part in (content, content[:-cut], content[:700_000] + content[700_000 + cut :]):
        assert _find(part, order) == _link_by_link(part, order)


def test_frames_that_hold_captures_lead_nobody_astray() -> None:
    # A pcap sent through the network: each frame looks like records, which the real ones never
    # meet.
    inner = _record(100, 1) * 500
    content = (
        bytes(24) + (struct.pack("<4I", 1_600_000_000, 0, len(inner), len(inner)) + inner) * 20
    )
    assert _find(content) == _link_by_link(content)
    assert len(_find(content)) == 20


def test_a_capture_of_few_packets(tmp_path: Path) -> None:
    path = write_pcap(
        tmp_path / "a.pcap", [(1000.0 + i, client(1000.0, "S", i)[1]) for i in range(3)]
    )
    content = path.read_bytes()
    assert _find(content) == _link_by_link(content)
    assert _find(content[:24]) == []
