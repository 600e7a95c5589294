"""From whom an anomaly comes: told from the numbers of a window, after its label is settled.

A device is the source where it does what the label means (it scans, floods, stays silent, misses its own server's
address), and the target where that is done to it. So each label names the columns that grow at its source and those
that grow at its target, and the larger sum decides; a tie goes to the side that is the more common one.
"""

import numpy as np

from traffic.labels import LABELS, NORMAL
from traffic.windows import Windows

__all__ = ["choose_directions"]

_OPENED = ("tcp_out", "udp_out", "icmp_out")
_ACCEPTED = ("tcp_in", "udp_in", "icmp_in")
_VAIN_OUT = ("unanswered_out", "refused_out", "udp_unanswered_out", "arp_unanswered_out")
_VAIN_IN = ("unanswered_in", "refused_in", "udp_unanswered_in", "arp_unanswered_in")

# label: (columns of its source, columns of its target). A bot, a lossy or a flapping device looks like its peers do.
_SIGNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "recon": (("hosts_out", "ports_out", *_VAIN_OUT), ("ports_in", *_VAIN_IN)),
    "dos": (_OPENED, _ACCEPTED),
    "ddos": (_OPENED, _ACCEPTED),
    "brute_force": (("tcp_out",), ("tcp_in",)),
    "c2": ((), ()),
    "exfiltration": (("out_bytes",), ("in_bytes",)),
    "spoofing": ((), ("arp_conflicts",)),
    "mqtt_abuse": (("tcp_out",), ("tcp_in",)),
    "unauthorized_command": (("modbus_writes_out", "tcp_out"), ("modbus_writes_in", "tcp_in")),
    "packet_loss": ((), ()),
    "congestion": (("bytes_ratio",), ("retransmissions",)),
    "device_silent": (_VAIN_IN, _VAIN_OUT),
    "service_down": (_VAIN_IN, _VAIN_OUT),
    "misconfiguration": (_VAIN_OUT, _VAIN_IN),
    "name_resolution": (("udp_in",), ("udp_out", "dns_failed")),
    "flapping": ((), ()),
}


def choose_directions(windows: Windows, labels: np.ndarray) -> np.ndarray:
    """Source or target for every window.

    Args:
        windows: n of them.
        labels: shape (n,), each window's verdict.

    Returns:
        Shape (n,), "source" or "target", and "" where the label is normal.
    """
    directions = np.full(len(windows), "", dtype=object)
    for label in LABELS:
        which = np.flatnonzero(labels == label)
        if label != NORMAL and len(which):
            source, target = (_total(windows, which, columns) for columns in _SIGNS[label])
            directions[which] = np.where(source >= target, "source", "target")
    return directions


def _total(windows: Windows, which: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """Sum of columns over the samples of chosen windows, shape (len(which),)."""
    return windows.take(which).values(list(columns)).sum(axis=(1, 2))
