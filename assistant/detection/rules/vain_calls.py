"""Calls that lead nowhere: to the outside, where nobody ever answers (a service that is gone, a
controller of malware that is, a device that has no way out), and those whose answers do not arrive."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from assistant.detection.rules.outside import ORDINARY, least_late_s
from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.facts.contacts import NAMED_S, first_contact, is_named, leads_elsewhere, leads_inside
from assistant.facts.fact import Proof, Value, make_fact
from assistant.facts.logs_and_readings import Complaint
from assistant.facts.proofs import from_to, ip_field
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.plant import is_group

# Calls, and seconds between the first and the last: few for long, or many for some minutes.
_FEW_CALLS, _FEW_CALLS_S = 12, 600.0
_MANY_CALLS, _MANY_CALLS_S = 30, 180.0
# Fewer tell where nobody looked the endpoint up and no ordinary service has its port, or where who looks
# up what it needs began with it late.
_STRANGE_CALLS, _STRANGE_CALLS_S = 6, 40.0
_LATE_CALLS = 10  # so many would have been made before, at their spacing
_LASTING = 0.5  # of the time between the first and the last call, at their median spacing
_COMPLAINED_CALLS = 5  # nobody is called well whose calls lead nowhere
_KNOWN_S = 600.0
_NOWHERE, _AGAIN = 3, 3  # addresses, and calls at each
_LOST_S, _LOST_PKTS, _LOST_SLOTS = 30.0, 12, 3  # nothing came back for so long, of so much
_DEAF_CALLS, _DEAF_SYNS = 3, 2.0  # attempts, and SYNs in each, though each was answered

_SENTENCES = {
    "calls": "{device} calls {target} again and again and never gets an answer, as with a service that is gone or a "
    "dead controller of malware: {attempts:attempt} between {first_time_s} and {last_time_s}.",
    "calls_refused": "{device} calls {target} again and again and is refused each time, as with a service that is gone "
    "or a dead controller of malware: {attempts:attempt} between {first_time_s} and {last_time_s}.",
    "period": "The calls come every {spacing_s}, and half of them keep to it within {jitter_s}.",
    "asked": "A DNS question was seen in the {before_s} before the first of them.",
    "unasked": "No DNS question was seen in the {before_s} before the first of them.",
    "nameless": "It looks other things up by name, and no name in the {before_s} before the first of these calls; the "
    "port is none of an ordinary service.",
    "names_inside": "What it looked up by name in the {before_s} before the first of them are devices of the plant.",
    "names_elsewhere": "What it looked up by name in the {before_s} before the first of them led it elsewhere.",
    "late": "It made none of these calls in the first {known_s} that it was seen.",
    "cut_off": "{device} reaches nothing outside the plant: {attempts:attempt} at {hosts:address} between "
    "{first_time_s} and {last_time_s}, and none was answered.",
    "way_lost": "{device} reached nothing outside the plant from {first_time_s} to {last_time_s}: {pkts:packet} to "
    "{hosts:address}, and none was answered, though it was answered before and was answered inside the plant "
    "meanwhile.",
    "deaf": "{device} does not get the answers of {server}: {server} answered {attempts:attempt} to connect to its "
    "port {port} between {first_time_s} and {last_time_s}, and each time {device} asked again, {syns:time} in all.",
    "same_reached": "In that time {n:other device} of the plant got answers from the same addresses.",
    "others_reach": "In that time {n:other device} of the plant got answers from outside.",
}


def find_vain_calls(view: TrafficView) -> list[RuleHit]:
    """Devices that keep calling outside endpoints that never answer, or always refuse."""
    hits = []
    for device, calls in _find_in_vain(view):
        if hit := _find_cut_off(view, device, calls):
            hits.append(hit)
            continue
        for (target, port), mine in calls.groupby(["dst", "port"]):
            if hit := _find_endpoint(view, device, str(target), int(port), mine):
                hits.append(hit)
    return hits


def find_lost_ways(view: TrafficView) -> list[RuleHit]:
    """Devices that outside addresses answered, and for a while do not, while the same addresses answer
    others of the plant: their way out is wrong."""
    rows = view.flow_slots
    out = rows[
        rows["src"].isin(view.local) & ~rows["dst"].isin(view.own) & (rows["proto"] == "tcp")
    ]
    out = out[(out["src_pkts"] > 0) & ~out["src"].isin(view.explorers)]
    back = out[out["dst_pkts"] > 0]
    hits = []
    for device, mine in out[out["src"].isin(_find_paused(out))].groupby("src"):
        each = mine.groupby("slot")[["src_pkts", "dst_pkts"]].sum()
        turn = (each["dst_pkts"] > 0).cumsum()
        for before, spell in each[each["dst_pkts"] == 0].groupby(turn):
            first, last = int(spell.index.min()), int(spell.index.max())
            lasts = (last + 1 - first) * SAMPLE_S >= _LOST_S and len(spell) >= _LOST_SLOTS
            if not before or not lasts or spell["src_pkts"].sum() < _LOST_PKTS:
                continue
            lost = mine[mine["slot"].between(first, last)]
            others = back[back["slot"].between(first, last) & (back["src"] != device)]
            others = others[others["dst"].isin(lost["dst"])]
            inside = rows[rows["slot"].between(first + 1, last) & (rows["src"] == device)]
            inside = inside[inside["dst"].isin(view.local) & (inside["dst_pkts"] > 0)]
            if others.empty or inside.empty:
                continue
            hits.append(_make_lost_way(view, str(device), lost, others))
    return hits


def _find_paused(out: pd.DataFrame) -> pd.Index:
    """Who got something in some slots and, of what it sent, nothing in as many as a way that is lost
    takes: of a plant's hundreds a table is made of these alone."""
    got = out.groupby(["src", "slot"])["dst_pkts"].sum() > 0
    each = got.groupby(level=0).agg(["size", "sum"])
    return each.index[(each["sum"] > 0) & (each["size"] - each["sum"] >= _LOST_SLOTS)]


