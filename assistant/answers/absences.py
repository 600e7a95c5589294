"""What was not found is told from what was not seen.

"No scan was found" says nothing where the sensor saw one direction, a second of traffic or no traffic
between addresses: then it cannot be told.
"""

from dataclasses import replace

from assistant.answers.asked import Answer, Asked, say
from assistant.facts.fact import kind_of
from assistant.facts.sensor import find_blindness
from traffic.capture import SAMPLE_S
from traffic.windows import WINDOW_SAMPLES

# Sentences that say that something was not found; what is meant by the others was seen.
_ABSENCES = frozenset(
    (
        "affected_nothing", "against_nothing", "attack_none", "bearer_none", "bearer_one", "cause_none",
        "changed_nothing", "checks_none", "close_nobody", "count_incidents", "count_malformed_none",
        "count_no_code", "dns_clients_none", "else_none", "hostile_none", "incidents_none_at", "left_nothing",
        "loss_none", "nobody_attack", "nobody_outside", "nobody_refuse", "nobody_refuse_active", "nobody_scan",
        "nobody_write", "nobody_write_active", "remote_none", "nothing_between", "nothing_explains", "restart_none",
        "scanned_none", "security_none", "since_nothing", "time_nothing", "transfers_none", "trend_nothing",
        "trouble_none", "trouble_none_at", "whom_else_none", "zones_none",
    )
)  # fmt: skip
# What is asked of tables that hold traffic between addresses.
_OF_TRAFFIC = frozenset(
    (
        "affected",
        "bearer",
        "changed",
        "count",
        "does",
        "hostile",
        "logins",
        "loss",
        "since",
        "who",
        "writers",
    )
)


def answer_no_traffic(asked: Asked) -> Answer | None:
    """A question about traffic between addresses, of a capture that holds none."""
    if asked.query.kind not in _OF_TRAFFIC or len(asked.view.flow_slots) or asked.incident:
        return None
    line = say("nobody_no_ip", "unclear" if asked.polar else "")
    return Answer(line, asked.known, standing="inconclusive")


def doubt_absence(said: Answer, asked: Asked) -> Answer:
    """The same; where it says that nothing was found and little was to be seen, that it cannot be
    told, with what the sensor missed."""
    kind, view = kind_of(said.line), asked.view
    found = kind == "count_incidents" and said.line.values["n"]
    if kind not in _ABSENCES or found:
        return said
    blind = find_blindness(view.quality, asked.device, view.seen_s)
    if view.seen_s >= WINDOW_SAMPLES * SAMPLE_S and not blind:
        return said
    line = say(kind, "unclear", said.line.proof, **said.line.values)
    return replace(said, line=line, facts=(*asked.sensor, *said.facts), standing="inconclusive")
