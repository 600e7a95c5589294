"""Who looks around: many ports or hosts tried in vain, however fast or slow, and many protocols
tried at one port; and whom the sensor's own notices call a scanner or a guesser of passwords."""

import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_at, slots_of
from assistant.facts.fact import Proof, Value, by_count, listed, make_fact, plural
from assistant.facts.notices import select_zeeks, word_acts
from assistant.facts.proofs import from_to, ip_field
from assistant.facts.spells import first_and_last
from assistant.facts.traffic_view import TrafficView
from traffic.pcap.protocols import spoken_name
from traffic.plant import is_group

_TARGETS = 20  # who tries more than that looks around
# Protocols that one client tries at one port: a web server may take plain and encrypted calls. Who
# was refused at many other ports as well needs no third.
_TONGUES, _TONGUES_OF_A_KNOCKER = 3, 2
_FAILED_SHARE = 0.5
_ECHO, _FEW_PINGS = (8, 128), 2  # types of ICMP and ICMPv6
_MINUTE = 6  # slots
_ASKED_OF_MANY = (53, 67, 68, 123, 137, 138, 1900, 3702, 5353, 5355)

_SENTENCES = {
    "port_scan": "{source} tries {ports:port} of {target} within {span_s}, starting at {start_time_s}: {refused} "
    "refused, {unanswered} without an answer. That is a port scan.",
    "version_scan": "{source} tries {ports:port} of {target} between {first_time_s} and {last_time_s}, {closed} of "
    "them closed, and sends port {port} {tongues}. That is a scan for what runs there.",
    "version_scan, open": "{source} sends port {port} of {target} {tongues} between {first_time_s} and {last_time_s}. "
    "That is a scan for what runs there.",
    "host_scan": "{source} tries {service} at {hosts:host} within {span_s}, starting at {start_time_s}: {refused} "
    "refused, {unanswered} without an answer. That is a scan for hosts.",
    "arp_scan": "{source} asks by ARP for {hosts:address} within {span_s}, starting at {start_time_s}, of which "
    "{unanswered} have no owner. That is a scan for hosts.",
    "reported": "The sensor's notice.log names {source}: {what}, from {start_time_s} to {end_time_s}.",
    "reported, at": "The sensor's notice.log names {source}, against {targets}: {what}, from {start_time_s} to "
    "{end_time_s}.",
}
# What of a notice's claims is an attack by whoever it names, in the sensor's own scripts.
_REPORTED = {"scan": "recon", "guessing": "brute_force"}


def find_scans(view: TrafficView) -> list[RuleHit]:
    """Ports of one host, or hosts at one port, that somebody tries and mostly does not get."""
    rows = view.flow_slots
    tried = rows[(rows["syns"] > 0) | (rows["proto"] != "tcp")]
    failed = tried[~tried["answered"] | tried["refused"]]
    # Clocks are asked of a pool, names of whoever is near: many and unanswered is ordinary there.
    failed = failed[~((failed["proto"] == "udp") & failed["port"].isin(_ASKED_OF_MANY))]
    failed = failed[failed["proto"] != "icmp"]
    failed = failed[failed["src"].isin(_busy_askers(failed))]
    hits = []
    for (src, dst), mine in failed.groupby(["src", "dst"]):
        if mine["port"].nunique() <= _TARGETS or is_group(str(dst)):
            continue
        if _is_mostly_vain(tried[(tried["src"] == src) & (tried["dst"] == dst)], "port"):
            hits.append(_make_port_scan(view, str(src), str(dst), mine))
    for src, mine in _find_pings(rows).groupby("src"):
        hits.append(_make_host_scan(view, str(src), mine))
    for (src, proto, port), mine in failed.groupby(["src", "proto", "port"]):
        if mine["dst"].nunique() <= _TARGETS:
            continue
        mine = mine[~mine["dst"].map(is_group).astype(bool)]
        same = tried[(tried["src"] == src) & (tried["port"] == port) & (tried["proto"] == proto)]
        if mine["dst"].nunique() > _TARGETS and _is_mostly_vain(same, "dst"):
            hits.append(_make_host_scan(view, str(src), mine))
    return hits


