"""Whether something is a matter for worry: is it broken, dangerous, normal, planned, a backup or a theft."""

import re
from collections.abc import Sequence

from assistant.answers.asked import (
    OF_NO_INCIDENT,
    OPEN,
    Answer,
    Asked,
    Reply,
    begin,
    find_incidents,
    say,
    say_span,
)
from assistant.answers.attacks.attack import LIKE_WORK, is_own_work
from assistant.answers.attacks.intrusion import list_known
from assistant.answers.attacks.transfers import TRANSFER
from assistant.answers.plant.descriptions import describe_fares
from assistant.answers.requests.replies import answer_answers
from assistant.answers.several import list_of_device
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import attacks, is_bystander
from assistant.diagnosis.playbook import find_place, find_remedy, read_playbook
from assistant.diagnosis.spans import find_end, is_over
from assistant.diagnosis.standing import is_unanswered
from assistant.diagnosis.symptoms import find_symptoms
from assistant.facts.fact import Fact, Value, kind_of
from assistant.questions.plain import MAX_CHARS
from traffic.labels import ATTACKS

_WORRY = re.compile(
    r"\b(?:(?:should|must|need|have) (?:i|we|to|you) .{0,20}(?:worr|concern|alarm|panic|afraid|care|wake|escalat|react)"
    r"|(?:reason|cause|need) to (?:worry|panic|be (?:worried|concerned|alarmed))"
    r"|worr(?:y|ied|ying)\b|sorgen machen|muss ich mir sorgen|(?:debo|tengo que|hay que) preocupar|preocup\w+)"
    r"|\b(?:is|are|was|were|ist|war|sind|es|son|fue) .{0,40}\b(?:dangerous|harmful|serious"
    r"|a (?:threat|problem|risk|danger)|critical|gefaehrlich|schlimm|ernst|kritisch|peligros[oa]|grave|serio)"
)
# "anything to worry about?" is asked of the plant's health, not of one incident.
_OF_ALL = re.compile(
    r"^(?:(?:is|are|was) there )?(?:anything|something|any|algo|irgendwas|etwas)\b"
)
_OF_ITSELF = re.compile(
    r"^(?:(?:and|so|but) )?(?:is|was|ist|war|es) dev (?:\w+ )?(?:a |ein )?(?:dangerous|harmful|danger|threat"
    r"|risk|gefaehrlich"
    r"|gefahr|peligros[oa]|peligro)\b"
)
_NORMAL = re.compile(
    r"\b(?:is|are|was|were|ist|war|sind|es|son|fue|seems?|looks?) .{0,60}\b(?:(?<!back to )normal(?! again)"
    r"|usual|legit\w*|expected|intended"
    r"|planned|regular|on purpose|supposed|gewollt|geplant|ueblich|habitual|planead[oa]|previst[oa])\b"
    r"|\b(?:planned|normal|legit|geplant) (?:or|oder)\b"
)
_PURPOSE = re.compile(
    r"\b(?:is|was|ist|war|es|fue|could|can|may|might)\b.{0,50}\b(?:back-? ?ups?|sicherung|copia de seguridad"
    r"|updates?|upgrades?|replication|export|cloud service|maintenance|time sync"
    r"|health check)\b|\b(?:backup|update|export|maintenance) or\b"
)
_THEFT = re.compile(
    r"^(?!.*\b(?:backup|sicherung|copia de seguridad)\b).*\b(?:thefts?|stolen|stole|steal\w*|leak\w*|gestohlen"
    r"|diebstahl|robo|robad\w*|robaron)\b"
)
_TAMPERED = re.compile(
    r"\b(?:can|could|may|might|did|has|was|were|kann|koennte|puede\w*|pudo|hat)\b.{0,60}\b(?:chang\w*"
    r"|manipul\w*|fak\w*|alter\w*"
    r"|forg\w*|tamper\w*|modif\w*|read along|veraender\w*|geaendert|cambi\w*|falsif\w*)"
    r"|\b(?:false|wrong|fake|falsche?|falsos?) (?:values?|readings?|werte?|valores)\b"
)
_BROKEN = re.compile(
    r"\b(?:broken|defective|faulty|damaged|kaputt|defekt\w*|hinueber|rot[oa]|averiad[oa]|danad[oa]|estropead[oa])\b"
    r"|\bse (?:ha )?(?:romp\w*|rot[oa]|estrope\w*|averi\w*)\b"
)
_OF_OTHERS = OF_NO_INCIDENT | {"numbers"}


