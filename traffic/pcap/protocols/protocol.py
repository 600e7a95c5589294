"""The form of a protocol: how it is recognised, how its messages are cut, what they ask and answer.

A protocol reads each of its messages into one row; ``traffic.pcap.exchanges`` pairs what asks with
what answers. Recognition is by content: a port is a hint, for streams whose beginning a capture
does not hold.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd

from traffic.arrays import number_groups, number_values
from traffic.pcap.messages import MessageBytes, Messages
from traffic.pcap.protocols.written import ReadPoints, read_no_points
from traffic.plant import is_group

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio (Knuth, 6.4)
HEAD_BYTES = 32  # of the first payloads of a flow, by which its protocol is recognised

ETHERNET = 256  # in place of an IP protocol's number; ports are ethertypes then

# What a message is to others of its flow.
ASK, ANSWER, TELL, SKIP = 0, 1, 2, 3  # TELL needs no answer; SKIP is no part of any exchange
# What a request is about. "control" changes how a device runs (stop, restart, download); "session"
# opens or keeps a connection of the protocol itself.
KINDS = ("other", "read", "write", "control", "session", "publish", "identify")
OTHER, READ, WRITE, CONTROL, SESSION, PUBLISH, IDENTIFY = range(len(KINDS))


@dataclass(frozen=True)
class Heads:
    """The beginnings of flows.

    Attributes:
        transport: shape (n,), IANA number.
        orig, resp: shape (n, HEAD_BYTES), uint8, the first payload of each side, 0 where it sent
            none.
        orig_payload, resp_payload: shape (n,), bytes of these payloads.
    """

    transport: np.ndarray
    orig: np.ndarray
    resp: np.ndarray
    orig_payload: np.ndarray
    resp_payload: np.ndarray

    def take(self, rows: np.ndarray) -> "Heads":
        """Some of the flows."""
        return Heads(*(getattr(self, column.name)[rows] for column in fields(self)))

    @property
    def first(self) -> np.ndarray:
        """The originator's first payload, or the responder's where it sent none."""
        return np.where(self.orig_payload[:, None] > 0, self.orig, self.resp)

    @property
    def payload(self) -> np.ndarray:
        """Bytes of ``first``."""
        return np.where(self.orig_payload > 0, self.orig_payload, self.resp_payload)


Fits = Callable[[Heads], np.ndarray]
Events = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Identity:
    """What one message says of a device.

    Attributes:
        message: its place among the messages.
        field, value, source: as in ``traffic.identities``.
        device: address or MAC of whom it speaks; ``""`` for its sender.
        unit: which device behind that address; -1 for itself.
    """

    message: int
    field: str
    value: str | bytes
    source: str
    device: str = ""
    unit: int = -1


def no_events(exchanges: pd.DataFrame) -> Events:  # noqa: ARG001
    """Evidence of a protocol that samples do not count by itself."""
    return {}


def read_text(name: bytes) -> str:
    """A name as UTF-8; what is none is written as its codes.

    >>> read_text(b"plant/line 3"), read_text(b"\\xff\\x01")
    ('plant/line 3', '\\\\xff\\\\x01')
    """
    text = name.decode("utf-8", errors="backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def say_code(code: int, word: str) -> str:
    """A code with its word, large ones as they stand in manuals.

    >>> say_code(5, "not authorised"), say_code(0x80340000, "unknown node")
    ('code 5 (not authorised)', 'code 0x80340000 (unknown node)')
    """
    return f"code {code if code < 256 else f'0x{code:X}'} ({word})"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One protocol; without ``read`` it is recognised, and its content is not read.

    Attributes:
        name: as in conn.log's ``service``.
        title: as people write it; "" where that is the name in capitals.
        transports: IANA numbers, or ETHERNET.
        ports: where its servers usually listen. A flow to such a port is also tried where its
            beginning tells nothing.
        fits: which beginnings of flows look like it, on any port; shape (n,).
        anywhere: whether ``fits`` is sure enough for flows to any port.
        message_bytes: how long a message in a stream is; None where each payload is one.
        head_bytes: how many bytes ``message_bytes`` looks at.
        resyncs: whether ``message_bytes`` is sure enough to go on after a hole in a stream.
        read: a row per message; see ``make_rows``.
        functions: words for function codes.
        kinds: the function codes of each of KINDS; those of no kind are OTHER.
        refusals: words for codes of refusal and error.
        remarks: codes that an answer may carry and still answers; words for them are in
            ``refusals`` too.
        troubles: which remarks say that something is wrong with the device itself.
        logins: functions by which a client asks to be let in, and is or is not.
        accounts: whether the name of a login is that of the account.
        interrupts: functions of the kind ``control`` that stop a device's work or start it anew.
        halts: which of these leave it stopped; ``resumes``: functions by which it goes on then.
        starts, stops: functions by which a client lets a server begin, or cease, to tell what nobody
            asks for each time.
        promises: functions whose ``value`` is how many messages of the kind ``publish`` a server
            sends in a second.
        busy: which refusals say "not now" and mean no mistake of anybody.
        denied: which say that who asks is not allowed to.
        gone: which say that what is behind the server does not answer.
        failed: which say that the device itself cannot do its work.
        say_code: a code of refusal and its word, as the protocol's engineers say it.
        layer: what Wireshark's filters call it, ``name`` where it is empty; ``decoder``: what a port
            is decoded as, where that is another word; ``code_field``: the field of a code of
            refusal, "" for none that tells it alone; ``function_field``: that of a function.
        read_name: the text of a name in its messages.
        name_target: a target as the protocol's engineers write it.
        read_points: what a request writes and where, from the bytes that ``data_at`` of
            ``make_rows`` names, as many as were captured, at most ``DATA_BYTES``.
        read_back: what reads found at places that are written, as ``read_points`` takes it, from the
            messages of streams and the requests that they pair to, by row of these.
        others: names of flows that begin like it and go on as something that is not read (another
            protocol, or its own under encryption); ``other`` of ``make_rows`` tells which.
        wait_s: how long a request waits; what the capture ends before is neither answered nor not.
        repeats: whether an unanswered request that is sent again is the same request.
        broadcasts: whether questions go to all, so that an answer comes on another flow: the key
            alone pairs them.
        elsewhere: whether an answer comes on another flow of the same two, so that the same holds.
        identify: what messages say of make, model and firmware of devices. Without ``read`` it gets
            the beginnings of streams alone, each as one message, of a few flows of each server.
        opens: whether it gets these though there is a ``read``.
        make_events: evidence by kind for samples, from the protocol's exchanges.
        evidence: the kinds that ``make_events`` gives, with the words for their codes.
    """

    name: str
    title: str = ""
    transports: tuple[int, ...]
    ports: tuple[int, ...]
    fits: Fits
    anywhere: bool = False
    message_bytes: MessageBytes | None = None
    head_bytes: int = 8
    resyncs: bool = True
    read: Callable[[Messages], pd.DataFrame] | None = None
    functions: Mapping[int, str] = field(default_factory=dict)
    kinds: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    refusals: Mapping[int, str] = field(default_factory=dict)
    remarks: frozenset[int] = frozenset()
    troubles: frozenset[int] = frozenset()
    logins: frozenset[int] = frozenset()
    accounts: bool = False
    interrupts: frozenset[int] = frozenset()
    halts: frozenset[int] = frozenset()
    resumes: frozenset[int] = frozenset()
    starts: frozenset[int] = frozenset()
    stops: frozenset[int] = frozenset()
    promises: frozenset[int] = frozenset()
    busy: frozenset[int] = frozenset()
    denied: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    say_code: Callable[[int, str], str] = say_code
    layer: str = ""
    decoder: str = ""
    code_field: str = ""
    function_field: str = ""
    read_name: Callable[[bytes], str] = read_text
    name_target: Callable[[int], str] = str
    read_points: ReadPoints = read_no_points
    read_back: Callable[[Messages, pd.DataFrame], dict[int, bytes]] | None = None
    others: tuple[str, ...] = ()
    wait_s: float = 2.0
    repeats: bool = False
    broadcasts: bool = False
    elsewhere: bool = False
    identify: Callable[[Messages], list[Identity]] | None = None
    opens: bool = False
    make_events: Callable[[pd.DataFrame], Events] = no_events
    evidence: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    @property
    def spoken(self) -> str:
        """As people write it: "OPC UA", "DNS"."""
        return self.title or self.name.upper()


