"""DNS over UDP and TCP: questions, what answers them, how fast, and failures by response code
(RFC 1035)."""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP, UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    READ,
    SKIP,
    TELL,
    Events,
    Heads,
    Protocol,
    make_events,
    make_rows,
    read_text,
    select_asked,
)

PORTS = (53, 137, 5353, 5355)  # with NetBIOS names, multicast DNS and LLMNR, which speak alike
_PORT = 53  # only a resolver's answers and failures are evidence
_NAME_BYTES = 80
# RFC 1035, 4.1.1.
RESPONSE_CODES = {
    -1: "no answer",
    1: "format error",
    2: "server failure",
    3: "no such name",
    4: "not implemented",
    5: "refused",
}
_CODE_NAMES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_A, _CNAME, _POINTER, _MOST_ALIASES = 1, 5, 0xC0, 3
_MULTICAST = (137, 5353, 5355)  # asked of all, who may answer or not
TELLS = 0x80  # function of what answers there, or announces itself unasked


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Over TCP two bytes of length come first (RFC 1035, 4.2.2)."""
    length = head[:, 0] << 8 | head[:, 1]
    return np.where((length >= 12) & (known >= 2), 2 + length, 0)


def _fits(heads: Heads) -> np.ndarray:
    """A header's length and at most a few questions (RFC 1035, 4.1.1)."""
    first, tcp = heads.first.astype(int), heads.transport == TCP
    questions = np.where(tcp, first[:, 6] << 8 | first[:, 7], first[:, 4] << 8 | first[:, 5])
    return (heads.payload >= np.where(tcp, 14, 12)) & (questions <= 16)


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is its identification, the name what it asks for, as the wire
    has it: each label after its length; the value of an answer is the address that it gives."""
    if (messages.of_packet("proto") == TCP).any():
        messages = messages.enclosed(2, np.ones(len(messages), bool))
    flags = messages.u16(2)
    is_answer, opcode = flags >= 0x8000, flags >> 11 & 15
    ports = np.stack([messages.of_packet("sport"), messages.of_packet("dport")])
    multicast = np.isin(ports, _MULTICAST).any(axis=0)
    role = np.select([multicast, is_answer], [TELL, ANSWER], ASK)
    return make_rows(
        messages,
        np.where((opcode == 0) & (messages.held >= 12), role, SKIP),
        key=messages.u16(0),
        kind=READ,
        function=np.where(multicast & is_answer, TELLS, opcode),
        code=np.where(is_answer & ~multicast, flags & 15, -1),
        value=_read_addresses(messages, is_answer & ~multicast),
        name_at=12,
        name_bytes=np.minimum(np.maximum(messages.held - 12, 0), _NAME_BYTES),
    )


def _read_addresses(messages: Messages, is_answer: np.ndarray) -> np.ndarray:
    """The first IPv4 address that each answer gives, as a number; -1 where it gives none.

    An answer repeats the name by a pointer; its aliases come before the address (RFC 1035, 4.1.3).
    """
    found = np.full(len(messages), -1)
    one = is_answer & (messages.u16(4) == 1) & (messages.u16(6) > 0)
    which = np.flatnonzero(one)
    if not len(which):
        return found
    answers = messages.take(which)
    ends = answers.bytes(12, _NAME_BYTES) == 0
    going = ends.any(axis=1)
    at = 12 + ends.argmax(axis=1) + 1 + 4  # behind the name of the question, its type and class
    for _ in range(1 + _MOST_ALIASES):
        kind, size = answers.u16(at + 2), answers.u16(at + 10)
        going &= answers.u8(at) >= _POINTER
        given = going & (kind == _A) & (size == 4)
        found[which[given]] = answers.u32(at + 12)[given]
        going &= kind == _CNAME
        at = np.where(going, at + 12 + size, at)
    return found


_NETBIOS_BYTES = 32  # of a coded name
_HALVES = frozenset(range(ord("A"), ord("P") + 1))
_PLAIN_SUFFIXES = (0x00, 0x20)  # a workstation and a file server: the name says enough


def read_netbios_name(coded: bytes) -> str:
    """A name of NetBIOS, each byte of which is sent as two letters (RFC 1001, 14.1); what it is for
    is its last byte.

    >>> read_netbios_name(b"ECEBEJEEFFCACACACACACACACACACAAA"), read_netbios_name(b"CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    ('baidu', '*')
    >>> read_netbios_name(b"FAEMEBEOFECACACACACACACACACACABM")
    'plant<1c>'
    """
    name = bytes((coded[i] - 65) << 4 | coded[i + 1] - 65 for i in range(0, _NETBIOS_BYTES, 2))
    text = read_text(name[:-1].rstrip(b" \0").lower())
    return text if name[-1] in _PLAIN_SUFFIXES else f"{text}<{name[-1]:02x}>"


def _read_name(name: bytes) -> str:
    """Labels, each after its length, joined by dots; that of NetBIOS read.

    >>> _read_name(b"\\3www\\7example\\3com\\0\\0\\1")
    'www.example.com'
    """
    labels = []
    if len(name) > _NETBIOS_BYTES and name[0] == _NETBIOS_BYTES:
        coded = name[1 : 1 + _NETBIOS_BYTES]
        if _HALVES.issuperset(coded):  # no name of DNS looks so
            labels, name = [read_netbios_name(coded)], name[1 + _NETBIOS_BYTES :]
    while name and 0 < name[0] < 64:
        labels.append(read_text(name[1 : 1 + name[0]].lower()))
        name = name[1 + name[0] :]
    return ".".join(labels)


def _say_code(code: int, word: str) -> str:
    """The name that resolvers and tools print, with its word."""
    return f"{_CODE_NAMES[code]} ({word})" if code in _CODE_NAMES else f"code {code}"


def _make_events(exchanges: pd.DataFrame) -> Events:
    """Queries with the names they ask for, and failures by response code, -1 for silence."""
    exchanges = exchanges[exchanges["port"] == _PORT]
    asked = select_asked(exchanges)
    queries = asked.assign(target=asked["name"], code=-1)
    failed = exchanges[(exchanges["code"] > 0) | (exchanges["outcome"] == "unanswered")]
    when = failed["answer_ts"].fillna(failed["ts"])
    return {
        "dns_query": make_events(queries),
        "dns_failed": make_events(failed.assign(ts=when, target=failed["name"])),
    }


DNS = Protocol(
    name="dns",
    transports=(TCP, UDP),
    ports=PORTS,
    fits=_fits,
    message_bytes=_message_bytes,
    head_bytes=2,
    read=_read,
    functions={0: "query", TELLS: "answer"},
    refusals=RESPONSE_CODES,
    failed=frozenset({2}),
    say_code=_say_code,
    code_field="dns.flags.rcode",
    read_name=_read_name,
    wait_s=5.0,
    repeats=True,
    make_events=_make_events,
    evidence={"dns_query": {}, "dns_failed": RESPONSE_CODES},
)
