"""Whether the truth of a recorded run is true: each interval is looked for in the packets.

One function for each label says how it shows, by rules with generous bounds and no classifier, so
that what is wrong in truth.json is found before a model learns it. A misconfiguration shows by its
kind. To check a new label, add its function to ``CHECKS``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from eval.testbed.verify.interval import Hosts, IntervalView, Recording, Tally
from traffic.datasets.truth import read_truth
from traffic.labels import NORMAL, UNKNOWN
from traffic.pcap.flows import make_flows
from traffic.pcap.headers import TCP, UDP
from traffic.pcap.packets import read_packets


@dataclass(frozen=True)
class IntervalCheck:
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


@dataclass(frozen=True)
class Symptom:
    """Whether what is said to be true shows, and the number by which it does or does not."""

    shows: bool
    measured: str


def check_run(folder: Path) -> list[IntervalCheck]:
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
    run = Recording(packets, make_flows(packets), truth)
    checks = []
    for number, one in enumerate(truth.intervals):
        if one.label != UNKNOWN:
            event = (one.kind, one.root, one.cause)
            rest = [other for other in truth.intervals if other is not one]
            same = tuple(other for other in rest if (other.kind, other.root, other.cause) == event)
            found = CHECKS[one.label](IntervalView(run, one, same))
            what = (number, one.device, one.label, one.kind)
            checks.append(IntervalCheck(*what, found.shows, found.measured))
    return checks


def _check_normal(view: IntervalView) -> Symptom:
    """A routine only has to be there."""
    seen = int(view.inside(view.packets()["ts"]).sum())
    return Symptom(seen > 0, f"{seen} packets from or to it")


# ---- Faults ----

# Shorter delays and pauses may come from the machine that recorded.
_LATE_S, _GAP_S = 0.02, 1.5
_RTP_PKTS = 20
_MESSAGE_BYTES = 512


def _check_packet_loss(view: IntervalView) -> Symptom:
    """Segments sent again, failed attempts, holes in the numbers of RTP packets (RFC 3550, 5.1)."""
    peers = None if view.is_source else view.peers
    again, failed = view.count_with(peers, "retransmission"), view.failed_with(peers)
    table = view.packets_with(peers)
    segments = view.tally(table.loc[(table["proto"] == TCP) & (table["payload"] > 0), "ts"])
    holes, frames = _rtp_holes(view, table)
    share = f"{again.inside / segments.inside:.1%}" if segments.inside else f"{again.inside:g}"
    measured = (
        f"{share} of {segments.inside:g} segments were sent again (usual: {again.expected:.3g}), "
        f"{failed.inside:g} attempts in vain, {holes.inside:g} of {frames} RTP packets missing"
    )
    return Symptom((again + failed + holes).is_more(1, 3), measured)


def _rtp_holes(view: IntervalView, table: pd.DataFrame) -> tuple[Tally, int]:
    """Missing numbers in streams of RTP over UDP, and how many packets the interval holds."""
    udp = table[(table["proto"] == UDP).to_numpy() & (table["held"] >= 12).to_numpy()]
    head = view.run.packets.read_payload(udp.index.to_numpy(), 4).astype(np.int64)
    udp = udp.assign(number=head[:, 2] << 8 | head[:, 3])[head[:, 0] >> 6 == 2]
    streams = [one for _, one in udp.groupby(["src", "dst", "sport", "dport"])]
    streams = [stream for stream in streams if len(stream) >= _RTP_PKTS]
    ts, missing = [np.zeros(0)], [np.zeros(0)]
    for stream in streams:
        step = np.diff(stream["number"].to_numpy()) & 0xFFFF
        ts.append(stream["ts"].to_numpy()[1:])
        missing.append(np.where((step > 1) & (step < 1000), step - 1, 0))
    held = sum(int(view.inside(stream["ts"]).sum()) for stream in streams)
    return view.tally(np.concatenate(ts), np.concatenate(missing)), held


def _check_congestion(view: IntervalView) -> Symptom:
    """Late answers, resends, a link much fuller than usual; of a victim, with others concerned."""
    own_link = view.interval.kind == "slow_link" and view.is_source
    peers = None if own_link else [one.device for one in view.others]
    table = view.packets_with(peers)
    volume = view.tally(table["ts"], table["ip_bytes"])
    again = view.count_with(peers, "retransmission")
    late_s, usual_s = _late_answers(view, peers)
    rate, usual = (size * 8 / 1000 / volume.inside_s for size in (volume.inside, volume.expected))
    measured = (
        f"{rate:.0f} kbit/s (usual: {usual:.0f}), a tenth of answers took over {late_s:.3f} s "
        f"(usual: {usual_s:.3f}), {again} segments sent again"
    )
    late = late_s > max(2 * usual_s, usual_s + _LATE_S)
    return Symptom(late or again.is_more(3) or volume.is_more(100_000, 3), measured)


def _late_answers(view: IntervalView, peers: Hosts) -> tuple[float, float]:
    """The 0.9 quantile of delays between device and peers, in the interval and in the baseline."""
    delays, mine = view.run.delays, view.run.code(view.device)
    chosen = delays[(delays["asker"] == mine) | (delays["answerer"] == mine)]
    if peers is not None:
        theirs = [*map(view.run.code, peers)]
        chosen = chosen[chosen["asker"].isin(theirs) | chosen["answerer"].isin(theirs)]
    times = [chosen.loc[when(chosen["ts"]), "delay_s"] for when in (view.in_effect, view.baseline)]
    late_s, usual_s = (float(one.quantile(0.9)) if len(one) else 0.0 for one in times)
    return late_s, usual_s


def _check_device_silent(view: IntervalView) -> Symptom:
    """Nothing comes from the device; calls of its clients are not answered."""
    if not view.is_source:
        return _unanswered(view)
    if view.interval.kind == "silent_sensor":
        # Its kernel lives: it acknowledges, and sends no message.
        sent = view.packets(src=[view.device])
        ts, what = sent.loc[sent["payload"] > 0, "ts"].to_numpy(), "messages"
    else:
        ts, what = view.sent_times(view.device), "frames"
    inside, rest = int(view.in_effect(ts).sum()), int((~view.inside(ts)).sum())
    measured = f"{inside} {what} from it, {rest} in the rest of the run"
    return Symptom(not inside and rest > 0, measured)


def _unanswered(view: IntervalView) -> Symptom:
    mine, measured = [view.device], []
    for peer in view.peers:
        asked = int(view.inside(view.packets(mine, [peer])["ts"]).sum())
        answers = int(view.in_effect(view.packets([peer], mine)["ts"]).sum())
        arp = view.count("arp_unanswered", src=mine, dst=[peer])
        asking = f"{asked} packets and {arp.inside:g} ARP requests to {peer}"
        if not answers and (asked or arp.inside):
            return Symptom(True, f"{asking}, no answer")
        measured.append(f"{asking}, {answers} packets back")
    return Symptom(False, "; ".join(measured))


def _check_service_down(view: IntervalView) -> Symptom:
    """Refusals by the device, or of what it asks its peers."""
    asks, asked = (None, [view.device]) if view.is_source else ([view.device], view.peers)
    refusals = view.count("modbus_exception", "mqtt_refused", src=asks, dst=asked)
    counts = {
        "attempts refused or unanswered": view.failed(asks, asked),
        "exceptions and refusals": refusals,
        "ports unreachable": view.count("unreachable", src=asked, dst=asks),
        "connections closed without a word": view.tally(_dropped(view, asks, asked)["ts"]),
    }
    measured = ", ".join(f"{count} {what}" for what, count in counts.items() if count.inside)
    shows = any(count.is_more(1, 3) for count in counts.values())
    return Symptom(shows, measured or "nothing was refused")


def _dropped(view: IntervalView, asks: Hosts, asked: Hosts) -> pd.DataFrame:
    """Connections that were accepted, and closed before the server sent anything."""
    flows = view.flows(asks, asked)
    opened = flows["history"].astype("str").str.contains("h", regex=False)
    silent = (flows["proto"] == "tcp") & (flows["resp_bytes"].fillna(0) == 0)
    return flows[opened & silent & (flows["conn_state"] != "S1")]


def _check_name_resolution(view: IntervalView) -> Symptom:
    """Questions that fail or stay unanswered, or answers that hold the wrong addresses."""
    asks, asked = (None, [view.device]) if view.is_source else ([view.device], [view.interval.root])
    failed = view.count("dns_failed", src=asks, dst=asked)
    asking, wrong = view.count("dns_query", src=asks, dst=asked), _wrong_answers(view, asked, asks)
    questions = f"{failed} of {asking.inside:g} questions failed"
    measured = f"{questions}, {wrong} answers with wrong addresses"
    return Symptom(failed.is_more(1) or wrong > 0, measured)


def _wrong_answers(view: IntervalView, resolver: Hosts, asks: Hosts) -> int:
    answers = view.interval.parameters.get("answers")
    texts = [str(text) for text in answers.values() if text] if isinstance(answers, dict) else []
    wrong = [bytes(map(int, text.split("."))) for text in texts]
    sent = view.packets(resolver, asks)
    sent = sent[(sent["sport"] == 53).to_numpy() & view.inside(sent["ts"])]
    heads = view.run.packets.read_payload(sent.index.to_numpy(), _MESSAGE_BYTES)
    return sum(any(address in head.tobytes() for address in wrong) for head in heads)


def _check_flapping(view: IntervalView) -> Symptom:
    """Pauses that the device does not make else, again and again, or what follows from them."""
    mine, peers = [view.device], view.peers or None
    heard = view.packets(src=mine) if view.is_source else view.packets(src=view.peers, dst=mine)
    ts = np.sort(heard["ts"].to_numpy())
    gaps, at = np.diff(ts), ts[1:]
    usual = gaps[view.baseline(at)]
    long_s = max(_GAP_S, 1.5 * float(np.quantile(usual, 0.99)) if len(usual) else 0.0)
    long = view.tally(at[gaps > long_s])
    trouble = view.count_with(peers, "retransmission", "reset", "arp_unanswered")
    trouble += view.failed_with(peers)
    measured = f"{long} pauses over {long_s:.1f} s, {trouble} resends, resets and attempts in vain"
    return Symptom(long.is_more(2) or trouble.is_more(3, 3), measured)


# ---- Misconfigurations, by kind ----

_MODBUS_PORT = 502


def _check_misconfiguration(view: IntervalView) -> Symptom:
    return _MISCONFIGURATIONS.get(view.interval.kind, _calls_fail)(view)


def _calls_fail(view: IntervalView) -> Symptom:
    """Calls of who is set wrongly fail: nobody is there, or whom it calls refuses."""
    asks, asked = ([view.device], None) if view.is_source else (view.peers, [view.device])
    failed = view.failed(asks, asked)
    arp = view.count("arp_unanswered", src=asks, dst=asked)
    measured = f"{failed} attempts refused or unanswered, {arp} ARP requests unanswered"
    return Symptom(failed.is_more(1, 3) or arp.is_more(1, 3), measured)


def _wrong_unit(view: IntervalView) -> Symptom:
    """Exceptions, or requests without an answer."""
    asks, asked = view.source_and_target
    exceptions = view.count("modbus_exception", src=asks, dst=asked)
    requests, answers = view.packets(asks, asked), view.packets(asked, asks)
    requests = requests[(requests["dport"] == _MODBUS_PORT) & (requests["payload"] > 0)]
    answers = answers[(answers["sport"] == _MODBUS_PORT) & (answers["payload"] > 0)]
    sent, back = view.tally(requests["ts"]).inside, view.tally(answers["ts"]).inside
    measured = f"{exceptions} exceptions, {back:g} answers to {sent:g} requests"
    return Symptom(exceptions.is_more(1, 3) or sent - back >= max(2, 0.2 * sent), measured)


def _wrong_password(view: IntervalView) -> Symptom:
    asks, asked = view.source_and_target
    refused = view.count("mqtt_refused", src=asks, dst=asked)
    return Symptom(refused.is_more(1, 3), f"{refused} logins refused")


def _client_id_twice(view: IntervalView) -> Symptom:
    """Both log in again and again, since each login ends the other's session."""
    logins = view.count("mqtt_connect", src=[view.device])
    return Symptom(logins.is_more(3, 3), f"{logins} MQTT logins")


