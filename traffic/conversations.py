"""Where each flow begins and which side began it.

Packets are sorted once by conversation (both directions of a 5-tuple), then by time; every rule after that is a column:

    conversation   |------------ A ------------|----- B -----|
    connection     |--- 0 ---|-- 1 --|--- 2 ---|----- 3 -----|     cut where a timer of Zeek's would have run out

Time-outs are Zeek's defaults (base/init-bare.zeek).
"""

import numpy as np
import pandas as pd

from traffic.layers import ICMP, ICMP6, TCP, UDP
from traffic.services import SERVER_PORTS
from traffic.tcp import ACK, RST, SYN, end_connections

__all__ = ["cut_flows"]

_TCP_SILENCE_S, _SILENCE_S = 300.0, 60.0  # tcp_inactivity_timeout; udp_, icmp_ and unknown_ip_inactivity_timeout
_DNS_SILENCE_S, _DNS_PORTS = 10.0, (53, 137, 5353, 5355)  # dns_session_timeout
# ICMP requests and replies are one flow (ICMP4_counterpart and ICMP6_counterpart in Zeek's ICMP analyzer).
_COUNTERPART = {
    ICMP: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17},
    ICMP6: {128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130, 139: 140, 140: 139},
}


def cut_flows(table: pd.DataFrame) -> pd.DataFrame:
    """Sort packets by conversation and say which flow each belongs to, and on which side.

    Args:
        table: one row per packet, ``Packets.table``, sorted by time.

    Returns:
        The columns of ``table`` that flows are made of, sorted by conversation, then time, with ``row`` (in ``table``),
        ``flow`` (0, 1, … in this order), ``is_orig`` (the originator sent it), ``flipped`` (the responder was seen
        first) and ports as conn.log has them.
    """
    sport, dport, one_way = _flow_ports(table)
    talk, forward = _number_conversations(table, sport, dport, one_way)
    order = np.argsort(talk, kind="stable")
    names = ["ts", "src", "dst", "proto", "ip_bytes", "payload", "held", "flags", "seq", "window", "has_tcp"]
    columns = {name: table[name].to_numpy()[order] for name in names}
    columns |= {"row": order, "forward": forward[order], "sport": sport[order], "dport": dport[order]}
    work = pd.DataFrame(columns, copy=False)
    starts = _find_starts(work, talk[order])
    head = np.flatnonzero(starts)
    flow = np.cumsum(starts) - 1
    flipped = _is_flipped(work.iloc[head])
    originator = work["forward"].to_numpy()[head] ^ flipped
    work["flow"], work["flipped"] = flow, flipped[flow]
    work["is_orig"] = work["forward"].to_numpy() == originator[flow]
    return work


def _flow_ports(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ports as in conn.log: for ICMP the type and its counterpart, or the code of a message that has none."""
    sport, dport, proto = table["sport"].to_numpy(), table["dport"].to_numpy().copy(), table["proto"].to_numpy()
    one_way = np.zeros(len(table), bool)
    for icmp, counterpart in _COUNTERPART.items():
        rows = np.flatnonzero(proto == icmp)
        paired = np.full(256, -1)
        paired[list(counterpart)] = list(counterpart.values())
        other = paired[sport[rows]]
        one_way[rows] = other < 0
        dport[rows] = np.where(other < 0, dport[rows], other)
    return sport, dport, one_way


def _number_conversations(
    table: pd.DataFrame, sport: np.ndarray, dport: np.ndarray, one_way: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A number for each 5-tuple, whichever side sent, and whether a packet goes from its lower to its higher end."""
    src, dst, proto = (table[name].to_numpy().astype(np.int64) for name in ("src", "dst", "proto"))
    forward = (src < dst) | ((src == dst) & (sport <= dport)) | one_way
    low, high = np.where(forward, src, dst), np.where(forward, dst, src)
    low_port, high_port = np.where(forward, sport, dport), np.where(forward, dport, sport)
    pair, _ = pd.factorize(low * (1 + high.max(initial=0)) + high)
    ports, distinct = pd.factorize(((low_port << 16 | high_port) << 8 | proto) << 1 | one_way)
    talk, _ = pd.factorize(pair * len(distinct) + ports)
    return talk, forward


def _find_starts(work: pd.DataFrame, talk: np.ndarray) -> np.ndarray:
    ts, proto = work["ts"].to_numpy(), work["proto"].to_numpy()
    silence = np.where(proto == TCP, _TCP_SILENCE_S, _SILENCE_S)
    dns = np.isin(work["sport"], _DNS_PORTS) | np.isin(work["dport"], _DNS_PORTS)
    silence[dns & (proto == UDP)] = _DNS_SILENCE_S
    starts = (np.diff(talk, prepend=-1) != 0) | (np.diff(ts, prepend=-np.inf) >= silence)
    tcp = np.flatnonzero(proto == TCP)
    starts[tcp] = end_connections(work.iloc[tcp], starts[tcp])
    return starts


def _is_flipped(first: pd.DataFrame) -> np.ndarray:
    """Whether the first packet of a flow is the responder's (WantConnection in Zeek's TCP and UDP analyzers)."""
    proto, flags, sport, dport = (first[name].to_numpy() for name in ("proto", "flags", "sport", "dport"))
    flipped = np.zeros(len(first), bool)
    for transport, ports in SERVER_PORTS.items():
        from_server, to_server = np.isin(sport, ports), np.isin(dport, ports)
        flipped |= (proto == transport) & from_server & ~to_server
        if transport == TCP:
            flipped |= (proto == TCP) & from_server & to_server & (sport < dport)
    opening, answer = flags & (SYN | ACK) == SYN, flags & (SYN | ACK | RST) == SYN | ACK
    return np.where(proto == TCP, (flipped & ~opening) | answer, flipped)
