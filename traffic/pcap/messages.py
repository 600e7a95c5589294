"""Cut the payload of packets into the messages of an application protocol.

A message of a stream may begin and end anywhere in a segment, so where a segment's first message
begins depends on the segments before it:

    segments   |-------- 0 --------|-------- 1 --------|-------- 2 --------|
    messages   |-- a --|------ b ------|-- c --|----------- d -----------|e

Every segment is read as if a message began at its start, which nearly always is so; those that a
longer message before reaches into are read again from where it ends, until nothing moves.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pandas as pd

from traffic.arrays import starts_run
from traffic.pcap.headers import TCP
from traffic.pcap.packets import Packets

# The length of each message, header and all, from its first bytes (shape (n, width), int64) and
# how many of these there are, fewer where a capture is cut or ends; 0 where no message begins like
# that.
MessageBytes = Callable[[np.ndarray, np.ndarray], np.ndarray]

_HEAD = 64  # bytes of each message that are read at once
# Where messages never end with a segment, each round sets one more segment of a stream right; what
# follows is given up and counted.
_MOST_ROUNDS = 256
_MOST_SPLICES = 8  # segments that the first bytes of one message may lie in


@dataclass(frozen=True)
class Segments:
    """Payloads in the order of their streams, what was sent again left out, shape (n,) each.

    Attributes:
        row: packet, a row of ``Packets.table``.
        flow, is_orig: the flow of each and the side that sent it.
        skip: bytes at its start that an earlier segment held already.
        size, held: bytes from ``skip`` on, on the wire and captured.
        follows: whether it continues the segment before it without a hole.
        starts: whether it is the first of its stream.
    """

    packets: Packets
    row: np.ndarray
    flow: np.ndarray
    is_orig: np.ndarray
    skip: np.ndarray
    size: np.ndarray
    held: np.ndarray
    follows: np.ndarray
    starts: np.ndarray

    def take(self, which: np.ndarray) -> "Segments":
        """Whole streams of these."""
        columns = (getattr(self, column.name)[which] for column in fields(self)[1:])
        return Segments(self.packets, *columns)

    def read(
        self, segment: np.ndarray, at: np.ndarray, width: int, wanted: np.ndarray | None = None
    ) -> np.ndarray:
        """Bytes from ``at`` on in some segments and those that continue them.

        Args:
            segment: shape (n,).
            at: where to begin in each.
            width: how many bytes.
            wanted: how many of them count, shape (n,); all by default. Most messages end with
                their segment, and what follows them need not be looked for.

        Returns:
            Shape (n, width), uint8; 0 where nothing was captured, anything past what is wanted.
        """
        out = self.packets.read_payload(self.row[segment], width, self.skip[segment] + at)
        here, got = segment, self.size[segment] - at
        enough = np.full(len(got), width) if wanted is None else np.minimum(wanted, width)
        short = np.flatnonzero(got < enough)
        for _ in range(_MOST_SPLICES):
            last = here[short] + 1 >= len(self.row)
            after = np.where(last, 0, here[short] + 1)
            more = ~last & self.follows[after] & (self.held[here[short]] == self.size[here[short]])
            short, after = short[more], after[more]
            if not len(short):
                break
            start = self.skip[after] + np.maximum(-got[short], 0)
            part = self.packets.read_payload(self.row[after], width, start)
            place = np.arange(width) - np.maximum(got[short, None], 0)
            moved = np.take_along_axis(part, np.maximum(place, 0), axis=1)
            out[short] = np.where(place >= 0, moved, out[short])
            here = here.copy()
            here[short] = after
            got[short] += self.size[after]
            short = short[got[short] < enough[short]]
        return out


def order_segments(packets: Packets, work: pd.DataFrame, chosen: np.ndarray) -> Segments:
    """Put the payloads of some flows in the order of their streams.

    Args:
        packets: the packets of one capture.
        work: as ``traffic.pcap.flows.cut_flows`` returns it.
        chosen: shape (n_flows,), bool, by the numbers in ``work``.
    """
    picked = np.flatnonzero(chosen[work["flow"].to_numpy()] & (work["payload"].to_numpy() > 0))
    names = ("row", "flow", "is_orig", "payload", "held", "seq")
    row, flow, is_orig, size, held, seq = (work[name].to_numpy()[picked] for name in names)
    tcp = (work["proto"].to_numpy()[picked] == TCP) & work["has_tcp"].to_numpy()[picked]
    size, held = size.astype(np.int64), held.astype(np.int64)
    stream = flow.astype(np.int64) * 2 + is_orig
    order = np.argsort(stream, kind="stable")
    head = starts_run(stream[order])
    step = np.diff(seq[order].astype(np.uint32), prepend=np.uint32(0)).view(np.int32)
    step = np.where(head, 0, step)
    place = np.where(tcp[order], np.cumsum(step, dtype=np.int64), 0)
    if (np.diff(place) < 0).any():  # overtaken or sent again: put in the order of the stream
        again = np.lexsort((place, stream[order]))
        order, place = order[again], place[again]
        head = starts_run(stream[order])
    row, flow, is_orig, size, held, tcp = (
        column[order] for column in (row, flow, is_orig, size, held, tcp)
    )
    if not len(row):
        none = np.zeros(0, np.int64)
        return Segments(packets, none, none, none > 0, none, none, none, none > 0, none > 0)
    end = place + size
    first = np.flatnonzero(head)
    lift = np.repeat(np.cumsum(np.append(0, _spans(place, end, first)[:-1])), _runs(first, head))
    lift -= np.repeat(np.minimum.reduceat(place, first), _runs(first, head))
    reached = np.append(0, np.maximum.accumulate(end + lift)[:-1]) - lift
    skip = np.where(tcp & ~head, np.clip(reached - place, 0, size), 0)
    follows = tcp & ~head & (place <= reached)
    kept = skip < size
    left = np.maximum(held - skip, 0)
    columns = (row, flow, is_orig, skip, size - skip, left, follows, head)
    return Segments(packets, *(column[kept] for column in columns))


def _runs(first: np.ndarray, head: np.ndarray) -> np.ndarray:
    return np.diff(first, append=len(head))


def _spans(place: np.ndarray, end: np.ndarray, first: np.ndarray) -> np.ndarray:
    """How far each stream reaches, so that each can be lifted above the one before it."""
    return np.maximum.reduceat(end, first) - np.minimum.reduceat(place, first) + 1


@dataclass(frozen=True)
class Messages:
    """Messages of one protocol, in the order of their streams, shape (n,) each.

    Attributes:
        segments: where they lie.
        segment, at: the segment in which each begins, and where.
        length: its bytes, on the wire.
        held: its bytes that were captured.
        wrong: what stands where a message should begin; its length is what is left.
    """

    segments: Segments
    segment: np.ndarray
    at: np.ndarray
    length: np.ndarray
    held: np.ndarray
    wrong: np.ndarray

    def __len__(self) -> int:
        return len(self.segment)

    def take(self, which: np.ndarray) -> "Messages":
        """Some of the messages."""
        columns = (self.segment, self.at, self.length, self.held, self.wrong)
        some = Messages(self.segments, *(column[which] for column in columns))
        if "_head" in vars(self):  # what was read already
            vars(some)["_head"] = self._head[which]
        return some

    def enclosed(self, skip: np.ndarray | int, which: np.ndarray) -> "Messages":
        """Messages that ``which`` of these hold from byte ``skip`` on."""
        skip = np.broadcast_to(skip, len(self))[which]
        return Messages(
            self.segments,
            self.segment[which],
            self.at[which] + skip,
            np.maximum(self.length[which] - skip, 0),
            np.maximum(self.held[which] - skip, 0),
            self.wrong[which],
        )

    @property
    def row(self) -> np.ndarray:
        """The packet in which each begins, a row of ``Packets.table``."""
        return self.segments.row[self.segment]

    @property
    def flow(self) -> np.ndarray:
        """The flow of each."""
        return self.segments.flow[self.segment]

    @property
    def is_orig(self) -> np.ndarray:
        """Whether the flow's originator sent it."""
        return self.segments.is_orig[self.segment]

    def of_packet(self, name: str) -> np.ndarray:
        """A column of ``Packets.table`` for each message."""
        return self.segments.packets.table[name].to_numpy()[self.row]

    @cached_property
    def _head(self) -> np.ndarray:
        return self.segments.read(self.segment, self.at, _HEAD, self.held)

    def bytes(self, at: np.ndarray | int, width: int) -> np.ndarray:
        """Bytes of each message from ``at`` on, shape (n, width), uint8; 0 past its end."""
        if isinstance(at, int) and at + width <= _HEAD:
            found = self._head[:, at : at + width].copy()
        elif not isinstance(at, int) and _within(at, _HEAD - width):
            found = self._head[np.arange(len(at))[:, None], at[:, None] + np.arange(width)]
        else:
            found = self.segments.read(self.segment, self.at + at, width, self.held - at)
        left = self.held - at
        short = np.flatnonzero(left < width)
        found[short] *= np.arange(width) < left[short, None]
        return found

    def number(self, at: np.ndarray | int, width: int, order: str = ">") -> np.ndarray:
        """The unsigned number at byte ``at``, shape (n,), int64; -1 past the message's end.

        Args:
            at: one place for all messages, or one for each.
            width: bytes, at most 7.
            order: ``>`` for the high byte first.
        """
        there = (self.held >= np.add(at, width)) & np.greater_equal(at, 0)
        row: slice | np.ndarray = slice(None) if isinstance(at, int) else np.arange(len(self))
        near = np.clip(at, 0, _HEAD - width)
        value = np.zeros(len(self), np.int64)
        for i in range(width) if order == ">" else range(width - 1, -1, -1):
            value <<= 8
            value |= self._head[row, near + i]
        far = np.flatnonzero(there & np.greater(at, _HEAD - width))
        if len(far):
            place = self.at[far] + np.broadcast_to(at, len(self))[far]
            digits = self.segments.read(self.segment[far], place, width).astype(np.int64)
            shift = 8 * np.arange(width)
            value[far] = (digits << (shift[::-1] if order == ">" else shift)).sum(axis=1)
        value[~there] = -1
        return value

    def u8(self, at: np.ndarray | int) -> np.ndarray:
        """The byte at ``at``; -1 past the message's end."""
        return self.number(at, 1)

    def u16(self, at: np.ndarray | int, order: str = ">") -> np.ndarray:
        """Two bytes as a number."""
        return self.number(at, 2, order)

    def u32(self, at: np.ndarray | int, order: str = ">") -> np.ndarray:
        """Four bytes as a number."""
        return self.number(at, 4, order)


