"""Attacks that packets alone prove: an address with two owners, a sweep of registers, a new writer,
a command that interrupts a controller's work.

A writer is new against ten minutes of what came before (five, where it writes blindly and many times),
or not allowed by plant.yaml. Without either nothing is judged: who writes when a recording begins may
always have done so. Nobody stops or restarts a controller all the time: that is told whenever it is seen.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from assistant.detection.rules.conversation import (
    describe_ends,
    prove,
    read_conversations,
    word_code,
)
from assistant.detection.rules.rule import RuleHit, beside, slots_at, slots_of
from assistant.facts.attacks import MODBUS_REQUESTS
from assistant.facts.fact import Fact, Proof, Value, by_count, listed, make_fact
from assistant.facts.moves import find_replacement
from assistant.facts.proofs import from_to, ip_field
from assistant.facts.spells import first_and_last
from assistant.facts.traffic_view import BASELINE_S, TrafficView
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols import BY_NAME
from traffic.pcap.protocols.protocol import Protocol

_AWAY_S = 5.0  # who answers sooner was not away
_MIN_CLAIMS = 3
_SWEPT_REGISTERS = 50  # different ones in a sample
_SWEPT_REFUSED_SHARE = 0.5  # exceptions among the answers
# Half of the past is enough of who writes so many times, one in so many seconds or faster.
_SOONER_S, _MANY_BLIND, _BLIND_EVERY_S = 300.0, 15, 5.0

_SENTENCES = {
    "duplicate": "{address} is claimed by {machines:machine} at the same time ({claims:claim} seen).",
    "double": "Two machines use the address of {address} at once: {one} and {other} both opened connections by it, and "
    "neither bears another address or stands between others ({claims:claim} seen since {since_time_s}).",
    "impostor": "That fits an address that was given twice. Somebody who takes an address over to pass for its owner "
    "looks the same: compare both hardware addresses with the inventory.",
    "known_mac": "Of both, {mac} is the one that plant.yaml names.",
    "claimant": "{claimant} answers for the address of {addresses} beside its own ({claims:claim} seen).",
    "sweep": "{client} asked {server} over Modbus for up to {registers:different register address} in {sample_s}, and "
    "{refused_share} of its {requests:request} got an exception: it sweeps.",
    "new_writer": "{client} is new as a writer to {server}: its first of {writes:write command} came at "
    "{since_time_s}, after {baseline_s} in which it never wrote there.",
    "forbidden_writer": "{client} writes to {server} and is not among the writers that plant.yaml allows: "
    "{writes:write command} since {since_time_s}.",
    "new_control": "{client} sent {server} {writes:command} that changes how it runs (start, stop, restart or "
    "download) since {since_time_s}, after {baseline_s} without any.",
    "interrupt": "{client} told {server} to stop or to start anew {times:time}: {what}, first at {since_time_s}; "
    "{outcome}.",
    "resumed": "After the stop of {stop_time_s}, {server} accepted a start at {resumed_time_s}: as far as commands "
    "tell, it runs again.",
    "back": "After that, {server} answered again at {back_time_s}, {after_s} after the last such command.",
    "stands": "No start of {server} was accepted after the stop of {stop_time_s}: as far as commands tell, it still "
    "stands.",
}


def find_doubled_addresses(view: TrafficView) -> list[RuleHit]:
    """Addresses that two machines claim by turns: by whom, where the second machine has an address
    of its own, else the address is the target."""
    conflicts = _find_conflicts(view)
    others = conflicts[conflicts["src"] != conflicts["dst"]]
    found = [_blame_claimant(str(claimant), rows, view) for claimant, rows in others.groupby("src")]
    for address, rows in conflicts[~conflicts["dst"].isin(others["dst"])].groupby("dst"):
        if _find_doubles(view, str(address)):
            continue
        values: dict[str, Value] = {
            "address": view.name_of(str(address)),
            "machines": int(rows["distinct"].max()),
            "claims": int(rows["count"].sum()),
        }
        fact = make_fact("duplicate", _SENTENCES["duplicate"], values)
        found.append(RuleHit(str(address), "spoofing", "target", (fact,), (), slots_of(rows)))
    return found


def find_shared_addresses(view: TrafficView) -> list[RuleHit]:
    """Addresses that two machines use as their own: by which both do their work, and nothing else."""
    conflicts, found = _find_conflicts(view), []
    others = conflicts.loc[conflicts["src"] != conflicts["dst"], "dst"]
    for address, rows in conflicts[~conflicts["dst"].isin(others)].groupby("dst"):
        doubles = _find_doubles(view, str(address))
        if not doubles:
            continue
        values: dict[str, Value] = {
            "address": view.name_of(str(address)),
            "one": doubles[0],
            "other": doubles[1],
            "machines": 2,  # the sentence says two
            "claims": int(rows["count"].sum()),
            "since_time_s": first_and_last(rows)[0],
        }
        proof = Proof(f"arp.src.proto_ipv4 == {address}")
        facts = [make_fact("double", _SENTENCES["double"], values, proof=proof)]
        facts.append(make_fact("impostor", _SENTENCES["impostor"], values))
        known = {one.mac.lower() for one in view.plant.devices if one.address == address}
        if mac := next((one for one in doubles if one in known), ""):
            facts.append(make_fact("known_mac", _SENTENCES["known_mac"], {"mac": mac}))
        flows = view.flows_of(str(address))
        meanwhile = flows[flows["slot"].between(rows["slot"].min() - 1, rows["slot"].max() + 1)]
        peers = tuple(by_count(meanwhile.loc[meanwhile["other"].isin(view.own), "other"]))
        ends = (str(address), "misconfiguration", "source", tuple(facts), peers)
        found.append(RuleHit(*ends, slots_of(rows)))
    return found


def _find_conflicts(view: TrafficView) -> pd.DataFrame:
    """Evidence of addresses that are claimed by turns. One change of hardware is a replaced device or
    a failover; a claim that comes back is two machines."""
    conflicts = view.evidence_of_kind("arp_conflict")
    replaced = [one for one in conflicts["dst"].unique() if find_replacement(view, str(one))]
    conflicts = conflicts[~conflicts["dst"].isin(replaced)]
    each = conflicts.groupby("dst")
    doubled = (each["count"].sum() >= _MIN_CLAIMS) | (each["slot"].nunique() >= 2)
    return conflicts[conflicts["dst"].map(doubled).astype(bool)]


def _find_doubles(view: TrafficView, address: str) -> list[str]:
    """The hardware addresses of two machines that both opened connections by an address and bear no
    other; none where it is otherwise.

    Who stands in the middle opens none by the addresses that it claims, and is sent what is meant for
    others.
    """
    machines = view.openers_of(address)
    alone = all(view.addresses_at(mac) == [address] for mac in machines)
    return machines if len(machines) == 2 and alone else []


def _blame_claimant(claimant: str, rows: pd.DataFrame, view: TrafficView) -> RuleHit:
    """Who claims addresses beside its own is the machine in the middle, or the one set wrong."""
    counts = rows.groupby("dst")["count"].sum().sort_values(ascending=False, kind="stable")
    victims = [str(address) for address in counts.index]
    values: dict[str, Value] = {
        "claimant": view.name_of(claimant),
        "addresses": listed([view.name_of(one) for one in victims]),
        "claims": int(rows["count"].sum()),
    }
    fact = make_fact("claimant", _SENTENCES["claimant"], values)
    return RuleHit(claimant, "spoofing", "source", (fact,), tuple(victims), slots_of(rows))


def find_register_sweeps(view: TrafficView) -> list[RuleHit]:
    """Modbus clients that walk through a server's addresses and are refused most of them."""
    asked = view.evidence_of_kind(*MODBUS_REQUESTS)
    refused = view.evidence_of_kind("modbus_exception")
    wide = asked[asked["distinct"] >= _SWEPT_REGISTERS]
    found = []
    for (client, server), peaks in wide.groupby(["src", "dst"]):
        rows = asked[(asked["src"] == client) & (asked["dst"] == server)]
        rows = beside(rows, peaks)
        rows = rows[rows["code"].isin(peaks["code"])]
        answers = refused[(refused["src"] == client) & (refused["dst"] == server)]
        answers = answers[answers["slot"].isin(rows["slot"])]
        requests = int(rows["count"].sum())
        # A master with a wrong register map is refused too, but asks for the same few again and
        # again.
        share = min(float(answers["count"].sum()) / requests, 1.0)
        if share < _SWEPT_REFUSED_SHARE:
            continue
        values: dict[str, Value] = {
            "client": view.name_of(str(client)),
            "server": view.name_of(str(server)),
            "registers": int(rows["distinct"].max()),
            "requests": requests,
            "refused_share": share,
            "sample_s": SAMPLE_S,
        }
        fact = make_fact("sweep", _SENTENCES["sweep"], values)
        found.append(
            RuleHit(str(client), "recon", "source", (fact,), (str(server),), slots_of(rows))
        )
    return found


