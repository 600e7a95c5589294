"""What the sensor of a packet capture could not see, as ``Quality``."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.arrays import starts_run
from traffic.pcap.drops import find_drops
from traffic.pcap.headers import TCP, UDP
from traffic.pcap.packets import Packets
from traffic.pcap.tcp import ACK, FIN, RST, SYN
from traffic.pcap.unread import name_unread
from traffic.quality import COUNTS, Quality, with_share

# A conversation could show both directions where one side sent this many packets that acknowledge
# the other: a refusal, a stray FIN and its repetitions are fewer.
_LEAST_ACKS = 3
# Traffic is steady where the minute before and after a pause has this many frames, in most of its
# six parts.
_HOLE_S, _AROUND_S, _STEADY_FRAMES, _PART_S, _PARTS, _STEADY_PARTS = 30.0, 600.0, 30, 10.0, 6, 4
_MOST_HOLES = 100


@dataclass(frozen=True)
class Seen:
    """What packets of a capture, or of a piece of it, tell of their sensor.

    Attributes:
        counts: COUNTS of each address, by its number.
        whole: COUNTS, each frame and conversation once, shape (1, n).
        drops: as in ``Quality``.
        unread: frames that nothing reads, by name, most first.
    """

    counts: pd.DataFrame
    whole: pd.DataFrame
    drops: pd.DataFrame
    unread: pd.Series


def see_packets(
    packets: Packets, work: pd.DataFrame, segments: pd.DataFrame, others: pd.DataFrame
) -> Seen:
    """Say what packets tell of their sensor.

    Args:
        packets: the packets of one capture.
        work: as ``traffic.pcap.flows.cut_flows`` returns it.
        segments: shape (n_packets, ...), rows as in ``work``: ``grown_bytes``.
        others: frames that nothing read, rows of ``Packets.others``.
    """
    drops = find_drops(packets, work, segments)
    unread = name_unread(others, packets.buffers).value_counts()
    counts, whole = _count(packets, work, drops)
    names = pd.Series(packets.addresses, dtype="str")
    ends = {side: names.take(drops[side].to_numpy()).to_numpy() for side in ("src", "dst")}
    return Seen(counts, whole, drops.assign(**ends), unread)


def make_quality(
    seen: list[Seen], addresses: np.ndarray, envelopes: pd.DataFrame, holes: pd.DataFrame
) -> Quality:
    """The quality of a capture from what its pieces tell.

    Args:
        seen: of its pieces.
        addresses: their texts, by number.
        envelopes, holes: as in ``Quality``.
    """
    counts = pd.concat([piece.counts for piece in seen])
    if len(seen) > 1:
        counts = counts.groupby(level=0).sum()
    tells = counts[(counts[list(COUNTS[1:])] > 0).any(axis=1)]
    devices = tells.set_axis(pd.Index(addresses[tells.index]), axis=0)
    whole = pd.concat([piece.whole for piece in seen]).sum().to_frame().T
    drops = pd.concat(
        [piece.drops for piece in seen if len(piece.drops)] or [seen[0].drops], ignore_index=True
    )
    if len(seen) > 1:
        drops = drops.iloc[np.lexsort([drops[name] for name in ("frame", "file", "ts")])]
    unread = pd.concat([piece.unread for piece in seen if len(piece.unread)] or [seen[0].unread])
    return Quality(
        devices=with_share(devices),
        whole=with_share(whole).iloc[0].astype(float),
        unread=pd.DataFrame({"name": unread.index.astype("str"), "frames": unread.to_numpy()}),
        envelopes=envelopes,
        drops=drops.reset_index(drop=True),
        holes=holes,
    )


def _count(
    packets: Packets, work: pd.DataFrame, drops: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``Seen.counts`` and ``Seen.whole``."""
    table, arp, copies, n = packets.table, packets.arp, packets.copies, len(packets.addresses)

    def by_device(ends: pd.DataFrame, *sides: str, weights: np.ndarray | None = None) -> np.ndarray:
        counts = [np.bincount(ends[side].to_numpy(), weights, minlength=n) for side in sides]
        return np.sum(counts, axis=0).astype(np.int64)

    cut = np.flatnonzero(table["cut"].to_numpy())
    proto, held, payload = (table[name].to_numpy()[cut] for name in ("proto", "held", "payload"))
    flagless = (proto == TCP) & ~table["has_tcp"].to_numpy()[cut]
    # A datagram without its first byte shows who asks, and neither what nor how it is answered.
    blind = cut[flagless | ((proto == UDP) & (payload > 0) & (held == 0))]
    talks = _find_ways(work)
    copied = by_device(copies, "src", "dst")
    # Flows are fewer than packets.
    head = np.flatnonzero(starts_run(work["flow"].to_numpy()))
    size = np.diff(head, append=len(work))
    counts = {
        "frames": by_device(work.iloc[head], "src", "dst", weights=size)
        + by_device(arp, "sender", "target")
        + copied,
        "copies": copied,
        "cut_frames": by_device(table.iloc[cut], "src", "dst"),
        "blind_frames": by_device(table.iloc[blind], "src", "dst"),
        "two_way": by_device(talks[~talks["one_way"]], "src", "dst"),
        "one_way": by_device(talks[talks["one_way"]], "src", "dst"),
        "gaps": by_device(drops, "src", "dst"),
        "dropped_bytes": by_device(drops, "src", "dst", weights=drops["bytes"].to_numpy()),
    }
    here = np.flatnonzero(np.sum([counts[name] > 0 for name in COUNTS], axis=0))
    devices = pd.DataFrame({name: counts[name][here] for name in COUNTS}, index=here)
    one_way = int(talks["one_way"].sum())
    whole = pd.DataFrame(
        {
            "frames": [len(table) + len(arp) + len(packets.others) + len(copies)],
            "copies": [len(copies)],
            "cut_frames": [len(cut)],
            "blind_frames": [len(blind)],
            "two_way": [len(talks) - one_way],
            "one_way": [one_way],
            "gaps": [len(drops)],
            "dropped_bytes": [int(drops["bytes"].sum())],
        }
    )
    return devices, whole


