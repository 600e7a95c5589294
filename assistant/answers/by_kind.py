"""One function for each kind of query, and what is asked for beside a kind: who, which device, what is lost."""

import re
from collections.abc import Callable
from dataclasses import replace

from assistant.answers.asked import Answer, Asked, begin, say, say_span, tell_incident
from assistant.answers.attacks.attack import answer_attack
from assistant.answers.attacks.downloads import answer_download
from assistant.answers.attacks.intrusion import MAC, answer_bearer, answer_hostile, answer_logins
from assistant.answers.attacks.notices import answer_reported, answer_reports
from assistant.answers.attacks.remote import answer_commander, answer_remote, answer_shell
from assistant.answers.incidents.actions import answer_again, answer_leave
from assistant.answers.incidents.affected import answer_affected
from assistant.answers.incidents.aftermath import answer_success
from assistant.answers.incidents.causes import answer_cause
from assistant.answers.incidents.condition import answer_health, answer_incidents
from assistant.answers.incidents.course import (
    answer_before_it,
    answer_ended,
    answer_faring,
    answer_meaning,
    answer_peak,
    answer_retries,
    answer_summary,
)
from assistant.answers.incidents.earlier import answer_began
from assistant.answers.incidents.events import answer_order, answer_related
from assistant.answers.incidents.reasons import (
    TWICE,
    answer_against,
    answer_before,
    answer_certainty,
    answer_consequence,
    answer_documents,
    answer_numbers,
    answer_packets,
    answer_place,
    answer_security,
    answer_sensor,
    answer_usual,
)
from assistant.answers.incidents.since import answer_since
from assistant.answers.plant.groups import (
    answer_encryption,
    answer_role,
    answer_slowest,
    answer_zones,
)
from assistant.answers.plant.inventory import (
    answer_code,
    answer_devices,
    answer_responsible,
    names_code,
)
from assistant.answers.plant.lookups import answer_dns
from assistant.answers.plant.past import answer_interval
from assistant.answers.requests.commands import answer_commands, answer_resumed
from assistant.answers.requests.replies import ACCEPTED, answer_answers, answer_loss, still_talks
from assistant.answers.requests.writers import answer_writers
from assistant.answers.traffic.behaviour import FINDS, answer_aspect, answer_does
from assistant.answers.traffic.changes import answer_changed, answer_trend, asks_for_trend
from assistant.answers.traffic.counts import answer_count, asks_for_number, count_codes
from assistant.answers.traffic.partners import answer_who, names_no_act
from assistant.answers.traffic.volumes import TO_ALL, answer_talkers
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import attacks, find_culprits
from assistant.diagnosis.playbook import find_asked
from assistant.diagnosis.spans import is_over
from assistant.diagnosis.standing import is_unanswered
from assistant.diagnosis.symptoms import find_symptoms
from assistant.facts.fact import Fact
from assistant.questions.entities import Mention
from assistant.questions.queries import Query
from traffic.labels import ATTACKS

_RUNS_WELL = re.compile(
    r"\b(?:run\w*|work\w*|behav\w*|do\w*|operat\w*) (?:\w+ )?(?:normal\w*|as usual|fine|ok|well)\b"
)

# "who looks for it?" asks who calls it in vain, "who looks after it?" who is responsible.
_SEEKS = re.compile(r"\b(?:look\w* for|search\w* for|seeks?|sucht|busca) (?:an? )?dev\b")


_GOING_ON = re.compile(r"\bwhat(?: is| was|.s|s)? (?:going on|happen\w*|up|wrong|the matter)\b")


_WENT = re.compile(  # of a time that is past who sends now tells nothing
    r"\b(?:went|fell|dropped|were|was) (?:\w+ )?(?:dead|silent|quiet|dark|down|off|offline|gone|mute|out)\b"
)


def _answer_reporting(asked: Asked, headline: Fact) -> Answer:
    incident = asked.incident
    asks = bool(_GOING_ON.search(asked.query.plain) or _WENT.search(asked.query.plain))
    if incident is not None and incident.facts and (asks or incident.label == "device_silent"):
        return tell_incident(incident)
    return answer_answers(asked, headline)


