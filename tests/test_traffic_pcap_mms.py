import struct

import pytest
import tshark
from frames import read, talk, told

from traffic.pcap.protocols.mms import MMS

DATA, SESSION = b"\x02\xf0\x80", b"\1\0\1\0"


def _tlv(tag: int, *inside: bytes) -> bytes:
    body = b"".join(inside)
    head = bytes([tag >> 8, tag & 0xFF] if tag > 0xFF else [tag])
    size = bytes([len(body)] if len(body) < 128 else [0x81, len(body)])
    return head + size + body


def _tpkt(body: bytes) -> bytes:
    return struct.pack(">BBH", 3, 0, 4 + len(body)) + body


def _pdu(*inside: bytes) -> bytes:
    shown = _tlv(0x61, _tlv(0x30, b"\2\1\3", _tlv(0xA0, *inside)))
    return _tpkt(DATA + SESSION + shown)


def _ask(invoke: int, service: bytes) -> bytes:
    return _pdu(_tlv(0xA0, _tlv(0x02, struct.pack(">H", invoke)), service))


def _done(invoke: int, service: bytes) -> bytes:
    return _pdu(_tlv(0xA1, _tlv(0x02, struct.pack(">H", invoke)), service))


def _error(invoke: int, kind: int, code: int) -> bytes:
    wrong = _tlv(0xA2, _tlv(0xA0, bytes([0x80 | kind, 1, code])))
    return _pdu(_tlv(0xA2, _tlv(0x80, struct.pack(">H", invoke)), wrong))


def _object(item: bytes, domain: bytes = b"IED1LD0") -> bytes:
    return _tlv(0xA1, _tlv(0x1A, domain), _tlv(0x1A, item))


def _listed(*items: bytes) -> bytes:
    return _tlv(0xA0, *(_tlv(0x30, _tlv(0xA0, _object(item))) for item in items))


def _read(invoke: int, *items: bytes) -> bytes:
    return _ask(invoke, _tlv(0xA4, b"\x80\1\0", _tlv(0xA1, _listed(*items))))


def _write(invoke: int, item: bytes) -> bytes:
    return _ask(invoke, _tlv(0xA5, _listed(item), _tlv(0xA0, b"\x83\1\1")))


def _last_error(cause: int) -> bytes:
    name = _tlv(0xA0, _tlv(0x30, _tlv(0xA0, _tlv(0x80, b"LastApplError"))))
    what = _tlv(0x8A, b"IED1LD0/CSWI1$CO$Pos$Oper"), b"\x85\1\1", _tlv(0xA2, b"\x85\1\2\x89\0")
    failed = _tlv(0xA2, *what, b"\x86\1\1\x85\1", bytes([cause]))
    return _pdu(_tlv(0xA3, _tlv(0xA0, name, _tlv(0xA0, failed))))


def _accept(result: int, why: int) -> bytes:
    acse = bytes.fromhex("a107060528ca220203a2030201") + bytes([result])
    acse += bytes.fromhex("a305a1030201") + bytes([why])
    return _tpkt(DATA + _tlv(0x0E, _tlv(0xC1, _tlv(0x61, acse))))


CONNECT_KEY = b"\0\0\0\1\0\xc0\x01\x0a\xc1\x02\0\1\xc2\x02\0\1"
CONNECT, CONNECTED = (_tpkt(bytes([1 + len(CONNECT_KEY), kind]) + CONNECT_KEY) for kind in (0xE0, 0xD0))  # fmt: skip
ASSOCIATE = _tpkt(DATA + _tlv(0x0D, b"\5\6\x13\1\0\x16\1\2", _tlv(0xC1, bytes(30))))
OPENING = [(">", CONNECT), ("<", CONNECTED), (">", ASSOCIATE), ("<", _accept(0, 0))]
CONCLUDE, CONCLUDED = _pdu(b"\x8b\0"), _pdu(b"\x8c\0")


def _told(tmp_path, *turns):
    return told(read(tmp_path, talk(102, *turns)).exchanges, MMS)


