"""Devices that ask for an address by DHCP again and again, and get none.

    discover   d  d   d     d        d       d: nobody offers; who has an offer requests it next
    served     o   of others: a server is there, and leaves this one out, or left it at some time

What a server broadcasts may take a way that the sensor does not see; that a client begins anew shows
that nothing came (RFC 2131, 4.1).
"""

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_at
from assistant.facts.fact import Fact, Proof, Value, listed, make_fact
from assistant.facts.proofs import pick_frames
from assistant.facts.traffic_view import TrafficView
from traffic.pcap.protocols.dhcp import DISCOVER
from traffic.plant import is_group

_MIN_VAIN, _MIN_VAIN_S = 4, 20.0
_AT_ONCE_S = 0.5  # nobody asks twice so soon: the same question, seen at two places
_MOST_NAMED = 4
_GRANTED = ("answered", "unasked")  # of a server; a refusal has a code

_SENTENCES = {
    "no_lease": "{clients} asks for an address by DHCP again and again, and gets no offer: {n:question} between "
    "{since_time_s} and {until_time_s}.",
    "no_leases": "{clients} ask for an address by DHCP again and again, and get no offer: {n:question} between "
    "{since_time_s} and {until_time_s}.",
    "lease_server": "{server} no longer gives addresses by DHCP: its last answer came at {last_time_s}, and {clients} "
    "asked in vain {n:time} between {since_time_s} and {until_time_s}.",
    "asked_in_vain": "{client} asked {n:time} between {since_time_s} and {until_time_s}.",
    "no_dhcp": "No DHCP server answered anybody in this capture.",
    "dhcp_serves": "Meanwhile {server} gave others an address: {others}.",
    "had_lease": "Before that, {server} had answered it, at last at {last_time_s}.",
}


def find_vain_discovers(view: TrafficView) -> list[RuleHit]:
    """Clients of DHCP that get no address: by a server that fell silent, by one that leaves them out, or
    because none is there."""
    asked = view.exchanges
    asked = asked[(asked["protocol"] == "dhcp") & asked["name"].notna()]
    granted = asked[asked["outcome"].isin(_GRANTED) & (asked["code"] <= 0)]
    granted = granted[~granted["server"].astype("str").map(is_group).astype(bool)]
    vain = list[pd.DataFrame]()
    for mac, rows in asked[asked["function"] == DISCOVER].groupby("name", observed=True):
        # What a relay passes on is the same question once more.
        own = rows[rows["client"].astype("str") == str(mac)]
        rows = _since_last(own if len(own) else rows, granted[granted["name"] == mac])
        if len(rows) >= _MIN_VAIN and np.ptp(rows["ts"]) >= _MIN_VAIN_S:
            vain.append(rows)
    if not vain:
        return []
    rows = pd.concat(vain).sort_values("ts")
    meanwhile = granted[granted["ts"] >= rows["ts"].min()]
    if granted.empty or len(meanwhile):
        served = _tell_served(view, meanwhile) if len(meanwhile) else _say("no_dhcp", {})
        return [_make_hit(view, rows, served, granted)]
    return [_make_server_hit(view, rows, granted)]


def _since_last(rows: pd.DataFrame, granted: pd.DataFrame) -> pd.DataFrame:
    """The questions of a client in vain, since it was granted something for the last time."""
    rows = rows[rows["outcome"] == "unanswered"]
    rows = rows[rows["ts"].diff().fillna(np.inf) > _AT_ONCE_S]
    return rows if granted.empty else rows[rows["ts"] > granted["ts"].max()]


def _make_hit(
    view: TrafficView, rows: pd.DataFrame, served: Fact, granted: pd.DataFrame
) -> RuleHit:
    macs = list(rows["name"].astype("str").value_counts().index)
    kind = "no_lease" if len(macs) == 1 else "no_leases"
    fact = _say(kind, _describe(view, rows, macs), rows)
    facts = [fact, served]
    before = granted[granted["name"].astype("str").isin(macs)]
    if len(before) and len(macs) == 1:
        values: dict[str, Value] = {
            "server": view.name_of(str(before["server"].iloc[-1])),
            "last_time_s": float(before["ts"].max()),
        }
        facts.append(_say("had_lease", values))
    for mac in macs[:_MOST_NAMED] if len(macs) > 1 else ():
        mine = rows[rows["name"] == mac]
        values = _describe(view, mine, [mac])
        values["client"] = values.pop("clients")
        facts.append(_say("asked_in_vain", values, mine))
    known = [one for mac in macs for one in view.hosts_at(mac)]
    peers = tuple(dict.fromkeys((*macs[1:], *known)))
    return RuleHit(macs[0], "misconfiguration", "source", tuple(facts), peers, slots_at(rows["ts"]))


def _make_server_hit(view: TrafficView, rows: pd.DataFrame, granted: pd.DataFrame) -> RuleHit:
    macs = list(rows["name"].astype("str").value_counts().index)
    server = str(granted.sort_values("ts")["server"].iloc[-1])
    values = _describe(view, rows, macs) | {
        "server": view.name_of(server),
        "last_time_s": float(granted["ts"].max()),
    }
    fact = _say("lease_server", values, rows)
    return RuleHit(server, "service_down", "source", (fact,), tuple(macs), slots_at(rows["ts"]))


def _describe(view: TrafficView, rows: pd.DataFrame, macs: list[str]) -> dict[str, Value]:
    return {
        "clients": listed([_name_client(view, mac) for mac in macs], _MOST_NAMED),
        "n": len(rows),
        "since_time_s": float(rows["ts"].min()),
        "until_time_s": float(rows["ts"].max()),
    }


def _name_client(view: TrafficView, mac: str) -> str:
    """A client by its hardware address and what it calls itself by DHCP, LLDP or PROFINET."""
    told = view.identities
    mine = told["device"].isin([mac, *view.hosts_at(mac)]) & (told["field"] == "name")
    name = str(told.loc[mine, "value"].iloc[0]) if mine.any() else ""
    return f"{view.name_of(mac)} (“{name}”)" if name else view.name_of(mac)


def _tell_served(view: TrafficView, granted: pd.DataFrame) -> Fact:
    values: dict[str, Value] = {
        "server": view.names_of(granted["server"].astype("str").unique()),
        "others": view.names_of(granted["name"].astype("str").unique()),
    }
    return _say("dhcp_serves", values)


def _say(kind: str, values: dict[str, Value], rows: pd.DataFrame | None = None) -> Fact:
    proof = None
    if rows is not None:
        senders = " || ".join(f"eth.src == {mac}" for mac in rows["name"].astype("str").unique())
        frames = pick_frames(rows["frame"])
        proof = Proof(f"({senders}) && dhcp.option.dhcp == {DISCOVER}", frames)
    return make_fact(kind, _SENTENCES[kind], values, proof=proof)
