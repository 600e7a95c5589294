"""Is there a flood, malware, a doubled address: whether incidents of a kind are known."""

import re
from collections.abc import Sequence

from assistant.answers.asked import Answer, Asked, Reply, begin, find_incidents, say, say_span
from assistant.answers.attacks.intrusion import find_hostile, name_hostile
from assistant.answers.incidents.condition import judge_all
from assistant.answers.plant.past import STRENGTHS
from assistant.answers.topics import DNS, find_topic
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import find_culprits
from assistant.diagnosis.health import judge_health, name_health
from assistant.diagnosis.playbook import find_asked, read_playbook
from assistant.diagnosis.spans import find_end, is_over
from assistant.diagnosis.standing import Standing, is_unanswered, judge
from assistant.facts.fact import kind_of, listed
from assistant.questions.plain import DEVICE
from assistant.questions.queries import Query
from traffic.labels import ATTACKS

# These ask for something else, whatever trouble they name.
_OTHERS = frozenset(
    ("before", "certainty", "checks", "code", "feedback", "help", "manual", "packets", "sensor")
)

_MOST = 8
_SHARED = frozenset(
    ("double", "same_id")
)  # that two bear one name or address is what was asked, harm or none
_TELLING = frozenset(("silent_together", "duplicate", "double", "spike", "peak"))
# The first fact of each says who, to whom and how much.
_SAYS_WHO = frozenset(("brute_force", "dos", "mqtt_abuse", "recon", "exfiltration", "spoofing"))
# Who does it, not who suffers it.
_WHO = re.compile(
    r"(?:and )?(?:wer|welche\w*|quien|between (?:whom|which|what)"
    r"|(?:who|(?:which|what) (?:device|machine|host|address|plc|one|node|camera|sensor)\w*) (?:"
    r"(?:is|are|was|were) (?!being\b)(?:\w+ing|infected|silent|quiet|mute|offline|dead|down|unreachable|gone)"
    r"|(?!(?:is|are|was|were|gets?)\b)\w+))\b"
)
_INSIDE = re.compile(r"\b(?:break|broke\w*|g[eo]t\w*|log\w*) (?:in|into|inside)\b")
_OF_A_DEVICE = re.compile(rf"\b(?:{DEVICE}|it|this|er|(?<!gibt )es|sie|este|esta)\b")


def answer_trouble(asked: Asked) -> Answer | None:
    """Whether there is trouble of the kind that a question names, in the plant or at a device; None
    where it names none."""
    if said := _answer_of_kind(asked):
        return said
    asks_who = bool(_WHO.match(asked.query.plain))
    labels = find_asked(asked.query.plain) if asked.query.exists or asks_who else ()
    if labels and DNS.search(asked.query.plain):  # "who got wrong addresses from dns?"
        labels = ("name_resolution",) if find_incidents(asked, ("name_resolution",)) else labels
    of_trust = asked.query.kind == "certainty" and asked.query.plain.startswith(
        ("how sure", "how certain")
    )
    elsewhere = asked.query.kind in _OTHERS and (not asked.query.guessed or of_trust)
    if asked.query.kind == "logins" and asked.polar and _INSIDE.search(asked.query.plain):
        return None  # that somebody knocks does not say that the door opened
    if not labels or elsewhere:
        return None
    # "is there a flood?" is asked of the plant, whatever device the talk was about.
    device = asked.device if is_of_device(asked.query) else ""
    found = [one for one in asked.analysis.incidents if one.label in labels]
    if "brute_force" in labels:  # a program with an old password tries it again and again too
        found += [
            one
            for one in asked.analysis.incidents
            if one not in found and any(kind_of(fact) == "login_refused" for fact in one.facts)
        ]
    if "dos" in labels:  # "is somebody hammering the broker?"
        found += [
            one
            for one in asked.analysis.incidents
            if one not in found and any(kind_of(fact) == "messages" for fact in one.facts)
        ]
    if device:
        found = [one for one in found if one.touches(device)]
    if not found and (topic := find_topic(asked, alike=False)) is not None:
        shared = kind_of(topic.facts[0]) in _SHARED and not _HARM.search(asked.query.plain)
        meant: Reply = asked.reply(True) if shared else "unclear"
        return Answer(begin(topic.facts[0], meant), topic.facts[1:])
    if not found and asked.query.measure == "left":
        return None  # what went out is counted
    if not found:
        return _deny(asked, labels, device)
    if asked.still:
        going = [one for one in found if not is_over(one, asked.analysis)]
        if not going:
            last = max(found, key=find_end)
            return Answer(say_span(asked, last, asked.reply(False)), last.facts)
        found = going
    # Who causes it at one does not cause it at all who suffer at the same time.
    named = not device or all(device in (one.device, *one.peers) for one in found)
    if asks_who and named:
        return _name_culprits(asked, worst_first(found))
    return _describe(asked, worst_first(found), labels)


_HOW = re.compile(
    r"(?:and )?how (?:strong|big|large|bad|intense|heavy|massive|regular|regularly|fast|quick|long|severe)\b"
)