def _find_ways(work: pd.DataFrame) -> pd.DataFrame:
    """TCP flows that could show both directions: ``src dst`` and whether they show ``one_way``."""
    tcp = slice(int((work["proto"].to_numpy() == TCP).sum()))  # these come first
    flow, is_orig, flags = (work[name].to_numpy()[tcp] for name in ("flow", "is_orig", "flags"))
    n = int(flow[-1]) + 1 if len(flow) else 0
    stream = flow * 2 + is_orig
    sent = np.bincount(stream, minlength=2 * n).reshape(n, 2)
    acks = np.bincount(stream[flags & (ACK | RST) == ACK], minlength=2 * n).reshape(n, 2)
    able = np.flatnonzero(acks.max(axis=1, initial=0) >= _LEAST_ACKS)
    head = np.searchsorted(flow, able)
    ends = {side: work[side].to_numpy()[tcp][head] for side in ("src", "dst")}
    return pd.DataFrame({**ends, "one_way": (sent == 0).any(axis=1)[able]})


# ---- Holes in time ----


# By whether TCP's numbers go on across a pause: no connection tells; all go on; bytes are lost.
_PAUSES = ("silence", "clock forward", "not captured")


def find_holes(packets: Packets) -> pd.DataFrame:
    """``Quality.holes`` of a capture."""
    tables = (packets.table, packets.arp, packets.others)
    main = max(tables, key=len)
    ts = main["ts"].to_numpy()
    others = [table["ts"].to_numpy() for table in tables if table is not main]
    pauses = []
    for place in find_pauses(ts, others):
        after = main.iloc[place + 1]
        start_s, end_s = float(ts[place]), float(ts[place + 1])
        told = weigh_pause(packets.table, start_s, end_s)
        pauses.append(Pause(start_s, end_s, told, int(after["file"]), int(after["frame"])))
    return make_holes(packets.clock_steps, pauses)


@dataclass(frozen=True)
class Pause:
    """No frame from ``start_s`` to ``end_s``; what connections ``told`` of it, a place in
    ``_PAUSES``; the frame after it."""

    start_s: float
    end_s: float
    told: int
    file: int
    frame: int