def find_version_scans(view: TrafficView) -> list[RuleHit]:
    """Who speaks one protocol after the other at a port, to see which of them is answered."""
    rows = view.flow_slots
    rows = rows[rows["proto"] == "tcp"]
    ends = ["src", "dst", "port"]
    known = rows["service"].notna() & (rows["service"].astype("str") != "")
    spoken = rows.loc[rows["answered"] & known, [*ends, "service"]]
    wrong = view.exchanges[view.exchanges["outcome"] == "malformed"]
    wrong = wrong.groupby(["client", "server", "port", "protocol"], observed=True).size()
    words: dict[tuple[str, str, int], list[str]] = {}
    for src, dst, port, service in spoken.drop_duplicates().sort_values("service").values:
        words.setdefault((str(src), str(dst), int(port)), []).append(spoken_name(str(service)))
    for (src, dst, port, protocol), n in wrong.items():
        said = f"{n:,} {plural(n, 'message')} that {'is' if n == 1 else 'are'} no {spoken_name(protocol)}"
        words.setdefault((str(src), str(dst), int(port)), []).append(said)
    hits: dict[tuple[str, str], RuleHit] = {}
    for (src, dst, port), tongues in sorted(words.items(), key=lambda one: -len(one[1])):
        least = _TONGUES_OF_A_KNOCKER if (src, dst) in view.knockers else _TONGUES
        if len(tongues) >= least and (src, dst) not in hits:
            mine = rows[(rows["src"] == src) & (rows["dst"] == dst)]
            hits[src, dst] = _make_version_scan(view, mine, port, tongues)
    return list(hits.values())


def _make_version_scan(
    view: TrafficView, rows: pd.DataFrame, port: int, tongues: list[str]
) -> RuleHit:
    source, target = str(rows["src"].iloc[0]), str(rows["dst"].iloc[0])
    closed = rows["refused"].groupby(rows["port"]).all()
    values: dict[str, Value] = {
        "source": view.name_of(source),
        "target": view.name_of(target),
        "ports": len(closed),
        "closed": int(closed.sum()),
        "port": float(port),
        "tongues": listed(tongues),
        "first_time_s": float(rows["since_s"].min()),
        "last_time_s": float(rows["until_s"].max()),
    }
    sentence = _SENTENCES["version_scan" if values["closed"] else "version_scan, open"]
    proof = Proof(f"{from_to(source, target)} && tcp.flags.syn == 1")
    fact = make_fact("version_scan", sentence, values, proof=proof)
    return RuleHit(source, "recon", "source", (fact,), (target,), slots_of(rows))


def _find_pings(rows: pd.DataFrame) -> pd.DataFrame:
    """Echo requests of those who ping many hosts within a minute, each hardly more than once.

    Who watches devices pings the same ones again and again; whether they answer tells nothing.
    """
    pings = rows[(rows["proto"] == "icmp") & rows["sport"].isin(_ECHO)]
    ends = [pings["src"], pings["dst"]]
    pings = pings[pings.groupby(ends)["attempt"].transform("nunique") <= _FEW_PINGS]
    minute = pings["slot"] // _MINUTE
    hosts = pings.groupby([pings["src"], minute])["dst"].transform("nunique")
    return pings[hosts > _TARGETS]


