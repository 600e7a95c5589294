"""Pieces of a capture, each of whole conversations, put together as the capture.

Whatever belongs to one conversation, or to one pair of addresses, is the same in a piece as in the
whole. What does not (numbers of flows, who owns a MAC, what the sensor saw of a device) is made
here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.capture import EVIDENCE_COLUMNS, Capture, join_evidence
from traffic.conversations import SESSION_COLUMNS, empty_sessions
from traffic.delays import DELAY_COLUMNS
from traffic.pcap.exchanges import join_exchanges
from traffic.pcap.identities import Said, name_identities
from traffic.pcap.protocols import PROTOCOLS
from traffic.pcap.protocols.unread import note_unread
from traffic.pcap.sensor import Seen, make_quality
from traffic.transfers import join_transfers

_TABLES = (
    "flows", "activity", "evidence", "delays", "sessions", "exchanges", "transfers", "first",
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """What packets of whole conversations tell.

    Attributes:
        flows: as in ``Capture``, without ``uid``.
        first: ``file frame`` of the first packet of each flow.
        activity, evidence, sessions, exchanges, transfers: as in ``Capture``, with flows as numbered here.
        delays: as in ``Capture``, with addresses by number.
        said: what devices say of themselves.
        seen: what the sensor saw.
        frame_copies: frames without IP that were left out as copies.
    """

    flows: pd.DataFrame
    first: pd.DataFrame
    activity: pd.DataFrame
    evidence: pd.DataFrame
    delays: pd.DataFrame
    sessions: pd.DataFrame
    exchanges: pd.DataFrame
    transfers: pd.DataFrame
    said: Said
    seen: Seen
    frame_copies: int


def join_pieces(
    pieces: list[Piece],
    asks: pd.DataFrame,
    addresses: np.ndarray,
    envelopes: pd.DataFrame,
    holes: pd.DataFrame,
    notes: Sequence[str],
) -> Capture:
    """The capture that pieces are of.

    Args:
        pieces: one at least; emptied, so that no table is in memory twice.
        asks: evidence that belongs to no pair of addresses alone, of ``traffic.pcap.asks``.
        addresses: shape (n_addresses,), object, of all of them.
        envelopes, holes: as ``Quality`` has them.
        notes: of reading the packets.
    """
    said, seen = [piece.said for piece in pieces], [piece.seen for piece in pieces]
    copies = sum(piece.frame_copies for piece in pieces)
    quality = make_quality(seen, addresses, envelopes, holes)
    tables = {name: [getattr(piece, name) for piece in pieces] for name in _TABLES}
    pieces.clear()
    del seen
    numbers = _number_flows(tables["flows"], tables.pop("first"))
    flows = _join(tables.pop("flows"), np.argsort(np.concatenate(numbers)))
    flows.insert(1, "uid", "C" + pd.Series(np.arange(len(flows)) + 1).astype("str").str.zfill(8))
    for name in ("activity", "sessions", "exchanges", "transfers"):
        for table, number in zip(tables[name], numbers, strict=True):
            flow = table["flow"].to_numpy()
            # Of what has no flow the number stays: -1.
            table["flow"] = np.append(number, -1)[flow].astype(flow.dtype)
    activity, sessions = tables.pop("activity"), [t for t in tables.pop("sessions") if len(t)]
    said_notes = [*quality.notes, *note_unread(flows["service"], PROTOCOLS)]
    if copies:
        said_notes.append(f"{copies} frames without IP are copies and were left out")
    return Capture(
        flows=flows,
        activity=_join(activity, _order(activity, "flow")),
        evidence=_join_evidence([*tables.pop("evidence"), asks]),
        delays=_join_delays(tables.pop("delays"), addresses),
        sessions=_join(sessions, _order(sessions, "flow"))[SESSION_COLUMNS]
        if sessions
        else empty_sessions(),
        exchanges=join_exchanges(*tables.pop("exchanges")),
        transfers=join_transfers(*tables.pop("transfers")),
        identities=name_identities(said, flows),
        notes=(*notes, *said_notes),
        quality=quality,
    )


def _number_flows(flows: list[pd.DataFrame], first: list[pd.DataFrame]) -> list[np.ndarray]:
    """The number of each flow in the capture: by its first packet."""
    size = [len(table) for table in flows]
    if len(flows) == 1:
        return [np.arange(size[0], dtype=np.int32)]
    frame, file = (
        np.concatenate([table[name].to_numpy() for table in first]) for name in ("frame", "file")
    )
    ts = np.concatenate([table["ts"].to_numpy() for table in flows])
    order = np.lexsort((frame, file, ts))
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order))
    return np.split(number, np.cumsum(size)[:-1])


def _order(tables: list[pd.DataFrame], name: str) -> np.ndarray:
    return np.argsort(np.concatenate([table[name].to_numpy() for table in tables]), kind="stable")


def _join(tables: list[pd.DataFrame], order: np.ndarray) -> pd.DataFrame:
    """Tables as one, in an order of its rows; column by column, each old one let go."""
    if len(tables) == 1 and (np.diff(order) == 1).all():
        return tables[0]
    names = list(dict.fromkeys(name for table in tables for name in table))
    columns = {}
    for name in names:
        parts = [
            table.pop(name) if name in table else pd.Series(np.nan, table.index, dtype="str")
            for table in tables
        ]
        whole = pd.concat(parts, ignore_index=True)
        del parts
        columns[name] = whole.take(order).reset_index(drop=True)
    return pd.DataFrame(columns, copy=False)


def _join_evidence(parts: list[pd.DataFrame]) -> pd.DataFrame:
    parts = [part for part in parts if len(part)] or parts
    if len(parts) == 1:
        return parts[0]
    return join_evidence(parts).sort_values(EVIDENCE_COLUMNS[:5], ignore_index=True)


def _join_delays(parts: list[pd.DataFrame], addresses: np.ndarray) -> pd.DataFrame:
    """Each pair lies in one piece, so that nothing has to be added up."""
    rows = pd.concat(parts, ignore_index=True).sort_values(DELAY_COLUMNS[:-1], ignore_index=True)
    ends = {end: pd.Categorical.from_codes(rows[end], addresses) for end in ("src", "dst")}
    return rows.assign(**ends)
