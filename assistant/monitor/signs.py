"""First signs: what the newest seconds show that no rule proves yet.

A rule waits until what it saw can be no accident: five failures, three windows, a minute. An operator
wants to look sooner. A sign needs two things at once: a past in which this never happened, and the last
seconds in which nothing else did. It is told as a notification and makes way for the incident that
bears it out; what nothing bears out is withdrawn. One that is hard to explain away, and that a later
look sees again with more of it, is an alarm of what is likely (`assistant.monitor.alarms`).

    a a a a a a a a a a f f      a: answered, f: failed        the past decides, not the number of f
    s s s s s s s s s s .        s: sent at least so much in each slot of ten minutes
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from assistant.facts.fact import by_count
from assistant.facts.traffic_view import TrafficView
from assistant.monitor.newest import LEAST_PAST_S, Newest, Sign
from assistant.monitor.refusals import REFUSED, Refusals, read_refusals
from assistant.monitor.silences import find_quiet_devices
from assistant.monitor.strangers import (
    find_calls_out,
    find_logins,
    find_lookers,
    find_sweepers,
    find_uploads,
    find_writers,
)
from traffic.capture import SAMPLE_S

_FAILED, _FAILED_S = 2, 3.0  # attempts; and seconds where nothing refused them
_HEADERS_BYTES = 60  # of IP and TCP, in a packet that carries nothing
_RESENT, _RESENT_SHARE, _RESENT_TIMES, _RESENT_OF = 4, 0.03, 10.0, 20
_LOSS_PAST_S, _LOSS_PAST_PKTS = 30.0, 200.0  # of a pair, before hardly anything was sent again
# What is hard to explain away. A service that restarts refuses for a moment and is mute for longer;
# silence and single claims have many harmless causes.
_HARD_FAILED, _HARD_FAILED_S = 4, 5.0
_ANSWERS = 2  # times what is sent again in the open slot
_HARD_RESENT, _HARD_LOGINS_REFUSED = 8, 2
_STANDS_S = 5.0  # a refused login of who reported until then, and reports no more


def find_signs(view: TrafficView, now_s: float) -> list[Sign]:
    """What the newest seconds show for the first time.

    Args:
        view: of the recent past.
        now_s: until when it was seen.
    """
    past_s = now_s - view.start_s
    seen = Newest(view, now_s)
    return [sign for least_s, find in _FINDERS if past_s >= least_s for sign in find(seen)]


def _find_failing_services(seen: Newest) -> Iterator[Sign]:
    """Ports and resolvers of the plant that answered, and since then failed every attempt."""
    view = seen.view
    rows = view.flow_slots
    tcp = (rows["proto"] == "tcp") & np.where(
        rows["answered"], rows["dst_pkts"] > 0, rows["syns"] > 0
    )
    dns = (rows["proto"] == "udp") & (rows["port"] == 53)
    tried = rows[(tcp | dns) & rows["dst"].isin(view.own) & ~rows["src"].isin(view.explorers)]
    failing = seen.recent(tried[~tried["answered"]])
    for (server, port), _ in failing.groupby(["dst", "port"]):
        mine = tried[(tried["dst"] == server) & (tried["port"] == port)]
        good = mine.loc[mine["answered"] & ~_is_cut_off(mine)]
        if good.empty:
            continue
        vain = mine[~mine["answered"] & (mine["since_s"] > good["since_s"].max())]
        # An unanswered question may have its answer on the way.
        vain = vain[vain["refused"] | (vain["since_s"] <= seen.now_s - 1.0)]
        if vain["attempt"].nunique() < _FAILED or vain["since_s"].max() < seen.since_s:
            continue
        first_s = float(vain["since_s"].min())
        if not vain["refused"].any() and seen.now_s - first_s < _FAILED_S:
            continue
        clients = by_count(vain["src"].astype(str))
        label = "name_resolution" if port == 53 else "service_down"
        failed, last_s = vain["attempt"].nunique(), float(vain["since_s"].max())
        long = vain["refused"].all() and last_s - first_s >= _HARD_FAILED_S
        sign = seen.sign(
            "fails", label, str(server), clients, first_s,
            service=view.port_at(str(server), int(port)), failed=failed,
            clients=view.names_of(clients),
        )  # fmt: skip
        yield replace(sign, count=failed, hard=bool(long and failed >= _HARD_FAILED))


def _is_cut_off(rows: pd.DataFrame) -> pd.Series:
    """Where a session's reset is all that is left: the machine sends it, though its service is gone."""
    reset = rows["state"].astype(str).str.startswith("RST") & (rows["syns"] == 0)
    return reset & (rows["dst_bytes"] <= _HEADERS_BYTES * rows["dst_pkts"])


