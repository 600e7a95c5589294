"""Devices that fall silent and are asked for in vain: one that lost its power, or several at one
moment, whose switch or cable did.

    sensor-1   x x x x x x x . . . . . . . x x      x: a slot in which it sent anything
    plc-4      x x x x x x x . . . . . . x x x      silent together: nothing of their own failed
    hmi-1      x x x x x x x x x x x x x x x x      the sensor saw: others went on
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from assistant.detection.rules.outages import spoken_slots
from assistant.detection.rules.rhythms import find_stopped_senders
from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.detection.rules.vain_calls import find_deaf_clients
from assistant.facts.fact import Value, by_count, kind_of, make_fact
from assistant.facts.moves import Move, find_moves, say_move
from assistant.facts.spells import quiet_spell
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S

_MIN_EMPTY = 3  # whole slots without a packet; where nobody tells its hardware address, one
_MIN_RHYTHM, _MIN_BEFORE = 0.9, 12  # share of the slots before, and how many these are
# So many at one moment bear each other out: a minute's rhythm and a pause of one slot are enough.
_MANY, _MIN_BEFORE_MANY = 3, 6
_MUCH_LONGER = 3.0  # times its longest pause before
_APART_SLOTS = 1  # devices of one switch were last heard that close to each other
_MIN_ASKED = 3  # packets in vain
_NO_WAY = (0, 1)  # to that network, to that host (RFC 792)
_MOST_NAMED = 8
_HARMS = ("silent", "deaf", "stopped")  # several that are silent together share another cause
_SOUGHT = ["device", "asker", "slot", "pkts"]
_SEEING = 0.5  # share of regular devices that go on: where more are silent, the sensor is deaf

_SENTENCES = {
    "silent": "{silent} fell silent at {heard_time_s}, for {quiet_s}: {asked:packet} to it stayed without a reply.",
    "silent, over": "{silent} fell silent at {heard_time_s} and was heard again at {back_time_s}, after {quiet_s}: "
    "{asked:packet} to it stayed without a reply.",
    "silent_together": "{silent} fell silent together at {heard_time_s}: {asked:packet} to them stayed without a "
    "reply.",
    "silent_together, over": "{silent} fell silent together at {heard_time_s} and were heard again from {back_time_s} "
    "on: {asked:packet} to them stayed without a reply.",
    "silent, short": "{silent} sent nothing for {quiet_s} or longer from {heard_time_s} on, and then it was heard "
    "again: {asked:packet} to it stayed without a reply, requests for its hardware address among them.",
    "silent_together, short": "{silent} sent nothing for {quiet_s} or longer from {heard_time_s} on, all at once, and "
    "then they were heard again: {asked:packet} to them stayed without a reply, requests for a hardware address "
    "among them.",
    "unanswerable": "Answers to {address} did not arrive: {router} told {peers} {told:time} meanwhile that there is no "
    "way to where they sent.",
    "shared_path": "That {members:device} stop within {within_s} of each other points to what they share, a switch, a "
    "cable or a supply, and not to a fault of each.",
}


def find_silences(view: TrafficView) -> list[RuleHit]:
    """Devices that sent something all the time, then nothing, while somebody asked for them."""
    pauses = _find_pauses(view)
    if pauses.empty:
        return []
    pauses = pauses.sort_values("last", kind="stable", ignore_index=True)
    moments = (pauses["last"].diff() > _APART_SLOTS).cumsum()
    hits = []
    for _, rows in pauses.groupby(moments):
        many = len(rows) >= _MANY
        hits += _blame(view, rows if many else rows[rows["before"] >= _MIN_BEFORE])
    return hits


def find_moved_devices(view: TrafficView) -> list[RuleHit]:
    """Devices that speak by another address and miss something for it: somebody asks for them by
    their own in vain, no answer reaches them, or they say no more of what they always said."""
    moves = list(find_moves(view, view.own | view.local))
    finds = (find_silences, find_deaf_clients, find_stopped_senders) if moves else ()
    harms = [hit for find in finds for hit in find(view)]
    hits = []
    for move in moves:
        ends = (move.owner, move.address)
        mine = [one for one in harms if one.device in ends and kind_of(one.fact) in _HARMS]
        mine += _find_lost_answers(view, move)
        if not mine:
            continue
        facts = (say_move(view, move), *(fact for one in mine for fact in one.facts))
        peers = dict.fromkeys(peer for one in mine for peer in (*one.peers, one.device))
        others = (move.address, *(one for one in peers if one not in ends))
        slots = np.unique(np.concatenate([one.slots for one in mine]))
        hits.append(RuleHit(move.owner, "misconfiguration", "source", facts, others, slots))
    return hits


def _find_lost_answers(view: TrafficView, move: Move) -> Iterator[RuleHit]:
    """Hits at a device that moved, where a router told those who answered it that its new address is
    nowhere."""
    met = view.flows_of(move.address)["other"].unique()
    told = view.evidence_of_kind("unreachable")
    told = told[told["dst"].isin(met) & told["code"].isin(_NO_WAY)]
    first, last = (int(at // SAMPLE_S) for at in (move.since_s, move.until_s))
    told = told[told["slot"].between(first, last)]
    if told["count"].sum() < _MIN_ASKED:
        return
    peers = by_count(told["dst"].astype(str))
    values: dict[str, Value] = {
        "address": move.address,
        "peers": view.names_of(peers),
        "router": view.names_of(by_count(told["src"].astype(str))),
        "told": int(told["count"].sum()),
    }
    fact = make_fact("unanswerable", _SENTENCES["unanswerable"], values)
    ends = (move.address, "misconfiguration", "source", (fact,), tuple(peers))
    yield RuleHit(*ends, slots_of(told))


def _find_pauses(view: TrafficView) -> pd.DataFrame:
    """Pauses of regular devices that are far longer than any before: ``device last next``, the slots
    in which each was last heard and heard again, and ``before``, for how many slots it was known; the
    sensor saw others meanwhile."""
    heard = _work_slots(view)
    heard = heard[heard["address"].isin(view.own)].sort_values(["address", "slot"])
    if heard.empty:
        return pd.DataFrame(columns=["device", "last", "next", "before"])
    end = int(view.end_s // SAMPLE_S)
    by_device = heard.groupby("address")["slot"]
    pauses = pd.DataFrame(
        {
            "device": heard["address"],
            "last": heard["slot"],
            "next": by_device.shift(-1).fillna(end).astype(np.int64),
            "first": by_device.transform("min"),
            "heard": by_device.cumcount() + 1,
        }
    )
    pauses["empty"] = pauses["next"] - pauses["last"] - 1
    longest = pauses.groupby("device")["empty"].cummax()
    usual = longest.groupby(pauses["device"]).shift(1).fillna(0)
    pauses["before"] = pauses["last"] - pauses["first"] + 1
    regular = pauses["heard"] >= _MIN_RHYTHM * pauses["before"]
    regular &= pauses["before"] >= _MIN_BEFORE_MANY
    # One sample is enough of who speaks in every sample: whether it is off, ARP tells (`_blame`).
    sudden = (pauses["empty"] >= 1) & (pauses["empty"] > _MUCH_LONGER * usual)
    found = pauses[regular & sudden]
    in_rhythm = pauses[regular]
    going_on = [
        in_rhythm.loc[in_rhythm["last"].between(one.last + 1, one.next - 1), "device"].nunique()
        for one in found.itertuples()
    ]
    silent = [
        ((found["last"] < one.next) & (found["next"] > one.last)).sum()
        for one in found.itertuples()
    ]
    seen = np.array(going_on) >= _SEEING * (np.array(going_on) + np.array(silent))
    return found.loc[seen, ["device", "last", "next", "before"]]


def _work_slots(view: TrafficView) -> pd.DataFrame:
    """In which slots an address sent anything but a flood or a scan, as ``spoken_slots`` has them: an
    intruder who has done is not missed."""
    heard, rows = spoken_slots(view).drop_duplicates(), view.flow_slots
    usual = view.by_clients(rows)
    ends = ["address", "slot"]
    hostile = rows.loc[~usual, ["src", "slot"]].set_axis(ends, axis=1)
    work = pd.concat(
        [
            rows.loc[usual & (rows["src_pkts"] > 0), ["src", "slot"]].set_axis(ends, axis=1),
            rows.loc[rows["dst_pkts"] > 0, ["dst", "slot"]].set_axis(ends, axis=1),
        ]
    )
    places, hostile, work = map(pd.MultiIndex.from_frame, (heard[ends], hostile, work))
    return heard[~places.isin(hostile) | places.isin(work)]


def _blame(view: TrafficView, pauses: pd.DataFrame) -> list[RuleHit]:
    """The devices that fell silent at one moment, as one thing, if anybody missed them."""
    sought = _seek(view, pauses)
    if sought["pkts"].sum() < _MIN_ASKED:
        return []
    pauses = _keep_missed(view, pauses, sought)
    # One that sends nothing may only hang; where nobody tells its hardware address it is gone.
    short = bool((pauses["next"] - pauses["last"] - 1 < _MIN_EMPTY).all())
    few = len(pauses) == 1 or (short and len(pauses) < _MANY)
    if few and sought.loc[sought["arp"], "pkts"].sum() < _MIN_ASKED:
        return []
    # The one that is missed most speaks for all.
    missed = sought.groupby("device")["pkts"].sum().reindex(pauses["device"])
    devices = tuple(map(str, missed.sort_values(ascending=False, kind="stable").index))
    quiet, placed = _place(view, pauses, short=short)
    if not quiet:
        return []
    # The moment of most: who says little was last heard before, whom a slot is known of after.
    heard_s = sorted(one[0] for one in quiet)[len(quiet) // 2]
    back_s = min(one[1] for one in quiet)
    over = all(one[1] < view.end_s for one in quiet)
    if short and not over:
        return []  # what is going on is told once it has lasted
    values: dict[str, Value] = {
        "silent": view.names_of(devices, _MOST_NAMED),
        "heard_time_s": heard_s,
        "back_time_s": back_s,
        "quiet_s": back_s - heard_s,
        "asked": int(sought["pkts"].sum()),
        "members": len(devices),
        "within_s": float(_APART_SLOTS + 1) * SAMPLE_S,
    }
    kind = "silent" if len(devices) == 1 else "silent_together"
    how = ", short" if not placed else ", over" if over else ""
    facts = [make_fact(kind, _SENTENCES[f"{kind}{how}"], values)]
    if len(devices) > 1:
        facts.append(make_fact("shared_path", _SENTENCES["shared_path"], values))
    askers = dict.fromkeys(map(str, sought.sort_values("pkts", ascending=False)["asker"]))
    peers = tuple(dict.fromkeys((*devices[1:], *askers)))
    slots = np.arange(int(pauses["last"].min()), int(pauses["next"].max()) + 1)
    return [RuleHit(devices[0], "device_silent", "source", tuple(facts), peers, slots)]


def _keep_missed(view: TrafficView, pauses: pd.DataFrame, sought: pd.DataFrame) -> pd.DataFrame:
    """The pauses of devices that somebody missed, or that spoke unasked before, at one time with the
    longest of them."""
    missed = sought.groupby("device")["pkts"].sum().reindex(pauses["device"]).fillna(0)
    # Whom nobody missed may only have lost its client, unless it spoke unasked before.
    known, first = (_MIN_BEFORE_MANY if len(pauses) >= _MANY else _MIN_BEFORE), pauses["last"].min()
    alone = pauses["device"].map(lambda one: _begins(view, str(one), int(first), known))
    pauses = pauses[(missed.to_numpy() > 0) | alone.to_numpy()]
    # Who was heard again before the others fell silent shares nothing with them.
    longest = pauses.loc[(pauses["next"] - pauses["last"]).idxmax()] if len(pauses) else None
    if longest is not None:
        shared = pauses["next"].clip(upper=longest["next"]) - pauses["last"].clip(
            lower=longest["last"]
        )
        pauses = pauses[2 * (shared - 1) >= pauses["next"] - pauses["last"] - 1]
    return pauses


def _place(
    view: TrafficView, pauses: pd.DataFrame, *, short: bool
) -> tuple[list[tuple[float, float]], bool]:
    """From when to when each device was silent, and whether packets tell it and not samples alone."""
    least_s = SAMPLE_S if short else 2 * SAMPLE_S
    spells = (
        quiet_spell(view, str(one.device), one.last * SAMPLE_S, one.next * SAMPLE_S, least_s)
        for one in pauses.itertuples()
    )
    quiet = [spell for spell in spells if spell is not None]
    placed = not short or len(quiet) == len(pauses)
    if not placed:  # a log does not place it: the samples without a packet tell it
        last, back = int(pauses["last"].max()) + 1, int(pauses["next"].min())
        quiet = [(last * SAMPLE_S, max(back, last + 1) * SAMPLE_S)]
    return quiet, placed


def _begins(view: TrafficView, device: str, slot: int, known: int) -> bool:
    """Whether a device kept its rhythm for so many slots up to one by traffic that it opened itself."""
    flows = view.flows_of(device)
    opened = flows[(flows["src"] == device) & (flows["src_pkts"] > 0)]
    before = opened.loc[opened["slot"].between(slot - known, slot - 1), "slot"]
    return before.nunique() >= _MIN_RHYTHM * known


def _seek(view: TrafficView, pauses: pd.DataFrame) -> pd.DataFrame:
    """What was sent in vain to devices while they were silent: ``device asker slot pkts arp``, the last
    whether it asked for a hardware address."""
    arp, flows = view.evidence_of_kind("arp_unanswered"), view.flow_slots
    flows = flows[(flows["proto"] == "tcp") & (flows["dst_pkts"] == 0)]
    sent = pd.concat(
        [
            arp[["dst", "src", "slot", "count"]].set_axis(_SOUGHT, axis=1).assign(arp=True),
            flows[["dst", "src", "slot", "src_pkts"]].set_axis(_SOUGHT, axis=1).assign(arp=False),
        ]
    )
    sent = sent.merge(pauses, on="device")
    short = sent["next"] - sent["last"] - 1 < _MIN_EMPTY
    until = sent["next"] + (short & sent["arp"])  # it came back within that slot
    inside = (sent["slot"] > sent["last"]) & (sent["slot"] < until)
    return sent[inside]
