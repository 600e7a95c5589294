"""Sessions as far as a conn.log tells of them: who ended a TCP connection, and how.

A log has no packet times, so ``idle_s`` is unknown, and an end without a word is told from its
silence before the log ends. Letters of ``history`` and values of ``conn_state``: Conn::Info at
https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html.
"""

import numpy as np
import pandas as pd

from traffic.arrays import number_groups
from traffic.conversations import ENDINGS, SESSION_COLUMNS, empty_sessions

_IDLE_S = 300.0  # Zeek forgets a connection after that (tcp_inactivity_timeout)
# Where a log has no history: what of it each state stands for.
_OF_STATE = {
    "S0": "S", "S1": "Sh", "SF": "ShFf", "REJ": "Sr", "S2": "ShF", "S3": "Shf", "RSTO": "ShR",
    "RSTR": "Shr", "RSTOS0": "SR", "RSTRH": "^hr", "SH": "SF", "SHR": "^hf", "OTH": "",
}  # fmt: skip


def make_sessions(flows: pd.DataFrame, end_s: float) -> pd.DataFrame:
    """One row per TCP flow.

    Args:
        flows: shape (n_flows, ...), Zeek's names.
        end_s: when the log ends, seconds since the epoch.

    Returns:
        ``SESSION_COLUMNS``, by ``flow``.
    """
    flow = np.flatnonzero((flows["proto"] == "tcp").to_numpy())
    if not len(flow):
        return empty_sessions()
    number = {
        name: flows[name].to_numpy(float)[flow]
        for name in ("ts", "duration", "orig_bytes", "resp_bytes")
    }
    history = flows["history"].take(flow)
    if history.isna().any():
        history = history.fillna(flows["conn_state"].take(flow).map(_OF_STATE)).fillna("")
    code, distinct = pd.factorize(history)
    parts = [_read_history(text) for text in distinct]
    ending, by, begun, opened = (np.array([part[i] for part in parts])[code] for i in range(4))
    start_s = number["ts"]
    until_s = start_s + np.nan_to_num(number["duration"])
    idle = (ending == ENDINGS.index("open")) & (end_s - until_s >= _IDLE_S)
    ending = np.where(idle, ENDINGS.index("idle"), ending)
    client, server = (
        pd.Categorical(flows[name].astype("category").array.take(flow))
        for name in ("id.orig_h", "id.resp_h")
    )
    port = flows["id.resp_p"].to_numpy(np.int64)[flow]
    sent, got = (
        np.nan_to_num(number[f"{side}_bytes"]).astype(np.int64) for side in ("orig", "resp")
    )
    table = {
        "flow": flow,
        "client": client,
        "server": server,
        "port": port,
        "start_s": start_s,
        "end_s": until_s,
        "begun": begun.astype(bool),
        "opened": opened.astype(bool),
        "ended": pd.Categorical.from_codes(ending, ENDINGS),
        "ended_by": pd.Categorical.from_codes(by, ["", "client", "server"]),
        "idle_s": np.full(len(flow), np.nan),
        "data_bytes": sent + got,
        "server_bytes": got,
        "keep_alives": np.zeros(len(flow), np.int64),
        "retry_s": _until_next(client.codes, server.codes, port, start_s, until_s),
        "first_frame": np.zeros(len(flow), np.int64),
        "last_frame": np.zeros(len(flow), np.int64),
    }
    return pd.DataFrame({name: table[name] for name in SESSION_COLUMNS}, copy=False)


def _read_history(history: str) -> list[int]:
    """The ending (a place in ENDINGS), who gave it (0 nobody, 1 client, 2 server), whether the
    session's first packet was seen, whether it opened."""
    letters = history.replace("^", "")
    end = next((letter for letter in letters if letter in "FfRr"), "")
    begun = "S" in letters
    spoke = any(letter.islower() for letter in letters)
    opened = "h" in letters or (not begun and spoke)
    if end in ("F", "f"):
        ending = "fin"
    elif end == "r" and begun and not opened:
        ending = "refused"
    elif begun and not spoke:
        ending = "unanswered"
    elif end:
        ending = "reset"
    else:
        ending = "open" if opened else "unknown"
    by = 0 if not end else 1 if end.isupper() else 2
    return [ENDINGS.index(ending), by, int(begun), int(opened)]


def _until_next(
    client: np.ndarray, server: np.ndarray, port: np.ndarray, start_s: np.ndarray, end_s: np.ndarray
) -> np.ndarray:
    """Time from each session's end to the next one of the same client at the same port; NaN for
    none, below zero where they overlap."""
    group = number_groups(client.astype(np.int64), server.astype(np.int64), port)[0]
    # Flows are sorted by time.
    order = np.argsort(group.astype(np.int32), kind="stable")
    gap = np.full(len(order), np.nan)
    group, start_s, end_s = group[order], start_s[order], end_s[order]
    same = np.flatnonzero(group[1:] == group[:-1])
    gap[order[same]] = start_s[same + 1] - end_s[same]
    return gap
