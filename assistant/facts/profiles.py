"""Label profiles: what detection and diagnosis know of each label, one entry a label.

Beside it a label has its name and meaning in ``traffic.labels``, its sentences for the operator in
``assistant/diagnosis/playbook/<label>.yaml``, and its traffic in the simulation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from assistant.facts import attacks, faults
from assistant.facts.attribution import (
    Attribution,
    AttributionRule,
    carries_answered,
    carries_dns,
    carries_failed,
    carries_login,
    count_different,
    count_excess,
    shows_contacts,
    shows_failures,
    shows_flood,
    shows_trouble,
    shows_upload,
    supports_absence,
    supports_attempts,
    supports_claims,
    supports_evidence,
    supports_loss,
    supports_repeated,
    supports_scan,
    weigh_endpoints,
    weigh_excess,
    weigh_nothing,
    weigh_presence,
    weigh_sent,
    weigh_volume,
)
from assistant.facts.exclusion import (
    Exclusion,
    below,
    busiest_bytes,
    busiest_rate,
    failed_connections,
    few,
    moves_next_to_nothing,
    peaks,
    some,
    sums,
)
from assistant.facts.fact import Fact
from assistant.facts.traffic_view import TrafficView
from assistant.facts.vetoes import (
    is_habit,
    is_no_flood,
    is_replaced,
    is_used_to_pause,
    moves_nothing,
    names_resolve,
    needed_by_nobody,
    not_a_guess,
    only_busy,
    own_infrastructure,
    wrote_before,
)
from traffic.capture import SAMPLE_S

_OPENED = ("tcp_out", "udp_out", "icmp_out")
_ACCEPTED = ("tcp_in", "udp_in", "icmp_in")
_FAILED_OUT = ("unanswered_out", "refused_out", "udp_unanswered_out", "arp_unanswered_out")
_FAILED_IN = ("unanswered_in", "refused_in", "udp_unanswered_in", "arp_unanswered_in")
_ONE_PEER = 0.6
_BUSY_BYTES = 5e6 * SAMPLE_S / 8  # 5 Mbit/s: far below what any plant link of today carries
_NO_FLOOD = Exclusion(
    "a flood", "at most {peak_pkts_per_s} packets per second", busiest_rate, below(peak_pkts_per_s=100)
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LabelProfile(AttributionRule):
    """What detection and diagnosis know of a label, beside where it shows in the tables.

    Attributes:
        make_facts: the facts that support it at a device, the strongest first; empty where nothing
            in the tables carries it.
        conclusive: kinds of facts that show the thing itself, not only a model's opinion of it.
        source_columns: columns of a window that grow at its source: where the device does what the
            label means (it scans, floods, stays silent, misses its own server's address).
        target_columns: those that grow where that is done to it. The larger sum decides; a tie goes
            to the source, the more common side.
        is_supported: whether what was attributed is enough for an incident; None is always.
        is_shown: the same with no verdict to lean on; None is as ``is_supported``.
        veto: what forbids it, whatever a model says.
        impossible: the windows whose numbers forbid it, shape (n_windows,), bool, from columns of
            their samples.
        exclusion: the number that rules it out, where there is one.
        inseparable: labels that look the same from flows.
        kin: labels of one kin at linked devices are one cause; "" has none.
        leads_to: kin of the faults that it causes beside it.
        lasting: stays until somebody removes it, so pauses do not make it two.
        shared: devices that show it at once share one cause, linked or not.
        blames_asker: its evidence is of requests, and who asks them is its source.
        flood: one sure window of a large one raises an incident, and its size is its severity.
        compromises: the device is taken over, whichever way the traffic goes.
        starves_peers: its peers suffer: they are the ones who call and get no answer.
    """

    make_facts: Callable[[Attribution, TrafficView, Sequence[float]], list[Fact]]
    conclusive: frozenset[str]
    source_columns: tuple[str, ...] = ()
    target_columns: tuple[str, ...] = ()
    is_supported: Callable[[Attribution], bool] | None = None
    is_shown: Callable[[Attribution], bool] | None = None
    veto: Callable[[Attribution, TrafficView], bool] | None = None
    impossible: Callable[[Mapping[str, np.ndarray]], np.ndarray] | None = None
    exclusion: Exclusion | None = None
    inseparable: tuple[str, ...] = ()
    kin: Literal["", "flood", "intrusion", "outage"] = ""
    leads_to: Literal["", "outage"] = ""
    lasting: bool = False
    shared: bool = False
    flood: bool = False
    blames_asker: bool = False
    compromises: bool = False
    starves_peers: bool = False


_DOS = LabelProfile(
    label="dos",
    veto=is_no_flood,
    make_facts=attacks.flood_facts,
    conclusive=frozenset({"flood", "unsized", "one_way"}),
    weigh=weigh_excess,
    source_peer_share=_ONE_PEER,
    source_columns=_OPENED,
    target_columns=_ACCEPTED,
    is_shown=shows_flood,
    exclusion=_NO_FLOOD,
    kin="flood",
    flood=True,
)
_ATTACKS = (
    LabelProfile(
        label="recon",
        make_facts=attacks.recon_facts,
        conclusive=frozenset({"scan", "modbus", "registers", "sweep"}),
        evidence=("modbus_read", "modbus_other", "modbus_exception", "arp_unanswered"),
        weigh=weigh_endpoints,
        weigh_evidence=count_different,
        source_columns=("hosts_out", "ports_out", *_FAILED_OUT),
        target_columns=("ports_in", *_FAILED_IN),
        is_supported=supports_scan,
        exclusion=Exclusion(
            "a scan",
            "at most {hosts:host} and {ports:port} tried in one sample",
            peaks(hosts="hosts_out", ports="ports_out"),
            below(hosts=8, ports=8),
        ),
        kin="intrusion",
    ),
    _DOS,
    replace(_DOS, label="ddos"),
    LabelProfile(
        label="brute_force",
        lasts="failures",
        veto=not_a_guess,
        make_facts=attacks.login_facts,
        conclusive=frozenset({"logins", "refusals"}),
        evidence=("mqtt_refused",),
        carries=carries_login,
        source_columns=("tcp_out",),
        target_columns=("tcp_in",),
        is_supported=supports_attempts(5),  # passwords are guessed more than once or twice
        exclusion=Exclusion(
            "attempts to log in",
            "{pkts_login:packet} on login ports",
            sums("pkts_login"),
            below(pkts_login=1),
        ),
        blames_asker=True,
        kin="intrusion",
    ),
    # A bot, like a lossy or a flapping device, looks as its peers do: no columns tell its side.
    LabelProfile(
        label="c2",
        veto=own_infrastructure,
        make_facts=attacks.c2_facts,
        conclusive=frozenset({"contact", "rhythm"}),
        weigh=weigh_presence,
        peer_share=_ONE_PEER,
        is_shown=shows_contacts,
        inseparable=("service_down", "device_silent", "misconfiguration"),
        lasting=True,
        compromises=True,
    ),
    LabelProfile(
        label="exfiltration",
        veto=is_habit,
        make_facts=attacks.exfiltration_facts,
        conclusive=frozenset({"sent"}),
        opened_by="either",
        weigh=weigh_sent,
        source_peer_share=_ONE_PEER,
        source_columns=("out_bytes",),
        target_columns=("in_bytes",),
        is_shown=shows_upload,
        exclusion=Exclusion(
            "data carried off",
            "it sent {out_bytes} in all",
            sums("out_bytes"),
            below(out_bytes=1e6),
        ),
    ),
    LabelProfile(
        label="spoofing",
        lasts="failures",
        make_facts=attacks.spoofing_facts,
        conclusive=frozenset({"claimant", "conflict", "duplicate", "machines"}),
        evidence=("arp_conflict",),
        veto=is_replaced,
        opened_by="either",
        peer_share=0.0,
        target_columns=("arp_conflicts",),
        is_supported=supports_claims,
        exclusion=Exclusion(
            "a doubled address",
            "{arp_conflicts:conflict} of addresses in ARP",
            sums("arp_conflicts"),
            below(arp_conflicts=1),
            needs="arp",
            outright=True,
        ),
        leads_to="outage",
        shared=True,  # who stands in the middle claims the addresses of both sides
    ),
    LabelProfile(
        label="mqtt_abuse",
        make_facts=attacks.mqtt_facts,
        conclusive=frozenset({"mqtt", "refusals"}),
        evidence=("mqtt_publish", "mqtt_malformed", "mqtt_refused", "mqtt_connect"),
        source_columns=("tcp_out",),
        target_columns=("tcp_in",),
        is_supported=supports_evidence,
        exclusion=Exclusion(
            "malformed messages",
            "{mqtt_malformed} of {mqtt_publishes:message} malformed",
            sums("mqtt_malformed", "mqtt_publishes"),
            below(mqtt_malformed=1),
            needs="mqtt",
        ),
        kin="intrusion",
    ),
    LabelProfile(
        label="unauthorized_command",
        lasts="news",
        veto=wrote_before,
        make_facts=attacks.command_facts,
        conclusive=frozenset({"modbus", "writers"}),
        evidence=("modbus_write",),
        weigh_evidence=count_excess,
        weigh=weigh_nothing,  # who only reads meanwhile is not concerned
        source_columns=("modbus_writes_out", "tcp_out"),
        target_columns=("modbus_writes_in", "tcp_in"),
        is_supported=supports_evidence,
        kin="intrusion",
    ),
)
_FAULTS = (
    LabelProfile(
        label="packet_loss",
        make_facts=faults.loss_facts,
        conclusive=frozenset({"loss", "resent", "missed"}),
        evidence=("retransmission",),
        opened_by="either",
        weigh=weigh_nothing,
        is_supported=supports_loss,
        is_shown=shows_trouble,
        exclusion=Exclusion(
            "packet loss",
            "{retransmissions:segment} sent again of {pkts:packet}",
            sums("retransmissions"),
            few("retransmissions", "pkts", 0.01),
            needs="tcp",
            outright=True,
        ),
        kin="outage",
    ),
    LabelProfile(
        label="congestion",
        veto=moves_nothing,
        impossible=moves_next_to_nothing,
        make_facts=faults.congestion_facts,
        conclusive=frozenset({"peak"}),
        evidence=("zero_window", "retransmission"),
        opened_by="either",
        weigh=weigh_volume,
        source_columns=("bytes_ratio",),
        target_columns=("retransmissions",),
        is_shown=shows_trouble,
        exclusion=Exclusion(
            "a full link",
            "the busiest sample moved {peak_bytes}",
            busiest_bytes,
            below(peak_bytes=_BUSY_BYTES),
        ),
        kin="flood",
        shared=True,  # no topology is known: devices that are slow together share a link mostly
    ),
    LabelProfile(
        label="device_silent",
        veto=is_used_to_pause,
        make_facts=faults.silence_facts,
        conclusive=frozenset(
            {
                "arp",
                "syn",
                "absent",
                "refusing",
                "resolver",
                "silent",
                "silent_together",
                "restarted",
            }
        ),
        evidence=("arp_unanswered",),
        opened_by="target",
        carries=carries_failed,
        peer_share=0.0,
        spans_silence=True,
        source_columns=_FAILED_IN,
        target_columns=_FAILED_OUT,
        is_supported=supports_absence,
        is_shown=shows_failures,
        exclusion=Exclusion(
            "a silent device",
            "it sent {out_pkts:packet} in this time",
            sums("out_pkts"),
            some("out_pkts"),
        ),
        kin="outage",
        starves_peers=True,
    ),
    LabelProfile(
        label="service_down",
        lasts="failures",
        veto=needed_by_nobody,
        make_facts=faults.service_facts,
        conclusive=frozenset({"failed", "refusing", "unreachable", "time_server"}),
        evidence=("unreachable",),
        opened_by="target",
        carries=carries_failed,
        peer_share=0.0,
        source_columns=_FAILED_IN,
        target_columns=_FAILED_OUT,
        is_supported=supports_repeated,
        is_shown=shows_failures,
        exclusion=Exclusion(
            "a service that is down",
            "{failed} of {connections:connection} failed",
            failed_connections,
            few("failed", "connections", 0.05),
        ),
        kin="outage",
        starves_peers=True,
    ),
    LabelProfile(
        label="misconfiguration",
        lasts="failures",
        veto=only_busy,
        make_facts=faults.misconfiguration_facts,
        conclusive=frozenset({"exceptions", "refusals", "unreachable", "arp", "strayed"}),
        evidence=("modbus_exception", "mqtt_refused", "unreachable", "arp_unanswered"),
        carries=carries_failed,
        source_columns=_FAILED_OUT,
        target_columns=_FAILED_IN,
        is_supported=supports_repeated,
        is_shown=shows_failures,
        exclusion=Exclusion(
            "a setting that is refused",
            "{modbus_exceptions:Modbus exception} and {mqtt_refused:MQTT refusal}",
            sums("modbus_exceptions", "mqtt_refused"),
            below(modbus_exceptions=1, mqtt_refused=1),
            needs="commands",
        ),
        blames_asker=True,
        kin="outage",
        lasting=True,
    ),
    LabelProfile(
        label="name_resolution",
        lasts="failures",
        veto=names_resolve,
        make_facts=faults.resolution_facts,
        conclusive=frozenset({"asked_names", "resolver", "misled", "misleads", "astray"}),
        evidence=("dns_failed",),
        carries=carries_dns,
        source_columns=("udp_in",),
        target_columns=("udp_out", "dns_failed"),
        is_supported=supports_evidence,
        exclusion=Exclusion(
            "DNS",
            "{dns_failed} of {dns_queries:query} for a name failed",
            sums("dns_failed", "dns_queries"),
            few("dns_failed", "dns_queries", 0.05),
            needs="dns",
            outright=True,
        ),
        kin="outage",
        starves_peers=True,
    ),
    LabelProfile(
        label="flapping",
        make_facts=faults.flapping_facts,
        conclusive=frozenset({"reconnects", "resets"}),
        evidence=("reset", "mqtt_connect"),
        carries=carries_answered,
        is_supported=supports_attempts(3),  # a connection that flaps comes back more than once
        exclusion=Exclusion(
            "a link that goes up and down",
            "{resets:reset} among {pkts:packet}",
            sums("resets"),
            below(resets=3),
            needs="tcp",
        ),
        kin="outage",
    ),
)

PROFILES: dict[str, LabelProfile] = {one.label: one for one in (*_ATTACKS, *_FAULTS)}
