"""What was written to which place, and what stood there before and stands there after.

read 1325 ── X writes 1940 ── read 1940 ── Y writes 1325 ── read 1325
before       first = last     …                             now
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import pandas as pd

from traffic.pcap.protocols import BY_NAME
from traffic.pcap.protocols.written import Point

# Kinds of facts that hold values of the process: no model reads these.
WRITTEN = "written"
_FAILED = ("refused", "unanswered")
_UNDER_WAY = 8  # reads of one place that may be under way when somebody writes to it


def read_values(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per value that a command writes, or that a read next to one found, by time.

    Args:
        rows: exchanges.

    Returns:
        ``exchange`` (row of the exchanges) ``client server port unit protocol kind outcome frame
        answer_frame target``, ``place number value`` as ``Point`` has them (``value`` "" where it
        was not kept), ``asked_s`` and ``seen_s``: when it was sent or asked for, and when it was
        seen to stand there.
    """
    rows = rows[rows["points"].notna()]
    known: dict[tuple[str, str], list[Point] | None] = {}
    found = list[Point]()
    counts = list[int]()
    for key in zip(rows["protocol"].astype("str"), rows["points"].astype("str"), strict=True):
        if key not in known:
            known[key] = BY_NAME[key[0]].read_points(bytes.fromhex(key[1]))
        points = known[key] or []
        found += points
        counts.append(len(points))
    columns = ["client", "server", "port", "unit", "protocol", "kind", "outcome", "frame",
               "answer_frame", "target"]  # fmt: skip
    values = rows[columns].assign(
        exchange=rows.index,
        asked_s=rows["ts"],
        # What is read is what stood there when it was answered.
        seen_s=rows["ts"] + rows["delay_s"].where(rows["kind"] == "read", 0.0).fillna(0.0),
    )
    values = values.loc[values.index.repeat(counts)].reset_index(drop=True)
    values[["place", "number", "value"]] = [
        (one.place, one.number, one.value) for one in found
    ] or pd.DataFrame({"place": [], "number": [], "value": []}).to_numpy()
    text = ("client", "server", "protocol", "kind", "outcome", "place", "value")
    values = values.astype({**dict.fromkeys(text, "str"), "number": "int64"})
    return values.sort_values("asked_s", kind="stable", ignore_index=True)


def writes_nothing(rows: pd.DataFrame) -> pd.Series:
    """Commands that set nothing by themselves, as a selection before its operation."""
    known = {
        (protocol, points): BY_NAME[protocol].read_points(bytes.fromhex(points)) == []
        for protocol, points in _keys(rows)
        if points
    }
    return pd.Series([known.get(key, False) for key in _keys(rows)], index=rows.index, dtype=bool)


def _keys(rows: pd.DataFrame) -> list[tuple[str, str]]:
    points = rows["points"].astype("str").fillna("")
    return list(zip(rows["protocol"].astype("str"), points, strict=True))


@dataclass
class Trace:
    """One place, and what one client did to it; rows of ``read_values`` as named tuples.

    Attributes:
        mine: what the client wrote, by time.
        before: what stood there before its first command; None where that was not seen.
        now: what was seen there last, after its last command; None where nothing was.
    """

    mine: list[Any]
    before: Any = None
    now: Any = None

    @property
    def first(self) -> Any:
        """Its first command."""
        return self.mine[0]

    @property
    def last(self) -> Any:
        """Its last command."""
        return self.mine[-1]

    @property
    def is_back(self) -> bool | None:
        """Whether what stood there before stands there again; None where one of both is unknown."""
        known = self.before is not None and self.now is not None
        return self.before.value == self.now.value if known else None


def trace_places(values: pd.DataFrame, client: str, server: str) -> list[Trace]:
    """Each place of a server that a client wrote to, in the order in which it did.

    A command that was refused, or that nobody answered, changes nothing for sure: what stands
    before and after is told by the others, and by reads.

    Args:
        values: as ``read_values`` returns them.
    """
    traces: dict[tuple[int, int, str], Trace] = {}
    stood: dict[tuple[int, int, str], deque[Any]] = {}
    for row in values[values["server"] == server].itertuples(name="Written"):
        place = (row.port, row.unit, row.place)
        stands = row.outcome not in _FAILED and row.value != ""
        if row.client == client and row.kind == "write":
            if place in traces:
                traces[place].mine.append(row)
                traces[place].now = None
            else:
                known = (one for one in reversed(stood.get(place, ())) if one.seen_s < row.asked_s)
                traces[place] = Trace([row], next(known, None))
        elif stands and place in traces:
            if row.asked_s > traces[place].last.asked_s:
                traces[place].now = row
        elif stands:
            stood.setdefault(place, deque(maxlen=_UNDER_WAY)).append(row)
    return list(traces.values())