def _answer_of_kind(asked: Asked) -> Answer | None:
    """How strong or how long trouble of a kind was, or whether it is over: what is known of it; None
    where that is not asked, or nothing of the kind is known."""
    plain = asked.query.plain
    ends = asked.ended
    if not (ends or _HOW.match(plain)) or not (labels := find_asked(plain)):
        return None
    found = find_incidents(asked, labels)
    if not found:
        return None
    if ends or plain.startswith("how long"):
        reply: Reply = ("yes" if is_over(found[0], asked.analysis) else "no") if ends else ""
        return Answer(say_span(asked, found[0], reply), found[0].facts)
    strength = [fact for fact in found[0].facts if kind_of(fact) in STRENGTHS]
    rest = [fact for fact in found[0].facts if fact not in strength]
    first, *others = [*strength, *rest] if "regular" in plain else [*rest, *strength]
    return Answer(first, tuple(others))


def is_of_device(query: Query) -> bool:
    """Whether a question names a device, or means the one that was spoken of."""
    return bool(_OF_A_DEVICE.search(query.plain))


def _name_culprits(asked: Asked, incidents: Sequence[Incident]) -> Answer:
    one = len(incidents) == 1 and incidents[0].role != "target" and incidents[0].label in _SAYS_WHO
    telling = _TELLING & {kind_of(incidents[0].facts[0])}
    if telling or one or asked.query.plain.startswith("between"):
        facts = [fact for one in incidents for fact in one.facts[:2]]
        return Answer(facts[0], tuple(facts[1:]))  # its first fact says who, better than a list
    kinds = listed(dict.fromkeys(read_playbook(one.label).short for one in incidents))
    culprits = dict.fromkeys(end for one in incidents for end in find_culprits(one))
    line = say("trouble_who", kinds=kinds, names=listed(map(asked.view.name_of, culprits), _MOST))
    facts = [fact for one in incidents for fact in one.facts[:2]]
    return Answer(line, tuple(facts), about=next(iter(culprits)))


_GENUINE = re.compile(r"\b(?:right|real|true|genuine|correct)\b")
_HARM = re.compile(
    r"\b(?:attack|guess|brute|hack|crack|break in|breaking in|angriff|erraten|knack|ataque|adivin)\w*"
)


def _describe(asked: Asked, incidents: Sequence[Incident], labels: Sequence[str]) -> Answer:
    """The worst of them answers, the others are its facts; what is much like it is no "yes"."""
    first, *others = incidents
    book = read_playbook(first.label)
    # A dead cloud service and a dead controller look the same.
    unanswered = is_unanswered(first.label, first.facts)
    doubt = (say("as_it_is", text=book.doubt),) if unanswered and book.doubt else ()
    sure = judge(first, asked.analysis.verdicts, first.facts) != "inconclusive" and not unanswered
    # A program with an old password is no attack, though somebody tries passwords.
    alike = first.label not in labels and bool(_HARM.search(asked.query.plain))
    reply: Reply = "yes" if sure and not alike else "unclear"
    if reply == "yes" and _GENUINE.search(asked.query.plain):  # "does it talk to the right one?"
        reply = "no"
    line = begin(first.facts[0], reply)
    rest = (fact for one in others for fact in one.facts[:1])
    return Answer(
        line,
        (*doubt, *rest, *first.facts[1:], *asked.sensor),
        checks=book.target_checks if first.role == "target" else book.checks,
    )


def _deny(asked: Asked, labels: Sequence[str], device: str) -> Answer:
    """Nothing of the kind was found: "no" only where all were judged and the sensor saw."""
    kinds = listed(dict.fromkeys(read_playbook(label).short for label in labels))
    if device:
        others = [
            one
            for one in worst_first(list(asked.analysis.incidents))
            if one.device == device and one.label in ATTACKS and one.role != "target" and one.facts
        ]
        if others:  # "is it infected?" of a device that scans
            infected = "c2" in labels
            line = say(
                "trouble_by_deed" if infected else "trouble_other_at", "" if infected else "unclear",
                kinds=kinds, name=asked.view.name_of(device),
                others=read_playbook(others[0].label).short, what=others[0].facts[0].text,
            )  # fmt: skip
            return Answer(line, others[0].facts[1:], standing="inconclusive")
        health = judge_health(device, asked.analysis.verdicts, asked.view)
        well, state = health.standing == "normal", name_health(health)
        kind = "trouble_none_at" if well else "trouble_unclear_at"
        line = say(
            kind,
            "no" if well else "unclear",
            kinds=kinds,
            name=asked.view.name_of(device),
            state=state,
        )
        return Answer(line, asked.found.facts, standing="normal" if well else "inconclusive")
    if "c2" in labels and (acts := find_hostile(asked)):
        # Who was taken over need not call anybody outside.
        line = name_hostile(asked, acts, "unclear" if asked.polar else "")
        told = {one.id: one.facts[0] for found in acts.values() for one in found}
        none = say("trouble_none", kinds=kinds)
        return Answer(line, (none, *told.values()), standing="inconclusive")
    judged = judge_all(asked.analysis)
    seen = judged.well > 0 and not asked.blind
    sure = seen and judged.well == len(judged.devices)
    reply: Reply = "no" if sure else "" if seen else "unclear"
    line = say("trouble_none", reply, kinds=kinds)
    standing: Standing = "normal" if sure and not judged.blamed else "inconclusive"
    return Answer(line, (judged.line, *asked.sensor), standing=standing)
