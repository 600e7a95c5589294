"""Flows with Zeek's meaning, the slots each was active in, and the evidence beyond flows.

Packets are sorted once by conversation (both directions of a 5-tuple), then by time; every rule
after that is a column:

    conversation   |------------ A ------------|----- B -----|
    connection     |--- 0 ---|-- 1 --|--- 2 ---|----- 3 -----|     cut where a timer of Zeek's would have run out

Time-outs are Zeek's defaults (base/init-bare.zeek). What differs from Zeek: checksums are not
verified, fragments count as packets, lost segments that only an acknowledgement betrays are told in
``Quality`` and not in the history, and of two ports that no server is known by the lower one is the
server where a connection begins with its answer.
"""

import numpy as np
import pandas as pd

from traffic.arrays import starts_run
from traffic.capture import ACTIVITY_COLUMNS, FLOW_COLUMNS, SAMPLE_S, Capture
from traffic.pcap.asks import find_asks
from traffic.pcap.delays import find_delays
from traffic.pcap.evidence import make_evidence
from traffic.pcap.exchanges import find_events, join_exchanges, make_exchanges, read_content
from traffic.pcap.frames import read_frames
from traffic.pcap.headers import ICMP, ICMP6, TCP, UDP
from traffic.pcap.identities import hear_devices
from traffic.pcap.packets import Packets
from traffic.pcap.pieces import Piece, join_pieces
from traffic.pcap.protocols import dns
from traffic.pcap.sensor import find_holes, see_packets
from traffic.pcap.services import SERVER_PORTS, read_services
from traffic.pcap.sessions import make_sessions
from traffic.pcap.tcp import (
    ACK,
    FIN,
    NEVER,
    RST,
    SYN,
    end_connections,
    first_per_group,
    name_states,
    read_segments,
    render_histories,
)
from traffic.pcap.transfers import read_transfers

_TCP_SILENCE_S = 300.0  # tcp_inactivity_timeout
# port_inactivity_timeouts: FTP, SSH, Telnet, rlogin, IMAP wait for people.
_PATIENT_PORTS, _PATIENT_SILENCE_S = (21, 22, 23, 143, 513), 3600.0
_SILENCE_S = 60.0  # udp_, icmp_ and unknown_ip_inactivity_timeout
_DNS_SILENCE_S = 10.0  # dns_session_timeout
# ICMP requests and replies are one flow (ICMP4_counterpart and ICMP6_counterpart in Zeek's ICMP
# analyzer).
_COUNTERPART = {
    ICMP: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17},
    ICMP6: {
        128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130, 139: 140,
        140: 139,
    },
}  # fmt: skip


