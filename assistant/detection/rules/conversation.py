"""What all rules about requests share: one client at one server, in words and in the packets."""

from collections.abc import Iterator

import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_at
from assistant.facts.fact import Fact, Proof, Value
from assistant.facts.proofs import from_to, pick_frames
from assistant.facts.requests import OUTCOMES
from assistant.facts.traffic_view import TrafficView
from traffic.pcap.headers import TCP
from traffic.pcap.protocols import BY_NAME
from traffic.plant import GROUP, GROUP_MAC


def read_conversations(view: TrafficView) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """What each client asked of each server in one protocol, by time; what was asked of all is not
    judged, and a remark on an answer is no refusal."""
    asked = view.exchanges
    asked = asked[asked["outcome"].isin(OUTCOMES)]
    asked = asked[~asked["server"].astype("str").str.match(f"{GROUP}|{GROUP_MAC}")]
    asked = asked.assign(code=asked["code"].mask((asked["outcome"] == "answered"), 0))
    for (client, server, protocol), rows in asked.groupby(
        ["client", "server", "protocol"], observed=True
    ):
        yield str(client), str(server), str(protocol), rows


def describe_ends(
    view: TrafficView, client: str, server: str, rows: pd.DataFrame
) -> dict[str, Value]:
    """Client and server by name, the times of the first and the last of some requests."""
    return {
        "client": view.name_of(client),
        "server": view.name_of(server),
        "since_time_s": float(rows["ts"].min()),
        "until_time_s": float(rows["ts"].max()),
    }


def make_hit(device: str, label: str, facts: list[Fact], other: str, rows: pd.DataFrame) -> RuleHit:
    """A hit at a device, in the slots of some requests."""
    return RuleHit(device, label, "source", tuple(facts), (other,), slots_at(rows["ts"]))


def prove(rows: pd.DataFrame, answers: bool = False, only: str = "") -> Proof:
    """Where some requests of a client to a server, or the answers to them, are in the packets.

    Args:
        rows: exchanges of one client and server, those that were counted.
        answers: their answers were counted, by their codes where they have any.
        only: a further condition; else that they are messages of their protocol.
    """
    client, server = (str(rows[name].iloc[0]) for name in ("client", "server"))
    protocol = BY_NAME[str(rows["protocol"].iloc[0])]
    codes = sorted(int(code) for code in rows["code"].unique() if code > 0)
    if answers and codes and protocol.code_field:
        only = " || ".join(f"{protocol.code_field} == {code}" for code in codes)
        condition, count = f"{from_to(server, client)} && ({only})", len(rows)
    else:
        condition, count = (
            f"{from_to(client, server)} && {only or protocol.layer or protocol.name}",
            None,
        )
    frames = rows["answer_frame" if answers else "frame"]
    port, decoder = int(rows["port"].iloc[0]), protocol.decoder or protocol.layer or protocol.name
    strange = TCP in protocol.transports and port not in protocol.ports
    decode_as = f"tcp.port=={port},{decoder}" if strange else ""
    return Proof(condition, pick_frames(frames), count, decode_as)


def word_code(protocol: str, code: int) -> str:
    """A code as the protocol's people say it.

    >>> word_code("modbus", 2), word_code("dns", 2)
    ('exception 2 (0x02, illegal data address)', 'SERVFAIL (server failure)')
    """
    known = BY_NAME[protocol]
    return known.say_code(code, known.refusals.get(code, "unknown to us"))
