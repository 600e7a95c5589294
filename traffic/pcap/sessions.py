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
    names = ["flow", "is_orig", "ts", "flags", "payload", "row", "src", "dst", "sport", "dport"]
    packet = {name: work[name].to_numpy()[tcp] for name in names}
    flow, is_orig, ts, row = (packet[name] for name in ("flow", "is_orig", "ts", "row"))
    head = np.flatnonzero(starts_run(flow))
    if not len(head):
        return empty_sessions()
    resent, probe = (segments[name].to_numpy()[tcp] for name in ("resent", "keep_alive"))
    data = (packet["payload"] > 0) & ~resent & ~probe
    ends = _find_ends(packet, head, packets.end_s)
    last = ends["last"].to_numpy()
    before_end = np.arange(len(flow)) <= np.repeat(last, np.diff(head, append=len(flow)))
    last_s = np.maximum.reduceat(np.where(data & before_end, ts, -np.inf), head)
    last_s = np.where(np.isfinite(last_s), last_s, ts[ends["agreed"]])
    opens = is_orig[head]
    client, server, port = (
        np.where(opens, packet[one][head], packet[other][head])
        for one, other in (("src", "dst"), ("dst", "src"), ("dport", "sport"))
    )

    def count(column: np.ndarray) -> np.ndarray:
        return np.add.reduceat(column, head, dtype=np.int64)

    frame = packets.table["frame"].to_numpy()
    table = {
        "flow": number[flow[head]],
        "client": pd.Categorical.from_codes(client, packets.addresses),
        "server": pd.Categorical.from_codes(server, packets.addresses),
        "port": port.astype(np.int64),
        "start_s": ts[head],
        "end_s": ts[last],
        "begun": ends["begun"],
        "opened": ends["opened"],
        "ended": pd.Categorical.from_codes(ends["ended"], ENDINGS),
        "ended_by": pd.Categorical.from_codes(ends["by"], ["", "client", "server"]),
        "idle_s": np.where(ends["opened"], np.maximum(ts[last] - last_s, 0), np.nan),
        "data_bytes": count(np.where(data, packet["payload"], 0)),
        "server_bytes": count(np.where(data & ~is_orig, packet["payload"], 0)),
        "keep_alives": count(probe),
        "retry_s": _until_next(client, server, port, ts[head], ts[last]),
        "first_frame": frame[row[head]],
        "last_frame": frame[row[last]],
    }
    found = pd.DataFrame(table, copy=False)[SESSION_COLUMNS]
    return found.sort_values("flow", kind="stable", ignore_index=True)


def _find_ends(packet: dict[str, np.ndarray], head: np.ndarray, end_s: float) -> pd.DataFrame:
    """How each session opened and ended.

    Args:
        packet: columns of TCP packets, shape (n,) each, sorted by session, then time.
        head: shape (n_sessions,), the first packet of each.
        end_s: when the capture ends.

    Returns:
        Shape (n_sessions, 6): ``begun opened``; ``ended`` (a place in ENDINGS) ``by`` (0 nobody, 1
        the originator, 2 the responder); ``last`` and ``agreed``: the packets that end it and that
        agree to it (its first one where none does).
    """
    flow, is_orig, flags = packet["flow"], packet["is_orig"], packet["flags"]
    n, tail = len(head), np.append(head[1:], len(flow)) - 1

    def first(mask: np.ndarray) -> np.ndarray:
        return first_per_group(mask, flow, n)

    syn = flags & SYN > 0
    begun = first(syn & is_orig) < NEVER
    agreed, spoke = first(syn & (flags & ACK > 0) & ~is_orig), first(~is_orig)
    end = first(flags & (FIN | RST) > 0)
    there, last = end < NEVER, np.minimum(end, tail)
    by_orig, by_fin = is_orig[last], flags[last] & (FIN | RST) == FIN
    opened = (agreed < NEVER) | (~begun & (spoke < NEVER))
    ended = np.select(
        [
            there & by_fin,
            there & begun & ~opened & ~by_orig,
            begun & (spoke == NEVER),
            there,
            opened & (end_s - packet["ts"][tail] >= _IDLE_S),
            opened,
        ],
        [_FIN, _REFUSED, _UNANSWERED, _RESET, _IDLE, _OPEN],
        _UNKNOWN,
    )
    by = np.where(there, np.where(by_orig, 1, 2), 0)
    agreed = np.where(agreed < NEVER, agreed, head)
    columns = {"begun": begun, "opened": opened, "ended": ended, "by": by, "last": last}
    return pd.DataFrame(columns | {"agreed": agreed})


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
