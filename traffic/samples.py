"""Samples: what one device did in ten seconds, and what its past says about it.

Slots are aligned to the epoch and half-open, so a packet lands in the same slot whichever file it
came from:

    ts       0 s         10 s         20 s
    slot     [0, 10)     [10, 20)              a packet at ts=10.0 belongs to [10, 20)

Features count what does not depend on where a source cut its flows: unanswered 5-tuples, not Zeek's
S0 rows.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from traffic.arrays import number_groups, starts_run
from traffic.capture import SAMPLE_S, Capture
from traffic.delays import median_delays
from traffic.device_history import HISTORY, make_history
from traffic.device_view import (
    ICMP,
    SLOT_BITS,
    TCP,
    UDP,
    Share,
    Sides,
    fill_silence,
    make_sides,
    number_cells,
)
from traffic.plant import Plant

SERVICES = {
    "web": (80, 443, 8000, 8080, 8443, 8888),
    "dns": (53,),
    "time": (123,),
    "mqtt": (1883, 8883),
    "control": (
        102, 502, 789, 1911, 1962, 2222, 2404, 4840, 5007, 5094, 9600, 18245, 20000, 34964, 44818,
        47808,
    ),
    "login": (22, 23, 513, 2323, 3389, 5800, 5900),
    "file": (20, 21, 69, 139, 445, 873, 2049),
    "media": (554, 1935, 5004, 8554),
    "infra": (67, 68, 137, 138, 161, 162, 514, 546, 547, 1900, 3702, 5353, 5355),
}  # fmt: skip
CLASSES = (*SERVICES, "other")

_VOLUME = ("out_pkts", "in_pkts", "out_bytes", "in_bytes")
_TUPLES = ("tcp_out", "tcp_in", "udp_out", "udp_in", "icmp_out", "icmp_in")
_SPREAD = ("peers", "external_peers", "hosts_out", "ports_out", "hosts_in", "ports_in")
_OUTCOMES = (
    "unanswered_out", "unanswered_in", "refused_out", "refused_in", "udp_unanswered_out",
    "udp_unanswered_in",
)  # fmt: skip

# Evidence kind -> the columns it counts in for who asked (src) and for who was asked (dst).
EVIDENCE_COUNTS = {
    "arp_request": ("arp_requests", None),
    "arp_unanswered": ("arp_unanswered_out", "arp_unanswered_in"),
    "arp_conflict": (None, "arp_conflicts"),
    "retransmission": ("retransmissions", "retransmissions"),
    "zero_window": ("zero_windows", "zero_windows"),
    "reset": ("resets", "resets"),
    "unreachable": ("unreachable", "unreachable"),
    "dns_query": ("dns_queries", None),
    "dns_failed": ("dns_failed", None),
    "modbus_read": ("modbus_reads_out", "modbus_reads_in"),
    "modbus_other": ("modbus_reads_out", "modbus_reads_in"),
    "modbus_write": ("modbus_writes_out", "modbus_writes_in"),
    "modbus_exception": ("modbus_exceptions", "modbus_exceptions"),
    "mqtt_connect": ("mqtt_connects", "mqtt_connects"),
    "mqtt_refused": ("mqtt_refused", "mqtt_refused"),
    "mqtt_publish": ("mqtt_publishes", "mqtt_publishes"),
    "mqtt_malformed": ("mqtt_malformed", "mqtt_malformed"),
}
_EVIDENCE_COLUMNS = dict.fromkeys(n for pair in EVIDENCE_COUNTS.values() for n in pair if n)
_MODBUS = ("modbus_codes", "modbus_registers")

COUNTED = (
    *_VOLUME, *_TUPLES, *_SPREAD, *_OUTCOMES, *_EVIDENCE_COLUMNS, *_MODBUS, *(f"pkts_{name}" for name in CLASSES),
    "flow_age_s",
)  # fmt: skip
COLUMNS = (*COUNTED, *HISTORY)
# Measured, NaN where nothing tells: until peers acknowledged what the device sent, until it did what
# they sent. The median of TCP; a log of flows has none. No part of COLUMNS yet: the window text and
# what was trained on samples change together.
MEASURES = ("peer_ack_s", "own_ack_s")
# What went wrong in a sample, whoever's fault it was.
TROUBLE = (
    *_OUTCOMES, "resets", "retransmissions", "zero_windows", "unreachable", "arp_unanswered_out", "arp_unanswered_in",
    "arp_conflicts", "dns_failed", "modbus_exceptions", "mqtt_refused", "mqtt_malformed",
)  # fmt: skip


def make_samples(
    capture: Capture,
    plant: Plant | None = None,
    local: Sequence[str] = (),
    share: Share | None = None,
) -> pd.DataFrame:
    """Aggregate a capture into one row per device and ten-second slot.

    Args:
        capture: flows, activity and evidence of one source.
        plant: the inventory; its addresses are devices wherever they lie, and its silence is
            recorded to the end.
        local: further networks (CIDR) whose addresses are devices.
        share: which of the devices, where the capture holds a share of a larger one.

    Returns:
        Shape (n_samples, 2 + len(COLUMNS) + len(MEASURES)): ``device``, ``start_s`` (seconds since
        the epoch), then ``COLUMNS`` and ``MEASURES`` as float32, sorted by device and start. A
        device with a rhythm that goes quiet keeps samples of zeros for ten minutes, one of the
        inventory as long as it is quiet. Empty in, empty out.
    """
    sides = make_sides(capture, plant, local, share)
    known = [device.address for device in plant.devices] if plant else []
    inventory = sides.addresses.get_indexer(known)
    if share is not None:
        inventory = inventory[share.holds(pd.Series(known, dtype="str"))]
    sides = fill_silence(sides, inventory[inventory >= 0], share.end_slot if share else None)
    device, slot = (sides.cells[name].to_numpy() for name in ("device", "slot"))
    columns = {name: np.zeros(len(sides.cells), np.float32) for name in COUNTED}
    _count_traffic(columns, sides, capture.flows)
    _count_evidence(columns, sides.evidence, len(sides.cells))
    samples = pd.DataFrame({"device": device, "slot": slot, **columns}, copy=False)
    history = make_history(samples, sides, capture.flows["ts"].to_numpy())
    names = pd.Series(sides.addresses, dtype="str").take(device).reset_index(drop=True)
    counted = {"device": names, "start_s": slot * SAMPLE_S, **columns}
    measured = _measure_delays(capture.delays, sides)
    return pd.concat([pd.DataFrame(counted, copy=False), history, measured], axis=1)


def _count_traffic(columns: dict[str, np.ndarray], sides: Sides, flows: pd.DataFrame) -> None:
    table = sides.table
    cell, n = table["cell"].to_numpy(), len(sides.cells)
    pkts = table["out_pkts"] + table["in_pkts"]
    for name in _VOLUME:
        columns[name] += np.bincount(cell, table[name], n)
    place = cell * len(CLASSES) + _service_classes(table)
    of_class = np.bincount(place, pkts, n * len(CLASSES)).reshape(n, len(CLASSES))
    for code, name in enumerate(CLASSES):
        columns[f"pkts_{name}"] += of_class[:, code]
    icmp = np.flatnonzero(table["proto"].to_numpy() == ICMP)
    for name, way in (("icmp_out", "out_pkts"), ("icmp_in", "in_pkts")):
        columns[name] += np.bincount(cell[icmp], table[way].to_numpy()[icmp], n)
    age_s = (table["slot"].to_numpy() + 1) * SAMPLE_S - flows["ts"].to_numpy()[table["flow"]]
    # Of the same type as what it is put into: numpy's fast way.
    np.maximum.at(columns["flow_age_s"], cell, np.minimum(age_s, 1e6).astype(np.float32))

    group = table["group"].to_numpy()
    peers, tuples = _Distinct(cell, table["peer"]), _Distinct(cell, table["tuple"])
    columns["peers"] += peers.count(~group, n)
    columns["external_peers"] += peers.count(sides.external[table["peer"]], n)
    for orig, way in ((True, "out"), (False, "in")):
        mine = (table["orig"] == orig).to_numpy() & ~group
        columns[f"hosts_{way}"] += peers.count(mine, n)
        columns[f"ports_{way}"] += _most_ports(table, mine, n)
        for name, which in _outcomes(table).items():
            columns[f"{name}_{way}"] += tuples.count(mine & which, n)


def _outcomes(table: pd.DataFrame) -> dict[str, np.ndarray]:
    tcp, udp = (table["proto"] == TCP).to_numpy(), (table["proto"] == UDP).to_numpy()
    silent = ~table["answered"].to_numpy()
    return {
        "tcp": tcp,
        "udp": udp,
        "unanswered": tcp & silent & (table["syns"] > 0).to_numpy(),
        "refused": tcp & table["refused"].to_numpy(),
        "udp_unanswered": udp & silent,
    }


def _service_classes(table: pd.DataFrame) -> np.ndarray:
    other = len(SERVICES)
    classes = np.full(65536, other, np.int8)
    for code, ports in enumerate(SERVICES.values()):
        classes[list(ports)] = code
    code = classes[table["port"].to_numpy() & 0xFFFF]
    return np.where(table["proto"].to_numpy() >= ICMP, other, code)


class _Distinct:
    """Number of different values per cell, for many choices of rows after one sort."""

    def __init__(self, cell: np.ndarray, what: pd.Series) -> None:
        values = what.to_numpy(np.int64)
        self._width = values.max(initial=0) + 1
        key = cell.astype(np.int64) * self._width + values
        self._order = np.argsort(key, kind="stable")
        self._key = key[self._order]

    def count(self, which: np.ndarray, n: int) -> np.ndarray:
        """Different values of each of ``n`` cells among the rows of a mask, shape (n,)."""
        key = self._key[which[self._order]]
        return np.bincount(key[starts_run(key)] // self._width, minlength=n)


def _most_ports(table: pd.DataFrame, which: np.ndarray, n: int) -> np.ndarray:
    """The most ports touched at one host (or by one host), per cell, shape (n,)."""
    rows = np.flatnonzero(which & (table["proto"].to_numpy() < ICMP))
    cell, peer, port = (table[name].to_numpy()[rows] for name in ("cell", "peer", "port"))
    once = number_groups(cell, peer, port)[1]
    cell = cell[once]
    host, first = number_groups(cell, peer[once])
    most = np.zeros(n, np.int64)
    np.maximum.at(most, cell[first], np.bincount(host, minlength=len(first)))
    return most


def _count_evidence(columns: dict[str, np.ndarray], evidence: pd.DataFrame, n: int) -> None:
    for kind, rows in evidence.groupby("kind", sort=False):
        for end, name in enumerate(EVIDENCE_COUNTS.get(str(kind), (None, None))):
            if name:
                mine = rows[rows["end"] == end]
                columns[name] += np.bincount(mine["cell"], mine["count"], n)
    modbus = evidence[evidence["kind"].isin(["modbus_read", "modbus_write", "modbus_other"])]
    codes = _Distinct(modbus["cell"].to_numpy(), modbus["code"] & 0xFF)
    columns["modbus_codes"] += codes.count(np.ones(len(modbus), bool), n)
    columns["modbus_registers"] += np.bincount(modbus["cell"], modbus["distinct"], n)


def _measure_delays(delays: pd.DataFrame, sides: Sides) -> pd.DataFrame:
    cells, columns = number_cells(sides.cells), {}
    for name, end in zip(MEASURES, ("src", "dst"), strict=True):
        columns[name] = np.full(len(cells), np.nan, np.float32)
        code = sides.addresses.get_indexer(delays[end].cat.categories)[delays[end].cat.codes]
        key = (code.astype(np.int64) << SLOT_BITS) + delays["slot"].to_numpy()
        median_s = median_delays(key, delays["step"].to_numpy(), delays["count"].to_numpy())
        place = np.searchsorted(cells, median_s.index)
        place = np.minimum(place, max(len(cells) - 1, 0))
        mine = np.flatnonzero(cells[place] == median_s.index) if len(cells) else place[:0]
        columns[name][place[mine]] = median_s.to_numpy()[mine]
    return pd.DataFrame(columns, copy=False)
