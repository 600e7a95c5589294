"""Alert correlation: which alerts are one story, shown by several windows, labels and devices.

a dead server     S device_silent/source,  A service_down/target (peer S),  B flapping/source (peer S)   -> S
a scanner         X recon/source (peers A, B, C),  A recon/target (peer X),  B ...                        -> X
an intruder       A recon/target (peer X),  minutes later B brute_force/target (peer X)                   -> X
a false address   A spoofing/target,  B service_down/target (peer A)                                      -> A
one link          A congestion,  B congestion, at the same time                                          -> the heavier
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from assistant.detection.alert import Alert, is_supported
from assistant.detection.runs import VerdictRun
from assistant.facts.fact import kind_of
from traffic.capture import SAMPLE_S
from traffic.labels import ATTACKS

_NEAR_S = 600.0  # alerts of one device, label and peer within this are one
_MANY = 3  # senders of a distributed flood
_SENDER_SHARE = 0.25  # of what the largest sends; less is the traffic of every day
_SLACK_S = 60.0  # a window's length: two devices' evidence of one cause may differ by that much


# ---- Alerts of one device ----


def merge_repeated(found: Sequence[Alert], redo: Callable[[VerdictRun], Alert]) -> list[Alert]:
    """Join what one device shows twice: the same label again, or two labels that point at the same
    peers at once.

    Args:
        found: alerts of runs.
        redo: makes the alert of a joined run, whose slots are those of both.
    """
    groups: list[list[Alert]] = []
    for alert in sorted(found, key=lambda one: (one.device, one.attribution.start_s)):
        same = (group for group in groups if any(_is_same(one, alert) for one in group))
        group = next(same, None)
        if group is None:
            groups.append([alert])
        else:
            group.append(alert)
    return [group[0] if len(group) == 1 else redo(_joined(group)) for group in groups]


def _joined(group: Sequence[Alert]) -> VerdictRun:
    """One run of all their windows, with the label and role that have most probability."""
    masses: dict[tuple[str, str], float] = {}
    for one in group:
        masses[one.label, one.role] = masses.get((one.label, one.role), 0.0) + one.mass
    label, role = max(masses, key=lambda key: masses[key])
    rows = np.unique(np.concatenate([one.rows for one in group]))
    return VerdictRun(group[0].device, label, role, rows)


def add_rule_alerts(found: Sequence[Alert], by_rule: Sequence[Alert]) -> list[Alert]:
    """Let rules take over what the model suspects of the same device and peers at the same time.

    Which kind of flood it is the model tells better; that something is absent or mute needs no
    second opinion.
    """
    joined = list(found)
    for alert in by_rule:
        silence = next((i for i, one in enumerate(joined) if _is_silence_of(one, alert)), None)
        if silence is not None:
            proven = joined[silence]
            joined[silence] = replace(proven, facts=(*proven.facts, *alert.facts))
            continue
        same = [one for one in joined if _takes_over(alert, one)]
        joined = [one for one in joined if all(one is not other for other in same)]
        rows = np.unique(np.concatenate([alert.rows, *(one.rows for one in same)]))
        floods = (one.label for one in same if one.profile.flood and alert.profile.flood)
        label = next(floods, alert.label)
        attribution = replace(alert.attribution, label=label)
        whole = replace(alert, label=label, rows=rows, attribution=attribution)
        joined.append(_with_fellows(whole, [one for one in same if _is_fellow(one, alert)]))
    return joined


def _is_fellow(one: Alert, other: Alert) -> bool:
    """Whether two rules' alerts of one device say the same of other addresses at which nobody is."""
    kinds = [{kind_of(fact) for fact in each.facts[:1]} for each in (one, other)]
    return bool(one.gone and other.gone) and one.gone != other.gone and kinds[0] == kinds[1]


def _with_fellows(alert: Alert, fellows: Sequence[Alert]) -> Alert:
    """An alert and those that say the same, that of the longest time first, as one."""
    if not fellows:
        return alert
    each = sorted((alert, *fellows), key=lambda one: -_lasted_s(one))
    found = [one.attribution for one in each]
    whole = replace(
        alert.attribution,
        flows=pd.concat([one.flows for one in found]).drop_duplicates(),
        evidence=pd.concat([one.evidence for one in found]).drop_duplicates(),
        peers=tuple(dict.fromkeys(peer for one in found for peer in one.peers)),
        start_s=min(one.start_s for one in found),
        end_s=max(one.end_s for one in found),
    )
    return replace(
        alert,
        attribution=whole,
        facts=tuple(fact for one in each for fact in one.facts),
        named=tuple(dict.fromkeys(peer for one in each for peer in one.named)),
        gone=tuple(dict.fromkeys(peer for one in each for peer in one.gone)),
    )


