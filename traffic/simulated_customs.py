"""What a plant's people have decided for all of its devices: who keeps time, who announces itself, who may call out.

Devices of one plant are alike in this: a hardened network has no announcements at all, an open one is full of them.
"""

from collections.abc import Callable
from typing import Any

from traffic.plant import Device
from traffic.simulated_plant import Stage

__all__ = ["does"]

# behaviour: the odds that every device, as many as usual, or no device of a plant does it
_CUSTOMS: dict[str, tuple[float, float, float]] = {
    "clock": (0.65, 0.3, 0.05),
    "neighbours": (0.5, 0.15, 0.35),
    "announcements": (0.0, 0.35, 0.65),
    "lease": (0.0, 0.35, 0.65),
    "names": (0.0, 0.4, 0.6),
    "needless_names": (0.0, 0.3, 0.7),
    "reachable": (0.0, 0.3, 0.7),
    "log_lines": (0.1, 0.3, 0.6),
    "watched": (0.0, 0.35, 0.65),
    "stray": (0.0, 0.3, 0.7),
    "mishaps": (0.0, 0.4, 0.6),
    "dead_service": (0.0, 0.5, 0.5),
    "polling": (0.0, 0.35, 0.65),
    "pushed": (0.0, 0.35, 0.65),
    "timed_out": (0.0, 0.35, 0.65),
    "upload": (0.0, 0.35, 0.65),
    "relay": (0.0, 0.3, 0.7),
    "browsing": (0.0, 0.4, 0.6),
    "implicit_io": (0.0, 0.3, 0.7),
}
_EVERY, _USUAL = 0, 1


def does(stage: Stage, behaviour: Callable[[Stage, Device], Any], likely: float) -> bool:
    """Whether a device does something that this share of its kind does, given the customs of an industrial plant."""
    name = behaviour.__name__
    odds = _CUSTOMS.get(name)
    if odds is not None and stage.flavour == "industrial":
        custom = stage.habit("", name, lambda: int(stage.rng.choice(3, p=odds)))
        if custom != _USUAL:
            return bool(custom == _EVERY)
    return bool(stage.rng.random() < likely)
