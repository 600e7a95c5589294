"""Values that write commands carry: read, kept and told, from packets made by hand and from logs."""

import shutil
import struct
from dataclasses import replace
from itertools import count

import pytest
from frames import Frame, dnp3_message, ethernet, tcp_packet, write_pcap
from test_assistant_answers_plant import GUEST, PLANT, SENSORS, _analyse
from test_traffic_pcap_exchanges import adu
from test_traffic_zeek_exchanges import with_times, write_logs

from assistant.answers.answer import answer
from assistant.chat import Conversation
from assistant.diagnosis.llm_writer import write
from assistant.diagnosis.proof import recount
from assistant.facts.fact import kind_of
from assistant.facts.written import read_values, trace_places
from assistant.questions.written import read_written_form
from traffic.pcap.protocols import BY_NAME
from traffic.pcap.protocols.written import DATA_BYTES, pack_modbus
from traffic.reader import read_capture
from traffic.zeek.conn import read_zeek

PLC, PANEL = SENSORS[0], SENSORS[1]
_OK, _DENIED = None, b"\x86\x02"


def _set(register: int, value: int) -> bytes:
    return struct.pack(">BHH", 6, register, value)


def _set_many(register: int, *values: int) -> bytes:
    return struct.pack(">BHHB", 16, register, len(values), 2 * len(values)) + b"".join(
        value.to_bytes(2) for value in values
    )


def _look(register: int, count: int = 1) -> bytes:
    return struct.pack(">BHH", 3, register, count)


def _found(*values: int) -> bytes:
    return bytes([3, 2 * len(values)]) + b"".join(value.to_bytes(2) for value in values)


_PORTS = count(41000)


def _talk(
    client: str, turns: list[tuple[float, bytes, bytes | None]], server: str = PLC
) -> list[Frame]:
    """A Modbus connection: time, request, and answer; None repeats the head of the request."""
    port = next(_PORTS)
    there, back = (client, server, port, 502), (server, client, 502, port)
    first = turns[0][0]
    rows = [(first - 0.2, "S", 0, 0, b"", there), (first - 0.1, "SA", 0, 1, b"", back)]
    seq = ack = 1
    for n, (ts, asked, said) in enumerate(turns):
        request, reply = adu(n, 1, asked), adu(n, 1, asked[:5] if said is None else said)
        rows += [(ts, "PA", seq, ack, request, there)]
        seq += len(request)
        rows += [(ts + 0.01, "PA", ack, seq, reply, back)]
        ack += len(reply)
    return [
        (ts, ethernet(tcp_packet(flags, seq, data, *ends, ack=ack)))
        for ts, flags, seq, ack, data, ends in rows
    ]


STRANGER = [
    (150.0, _set(77, 1940), _OK),
    (150.2, _set_many(110, 1243, 9), _OK),
    (150.4, _set(68, 1216), _OK),
    (150.6, _set(68, 1300), _OK),
    (150.8, _set(5, 1), _DENIED),
]
WATCH = [(10.0 * n + 5, _look(60, 60)) for n in range(29)]


def _watch(ts: float) -> list[int]:
    """What registers 60 to 119 hold: 1200 in 77 until it is overwritten, and again from 200 s on."""
    values = dict.fromkeys(range(60, 120), 0)
    values |= {77: 1940, 110: 1243, 111: 9, 68: 1300} if ts > 151 else {77: 1200, 68: 7}
    values |= {77: 1200} if ts > 200 else {}
    return [values[n] for n in range(60, 120)]


def _plant_frames(*more: Frame) -> list[Frame]:
    watch = _talk(PANEL, [(ts, asked, _found(*_watch(ts))) for ts, asked in WATCH])
    return [*watch, *_talk(GUEST, STRANGER), *more]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return _analyse(tmp_path_factory.mktemp("written"), *_plant_frames())


@pytest.mark.parametrize(
    ("data", "points"),
    [
        ("05000aff00", [("coil 10", "on")]),
        ("05000a0000", [("coil 10", "off")]),
        ("06000a0000", [("register 10", "0")]),
        ("0f0000000301" + "05", [("coil 0", "on"), ("coil 1", "off"), ("coil 2", "on")]),
        ("10000a000204" + "00010002", [("register 10", "1"), ("register 11", "2")]),
        ("16000a00f20025", [("register 10", "AND 0x00F2 OR 0x0025")]),
        ("170003000600" + "0e000102ff", [("register 14", "")]),
        ("1700030006000e00010200ff", [("register 14", "255")]),
    ],
)
def test_each_function_says_what_it_writes(data, points):
    found = BY_NAME["modbus"].read_points(bytes.fromhex(data))
    assert [(one.place, one.value) for one in found] == points


