"""Who had sent nothing for seconds and then asked the whole network for an address anew.

    X ─ data ─ data ─      link down      ─ ARP "who has Y?" to all ─ Y answers ─ data ─ data

A machine that loses its link forgets whom it knew (Linux, Windows and lwIP empty their ARP tables), so
the first thing that it says afterwards is such a question. One that only doubts an entry asks the
station itself first (RFC 1122, 2.3.2.1), and who hears nothing asks again within seconds.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from traffic.pcap.evidence import answer_asks, count_evidence
from traffic.pcap.protocols.protocol import make_events

SILENT_S = 2.0
_ANEW_S = 6.0  # since it last asked for the same address: five of a doubtful entry, one of a try


def find_asks(
    arp: pd.DataFrame, tables: Iterable[pd.DataFrame], addresses: np.ndarray, end_s: float
) -> pd.DataFrame:
    """Evidence of the kind ``asked_anew``: requests to all stations, answered, by who had neither asked
    for that address nor sent an IP packet just before.

    Args:
        arp: ``Packets.arp`` of a capture.
        tables: of its packets, ``ts src`` sorted by ``ts``; together all of them.
        addresses: of the capture.
        end_s: its last moment.
    """
    asks = arp.loc[arp["op"] == 1, ["ts", "sender", "target", "to_all"]]
    asks = asks.rename(columns={"sender": "src", "target": "dst"})
    since_s = asks.groupby(["src", "dst"])["ts"].diff()
    asks = asks[asks["to_all"] & ~(since_s <= _ANEW_S) & (asks["src"] != asks["dst"])]
    asks = asks[answer_asks(asks, arp, end_s)]
    spoke = np.zeros(len(asks), bool)
    for table in tables:
        spoke |= _spoke_before(asks, table)
    return count_evidence({"asked_anew": make_events(asks[~spoke])}, addresses)


def _spoke_before(asks: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """Whether each asker sent one of some packets shortly before, shape (n_asks,), bool."""
    mine = table.loc[table["src"].isin(asks["src"]), ["ts", "src"]].assign(spoke=True)
    joined = pd.merge_asof(
        asks[["ts", "src"]],
        mine.astype({"src": asks["src"].dtype}),
        on="ts",
        by="src",
        tolerance=SILENT_S,  # type: ignore[arg-type]
        allow_exact_matches=False,
    )
    return joined["spoke"].notna().to_numpy()
