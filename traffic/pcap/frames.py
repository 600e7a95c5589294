"""Frames of protocols that need no IP, as packets and flows whose ends are MACs.

So their messages are read, paired and told as those of any other protocol.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from traffic.arrays import starts_run
from traffic.pcap.exchanges import Content, read_content
from traffic.pcap.packets import Packets
from traffic.pcap.protocols import PROTOCOLS
from traffic.pcap.protocols.protocol import ETHERNET
from traffic.pcap.services import read_services

_LONGEST = 1500
_COPY_S = 0.001


@dataclass(frozen=True)
class Frames:
    """Frames that are read, and what they say.

    Attributes:
        packets: a packet per frame; addresses are MACs, ports are the ethertype.
        content: what their messages say; a flow is all that one MAC sends to another.
        services: shape (n_flows,), object: what each flow speaks, "" where unknown.
        copies: frames that a mirror port delivered once more, which were left out.
        unread: rows of ``Packets.others`` that no protocol understood.
    """

    packets: Packets
    content: Content
    services: np.ndarray
    copies: int
    unread: pd.DataFrame


def read_frames(packets: Packets) -> Frames:
    """Read the content of frames that are neither IP nor ARP, where a protocol knows their
    ethertype."""
    ethertypes = [port for one in PROTOCOLS if ETHERNET in one.transports for port in one.ports]
    others = packets.others[packets.others["ethertype"].isin(ethertypes)]
    others = others[(others["src_mac"] >= 0) & (others["held"] > 0)]
    view = _view(packets, others)
    copies = _find_copies(view)
    view = replace(view, table=view.table[~copies].reset_index(drop=True))
    work = _cut(view.table)
    first = work[starts_run(work["flow"].to_numpy())]
    services = read_services(work, view, first["proto"].to_numpy(), first["dport"].to_numpy())
    flows = pd.DataFrame(
        {
            "service": services,
            "transport": ETHERNET,
            "server_port": first["dport"].to_numpy(),
            "begun": False,
            "two_way": True,
            "left_s": np.inf,  # frames know no end of a connection
        }
    )
    content = read_content(view, work, flows)
    # A known ethertype is not enough: what says nothing to its protocol was not read.
    tables = (content.exchanges, content.identities)
    told = [part[name] for part in tables for name in ("row", "answer_row") if name in part]
    rows = np.concatenate([*told, [-1]]).astype(np.int64)
    understood = others.index[~copies][np.unique(rows[rows >= 0])]
    unread = packets.others.drop(index=understood.union(others.index[copies]))
    return Frames(view, content, services, int(copies.sum()), unread)


def _view(packets: Packets, others: pd.DataFrame) -> Packets:
    """Frames as a table of packets."""
    n = len(others)
    codes, macs = pd.factorize(np.concatenate([others["src_mac"], others["dst_mac"]]))
    table = others[["ts", "file", "frame", "held", "src_mac", "dst_mac"]].reset_index(drop=True)
    ethertype = others["ethertype"].to_numpy()
    # A frame does not tell its length: what was captured stands for it.
    table = table.assign(
        src=codes[:n], dst=codes[n:], proto=ETHERNET, sport=ethertype, dport=ethertype,
        payload=table["held"], payload_at=others["at"].to_numpy(),
    )  # fmt: skip
    texts = np.array([int(mac).to_bytes(6, "big").hex(":") for mac in macs], dtype=object)
    return replace(packets, table=table, addresses=texts)


def _find_copies(view: Packets) -> np.ndarray:
    """Which frames are the same as one a millisecond or less before, shape (n,), bool."""
    table = view.table
    order = np.lexsort((table["ts"], *(table[name] for name in ("held", "sport", "dst", "src"))))
    like = ~starts_run(*(table[name].to_numpy()[order] for name in ("src", "dst", "sport", "held")))
    soon = np.diff(table["ts"].to_numpy()[order], prepend=0) <= _COPY_S
    place = np.flatnonzero(like & soon)
    frames = (view.read_payload(order[place - back], _LONGEST) for back in (0, 1))
    same = np.equal(*frames).all(axis=1)
    copies = np.zeros(len(table), bool)
    copies[order[place[same]]] = True
    return copies


def _cut(table: pd.DataFrame) -> pd.DataFrame:
    """Packets by flow, as ``traffic.pcap.flows.cut_flows`` gives them."""
    order = np.lexsort((table["sport"], table["dst"], table["src"]))
    names = ["src", "dst", "sport", "dport", "proto", "payload", "held"]
    work = table[names].iloc[order].reset_index(drop=True)
    starts = starts_run(*(work[name].to_numpy() for name in ("src", "dst", "sport")))
    flow = np.cumsum(starts) - 1
    return work.assign(row=order, flow=flow, is_orig=True, seq=0, has_tcp=False)
