"""The health of a device in words: what stayed undecided, when, for how long, what was measured in it, what to do."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.detection.correlation import Suspicion
from assistant.diagnosis.health import Health, Stretch, bears_out, suspect_stretch
from assistant.facts.by_label import label_facts
from assistant.facts.fact import Fact, Value, listed, make_fact, plural

if TYPE_CHECKING:
    import pandas as pd

    from assistant.facts.traffic_view import Scene

__all__ = ["Condition", "describe_health", "name_health"]

_SHORT = {
    "": "healthy",
    "unseen": "not seen",
    "brief": "seen too briefly to judge",
    "open": "undecided up to the end",
    "several": "undecided at several times",
    "long": "undecided for much of the time it was seen",
    "borne_out": "undecided once",
}
_NOT_WELL = {
    "unseen": "Not certain: no whole minute of {name}'s traffic was seen, so that there is nothing to judge it by.",
    "brief": "Not certain: {name} was seen for {seen_s} only, and what it did then I could not decide.",
    "open": "Not certain: {name} has no incident, but what it did in the last {span_s} that were seen of it, from "
    "{start_time_s} on, I could not decide.",
    "several": "Not certain: {name} has no incident, but {stretches:stretch} of its traffic, {undecided_s} of the "
    "{seen_s} that it was seen, I could not decide.",
    "long": "Not certain: {name} has no incident, but {span_s} of the only {seen_s} that it was seen, from "
    "{start_time_s} on, I could not decide.",
    "borne_out": "Not certain: {name} has no incident, but {span_s} from {start_time_s} on I could not decide, and "
    "what was measured then may be {fits}.",
}
_WELL = "Healthy: {name} behaves as usual; no incident was found for it."
_WELL_BUT = (
    "Healthy, but for one stretch of {span_s} from {start_time_s} on that I could not decide; nothing else stood out "
    "at {name}."
)
_LIKE = (
    "From {start_time_s} to {end_time_s}, {n:window} of {name} looked most like {names}, but not surely enough for an "
    "incident."
)
_SLIGHT = "Of the {seen_s} that {name} was seen, {undecided_s} in {stretches:stretch} could not be decided."
_UNFIT = "What was measured then bears out none of these suspicions."
_ASK = "Ask what {name} did at that time: an update, a download, a backup, a restart, a test?"
_LOOK_UP = "Look up {peer}, with which it had most of that traffic: is it a service of the maker or of the plant?"
_LOOK_AT = "Look at {peer}, with which it had most of that traffic: did it do its usual work?"
_UNTIL = {
    "open": "Keep recording until it is over, then ask again.",
    "several": "Compare these times with the plant's log of changes and jobs; what comes at fixed times is a job.",
    "brief": "Record the device for longer, then ask again.",
    "long": "Record the device for longer, then ask again: one such time in many is no sign of trouble.",
}
_MOST_MEASURED = 3


@dataclass(frozen=True)
class Condition:
    """How a device without an incident is doing, in words.

    Attributes:
        headline: one sentence.
        facts: what stayed undecided, and what was measured in it; empty where nothing did.
        checks: what to do next, in order.
    """

    headline: Fact
    facts: tuple[Fact, ...] = ()
    checks: tuple[str, ...] = ()


def name_health(health: Health) -> str:
    """The shortest form, for a list: "healthy", "undecided up to the end"."""
    return _SHORT[health.reason]


def describe_health(health: Health, verdicts: "pd.DataFrame", scene: "Scene") -> Condition:
    """Word the health of a device."""
    name = scene.name(health.device)
    values: dict[str, Value]
    if not health.stretches:
        sentence = _NOT_WELL.get(health.reason, _WELL)
        return Condition(make_fact("condition", sentence, {"name": name, "seen_s": health.seen_s}))
    if not health.reason and health.slight:
        whole: dict[str, Value] = {"name": name, "seen_s": health.seen_s, "stretches": len(health.stretches)}
        values = {**whole, "undecided_s": sum(one.span_s for one in health.stretches)}
        return Condition(make_fact("condition", _WELL, {"name": name}), (make_fact("slight", _SLIGHT, values),))
    # What is still open is what matters; elsewhere the longest stretch is.
    shown = health.stretches[-1] if health.reason == "open" else max(health.stretches, key=lambda one: one.span_s)
    suspected = suspect_stretch(health.device, shown, verdicts, scene)
    fitting = [one for one in suspected if bears_out(one)]
    values = {
        "name": name,
        "stretches": len(health.stretches),
        "span_s": shown.span_s,
        "undecided_s": sum(one.span_s for one in health.stretches),
        "seen_s": health.seen_s,
        "start_time_s": shown.start_s,
        "fits": listed(_words(one.label) for one in fitting),
    }
    headline = make_fact("condition", _NOT_WELL.get(health.reason, _WELL_BUT), values)
    return Condition(headline, _stretch_facts(name, shown, suspected, scene), _checks(health, name, suspected, scene))


def _stretch_facts(name: str, shown: Stretch, suspected: list[Suspicion], scene: "Scene") -> tuple[Fact, ...]:
    """What a stretch looked like, and the numbers of the likeliest label that has any."""
    if not suspected:
        return ()
    several = len(shown.labels) > 1
    counts = zip(shown.labels, shown.counts, strict=True)
    values: dict[str, Value] = {
        "name": name,
        "n": len(shown.rows),
        "names": listed(_words(label) + (f" ({n} {plural(n, 'window')})" if several else "") for label, n in counts),
        "start_time_s": shown.start_s,
        "end_time_s": shown.end_s,
    }
    values |= {f"count{number}": n for number, n in enumerate(shown.counts)}
    facts = [make_fact("undecided", _LIKE, values)]
    measured = next(filter(None, (label_facts(one.trace, scene) for one in suspected)), [])
    facts += measured[:_MOST_MEASURED]
    return tuple(facts if any(bears_out(one) for one in suspected) else [*facts, make_fact("unfit", _UNFIT, {})])


def _checks(health: Health, name: str, suspected: list[Suspicion], scene: "Scene") -> tuple[str, ...]:
    peers = [peer for one in suspected for peer in one.trace.peers]
    steps = [_ASK.format(name=name)]
    local = set(scene.samples["device"].unique())
    steps += [(_LOOK_AT if peer in local else _LOOK_UP).format(peer=scene.name(peer)) for peer in peers[:1]]
    return (*steps, *([_UNTIL[health.reason]] if health.reason in _UNTIL else []))


def _words(label: str) -> str:
    return label.replace("_", " ")