def cut_flows(table: pd.DataFrame) -> pd.DataFrame:
    """Sort packets by conversation and say which flow each belongs to, and on which side.

    Args:
        table: one row per packet, ``Packets.table``, sorted by time.

    Returns:
        The columns of ``table`` that flows are made of, sorted by conversation, then time, those of
        TCP first; with ``row`` (in ``table``), ``flow`` (0, 1, … in this order), ``is_orig`` (the
        originator sent it), ``flipped`` (the responder was seen first) and ports as conn.log has
        them.
    """
    way, ways = _number_ways(table)
    talk = ways["talk"].to_numpy()[way]
    order = sort_numbers(talk, len(ways))
    way = way[order]
    names = ["ts", "ip_bytes", "payload", "held", "flags", "seq", "window", "has_tcp"]
    of_way = ["src", "dst", "sport", "dport", "proto", "forward"]
    columns = {name: table[name].to_numpy()[order] for name in names}
    columns |= {name: ways[name].to_numpy()[way] for name in of_way}
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
    """The stable order of ``numbers`` below ``n``, two bytes at a time: these numpy sorts by
    radix."""
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    if n > 1 << 16:
        order = order[np.argsort((numbers >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def _number_ways(table: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """The way of each packet, int32, and the ways: each 5-tuple from one end to the other, shape
    (n_ways, 8).

    Ways have ``src dst proto``, ``sport dport`` as in conn.log, ``one_way`` (there is no way back),
    ``forward`` (from the lower end to the higher) and ``talk`` (the conversation: the way back has
    the same), those of TCP first.
    """
    src, dst, proto, sport, dport = (
        table[name].to_numpy() for name in ("src", "dst", "proto", "sport", "dport")
    )
    n = int(max(src.max(initial=0), dst.max(initial=0))) + 1
    pair, pairs = pd.factorize((src * np.int64(n) + dst) << 8 | proto)
    way, keys = pd.factorize(pair << 32 | sport.astype(np.int64) << 16 | dport)
    pairs = pairs[keys >> 32]
    ways = pd.DataFrame({"src": pairs // (n << 8), "dst": (pairs >> 8) % n, "proto": pairs & 0xFF})
    ways["sport"] = keys >> 16 & 0xFFFF
    icmp_proto, icmp_type = ways["proto"].to_numpy(), ways["sport"].to_numpy()
    ways["dport"], ways["one_way"] = _flow_ports(icmp_proto, icmp_type, keys & 0xFFFF)
    ways["forward"], ways["talk"] = _number_conversations(ways)
    small = {"proto": "uint8"} | dict.fromkeys(("sport", "dport"), "uint16")
    small |= dict.fromkeys(("src", "dst", "talk"), "int32")
    return way.astype(np.int32), ways.astype(small)


def _flow_ports(
    proto: np.ndarray, sport: np.ndarray, dport: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ports as in conn.log, and whether there is no way back: for ICMP the type and its
    counterpart, or the code of a message that has none."""
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
    """Whether a way goes from its lower to its higher end, and the conversation's number."""
    src, dst, proto, sport, dport, one_way = (
        ways[name].to_numpy() for name in ("src", "dst", "proto", "sport", "dport", "one_way")
    )
    forward = (src < dst) | ((src == dst) & (sport <= dport)) | one_way
    low, high = np.where(forward, src, dst), np.where(forward, dst, src)
    low_port, high_port = np.where(forward, sport, dport), np.where(forward, dport, sport)
    ends = low * (1 + high.max(initial=0)) + high
    pair, pairs = pd.factorize((ends << 8 | proto) << 1 | one_way)
    talk, talks = pd.factorize(pair << 32 | low_port << 16 | high_port)
    rest = (pairs[talks >> 32] >> 1 & 0xFF) != TCP
    number = np.empty(len(talks), np.int64)
    number[np.argsort(rest, kind="stable")] = np.arange(len(talks))
    return forward, number[talk]


def _find_starts(work: pd.DataFrame, talk: np.ndarray) -> np.ndarray:
    starts = starts_run(talk)
    pause = np.diff(work["ts"].to_numpy())
    rows = np.flatnonzero(pause >= _DNS_SILENCE_S) + 1
    proto, sport, dport = (work[name].to_numpy()[rows] for name in ("proto", "sport", "dport"))
    patient = np.isin(sport, _PATIENT_PORTS) | np.isin(dport, _PATIENT_PORTS)
    tcp_silence = np.where(patient, _PATIENT_SILENCE_S, _TCP_SILENCE_S)
    silence = np.where(proto == TCP, tcp_silence, _SILENCE_S)
    names = np.isin(sport, dns.PORTS) | np.isin(dport, dns.PORTS)
    silence[names & (proto == UDP)] = _DNS_SILENCE_S
    starts[rows[pause[rows - 1] >= silence]] = True
    tcp = slice(int((work["proto"].to_numpy() == TCP).sum()))
    columns = ["ts", "flags", "seq", "payload", "forward"]
    starts[tcp] = end_connections(work[columns][tcp], starts[tcp])
    return starts


def _is_flipped(first: pd.DataFrame) -> np.ndarray:
    """Whether a flow's first packet is the responder's (WantConnection in Zeek's analyzers).

    A SYN-ACK that comes first is an answer whose question was not seen, or a scan: then it comes
    from no server's port to a server's. Between two ports that are neither Zeek takes its sender
    for the originator; here the lower one is the server.
    """
    names = ("proto", "flags", "sport", "dport")
    proto, flags, sport, dport = (first[name].to_numpy() for name in names)
    opening, answer = flags & (SYN | ACK) == SYN, flags & (SYN | ACK | RST) == SYN | ACK
    flipped = np.zeros(len(first), bool)
    for transport, ports in SERVER_PORTS.items():
        mine = proto == transport
        from_server, to_server = np.isin(sport, ports), np.isin(dport, ports)
        flipped |= mine & from_server & ~to_server
        if transport == TCP:
            lower = (from_server == to_server) & (sport < dport)
            flipped |= mine & lower & np.where(answer, ~from_server, from_server)
    return np.where(proto == TCP, flipped & ~opening, flipped)


# ---- Tables of flows and activity ----

_PROTO_NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMP6: "icmp"}


def make_flows(packets: Packets) -> Capture:
    """Cut packets into flows.

    Args:
        packets: the packets of one capture, sorted by time.

    Returns:
        Flows sorted by ``ts`` (with ``orig_l2_addr resp_l2_addr`` where the capture has them),
        activity from the packets' own times, evidence, sessions, exchanges and identities. Every IP packet is
        in exactly one flow and one slot.
    """
    piece = make_piece(packets)
    asks = find_asks(packets.arp, [packets.table], packets.addresses, packets.end_s)
    holes = find_holes(packets)
    return join_pieces([piece], asks, packets.addresses, packets.envelopes, holes, packets.notes)


def make_piece(packets: Packets) -> Piece:
    """Cut the packets of whole conversations into flows, and read what they tell.

    Args:
        packets: of one capture, or of a part of it: all between some pairs of addresses.
    """
    work = cut_flows(packets.table)
    segments = _read_segments(work)
    flows = _make_table(work, segments, packets)
    frames = read_frames(packets)
    content = read_content(packets, work, _describe_flows(work, flows))
    spoken = pd.Series(content.services, dtype="str")
    flows.loc[spoken.index, "service"] = spoken
    # So far flows are numbered by conversation; from here on by the row of their first packet.
    row = work["row"].to_numpy()[_heads(work)]
    order = np.argsort(row)
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order))
    return Piece(
        flows=flows.iloc[order].reset_index(drop=True),
        first=packets.table[["file", "frame"]].iloc[row[order]],
        activity=_make_activity(work, number),
        evidence=make_evidence(packets, _by_row(work, segments), find_events(content)),
        delays=find_delays(packets, work, segments),
        sessions=make_sessions(packets, work, segments, number),
        exchanges=join_exchanges(
            make_exchanges(content, packets, number),
            make_exchanges(frames.content, frames.packets, np.full(len(frames.services), -1)),
        ),
        transfers=read_transfers(
            packets, work, flows["service"], (flows["conn_state"] == "SF").to_numpy(), number
        ),
        said=hear_devices(packets, content, frames),
        seen=see_packets(packets, work, segments, frames.unread),
        frame_copies=frames.copies,
    )


def _describe_flows(work: pd.DataFrame, flows: pd.DataFrame) -> pd.DataFrame:
    """What ``read_content`` needs of each flow, in the order of ``work``."""
    return pd.DataFrame(
        {
            "service": flows["service"].fillna(""),
            "transport": work["proto"].to_numpy()[_heads(work)],
            "server_port": flows["id.resp_p"].to_numpy(),
            "begun": flows["history"].fillna("").str.contains("S", regex=False).to_numpy(bool),
            "two_way": ((flows["orig_pkts"] > 0) & (flows["resp_pkts"] > 0)).to_numpy(),
            "left_s": _client_left_s(work, len(flows)),
        }
    )


def _heads(work: pd.DataFrame) -> np.ndarray:
    """The first packet of each flow."""
    return np.flatnonzero(starts_run(work["flow"].to_numpy()))


def _read_segments(work: pd.DataFrame) -> pd.DataFrame:
    """``read_segments`` for packets with a TCP header; any other packet's payload is new."""
    has_tcp = work["has_tcp"].to_numpy()
    n_tcp = int(has_tcp.sum())
    # TCP comes first: nothing is copied where all of it holds its header.
    tcp = slice(n_tcp) if has_tcp[:n_tcp].all() else np.flatnonzero(has_tcp)
    stream = _streams(work)[tcp]
    read = read_segments(work[["ts", "flags", "seq", "payload", "window"]].iloc[tcp], stream)
    n = len(work)
    out = {"grown_bytes": work["payload"].to_numpy().copy()}
    marked = ("again", "resent", "zero_window", "keep_alive", "end_probe")
    out |= {name: np.zeros(n, bool) for name in marked}
    out["stall"] = np.full(n, -1)
    for name, column in out.items():
        column[tcp] = read[name]
    return pd.DataFrame(out, copy=False)


def _streams(work: pd.DataFrame) -> np.ndarray:
    return work["flow"].to_numpy() * 2 + work["is_orig"].to_numpy()


def _by_row(work: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """What segments tell of each packet, in the order of ``Packets.table``."""
    columns = dict(segments[["resent", "zero_window", "end_probe", "stall"]])
    place = np.empty(len(work), np.int64)
    place[work["row"].to_numpy()] = np.arange(len(work))
    return pd.DataFrame({name: np.asarray(column)[place] for name, column in columns.items()})


def _make_table(work: pd.DataFrame, segments: pd.DataFrame, packets: Packets) -> pd.DataFrame:
    """One row per flow, in the order of ``work``."""
    head = _heads(work)
    first = work.iloc[head]
    ts, proto, is_orig = (first[name].to_numpy() for name in ("ts", "proto", "is_orig"))
    src, dst = _sides(first["src"].to_numpy(), first["dst"].to_numpy(), is_orig)
    sport, dport = _sides(first["sport"].to_numpy(), first["dport"].to_numpy(), is_orig)
    table = pd.DataFrame({"ts": ts})
    table["id.orig_h"], table["id.orig_p"] = _texts(packets.addresses, src), sport.astype(np.int64)
    table["id.resp_h"], table["id.resp_p"] = _texts(packets.addresses, dst), dport.astype(np.int64)
    table["proto"] = pd.Series(proto).map(_PROTO_NAMES).astype("str").fillna("unknown_transport")
    _count_packets(table, work, segments, head)
    table["duration"] = _last_s(work, head) - ts
    # Zeek tells neither duration nor bytes of a flow that lasted no time.
    table.loc[table["duration"] <= 0, ["duration", "orig_bytes", "resp_bytes"]] = np.nan
    table["conn_state"] = pd.Series(_states(work, proto, table), dtype="str")
    table["history"] = _known(_histories(work, segments, head))
    table["service"] = _known(read_services(work, packets, proto, dport))
    return _with_macs(table[[name for name in FLOW_COLUMNS if name != "uid"]], first, packets)


def _count_packets(
    table: pd.DataFrame, work: pd.DataFrame, segments: pd.DataFrame, head: np.ndarray
) -> None:
    is_orig = work["is_orig"].to_numpy()
    columns = {
        "pkts": np.ones(len(work), np.uint8),
        "ip_bytes": work["ip_bytes"].to_numpy(),
        "bytes": segments["grown_bytes"].to_numpy(),
    }
    for name, column in columns.items():
        table[f"orig_{name}"], table[f"resp_{name}"] = _sum_sides(column, is_orig, head)
    # A stream longer than all it carried has holes that nothing filled later.
    carried = _sum_sides(work["payload"].to_numpy(), is_orig, head)
    grown = (table["orig_bytes"], table["resp_bytes"])
    holes = (whole - sent for whole, sent in zip(grown, carried, strict=True))
    table["missed_bytes"] = sum(np.maximum(hole, 0) for hole in holes)


def _sum_sides(
    column: np.ndarray, is_orig: np.ndarray, head: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over either side's packets, the originator's first, for runs that begin at ``head``."""
    if not len(head):
        return np.zeros(0), np.zeros(0)
    orig = np.add.reduceat(column * is_orig, head, dtype=np.int64)
    return orig.astype(float), (np.add.reduceat(column, head, dtype=np.int64) - orig).astype(float)


def _sides(
    of_src: np.ndarray, of_dst: np.ndarray, is_orig: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    return np.where(is_orig, of_src, of_dst), np.where(is_orig, of_dst, of_src)


def _texts(distinct: np.ndarray, codes: np.ndarray) -> pd.Series:
    return pd.Series(distinct, dtype="str").take(codes).reset_index(drop=True)


def _known(texts: np.ndarray) -> pd.Series:
    codes, distinct = pd.factorize(texts)
    named = pd.Series(distinct, dtype="str")
    return _texts(named.mask(named == "").to_numpy(), codes)


def _last_s(work: pd.DataFrame, head: np.ndarray) -> np.ndarray:
    """When each flow was last active, up to where both sides of a TCP connection have closed."""
    flow, is_orig, n = work["flow"].to_numpy(), work["is_orig"].to_numpy(), len(head)
    closing = work["flags"].to_numpy() & (FIN | RST) > 0
    sides = (first_per_group(closing & side, flow, n) for side in (is_orig, ~is_orig))
    closed = np.maximum(*sides)
    tail = np.append(head[1:], len(flow)) - 1
    return work["ts"].to_numpy()[np.minimum(tail, np.where(closed == NEVER, tail, closed))]


def _states(work: pd.DataFrame, proto: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    tcp = slice(int((work["proto"].to_numpy() == TCP).sum()))  # its flows come first
    flow, is_orig = work["flow"].to_numpy()[tcp], work["is_orig"].to_numpy()[tcp]
    states = name_states(work[["flags", "payload"]][tcp], flow, is_orig, len(proto))
    orig, resp = table["orig_pkts"].to_numpy() > 0, table["resp_pkts"].to_numpy() > 0
    udp = np.select([orig & resp, orig, resp], ["SF", "S0", "SHR"], "OTH")
    return np.select([proto == TCP, proto == UDP], [states, udp], "OTH")


def _histories(work: pd.DataFrame, segments: pd.DataFrame, head: np.ndarray) -> np.ndarray:
    proto = work["proto"].to_numpy()
    marked = work[["flow", "is_orig", "flags", "seq", "payload"]]
    marked = marked.assign(is_tcp=proto == TCP, is_udp=proto == UDP)
    return render_histories(marked, segments, work["flipped"].to_numpy()[head])


def _with_macs(table: pd.DataFrame, first: pd.DataFrame, packets: Packets) -> pd.DataFrame:
    row = first["row"].to_numpy()
    src, dst = (packets.table[name].to_numpy()[row] for name in ("src_mac", "dst_mac"))
    if not ((src >= 0) | (dst >= 0)).any():
        return table
    orig, resp = _sides(src, dst, first["is_orig"].to_numpy())
    for name, mac in (("orig_l2_addr", orig), ("resp_l2_addr", resp)):
        codes, distinct = pd.factorize(mac)
        texts = ["" if m < 0 else int(m).to_bytes(6, "big").hex(":") for m in distinct]
        table = table.assign(**{name: _known(np.array(texts, dtype=object)[codes])})
    return table


def _client_left_s(work: pd.DataFrame, n: int) -> np.ndarray:
    """When each client closed its side, shape (n,); infinite where it did not."""
    closing = (work["flags"].to_numpy() & FIN > 0) & work["is_orig"].to_numpy()
    closing &= work["proto"].to_numpy() == TCP
    first = first_per_group(closing, work["flow"].to_numpy(), n)
    left = first != NEVER
    return np.where(left, work["ts"].to_numpy()[np.where(left, first, 0)], np.inf)


def _make_activity(work: pd.DataFrame, number: np.ndarray) -> pd.DataFrame:
    flow, is_orig = work["flow"].to_numpy(), work["is_orig"].to_numpy()
    slot = np.floor(work["ts"].to_numpy() / SAMPLE_S).astype(np.int64)
    head = np.flatnonzero(starts_run(flow, slot))
    # A flow's slots follow each other; only the flows have to be put in order.
    flow, slot = number[flow[head]].astype(np.int64), slot[head]
    order = sort_numbers(flow, len(number))
    opens = is_orig & (work["flags"].to_numpy() & (SYN | ACK) == SYN)
    orig_pkts, resp_pkts = _sum_sides(np.ones(len(work), np.uint8), is_orig, head)
    orig_bytes, resp_bytes = _sum_sides(work["ip_bytes"].to_numpy(), is_orig, head)
    counts = [orig_pkts, resp_pkts, orig_bytes, resp_bytes, _sum_sides(opens, is_orig, head)[0]]
    columns = [flow[order], slot[order], *(count[order].astype(np.int64) for count in counts)]
    for side in (is_orig, ~is_orig):
        columns += [times[order] for times in _first_and_last(work["ts"].to_numpy(), side, head)]
    return pd.DataFrame(dict(zip(ACTIVITY_COLUMNS, columns, strict=True)), copy=False)


def _first_and_last(
    ts: np.ndarray, mine: np.ndarray, head: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """When the first and the last packet of one side passed, for runs that begin at ``head``; NaN
    where it sent none."""
    if not len(head):
        return np.zeros(0), np.zeros(0)
    seen = np.where(mine, ts, np.nan)
    return np.fmin.reduceat(seen, head), np.fmax.reduceat(seen, head)
