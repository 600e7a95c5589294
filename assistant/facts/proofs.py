"""Where a fact is in the packets: conditions of Wireshark's display filters, and a few frames."""

import numpy as np
import pandas as pd

_FEW_FRAMES = 5


def ip_field(address: str) -> str:
    """The layer whose fields hold an address: ``ip``, ``ipv6``, or ``eth`` for a MAC.

    >>> ip_field("10.0.0.5"), ip_field("fe80::1"), ip_field("02:00:00:00:00:01")
    ('ip', 'ipv6', 'eth')
    """
    if "." in address:
        return "ip"
    return "eth" if len(address) == 17 and address.count(":") == 5 else "ipv6"


def between(one: str, other: str) -> str:
    """Frames both ways between two addresses."""
    field = ip_field(one)
    return f"{field}.addr == {one} && {field}.addr == {other}"


def from_to(source: str, target: str) -> str:
    """Frames that one address sends another."""
    field = ip_field(source)
    return f"{field}.src == {source} && {field}.dst == {target}"


def pick_frames(frames: np.ndarray | pd.Series) -> tuple[int, ...]:
    """At most five of some frame numbers, the first and the last among them; 0 is none."""
    known = np.asarray(frames)[np.asarray(frames) > 0]
    if not len(known):
        return ()
    places = np.unique(np.linspace(0, len(known) - 1, _FEW_FRAMES).astype(int))
    return tuple(int(known[place]) for place in places)