def _within(at: np.ndarray, last: int) -> bool:
    return len(at) > 0 and int(at.min()) >= 0 and int(at.max()) <= last


def cut_messages(
    segments: Segments, message_bytes: MessageBytes | None, width: int, resyncs: bool = True
) -> Messages:
    """Cut segments into messages.

    Args:
        segments: payloads of flows that speak the protocol.
        message_bytes: the length of a message by its first bytes; None where each payload is one.
        width: bytes that it asks for.
        resyncs: whether a segment after a hole is read, as if a message began with it; else what
            follows without a hole is.

    Returns:
        The messages, and one ``wrong`` row for each segment in which none begins where one should.
    """
    n = len(segments.row)
    every = np.arange(n)
    if message_bytes is None:
        size, held = segments.size, segments.held
        return Messages(segments, every, np.zeros(n, np.int64), size, held, np.zeros(n, bool))
    size = segments.size
    off = np.cumsum(size) - size
    run = np.cumsum(~segments.follows) - 1
    run_end = (off + size)[np.append(np.flatnonzero(np.diff(run)), n - 1)][run] if n else off
    blind = ~(segments.follows | segments.starts | resyncs)
    begin, end = np.where(blind, size, 0), np.zeros(n, np.int64)
    stale, found = every, _no_cuts()
    for _ in range(_MOST_ROUNDS):
        room = run_end - off
        cuts, ends = _walk(segments, stale, begin[stale], room, message_bytes, width)
        end[stale] = np.minimum(off[stale] + ends, run_end[stale])
        found = _replace(found, cuts, stale, n)
        reached = np.append(0, np.maximum.accumulate(end)[:-1])
        moved = np.where(segments.follows, np.clip(reached - off, 0, size), begin * blind)
        stale = np.flatnonzero(moved != begin)
        begin = moved
        if not len(stale):
            break
    lost = np.isin(found["segment"], stale)
    order = np.lexsort((found["at"], found["segment"]))
    order = order[~lost[order]]
    segment, at, length, wrong = (found[name][order] for name in _CUTS)
    left = np.minimum(length, run_end[segment] - off[segment] - at)
    whole = segments.held[segment] == size[segment]
    held = np.where(whole, left, np.minimum(left, segments.held[segment] - at))
    return Messages(segments, segment, at, length, np.maximum(held, 0), wrong)


