import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.pcap.tcp import ACK, FIN, RST, SYN, end_connections

_STEP = st.tuples(
    st.sampled_from([0.0, 0.3, 2.0, 4.9, 5.0, 6.0, 301.0]),
    st.sampled_from([SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, FIN | RST]),
    st.sampled_from([100, 200]),
    st.sampled_from([0, 0, 5]),
    st.booleans(),
)


def _one_by_one(rows: pd.DataFrame) -> list[bool]:
    """The rules of ``end_connections`` as a loop over the packets of one conversation."""
    starts, previous, last_opening, closed_since = [], -np.inf, None, False
    began, tried, answered, closed_at = None, False, False, np.inf
    fins: set[bool] = set()
    spoke: set[bool] = set()
    for row in rows.itertuples():
        opening = row.flags & (SYN | ACK | FIN | RST) == SYN
        silent = row.ts - previous >= 300
        if silent:
            last_opening = None
        repeats = last_opening == (row.seq, row.forward) and not closed_since
        new = silent or (opening and not repeats) or row.ts >= closed_at + 5
        new |= tried and not answered and closed_at > began.ts + 5 - 1e-9 and row.ts >= began.ts + 5
        if new:
            began, tried, answered, closed_at = row, opening, False, np.inf
            fins, spoke = set(), set()
        starts.append(bool(new))
        spoke.add(row.forward)
        answered |= row.forward != began.forward and bool(
            row.flags & (SYN | FIN | RST) or row.payload
        )
        if row.flags & (FIN | RST) == FIN:
            fins.add(row.forward)
            if closed_at == np.inf and (len(fins) == 2 or spoke == {began.forward}):
                closed_at = row.ts
        if row.flags & RST:
            closed_at = min(closed_at, row.ts)
        if row.flags & (FIN | RST):
            closed_since = True
        if opening:
            last_opening, closed_since = (row.seq, row.forward), False
        previous = row.ts
    return starts


@settings(max_examples=400, deadline=None)
@given(st.lists(_STEP, min_size=1, max_size=30))
def test_law_columns_end_connections_as_a_loop_would(steps: list[tuple]) -> None:
    rows = pd.DataFrame(steps, columns=["ts", "flags", "seq", "payload", "forward"])
    rows["ts"] = 1000 + rows["ts"].cumsum()
    silence = np.diff(rows["ts"].to_numpy(), prepend=-np.inf) >= 300
    assert end_connections(rows, silence).tolist() == _one_by_one(rows)


def test_conversations_do_not_touch_each_other() -> None:
    rows = pd.DataFrame(
        [
            [1000.0, RST, 1, 0, True],
            [1006.0, ACK, 1, 0, True],
            [1001.0, SYN, 9, 0, True],
            [1002.0, SYN, 9, 0, True],
            [1006.5, SYN, 9, 0, True],
        ],
        columns=["ts", "flags", "seq", "payload", "forward"],
    )
    starts = np.array([True, False, True, False, False])
    assert end_connections(rows, starts).tolist() == [True, True, True, False, True]


def test_a_conversation_of_lone_resets_ends_one_by_one() -> None:
    rows = pd.DataFrame(
        {"ts": 1000.0 + np.arange(20), "flags": RST, "seq": 1, "payload": 0, "forward": True}
    )
    starts = np.arange(20) == 0
    assert np.flatnonzero(end_connections(rows, starts)).tolist() == [0, 5, 10, 15]
