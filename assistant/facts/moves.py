"""Machines that spoke by another address for a while: the same hardware address before, meanwhile
and afterwards."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from assistant.facts.fact import Fact, Proof, Value, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S

_LEAST_SILENT_S = 20.0

_SENTENCES = {
    "moved": "{address} is {owner}: both came from the hardware address {mac}. By {address} it spoke from "
    "{since_time_s} to {until_time_s}; by its own address it sent nothing for at least {silent_s} of that."
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
    """Moves of some devices, whichever of both addresses is named."""
    return [say_move(view, one) for one in find_moves(view, devices)]


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
        since_s = float(spoken[address]["since_s"].min())
        until_s = float(spoken[address]["until_s"].max())
        first_slot, last_slot = (int(spoken[address]["slot"].agg(end)) for end in ("min", "max"))
        # It may have changed within the first and the last sample.
        within = spoken[owner]["slot"].between(first_slot, last_slot, inclusive="neither")
        silent_s = (last_slot - first_slot - 1) * SAMPLE_S
        if silent_s >= _LEAST_SILENT_S and not within.any():
            yield Move(owner, address, mac, since_s, until_s, silent_s)


def _asks_by_arp(view: TrafficView, address: str) -> bool:
    asked = view.evidence_of(address, ("arp_request",))
    return bool((asked["src"] == address).any())