def test_what_is_read_written_commanded_and_refused(tmp_path):
    capture = read(
        tmp_path,
        talk(
            102, *OPENING,
            (">", _read(300, b"MMXU1$MX$TotW", b"LLN0$BR$rcb1")),
            # One read has two results, the second of them the error "object does not exist".
            ("<", _done(300, _tlv(0xA4, _tlv(0xA1, b"\x85\1\7", b"\x80\1\x0a")))),
            (">", _ask(301, _tlv(0xAC, _object(b"LLN0$ds1")))), ("<", _error(301, 7, 2)),
            (">", _write(302, b"CSWI1$CO$Pos$SBOw")), ("<", _done(302, _tlv(0xA5, b"\x81\0"))),
            (">", _write(303, b"CSWI1$CO$Pos$Oper")),
            # Why a command is refused stands in a report right before the answer.
            ("<", _last_error(10) + _done(303, _tlv(0xA5, b"\x80\1\3"))),
            (">", _write(304, b"PTOC1$SP$StrVal$setMag$f")), ("<", _done(304, _tlv(0xA5, b"\x80\1\3"))),
            (">", _write(305, b"LLN0$RP$rcb1$RptEna")), ("<", _done(305, _tlv(0xA5, b"\x81\0"))),
            (">", _ask(306, _tlv(0xBF48, _tlv(0xA0, _tlv(0x19, b"/COMTRADE/1.cfg")), b"\x81\1\0"))),
            ("<", _error(306, 11, 7)),
            (">", _ask(307, b"\xa1\x10\xa0\3\x80\1\0\xa1\x09\x81\x07IED1LD0")),
            ("<", _done(307, _tlv(0xA1, b"\xa0\0"))),
            (">", _ask(308, _tlv(0xA9, b"\0"))), ("<", _pdu(_tlv(0xA4, b"\x80\2\1\x34\x81\1\1"))),
            (">", _ask(309, _tlv(0x82))),
            ("<", _done(309, _tlv(0xA2, b"\x80\3ABB\x81\6REF615\x82\0031.1"))),
            ("<", _pdu(_tlv(0xA3, _tlv(0xA0, _tlv(0xA1, b"\x80\3RPT"), _tlv(0xA0, b"\x8a\4rpt1\x84\2\6\x40"))))),
            (">", _write(310, b"CSWI1$CO$Pos$Cancel")), (">", CONCLUDE), ("<", CONCLUDED),
        ),
    )  # fmt: skip
    assert capture.flows["service"].tolist()[0] == "mms"
    assert told(capture.exchanges, MMS) == [
        ["session", 0xE0, "", "", "answered", 0],
        ["session", 0x100, "", "", "answered", 0],
        ["read", 4, "", "IED1LD0/MMXU1$MX$TotW", "refused", 0x100 + 10],
        ["read", 12, "", "IED1LD0/LLN0$ds1", "refused", 0x1702],
        ["write", 0x201, "", "IED1LD0/CSWI1$CO$Pos$SBOw", "answered", 0],
        ["write", 0x200, "", "IED1LD0/CSWI1$CO$Pos$Oper", "refused", 0x3000 + 10],
        ["other", 0x300 + 10, "", "IED1LD0/CSWI1$CO$Pos$Oper", "told", -1],
        ["write", 5, "", "IED1LD0/PTOC1$SP$StrVal$setMag$f", "refused", 0x100 + 3],
        ["other", 0x204, "", "IED1LD0/LLN0$RP$rcb1$RptEna", "answered", 0],
        ["read", 72, "", "/COMTRADE/1.cfg", "refused", 0x1B07],
        ["read", 1, "", "IED1LD0", "answered", 0],
        ["other", 9, "", "", "refused", 0x2001],
        ["identify", 2, "", "", "answered", 0],
        ["publish", 0x103, "", "rpt1", "told", -1],
        ["write", 0x202, "", "IED1LD0/CSWI1$CO$Pos$Cancel", "unanswered", -1],
        ["session", 0x101, "", "", "answered", 0],
    ]
    said = capture.identities[capture.identities["source"] == "MMS identify"]
    assert dict(zip(said["field"], said["value"], strict=True)) == {
        "make": "ABB", "model": "REF615", "firmware": "1.1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (_accept(1, 13), 0x4000 + 13),  # the password is wrong
        (_tpkt(DATA + _tlv(0x0C, b"\x11\1\1")), 0x4000),
        (_tpkt(DATA + _tlv(0x19, b"\x11\1\3")), 0x4000),
        (_accept(0, 0), 0),
    ],
)
def test_a_refused_association_says_why(tmp_path, answer, code):
    found = _told(tmp_path, *OPENING[:3], ("<", answer))
    assert found[1] == ["session", 0x100, "", "", "refused" if code else "answered", code]


@pytest.mark.parametrize("size", range(8, 60, 3))
def test_a_message_that_is_cut_or_says_nonsense_harms_nothing_else(tmp_path, size):
    good = _read(7, b"MMXU1$MX$TotW")
    broken = _tpkt(good[4:size]) if size >= 8 else b""
    wild = _tpkt(DATA + SESSION + b"\x61\x84\xff\xff\xff\xff\x30\x80" + bytes(range(0x80, 0x80 + size)))  # fmt: skip
    answer = _done(8, _tlv(0xA4, _tlv(0xA1, b"\x85\1\7")))
    turns = [(">", broken + wild + _read(8, b"MMXU1$MX$TotW")), ("<", answer)]
    assert _told(tmp_path, *OPENING, *turns)[-1][:5] == [
        "read", 4, "", "IED1LD0/MMXU1$MX$TotW", "answered",
    ]  # fmt: skip


def test_a_real_trace_agrees_with_tshark(shared):
    path = shared / "data/protocols/iec61850/mms-goose.pcap"
    mine = tshark.exchanges(path, "mms")
    asked = mine[mine["function"] < 0x80].set_index("frame")
    names = ("frame.number", "mms.confirmedServiceRequest", "mms.domainId", "mms.itemId")
    found = [
        [int(frame), int(service), f"{domain}/{item}"]
        for frame, service, domain, item in tshark.fields(path, "mms.confirmed_RequestPDU_element", *names)
    ]  # fmt: skip
    assert [[f, r["function"], r["name"]] for f, r in asked.iterrows()] == found
    assert asked["code"].tolist() == [0x1702, 0x100 + 10]
    assert mine.loc[mine["function"] == 0x100, "answer_frame"].tolist() == [111]
    # Each PDU in an association is told by two headers of its session; those of six frames are no reports.
    headers = tshark.fields(path, "tcp.port == 102 && ses.type == 1", "ses.type")
    assert (mine["function"] == 0x103).sum() == sum(len(x.split(",")) for (x,) in headers) // 2 - 6
