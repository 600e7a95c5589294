"""Facts that protocols carry beyond flows: Modbus requests and writers, MQTT messages, claims of one address."""

from collections.abc import Sequence

import pandas as pd

from assistant.facts.attribution import Trace
from assistant.facts.fact import Fact, Value, listed, make_fact, plural
from assistant.facts.traffic_view import Scene
from traffic.capture import SAMPLE_S

__all__ = [
    "MODBUS_KINDS",
    "command_facts",
    "modbus_facts",
    "mqtt_facts",
    "refusal_facts",
    "spoofing_facts",
    "worded_codes",
]

# Modbus Application Protocol V1.1b3, sections 6 and 7.
MODBUS_FUNCTIONS = {
    1: "read coils",
    2: "read discrete inputs",
    3: "read holding registers",
    4: "read input registers",
    5: "write single coil",
    6: "write single register",
    7: "read exception status",
    8: "diagnostics",
    15: "write multiple coils",
    16: "write multiple registers",
    17: "report server id",
    22: "mask write register",
    23: "read and write registers",
    43: "read device identification",
}
MODBUS_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
# MQTT 3.1.1, table 3.1, and MQTT 5.0, table 3.1.
MQTT_RETURN_CODES = {
    1: "unacceptable protocol version",
    2: "identifier rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorised",
    134: "bad user name or password",
    135: "not authorised",
    138: "banned",
}
_MQTT_WORDS = {
    "mqtt_publish": "message",
    "mqtt_connect": "connection request",
    "mqtt_malformed": "malformed packet",
}
MODBUS_KINDS = ("modbus_read", "modbus_write", "modbus_other", "modbus_exception")

_MOST_PAIRS = 3

_SAYS = {
    "modbus": "{client} sent {server} {requests:Modbus request} between {first_time_s} and {last_time_s}, at most "
    "{peak_per_s} per second: {functions}.",
    "registers": "Within {sample_s} it named at most {registers:different register address}.",
    "exceptions": "{server} answered {client} {n:time} with a Modbus exception: {codes}.",
    "refusals": "{server} refused the MQTT connection of {client} {n:time}: {codes}.",
    "writers": "In this capture {names} wrote to {server} over Modbus.",
    "conflict": "{address} was claimed by {machines:different machine} {claims:time} between {first_time_s} and "
    "{last_time_s}.",
    "machines": "Traffic of {address} carried the hardware addresses {macs}.",
}