def _lasted_s(one: Alert) -> float:
    return one.attribution.end_s - one.attribution.start_s


def _is_silence_of(proven: Alert, rule: Alert) -> bool:
    """Whether a rule found no more than that a device answered nothing while it was proven silent."""
    kinds = {kind_of(one) for one in proven.facts[:1]}
    silent = "silent_together" in kinds or ("silent" in kinds and rule.label != proven.label)
    ends = (proven.device, *proven.named)
    if not silent or rule.label not in proven.rules_out or rule.device not in ends:
        return False
    one, other = rule.attribution, proven.attribution
    slack_s = 2 * SAMPLE_S  # who says little was last heard before, and is heard again later
    return one.start_s >= other.start_s - slack_s and one.end_s <= other.end_s + slack_s


def _takes_over(rule: Alert, other: Alert) -> bool:
    """Whether what is known of a device already is what a rule found there."""
    if rule.device == other.device and _explains(rule, other):
        return True
    # What another rule proved stays, unless this one explains it.
    if (rule.rules_out or other.facts) and other.label not in {rule.label, *rule.rules_out}:
        return False
    # A server that fails in one way, and minutes later in another, has two stories.
    apart = bool(other.facts) and not rule.profile.lasting and _gap_s(rule, other) > _SLACK_S
    return not apart and _is_same(rule, other)


def _explains(rule: Alert, other: Alert) -> bool:
    """Whether what a rule found explains a model's suspicion about the same two."""
    if other.facts or _gap_s(rule, other) > _SLACK_S:
        return False
    misses = set(other.attribution.peers)
    if misses and misses <= set(rule.gone) and other.label not in ATTACKS:
        return True
    if other.label not in rule.rules_out:
        return False
    # Whom it names: whom else its device has to do with then is another story.
    ends, others = {rule.device, *(rule.named or rule.attribution.peers)}, misses
    # Two whom a scanner tried have nothing to do with each other by that.
    about = rule.device in {other.device, *others} and bool(others & ends)
    return other.device in ends and (not others or about)


def _is_same(a: Alert, b: Alert) -> bool:
    if a.device != b.device:
        return False
    peers, others = set(a.attribution.peers), set(b.attribution.peers)
    shared = bool(peers & others) or not (peers or others)
    if a.label == b.label:
        return shared and (a.profile.lasting or _gap_s(a, b) <= _NEAR_S)
    return shared and _gap_s(a, b) <= 0


def _gap_s(a: Alert, b: Alert) -> float:
    """Time between two alerts, below zero where they overlap."""
    one, other = a.attribution, b.attribution
    return max(one.start_s, other.start_s) - min(one.end_s, other.end_s)


# ---- Alerts of one cause ----


