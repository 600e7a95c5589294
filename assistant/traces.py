"""Where a label shows: the flows and evidence rows that carry it, the peers they point at, and when they begin.

A run of windows says "c2, from here to there" with edges of a minute. The trace inside it says with whom, and from
which second on:

    windows   |------------|
                 |------------|
    flows          x   x  x                 start_s is the first x, end_s the last
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.phrases import by_count
from traffic.capture import SAMPLE_S, Capture
from traffic.plant import Plant

__all__ = ["LOGIN_PORTS", "Scene", "Trace", "endpoint", "find_trace", "is_group", "make_scene", "quiet_spell"]

LOGIN_PORTS = (21, 22, 23, 513, 2323, 3389, 5800, 5900)
_INFRASTRUCTURE = (53, 67, 68, 123, 137, 138, 546, 547, 1900, 3702, 5353, 5355)
_GROUP = re.compile(r"(?:22[4-9]|23\d)\.|255\.255\.255\.255$|0\.0\.0\.0$|.*\.255$|(?i:ff[0-9a-f]{2}:)|::$")
_ATTEMPT_S = 120.0  # a 5-tuple seen again after this long is a new attempt, not a retry (as traffic.past counts)
_FEW_ENDPOINTS = 8
# Peers that carry less than this share of the strongest one's weight are not named; a bot has one controller,
# while everyone who calls a dead server suffers from it.
_MINOR = {"c2": 0.6, "device_silent": 0.0, "service_down": 0.0, "spoofing": 0.0}
_MINOR_SHARE = 0.2
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
# Labels whose source is the one that does not answer; of all others the source is the one that calls.
_ANSWERING = ("device_silent", "service_down")
_BOTH_WAYS = ("packet_loss", "congestion", "exfiltration", "spoofing", "normal")


@dataclass(frozen=True)
class Scene:
    """A capture laid out for questions about one device at a time.

    Attributes:
        moves: one row per flow and slot with packets: ``flow slot src dst sport port proto service state history``,
            packets and bytes of either side, ``syns``, ``answered``, ``refused``, ``missed_bytes``, ``sized`` (the
            counts are known), ``attempt`` (retries of a 5-tuple share one), ``since_s`` and ``until_s`` (the part of
            the flow inside the slot).
        evidence: as in the capture.
        samples: as ``traffic.samples.make_samples`` returns them; its devices are the local ones.
        macs: address -> hardware addresses in its packets, where the capture has them.
        plant: names of addresses.
        start_s: seconds since the epoch; start of the first slot.
        end_s: end of the last slot.
    """

    moves: pd.DataFrame
    evidence: pd.DataFrame
    samples: pd.DataFrame
    macs: Mapping[str, frozenset[str]]
    plant: Plant | None
    start_s: float
    end_s: float

    def name(self, address: str) -> str:
        """The device's name with its address, or the address alone."""
        return self.plant.name_of(address) if self.plant else address

    def port_at(self, address: str, port: int) -> str:
        """A port of an address: "10.0.0.5:80", or "plc-1 (10.0.0.5) port 502"."""
        name = self.name(address)
        return f"{address}:{port}" if name == address and ":" not in address else f"{name} port {port}"

    def macs_of(self, address: str) -> list[str]:
        """Hardware addresses that an address was seen with; empty where the capture has none."""
        return sorted(self.macs.get(address, ()))

    def flows_of(self, device: str) -> pd.DataFrame:
        """Moves of one device from its side, with ``other out sent_bytes got_bytes sent_pkts``."""
        moves = self.moves[(self.moves["src"] == device) | (self.moves["dst"] == device)]
        out = (moves["src"] == device).to_numpy()
        return moves.assign(
            out=out,
            other=moves["dst"].where(out, moves["src"]),
            sent_bytes=np.where(out, moves["src_bytes"], moves["dst_bytes"]),
            got_bytes=np.where(out, moves["dst_bytes"], moves["src_bytes"]),
            sent_pkts=np.where(out, moves["src_pkts"], moves["dst_pkts"]),
        )

    def evidence_of(self, device: str, kinds: Iterable[str]) -> pd.DataFrame:
        """Evidence rows that name a device on either side, with ``other``."""
        rows = self.evidence
        rows = rows[((rows["src"] == device) | (rows["dst"] == device)) & rows["kind"].isin(list(kinds))]
        return rows.assign(other=rows["dst"].where((rows["src"] == device), rows["src"]))


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


def make_scene(capture: Capture, samples: pd.DataFrame, plant: Plant | None = None) -> Scene:
    """Join activity with its flows, once per capture."""
    macs = _macs(capture.flows)
    return Scene(_moves(capture), capture.evidence, samples, macs, plant, capture.start_s, capture.end_s)