def find_arp_scans(view: TrafficView) -> list[RuleHit]:
    """Who asks for many addresses that nobody has within a minute; a router does so for others."""
    vain = view.evidence_of_kind("arp_unanswered")
    routers = view.routers
    hits = []
    for src, rows in vain.groupby("src"):
        if str(src) in routers:
            continue
        per_minute = rows.groupby(rows["slot"] // _MINUTE)["dst"].nunique()
        if per_minute.max() <= _TARGETS:
            continue
        busy = rows[(rows["slot"] // _MINUTE).isin(per_minute.index[per_minute >= _TARGETS // 2])]
        asked = view.evidence_of_kind("arp_request")
        asked = asked[(asked["src"] == src) & asked["slot"].isin(busy["slot"])]
        first_s, last_s = first_and_last(busy)
        values: dict[str, Value] = {
            "source": view.name_of(str(src)),
            "hosts": asked["dst"].nunique(),
            "unanswered": busy["dst"].nunique(),
            "start_time_s": first_s,
            "end_time_s": last_s,
            "span_s": max(last_s - first_s, 1.0),
        }
        only = f"arp.opcode == 1 && arp.src.proto_ipv4 == {src}"
        fact = make_fact("arp_scan", _SENTENCES["arp_scan"], values, proof=Proof(only))
        peers = tuple(map(str, by_count(busy["dst"])[:20]))
        hits.append(RuleHit(str(src), "recon", "source", (fact,), peers, slots_of(busy)))
    return hits


def find_reported(view: TrafficView) -> list[RuleHit]:
    """Whom Zeek's own notices name as one who scans or guesses passwords, within the capture.

    Who looks for a way through the network (traceroute) scans nothing, and alerts of other detectors
    are theirs.
    """
    rows = select_zeeks(view.notices)
    rows = rows[rows["ts"].between(view.start_s, view.end_s) & rows["src"].notna()]
    hits = []
    for claim, label in _REPORTED.items():
        mine = rows[
            (rows["claim"] == claim) & ~rows["type"].astype("str").str.contains("(?i:trace)")
        ]
        for source, each in mine.groupby("src"):
            hits.append(_make_reported(view, str(source), label, each))
    return hits


def _make_reported(view: TrafficView, source: str, label: str, rows: pd.DataFrame) -> RuleHit:
    targets = tuple(map(str, by_count(rows["dst"].dropna())[:50]))
    acts = word_acts(rows)
    values: dict[str, Value] = {
        "source": view.name_of(source), "what": acts.text, "targets": view.names_of(targets),
        "start_time_s": float(rows["ts"].min()), "end_time_s": float(rows["ts"].max()), **acts.values,
    }  # fmt: skip
    fact = make_fact("reported", _SENTENCES["reported, at" if targets else "reported"], values)
    return RuleHit(source, label, "source", (fact,), targets, slots_at(rows["ts"]))


def _busy_askers(failed: pd.DataFrame) -> set[str]:
    many = failed.drop_duplicates(["src", "dst", "port"]).groupby("src").size()
    return set(many.index[many > _TARGETS])


def _is_mostly_vain(tried: pd.DataFrame, what: str) -> bool:
    good = tried["answered"] & ~tried["refused"]
    return bool(good.groupby(tried[what]).any().mean() <= 1 - _FAILED_SHARE)


def _make_port_scan(view: TrafficView, source: str, target: str, rows: pd.DataFrame) -> RuleHit:
    values = _values(view, source, rows) | {
        "target": view.name_of(target),
        "ports": rows["port"].nunique(),
    }
    proto = str(rows["proto"].mode().iloc[0])
    flag = " && tcp.flags.syn == 1" if proto == "tcp" else f" && {proto}"
    only = f"{from_to(source, target)}{flag}"
    fact = make_fact("port_scan", _SENTENCES["port_scan"], values, proof=Proof(only))
    return RuleHit(source, "recon", "source", (fact,), (target,), slots_of(rows))


def _make_host_scan(view: TrafficView, source: str, rows: pd.DataFrame) -> RuleHit:
    proto, port = str(rows["proto"].iloc[0]), int(rows["port"].iloc[0])
    values = _values(view, source, rows) | {
        "hosts": rows["dst"].nunique(),
        "service": f"{proto.upper()} port {port}" if proto in ("tcp", "udp") else proto.upper(),
        "some": listed(map(str, by_count(rows["dst"]))),
    }
    flag = f"{proto}.dstport == {port}" if proto in ("tcp", "udp") else proto
    only = f"{ip_field(source)}.src == {source} && {flag}"
    fact = make_fact("host_scan", _SENTENCES["host_scan"], values, proof=Proof(only))
    peers = tuple(map(str, by_count(rows["dst"])[:50]))
    return RuleHit(source, "recon", "source", (fact,), peers, slots_of(rows))


def _values(view: TrafficView, source: str, rows: pd.DataFrame) -> dict[str, Value]:
    each = rows.groupby("attempt")["refused"].any()
    first_s, last_s = float(rows["since_s"].min()), float(rows["until_s"].max())
    return {
        "source": view.name_of(source),
        "refused": int(each.sum()),
        "unanswered": int((~each).sum()),
        "start_time_s": first_s,
        "end_time_s": last_s,
        "span_s": max(last_s - first_s, 1.0),
    }
