"""Causes: which suspicions are one story told by several windows, labels and devices.

a dead server     S device_silent/source,  A service_down/target (peer S),  B flapping/source (peer S)   -> S
a scanner         X recon/source (peers A, B, C),  A recon/target (peer X),  B ...                        -> X
an intruder       A recon/target (peer X),  minutes later B brute_force/target (peer X)                   -> X
a false address   A spoofing/target,  B service_down/target (peer A)                                      -> A
one link          A congestion,  B congestion, at the same time                                          -> the heavier
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from assistant.detection.runs import Run
from assistant.facts.attribution import FEW_ENDPOINTS, Trace, find_trace
from assistant.facts.fact import Fact
from assistant.facts.traffic_view import Scene
from traffic.capture import SAMPLE_S
from traffic.windows import WINDOW_SAMPLES

_NEAR_S = 600.0  # runs of one device, label and peer within this are one
_SLACK_S = 60.0  # a window's length: two devices' evidence of one cause may differ by that much
# No topology is known: devices that are slow together share a link more often than not, and who
# stands in the middle claims the addresses of both sides.
_SHARED = ("congestion", "spoofing")
_FLOODS = ("dos", "ddos")
_LASTING = (
    "c2",
    "misconfiguration",
)  # stays until somebody removes it, so pauses do not make it two
_LEAST_ATTEMPTS = {"brute_force": 5, "flapping": 3}
_IN_VAIN = ("service_down", "misconfiguration")
_LEAST_CALLS = 2  # one request that nobody answers is an accident
_TOLD_BY_EVIDENCE = (
    "spoofing",
    "mqtt_abuse",
    "unauthorized_command",
    "name_resolution",
    "packet_loss",
)
_KIN = {
    **dict.fromkeys(("dos", "ddos", "congestion"), "flood"),
    **dict.fromkeys(("recon", "brute_force", "unauthorized_command", "mqtt_abuse"), "intrusion"),
    **dict.fromkeys(
        (
            "device_silent",
            "service_down",
            "packet_loss",
            "flapping",
            "misconfiguration",
            "name_resolution",
        ),
        "outage",
    ),
}


@dataclass(frozen=True)
class Suspicion:
    """One device under one label, with what carries it.

    Attributes:
        device: address.
        label: one of ``LABELS``.
        role: ``source``, ``target`` or ``both``.
        rows: positions in the verdict table; empty where only hard evidence speaks.
        mass: sum of the label's probabilities; infinite for hard evidence, which no probability
            outweighs.
        trace: flows, evidence, peers and times.
        facts: hard evidence, in words.
    """

    device: str
    label: str
    role: str
    rows: np.ndarray
    mass: float
    trace: Trace
    facts: tuple[Fact, ...] = ()

    @property
    def culprit(self) -> str:
        """Who causes it: the device, or for a target its first peer."""
        return self.device if self.role != "target" or not self.trace.peers else self.trace.peers[0]


def suspect(run: Run, scene: Scene, starts_s: np.ndarray, mass: np.ndarray) -> Suspicion:
    """Look for what carries a run's label in the slots that its windows cover.

    Args:
        run: windows of one device and label.
        scene: the capture.
        starts_s: start of every window, seconds, shape (n_windows,).
        mass: the label's probability in every window, shape (n_windows,).
    """
    first = np.rint(starts_s[run.rows] / SAMPLE_S).astype(np.int64)
    slots = np.unique((first[:, None] + np.arange(WINDOW_SAMPLES)).ravel())
    trace = find_trace(scene, run.device, run.label, run.role, slots)
    return Suspicion(run.device, run.label, run.role, run.rows, float(mass[run.rows].sum()), trace)


def is_borne_out(one: Suspicion) -> bool:
    """Whether the tables hold what the label means, whatever a model says: no evidence, no
    incident.

    A scan touches many things, passwords are guessed more than once or twice, a connection that
    flaps comes back more than once; and some labels are told by what packets carry, so that where
    nothing of it was seen there is nothing.
    """
    if one.facts:
        return True
    flows, evidence = one.trace.flows, one.trace.evidence
    if one.label == "recon":
        touched = len(flows[["dst", "port"]].drop_duplicates())
        return (
            max(touched, evidence["dst"].nunique(), int(evidence["distinct"].sum()))
            >= FEW_ENDPOINTS
        )
    if one.label in _LEAST_ATTEMPTS:
        # A reset ends a refused call as well, and what was never up cannot flap.
        flows, told = flows[flows["proto"] == "tcp"], evidence[evidence["kind"] != "reset"]
        return flows["attempt"].nunique() + int(told["count"].sum()) >= _LEAST_ATTEMPTS[one.label]
    calls = flows["attempt"].nunique() + int(evidence["count"].sum())
    if one.label in _IN_VAIN:
        return calls >= _LEAST_CALLS
    if one.label == "device_silent":
        return (
            calls >= _LEAST_CALLS or not calls
        )  # a device with a rhythm is missed though nobody calls it
    if one.label in _TOLD_BY_EVIDENCE:
        return len(evidence) > 0 or float(flows["missed_bytes"].sum()) > 0
    return True


def merge_suspicions(
    found: Sequence[Suspicion], redo: Callable[[Run], Suspicion]
) -> list[Suspicion]:
    """Join what one device shows twice: the same label again, or two labels that point at the same
    peers at once.

    Args:
        found: suspicions of runs.
        redo: makes the suspicion of a joined run, whose slots are those of both.
    """
    groups: list[list[Suspicion]] = []
    for one in sorted(found, key=lambda item: (item.device, item.trace.start_s)):
        same = next(
            (group for group in groups if any(_is_same(other, one) for other in group)), None
        )
        if same is None:
            groups.append([one])
        else:
            same.append(one)
    return [group[0] if len(group) == 1 else redo(_joined(group)) for group in groups]


def _joined(group: Sequence[Suspicion]) -> Run:
    """One run of all their windows, with the label and role that have most probability."""
    masses: dict[tuple[str, str], float] = {}
    for one in group:
        masses[one.label, one.role] = masses.get((one.label, one.role), 0.0) + one.mass
    label, role = max(masses, key=lambda key: masses[key])
    return Run(group[0].device, label, role, np.unique(np.concatenate([one.rows for one in group])))


def add_hard(found: Sequence[Suspicion], hard: Sequence[Suspicion]) -> list[Suspicion]:
    """Let hard evidence take over what the model suspects of the same device and peers at the same
    time.

    Which kind of flood it is the model tells better; that something is absent or mute needs no
    second opinion.
    """
    joined = list(found)
    for one in hard:
        same = [other for other in joined if _is_same(one, other)]
        joined = [other for other in joined if all(other is not it for it in same)]
        rows = np.unique(np.concatenate([one.rows, *(other.rows for other in same)]))
        label = next(
            (other.label for other in same if other.label in _FLOODS and one.label in _FLOODS),
            one.label,
        )
        joined.append(replace(one, label=label, rows=rows, trace=replace(one.trace, label=label)))
    return joined


def _is_same(a: Suspicion, b: Suspicion) -> bool:
    if a.device != b.device:
        return False
    gap_s = max(a.trace.start_s, b.trace.start_s) - min(a.trace.end_s, b.trace.end_s)
    shared = bool(set(a.trace.peers) & set(b.trace.peers)) or not (a.trace.peers or b.trace.peers)
    if a.label == b.label:
        return shared and (a.label in _LASTING or gap_s <= _NEAR_S)
    return shared and gap_s <= 0


def group_by_cause(found: Sequence[Suspicion]) -> list[list[Suspicion]]:
    """Put suspicions of one cause together, the one that leads first: the source, then the
    heaviest.

    Returns:
        Groups in the order of their first evidence; every suspicion is in exactly one.
    """
    parent = list(range(len(found)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i, a in enumerate(found):
        for j in range(i):
            if _one_cause(a, found[j]):
                parent[root(i)] = root(j)
    groups: dict[int, list[Suspicion]] = {}
    for i, one in enumerate(found):
        groups.setdefault(root(i), []).append(one)
    ordered = [sorted(group, key=_rank) for group in groups.values()]
    return sorted(ordered, key=lambda group: min(item.trace.start_s for item in group))


def _rank(one: Suspicion) -> tuple[bool, bool, float]:
    """A false address first, because it is the cause of all that fails beside it; then sources,
    then the heaviest."""
    return (one.label != "spoofing", one.role == "target", -one.mass)


def _one_cause(a: Suspicion, b: Suspicion) -> bool:
    apart_s = max(a.trace.start_s, b.trace.start_s) - min(a.trace.end_s, b.trace.end_s)
    kin = _KIN.get(a.label) if _KIN.get(a.label) == _KIN.get(b.label) else None
    intruder = kin == "intrusion" and a.culprit == b.culprit  # who takes one device after the other
    if apart_s > (_NEAR_S if intruder else _SLACK_S):
        return False
    if a.device == b.device:
        return False  # merge_suspicions kept them apart: the same device, but other peers
    if a.label == b.label and a.label in _SHARED:
        return True
    linked = a.culprit == b.culprit or a.device in b.trace.peers or b.device in a.trace.peers
    if "spoofing" in (a.label, b.label):
        return linked and "outage" in (_KIN.get(a.label), _KIN.get(b.label))
    return linked and (a.label == b.label or kin is not None)


def promote(lead: Suspicion, group: Sequence[Suspicion]) -> Suspicion:
    """Make the culprit the incident's device where two or more suffer from it and it shows nothing
    itself.

    That is the silent server of clients that call in vain, and the intruder, a device or an address
    outside, of devices that are scanned, flooded or tried one after the other.
    """
    victims = {one.device for one in group if one.role == "target" and one.culprit == lead.culprit}
    if (
        lead.role != "target"
        or len(victims) < 2
        or lead.label not in _KIN
        or lead.culprit == lead.device
    ):
        return lead
    peers = tuple(sorted(victims))
    return replace(lead, device=lead.culprit, role="source", trace=replace(lead.trace, peers=peers))