def make_holes(clock_steps: pd.DataFrame, pauses: list[Pause]) -> pd.DataFrame:
    """``Quality.holes`` from ``Packets.clock_steps`` and the pauses that were found."""
    rows = [
        {"start_s": row.ts + row.back_s, "end_s": row.ts, "kind": "clock back", "file": row.file,
         "frame": row.frame}
        for row in clock_steps.itertuples()
    ]  # fmt: skip
    rows += [
        {"start_s": one.start_s, "end_s": one.end_s, "kind": _PAUSES[one.told],
         "file": one.file, "frame": one.frame}
        for one in pauses
    ]  # fmt: skip
    holes = pd.DataFrame(rows, columns=["start_s", "end_s", "kind", "file", "frame"])
    types = {"start_s": "float64", "end_s": "float64", "kind": "str"}
    return holes.astype({**types, "file": "int64", "frame": "int64"})


def find_pauses(ts: np.ndarray, others: list[np.ndarray]) -> list[int]:
    """The frames after which nothing came for long, amid traffic without a tenth of such a pause.

    Args:
        ts: times of most of the frames, sorted, shape (n,).
        others: times of those of other kinds, which must not lie within a pause.
    """
    pause, found = np.diff(ts), []
    places = np.flatnonzero(pause >= _HOLE_S)
    minute_s = _PART_S * _PARTS
    before = places + 1 - np.searchsorted(ts, ts[places] - minute_s)
    after = np.searchsorted(ts, ts[places + 1] + minute_s) - places - 1
    for place in places[np.minimum(before, after) >= _STEADY_FRAMES]:
        start_s, end_s = ts[place], ts[place + 1]
        first, last = np.searchsorted(ts, (start_s - _AROUND_S, end_s + _AROUND_S))
        usual = max(
            pause[first:place].max(initial=0.0), pause[place + 1 : last - 1].max(initial=0.0)
        )
        if usual >= pause[place] / 10:
            continue
        steady = _is_steady(start_s - ts[first : place + 1][::-1])
        steady &= _is_steady(ts[place + 1 : last] - end_s)
        alone = all(
            np.searchsorted(o, start_s, "right") == np.searchsorted(o, end_s) for o in others
        )
        if steady and alone:
            found.append(int(place))
        if len(found) == _MOST_HOLES:
            break
    return found


def _is_steady(away_s: np.ndarray) -> bool:
    """Whether frames this far from a pause, the nearest first, are steady traffic."""
    near = away_s[: np.searchsorted(away_s, _PART_S * _PARTS)]
    return len(near) >= _STEADY_FRAMES and len(np.unique(near // _PART_S)) >= _STEADY_PARTS


def weigh_pause(table: pd.DataFrame, start_s: float, end_s: float) -> int:
    """What connections tell of a pause, a place in ``_PAUSES``; of pieces the highest counts.

    Args:
        table: packets, by time.
        start_s, end_s: when nothing came.
    """
    ts = table["ts"].to_numpy()
    first = np.searchsorted(ts, start_s - _AROUND_S)
    near = table.iloc[first : np.searchsorted(ts, end_s + _AROUND_S, side="right")]
    rows = near[near["has_tcp"]]
    keys = ["src", "dst", "sport", "dport"]
    names = ["seq", "payload", "flags", "ts"]
    if rows.empty:
        return 0
    rows = rows[keys + names].sort_values([*keys, "ts"], kind="stable")
    same = (rows[keys].to_numpy()[1:] == rows[keys].to_numpy()[:-1]).all(axis=1)
    ts, flags = rows["ts"].to_numpy(), rows["flags"].to_numpy()
    across = same & (ts[:-1] <= start_s) & (ts[1:] >= end_s)
    across &= (flags[1:] & (SYN | RST) == 0) & (flags[:-1] & (FIN | RST) == 0)
    if not across.any():
        return 0
    marks = flags & SYN > 0
    end = (rows["seq"].to_numpy().astype(np.int64) + rows["payload"].to_numpy() + marks)[:-1]
    lost = (rows["seq"].to_numpy().astype(np.int64)[1:] - end).astype(np.uint32).view(np.int32)
    return 2 if (lost[across] > 0).any() else 1
