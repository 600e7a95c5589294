"""Evidence beyond flows: what ARP, TCP, ICMP and application protocols say of trouble.

Each kind is a table of events; events of one slot, pair and code become one row. ``src`` is always
who asked or sent.
"""

import numpy as np
import pandas as pd

from traffic.arrays import number_groups
from traffic.capture import END_PROBE, EVIDENCE_COLUMNS, SAMPLE_S, join_evidence
from traffic.pcap.headers import ICMP, ICMP6
from traffic.pcap.packets import Packets
from traffic.pcap.protocols.protocol import Events, make_events
from traffic.pcap.tcp import RST

_ARP_WAIT_S = 1.0
# An address that moves to another machine (a spare part, a new lease) is no conflict once the old
# one is silent.
_CONFLICT_S = 300.0
# Whom an address belonged to first goes on to claim it when the other has left.
_CONTESTED_S = 30.0
_UNSPECIFIED = "0.0.0.0"  # noqa: S104 (the sender of a probe, no interface to bind)
_KEYS = EVIDENCE_COLUMNS[:5]


def make_evidence(packets: Packets, segments: pd.DataFrame, spoken: Events) -> pd.DataFrame:
    """Count events per slot, pair of addresses, kind and code.

    Args:
        packets: the packets of one capture.
        segments: shape (n_packets, ...), rows as in ``packets.table``: ``resent zero_window
            end_probe stall``.
        spoken: evidence of application protocols by kind.

    Returns:
        Shape (n, 9), ``EVIDENCE_COLUMNS``, sorted by slot, src, dst, kind, code.
    """
    events = _find_arp(packets) | _find_tcp(packets.table, segments)
    events["unreachable"] = _find_unreachable(packets.table)
    return count_evidence(events | spoken, packets.addresses)


def count_evidence(events: Events, addresses: np.ndarray) -> pd.DataFrame:
    """Events by kind as evidence, sorted by slot, src, dst, kind, code.

    Args:
        events: their sides are rows of ``addresses``.
        addresses: shape (n_addresses,), object.
    """
    if not any(len(table) for table in events.values()):
        return join_evidence([])
    evidence = _count_events(events)
    names = pd.Series(addresses, dtype="str")
    for side in ("src", "dst"):
        evidence[side] = names.take(evidence[side].to_numpy()).reset_index(drop=True)
    return evidence.sort_values(_KEYS, ignore_index=True)[EVIDENCE_COLUMNS]


def _count_events(events: Events) -> pd.DataFrame:
    """One row per ``slot src dst kind code``: ``count`` events with ``distinct`` targets, the first
    and the last moment; sides are numbers of addresses."""
    kinds = sorted(events)
    tables = [events[kind].assign(kind=code) for code, kind in enumerate(kinds)]
    rows = pd.concat([table for table in tables if len(table)], ignore_index=True)
    rows["slot"] = np.floor(rows["ts"] / SAMPLE_S).astype(np.int64)
    group, first = number_groups(*(rows[name].to_numpy() for name in _KEYS))
    counted = rows[_KEYS].iloc[first].astype("int64").reset_index(drop=True)
    counted["count"] = np.bincount(group)
    moments = rows["ts"].groupby(group)
    counted["first_s"], counted["last_s"] = moments.min().to_numpy(), moments.max().to_numpy()
    aimed = np.flatnonzero(rows["target"] >= 0)
    once = aimed[number_groups(group[aimed], rows["target"].to_numpy()[aimed])[1]]
    known = np.full(len(first), -1)
    np.maximum.at(known, group, rows["distinct"].to_numpy())
    targets = np.bincount(group[once], minlength=len(first))
    counted["distinct"] = np.where(known >= 0, known, targets)
    counted["kind"] = pd.Series(kinds, dtype="str").take(counted["kind"].to_numpy()).to_numpy()
    return counted.astype({"kind": "str"})


def _find_arp(packets: Packets) -> Events:
    arp = packets.arp
    probe = arp["sender"].isin(np.flatnonzero(packets.addresses == _UNSPECIFIED))
    # Who asks for its own address announces it.
    requests = arp[(arp["op"] == 1) & (arp["sender"] != arp["target"])]
    requests = requests.rename(columns={"sender": "src", "target": "dst"})
    # Silence is the good answer to a probe, which asks whether an address is free.
    real = requests[~probe[requests.index]]
    silent = real[~answer_asks(real, arp, packets.end_s)]
    return {
        "arp_request": make_events(requests),
        "arp_unanswered": make_events(silent),
        "arp_conflict": _find_conflicts(arp[~probe]),
    }


