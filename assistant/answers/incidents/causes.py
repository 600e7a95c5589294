"""Whether one thing caused another: "was the flood the cause of the outage?", "did ws-1 slow the panel down?"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.answers.asked import OF_NO_INCIDENT, OPEN, Answer, Asked, Reply, begin, say
from assistant.answers.incidents.sides import HARM, find_sides
from assistant.answers.plant.descriptions import describe_fares
from assistant.answers.topics import DNS
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import (
    END,
    OWN,
    choose_incidents,
    find_culprits,
    find_targets,
    measure_part,
)
from assistant.diagnosis.playbook import (
    find_asked,
    find_blamed,
    find_cause,
    find_place,
    find_remedy,
    read_playbook,
)
from assistant.diagnosis.resemblance import LEAD, measure_resemblance
from assistant.diagnosis.spans import find_end, find_start
from assistant.diagnosis.symptoms import find_symptoms
from assistant.facts.fact import Value, kind_of
from assistant.questions.entities import read_devices
from assistant.questions.plain import MAX_CHARS, hide_names
from traffic.labels import ATTACKS

_BE = r"(?:is|are|was|were|has|have|did|does|do|could|can|might|may|ist|sind|war|waren|hat|kann|es|fue|era|son)"
_CAUSES = (
    r"(?:caus(?:e|ed|ing)|br[eo]ak(?! in)|broke(?! in)|stop(?:ped)?|prevent(?:ed)?|trigger(?:ed)?|kill(?:ed)?"
    r"|slow(?:ed)? down|slow(?:ed)?|hurt|disturb(?:ed)?"
    r"|knock(?:ed)? out|take down|took down|bring down|brought down|crash(?:ed)?|affect(?:ed)?|lead to|led to"
    r"|result in|start(?:ed)?|bother(?:ed)?|harm(?:ed)?|impair(?:ed)?|make|made)"
)
_REASON = (
    r"(?:the |a |an |die |der |la |el )?(?:real |root |true )?(?:cause|reason|culprit|source|trigger|origin"
    r"|ursache|grund|schuld|ausloeser|causa|culpable|motivo)"
)
_FROM = (
    r"(?:because of|due to|caused by|triggered by|as a result of|a result of|thanks to|(?:comes?|came|coming) from"
    r"|(?:kommt|kam) (?:das |es )?(?:von|durch)|wegen|durch|verursacht (?:von|durch)"
    r"|por culpa de|debido a|a causa de|causad[oa] por)"
)
_THIS = r"(?:it|that|this|das|es)"
_BLAME = r"(?:to blame|at fault|guilty|responsible|schuld|culpable)"
# (what is taken for the cause, what for its effect), the plainer forms first.
_FORMS = tuple(
    re.compile(one)
    for one in (
        rf"\b{_BE} (?:{_THIS} )?(?P<cause>.+?) (?:that|which|who) {_CAUSES} (?P<effect>.+)",
        rf"\b{_BE} (?P<cause>.+?) {_BLAME}\b(?P<effect>.*)",
        rf"\b{_BE} (?P<cause>.+?) {_REASON}\b(?P<effect>.*)",
        rf"\b(?:is|was) {_THIS} (?P<cause>.+?)['’]?s? (?:own )?(?:fault|doing)\b(?P<effect>.*)",
        rf"^(?P<effect>.*?)\b{_FROM}\b(?P<cause>.+)",
        rf"\b(?:did|does|do|could|can|might|may|has|have|was|were) (?P<cause>.+?) {_CAUSES}\b(?P<effect>.+)",
        rf"^(?P<effect>.{{8,}}?)[,;.?-]+ ?(?:is|was|ist|war) {_THIS} (?:from |because of )?"
        r"(?P<cause>(?:the|a|der|die|das|el|la) .+)",
    )
)
_VAGUE = re.compile(
    r"\b(?:it|that|this|they|these|packets?|traffic|messages?|requests?|somebody|someone|anybody|anyone)\b"
)
_OUGHT = re.compile(
    r"^(?:(?:and|so|but|ok)\W+)*(?:should|must|shall|may|need|soll|muss|darf|debo)\b"
)
_ITSELF = re.compile(
    r"^\W*(?:of |for |an |de )?(?:it|that|this|them|all|everything|das|es|eso|esto)?\W*$"
)
_NEAR, _AT_ONCE_S, _SOON_S = 0.4, 1.0, 60.0
# What a side is, as incidents show it.
_SHOWN_AS = {
    "network": ("packet_loss", "flapping", "congestion"), "load": ("congestion",),
    "shared": ("device_silent",),
}  # fmt: skip


def answer_cause(asked: Asked) -> Answer | None:
    """Whether what a question takes for a cause is one; None where it asks nothing of the kind, or nothing
    that was found tells."""
    words = asked.question[:MAX_CHARS].lower().strip(" ?!.")
    if (
        OPEN.match(words)
        or _OUGHT.match(words)
        or asked.either
        or asked.still
        or asked.query.kind in OF_NO_INCIDENT
    ):
        return None
    form = next((found for one in _FORMS if (found := one.search(words))), None)
    if form is None:
        return None
    cause, effect = form["cause"], form["effect"]
    blamed = _find_blamed(asked, cause)
    known = _find_effect(asked, effect, blamed)
    if blamed.incidents:
        return _compare(asked, blamed.incidents, known, effect)
    if known is None:
        return None
    if blamed.device and not blamed.means:
        return _judge_device(asked, blamed.device, known, _list_rivals(asked, effect, known))
    told = blamed.means or known.label in ATTACKS  # of an attack it is known whence it comes
    vague = HARM.search(cause) or _VAGUE.search(cause)
    return _deny(asked, known) if told and not vague else None


@dataclass(frozen=True)
class _Blamed:
    """What a question takes for a cause: incidents that it may mean, the device that it names, and
    whether it names more than that device."""

    incidents: tuple[Incident, ...]
    device: str
    means: bool


def _find_blamed(asked: Asked, words: str) -> _Blamed:
    mention = read_devices(words, asked.analysis)
    devices = (*mention.devices, *mention.peers) if not mention.alike else ()
    plain = hide_names(words, _names(asked))
    labels = set(find_asked(plain)) | (
        find_symptoms(plain) if "dev" not in plain.split() else set()
    )
    labels |= {"name_resolution"} if DNS.search(plain) else set()
    for side in find_sides(plain):
        labels |= set(_SHOWN_AS.get(side, ()))
    labels |= find_blamed(plain)
    known = worst_first([one for one in asked.analysis.incidents if one.facts])
    mine = [one for one in known if not devices or any(map(one.touches, devices))]
    meant = [one for one in mine if one.label in labels or _is_called(one, plain)]
    if not meant and not labels and mine and len(plain.split()) > 1:
        near = measure_resemblance(words, mine, asked.analysis)
        meant = [mine[int(near.argmax())]] if near.max() >= _NEAR else []
    device = devices[0] if devices else ""
    alone = re.fullmatch(r"(?:it |the |from |by )*dev\W*(?:s|itself|alone|only)?", plain.strip())
    return _Blamed(tuple(meant), device, not alone and bool(labels))


def _is_called(incident: Incident, plain: str) -> bool:
    cause = find_cause(incident.facts)
    return bool(cause and cause.asked and re.search(rf"\b(?:{cause.asked})\b", plain))


def _names(asked: Asked) -> list[str]:
    return [one.name for one in asked.view.plant.devices]


def _find_effect(asked: Asked, words: str, blamed: _Blamed) -> Incident | None:
    """The incident that a question wants explained; "it" is what the talk is about. Where its words name a
    device alone, a fault of it that may have come of what is blamed."""
    if _ITSELF.match(words):
        spoken = asked.focus or asked.incident
        return None if asked.focus is None and spoken in blamed.incidents else spoken
    mention = read_devices(words, asked.analysis)
    named = (*mention.devices, *mention.peers)
    found = choose_incidents(words, mention, asked.analysis, asked.focus)
    found = [one for one in found if one.facts]
    if found and _names_trouble(found[0], hide_names(words, _names(asked))):
        return found[0]
    others = [one for one in found if one not in blamed.incidents]
    own = [one for one in others if any(measure_part(one, end, asked.view) >= END for end in named)]
    if not blamed.incidents:
        both = [one for one in found if blamed.device and one.touches(blamed.device)]
        known = [*both, *(one for one in own if one not in both)]
        near = measure_resemblance(words, known, asked.analysis)
        if len(near) > 1 and near.max() > near[0] + LEAD:
            return known[int(near.argmax())]  # "the reason that the sensors lost it"
        return next(iter(known), None)
    if not named:
        near = measure_resemblance(words, others, asked.analysis)
        return others[int(near.argmax())] if len(near) and near.max() >= _NEAR else None
    if len(named) > 1:
        return next((one for one in own if sum(map(one.touches, named)) > 1), None)
    return next(
        (one for one in own if any(_may_follow(each, one) for each in blamed.incidents)), None
    )


def _names_trouble(incident: Incident, plain: str) -> bool:
    """Whether words name an incident's kind of trouble, and not only its device."""
    return incident.label in find_symptoms(plain) or _is_called(incident, plain)


