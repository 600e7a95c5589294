"""How attacks show in packets: for every label of an attack a function of one look that says whether it does."""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from eval.testbed.verify.interval import Finding, Look

__all__ = ["ATTACK_CHECKS"]

_MODBUS = ("modbus_read", "modbus_write", "modbus_other")
_LOGIN_PORTS = (21, 22, 23)
_LEAST_TOUCHED, _LEAST_LOGINS, _LEAST_CONTACTS, _LEAST_WRITES = 5, 4, 3, 3
_FLOOD_PER_S, _HELD, _ABUSE = 10.0, 20, 3
_STOLEN_BYTES = 50_000


def _attackers(look: Look) -> tuple[Collection[str] | None, Collection[str] | None]:
    """Who attacks and who is attacked, as far as this interval tells."""
    return ([look.device], look.peers or None) if look.is_source else (look.peers, [look.device])


def check_recon(look: Look) -> Finding:
    """Ports, hosts or registers touched, that are touched at no other time."""
    attackers, attacked = _attackers(look)
    flows = look.flows(attackers, attacked)
    doors = pd.MultiIndex.from_frame(flows[["id.resp_h", "id.resp_p", "proto"]])
    inside = doors[look.inside(flows["ts"])].unique().difference(doors[look.calm(flows["ts"])])
    arp = look.told(["arp_request"], src=attackers, dst=attacked)
    calls = look.evidence(_MODBUS, src=attackers, dst=attacked)
    registers = look.tally(calls["ts"], calls["distinct"])
    said = f"{len(inside)} new ports of hosts touched, {registers} registers, {arp} hosts asked for by ARP"
    return Finding(len(inside) >= _LEAST_TOUCHED or registers.is_more(_LEAST_TOUCHED), said)


def check_flood(look: Look) -> Finding:
    """Many packets a second from the sources, or many connections held."""
    attackers, attacked = _attackers(look)
    packets = look.tally(look.packets(attackers, attacked)["ts"])
    opened = look.flows(attackers, attacked)
    held = look.tally(opened.loc[opened["proto"] == "tcp", "ts"])
    rate, usual = (pkts / packets.inside_s for pkts in (packets.inside, packets.expected))
    said = f"{rate:.1f} packets/s (usual: {usual:.3g}), {held} connections"
    return Finding(packets.is_more(_FLOOD_PER_S * packets.inside_s, 3) or held.is_more(_HELD, 3), said)


def check_brute_force(look: Look) -> Finding:
    """Logins: MQTT connections, and lines typed to a login."""
    attackers, attacked = _attackers(look)
    mqtt = look.told(["mqtt_connect"], src=attackers, dst=attacked)
    typed = look.packets(attackers, attacked)
    typed = typed[typed["dport"].isin(_LOGIN_PORTS) & (typed["payload"] > 0)]
    lines = look.tally(typed["ts"])
    said = f"{mqtt} MQTT logins, {lines} messages to a login"
    return Finding(mqtt.is_more(_LEAST_LOGINS) or lines.is_more(2 * _LEAST_LOGINS), said)


def check_c2(look: Look) -> Finding:
    """A peer outside the plant that the device calls at no other time, again and again."""
    calls = _to_strangers(look, look.flows([look.device]))
    counts = calls.groupby("id.resp_h").size() if len(calls) else pd.Series(dtype=int)
    most = int(counts.max()) if len(counts) else 0
    who = str(counts.idxmax()) if len(counts) else "nobody"
    return Finding(most >= _LEAST_CONTACTS, f"{most} contacts with {who}")


def check_exfiltration(look: Look) -> Finding:
    """Much more sent to such a peer than it answers."""
    flows = _to_strangers(look, look.flows([look.device]))
    sent, got = (float(flows[column].fillna(0).sum()) for column in ("orig_ip_bytes", "resp_ip_bytes"))
    said = f"{sent / 1000:.0f} kB sent to {flows['id.resp_h'].nunique()} new peers, {got / 1000:.0f} kB back"
    return Finding(sent >= _STOLEN_BYTES and sent > 2 * got, said)


def _to_strangers(look: Look, flows: pd.DataFrame) -> pd.DataFrame:
    """Flows of the interval to peers outside the plant that the device calls at no calm time."""
    inside, calm = look.inside(flows["ts"]), look.calm(flows["ts"])
    stranger = flows["id.resp_h"].isin(look.run.outside) & ~flows["id.resp_h"].isin(flows.loc[calm, "id.resp_h"])
    return flows[inside & stranger.to_numpy()]


def check_spoofing(look: Look) -> Finding:
    """An address claimed by two machines; of the source, claims of addresses that are not its own."""
    if not look.is_source:
        macs = look.macs(look.device, look.inside)
        return Finding(len(macs) > 1, f"{len(macs)} MACs use {look.device}")
    own = look.macs(look.device, lambda ts: np.ones(len(ts), bool))
    arp = look.run.packets.arp
    others = (arp["sender"] != look.run.codes.get(look.device, -1)) & arp["mac"].isin(own)
    false = look.tally(arp.loc[others, "ts"])
    return Finding(false.is_more(2, 3), f"{false} claims of others' addresses by its MAC")


def check_mqtt_abuse(look: Look) -> Finding:
    """Malformed messages, or far more messages than usual."""
    attackers, attacked = _attackers(look)
    malformed = look.told(["mqtt_malformed"], src=attackers, dst=attacked)
    messages = look.told(["mqtt_publish"], src=attackers, dst=attacked)
    said = f"{malformed} malformed messages, {messages.inside / messages.inside_s:.1f} messages/s"
    flood = messages.is_more(_FLOOD_PER_S * messages.inside_s, 3)
    return Finding(malformed.is_more(_ABUSE, 3) or flood, said)


def check_unauthorized_command(look: Look) -> Finding:
    attackers, attacked = _attackers(look)
    writes = look.told(["modbus_write"], src=attackers, dst=attacked)
    return Finding(writes.is_more(_LEAST_WRITES), f"{writes} Modbus writes")


ATTACK_CHECKS: dict[str, Callable[[Look], Finding]] = {
    "recon": check_recon,
    "dos": check_flood,
    "ddos": check_flood,
    "brute_force": check_brute_force,
    "c2": check_c2,
    "exfiltration": check_exfiltration,
    "spoofing": check_spoofing,
    "mqtt_abuse": check_mqtt_abuse,
    "unauthorized_command": check_unauthorized_command,
}