_ARE_OURS = re.compile(  # of those that something comes from
    r"\b(?:are|is|were|was) (?:any |some |one |all )?(?:of )?(?:them|these|those|they) (?:ours|our own|from us"
    r"|known)\b"
)


# "we lost the recorder and plc-3": devices, not packets.
_LOST_DEVICES = re.compile(
    r"\blost (?!(?:packets?|frames?|segments?|data|bytes|any|on|when|if|while|as|at|by|between|in|during|after"
    r"|before|because|from|towards?)\b)(?:[\w-]+,? (?:and )?){0,3}dev\b"
)


def _answer_loss(asked: Asked, headline: Fact) -> Answer:
    if _LOST_DEVICES.search(asked.query.plain):
        incident = asked.incident
        return (
            tell_incident(incident)
            if incident and incident.facts
            else answer_answers(asked, headline)
        )
    if asks_for_trend(asked):
        return answer_changed(asked)
    copies = TWICE.search(asked.query.plain) and asked.analysis.capture.quality.whole["copies"]
    return answer_sensor(asked) if copies else answer_loss(asked, headline)


# What a device is, and not what ails it.
_OF_OURS = re.compile(
    r"(?:and )?(?:which|what|welche\w*|cual\w*) (?:one )?(?:of (?:our|my)|unserer|de nuestr[oa]s)\b"
)
_IDENTIFIES = re.compile(
    r"\b(?:what|who|was|wer|que|quien|cual)(?:.s| is| are| was| ist| es| kind| sort| type| make| model)\b"
    r"|\bdoes dev exist\b"
    r"|\b(?:makes?|models?|vendor|maker|manufacturer|firmware|describe|details|serial|versions?|macs?|roles?"
    r"|types?|hardware"
    r"|belong\w*|ours|known|plan|inventory|tell me about|modelo|hersteller|fabricante)\b"
)


def _answer_devices(asked: Asked) -> Answer:
    """What a device is; what is wrong with it, where more was asked than that."""
    if _ARE_OURS.search(asked.query.plain):
        return answer_hostile(asked)
    if asked.incident and _WHO_IS.match(asked.query.plain) and not asked.query.names_device:
        return _answer_concerned(asked, asked.incident)
    facts = asked.incident.facts if asked.incident else ()
    if asked.incident and asked.query.aspect == "units" and facts and "unit" in facts[0].values:
        return tell_incident(asked.incident)  # "which unit?"
    if MAC.search(asked.query.plain) and (asked.device or asked.incident):
        return answer_bearer(asked)
    if asked.polar and asked.query.relation == "write" and asked.device:
        return answer_who(asked)  # "is someone loading firmware into it?"
    apart = asked.query.state or asked.query.aspect or asked.alike
    incident = asked.incident if asked.device and not apart else None
    if incident and incident.facts and not _IDENTIFIES.search(asked.query.plain):
        return tell_incident(incident)
    return answer_devices(asked)


_FOUND = re.compile(r"\b(?:which|what) ports?\b|\b(?:find|found|result\w*)\b")


def _answer_who(asked: Asked, headline: Fact) -> Answer:
    if asked.either and asked.query.relation == "outside":  # "is the cloud down or our line?"
        return answer_answers(asked, headline)
    if TO_ALL.search(asked.query.plain) or asked.query.measure == "talkers":
        return answer_talkers(asked)
    if _OF_OURS.match(asked.query.plain) and asked.incident and asked.incident.label in ATTACKS:
        return answer_hostile(asked)
    if asked.polar and (still := still_talks(asked)):
        return still
    incident = asked.incident
    if incident is not None and incident.facts and ELLIPSIS.match(asked.query.plain):
        return tell_incident(incident)  # it names both ends
    if asked.query.relation == "scan" and _FOUND.search(asked.query.plain):
        return answer_does(asked)
    of_them = names_no_act(asked.query) or bool(_SENT_THEM.match(asked.query.plain))
    if incident is not None and incident.facts and of_them:
        return _answer_concerned(asked, incident)
    return answer_aspect(asked) or answer_who(asked)


