"""Whether the truth of a recorded run is true: each interval is looked for in the packets, without
any classifier."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from eval.testbed.verify.interval import Finding, Look, Run, Tally
from traffic.datasets.truth import Interval, Truth, read_truth
from traffic.labels import NORMAL, UNKNOWN
from traffic.pcap.flows import make_flows
from traffic.pcap.headers import TCP, UDP
from traffic.pcap.packets import read_packets

# How misconfigurations show in packets, by kind.

_MODBUS_PORT = 502


def check_misconfiguration(look: Look) -> Finding:
    """What a mistake of that kind leads to; of a kind that is not known, attempts in vain."""
    return _BY_KIND.get(look.interval.kind, _in_vain)(look)


def _in_vain(look: Look) -> Finding:
    """Who is set wrongly calls in vain: nobody is there, or nothing listens. Whom it calls refuses
    it."""
    return (
        _called(look, [look.device], None)
        if look.is_source
        else _called(look, look.peers, [look.device])
    )


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
    return Finding(
        exceptions.is_more(1, 3) or sent.inside - back.inside >= max(2, 0.2 * sent.inside), said
    )


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
            asked.inside > 0,
            f"{asked} packets and ARP requests to {', '.join(gone) or 'nobody'}, who is gone",
        )
    shown = _presence(look, look.device)
    agrees = (
        shown.is_new if look.device == look.interval.parameters.get("address") else shown.is_gone
    )
    return Finding(
        agrees, f"{shown.inside} frames from this address, {shown.rest} in the rest of the run"
    )


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
    strays = table[
        table["dst_mac"].isin(macs) & (table["dst"] != look.run.codes.get(look.device, -1))
    ]
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


# How faults show in packets: for every label of a fault a function of one look that says whether it
# does.

# Below, an answer or a pause is late because of the machine that recorded.
_LATE_S, _GAP_S = 0.02, 1.5
_RTP_PKTS = 20
_MESSAGE_BYTES = 512


def check_packet_loss(look: Look) -> Finding:
    """Segments sent again, attempts in vain, holes in the numbers of RTP packets (RFC 3550,
    5.1)."""
    mine, theirs = [look.device], None if look.is_source else look.peers
    again = look.told(["retransmission"], src=mine, dst=theirs) + look.told(
        ["retransmission"], src=theirs, dst=mine
    )
    vain = look.failed(mine, theirs) + look.failed(theirs, mine)
    table = pd.concat([look.packets(mine, theirs), look.packets(theirs, mine)])
    segments = look.tally(table.loc[(table["proto"] == TCP) & (table["payload"] > 0), "ts"])
    holes, frames = _rtp_holes(look, table)
    said = (
        f"{_share(again.inside, segments.inside)} of {segments.inside:g} segments were sent again "
        f"(usual: {again.expected:.3g}), {vain.inside:g} attempts in vain, "
        f"{holes.inside:g} of {frames} RTP packets missing"
    )
    return Finding((again + vain + holes).is_more(1, 3), said)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else f"{part:g}"


def _rtp_holes(look: Look, table: pd.DataFrame) -> tuple[Tally, int]:
    """Numbers that are missing in streams of RTP over UDP, and how many packets the interval
    holds."""
    udp = table[(table["proto"] == UDP).to_numpy() & (table["held"] >= 12).to_numpy()]
    head = look.run.packets.read_payload(udp.index.to_numpy(), 4).astype(np.int64)
    udp = udp.assign(number=head[:, 2] << 8 | head[:, 3])[head[:, 0] >> 6 == 2]
    streams = [
        stream
        for _, stream in udp.groupby(["src", "dst", "sport", "dport"])
        if len(stream) >= _RTP_PKTS
    ]
    ts, missing = [np.zeros(0)], [np.zeros(0)]
    for stream in streams:
        step = np.diff(stream["number"].to_numpy()) & 0xFFFF
        ts.append(stream["ts"].to_numpy()[1:])
        missing.append(np.where((step > 1) & (step < 1000), step - 1, 0))
    held = sum(int(look.inside(stream["ts"]).sum()) for stream in streams)
    return look.tally(np.concatenate(ts), np.concatenate(missing)), held


def check_congestion(look: Look) -> Finding:
    """Answers late, segments sent again, or a link much fuller than usual; of a victim, with
    anybody else concerned."""
    mine = [look.device]
    theirs = (
        None
        if look.interval.kind == "slow_link" and look.is_source
        else [one.device for one in look.others]
    )
    table = pd.concat([look.packets(mine, theirs), look.packets(theirs, mine)])
    volume = look.tally(table["ts"], table["ip_bytes"])
    again = look.told(["retransmission"], src=mine, dst=theirs) + look.told(
        ["retransmission"], src=theirs, dst=mine
    )
    late_s, usual_s = _late(look, theirs)
    rate, usual = (size * 8 / 1000 / volume.inside_s for size in (volume.inside, volume.expected))
    said = (
        f"{rate:.0f} kbit/s (usual: {usual:.0f}), a tenth of answers took over {late_s:.3f} s (usual: {usual_s:.3f}), "
        f"{again} segments sent again"
    )
    late = late_s > max(2 * usual_s, usual_s + _LATE_S)
    return Finding(late or again.is_more(3) or volume.is_more(100_000, 3), said)


def _late(look: Look, peers: Collection[str] | None) -> tuple[float, float]:
    """The time that nine tenths of answers between device and peers took at most, in the interval
    and in calm."""
    delays, codes = look.run.delays, look.run.codes
    mine = codes.get(look.device, -1)
    chosen = delays[(delays["asker"] == mine) | (delays["answerer"] == mine)]
    if peers is not None:
        theirs = [codes.get(peer, -1) for peer in peers]
        chosen = chosen[chosen["asker"].isin(theirs) | chosen["answerer"].isin(theirs)]
    times = [chosen.loc[when(chosen["ts"]), "delay_s"] for when in (look.settled, look.calm)]
    late_s, usual_s = (float(one.quantile(0.9)) if len(one) else 0.0 for one in times)
    return late_s, usual_s


def check_device_silent(look: Look) -> Finding:
    """Nothing comes from the device; who calls it asks in vain."""
    return _is_silent(look) if look.is_source else _asks_in_vain(look, look.peers)


def _is_silent(look: Look) -> Finding:
    frozen = (
        look.interval.kind == "silent_sensor"
    )  # its kernel lives: it acknowledges, and says nothing
    sent = look.packets(src=[look.device])
    sent = sent[sent["payload"] > 0] if frozen else sent
    arp = look.run.packets.arp
    claims = arp.loc[(arp["sender"] == look.run.codes.get(look.device, -1)).to_numpy(), "ts"]
    ts = sent["ts"].to_numpy() if frozen else np.concatenate([sent["ts"], claims])
    inside, else_ = int(look.settled(ts).sum()), int((~look.inside(ts)).sum())
    what = "messages" if frozen else "frames"
    return Finding(
        not inside and else_ > 0, f"{inside} {what} from it, {else_} in the rest of the run"
    )


def _asks_in_vain(look: Look, peers: Collection[str]) -> Finding:
    said = []
    for peer in peers:
        asked = int(look.inside(look.packets([look.device], [peer])["ts"]).sum())
        heard = int(look.settled(look.packets([peer], [look.device])["ts"]).sum())
        arp = look.told(["arp_unanswered"], src=[look.device], dst=[peer])
        if not heard and (asked or arp.inside):
            return Finding(
                True, f"{asked} packets and {arp.inside:g} ARP requests to {peer}, no answer"
            )
        said.append(
            f"{asked} packets and {arp.inside:g} ARP requests to {peer}, {heard} packets back"
        )
    return Finding(False, "; ".join(said))


def check_service_down(look: Look) -> Finding:
    """Attempts refused or unanswered, exceptions, refusals: by the device, or of what it asks its
    peers."""
    asks, asked = (None, [look.device]) if look.is_source else ([look.device], look.peers)
    counts = {
        "attempts refused or unanswered": look.failed(asks, asked),
        "exceptions and refusals": look.told(
            ["modbus_exception", "mqtt_refused"], src=asks, dst=asked
        ),
        "ports unreachable": look.told(["unreachable"], src=asked, dst=asks),
        "connections closed without a word": look.tally(_dropped(look, asks, asked)["ts"]),
    }
    said = [f"{count} {what}" for what, count in counts.items() if count.inside]
    return Finding(
        any(count.is_more(1, 3) for count in counts.values()),
        ", ".join(said) or "nothing was refused",
    )


def _dropped(look: Look, asks: Collection[str] | None, asked: Collection[str]) -> pd.DataFrame:
    """Connections that were accepted, and closed before the server said anything."""
    flows = look.flows(asks, asked)
    opened = flows["history"].astype("str").str.contains("h", regex=False)
    return flows[
        opened
        & (flows["proto"] == "tcp")
        & (flows["resp_bytes"].fillna(0) == 0)
        & (flows["conn_state"] != "S1")
    ]


def check_name_resolution(look: Look) -> Finding:
    """Questions that fail or stay unanswered, or answers that hold the wrong addresses."""
    asks, asked = (None, [look.device]) if look.is_source else ([look.device], [look.interval.root])
    failed = look.told(["dns_failed"], src=asks, dst=asked)
    asking = look.told(["dns_query"], src=asks, dst=asked)
    wrong = _wrong_answers(look, asked, asks)
    said = f"{failed} of {asking.inside:g} questions failed, {wrong} answers with wrong addresses"
    return Finding(failed.is_more(1) or wrong > 0, said)


def _wrong_answers(look: Look, resolver: Collection[str], asks: Collection[str] | None) -> int:
    answers = look.interval.parameters.get("answers")
    texts = [str(text) for text in answers.values() if text] if isinstance(answers, dict) else []
    wrong = [bytes(map(int, text.split("."))) for text in texts]
    said = look.packets(resolver, asks)
    said = said[(said["sport"] == 53).to_numpy() & look.inside(said["ts"])]
    heads = look.run.packets.read_payload(said.index.to_numpy(), _MESSAGE_BYTES)
    return sum(any(address in head.tobytes() for address in wrong) for head in heads)


def check_flapping(look: Look) -> Finding:
    """Pauses that the device does not make else, again and again, or the trouble that they make."""
    mine, theirs = [look.device], look.peers or None
    heard = look.packets(src=mine) if look.is_source else look.packets(src=look.peers, dst=mine)
    ts = np.sort(heard["ts"].to_numpy())
    gaps, at = np.diff(ts), ts[1:]
    calm = gaps[look.calm(at)]
    usual_s = float(np.quantile(calm, 0.99)) if len(calm) else 0.0
    long = look.tally(at[gaps > max(_GAP_S, 1.5 * usual_s)])
    trouble = look.between(["retransmission", "reset", "arp_unanswered"])
    trouble += look.failed(mine, theirs) + look.failed(theirs, mine)
    said = f"{long} pauses over {max(_GAP_S, 1.5 * usual_s):.1f} s, {trouble} resends, resets and attempts in vain"
    return Finding(long.is_more(2) or trouble.is_more(3, 3), said)


FAULT_CHECKS: dict[str, Callable[[Look], Finding]] = {
    "packet_loss": check_packet_loss,
    "congestion": check_congestion,
    "device_silent": check_device_silent,
    "service_down": check_service_down,
    "misconfiguration": check_misconfiguration,
    "name_resolution": check_name_resolution,
    "flapping": check_flapping,
}


# How attacks show in packets: for every label of an attack a function of one look that says whether
# it does.

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
    return Finding(
        packets.is_more(_FLOOD_PER_S * packets.inside_s, 3) or held.is_more(_HELD, 3), said
    )


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
    sent, got = (
        float(flows[column].fillna(0).sum()) for column in ("orig_ip_bytes", "resp_ip_bytes")
    )
    said = f"{sent / 1000:.0f} kB sent to {flows['id.resp_h'].nunique()} new peers, {got / 1000:.0f} kB back"
    return Finding(sent >= _STOLEN_BYTES and sent > 2 * got, said)


def _to_strangers(look: Look, flows: pd.DataFrame) -> pd.DataFrame:
    """Flows of the interval to peers outside the plant that the device calls at no calm time."""
    inside, calm = look.inside(flows["ts"]), look.calm(flows["ts"])
    stranger = flows["id.resp_h"].isin(look.run.outside) & ~flows["id.resp_h"].isin(
        flows.loc[calm, "id.resp_h"]
    )
    return flows[inside & stranger.to_numpy()]


def check_spoofing(look: Look) -> Finding:
    """An address claimed by two machines; of the source, claims of addresses that are not its
    own."""
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


@dataclass(frozen=True)
class Check:
    """What packets say of one interval.

    Attributes:
        number: its place in truth.json, from 0.
        device: whose it is; ``label`` and ``kind`` say what is claimed.
        agrees: whether the packets show it.
        measured: the numbers that say so, for people.
    """

    number: int
    device: str
    label: str
    kind: str
    agrees: bool
    measured: str


def check_run(folder: Path) -> list[Check]:
    """Look for every interval of a run in its packets.

    Args:
        folder: holds capture.pcap and truth.json.

    Returns:
        One check per interval that claims something, in the order of truth.json; ``unknown`` claims
        nothing.

    Raises:
        UserError: either file is missing or wrong, or the run is incomplete.
    """
    packets = read_packets([folder / "capture.pcap"])
    truth = read_truth(folder / "truth.json", packets.start_s, packets.end_s)
    run = Run(packets, make_flows(packets), truth)
    told = [
        (number, interval)
        for number, interval in enumerate(truth.intervals)
        if interval.label != UNKNOWN
    ]
    return [_check(run, number, interval) for number, interval in told]


def _check(run: Run, number: int, interval: Interval) -> Check:
    found = _CHECKS[interval.label](Look(run, interval, _same_event(run.truth, interval)))
    return Check(
        number, interval.device, interval.label, interval.kind, found.agrees, found.measured
    )


def _same_event(truth: Truth, interval: Interval) -> tuple[Interval, ...]:
    """The other parts of its event: of one kind, root and cause, at about that time."""
    return tuple(
        other
        for other in truth.intervals
        if other is not interval
        and (other.kind, other.root, other.cause) == (interval.kind, interval.root, interval.cause)
    )


def _check_normal(look: Look) -> Finding:
    """A routine only has to be there."""
    seen = int(look.inside(look.packets()["ts"]).sum())
    return Finding(seen > 0, f"{seen} packets from or to it")


_CHECKS: dict[str, Callable[[Look], Finding]] = {
    **FAULT_CHECKS,
    **ATTACK_CHECKS,
    NORMAL: _check_normal,
}
