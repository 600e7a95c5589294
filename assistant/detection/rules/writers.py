"""Who writes to a controller: new against ten minutes of what came before, or not allowed by
plant.yaml.

Without either nothing is judged: a writer that is there when a recording begins may always have
been.
"""

from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.facts.fact import Fact, Proof, Value, make_fact
from assistant.facts.traffic_view import TrafficView

_BASELINE_S = 600.0

_SENTENCES = {
    "new_writer": "{client} is new as a writer to {server}: its first of {writes:write command} came at "
    "{since_time_s}, after {baseline_s} in which it never wrote there.",
    "forbidden_writer": "{client} writes to {server} and is not among the writers that plant.yaml allows: "
    "{writes:write command} since {since_time_s}.",
    "new_control": "{client} sent {server} {writes:command} that changes how it runs (start, stop, restart or "
    "download) since {since_time_s}, after {baseline_s} without any.",
}


def find_new_writers(view: TrafficView) -> list[RuleHit]:
    """Writers that were not there before, and those that plant.yaml does not allow."""
    hits = []
    allowed = view.allowed_writers
    for row in view.writes.itertuples():
        client, server = str(row.client), str(row.server)
        listed = allowed.get(server)
        if listed is not None:
            if client in listed:
                continue
            kind = "forbidden_writer"
        elif row.since_s - view.start_s >= _BASELINE_S:
            kind = "new_control" if row.control else "new_writer"
        else:
            continue
        values: dict[str, Value] = {
            "client": view.name_of(client),
            "server": view.name_of(server),
            "writes": int(row.count),
            "since_time_s": float(row.since_s),
            "baseline_s": float(row.since_s - view.start_s),
        }
        family = "ipv6" if ":" in client else "ip"
        proof = Proof(f"{family}.src == {client} && {family}.dst == {server}", row.frames)
        fact: Fact = make_fact(kind, _SENTENCES[kind], values, proof=proof)
        slots = slots_of(view.write_slots(client, server))
        hits.append(RuleHit(client, "unauthorized_command", "source", (fact,), (server,), slots))
    return hits
