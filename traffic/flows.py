"""Packets become flows with Zeek's meaning, the slots each was active in, and the evidence beyond flows.

What differs from Zeek: checksums are not verified, a SYN-ACK that comes first always marks its sender as the responder,
fragments count as packets, and lost segments that only an acknowledgement betrays are not counted.
"""

import numpy as np
import pandas as pd

from traffic.capture import FLOW_COLUMNS, SAMPLE_S, Capture
from traffic.conversations import cut_flows
from traffic.evidence import make_evidence
from traffic.flow_history import render_histories
from traffic.layers import ICMP, ICMP6, TCP, UDP
from traffic.packets import Packets
from traffic.services import WIDTH, name_services
from traffic.tcp import ACK, FIN, NEVER, RST, SYN, first_per_group, name_states, read_segments

__all__ = ["make_flows"]

_PROTO_NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMP6: "icmp"}


def make_flows(packets: Packets) -> Capture:
    """Cut packets into flows.

    Args:
        packets: the packets of one capture, sorted by time.

    Returns:
        Flows sorted by ``ts`` (with ``orig_l2_addr resp_l2_addr`` where the capture has them), activity from the
        packets' own times, and evidence. Every IP packet is in exactly one flow and one slot.
    """
    work = cut_flows(packets.table)
    segments = _read_segments(work)
    flows = _make_table(work, segments, packets)
    # So far flows are numbered by conversation; from here on by the row of their first packet.
    first = work["row"].to_numpy()[first_per_group(np.ones(len(work), bool), work["flow"].to_numpy(), len(flows))]
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    flows = flows.iloc[order].reset_index(drop=True)
    flows.insert(1, "uid", "C" + pd.Series(np.arange(len(flows)) + 1).astype("str").str.zfill(8))
    activity = _make_activity(work, number)
    by_row = segments[["resent", "zero_window"]].assign(stream=work["flow"] * 2 + work["is_orig"])
    by_row = by_row.set_index(work["row"].to_numpy()).sort_index()
    return Capture(flows, activity, make_evidence(packets, by_row), packets.notes)


def _read_segments(work: pd.DataFrame) -> pd.DataFrame:
    """TCP's own counts for the packets that hold a TCP header; any other packet's payload is new."""
    tcp = np.flatnonzero(work["has_tcp"].to_numpy())
    stream = work["flow"].to_numpy()[tcp] * 2 + work["is_orig"].to_numpy()[tcp]
    read = read_segments(work.iloc[tcp], stream)
    n = len(work)
    out = {"grown_bytes": work["payload"].to_numpy().copy()}
    out |= {name: np.zeros(n, bool) for name in ("again", "resent", "zero_window")}
    for name, column in out.items():
        column[tcp] = read[name]
    return pd.DataFrame(out)


def _make_table(work: pd.DataFrame, segments: pd.DataFrame, packets: Packets) -> pd.DataFrame:
    """One row per flow, in the order of ``work``."""
    flow, is_orig, ts = (work[name].to_numpy() for name in ("flow", "is_orig", "ts"))
    n = int(flow[-1]) + 1 if len(flow) else 0
    head = first_per_group(np.ones(len(work), bool), flow, n)
    first = work.iloc[head]
    proto = first["proto"].to_numpy()
    src, dst = _sides(first["src"].to_numpy(), first["dst"].to_numpy(), first["is_orig"].to_numpy())
    sport, dport = _sides(first["sport"].to_numpy(), first["dport"].to_numpy(), first["is_orig"].to_numpy())
    table = pd.DataFrame({"ts": ts[head]})
    table["id.orig_h"], table["id.orig_p"] = _texts(packets.addresses, src), sport
    table["id.resp_h"], table["id.resp_p"] = _texts(packets.addresses, dst), dport
    table["proto"] = pd.Series(proto).map(_PROTO_NAMES).astype("str").fillna("unknown_transport")
    ip_bytes, payload, grown = (
        work["ip_bytes"].to_numpy(),
        work["payload"].to_numpy(),
        segments["grown_bytes"].to_numpy(),
    )
    table["missed_bytes"] = 0.0
    for name, here in (("orig", is_orig), ("resp", ~is_orig)):
        table[f"{name}_pkts"] = np.bincount(flow, here, n)
        table[f"{name}_ip_bytes"] = np.bincount(flow, here * ip_bytes, n)
        table[f"{name}_bytes"] = np.bincount(flow, here * grown, n)
        # A stream longer than all it carried has holes that nothing filled later.
        table["missed_bytes"] += np.maximum(table[f"{name}_bytes"] - np.bincount(flow, here * payload, n), 0)
    table["duration"] = _last_s(work, head) - ts[head]
    # Zeek tells neither duration nor bytes of a flow that lasted no time.
    table.loc[table["duration"] <= 0, ["duration", "orig_bytes", "resp_bytes"]] = np.nan
    table["conn_state"] = pd.Series(_states(work, proto, table), dtype="str")
    table["history"] = _known(_histories(work, segments, head))
    table["service"] = _known(_services(work, packets, proto, dport))
    return _with_macs(table[[name for name in FLOW_COLUMNS if name != "uid"]], first, packets)


