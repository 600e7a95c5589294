"""Incidents: verdicts of one cause become one thing that an operator can act on.

verdicts ─▶ runs (k of n, hysteresis) ─▶ suspicions (with whom, since which second) ─▶ causes ─▶
incidents
                              hard evidence that needs no model (evident) ─▶┘
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from assistant.detection.correlation import (
    Suspicion,
    add_hard,
    group_by_cause,
    is_borne_out,
    merge_suspicions,
    promote,
    suspect,
)
from assistant.detection.rules import Evident, find_evident_in
from assistant.detection.runs import Run, find_runs
from assistant.facts.attribution import find_trace
from assistant.facts.by_label import label_facts
from assistant.facts.devices import describe_device
from assistant.facts.fact import Fact, Value, listed, make_fact
from assistant.facts.traffic_view import Scene, make_scene
from traffic.capture import Capture
from traffic.labels import ATTACKS, TAXONOMY
from traffic.plant import Plant
from traffic.windows import Windows

Severity = Literal["low", "medium", "high"]

_LARGE_FLOOD_PKTS = 10_000
_MEDIUM_SUFFER, _HIGH_SUFFER = 2, 5
_ANSWERING = (
    "device_silent",
    "service_down",
    "name_resolution",
)  # whose peers are those who call in vain
_MOST_FACTS, _MOST_PEERS = 10, 50


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

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, texts and numbers, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def make_incidents(
    verdicts: pd.DataFrame,
    windows: Windows,
    capture: Capture,
    plant: Plant | None = None,
    k: int = 3,
    n: int = 5,
    off: int = 6,
) -> list[Incident]:
    """Turn verdicts into incidents, one for each cause.

    Args:
        verdicts: one row per window, as ``assistant.detection.classify.classify`` returns it, in
            the order of ``windows``.
        windows: with their samples.
        capture: the tables the windows were made from; facts and exact times come from it.
        plant: names of addresses, and devices whose absence counts.
        k: anomalous windows of the last ``n`` that raise (a sure and large flood needs one).
        n: see ``k``.
        off: normal windows in a row that end a run.

    Returns:
        Incidents in the order of their starts; what the tables do not bear out is none.
    """
    scene = make_scene(capture, windows.samples, plant)
    starts_s = verdicts["start_s"].to_numpy(float)

    def look(run: Run) -> Suspicion:
        return suspect(run, scene, starts_s, verdicts[f"p_{run.label}"].to_numpy(float))

    found = merge_suspicions([look(run) for run in find_runs(verdicts, windows, k, n, off)], look)
    found = add_hard(found, [_hard(evident, scene) for evident in find_evident_in(scene)])
    groups = [group for group in group_by_cause(found) if any(is_borne_out(one) for one in group)]
    return [_make_incident(group, scene, starts_s) for group in groups]


def _hard(evident: Evident, scene: Scene) -> Suspicion:
    trace = find_trace(scene, evident.device, evident.label, evident.role, evident.slots)
    none = np.zeros(0, np.int64)
    return Suspicion(
        evident.device, evident.label, evident.role, none, float("inf"), trace, (evident.fact,)
    )


def _make_incident(group: Sequence[Suspicion], scene: Scene, starts_s: np.ndarray) -> Incident:
    lead = _lead(group, scene, starts_s)
    related = tuple(dict.fromkeys(one.device for one in group if one.device != lead.device))
    mine = [one for one in group if one.device == lead.device] or [lead, *group[1:]]
    windows = np.unique(starts_s[np.concatenate([one.rows for one in mine])])
    # Where packets show that it was over, windows of a minute cannot tell better when.
    ended = [
        one for one in mine if any("until_time_s" in fact.values for fact in one.facts)
    ] or mine
    start_s, end_s = min(one.trace.start_s for one in mine), max(one.trace.end_s for one in ended)
    mark = hashlib.sha256(f"{lead.device} {lead.label} {start_s:.0f}".encode()).hexdigest()[:8]
    return Incident(
        id=f"{lead.label}-{mark}",
        device=lead.device,
        role=lead.role,
        label=lead.label,
        severity=_severity(lead, related),
        start_s=start_s,
        end_s=end_s,
        windows=tuple(windows.tolist()),
        facts=_facts(lead, group, related, scene, windows.tolist()),
        peers=lead.trace.peers[:_MOST_PEERS],
        techniques=TAXONOMY[lead.label].techniques,
        related=related,
    )


def _lead(group: Sequence[Suspicion], scene: Scene, starts_s: np.ndarray) -> Suspicion:
    """The suspicion that an incident is named after; an intruder's holds what it did to all of its
    victims."""
    lead = promote(group[0], group)
    if lead.device == group[0].device or lead.label not in ATTACKS:
        return lead
    rows = np.unique(np.concatenate([one.rows for one in group]))
    whole = suspect(
        Run(lead.device, lead.label, lead.role, rows), scene, starts_s, np.ones(len(starts_s))
    )
    return replace(lead, rows=rows, trace=whole.trace)


def _facts(
    lead: Suspicion,
    group: Sequence[Suspicion],
    related: Sequence[str],
    scene: Scene,
    windows: Sequence[float],
) -> tuple[Fact, ...]:
    hard = [fact for one in group for fact in one.facts]
    seen = (label_facts(one.trace, scene, windows) for one in (lead, *group))
    facts = [*hard, *next((found for found in seen if found), [])][: _MOST_FACTS - 1]
    facts = facts or describe_device(scene, lead.device, windows)
    if related:
        names = listed(scene.name(address) for address in related)
        values: dict[str, Value] = {"names": names, "n": len(related)}
        facts.append(
            make_fact(
                "related", "The same cause shows at {n:other device}: {names}.", values, windows
            )
        )
    return tuple(facts)


def _severity(lead: Suspicion, related: Sequence[str]) -> Severity:
    """Attacks by who and how much, faults by how many suffer: about 80/15/5 of ordinary plants
    (ISA-18.2)."""
    suffer = len(
        {
            *related,
            *(lead.trace.peers if lead.label in _ANSWERING and lead.role == "source" else ()),
        }
    )
    if lead.label in ("dos", "ddos"):
        return (
            "high"
            if lead.trace.flows["src_pkts"].clip(lower=1).sum() >= _LARGE_FLOOD_PKTS
            else "medium"
        )
    if lead.label == "c2" or (lead.label in ATTACKS and lead.role != "target"):
        return "high"
    if lead.label in ATTACKS or suffer >= _MEDIUM_SUFFER:
        return "high" if suffer >= _HIGH_SUFFER else "medium"
    return "low"