def test_what_was_not_captured_is_unknown_and_never_0():
    points = BY_NAME["modbus"].read_points(_set_many(10, 7, 8, 9)[:9])
    assert [(one.place, one.value) for one in points] == [
        ("register 10", "7"), ("register 11", ""), ("register 12", ""),
    ]  # fmt: skip
    assert BY_NAME["modbus"].read_points(bytes.fromhex("10000affff02" + "0001")) is None


@pytest.mark.parametrize(
    ("protocol", "data", "points"),
    [
        ("s7comm", "0501120a10050001000584000060" "0004001004b0", [("DB5.DBB12", "1200")]),
        ("s7comm", "0501120a10080001000584000060" "0007000441200000", [("DB5.DBB12", "10")]),
        ("s7comm", "0501120a10010001000083000003" "0003000101", [("M0.3", "on")]),
        ("s7comm", "0501120a10020002000184000000" "000400105b22", [("DB1.DBB0", "0x5B22")]),
        ("iec104", "2d01060001004d000001", [("object 77", "on")]),
        ("iec104", "2d01060001004d000081", []),  # it only selects
        ("iec104", "3201060001004d00000000964400", [("object 77", "1200")]),
        ("iec104", "31010600010001000018fc00", [("object 1", "-1000")]),
        ("iec104", "2d01080001004d000001", []),  # it takes back
    ],
)  # fmt: skip
def test_other_protocols_say_what_they_write(protocol, data, points):
    found = BY_NAME[protocol].read_points(bytes.fromhex(data))
    assert [(one.place, one.value) for one in found] == points


def test_outputs_of_dnp3_are_read_past_the_checksums():
    block = bytes([0x41, 1]) + (100).to_bytes(4, "little") + (0).to_bytes(4, "little") + b"\0"
    user = bytes([0xC0, 0xC1, 5, 12, 1, 0x17, 2, 8]) + block + bytes([9]) + block
    message = dnp3_message(user, 10, 1)
    points = BY_NAME["dnp3"].read_points(message[10:])
    assert [(one.place, one.value) for one in points] == [
        ("binary output 8", "pulse on (close)"), ("binary output 9", "pulse on (close)"),
    ]  # fmt: skip
    assert BY_NAME["dnp3"].read_points(dnp3_message(b"\xc0\xc1\x03" + user[3:], 10, 1)[10:]) == []


def test_a_property_and_a_tag_are_read():
    present = bytes.fromhex("0c0080000319553e44419c00003f4908")
    (point,) = BY_NAME["bacnet"].read_points(present)
    assert (point.place, point.value) == ("analog-value 3", "19.5")
    tag = b"\x91\x05Speed\0" + bytes.fromhex("ca00010000009644")
    (point,) = BY_NAME["enip"].read_points(tag)
    assert (point.place, point.value) == ("“Speed”", "1200")


def test_only_write_commands_and_reads_next_to_them_are_kept(written):
    rows = written.view.exchanges
    kept = rows[rows["points"].notna()]
    assert (kept["kind"] == "write").sum() == len(STRANGER)
    # The last read before, the first after, the last of all.
    assert (kept["kind"] == "read").sum() == 3
    assert kept["points"].astype(str).str.len().max() <= 2 * DATA_BYTES


def test_a_place_has_what_stood_there_before_and_after(written):
    values = read_values(written.view.exchanges)
    traces = {one.first.number: one for one in trace_places(values, GUEST, PLC)}
    assert list(traces) == [77, 110, 111, 68, 5]
    assert traces[77].before.value == "1200"
    assert traces[77].now.value == "1200"
    assert traces[77].is_back is True
    assert (traces[68].before.value, traces[68].now.value) == ("7", "1300")
    assert traces[68].is_back is False
    assert traces[5].before is None
    assert traces[5].is_back is None