_CUTS = ("segment", "at", "length", "wrong")


def _no_cuts() -> dict[str, np.ndarray]:
    none = np.zeros(0, np.int64)
    return {"segment": none, "at": none, "length": none, "wrong": none > 0}


def _replace(
    found: dict[str, np.ndarray], cuts: dict[str, np.ndarray], stale: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    """What was found with the rows of ``stale`` segments taken from ``cuts``."""
    if not len(found["segment"]):
        return cuts
    again = np.zeros(n, bool)
    again[stale] = True
    kept = ~again[found["segment"]]
    return {name: np.concatenate([found[name][kept], cuts[name]]) for name in _CUTS}


def _walk(
    segments: Segments,
    which: np.ndarray,
    begin: np.ndarray,
    room: np.ndarray,
    message_bytes: MessageBytes,
    width: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The messages of some segments from ``begin`` on, and where in each the last one ends.

    ``room`` is how many bytes follow each segment's start without a hole.
    """
    parts = [_no_cuts()]
    ends = np.minimum(begin, segments.size[which])
    nth, at = np.arange(len(which)), begin
    while True:
        left = segments.held[which[nth]] - at
        nth, at = nth[left > 0], at[left > 0]
        if not len(nth):
            break
        segment = which[nth]
        rest = segments.size[segment] - at
        whole = segments.held[segment] == segments.size[segment]
        known = np.where(whole, room[segment], segments.held[segment]) - at
        head = segments.read(segment, at, width)
        length = message_bytes(head.astype(np.int64), np.minimum(known, width))
        wrong = length <= 0
        length = np.where(wrong, rest, length)
        parts.append({"segment": segment, "at": at, "length": length, "wrong": wrong})
        ends[nth] = at + length
        nth, at = nth[~wrong], (at + length)[~wrong]
    return {name: np.concatenate([part[name] for part in parts]) for name in _CUTS}, ends