def _make_lost_way(
    view: TrafficView, device: str, lost: pd.DataFrame, others: pd.DataFrame
) -> RuleHit:
    peers = tuple(sorted(map(str, lost["dst"].unique())))
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "pkts": int(lost["src_pkts"].sum()),
        "hosts": len(peers),
        "first_time_s": float(lost["since_s"].min()),
        "last_time_s": float(lost["until_s"].max()),
        "n": others["src"].nunique(),
    }
    field = ip_field(device)
    proof = Proof(f"{field}.src == {device} && {field}.dst in {{{', '.join(peers)}}} && tcp")
    kinds = ("way_lost", "same_reached")
    facts = tuple(make_fact(one, _SENTENCES[one], values, proof=proof) for one in kinds)
    return RuleHit(device, "misconfiguration", "source", facts, peers, slots_of(lost))


def find_deaf_clients(view: TrafficView) -> list[RuleHit]:
    """Devices that ask again for a connection that was answered: the way back to them is broken, by a
    wrong address, mask or gateway, or by a firewall."""
    rows = view.flow_slots
    rows = rows[(rows["proto"] == "tcp") & rows["answered"] & ~rows["refused"]]
    history = rows["history"].astype("str")
    # Nothing but SYNs and their answers: who got one says so, and who scans ends it by a reset.
    rows = rows[history.str.startswith("S") & ~history.str.contains("[AaDdFfRr]")]
    rows = rows[rows["src"].isin(view.own | view.local)]
    hits = []
    for (device, server, port), mine in rows.groupby(["src", "dst", "port"]):
        syns, begun = int(mine["syns"].sum()), _begins(mine)
        if len(begun) < _DEAF_CALLS or syns < _DEAF_SYNS * len(begun):
            continue
        values: dict[str, Value] = {
            "device": view.name_of(str(device)),
            "server": view.name_of(str(server)),
            "port": str(port),
            "attempts": len(begun),
            "syns": syns,
            "first_time_s": float(begun[0]),
            "last_time_s": float(mine["until_s"].max()),
        }
        only = f"{from_to(str(device), str(server))} && tcp.dstport == {port} && tcp.flags.syn == 1"
        fact = make_fact("deaf", _SENTENCES["deaf"], values, proof=Proof(only))
        ends = (str(device), "misconfiguration", "source", (fact,), (str(server),))
        hits.append(RuleHit(*ends, slots_of(mine)))
    return hits


def find_unanswered_calls(view: TrafficView, device: str) -> Complaint | None:
    """Calls of one TCP endpoint that never accepted any, too few to raise an incident; None where
    there are none."""
    rows = view.flows_of(device)
    rows = rows[rows["out"] & (rows["proto"] == "tcp")]
    good = rows["answered"] & ~rows["refused"]
    tried = rows.assign(good=good)[(rows["syns"] > 0) | good]
    each = tried.groupby(["other", "port"]).agg(
        good=("good", "any"), calls=("attempt", "nunique"), first_s=("since_s", "min"), last_s=("until_s", "max"),
    )  # fmt: skip
    vain = each[~each["good"].astype(bool) & (each["calls"] >= _COMPLAINED_CALLS)]
    if vain.empty:
        return None
    target, port = vain["calls"].idxmax()
    most = vain.loc[(target, port)]
    values: dict[str, Value] = {
        "target": view.port_at(str(target), int(port)),
        "calls": int(most["calls"]),
        "start_time_s": float(most["first_s"]),
        "end_time_s": float(most["last_s"]),
    }
    return Complaint("vain", values)


