"""TCP as Zeek sees it: where a connection ends, what each segment adds, and the state both sides were left in.

All functions take packets sorted by conversation (both directions of a 5-tuple together), then by time, and work on
columns. The rules are those of Zeek's TCP analyzer (src/analyzer/protocol/tcp) and of ``conn_state`` in
base/protocols/conn/main.zeek, with Zeek's default time-outs.
"""

import numpy as np
import pandas as pd

__all__ = ["ACK", "FIN", "RST", "SYN", "end_connections", "first_per_group", "name_states", "read_segments"]

FIN, SYN, RST, ACK = 1, 2, 4, 16
ATTEMPT_S = 5.0  # tcp_attempt_delay: an attempt that nobody answered ends so long after its first SYN
CLOSE_S = 5.0  # tcp_close_delay: a closed or reset connection is forgotten so long after it closed
# A jump in sequence numbers beyond this is no lost data but a number we should not trust.
_WILDEST_JUMP = 1 << 30
_OVERTAKEN_S = 0.003  # Wireshark's bound between reordering and retransmission
NEVER = np.iinfo(np.int64).max


def first_per_group(mask: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Index of the first True in each group, ``NEVER`` where there is none; ``group`` need not be sorted.

    >>> first_per_group(np.array([False, True, True]), np.array([0, 1, 1]), 2)[1]
    np.int64(1)
    """
    out = np.full(n_groups, NEVER)
    index = np.flatnonzero(mask)[::-1]
    out[group[index]] = index  # of equal places the last assignment stays: the earliest index
    return out


def end_connections(packets: pd.DataFrame, starts: np.ndarray) -> np.ndarray:
    """Where a new connection begins within a conversation, besides the starts that are known already.

    A SYN begins one unless it repeats the conversation's last SYN and nothing was closed since (``IsReuse``). Then an
    attempt ends 5 s after its first SYN, and a connection 5 s after both sides closed, one reset, or one closed while
    the other never spoke.

    Args:
        packets: shape (n, ...), ``ts flags seq payload forward``, sorted; TCP only.
        starts: shape (n,), bool, first packets of conversations and those after 5 minutes of silence.

    Returns:
        Shape (n,), bool, ``starts`` and the new ones.
    """
    if packets.empty:
        return starts
    flags, seq, forward = (packets[name].to_numpy() for name in ("flags", "seq", "forward"))
    index = np.arange(len(flags))
    opening = flags & (SYN | ACK | RST | FIN) == SYN
    began = np.maximum.accumulate(np.where(starts, index, 0))
    last_opening = _last_before(opening, index)
    last_closing = _last_before(flags & (FIN | RST) > 0, index)
    repeats = (last_opening >= began) & (last_opening > last_closing)
    repeats &= (seq == seq[last_opening]) & (forward == forward[last_opening])
    starts = starts | (opening & ~repeats)

    # Each round finds where the connections of the last round ended; what follows an end begins a connection again.
    following = _Following(packets)
    head = np.flatnonzero(starts)
    stop = np.append(head[1:], len(starts))
    while len(head):
        ended = _first_since(following.ts, head, stop, following.end_s(head, stop))
        more = ended < stop
        head, stop = ended[more], stop[more]
        starts[head] = True
    return starts


def _last_before(mask: np.ndarray, index: np.ndarray) -> np.ndarray:
    """For each row the last earlier row where ``mask`` holds, -1 where none does."""
    last = np.maximum.accumulate(np.where(mask, index, -1))
    return np.concatenate([[-1], last[:-1]])


def _next(mask: np.ndarray) -> np.ndarray:
    """For each row the first row from it on where ``mask`` holds, ``len(mask)`` where none does."""
    rows = np.where(mask, np.arange(len(mask)), len(mask))
    return np.minimum.accumulate(rows[::-1])[::-1]


def _first_since(ts: np.ndarray, low: np.ndarray, high: np.ndarray, when: np.ndarray) -> np.ndarray:
    """The first row of each ``[low, high)`` at or after ``when``, ``high`` where there is none: a search by halves."""
    while (low < high).any():
        middle = np.minimum((low + high) // 2, len(ts) - 1)
        before = (ts[middle] < when) & (low < high)
        low, high = np.where(before, middle + 1, low), np.where(before | (low >= high), high, middle)
    return low


class _Following:
    """For each packet, what follows it in its conversation: enough to tell when a connection that it began ends."""

    def __init__(self, packets: pd.DataFrame) -> None:
        flags, payload = packets["flags"].to_numpy(), packets["payload"].to_numpy()
        self.ts, self._forward = packets["ts"].to_numpy(), packets["forward"].to_numpy()
        self._opens = flags & (SYN | ACK | RST | FIN) == SYN
        self._rst = _next(flags & RST > 0)
        fin = flags & (FIN | RST) == FIN
        # Some stacks acknowledge a SYN before they answer it; such an ACK is no answer yet.
        answer = (flags & (SYN | FIN | RST) > 0) | (payload > 0)
        everything = np.ones(len(flags), bool)
        self._fin, self._answer, self._any = (
            [_next(mask & (self._forward == side)) for side in (False, True)] for mask in (fin, answer, everything)
        )

    def end_s(self, head: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """When the connections that ``head`` begins, and that hold no packet from ``stop`` on, are forgotten."""
        here = self._forward[head]

        def since(rows: list[np.ndarray], side: np.ndarray) -> np.ndarray:
            row = np.where(side, rows[True][head], rows[False][head])
            return np.where(row < stop, row, NEVER)

        fin_here, fin_there = since(self._fin, here), since(self._fin, ~here)
        half = np.where(fin_here < since(self._any, ~here), fin_here, NEVER)
        rst = np.where(self._rst[head] < stop, self._rst[head], NEVER)
        closed_s = self._time(np.minimum(np.minimum(np.maximum(fin_here, fin_there), half), rst))
        tried_s = self.ts[head] + ATTEMPT_S
        waiting = self._opens[head] & (self._time(since(self._answer, ~here)) >= tried_s) & (closed_s >= tried_s)
        return np.where(waiting, tried_s, closed_s + CLOSE_S)

    def _time(self, row: np.ndarray) -> np.ndarray:
        return np.where(row == NEVER, np.inf, self.ts[np.minimum(row, len(self.ts) - 1)])


def read_segments(packets: pd.DataFrame, stream: np.ndarray) -> pd.DataFrame:
    """What each TCP segment adds to its direction of its connection.

    Args:
        packets: shape (n, ...), ``ts flags seq payload window``, sorted by connection, then time; TCP only.
        stream: shape (n,), int64, connection * 2 + direction.

    Returns:
        Shape (n, 4): ``grown_bytes`` (how far the stream's end moved, gaps included, SYN and FIN not), ``again`` (it
        holds data and ends where the stream had already been: Zeek's ``T``), ``resent`` (likewise, without keep-alives
        and segments overtaken on the way, with repeated FINs and SYN-ACKs), ``zero_window`` (its sender takes no more
        data: Zeek's ``W``). RSTs add nothing: their numbers cannot be trusted.
    """
    n = len(packets)
    out = {"grown_bytes": np.zeros(n, np.int64), "again": np.zeros(n, bool), "resent": np.zeros(n, bool)}
    flags = packets["flags"].to_numpy()
    out["zero_window"] = _is_zero_window(flags, packets["window"].to_numpy(), stream)
    order = np.argsort(stream, kind="stable")
    order = order[flags[order] & RST == 0]
    flags, payload = flags[order], packets["payload"].to_numpy()[order]
    if not len(order):
        return pd.DataFrame(out)
    head = np.diff(stream[order], prepend=-1) != 0
    place = _unwrap(packets["seq"].to_numpy()[order], head)
    fin, syn = flags & FIN > 0, flags & SYN > 0
    end = place + payload + fin + syn
    seen = _highest_before(end, head)
    grown = np.where(head, payload + fin + syn, np.maximum(end - seen, 0))
    wild = ~head & (place - seen > _WILDEST_JUMP)
    marks = (grown > 0) * (fin.astype(np.int64) + syn)  # SYN and FIN take a number each and hold no byte

    stale = ~head & (grown == 0)
    keep_alive = (payload <= 1) & (place == seen - 1) & ~fin & ~syn
    out["grown_bytes"][order] = np.where(wild, payload, np.maximum(grown - marks, 0))
    out["again"][order] = stale & (payload > 0)
    overtaken = _is_overtaken(packets["ts"].to_numpy()[order], head | (grown > 0), ~head & (place > seen))
    out["resent"][order] = stale & ((payload > 0) | fin | (syn & (flags & ACK > 0))) & ~keep_alive & ~overtaken
    return pd.DataFrame(out)


def _is_zero_window(flags: np.ndarray, window: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """A window of 0, unless the sender has reset or the other side has already said that it sends no more."""
    index, n = np.arange(len(flags)), int(stream.max(initial=0)) | 1
    peer_done = first_per_group(flags & FIN > 0, stream ^ 1, n + 1)[stream] < index
    reset = first_per_group(flags & RST > 0, stream, n + 1)[stream] <= index
    return (window == 0) & ~peer_done & ~reset


def _unwrap(seq: np.ndarray, head: np.ndarray) -> np.ndarray:
    """32-bit sequence numbers as places in an endless stream; only differences within a stream mean anything."""
    step = np.diff(seq, prepend=seq[:1]).astype(np.uint32).astype(np.int32).astype(np.int64)
    step[head] = 0
    return np.cumsum(step)


def _highest_before(end: np.ndarray, head: np.ndarray) -> np.ndarray:
    """The highest ``end`` among the earlier segments of each stream (its own at a head)."""
    stream = np.cumsum(head)
    highest = pd.Series(end).groupby(stream, sort=False).cummax().to_numpy()
    return np.where(head, end, np.concatenate([end[:1], highest[:-1]]))


def _is_overtaken(ts: np.ndarray, grows: np.ndarray, jumps: np.ndarray) -> np.ndarray:
    """Whether a segment comes right after one that left a hole: it was not sent again, it took another way."""
    last = np.maximum.accumulate(np.where(grows, np.arange(len(ts)), 0))
    return ~grows & jumps[last] & (ts - ts[last] <= _OVERTAKEN_S)


def name_states(packets: pd.DataFrame, flow: np.ndarray, is_orig: np.ndarray, n_flows: int) -> np.ndarray:
    """Zeek's conn_state of each TCP flow.

    Args:
        packets: shape (n, ...), ``flags payload``, sorted by flow, then time; TCP only.
        flow: shape (n,), int64, the flow of each packet.
        is_orig: shape (n,), bool, whether its originator sent it.

    Returns:
        Shape (n_flows,), object: S0 S1 SF REJ S2 S3 RSTO RSTR RSTOS0 RSTRH SH SHR OTH.
    """
    flags, payload = packets["flags"].to_numpy(), packets["payload"].to_numpy()

    anything = np.ones(len(flags), bool)
    bare_ack = (flags & (SYN | FIN | RST) == 0) & (payload == 0)

    def first(mask: np.ndarray, orig: bool) -> np.ndarray:
        return first_per_group(mask & (is_orig == orig), flow, n_flows)

    def both(mask: np.ndarray) -> dict[bool, np.ndarray]:
        return {True: first(mask, True), False: first(mask, False)}

    began, said = both(anything), both(payload > 0)
    syns = both(flags & (SYN | RST) == SYN)
    fins, rsts = both(flags & (FIN | RST) == FIN), both(flags & RST > 0)
    opened = (syns[True] < NEVER) & (syns[True] == began[True])
    answered = syns[False] < NEVER
    # Some stacks acknowledge a SYN before they answer it; such an ACK is no answer yet.
    spoke = np.where(opened, first(~bare_ack, False), began[False]) < NEVER

    # After a FIN exchange a reset changes nothing; a reset between two FINs is undone by the second.
    reset, closed = {}, {}
    for side in (True, False):
        exchanged = (fins[side] < rsts[side]) & (fins[not side] < NEVER)
        reset[side] = (rsts[side] < NEVER) & ~exchanged
        closed[side] = (fins[side] < NEVER) & ~reset[side]
    established = answered & (began[True] < NEVER)
    waiting = opened & ~answered & ~closed[True] & ~reset[True]
    orig_quiet = ~closed[True] & ~reset[True] & ~opened & ~established
    resp_quiet = ~closed[False] & ~reset[False] & ~answered
    empty = (said[True] == NEVER) & (said[False] == NEVER)
    rules = {
        "REJ": reset[False] & (waiting | (reset[True] & empty)),
        "RSTRH": reset[False] & orig_quiet,
        "RSTR": reset[False],
        "RSTOS0": reset[True] & resp_quiet,
        "RSTO": reset[True],
        "SF": closed[True] & closed[False],
        "SH": closed[True] & resp_quiet,
        "S2": closed[True],
        "SHR": closed[False] & orig_quiet,
        "S3": closed[False],
        "S0": waiting & ~spoke,
        "S1": established,
    }
    return np.select(list(rules.values()), list(rules), "OTH")