def _find_refusals(seen: Newest) -> Iterator[Sign]:
    """Requests that were answered and are refused since, and logins that are refused in a row; one
    sign of all whom a server refuses."""
    groups: dict[tuple[str, str], list[Refusals]] = {}
    for one in read_refusals(seen.view, seen.since_s):
        groups.setdefault((one.kind, one.server), []).append(one)
    for (kind, server), found in groups.items():
        found.sort(key=lambda one: one.since_s)
        clients, count = [one.client for one in found], sum(one.count for one in found)
        sign = seen.sign(
            kind, "misconfiguration", clients[0], (server,), found[0].since_s,
            client=seen.view.names_of(clients), server=seen.view.name_of(server), refused=count,
            code=found[0].code,
        )  # fmt: skip
        least = _HARD_LOGINS_REFUSED if kind == "logins_refused" else REFUSED
        # Who reported until a refusal and is mute since has no other way in.
        waited = seen.now_s - found[0].since_s >= _STANDS_S
        stands = kind == "logins_refused" and waited and all(one.shut_out for one in found)
        hard = count >= least or stands
        yield replace(sign, related=tuple(clients[1:]), count=count, hard=hard, stands=stands)


def _find_losses(seen: Newest) -> Iterator[Sign]:
    """Devices that have to send again, or to be sent again, what hardly ever was before; one sign of
    all pairs that a device is part of."""
    view = seen.view
    heard = view.own & view.heard
    resent = view.evidence_of_kind("retransmission")
    resent = resent[resent["src"].isin(heard) & resent["dst"].isin(heard)]
    counts = {}
    for one, other in seen.recent(resent)[["src", "dst"]].itertuples(index=False):
        pair = (min(one, other), max(one, other))
        if pair not in counts:
            counts[pair] = _count_resent(seen, resent, *pair)
    lossy = {pair: found for pair, found in counts.items() if found is not None}
    while lossy:
        device = by_count(pd.Series([end for pair in lossy for end in pair]))[0]
        mine = [pair for pair in lossy if device in pair]
        peers = [one if other == device else other for one, other in mine]
        found = [lossy.pop(pair) for pair in mine]
        count = sum(one.resent for one in found)
        answered = all(one.answered for one in found)
        sign = seen.sign(
            "resent", "packet_loss", device, peers, seen.since_s,
            device=view.name_of(device), peers=view.names_of(peers),
            resent=count, pkts=sum(one.pkts for one in found),
        )  # fmt: skip
        yield replace(sign, count=count, hard=count >= _HARD_RESENT and answered)


@dataclass(frozen=True)
class _Resent:
    """Packets of a pair that were sent again lately, and all of them; whether both ends go on
    talking: what nobody answers is sent again too."""

    resent: int
    pkts: int
    answered: bool


def _count_resent(seen: Newest, resent: pd.DataFrame, one: str, other: str) -> _Resent | None:
    """What a pair sent again; None where it is little, or no more than usual, or where one of both
    is silent."""
    mine = resent[resent["src"].isin([one, other]) & resent["dst"].isin([one, other])]
    flows = seen.view.flows_of(one)
    flows = flows[flows["other"] == other]
    flows = flows.assign(pkts=flows["src_pkts"] + flows["dst_pkts"])
    past, lost = flows["slot"] < seen.first_slot, mine["slot"] < seen.first_slot
    before = float(mine.loc[lost, "count"].sum()) / max(float(flows.loc[past, "pkts"].sum()), 1.0)
    usual = max(_RESENT_SHARE, _RESENT_TIMES * before)
    new, now = flows[~past], flows[flows["slot"] == seen.open_slot]
    count, total = int(mine.loc[~lost, "count"].sum()), int(new["pkts"].sum())
    again = int(mine.loc[mine["slot"] == seen.open_slot, "count"].sum())
    # A loss that began just now is thinned by the slot before.
    sudden = now["pkts"].sum() >= _RESENT_OF and again >= max(_RESENT, usual * now["pkts"].sum())
    much = sudden or count >= max(_RESENT, usual * total)
    if seen.now_s - seen.view.start_s < LEAST_PAST_S:
        much = much and flows.loc[past, "pkts"].sum() >= _LOSS_PAST_PKTS
    if not much or new[["src_pkts", "dst_pkts"]].sum().min() == 0:
        return None
    answers = now[["src_pkts", "dst_pkts"]].sum().min()
    return _Resent(count, max(total, count), again > 0 and bool(answers >= _ANSWERS * again))


def _find_claims(seen: Newest) -> Iterator[Sign]:
    """Addresses that a second machine claims for the first time."""
    view = seen.view
    rows = view.evidence_of_kind("arp_conflict")
    for device, mine in rows.groupby("dst"):
        since_s = float(mine["slot"].min()) * SAMPLE_S
        if since_s >= seen.since_s:
            claimant = str(mine["src"].iloc[0])
            peers = () if claimant == device else (claimant,)
            sign = seen.sign(
                "claims", "spoofing", str(device), peers, since_s, device=view.name_of(str(device))
            )
            yield replace(sign, role="target")


# What each needs to have seen before anything is new: a pair's packets and a burst of writes are held
# against little.
_FINDERS = (
    (LEAST_PAST_S, _find_claims),
    (LEAST_PAST_S, _find_failing_services),
    (LEAST_PAST_S, find_quiet_devices),
    (LEAST_PAST_S, _find_refusals),
    (_LOSS_PAST_S, _find_losses),
    (_LOSS_PAST_S, find_writers),
    (LEAST_PAST_S, find_lookers),
    (LEAST_PAST_S, find_sweepers),
    (LEAST_PAST_S, find_logins),
    (LEAST_PAST_S, find_calls_out),
    (LEAST_PAST_S, find_uploads),
)
