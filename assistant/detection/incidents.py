"""Incidents: verdicts of one cause become one thing that an operator can act on.

verdicts ─▶ runs (k of n, hysteresis) ─▶ alerts (with whom, since which second) ─▶ correlation ─▶
incidents
                                           rules that need no model ─▶┘
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from assistant.detection.alert import Alert, is_supported, is_vetoed, make_alert, make_rule_alert
from assistant.detection.correlation import (
    add_rule_alerts,
    group_by_cause,
    merge_repeated,
    name_flood,
    promote_culprit,
)
from assistant.detection.rules import DECISIVE, HEADLINES, SUGGESTIVE, apply_rules
from assistant.detection.rules.floods import join_floods
from assistant.detection.runs import VerdictRun, find_runs
from assistant.facts.devices import describe_device
from assistant.facts.fact import Fact, Value, find_whole, kind_of, make_fact
from assistant.facts.moves import move_facts
from assistant.facts.spells import quiet_spell
from assistant.facts.traffic_view import TrafficView
from traffic.labels import ATTACKS, TAXONOMY
from traffic.windows import Windows

Severity = Literal["low", "medium", "high"]

_LARGE_FLOOD_PKTS = 10_000
_SHOWN = DECISIVE | SUGGESTIVE
_MEDIUM_SUFFER, _HIGH_SUFFER = 2, 5
_MOST_FACTS, _MOST_PEERS = 10, 50

_ENDS = {"over_time_s", "until_time_s"}


@dataclass(frozen=True)
class Incident:
    """One cause, with its evidence.

    Attributes:
        id: hash of device, label and start: the same capture gives the same id.
        device: address of the device it comes from, or that suffers; of an intruder outside who
            troubles several.
        role: ``source``, ``target`` or ``both``.
        label: one of ``LABELS`` but normal.
        severity: ``low``, ``medium`` or ``high``.
        start_s: first moment of the evidence, seconds since the epoch.
        end_s: last moment of it.
        windows: starts of the windows with the label; empty where hard evidence alone raised it.
        facts: sentences with their numbers, the strongest first.
        peers: addresses it points at, the most involved first, at most 50.
        techniques: ids of MITRE ATT&CK for ICS that it is consistent with.
        related: other devices with verdicts of the same cause.
    """

    id: str
    device: str
    role: str
    label: str
    severity: Severity
    start_s: float
    end_s: float
    windows: tuple[float, ...]
    facts: tuple[Fact, ...]
    peers: tuple[str, ...]
    techniques: tuple[str, ...]
    related: tuple[str, ...]

    def touches(self, device: str) -> bool:
        """Whether an address has to do with it, as its source, target, peer or fellow."""
        return device in (self.device, *self.peers, *self.related)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, texts and numbers, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def make_incidents(
    verdicts: pd.DataFrame,
    windows: Windows,
    view: TrafficView,
    k: int = 3,
    n: int = 5,
    off: int = 6,
) -> list[Incident]:
    """Turn verdicts into incidents, one for each cause.

    Args:
        verdicts: one row per window, as ``assistant.detection.classify.classify`` returns it, in
            the order of ``windows``.
        windows: with their samples.
        view: of the capture the windows were made from; facts and exact times come from it.
        k: anomalous windows of the last ``n`` that raise (a sure and large flood needs one).
        n: see ``k``.
        off: normal windows in a row that end a run.

    Returns:
        Incidents in the order of their starts; what the tables do not support is none.
    """
    starts_s = verdicts["start_s"].to_numpy(float)

    def alert(run: VerdictRun) -> Alert:
        return make_alert(run, view, starts_s, verdicts[f"p_{run.label}"].to_numpy(float))

    found = merge_repeated([alert(run) for run in find_runs(verdicts, windows, k, n, off)], alert)
    found = [one for one in found if not is_vetoed(one, view)]
    found = add_rule_alerts(found, [make_rule_alert(hit, view) for hit in apply_rules(view)])
    found = [replace(one, device=view.machine_of(one.device)) for one in found]
    groups = [group for group in group_by_cause(found) if any(map(is_supported, group))]
    return [_make_incident(group, view, starts_s) for group in groups]


def _make_incident(group: Sequence[Alert], view: TrafficView, starts_s: np.ndarray) -> Incident:
    lead = name_flood(_find_lead(group, view, starts_s), group, view.local)
    # A suspicion that nothing bears out links others, and says nothing of its own device, unless
    # the cause points at that.
    shown = (
        one.device for one in group if is_supported(one) or one.device in lead.attribution.peers
    )
    related = tuple(dict.fromkeys(one for one in shown if one != lead.device))
    own = [one for one in group if one.device == lead.device]
    mine = own or [lead, *group[1:]]
    windows = np.unique(starts_s[np.concatenate([one.rows for one in mine])]).tolist()
    # A silent device whom its clients show is silent for as long as it says nothing, whoever asks when.
    timed = [lead] if lead.profile.spans_silence and not own else mine
    # Where packets show that it was over, windows of a minute cannot tell better when.
    over = [one for one in timed if any(_ENDS & fact.values.keys() for fact in one.facts)]
    start_s = min(one.attribution.start_s for one in timed)
    mark = hashlib.sha256(f"{lead.device} {lead.label} {start_s:.0f}".encode()).hexdigest()[:8]
    return Incident(
        id=f"{lead.label}-{mark}",
        device=lead.device,
        role=lead.role,
        label=lead.label,
        severity=_severity(lead, related),
        start_s=start_s,
        end_s=max(one.attribution.end_s for one in over or timed),
        windows=tuple(windows),
        facts=_make_facts(lead, group, related, view, windows),
        peers=lead.attribution.peers[:_MOST_PEERS],
        techniques=TAXONOMY[lead.label].techniques,
        related=related,
    )


def _find_lead(group: Sequence[Alert], view: TrafficView, starts_s: np.ndarray) -> Alert:
    """The alert that an incident is named after; an intruder's holds what it did to all of its
    victims."""
    lead = promote_culprit(group[0], group)
    if lead.device == group[0].device:
        return lead
    if lead.label not in ATTACKS:
        found = lead.attribution
        spell = quiet_spell(view, lead.device, found.start_s, found.end_s)
        if spell is None or not lead.profile.spans_silence:
            return lead
        return replace(lead, attribution=replace(found, start_s=spell[0], end_s=spell[1]))
    rows = np.unique(np.concatenate([one.rows for one in group]))
    run = VerdictRun(lead.device, lead.label, lead.role, rows)
    whole = make_alert(run, view, starts_s, np.ones(len(starts_s)))
    return replace(lead, rows=rows, attribution=whole.attribution)


def _make_facts(
    lead: Alert,
    group: Sequence[Alert],
    related: Sequence[str],
    view: TrafficView,
    windows: Sequence[float],
) -> tuple[Fact, ...]:
    """Facts of rules, then those of the first alert that has any, then who else is concerned."""
    by_label: Iterator[list[Fact]] = (
        one.profile.make_facts(one.attribution, view, windows) for one in (lead, *group)
    )
    facts = join_floods([fact for one in group for fact in one.facts])
    if facts and kind_of(facts[0]) in HEADLINES:
        by_label = iter(())  # the rule has counted it: a second count of the same only confuses
    facts = [*facts, *next(filter(None, by_label), [])][: _MOST_FACTS - 1]
    facts = facts or describe_device(view, lead.device, windows)
    # Whom a rule names is concerned by what it says, not a second place where it shows; nor is who
    # stands in the sentences already.
    related = [
        one
        for one in related
        if not (facts and one in lead.attribution.peers and lead.rules_out)
        and not any(is_named(fact, view.name_of(one)) for fact in facts)
    ]
    if related:
        values: dict[str, Value] = {"names": view.names_of(related), "n": len(related)}
        sentence = "The same cause shows at {n:other device}: {names}."
        facts.append(make_fact("related", sentence, values, windows))
    facts += [
        one for one in move_facts(view, lead.device) if one.id not in {fact.id for fact in facts}
    ]
    return tuple(facts)


def is_named(fact: Fact, name: str) -> bool:
    """Whether a value of a fact is or holds a name; 10.0.0.1 is not in 10.0.0.11."""
    return any(isinstance(value, str) and find_whole(name, value) for value in fact.values.values())


def _severity(lead: Alert, related: Sequence[str]) -> Severity:
    """Attacks by who and how much, faults by how many suffer: about 80/15/5 of ordinary plants
    (ISA-18.2)."""
    profile, attack = lead.profile, lead.label in ATTACKS
    starved = profile.starves_peers and lead.role == "source"
    suffer = len({*related, *(lead.attribution.peers if starved else ())})
    if profile.flood:
        pkts = lead.attribution.flows["src_pkts"].clip(lower=1).sum()
        return "high" if pkts >= _LARGE_FLOOD_PKTS else "medium"
    if attack and not len(lead.rows) and not {kind_of(one) for one in lead.facts} & _SHOWN:
        return "low"  # it may as well be no attack
    # Who writes where nobody may is no less a matter where it is a stranger.
    written = lead.label == "unauthorized_command"
    if profile.compromises or (attack and (written or lead.role != "target")):
        return "high"
    if attack or suffer >= _MEDIUM_SUFFER:
        return "high" if suffer >= _HIGH_SUFFER else "medium"
    return "low"


_SEVERITY = {"high": 0, "medium": 1, "low": 2}
# What is done by these is done; others are tried.
_REACHING = frozenset(("unauthorized_command", "exfiltration", "c2", "spoofing"))


def worst_first(incidents: list[Incident]) -> list[Incident]:
    """Incidents by severity; of the same those that reached something, then attacks, then by how much evidence
    they have, then by start."""

    def rank(one: Incident) -> tuple[int, bool, bool, int, float, str]:
        severe, reached = _SEVERITY.get(one.severity, 3), one.label in _REACHING
        return severe, not reached, one.label not in ATTACKS, -len(one.windows), one.start_s, one.id

    return sorted(incidents, key=rank)
