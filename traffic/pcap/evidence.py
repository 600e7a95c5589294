"""Evidence beyond flows: what ARP, TCP, ICMP, DNS, Modbus and MQTT packets say of trouble.

Each kind is a table of events; events of one slot, pair and code become one row. ``src`` is always
who asked or sent.
"""

import numpy as np
import pandas as pd

from traffic.capture import EVIDENCE_COLUMNS, join_evidence
from traffic.pcap.events import make_events, number_names, tally_events
from traffic.pcap.headers import ICMP, ICMP6, TCP, UDP
from traffic.pcap.industrial import make_modbus, make_mqtt
from traffic.pcap.packets import Packets
from traffic.pcap.tcp import RST

_ARP_WAIT_S, _DNS_WAIT_S = 1.0, 5.0
# An address that moves to another machine (a spare part, a new lease) is no conflict once the old
# one is silent.
_CONFLICT_S = 300.0
_DNS_PORT, _NAME_BYTES = 53, 80
_UNSPECIFIED = "0.0.0.0"  # noqa: S104 (the sender of a probe, no interface to bind)


def make_evidence(packets: Packets, segments: pd.DataFrame) -> pd.DataFrame:
    """Count events per slot, pair of addresses, kind and code.

    Args:
        packets: the packets of one capture.
        segments: shape (n_packets, ...), rows as in ``packets.table``: ``resent zero_window
            stream``.

    Returns:
        Shape (n, 7), ``EVIDENCE_COLUMNS``, sorted by slot, src, dst, kind, code.
    """
    events = [
        *_make_arp(packets),
        *_make_tcp(packets.table, segments),
        _make_unreachable(packets.table),
        *_make_dns(packets),
        *make_modbus(packets, segments),
        *make_mqtt(packets, segments),
    ]
    if not any(len(table) for _, table in events):
        return join_evidence([])
    evidence = tally_events(events)
    names = pd.Series(packets.addresses, dtype="str")
    for side in ("src", "dst"):
        evidence[side] = names.take(evidence[side].to_numpy()).reset_index(drop=True)
    return evidence.sort_values(EVIDENCE_COLUMNS[:5], ignore_index=True)[EVIDENCE_COLUMNS]


def _make_arp(packets: Packets) -> list[tuple[str, pd.DataFrame]]:
    arp = packets.arp
    probe = arp["sender"].isin(np.flatnonzero(packets.addresses == _UNSPECIFIED))
    # Who asks for its own address announces it.
    asked = arp[(arp["op"] == 1) & (arp["sender"] != arp["target"])].rename(
        columns={"sender": "src", "target": "dst"}
    )
    replies = arp[arp["op"] == 2].rename(columns={"sender": "dst", "target": "src"})
    # Silence is the good answer to a probe, which asks whether an address is free.
    silent = _unanswered(
        asked[~probe[asked.index]], replies, ["src", "dst"], _ARP_WAIT_S, packets.end_s
    )
    claims = arp[~probe]
    return [
        ("arp_request", make_events(asked)),
        ("arp_unanswered", make_events(silent)),
        ("arp_conflict", _make_conflicts(claims)),
    ]


def _make_conflicts(claims: pd.DataFrame) -> pd.DataFrame:
    """Claims of an address within minutes of another machine's claim of it."""
    claims = claims.sort_values("sender", kind="stable")
    address, mac, ts = (claims[name].to_numpy() for name in ("sender", "mac", "ts"))
    index = np.arange(len(claims))
    new_address = np.diff(address, prepend=-1) != 0
    run = np.maximum.accumulate(np.where(new_address | (np.diff(mac, prepend=-1) != 0), index, 0))
    rival = np.where(new_address[run], -1, run - 1)
    conflict = (rival >= 0) & (ts - ts[rival] <= _CONFLICT_S)
    machines = claims.groupby("sender")["mac"].nunique()
    both = dict.fromkeys(("src", "dst"), address[conflict])
    return make_events(
        claims[conflict].assign(**both, distinct=machines.reindex(address[conflict]).to_numpy())
    )


def _unanswered(
    asked: pd.DataFrame, replies: pd.DataFrame, keys: list[str], wait_s: float, end_s: float
) -> pd.DataFrame:
    """Requests without a reply of the same keys within ``wait_s``; those the capture's end cuts
    short do not count."""
    replies = replies[["ts", *keys]].assign(reply=True)
    joined = pd.merge_asof(asked, replies, on="ts", by=keys, direction="forward", tolerance=wait_s)  # type: ignore[arg-type]
    return joined[joined["reply"].isna() & (joined["ts"] + wait_s <= end_s)]


def _make_tcp(table: pd.DataFrame, segments: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    marks = {
        "retransmission": segments["resent"].to_numpy(),
        "zero_window": segments["zero_window"].to_numpy(),
        "reset": table["flags"].to_numpy() & RST > 0,
    }
    ends = table[["ts", "src", "dst"]]
    return [(kind, make_events(ends.iloc[np.flatnonzero(mark)])) for kind, mark in marks.items()]


def _make_unreachable(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    proto, kind = table["proto"].to_numpy(), table["sport"].to_numpy()
    told = np.flatnonzero(((proto == ICMP) & (kind == 3)) | ((proto == ICMP6) & (kind == 1)))
    return "unreachable", make_events(
        table[["ts", "src", "dst", "dport"]].iloc[told].rename(columns={"dport": "code"})
    )


def _make_dns(packets: Packets) -> list[tuple[str, pd.DataFrame]]:
    table = packets.table
    proto, dport, sport = (table[name].to_numpy() for name in ("proto", "dport", "sport"))
    rows = np.flatnonzero((dport == _DNS_PORT) | (sport == _DNS_PORT))
    # Over TCP two bytes of length come first (RFC 1035, 4.2.2).
    length = np.where(proto[rows] == TCP, 2, 0)
    spoken = np.isin(proto[rows], (TCP, UDP)) & (table["held"].to_numpy()[rows] >= 12 + length)
    rows, length = rows[spoken], length[spoken]
    head = packets.read_payload(rows, 4, length).astype(np.int64)
    found = table[["ts", "src", "dst", "sport", "dport"]].iloc[rows]
    names = number_names(packets.read_payload(rows, _NAME_BYTES, length + 12))
    found = found.assign(ident=head[:, 0] << 8 | head[:, 1], code=head[:, 3] & 15, target=names)
    answer = head[:, 2] >= 128
    asks = found[~answer & (found["dport"] == _DNS_PORT) & (head[:, 2] >> 3 & 15 == 0)].rename(
        columns={"sport": "port"}
    )
    swap = {"src": "dst", "dst": "src", "dport": "port"}
    answers = found[answer & (found["sport"] == _DNS_PORT)].rename(columns=swap)
    asks = asks.assign(code=-1)
    silent = _unanswered(asks, answers, ["src", "dst", "port", "ident"], _DNS_WAIT_S, packets.end_s)
    failed = pd.concat([make_events(silent), make_events(answers[answers["code"] > 0])])
    return [("dns_query", make_events(asks)), ("dns_failed", failed)]