def _sides(of_src: np.ndarray, of_dst: np.ndarray, is_orig: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(is_orig, of_src, of_dst), np.where(is_orig, of_dst, of_src)


def _texts(distinct: np.ndarray, codes: np.ndarray) -> pd.Series:
    return pd.Series(distinct, dtype="str").take(codes).reset_index(drop=True)


def _known(texts: np.ndarray) -> pd.Series:
    codes, distinct = pd.factorize(texts)
    named = pd.Series(distinct, dtype="str")
    return _texts(named.mask(named == "").to_numpy(), codes)


def _last_s(work: pd.DataFrame, head: np.ndarray) -> np.ndarray:
    """When each flow was last active; what follows after both sides of a TCP connection closed does not count."""
    flow, is_orig, n = work["flow"].to_numpy(), work["is_orig"].to_numpy(), len(head)
    closing = work["flags"].to_numpy() & (FIN | RST) > 0
    closed = np.maximum(first_per_group(closing & is_orig, flow, n), first_per_group(closing & ~is_orig, flow, n))
    tail = np.append(head[1:], len(flow)) - 1
    return work["ts"].to_numpy()[np.minimum(tail, np.where(closed == NEVER, tail, closed))]


def _states(work: pd.DataFrame, proto: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    rows = np.flatnonzero((work["proto"] == TCP).to_numpy())
    tcp = name_states(work.iloc[rows], work["flow"].to_numpy()[rows], work["is_orig"].to_numpy()[rows], len(proto))
    orig, resp = table["orig_pkts"].to_numpy() > 0, table["resp_pkts"].to_numpy() > 0
    udp = np.select([orig & resp, orig, resp], ["SF", "S0", "SHR"], "OTH")
    return np.select([proto == TCP, proto == UDP], [tcp, udp], "OTH")


def _histories(work: pd.DataFrame, segments: pd.DataFrame, head: np.ndarray) -> np.ndarray:
    proto = work["proto"].to_numpy()
    marked = work[["flow", "is_orig", "flags", "seq", "payload"]]
    marked = marked.assign(is_tcp=proto == TCP, is_udp=proto == UDP)
    return render_histories(marked, segments, work["flipped"].to_numpy()[head])


def _services(work: pd.DataFrame, packets: Packets, proto: np.ndarray, port: np.ndarray) -> np.ndarray:
    flow, is_orig, row = (work[name].to_numpy() for name in ("flow", "is_orig", "row"))
    speaks = (work["held"].to_numpy() > 0) & (proto[flow] != ICMP)
    heads, n = {}, len(proto)
    for side in (True, False):
        index = first_per_group(speaks & (is_orig == side), flow, n)
        heads[side] = np.zeros((n, WIDTH), np.uint8)
        spoken = np.flatnonzero(index < NEVER)
        heads[side][spoken] = packets.read_payload(row[index[spoken]], WIDTH)
    index = first_per_group(speaks, flow, n)
    most = np.where(index < NEVER, work["payload"].to_numpy()[np.minimum(index, len(work) - 1)], 0) if n else index
    return name_services(proto, port, heads[True], heads[False], most)


def _with_macs(table: pd.DataFrame, first: pd.DataFrame, packets: Packets) -> pd.DataFrame:
    row = first["row"].to_numpy()
    src, dst = (packets.table[name].to_numpy()[row] for name in ("src_mac", "dst_mac"))
    if not ((src >= 0) | (dst >= 0)).any():
        return table
    orig, resp = _sides(src, dst, first["is_orig"].to_numpy())
    for name, mac in (("orig_l2_addr", orig), ("resp_l2_addr", resp)):
        codes, distinct = pd.factorize(mac)
        texts = ["" if m < 0 else ":".join(f"{int(m):012x}"[i : i + 2] for i in range(0, 12, 2)) for m in distinct]
        table = table.assign(**{name: _known(np.array(texts, dtype=object)[codes])})
    return table


def _make_activity(work: pd.DataFrame, number: np.ndarray) -> pd.DataFrame:
    flow, is_orig = number[work["flow"].to_numpy()], work["is_orig"].to_numpy()
    slot = np.floor(work["ts"].to_numpy() / SAMPLE_S).astype(np.int64)
    head = np.flatnonzero((np.diff(flow, prepend=-1) != 0) | (np.diff(slot, prepend=-1) != 0))
    size, flags = work["ip_bytes"].to_numpy(), work["flags"].to_numpy()
    syns = is_orig & (flags & (SYN | ACK) == SYN)
    counts = {
        "orig_pkts": is_orig.astype(np.int64),
        "resp_pkts": (~is_orig).astype(np.int64),
        "orig_bytes": np.where(is_orig, size, 0),
        "resp_bytes": np.where(is_orig, 0, size),
        "orig_syns": syns.astype(np.int64),
    }
    activity = {"flow": flow[head], "slot": slot[head]}
    activity |= {name: np.add.reduceat(column, head) if len(head) else column for name, column in counts.items()}
    return pd.DataFrame(activity).sort_values(["flow", "slot"], ignore_index=True)
