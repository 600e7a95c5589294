"""Where a label shows: the flows and evidence rows that carry it, the peers they point at, and when
they begin.

A run of windows says "c2, from here to there" with edges of a minute. The trace inside it says with
whom, and from which second on:

    windows   |------------|
                 |------------|
    flows          x   x  x                 start_s is the first x, end_s the last
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.facts.traffic_view import Scene, count_by_peer, quiet_spell
from traffic.capture import SAMPLE_S
from traffic.plant import is_group
from traffic.samples import SERVICES

# FTP asks for a password too, though a sample counts its packets as those of files.
LOGIN_PORTS = (21, *SERVICES["login"])
_INFRASTRUCTURE = (53, 67, 68, 123, 137, 138, 546, 547, 1900, 3702, 5353, 5355)
FEW_ENDPOINTS = 8  # fewer hosts and ports than this are no scan of them
# Peers that carry less than this share of the strongest one's weight are not named. A bot has one
# controller and one victim at a time, while everyone who calls a dead server suffers from it.
_MINOR = {"device_silent": 0.0, "service_down": 0.0, "spoofing": 0.0}
_ONE_PEER = 0.6
_LOCAL_C2 = 0.1  # a controller inside the plant is possible, a server of the plant is likelier

# Which rows of Capture.evidence carry a label.
KINDS: dict[str, tuple[str, ...]] = {
    "recon": ("modbus_read", "modbus_other", "modbus_exception", "arp_unanswered"),
    "brute_force": ("mqtt_refused",),
    "spoofing": ("arp_conflict",),
    "mqtt_abuse": ("mqtt_publish", "mqtt_malformed", "mqtt_refused", "mqtt_connect"),
    "unauthorized_command": ("modbus_write",),
    "packet_loss": ("retransmission",),
    "congestion": ("zero_window", "retransmission"),
    "device_silent": ("arp_unanswered",),
    "service_down": ("unreachable",),
    "misconfiguration": ("modbus_exception", "mqtt_refused", "unreachable", "arp_unanswered"),
    "name_resolution": ("dns_failed",),
    "flapping": ("reset", "mqtt_connect"),
}
# Labels whose source is the one that does not answer; of all others the source is the one that
# calls.
_ANSWERING = ("device_silent", "service_down")
_BOTH_WAYS = ("packet_loss", "congestion", "exfiltration", "spoofing", "normal")


@dataclass(frozen=True)
class Trace:
    """What carries a label at one device.

    Attributes:
        device: its address.
        label: what the trace is of.
        flows: the moves (``Scene.flows_of``) with ``peers`` in the slots of the label.
        evidence: the evidence rows likewise.
        peers: addresses, the most involved first; empty where nothing points at anyone.
        start_s: first moment of the evidence, seconds since the epoch.
        end_s: last moment.
    """

    device: str
    label: str
    flows: pd.DataFrame
    evidence: pd.DataFrame
    peers: tuple[str, ...]
    start_s: float
    end_s: float


def find_trace(scene: Scene, device: str, label: str, role: str, slots: np.ndarray) -> Trace:
    """Find what carries a label at a device.

    Args:
        scene: the capture.
        device: address.
        label: one of ``LABELS``.
        role: ``source``, ``target`` or ``both``.
        slots: the slots that the label's windows cover, int64, at least one.

    Returns:
        The trace; without flows and evidence its times are those of ``slots``.
    """
    whole = scene.flows_of(device)
    first, last = np.searchsorted(whole["slot"], [slots.min(), slots.max() + 1])
    near = whole.iloc[first:last]
    flows = _right_way(near[np.isin(near["slot"], slots)], label, role)
    evidence = scene.evidence_of(device, KINDS.get(label, ()))
    evidence = evidence[evidence["slot"].isin(slots)]
    found = _weights(label, flows, whole, scene.peers_of(device))
    if label == "c2":
        found = found.where(~found.index.isin(scene.samples["device"].unique()), _LOCAL_C2 * found)
    weight = found.add(evidence.groupby("other")["count"].sum().astype(float), fill_value=0.0)
    weight = (
        weight[weight > 0].drop(device, errors="ignore").sort_values(ascending=False, kind="stable")
    )
    minor = (
        _ONE_PEER
        if label == "c2" or (label in ("dos", "ddos") and role == "source")
        else _MINOR.get(label, 0.2)
    )
    least = minor * weight.max() if len(weight) else 0.0
    peers = tuple(map(str, weight.index[weight >= least]))
    flows, evidence = (
        flows[flows["other"].isin(peers)],
        evidence[evidence["other"].isin((*peers, device))],
    )
    flows = flows[_carries(label, flows)]
    start_s, end_s = _span(flows, evidence, slots)
    if label == "device_silent" and role == "source":
        start_s, end_s = quiet_spell(scene, device, start_s, end_s) or (start_s, end_s)
    return Trace(device, label, flows, evidence, peers, start_s, end_s)


def _right_way(flows: pd.DataFrame, label: str, role: str) -> pd.DataFrame:
    """Flows that the device opened or received, as label and role ask; the other way where there is
    none."""
    if label in _BOTH_WAYS or role == "both":
        return flows
    calls = (role == "source") != (label in _ANSWERING)
    chosen = flows[flows["out"] == calls]
    return chosen if len(chosen) else flows


def _weights(
    label: str, flows: pd.DataFrame, whole: pd.DataFrame, usual: pd.DataFrame
) -> pd.Series:
    """How strongly each peer carries the label, by the label's own measure."""
    flows = flows[
        ~flows["other"].isin([name for name in flows["other"].unique() if is_group(name)])
    ]
    by_peer = flows.groupby("other")
    if label in ("dos", "ddos"):
        return _excess(flows, whole, usual)
    if label == "c2":
        return _presence(flows, usual)
    if label == "recon":
        return _breadth(flows)
    if label == "exfiltration":
        return by_peer["sent_bytes"].sum().astype(float)
    if label == "congestion":
        return (flows["src_bytes"] + flows["dst_bytes"]).groupby(flows["other"]).sum().astype(float)
    if label == "packet_loss":
        return pd.Series(dtype=float)
    carried = flows[_carries(label, flows)]
    return carried.drop_duplicates("attempt").groupby("other").size().astype(float)


