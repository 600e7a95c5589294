"""Rules that need no model: what is broken or attacked, and what proves it.

One table. Each rule is conservative enough to raise an incident; its facts say whether the cause is
proved or only likely.
"""

from collections.abc import Callable
from dataclasses import replace

from assistant.detection.rules.answers import (
    find_failing_resolvers,
    find_late_answers,
    find_malformed,
    find_slow_servers,
    find_unanswered_requests,
)
from assistant.detection.rules.attacks import (
    find_doubled_addresses,
    find_interruptions,
    find_new_writers,
    find_register_sweeps,
    find_shared_addresses,
)
from assistant.detection.rules.ethernet import (
    find_doubled_publishers,
    find_doubled_stations,
    find_goose_faults,
    find_module_differences,
    find_station_alarms,
)
from assistant.detection.rules.floods import (
    find_held_sessions,
    find_message_floods,
    find_one_way_floods,
    find_ping_floods,
)
from assistant.detection.rules.leases import find_vain_discovers
from assistant.detection.rules.links import (
    find_dropped_links,
    find_loose_links,
    find_losses,
    find_spikes,
)
from assistant.detection.rules.names import find_wrong_answers
from assistant.detection.rules.outages import (
    find_absent_addresses,
    find_failing_services,
    find_mute_resolvers,
    find_mute_time_servers,
    find_unsteady_devices,
)
from assistant.detection.rules.outside import find_clockwork, find_masked_sessions, find_uploads
from assistant.detection.rules.refusals import find_refusals
from assistant.detection.rules.restarts import find_restarts
from assistant.detection.rules.rhythms import find_stopped_senders, find_thin_streams
from assistant.detection.rules.rule import Rule, RuleHit
from assistant.detection.rules.scans import (
    find_arp_scans,
    find_reported,
    find_scans,
    find_version_scans,
)
from assistant.detection.rules.sessions import (
    find_breaking_sessions,
    find_closed_ports,
    find_idle_closes,
    find_missed_keep_alives,
    find_session_limits,
    find_shared_client_ids,
    find_unheard_addresses,
)
from assistant.detection.rules.silences import find_moved_devices, find_silences
from assistant.detection.rules.slow_links import find_slow_links
from assistant.detection.rules.vain_calls import find_deaf_clients, find_lost_ways, find_vain_calls
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView

__all__ = ["DECISIVE", "HEADLINES", "RULES", "SUGGESTIVE", "Rule", "RuleHit", "apply_rules"]


