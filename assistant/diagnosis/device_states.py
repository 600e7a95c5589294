"""How each device of a capture is doing, in a word: the device list of the page and the API."""

from collections.abc import Sequence
from dataclasses import dataclass

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.health import judge_health, name_health
from assistant.facts.fact import plural
from traffic.labels import TAXONOMY

_ORDER = ("high", "medium", "low", "unsure", "normal")
_LITTLE_SEEN = ("brief", "short", "unheard", "unseen")


@dataclass(frozen=True)
class DeviceState:
    """One device: ``state`` is the severity of its worst incident, else ``unsure`` or ``normal``.

    Attributes:
        address: as in the capture; ``name`` as the inventory has it, or the address again.
        words: what is wrong, in the taxonomy's words; what was seen, where nothing is.
        fleeting: too little was seen of it to judge it, and no inventory has it.
    """

    address: str
    name: str
    role: str
    state: str
    words: str
    fleeting: bool = False


def list_devices(analysis: Analysis) -> list[DeviceState]:
    """Every device of a capture, the worst first: who has a trouble before whom it only concerns.

    A device without an incident is ``unsure`` where it cannot be called well
    (``assistant.diagnosis.health``).
    """
    known = {device.address: device for device in analysis.plant.devices} if analysis.plant else {}
    worst = _worst_incidents(analysis.incidents)
    found = []
    machine = analysis.verdicts["device"].map(analysis.view.machine_of)
    for address, verdicts in analysis.verdicts.groupby(machine, sort=True):
        device = known.get(str(address))
        seen = _state(worst.get(str(address)), str(address), len(verdicts), analysis)
        name = device.name if device and device.name else str(address)
        role = device.role if device else ""
        fleeting = seen.brief and device is None
        state = DeviceState(str(address), name, role, seen.state, seen.words, fleeting)
        found.append((_ORDER.index(seen.state), seen.shares, name, state))
    return [state for *_, state in sorted(found, key=lambda one: one[:3])]


def _worst_incidents(incidents: Sequence[Incident]) -> dict[str, Incident]:
    """The worst incident of each device, before one that it only takes part in."""
    ranked = sorted(incidents, key=lambda one: _ORDER.index(one.severity), reverse=True)
    part = {device: one for one in ranked for device in one.related}
    return part | {one.device: one for one in ranked}


@dataclass(frozen=True)
class _Seen:
    """How a device is doing, in a word and in words; ``brief``: too little was seen to say."""

    state: str
    words: str
    brief: bool = False
    shares: bool = False  # the trouble of another device


def _state(incident: Incident | None, address: str, windows: int, analysis: Analysis) -> _Seen:
    if incident is not None:
        meaning = TAXONOMY[incident.label].meaning
        lead = "" if incident.device == address else analysis.view.name_of(incident.device)
        return _Seen(
            incident.severity,
            f"concerned by {lead}: {meaning}" if lead else meaning,
            shares=bool(lead),
        )
    health = judge_health(address, analysis.verdicts, analysis.view)
    if health.standing != "normal":
        return _Seen("unsure", name_health(health), health.reason in _LITTLE_SEEN)
    return _Seen("normal", f"{windows:,} {plural(windows, 'window')}, nothing unusual")
