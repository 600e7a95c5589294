"""How misconfigurations show in packets, by kind."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from eval.testbed.verify.interval import Finding, Look

__all__ = ["check_misconfiguration"]

_MODBUS_PORT = 502


def check_misconfiguration(look: Look) -> Finding:
    """What a mistake of that kind leads to; of a kind that is not known, attempts in vain."""
    return _BY_KIND.get(look.interval.kind, _in_vain)(look)


def _in_vain(look: Look) -> Finding:
    """Who is set wrongly calls in vain: nobody is there, or nothing listens. Whom it calls refuses it."""
    return _called(look, [look.device], None) if look.is_source else _called(look, look.peers, [look.device])


def _called(look: Look, asks: Collection[str], asked: Collection[str] | None) -> Finding:
    failed, arp = look.failed(asks, asked), look.told(["arp_unanswered"], src=asks, dst=asked)
    said = f"{failed} attempts refused or unanswered, {arp} ARP requests unanswered"
    return Finding(failed.is_more(1, 3) or arp.is_more(1, 3), said)


def _wrong_unit(look: Look) -> Finding:
    """Exceptions, or requests without an answer."""
    asks, asked = ([look.device], look.peers) if look.is_source else (look.peers, [look.device])
    exceptions = look.told(["modbus_exception"], src=asks, dst=asked)
    requests, answers = look.packets(asks, asked), look.packets(asked, asks)
    requests = requests[(requests["dport"] == _MODBUS_PORT) & (requests["payload"] > 0)]
    answers = answers[(answers["sport"] == _MODBUS_PORT) & (answers["payload"] > 0)]
    sent, back = look.tally(requests["ts"]), look.tally(answers["ts"])
    said = f"{exceptions} exceptions, {back.inside:g} answers to {sent.inside:g} requests"
    return Finding(exceptions.is_more(1, 3) or sent.inside - back.inside >= max(2, 0.2 * sent.inside), said)


def _wrong_password(look: Look) -> Finding:
    asks, asked = ([look.device], look.peers) if look.is_source else (look.peers, [look.device])
    refused = look.told(["mqtt_refused"], src=asks, dst=asked)
    return Finding(refused.is_more(1, 3), f"{refused} logins refused")


def _wrong_address(look: Look) -> Finding:
    """It shows under its wrong address and is gone from its own, so that its clients miss it."""
    if not look.is_source:
        gone = [peer for peer in look.peers if _presence(look, peer).is_gone]
        asked = look.tally(look.packets([look.device], gone)["ts"]) + look.told(
            ["arp_unanswered"], src=[look.device], dst=gone
        )
        return Finding(
            asked.inside > 0, f"{asked} packets and ARP requests to {', '.join(gone) or 'nobody'}, who is gone"
        )
    shown = _presence(look, look.device)
    agrees = shown.is_new if look.device == look.interval.parameters.get("address") else shown.is_gone
    return Finding(agrees, f"{shown.inside} frames from this address, {shown.rest} in the rest of the run")


@dataclass(frozen=True)
class _Presence:
    """How many frames an address sends once an event has taken effect, and outside of it."""

    inside: int
    rest: int

    @property
    def is_gone(self) -> bool:
        return not self.inside and self.rest > 0

    @property
    def is_new(self) -> bool:
        return self.inside > 0 and not self.rest


def _presence(look: Look, address: str) -> _Presence:
    code, table, arp = look.run.codes.get(address, -1), look.run.packets.table, look.run.packets.arp
    sent, claims = table[(table["src"] == code).to_numpy()], arp[(arp["sender"] == code).to_numpy()]
    ts = np.concatenate([sent["ts"], claims["ts"]])
    return _Presence(int(look.settled(ts).sum()), int((~look.inside(ts)).sum()))


def _wrong_gateway(look: Look) -> Finding:
    """What is meant for others goes to the wrong machine, or to nobody."""
    if look.is_source:
        outside = look.run.outside
        sent, back = look.packets([look.device], outside), look.packets(outside, [look.device])
        asked, heard = int(look.inside(sent["ts"]).sum()), int(look.settled(back["ts"]).sum())
        arp = look.told(["arp_unanswered"], src=[look.device])
        said = f"{asked} packets to the outside, {heard} from there, {arp} ARP requests unanswered"
        return Finding((asked > 0 and not heard) or arp.is_more(1, 3), said)
    macs = look.macs(look.device, look.calm)
    table = look.run.packets.table
    strays = table[table["dst_mac"].isin(macs) & (table["dst"] != look.run.codes.get(look.device, -1))]
    got = look.tally(strays["ts"])
    return Finding(got.is_more(1, 3), f"{got} packets for others came to its MAC")


def _duplicate_address(look: Look) -> Finding:
    """Two machines use one address."""
    address = look.device if look.is_source else look.interval.root
    macs, usual = look.macs(address, look.inside), look.macs(address, look.calm)
    seen = len(look.packets([look.device])) > 0
    said = f"{len(macs)} MACs use {address}, usually {len(usual)}"
    return Finding(seen and len(macs) > 1 and len(usual) <= 1, said)


_BY_KIND: dict[str, Callable[[Look], Finding]] = {
    "wrong_unit": _wrong_unit,
    "wrong_password": _wrong_password,
    "wrong_address": _wrong_address,
    "wrong_gateway": _wrong_gateway,
    "duplicate_address": _duplicate_address,
}