def _may_follow(cause: Incident, effect: Incident) -> bool:
    """Whether a fault began while what is blamed went on, or soon after."""
    after_s = find_start(effect)[0] - find_start(cause)[0]
    soon = find_start(effect)[0] <= find_end(cause) + _SOON_S
    return effect.label not in ATTACKS and after_s >= -_AT_ONCE_S and soon


def _list_rivals(asked: Asked, words: str, effect: Incident) -> list[Incident]:
    """What else was found at the devices of the effect, where words name no trouble: it may be meant."""
    if _names_trouble(effect, hide_names(words, _names(asked))):
        return []
    mention = read_devices(words, asked.analysis)
    ends = [one for one in mention.devices if any(map(effect.touches, mention.devices))]
    known = [one for one in asked.analysis.incidents if one.facts and one is not effect]
    return [one for one in known if any(measure_part(one, end, asked.view) >= OWN for end in ends)]


def _judge_device(
    asked: Asked, device: str, effect: Incident, rivals: Sequence[Incident]
) -> Answer:
    """Whether the cause of what is to be explained lies at a device, or it only suffers."""
    name = asked.view.name_of(device)
    shared = kind_of(effect.facts[0]) in ("silent_together", "quiet_together")
    culprits = find_culprits(effect)
    lies = set(find_remedy(effect.label, effect.facts).lies)
    if device in culprits and not shared and not lies <= {"network", "shared"}:
        rivals = [one for one in rivals if device not in find_culprits(one)]
        if rivals:
            line = say("cause_one_of", "unclear", name=name, what=effect.facts[0].text)
            return Answer(line, (rivals[0].facts[0], *effect.facts[1:]), standing="inconclusive")
        return Answer(say("cause_yes", asked.reply(True), name=name), effect.facts)
    if effect.label in ATTACKS:
        kind = "cause_no" if effect.touches(device) else "cause_of_attack"
        names = asked.view.names_of(culprits)
        line = say(kind, asked.reply(False), name=name, cause=names, names=names)
        return Answer(line, effect.facts)
    if device in (effect.device, *effect.peers, *effect.related):
        reply: Reply = "no" if lies and lies <= {"network", "shared"} else "unclear"
        place = find_place(effect.label, effect.facts)
        line = say("place", reply, place=place, names=asked.name_ends(effect))
        return Answer(line, effect.facts, whole=True)
    cause = asked.view.names_of(culprits)
    return Answer(say("cause_none", asked.reply(False), name=name, cause=cause), effect.facts)