def asks_for_worry(plain: str) -> bool:
    """Whether a plain question asks if something is harmless, usual or meant."""
    return any(one.search(plain) for one in (_WORRY, _NORMAL, _PURPOSE)) and not OPEN.match(plain)


def answer_worry(asked: Asked) -> Answer | None:
    """Whether what is meant is a matter for worry, broken, normal or planned; None where that is not
    asked, or no incident tells."""
    plain, incident = asked.query.plain, asked.incident
    if (
        OPEN.match(plain)
        or asked.query.kind in _OF_OTHERS
        or incident is None
        or not incident.facts
    ):
        return None
    if _TAMPERED.search(plain) and asked.device and (told := _answer_tampered(asked)):
        return told
    if asked.device and is_bystander(incident, asked.device, asked.view):
        return None
    if (
        asked.device and asked.focus is None and not find_symptoms(plain)
    ):  # what it does counts before what it only notices
        own = [one for one in list_of_device(asked, asked.device) if one.label in ATTACKS]
        incident = own[0] if own and incident.label not in ATTACKS else incident
    if _BROKEN.search(plain) and asked.device and not asked.found.mention.kind:
        return _answer_broken(asked, incident)
    if TRANSFER.search(asked.question[:MAX_CHARS].lower()) and incident.label != "exfiltration":
        return None  # of a transfer that no incident tells of
    goes_on = incident.label not in ATTACKS and not is_over(incident, asked.analysis)
    if goes_on and asked.query.kind == "consequence":
        return None  # what comes of a fault is said there
    if asked.device and _OF_ITSELF.search(plain) and attacks(incident, asked.device):
        line = say("danger_victim", "no", name=asked.name, what=incident.facts[0].text)
        return Answer(line, incident.facts[1:])
    if _WORRY.search(plain) and not _OF_ALL.match(plain):
        return _tell(asked, incident, "worry", worried=True)
    if _NORMAL.search(plain) and asked.device and attacks(incident, asked.device):
        return None  # how it fares itself is asked
    if _THEFT.search(plain):
        return _answer_theft(asked)
    if _NORMAL.search(plain) or _PURPOSE.search(plain):
        return _tell(asked, incident, "planned", worried=False)
    return None


def _tell(asked: Asked, incident: Incident, kind: str, *, worried: bool) -> Answer:
    """What speaks for harm is said first; that it is over makes a fault less urgent, an attack not."""
    first, rest = incident.facts[0], (*incident.facts[1:], *asked.sensor)
    attack = incident.label in ATTACKS
    over = is_over(incident, asked.analysis)
    values: dict[str, Value] = {
        "what": first.text, "severity": incident.severity, "end_time_s": find_end(incident),
        "respond_s": 60.0 * read_playbook(incident.label).respond_min,
    }  # fmt: skip
    span = (say_span(asked, incident, ""),) if over else ()
    doubtful = is_unanswered(incident.label, incident.facts)
    if attack and (users := _list_users(asked, incident)):
        values["users"] = asked.view.names_of(users)
        line = say(f"{kind}_shared", "unclear", **values)
        return Answer(line, (*span, *rest), standing="inconclusive")
    if attack and doubtful:
        return Answer(say(f"{kind}_unsure", "unclear", **values), (*span, *rest))
    if attack:
        reply: Reply = "" if asked.either else "yes" if worried else "no"
        tool = incident.label in LIKE_WORK and is_own_work(asked, incident)
        line = say(
            f"{kind}_work" if tool else f"{kind}_attack", "unclear" if tool else reply, **values
        )
        return Answer(line, (*span, *rest, say("intent_unknown")))
    if not worried:
        return Answer(say("planned_fault", "unclear", **values), (*span, *rest))
    return Answer(
        say("worry_over" if over else "worry_fault", "" if over else "yes", **values), rest
    )


