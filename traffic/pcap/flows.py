"""Where each flow begins and which side began it.

Packets are sorted once by conversation (both directions of a 5-tuple), then by time; every rule after that is a column:

    conversation   |------------ A ------------|----- B -----|
    connection     |--- 0 ---|-- 1 --|--- 2 ---|----- 3 -----|     cut where a timer of Zeek's would have run out

Time-outs are Zeek's defaults (base/init-bare.zeek).
"""

import numpy as np
import pandas as pd

from traffic.layers import ICMP, ICMP6, TCP, UDP
from traffic.pcap.services import SERVER_PORTS
from traffic.pcap.tcp import ACK, RST, SYN, end_connections

__all__ = ["cut_flows", "sort_numbers"]

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
        The columns of ``table`` that flows are made of, sorted by conversation, then time, those of TCP first; with
        ``row`` (in ``table``), ``flow`` (0, 1, … in this order), ``is_orig`` (the originator sent it), ``flipped``
        (the responder was seen first) and ports as conn.log has them.
    """
    way, ways = _number_ways(table)
    talk = ways["talk"].to_numpy()[way]
    order = sort_numbers(talk, len(ways))
    way = way[order]
    names = ["ts", "ip_bytes", "payload", "held", "flags", "seq", "window", "has_tcp"]
    columns = {name: table[name].to_numpy()[order] for name in names}
    columns |= {name: ways[name].to_numpy()[way] for name in ("src", "dst", "sport", "dport", "proto", "forward")}
    work = pd.DataFrame({"row": order, **columns}, copy=False)
    starts = _find_starts(work, talk[order])
    head = np.flatnonzero(starts)
    flow = np.cumsum(starts, dtype=np.int32) - 1
    flipped = _is_flipped(work.iloc[head])
    originator = work["forward"].to_numpy()[head] ^ flipped
    work["flow"], work["flipped"] = flow, flipped[flow]
    work["is_orig"] = work["forward"].to_numpy() == originator[flow]
    return work


def sort_numbers(numbers: np.ndarray, n: int) -> np.ndarray:
    """The stable order of ``numbers``, which are below ``n``: two bytes at a time, for which numpy has a radix sort."""
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    if n > 1 << 16:
        order = order[np.argsort((numbers >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def _number_ways(table: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """The way of each packet, int32, and the ways: each 5-tuple from one end to the other, shape (n_ways, 8).

    Ways have ``src dst proto``, ``sport dport`` as in conn.log, ``one_way`` (there is no way back), ``forward`` (from
    the lower end to the higher) and ``talk`` (the conversation: the way back has the same), those of TCP first.
    """
    src, dst, proto, sport, dport = (table[name].to_numpy() for name in ("src", "dst", "proto", "sport", "dport"))
    n = int(max(src.max(initial=0), dst.max(initial=0))) + 1
    pair, pairs = pd.factorize((src * np.int64(n) + dst) << 8 | proto)
    way, keys = pd.factorize(pair << 32 | sport.astype(np.int64) << 16 | dport)
    pairs = pairs[keys >> 32]
    ways = pd.DataFrame({"src": pairs // (n << 8), "dst": (pairs >> 8) % n, "proto": pairs & 0xFF})
    ways["sport"] = keys >> 16 & 0xFFFF
    ways["dport"], ways["one_way"] = _flow_ports(ways["proto"].to_numpy(), ways["sport"].to_numpy(), keys & 0xFFFF)
    ways["forward"], ways["talk"] = _number_conversations(ways)
    small = {"src": "int32", "dst": "int32", "proto": "uint8", "sport": "uint16", "dport": "uint16", "talk": "int32"}
    return way.astype(np.int32), ways.astype(small)


def _flow_ports(proto: np.ndarray, sport: np.ndarray, dport: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ports as in conn.log: for ICMP the type and its counterpart, or the code of a message that has none."""
    one_way = np.zeros(len(proto), bool)
    for icmp, counterpart in _COUNTERPART.items():
        rows = np.flatnonzero(proto == icmp)
        paired = np.full(256, -1)
        paired[list(counterpart)] = list(counterpart.values())
        other = paired[sport[rows]]
        one_way[rows] = other < 0
        dport[rows] = np.where(other < 0, dport[rows], other)
    return dport, one_way


def _number_conversations(ways: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Whether a way goes from its lower to its higher end, and a number for each 5-tuple, whichever side sends."""
    src, dst, proto, sport, dport, one_way = (
        ways[name].to_numpy() for name in ("src", "dst", "proto", "sport", "dport", "one_way")
    )
    forward = (src < dst) | ((src == dst) & (sport <= dport)) | one_way
    low, high = np.where(forward, src, dst), np.where(forward, dst, src)
    low_port, high_port = np.where(forward, sport, dport), np.where(forward, dport, sport)
    pair, pairs = pd.factorize(((low * (1 + high.max(initial=0)) + high) << 8 | proto) << 1 | one_way)
    talk, talks = pd.factorize(pair << 32 | low_port << 16 | high_port)
    rest = (pairs[talks >> 32] >> 1 & 0xFF) != TCP
    number = np.empty(len(talks), np.int64)
    number[np.argsort(rest, kind="stable")] = np.arange(len(talks))
    return forward, number[talk]


def _find_starts(work: pd.DataFrame, talk: np.ndarray) -> np.ndarray:
    starts = np.append(True, talk[1:] != talk[:-1])[: len(talk)]
    pause = np.diff(work["ts"].to_numpy())
    rows = np.flatnonzero(pause >= _DNS_SILENCE_S) + 1
    proto, sport, dport = (work[name].to_numpy()[rows] for name in ("proto", "sport", "dport"))
    silence = np.where(proto == TCP, _TCP_SILENCE_S, _SILENCE_S)
    dns = np.isin(sport, _DNS_PORTS) | np.isin(dport, _DNS_PORTS)
    silence[dns & (proto == UDP)] = _DNS_SILENCE_S
    starts[rows[pause[rows - 1] >= silence]] = True
    tcp = slice(int((work["proto"].to_numpy() == TCP).sum()))
    starts[tcp] = end_connections(work[["ts", "flags", "seq", "payload", "forward"]][tcp], starts[tcp])
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