def _deny(asked: Asked, effect: Incident) -> Answer | None:
    """Nothing of the kind that is taken for the cause was found: of an attack it is known who does it."""
    if effect.label in ATTACKS:
        names = asked.view.names_of(find_culprits(effect))
        return Answer(say("cause_of_attack", asked.reply(False), names=names), effect.facts)
    if asked.blind:
        return None
    line = say("cause_unfound", "no", what=effect.facts[0].text)
    return Answer(line, effect.facts)


def _compare(
    asked: Asked, blamed: Sequence[Incident], effect: Incident | None, words: str
) -> Answer | None:
    """Whether one of the incidents that are taken for the cause may be it."""
    if effect is None:
        return _tell_effect(asked, blamed[0], words)
    if effect in blamed:
        line = say("cause_itself", asked.reply(True), what=effect.facts[0].text)
        return Answer(line, effect.facts[1:])
    starts_s = find_start(effect)[0]
    # The likeliest of them: with a machine in common, and last before it.
    cause = max(
        blamed,
        key=lambda one: (
            _meet(one, effect),
            find_start(one)[0] <= starts_s,
            -abs(find_start(one)[0] - starts_s),
        ),
    )
    view = asked.view
    began_s, ended_s = find_start(cause)[0], find_end(cause)
    values: dict[str, Value] = {
        "cause": _call(cause), "cause_name": view.names_of(_ends(cause)),
        "effect": _call(effect), "effect_name": view.name_of(effect.device),
        "cause_time_s": began_s, "end_time_s": ended_s, "effect_time_s": starts_s,
        "gap_s": max(starts_s - ended_s, 0.0), "place": find_place(effect.label, effect.facts),
        "names": view.names_of(find_culprits(effect)),
    }  # fmt: skip
    kind, reply = _weigh(cause, effect)
    facts = (effect.facts[0], cause.facts[0], *effect.facts[1:])
    return Answer(
        say(kind, reply, **values), facts, standing="inconclusive" if reply == "unclear" else None
    )


