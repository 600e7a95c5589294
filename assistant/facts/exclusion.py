"""Exclusions: the number of a device's samples that denies a label.

Each label has one at most, in its profile; ``assistant.diagnosis.differential`` applies them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from assistant.facts.fact import Value
from traffic.capture import SAMPLE_S

Values = dict[str, Value]

_FULL_BYTES = 10e3 / 8 * SAMPLE_S  # of a sample; the slowest link of a plant today carries more


@dataclass(frozen=True)
class DeviceSpan:
    """One device in one stretch of time: sums and peaks of the columns of its samples."""

    total: Mapping[str, float]
    peak: Mapping[str, float]

    @property
    def pkts(self) -> float:
        """Packets it sent and received."""
        return self.total["out_pkts"] + self.total["in_pkts"]


@dataclass(frozen=True)
class Exclusion:
    """A test that may rule a label out.

    Attributes:
        name: what is ruled out, in an operator's words.
        text: the sentence's second half, with the values.
        measure: takes the values from a device's samples.
        denies: whether the values deny the label.
        needs: what a source must show for that to count: ``flows``, ``tcp``, ``arp``, ``dns``,
            ``mqtt`` or ``commands``.
        outright: the values deny an incident of the label too; the others only speak for or
            against an alternative.
    """

    name: str
    text: str
    measure: Callable[[DeviceSpan], Values]
    denies: Callable[[Values], bool]
    needs: str = "flows"
    outright: bool = False


# ---- Values ----


def sums(*names: str) -> Callable[[DeviceSpan], Values]:
    """Columns summed over the stretch, with the packets they are of."""
    return lambda span: {"pkts": span.pkts, **{name: span.total[name] for name in names}}


def peaks(**columns: str) -> Callable[[DeviceSpan], Values]:
    """The highest sample of each column, under the names given."""
    return lambda span: {name: span.peak[column] for name, column in columns.items()}


def busiest_bytes(span: DeviceSpan) -> Values:
    """Bytes of the busiest sample, both directions."""
    return {"peak_bytes": span.peak["out_bytes"] + span.peak["in_bytes"]}


def busiest_rate(span: DeviceSpan) -> Values:
    """Packets per second of the busiest sample, in the busier direction."""
    return {"peak_pkts_per_s": max(span.peak["out_pkts"], span.peak["in_pkts"]) / SAMPLE_S}


def failed_connections(span: DeviceSpan) -> Values:
    """Connections, and those without an answer or refused."""
    total = span.total
    failures = ("unanswered_out", "refused_out", "unanswered_in", "refused_in")
    return {
        "failed": sum(total[name] for name in failures),
        "connections": total["tcp_out"] + total["tcp_in"],
    }


# ---- What denies ----


def few(count: str, of: str, share: float) -> Callable[[Values], bool]:
    """At most a share of another value."""
    return lambda values: float(values[count]) <= share * float(values[of])


# Columns of samples that `moves_next_to_nothing` needs.
FORBIDDEN_BY = ("out_bytes", "in_bytes", "zero_windows")


def moves_next_to_nothing(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Windows in which no link can have been full: under 10 kbit/s at the busiest, and no receiver
    that asked to wait.

    Args:
        columns: ``FORBIDDEN_BY`` of each window's samples, shape (n_windows, samples).

    Returns:
        Shape (n_windows,), bool.
    """
    little = columns["out_bytes"] + columns["in_bytes"] < _FULL_BYTES
    return (little & (columns["zero_windows"] == 0)).all(axis=1)


def below(**limits: float) -> Callable[[Values], bool]:
    """Every value is below its limit."""
    return lambda values: all(float(values[name]) < limit for name, limit in limits.items())


def some(name: str) -> Callable[[Values], bool]:
    """The value is above zero."""
    return lambda values: float(values[name]) > 0