def modbus_facts(evidence: pd.DataFrame, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Who asked whom with which functions, how often and how widely, the most frequent first; and what was refused."""
    asked = evidence[evidence["kind"].isin(["modbus_read", "modbus_write", "modbus_other"])]
    totals = asked.groupby(["src", "dst"])["count"].sum().sort_values(ascending=False, kind="stable")
    facts = []
    for src, dst in totals.index[:_MOST_PAIRS]:
        rows = asked[(asked["src"] == src) & (asked["dst"] == dst)]
        by_code = rows.groupby("code")["count"].sum().sort_values(ascending=False, kind="stable")
        values: dict[str, Value] = {
            "client": scene.name(src),
            "server": scene.name(dst),
            "requests": int(rows["count"].sum()),
            "functions": listed(
                f"{n:,} with function {_worded(code, MODBUS_FUNCTIONS)}" for code, n in by_code.items()
            ),
            "first_time_s": rows["slot"].min() * SAMPLE_S,
            "last_time_s": (rows["slot"].max() + 1) * SAMPLE_S,
            "peak_per_s": rows.groupby("slot")["count"].sum().max() / SAMPLE_S,
            "registers": int(rows["distinct"].max()),
            "sample_s": SAMPLE_S,
        }
        sentence = f"{_SAYS['modbus']} {_SAYS['registers']}" if values["registers"] else _SAYS["modbus"]
        facts.append(make_fact("modbus", sentence, values, windows))
    return facts + refusal_facts(evidence[evidence["kind"] == "modbus_exception"], scene, windows)


def refusal_facts(evidence: pd.DataFrame, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Modbus exceptions and refused MQTT connections by client and server, at most two pairs each."""
    facts = []
    for kind, name, words in (
        ("modbus_exception", "exceptions", MODBUS_EXCEPTIONS),
        ("mqtt_refused", "refusals", MQTT_RETURN_CODES),
    ):
        said = evidence[evidence["kind"] == kind]
        totals = said.groupby(["src", "dst"])["count"].sum().sort_values(ascending=False, kind="stable")
        for src, dst in totals.index[:2]:
            rows = said[(said["src"] == src) & (said["dst"] == dst)]
            values: dict[str, Value] = {
                "client": scene.name(src),
                "server": scene.name(dst),
                "n": int(rows["count"].sum()),
                "codes": worded_codes(sorted(rows["code"].unique()), words),
            }
            facts.append(make_fact(name, _SAYS[name], values, windows))
    return facts


def command_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Who wrote what, how often, and who else writes to the same controller."""
    facts = modbus_facts(trace.evidence, scene, windows)
    writes = scene.evidence[scene.evidence["kind"] == "modbus_write"]
    server = str(trace.evidence["dst"].iloc[0]) if len(trace.evidence) else trace.device
    writers = writes[writes["dst"] == server].groupby("src")["count"].sum().sort_values(ascending=False)
    if len(writers):
        names = listed(f"{scene.name(str(name))} ({n:,} {plural(n, 'request')})" for name, n in writers.items())
        values: dict[str, Value] = {"server": scene.name(server), "names": names, "writers": len(writers)}
        facts.append(make_fact("writers", _SAYS["writers"], values, windows))
    return facts


def mqtt_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Counts of what each MQTT client sent, by kind, at most three pairs of client and broker."""
    facts = []
    sent = trace.evidence[trace.evidence["kind"].isin(_MQTT_WORDS)]
    totals = sent.groupby(["src", "dst"])["count"].sum().sort_values(ascending=False, kind="stable")
    for src, dst in totals.index[:3]:
        rows = sent[(sent["src"] == src) & (sent["dst"] == dst)]
        counts = rows.groupby("kind")["count"].sum()
        values: dict[str, Value] = {str(kind): int(n) for kind, n in counts.items()}
        values |= {
            "client": scene.name(src),
            "broker": scene.name(dst),
            "peak_per_s": rows["count"].max() / SAMPLE_S,
            "topics": int(rows["distinct"].max()),
            "sample_s": SAMPLE_S,
        }
        parts = listed(f"{{{kind}:{_MQTT_WORDS[str(kind)]}}}" for kind in counts.index)
        topics = ", to up to {topics:topic} in {sample_s}" if values["topics"] else ""
        sentence = f"{{client}} sent {{broker}} {parts}, at most {{peak_per_s}} per second{topics}."
        facts.append(make_fact("mqtt", sentence, values, windows))
    return facts + refusal_facts(trace.evidence, scene, windows)


def spoofing_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Which address is claimed by several machines, how often, and by which where the capture has it."""
    facts = []
    claims = trace.evidence[trace.evidence["kind"] == "arp_conflict"]
    for address, rows in claims.groupby("dst"):
        values: dict[str, Value] = {
            "address": scene.name(str(address)),
            "machines": int(rows["distinct"].max()),
            "claims": int(rows["count"].sum()),
            "first_time_s": rows["slot"].min() * SAMPLE_S,
            "last_time_s": (rows["slot"].max() + 1) * SAMPLE_S,
        }
        facts.append(make_fact("conflict", _SAYS["conflict"], values, windows))
        macs = scene.macs_of(str(address))
        if len(macs) > 1:
            values["macs"] = listed(macs)
            facts.append(make_fact("machines", _SAYS["machines"], values, windows))
    return facts


def worded_codes(codes: Sequence[int], words: dict[int, str]) -> str:
    """Codes with their meaning: "2 (illegal data address) and 99".

    >>> worded_codes([2, 99], MODBUS_EXCEPTIONS)
    '2 (illegal data address) and 99'
    """
    return listed((_worded(code, words) for code in codes), 5)


def _worded(code: int, words: dict[int, str]) -> str:
    return f"{code} ({words[code]})" if code in words else str(code)