def _wrong_address(view: IntervalView) -> Symptom:
    """It shows under its wrong address and is gone from its own, so that its clients miss it."""

    def frames(address: str) -> tuple[int, int]:
        """How many it sends while the event is in effect, and outside of it."""
        ts = view.sent_times(address)
        return int(view.in_effect(ts).sum()), int((~view.inside(ts)).sum())

    if view.is_source:
        inside, rest = frames(view.device)
        is_new = view.device == view.interval.parameters.get("address")
        shows = inside > 0 and not rest if is_new else not inside and rest > 0
        measured = f"{inside} frames from this address, {rest} in the rest of the run"
        return Symptom(shows, measured)
    sent = {peer: frames(peer) for peer in view.peers}
    gone = [peer for peer, (inside, rest) in sent.items() if not inside and rest > 0]
    asked = view.tally(view.packets([view.device], gone)["ts"])
    asked += view.count("arp_unanswered", src=[view.device], dst=gone)
    who = ", ".join(gone) or "nobody"
    return Symptom(asked.inside > 0, f"{asked} packets and ARP requests to {who}, who is gone")


def _wrong_gateway(view: IntervalView) -> Symptom:
    """What is meant for others goes to the wrong machine, or to nobody."""
    if not view.is_source:
        macs, table = view.macs(view.device, view.baseline), view.run.packets.table
        not_its_own = table["dst"] != view.run.code(view.device)
        got = view.tally(table.loc[table["dst_mac"].isin(macs) & not_its_own, "ts"])
        return Symptom(got.is_more(1, 3), f"{got} packets for others came to its MAC")
    mine, outside = [view.device], view.run.outside
    asked = int(view.inside(view.packets(mine, outside)["ts"]).sum())
    heard = int(view.in_effect(view.packets(outside, mine)["ts"]).sum())
    arp = view.count("arp_unanswered", src=mine)
    measured = f"{asked} packets to the outside, {heard} from there, {arp} ARP requests unanswered"
    return Symptom((asked > 0 and not heard) or arp.is_more(1, 3), measured)


