"""What OPC UA answers: the status of a service, or of the first of its items that is bad, and what
servers say they are.

OPC 10000-4 (services) and OPC 10000-6, 5.2 (encodings). A response begins alike everywhere:

    type 4 | time 8 | number 4 | result 4 | diagnostics 1 | texts 4 | additions 3 | items 4 | ...
"""

from collections.abc import Callable

import numpy as np

from traffic.pcap.messages import Messages
from traffic.pcap.protocols.certificates import read_subject
from traffic.pcap.protocols.protocol import Identity, first_alike, select_distinct

FAULT = 397
_BAD = 1 << 31
_RESULT, _TEXTS, _ITEMS, _FIRST = 16, 21, 28, 32  # places in a response
_MOST_ITEMS = 64
# Answers whose items are statuses, begin with one, or are values with one.
_STATUSES = (676, 703, 772, 784, 802, 850)
_FIRST_STATUS = (491, 497, 503, 509, 530, 536, 560, 667, 715, 844)
_VALUES, _MONITORED = 634, 754
# Bytes of built-in types (5.1.2); 0 where it depends on what they hold.
_TYPE_BYTES = np.zeros(64, np.int64)
_TYPE_BYTES[[1, 2, 3]] = 1
_TYPE_BYTES[[4, 5]] = 2
_TYPE_BYTES[[6, 7, 10, 19]] = 4
_TYPE_BYTES[[8, 9, 11, 13]] = 8
_TYPE_BYTES[14] = 16
# Of a node's number, by its encoding (5.2.2.9); -1: a text.
_NODE_BYTES = np.array([2, 4, 7, -1, 19, -1, 0])


def read_results(messages: Messages, body: np.ndarray, number: np.ndarray) -> np.ndarray:
    """The first bad status of each response; 0 for none, -1 where the capture cuts it off.

    Args:
        messages: shape (n,), responses.
        body: where each one's type stands.
        number: of its type.
    """
    code = messages.u32(body + _RESULT, "<")
    code = np.where((code >= 0) & (code < _BAD), 0, code)
    # Items stand at a known place where the header says nothing more.
    plain = (messages.u8(body + _RESULT + 4) == 0) & (messages.number(body + _TEXTS + 4, 3) == 0)
    plain &= np.isin(messages.u32(body + _TEXTS, "<"), (0, 0xFFFFFFFF))
    readers: list[tuple[tuple[int, ...], Callable[[Messages, np.ndarray, np.ndarray], np.ndarray]]]
    readers = [
        (_STATUSES, _read_statuses),
        (_FIRST_STATUS, _read_first),
        ((_VALUES,), _read_values),
        ((_MONITORED,), _read_monitored),
    ]
    for numbers, read in readers:
        rows = np.flatnonzero(plain & (code == 0) & np.isin(number, numbers))
        if len(rows):
            some, at = messages.take(rows), body[rows]
            count = some.u32(at + _ITEMS, "<")
            count = np.where(count > some.length, 0, np.minimum(count, _MOST_ITEMS))
            code[rows] = read(some, at + _FIRST, count)
    return code


def _read_statuses(messages: Messages, at: np.ndarray, count: np.ndarray) -> np.ndarray:
    statuses = messages.bytes(at, 4 * _MOST_ITEMS).copy().view("<u4").astype(np.int64)
    bad = (statuses >= _BAD) & (np.arange(_MOST_ITEMS) < count[:, None])
    return np.where(bad.any(axis=1), statuses[np.arange(len(bad)), bad.argmax(axis=1)], 0)


def _read_first(messages: Messages, at: np.ndarray, count: np.ndarray) -> np.ndarray:
    status = messages.u32(at, "<")
    return np.where((count > 0) & (status >= _BAD), status, 0)


