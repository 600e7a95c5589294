"""What conn.log's own columns tell beyond flows: trouble in TCP, hosts that cannot be reached, names that fail.

Letters of ``history``: https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html (Conn::Info).
"""

import numpy as np
import pandas as pd

from traffic.capture import SAMPLE_S, join_evidence, spread

__all__ = ["flow_evidence"]

_DNS_PORT = 53
_ID = ("id.orig_h", "id.resp_h")


def flow_evidence(flows: pd.DataFrame, with_dns: bool) -> pd.DataFrame:
    """Evidence that conn.log's own columns hold.

    ``T`` and ``W`` stand once for 1, again for 10, again for 100 events: n letters mean at least 10^(n-1). They are
    spread over the flow like packets are. ``R`` stands for each reset, at the flow's end.

    Args:
        flows: shape (n_flows, ...), Zeek's names.
        with_dns: whether to read queries from flows to port 53, where there is no dns.log.

    Returns:
        Evidence, ``EVIDENCE_COLUMNS``.
    """
    code, histories = pd.factorize(flows["history"].fillna(""))
    history = pd.Series(histories, dtype="str")
    parts = []
    for upper, kind in (("T", "retransmission"), ("W", "zero_window"), ("R", "reset")):
        for letter, src, dst in ((upper, *_ID), (upper.lower(), *_ID[::-1])):
            letters = history.str.count(letter).to_numpy(int)[code]
            some = np.flatnonzero(letters)
            if not len(some):
                continue
            counts = letters[some] if kind == "reset" else 10 ** (letters[some] - 1)
            parts.append(_events(flows.iloc[some], counts, src, dst, kind, at_end=kind == "reset"))
    parts += _unreachable(flows)
    if with_dns:
        parts += _dns_flows(flows)
    return join_evidence(parts)


def _events(
    flows: pd.DataFrame, counts: np.ndarray, src: str, dst: str, kind: str, code: object = -1, at_end: bool = False
) -> pd.DataFrame:
    """Place ``counts`` events of each flow in time: at its end, or evenly from its start."""
    flows = flows.reset_index(drop=True)
    if at_end:
        end = flows["ts"] + flows["duration"].fillna(0.0)
        flow, slot, count = np.arange(len(flows)), np.floor(end.to_numpy() / SAMPLE_S).astype("int64"), counts
    else:
        placed = spread(flows.assign(orig_pkts=counts.astype(float), resp_pkts=0.0, history=""))
        placed = placed[placed["orig_pkts"] > 0]
        flow, slot, count = (placed[column].to_numpy() for column in ("flow", "slot", "orig_pkts"))
    codes = np.broadcast_to(np.asarray(code, dtype="int64"), len(flows))[flow]
    ends = {"src": flows[src].take(flow).array, "dst": flows[dst].take(flow).array}
    return pd.DataFrame({"slot": slot, **ends, "kind": kind, "code": codes, "count": count, "distinct": 0})


def _unreachable(flows: pd.DataFrame) -> list[pd.DataFrame]:
    """ICMP destination unreachable: type 3, in ICMPv6 type 1 (RFC 792, RFC 4443); Zeek puts the type in id.orig_p."""
    icmp = np.flatnonzero((flows["proto"] == "icmp").to_numpy())
    rows = flows.iloc[icmp]
    v6 = rows["id.orig_h"].str.contains(":", regex=False).to_numpy(bool)
    rows = rows[rows["id.orig_p"].to_numpy() == np.where(v6, 1, 3)]
    if rows.empty:
        return []
    counts = rows["orig_pkts"].fillna(1.0).clip(lower=1.0).to_numpy()
    return [_events(rows, counts, *_ID, "unreachable", code=rows["id.resp_p"].to_numpy())]


def _dns_flows(flows: pd.DataFrame) -> list[pd.DataFrame]:
    """Each packet to port 53 is a query; where nothing came back, each of them failed."""
    rows = flows[((flows["proto"] == "udp") & (flows["id.resp_p"] == _DNS_PORT)).to_numpy()]
    if rows.empty:
        return []
    silent = rows[(rows["resp_pkts"].fillna(0.0) == 0).to_numpy()]
    parts = []
    for asked, kind in ((rows, "dns_query"), (silent, "dns_failed")):
        if len(asked):
            parts.append(_events(asked, asked["orig_pkts"].fillna(1.0).clip(lower=1.0).to_numpy(), *_ID, kind))
    return parts
