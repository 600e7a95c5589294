"""First contacts of devices with ports outside the plant, and whether a name led there.

    n . c . . . c . . . c | . c . . . c . . . c      n: asked for a name, c: call; |: where a view begins
                            ^ first of the view, and not the first

A plant that is watched for days is looked back at for an hour: what was let go must not make an old
acquaintance look like an address that no name led to. So the monitor keeps first contacts, and hands
them to each view as ``TrafficView.contacts``.
"""

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import numpy as np

from traffic.capture import SAMPLE_S

if TYPE_CHECKING:
    from assistant.facts.traffic_view import TrafficView

NAMED_S = 60.0  # who looks a service up calls it then
_DNS = 53
_SAME_S = 1e-3  # the same call: times of logs are rounded

End = tuple[str, str, int]  # device, address outside, port
NAMES = ""  # the address of whoever answers questions for names


@dataclass(frozen=True)
class Contact:
    """The first call of a device to a port outside that answered it.

    Attributes:
        first_s: seconds since the epoch.
        known_s: for how long the device had been seen by then.
        named: whether it had asked for any name before.
        named_just: whether it had within the minute before.
    """

    first_s: float
    known_s: float
    named: bool
    named_just: bool


def first_contact(
    view: "TrafficView", device: str, target: str, ports: Collection[int], first_s: float
) -> Contact:
    """The first call to an address: that of the view, unless an earlier one was kept.

    Args:
        view: with what was kept.
        device: that calls.
        target: address outside.
        ports: that it calls there.
        first_s: of the view.
    """
    found = (view.contacts.get((device, target, int(port))) for port in ports)
    earlier = [one for one in found if one is not None and one.first_s < first_s - _SAME_S]
    if earlier:
        return min(earlier, key=lambda one: one.first_s)
    return _read(view, device, first_s, _asked_s(view, device))


def list_contacts(view: "TrafficView", recent_s: float) -> dict[End, Contact]:
    """First contacts with all ports outside that answered somebody in the view: as they were kept, but
    those of the newest seconds, since rows of logs that come late may tell of names asked before them.
    """
    rows = view.flow_slots
    rows = rows[(rows["proto"] == "tcp") & rows["src"].isin(view.local)]
    rows = rows[~rows["dst"].isin(view.local)]
    good = rows["answered"].astype(bool) & ~rows["refused"].astype(bool)
    each = rows.assign(good=good).groupby(["src", "dst", "port"])
    each = each.agg(first_s=("since_s", "min"), good=("good", "any"))
    found: dict[End, Contact] = {}
    asked: dict[str, np.ndarray] = {}
    for (device, target, port), first_s in each.loc[each["good"].astype(bool), "first_s"].items():  # type: ignore[misc]
        end = (str(device), str(target), int(port))
        kept = view.contacts.get(end)
        settled_s = max(first_s - _SAME_S, min(first_s + _SAME_S, view.end_s - recent_s))
        if kept is not None and kept.first_s < settled_s:
            found[end] = kept
            continue
        if end[0] not in asked:
            asked[end[0]] = _asked_s(view, end[0])
        found[end] = _read(view, end[0], float(first_s), asked[end[0]])
    return found


def list_askers(view: "TrafficView") -> dict[End, Contact]:
    """When each device asked for a name first, as far as is known: a contact with ``NAMES``."""
    rows, asked = view.flow_slots, view.evidence_of_kind("dns_query")
    rows = rows[rows["src"].isin(view.local) & (rows["port"] == _DNS)]
    first = rows.groupby("src")["since_s"].min().to_dict()
    for device, slot in asked.groupby("src")["slot"].min().items():
        first[device] = min(first.get(device, np.inf), slot * SAMPLE_S)
    ends = ((_names_of(str(device)), float(first_s)) for device, first_s in first.items())
    kept = view.contacts
    return {
        end: kept[end]
        if end in kept and kept[end].first_s <= first_s
        else Contact(first_s, 0.0, True, True)
        for end, first_s in ends
    }


def _names_of(device: str) -> End:
    return device, NAMES, _DNS


def _read(view: "TrafficView", device: str, first_s: float, asked_s: np.ndarray) -> Contact:
    before = asked_s[asked_s <= first_s]
    named, just = bool(len(before)), bool((before >= first_s - NAMED_S - SAMPLE_S).any())
    if first_s < view.whole_since_s:
        # A log tells of a connection when it ends, and of what was asked before it long ago.
        asked = view.contacts.get(_names_of(device))
        named = just = named or (asked is not None and asked.first_s <= first_s)
    return Contact(first_s, first_s - known_since(view, device), named, just)


def is_named(
    view: "TrafficView", device: str, first_s: float, within_s: float = float("inf")
) -> bool:
    """Whether the device asked for any name before a moment, within some seconds."""
    asked_s = _asked_s(view, device)
    return bool(((asked_s <= first_s) & (asked_s >= first_s - within_s - SAMPLE_S)).any())


def names_led_to(
    view: "TrafficView", device: str, first_s: float
) -> dict[str, frozenset[str]] | None:
    """Addresses that each name was answered with which a device asked for just before a moment, as far as
    answers were read: the first of each. None where it asked for none that is known."""
    rows = view.exchanges
    rows = rows[(rows["client"] == device) & (rows["protocol"] == "dns") & rows["name"].notna()]
    rows = rows.assign(name=rows["name"].astype("str"))
    names = rows.loc[rows["ts"].between(first_s - NAMED_S - SAMPLE_S, first_s), "name"].unique()
    if not len(names):
        return None
    given = rows[rows["name"].isin(names) & (rows["value"] > 0)]
    address = given["value"].map(lambda one: str(IPv4Address(int(one))))
    return {name: frozenset(address[given["name"] == name]) for name in names}


def leads_inside(view: "TrafficView", device: str, first_s: float) -> bool:
    """Whether all names that a device asked for just before a moment were answered with addresses of
    the plant's own: who looks up its clock was led nowhere else by that."""
    led = names_led_to(view, device, first_s)
    inside = view.own | view.local
    return led is not None and all(to and to <= inside for to in led.values())


def leads_elsewhere(view: "TrafficView", device: str, target: str, first_s: float) -> bool:
    """Whether each name that a device asked for just before a moment led it somewhere else: into the plant,
    or outside to where it went then. That it was given a second address, for which it did not ask by
    then, no answer shows."""
    led = names_led_to(view, device, first_s)
    if led is None:
        return False
    rows = view.flows_of(device)
    near = rows["out"] & rows["since_s"].between(first_s - 2 * NAMED_S, first_s)
    went = view.own | view.local | frozenset(map(str, rows.loc[near, "other"].unique()))
    return all(to and target not in to and to & went for to in led.values())


def _asked_s(view: "TrafficView", device: str) -> np.ndarray:
    """When a device asked for names, shape (n_questions,); where questions were read, to the slot."""
    asked = view.evidence_of(device, ("dns_query",))
    asked = asked[asked["src"] == device]
    if len(asked):
        return asked["slot"].to_numpy(float) * SAMPLE_S
    rows = view.flows_of(device)
    return rows.loc[rows["out"] & (rows["port"] == _DNS), "since_s"].to_numpy(float)


def known_since(view: "TrafficView", device: str) -> float:
    """When a device was first seen, seconds since the epoch."""
    rows = view.flows_of(device)
    return float(rows["since_s"].min()) if len(rows) else view.start_s
