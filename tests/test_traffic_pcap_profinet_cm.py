import struct

import pytest
import tshark
from frames import CLIENT, SERVER, ethernet, read, told, udp_packet

from assistant.detection.rules.ethernet import find_module_differences
from assistant.facts.traffic_view import TrafficView
from traffic.pcap.protocols.profinet_cm import PROFINET_CM
from traffic.samples import make_samples

OBJECT = b"\xde\xa0\0\0\x6c\x97\x11\xd1\x82\x71\0\1\0\3\1\x5a"
ACTIVITY = (0x13142F90, 0, 0x1000, b"\xa9\x94\xd2\x10\x68\x90\xca\x5a")
LATER = (1100.0, ethernet(udp_packet(b"x")))


def _rpc(kind: int, operation: int, body: bytes, sequence: int = 0, little: bool = False) -> bytes:
    order = "<" if little else ">"
    low, mid, high, rest = ACTIVITY
    head = struct.pack("BBBBBBBB", 4, kind, 0x20, 0, 0x10 if little else 0, 0, 0, 0)
    head += OBJECT + OBJECT + struct.pack(order + "IHH", low, mid, high) + rest
    head += struct.pack(order + "IIIHHHHH", 0, 1, sequence, operation, 0xFFFF, 0xFFFF, len(body), 0)
    return head + bytes(2) + body


def _ask(operation: int, blocks: bytes = b"", **more: int) -> bytes:
    return _rpc(
        0,
        operation,
        struct.pack(">IIIII", 4096, len(blocks), 4096, 0, len(blocks)) + blocks,
        **more,
    )


def _say(operation: int, blocks: bytes = b"", status: int = 0, **more: int) -> bytes:
    # The device writes numbers with the low byte first, as the one of the shared capture does.
    head = struct.pack("<IIIII", status, len(blocks), 4096, 0, len(blocks))
    return _rpc(2, operation, head + blocks, little=True, **more)


def _block(kind: int, body: bytes) -> bytes:
    return struct.pack(">HHBB", kind, 2 + len(body), 1, 0) + body


def _differs(*modules: tuple[int, int, tuple[tuple[int, int], ...]]) -> bytes:
    body = struct.pack(">HIH", 1, 0, len(modules))
    for slot, state, submodules in modules:
        body += struct.pack(">HIHH", slot, 0x10, state, len(submodules))
        body += b"".join(
            struct.pack(">HIH", subslot, 0x11, details) for subslot, details in submodules
        )
    return _block(0x8101, bytes(30)) + _block(0x8104, body)


def _frames(*messages: bytes) -> list[tuple[float, bytes]]:
    """Questions to port 34964; a device answers from a port of its own."""
    asked = {"src": CLIENT, "dst": SERVER, "sport": 49155, "dport": 34964}
    said = {"src": SERVER, "dst": CLIENT, "sport": 49152, "dport": 49155}
    sent = [
        (1000 + i / 10, ethernet(udp_packet(one, **(said if one[1] else asked))))
        for i, one in enumerate(messages)
    ]
    return [*sent, LATER]


def test_an_answer_from_another_port_is_paired_and_tells_what_differs(tmp_path):
    modules = (3, 1, ()), (2, 0, ()), (1, 2, ((1, 0x8040), (2, 0x8000), (3, 0x9800)))
    frames = _frames(
        _ask(0), _say(0, _differs(*modules)), _ask(3, sequence=1), _say(3, sequence=1),
        _ask(2, sequence=2), _say(2, status=0xDE80B000, sequence=2),
        _ask(1, sequence=3), _say(1, sequence=3), _ask(0, sequence=4), _say(0, status=0xDB810300, sequence=4),
        _ask(0, sequence=5),
    )  # fmt: skip
    capture = read(tmp_path, frames)
    assert told(capture.exchanges, PROFINET_CM) == [
        ["session", 0, "",
         "slot 3: wrong module; slot 2: module missing; slot 1, subslot 3: module missing; "
         "slot 1, subslot 1: module reports a fault", "answered", 0x301],
        ["other", 3, "", "", "answered", 0],
        ["read", 2, "", "", "refused", 0xB0],
        ["session", 1, "", "", "answered", 0],
        ["session", 0, "", "", "refused", 0x103],
        ["session", 0, "", "", "unanswered", -1],
    ]  # fmt: skip
    assert set(capture.exchanges["server"]) == {SERVER}


@pytest.mark.parametrize(
    ("modules", "label", "said"),
    [
        (((1, 2, ((1, 0x8040),)),), "service_down", "slot 1, subslot 1: module reports a fault"),
        (((4, 1, ()),), "misconfiguration", "slot 4: wrong module"),
        (((1, 2, ((1, 0x8000),)),), "", ""),  # as expected
        ((), "", ""),
    ],
)
def test_a_device_with_other_modules_than_expected_is_told(tmp_path, modules, label, said):
    frames = _frames(_ask(0), _say(0, _differs(*modules)), _ask(1, sequence=1), _say(1, sequence=1))
    capture = read(tmp_path, frames)
    hits = find_module_differences(TrafficView(capture, make_samples(capture)))
    assert [(hit.device, hit.label, hit.fact.values["what"]) for hit in hits] == (
        [(SERVER, label, said)] if label else []
    )
    if label:
        assert hits[0].peers == (CLIENT,)
        # Connected at 1000.0, released at 1000.2.
        assert hits[0].facts[1].values["after_s"] == pytest.approx(0.2)


@pytest.mark.parametrize("size", range(0, 120, 7))
def test_a_block_that_is_cut_or_counts_wrong_is_read_as_far_as_it_goes(tmp_path, size):
    whole = _differs((1, 2, ((1, 0x8040),)))
    wild = whole[: 34 + size].replace(b"\0\1\0\0\0\0\0\1", b"\xff" * 8)
    found = read(
        tmp_path, _frames(_ask(0), _say(0, wild), _ask(1, sequence=1), _say(1, sequence=1))
    )
    assert found.exchanges["function"].tolist() == [0, 1]
    assert found.exchanges["outcome"].tolist() == ["answered", "answered"]


def test_a_real_trace_agrees_with_tshark(shared):
    path = shared / "data/protocols/profinet/capture.pcap"
    mine = tshark.exchanges(path, "profinet_cm")
    rows = tshark.fields(
        path, "dcerpc.pkt_type == 0", "frame.number", "dcerpc.opnum", "dcerpc.dg_act_id",
        "dcerpc.dg_seqnum",
    )  # fmt: skip
    # A mirror port delivered most frames twice.
    firsts = {tuple(rest): (int(frame), int(rest[0])) for frame, *rest in reversed(rows)}
    again = {(int(frame), int(operation)) for frame, operation, *_ in rows}
    asked = list(zip(mine["frame"], mine["function"], strict=True))
    assert set(firsts.values()) <= set(asked) <= again
    assert (mine["outcome"] == "answered").all()
    differing = tshark.fields(
        path, "pn_io.block_type == 0x8104 && dcerpc.pkt_type == 2", "frame.number"
    )
    assert [[str(one)] for one in mine.loc[mine["code"] > 0, "answer_frame"]] == differing
