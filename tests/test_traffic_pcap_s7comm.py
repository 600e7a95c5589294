import struct
from collections import Counter
from itertools import starmap

import pytest
import tshark
from frames import read, talk, told

from traffic.pcap.protocols.s7comm import S7COMM

DATA, CONNECT_KEY = b"\x02\xf0\x80", b"\xc0\x01\x0a\xc1\x02\x01\x00\xc2\x02"


def _tpkt(body: bytes) -> bytes:
    return struct.pack(">BBH", 3, 0, 4 + len(body)) + body


def _cotp(kind: int, rest: bytes) -> bytes:
    return _tpkt(bytes([5 + len(rest), kind, 0, 0, 0, 1]) + rest)


def _job(ref: int, parameters: bytes, data: bytes = b"") -> bytes:
    head = struct.pack(">BBHHHH", 0x32, 1, 0, ref, len(parameters), len(data))
    return _tpkt(DATA + head + parameters + data)


def _done(ref: int, parameters: bytes, data: bytes = b"", error: int = 0) -> bytes:
    head = struct.pack(">BBHHHHH", 0x32, 3, 0, ref, len(parameters), len(data), error)
    return _tpkt(DATA + head + parameters + data)


def _item(area: int, block: int, address: int, count: int = 1) -> bytes:
    return struct.pack(">BBBBHHI", 0x12, 10, 0x10, 2, count, block, area << 24 | address)


CONNECT = _cotp(0xE0, b"\0" + CONNECT_KEY + b"\x01\x02")
CONNECTED = _cotp(0xD0, b"\0" + CONNECT_KEY + b"\x01\x02")
SETUP = b"\xf0\0\0\1\0\1\x01\xe0"
# The second of three items does not exist; the first has an odd length and is filled up.
THREE_ITEMS = b"\x04\x03" + _item(0x84, 5, 8 * 12 + 3) + _item(0x84, 9, 0) + _item(0x83, 0, 0)
THREE_RESULTS = b"\xff\x04\0\x08\x07\0" + b"\x0a\0\0\0" + b"\xff\x04\0\x08\x07"
STOP = b"\x29" + bytes(5) + b"\x09P_PROGRAM"
INVOKE = b"\x28" + bytes(6) + b"\xfd\0\0" + b"\x05_INSE"
READ_SZL = b"\0\1\x12\4\x11\x44\1\0"
GOT_SZL = b"\0\1\x12\x08\x12\x84\1\1\0\0\xd4\x01"


def _userdata(ref: int, parameters: bytes, data: bytes) -> bytes:
    head = struct.pack(">BBHHHH", 0x32, 7, 0, ref, len(parameters), len(data))
    return _tpkt(DATA + head + parameters + data)


def _told(tmp_path, turns, port=102):
    return told(read(tmp_path, talk(port, *turns)).exchanges, S7COMM)


@pytest.mark.parametrize("port", [102, 10102])
def test_what_is_asked_refused_and_commanded(tmp_path, port):
    turns = [
        (">", CONNECT), ("<", CONNECTED), (">", _job(0, SETUP)), ("<", _done(0, SETUP)),
        (">", _job(1, THREE_ITEMS) + _job(2, b"\x05\x02" + _item(0x83, 0, 56) * 2, bytes(12))),
        ("<", _done(2, b"\x05\x02", b"\xff\x03") + _done(1, b"\x04\x03", THREE_RESULTS)),
        (">", _job(3, STOP)), ("<", _done(3, b"\x29", error=0xD241)),
        (">", _job(4, INVOKE)), ("<", _done(4, b"\x28")),
        (">", _userdata(5, READ_SZL, b"\xff\x09\0\4\0\x1c\0\0")),
        ("<", _userdata(5, GOT_SZL, b"\x0a\0\0\0")),
        (">", _job(6, b"\x1a" + bytes(7) + b"\x09_0A00001P")),
        # The PLC fetches the blocks of a download itself.
        ("<", _job(700, b"\x1b" + bytes(7) + b"\x09_0A00001P")),
        (">", _done(700, b"\x1b\0", bytes(8))),
    ]  # fmt: skip
    assert _told(tmp_path, turns, port) == [
        ["session", 0xE0, "TSAP 0x0102", "", "answered", 0],
        ["session", 0xF0, "", "", "answered", 0],
        ["read", 0x04, "DB5.DBX12.3", "", "refused", 0x0A],
        ["write", 0x05, "MB7", "", "refused", 0x03],
        ["control", 0x29, "", "", "refused", 0xD241],
        ["control", 0x2804, "", "_INSE", "answered", 0],
        ["identify", 0x1401, "SZL 0x001C index 0x0000", "", "refused", 0xD401],
        ["control", 0x1A, "", "DB1", "unanswered", -1],
        ["other", 0x1B, "", "DB1", "answered", 0],
    ]


