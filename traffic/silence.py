"""Silence is a symptom: a device with a rhythm that goes quiet keeps cells, so that its silence is seen."""

from dataclasses import replace

import numpy as np
import pandas as pd

from traffic.device_view import Sides

__all__ = ["SLOT_BITS", "active_share", "fill_silence", "number_cells"]

SLOT_BITS = 40  # of a number that holds a code and, below it, a slot
_RHYTHM = 30  # slots
_RHYTHM_SHARE = 0.5
_SILENCE = 60  # slots of zeros kept for a device that is not in the inventory


def fill_silence(sides: Sides, inventory: np.ndarray) -> Sides:
    """Add cells where a device with a rhythm is quiet, so that silence is seen.

    Args:
        sides: the capture from its devices' sides.
        inventory: codes of the devices of plant.yaml, whose silence is kept to the end of the capture; another's for
            ten minutes (a guest may leave).

    Returns:
        The same with the missing cells, sorted by device and slot.
    """
    if sides.cells.empty:
        return sides
    seen = number_cells(sides.cells)
    sent = np.bincount(sides.table["cell"], sides.table["out_pkts"], len(seen)) > 0
    device, slot = (sides.cells[name].to_numpy()[sent] for name in ("device", "slot"))
    end = sides.cells["slot"].max() + 1
    following = np.append(slot[1:], end)
    following[np.append(device[1:] != device[:-1], True)] = end
    length = following - slot - 1
    length = np.where(np.isin(device, inventory), length, np.minimum(length, _SILENCE))
    length[active_share(device, slot) < _RHYTHM_SHARE] = 0
    quiet = np.repeat((device << SLOT_BITS) + slot + 1 - (np.cumsum(length) - length), length)
    keys = np.union1d(seen, quiet + np.arange(len(quiet)))  # one that only receives is quiet in slots it has a cell of
    place = np.searchsorted(keys, seen)
    table, evidence = (rows.assign(cell=place[rows["cell"].to_numpy()]) for rows in (sides.table, sides.evidence))
    cells = pd.DataFrame({"device": keys >> SLOT_BITS, "slot": keys & (1 << SLOT_BITS) - 1})
    return replace(sides, table=table, evidence=evidence, cells=cells)


def number_cells(cells: pd.DataFrame) -> np.ndarray:
    """Device and slot in one number that sorts like the two, shape (n,)."""
    return (cells["device"].to_numpy(np.int64) << SLOT_BITS) + cells["slot"].to_numpy(np.int64)


def active_share(device: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Share of the last ``_RHYTHM`` slots up to and with each row in which the device sent, shape (n,)."""
    if not len(slot):
        return np.zeros(0)
    key = (device.astype(np.int64) << SLOT_BITS) + slot
    count = np.arange(len(key)) + 1 - np.searchsorted(key, key - _RHYTHM, side="right")
    first = slot[np.searchsorted(device, device, side="left")]
    known = np.minimum(_RHYTHM, slot - first + 1)
    # Fewer than a dozen slots are no rhythm yet.
    return np.where(known >= 12, count / known, 0.0)