def find_new_writers(view: TrafficView) -> list[RuleHit]:
    """Writers that were not there before, and those that plant.yaml does not allow."""
    hits = []
    allowed = view.allowed_writers
    for row in view.writes.assign(watched_s=view.watched_s(view.writes)).itertuples():
        client, server = str(row.client), str(row.server)
        listed = allowed.get(server)
        if listed is not None:
            if client in listed:
                continue
            kind = "forbidden_writer"
        elif row.watched_s >= BASELINE_S or (
            row.watched_s >= _SOONER_S and _is_blind(view, client, server)
        ):
            kind = "new_control" if row.control else "new_writer"
            if kind == "new_writer" and _writes_as_elsewhere(view, client, server):
                continue
        else:
            continue
        values: dict[str, Value] = {
            "client": view.name_of(client),
            "server": view.name_of(server),
            "writes": int(row.count),
            "since_time_s": float(row.since_s),
            "baseline_s": float(row.since_s - view.start_s),
        }
        proof = Proof(from_to(client, server), row.frames)
        fact = make_fact(kind, _SENTENCES[kind], values, proof=proof)
        slots = slots_of(view.write_slots(client, server))
        hits.append(RuleHit(client, "unauthorized_command", "source", (fact,), (server,), slots))
    return hits


def _is_blind(view: TrafficView, client: str, server: str) -> bool:
    """Whether a client writes many times at once, in sessions in which it reads nothing: who works with a
    controller looks at it as well."""
    asked = view.exchanges
    asked = asked[(asked["client"] == client) & (asked["server"] == server)]
    writes = asked[asked["kind"] == "write"]
    if len(writes) < _MANY_BLIND or np.ptp(writes["ts"]) > _BLIND_EVERY_S * len(writes):
        return False
    beside = asked[asked["flow"].isin(writes["flow"])]
    return bool((beside["kind"] == "write").all())