@pytest.mark.parametrize(
    ("question", "begins"),
    [
        (f"what values did {GUEST} write?", f"{GUEST} wrote 6 values to sensor-1 ({PLC}), to 5 registers: "
         "77 = 1940 (before 1200), 110 = 1243 (before 0), 111 = 9 (before 0) and 2 more; sensor-1 "
         f"({PLC}) accepted 4 of 5 commands, refused 1."),
        ("what was register 77 set to?",
         f"{GUEST} wrote 1940 to register 77 of sensor-1 ({PLC}), which was 1200 before, at "),
        ("what was set point 40078 set to?", f"{GUEST} wrote 1940 to register 77"),
        ("was register 77 changed, from what to what?", f"Yes: {GUEST} wrote 1940 to register 77"),
        ("was register 70 of sensor-1 changed?", "No: nobody was seen to write to number 70"),
        ("what was register 68 before?", f"Before {GUEST} wrote to register 68 of sensor-1 ({PLC}) at "),
        ("was register 77 set back?", f"Yes: at sensor-1 ({PLC}) register 77 is 1200, as before"),
        ("was register 68 set back?", f"No: at sensor-1 ({PLC}) register 68 is 1300 and was 7 before"),
        ("was register 5 set back?", "Cannot tell: whether the 1 register"),
        ("was wurde in register 77 geschrieben?", f"{GUEST} wrote 1940 to register 77"),
        (f"que valores escribio {GUEST}?", f"{GUEST} wrote 6 values"),
    ],
)  # fmt: skip
def test_values_are_told_with_their_evidence(written, question, begins):
    said = answer(question, written)
    assert said.cause.startswith(begins), said.cause
    assert said.removed == 0
    assert begins.startswith("No: nobody") or any(
        one.proof for one in said.known if kind_of(one).startswith("written")
    )


def test_a_talk_goes_on_from_who_wrote(written):
    talk = Conversation(written, None, None)
    talk.reply("who writes to sensor-1?")
    assert talk.reply(f"what did {GUEST} write?").text.startswith(f"**{GUEST} wrote 6 values")
    assert "wrote 1940 to register 77" in talk.reply("what was register 77 set to?").text
    assert f"before {GUEST} wrote to register 77" in talk.reply("what was it before?").text.replace(
        "B", "b"
    )
    assert "wrote 2 times to register 68" in talk.reply("and register 68?").text


def test_what_a_filter_selects_is_what_was_counted(written, tmp_path):
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    path = write_pcap(tmp_path / "one.pcap", sorted(_plant_frames()))
    said = answer(f"what values did {GUEST} write?", written)
    line = next(one for one in said.context if kind_of(one) == "written_many")
    assert line.proof.count == len(STRANGER)
    assert recount(line, [path]).agrees


def test_values_of_the_process_reach_no_model(written):
    class Model:
        name, free_prose = "one", True

        def __getattr__(self, name):
            raise AssertionError(f"a model was asked: {name}")

    said = answer(f"what values did {GUEST} write?", written)
    assert write(said, Model(), PLANT) == said
    inside = replace(said, facts=said.context[1:], context=said.context[:1])
    assert write(inside, Model(), PLANT) == inside


def test_logs_tell_the_values_that_packets_do(shared, tmp_path):
    folder = shared / "data" / "protocols" / "modbus"
    for log in (folder / "zeek").glob("*.log"):
        with_times(log, tmp_path)
    tables = [read_zeek(tmp_path).exchanges, read_capture(folder / "capture.pcap").exchanges]
    found = [
        sorted(table.loc[table["function"].isin([5, 6, 15, 16]), "points"].astype(str))
        for table in tables
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 4
    assert bytes.fromhex(found[0][1]) == pack_modbus(6, 1, [43981])


def test_a_log_without_values_has_none(tmp_path):
    row = {"ts": 1001.0, "uid": "C1", "tid": 1, "unit": 1, "func": "WRITE_SINGLE_REGISTER",
           "id.orig_h": "10.0.0.1", "id.orig_p": 40001, "id.resp_h": "10.0.0.2", "id.resp_p": 502}  # fmt: skip
    asked = [{**row, "pdu_type": "REQ"}, {**row, "ts": 1001.1, "pdu_type": "RESP"}]
    rows = write_logs(tmp_path, modbus=asked).exchanges
    assert rows["kind"].tolist() == ["write"]
    assert rows["points"].isna().all()


@pytest.mark.parametrize(
    "plain",
    [
        "who writes to dev?", "when did he write?", "how many registers did he write?", "what does it write to?",
        "is it ok?", "what happened before?", "who changed it?", "did dev accept the values?",
        "what was it before?", "what changed?", "set register 5 to 100",
        "what does the maker write about timeouts?",
        "what do i write in the shift book?", "what is register 7 used for?", "put it back",
        "why does dev write?", "how often was register 7 read?",
    ],
)  # fmt: skip
def test_other_questions_ask_for_no_values(plain):
    assert read_written_form(plain) is None