def _answer_theft(asked: Asked) -> Answer | None:
    """What went outside as if carried off; None where nothing did."""
    known = find_incidents(asked.about("", asked.span), ("exfiltration",))
    found = [one for one in known if one is asked.incident] or known
    if not found:
        line = say("theft_none", "unclear" if asked.polar else "")
        return Answer(line, asked.sensor, standing="inconclusive")
    line = say("theft", "unclear" if asked.polar else "", what=found[0].facts[0].text)
    rest = (*found[0].facts[1:], *(one.facts[0] for one in found[1:]))
    return Answer(line, rest, standing="inconclusive")


def _answer_tampered(asked: Asked) -> Answer | None:
    """That who stood between could change values; None where nobody did."""
    found = find_incidents(asked, ("spoofing",))
    if asked.second:
        found = [one for one in found if one.touches(asked.second)]
    found = [one for one in found if kind_of(one.facts[0]) != "duplicate"]
    if not found:
        return None
    line = say("tamper", "yes" if asked.polar else "", what=found[0].facts[0].text)
    over = (say_span(asked, found[0], ""),) if is_over(found[0], asked.analysis) else ()
    return Answer(line, (*over, *found[0].facts[1:]))


def _list_users(asked: Asked, incident: Incident) -> Sequence[str]:
    """Others of the plant that used an outside address before or beside the one that sends there."""
    if incident.label not in ("exfiltration", "c2") or not incident.peers:
        return ()
    flows = asked.view.flows_of(incident.peers[0])
    others = set(map(str, flows["other"])) & set(list_known(asked))
    return sorted(others - {incident.device})


def _answer_broken(asked: Asked, incident: Incident) -> Answer | None:
    """Whether a device is broken: not by what others do to it, by a line or by a setting."""
    device, name = asked.device, asked.name
    remedy = find_remedy(incident.label, incident.facts)
    lies, first = set(remedy.lies), incident.facts[0]
    place = find_place(incident.label, incident.facts)
    over = (say_span(asked, incident, ""),) if is_over(incident, asked.analysis) else ()
    facts: tuple[Fact, ...] = (*over, *incident.facts)
    if incident.label in ATTACKS:
        kind = "broken_attacked" if attacks(incident, device) else "broken_attacks"
        fares = describe_fares(asked.view, device, incident) if kind == "broken_attacked" else None
        line = say(kind, "no", name=name, what=first.text)
        return Answer(line, ((fares,) if fares else ()) + facts[: len(over)] + incident.facts[1:])
    if incident.label == "device_silent" and not lies:
        kind = "broken_back" if over else "broken_silent"
        line = say(kind, "unclear", name=name, end_time_s=find_end(incident), what=first.text)
        return Answer(line, incident.facts, standing="inconclusive")
    many = incident.role == "both" or incident.label == "device_silent"
    if device != incident.device and not many:
        at = asked.view.name_of(incident.device)
        line = say("broken_other_end", "no", name=name, cause=at, what=first.text)
        return Answer(line, facts[: len(over)] + incident.facts[1:])
    shared = kind_of(first) in ("silent_together", "quiet_together")
    if shared or (lies and lies <= _ELSEWHERE):
        line = say("broken_elsewhere", "no", name=name, what=first.text)
        return Answer(line, facts)
    if lies & {"machine", "program", "server"}:
        told = answer_answers(asked, first).line if over else first
        line = say(
            "broken_over" if over else "broken_maybe", "unclear", what=first.text, place=place
        )
        return Answer(line, (told, *facts) if told is not first else facts, standing="inconclusive")
    return Answer(begin(first, "unclear"), facts[1:], standing="inconclusive")


# Sides that are no part of the device itself.
_ELSEWHERE = frozenset(("network", "load", "settings", "shared", "client", "filter", "unit"))