def _writes_as_elsewhere(view: TrafficView, client: str, server: str) -> bool:
    """Whether a client that reads a device all along begins to write to it no faster than it wrote to others
    before: a panel whose operator had not touched that device yet."""
    asked = view.exchanges
    asked = asked[asked["client"] == client]
    writes = asked[asked["kind"] == "write"]
    here = writes[writes["server"] == server]
    since_s = float(here["ts"].min())
    before = writes[(writes["server"] != server) & (writes["ts"] < since_s)]
    read = asked[(asked["server"] == server) & (asked["kind"] == "read")]
    if before.empty or read.empty or since_s - float(read["ts"].min()) < _SOONER_S:
        return False
    return _most_in_a_minute(here) <= max(map(_most_in_a_minute, _by_server(before)))


def _by_server(rows: pd.DataFrame) -> list[pd.DataFrame]:
    return [mine for _, mine in rows.groupby("server", observed=True)]


def _most_in_a_minute(rows: pd.DataFrame) -> int:
    return int((rows["ts"] // 60).value_counts().max())


def find_interruptions(view: TrafficView) -> list[RuleHit]:
    """Commands that stop a device's work or start it anew, by those whom plant.yaml does not allow
    to send any."""
    told: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for client, server, name, rows in read_conversations(view):
        protocol = BY_NAME[name]
        commands = rows[rows["kind"] == "control"]
        mine = commands[commands["function"].isin(protocol.interrupts | protocol.resumes)]
        if not mine["function"].isin(protocol.interrupts).any():
            continue  # who only starts what stood still interrupts nothing
        # Without an answer nothing shows that anybody is there who understands such a command.
        understood = mine["outcome"].isin(["answered", "refused"]).any()
        if understood and client not in view.allowed_writers.get(server, ()):
            told.setdefault((client, name), []).append(mine)
    return [_make_interruption(view, *ends, pd.concat(parts)) for ends, parts in told.items()]


def _make_interruption(view: TrafficView, client: str, name: str, told: pd.DataFrame) -> RuleHit:
    """A hit at who sent such commands, to one device or to many."""
    protocol, servers = BY_NAME[name], by_count(told["server"].astype(str))
    words = (protocol.functions.get(int(code), f"function {code}") for code in told["function"])
    values = describe_ends(view, client, servers[0], told) | {
        "server": view.names_of(servers),
        "times": len(told),
        "what": listed(dict.fromkeys(words)),
        "outcome": _word_outcomes(name, told),
    }
    proof = prove(told)
    if len(servers) > 1:
        source = f"{ip_field(client)}.src == {client}"
        proof = replace(proof, filter=f"{source} && {protocol.layer or protocol.name}")
    fact = make_fact("interrupt", _SENTENCES["interrupt"], values, proof=proof)
    slots = slots_at(told["ts"])
    facts = (fact, *_tell_resumed(view, name, servers))
    return RuleHit(client, "unauthorized_command", "source", facts, tuple(servers), slots)


def _tell_resumed(view: TrafficView, name: str, servers: list[str]) -> list[Fact]:
    """Whether what was stopped was started again, by whomever."""
    protocol, asked = BY_NAME[name], view.exchanges
    asked = asked[(asked["protocol"] == name) & (asked["outcome"] == "answered")]
    facts = []
    for server in servers:
        mine = asked[asked["server"] == server]
        mine = mine.assign(answer_ts=mine["ts"] + mine["delay_s"].fillna(0.0))
        stops = mine.loc[mine["function"].isin(protocol.halts), "ts"]
        if stops.empty:
            facts += _tell_back(view, server, mine, protocol)
            continue
        starts = mine.loc[mine["function"].isin(protocol.resumes), "ts"]
        starts = starts[starts > stops.max()]
        values: dict[str, Value] = {
            "server": view.name_of(server), "stop_time_s": float(stops.max()),
            "resumed_time_s": float(starts.min()) if len(starts) else 0.0,
        }  # fmt: skip
        kind = "resumed" if len(starts) else "stands"
        facts.append(make_fact(kind, _SENTENCES[kind], values))
    return facts


def _tell_back(
    view: TrafficView, server: str, answered: pd.DataFrame, protocol: Protocol
) -> list[Fact]:
    """When who was started anew answered again, where it did not for a while."""
    told = answered.loc[answered["function"].isin(protocol.interrupts), "ts"]
    later = answered.loc[answered["ts"] > told.max(), "answer_ts"] if len(told) else told
    if later.empty or later.min() - told.max() < _AWAY_S:
        return []
    values: dict[str, Value] = {
        "server": view.name_of(server), "back_time_s": float(later.min()),
        "after_s": float(later.min() - told.max()),
    }  # fmt: skip
    return [make_fact("back", _SENTENCES["back"], values)]


def _word_outcomes(protocol: str, told: pd.DataFrame) -> str:
    """What became of commands: accepted, refused with which code, not answered."""
    codes = told.loc[told["outcome"] == "refused", "code"].value_counts()
    counts = told["outcome"].value_counts()
    words = [
        f"{counts[outcome]} {word}"
        for outcome, word in (("answered", "accepted"), ("unanswered", "without an answer"))
        if counts.get(outcome, 0)
    ]
    words += [f"{n} refused with {word_code(protocol, int(code))}" for code, n in codes.items()]
    return listed(words)