def _add_attack(asked: Asked, told: Answer) -> Answer:
    """The same with the attack on the device that is asked about: it may be why somebody asks."""
    incident = asked.incident
    if incident is None or not incident.facts or not attacks(incident, asked.device):
        return told
    return replace(told, facts=(incident.facts[0], *told.facts))


_THAT_THING = re.compile(
    r"\b(?:that thing|the (?:other|far) (?:end|side)|that (?:address|server|host|ip)|anyone|anybody|somebody|someone)\b"
)


def _answer_far_end(asked: Asked) -> Answer | None:
    """Whether the machine outside that a device calls answers: "does that thing answer?"."""
    focus = asked.focus
    if focus is None or focus.label != "c2" or not focus.facts or asked.query.names_device:
        return None
    if not _THAT_THING.search(asked.query.plain):
        return None
    reply = asked.reply(not is_unanswered(focus.label, focus.facts))
    return Answer(begin(focus.facts[0], reply), focus.facts[1:])


_HIT_PORTS = re.compile(
    r"\bports? (?:was|were|is|are|got|did|does|has|it|he|they)?(?: \w+)? ?(?:hit|attacked|scanned|tried|flooded"
    r"|targeted|tested|probed)\b"
)


def _answer_does(asked: Asked) -> Answer:
    incident = asked.incident
    attack = incident is not None and incident.label in ATTACKS and bool(incident.facts)
    if (
        incident
        and attack
        and not asked.query.names_device
        and _HIT_PORTS.search(asked.query.plain)
    ):
        return tell_incident(incident)  # its own fact names them
    return answer_does(asked)


_TRIES = re.compile(
    r"\b(?:tr(?:y|ies|ied|ying)|guess(?:es|ing)|attempt\w*|hammer\w*|probier\w*|versuch\w*|prueb\w*|intent\w*)\b"
)
_GETS_IN = re.compile(
    r"\b(?:g[eo]t\w* in|work\w*|succe\w*|success\w*|let in|inside|log\w* in|correct\w*|right (?:one|password)"
    r"|entr\w*|rein\w*)\b"
)
_OF_LOGINS = re.compile(
    r"\b(?:log\w*|passwords?|sign\w*|credentials?|guess\w*|users?|accounts?|brute\w*|anmeld\w*|passwor\w*|sesion"
    r"|contrasena\w*|usuari\w*)\b"
)


def _answer_logins(asked: Asked) -> Answer:
    """Whether who was refused was let in; of an attack of another kind whether that had success."""
    # "someone rattled at every door, did they get in?"
    focus = asked.focus or (asked.incident if find_symptoms(asked.query.plain) else None)
    other = focus is not None and focus.label in ATTACKS and focus.label != "brute_force"
    if asked.focus is not None and asked.still and not _OF_LOGINS.search(asked.query.plain):
        over = is_over(asked.focus, asked.analysis)  # "still coming in?" of a flood
        return Answer(say_span(asked, asked.focus, asked.reply(not over)), asked.focus.facts)
    guessed = asked.incident if asked.incident and asked.incident.label == "brute_force" else None
    asks_if = (
        asked.polar and _TRIES.search(asked.query.plain) and not _GETS_IN.search(asked.query.plain)
    )
    if guessed is not None and guessed.facts and asks_if:  # "does somebody try passwords?"
        return Answer(begin(guessed.facts[0], "yes"), guessed.facts[1:])
    told = answer_success(asked) if other and not _OF_LOGINS.search(asked.query.plain) else None
    return told or answer_logins(asked)


_SENT_THEM = re.compile(
    r"^(?:and )?who (?:sends?|sent|wrote|asked|tried) (?:them|these|those|it|that)\W*$"
)
_ELSE = re.compile(r"\b(?:else|others?|noch|sonst|mas|otr[oa]s?)\b")
_CONCERNED = re.compile(
    r"\b(?:notic\w*|suffer\w*|affected|hit|concern\w*|complain\w*|feel\w*|victims?|impact\w*"
    r"|betroffen|leidet|merkt|afectad\w*)\b"
)
_WHO_IS = re.compile(
    r"^(?:and |so |but )?(?:who (?:is|was) (?:that|he|she|it|this)(?: \w+)?\W*$|wer (?:ist|war) (?:das|er)\b"
    r"|quien (?:es|era)\b)"
)


