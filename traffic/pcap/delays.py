"""How long TCP segments waited for their acknowledgement, counted by slot and pair.

    sender    data ────────▶            what is timed lies between the sensor and whom it was sent
    sensor      |  ◀── delay_s ──▶  |   to: the way there, his stack, the way back
    receiver           ◀──────── ack

Only the acknowledgement that ends exactly where a segment ends times it (Wireshark's
``tcp.analysis.ack_rtt``), and none does over which something of the stream was sent again: nobody
can tell which of the two it is for (Karn's algorithm, RFC 6298, 3).
"""

import numpy as np
import pandas as pd

from traffic.arrays import number_groups, starts_run
from traffic.capture import SAMPLE_S
from traffic.delays import DELAY_COLUMNS, delay_step
from traffic.pcap.headers import TCP
from traffic.pcap.packets import Packets
from traffic.pcap.tcp import ACK, FIN, RST, SYN

_STEPS = 128  # room for a step and whether it is of a handshake


def find_delays(packets: Packets, work: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """Count the delays of a capture's acknowledgements.

    Args:
        packets: the packets of one capture.
        work: as ``traffic.pcap.flows.cut_flows`` returns it.
        segments: shape (n_packets, ...), rows as in ``work``: ``grown_bytes resent``.

    Returns:
        ``DELAY_COLUMNS``, ``src dst`` as rows of ``packets.addresses``; in no order.
    """
    tcp = slice(int((work["proto"].to_numpy() == TCP).sum()))  # these come first
    names = ("flow", "is_orig", "ts", "flags", "seq", "payload", "row", "src", "dst", "has_tcp")
    packet = {name: work[name].to_numpy()[tcp] for name in names}
    grown, resent = (segments[name].to_numpy()[tcp] for name in ("grown_bytes", "resent"))
    flags = np.where(packet["has_tcp"], packet["flags"], RST)
    fresh = ((grown > 0) | (flags & SYN > 0)) & (flags & RST == 0)
    acks = flags & (ACK | RST) == ACK
    packet["ack"] = packets.table["ack"].to_numpy()[packet.pop("row")]
    parts = [
        _time_side(packet, np.flatnonzero(fresh & mine), np.flatnonzero(acks & ~mine), again)
        for mine, again in (
            (side, np.flatnonzero(resent & side))
            for side in (packet["is_orig"], ~packet["is_orig"])
        )
    ]
    rows = pd.concat(parts, ignore_index=True)
    group, first = number_groups(*(rows[name].to_numpy() for name in DELAY_COLUMNS[:-1]))
    count = np.bincount(group, rows["count"], len(first)).astype(np.int64)
    return rows.iloc[first].assign(count=count)[DELAY_COLUMNS]


def _time_side(
    packet: dict[str, np.ndarray], sent: np.ndarray, acks: np.ndarray, again: np.ndarray
) -> pd.DataFrame:
    """Delays of what one side of each flow sent.

    Args:
        packet: columns of TCP packets, shape (n,) each, sorted by flow, then time.
        sent: the packets of that side that carry something new.
        acks: the packets of the other side that acknowledge something.
        again: the packets of that side that were sent again.
    """
    flow, ts, seq = packet["flow"], packet["ts"], packet["seq"]
    head = sent[starts_run(flow[sent])]
    begin = np.zeros(int(flow[-1]) + 1 if len(flow) else 0, np.uint32)
    begin[flow[head]] = seq[head]
    # Within a flow both numbers only grow; where they do not, none is equal and nothing is timed.
    flags = packet["flags"][sent]
    end = seq[sent].astype(np.uint32) + packet["payload"][sent].astype(np.uint32)
    end += (flags & FIN).astype(np.uint32) + (flags >> 1 & 1)
    end_at = _place(flow[sent], end, begin)
    ack_at = _place(flow[acks], packet["ack"][acks].astype(np.uint32), begin)
    new = starts_run(ack_at)
    acks, ack_at = acks[new], ack_at[new]
    which = np.searchsorted(end_at, ack_at, side="right") - 1
    met = np.flatnonzero((which >= 0) & (end_at[which] == ack_at) if len(sent) else ack_at < 0)
    acks, sent = acks[met], sent[which[met]]
    kept = sent < acks
    lossy = np.zeros(len(begin), bool)
    lossy[flow[again]] = True
    doubt = np.flatnonzero(lossy[flow[acks]])
    kept[doubt] &= np.searchsorted(again, sent[doubt]) == np.searchsorted(again, acks[doubt])
    acks, sent = acks[kept], sent[kept]
    step = delay_step(ts[acks] - ts[sent])
    slot = np.floor(ts[acks] / SAMPLE_S).astype(np.int64)
    handshake = packet["flags"][sent] & SYN > 0
    head = starts_run(flow[acks], slot)
    key = (np.cumsum(head) - 1) * _STEPS + step * 2 + handshake
    key = np.sort(key)
    once = np.flatnonzero(starts_run(key)) if len(key) else np.zeros(0, np.int64)
    key, count = key[once], np.diff(once, append=len(key))
    at = np.flatnonzero(head)[key // _STEPS]
    return pd.DataFrame(
        {
            "slot": slot[at],
            "src": packet["src"][sent[at]].astype(np.int64),
            "dst": packet["dst"][sent[at]].astype(np.int64),
            "handshake": (key & 1).astype(bool),
            "step": key % _STEPS >> 1,
            "count": count,
        }
    )


def _place(flow: np.ndarray, number: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """Flow and how far into its stream a sequence number lies, in one number that grows."""
    return flow.astype(np.int64) << 32 | (number - begin[flow])