def _duplicate_address(view: IntervalView) -> Symptom:
    """Two machines use one address."""
    address = view.device if view.is_source else view.interval.root
    macs, usual = view.macs(address, view.inside), view.macs(address, view.baseline)
    shows = len(view.packets([view.device])) > 0 and len(macs) > 1 and len(usual) <= 1
    return Symptom(shows, f"{len(macs)} MACs use {address}, usually {len(usual)}")


_MISCONFIGURATIONS: dict[str, Callable[[IntervalView], Symptom]] = {
    "wrong_unit": _wrong_unit,
    "wrong_password": _wrong_password,
    "client_id_twice": _client_id_twice,
    "wrong_address": _wrong_address,
    "wrong_gateway": _wrong_gateway,
    "duplicate_address": _duplicate_address,
}


# ---- Attacks ----

_MODBUS = ("modbus_read", "modbus_write", "modbus_other")
_LOGIN_PORTS = (21, 22, 23)
_LEAST_TOUCHED, _LEAST_LOGINS, _LEAST_CONTACTS, _LEAST_WRITES = 5, 4, 3, 3
_FLOOD_PER_S, _HELD, _ABUSE = 10.0, 20, 3
_STOLEN_BYTES = 50_000


def _attackers_and_victims(view: IntervalView) -> tuple[Hosts, Hosts]:
    """Both sides; a source whose victims are not known may attack anybody."""
    attackers, victims = view.source_and_target
    return attackers, (victims or None) if view.is_source else victims


