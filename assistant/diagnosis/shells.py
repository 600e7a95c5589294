"""Sessions at ports that are known for shells from afar, as facts: with whom, when, how much, and what the
port is known for. They prove no intruder: any program may use a port."""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from assistant.facts.devices import name_service
from assistant.facts.fact import Fact, Proof, Value, listed, make_fact
from assistant.facts.proofs import from_to
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.files import Strict, read_yaml

_LEAST_BYTES = 1  # of data; a port that was only tried holds no session
_SENTENCES = {
    "shell_session": "{client} had a session with {server} at TCP port {port} from {start_time_s} to {end_time_s}: it "
    "sent {sent_bytes} and received {got_bytes}, most of it in the {slot_s} from {peak_time_s}. That port is known for "
    "{known_for} ({source}).",
    "shell_besides": "Apart from that both were seen to speak nothing but {services}.",
    "shell_doubt": "Any program may use that port; what passed there was not read, and the number alone proves no "
    "intruder.",
}


class ShellPort(Strict):
    """What a port is known for.

    Attributes:
        known_for: as a sentence goes on after "known for".
        source: where that stands.
    """

    known_for: str
    source: str


@cache
def read_shell_ports() -> dict[int, ShellPort]:
    """The ports that are known for shells from afar."""
    path = Path(__file__).with_name("shell_ports.yaml")
    return read_yaml(path, dict[int, ShellPort], "what each port is known for")


def find_shell_sessions(view: TrafficView, *ends: str) -> pd.DataFrame:
    """TCP sessions at such ports whose content nothing here recognised, that of one of the plant or both
    ends, the largest first.

    Args:
        view: the capture.
        ends: addresses that take part in them; none for all.
    """
    rows = view.sessions
    rows = rows[
        rows["port"].isin(list(read_shell_ports()))
        & rows["opened"]
        & (rows["data_bytes"] >= _LEAST_BYTES)
    ]
    for one in ends:
        rows = rows[(rows["client"] == one) | (rows["server"] == one)]
    rows = rows[rows["client"].isin(view.local) | rows["server"].isin(view.local)]
    flows = view.flow_slots
    named = flows.loc[
        flows["flow"].isin(rows["flow"]) & flows["service"].notna() & flows["service"].ne(""),
        "flow",
    ]
    rows = rows[~rows["flow"].isin(named) & ~rows["flow"].isin(view.exchanges["flow"])]
    return rows.sort_values("data_bytes", ascending=False, kind="stable")


def shell_facts(view: TrafficView, *ends: str, most: int = 3) -> list[Fact]:
    """What is known of such sessions: each one, what else its two ends speak, and that it proves nothing."""
    rows = find_shell_sessions(view, *ends)
    facts: list[Fact] = []
    for row in rows.head(most).to_dict("records"):
        facts.append(_tell(view, row))
        facts += _tell_besides(view, row)
    return [*facts, make_fact("shell_doubt", _SENTENCES["shell_doubt"], {})] if facts else []


def _tell(view: TrafficView, row: dict[str, Any]) -> Fact:
    client, server, port = str(row["client"]), str(row["server"]), int(row["port"])
    slots = view.flow_slots
    slots = slots[slots["flow"] == row["flow"]]
    busiest = slots.assign(both=slots["src_bytes"] + slots["dst_bytes"]).nlargest(1, "both")
    got = float(row["server_bytes"])
    values: dict[str, Value] = {
        "client": view.name_of(client), "server": view.name_of(server), "port": port,
        "start_time_s": float(row["start_s"]), "end_time_s": float(row["end_s"]),
        "sent_bytes": float(row["data_bytes"]) - got, "got_bytes": got, "slot_s": SAMPLE_S,
        "peak_time_s": float(busiest["slot"].iloc[0]) * SAMPLE_S if len(busiest) else float(row["start_s"]),
        "known_for": read_shell_ports()[port].known_for, "source": read_shell_ports()[port].source,
    }  # fmt: skip
    proof = Proof(f"{from_to(client, server)} && tcp.port == {port}")
    return make_fact("shell_session", _SENTENCES["shell_session"], values, proof=proof)


def _tell_besides(view: TrafficView, row: dict[str, Any]) -> list[Fact]:
    """What else the two ends speak, where that is little and all of it named."""
    flows = view.flow_slots
    two = [str(row["client"]), str(row["server"])]
    rows = flows[(flows["src"].isin(two) | flows["dst"].isin(two)) & (flows["port"] != row["port"])]
    rows = rows[rows["proto"].isin(["tcp", "udp"])]
    kinds = rows[["proto", "port"]].drop_duplicates()
    services = [name_service(str(one.proto), int(one.port)) for one in kinds.itertuples()]
    if not services or len(services) > 3:
        return []
    values: dict[str, Value] = {"services": listed(services)} | {
        f"port{place}": float(port) for place, port in enumerate(kinds["port"])
    }
    return [make_fact("shell_besides", _SENTENCES["shell_besides"], values)]