@pytest.mark.parametrize("cut", [1, 5, 9, 20])
def test_messages_over_segments_and_fragments_are_read_once(tmp_path, cut):
    whole = _job(1, THREE_ITEMS)
    fragments = _tpkt(b"\x02\xf0\x00" + whole[7:40]) + _tpkt(
        b"\x02\xf0\x80" + b"\x32\x01" + bytes(9)
    )
    turns = [(">", CONNECT), (">", whole[:cut]), (">", whole[cut:] + fragments)]
    assert [row[1] for row in _told(tmp_path, turns)] == [0xE0, 0x04, 0x04]


def test_a_refused_connection_says_why(tmp_path):
    turns = [(">", CONNECT), ("<", _tpkt(b"\x06\x80\0\0\0\1\x03"))]
    assert _told(tmp_path, turns) == [["session", 0xE0, "TSAP 0x0102", "", "refused", 0x10003]]
    ended = [(">", CONNECT), ("<", CONNECTED), (">", _tpkt(b"\x06\x80\0\0\0\1\x80"))]
    assert _told(tmp_path, ended)[1] == ["session", 0x80, "", "", "told", 0x10080]


@pytest.mark.parametrize(
    ("service", "turns"),
    [
        ("s7comm", [(">", CONNECT)]),
        ("s7comm-plus", [(">", CONNECT), ("<", CONNECTED), (">", _tpkt(DATA + b"\x72\1\0\x20"))]),
        ("mms", [(">", CONNECT), ("<", CONNECTED), (">", _tpkt(DATA + b"\x0d\xb2\5\6\x13\1\0"))]),
        ("mms", [(">", _tpkt(DATA + b"\1\0\1\0\x61\x30"))]),
        ("cotp", [(">", CONNECT[:-2] + b"\0\1")]),
    ],
)
def test_what_shares_its_envelope_is_no_exchange_of_it(tmp_path, service, turns):
    capture = read(tmp_path, talk(102, *turns))
    assert capture.flows["service"].tolist()[0] == service
    # A connection is read with what it turns out to carry; in one that goes on already, this is nothing.
    read_here = service != "cotp" and turns[0][1] == CONNECT
    assert set(capture.exchanges["protocol"]) == (
        {service.removesuffix("-plus")} if read_here else set()
    )


@pytest.mark.parametrize(("folder", "skipped"), [("s7comm", {0x1401: 1}), ("s7ident", {})])
def test_a_real_trace_agrees_with_zeek_and_tshark(shared, folder, skipped):
    place = shared / "data/protocols" / folder
    found = tshark.exchanges(place / "capture.pcap", "s7comm")
    asked = found[found["function"] != 0xE0]
    # ICSNPP logs no request whose status list goes on from the answer before.
    lines = (place / "zeek/s7comm.log").read_text().splitlines()
    zeek = [row[14:17:2] for row in (line.split("\t") for line in lines) if row[6:7] == ["T"]]
    # It names no invoked program.
    numbers = asked["function"].where(asked["function"] < 0x2800, 0x28)
    assert Counter(numbers) - Counter(starmap(_number, zeek)) == skipped

    names = ("frame.number", "s7comm.header.rosctr", "s7comm.param.func", "s7comm.param.errcod",
             "s7comm.header.errcls", "s7comm.header.errcod", "s7comm.data.returncode",
             "s7comm.param.userdata.type", "s7comm.param.userdata.funcgroup",
             "s7comm.param.userdata.subfunc")  # fmt: skip
    functions, refused = {}, {}
    for frame, kind, job, *codes, way, group, sub in tshark.fields(
        place / "capture.pcap", "s7comm", *names
    ):
        if kind == "1" or way == "4":
            functions[int(frame)] = int(job, 0) if job else 0x1000 | int(group) << 8 | int(sub)
        errcod, errcls, header, results = (code.split(",") for code in codes)
        error = [int(errcod[0] or "0", 0), int(errcls[0] or "0", 0) << 8 | int(header[0] or "0", 0)]
        items = [int(code, 0) for code in results if kind == "3" and code not in ("", "0xff")]
        refused |= {int(frame): code for code in [*items[:1], *error] if code}
    assert dict(zip(asked["frame"], numbers, strict=True)) == functions
    mine = found[found["outcome"] == "refused"]
    assert dict(zip(mine["answer_frame"], mine["code"], strict=True)) == refused


def _number(function: str, sub: str) -> int:
    """ICSNPP's function as here; group and way share a byte, 4 for a request."""
    code = int(function, 16)
    return 0x1000 | (code & 15) << 8 | int(sub, 16) if code >> 4 == 4 else code