def group_by_cause(found: Sequence[Alert]) -> list[list[Alert]]:
    """Put alerts of one cause together, the one that leads first: the source, then the heaviest.

    Returns:
        Groups in the order of their first evidence; every alert is in exactly one.
    """
    parent = list(range(len(found)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    # Who is to blame by what rules found, for each group, and of what: two such stories are not
    # joined by a suspicion that fits both. What has a label of its own is asked for by that.
    blamed: list[set[str]] = [
        {one.culprit} if one.facts and one.profile.kin == "outage" else set() for one in found
    ]
    deeds: list[dict[str, str]] = [
        {one.device: one.label} if one.facts and one.profile.kin == "intrusion" else {}
        for one in found
    ]
    # What rules found is one cause only where that shows in what they found.
    proven = [[one] if one.facts else [] for one in found]
    members = [[one] for one in found]
    alike = [(i, j) for i, a in enumerate(found) for j in range(i) if _is_one_cause(a, found[j])]
    # What a rule found comes first, then what has the same label.
    for i, j in sorted(alike, key=lambda pair: _weight(found[pair[0]], found[pair[1]])):
        here, there = root(i), root(j)
        apart = bool(blamed[here] and blamed[there]) and blamed[here].isdisjoint(blamed[there])
        apart |= any(deeds[there].get(who, what) != what for who, what in deeds[here].items())
        pairs = list(product(proven[here], proven[there]))
        apart |= bool(pairs) and not any(_is_one_cause(*pair) for pair in pairs)
        ends = ((members[here], proven[there]), (members[there], proven[here]))
        apart |= any(_began_before(*pair) for both in ends for pair in product(*both))
        if here != there and not apart:
            parent[here] = there
            members[there] += members[here]
            proven[there] += proven[here]
            blamed[there] |= blamed[here]
            deeds[there] |= deeds[here]
    effects = _find_effects(found, [root(i) for i in range(len(found))])
    # Whose own address is doubled fails for that, not for what happens to its clients.
    own = {j for i, j in effects if found[i].facts and found[i].device == found[j].device}
    for i, j in effects:
        if j not in own or found[i].device == found[j].device:
            parent[root(j)] = root(i)
    groups: dict[int, list[Alert]] = {}
    for i, one in enumerate(found):
        groups.setdefault(root(i), []).append(one)
    ordered = [sorted(group, key=_rank) for group in groups.values()]
    return sorted(ordered, key=lambda group: min(one.attribution.start_s for one in group))


def _began_before(full: Alert, flood: Alert) -> bool:
    """Whether what a model took for a full link began before a flood that a rule found, which so did not
    fill it."""
    suspected = not full.facts and full.profile.kin == "flood" and not full.profile.flood
    starts_s = full.attribution.start_s, flood.attribution.start_s
    return suspected and flood.profile.flood and starts_s[1] - starts_s[0] > _SLACK_S


def _find_effects(found: Sequence[Alert], group: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of a cause and what it leads to. What began before a cause is not its effect, nor is what
    else belongs to that.

    Args:
        found: the alerts.
        group: of each alert, as far as they were joined.
    """
    began = _find_starts(zip(group, found, strict=True))
    # Where a rule saw who claims an address, a window's suspicion of the same began no earlier and ended
    # no later.
    seen = [
        one for one in zip(group, found, strict=True) if one[1].facts and one[1].profile.leads_to
    ]
    proven_s, over_s = _find_starts(seen), dict[int, float]()
    for at, one in seen:
        over_s[at] = max(over_s.get(at, 0.0), one.attribution.end_s)
    found_by_rule = {
        at: [one for one, of in zip(found, group, strict=True) if of == at and one.facts]
        for at in group
    }
    # Claims of an address and what rules found are placed to a sample, a window's label to a minute.
    return [
        (i, j)
        for i, cause in enumerate(found)
        for j, effect in enumerate(found)
        if _leads_to(cause, effect)
        and max(cause.attribution.start_s, proven_s.get(group[i], 0.0)) - began[group[j]]
        <= (2 * SAMPLE_S if effect.facts else _SLACK_S)
        and effect.attribution.start_s - over_s.get(group[i], np.inf) <= _SLACK_S
        and all(_is_claimed(cause, one) for one in found_by_rule[group[j]])
    ]


def _find_starts(alerts: Iterable[tuple[int, Alert]]) -> dict[int, float]:
    """When each group of alerts began, seconds since the epoch."""
    began: dict[int, float] = {}
    for group, one in alerts:
        began[group] = min(began.get(group, np.inf), one.attribution.start_s)
    return began


def _weight(a: Alert, b: Alert) -> tuple[bool, bool]:
    return not (a.facts or b.facts), a.label != b.label


def _rank(one: Alert) -> tuple[bool, bool, bool, float]:
    """A false address first, because it is the cause of all that fails beside it; then sources,
    those first that the tables bear out, then the heaviest."""
    return (not one.profile.leads_to, one.role == "target", not is_supported(one), -one.mass)


def _is_one_cause(a: Alert, b: Alert) -> bool:
    first, second = a.profile, b.profile
    kin = first.kin if first.kin == second.kin else ""
    intruding = kin == "intrusion"
    intruder = intruding and a.culprit == b.culprit  # who takes one device after the other
    # What rules found of floods and full links is placed to a sample, what a model did to a window.
    exact = kin == "flood" and bool(a.facts and b.facts)
    if _gap_s(a, b) > (_NEAR_S if intruder else 2 * SAMPLE_S if exact else _SLACK_S):
        return False
    if _explains(a, b) or _explains(b, a):
        return True
    if a.facts and b.facts and kin == "outage" and a.label == b.label and a.culprit == b.culprit:
        return True  # one server that fails several clients
    if a.attribution.device == b.attribution.device:
        return False  # merge_repeated kept them apart: the same device, but other peers
    linked = _are_linked(a, b)
    # Rules name who claims an address: two who were seen to are two.
    proven = bool(a.facts and b.facts) and bool(first.leads_to)
    if a.label == b.label and first.shared and (linked or not proven):
        return True
    if first.leads_to or second.leads_to:
        return False
    if kin == "flood" and a.role == b.role == "source":
        linked |= a.attribution.peers[:1] == b.attribution.peers[:1]  # several flood one
    # Two intruders at one device are two stories.
    return linked and (a.label == b.label or (bool(kin) and (not intruding or intruder)))


def _leads_to(cause: Alert, effect: Alert) -> bool:
    """Whether one alert is what makes another's device fail."""
    kin = cause.profile.leads_to
    return (
        bool(kin)
        and kin == effect.profile.kin
        and cause.label not in effect.rules_out  # it says why it is none of that
        and _gap_s(cause, effect) <= _SLACK_S
        and is_supported(cause)
        and (cause.device == effect.device or _are_linked(cause, effect))
        and (not effect.named or _is_claimed(cause, effect))
    )


def _is_claimed(cause: Alert, effect: Alert) -> bool:
    """Whether what a rule found to fail has an end whose address is claimed; that others fail with it
    too, a false address of one of them does not explain."""
    suffers = [cause.device] if cause.role == "target" else []
    claimed = {*cause.named, *suffers} or {cause.device, *cause.attribution.peers}
    return effect.device in claimed or claimed.issuperset(effect.named)


def _are_linked(a: Alert, b: Alert) -> bool:
    ends = a.device in b.attribution.peers or b.device in a.attribution.peers
    return ends or a.culprit == b.culprit


def promote_culprit(lead: Alert, group: Sequence[Alert]) -> Alert:
    """Make the culprit the incident's device where two or more suffer from it and it shows nothing
    itself.

    That is the silent server of clients that call in vain, and the intruder, a device or an address
    outside, of devices that are scanned, flooded or tried one after the other.
    """
    victims = {one.device for one in group if one.role == "target" and one.culprit == lead.culprit}
    suffers = lead.role == "target" and lead.culprit != lead.device
    if not suffers or len(victims) < 2 or not lead.profile.kin:
        return lead
    attribution = replace(lead.attribution, peers=tuple(sorted(victims)))
    return replace(lead, device=lead.culprit, role="source", attribution=attribution)


def _are_together(floods: Sequence[Alert]) -> bool:
    """Whether rules saw all who flood begin and end at once: who acts on one order does."""
    seen = [one.attribution for one in floods if one.facts and one.role != "target"]
    if len(seen) < 2:
        return False
    begin, end = (np.array([getattr(one, at) for one in seen]) for at in ("start_s", "end_s"))
    return bool(max(np.ptp(begin), np.ptp(end)) <= SAMPLE_S)


def name_flood(lead: Alert, group: Sequence[Alert], local: Collection[str]) -> Alert:
    """Tell a flood from one sender from one of many by all alerts of the cause: one device of
    several that take part cannot, nor can a model that reads one device's window.

    Who else floods a victim outside the plant cannot be seen here: the model's word stays.
    """
    if not lead.profile.flood:
        return lead
    floods = [one for one in group if one.profile.flood] or [lead]
    suffer = {one.device for one in floods if one.role == "target"}
    hit = {
        one.attribution.peers[0] for one in floods if one.role != "target" and one.attribution.peers
    }
    victims = suffer | hit
    if victims.isdisjoint(local):
        return lead
    flows = pd.concat([one.attribution.flows for one in floods])
    flows = flows[flows["dst"].isin(victims)].drop_duplicates(["attempt", "slot"])
    sent = flows.groupby("src", observed=True)["src_pkts"].sum()
    senders = int((sent >= _SENDER_SHARE * sent.max()).sum())
    together = senders >= _MANY or (senders > 1 and len(victims) == 1 and _are_together(floods))
    label = "ddos" if together else "dos" if senders == 1 else lead.label
    attribution = replace(lead.attribution, label=label)
    if label == "ddos" and len(victims) == 1:  # what all of them sent is one flood
        start_s = min(one.attribution.start_s for one in floods)
        end_s = max(one.attribution.end_s for one in floods)
        attribution = replace(attribution, flows=flows, start_s=start_s, end_s=end_s)
    return replace(lead, label=label, attribution=attribution)
