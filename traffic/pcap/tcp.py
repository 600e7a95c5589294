"""TCP as Zeek sees it: where a connection ends, and the state both sides were left in.

All functions take packets sorted by conversation (both directions of a 5-tuple together), then by time, and work on
columns. The rules are those of Zeek's TCP analyzer (src/analyzer/protocol/tcp) and of ``conn_state`` in
base/protocols/conn/main.zeek, with Zeek's default time-outs.
"""

import numpy as np
import pandas as pd

__all__ = ["ACK", "FIN", "RST", "SYN", "end_connections", "first_per_group", "last_row", "name_states"]

FIN, SYN, RST, ACK = 1, 2, 4, 16
ATTEMPT_S = 5.0  # tcp_attempt_delay: an attempt that nobody answered ends so long after its first SYN
CLOSE_S = 5.0  # tcp_close_delay: a closed or reset connection is forgotten so long after it closed
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
    opening = np.flatnonzero(flags & (SYN | ACK | RST | FIN) == SYN)
    last_opening = np.append(-1, opening[:-1])[: len(opening)]
    repeats = last_opening >= last_row(np.flatnonzero(starts), opening)
    repeats &= last_opening > last_row(np.flatnonzero(flags & (FIN | RST)), opening)
    repeats &= (seq[opening] == seq[last_opening]) & (forward[opening] == forward[last_opening])
    starts = starts.copy()
    starts[opening[~repeats]] = True

    # Each round finds where the connections of the last round ended; what follows an end begins a connection again.
    following = _Following(packets)
    head = np.flatnonzero(starts)
    stop = np.append(head[1:], len(starts))
    while len(head):
        when = following.end_s(head, stop)
        more = following.ts[stop - 1] >= when
        head, stop = _first_since(following.ts, head[more], stop[more], when[more]), stop[more]
        starts[head] = True
    return starts


def last_row(rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The last of some rows, sorted, up to each row ``at``; -1 where there is none."""
    place = np.searchsorted(rows, at, side="right") - 1
    return np.where(place >= 0, rows[place], -1) if len(rows) else np.full(len(at), -1)


def _next_row(rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The first of some rows, sorted, from each row ``at`` on; ``NEVER`` where there is none."""
    place = np.searchsorted(rows, at)
    found = np.full(len(at), NEVER)
    there = place < len(rows)
    found[there] = rows[place[there]]
    return found


def _first_since(ts: np.ndarray, low: np.ndarray, high: np.ndarray, when: np.ndarray) -> np.ndarray:
    """The first row of each ``[low, high)`` at or after ``when``, which its last row is: a search by halves."""
    while (low < high).any():
        middle = (low + high) // 2
        before = ts[middle] < when
        low, high = np.where(before & (low < high), middle + 1, low), np.where(before, high, middle)
    return low


class _Following:
    """For each packet, what follows it in its conversation: enough to tell when a connection that it began ends."""

    def __init__(self, packets: pd.DataFrame) -> None:
        flags, payload = packets["flags"].to_numpy(), packets["payload"].to_numpy()
        self.ts, self._forward = packets["ts"].to_numpy(), packets["forward"].to_numpy()
        self._opens = flags & (SYN | ACK | RST | FIN) == SYN
        self._rst = np.flatnonzero(flags & RST)
        fin = flags & (FIN | RST) == FIN
        # Some stacks acknowledge a SYN before they answer it; such an ACK is no answer yet.
        answer = (flags & (SYN | FIN | RST) > 0) | (payload > 0)
        sides = ~self._forward, self._forward
        self._fin, self._answer = ([np.flatnonzero(mask & side) for side in sides] for mask in (fin, answer))
        self._any = [np.flatnonzero(side) for side in sides]

    def end_s(self, head: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """When the connections that ``head`` begins, and that hold no packet from ``stop`` on, are forgotten."""
        here = self._forward[head]

        def first(rows: np.ndarray) -> np.ndarray:
            row = _next_row(rows, head)
            return np.where(row < stop, row, NEVER)

        def since(rows: list[np.ndarray], side: np.ndarray) -> np.ndarray:
            return np.where(side, first(rows[True]), first(rows[False]))

        fin_here, fin_there = since(self._fin, here), since(self._fin, ~here)
        half = np.where(fin_here < since(self._any, ~here), fin_here, NEVER)
        closed_s = self._time(np.minimum(np.minimum(np.maximum(fin_here, fin_there), half), first(self._rst)))
        tried_s = self.ts[head] + ATTEMPT_S
        waiting = self._opens[head] & (self._time(since(self._answer, ~here)) >= tried_s) & (closed_s >= tried_s)
        return np.where(waiting, tried_s, closed_s + CLOSE_S)

    def _time(self, row: np.ndarray) -> np.ndarray:
        return np.where(row == NEVER, np.inf, self.ts[np.minimum(row, len(self.ts) - 1)])


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
