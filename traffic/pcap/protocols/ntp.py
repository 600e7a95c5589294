"""NTP: who asks whom for the time, kiss codes that refuse it, and servers without time themselves
(RFC 5905)."""

import numpy as np
import pandas as pd

from traffic.pcap.headers import UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    READ,
    SKIP,
    TELL,
    Heads,
    Protocol,
    make_rows,
)

FUNCTIONS = {1: "symmetric", 2: "symmetric answer", 3: "ask the time", 4: "answer", 5: "broadcast"}
# RFC 5905, 7.4; a server that is not synchronised has the last one.
_KISSES = {b"DENY": 1, b"RSTR": 2, b"RATE": 3, b"INIT": 4, b"STEP": 5}
_OTHER_KISS, UNSYNCHRONISED = 9, 16
REFUSALS = {
    1: "access denied", 2: "access restricted", 3: "asked too often", 4: "server has just started",
    5: "server's clock was stepped", _OTHER_KISS: "refused with a code of its own",
    UNSYNCHRONISED: "server is not synchronised",
}  # fmt: skip
_BYTES = 48  # of a message without extensions (7.3)


def _fits(heads: Heads) -> np.ndarray:
    """48 bytes and a mode from symmetric to broadcast (7.3)."""
    mode = heads.first[:, 0] & 7
    return (heads.payload >= _BYTES) & (mode >= 1) & (mode <= 5)


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is when the client sent its request by its own clock; ``value`` is
    the server's stratum."""
    first, stratum = messages.u8(0), messages.u8(1)
    mode, answers = first & 7, first & 7 == 4
    kiss = np.full(len(messages), _OTHER_KISS)
    texts = messages.bytes(12, 4)
    for text, number in _KISSES.items():
        kiss[(texts == np.frombuffer(text, np.uint8)).all(axis=1)] = number
    lost = (stratum >= 16) | (first >> 6 == 3)
    role = np.select([mode == 3, answers, np.isin(mode, (1, 2, 5))], [ASK, ANSWER, TELL], SKIP)
    # Bytes of the fractions: seconds are alike in all.
    sent, origin = messages.number(41, 7), messages.number(25, 7)
    return make_rows(
        messages,
        np.where(messages.held >= _BYTES, role, SKIP),
        key=np.where(answers, origin, sent),
        kind=READ,
        function=mode,
        code=np.select([~answers, stratum == 0, lost], [-1, kiss, UNSYNCHRONISED], 0),
        value=np.where(answers, stratum, -1),
    )


NTP = Protocol(
    name="ntp",
    transports=(UDP,),
    ports=(123,),
    fits=_fits,
    read=_read,
    functions=FUNCTIONS,
    refusals=REFUSALS,
    busy=frozenset({3, 4, 5}),
    wait_s=5.0,
)