def _find_in_vain(view: TrafficView) -> Iterator[tuple[str, pd.DataFrame]]:
    """For each device, what it opened to outside endpoints of which none ever accepted.

    A lone FIN or RST is the end of something else, and no call.
    """
    rows = view.flow_slots
    rows = rows[rows["src"].isin(view.local) & ~rows["dst"].isin(view.local)]
    rows = rows[(rows["proto"] == "tcp") & ~rows["src"].isin(view.explorers)]
    good = rows["answered"] & ~rows["refused"]
    ends = [rows["src"], rows["dst"], rows["port"]]
    calls = rows[~good.groupby(ends).transform("any") & (rows["syns"] > 0)]
    groups = [target for target in calls["dst"].unique() if is_group(target)]
    for device, mine in calls[~calls["dst"].isin(groups)].groupby("src"):
        if mine["attempt"].nunique() >= _STRANGE_CALLS:
            yield str(device), mine


def _find_endpoint(
    view: TrafficView, device: str, target: str, port: int, calls: pd.DataFrame
) -> RuleHit | None:
    """A hit at a device that keeps calling one endpoint; None where it does so too seldom."""
    begun = _begins(calls)
    if len(begun) < _STRANGE_CALLS:
        return None
    met = first_contact(view, device, target, (port,), float(begun[0]))
    led_inside = met.named_just and leads_inside(view, device, float(begun[0]))
    led_away = met.named_just and leads_elsewhere(view, device, target, float(begun[0]))
    named = met.named_just and not (led_inside or led_away)
    spacing = np.diff(begun)
    middle = float(np.median(spacing))
    looks_up = is_named(view, device, view.end_s)
    late = looks_up and met.known_s >= least_late_s(middle, _LATE_CALLS)
    strange = not named and (port not in ORDINARY or late)
    if not ((strange and float(np.ptp(begun)) >= _STRANGE_CALLS_S) or _is_lasting(begun)):
        return None
    if middle * len(spacing) < _LASTING * (begun[-1] - begun[0]):
        return None  # a burst or two, not again and again
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "target": view.port_at(target, port),
        "controller": view.port_at(target, port),
        "attempts": len(begun),
        "sessions": 0,
        "first_time_s": float(begun[0]),
        "last_time_s": float(begun[-1]),
        "spacing_s": middle,
        "jitter_s": float(np.median(np.abs(spacing - middle))),
        "before_s": NAMED_S,
        "known_s": met.known_s,
    }
    nameless = not met.named_just and port not in ORDINARY and looks_up
    kinds = ["calls_refused" if calls["refused"].any() else "calls", "period"]
    kinds.append("asked" if named else _word_names(nameless, led_inside, led_away))
    kinds += ["late"] if late or met.known_s >= _KNOWN_S else []
    proof = Proof(f"{from_to(device, target)} && tcp.dstport == {port} && tcp.flags.syn == 1")
    facts = tuple(make_fact(one, _SENTENCES[one], values, proof=proof) for one in kinds)
    return RuleHit(device, "c2", "source", facts, (target,), slots_of(calls))


def _word_names(nameless: bool, inside: bool, away: bool) -> str:
    """The kind of fact of calls to which no name led."""
    led = "names_inside" if inside else "names_elsewhere" if away else "unasked"
    return "nameless" if nameless else led


def _find_cut_off(view: TrafficView, device: str, calls: pd.DataFrame) -> RuleHit | None:
    """A hit at a device that calls ordinary services at several addresses and reaches none, while
    others reach the outside; None where it is another."""
    each = calls.groupby("dst")["attempt"].nunique()
    calls = calls[calls["dst"].isin(each.index[each >= _AGAIN])]
    begun, hosts = _begins(calls), calls["dst"].nunique()
    if hosts < _NOWHERE or not _is_lasting(begun) or not calls["port"].isin(ORDINARY).all():
        return None
    rows = view.flow_slots
    outside = rows[rows["answered"] & rows["src"].isin(view.local) & ~rows["dst"].isin(view.local)]
    others = set(outside.loc[outside["slot"].isin(slots_of(calls)), "src"]) - {device}
    if (outside["src"] == device).any() or not others:
        return None
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "attempts": len(begun),
        "hosts": hosts,
        "first_time_s": float(begun[0]),
        "last_time_s": float(begun[-1]),
        "n": len(others),
    }
    peers = tuple(sorted(map(str, calls["dst"].unique())))
    field = ip_field(device)
    proof = Proof(
        f"{field}.src == {device} && {field}.dst in {{{', '.join(peers)}}} && tcp.flags.syn == 1"
    )
    facts = tuple(
        make_fact(one, _SENTENCES[one], values, proof=proof) for one in ("cut_off", "others_reach")
    )
    return RuleHit(device, "misconfiguration", "source", facts, peers, slots_of(calls))


def _begins(calls: pd.DataFrame) -> np.ndarray:
    """When each call began, sorted, seconds."""
    return np.sort(calls.groupby("attempt")["since_s"].min().to_numpy())


def _is_lasting(begun: np.ndarray) -> bool:
    bounds = ((_FEW_CALLS, _FEW_CALLS_S), (_MANY_CALLS, _MANY_CALLS_S))
    return any(len(begun) >= n and float(np.ptp(begun)) >= s for n, s in bounds)
