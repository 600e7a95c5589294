"""Messages of DNP3, IEC 104, BACnet, PROFINET, GOOSE, DHCP and NTP written out by hand."""

import struct
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from frames import (
    CLIENT,
    SERVER,
    Frame,
    client,
    dcp_message,
    dcp_name,
    dnp3_message,
    ethernet,
    goose_message,
    read,
    server,
    udp_packet,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.pcap.protocols import PROTOCOLS
from traffic.pcap.protocols.protocol import ETHERNET

LATER: Frame = (1900.0, ethernet(udp_packet(b"x")))  # so that nothing waits when the capture ends
A, B = b"\x00\x1b\x1b\0\0\x0a", b"\x00\x1b\x1b\0\0\x0b"
ALL = b"\x01\x0e\xcf\0\0\0"


def _rows(exchanges: pd.DataFrame, *columns: str) -> list[list[object]]:
    return exchanges[list(columns)].astype(object).values.tolist()


def _talk(port: int, *messages: bytes, udp: bool = False) -> list[Frame]:
    """Messages that client and server send in turn, an empty one for silence."""
    frames, seqs = [], [1, 1]
    for i, message in enumerate(messages):
        side, ts = i % 2, 1000 + i / 10
        if message and udp:
            ends = (CLIENT, SERVER, 40000, port) if not side else (SERVER, CLIENT, port, 40000)
            frames.append((ts, ethernet(udp_packet(message, *ends))))
        elif message:
            send = (client, server)[side]
            frames.append(send(ts, "PA", seqs[side], message, **{("dport", "port")[side]: port}))
            seqs[side] += len(message)
    return [*frames, LATER]


# ---- DNP3 ----


def _asked(function: int, objects: bytes = b"", seq: int = 3) -> bytes:
    return dnp3_message(bytes([0xC0, 0xC0 | seq, function]) + objects, 4, 1)


def _answered(indications: int, objects: bytes = b"", seq: int = 3) -> bytes:
    user = bytes([0xC0, 0xC0 | seq, 129]) + struct.pack(">H", indications) + objects
    return dnp3_message(user, 1, 4, 0x44)


RELAY = b"\x0c\x01\x28\x01\x00\x07\x00\x41\x01" + struct.pack("<II", 500, 0)


@pytest.mark.parametrize(
    ("request_", "answer", "expected"),
    [
        (_asked(1, b"\x3c\x02\x06"), _answered(0), ["read", 1, "answered", 0]),
        (_asked(1, b"\x3c\x02\x06"), _answered(0x0001), ["read", 1, "refused", 1]),
        (_asked(2, b"\x50\x01\x00\x07\x07\x00"), _answered(0x8004), ["write", 2, "refused", 3]),
        # Restarted since: a remark on an answer.
        (_asked(1, b"\x3c\x02\x06"), _answered(0x8000), ["read", 1, "answered", 8]),
        (_asked(13), _answered(0, b"\x34\x02\x07\x01\x10\x27"), ["control", 13, "answered", 0]),
        (_asked(5, RELAY + b"\0"), _answered(0, RELAY + b"\x04"), ["write", 5, "refused", 104]),
        (_asked(5, RELAY + b"\0"), b"", ["write", 5, "unanswered", -1]),
        (_asked(6, RELAY + b"\0"), b"", ["write", 6, "told", 0]),
    ],
)
def test_dnp3_refuses_by_indications_and_status(tmp_path, request_, answer, expected):
    found = read(
        tmp_path, _talk(20005, request_, answer or b"", _asked(1, seq=9), _answered(0, seq=9))
    )
    assert found.flows["service"][0] == "dnp3"  # on any port
    assert _rows(found.exchanges[:1], "kind", "function", "outcome", "code") == [expected]
    assert set(found.exchanges["unit"]) == {4}


def test_a_dnp3_checksum_that_is_wrong_is_no_message(tmp_path):
    broken = bytearray(_asked(1))
    broken[8] ^= 1
    assert read(tmp_path, _talk(20005, bytes(broken))).exchanges.empty


# ---- IEC 60870-5-104 ----


def _asdu(
    kind: int, cause: int, station: int = 3, target: int = 1001, data: bytes = b"\x01"
) -> bytes:
    body = struct.pack("<BBBBH", kind, 1, cause, 0, station) + target.to_bytes(3, "little") + data
    return bytes([0x68, 4 + len(body), 0, 0, 0, 0]) + body


START, STARTED = b"\x68\x04\x07\0\0\0", b"\x68\x04\x0b\0\0\0"


@pytest.mark.parametrize(
    ("request_", "answer", "expected"),
    [
        (_asdu(45, 6), _asdu(45, 7), ["write", 45, "answered", 0]),
        (_asdu(45, 6), _asdu(45, 7 | 0x40), ["write", 45, "refused", 1]),
        (_asdu(45, 6), _asdu(45, 47 | 0x40), ["write", 45, "refused", 47]),
        (_asdu(105, 6), b"", ["control", 105, "unanswered", -1]),
        (_asdu(102, 5, data=b""), _asdu(13, 5, data=bytes(5)), ["read", 102, "answered", 0]),
        (_asdu(100, 6, target=0), _asdu(100, 46, target=0), ["read", 100, "refused", 46]),
        (_asdu(45, 6), _asdu(45, 7, target=1002), ["write", 45, "unanswered", -1]),
    ],
)
def test_iec104_commands_are_confirmed_or_refused(tmp_path, request_, answer, expected):
    found = read(tmp_path, _talk(2404, START, STARTED, request_, answer)).exchanges
    assert _rows(found[:2], "kind", "function", "outcome", "code") == [
        ["session", 256 + 7, "answered", 0], expected,
    ]  # fmt: skip
    assert _rows(found[1:2], "unit") == [[3]]


# ---- BACnet ----


def _bacnet(apdu: bytes, npdu: bytes = b"\1\4") -> bytes:
    return struct.pack(">BBH", 0x81, 10, 4 + len(npdu) + len(apdu)) + npdu + apdu


PROPERTY = b"\x0c\x02\x00\x02\xd1\x19\x4d"  # object name of device 721


@pytest.mark.parametrize(
    ("answer", "outcome", "code"),
    [
        (b"\x30\x05\x0c" + PROPERTY + b"\x3e\x75\x04\0AHU\x3f", "answered", 0),
        (b"\x50\x05\x0c\x91\x02\x91\x20", "refused", 1032),  # error: unknown property
        (b"\x60\x05\x09", "refused", 2009),
        (b"\x71\x05\x04", "refused", 3004),
        (b"\x50\x06\x0c\x91\x02\x91\x20", "unanswered", -1),  # of another request
    ],
)
def test_bacnet_errors_rejections_and_aborts(tmp_path, answer, outcome, code):
    asked = _bacnet(b"\0\5\5\x0c" + PROPERTY)
    capture = read(tmp_path, _talk(47900, asked, _bacnet(answer), udp=True))
    first = capture.exchanges[:1]
    assert _rows(first, "kind", "function", "target", "value", "outcome", "code") == [
        ["read", 12, 8 << 22 | 721, 77, outcome, code]
    ]
    assert _rows(capture.identities, "field", "value") == ([["name", "AHU"]] if not code else [])


def test_a_bacnet_device_behind_a_router_is_a_unit_of_its_own(tmp_path):
    asked = _bacnet(b"\0\5\5\x0c" + PROPERTY, b"\1\x24" + struct.pack(">HBB", 20, 1, 7) + b"\xff")
    answer = _bacnet(b"\x20\5\x0c", b"\1\x08" + struct.pack(">HBB", 20, 1, 7))
    found = read(tmp_path, _talk(47808, asked, answer, udp=True)).exchanges
    assert _rows(found, "unit", "outcome") == [[7, "answered"]]


# ---- PROFINET and GOOSE: no IP ----


def test_a_station_that_nobody_answers_for_and_a_set_that_is_refused(tmp_path):
    frames = [
        (1.0, ethernet(dcp_message(0xFEFE, 5, 0, 7, dcp_name(b"press-io")), 0x8892, A, ALL)),
        (1.1, ethernet(dcp_message(0xFEFF, 5, 1, 7, dcp_name(b"press-io", b"\0\0")), 0x8892, B, A)),
        (2.0, ethernet(dcp_message(0xFEFE, 5, 0, 8, dcp_name(b"oven-io")), 0x8892, A, ALL)),
        (3.0, ethernet(dcp_message(0xFEFD, 4, 0, 9, dcp_name(b"new", b"\0\1")), 0x8892, A, B)),
        (3.1, ethernet(dcp_message(0xFEFD, 4, 1, 9, b"\5\4\0\3\2\2\6\0"), 0x8892, B, A)),
        LATER,
    ]
    capture = read(tmp_path, frames)
    mac_a, mac_b, everybody = (mac.hex(":") for mac in (A, B, ALL))
    assert _rows(capture.exchanges, "client", "server", "kind", "name", "outcome", "code") == [
        [mac_a, mac_b, "identify", "press-io", "answered", 0],
        [mac_a, everybody, "identify", "oven-io", "unanswered", -1],
        [mac_a, mac_b, "write", "new", "refused", 6],
    ]
    assert _rows(capture.identities, "device", "field", "value") == [
        [mac_b, "name", "press-io"], [mac_a, "make", "Siemens AG"], [mac_b, "make", "Siemens AG"],
    ]  # fmt: skip


def test_goose_numbers_that_are_missing_late_silent_or_back(tmp_path):
    steps = [
        (1.0, 4, 7, 0), (2.0, 4, 8, 0), (3.0, 4, 10, 1),  # 9 is missing
        (4.0, 5, 0, 0), (4.01, 5, 1, 0), (8.0, 5, 2, 2),  # 3.99 s after one that holds for 2 s
        (8.5, 7, 0, 1), (9.0, 2, 0, 4), (9.5, 2, 1, 3),  # and nothing follows
    ]  # fmt: skip
    frames = [
        (ts, ethernet(goose_message(state, repeat), 0x88B8, A)) for ts, state, repeat, _ in steps
    ]
    found = read(tmp_path, [*frames, LATER]).exchanges
    assert found["code"].tolist() == [code for *_, code in steps]
    assert _rows(found, "target", "value") == [[state, repeat] for _, state, repeat, _ in steps]
    assert _rows(found[:1], "client", "protocol", "kind", "unit", "name", "outcome") == [
        [A.hex(":"), "goose", "publish", 0x3001, "IED1LD0/LLN0$GO$gcb1", "told"]
    ]


# ---- DHCP and NTP ----


def _dhcp(op: int, kind: int, options: bytes = b"", own: bytes = bytes(4), xid: int = 5) -> bytes:
    head = struct.pack(">BBBBIHH", op, 1, 6, 0, xid, 0, 0) + own + bytes(12) + A + bytes(10 + 192)
    return head + b"\x63\x82\x53\x63" + bytes([53, 1, kind]) + options + b"\xff"


WANTED, LEASE = b"\x32\4\x0a\0\0\x07", b"\x33\4\0\0\x0e\x10"
NAMES = b"\x0c\7press-1\x3c\7udhcp 1"


@pytest.mark.parametrize(
    ("answer", "outcome", "code", "lease_s"),
    [(_dhcp(2, 5, LEASE), "answered", 0, 3600), (_dhcp(2, 6), "refused", 6, -1),
     (_dhcp(2, 5, LEASE, xid=6), "unseen", -1, -1)],
)  # fmt: skip
def test_dhcp_is_answered_on_another_flow(tmp_path, answer, outcome, code, lease_s):
    everybody = "0.0.0.0", "255.255.255.255", 68, 67
    frames = [
        (1000.0, ethernet(udp_packet(_dhcp(1, 3, WANTED + NAMES), *everybody), src=A)),
        (1000.1, ethernet(udp_packet(answer, SERVER, "255.255.255.255", 67, 68), src=B)),
        LATER,
    ]
    capture = read(tmp_path, frames)
    assert _rows(
        capture.exchanges[:1], "function", "target", "name", "outcome", "code", "value"
    ) == [[3, 0x0A000007, A.hex(":"), outcome, code, lease_s]]
    told = capture.identities[capture.identities["source"] == "DHCP"]
    assert _rows(told, "device", "field", "value") == [
        [A.hex(":"), "name", "press-1"], [A.hex(":"), "software", "udhcp 1"],
    ]  # fmt: skip


def test_a_client_that_asks_again_got_no_address(tmp_path):
    steps = [(0, 1), (4, 1), (12, 3), (13, 3), (200, 3)]
    everybody = "0.0.0.0", "255.255.255.255", 68, 67
    frames = [
        (1000.0 + at, ethernet(udp_packet(_dhcp(1, kind, WANTED), *everybody), src=A))
        for at, kind in steps
    ]
    # An offer that was not seen came before the request; after the second one it was content.
    found = read(tmp_path, [*frames, LATER]).exchanges
    assert found["outcome"].tolist() == ["unanswered", "unseen", "unanswered", "unseen", "unseen"]


def _ntp(mode: int, stratum: int, reference: bytes, origin: bytes, sent: bytes) -> bytes:
    return (
        bytes([4 << 3 | mode, stratum, 6, 0xEC])
        + bytes(8)
        + reference
        + bytes(8)
        + origin
        + bytes(8)
        + sent
    )


NOW, OTHER_TIME = b"\xe6\0\0\1\2\3\4\5", b"\xe6\0\0\1\2\3\4\6"


@pytest.mark.parametrize(
    ("answer", "outcome", "code"),
    [
        (_ntp(4, 2, b"\x0a\0\0\1", NOW, NOW), "answered", 0),
        (_ntp(4, 0, b"RATE", NOW, NOW), "refused", 3),
        (_ntp(4, 16, b"\0\0\0\0", NOW, NOW), "refused", 16),
        (_ntp(4, 2, b"\x0a\0\0\1", OTHER_TIME, NOW), "unanswered", -1),
    ],
)
def test_ntp_kisses_and_servers_without_time(tmp_path, answer, outcome, code):
    asked = _ntp(3, 0, bytes(4), bytes(8), NOW)
    found = read(tmp_path, _talk(123, asked, answer, udp=True)).exchanges
    assert _rows(found[:1], "outcome", "code") == [[outcome, code]]


# ---- Laws ----

STARTS = {
    "dnp3": _asked(1), "iec104": START + _asdu(45, 6), "bacnet": _bacnet(b"\x30\5\x0c" + PROPERTY),
    "dhcp": _dhcp(1, 1, NAMES), "ntp": _ntp(4, 0, b"RATE", NOW, NOW), "goose": goose_message(1, 1),
    "profinet": dcp_message(0xFEFF, 5, 1, 7, dcp_name(b"x", b"\0\0")), "lldp": b"\2\7\4" + A + b"\x0a\3abc",
}  # fmt: skip
_KNOWN = {one.name: one for one in PROTOCOLS}


@given(
    st.sampled_from(sorted(STARTS)),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=8),
    st.integers(0, 300),
    st.binary(max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_law_no_bytes_break_a_reader(name, changes, cut, more):
    protocol = _KNOWN[name]
    data = bytearray(STARTS[name] + more)
    for at, value in changes:
        data[at % len(data)] = value
    whole, part = bytes(data), bytes(data[: 1 + cut % len(data)])
    port = protocol.ports[0]
    if ETHERNET in protocol.transports:
        frames = [
            (i + 1.0, ethernet(body, port, A, B))
            for i, body in enumerate((whole, part, STARTS[name]))
        ]
    else:
        udp = 17 in protocol.transports
        frames = _talk(port, part, whole, STARTS[name], whole[3:] or b"\1", udp=udp)
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), frames)
    assert found.exchanges["frame"].between(1, len(frames)).all()
    assert (found.exchanges["answer_frame"] <= len(frames)).all()
    assert found.identities["value"].str.len().le(80).all()