def _answer_concerned(asked: Asked, incident: Incident) -> Answer:
    """Who has to do with an incident, where a question names no act: "who was it?", "who else?"."""
    if _ELSE.search(asked.query.plain) or _CONCERNED.search(asked.query.plain):
        return answer_affected(asked, incident.facts[0])
    culprit = find_culprits(incident)[0]
    if _WHO_IS.match(asked.query.plain) and culprit != asked.device:
        mention = Mention((culprit,))
        return answer_devices(replace(asked, found=replace(asked.found, mention=mention)))
    return Answer(incident.facts[0], incident.facts[1:], about=culprit)


# "to whom?", "by whom?": of what the talk is about.
ELLIPSIS = re.compile(
    r"(?:and |und |y )?(?:(?:to|by|from|with|at|against|an|von|mit|gegen|a|de|con|por) )?"
    r"(?:whom?|wem|wen|quien|where(?: to| from)?)(?: exactly| then| denn)?\W*$"
)
_MOST_OF_ELLIPSIS = 5  # words


def is_elliptic(query: Query) -> bool:
    """Whether a question without a device goes on about what was said before: "how many packets?"."""
    short = not query.names_device and len(query.plain.split()) <= _MOST_OF_ELLIPSIS
    if query.kind == "count":
        return short and query.measure not in ("devices", "incidents", "talkers")
    return short and query.kind == "who" and names_no_act(query)


_WHICH_FIRST = re.compile(
    r"^(?:and |so )?(?:which|what|welche\w*|que|cual\w*) (?:one )?(?:of (?:them|these|those) )?(?:was|is|came|war|fue)"
    r" (?:the )?(?:first|zuerst|primer\w*)\W*$"
)
_NEVER_BEFORE = re.compile(r"\b(?:before|never|first time|vorher|noch nie|antes|nunca)\b")
_REGULAR = re.compile(
    r"\b(?:regular\w*|intervals?|periodic\w*|rhythm\w*|pattern\w*|bursts?|waves?|random\w*|on and off|every (?:so|few)"
    r"|regelmaessig\w*|abstaend\w*|takt|intervalos?|ritmo)\b"
)
_ONLY_READ = re.compile(
    r"\b(?:only|just|merely|nur|solo) (?:been )?(?:read|looked|gelesen|leid[oa])\b"
)
_JUST_TRIED = re.compile(
    r"\b(?:only|just|merely) (?:try|tried|an? (?:try|attempt))"
    r"|\b(?:really|actually) (?:got?|gets?|get|was|were)? ?changed\b"
)


def _count_named(asked: Asked) -> Answer | None:
    """What was measured of a trouble that a question names and asks the amount of: "the flood, how much and who?"."""
    incident, query = asked.incident, asked.query
    counts = (
        not query.measure and not query.aspect and incident is not None and bool(incident.facts)
    )
    if incident is None or not counts or incident.label not in find_asked(query.plain):
        return None
    return tell_incident(incident)


def _answer_changed(asked: Asked) -> Answer:
    """What is other than before; of writes whether they were accepted, or whether there were any."""
    plain = asked.query.plain
    if asked.incident and _JUST_TRIED.search(plain) and (told := answer_success(asked)):
        return told  # "did it really get changed, or did it just try?"
    if asked.device and asked.query.relation == "write" and _ONLY_READ.search(plain):
        return answer_who(asked)  # "was anything changed in it, or was it only read?"
    return answer_aspect(asked) or answer_changed(asked)


