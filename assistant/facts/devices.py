"""What one device did in a capture, in sentences: the base of every answer, also of "it is
fine"."""

from collections.abc import Sequence

import pandas as pd

from assistant.facts.attacks import MODBUS_KINDS, modbus_facts
from assistant.facts.fact import Fact, Value, listed, make_fact, plural
from assistant.facts.faults import last_heard
from assistant.facts.traffic_view import Scene
from traffic.capture import SAMPLE_S
from traffic.labels import NORMAL

_PORT_WORDS = {
    22: "SSH", 23: "Telnet", 53: "DNS", 67: "DHCP", 80: "HTTP", 102: "S7", 123: "NTP", 137: "NetBIOS", 138: "NetBIOS",
    139: "NetBIOS", 443: "HTTPS", 445: "SMB", 502: "Modbus", 546: "DHCPv6", 1883: "MQTT", 1900: "SSDP", 4840: "OPC UA",
    5353: "mDNS", 8883: "MQTT over TLS", 20000: "DNP3", 44818: "EtherNet/IP",
}  # fmt: skip

_SAYS = {
    "traffic": "{device} sent {sent_pkts:packet} ({sent_bytes}) and received {got_pkts:packet} ({got_bytes}) between "
    "{first_time_s} and {last_time_s}.",
    "peers": "It exchanged traffic with {peers:other address}, most of it with {busiest}.",
    "services": "By packets, its traffic is {services}.",
    "rhythm": "It was active in {active:sample} of {sample_s}, which is {active_share} of the time between its first "
    "and last; a typical active one holds {typical_pkts:packet}.",
    "answered": "It made {attempts:TCP attempt}, none without an answer.",
    "outcome": "It made {attempts:TCP attempt}; {failed} of these got no answer or a refusal.",
    "asked": "{asker} asked for the hardware address of {device} {asked:time} and got {replies:reply}.",
    "odd": "Counted beside its flows: {counts}.",
    "health": "Of the windows of {device}, {normal} out of {windows} are normal ({normal_share}).",
    "unjudged": "{device} has no window that could be judged: it was active in too few samples.",
}
_ODD = {
    "retransmission": "repeated segment",
    "reset": "reset",
    "unreachable": "unreachable report",
    "zero_window": "full receive buffer",
    "dns_failed": "failed DNS question",
    "mqtt_refused": "refused MQTT connection",
    "arp_conflict": "ARP conflict",
}


def describe_device(scene: Scene, device: str, windows: Sequence[float] = ()) -> list[Fact]:
    """Volumes, peers, services, rhythm and failures of a device; for one that only others speak of,
    what they asked.

    Args:
        scene: the capture.
        device: address.
        windows: starts of the device's windows.
    """
    flows = scene.flows_of(device)
    facts = (
        _traffic_facts(scene, device, flows, windows)
        if len(flows)
        else last_heard(scene, device, None, windows)
    )
    facts += _asked_facts(scene, device, windows)
    facts += modbus_facts(scene.evidence_of(device, MODBUS_KINDS), scene, windows)
    odd = scene.evidence_of(device, _ODD).groupby("kind")["count"].sum()
    if len(odd):
        values: dict[str, Value] = {str(kind): int(n) for kind, n in odd.items()}
        counts = listed(
            (f"{n:,} {plural(n, _ODD[str(kind)])}" for kind, n in odd.items()), len(_ODD)
        )
        facts.append(make_fact("odd", _SAYS["odd"], values | {"counts": counts}, windows))
    return facts


def health_fact(scene: Scene, device: str, verdicts: pd.DataFrame) -> Fact:
    """How many of the device's windows the model takes for normal, of those it decided."""
    mine = verdicts[verdicts["device"] == device]
    normal = int(((mine["label"] == NORMAL) & ~mine["abstained"].astype(bool)).sum())
    values: dict[str, Value] = {
        "device": scene.name(device),
        "normal": normal,
        "windows": len(mine),
    }
    values["normal_share"] = normal / max(len(mine), 1)
    kind = "health" if len(mine) else "unjudged"
    return make_fact(kind, _SAYS[kind], values, mine["start_s"].tolist())


def _traffic_facts(
    scene: Scene, device: str, flows: pd.DataFrame, windows: Sequence[float]
) -> list[Fact]:
    pkts = flows["src_pkts"] + flows["dst_pkts"]
    per_slot = pkts.groupby(flows["slot"]).sum()
    by_peer = pkts.groupby(flows["other"]).sum().sort_values(ascending=False, kind="stable")
    opened = flows[flows["out"] & (flows["proto"] == "tcp")].groupby("attempt")["answered"].any()
    values: dict[str, Value] = {
        "device": scene.name(device),
        "sent_pkts": int(flows["sent_pkts"].sum()),
        "sent_bytes": int(flows["sent_bytes"].sum()),
        "got_pkts": int(pkts.sum() - flows["sent_pkts"].sum()),
        "got_bytes": int(flows["got_bytes"].sum()),
        "first_time_s": float(flows["since_s"].min()),
        "last_time_s": float(flows["until_s"].max()),
        "peers": len(by_peer),
        "busiest": listed((scene.name(str(name)) for name in by_peer.index[:3]), 3),
        "services": _services(flows, pkts),
        "active": len(per_slot),
        "active_share": len(per_slot) / (per_slot.index.max() - per_slot.index.min() + 1),
        "sample_s": SAMPLE_S,
        "typical_pkts": float(per_slot.median()),
        "attempts": len(opened),
        "failed": int((~opened).sum()),
    }
    kinds = ["traffic", "peers", *(["services"] if values["services"] else []), "rhythm"]
    kinds += [] if opened.empty else ["answered" if opened.all() else "outcome"]
    return [make_fact(kind, _SAYS[kind], values, windows) for kind in kinds]


def _services(flows: pd.DataFrame, pkts: pd.Series) -> str:
    known = flows["proto"].isin(["tcp", "udp"])
    share = pkts[known].groupby(flows["port"][known]).sum().sort_values(ascending=False) / max(
        pkts.sum(), 1
    )
    named = zip(share.index.tolist(), share.tolist(), strict=True)
    return listed(
        (f"{100 * part:.0f} % {_service(port)}" for port, part in named if part >= 0.02), 4
    )


def _service(port: int) -> str:
    return f"{_PORT_WORDS[port]} (port {port})" if port in _PORT_WORDS else f"port {port}"


def _asked_facts(scene: Scene, device: str, windows: Sequence[float]) -> list[Fact]:
    """Requests for the device's hardware address, where some stayed unanswered; at most three
    askers."""
    arp = scene.evidence[(scene.evidence["dst"] == device) & (scene.evidence["src"] != device)]
    asked = arp[arp["kind"] == "arp_request"].groupby("src")["count"].sum()
    vain = (
        arp[arp["kind"] == "arp_unanswered"]
        .groupby("src")["count"]
        .sum()
        .sort_values(ascending=False)
    )
    facts = []
    for asker, n in vain.head(3).items():
        total = int(max(asked.get(asker, 0), n))
        values: dict[str, Value] = {
            "device": scene.name(device),
            "asker": scene.name(str(asker)),
            "asked": total,
        }
        facts.append(
            make_fact("asked", _SAYS["asked"], values | {"replies": total - int(n)}, windows)
        )
    return facts
