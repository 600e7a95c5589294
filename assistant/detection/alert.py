"""Alerts: one device under one label, with what carries it; made of a run of verdicts, or of what a rule
found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from assistant.detection.rules import RuleHit
from assistant.detection.runs import VerdictRun
from assistant.facts.attribution import Attribution, attribute
from assistant.facts.fact import Fact
from assistant.facts.profiles import PROFILES, LabelProfile
from assistant.facts.spells import BEGINS, ENDS
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.windows import WINDOW_SAMPLES

_CLEARLY = 2.0  # times as many packets


@dataclass(frozen=True)
class Alert:
    """One device under one label, with what carries it.

    Attributes:
        device: address.
        label: one of ``LABELS``.
        role: ``source``, ``target`` or ``both``.
        rows: positions in the verdict table; empty where only a rule speaks.
        mass: sum of the label's probabilities; infinite for a rule, which no probability outweighs.
        attribution: flows, evidence, peers and times.
        facts: of the rule that raised it.
        rules_out: labels that its rule explains where a model gives them to the same two.
        named: whom its rule names; of these alone a false address makes others fail.
        gone: addresses at which its rule found that nobody is.
    """

    device: str
    label: str
    role: str
    rows: np.ndarray
    mass: float
    attribution: Attribution
    facts: tuple[Fact, ...] = ()
    rules_out: frozenset[str] = frozenset()
    named: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    @property
    def profile(self) -> LabelProfile:
        """What is known of its label."""
        return PROFILES[self.label]

    @property
    def culprit(self) -> str:
        """Who causes it: the device, or for a target its first peer."""
        peers = self.attribution.peers
        return self.device if self.role != "target" or not peers else peers[0]


def make_alert(run: VerdictRun, view: TrafficView, starts_s: np.ndarray, mass: np.ndarray) -> Alert:
    """Attribute a run's label in the slots that its windows cover.

    Args:
        run: windows of one device and label.
        view: the capture.
        starts_s: start of every window, seconds, shape (n_windows,).
        mass: the label's probability in every window, shape (n_windows,).
    """
    first = np.rint(starts_s[run.rows] / SAMPLE_S).astype(np.int64)
    slots = np.unique((first[:, None] + np.arange(WINDOW_SAMPLES)).ravel())
    profile = PROFILES[run.label]
    role = _role(run, view, profile, slots)
    found = attribute(view, run.device, profile, role, slots)
    return Alert(run.device, run.label, role, run.rows, float(mass[run.rows].sum()), found)


def _role(run: VerdictRun, view: TrafficView, profile: LabelProfile, slots: np.ndarray) -> str:
    """Who floods opens most of it, though answered pings are as many each way; who is refused is
    who asked, though both ends count the refusal. A window's numbers tell neither."""
    if not (profile.flood or profile.blames_asker):
        return run.role
    rows = view.evidence_of(run.device, profile.evidence)
    here = rows["slot"].isin(slots)
    if profile.blames_asker and here.any():
        mine, count = rows["src"] == run.device, rows["count"]
    else:  # a protocol whose requests are not read shows at least who calls
        rows = view.flows_of(run.device)
        rows = rows[profile.carries(rows)]
        here = rows["slot"].isin(slots)
        mine, count = rows["out"], rows["src_pkts"]
    asked, was_asked = float(count[here & mine].sum()), float(count[here & ~mine].sum())
    if max(asked, was_asked) <= _CLEARLY * min(asked, was_asked):
        return run.role
    return "source" if asked > was_asked else "target"


def make_rule_alert(hit: RuleHit, view: TrafficView) -> Alert:
    """Attribute what a rule found."""
    # A rule has followed what it found to its end already.
    profile = replace(PROFILES[hit.label], lasts="")
    found = attribute(view, hit.device, profile, hit.role, hit.slots)
    if hit.rules_out:
        # The rule names who is concerned and since when more exactly than a label can.
        edges = float(hit.slots.min()) * SAMPLE_S, float(hit.slots.max() + 1) * SAMPLE_S
        found = replace(
            found,
            peers=tuple(dict.fromkeys((*hit.peers, *found.peers))),
            start_s=next(_moments(hit.facts[:1], BEGINS), edges[0]),
            end_s=min(max(_moments(hit.facts, (*ENDS, "last_time_s")), default=edges[1]), edges[1]),
        )
    rows = np.zeros(0, np.int64)
    mass = float("inf")
    return Alert(
        hit.device, hit.label, hit.role, rows, mass, found, hit.facts, hit.rules_out, hit.peers,
        hit.gone,
    )  # fmt: skip


def _moments(facts: Sequence[Fact], names: Sequence[str]) -> Iterator[float]:
    """The moments of these names; 0 is none."""
    values = (float(one.values.get(name, 0.0)) for one in facts for name in names)
    return (one for one in values if one)


def is_vetoed(alert: Alert, view: TrafficView) -> bool:
    """Whether the tables forbid the label that a model gave."""
    veto = alert.profile.veto
    return veto is not None and veto(alert.attribution, view)


def is_supported(alert: Alert) -> bool:
    """Whether the tables hold what the label means, whatever a model says: no evidence, no
    incident."""
    supported = alert.profile.is_supported
    return bool(alert.facts) or supported is None or supported(alert.attribution)


def is_shown(alert: Alert) -> bool:
    """The same with no verdict to lean on, harder where the profile says so."""
    shown = alert.profile.is_shown
    return is_supported(alert) if shown is None else shown(alert.attribution)
