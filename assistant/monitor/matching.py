"""Which alarm is what is seen now: known again by label, device or those concerned, and time; and what
bears out a first sign."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from assistant.detection.incidents import Severity
from assistant.monitor.alarm_list import RANK, Alarm, AlarmContent, Tier
from assistant.monitor.sensor import SENSOR
from traffic.capture import SAMPLE_S
from traffic.labels import ATTACKS

_NEAR_S = 600.0  # evidence of one label and device that comes again within this is the same alarm
_SAME_S = 30.0  # devices fell silent at one moment: who says little was last heard before it
_AGAIN_S = 86_400.0  # and within this where it points at the same peer first


@dataclass(frozen=True)
class Seen:
    """What is to be seen of one cause in this slot."""

    id: str
    label: str
    device: str
    tier: Tier
    priority: Severity
    start_s: float
    end_s: float
    going: bool
    content: AlarmContent
    together: tuple[str, ...] = ()  # other devices of which it says the same, at the same moment
    hard: bool = False  # a sign of which there is much
    stands: bool = False  # and which need not become more
    explained: bool = False  # its cause is known, not only its label


def match(seen: Sequence[Seen], known: dict[str, Alarm]) -> list[tuple[Seen, Alarm | None]]:
    """Each cause with the alarm that it was raised as before, each alarm at most once."""
    free = dict(known)
    pairs = [(one, free.pop(one.id, None)) for one in seen]
    for place, (one, before) in enumerate(pairs):
        if before is None and one.label != SENSOR:
            alike = [
                alarm
                for alarm in free.values()
                if (_becomes(alarm, one) if alarm.content.sign else _is_same(one, alarm))
                or _is_part(alarm, one)
            ]
            # An alarm goes on as that alarm, whatever notifications it bears out beside.
            best = max(
                alike,
                key=lambda alarm: (
                    alarm.tier == "alarm" and alarm.label == one.label,
                    alarm.device == one.device,
                    alarm.incident_end_s,
                ),
                default=None,
            )
            if best is not None:
                pairs[place] = (one, free.pop(best.incident))
    return pairs


def drop_earlier(seen: Sequence[Seen]) -> list[Seen]:
    """The causes without those that came again since: the newest of them tells of all, as one alarm."""
    return [
        one
        for one in seen
        if not any(_is_alike(one, other) and other.start_s > one.end_s + _NEAR_S for other in seen)
    ]


def join_parts(seen: Sequence[Seen], known: dict[str, Alarm]) -> list[Seen]:
    """The causes, where what is said of several devices at one moment, and then of each of them alone,
    is one: an alarm of all goes on as that, with the names it had, as long as one of them bears it
    out."""
    wholes = [one for one in seen if one.together]
    seen = [one for one in seen if one.together or not any(_is_in(one, of) for of in wholes)]
    for alarm in known.values():
        group = {alarm.device, *alarm.content.together}
        parts = [
            one
            for one in seen
            if one.label == alarm.label == "device_silent"
            and not one.together
            and (alarm.tier == "alarm" or alarm.content.sign)
            and len(group) > 1
            and one.device in group
            and abs(one.start_s - alarm.content.start_s) <= _SAME_S
        ]
        if parts and not any(_is_of(alarm, of) for of in wholes):
            seen = [one for one in seen if one not in parts] + [_join(alarm, parts)]
    return list(seen)


def _join(alarm: Alarm, parts: Sequence[Seen]) -> Seen:
    """What an alarm of several says, borne out by what each of some of them shows."""
    return replace(
        parts[0],  # under whose id it is found among the incidents
        device=alarm.device,
        tier=max(alarm.tier, *(one.tier for one in parts), key=RANK.__getitem__),
        priority=alarm.priority,
        start_s=min(one.start_s for one in parts),
        end_s=max(one.end_s for one in parts),
        going=any(one.going for one in parts),
        content=replace(alarm.content, sign=False),
    )


def _is_in(one: Seen, whole: Seen) -> bool:
    """Whether the same is said of a device that is said of several at that moment."""
    named = one.device in (whole.device, *whole.together)
    near = one.start_s <= whole.end_s and abs(one.start_s - whole.start_s) <= _SAME_S
    return named and near and one.label == whole.label


def _is_of(alarm: Alarm, whole: Seen) -> bool:
    named = {alarm.device, *alarm.content.together} & {whole.device, *whole.together}
    return bool(named) and abs(alarm.content.start_s - whole.start_s) <= _SAME_S


def _is_alike(one: Seen, other: Seen | Alarm) -> bool:
    """Whether two are of one label and device, and the first peer of one is a peer of the other: what
    a device does again and again, perhaps with more beside it."""
    if (one.label, one.device) != (other.label, other.device):
        return False
    mine, others = one.content.peers, other.content.peers
    return bool(mine and others) and (mine[0] in others or others[0] in mine)


def _is_same(one: Seen, alarm: Alarm) -> bool:
    """Whether it is what the alarm was raised for: the same label at the same time, at the device
    or at those whom it concerns; or the same of the same two again, within a day."""
    near_s = _AGAIN_S if _is_alike(one, alarm) else _NEAR_S
    if one.label != alarm.label or one.start_s > alarm.incident_end_s + near_s:
        return False
    if alarm.content.start_s > one.end_s + _NEAR_S:
        return False
    peers, others = set(one.content.peers), set(alarm.content.peers)
    if one.device == alarm.device:
        return bool(peers & others) or not peers or not others
    ends = {one.device, *one.content.related, *peers}
    other_ends = {alarm.device, *alarm.content.related, *others}
    return one.device in other_ends and alarm.device in ends


def _is_part(alarm: Alarm, one: Seen) -> bool:
    """Whether an alarm of one device goes on as that of several: as when the first of those behind a
    switch was missed before the others."""
    near = abs(one.start_s - alarm.content.start_s) <= _NEAR_S
    going = alarm.returned_s is None and alarm.label == one.label
    return going and near and alarm.device in one.together


# ---- First signs ----


def match_signs(
    signs: Sequence[Seen], seen: Sequence[Seen], known: dict[str, Alarm]
) -> list[tuple[Seen, Alarm | None]]:
    """The signs that nothing else tells, each with the notification, or the alarm, that it was
    raised as. What one sign that is an alarm tells, another does not tell again."""
    going = [one for one in known.values() if one.returned_s is None]
    tells: list[Seen | Alarm] = [*seen, *(one for one in going if not one.content.sign)]
    free = {one.incident: one for one in going if one.content.sign}
    called = [one for one in free.values() if one.tier == "alarm"]
    pairs: list[tuple[Seen, Alarm | None]] = []
    for sign in signs:
        if any(_bears_out(one, sign) for one in tells):
            continue
        if any(_bears_out(one, sign) and not _is_same(sign, one) for one in called):
            continue
        same = (one for one in free.values() if one.label == sign.label and _is_same(sign, one))
        before = next(same, None)
        pairs.append((sign, free.pop(before.incident) if before else None))
    return pairs


def _becomes(alarm: Alarm, one: Seen) -> bool:
    return alarm.returned_s is None and _bears_out(one, alarm)


def _bears_out(one: Seen | Alarm, sign: Seen | Alarm) -> bool:
    """Whether an incident is what a sign was the first of: about the same device, while it lasts. A
    fault does not explain what may be an attack."""
    end_s = one.incident_end_s if isinstance(one, Alarm) else one.end_s
    if one.label == SENSOR or end_s < sign.content.start_s - SAMPLE_S:
        return False
    if sign.label in ATTACKS and one.label not in ATTACKS:
        return False
    concerned = {one.device, *one.content.related}
    if one.label == sign.label or one.label in ATTACKS:
        concerned |= set(one.content.peers)
    mine = {sign.device, *sign.content.related}
    return bool(concerned & mine) or one.device in sign.content.peers
