import struct

import pytest
import tshark
from frames import SERVER, ethernet, read, talk, told, udp_packet

from traffic.pcap.protocols.smb import SMB

MORE, FAILED, LOCKED = 0xC0000016, 0xC000006D, 0xC0000234
SEAL = b"NTLMSSP\0"
BEGIN = SEAL + struct.pack("<II", 1, 0x207) + bytes(16)


def _session(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def _proof(domain: str, account: str, wide: bool = True) -> bytes:
    """The third message of NTLM: six fields, flags, then what they point to."""
    texts = [t.encode("utf-16-le" if wide else "latin-1") for t in (domain, account, "HMI7")]
    at, fields, payload = 64, b"", b"".join(texts) + bytes(24)
    for text in texts:
        fields += struct.pack("<HHI", len(text), len(text), at)
        at += len(text)
    answers = struct.pack("<HHI", 12, 12, at) + struct.pack("<HHI", 12, 12, at + 12)
    flags = struct.pack("<I", 1 if wide else 2)
    return SEAL + struct.pack("<I", 3) + answers + fields + bytes(8) + flags + payload


def _challenge(computer: str) -> bytes:
    name = computer.encode("utf-16-le")
    pairs = struct.pack("<HH", 1, len(name)) + name + bytes(4)
    head = SEAL + struct.pack("<IHHII", 2, 0, 0, 56, 1 << 25 | 1) + bytes(16)
    return (
        head + struct.pack("<HHI", len(pairs), len(pairs), 56) + b"\x06\1\xb1\x1d\0\0\0\x0f" + pairs
    )


def _smb2(
    number: int, blob: bytes, status: int = 0, answers: bool = False, command: int = 1
) -> bytes:
    head = struct.pack(
        "<4sHHIHHIIQIIQ", b"\xfeSMB", 64, 0, status, command, 1, answers, 0, number, 0, 0, 7
    )
    body = struct.pack("<HBBIIHHQ", 25, 0, 1, 0, 0, 88, len(blob), 0)
    return _session(head + bytes(16) + body + blob)


def _smb1(
    number: int, body: bytes, status: int = 0, answers: bool = False, wide: bool = True
) -> bytes:
    flags2 = 0xC001 if wide else 0x4001
    head = struct.pack("<4sBIBHH", b"\xffSMB", 0x73, status, 0x80 * answers, flags2, 0) + bytes(10)
    return _session(head + struct.pack("<HHHH", 0, 1, 0, number) + body)


def _plain(account: str, domain: str, wide: bool) -> bytes:
    """A login of SMB 1 with the proofs before the names."""
    coding = "utf-16-le" if wide else "latin-1"
    names = "".join(f"{one}\0" for one in (account, domain, "Unix")).encode(coding)
    passwords = bytes(24) + bytes(24) + bytes(1 if wide else 0)
    words = b"\xff\0\0\0" + struct.pack("<HHHIHHII", 4356, 50, 0, 0, 24, 24, 0, 0)
    return b"\x0d" + words + struct.pack("<H", len(passwords + names)) + passwords + names


def _told(tmp_path, *turns, port=445):
    return told(read(tmp_path, talk(port, *turns)).exchanges, SMB)


@pytest.mark.parametrize("port", [445, 139, 8445])
def test_a_login_in_three_messages_is_one_and_bears_its_account(tmp_path, port):
    turns = [
        (">", _smb2(0, b"", command=0)), ("<", _smb2(0, b"", 0, True, command=0)),
        (">", _smb2(1, b"\x60\x48" + BEGIN)), ("<", _smb2(1, _challenge("FS1"), MORE, True)),
        (">", _smb2(2, _proof("PLANT", "scada"))), ("<", _smb2(2, b"", LOCKED, True)),
        (">", _smb2(3, BEGIN)), ("<", _smb2(3, _challenge("FS1"), MORE, True)),
        (">", _smb2(4, _proof("", "oper", wide=False))), ("<", _smb2(4, b"", 0, True)),
        (">", _smb2(5, b"\x60\x82" + bytes(300))), ("<", _smb2(5, b"", FAILED, True)),  # Kerberos
        (">", _smb2(6, b"", command=5)), ("<", _smb2(6, b"", 0xC0000034, True, command=5)),
    ]  # fmt: skip
    capture = read(tmp_path, talk(port, *turns))
    assert told(capture.exchanges, SMB) == [
        ["session", 1, "", "PLANT\\scada", "refused", LOCKED],
        ["session", 1, "", "oper", "answered", 0],
        ["session", 1, "", "", "refused", FAILED],
    ]
    assert capture.flows["service"].tolist()[0] == "smb"
    said = capture.identities[capture.identities["source"] == "SMB"]
    assert said[["device", "field", "value"]].to_numpy().tolist() == [
        [SERVER, "software", "Windows 6.1.7601"], [SERVER, "name", "FS1"],
    ]  # fmt: skip


@pytest.mark.parametrize("wide", [True, False])
def test_a_login_of_the_first_version_without_ntlm(tmp_path, wide):
    turns = [
        (">", _smb1(9, _plain("scada", "PLANT", wide), wide=wide)),
        ("<", _smb1(9, b"\0\0\0", 0x00020002, True)),
    ]
    assert _told(tmp_path, *turns) == [["session", 1, "", "PLANT\\scada", "refused", 0x00020002]]


def test_a_session_to_a_name_that_nobody_bears(tmp_path):
    coded = b"\x20" + b"FDEBFDDBCACACACACACACACACACACACA" + b"\0"  # SAS1<20>
    turns = [(">", b"\x81\0\0\x44" + coded + coded), ("<", b"\x83\0\0\1\x82")]
    assert _told(tmp_path, *turns, port=139) == [
        ["other", 2, "", "sas1", "refused", 0x10000082]
    ]  # fmt: skip


@pytest.mark.parametrize("size", range(5, 200, 13))
def test_cut_and_wild_messages_name_nobody_and_harm_no_other(tmp_path, size):
    wild = _proof("PLANT", "scada")
    wild = wild[:36] + struct.pack("<HHI", 0xFFFF, 0xFFFF, 0xFFFFFFF0) + wild[44:]
    turns = [
        (">", _session(_smb2(1, _proof("PLANT", "scada"))[4 : 4 + size])), (">", _smb2(2, wild)),
        (">", _smb2(3, _proof("PLANT", "scada"))), ("<", _smb2(3, b"", FAILED, True)),
    ]  # fmt: skip
    found = _told(tmp_path, *turns)
    assert found[-1] == ["session", 1, "", "PLANT\\scada", "refused", FAILED]


def test_a_netbios_name_is_read(tmp_path):
    question = (
        struct.pack(">HHHHHH", 7, 0x0110, 1, 0, 0, 0)
        + b"\x20ECEBEJEEFFCACACACACACACACACACAAA\0\0\x20\0\1"
    )
    frames = [(1000.0, ethernet(udp_packet(question, dst="192.168.1.255", sport=137, dport=137)))]
    assert read(tmp_path, frames).exchanges["name"].tolist() == ["baidu"]


def test_a_real_trace_agrees_with_tshark(shared):
    path = shared / "data/protocols/iec61850/mms-goose.pcap"
    found = tshark.fields(
        path,
        "ntlmssp.messagetype == 3",
        "frame.number",
        "ntlmssp.auth.domain",
        "ntlmssp.auth.username",
    )
    mine = tshark.exchanges(path, "smb")
    mine = mine[mine["function"] == 1]
    assert [[str(r["frame"]), *r["name"].split("\\")] for _, r in mine.iterrows()] == found
    assert set(mine["code"]) == {FAILED}
    assert mine["answer_frame"].tolist() == [17, 68, 160, 255]
