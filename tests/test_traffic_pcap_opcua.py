import struct
from collections import Counter

import pytest
import tshark
from frames import read, talk, told
from hypothesis import given
from hypothesis import strategies as st

from traffic.pcap.protocols.opcua import OPCUA

TOKEN, NONE, DENIED = b"\1\0\5\0", b"\xff\xff\xff\xff", 0x801F0000


def _text(text: bytes) -> bytes:
    return struct.pack("<i", len(text)) + text


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", 8 + len(body)) + body


def _hello(url: bytes = b"opc.tcp://plc:4840") -> bytes:
    return _chunk(b"HELF", bytes(20) + _text(url))


ACK = _chunk(b"ACKF", bytes(20))


def _open(number: int, policy: bytes = b"http://opcfoundation.org/UA/SecurityPolicy#None") -> bytes:
    body = struct.pack("<I", 1) + _text(policy) + NONE + NONE + struct.pack("<II", 1, 1)
    return _chunk(b"OPNF", body + _type(number) + bytes(30))


def _type(number: int) -> bytes:
    return struct.pack("<BBH", 1, 0, number)


def _message(number: int, body: bytes, request: int = 5, kind: bytes = b"MSGF") -> bytes:
    return _chunk(kind, struct.pack("<IIII", 1, 1, request, request) + _type(number) + body)


def _ask(number: int, body: bytes, request: int = 5, kind: bytes = b"MSGF") -> bytes:
    header = TOKEN + bytes(8) + struct.pack("<II", 1, 0) + NONE + bytes(4) + bytes(3)
    return _message(number, header + body, request, kind)


def _answer(number: int, body: bytes = b"", result: int = 0, request: int = 5) -> bytes:
    header = bytes(8) + struct.pack("<II", 1, result) + b"\0" + NONE + bytes(3)
    return _message(number, header + body, request)


def _items(*items: bytes) -> bytes:
    return struct.pack("<i", len(items)) + b"".join(items)


def _status(code: int) -> bytes:
    return struct.pack("<I", code)


PUMP = b"\3\2\0" + _text(b"Pump.Speed")
READ_TWO = bytes(12) + _items(PUMP + bytes(12), b"\0\x54" + bytes(12))
# A text with its status and both times; an array of doubles; then what may not be read.
VALUES = _items(
    b"\x0f\x0c" + _text(b"running") + bytes(4) + bytes(16),
    b"\5\x8b" + struct.pack("<i", 3) + bytes(24) + bytes(8),
    b"\2" + _status(DENIED | 0x400),
)


@pytest.mark.parametrize(
    ("asked", "answer", "wanted"),
    [
        (_ask(631, READ_TWO), _answer(634, VALUES),
         ["read", 631, "ns=2;s=Pump.Speed", "refused", DENIED]),
        (_ask(631, READ_TWO), _answer(634, _items(b"\1\1\0", b"\2\0\0\x30\0")),  # GoodClamped
         ["read", 631, "ns=2;s=Pump.Speed", "answered", 0]),
        (_ask(673, _items(b"\1\2\x39\x30" + bytes(20))), _answer(676, _items(bytes(4), _status(0x80740000))),
         ["write", 673, "ns=2;i=12345", "refused", 0x80740000]),
        (_ask(461, bytes(40)), _answer(397, result=0x80560000), ["session", 461, "", "refused", 0x80560000]),
        (_ask(467, bytes(40)), _answer(470, result=0x80210000), ["session", 467, "", "refused", 0x80210000]),
        (_ask(712, _items(b"\0\x55" + b"\1\3\7\0" + NONE)), _answer(715, _items(bytes(4) + NONE + NONE)),
         ["control", 712, "ns=3;i=7", "answered", 0]),
        (_ask(712, _items(b"\1\0\xcd\x08" + b"\1\0\xe4\x2c" + NONE)), _answer(715, _items(_status(0x80750000))),
         ["other", 712, "i=11492", "refused", 0x80750000]),
        (_ask(751, bytes(8) + _items(PUMP)), _answer(754, _items(bytes(23), _status(0x80340000) + bytes(19))),
         ["read", 751, "ns=2;s=Pump.Speed", "refused", 0x80340000]),
        (_ask(428, _text(b"opc.tcp://plc:4840") + NONE), _answer(431, _items()),
         ["identify", 428, "opc.tcp://plc:4840", "answered", 0]),
        (_ask(527, b"\0\0" + bytes(16) + _items(b"\0\x54")), _answer(530, result=0x80260000),
         ["read", 527, "i=84", "refused", 0x80260000]),
        # A server may hold a publish request until it has news.
        (_ask(826, NONE), b"", ["read", 826, "", "unseen", -1]),
        (_ask(787, bytes(20)), b"", ["other", 787, "", "unanswered", -1]),
    ],
    ids=lambda value: str(value[1:]) if isinstance(value, list) else "",
)  # fmt: skip
@pytest.mark.parametrize("port", [4840, 53530])
def test_what_services_ask_and_refuse(tmp_path, asked, answer, wanted, port):
    turns = [(">", _hello()), ("<", ACK), (">", _open(446)), ("<", _open(449)), (">", asked)]
    found = read(tmp_path, talk(port, *turns, *([("<", answer)] if answer else []))).exchanges
    rows = [[row[0], row[1], *row[3:]] for row in told(found, OPCUA)]
    assert rows[:2] == [
        ["session", 1, "opc.tcp://plc:4840", "answered", 0],
        ["session", 446, "", "answered", 0],
    ]
    assert rows[2:] == [wanted]


