import struct
from collections import Counter

import pytest
import tshark
from frames import CLIENT, SERVER, ethernet, read, talk, told, udp_packet
from hypothesis import given
from hypothesis import strategies as st

from traffic.pcap.protocols import cip
from traffic.pcap.protocols.enip import ENIP

MANAGER, IDENTITY = b"\x20\x06\x24\x01", b"\x20\x01\x24\x01"
STATUS = 0x2000000


def _enip(
    command: int, data: bytes = b"", session: int = 7, status: int = 0, context: int = 1
) -> bytes:
    return struct.pack("<HHIIQI", command, len(data), session, status, context, 0) + data


def _items(kind: int, data: bytes, address: bytes = b"\0\0\0\0") -> bytes:
    return bytes(6) + b"\2\0" + address + struct.pack("<HH", kind, len(data)) + data


def _send(message: bytes, context: int = 1) -> bytes:
    return _enip(0x6F, _items(0xB2, message), context=context)


def _connected(message: bytes, sequence: int) -> bytes:
    data = struct.pack("<H", sequence) + message
    return _enip(0x70, _items(0xB1, data, b"\xa1\0\4\0\1\2\3\4"), context=0)


def _ask(service: int, path: bytes, data: bytes = b"") -> bytes:
    return bytes([service, len(path) // 2]) + path + data


def _reply(service: int, status: int = 0, more: int | None = None, data: bytes = b"") -> bytes:
    extended = b"" if more is None else struct.pack("<H", more)
    return bytes([service | 0x80, 0, status, len(extended) // 2]) + extended + data


def _tag(*names: bytes) -> bytes:
    return b"".join(b"\x91" + bytes([len(n)]) + n + b"\0" * (len(n) % 2) for n in names)


def _several(*messages: bytes) -> bytes:
    at, offsets = 2 + 2 * len(messages), []
    for message in messages:
        offsets.append(at)
        at += len(message)
    return struct.pack(f"<{1 + len(offsets)}H", len(messages), *offsets) + b"".join(messages)


OPEN = bytes(35) + b"\3" + b"\1\0\x20\x04\x24\x64"
READ_TAG, WRITE_TAG = (
    _ask(0x4C, _tag(b"Motor") + b"\x28\x03", b"\1\0"),
    _ask(0x4D, _tag(b"Setpoint")),
)
INNER = _ask(0x0E, b"\x20\x04\x24\x65\x30\x03")
ROUTED = _ask(0x52, MANAGER, b"\5\x9d" + struct.pack("<H", len(INNER)) + INNER + b"\1\0\1\3")
SET_MODE = _ask(0x4B, b"\x20\x67\x24\x01", b"\7" + bytes(6) + b"\x0f\0\1\0\x80\6")


@pytest.mark.parametrize(
    ("asked", "answer", "wanted"),
    [
        (READ_TAG, _reply(0x4C), ["read", 0x6B4C, "Symbol 0", "Motor[3]", "answered", 0]),
        (READ_TAG, _reply(0x4C, 6), ["read", 0x6B4C, "Symbol 0", "Motor[3]", "answered", 0]),
        (WRITE_TAG, _reply(0x4D, 0xFF, 0x2107),
         ["write", 0x6B4D, "Symbol 0", "Setpoint", "refused", 0x2107FF]),
        (_ask(5, IDENTITY), _reply(5, 0x10), ["control", 5, "Identity 1", "", "refused", 0x10]),
        (_ask(0x0E, b"\x21\0\x05\x03\x25\0\x00\x01\x30\x07"), _reply(0x0E, 0x14),
         ["read", 0x0E, "class 0x305 instance 256 attribute 7", "", "refused", 0x14]),
        (_ask(0x10, b"\x20\x04\x24\x64\x30\x03", b"\1"), _reply(0x10, 2),
         ["write", 0x10, "Assembly 100 attribute 3", "", "refused", 2]),
        (_ask(0x54, MANAGER, OPEN), _reply(0x54, 1, 0x0113),
         ["session", 0x654, "Assembly 100", "", "refused", 0x011301]),
        (ROUTED, _reply(0x52, 1, 0x0204),
         ["read", 0x0E, "Assembly 101 attribute 3", "", "refused", 0x020401]),
        (_ask(0x0A, b"\x20\x02\x24\x01", _several(READ_TAG, WRITE_TAG)),
         _reply(0x0A, 0x1E, data=_several(_reply(0x4C), _reply(0x4D, 5))),
         ["write", 0x0A, "Symbol 0", "Motor[3]", "refused", 5]),
        (SET_MODE, _reply(0x4B, data=b"\7" + bytes(6) + b"\x4f\x10\1\0"),
         ["control", 0x670F80, "PCCC 1", "", "refused", 0x1000010]),
    ],
    ids=lambda value: str(value[1:]) if isinstance(value, list) else "",
)  # fmt: skip
@pytest.mark.parametrize("connected", [False, True])
def test_what_cip_asks_and_refuses(tmp_path, asked, answer, wanted, connected):
    turns = [(">", _send(asked)), ("<", _send(answer))]
    if connected:
        turns = [(">", _connected(asked, 9)), ("<", _connected(answer, 9))]
    found = read(tmp_path, talk(44818, *turns)).exchanges
    assert told(found, ENIP) == [wanted]
    assert found["unit"].tolist() == [{0x020401: 3, 0x011301: 0}.get(wanted[-1], -1)]


def test_sessions_and_answers_out_of_order_on_any_port(tmp_path):
    turns = [
        (">", _enip(0x65, b"\1\0\0\0", session=0)), ("<", _enip(0x65, b"\1\0\0\0")),
        (">", _send(_ask(1, IDENTITY), 1) + _send(_ask(0x0E, b"\x20\xf5\x24\1\x30\5"), 2)),
        ("<", _send(_reply(0x0E), 2) + _send(_reply(1, 8), 1)),
        (">", _enip(0x6F, session=99)), ("<", _enip(0x6F, session=99, status=0x64)),
        (">", _connected(_ask(3, IDENTITY), 5)), (">", _enip(0x66)),
    ]  # fmt: skip
    for port in (44818, 50001):
        found = read(tmp_path, talk(port, *turns)).exchanges
        assert [[row[0], row[1] & 0xFFFF, *row[4:]] for row in told(found, ENIP)] == [
            ["session", 0x65, "answered", 0],
            ["identify", 1, "refused", 8],
            ["read", 0x0E, "answered", 0],
            ["other", 0x6F, "refused", STATUS | 0x64],
            ["read", 3, "unanswered", -1],
            ["session", 0x66, "told", 0],
        ]


def test_an_identity_is_told_with_its_maker_and_firmware(tmp_path):
    body = struct.pack("<HHHBBHI", 1, 14, 55, 20, 11, 0x30, 0xC0FFEE) + b"\x0b1756-L61/B \3"
    item = struct.pack("<HHH", 1, 0x0C, 18 + len(body)) + bytes(18) + body
    frames = [
        (1000.0, ethernet(udp_packet(_enip(0x63, session=0), CLIENT, "192.168.1.255", 40000, 44818))),
        (1000.1, ethernet(udp_packet(_enip(0x63, item), SERVER, CLIENT, 44818, 40000))),
        *talk(44818, (">", _send(_ask(1, IDENTITY))), ("<", _send(_reply(1, data=body)))),
    ]  # fmt: skip
    capture = read(tmp_path, frames)
    identities = capture.identities
    assert identities[["device", "field", "value", "sure"]].values.tolist() == [
        [SERVER, "make", "Rockwell Automation/Allen-Bradley", "high"],
        [SERVER, "model", "1756-L61/B", "high"],
        [SERVER, "firmware", "20.011", "high"],
        [SERVER, "serial", "00C0FFEE", "high"],
    ]
    # Who asks a whole network waits for nobody.
    assert sorted(capture.exchanges["outcome"]) == ["answered", "told", "told"]


def test_data_that_nobody_asks_for_is_named_and_not_read(tmp_path):
    item = b"\2\0\2\x80\x08\0" + bytes(8) + b"\xb1\0\4\0" + bytes(4)
    packet = udp_packet(item, CLIENT, SERVER, 2222, 2222)
    capture = read(tmp_path, [(1000.0, ethernet(packet)), (1000.1, ethernet(packet))])
    assert capture.flows["service"].tolist() == ["cip"]
    assert capture.exchanges.empty


@given(st.binary(max_size=60), st.integers(0, 30))
def test_lying_paths_and_counts_end(tmp_path_factory, noise, words):
    asked = bytes([0x0A, words]) + noise
    turns = [
        (">", _send(asked)),
        ("<", _send(b"\x8a" + noise)),
        (">", _send(b"\x52\2" + MANAGER + noise)),
    ]
    found = read(tmp_path_factory.mktemp("c"), talk(44818, *turns)).exchanges
    assert len(found) >= 2


CAPTURES = (
    "protocols/enip/capture.pcap", "quickdraw/CL5000EIP-Reboot-or-Restart.pcap",
    "quickdraw/CL5000EIP-Firmware-Change.pcap", "field/enip-idle-120s-closed.pcap",
)  # fmt: skip


@pytest.mark.parametrize("capture", CAPTURES)
def test_real_traces_agree_with_tshark_message_by_message(shared, capture):
    path = shared / "data" / capture
    found = tshark.exchanges(path, "enip")
    names = ("frame.number", "enip.command", "cip.rr", "cip.sc", "cip.genstat", "cip.cm.sc")
    asked, answered = {}, {}
    for frame, command, way, service, status, manager in tshark.fields(path, "tcp && enip", *names):
        number = int(frame)
        if not service:  # nothing but the envelope, and tshark does not say which way
            asked[number] = 0x1000000 | int(command, 0)
        elif int(way.split(",")[0], 0) == 0:
            asked[number] = int((manager or service).split(",")[0], 0)
        else:
            codes = [int(code, 0) for code in status.split(",") if int(code, 0) != 6]
            answered[number] = next((code for code in codes if code), 0)
    mine = dict(zip(found["frame"], found["function"], strict=True))
    # An unconnected send is told by what it carries.
    wrong = {f: x for f, x in mine.items() if x >> 24 != 1 and x & 0xFF != asked[f] != 0x52}
    assert not wrong
    answers = {f: code for f, code in zip(found["answer_frame"], found["code"], strict=True) if f}
    assert answered.items() <= answers.items()
    assert asked.keys() | answered.keys() == mine.keys() | answers.keys()


def test_a_real_trace_agrees_with_zeek(shared):
    place = shared / "data/protocols/enip"
    found = tshark.exchanges(place / "capture.pcap", "enip")
    rows = [line.split("\t") for line in (place / "zeek/cip.log").read_text().splitlines()[1:]]
    # Services within a multiple service packet are rows too; its own row comes first.
    asked = Counter(row[13] for row in rows if row[12] == "request")
    multiple = found["function"] == cip.MULTIPLE
    assert multiple.sum() == asked["0x0a"]
    assert (found["function"] == 0x04).sum() == asked["0x04"]
    lines = (place / "zeek/enip.log").read_text().splitlines()[1:]
    assert len(found) + (found["answer_frame"] > 0).sum() == len(lines)
