"""The form of a protocol: how it is recognised, what its codes mean, which events its messages are.

An event is a row ``ts src dst code target distinct``; ``src`` is always who asked or sent. Events of
one slot, pair and code become one row of evidence (``traffic.pcap.evidence``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np
import pandas as pd

from traffic.pcap.packets import Packets

HEAD_BYTES = 12  # of the first payloads of a flow, by which its protocol is recognised


@dataclass(frozen=True)
class Heads:
    """The beginnings of flows.

    Attributes:
        transport: shape (n,), IANA number.
        orig, resp: shape (n, HEAD_BYTES), uint8, the first payload of each side, 0 where it sent
            none.
        payload: shape (n,), bytes of the first payload of either side.
    """

    transport: np.ndarray
    orig: np.ndarray
    resp: np.ndarray
    payload: np.ndarray

    def take(self, rows: np.ndarray) -> "Heads":
        """Some of the flows."""
        return Heads(*(getattr(self, column.name)[rows] for column in fields(self)))

    @property
    def first(self) -> np.ndarray:
        """The originator's first payload, or the responder's where it sent none."""
        return np.where(np.any(self.orig, axis=1, keepdims=True), self.orig, self.resp)


Fits = Callable[[Heads], np.ndarray]
Events = dict[str, pd.DataFrame]


def _find_nothing(packets: Packets, segments: pd.DataFrame) -> Events:  # noqa: ARG001
    return {}


@dataclass(frozen=True)
class Protocol:
    """One protocol; by the defaults it is recognised and not read.

    Attributes:
        name: as in conn.log's ``service``.
        transports: IANA numbers.
        ports: where its servers listen; empty: anywhere.
        fits: which beginnings of flows between such ports look like it, shape (n,). A port alone
            names no protocol.
        codes: each kind of evidence it gives, with the words for its codes.
        find_events: events by kind, in the packets of a capture and what TCP says of each
            (``segments``, rows as in ``Packets.table``: ``resent stream``).
    """

    name: str
    transports: tuple[int, ...]
    ports: tuple[int, ...]
    fits: Fits
    codes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    find_events: Callable[[Packets, pd.DataFrame], Events] = _find_nothing


def starts_with(*starts: bytes, at: int = 0, side: Literal["orig", "resp"] = "orig") -> Fits:
    """Whether the first payload of a side holds one of ``starts`` from byte ``at`` on."""

    def fits(heads: Heads) -> np.ndarray:
        payload = getattr(heads, side)
        found = np.zeros(len(payload), bool)
        for start in starts:
            here = payload[:, at : at + len(start)] == np.frombuffer(start, np.uint8)
            found |= here.all(axis=1)
        return found

    return fits


def payload_rows(packets: Packets, segments: pd.DataFrame, ports: tuple[int, ...]) -> np.ndarray:
    """Rows of TCP segments with payload to or from some ports, each segment once."""
    table = packets.table
    here = np.isin(table["dport"].to_numpy(), ports) | np.isin(table["sport"].to_numpy(), ports)
    rows = np.flatnonzero(here & table["has_tcp"].to_numpy() & ~segments["resent"].to_numpy())
    return rows[table["payload"].to_numpy()[rows] > 0]


def find_unanswered(
    requests: pd.DataFrame, replies: pd.DataFrame, keys: list[str], wait_s: float, end_s: float
) -> pd.DataFrame:
    """Requests without a reply of the same keys within ``wait_s``, where the capture lasts so
    long."""
    replies = replies[["ts", *keys]].assign(reply=True)
    joined = pd.merge_asof(
        requests,
        replies,
        on="ts",
        by=keys,
        direction="forward",
        tolerance=wait_s,  # type: ignore[arg-type]
    )
    return joined[joined["reply"].isna() & (joined["ts"] + wait_s <= end_s)]


def make_events(rows: pd.DataFrame) -> pd.DataFrame:
    """Events as ``ts src dst code target distinct``.

    ``code`` and ``target`` (what was asked for) are -1 where there is none, ``distinct`` where it
    is to be counted.
    """
    events = {name: rows[name].to_numpy() for name in ("ts", "src", "dst")}
    for name in ("code", "target", "distinct"):
        events[name] = rows[name].to_numpy() if name in rows else np.full(len(rows), -1)
    return pd.DataFrame(events)


def number_names(texts: np.ndarray) -> np.ndarray:
    """Equal numbers for equal names.

    Args:
        texts: shape (n, width), uint8; a name ends at its first 0, and capitals equal small
            letters.

    Returns:
        Shape (n,), int64.
    """
    ended = np.cumsum(texts == 0, axis=1) > 0
    capital = (texts >= ord("A")) & (texts <= ord("Z"))
    texts = np.where(ended, 0, texts + 32 * capital.astype(np.uint8)).astype(np.uint8)
    names = np.ascontiguousarray(texts).view(f"S{texts.shape[1]}").ravel()
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