def make_rows(messages: Messages, role: np.ndarray, **columns: np.ndarray | int) -> pd.DataFrame:
    """The messages as rows for pairing.

    Args:
        messages: shape (n,).
        role: shape (n,): ASK, ANSWER, TELL or SKIP.
        columns: shape (n,) or one value for all; left out is -1, or OTHER for ``kind``. ``key``:
            what a request and its answer share within a flow; ``kind``: of KINDS; ``function``;
            ``unit``: which device behind an address; ``target``: register, point, object; ``code``:
            of refusal or error, 0 for none, -1 where unknown; ``value``: a number that the protocol
            explains (a keep-alive, a sequence number); ``login``: of ``number_secrets``;
            ``name_at`` and ``name_bytes``: a name in the message; ``data_at``: where the protocol's
            ``read_points`` begins to read what a command writes; ``patient``: 1 where a request may
            wait for ever; ``other``: a place in the protocol's ``others``, of what the whole flow
            turns out to be.

    Returns:
        Shape (n, ...): these columns, ``row flow is_orig``, and ``wrong`` (no message of the
        protocol).
    """
    defaults = {
        "key": 0, "kind": OTHER, "function": -1, "unit": -1, "target": -1, "code": -1, "value": -1,
        "login": -1, "name_at": -1, "name_bytes": 0, "data_at": -1, "patient": 0, "other": -1,
    }  # fmt: skip
    unknown = set(columns) - set(defaults)
    if unknown:
        raise TypeError(f"no columns of a message: {sorted(unknown)}")
    table = {
        name: np.where(messages.wrong, value, columns.get(name, value))
        for name, value in defaults.items()
    }
    table |= {"row": messages.row, "flow": messages.flow, "is_orig": messages.is_orig}
    table |= {"role": np.where(messages.wrong, SKIP, role), "wrong": messages.wrong}
    return pd.DataFrame(table)