def _breadth(flows: pd.DataFrame) -> pd.Series:
    """Ports tried at each peer; where that is nowhere many, attempts. Time servers and resolvers
    are no targets."""
    tried = (
        flows[~flows["port"].isin(_INFRASTRUCTURE)]
        if not flows["port"].isin(_INFRASTRUCTURE).all()
        else flows
    )
    ports = tried.drop_duplicates(["other", "port"]).groupby("other").size()
    if len(ports) + ports.max() < FEW_ENDPOINTS:
        ports = tried.drop_duplicates("attempt").groupby("other").size()
    return ports.astype(float)


def _excess(flows: pd.DataFrame, whole: pd.DataFrame, usual: pd.DataFrame) -> pd.Series:
    """Packets or connections beyond what the same peer has outside these slots, the larger share of
    the two."""
    here, slots = count_by_peer(flows), flows["slot"].nunique()
    scale = slots / max(whole["slot"].nunique() - slots, 1)
    rest = (usual.reindex(here.index) - here).clip(lower=0.0) * scale
    more = (here - rest).clip(lower=0.0)[["pkts", "connections"]]
    return (more / more.sum().clip(lower=1.0)).max(axis=1)


def _presence(flows: pd.DataFrame, usual: pd.DataFrame) -> pd.Series:
    """Peers that are there when the label is, and not when it is not; time servers and resolvers
    count little."""
    here = count_by_peer(flows)["slots"]
    plain = flows["port"].isin(_INFRASTRUCTURE).groupby(flows["other"]).mean()
    return (
        here**2
        / usual["slots"].reindex(here.index)
        * np.where(plain.reindex(here.index) > 0.5, 0.02, 1.0)
    )


def _carries(label: str, flows: pd.DataFrame) -> np.ndarray:
    """Which flows with a peer belong to the label, mask (n,)."""
    if label in ("service_down", "device_silent", "misconfiguration"):
        return (~flows["answered"] | flows["refused"]).to_numpy()
    if label == "flapping":
        return flows["answered"].to_numpy(bool)
    if label == "name_resolution":
        return (flows["port"] == 53).to_numpy()
    if label == "brute_force":
        login = flows["port"].isin(LOGIN_PORTS).to_numpy()
        return login if login.any() else np.ones(len(flows), bool)
    return np.ones(len(flows), bool)


def _span(flows: pd.DataFrame, evidence: pd.DataFrame, slots: np.ndarray) -> tuple[float, float]:
    if len(flows):
        return float(flows["since_s"].min()), float(flows["until_s"].max())
    slots = evidence["slot"].to_numpy() if len(evidence) else slots
    return float(slots.min()) * SAMPLE_S, float(slots.max() + 1) * SAMPLE_S
