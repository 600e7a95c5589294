"""DHCP: addresses that are asked for, granted and for how long, refused, renewed, or asked for in
vain (RFC 2131, 2132)."""

import ipaddress
from collections.abc import Iterator

import numpy as np
import pandas as pd

from traffic.pcap.headers import UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    OTHER,
    SESSION,
    SKIP,
    TELL,
    Heads,
    Identity,
    Protocol,
    make_rows,
    select_distinct,
)

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
RENEW = 13  # a REQUEST by a client that has its address
FUNCTIONS = {
    DISCOVER: "discover", OFFER: "offer", REQUEST: "request", DECLINE: "decline", ACK: "acknowledge", NAK: "refuse",
    RELEASE: "release", INFORM: "inform", RENEW: "renew",
}  # fmt: skip
REFUSALS = {NAK: "address refused (NAK)", DECLINE: "address is used by another (decline)"}
_OPTIONS_AT, _OPTIONS_BYTES, _MOST_OPTIONS = 240, 320, 32
_MAGIC = b"\x63\x82\x53\x63"
_KIND, _WANTED, _LEASE = 53, 50, 51
_HOST_NAME, _VENDOR_CLASS = 12, 60
_LONGEST = 600
_ASKS_AGAIN_S = 70.0  # after 4, 8, 16, 32 and 64 s (RFC 2131, 4.1)


def _fits(heads: Heads) -> np.ndarray:
    """A request or a reply, with a MAC of Ethernet (RFC 2131, 2)."""
    head = heads.first
    return (
        np.isin(head[:, 0], (1, 2)) & (head[:, 1] == 1) & (head[:, 2] == 6) & (heads.payload >= 240)
    )


def _read_options(messages: Messages) -> dict[int, np.ndarray]:
    """The numbers in three options, shape (n,) each; -1 where there is none."""
    options = messages.bytes(_OPTIONS_AT, _OPTIONS_BYTES).astype(np.int64)
    found = {code: np.full(len(messages), -1) for code in (_KIND, _WANTED, _LEASE)}
    at, rows = np.zeros(len(messages), np.int64), np.arange(len(messages))

    def byte(place: np.ndarray) -> np.ndarray:
        return np.where(
            place < _OPTIONS_BYTES, options[rows, np.minimum(place, _OPTIONS_BYTES - 1)], 0
        )

    for _ in range(_MOST_OPTIONS):
        code, size = byte(at), byte(at + 1)
        one, four = byte(at + 2), np.zeros(len(messages), np.int64)
        for i in range(4):
            four = four << 8 | byte(at + 2 + i)
        found[_KIND] = np.where((code == _KIND) & (size == 1), one, found[_KIND])
        for number in (_WANTED, _LEASE):
            found[number] = np.where((code == number) & (size == 4), four, found[number])
        at = np.where(code == 0, at + 1, np.where(code == 255, at, at + 2 + size))
    return found


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is the transaction and the client's MAC, which also is the name.
    ``target`` is the address that a client wants, ``value`` the lease that it is given in
    seconds."""
    good = (messages.bytes(236, 4) == np.frombuffer(_MAGIC, np.uint8)).all(axis=1)
    options = _read_options(messages)
    kind, own = options[_KIND], messages.u32(12)
    asks = np.isin(kind, (DISCOVER, REQUEST, INFORM))
    answers = np.isin(kind, (OFFER, ACK, NAK))
    tells = np.isin(kind, (DECLINE, RELEASE))
    renews = (kind == REQUEST) & (own > 0)
    offers = np.isin(kind, (DISCOVER, OFFER))
    wanted = np.where(options[_WANTED] >= 0, options[_WANTED], np.where(own > 0, own, -1))
    mac = messages.number(30, 4) & 0x0FFFFFFF
    return make_rows(
        messages,
        np.select([~good, asks, answers, tells], [SKIP, ASK, ANSWER, TELL], SKIP),
        key=messages.u32(4) << 29 | np.maximum(mac, 0) << 1 | offers,
        kind=np.where(np.isin(kind, (DISCOVER, REQUEST, RELEASE)), SESSION, OTHER),
        function=np.where(renews, RENEW, kind),
        target=wanted,
        code=np.select([asks, kind == NAK, kind == DECLINE], [-1, NAK, DECLINE], 0),
        value=np.where(answers, options[_LEASE], -1),
        patient=asks & _goes_on(messages, np.where(good, kind, 0)),
        name_at=28,
        name_bytes=6,
    )


def _goes_on(messages: Messages, kind: np.ndarray) -> np.ndarray:
    """Whether a client goes on after a message as if it had been answered, shape (n,).

    What a server broadcasts, or a relay passes on, may take a way that the sensor does not see. A
    client without an answer asks again (RFC 2131, 4.1); one with an offer requests it.
    """
    ts, mac = messages.of_packet("ts"), messages.number(28, 6)
    sent = np.flatnonzero(messages.u8(0) == 1)
    sent = sent[np.lexsort((ts[sent], mac[sent]))]
    goes_on = np.zeros(len(messages), bool)
    here, after = sent[:-1], sent[1:]
    same = (mac[here] == mac[after]) & (ts[after] - ts[here] <= _ASKS_AGAIN_S)
    offered = (kind[here] == DISCOVER) & (kind[after] == REQUEST)
    goes_on[here] = ~same | offered
    goes_on[sent[-1:]] = True
    return goes_on


def _identify(messages: Messages) -> list[Identity]:
    """Host name and vendor class of clients (RFC 2132, 3.14 and 9.13)."""
    asks = (messages.u8(0) == 1) & (messages.u8(2) == 6)
    found = []
    for message, body in select_distinct(messages, asks, 10, _LONGEST):
        mac = body[18:24].hex(":")  # chaddr, known by its address where the capture tells one
        for code, value in _walk(body[_OPTIONS_AT - 10 :]):
            if code in (_HOST_NAME, _VENDOR_CLASS):
                field = "name" if code == _HOST_NAME else "software"
                found.append(Identity(message, field, value, "DHCP", mac))
    return found


def _walk(options: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(options) and options[at] != 255:
        if not options[at]:
            at += 1
            continue
        size = options[at + 1]
        if at + 2 + size > len(options):
            return
        yield options[at], options[at + 2 : at + 2 + size]
        at += 2 + size


def _name_target(target: int) -> str:
    """An address.

    >>> _name_target(0x0A000007)
    '10.0.0.7'
    """
    return str(ipaddress.IPv4Address(target & 0xFFFFFFFF))


DHCP = Protocol(
    name="dhcp",
    transports=(UDP,),
    ports=(67, 68),
    fits=_fits,
    read=_read,
    functions=FUNCTIONS,
    refusals=REFUSALS,
    read_name=lambda name: name.hex(":"),
    name_target=_name_target,
    wait_s=10.0,
    repeats=True,
    broadcasts=True,
    identify=_identify,
)