# What the sensor reports, what was fetched, and who sat at which machine: asked in words of its own, whatever
# the kind; None where it is not asked, or nothing tells.
BY_CONTENT: tuple[Callable[[Asked], Answer | None], ...] = (
    answer_reports, answer_reported, answer_download, answer_remote, answer_commander, answer_shell,
)  # fmt: skip
# What is asked of one incident; None where nothing of it tells.
OF_ONE: dict[str, Callable[[Asked, Fact], Answer | None]] = {
    "action": lambda asked, _: answer_leave(asked),
    "outcome": lambda asked, _: answer_success(asked),
    "retried": lambda asked, _: answer_retries(asked),
    "summary": answer_summary,
    "meaning": lambda asked, _: answer_meaning(asked),
    "peak": lambda asked, _: answer_peak(asked),
    "fares": lambda asked, _: answer_faring(asked),
    "earlier": lambda asked, _: answer_order(asked) or answer_before_it(asked),
    "cause": lambda asked, headline: (
        answer_cause(asked)
        or (
            Answer(say("cause_open", "unclear"), (headline,), standing="inconclusive")
            if asked.polar
            else None
        )
    ),
    "trend": lambda asked, _: (
        (answer_interval(asked) if _REGULAR.search(asked.query.plain) else None)
        or answer_trend(asked)
    ),
    "related": lambda asked, _: answer_related(asked),
    "ended": lambda asked, _: (
        answer_resumed(asked)
        or answer_commands(asked)
        or answer_again(asked)
        or answer_ended(asked)
    ),
}

BY_KIND: dict[str, Callable[[Asked, Fact], Answer]] = {
    "health": answer_health,
    "since": lambda asked, headline: (
        (answer_related(asked) if _WHICH_FIRST.search(asked.query.plain) else None)
        or (answer_count if asks_for_number(asked) else answer_since)(asked, headline)
    ),
    "who": _answer_who,
    "does": lambda asked, _: _answer_does(asked),
    "count": lambda asked, headline: (
        told
        if (told := _count_named(asked))
        else answer_dns(asked, headline)  # "how many names were wrong?"
        if asked.query.aspect == "names"
        and asked.incident
        and asked.incident.label == "name_resolution"
        else answer_count(asked, headline)
    ),
    "answers": lambda asked, headline: (
        _answer_far_end(asked) or _add_attack(asked, answer_answers(asked, headline))
    ),
    "dns": answer_dns,
    "loss": _answer_loss,
    "affected": answer_affected,
    "devices": lambda asked, _: _answer_devices(asked),
    "responsible": lambda asked, headline: (
        _answer_who(asked, headline)
        if _SEEKS.search(asked.query.plain)
        else answer_responsible(asked)
    ),
    "attack": answer_attack,
    "consequence": answer_consequence,
    "first": lambda asked, _: answer_incidents(asked),
    "security": answer_security,
    "certainty": answer_certainty,
    "against": answer_against,
    "numbers": answer_numbers,
    "packets": answer_packets,
    "sensor": lambda asked, _: answer_sensor(asked),
    "manual": lambda asked, _: answer_documents(asked, "manual"),
    "before": lambda asked, _: answer_before(asked),
    "code": lambda asked, _: answer_code(asked) if names_code(asked) else count_codes(asked),
    "usual": lambda asked, headline: (
        answer_health if _RUNS_WELL.search(asked.query.plain) else answer_usual
    )(asked, headline),
    "hostile": lambda asked, headline: (
        answer_attack(asked, headline) if asked.device and asked.polar else answer_hostile(asked)
    ),
    "logins": lambda asked, _: _answer_logins(asked),
    "place": answer_place,
    "bearer": lambda asked, _: answer_bearer(asked),
    "reporting": lambda asked, headline: (
        _answer_reporting(asked, headline)
        if asked.incident and _WENT.search(asked.query.plain)
        else answer_role(asked) or _answer_reporting(asked, headline)
    ),
    "zones": lambda asked, _: answer_zones(asked),
    "slowest": lambda asked, _: answer_slowest(asked),
    "encryption": lambda asked, _: answer_encryption(asked),
    "changed": lambda asked, _: _answer_changed(asked),
    "writers": lambda asked, headline: (
        (answer_began(asked) if _NEVER_BEFORE.search(asked.query.plain) else None)
        or (answer_answers if ACCEPTED.search(asked.query.plain) else answer_writers)(
            asked, headline
        )
    ),
    "incidents": lambda asked, _: (
        _answer_does(asked)  # "did it find anything open?"
        if asked.focus is not None and FINDS.search(asked.query.plain)
        else answer_incidents(asked)
    ),
}