def answer_asks(requests: pd.DataFrame, arp: pd.DataFrame, end_s: float) -> np.ndarray:
    """Whether ARP requests got a reply in time, or the capture ends before that; shape (n,), bool.

    Args:
        requests: ``ts src dst``, sorted by ``ts``; ``src`` asked for ``dst``.
        arp: ``Packets.arp``, with the replies.
        end_s: the capture's last moment.
    """
    replies = arp[arp["op"] == 2].rename(columns={"sender": "dst", "target": "src"})
    joined = pd.merge_asof(
        requests[["ts", "src", "dst"]],
        replies[["ts", "src", "dst"]].assign(reply=True),
        on="ts",
        by=["src", "dst"],
        direction="forward",
        tolerance=_ARP_WAIT_S,  # type: ignore[arg-type]
    )
    return (joined["reply"].notna() | (joined["ts"] + _ARP_WAIT_S > end_s)).to_numpy()


def _find_conflicts(claims: pd.DataFrame) -> pd.DataFrame:
    """Claims of an address within minutes of another machine's claim of it.

    ``src`` is the claiming machine by the one address that is its own beyond dispute; where it has
    none it is the claimed address itself.
    """
    claims = claims.sort_values("sender", kind="stable")
    address, mac, ts = (claims[name].to_numpy() for name in ("sender", "mac", "ts"))
    index = np.arange(len(claims))
    new_address = np.diff(address, prepend=-1) != 0
    run = np.maximum.accumulate(np.where(new_address | (np.diff(mac, prepend=-1) != 0), index, 0))
    rival = np.where(new_address[run], -1, run - 1)
    owner = mac[np.maximum.accumulate(np.where(new_address, index, 0))]
    within_s = np.where(mac == owner, _CONTESTED_S, _CONFLICT_S)
    conflict = (rival >= 0) & (ts - ts[rival] <= within_s)
    machines = claims.groupby("sender")["mac"].nunique()
    undisputed = claims.loc[~np.isin(address, address[conflict]), ["mac", "sender"]]
    own = undisputed.drop_duplicates().drop_duplicates("mac", keep=False).set_index("mac")["sender"]
    claimed = address[conflict]
    claimants = own.reindex(mac[conflict]).to_numpy()
    return make_events(
        claims[conflict].assign(
            src=np.where(np.isnan(claimants), claimed, claimants).astype(np.int64),
            dst=claimed,
            distinct=machines.reindex(claimed).to_numpy(),
        )
    )


def _find_tcp(table: pd.DataFrame, segments: pd.DataFrame) -> Events:
    marks = {
        "retransmission": segments["resent"].to_numpy(),
        "zero_window": segments["zero_window"].to_numpy(),
        "reset": table["flags"].to_numpy() & RST > 0,
    }
    ends = table[["ts", "src", "dst"]]
    found = {kind: ends.iloc[np.flatnonzero(mark)] for kind, mark in marks.items()}
    probes = segments["end_probe"].to_numpy()[marks["retransmission"]]
    resent = found["retransmission"]
    found["retransmission"] = resent.assign(code=np.where(probes, END_PROBE, -1))
    stalls = segments["stall"][segments["stall"] >= 0]
    begins = stalls.where(~stalls.duplicated(), -1)  # so that each is counted where it begins
    found["stall"] = ends.iloc[stalls.index].assign(target=begins.to_numpy())
    return {kind: make_events(rows) for kind, rows in found.items()}


def _find_unreachable(table: pd.DataFrame) -> pd.DataFrame:
    """ICMP destination unreachable, with its code: type 3, in ICMPv6 type 1 (RFC 792, RFC 4443)."""
    proto, kind = table["proto"].to_numpy(), table["sport"].to_numpy()
    rows = np.flatnonzero(((proto == ICMP) & (kind == 3)) | ((proto == ICMP6) & (kind == 1)))
    found = table[["ts", "src", "dst", "dport"]].iloc[rows]
    return make_events(found.rename(columns={"dport": "code"}))
