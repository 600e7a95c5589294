"""First signs of silence: a device that never paused and sends nothing, and several that fall silent
at one moment.

    sensor-1  x  x  x  x  x  .  .  .     x: it sent something; each by a rhythm of its own
    plc-4     xxxxxxxxxxxxx.?.?.?.?      ?: it was asked in vain
    hmi-1     x x x x x x x x x x x      others go on
                          │  └ the longest pause that each ever made has passed by half
                          └ the moment: what the last of them sent last

One that is silent has many harmless causes. That several stop at one moment, each with a rhythm of its
own, though nobody refused them and others go on, has one: what they share. Nothing tells sooner: whom
nobody hears more often than every N seconds cannot be missed before N seconds have passed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from assistant.monitor.newest import Newest, Sign
from traffic.capture import SAMPLE_S

_PAST_SLOTS, _MOST_PAST_SLOTS = 12, 60
_OVERDUE = 1.5  # times its longest pause
_STEADY_PKTS = 5.0  # that are missing, of a device that never sent fewer in a slot
# Of several at once: from how many on, how long each is silent at least, how far their last words may
# lie apart beside what their rhythms allow, and how much of its past a device was heard in.
_TOGETHER, _TOGETHER_S, _APART_S, _REGULAR = 3, 5.0, 2.0, 0.9
_MOST_NAMED = 8
_ANSWERED, _FAILED = ("answered", "refused"), ("refused", "unanswered", "unseen")


def find_quiet_devices(seen: Newest) -> Iterator[Sign]:
    """Several that fell silent at one moment; and, one sign of all that are left, devices that sent
    steadily for all that is known of them, and now send nothing."""
    group = _find_together(seen)
    if group:
        yield _say_together(seen, group)
    rest = [one for one in _find_steady(seen) if one[0] not in {each.device for each in group}]
    if rest:
        device, least = rest[0]
        sign = seen.sign(
            "quiet", "device_silent", device, (), _last_heard_s(seen, device),
            device=seen.view.names_of(one for one, _ in rest), least=int(least), sample_s=SAMPLE_S,
        )  # fmt: skip
        yield replace(sign, related=tuple(one for one, _ in rest[1:]))


def _find_steady(seen: Newest) -> list[tuple[str, float]]:
    """Devices that are quiet now, with the fewest packets that each sent in a slot before; the
    busiest first."""
    view = seen.view
    rows = view.flow_slots
    ends = [
        rows[[end, "slot", f"{end}_pkts"]].set_axis(["device", "slot", "pkts"], axis=1)
        for end in ("src", "dst")
    ]
    now = seen.open_slot
    share = (seen.now_s - now * SAMPLE_S) / SAMPLE_S
    sent = pd.concat(ends)
    sent = sent[sent["device"].isin(view.own) & (sent["slot"] >= now - _MOST_PAST_SLOTS)]
    table = sent.groupby(["device", "slot"])["pkts"].sum().unstack(fill_value=0)
    first = max(now - _MOST_PAST_SLOTS, int(view.start_s // SAMPLE_S) + 1)
    table = table.reindex(columns=range(first, now + 1), fill_value=0)
    if now - first < _PAST_SLOTS:
        return []
    least = table.iloc[:, :-1].min(axis=1)
    quiet = table.index[(table.iloc[:, -1] == 0) & (least * share >= _STEADY_PKTS)]
    names = least[quiet].sort_values(ascending=False, kind="stable")
    return [(str(one), float(few)) for one, few in names.items() if _is_overdue(seen, str(one))]


def _is_overdue(seen: Newest, device: str) -> bool:
    """Whether a device has been silent for a slot's length, and for longer than between two slots
    ever before: who speaks every ten seconds, or asks one after the other, is quiet for half a slot.
    """
    slots = _heard(seen, device)
    silent_s = seen.now_s - float(slots["until_s"].iloc[-1])
    return silent_s > max(SAMPLE_S, _OVERDUE * _longest_pause_s(slots))


def _heard(seen: Newest, device: str) -> pd.DataFrame:
    """When a device was first and last heard in each slot in which it sent something: ``since_s
    until_s`` by slot."""
    rows = seen.view.sent_by(device)
    return rows.groupby("slot").agg(since_s=("since_s", "min"), until_s=("until_s", "max"))


def _longest_pause_s(slots: pd.DataFrame) -> float:
    pauses = slots["since_s"].to_numpy()[1:] - slots["until_s"].to_numpy()[:-1]
    return float(pauses.max(initial=0.0))


def _last_heard_s(seen: Newest, device: str) -> float:
    return min(seen.now_s, float(_heard(seen, device)["until_s"].iloc[-1]))


# ---- Several at one moment ----


@dataclass(frozen=True)
class _Silent:
    """A device that is silent for longer than it ever was.

    Attributes:
        device: address.
        heard_s: when it was last heard.
        pause_s: the longest pause between its words before; infinite where these are not known.
    """

    device: str
    heard_s: float
    pause_s: float

    @property
    def waits_s(self) -> float:
        """For so long it may be silent. Of whom no word is known, only that it was heard in every slot, a
        slot and a half."""
        return max(_TOGETHER_S, _OVERDUE * min(self.pause_s, SAMPLE_S))


def _find_together(seen: Newest) -> list[_Silent]:
    """Devices that fell silent at one moment, each longer than it ever paused; none where not at
    least as many others go on: then it may be the sensor that is deaf."""
    if seen.now_s - seen.view.start_s < _PAST_SLOTS * SAMPLE_S:
        return []
    words, regular = _read_words(seen), _regular_devices(seen)
    newest_s = words.groupby("device")["ts"].last()
    quiet = newest_s.index[newest_s < seen.now_s - _TOGETHER_S].intersection(list(regular))
    if len(quiet) < _TOGETHER:
        return []
    mine = words[words["device"].isin(quiet)]
    silent = []
    for device, said in mine.groupby("device"):
        one = _Silent(
            str(device), _last_word_s(seen, str(device), regular[device], said),
            _longest_gap_s(said["ts"].to_numpy()),
        )  # fmt: skip
        if seen.now_s - one.heard_s > one.waits_s and _is_missed(seen, one):
            silent.append(one)
    group = _without_clients(seen, _of_one_moment(silent))
    return group if _TOGETHER <= len(group) <= len(regular) - len(silent) else []


def _regular_devices(seen: Newest) -> dict[str, int]:
    """Devices that were heard nearly all the time until ten minutes ago or later, with the last slot in
    which they were."""
    rows = seen.view.flow_slots
    rows = rows[rows["slot"] >= seen.open_slot - _MOST_PAST_SLOTS]
    ends = [rows.loc[rows[f"{end}_pkts"] > 0, [end, "slot"]].to_numpy() for end in ("src", "dst")]
    heard = pd.DataFrame(np.concatenate(ends), columns=["device", "slot"]).drop_duplicates()
    slots = heard[heard["device"].isin(seen.view.own)].groupby("device")["slot"].agg(list)
    return {
        str(device): max(mine)
        for device, mine in slots.items()
        if len(mine) >= max(_PAST_SLOTS, _REGULAR * (max(mine) - min(mine) + 1))
    }


def _read_words(seen: Newest) -> pd.DataFrame:
    """Moments in which devices spoke, of the newest ten minutes: ``device flow ts``, by time. These are
    requests, messages and answers, and where a flow begins or ends; a part of all packets, so that
    pauses between them are no shorter than those of the packets."""
    view, since_s = seen.view, seen.now_s - _MOST_PAST_SLOTS * SAMPLE_S
    asks = view.exchanges[view.exchanges["ts"] >= since_s]
    asks = asks[["ts", "client", "server", "flow", "outcome", "delay_s"]]
    answered = asks[asks["outcome"].isin(_ANSWERED)]
    rows = view.flow_slots
    # The other end's last packet ends a flow as well: only of what is not read nothing better is known.
    rows = rows[(rows["slot"] >= since_s // SAMPLE_S) & ~rows["flow"].isin(view.exchanges["flow"])]
    start_s = rows["slot"] * SAMPLE_S
    parts = [
        _words(asks[asks["outcome"] != "unasked"], "client", "ts"),
        _words(
            answered.assign(ts=answered["ts"] + answered["delay_s"].fillna(0.0)), "server", "ts"
        ),
    ]
    for end in ("src", "dst"):
        spoke = rows[f"{end}_pkts"] > 0
        parts.append(_words(rows[spoke & (rows["since_s"] > start_s)], end, "since_s"))
        parts.append(_words(rows[spoke & (rows["until_s"] < start_s + SAMPLE_S)], end, "until_s"))
    return pd.concat(parts).sort_values("ts", ignore_index=True)


def _words(rows: pd.DataFrame, end: str, at: str) -> pd.DataFrame:
    table = rows[[end, "flow", at]].set_axis(["device", "flow", "ts"], axis=1)
    return table.astype({"device": object})


def _longest_gap_s(ts: np.ndarray) -> float:
    """The longest pause between words of at least two minutes; infinite where there are fewer."""
    long = ts[-1] - ts[0] >= _PAST_SLOTS * SAMPLE_S
    return float(np.diff(ts).max()) if long else float("inf")


def _last_word_s(seen: Newest, device: str, slot: int, said: pd.DataFrame) -> float:
    """When a device was last heard. A flow's last packet of a slot may be of the other end, which sends
    again what nobody confirms: where the flow's content is read, the device's own last word is known.
    """
    rows = seen.view.sent_by(device)
    flows = rows.loc[rows["slot"] == slot, ["flow", "until_s"]]
    said = said[said["ts"] >= slot * SAMPLE_S]
    told = said[said["flow"].isin(seen.view.exchanges["flow"])].groupby("flow")["ts"].max()
    return min(seen.now_s, float(flows["flow"].map(told).fillna(flows["until_s"]).max()))


def _is_missed(seen: Newest, one: _Silent) -> bool:
    """Whether its silence is its own: it was asked in vain since, or spoke unasked before; and it
    does not wait after what failed."""
    view, slot = seen.view, int(one.heard_s // SAMPLE_S)
    rows, asks = view.flows_of(one.device), view.exchanges
    last = rows[rows["slot"] >= slot - 1]
    if (last["out"] & (last["proto"] == "tcp") & ~last["answered"]).any():
        return False
    mine = asks.loc[asks["client"] == one.device, "outcome"]
    if len(mine) and mine.iloc[-1] in _FAILED:
        return False
    vain = (rows["slot"] > slot) & (rows["sent_pkts"] == 0)
    asked = (asks["server"] == one.device) & (asks["ts"] > one.heard_s)
    arp = view.evidence_of(one.device, ("arp_unanswered",))
    sought = (arp["dst"] == one.device) & (arp["slot"] >= slot)
    opened = rows.loc[rows["out"] & (rows["sent_pkts"] > 0), "slot"]
    opened = opened[opened.between(slot - _PAST_SLOTS, slot - 1)].nunique()
    return bool(vain.any() or asked.any() or sought.any() or opened >= _REGULAR * _PAST_SLOTS)


def _of_one_moment(silent: Sequence[_Silent]) -> list[_Silent]:
    """The most whose last words lie as near to one moment as their rhythms allow; none where of fewer
    than three the rhythm is known: only these tell the moment."""
    best: list[_Silent] = []
    known = [one for one in silent if one.pause_s < np.inf]
    for moment_s in sorted({one.heard_s for one in known}):
        mine = [one for one in silent if _fits(one, moment_s)]
        sure = [one for one in mine if one.pause_s < np.inf]
        if len(sure) >= _TOGETHER and len(mine) > len(best):
            best = sorted(mine, key=lambda one: (one.pause_s == np.inf, -one.heard_s))
    return best


def _without_clients(seen: Newest, group: list[_Silent]) -> list[_Silent]:
    """The group without those that had called none but others of it: they may only wait for these."""
    named = {one.device for one in group}

    def waits(one: _Silent) -> bool:
        rows = seen.view.flows_of(one.device)
        called = rows.loc[rows["out"] & (rows["slot"] == int(one.heard_s // SAMPLE_S)), "other"]
        return bool(len(called)) and named.issuperset(called)

    return [one for one in group if not waits(one)]


def _fits(one: _Silent, moment_s: float) -> bool:
    """Whether a device may have fallen silent at a moment: it spoke then, or as long before as it
    pauses. The last word of whose words are not known may be the other end's."""
    apart_s = moment_s - one.heard_s
    if one.pause_s == np.inf:
        return abs(apart_s) <= SAMPLE_S
    return 0.0 <= apart_s <= _APART_S + _OVERDUE * one.pause_s


def _say_together(seen: Newest, group: Sequence[_Silent]) -> Sign:
    """One sign of all of them, who speaks most first; it is hard, and stands until they are heard."""
    busy = {one.device: -float(seen.view.sent_by(one.device)["sent_pkts"].sum()) for one in group}
    devices = sorted(busy, key=lambda one: (busy[one], one))
    sign = seen.sign(
        "quiet_together", "device_silent", devices[0], (), group[0].heard_s,
        devices=seen.view.names_of(devices, _MOST_NAMED), members=len(devices),
    )  # fmt: skip
    return replace(sign, related=tuple(devices[1:]), count=len(devices), hard=True, stands=True)