def find_trace(scene: Scene, device: str, label: str, role: str, slots: np.ndarray) -> Trace:
    """Find what carries a label at a device.

    Args:
        scene: the capture.
        device: address.
        label: one of ``LABELS``.
        role: ``source``, ``target`` or ``both``.
        slots: the slots that the label's windows cover, int64.

    Returns:
        The trace; without flows and evidence its times are those of ``slots``.
    """
    whole = scene.flows_of(device)
    flows = _right_way(whole[whole["slot"].isin(slots)], label, role)
    evidence = scene.evidence_of(device, KINDS.get(label, ()))
    evidence = evidence[evidence["slot"].isin(slots)]
    found = _weights(label, flows, whole)
    if label == "c2":
        found = found.where(~found.index.isin(scene.samples["device"].unique()), _LOCAL_C2 * found)
    weight = found.add(evidence.groupby("other")["count"].sum().astype(float), fill_value=0.0)
    weight = weight[weight > 0].drop(device, errors="ignore").sort_values(ascending=False, kind="stable")
    peers = (
        tuple(str(name) for name in weight.index[weight >= _MINOR.get(label, _MINOR_SHARE) * weight.max()])
        if len(weight)
        else ()
    )
    flows, evidence = flows[flows["other"].isin(peers)], evidence[evidence["other"].isin((*peers, device))]
    flows = flows[_carries(label, flows)]
    start_s, end_s = _span(flows, evidence, slots)
    if label == "device_silent" and role == "source":
        start_s, end_s = quiet_spell(scene, device, start_s, end_s) or (start_s, end_s)
    return Trace(device, label, flows, evidence, peers, start_s, end_s)


def quiet_spell(scene: Scene, device: str, start_s: float, end_s: float) -> tuple[float, float] | None:
    """The longest time within reach of an interval in which a device sent nothing, up to the end of the capture.

    Returns:
        None where it was never heard, or is never quiet for as long as two samples.
    """
    flows = scene.flows_of(device)
    asked = scene.evidence[(scene.evidence["src"] == device) & (scene.evidence["kind"] == "arp_request")]
    sent = flows[flows["sent_pkts"] > 0]
    since = np.concatenate([sent["since_s"], asked["slot"] * SAMPLE_S])
    until = np.concatenate([sent["until_s"], (asked["slot"] + 1) * SAMPLE_S])
    if not len(since):
        return None
    order = np.argsort(since)
    left = np.maximum.accumulate(until[order])
    back = np.append(since[order][1:], scene.end_s)
    near = (left < end_s) & (back > start_s) & (back - left >= 2 * SAMPLE_S)
    if not near.any():
        return None
    longest = int(np.argmax(np.where(near, back - left, -1.0)))
    return float(left[longest]), float(back[longest])


def is_group(address: str) -> bool:
    """Multicast, broadcast and unspecified addresses: nobody in particular is expected to answer.

    >>> is_group("224.0.0.251"), is_group("ff02::fb"), is_group("10.0.0.1")
    (True, True, False)
    """
    return _GROUP.match(address) is not None


def _moves(capture: Capture) -> pd.DataFrame:
    flows, activity = capture.flows, capture.activity
    at = activity["flow"].to_numpy()
    slot_s = activity["slot"].to_numpy() * SAMPLE_S
    ts = flows["ts"].to_numpy()
    until = ts + np.nan_to_num(flows["duration"].to_numpy(float), nan=0.0)
    named = {
        "src": "id.orig_h", "dst": "id.resp_h", "sport": "id.orig_p", "port": "id.resp_p", "proto": "proto",
        "service": "service", "state": "conn_state", "history": "history",
    }  # fmt: skip
    columns = {new: flows[old].take(at).reset_index(drop=True) for new, old in named.items()}
    resp_pkts = np.nan_to_num(flows["resp_pkts"].to_numpy(float), nan=0.0)
    known = np.nan_to_num(flows["orig_pkts"].to_numpy(float), nan=0.0) + resp_pkts > 0
    return pd.DataFrame(
        {
            "flow": at,
            "slot": activity["slot"].to_numpy(),
            **columns,
            "src_pkts": activity["orig_pkts"].to_numpy(),
            "dst_pkts": activity["resp_pkts"].to_numpy(),
            "src_bytes": activity["orig_bytes"].to_numpy(),
            "dst_bytes": activity["resp_bytes"].to_numpy(),
            "syns": activity["orig_syns"].to_numpy(),
            "answered": (resp_pkts > 0)[at] & (columns["state"] != "REJ").to_numpy(),
            "refused": (columns["state"] == "REJ").to_numpy(),
            "missed_bytes": np.nan_to_num(flows["missed_bytes"].to_numpy(float), nan=0.0)[at],
            "sized": known[at],
            "attempt": _attempts(flows)[at],
            "since_s": np.maximum(ts[at], slot_s),
            "until_s": np.minimum(until[at], slot_s + SAMPLE_S),
        }
    )


