"""What servers of IT protocols call themselves when a client comes: banners and certificates.

Their content is not read otherwise, but for logins in clear text.
"""

import re
from collections.abc import Callable

import numpy as np

from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.certificates import read_subject
from traffic.pcap.protocols.logins import (
    FTP_REFUSALS,
    HTTP_REFUSALS,
    METHODS,
    TELNET_REFUSALS,
    fits_dialogue,
    login_protocol,
    read_ftp,
    read_http,
    read_telnet,
    say_status,
    say_words,
)
from traffic.pcap.protocols.protocol import (
    Fits,
    Heads,
    Identity,
    Protocol,
    select_distinct,
    starts_with,
)

_HEADER = 2048  # bytes of an HTTP header that are looked at
_GREETING = 256
_CERTIFICATE = 8192
_SERVER = re.compile(rb"\r?\nserver:[ \t]*([^\r\n]+)", re.IGNORECASE)
_REALM = re.compile(rb"\r?\nwww-authenticate:[^\r\n]*realm=\"([^\"\r\n]+)\"", re.IGNORECASE)
_TELNET_OPTION = re.compile(rb"\xff(?:[\xfb-\xfe].|\xfa.*?\xff\xf0|.)", re.DOTALL)


def _identify_http(messages: Messages) -> list[Identity]:
    """The Server header, and the realm of a login, which often is a device's model."""
    answers = (messages.bytes(0, 5) == np.frombuffer(b"HTTP/", np.uint8)).all(axis=1)
    return [
        Identity(message, field, match[1], "HTTP banner")
        for message, head in select_distinct(messages, answers, 0, _HEADER)
        for field, pattern in (("software", _SERVER), ("name", _REALM))
        if (match := pattern.search(head.split(b"\r\n\r\n")[0]))
    ]


def _identify_greeting(source: str, start: bytes) -> Callable[[Messages], list[Identity]]:
    """The first line after ``start`` that either side sends."""

    def identify(messages: Messages) -> list[Identity]:
        first = np.frombuffer(start, np.uint8)
        mine = (messages.bytes(0, len(start)) == first).all(axis=1) & ~messages.is_orig
        return [
            Identity(message, "software", line, source)
            for message, text in select_distinct(messages, mine, len(start), _GREETING)
            if (line := text.splitlines()[0].strip() if text else b"")
        ]

    return identify


def _identify_telnet(messages: Messages) -> list[Identity]:
    """The first line of text after the options of a telnet server (RFC 854)."""
    found = []
    for message, text in select_distinct(messages, ~messages.is_orig, 0, _GREETING):
        lines = [line.strip() for line in _TELNET_OPTION.sub(b"", text).splitlines()]
        lines = [line for line in lines if re.search(rb"\w{3}", line)]
        found += [Identity(message, "software", line, "Telnet banner") for line in lines[:1]]
    return found


# ---- The certificate of a TLS server (RFC 5246, 7.4.2) ----

_CERTIFICATE_MESSAGE = 11


def _identify_tls(messages: Messages) -> list[Identity]:
    """Name and organisation in the subject of a server's certificate; TLS 1.3 encrypts it."""
    hello = (messages.u8(0) == 22) & (messages.u8(5) == 2)
    found = []
    for message, text in select_distinct(messages, hello, 0, _CERTIFICATE):
        subject = read_subject(_read_certificate(_join_records(text)))
        found += [Identity(message, field, value, "TLS certificate") for field, value in subject]
    return found


def _join_records(text: bytes) -> bytes:
    """What handshake records hold."""
    out, at = b"", 0
    while at + 5 <= len(text) and text[at] == 22:
        size = int.from_bytes(text[at + 3 : at + 5])
        out += text[at + 5 : at + 5 + size]
        at += 5 + size
    return out


def _read_certificate(handshake: bytes) -> bytes:
    """The first certificate, as far as it is there."""
    at = 0
    while at + 4 <= len(handshake):
        size = int.from_bytes(handshake[at + 1 : at + 4])
        if handshake[at] == _CERTIFICATE_MESSAGE:
            first = at + 7
            return handshake[first + 3 : first + 3 + int.from_bytes(handshake[first : first + 3])]
        at += 4 + size
    return b""


# ---- The protocols ----


def _fits_either(*starts: bytes) -> Fits:
    orig, resp = (starts_with(*starts, side=side) for side in ("orig", "resp"))
    return lambda heads: orig(heads) | resp(heads)


_TEXT_STARTS = np.array([7, 8, 9, 10, 13, 27, *range(32, 127)], np.uint8)
_LAST_OPTION = 49  # of those that IANA numbers in a row


def _fits_telnet(heads: Heads) -> np.ndarray:
    """Options are negotiated: IAC, then WILL, WONT, DO or DONT, and an option (RFC 854)."""
    resp = heads.resp_payload > 0
    head = np.where(resp[:, None], heads.resp, heads.orig)
    size = np.where(resp, heads.resp_payload, heads.orig_payload)
    starts = (head[:, 0] == 0xFF) & (head[:, 1] >= 0xFB) & (head[:, 1] <= 0xFE)
    # What follows is the next of them or text.
    goes_on = (size == 3) | (head[:, 3] == 0xFF) | np.isin(head[:, 3], _TEXT_STARTS)
    return starts & (head[:, 2] <= _LAST_OPTION) & goes_on


HTTP = login_protocol(
    HTTP_REFUSALS,
    name="http",
    ports=(80, 81, 8000, 8080, 8888),
    fits=starts_with(*METHODS),
    anywhere=True,
    identify=_identify_http,
    opens=True,
    read=read_http,
    say_code=say_status,
)
TLS = Protocol(
    name="ssl",
    title="TLS",
    transports=(TCP,),
    ports=(443, 8443, 8883),
    fits=starts_with(b"\x16\x03"),
    anywhere=True,
    identify=_identify_tls,
)
SSH = Protocol(
    name="ssh",
    transports=(TCP,),
    ports=(22,),
    fits=_fits_either(b"SSH-"),
    anywhere=True,
    identify=_identify_greeting("SSH banner", b"SSH-2.0-"),
)
FTP = login_protocol(
    FTP_REFUSALS,
    name="ftp",
    ports=(21,),
    # What a client begins with tells it from mail, whose servers greet alike.
    fits=fits_dialogue(b"220", b"USER", b"AUTH", b"FEAT", b"SYST", b"OPTS", b"HOST"),
    anywhere=True,
    identify=_identify_greeting("FTP banner", b"220 "),
    opens=True,
    read=read_ftp,
    say_code=say_status,
)
TELNET = login_protocol(
    TELNET_REFUSALS,
    name="telnet",
    title="Telnet",
    ports=(23,),
    fits=_fits_telnet,
    anywhere=True,
    identify=_identify_telnet,
    opens=True,
    read=read_telnet,
    say_code=say_words,
)
