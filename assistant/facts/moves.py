"""Machines that spoke by another address for a while, the same hardware address before, meanwhile and
afterwards; and machines that took the place of another, by its address."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from assistant.facts.fact import Fact, Proof, Value, make_fact
from assistant.facts.traffic_view import TrafficView

_LEAST_SILENT_S = 20.0
_EXCHANGE_S = 5.0

_SENTENCES = {
    "moved": "{address} is {owner}: both came from the hardware address {mac}. By {address} it spoke from "
    "{since_time_s} to {until_time_s}; by its own address it sent nothing for at least {silent_s} of that.",
    "replaced": "{device} is another machine since {first_time_s}: it speaks from the hardware address {after}, and "
    "from {before} nothing came after {last_time_s}. A device that was exchanged looks so; where "
    "nobody did that, somebody has taken its address over.",
}


@dataclass(frozen=True)
class Move:
    """A machine that took another address.

    Attributes:
        owner: the address that it is known by.
        address: the one that it took.
        mac: its hardware address.
        since_s, until_s: when it spoke by it, seconds since the epoch.
        silent_s: how long, at least, it said nothing by the other meanwhile.
    """

    owner: str
    address: str
    mac: str
    since_s: float
    until_s: float
    silent_s: float


def move_facts(view: TrafficView, *devices: str) -> list[Fact]:
    """Moves of some devices, whichever of both addresses is named, and which were replaced."""
    facts = [say_move(view, one) for one in find_moves(view, devices)]
    replaced = filter(None, (find_replacement(view, one) for one in devices))
    return facts + [
        make_fact(
            "replaced", _SENTENCES["replaced"], vars(one) | {"device": view.name_of(one.device)}
        )
        for one in replaced
    ]


@dataclass(frozen=True)
class Replacement:
    """A machine that took the place of another.

    Attributes:
        device: the address of both.
        before, after: their hardware addresses.
        last_time_s, first_time_s: when the one was heard last, and the other first.
    """

    device: str
    before: str
    after: str
    last_time_s: float
    first_time_s: float


def find_replacement(view: TrafficView, address: str) -> Replacement | None:
    """The machine that speaks by an address since another one that did has fallen silent; None where
    both speak by turns, where one claims the address and never speaks by it, where hands could not
    have exchanged them so quickly, and where the inventory names another than the new one."""
    if view.flow_macs is None or len(view.macs_of(address)) != 2:
        return None
    sent = view.sent_by(address)
    opened, answered = view.flow_macs.iloc[sent["flow"]].to_numpy(object).T
    times = sent.groupby(np.where(sent["out"], opened, answered))
    turns = times.agg(first_s=("sent_first_s", "min"), last_s=("sent_last_s", "max"))
    turns = turns.rename_axis("mac").reset_index().sort_values("first_s")
    if len(turns) != 2:
        return None
    before, after = turns.iloc[0], turns.iloc[1]
    known = {one.mac.lower() for one in view.plant.devices if one.address == address and one.mac}
    if after["first_s"] - before["last_s"] < _EXCHANGE_S or known - {str(after["mac"])}:
        return None
    return Replacement(
        address,
        str(before["mac"]),
        str(after["mac"]),
        float(before["last_s"]),
        float(after["first_s"]),
    )


def say_move(view: TrafficView, move: Move) -> Fact:
    """That both addresses are one machine, and how it shows."""
    values: dict[str, Value] = {
        "address": move.address,
        "owner": view.name_of(move.owner),
        "mac": move.mac,
        "since_time_s": move.since_s,
        "until_time_s": move.until_s,
        "silent_s": move.silent_s,
    }
    proof = Proof(f"eth.src == {move.mac}")
    return make_fact("moved", _SENTENCES["moved"], values, proof=proof)


def find_moves(view: TrafficView, devices: Collection[str]) -> Iterator[Move]:
    """Pairs of addresses of one interface of which one is silent while the other speaks, where
    either is one of ``devices``.

    A router's hardware address comes with whatever it forwards. So both must be all that it brings,
    and be on this network: the inventory names the hardware address, or both asked by ARP.
    """
    known = {one.address: one.mac.lower() for one in view.plant.devices}
    for mac, addresses in view.openers_by_mac.items():
        if len(addresses) != 2 or set(addresses) & view.routers or not set(addresses) & {*devices}:
            continue
        spoken = {one: view.sent_by(one) for one in addresses}
        if any(rows.empty for rows in spoken.values()):
            continue
        named = [one for one in addresses if one in known]
        if len(named) == 2:
            continue
        first = min(addresses, key=lambda one: float(spoken[one]["since_s"].min()))
        owner = named[0] if named else first
        (address,) = (one for one in addresses if one != owner)
        listed = known.get(owner, "") == mac
        if not (listed or all(_asks_by_arp(view, one) for one in addresses)):
            continue
        since_s = float(spoken[address]["sent_first_s"].min())
        until_s = float(spoken[address]["sent_last_s"].max())
        first_s, last_s = (spoken[owner][f"sent_{end}_s"].to_numpy() for end in ("first", "last"))
        within = (first_s < until_s) & (last_s > since_s)
        before, after = last_s[last_s <= since_s], first_s[first_s >= until_s]
        silent_s = float(min(after, default=until_s)) - float(max(before, default=since_s))
        if silent_s >= _LEAST_SILENT_S and not within.any():
            yield Move(owner, address, mac, since_s, until_s, silent_s)


def _asks_by_arp(view: TrafficView, address: str) -> bool:
    asked = view.evidence_of(address, ("arp_request",))
    return bool((asked["src"] == address).any())
