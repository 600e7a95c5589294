"""What it is not: the causes that look alike, each tested against a number of the same device and
time.

A cause is ruled out only by something the source could have shown. A log without ARP says nothing
about a doubled address, so nothing is said; a number that does not rule a cause out leaves it open,
which is said as well.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

from assistant.facts.fact import Fact, Value, make_fact
from traffic.capture import SAMPLE_S, Capture


@dataclass(frozen=True)
class RuledOut:
    """Alternatives to a cause: those that numbers exclude, and those they do not."""

    excluded: tuple[Fact, ...]
    open: tuple[Fact, ...]


@dataclass(frozen=True)
class _Seen:
    """One device in one stretch of time: sums and peaks of its samples, and which evidence its
    source can show."""

    total: dict[str, float]
    peak: dict[str, float]
    shows: frozenset[str]
    windows: tuple[float, ...] = field(default=())

    @property
    def pkts(self) -> float:
        return self.total["out_pkts"] + self.total["in_pkts"]


@dataclass(frozen=True)
class _Test:
    """``excludes`` says whether the values deny the cause; ``needs`` is what a source must show for
    that to count."""

    name: str
    text: str
    values: Callable[[_Seen], dict[str, Value]]
    excludes: Callable[[dict[str, Value]], bool]
    needs: str = "flows"


def _few(count: str, of: str, share: float) -> Callable[[dict[str, Value]], bool]:
    return lambda values: float(values[count]) <= share * float(values[of])


def _below(**limits: float) -> Callable[[dict[str, Value]], bool]:
    return lambda values: all(float(values[name]) < limit for name, limit in limits.items())


def _sum(*names: str) -> Callable[[_Seen], dict[str, Value]]:
    return lambda seen: {"pkts": seen.pkts, **{name: seen.total[name] for name in names}}


def _flood(seen: _Seen) -> dict[str, Value]:
    return {"peak_pkts_per_s": (max(seen.peak["out_pkts"], seen.peak["in_pkts"])) / SAMPLE_S}


def _refusals(seen: _Seen) -> dict[str, Value]:
    total = seen.total
    return {
        "failed": total["unanswered_out"]
        + total["refused_out"]
        + total["unanswered_in"]
        + total["refused_in"],
        "connections": total["tcp_out"] + total["tcp_in"],
    }


_BUSY_BYTES = 5e6 * SAMPLE_S / 8  # 5 Mbit/s: far below what any plant link of today carries
_WHOLES = ("pkts", "connections", "peak_bytes")
_TESTS: dict[str, _Test] = {
    "packet_loss": _Test(
        "packet loss", "{retransmissions:segment} sent again of {pkts:packet}", _sum("retransmissions"),
        _few("retransmissions", "pkts", 0.01), "tcp",
    ),
    "congestion": _Test(
        "a full link", "the busiest sample moved {peak_bytes}",
        lambda seen: {"peak_bytes": seen.peak["out_bytes"] + seen.peak["in_bytes"]}, _below(peak_bytes=_BUSY_BYTES),
    ),
    "device_silent": _Test(
        "a silent device", "it sent {out_pkts:packet} in this time", _sum("out_pkts"),
        lambda values: float(values["out_pkts"]) > 0,
    ),
    "service_down": _Test(
        "a service that is down", "{failed} of {connections:connection} failed", _refusals,
        lambda values: float(values["connections"]) > 0 and _few("failed", "connections", 0.05)(values),
    ),
    "name_resolution": _Test(
        "DNS", "{dns_failed} of {dns_queries:query} for a name failed", _sum("dns_failed", "dns_queries"),
        _few("dns_failed", "dns_queries", 0.05), "dns",
    ),
    "spoofing": _Test(
        "a doubled address", "{arp_conflicts:conflict} of addresses in ARP", _sum("arp_conflicts"),
        _below(arp_conflicts=1), "arp",
    ),
    "misconfiguration": _Test(
        "a setting that is refused", "{modbus_exceptions:Modbus exception} and {mqtt_refused:MQTT refusal}",
        _sum("modbus_exceptions", "mqtt_refused"), _below(modbus_exceptions=1, mqtt_refused=1), "commands",
    ),
    "flapping": _Test(
        "a link that goes up and down", "{resets:reset} among {pkts:packet}", _sum("resets"),
        _below(resets=3), "tcp",
    ),
    "recon": _Test(
        "a scan", "at most {hosts:host} and {ports:port} tried in one sample",
        lambda seen: {"hosts": seen.peak["hosts_out"], "ports": seen.peak["ports_out"]}, _below(hosts=8, ports=8),
    ),
    "dos": _Test("a flood", "at most {peak_pkts_per_s} packets per second", _flood, _below(peak_pkts_per_s=100)),
    "ddos": _Test("a flood", "at most {peak_pkts_per_s} packets per second", _flood, _below(peak_pkts_per_s=100)),
    "brute_force": _Test(
        "attempts to log in", "{pkts_login:packet} on login ports", _sum("pkts_login"), _below(pkts_login=1)
    ),
    "exfiltration": _Test(
        "data carried off", "it sent {out_bytes} in all", _sum("out_bytes"), _below(out_bytes=1e6)
    ),
    "mqtt_abuse": _Test(
        "malformed messages", "{mqtt_malformed} of {mqtt_publishes:message} malformed",
        _sum("mqtt_malformed", "mqtt_publishes"), _below(mqtt_malformed=1), "mqtt",
    ),
}  # fmt: skip


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
    seen = _look(rows, capture)
    excluded: list[Fact] = []
    undecided: list[Fact] = []
    for label in labels:
        test = _TESTS.get(label)
        if test is None or test.needs not in seen.shows:
            continue
        values = test.values(seen)
        if any(values.get(name) == 0 for name in _WHOLES):
            continue  # "0 of 0" says nothing
        denied = test.excludes(values)
        sentence = (
            f"Not {test.name}: {test.text}."
            if denied
            else f"Not excluded is {test.name}: {test.text}."
        )
        (excluded if denied else undecided).append(
            make_fact("apart", sentence, values, seen.windows)
        )
    return RuledOut(tuple(excluded), tuple(undecided))


def _look(rows: pd.DataFrame, capture: Capture) -> _Seen:
    numbers = rows.drop(columns=["device", "start_s"])
    total, peak = numbers.sum().to_dict(), numbers.max().to_dict()
    kinds = set(capture.evidence["kind"].unique())
    shows = {"flows"}
    shows |= {"tcp"} if bool(capture.flows["history"].notna().any()) else set()
    shows |= {"arp"} if any(kind.startswith("arp") for kind in kinds) else set()
    shows |= {"dns"} if total["dns_queries"] > 0 else set()
    shows |= {"mqtt"} if total["mqtt_publishes"] > 0 else set()
    spoke = (
        "modbus_reads_out",
        "modbus_reads_in",
        "modbus_writes_out",
        "modbus_writes_in",
        "mqtt_connects",
    )
    shows |= {"commands"} if sum(total[name] for name in spoke) > 0 else set()
    return _Seen(total, peak, frozenset(shows), tuple(rows["start_s"].iloc[[0, -1]].astype(float)))
