"""Whether the truth of a recorded run is true: each interval is looked for in the packets, without any classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eval.testbed.attack_checks import ATTACK_CHECKS
from eval.testbed.fault_checks import FAULT_CHECKS
from eval.testbed.verify.interval import Finding, Look, Run
from traffic.datasets.truth import Interval, Truth, read_truth
from traffic.labels import NORMAL, UNKNOWN
from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets

__all__ = ["Check", "check_run"]


@dataclass(frozen=True)
class Check:
    """What packets say of one interval.

    Attributes:
        number: its place in truth.json, from 0.
        device: whose it is; ``label`` and ``kind`` say what is claimed.
        agrees: whether the packets show it.
        measured: the numbers that say so, for people.
    """

    number: int
    device: str
    label: str
    kind: str
    agrees: bool
    measured: str


def check_run(folder: Path) -> list[Check]:
    """Look for every interval of a run in its packets.

    Args:
        folder: holds capture.pcap and truth.json.

    Returns:
        One check per interval that claims something, in the order of truth.json; ``unknown`` claims nothing.

    Raises:
        UserError: either file is missing or wrong, or the run is incomplete.
    """
    packets = read_packets([folder / "capture.pcap"])
    truth = read_truth(folder / "truth.json", packets.start_s, packets.end_s)
    run = Run(packets, make_flows(packets), truth)
    told = [(number, interval) for number, interval in enumerate(truth.intervals) if interval.label != UNKNOWN]
    return [_check(run, number, interval) for number, interval in told]


def _check(run: Run, number: int, interval: Interval) -> Check:
    found = _CHECKS[interval.label](Look(run, interval, _same_event(run.truth, interval)))
    return Check(number, interval.device, interval.label, interval.kind, found.agrees, found.measured)


def _same_event(truth: Truth, interval: Interval) -> tuple[Interval, ...]:
    """The other parts of its event: of one kind, root and cause, at about that time."""
    return tuple(
        other
        for other in truth.intervals
        if other is not interval
        and (other.kind, other.root, other.cause) == (interval.kind, interval.root, interval.cause)
    )


def _check_normal(look: Look) -> Finding:
    """A routine only has to be there."""
    seen = int(look.inside(look.packets()["ts"]).sum())
    return Finding(seen > 0, f"{seen} packets from or to it")


_CHECKS: dict[str, Callable[[Look], Finding]] = {**FAULT_CHECKS, **ATTACK_CHECKS, NORMAL: _check_normal}
