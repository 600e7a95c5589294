"""What stands in requests is found by its name: accounts, names that are looked for, blocks, commands, and
addresses that nobody gives. Packets are written by hand."""

import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from frames import SERVER, Frame, ethernet, talk, udp_packet, write_pcap
from test_assistant_rules_leases import ONE, VAIN, _asks
from test_traffic_pcap_s7comm import CONNECT, CONNECTED, SETUP, STOP, _done, _job
from test_traffic_pcap_smb import FAILED, _challenge, _proof, _smb2

from assistant.answers.answer import answer
from assistant.detection.pipeline import Analysis
from assistant.session import open_session
from assistant.settings import Settings

MORE = 0xC0000016
START = b"\x28" + bytes(6) + b"\xfd\0\0" + b"\x09P_PROGRAM"
COPY = b"\x28" + bytes(6) + b"\xfd\0\2EP" + b"\x05_MODU"


def _upload(name: bytes) -> bytes:
    return b"\x1d" + bytes(7) + bytes([len(name)]) + name


def _logins() -> list[Frame]:
    turns = []
    for n in range(6):
        turns += [(">", _smb2(2 * n, b"NTLMSSP\0\1\0\0\0" + bytes(24))),
                  ("<", _smb2(2 * n, _challenge("FS1"), MORE, True)),
                  (">", _smb2(2 * n + 1, _proof("PLANT", "historiandb"))),
                  ("<", _smb2(2 * n + 1, b"", FAILED, True))]  # fmt: skip
    frames = talk(445, *turns)
    return [(1000 + (ts - 1000) * 20, frame) for ts, frame in frames]


def _s7(*rest: tuple[str, bytes]) -> list[Frame]:
    return talk(
        102, (">", CONNECT), ("<", CONNECTED), (">", _job(0, SETUP)), ("<", _done(0, SETUP)),
        (">", _job(1, _upload(b"_0B00000A"))), ("<", _done(1, b"\x1d\0")),
        (">", _job(2, _upload(b"_0800001A"))), ("<", _done(2, b"\x1d", error=0xD241)),
        (">", _job(3, COPY)), ("<", _done(3, b"\x28")),
        (">", _job(4, STOP)), ("<", _done(4, b"\x29")), *rest,
    )  # fmt: skip


def _names() -> list[Frame]:
    coded = b"ECEBEJEEFFCACACACACACACACACACAAA"  # baidu
    question = struct.pack(">HHHHHH", 7, 0x0110, 1, 0, 0, 0) + b"\x20" + coded + b"\0\0\x20\0\1"
    ends = {"dst": "192.168.1.255", "sport": 137, "dport": 137}
    return [(1000.0 + n, ethernet(udp_packet(question, **ends))) for n in range(9)]


PLANTS: dict[str, Callable[[], list[Frame]]] = {
    "logins": _logins,
    "started": lambda: _s7((">", _job(5, START)), ("<", _done(5, b"\x28"))),
    "refused": lambda: _s7((">", _job(5, START)), ("<", _done(5, b"\x28", error=0xD241))),
    "names": _names,
    "no address": lambda: _asks(ONE, [1000 + ts for ts in VAIN], name=b"press-1"),
}


@pytest.fixture(scope="module")
def analyse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Analysis]:
    folder = tmp_path_factory.mktemp("plants")

    @cache
    def read(name: str) -> Analysis:
        path = write_pcap(Path(folder) / f"{name}.pcap", PLANTS[name]())
        with open_session(Settings(home=folder)) as session:
            return session.analyse(path)

    return read


@pytest.mark.parametrize(
    ("plant", "question", "line"),
    [
        ("logins", f"why can historiandb not log in at {SERVER}?",
         r"refuses the login of 192.168.1.10 as “PLANT\historiandb”: 6 of 6"),
        ("logins", f"who tried to log in at {SERVER}", r"SMB login (“PLANT\historiandb”) 6 times"),
        ("logins", "which user was refused?", r"“PLANT\historiandb”"),
        ("started", "which blocks were read out?", "read SDB0 (once) out of"),
        ("started", "which blocks were read out?", "refused was OB1 (once): code 0xD241"),
        ("started", "why could ob1 not be read?", "not permitted at the present protection level"),
        ("started", "is the cpu running again?", "Yes: after the stop of"),
        ("started", f"was {SERVER} started again?", "Yes: after the stop of"),
        ("started", "who stopped the cpu?", "to stop or to start anew 2 times: stop PLC and start program"),
        ("started", "what else did he change?", "Beside that"),
        ("started", "what else did he change?", "S7 copy RAM to ROM (once)"),
        ("started", f"the stop of {SERVER}, was that commanded or did it crash", "It was commanded."),
        ("refused", "is the cpu running again?", "No: no start of 192.168.1.20 was accepted"),
        ("names", "who is asking for baidu here?", "192.168.1.10 asked 192.168.1.255"),
        ("no address", "why does press-1 get no ip address?", "and gets no offer: 5 questions"),
        ("no address", "who gets no address?", "02:00:00:00:00:0a (“press-1”) asks for an address"),
        ("no address", "is there a dhcp server?", "No: no DHCP server answered"),
    ],
)  # fmt: skip
def test_the_first_line_names_what_was_asked_for(plant, question, line, analyse):
    said = answer(question, analyse(plant))
    assert line in said.text.split("\n")[0].replace("**", ""), said.text
    assert said.removed == 0, said.text


def test_a_broadcast_that_nobody_answers_is_no_failure_of_a_name_server(analyse):
    said = answer("who is asking for baidu here?", analyse("names"))
    assert "Nobody answered: 9 questions" in said.text
    assert "No name server failed" in said.text
    assert not analyse("names").incidents


@pytest.mark.parametrize("plant", ["started", "names", "no address"])
def test_words_of_a_language_name_nothing_in_requests(plant, analyse):
    for question in ("is everything ok?", "who writes to the plc?", "is the program running?"):
        said = answer(question, analyse(plant))
        assert "Nobody answered" not in said.text
        assert "read SDB0" not in said.text
