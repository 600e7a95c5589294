"""A capture from its devices' sides: each flow's slots once for each end that is a device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from traffic.arrays import number_values, starts_run
from traffic.capture import Capture
from traffic.plant import GROUP, Plant, is_local

TCP, UDP, ICMP, OTHER = range(4)
_SIDES = ("orig", "resp")


@dataclass(frozen=True)
class Sides:
    """A capture from its devices' sides: one row per device, flow and slot; a local flow has two.

    Attributes:
        table: ``cell`` (row of ``cells``), ``device`` and ``peer`` (codes in ``addresses``),
            ``slot``, ``flow``, ``tuple`` (the 5-tuple's code), ``orig`` (the device opened the
            flow), packets and bytes from the device's side, ``syns`` and outcomes.
        evidence: one row per piece of evidence and device: ``cell``, ``end`` (0 the device asked, 1
            it was asked), ``kind``, ``code``, ``count``, ``distinct``.
        cells: one row per device and slot in which something was seen: ``device`` (code), ``slot``;
            sorted.
        addresses: the text of every code, sorted, so that codes sort as addresses do.
        external: per code, whether it is a unicast address outside the plant.
    """

    table: pd.DataFrame
    evidence: pd.DataFrame
    cells: pd.DataFrame
    addresses: pd.Index
    external: np.ndarray


@dataclass(frozen=True)
class Share:
    """Some devices of a capture that is too large to be looked at in one piece.

    A device's samples depend on its own flows and evidence, and on when the capture ends.

    Attributes:
        number: of this share, below ``of``.
        of: how many shares there are.
        end_slot: the last slot of the whole capture.
    """

    number: int
    of: int
    end_slot: int

    def holds(self, addresses: pd.Series) -> np.ndarray:
        """Which addresses belong to the share, shape (n,), bool."""
        return share_of(addresses, self.of) == self.number


def share_of(addresses: pd.Series, of: int) -> np.ndarray:
    """The share of each address, by a hash that is the same on every machine, shape (n,)."""
    hashed = pd.util.hash_array(addresses.to_numpy(object), categorize=False)
    return (hashed % np.uint64(of)).astype(np.int64)


def select_share(capture: Capture, share: Share) -> Capture:
    """The flows, activity and evidence of a share's devices, and of nobody else's alone; all delays,
    which are few."""
    flows, evidence = capture.flows, capture.evidence
    ends = [flows["id.orig_h"], flows["id.resp_h"], evidence["src"], evidence["dst"]]
    codes, addresses = pd.factorize(pd.concat(ends, ignore_index=True))
    mine = share.holds(pd.Series(addresses, dtype="str"))[codes]
    size = np.cumsum([len(table) for table in ends])[:-1]
    orig, resp, src, dst = np.split(mine, size)
    kept = orig | resp
    number = np.cumsum(kept) - 1
    activity = capture.activity.iloc[np.flatnonzero(kept[capture.activity["flow"].to_numpy()])]
    return Capture(
        flows.iloc[np.flatnonzero(kept)].reset_index(drop=True),
        activity.assign(flow=number[activity["flow"].to_numpy()]).reset_index(drop=True),
        evidence.iloc[np.flatnonzero(src | dst)].reset_index(drop=True),
        capture.delays,
    )


def make_sides(
    capture: Capture, plant: Plant | None, local: Sequence[str], share: Share | None
) -> Sides:
    """Split a capture's activity and evidence by device, as ``traffic.plant.is_local`` tells one;
    of a ``share`` only its own devices."""
    flows, activity, evidence = capture.flows, capture.activity, capture.evidence
    ends = [flows["id.orig_h"], flows["id.resp_h"], evidence["src"], evidence["dst"]]
    codes, addresses = pd.factorize(pd.concat(ends, ignore_index=True), sort=True)
    addresses = pd.Index(addresses)
    names = pd.Series(addresses, dtype="str")
    ours = is_local(names, plant, local).to_numpy(bool)
    group = names.str.match(GROUP).to_numpy(bool)
    external = ~ours & ~group
    if share is not None:
        ours = ours & share.holds(names)
    orig, resp, src, dst = np.split(codes, np.cumsum([len(flows), len(flows), len(evidence)]))

    of_flow = _of_flow(flows)
    flow = activity["flow"].to_numpy()
    sides = [np.flatnonzero(ours[mine[flow]]) for mine in (orig, resp)]

    def both(of_orig: np.ndarray, of_resp: np.ndarray) -> np.ndarray:
        return np.concatenate([of_orig[sides[0]], of_resp[sides[1]]])

    sent, got = ({n: activity[f"{s}_{n}"].to_numpy() for n in ("pkts", "bytes")} for s in _SIDES)
    columns = {
        "device": both(orig[flow], resp[flow]),
        "peer": both(resp[flow], orig[flow]),
        "slot": both(*[activity["slot"].to_numpy()] * 2),
        "flow": both(flow, flow),
        "orig": np.repeat([True, False], [len(rows) for rows in sides]),
        "out_pkts": both(sent["pkts"], got["pkts"]),
        "in_pkts": both(got["pkts"], sent["pkts"]),
        "out_bytes": both(sent["bytes"], got["bytes"]),
        "in_bytes": both(got["bytes"], sent["bytes"]),
        "syns": both(*[activity["orig_syns"].to_numpy()] * 2),
    }
    columns |= {name: values[columns["flow"]] for name, values in of_flow.items()}
    table = pd.DataFrame(columns, copy=False)
    table["group"] = group[table["peer"].to_numpy()]
    counts = evidence[["slot", "kind", "code", "count", "distinct"]]
    seen = pd.concat(
        [counts.assign(device=mine, end=end)[ours[mine]] for end, mine in enumerate((src, dst))],
        ignore_index=True,
    )

    device, slot = (
        np.concatenate([part[name].to_numpy(np.int64) for part in (table, seen)])
        for name in ("device", "slot")
    )
    first, last = (int(slot.min()), int(slot.max())) if len(slot) else (0, 0)
    width = last - first + 1
    cells, cell = number_values(device * width + slot - first)
    table["cell"], seen["cell"] = cell[: len(table)], cell[len(table) :]
    grid = pd.DataFrame({"device": cells // width, "slot": cells % width + first})
    return Sides(table, seen, grid, addresses, external)


def _of_flow(flows: pd.DataFrame) -> dict[str, np.ndarray]:
    """What holds for a flow in each of its slots, each of shape (n_flows,)."""
    return {
        "tuple": _tuples(flows),
        "proto": _protocols(flows),
        "port": flows["id.resp_p"].to_numpy(np.int64),
        "answered": np.nan_to_num(flows["resp_pkts"].to_numpy(float), nan=0.0) > 0,
        "refused": (flows["conn_state"] == "REJ").to_numpy(),
    }


def _protocols(flows: pd.DataFrame) -> np.ndarray:
    proto = flows["proto"].fillna("")
    known = [proto == "tcp", proto == "udp", proto.str.startswith("icmp")]
    return np.select(known, [TCP, UDP, ICMP], OTHER)


def _tuples(flows: pd.DataFrame) -> np.ndarray:
    """A number for each distinct 5-tuple, shape (n_flows,)."""
    ends = pd.concat([flows["id.orig_h"], flows["id.resp_h"]], ignore_index=True).factorize()[0]
    orig, resp = np.split(ends.astype(np.int64), 2)
    pair = pd.factorize(orig * (ends.max(initial=0) + 1) + resp)[0].astype(np.int64)
    sport, dport = (flows[name].to_numpy(np.int64) & 0xFFFF for name in ("id.orig_p", "id.resp_p"))
    key = pair << 34 | sport << 18 | dport << 2 | _protocols(flows)
    return pd.factorize(key)[0].astype(np.int64)


# ---- Silence is a symptom: a device with a rhythm that goes quiet keeps its cells ----

SLOT_BITS = 40  # of a number that holds a code and, below it, a slot
_RHYTHM = 30  # slots
_RHYTHM_SHARE = 0.5
_SILENCE = 60  # slots of zeros kept for a device that is not in the inventory


def fill_silence(sides: Sides, inventory: np.ndarray, end_slot: int | None) -> Sides:
    """Add cells where a device with a rhythm is quiet.

    Args:
        sides: the capture from its devices' sides.
        inventory: codes of the devices of plant.yaml, whose silence is kept to the end of the
            capture; another's for ten minutes (a guest may leave).
        end_slot: the last slot of the capture; None for that of its cells.

    Returns:
        The same with the missing cells, sorted by device and slot.
    """
    if sides.cells.empty:
        return sides
    seen = number_cells(sides.cells)
    sent = np.bincount(sides.table["cell"], sides.table["out_pkts"], len(seen)) > 0
    device, slot = (sides.cells[name].to_numpy()[sent] for name in ("device", "slot"))
    end = (sides.cells["slot"].max() if end_slot is None else end_slot) + 1
    following = np.append(slot[1:], end)
    following[np.append(device[1:] != device[:-1], True)] = end
    length = following - slot - 1
    length = np.where(np.isin(device, inventory), length, np.minimum(length, _SILENCE))
    length[active_share(device, slot) < _RHYTHM_SHARE] = 0
    quiet = np.repeat((device << SLOT_BITS) + slot + 1 - (np.cumsum(length) - length), length)
    # One that only receives is quiet in slots that it has a cell of.
    keys = np.sort(np.append(seen, quiet + np.arange(len(quiet))), kind="stable")  # merges runs
    keys = keys[starts_run(keys)]
    place = np.searchsorted(keys, seen)
    table, evidence = (
        rows.assign(cell=place[rows["cell"].to_numpy()]) for rows in (sides.table, sides.evidence)
    )
    cells = pd.DataFrame({"device": keys >> SLOT_BITS, "slot": keys & (1 << SLOT_BITS) - 1})
    return replace(sides, table=table, evidence=evidence, cells=cells)


def number_cells(cells: pd.DataFrame) -> np.ndarray:
    """Device and slot in one number that sorts like the two, shape (n,)."""
    return (cells["device"].to_numpy(np.int64) << SLOT_BITS) + cells["slot"].to_numpy(np.int64)


def active_share(device: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Share of the last ``_RHYTHM`` slots, each row's included, in which the device sent, (n,)."""
    if not len(slot):
        return np.zeros(0)
    key = (device.astype(np.int64) << SLOT_BITS) + slot
    count = np.arange(len(key)) + 1 - np.searchsorted(key, key - _RHYTHM, side="right")
    first = slot[np.searchsorted(device, device, side="left")]
    known = np.minimum(_RHYTHM, slot - first + 1)
    # Fewer than a dozen slots are no rhythm yet.
    return np.where(known >= 12, count / known, 0.0)
