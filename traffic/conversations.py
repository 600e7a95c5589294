"""Sessions and exchanges: who talked to whom in which connection, and what was asked and answered.

Facts about them need no model: a session that a server resets right after the handshake, a request
that is refused with a code, an answer that comes too late. The forms are the same whatever the
source and the protocol.
"""

import pandas as pd

# How a session ended. "idle": nothing for minutes and no end seen; "open": it goes on where the
# capture ends.
ENDINGS = ("fin", "reset", "refused", "unanswered", "idle", "open", "unknown")
SESSION_COLUMNS = [
    "flow", "client", "server", "port", "start_s", "end_s", "begun", "opened", "ended", "ended_by",
    "idle_s", "data_bytes", "server_bytes", "keep_alives", "retry_s", "first_frame", "last_frame",
]  # fmt: skip

# "unseen": whether it was answered the capture cannot tell; "unasked": an answer whose question was
# not seen; "told": needs no answer; "malformed": nothing that a stack of the protocol would send.
OUTCOMES = ("answered", "refused", "unanswered", "unseen", "unasked", "told", "malformed")
EXCHANGE_COLUMNS = [
    "ts", "client", "server", "port", "protocol", "flow", "kind", "function", "unit", "target",
    "value", "name", "points", "login", "outcome", "code", "delay_s", "behind", "frame", "answer_frame",
]  # fmt: skip

_TYPES = {
    "client": "category", "server": "category", "ended": "category", "ended_by": "category", "protocol": "category",
    "kind": "category", "name": "category", "points": "category", "outcome": "category", "begun": "bool",
    "opened": "bool",
    **dict.fromkeys(("ts", "start_s", "end_s", "idle_s", "retry_s", "delay_s"), "float64"),
}  # fmt: skip


def empty_sessions() -> pd.DataFrame:
    """Sessions of a capture that has none, or that tells nothing of them.

    Columns: ``flow`` (row of the flows); ``client server`` (categories), ``port`` (the server's);
    ``start_s end_s`` (first packet; the FIN or reset, else the last packet); ``begun`` (its first
    packet was seen); ``opened`` (both sides agreed to it, or it was under way before); ``ended``
    (of ENDINGS); ``ended_by`` (``client``, ``server`` or ``""``); ``idle_s`` (from the last data to
    the end; NaN where unknown); ``data_bytes server_bytes`` (of both sides, of the server);
    ``keep_alives`` (probes of an idle session); ``retry_s`` (from its end to the client's next try
    at that port; NaN for none); ``first_frame last_frame`` (frame numbers; 0 where there are no
    packets).
    """
    return _empty(SESSION_COLUMNS)


def empty_exchanges() -> pd.DataFrame:
    """Exchanges of a capture whose content was not read.

    One row per request with what answered it, per answer that nobody was seen to ask for, and per
    message that needs none, by time. Columns: ``ts`` (of the request); ``client`` (who asked or
    told; its MAC where it has no address) ``server`` (categories) ``port`` ``protocol``; ``flow``
    (-1 where both are MACs, and the port is an ethertype); ``kind`` (other, read, write, control,
    session, publish, identify); ``function unit target value`` (numbers of the protocol,
    -1 for none: function code, device behind the address, register or object, count or keep-alive);
    ``name`` (text from outside: a topic, a client id, a host name; NA for none); ``points`` (what a
    write command writes, and what a read next to one found at its places: hexadecimal digits of
    which ``read_points`` of the protocol makes places and values; NA where that is not known); ``login`` (a number
    that is the same where a user name and a password are, -1 for none; no way leads back from it to
    them, and it means nothing in another process); ``outcome`` (of
    OUTCOMES); ``code`` (of refusal or error, 0 for none, -1 where unknown); ``delay_s`` (to the
    answer); ``behind`` (requests that the client sent in between); ``frame answer_frame`` (frame
    numbers; 0 for none).
    """
    return _empty(EXCHANGE_COLUMNS)


def _empty(columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=_TYPES.get(name, "int64")) for name in columns})
