"""What it is not: the causes that look alike, each tested against a number of the same device and
time.

A cause is ruled out only by something the source could have shown. A log without ARP says nothing
about a doubled address, so nothing is said; a number that does not rule a cause out leaves it open,
which is said as well. The tests stand in the labels' profiles.
"""

from dataclasses import dataclass

import pandas as pd

from assistant.facts.exclusion import DeviceSpan
from assistant.facts.fact import Fact, make_fact
from assistant.facts.profiles import PROFILES
from traffic.capture import SAMPLE_S, Capture

_WHOLES = ("pkts", "connections", "peak_bytes")  # "0 of 0" says nothing
_COMMANDS = (
    "modbus_reads_out",
    "modbus_reads_in",
    "modbus_writes_out",
    "modbus_writes_in",
    "mqtt_connects",
)


@dataclass(frozen=True)
class RuledOut:
    """Alternatives to a cause: those that numbers exclude, and those they do not."""

    excluded: tuple[Fact, ...]
    open: tuple[Fact, ...]


def rule_out(
    labels: tuple[str, ...],
    device: str,
    start_s: float,
    end_s: float,
    samples: pd.DataFrame,
    capture: Capture,
) -> RuledOut:
    """Test the causes that look alike at one device over one stretch of time.

    Args:
        labels: alternatives in the order in which an operator would think of them.
        device: its address.
        start_s, end_s: the stretch, seconds since the epoch.
        samples: rows of all devices, ``traffic.samples.COLUMNS``.
        capture: says which evidence its source can show.
    """
    rows = samples[
        (samples["device"] == device)
        & (samples["start_s"] < end_s)
        & (samples["start_s"] > start_s - SAMPLE_S)
    ]
    if rows.empty:
        return RuledOut((), ())
    numbers = rows.drop(columns=["device", "start_s"])
    span = DeviceSpan(numbers.sum().to_dict(), numbers.max().to_dict())
    shown = _kinds_shown(span, capture)
    windows = rows["start_s"].iloc[[0, -1]].astype(float).tolist()
    excluded: list[Fact] = []
    undecided: list[Fact] = []
    for label in labels:
        test = PROFILES[label].exclusion
        if test is None or test.needs not in shown:
            continue
        values = test.measure(span)
        if any(values.get(name) == 0 for name in _WHOLES):
            continue
        denied = test.denies(values)
        begin = "Not" if denied else "Not excluded is"
        fact = make_fact("apart", f"{begin} {test.name}: {test.text}.", values, windows)
        (excluded if denied else undecided).append(fact)
    return RuledOut(tuple(excluded), tuple(undecided))


def _kinds_shown(span: DeviceSpan, capture: Capture) -> set[str]:
    """What the capture's source can show, as ``Exclusion.needs`` names it."""
    present = {
        "flows": True,
        "tcp": bool(capture.flows["history"].notna().any()),
        "arp": any(kind.startswith("arp") for kind in capture.evidence["kind"].unique()),
        "dns": span.total["dns_queries"] > 0,
        "mqtt": span.total["mqtt_publishes"] > 0,
        "commands": sum(span.total[name] for name in _COMMANDS) > 0,
    }
    return {kind for kind, is_shown in present.items() if is_shown}
