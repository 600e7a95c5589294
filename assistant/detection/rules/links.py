"""Links that lose packets, are off and on or full: what is sent again, and peaks against a device's
own past.

    lost        x x . x x x . x x . x x      x: a segment that got through at once, .: one sent again
    off and on  x x x . . . x x x . . .      nothing gets through for seconds, then everything does
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.detection.rules.outages import spoken_slots, stalled_share
from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.facts.fact import Proof, Value, by_count, make_fact
from assistant.facts.proofs import between
from assistant.facts.spells import first_and_last
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.pcap.asks import SILENT_S

_MIN_RESENT, _RESENT_SHARE, _MIN_SLOTS = 10, 0.01, 3
_MANY_RESENT, _MANY_SHARE = (
    20,
    0.005,
)  # less of it where it is more: acknowledgements that are lost show nowhere
_TOGETHER = 0.5  # of the time of either, for two pairs to be one thing
_LASTING_SHARE = 0.3  # of the samples in which both exchanged anything
# Stalls, the samples in which they lie, the share of all that is sent again that is sent in them, and
# of these samples those in which the device is heard: who is off for longer is silent.
_MIN_STALLS, _MIN_STALLED, _STALLED_SHARE, _HEARD_SHARE = 3, 3, 0.7, 0.8
_TWO_STALLS, _ALL_STALLED = 2, 0.9
# Less of it where the device asks for its neighbours anew in so many of these samples: of a fast stream much
# is sent again once it is back.
_SOME_ANEW, _STALLED_SHARE_ANEW = 2, 0.3
# Questions to all for one device after a silence, in as many samples, and within how many; else there are
# far fewer, and both talked in most samples before: who speaks seldom forgets whom it knows by the clock.
_MIN_ANEW, _ANEW_SLOTS, _OFTENER, _BEFORE_SLOTS, _BEFORE_SHARE = 3, 18, 4.0, 12, 0.7
_MIN_WATCHED = 6  # slots: less of the past does not tell how often they talk
_CONTACT_SLOTS, _CLAIMED_SLOTS = 2, 6
_PEAK_TIMES, _PEAK_MBIT, _PEAK_SLOTS, _MIN_PAST = 10.0, 0.5, 3, 12

# A FIN alone that is sent again before a timer has run out tells of no loss (traffic.pcap.tcp).
_TELLS = "!(tcp.flags.fin == 1 && tcp.len == 0 && tcp.analysis.rto < 0.2)"

_SENTENCES = {
    "sent_again": "Packets are lost between {device} and {peer}: {resent} of {pkts:packet} were sent again "
    "({resent_share}) between {since_time_s} and {until_time_s}.",
    "sent_again, several": "Packets are lost between {device} and each of {peer}: {resent} of {pkts:packet} were sent "
    "again ({resent_share}) between {since_time_s} and {until_time_s}.",
    "shared_link": "Each of these {n:device} loses packets with {device} at the same time, which points to the link of "
    "{device}.",
    "off_and_on": "{device} is off and on: again and again between {since_time_s} and {until_time_s} nothing that "
    "{peers} sent it got through for a while, and then all of it did; {stalls:segment} had to be sent again, "
    "{resent:time} in all.",
    "asked_anew": "{device} loses its link again and again: {times:time} between {since_time_s} and {until_time_s} it "
    "had sent nothing for {silent_s} or longer, and then the first that it sent was a question to the whole network "
    "for the address of {peers}, with whom it talks all the time. A device asks so when it has forgotten its "
    "neighbours, as it does when its link goes down.",
    "spike": "Traffic of {device} rose to {peak_mbit_per_s} Mbit/s for {lasting_s} from {since_time_s}, mostly with "
    "{peer}; before that it was {usual_mbit_per_s} Mbit/s. Meanwhile {resent_share} of its packets were sent again.",
}


@dataclass(frozen=True)
class _LossyPair:
    one: str
    other: str
    rows: pd.DataFrame  # of what was sent again between both
    pkts: int

    @property
    def span(self) -> tuple[int, int]:
        """The first slot and the one after the last."""
        return int(self.rows["slot"].min()), int(self.rows["slot"].max()) + 1


def find_losses(view: TrafficView) -> list[RuleHit]:
    """Pairs whose packets are sent again, about a hundredth of them or more and for a while; where one
    device loses packets with several at one time, that device."""
    pairs, hits = list(_find_lossy_pairs(view)), []
    while pairs:
        device, same = max(
            ((end, _share_end(end, pairs)) for pair in pairs for end in (pair.one, pair.other)),
            key=lambda found: len(found[1]),
        )
        device = same[0].one if len(same) == 1 else device
        hits.append(_make_loss(view, device, same))
        pairs = [pair for pair in pairs if all(pair is not one for one in same)]
    return hits


def _share_end(device: str, pairs: list[_LossyPair]) -> list[_LossyPair]:
    """The pairs of a device that lose packets in the time of the one that loses most."""
    mine = [pair for pair in pairs if device in (pair.one, pair.other)]
    most = max(mine, key=lambda pair: int(pair.rows["count"].sum()))
    first, last = most.span
    return [
        pair
        for pair in mine
        if min(last, pair.span[1]) - max(first, pair.span[0])
        >= _TOGETHER * (max(last, pair.span[1]) - min(first, pair.span[0]))
    ]


def _make_loss(view: TrafficView, device: str, pairs: list[_LossyPair]) -> RuleHit:
    rows = pd.concat([pair.rows for pair in pairs])
    peers = tuple(pair.other if pair.one == device else pair.one for pair in pairs)
    first_s, last_s = first_and_last(rows)
    count, pkts = int(rows["count"].sum()), sum(pair.pkts for pair in pairs)
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "peer": view.names_of(peers),
        "resent": count,
        "pkts": max(pkts, count),
        "resent_share": count / max(pkts, count),
        "since_time_s": first_s,
        "until_time_s": last_s,
    }
    ends = " || ".join(f"({between(device, peer)})" for peer in peers)
    ends = between(device, peers[0]) if len(peers) == 1 else f"({ends})"
    proof = Proof(f"{ends} && tcp.analysis.retransmission && {_TELLS}")
    several = len(peers) > 1
    sentence = _SENTENCES["sent_again, several" if several else "sent_again"]
    facts = [make_fact("sent_again", sentence, values, proof=proof)]
    if several:
        values = {"device": view.name_of(device), "n": len(peers)}
        facts.append(make_fact("shared_link", _SENTENCES["shared_link"], values))
    return RuleHit(device, "packet_loss", "both", tuple(facts), peers, slots_of(rows))


def _find_lossy_pairs(view: TrafficView) -> Iterator[_LossyPair]:
    resent = _to_who_is_heard(view.evidence_of_kind("retransmission"), view)
    ends = (
        np.sort(resent[["src", "dst"]].to_numpy(str), axis=1) if len(resent) else np.empty((0, 2))
    )
    for (one, other), rows in resent.groupby([ends[:, 0], ends[:, 1]]):
        count = int(rows["count"].sum())
        if count < _MIN_RESENT or rows["slot"].nunique() < _MIN_SLOTS:
            continue
        first, last = rows["slot"].min(), rows["slot"].max()
        flows = view.flows_of(str(one))
        flows = flows[(flows["other"] == other) & flows["slot"].between(first, last)]
        pkts = int((flows["src_pkts"] + flows["dst_pkts"]).sum())
        # A burst now and then is ordinary for a radio; a link that loses packets goes on doing so.
        if rows["slot"].nunique() < _LASTING_SHARE * flows["slot"].nunique():
            continue
        if count < (_MANY_SHARE if count >= _MANY_RESENT else _RESENT_SHARE) * max(pkts, 1):
            continue
        # What is lost on the way to a cloud the plant's links are not to blame for.
        if {str(one), str(other)} <= view.own:
            yield _LossyPair(str(one), str(other), rows, pkts)


def find_loose_links(view: TrafficView) -> list[RuleHit]:
    """Devices to which nothing gets through for some seconds, again and again: a loose cable, a port
    or a supply that drops. A lossy line lets some of it through each time."""
    stalls = view.evidence_of_kind("stall")
    stalls = stalls[stalls["src"].isin(view.own) & stalls["dst"].isin(view.own)]
    heard, asked = spoken_slots(view).drop_duplicates(), view.evidence_of_kind("asked_anew")
    hits = []
    for device in map(str, stalls["dst"].unique()):
        mine = stalls[(stalls["src"] == device) | (stalls["dst"] == device)]
        met = mine[mine["dst"] == device]
        # Its peer goes on sending, which the sensor sees: who is off sends nothing.
        if mine["slot"].nunique() < _MIN_STALLED or met["count"].sum() <= mine["count"].sum() / 2:
            continue
        first, last = int(mine["slot"].min()), int(mine["slot"].max())
        said = heard.loc[heard["address"] == device, "slot"].between(first, last).sum()
        times = int(mine["distinct"].sum())
        anew = asked[(asked["src"] == device) & asked["slot"].between(first, last)]
        least = _STALLED_SHARE_ANEW if anew["slot"].nunique() >= _SOME_ANEW else _STALLED_SHARE
        # Nothing is lost beside the stalls: two of them close to each other tell it.
        sure = int(mine["count"].sum()) >= _MIN_RESENT and last - first <= _ANEW_SLOTS
        sure &= stalled_share(view, device, first, last) >= _ALL_STALLED
        if (
            times < (_TWO_STALLS if sure else _MIN_STALLS)
            or stalled_share(view, device, first, last) < least
            or said < _HEARD_SHARE * (last - first + 1)
        ):
            continue
        peers = by_count(met["src"].astype(str))
        first_s, last_s = first_and_last(mine)
        values: dict[str, Value] = {
            "device": view.name_of(device),
            "peers": view.names_of(peers),
            "stalls": times,
            "resent": int(mine["count"].sum()),
            "since_time_s": first_s,
            "until_time_s": last_s,
        }
        only = f"{between(device, peers[0])} && tcp.analysis.retransmission && tcp.len > 0"
        fact = make_fact("off_and_on", _SENTENCES["off_and_on"], values, proof=Proof(only))
        ends = (device, "flapping", "source", (fact,), tuple(peers))
        hits.append(RuleHit(*ends, slots_of(mine)))
    return hits


def find_dropped_links(view: TrafficView) -> list[RuleHit]:
    """Devices that again and again are silent for seconds and then ask all for those whom they are in a
    connection with: their own link went down. It shows where nobody sends them anything meanwhile,
    so that nothing is sent again."""
    asked = view.evidence_of_kind("asked_anew")
    asked = asked[asked["src"].isin(view.own) & asked["dst"].isin(view.own)]
    hits = []
    for device, mine in asked.groupby("src"):
        mine = mine[_in_contact(view, str(device), mine) & ~_are_claimed(view, mine)]
        sent = view.sent_by(str(device))
        spells = {
            str(other): spell
            for other, rows in mine.groupby("dst")
            if len(spell := _find_spell(slots_of(rows))) >= _MIN_ANEW
            and _stands_out(spell, slots_of(rows), slots_of(sent[sent["other"] == other]))
        }
        if spells:
            hits.append(_make_dropped(view, str(device), spells))
    return hits


def _in_contact(view: TrafficView, device: str, asked: pd.DataFrame) -> np.ndarray:
    """Whether a device had something to do with whom it asked for just before, and has just after."""
    met = view.flows_of(device).groupby("other")["slot"].unique()
    none = np.zeros(0, np.int64)
    slots = [
        (met.get(other, none), slot)
        for other, slot in zip(asked["dst"], asked["slot"], strict=True)
    ]
    return np.array(
        [
            ((mine >= slot - _CONTACT_SLOTS) & (mine < slot)).any()
            and ((mine >= slot) & (mine <= slot + _CONTACT_SLOTS)).any()
            for mine, slot in slots
        ],
        bool,
    )


def _are_claimed(view: TrafficView, asked: pd.DataFrame) -> np.ndarray:
    """Whether two machines claim an address of these about then: it is asked for anew for that."""
    claims = view.evidence_of_kind("arp_conflict")
    near = [
        set(
            claims.loc[(claims["slot"] - slot).abs() <= _CLAIMED_SLOTS, ["src", "dst"]]
            .to_numpy()
            .ravel()
        )
        for slot in asked["slot"]
    ]
    ends = zip(asked["src"], asked["dst"], near, strict=True)
    return np.array([bool({src, dst} & claimed) for src, dst, claimed in ends], bool)


def _find_spell(slots: np.ndarray) -> np.ndarray:
    """The most slots that lie close together."""
    last = np.searchsorted(slots, slots + _ANEW_SLOTS)
    first = int(np.argmax(last - np.arange(len(slots))))
    return slots[first : last[first]]


def _stands_out(spell: np.ndarray, slots: np.ndarray, spoken: np.ndarray) -> bool:
    """Whether a device asks for whom it talks to nearly all the time far oftener in a spell than else.

    Args:
        spell, slots: in which it asks, and all of these.
        spoken: in which it sent something to whom it asks for.
    """
    watched = min(spell[0] - spoken[0], _BEFORE_SLOTS)
    before = (spoken < spell[0]) & (spoken >= spell[0] - watched)
    inside = len(spell) / (spell[-1] - spell[0] + 1)
    outside = ((spoken < spell[0]) | (spoken > spell[-1])).sum()
    rest = (len(slots) - len(spell)) / max(outside, 1)
    known = watched >= _MIN_WATCHED and before.sum() >= _BEFORE_SHARE * watched
    return bool(known and inside >= _OFTENER * rest)


def _make_dropped(view: TrafficView, device: str, spells: dict[str, np.ndarray]) -> RuleHit:
    """A hit at a device; ``spells`` are those of whom it asks for."""
    slots = np.unique(np.concatenate(list(spells.values())))
    peers = tuple(sorted(spells, key=lambda one: -len(spells[one])))
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "peers": view.names_of(peers),
        "times": len(slots),
        "silent_s": SILENT_S,
        "since_time_s": float(slots[0]) * SAMPLE_S,
        "until_time_s": float(slots[-1] + 1) * SAMPLE_S,
    }
    only = f"arp.opcode == 1 && arp.src.proto_ipv4 == {device} && eth.dst == ff:ff:ff:ff:ff:ff"
    fact = make_fact("asked_anew", _SENTENCES["asked_anew"], values, proof=Proof(only))
    return RuleHit(device, "flapping", "source", (fact,), peers, slots)


def _to_who_is_heard(resent: pd.DataFrame, view: TrafficView) -> pd.DataFrame:
    """What is sent again to those who send something then: who is off loses no packets."""
    rows = view.flow_slots
    heard = pd.MultiIndex.from_frame(
        pd.concat(
            [
                rows.loc[rows[f"{end}_pkts"] > 0, [end, "slot"]].set_axis(["dst", "slot"], axis=1)
                for end in ("src", "dst")
            ]
        ).drop_duplicates()
    )
    return resent[pd.MultiIndex.from_frame(resent[["dst", "slot"]]).isin(heard)]


def _find_busy(view: TrafficView) -> frozenset[str]:
    """Addresses with as many slots of so much traffic as a peak has: the past of no others is asked
    for, since a plant has hundreds of devices and few that are busy. Sums in another order differ in
    their last digits: hence a little less."""
    rows = view.flow_slots
    ends = pd.concat([rows["src"], rows["dst"]], ignore_index=True)
    twice = np.tile(np.arange(len(rows)), 2)
    both = (rows["src_bytes"] + rows["dst_bytes"]).to_numpy()[twice]
    total = pd.Series(both).groupby([ends, rows["slot"].to_numpy()[twice]]).sum()
    high = total[total * 8e-6 / SAMPLE_S >= 0.99 * _PEAK_MBIT]
    slots = high.groupby(level=0).size()
    return frozenset(map(str, slots.index[slots >= _PEAK_SLOTS]))


def find_spikes(view: TrafficView) -> list[RuleHit]:
    """Devices whose traffic rises far above their own past while packets are lost: a full link."""
    hits = []
    resent = view.evidence_of_kind("retransmission")
    devices = view.own & frozenset(view.flow_slots["src"].unique()) | view.local
    for device in sorted(devices & _find_busy(view)):
        flows = view.flows_of(device)
        both = flows["sent_bytes"] + flows["got_bytes"]
        mbit = both.groupby(flows["slot"]).sum() * 8e-6 / SAMPLE_S
        past = mbit.shift(1).expanding(_MIN_PAST).median()
        high = (mbit >= _PEAK_MBIT) & (mbit >= _PEAK_TIMES * past)
        if high.sum() < _PEAK_SLOTS:
            continue
        slots = mbit.index[high]
        mine = resent[((resent["src"] == device) | (resent["dst"] == device))]
        lost = int(mine.loc[mine["slot"].isin(slots), "count"].sum())
        inside = flows[flows["slot"].isin(slots)]
        since_s, until_s = float(inside["since_s"].min()), float(inside["until_s"].max())
        pkts = int((inside["src_pkts"] + inside["dst_pkts"]).sum())
        if lost < max(_MIN_RESENT, _RESENT_SHARE * pkts):
            continue  # a transfer that gets through is no trouble
        peer = str(both[inside.index].groupby(inside["other"]).sum().idxmax())
        values: dict[str, Value] = {
            "device": view.name_of(device),
            "peer": view.name_of(peer),
            "peak_mbit_per_s": float(mbit[high].max()),
            "usual_mbit_per_s": float(past[high].iloc[0]),
            "lasting_s": until_s - since_s,
            "since_time_s": since_s,
            "resent_share": lost / max(pkts, 1),
        }
        fact = make_fact("spike", _SENTENCES["spike"], values)
        where = slots_of(pd.DataFrame({"slot": slots}))
        hits.append(RuleHit(device, "congestion", "source", (fact,), (peer,), where))
    return hits
