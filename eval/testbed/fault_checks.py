"""How faults show in packets: for every label of a fault a function of one look that says whether it does."""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from eval.testbed.mistake_checks import check_misconfiguration
from eval.testbed.verify.interval import Finding, Look, Tally
from traffic.pcap.headers import TCP, UDP

__all__ = ["FAULT_CHECKS"]

# Below, an answer or a pause is late because of the machine that recorded.
_LATE_S, _GAP_S = 0.02, 1.5
_RTP_PKTS = 20
_MESSAGE_BYTES = 512


def check_packet_loss(look: Look) -> Finding:
    """Segments sent again, attempts in vain, holes in the numbers of RTP packets (RFC 3550, 5.1)."""
    mine, theirs = [look.device], None if look.is_source else look.peers
    again = look.told(["retransmission"], src=mine, dst=theirs) + look.told(["retransmission"], src=theirs, dst=mine)
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
    """Numbers that are missing in streams of RTP over UDP, and how many packets the interval holds."""
    udp = table[(table["proto"] == UDP).to_numpy() & (table["held"] >= 12).to_numpy()]
    head = look.run.packets.read_payload(udp.index.to_numpy(), 4).astype(np.int64)
    udp = udp.assign(number=head[:, 2] << 8 | head[:, 3])[head[:, 0] >> 6 == 2]
    streams = [stream for _, stream in udp.groupby(["src", "dst", "sport", "dport"]) if len(stream) >= _RTP_PKTS]
    ts, missing = [np.zeros(0)], [np.zeros(0)]
    for stream in streams:
        step = np.diff(stream["number"].to_numpy()) & 0xFFFF
        ts.append(stream["ts"].to_numpy()[1:])
        missing.append(np.where((step > 1) & (step < 1000), step - 1, 0))
    held = sum(int(look.inside(stream["ts"]).sum()) for stream in streams)
    return look.tally(np.concatenate(ts), np.concatenate(missing)), held


def check_congestion(look: Look) -> Finding:
    """Answers late, segments sent again, or a link much fuller than usual; of a victim, with anybody else concerned."""
    mine = [look.device]
    theirs = None if look.interval.kind == "slow_link" and look.is_source else [one.device for one in look.others]
    table = pd.concat([look.packets(mine, theirs), look.packets(theirs, mine)])
    volume = look.tally(table["ts"], table["ip_bytes"])
    again = look.told(["retransmission"], src=mine, dst=theirs) + look.told(["retransmission"], src=theirs, dst=mine)
    late_s, usual_s = _late(look, theirs)
    rate, usual = (size * 8 / 1000 / volume.inside_s for size in (volume.inside, volume.expected))
    said = (
        f"{rate:.0f} kbit/s (usual: {usual:.0f}), a tenth of answers took over {late_s:.3f} s (usual: {usual_s:.3f}), "
        f"{again} segments sent again"
    )
    late = late_s > max(2 * usual_s, usual_s + _LATE_S)
    return Finding(late or again.is_more(3) or volume.is_more(100_000, 3), said)


def _late(look: Look, peers: Collection[str] | None) -> tuple[float, float]:
    """The time that nine tenths of answers between device and peers took at most, in the interval and in calm."""
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
    frozen = look.interval.kind == "silent_sensor"  # its kernel lives: it acknowledges, and says nothing
    sent = look.packets(src=[look.device])
    sent = sent[sent["payload"] > 0] if frozen else sent
    arp = look.run.packets.arp
    claims = arp.loc[(arp["sender"] == look.run.codes.get(look.device, -1)).to_numpy(), "ts"]
    ts = sent["ts"].to_numpy() if frozen else np.concatenate([sent["ts"], claims])
    inside, else_ = int(look.settled(ts).sum()), int((~look.inside(ts)).sum())
    what = "messages" if frozen else "frames"
    return Finding(not inside and else_ > 0, f"{inside} {what} from it, {else_} in the rest of the run")


def _asks_in_vain(look: Look, peers: Collection[str]) -> Finding:
    said = []
    for peer in peers:
        asked = int(look.inside(look.packets([look.device], [peer])["ts"]).sum())
        heard = int(look.settled(look.packets([peer], [look.device])["ts"]).sum())
        arp = look.told(["arp_unanswered"], src=[look.device], dst=[peer])
        if not heard and (asked or arp.inside):
            return Finding(True, f"{asked} packets and {arp.inside:g} ARP requests to {peer}, no answer")
        said.append(f"{asked} packets and {arp.inside:g} ARP requests to {peer}, {heard} packets back")
    return Finding(False, "; ".join(said))


def check_service_down(look: Look) -> Finding:
    """Attempts refused or unanswered, exceptions, refusals: by the device, or of what it asks its peers."""
    asks, asked = (None, [look.device]) if look.is_source else ([look.device], look.peers)
    counts = {
        "attempts refused or unanswered": look.failed(asks, asked),
        "exceptions and refusals": look.told(["modbus_exception", "mqtt_refused"], src=asks, dst=asked),
        "ports unreachable": look.told(["unreachable"], src=asked, dst=asks),
        "connections closed without a word": look.tally(_dropped(look, asks, asked)["ts"]),
    }
    said = [f"{count} {what}" for what, count in counts.items() if count.inside]
    return Finding(any(count.is_more(1, 3) for count in counts.values()), ", ".join(said) or "nothing was refused")


def _dropped(look: Look, asks: Collection[str] | None, asked: Collection[str]) -> pd.DataFrame:
    """Connections that were accepted, and closed before the server said anything."""
    flows = look.flows(asks, asked)
    opened = flows["history"].astype("str").str.contains("h", regex=False)
    return flows[
        opened & (flows["proto"] == "tcp") & (flows["resp_bytes"].fillna(0) == 0) & (flows["conn_state"] != "S1")
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
