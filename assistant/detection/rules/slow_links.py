"""Links that became slow or full: acknowledgements that take far longer than they did before.

    a device's TCP acknowledges what it gets before a program answers it, whatever the program does

So this tells a slow way from a slow program, and needs no reader of a protocol. The sensor times
only what lies between itself and whom the data was sent to.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.facts.fact import Fact, Proof, Value, make_fact
from assistant.facts.proofs import ip_field
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.delays import delay_step, least_delay_s, median_delays

_SLOWER = 5.0  # times its own past, and by at least so much:
# most stacks hold an acknowledgement back for 0.2 s, some for more (RFC 1122, 4.2.3.2), in the hope of
# something to send with it; how often changes with what a program does. That of a SYN none does.
_SLOWER_S, _OPENING_SLOWER_S = 0.25, 0.05
# Where a device carries much more than before, a queue explains a smaller rise; in one nobody is fast, while
# who holds acknowledgements back sends each second one at once.
_FILLED_SLOWER_S, _FASTEST_S = 0.05, 0.005
# Samples with a delay: before, slow, and fast in a row.
_MIN_PAST, _MIN_SLOW, _FAST_AGAIN = 12, 6, 2
# A full link loses packets too: few are left to be timed, and what is sent again is evidence as well. A
# lossy line is as fast as ever to those that it lets through.
_MIN_RESENT, _MIN_SLOW_LOSSY = 10, 2
_MIN_LATE = 10  # acknowledgements
_LATE_SHARE, _FAST_SHARE = 0.5, 0.1  # of them, of who is slow and who is not
_TOGETHER = 0.5  # of the time of either, for two pairs to be one thing
_FILLED_TIMES, _FILLED_MBIT, _SAME_TIMES, _MOST_OF_IT = 2.0, 0.5, 1.2, 0.5

_SENTENCES = {
    "slow_link": "What is sent to {device} arrives late: between {since_time_s} and {until_time_s} its "
    "acknowledgements to {peers} took {slow_s}, before that at most {usual_s}; {late} of {acks} took {least_s} or "
    "longer.",
    "slow_way_out": "What {device} sends arrives late: between {since_time_s} and {until_time_s} the acknowledgements "
    "of {peers} took {slow_s}, before that at most {usual_s}; {late} of {acks} took {least_s} or longer.",
    "slow_together": "Each of these {n:device} met that at the same time, which points to the link of {device}.",
    "others_fast": "Between {device} and {others} all was as fast as ever meanwhile, so the link of {device} is not "
    "slow; the way between {device} and {peers} is, or what happens to that connection.",
    "nobody_else": "Nobody else sent {device} enough by TCP then to tell its link from the device itself.",
    "slow_and_lossy": "{resent:segment} between them had to be sent again meanwhile: a full link drops what it has no "
    "room for; a line that only loses is as fast as ever to what it lets through.",
    "link_filled": "Meanwhile {device} carried {peak_mbit_per_s} Mbit/s, before that {usual_mbit_per_s} Mbit/s, most "
    "of it with {busiest}; that much may fill its link.",
    "link_not_filled": "{device} carried no more than before ({usual_mbit_per_s} Mbit/s): nothing that is seen here "
    "fills its link.",
}


@dataclass(frozen=True)
class _SlowPair:
    """A time in which what one device sent another was acknowledged late.

    Attributes:
        sender, receiver: addresses.
        rows: of ``delays`` between them in that time, those of SYNs alone where these tell it.
        first, last: slots.
        usual_s: the most that half of the acknowledgements took before.
        step: of ``delays``, from which on one is late.
        of_syns: only acknowledgements of SYNs tell it.
    """

    sender: str
    receiver: str
    rows: pd.DataFrame
    first: int
    last: int
    usual_s: float
    step: int
    of_syns: bool

    @property
    def late(self) -> int:
        """Acknowledgements that came late."""
        return int(self.rows.loc[self.rows["step"] >= self.step, "count"].sum())


def find_slow_links(view: TrafficView) -> list[RuleHit]:
    """Devices that are acknowledged, or acknowledge, far later than before for a minute or more; where
    several meet it with one device at one time, that device."""
    pairs, hits = list(_find_slow_pairs(view)), []
    while pairs:
        device, same = max(
            ((end, _share_end(end, pairs)) for one in pairs for end in (one.receiver, one.sender)),
            key=lambda found: len(found[1]),  # of equal ones the first: who acknowledges
        )
        hits.append(_make_hit(view, device, same))
        pairs = [pair for pair in pairs if all(pair is not one for one in same)]
    return hits


def _find_slow_pairs(view: TrafficView) -> Iterator[_SlowPair]:
    delays, resent = view.delays, view.evidence_of_kind("retransmission")
    long = delays[delays["step"] >= int(delay_step(np.array([_OPENING_SLOWER_S]))[0])]
    often = long.groupby(["src", "dst"], observed=True)["slot"].nunique()
    for sender, receiver in often.index[often >= _MIN_SLOW_LOSSY]:
        ends = [str(sender), str(receiver)]
        # How far a cloud is changes, and the plant's links are not to blame for it.
        if not set(ends) <= view.own:
            continue
        rows = delays[(delays["src"] == sender) & (delays["dst"] == receiver)]
        lost = resent[resent["src"].isin(ends) & resent["dst"].isin(ends)]
        slow = list(_find_rises(rows, lost, _SLOWER_S))
        slow = slow or list(_find_rises(rows[rows["handshake"]], lost, _OPENING_SLOWER_S, True))
        queued = () if slow else _find_rises(rows, lost, _FILLED_SLOWER_S)
        slow += [one for one in queued if _is_queue(one) and _is_filled(_load_of(view, one))]
        # Who fills a link waits for itself.
        yield from (one for one in slow if not _fills(view, one))


def _find_rises(
    rows: pd.DataFrame, lost: pd.DataFrame, slower_s: float, of_syns: bool = False
) -> Iterator[_SlowPair]:
    """The times in which delays lie far above all that came before.

    Args:
        rows: of ``delays``, of one sender and receiver.
        lost: evidence of what was sent again between both.
        slower_s: by how much, at least.
        of_syns: the rows are of SYNs alone.
    """
    medians = median_delays(*(rows[name].to_numpy() for name in ("slot", "step", "count")))
    slot, delay_s = medians.index.to_numpy(), medians.to_numpy()
    usual = medians.shift(1).expanding(_MIN_PAST).median().to_numpy()
    limit = np.maximum(_SLOWER * usual, usual + slower_s)
    at = 0
    while (delay_s[at:] >= limit[at:]).any():
        start = at + int(np.argmax(delay_s[at:] >= limit[at:]))
        fast = pd.Series(delay_s[start:] < limit[start]).rolling(_FAST_AGAIN).sum() == _FAST_AGAIN
        at = start + (int(fast.argmax()) - _FAST_AGAIN + 1 if fast.any() else len(fast))
        meanwhile = lost[(lost["slot"] > slot[start - 1]) & (lost["slot"] <= slot[at - 1])]
        lossy = meanwhile["count"].sum() >= _MIN_RESENT
        found = _SlowPair(
            sender=str(rows["src"].iloc[0]),
            receiver=str(rows["dst"].iloc[0]),
            rows=rows[rows["slot"].between(slot[start], slot[at - 1])],
            first=min(
                int(slot[start]), int(meanwhile["slot"].min()) if lossy else int(slot[start])
            ),
            last=int(slot[at - 1]),
            # The end of the step in which the usual delay lies.
            usual_s=least_delay_s(int(delay_step(usual[start : start + 1])[0]) + 1),
            step=int(delay_step(limit[start : start + 1])[0]),
            of_syns=of_syns,
        )
        slow = int((delay_s[start:at] >= limit[start]).sum())
        enough = max(_MIN_LATE, _LATE_SHARE * found.rows["count"].sum())
        if slow >= (_MIN_SLOW_LOSSY if lossy else _MIN_SLOW) and found.late >= enough:
            yield found


def _is_queue(pair: _SlowPair) -> bool:
    """Whether even the fastest acknowledgements wait."""
    fastest = pair.rows.groupby("slot")["step"].min().median()
    return least_delay_s(int(fastest)) >= max(_SLOWER * pair.usual_s, _FASTEST_S)


@dataclass(frozen=True)
class _Load:
    """What a device carries in some slots and carried before, and with whom it does most."""

    mbit_per_s: float
    usual_mbit_per_s: float
    busiest: str
    busiest_share: float


def _load_of(view: TrafficView, pair: _SlowPair) -> _Load | None:
    return _find_load(view, pair.receiver, pair.first, pair.last)


def _find_load(view: TrafficView, device: str, first: int, last: int) -> _Load | None:
    """None where there is nothing then, or nothing before."""
    flows = view.flows_of(device)
    both = (flows["sent_bytes"] + flows["got_bytes"]) * 8e-6 / SAMPLE_S
    mbit = both.groupby(flows["slot"]).sum()
    here, before = mbit[(mbit.index >= first) & (mbit.index <= last)], mbit[mbit.index < first]
    if here.empty or before.empty:
        return None
    inside = flows["slot"].between(first, last)
    by_peer = both[inside].groupby(flows.loc[inside, "other"]).sum()
    share = float(by_peer.max() / max(by_peer.sum(), 1e-9))
    return _Load(float(here.median()), float(before.median()), str(by_peer.idxmax()), share)


def _is_filled(load: _Load | None) -> bool:
    if load is None:
        return False
    return load.mbit_per_s >= max(_FILLED_TIMES * load.usual_mbit_per_s, _FILLED_MBIT)


def _fills(view: TrafficView, pair: _SlowPair) -> bool:
    """Whether the pair itself is what fills the link of the one who acknowledges."""
    load = _load_of(view, pair)
    if load is None or load.busiest != pair.sender:
        return False
    return _is_filled(load) and load.busiest_share >= _MOST_OF_IT


def _share_end(device: str, pairs: list[_SlowPair]) -> list[_SlowPair]:
    """The pairs that meet it at one end of a device, in the time of the one that meets most of it."""
    ends = [
        [pair for pair in pairs if getattr(pair, end) == device] for end in ("receiver", "sender")
    ]
    mine = max(ends, key=len)
    most = max(mine, key=lambda pair: pair.late)
    return [pair for pair in mine if _overlap(pair, most) >= _TOGETHER]


def _overlap(one: _SlowPair, other: _SlowPair) -> float:
    """The share of the time of both that is of each."""
    shared = min(one.last, other.last) - max(one.first, other.first) + 1
    return shared / (max(one.last, other.last) - min(one.first, other.first) + 1)


@dataclass(frozen=True)
class _Span:
    """The slots of some slow pairs with one device; whether what it is sent is late, or what it sends;
    the step from which on it is."""

    first: int
    last: int
    inward: bool
    step: int


def _make_hit(view: TrafficView, device: str, pairs: list[_SlowPair]) -> RuleHit:
    span = _Span(
        min(pair.first for pair in pairs),
        max(pair.last for pair in pairs),
        pairs[0].receiver == device,
        min(pair.step for pair in pairs),
    )
    pairs = sorted(pairs, key=lambda pair: -pair.late)
    peers = tuple(pair.sender if span.inward else pair.receiver for pair in pairs)
    syns = all(pair.of_syns for pair in pairs)
    rows = view.delays[view.delays["slot"].between(span.first, span.last)]
    mine, theirs = ("dst", "src") if span.inward else ("src", "dst")
    rows = rows[
        (rows[mine] == device) & rows[theirs].isin(peers) & (rows["handshake"] | (not syns))
    ]
    step, count = rows["step"].to_numpy(), rows["count"].to_numpy()
    # Delays are counted by slot: it began and ended with a packet of theirs in the first and last.
    flows = view.flows_of(device)
    flows = flows[flows["other"].isin(peers) & flows["slot"].between(span.first, span.last)]
    since_s, until_s = float(flows["since_s"].min()), float(flows["until_s"].max())
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "peers": view.names_of(peers),
        "late": int(count[step >= span.step].sum()),
        "acks": int(count.sum()),
        "least_s": least_delay_s(span.step),
        "slow_s": float(median_delays(np.zeros(len(rows), np.int64), step, count).iloc[0]),
        "usual_s": max(*(pair.usual_s for pair in pairs), 0.001),
        "since_time_s": since_s,
        "until_time_s": until_s,
    }
    kind = "slow_link" if span.inward else "slow_way_out"
    resent = view.evidence_of(device, ("retransmission",))
    resent = resent[resent["slot"].between(span.first, span.last)]
    # With whom it loses packets meanwhile, that is of the same link, though few were left to be timed.
    by_peer = resent.groupby("other")["count"].sum()
    lossy = by_peer.index[(by_peer >= _MIN_RESENT) & by_peer.index.isin(view.own)]
    resent = resent[resent["other"].isin(peers)]
    values["resent"] = int(resent["count"].sum())
    # Wireshark also times what was sent again, and has no word for the acknowledgement of a SYN.
    exact = not (syns or values["resent"])
    proof = Proof(_select(device, peers, span), count=int(values["late"]) if exact else None)
    facts = [make_fact(kind, _SENTENCES[kind], values, proof=proof)]
    if int(values["resent"]) >= _MIN_RESENT:
        facts.append(make_fact("slow_and_lossy", _SENTENCES["slow_and_lossy"], values))
    facts.append(_tell_place(view, device, peers, span))
    facts += _tell_load(view, device, span)
    slots = slots_of(rows[rows["step"] >= span.step])
    ends = dict.fromkeys((*_find_filler(view, device, span), *peers, *map(str, lossy)))
    return RuleHit(device, "congestion", "both", tuple(facts), tuple(ends), slots)


def _find_filler(view: TrafficView, device: str, span: _Span) -> list[str]:
    """Who fills the link of a device, if anybody: the cause of it, who hardly waits itself."""
    load = _find_load(view, device, span.first, span.last)
    fills = load is not None and _is_filled(load) and load.busiest_share >= _MOST_OF_IT
    return [load.busiest] if load and fills else []


def _select(device: str, peers: tuple[str, ...], span: _Span) -> str:
    """The display filter of the late acknowledgements."""
    field = ip_field(device)
    mine, theirs = ("src", "dst") if span.inward else ("dst", "src")
    others = " || ".join(f"{field}.{theirs} == {peer}" for peer in peers)
    return (
        f"{field}.{mine} == {device} && ({others})"
        f" && tcp.analysis.ack_rtt >= {least_delay_s(span.step):.9f}"
        f" && frame.time_epoch >= {span.first * SAMPLE_S:.0f}"
        f" && frame.time_epoch < {(span.last + 1) * SAMPLE_S:.0f}"
    )


def _tell_place(view: TrafficView, device: str, peers: tuple[str, ...], span: _Span) -> Fact:
    """Whether the device's own link can be what is slow: by whom else it was as fast with."""
    mine, theirs = ("dst", "src") if span.inward else ("src", "dst")
    rows = view.delays
    rows = rows[(rows[mine] == device) & rows["slot"].between(span.first, span.last)]
    rows = rows[~rows[theirs].isin([device, *peers])]
    late = ((rows["step"] >= span.step) * rows["count"]).groupby(rows[theirs].astype(str)).sum()
    count = rows["count"].groupby(rows[theirs].astype(str)).sum()
    fast = count.index[(count >= _MIN_LATE) & (late <= _FAST_SHARE * count)]
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "peers": view.names_of(peers),
        "others": view.names_of(map(str, fast)),
        "n": len(peers),
    }
    kind = "others_fast" if len(fast) else "slow_together" if len(peers) > 1 else "nobody_else"
    return make_fact(kind, _SENTENCES[kind], values)


def _tell_load(view: TrafficView, device: str, span: _Span) -> list[Fact]:
    """Whether the device carried more than before, and with whom."""
    load = _find_load(view, device, span.first, span.last)
    if load is None:
        return []
    filled = _is_filled(load)
    if not filled and load.mbit_per_s > _SAME_TIMES * load.usual_mbit_per_s:
        return []
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "peak_mbit_per_s": load.mbit_per_s,
        "usual_mbit_per_s": load.usual_mbit_per_s,
        "busiest": view.name_of(load.busiest),
    }
    kind = "link_filled" if filled else "link_not_filled"
    return [make_fact(kind, _SENTENCES[kind], values)]
