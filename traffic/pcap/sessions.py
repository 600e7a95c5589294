"""Sessions from packets: when a TCP connection opened, who ended it and how, how idle it was."""

import numpy as np
import pandas as pd

from traffic.arrays import number_groups, starts_run
from traffic.conversations import ENDINGS, SESSION_COLUMNS, empty_sessions
from traffic.pcap.headers import TCP
from traffic.pcap.packets import Packets
from traffic.pcap.tcp import ACK, FIN, NEVER, RST, SYN, first_per_group

_IDLE_S = 300.0  # as Zeek forgets a connection without a word (tcp_inactivity_timeout)
_FIN, _RESET, _REFUSED, _UNANSWERED, _IDLE, _OPEN, _UNKNOWN = range(len(ENDINGS))


def make_sessions(
    packets: Packets, work: pd.DataFrame, segments: pd.DataFrame, number: np.ndarray
) -> pd.DataFrame:
    """One row per TCP flow.

    Args:
        packets: the packets of one capture.
        work: as ``traffic.pcap.flows.cut_flows`` returns it.
        segments: shape (n_packets, ...), rows as in ``work``: ``resent keep_alive``.
        number: shape (n_flows,), the capture's number of each flow.

    Returns:
        ``SESSION_COLUMNS``, by ``flow``.
    """
    tcp = slice(int((work["proto"].to_numpy() == TCP).sum()))  # these come first
    names = ("flow", "is_orig", "ts", "flags", "payload", "row", "src", "dst", "dport", "sport")
    flow, is_orig, ts, flags, payload, row, src, dst, dport, sport = (
        work[name].to_numpy()[tcp] for name in names
    )
    head = np.flatnonzero(starts_run(flow))
    if not len(head):
        return empty_sessions()
    n, tail = len(head), np.append(head[1:], len(flow)) - 1
    resent, probe = (segments[name].to_numpy()[tcp] for name in ("resent", "keep_alive"))

    def first(mask: np.ndarray) -> np.ndarray:
        return first_per_group(mask, flow, n)

    syn = flags & SYN > 0
    asked = first(syn & is_orig)
    agreed = first(syn & (flags & ACK > 0) & ~is_orig)
    spoke = first(~is_orig)
    end = first(flags & (FIN | RST) > 0)
    ended = np.minimum(end, tail)
    by_fin = flags[ended] & (FIN | RST) == FIN
    by_orig, there = is_orig[ended], end < NEVER
    begun = asked < NEVER
    opened = (agreed < NEVER) | (~begun & (spoke < NEVER))
    silent_s = packets.end_s - ts[tail]
    ending = np.select(
        [
            there & by_fin,
            there & begun & ~opened & ~by_orig,
            begun & (spoke == NEVER),
            there,
            opened & (silent_s >= _IDLE_S),
            opened,
        ],
        [_FIN, _REFUSED, _UNANSWERED, _RESET, _IDLE, _OPEN],
        _UNKNOWN,
    )
    data = (payload > 0) & ~resent & ~probe
    last_s = np.maximum.reduceat(np.where(data & _up_to(ended, head, len(flow)), ts, -np.inf), head)
    last_s = np.where(np.isfinite(last_s), last_s, ts[np.where(agreed < NEVER, agreed, head)])
    ends = is_orig[head]
    client = np.where(ends, src[head], dst[head])
    server = np.where(ends, dst[head], src[head])
    port = np.where(ends, dport[head], sport[head]).astype(np.int64)
    table = {
        "client": pd.Categorical.from_codes(client, packets.addresses),
        "server": pd.Categorical.from_codes(server, packets.addresses),
        "port": port,
        "start_s": ts[head],
        "end_s": ts[ended],
        "begun": begun,
        "opened": opened,
        "ended": pd.Categorical.from_codes(ending, ENDINGS),
        "ended_by": pd.Categorical.from_codes(
            np.where(there, np.where(by_orig, 1, 2), 0), ["", "client", "server"]
        ),
        "idle_s": np.where(opened, np.maximum(ts[ended] - last_s, 0), np.nan),
        "data_bytes": np.add.reduceat(np.where(data, payload, 0), head, dtype=np.int64),
        "server_bytes": np.add.reduceat(
            np.where(data & ~is_orig, payload, 0), head, dtype=np.int64
        ),
        "keep_alives": np.add.reduceat(probe, head, dtype=np.int64),
        "retry_s": _until_next(client, server, port, ts[head], ts[ended]),
        "first_frame": packets.table["frame"].to_numpy()[row[head]],
        "last_frame": packets.table["frame"].to_numpy()[row[ended]],
        "flow": number[flow[head]],
    }
    found = pd.DataFrame(table, copy=False)[SESSION_COLUMNS]
    return found.iloc[np.argsort(found["flow"].to_numpy())].reset_index(drop=True)


def _up_to(end: np.ndarray, head: np.ndarray, n: int) -> np.ndarray:
    """Whether each packet lies before the end of its session or is it."""
    return np.arange(n) <= np.repeat(end, np.diff(head, append=n))


def _until_next(
    client: np.ndarray, server: np.ndarray, port: np.ndarray, start_s: np.ndarray, end_s: np.ndarray
) -> np.ndarray:
    """Time from each session's end to the next one of the same client at the same port; NaN for
    none, below zero where they overlap."""
    group = number_groups(client, server, port)[0]
    order = np.lexsort((start_s, group))
    gap = np.full(len(order), np.nan)
    same = group[order][1:] == group[order][:-1]
    gap[order[:-1][same]] = (start_s[order][1:] - end_s[order][:-1])[same]
    return gap