def _macs(flows: pd.DataFrame) -> dict[str, frozenset[str]]:
    sides = [("id.orig_h", "orig_l2_addr"), ("id.resp_h", "resp_l2_addr")]
    pairs = [flows[[ip, mac]].set_axis(["ip", "mac"], axis=1) for ip, mac in sides if mac in flows]
    if not pairs:
        return {}
    known = pd.concat(pairs).dropna().drop_duplicates()
    return {str(ip): frozenset(macs) for ip, macs in known.groupby("ip")["mac"]}


def _attempts(flows: pd.DataFrame) -> np.ndarray:
    """A number for each attempt, shape (n_flows,): rows of one 5-tuple that follow each other closely are one."""
    ends = ["id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto"]
    code = flows.groupby(ends, sort=False, dropna=False).ngroup().to_numpy()
    ts = flows["ts"].to_numpy()
    order = np.lexsort((ts, code))
    fresh = np.ones(len(flows), bool)
    fresh[1:] = (code[order][1:] != code[order][:-1]) | (np.diff(ts[order]) > _ATTEMPT_S)
    attempts = np.empty(len(flows), np.int64)
    attempts[order] = np.cumsum(fresh)
    return attempts


def _right_way(flows: pd.DataFrame, label: str, role: str) -> pd.DataFrame:
    """Flows that the device opened or received, as label and role ask; the other way where there is none."""
    if label in _BOTH_WAYS or role == "both":
        return flows
    calls = (role == "source") != (label in _ANSWERING)
    chosen = flows[flows["out"] == calls]
    return chosen if len(chosen) else flows


def _weights(label: str, flows: pd.DataFrame, whole: pd.DataFrame) -> pd.Series:
    """How strongly each peer carries the label, by the label's own measure."""
    flows = flows[~flows["other"].map({name: is_group(name) for name in flows["other"].unique()}).astype(bool)]
    by_peer = flows.groupby("other")
    if label in ("dos", "ddos"):
        return _excess(flows, whole)
    if label == "c2":
        return _presence(flows, whole)
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
    """Ports tried at each peer; where that is nowhere many, attempts. Time servers and resolvers are no targets."""
    tried = flows[~flows["port"].isin(_INFRASTRUCTURE)] if not flows["port"].isin(_INFRASTRUCTURE).all() else flows
    ports = tried.drop_duplicates(["other", "port"]).groupby("other").size()
    if len(ports) + ports.max() < _FEW_ENDPOINTS:
        ports = tried.drop_duplicates("attempt").groupby("other").size()
    return ports.astype(float)


def _excess(flows: pd.DataFrame, whole: pd.DataFrame) -> pd.Series:
    """Packets or connections beyond what the same peer has outside these slots, the larger share of the two."""
    slots = flows["slot"].nunique()
    rest = whole[~whole["slot"].isin(flows["slot"].unique())]
    scale = slots / max(rest["slot"].nunique(), 1)
    shares = []
    for measure in (_pkts_by_peer, _connections_by_peer):
        usual = measure(rest) * scale
        more = (measure(flows) - usual.reindex(measure(flows).index, fill_value=0.0)).clip(lower=0.0)
        shares.append(more / max(more.sum(), 1.0))
    return shares[0].combine(shares[1], max, fill_value=0.0)


def _pkts_by_peer(flows: pd.DataFrame) -> pd.Series:
    return flows["src_pkts"].clip(lower=1).groupby(flows["other"]).sum().astype(float)


def _connections_by_peer(flows: pd.DataFrame) -> pd.Series:
    return flows.drop_duplicates("flow").groupby("other").size().astype(float)


def _presence(flows: pd.DataFrame, whole: pd.DataFrame) -> pd.Series:
    """Peers that are there when the label is, and not when it is not; time servers and resolvers count little."""
    here = flows.drop_duplicates(["other", "slot"]).groupby("other").size()
    ever = whole.drop_duplicates(["other", "slot"]).groupby("other").size()
    plain = flows["port"].isin(_INFRASTRUCTURE).groupby(flows["other"]).mean()
    return here**2 / ever.reindex(here.index) * np.where(plain.reindex(here.index) > 0.5, 0.02, 1.0)


def _carries(label: str, flows: pd.DataFrame) -> np.ndarray:
    """Which flows with a peer belong to the label, mask (n,)."""
    if label in ("service_down", "device_silent", "misconfiguration"):
        return (~flows["answered"] | flows["refused"]).to_numpy()
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


def endpoint(scene: Scene, flows: pd.DataFrame) -> str:
    """The answering side that most flows share, "10.0.0.5:80" or "plc-1 (10.0.0.5) port 502"."""
    address = str(by_count(flows["dst"])[0])
    port = int(by_count(flows.loc[flows["dst"] == address, "port"])[0])
    return scene.port_at(address, port) if flows["proto"].iloc[0] in ("tcp", "udp") else scene.name(address)