def _check_recon(view: IntervalView) -> Symptom:
    """Ports, hosts or registers touched, that are touched at no other time."""
    attackers, victims = _attackers_and_victims(view)
    flows = view.flows(attackers, victims)
    ports = pd.MultiIndex.from_frame(flows[["id.resp_h", "id.resp_p", "proto"]])
    usual = ports[view.baseline(flows["ts"])]
    touched = len(ports[view.inside(flows["ts"])].unique().difference(usual))
    arp = view.count("arp_request", src=attackers, dst=victims)
    calls = view.evidence(*_MODBUS, src=attackers, dst=victims)
    registers = view.tally(calls["ts"], calls["distinct"])
    touches = f"{touched} new ports of hosts touched, {registers} registers"
    measured = f"{touches}, {arp} hosts asked for by ARP"
    return Symptom(touched >= _LEAST_TOUCHED or registers.is_more(_LEAST_TOUCHED), measured)


def _check_flood(view: IntervalView) -> Symptom:
    """Many packets a second from the sources, or many connections held."""
    attackers, victims = _attackers_and_victims(view)
    packets = view.tally(view.packets(attackers, victims)["ts"])
    flows = view.flows(attackers, victims)
    held = view.tally(flows.loc[flows["proto"] == "tcp", "ts"])
    rate, usual = (pkts / packets.inside_s for pkts in (packets.inside, packets.expected))
    measured = f"{rate:.1f} packets/s (usual: {usual:.3g}), {held} connections"
    flood = packets.is_more(_FLOOD_PER_S * packets.inside_s, 3)
    return Symptom(flood or held.is_more(_HELD, 3), measured)


