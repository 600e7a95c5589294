"""TCP as Zeek sees it: where connections end, their states and histories, what segments add.

All functions take packets sorted by conversation (both directions of a 5-tuple together), then by
time, and work on columns. The rules are those of Zeek's TCP analyzer (src/analyzer/protocol/tcp)
and of ``conn_state`` in base/protocols/conn/main.zeek, with Zeek's default time-outs.
"""

import numpy as np
import pandas as pd

from traffic.arrays import count_up, number_groups, starts_run

FIN, SYN, RST, ACK = 1, 2, 4, 16
ATTEMPT_S = 5.0  # tcp_attempt_delay: from the first SYN to the end of an attempt nobody answered
CLOSE_S = 5.0  # tcp_close_delay: from the close or reset of a connection until it is forgotten
NEVER = np.iinfo(np.int64).max


def first_per_group(mask: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Index of the first True in each group, unsorted ones too; ``NEVER`` where there is none.

    >>> first_per_group(np.array([False, True, True]), np.array([0, 1, 1]), 2)[1]
    np.int64(1)
    """
    out = np.full(n_groups, NEVER)
    index = np.flatnonzero(mask)[::-1]
    out[group[index]] = index  # of equal places the last assignment stays: the earliest index
    return out


def end_connections(packets: pd.DataFrame, starts: np.ndarray) -> np.ndarray:
    """Where a new connection begins within a conversation, besides the starts that are known
    already.

    A SYN begins one unless it repeats the conversation's last SYN and nothing was closed since
    (``IsReuse``). Then an attempt ends 5 s after its first SYN, and a connection 5 s after both
    sides closed, one reset, or one closed while the other never spoke.

    Args:
        packets: shape (n, ...), ``ts flags seq payload forward``, sorted; TCP only.
        starts: shape (n,), bool, first packets of conversations and those after 5 minutes of
            silence.

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

    # Each round finds where the connections of the last round ended; what follows an end begins a
    # connection again.
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
    """The first row of each ``[low, high)`` at or after ``when``, which its last row is (bisection)."""
    while (low < high).any():
        middle = (low + high) // 2
        before = ts[middle] < when
        low, high = np.where(before & (low < high), middle + 1, low), np.where(before, high, middle)
    return low


class _Following:
    """What follows each packet in its conversation, to tell when a connection it began ends."""

    def __init__(self, packets: pd.DataFrame) -> None:
        flags, payload = packets["flags"].to_numpy(), packets["payload"].to_numpy()
        self.ts, self._forward = packets["ts"].to_numpy(), packets["forward"].to_numpy()
        self._opens = flags & (SYN | ACK | RST | FIN) == SYN
        self._rst = np.flatnonzero(flags & RST)
        fin = flags & (FIN | RST) == FIN
        # Some stacks acknowledge a SYN before they answer it; such an ACK is no answer yet.
        answer = (flags & (SYN | FIN | RST) > 0) | (payload > 0)
        sides = ~self._forward, self._forward
        self._fin, self._answer = (
            [np.flatnonzero(mask & side) for side in sides] for mask in (fin, answer)
        )
        self._any = [np.flatnonzero(side) for side in sides]

    def end_s(self, head: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """When the connections from ``head`` to before ``stop`` are forgotten."""
        here = self._forward[head]

        def first(rows: np.ndarray) -> np.ndarray:
            row = _next_row(rows, head)
            return np.where(row < stop, row, NEVER)

        def since(rows: list[np.ndarray], side: np.ndarray) -> np.ndarray:
            return np.where(side, first(rows[True]), first(rows[False]))

        fin_here, fin_there = since(self._fin, here), since(self._fin, ~here)
        half = np.where(fin_here < since(self._any, ~here), fin_here, NEVER)
        both = np.maximum(fin_here, fin_there)
        closed_s = self._time(np.minimum(np.minimum(both, half), first(self._rst)))
        tried_s, answered_s = self.ts[head] + ATTEMPT_S, self._time(since(self._answer, ~here))
        waiting = self._opens[head] & (answered_s >= tried_s) & (closed_s >= tried_s)
        return np.where(waiting, tried_s, closed_s + CLOSE_S)

    def _time(self, row: np.ndarray) -> np.ndarray:
        return np.where(row == NEVER, np.inf, self.ts[np.minimum(row, len(self.ts) - 1)])


def name_states(
    packets: pd.DataFrame, flow: np.ndarray, is_orig: np.ndarray, n_flows: int
) -> np.ndarray:
    """Zeek's conn_state of each TCP flow.

    Args:
        packets: shape (n, ...), ``flags payload``, sorted by flow, then time; TCP only.
        flow: shape (n,), int64, the flow of each packet.
        is_orig: shape (n,), bool, whether its originator sent it.

    Returns:
        Shape (n_flows,), object: S0 S1 SF REJ S2 S3 RSTO RSTR RSTOS0 RSTRH SH SHR OTH.
    """
    flags, payload = packets["flags"].to_numpy(), packets["payload"].to_numpy()
    bare_ack = (flags & (SYN | FIN | RST) == 0) & (payload == 0)

    def first(mask: np.ndarray, orig: bool) -> np.ndarray:
        return first_per_group(mask & (is_orig == orig), flow, n_flows)

    def both(mask: np.ndarray) -> dict[bool, np.ndarray]:
        return {True: first(mask, True), False: first(mask, False)}

    began, spoke_data = both(np.ones(len(flags), bool)), both(payload > 0)
    syns, asked = both(flags & (SYN | RST) == SYN), both(flags & (SYN | RST | ACK) == SYN)
    fins, rsts = both(flags & (FIN | RST) == FIN), both(flags & RST > 0)
    opened = (syns[True] < NEVER) & (syns[True] == began[True])
    answered = syns[False] < NEVER
    # Some stacks acknowledge a SYN before they answer it; such an ACK is no answer yet.
    spoke = np.where(opened, first(~bare_ack, False), began[False]) < NEVER

    # After a FIN exchange a reset changes nothing; a reset between two FINs is undone by the
    # second.
    reset, closed = {}, {}
    for side in (True, False):
        exchanged = (fins[side] < rsts[side]) & (fins[not side] < NEVER)
        reset[side] = (rsts[side] < NEVER) & ~exchanged
        closed[side] = (fins[side] < NEVER) & ~reset[side]
    established = answered & (began[True] < NEVER)
    waiting = opened & ~answered & ~closed[True] & ~reset[True]
    orig_quiet = ~closed[True] & ~reset[True] & ~opened & ~established
    resp_quiet = ~closed[False] & ~reset[False] & ~answered
    empty = (spoke_data[True] == NEVER) & (spoke_data[False] == NEVER)
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
        "S0": waiting & ~spoke & (asked[True] == began[True]),
        "S1": established,
    }
    return np.select(list(rules.values()), list(rules), "OTH")


# ---- Zeek's ``history``: a letter for each thing that happened first in a direction, in order ----
#
# S SYN, H SYN-ACK, A bare ACK, D data, F FIN, R RST, I FIN with RST, Q other mixed flags, T data
# sent again, W zero window; capitals are the originator's; ``^`` marks a flow whose direction was
# flipped. SYN, FIN and RST are written again when their sequence number changes, T and W at their
# 1st, 10th, 100th … time. Checksums are not verified: no C.

_ORDER = "SHFRIQDAWT"  # of the letters that one packet may write
_LOWER = 32  # from a capital to its small letter in ASCII


def render_histories(
    packets: pd.DataFrame, segments: pd.DataFrame, flipped: np.ndarray
) -> np.ndarray:
    """The history of each flow.

    Args:
        packets: shape (n, ...), ``flow is_orig is_tcp is_udp flags seq payload``, sorted by flow,
            then time.
        segments: shape (n, ...), ``again zero_window``.
        flipped: shape (n_flows,), bool.

    Returns:
        Shape (n_flows,), object; "" for flows that are neither TCP nor UDP.
    """
    is_orig = packets["is_orig"].to_numpy()
    stream = packets["flow"].to_numpy() * 2 + is_orig
    events = [
        (index, np.full(len(index), _ORDER.index(letter)))
        for letter, mask, often in _marks(packets, segments)
        if len(index := _kept(packets, mask, often, stream, 2 * len(flipped)))
    ]
    if not events:
        return np.where(flipped, "^", "")
    index = np.concatenate([index for index, _ in events])
    place = np.concatenate([place for _, place in events])
    order = np.argsort(index * len(_ORDER) + place)
    index, place = index[order], place[order]
    letters = np.frombuffer(_ORDER.encode(), np.uint8)[place] + np.where(is_orig[index], 0, _LOWER)
    return _join(letters.astype(np.uint8), packets["flow"].to_numpy()[index], flipped)


def _marks(packets: pd.DataFrame, segments: pd.DataFrame) -> list[tuple[str, np.ndarray, str]]:
    """Each letter with the packets it may be written for, and how often."""
    flags, payload = packets["flags"].to_numpy(), packets["payload"].to_numpy()
    tcp, udp = packets["is_tcp"].to_numpy(), packets["is_udp"].to_numpy()
    control = flags & (SYN | FIN | RST)
    syn, fin, rst = (tcp & (control == bit) for bit in (SYN, FIN, RST))
    plain = tcp & (control == 0)
    mixed = tcp & ~(plain | syn | fin | rst)
    reset = mixed & (control & (FIN | RST) == FIN | RST)
    return [
        ("S", syn & (flags & ACK == 0), "first number"),
        ("H", syn & (flags & ACK > 0), "first number"),
        ("F", fin, "last number"),
        ("R", rst, "first number"),
        ("I", reset, "once"),
        ("Q", mixed & ~reset, "once"),
        ("D", (plain & (payload > 0)) | udp, "once"),
        ("A", plain & (payload == 0) & (flags & ACK > 0), "once"),
        ("W", segments["zero_window"].to_numpy(), "scaled"),
        ("T", segments["again"].to_numpy(), "scaled"),
    ]


def _kept(
    packets: pd.DataFrame, mask: np.ndarray, often: str, stream: np.ndarray, n: int
) -> np.ndarray:
    """The packets that a letter is written for: once a direction, at the 1st, 10th, 100th, or when
    the first or last sequence number changes."""
    if often == "once":
        first = first_per_group(mask, stream, n)
        return first[first < NEVER]
    index = np.flatnonzero(mask)
    order = index[np.argsort(stream[index], kind="stable")]
    head = np.diff(stream[order], prepend=-1) != 0
    if often == "scaled":
        position = np.arange(len(order))
        times = position - np.maximum.accumulate(np.where(head, position, 0)) + 1
        return order[np.isin(times, 10 ** np.arange(10))]
    number = packets["seq"].to_numpy()[order].astype(np.int64)
    if often == "last number":
        number += packets["payload"].to_numpy()[order]
    return order[head | (np.diff(number, prepend=-1) != 0)]


def _join(letters: np.ndarray, flow: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    count = np.bincount(flow, minlength=len(flipped))
    column = count_up(count) + flipped[flow]
    table = np.zeros((len(flipped), int((count + flipped).max())), np.uint8)
    table[flipped, 0] = ord("^")
    table[flow, column] = letters
    # Histories are few and flows are many: decode each distinct one once.
    codes, texts = pd.factorize(table.view(f"S{table.shape[1]}").ravel())
    return np.array([text.decode() for text in texts], dtype=object)[codes]


# ---- What each segment adds to its direction of its connection, and which were sent again ----

# A jump in sequence numbers beyond this is no lost data but a number we should not trust.
_WILDEST_JUMP = 1 << 30
_OVERTAKEN_S = 0.003  # Wireshark's bound between reordering and retransmission
# Before a timer can have run out (Linux waits 0.2 s at least, RFC 6298 a second) a last segment is
# sent again to hear of it (RFC 8985, 7), and whoever delays his acknowledgement makes that happen.
_TIMER_S = 0.2
# One that is sent again so often over so long met nobody: a lossy line lets some of them through.
_STALL_TIMES, _STALL_S = 3, 0.5


def read_segments(packets: pd.DataFrame, stream: np.ndarray) -> pd.DataFrame:
    """What each TCP segment adds to its direction of its connection.

    Args:
        packets: shape (n, ...), ``ts flags seq payload window``, sorted by connection, then time;
            TCP only.
        stream: shape (n,), int64, connection * 2 + direction.

    Returns:
        Shape (n, 7): ``grown_bytes`` (how far the stream's end moved, gaps included, SYN and FIN
        not), ``again`` (it holds data and ends where the stream had already been: Zeek's ``T``),
        ``resent`` (likewise, without keep-alives and segments overtaken on the way, with repeated
        FINs and SYN-ACKs), ``end_probe`` (one of these that is a FIN alone and came before any timer
        could have run out: of every session that ends so, lossy or not), ``stall`` (one of those that
        hold data and were sent again and again until something came through: a number for each such
        stretch of the stream, -1 for others), ``zero_window`` (its sender takes no more
        data: Zeek's ``W``), ``keep_alive`` (a probe of an idle connection: at most a byte, just
        before the stream's end; RFC 9293, 3.8.4). RSTs add nothing: their numbers cannot be trusted.
    """
    n = len(packets)
    out = {"grown_bytes": np.zeros(n, np.int64)}
    marked = ("again", "resent", "keep_alive", "end_probe")
    out |= {name: np.zeros(n, bool) for name in marked}
    out["stall"] = np.full(n, -1)
    flags = packets["flags"].to_numpy()
    out["zero_window"] = _is_zero_window(flags, packets["window"].to_numpy(), stream)
    order = by_side(stream)
    if (flags & RST).any():
        order = order[flags[order] & RST == 0]
    if not len(order):
        return pd.DataFrame(out)
    flags, payload = flags[order], packets["payload"].to_numpy()[order]
    stream = stream[order]
    head = starts_run(stream)
    place = unwrap(packets["seq"].to_numpy()[order], head)
    # SYN and FIN take a number each and hold no byte.
    marks = ((flags & FIN) + (flags >> 1 & 1)).astype(np.int32)
    end = place + payload
    end += marks
    seen = highest_before(end, head)
    grown = np.where(head, payload + marks, np.maximum(end - seen, 0))
    wild = ~head & (place - seen > _WILDEST_JUMP)
    out["grown_bytes"][order] = np.where(wild, payload, np.maximum(grown - marks * (grown > 0), 0))

    probe = ~head & (payload <= 1) & (place == seen - 1) & (marks == 0)
    out["keep_alive"][order[probe]] = True
    stale = np.flatnonzero(~head & (grown == 0) & ((payload > 0) | (marks > 0)))
    flags, payload, ts = flags[stale], payload[stale], packets["ts"].to_numpy()[order]
    out["again"][order[stale]] = payload > 0
    # One that comes right after a segment that left a hole was not sent again, it took another way.
    last = last_row(np.flatnonzero(head | (grown > 0)), stale)
    overtaken = ~head[last] & (place[last] > seen[last]) & (ts[stale] - ts[last] <= _OVERTAKEN_S)
    tells = (payload > 0) | (flags & FIN > 0) | (flags & (SYN | ACK) == SYN | ACK)
    out["resent"][order[stale]] = tells & ~probe[stale] & ~overtaken
    mine = np.flatnonzero((payload > 0) & ~probe[stale] & ~overtaken)
    at = stale[mine]
    out["stall"][order[at]] = _find_stalls(stream[at], place[at], ts[at])
    early = (flags & FIN > 0) & (payload == 0) & (ts[stale] - ts[last] < _TIMER_S)
    out["end_probe"][order[stale]] = early & ~overtaken
    return pd.DataFrame(out, copy=False)


def _find_stalls(stream: np.ndarray, place: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """A number for each segment that is sent again so often that its timer ran out several times
    (RFC 6298, 5.5), -1 where it is sent again less often.

    Args:
        stream: shape (n,), of segments with data that were sent again.
        place: shape (n,), where in the stream each begins.
        ts: shape (n,), seconds.
    """
    group, first = number_groups(stream, place)
    n = len(first)
    began, ended = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(began, group, ts)
    np.maximum.at(ended, group, ts)
    stalls = (np.bincount(group, minlength=n) >= _STALL_TIMES) & (ended - began >= _STALL_S)
    return np.where(stalls[group], group, -1)


def by_side(stream: np.ndarray) -> np.ndarray:
    """The stable order of streams that are sorted but for their last bit, the side."""
    connection, side = stream >> 1, (stream & 1).astype(bool)
    head = np.flatnonzero(starts_run(connection)).astype(np.int32)
    size = np.diff(head, append=np.int32(len(stream)))
    index = np.arange(len(stream), dtype=np.int32)
    ones = np.cumsum(side, dtype=np.int32) - side  # packets of side 1 before each
    ones -= np.repeat(ones[head], size)
    zeros = np.add.reduceat(~side, head, dtype=np.int32) if len(head) else head
    order = np.empty(len(stream), np.int32)
    order[np.where(side, np.repeat(head + zeros, size) + ones, index - ones)] = index
    return order


def _is_zero_window(flags: np.ndarray, window: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """A window of 0, unless the sender has reset or the other side has closed."""
    closed = np.flatnonzero(window == 0)
    here, n = stream[closed], int(stream.max(initial=0)) | 1
    peer_done = first_per_group(flags & FIN > 0, stream ^ 1, n + 1)[here] < closed
    reset = first_per_group(flags & RST > 0, stream, n + 1)[here] <= closed
    zero = np.zeros(len(flags), bool)
    zero[closed[~peer_done & ~reset]] = True
    return zero


def unwrap(seq: np.ndarray, head: np.ndarray) -> np.ndarray:
    """32-bit sequence numbers as places in an endless stream, comparable within each stream."""
    seq = seq.astype(np.uint32)
    step = np.diff(seq, prepend=seq[:1]).view(np.int32)
    step[head] = 0
    return np.cumsum(step, dtype=np.int64)


def highest_before(end: np.ndarray, head: np.ndarray) -> np.ndarray:
    """The highest ``end`` among the earlier segments of each stream (its own at a head)."""
    first = np.flatnonzero(head)
    # Each stream is lifted above the one before it, so that one running maximum serves all.
    gaps = np.maximum.reduceat(end, first)[:-1] - np.minimum.reduceat(end, first)[1:] + 1
    lift = np.append(0, np.cumsum(gaps))
    lift = np.repeat(lift, np.diff(first, append=len(end)))
    highest = np.maximum.accumulate(end + lift)
    return np.where(head, end, np.append(end[:1], highest[:-1]) - lift)