def _kinds(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _plain(
    find: Callable[[TrafficView], list[RuleHit]], confirms: str = "", suggests: str = ""
) -> Rule:
    """A rule whose facts answer by themselves and explain what looks alike."""
    proved, likely = _kinds(confirms), _kinds(suggests)
    return Rule(find, proved, likely, rules_out=_LOOK_ALIKES, headlines=proved | likely)


# What a model may take traffic for in which requests, sessions or names fail.
_LOOK_ALIKES = _kinds(
    "misconfiguration service_down flapping name_resolution packet_loss congestion device_silent "
    "brute_force mqtt_abuse recon"
)
_DEEDS = _kinds("brute_force recon")
_NEAR_SLOTS = 3  # each side
RULES = (
    Rule(
        find_absent_addresses,
        confirms=_kinds("absent misleads"),
        suggests=_kinds("misled"),
        rules_out=frozenset(("misconfiguration",)),
        headlines=_kinds("misled misleads"),
        yields_to=_kinds("silent silent_together"),  # who asked in vain is said there too
    ),
    # Neither silent nor deaf: it goes by another address.
    _plain(find_moved_devices, confirms="moved"),
    replace(_plain(find_silences, confirms="silent silent_together"), yields_to=_kinds("moved")),
    Rule(find_doubled_addresses, confirms=_kinds("claimant duplicate")),
    # What such a machine is sent and cannot answer looks like any trouble, and its claims like a lie.
    replace(
        _plain(find_shared_addresses, suggests="double"), rules_out=_LOOK_ALIKES | {"spoofing"}
    ),
    Rule(find_mute_resolvers, confirms=_kinds("resolver")),
    _plain(find_mute_time_servers, confirms="time_server"),
    # Of two machines with one address one gets what is meant for the other.
    Rule(find_failing_services, confirms=_kinds("refusing"), yields_to=_kinds("double")),
    Rule(find_one_way_floods, confirms=_kinds("one_way")),
    Rule(find_ping_floods, suggests=_kinds("pings")),
    Rule(find_register_sweeps, confirms=_kinds("sweep")),
    _plain(
        find_refusals,
        confirms="refused now_refused login_refused turned_away unit_gone probe",
        suggests="busy partly_refused refused_in_part",
    ),
    replace(
        _plain(find_unanswered_requests, confirms="mute unit_mute", suggests="timeouts"),
        # What answers nobody says more; who sends garbage, or tries all there is, is not answered.
        yields_to=_kinds("time_server malformed probe port_scan host_scan"),
    ),
    _plain(find_late_answers, confirms="behind"),
    replace(
        _plain(find_malformed, suggests="malformed"),
        # Of two machines with one address each gets what the other asked for.
        yields_to=_kinds("version_scan double"),  # who tries many protocols has none set wrong
    ),
    # Behind a slow link every program is slow.
    replace(_plain(find_slow_servers, suggests="slow"), yields_to=_kinds("slow_link slow_way_out")),
    replace(
        _plain(find_slow_links, suggests="slow_link slow_way_out"), rules_out=_LOOK_ALIKES - _DEEDS
    ),
    _plain(find_failing_resolvers, confirms="servfail", suggests="unknown_names"),
    _plain(find_wrong_answers, suggests="astray"),
    _plain(find_idle_closes, suggests="idle_close"),
    _plain(find_missed_keep_alives, confirms="keep_alive"),
    _plain(find_shared_client_ids, confirms="same_id"),
    replace(
        _plain(find_breaking_sessions, suggests="breaks"),
        yields_to=_kinds("idle_close keep_alive same_id"),  # a timer or a double tells why
    ),
    _plain(find_session_limits, suggests="limit"),
    _plain(find_closed_ports, confirms="port_refused", suggests="port_left"),
    _plain(find_unheard_addresses, suggests="unheard"),
    _plain(find_scans, confirms="port_scan host_scan"),
    _plain(find_version_scans, confirms="version_scan"),
    _plain(find_arp_scans, suggests="arp_scan"),
    # What packets show of the same says more; there the notice stands beside it.
    Rule(
        find_reported,
        suggests=_kinds("reported"),
        headlines=_kinds("reported"),
        yields_to=_kinds(
            "port_scan host_scan version_scan arp_scan login_refused turned_away probe"
        ),
    ),
    replace(
        _plain(find_vain_calls, suggests="nameless cut_off"),
        headlines=_kinds("calls calls_refused cut_off"),  # alone they leave it open
        yields_to=_kinds("astray"),
    ),
    _plain(find_lost_ways, suggests="way_lost"),
    replace(_plain(find_deaf_clients, suggests="deaf"), yields_to=_kinds("moved")),
    _plain(find_unsteady_devices, suggests="comes_and_goes"),
    replace(
        _plain(find_loose_links, suggests="off_and_on"),
        yields_to=_kinds("comes_and_goes silent silent_together slow_link slow_way_out spike"),
    ),
    replace(
        _plain(find_restarts, suggests="restarted"),
        # It explains what failed in that moment, not what was slow or lossy a while after it.
        rules_out=_kinds("misconfiguration service_down flapping name_resolution device_silent"),
        yields_to=_kinds(
            "moved silent silent_together comes_and_goes off_and_on absent refusing double"
        ),
    ),
    replace(
        _plain(find_dropped_links, suggests="asked_anew"),
        yields_to=_kinds("comes_and_goes off_and_on silent silent_together"),
    ),
    # Scans and guesses lose packets too: a bad link explains what fails, not what somebody does.
    replace(
        _plain(find_losses, suggests="sent_again"),
        rules_out=_LOOK_ALIKES - _DEEDS,
        yields_to=_kinds("deaf off_and_on comes_and_goes asked_anew slow_link slow_way_out spike"),
    ),
    replace(_plain(find_spikes, suggests="spike"), rules_out=_LOOK_ALIKES - _DEEDS),
    # What is lost on the way says more than that less arrives.
    replace(
        _plain(find_thin_streams, suggests="thin_stream thin_streams"),
        rules_out=_LOOK_ALIKES - _DEEDS,
        yields_to=_kinds(
            "spike sent_again slow_link slow_way_out off_and_on comes_and_goes asked_anew"
        ),
    ),
    replace(
        _plain(find_stopped_senders, suggests="stopped"),
        yields_to=_kinds(
            "moved silent silent_together same_id login_refused turned_away limit keep_alive"
        ),
    ),
    _plain(find_uploads, suggests="upload"),
    _plain(find_clockwork, suggests="clockwork rhythm_kept"),
    _plain(find_masked_sessions, suggests="masked"),
    _plain(
        find_goose_faults, confirms="goose_silent", suggests="goose_late goose_missed goose_back"
    ),
    _plain(find_doubled_publishers, confirms="goose_twice"),
    _plain(find_station_alarms, confirms="alarm", suggests="given_up"),
    _plain(find_module_differences, confirms="module_diff"),
    _plain(find_doubled_stations, confirms="station_twice"),
    _plain(find_vain_discovers, confirms="no_lease no_leases lease_server"),
    _plain(find_message_floods, suggests="messages"),
    _plain(find_held_sessions, suggests="hoarded"),
    _plain(find_interruptions, suggests="interrupt"),
    _plain(find_new_writers, confirms="forbidden_writer", suggests="new_writer new_control"),
)
# Kinds of facts that confirm an incident whatever the model says, and those that make it likely.
DECISIVE = frozenset().union(*(rule.confirms for rule in RULES))
SUGGESTIVE = frozenset().union(*(rule.suggests for rule in RULES))
HEADLINES = frozenset().union(*(rule.headlines for rule in RULES))


def apply_rules(view: TrafficView) -> list[RuleHit]:
    """What the rules find in a capture, in the order of the table."""
    hits = [(rule, hit) for rule in RULES for hit in rule.find(view)]
    told = [(kind_of(hit.fact), {hit.device, *hit.peers}, _times_of(hit)) for _, hit in hits]
    return [
        replace(hit, rules_out=rule.rules_out)
        for rule, hit in hits
        if not any(
            kind in rule.yields_to
            and {hit.device, *hit.peers} <= devices
            and len(
                range(max(times.start, _times_of(hit).start), min(times.stop, _times_of(hit).stop))
            )
            for kind, devices, times in told
        )
    ]


def _times_of(hit: RuleHit) -> range:
    """The slots from its first to its last evidence, and a few around them: what two rules see of one
    cause does not begin and end in the same."""
    return range(int(hit.slots.min()) - _NEAR_SLOTS, int(hit.slots.max()) + 1 + _NEAR_SLOTS)