def test_chunks_are_one_message_and_answers_go_by_number(tmp_path):
    more = _chunk(b"MSGC", struct.pack("<IIII", 1, 1, 6, 6) + bytes(100))
    first = _ask(631, READ_TWO, 6, b"MSGC")
    last = _chunk(b"MSGF", struct.pack("<IIII", 1, 1, 6, 6) + bytes(10))
    gave_up = _chunk(b"MSGA", struct.pack("<IIIII", 1, 1, 6, 6, 0x80B80000) + _text(b"too large"))
    turns = [
        (">", first + more + last + _ask(673, _items(PUMP), 7)),
        ("<", _answer(676, _items(bytes(4)), request=7)),
        ("<", gave_up),
    ]
    found = read(tmp_path, talk(4840, *turns)).exchanges
    assert [[row[1], *row[4:]] for row in told(found, OPCUA)] == [
        [631, "refused", 0x80B80000],
        [673, "answered", 0],
    ]


@pytest.mark.parametrize(
    ("turns", "wanted"),
    [
        ([(">", _hello())], [[1, "refused"]]),
        ([(">", _hello()), ("<", ACK), (">", _open(446))], [[1, "answered"], [446, "refused"]]),
        ([(">", _ask(631, READ_TWO))], [[631, "refused"]]),
    ],
)
def test_an_error_ends_what_was_asked_last(tmp_path, turns, wanted):
    error = _chunk(b"ERRF", _status(0x80550000) + _text(b"policy"))
    found = read(tmp_path, talk(4840, *turns, ("<", error))).exchanges
    assert found[["function", "outcome"]].values.tolist() == wanted
    assert found["code"].tolist()[-1] == 0x80550000


def test_a_sealed_channel_is_named_and_its_content_not_read(tmp_path):
    sealed = b"http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256"
    noise = _chunk(b"MSGF", struct.pack("<II", 1, 1) + bytes(range(100, 180)))
    turns = [
        (">", _hello()), ("<", ACK), (">", _open(446, sealed)), ("<", _open(449, sealed)),
        (">", noise), ("<", noise), (">", _chunk(b"CLOF", noise[8:])),
    ]  # fmt: skip
    capture = read(tmp_path, talk(4840, *turns))
    assert capture.flows["service"].tolist()[0] == "opcua-encrypted"
    assert told(capture.exchanges, OPCUA) == [
        ["session", 1, "", "opc.tcp://plc:4840", "answered", 0],
        ["session", 446, "", "", "answered", 0],
        ["session", 452, "", "", "told", -1],
    ]


def test_servers_say_what_they_are(tmp_path):
    application = _text(b"urn:plc") + _text(b"https://maker.example/plc") + b"\3" + _text(b"en")
    endpoint = _text(b"opc.tcp://plc:4840") + application + _text(b"Line 3") + bytes(40)
    texts = (b"urn:build", b"Maker", b"PLC 7", b"2.1", b"77")
    build = b"\1\x16\1\0\x54\1\1" + bytes(4) + b"".join(map(_text, texts)) + bytes(8)
    turns = [
        (">", _ask(428, _text(b"x") + NONE, 1)), ("<", _answer(431, _items(endpoint), request=1)),
        (">", _ask(631, READ_TWO, 2)), ("<", _answer(634, _items(build), request=2)),
    ]  # fmt: skip
    identities = read(tmp_path, talk(4840, *turns)).identities
    assert identities[["field", "value"]].values.tolist() == [
        ["model", "https://maker.example/plc"], ["name", "Line 3"],
        ["make", "Maker"], ["model", "PLC 7"], ["software", "2.1"],
    ]  # fmt: skip
    assert set(identities["source"]) == {"OPC UA"}


@given(st.binary(max_size=80), st.integers(-2, 1 << 31))
def test_lying_lengths_end(tmp_path_factory, noise, count):
    lie = struct.pack("<I", count & 0xFFFFFFFF)
    turns = [
        (">", _ask(631, bytes(12) + lie + noise)), ("<", _answer(634, lie + noise)),
        (">", _message(712, noise, 6)), ("<", _answer(754, lie + noise, request=6)),
        (">", _chunk(b"OPNF", lie + lie + noise)),
    ]  # fmt: skip
    found = read(tmp_path_factory.mktemp("o"), talk(4840, *turns)).exchanges
    assert len(found) >= 2


@pytest.mark.parametrize("capture", ["read", "status-code", "gap", "encrypted"])
def test_real_traces_agree_with_tshark(shared, capture):
    path = shared / "data/protocols/opcua" / f"{capture}.pcap"
    found = tshark.exchanges(path, "opcua")
    asked, answered, codes = Counter(), 0, Counter()
    names = ("opcua.transport.type", "opcua.servicenodeid.numeric", "opcua.ServiceResult",
             "opcua.Results", "opcua.StatusCode")  # fmt: skip
    for kind, service, *results in tshark.fields(path, "opcua", *names):
        number = int(service or "0")
        if kind == "ACK" or (kind in ("OPN", "MSG") and number - 3 in (*OPCUA.functions, 394)):
            answered += 1
            bad = [int(code, 0) for code in ",".join(results).split(",") if code[:3] == "0x8"]
            # What "read" reads are statuses as values, and none of them is an answer's.
            codes.update(bad[:1] if capture != "read" else [])
        elif service or kind in ("HEL", "CLO"):
            asked[{"HEL": 1, "CLO": 452}.get(kind, number)] += 1
    if capture == "encrypted":  # tshark does not tell which way its second channel is opened
        asked += Counter([446])
    # Nor does it read an answer whose later segment is lost.
    answered += capture in ("encrypted", "gap")
    assert Counter(found["function"]) == asked
    assert (found["answer_frame"] > 0).sum() == answered
    assert Counter(found["code"][found["code"] > 0]) == codes
