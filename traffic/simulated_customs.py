"""What a plant's people have decided for all of its devices: who keeps time, who announces itself, who may call out.

Devices of one plant are alike in this: a hardened network has no announcements at all, an open one is full of them.
"""

from collections.abc import Callable
from typing import Any

from traffic.plant import Device
from traffic.simulation.plant import Stage

__all__ = ["does"]

# For a plant: the odds that every device, as many as usual, or no device does it
_TIME, _IPV6, _ELSE = (0.9, 0.07, 0.03), (0.65, 0.1, 0.25), (0.0, 0.55, 0.45)
# What closed plants never do, one group or another; in open ones each behaviour still is a custom of its own.
_GROUPS = {
    "outward": ("polling", "pushed", "timed_out", "upload", "update", "relay", "browsing", "stray", "mishaps"),
    "chatter": ("announcements", "lease", "names", "needless_names", "reachable", "log_lines", "watched"),
    "odd jobs": ("dead_service", "shell", "archive", "implicit_io"),
}
_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names}
_CLOSED = {"outward": 0.75, "chatter": 0.8, "odd jobs": 0.6}
_EVERY, _USUAL = 0, 1


def does(stage: Stage, behaviour: Callable[[Stage, Device], Any], likely: float) -> bool:
    """Whether a device does something that this share of its kind does, given the customs of an industrial plant."""
    rng, name = stage.rng, behaviour.__name__
    odds = {"clock": _TIME, "neighbours": _IPV6}.get(name, _ELSE if name in _GROUP_OF else None)
    if odds is not None and stage.flavour == "industrial":
        group = _GROUP_OF.get(name)
        if group and stage.habit("", group, lambda: rng.random() < _CLOSED[group]):
            return False
        custom = stage.habit("", name, lambda: int(rng.choice(3, p=odds)))
        if custom != _USUAL:
            return bool(custom == _EVERY)
    return bool(rng.random() < likely)
