"""How each device of a capture is doing, in a word: what the device list of the page shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.diagnosis.health import judge_health
from assistant.facts.fact import plural
from assistant.health_facts import name_health
from traffic.labels import TAXONOMY

if TYPE_CHECKING:
    from assistant.detection.incidents import Incident
    from assistant.detection.pipeline import Analysis

__all__ = ["DeviceState", "list_devices"]

_ORDER = ("high", "medium", "low", "unsure", "normal")


@dataclass(frozen=True)
class DeviceState:
    """One device: ``state`` is the severity of its worst incident, else ``unsure`` or ``normal``.

    Attributes:
        address: as in the capture; ``name`` as the inventory has it, or the address again.
        words: what is wrong, in the taxonomy's words; what was seen, where nothing is.
    """

    address: str
    name: str
    role: str
    state: str
    words: str


def list_devices(analysis: "Analysis") -> list[DeviceState]:
    """Every device of a capture, the worst first.

    A device without an incident is ``unsure`` where it cannot be called well (``assistant.diagnosis.health``).
    """
    known = {device.address: device for device in analysis.plant.devices} if analysis.plant else {}
    worst = _worst_incidents(analysis.incidents)
    found = []
    for address, verdicts in analysis.verdicts.groupby("device", sort=True):
        device = known.get(str(address))
        state, words = _state(worst.get(str(address)), str(address), len(verdicts), analysis)
        name = device.name if device and device.name else str(address)
        found.append(DeviceState(str(address), name, device.role if device else "", state, words))
    return sorted(found, key=lambda one: (_ORDER.index(one.state), one.name))


def _worst_incidents(incidents: "Sequence[Incident]") -> "dict[str, Incident]":
    worst: dict[str, Incident] = {}
    for one in sorted(incidents, key=lambda one: _ORDER.index(one.severity), reverse=True):
        worst[one.device] = one
    return worst


def _state(incident: "Incident | None", address: str, windows: int, analysis: "Analysis") -> tuple[str, str]:
    if incident is not None:
        return incident.severity, TAXONOMY[incident.label].meaning
    health = judge_health(address, analysis.verdicts, analysis.scene)
    if health.standing != "normal":
        return "unsure", name_health(health)
    return "normal", f"{windows:,} {plural(windows, 'window')}, nothing unusual"
