"""Attacks that packets alone prove: an address with two owners, a flood that nothing answers, a
sweep of registers, a new writer.

A writer is new against ten minutes of what came before, or not allowed by plant.yaml. Without
either nothing is judged: who writes when a recording begins may always have done so.
"""

import numpy as np
import pandas as pd

from assistant.detection.rules.proofs import from_to
from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.facts.attacks import MODBUS_REQUESTS
from assistant.facts.fact import Proof, Value, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.plant import is_group

_MIN_CLAIMS = 3
_SWEPT_REGISTERS = 50  # different ones in a sample
_SWEPT_REFUSED_SHARE = 0.5  # exceptions among the answers
# In one sample to one port, nothing coming back: a stream may go one way over UDP (video, syslog),
# never so fast.
_FLOOD_PKTS = {"tcp": 1_000, "udp": 20_000}

_BASELINE_S = 600.0

_SENTENCES = {
    "duplicate": "{address} is claimed by {machines:machine} at the same time ({claims:claim} seen).",
    "one_way": "{source} sent {target} at least {peak_pkts:packet} in {sample_s}, and nothing came back.",
    "sweep": "{client} asked {server} over Modbus for up to {registers:different register address} in {sample_s}, and "
    "{refused_share} of its {requests:request} got an exception: it sweeps.",
    "new_writer": "{client} is new as a writer to {server}: its first of {writes:write command} came at "
    "{since_time_s}, after {baseline_s} in which it never wrote there.",
    "forbidden_writer": "{client} writes to {server} and is not among the writers that plant.yaml allows: "
    "{writes:write command} since {since_time_s}.",
    "new_control": "{client} sent {server} {writes:command} that changes how it runs (start, stop, restart or "
    "download) since {since_time_s}, after {baseline_s} without any.",
}


def find_doubled_addresses(view: TrafficView) -> list[RuleHit]:
    """Addresses that two machines claim by turns; the address is the target, the liar may have any
    other."""
    found = []
    for address, rows in view.evidence_of_kind("arp_conflict").groupby("dst"):
        # One change of hardware is a replaced device or a failover; a claim that comes back is two
        # machines.
        if rows["count"].sum() < _MIN_CLAIMS and rows["slot"].nunique() < 2:
            continue
        values: dict[str, Value] = {
            "address": view.name_of(str(address)),
            "machines": int(rows["distinct"].max()),
            "claims": int(rows["count"].sum()),
        }
        fact = make_fact("duplicate", _SENTENCES["duplicate"], values)
        found.append(RuleHit(str(address), "spoofing", "target", (fact,), (), slots_of(rows)))
    return found


def find_one_way_floods(view: TrafficView) -> list[RuleHit]:
    """Floods of one port by one address, to which nothing ever came back."""
    ends = ["src", "dst", "port", "proto"]
    rows = view.flow_slots
    rows = rows[~rows["answered"] & rows["proto"].isin(list(_FLOOD_PKTS))]
    busy = rows["src_pkts"].clip(lower=1).groupby(rows["slot"]).sum()
    rows = rows[rows["slot"].isin(busy.index[busy >= min(_FLOOD_PKTS.values())])]
    by_end = [rows[name] for name in (*ends, "slot")]
    pkts = rows["src_pkts"].clip(lower=1).groupby(by_end).sum().reset_index()
    peaks = pkts[pkts["src_pkts"] >= pkts["proto"].map(_FLOOD_PKTS).astype(float)]
    found = []
    for (src, dst, port, _), peak in peaks.groupby(ends):
        source, target = str(src), str(dst)
        if is_group(target):
            continue
        values: dict[str, Value] = {
            "source": view.name_of(source),
            "target": view.port_at(target, int(port)),
            "peak_pkts": int(peak["src_pkts"].max()),
            "sample_s": SAMPLE_S,
        }
        fact = make_fact("one_way", _SENTENCES["one_way"], values)
        rows = view.flow_slots
        same = rows[(rows["src"] == source) & (rows["dst"] == target) & (rows["port"] == port)]
        slots = slots_of(_beside(same, peak))
        # A plant's device that floods somebody outside takes part in what others do too.
        label = "dos" if target in view.local else "ddos"
        if source in view.local:
            found.append(RuleHit(source, label, "source", (fact,), (target,), slots))
        else:
            found.append(RuleHit(target, label, "target", (fact,), (source,), slots))
    return found


def find_register_sweeps(view: TrafficView) -> list[RuleHit]:
    """Modbus clients that walk through a server's addresses and are refused most of them."""
    asked = view.evidence_of_kind(*MODBUS_REQUESTS)
    refused = view.evidence_of_kind("modbus_exception")
    wide = asked[asked["distinct"] >= _SWEPT_REGISTERS]
    found = []
    for (client, server), peaks in wide.groupby(["src", "dst"]):
        rows = asked[(asked["src"] == client) & (asked["dst"] == server)]
        rows = _beside(rows, peaks)
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


def _beside(rows: pd.DataFrame, peaks: pd.DataFrame) -> pd.DataFrame:
    """Rows in the slots of peaks and next to them: what peaks begins and ends inside a slot."""
    near = np.unique(peaks["slot"].to_numpy()[:, None] + np.arange(-1, 2))
    return rows[np.isin(rows["slot"], near)]


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
        proof = Proof(from_to(client, server), row.frames)
        fact = make_fact(kind, _SENTENCES[kind], values, proof=proof)
        slots = slots_of(view.write_slots(client, server))
        hits.append(RuleHit(client, "unauthorized_command", "source", (fact,), (server,), slots))
    return hits
