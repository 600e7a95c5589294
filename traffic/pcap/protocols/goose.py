"""GOOSE: events that protection devices publish over Ethernet, whether all of them arrive, and
whether a publisher falls silent.

IEC 61850-8-1, 18 and annex C. A publisher repeats its state: ``stNum`` counts changes, ``sqNum`` the
repetitions of one state, and each message says how long it holds (timeAllowedtoLive, ms):

    stNum  4  4  4  5  5  5  5         sqNum  7  8  9  0  1  2  3
"""

import numpy as np
import pandas as pd

from traffic.arrays import number_groups, starts_run
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.ber import read_length, read_numbers
from traffic.pcap.protocols.protocol import (
    ETHERNET,
    PUBLISH,
    SKIP,
    TELL,
    Heads,
    Protocol,
    make_rows,
)

MISSED, LATE, SILENT, BACK = 1, 2, 3, 4
PROBLEMS = {
    MISSED: "messages before it are missing",
    LATE: "it came after a silence longer than the one before it allows",
    SILENT: "nothing came after it for longer than it allows",
    BACK: "its numbers went back: the publisher started again, or another one speaks for it",
}
TEST = 1  # ``function`` of a message that is marked as a simulation or test; 0 for a real one
_PDU = 0x61
_NAME, _LIVES_MS, _STATE, _REPEAT, _TEST = 0x80, 0x81, 0x85, 0x86, 0x87
_FIELDS = 9  # from gocbRef to confRev
_NAME_BYTES = 65  # of a reference (IEC 61850-7-2: 129 at most; its end tells the control block)


def _fits(heads: Heads) -> np.ndarray:
    """After APPID, length and eight bytes in all, one PDU with a reference first."""
    head = heads.first
    return (head[:, 8] == _PDU) & (
        (head[:, 10] == _NAME) | (head[:, 11] == _NAME) | (head[:, 12] == _NAME)
    )


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message: ``unit`` is the APPID, ``target`` stNum, ``value`` sqNum, the name the
    reference of the control block, ``code`` what is wrong by those before it (PROBLEMS)."""
    _, at = read_length(messages, np.full(len(messages), 9))
    found = {tag: np.full(len(messages), -1) for tag in (_NAME, _LIVES_MS, _STATE, _REPEAT, _TEST)}
    name_bytes = np.zeros(len(messages), np.int64)
    for _ in range(_FIELDS):
        tag = messages.u8(at)
        size, body = read_length(messages, at + 1)
        for number in (_LIVES_MS, _STATE, _REPEAT, _TEST):
            mine = tag == number
            found[number] = np.where(mine, read_numbers(messages, body, size), found[number])
        found[_NAME] = np.where(tag == _NAME, body, found[_NAME])
        name_bytes = np.where(tag == _NAME, np.minimum(size, _NAME_BYTES), name_bytes)
        at = body + size
    whole = (messages.u8(8) == _PDU) & (found[_STATE] >= 0) & (found[_REPEAT] >= 0)
    unit = messages.u16(0)
    texts = messages.bytes(np.maximum(found[_NAME], 0), _NAME_BYTES)
    texts *= np.arange(_NAME_BYTES) < name_bytes[:, None]
    names = pd.factorize(texts.view(f"S{_NAME_BYTES}").ravel().astype(object))[0]
    publisher = number_groups(messages.of_packet("src"), unit, names)[0]
    code = np.zeros(len(messages), np.int64)
    rows = np.flatnonzero(whole)
    code[rows] = _find_problems(
        publisher[rows],
        messages.of_packet("ts")[rows],
        found[_STATE][rows],
        found[_REPEAT][rows],
        found[_LIVES_MS][rows] / 1000,
        messages.segments.packets.end_s,
    )
    return make_rows(
        messages,
        np.where(whole, TELL, SKIP),
        kind=PUBLISH,
        function=np.where(found[_TEST] > 0, TEST, 0),
        unit=unit,
        target=found[_STATE],
        code=code,
        value=found[_REPEAT],
        name_at=found[_NAME],
        name_bytes=name_bytes,
    )


def _find_problems(
    publisher: np.ndarray,
    ts: np.ndarray,
    state: np.ndarray,
    repeat: np.ndarray,
    lives_s: np.ndarray,
    end_s: float,
) -> np.ndarray:
    """What is wrong with each message by the one before it of its publisher, shape (n,); 0 for
    nothing."""
    order = np.lexsort((ts, publisher))
    publisher, ts, state, repeat, lives_s = (
        column[order] for column in (publisher, ts, state, repeat, lives_s)
    )
    after = ~starts_run(publisher)
    last = np.append(~after[1:], True) if len(after) else after
    changes = np.diff(state, prepend=0)
    repeats = np.diff(repeat, prepend=0)
    # sqNum goes from 2^32 - 1 to 1; some publishers begin a state with 1.
    wrapped = (changes == 0) & (repeats <= -(2**32) + 3)
    missed = np.where(changes == 0, repeats > 1, (changes > 1) | ((changes == 1) & (repeat > 1)))
    back = (changes < 0) | ((changes == 0) & (repeats < 0))
    silence_s = np.diff(ts, prepend=0)
    allowed_s = np.append(0.0, lives_s[:-1])[: len(ts)]
    problem = np.select(
        [
            after & back & ~wrapped,
            last & (lives_s >= 0) & (end_s - ts > lives_s),
            after & (allowed_s > 0) & (silence_s > allowed_s),
            after & missed,
        ],
        [BACK, SILENT, LATE, MISSED],
        0,
    )
    out = np.empty(len(order), np.int64)
    out[order] = problem
    return out


GOOSE = Protocol(
    name="goose",
    transports=(ETHERNET,),
    ports=(0x88B8,),
    fits=_fits,
    read=_read,
    functions={0: "publish", TEST: "publish for a test"},
    refusals=PROBLEMS,
)
