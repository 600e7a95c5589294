"""TPKT and COTP, the envelope that S7comm and MMS share on port 102: its length, fragments, and who opens,
refuses and ends a connection (RFC 1006; ISO 8073 class 0).

    TPKT 3 0 length 2 | COTP indicator type ... | data
"""

import numpy as np

from traffic.arrays import starts_run
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import ANSWER, ASK, SESSION, TELL, Heads, share_flow

HEAD_BYTES = 7
CONNECT, DISCONNECT = 0xE0, 0x80  # functions
CR, CC, DR, DT = 0xE, 0xD, 0x8, 0xF  # types
_TYPES = (1, 2, 5, 6, 7, DR, 0xC, CC, CR, DT)
COTP_FUNCTIONS = {DISCONNECT: "disconnect (COTP)", CONNECT: "connect (COTP)"}
COTP_CODE = 0x10000  # added to a reason, which may be 0
COTP_REFUSALS = {
    COTP_CODE: "connection refused, no reason given",
    COTP_CODE + 1: "connection refused: congestion at the TSAP",
    COTP_CODE + 2: "connection refused: nothing attached to the TSAP (rack or slot)",
    COTP_CODE + 3: "connection refused: TSAP unknown (rack or slot)",
    COTP_CODE + 128: "normal disconnect",
    COTP_CODE + 129: "connection refused: congestion of the device",
    COTP_CODE + 130: "connection negotiation failed",
    COTP_CODE + 133: "protocol error",
    COTP_CODE + 136: "connection refused on this network connection",
}


def message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """TPKT's length, where a COTP header that fits it follows."""
    length, indicator, kind = head[:, 2] << 8 | head[:, 3], head[:, 4], head[:, 5] >> 4
    good = (head[:, 0] == 3) & ((head[:, 1] == 0) | (known < 2)) & ((length >= 7) | (known < 4))
    good &= (known < 6) | ((indicator >= 2) & (indicator + 5 <= length))
    good &= (known < 6) | np.isin(kind, _TYPES)
    return np.where(good, np.where(known < 4, np.maximum(known, 1), length), 0)


def fits(heads: Heads) -> np.ndarray:
    """A connection by transport selectors, or data of S7comm, S7comm-plus or an ISO session.

    RDP begins with TPKT and COTP too, but names no selectors.
    """
    good = np.ones(len(heads.orig), bool)
    for head, payload in ((heads.orig, heads.orig_payload), (heads.resp, heads.resp_payload)):
        head = head.astype(np.int64)
        length = message_bytes(head, np.minimum(payload, head.shape[1]))
        kind, first = head[:, 5] >> 4, head[:, 7]
        session = (first == 0x0D) | (first == 0x0E) | ((first == 1) & (head[:, 9] == 1))
        data = (head[:, 4] == 2) & (np.isin(first, (0x32, 0x72)) | session)
        opens = np.isin(kind, (CR, CC)) & np.isin(head[:, 11], (0xC0, 0xC1, 0xC2))
        speaks = ((kind == DT) & data & (length >= 8)) | (opens & (length >= 13)) | (kind == DR)
        good &= (speaks & (length > 0)) | (payload == 0)
    return good & (heads.payload >= 7)


def continues(messages: Messages, kind: np.ndarray) -> np.ndarray:
    """Whether the message before, in the same stream, is a data unit that is not its last."""
    last = (kind != DT) | (messages.u8(6) >= 0x80)
    follows = ~starts_run(messages.flow, messages.is_orig)
    return follows & ~np.append(True, last[:-1])[: len(last)]


def read_selector(messages: Messages) -> np.ndarray:
    """The called TSAP of a connection request where it has two bytes; -1 for none."""
    found_in = np.full(len(messages), -1)
    asks = np.flatnonzero(messages.u8(5) >> 4 == CR)
    messages = messages.take(asks)
    selector, at = np.full(len(asks), -1), np.full(len(asks), 11)
    head = messages.bytes(0, 64).astype(np.int64)
    end = np.minimum(messages.u8(4) + 5, 60)
    rows = np.arange(len(asks))
    for _ in range(6):
        at = np.minimum(at, 60)
        code, size = head[rows, at], head[rows, at + 1]
        value = head[rows, at + 2] << 8 | head[rows, at + 3]
        found = (code == 0xC2) & (size == 2) & (at + 4 <= end)
        selector = np.where(found, value, selector)
        at = at + 2 + size
    found_in[asks] = selector
    return found_in


def add_connections(messages: Messages, kind: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    """Fill in the rows of what opens, refuses and ends connections.

    Args:
        messages: shape (n,).
        kind: shape (n,), types of COTP.
        columns: of ``make_rows``, with ``role key kind function target code``; changed in place.
    """
    opens, agrees, ends = kind == CR, kind == CC, kind == DR
    refuses = ends & ~share_flow(messages, agrees)
    connection = opens | agrees | ends
    columns["role"] = np.select(
        [opens, agrees | refuses, ends], [ASK, ANSWER, TELL], columns["role"]
    )
    columns["key"][connection] = COTP_CODE
    columns["function"][connection] = np.where(ends[connection], DISCONNECT, CONNECT)
    columns["kind"][connection] = SESSION
    columns["target"][opens] = read_selector(messages)[opens]
    columns["code"][agrees] = 0
    columns["code"][ends] = messages.u8(10)[ends] + COTP_CODE