def select_distinct(
    messages: Messages, which: np.ndarray, at: int, width: int
) -> list[tuple[int, bytes]]:
    """The few messages that are read one by one: of those in which one sender says the same, the
    first.

    Args:
        messages: shape (n,).
        which: shape (n,), bool: those to look at.
        at, width: the bytes that count.

    Returns:
        The place of each among the messages, and its bytes from ``at`` on, as many as were
        captured.
    """
    place = np.flatnonzero(which & (messages.held > at))
    if not len(place):
        return []
    chosen = messages.take(place)
    size = np.minimum(chosen.held - at, width)
    texts = chosen.bytes(at, int(size.max()))
    ends = np.stack([chosen.of_packet("src"), size], axis=1).astype("<i4").view(np.uint8)
    keys = np.concatenate([texts, ends, np.ones((len(place), 1), np.uint8)], axis=1)
    codes, _ = pd.factorize(keys.view(f"S{keys.shape[1]}").ravel().astype(object))
    first = np.unique(codes, return_index=True)[1]
    return [(int(place[i]), texts[i, : size[i]].tobytes()) for i in np.sort(first)]


def first_alike(messages: Messages, which: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Of some messages the first of each sender, kind and length: a device that is asked the same
    again and again has said what it is. Shape (n,), bool."""
    rows = np.flatnonzero(which)
    first = np.zeros(len(messages), bool)
    keys = (messages.of_packet("src")[rows].astype(np.int64), kind[rows], messages.length[rows])
    first[rows[number_groups(*keys)[1]]] = True
    return first


def share_flow(messages: Messages, which: np.ndarray) -> np.ndarray:
    """The messages of flows in which ``which`` names one, shape (n,), bool."""
    return np.isin(messages.flow, np.unique(messages.flow[which]))


def number_ends(messages: Messages, answers: np.ndarray, number: np.ndarray) -> np.ndarray:
    """A key of what is asked and answered whatever flows these lie in, shape (n,), int64: the same
    where client, client's port, server and number are.

    Some servers answer from another port than was asked. Where a client asks all, and whoever is
    meant answers to all, its port alone tells whose answer it is.

    Args:
        messages: shape (n,).
        answers: shape (n,), bool: which come from a server.
        number: shape (n,): what else a request and its answer share.
    """
    ends = [messages.of_packet(name).astype(np.int64) for name in ("src", "sport", "dst", "dport")]
    by, to = ends[:2], ends[2:]
    client, port = (np.where(answers, there, here) for here, there in zip(by, to, strict=True))
    server = np.where(answers, by[0], to[0])
    distinct, place = number_values(to[0])
    addresses = messages.segments.packets.addresses
    groups = np.array([is_group(str(addresses[one])) for one in distinct], bool)
    loud = np.isin(port, port[groups[place]]) if len(place) else groups
    key = np.zeros(len(messages), np.uint64)
    for part in (np.where(loud, 0, client), np.where(loud, 0, server), port, number):
        key = (key + part.astype(np.uint64)) * _MIX
        key ^= key >> np.uint64(29)
    return (key >> np.uint64(1)).astype(np.int64)


def number_secrets(texts: np.ndarray, size: np.ndarray) -> np.ndarray:
    """A number for each secret, the same where two are: whether somebody tries others is evidence,
    what they are is nobody's business.

    Args:
        texts: shape (n, width), uint8, width a multiple of 8; 0 past the end.
        size: shape (n,), bytes of each, those that were not read too.

    Returns:
        Shape (n,), int64, below 2^31: a hash whose key is drawn anew by each process.
    """
    words = np.ascontiguousarray(texts).view(np.uint64)
    key = _draw_key(words.shape[1] + 1)
    mixed = (words * key[1:]).sum(axis=1, dtype=np.uint64) + size.astype(np.uint64) * key[0]
    return (mixed >> np.uint64(33)).astype(np.int64)


@cache
def _draw_key(words: int) -> np.ndarray:
    return np.frombuffer(secrets.token_bytes(8 * words), np.uint64) | np.uint64(1)


def select_kinds(function: np.ndarray, kinds: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    """What each function is for, of KINDS; OTHER for what no kind names, shape (n,)."""
    which = [np.isin(function, codes) for codes in kinds.values()]
    return np.select(which, list(kinds), OTHER)


def select_asked(exchanges: pd.DataFrame) -> pd.DataFrame:
    """What was asked or told: not answers alone, nor what is no message."""
    return exchanges[~exchanges["outcome"].isin(["unasked", "malformed"])]


def starts_with(*starts: bytes, at: int = 0, side: Literal["orig", "resp"] = "orig") -> Fits:
    """Whether the first payload of a side holds one of ``starts`` from byte ``at`` on."""

    def fits(heads: Heads) -> np.ndarray:
        payload = getattr(heads, side)
        found = np.zeros(len(payload), bool)
        for start in starts:
            here = payload[:, at : at + len(start)] == np.frombuffer(start, np.uint8)
            found |= here.all(axis=1)
        return found

    return fits


def make_events(rows: pd.DataFrame) -> pd.DataFrame:
    """Events as ``ts src dst code target distinct``.

    ``code`` and ``target`` (what was asked for) are -1 where there is none, ``distinct`` where it
    is to be counted.
    """
    events = {name: rows[name].to_numpy() for name in ("ts", "src", "dst")}
    for name in ("code", "target", "distinct"):
        events[name] = rows[name].to_numpy() if name in rows else np.full(len(rows), -1)
    return pd.DataFrame(events)