def _call(incident: Incident) -> str:
    """What it is called: a flood, not the part in it that one sender has."""
    return read_playbook("dos" if incident.label == "ddos" else incident.label).short


def _weigh(cause: Incident, effect: Incident) -> tuple[str, Reply]:
    """What speaks for or against it, the plainest reason first."""
    starts_s, began_s, ended_s = find_start(effect)[0], find_start(cause)[0], find_end(cause)
    if effect.label in ATTACKS and (cause.label not in ATTACKS or not _same_source(cause, effect)):
        return "cause_of_attack", "no"
    if starts_s < began_s - _AT_ONCE_S:
        return "cause_before", "no"
    mine, excluded = _sides(cause), set(find_remedy(effect.label, effect.facts).excludes)
    if mine and mine <= excluded:
        return "cause_other_side", "no"
    if not _meet(cause, effect):
        return "cause_elsewhere", "no"
    if starts_s - ended_s > _SOON_S:
        return "cause_long_over", "no"
    return "cause_maybe", "unclear"


def _same_source(cause: Incident, effect: Incident) -> bool:
    return bool({*find_culprits(cause)} & {*find_culprits(effect)})


def _sides(incident: Incident) -> set[str]:
    """On which sides of another it would lie: what many share is the network to each."""
    lies = set(find_remedy(incident.label, incident.facts).lies)
    return {"network" if one == "shared" else one for one in lies}


def _ends(incident: Incident) -> list[str]:
    """Who does it and whom it hits, the first of each."""
    return list(dict.fromkeys((*find_culprits(incident)[:1], *find_targets(incident)[:1])))


def _meet(cause: Incident, effect: Incident) -> bool:
    """Whether a machine has to do with both."""
    mine = {cause.device, *cause.peers, *cause.related}
    return bool(mine & {effect.device, *effect.peers[:2]})


def _tell_effect(asked: Asked, cause: Incident, words: str) -> Answer | None:
    """How a device fared in the time of what is taken for a cause, where nothing else is known of it."""
    mention = read_devices(words, asked.analysis)
    named = (*mention.devices, *mention.peers)
    device = next((one for one in named if cause.touches(one)), next(iter(named), ""))
    if not device:
        return None
    fares = describe_fares(asked.view, device, cause)
    if cause.label not in ATTACKS and cause.touches(device):
        return Answer(
            say("cause_itself", asked.reply(True), what=cause.facts[0].text), cause.facts[1:]
        )
    if fares is not None and kind_of(fares) == "fares_well":
        return Answer(begin(fares, "no"), cause.facts)
    line = say(
        "cause_effect_unknown", "unclear", name=asked.view.name_of(device), what=cause.facts[0].text
    )
    return Answer(line, (*((fares,) if fares else ()), *cause.facts[1:]), standing="inconclusive")