def _read_monitored(messages: Messages, at: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Status, number, interval, queue and a filter's result, which is nearly always none."""
    status = np.zeros(len(messages), np.int64)
    rows = np.arange(len(messages))
    for item in range(_MOST_ITEMS):
        rows = rows[(status[rows] == 0) & (item < count[rows])]
        if not len(rows):
            break
        some, here = messages.take(rows), at[rows] + 23 * item
        found = some.u32(here, "<")
        status[rows] = np.where(found >= _BAD, found, 0)
        rows = rows[some.number(here + 20, 3) == 0]
    return status


def _read_values(messages: Messages, at: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Values each with a mask of what it holds: value, status, times and their fractions (5.2.2.17).

    The walk ends at a value whose length is not plain to see.
    """
    status = np.zeros(len(messages), np.int64)
    rows, at = np.arange(len(messages)), at.copy()
    for item in range(_MOST_ITEMS):
        rows = rows[(status[rows] == 0) & (item < count[rows])]
        if not len(rows):
            break
        some, here = messages.take(rows), at[rows]
        mask = np.maximum(some.u8(here), 0)
        size = np.where(mask & 1 > 0, _value_bytes(some, here + 1), 0)
        known = size >= 0
        after = here + 1 + size
        found = np.where(known & (mask & 2 > 0), some.u32(after, "<"), 0)
        status[rows] = np.where(found >= _BAD, found, 0)
        width = sum(np.where(mask & bit > 0, size, 0) for bit, size in _PARTS)
        at[rows] = after + width
        rows = rows[known]
    return status


_PARTS = ((2, 4), (4, 8), (16, 2), (8, 8), (32, 2))


def _value_bytes(messages: Messages, at: np.ndarray) -> np.ndarray:
    """The length of a variant (5.2.2.16): one value, or an array of them after its number; -1 where
    it is not plain to see."""
    kind = messages.u8(at)
    array = (kind >= 0x80) & (kind < 0xC0)
    count = np.where(array, np.minimum(messages.u32(at + 1, "<") + 1 & 0xFFFFFFFF, 1 << 20) - 1, 1)
    count = np.maximum(count, 0)
    end = np.where(kind < 0, -1, at + np.where(array, 5, 1))
    fixed = _TYPE_BYTES[np.maximum(kind, 0) & 63]
    end = np.where((fixed > 0) & (end > 0), end + fixed * count, end)
    end[(kind >= 0xC0) | ((kind > 0) & ~array & (kind > 63))] = -1
    rows = np.flatnonzero((fixed == 0) & (kind > 0) & (end > 0) & (count > 0))
    for element in range(_MOST_ITEMS + 1):
        rows = rows[(element < count[rows]) & (end[rows] > 0)]
        if not len(rows):
            break
        some = messages.take(rows)
        size = _element_bytes(some, end[rows], kind[rows] & 63)
        end[rows] = np.where((size > 0) & (element < _MOST_ITEMS), end[rows] + size, -1)
    return np.where(end > 0, end - at, -1)


def text_bytes(messages: Messages, at: np.ndarray) -> np.ndarray:
    """What a text or bytes take with their length; 0 where that leads out of the message."""
    size = messages.u32(at, "<")
    size = np.where(size == 0xFFFFFFFF, 0, size)
    return np.where((size < 0) | (size > messages.length), 0, 4 + size)


def node_bytes(messages: Messages, at: np.ndarray) -> np.ndarray:
    """The length of a NodeId (5.2.2.9); 0 for none."""
    form = messages.u8(at)
    size = np.where(form >= 0, _NODE_BYTES[np.clip(form & 0x3F, 0, len(_NODE_BYTES) - 1)], 0)
    texts = np.flatnonzero(size < 0)
    if len(texts):
        size[texts] = 3 + text_bytes(messages.take(texts), at[texts] + 3)
    return size


def _element_bytes(messages: Messages, at: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """The length of values whose length depends on what they hold; 0 where it is not read."""
    size = np.zeros(len(messages), np.int64)
    for numbers, read in _ELEMENTS:
        rows = np.flatnonzero(np.isin(kind, numbers))
        if len(rows):
            size[rows] = read(messages.take(rows), at[rows])
    return size


def _qualified_bytes(messages: Messages, at: np.ndarray) -> np.ndarray:
    text = text_bytes(messages, at + 2)
    return np.where(text > 0, 2 + text, 0)


def _localized_bytes(messages: Messages, at: np.ndarray) -> np.ndarray:
    mask, end = messages.u8(at), at + 1
    for bit in (1, 2):
        end = end + np.where(mask & bit > 0, text_bytes(messages, end), 0)
    return np.where(mask >= 0, end - at, 0)


def _extension_bytes(messages: Messages, at: np.ndarray) -> np.ndarray:
    node = node_bytes(messages, at)
    body = messages.u8(at + node)
    held = np.where(body > 0, text_bytes(messages, at + node + 1), 0)
    return np.where((node > 0) & (body >= 0), node + 1 + held, 0)


_ELEMENTS: tuple[tuple[tuple[int, ...], Callable[[Messages, np.ndarray], np.ndarray]], ...] = (
    ((12, 15, 16), text_bytes),
    ((17,), node_bytes),
    ((20,), _qualified_bytes),
    ((21,), _localized_bytes),
    ((22,), _extension_bytes),
)


# ---- Identity ----

_SERVERS, _ENDPOINTS = 425, 431
_BUILD, _STATUS = 340, 864  # BuildInfo, and ServerStatus that holds one
_BUILD_FIELDS = ("", "make", "model", "software")  # of its texts, the first an address


def read_identities(messages: Messages, body: int, number: np.ndarray) -> list[Identity]:
    """Names and makes in descriptions of servers, in what was read of their build, and in their
    certificates.

    Args:
        messages: shape (n,).
        body: where the type of each stands.
        number: of its type, -1 for none.
    """
    found: list[Identity] = []
    servers, endpoints = (
        first_alike(messages, number == kind, number) for kind in (_SERVERS, _ENDPOINTS)
    )
    for message, text in select_distinct(messages, servers, body + _FIRST, 512):
        found += _read_application(message, text)
    for message, text in select_distinct(messages, endpoints, body + _FIRST, 4096):
        url, at = _take_text(text, 0)
        found += _read_application(message, text[at:]) if url else []
    # The first value is an object of one of two kinds.
    held = messages.number(body + _FIRST + 1, 5) == 0x16_01_00_54_01
    held |= messages.number(body + _FIRST + 1, 5) == 0x16_01_00_60_03
    builds = first_alike(messages, (number == _VALUES) & held, number)
    for message, text in select_distinct(messages, builds, body + _FIRST, 512):
        found += _read_build(message, text)
    return found


def read_certificate(message: int, certificate: bytes) -> list[Identity]:
    """Whom the certificate of who opens or answers a channel was made for."""
    subject = read_subject(certificate)
    return [Identity(message, field, value, "OPC UA certificate") for field, value in subject]


def _take_text(body: bytes, at: int) -> tuple[bytes, int]:
    """A text after its length, and where it ends; what leads out of the body ends there."""
    size = int.from_bytes(body[at : at + 4], "little", signed=True)
    end = at + 4 + max(size, 0)
    return body[at + 4 : end], min(end, len(body))


def _read_application(message: int, body: bytes) -> list[Identity]:
    """Its address, its product, its name in some language (OPC 10000-4, 7.2)."""
    _, at = _take_text(body, 0)
    product, at = _take_text(body, at)
    mask, at = body[at] if at < len(body) else 0, at + 1
    if mask & 1:
        _, at = _take_text(body, at)
    name, _ = _take_text(body, at) if mask & 2 else (b"", at)
    values = {"model": product, "name": name}
    return [Identity(message, field, text, "OPC UA") for field, text in values.items() if text]


def _read_build(message: int, body: bytes) -> list[Identity]:
    """Maker, product and version, where the first value is a build or a status that holds one
    (OPC 10000-5, 12.4 and 12.10)."""
    if len(body) < 12 or not body[0] & 1 or body[1] != 22 or body[2:4] != b"\1\0" or body[6] != 1:
        return []
    kind = int.from_bytes(body[4:6], "little")
    at = {_BUILD: 11, _STATUS: 31}.get(kind)
    found = []
    for field in _BUILD_FIELDS if at else ():
        text, at = _take_text(body, at or 0)
        if field and text:
            found.append(Identity(message, field, text, "OPC UA"))
    return found
