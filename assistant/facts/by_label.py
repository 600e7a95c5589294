"""Facts: numbers in words, computed from the tables, one sentence each.

Which facts an incident gets depends on its label only; every answer is built from them, and nothing
in an answer may hold a number that they do not.
"""

from collections.abc import Callable, Sequence

from assistant.facts.attacks import (
    c2_facts,
    command_facts,
    exfiltration_facts,
    flood_facts,
    login_facts,
    mqtt_facts,
    recon_facts,
    spoofing_facts,
)
from assistant.facts.attribution import Trace
from assistant.facts.fact import Fact
from assistant.facts.faults import (
    congestion_facts,
    flapping_facts,
    loss_facts,
    misconfiguration_facts,
    resolution_facts,
    service_facts,
    silence_facts,
)
from assistant.facts.traffic_view import Scene

_FACTS: dict[str, Callable[[Trace, Scene, Sequence[float]], list[Fact]]] = {
    "recon": recon_facts,
    "dos": flood_facts,
    "ddos": flood_facts,
    "brute_force": login_facts,
    "c2": c2_facts,
    "exfiltration": exfiltration_facts,
    "spoofing": spoofing_facts,
    "mqtt_abuse": mqtt_facts,
    "unauthorized_command": command_facts,
    "packet_loss": loss_facts,
    "congestion": congestion_facts,
    "device_silent": silence_facts,
    "service_down": service_facts,
    "misconfiguration": misconfiguration_facts,
    "name_resolution": resolution_facts,
    "flapping": flapping_facts,
}


def label_facts(trace: Trace, scene: Scene, windows: Sequence[float] = ()) -> list[Fact]:
    """The facts that support a label at a device, the strongest first.

    Args:
        trace: what carries the label.
        scene: the capture.
        windows: starts of the windows with that label.

    Returns:
        Empty where nothing in the tables carries the label.
    """
    return _FACTS[trace.label](trace, scene, windows)