def _check_brute_force(view: IntervalView) -> Symptom:
    """Logins: MQTT connections, and lines typed to a login."""
    attackers, victims = _attackers_and_victims(view)
    mqtt = view.count("mqtt_connect", src=attackers, dst=victims)
    typed = view.packets(attackers, victims)
    typed = typed[typed["dport"].isin(_LOGIN_PORTS) & (typed["payload"] > 0)]
    lines = view.tally(typed["ts"])
    measured = f"{mqtt} MQTT logins, {lines} messages to a login"
    return Symptom(mqtt.is_more(_LEAST_LOGINS) or lines.is_more(2 * _LEAST_LOGINS), measured)


def _check_c2(view: IntervalView) -> Symptom:
    """A peer outside the plant that the device calls at no other time, again and again."""
    counts = _flows_to_strangers(view)["id.resp_h"].value_counts().sort_index()
    most, who = (int(counts.max()), str(counts.idxmax())) if len(counts) else (0, "nobody")
    return Symptom(most >= _LEAST_CONTACTS, f"{most} contacts with {who}")


def _check_exfiltration(view: IntervalView) -> Symptom:
    """Much more sent to such a peer than it answers."""
    flows = _flows_to_strangers(view)
    sent, got = (float(flows[side].fillna(0).sum()) for side in ("orig_ip_bytes", "resp_ip_bytes"))
    peers = flows["id.resp_h"].nunique()
    measured = f"{sent / 1000:.0f} kB sent to {peers} new peers, {got / 1000:.0f} kB back"
    return Symptom(sent >= _STOLEN_BYTES and sent > 2 * got, measured)


def _flows_to_strangers(view: IntervalView) -> pd.DataFrame:
    """Flows of the interval to peers outside the plant that the device's baseline does not know."""
    flows = view.flows([view.device])
    known = flows.loc[view.baseline(flows["ts"]), "id.resp_h"]
    stranger = flows["id.resp_h"].isin(view.run.outside) & ~flows["id.resp_h"].isin(known)
    return flows[view.inside(flows["ts"]) & stranger.to_numpy()]


def _check_spoofing(view: IntervalView) -> Symptom:
    """An address claimed by two machines; of the source, claims of others' addresses."""
    if not view.is_source:
        macs = view.macs(view.device, view.inside)
        return Symptom(len(macs) > 1, f"{len(macs)} MACs use {view.device}")
    own, arp = view.macs(view.device, lambda ts: np.ones(len(ts), bool)), view.run.packets.arp
    others = (arp["sender"] != view.run.code(view.device)) & arp["mac"].isin(own)
    false = view.tally(arp.loc[others, "ts"])
    return Symptom(false.is_more(2, 3), f"{false} claims of others' addresses by its MAC")


def _check_mqtt_abuse(view: IntervalView) -> Symptom:
    """Malformed messages, or far more messages than usual."""
    attackers, victims = _attackers_and_victims(view)
    malformed = view.count("mqtt_malformed", src=attackers, dst=victims)
    messages = view.count("mqtt_publish", src=attackers, dst=victims)
    rate = messages.inside / messages.inside_s
    flood = messages.is_more(_FLOOD_PER_S * messages.inside_s, 3)
    measured = f"{malformed} malformed messages, {rate:.1f} messages/s"
    return Symptom(malformed.is_more(_ABUSE, 3) or flood, measured)


def _check_unauthorized_command(view: IntervalView) -> Symptom:
    attackers, victims = _attackers_and_victims(view)
    writes = view.count("modbus_write", src=attackers, dst=victims)
    return Symptom(writes.is_more(_LEAST_WRITES), f"{writes} Modbus writes")


CHECKS: dict[str, Callable[[IntervalView], Symptom]] = {
    NORMAL: _check_normal,
    "packet_loss": _check_packet_loss,
    "congestion": _check_congestion,
    "device_silent": _check_device_silent,
    "service_down": _check_service_down,
    "misconfiguration": _check_misconfiguration,
    "name_resolution": _check_name_resolution,
    "flapping": _check_flapping,
    "recon": _check_recon,
    "dos": _check_flood,
    "ddos": _check_flood,
    "brute_force": _check_brute_force,
    "c2": _check_c2,
    "exfiltration": _check_exfiltration,
    "spoofing": _check_spoofing,
    "mqtt_abuse": _check_mqtt_abuse,
    "unauthorized_command": _check_unauthorized_command,
}
