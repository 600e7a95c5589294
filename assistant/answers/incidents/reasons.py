"""How sure, what speaks against it, a matter for security, what to do, what is usual, numbers, packets, documents."""

import re
from dataclasses import replace

from assistant.answers.asked import Answer, Asked, Reply, begin, say, say_span, tell_incident
from assistant.answers.attacks.attack import doubt_of
from assistant.answers.incidents.affected import answer_affected
from assistant.answers.incidents.condition import describe_incident, name_incident
from assistant.answers.incidents.earlier import answer_began
from assistant.answers.incidents.sides import reply_by_side
from assistant.answers.plant.documents import find_quotations
from assistant.answers.plant.past import MET, WORKED, answer_met, answer_rhythm, answer_worked
from assistant.answers.requests.replies import answer_loss
from assistant.answers.several import list_of_device
from assistant.answers.traffic.changes import say_first
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import OWN, find_culprits
from assistant.diagnosis.citations import Citation
from assistant.diagnosis.compose import find_checks
from assistant.diagnosis.playbook import find_place, find_remedy, read_playbook
from assistant.diagnosis.proof import point_at
from assistant.diagnosis.sources import find_sources, keep_by_words, quote_alike, read_identity
from assistant.diagnosis.spans import is_over
from assistant.diagnosis.standing import is_unanswered, verdict_fact
from assistant.facts.devices import newcomer_facts
from assistant.facts.fact import Fact, Value, kind_of, listed
from assistant.facts.sensor import sensor_facts
from assistant.questions.entities import Mention
from assistant.questions.queries import specific_words
from knowledge_base.documents import Kind
from traffic.labels import ATTACKS

_MOST = 5


def answer_consequence(asked: Asked, headline: Fact) -> Answer:
    """What comes of it where nobody acts, and how soon somebody should; what the process makes of it,
    traffic does not say."""
    incident = asked.incident
    if incident is not None and _OTHERS.search(asked.query.plain):
        return answer_affected(asked, headline)
    if _LOSES.search(asked.query.plain):  # "did we lose any values?"
        return answer_loss(asked, headline)
    if incident is None:
        reply: Reply = "unclear" if asked.found.standing != "normal" else ""
        return Answer(begin(headline, reply), asked.found.facts, whole=True)
    book = read_playbook(incident.label)
    line = say(
        "consequence", severity=incident.severity, text=book.consequence, respond_s=60.0 * book.respond_min,
        name=asked.view.name_of(incident.device),
    )  # fmt: skip
    over = (say_span(asked, incident, ""),) if is_over(incident, asked.analysis) else ()
    return Answer(line, (headline, *over, say("consequence_process")), whole=True)


_LOSES = re.compile(
    r"\b(?:los[et]|losing|miss(?:ing|ed)?|verlor\w*|perd\w+) (?:\w+ ){0,2}(?:values?|data|readings?|records?"
    r"|measurements?|messages?|packets?|werte?|daten|valores|datos)\b"
)
# "does it hurt anybody else?"
_OTHERS = re.compile(r"\b(?:any(?:one|body)?|some(?:one|body)|who|whom|to) (?:else|others?)\b")
_CLOSES = re.compile(
    r"\b(?:no|not an?|never mind|rule out|exclude|close (?:the|this|that) (?:ticket|case|file|matter)|without)\b"
)


def answer_security(asked: Asked, headline: Fact) -> Answer:
    """Whether it is a matter for security, by criteria that are said."""
    incident = asked.incident
    if incident is None:
        began = newcomer_facts(asked.view, asked.device)
        if asked.found.standing == "normal" and not began:
            return Answer(say("security_none", asked.reply(False), name=asked.name), (headline,))
        return Answer(
            say("security_unclear", "unclear", name=asked.name),
            (headline, *began, *(one for one in asked.found.facts if one not in began)),
        )
    rules = asked.view.plant.security
    device, peers = incident.device, incident.peers
    names = {one.name.lower(): one.address for one in asked.view.plant.devices}
    guarded = {names.get(one.lower(), one) for one in rules.devices}
    outside = [peer for peer in peers if peer not in asked.view.own]
    logins = any(kind_of(one) == "login_refused" for one in incident.facts)
    values: dict[str, Value] = {"name": asked.view.name_of(device), "contact": rules.contact}
    if incident.label in rules.labels:
        attack = incident.label in ATTACKS
        kind, reply = "security_attack" if attack else "security_label", asked.reply(True)
    elif guarded & {device, *peers}:
        kind, reply = "security_device", asked.reply(True)
        values["name"] = asked.view.names_of(sorted(guarded & {device, *peers}))
    elif rules.outside and outside:
        kind, reply = "security_outside", asked.reply(True)
        values["outside"] = asked.view.names_of(outside)
    elif logins and incident.label == "misconfiguration" and rules.refused_logins != "no":
        sure = rules.refused_logins == "yes"
        kind = "security_logins" if sure else "security_login"
        reply = asked.reply(True) if sure else "unclear" if asked.polar else ""
    else:
        kind, reply = "security_fault", asked.reply(False)
    if reply in ("yes", "no") and _CLOSES.search(asked.query.plain):
        reply = "no" if reply == "yes" else "yes"  # "can I close it, no cyber incident?"
    line = say(kind, reply, **values)
    told = rules.contact and kind != "security_fault"
    tell = (say("security_contact", **values),) if told else ()
    return Answer(line, (*tell, headline, *incident.facts[1:]))


def answer_certainty(asked: Asked, headline: Fact) -> Answer:
    """What the standing rests on: hard facts, the model's probability, what is missing."""
    incident, found = asked.incident, asked.found
    facts = [headline, *(incident.facts if incident else found.facts)]
    verdict = verdict_fact(incident, asked.analysis.verdicts) if incident else None
    kind = f"sure_{found.standing}"
    if incident and verdict is None and found.standing in ("confirmed", "likely"):
        kind += "_by_rule"
    reply: Reply = ""
    if asked.polar:
        reply = (
            "unclear"
            if found.standing == "inconclusive"
            else asked.reply(found.standing != "likely")
        )
        if {"wrong", "mistaken", "mistake", "false", "nonsense"} & set(
            asked.query.plain.strip("?").split()
        ):
            reply = "" if reply == "unclear" else "no" if found.standing == "confirmed" else ""
    shown = [*facts[:4], *([verdict] if verdict else []), *doubt_of(asked), *asked.sensor]
    against = found.apart.excluded[:1]
    # Of what it is sure, and where, stands in the line itself.
    fault = read_playbook(incident.label).short if incident else ""
    name = asked.view.name_of(incident.device) if incident else asked.name
    if incident is None and found.standing == "inconclusive" and not asked.device:
        kind += "_plant"
    elif incident is not None and found.standing in ("inconclusive",):
        kind += "_of"
    return Answer(say(kind, reply, name=name, fault=fault), (*shown, *against))


def answer_against(asked: Asked, headline: Fact) -> Answer:
    """What numbers rule out, and what they leave open."""
    apart, incident = asked.found.apart, asked.incident
    facts = (*apart.open, *apart.excluded)
    if incident is not None and (
        reply := reply_by_side(asked, incident)
    ):  # "could it be the cable?"
        place = find_place(incident.label, incident.facts)
        line = say("place", reply, place=place, names=asked.name_ends(incident))
        return Answer(line, (headline, *facts))
    if incident is not None and _WOULD_TELL.search(asked.query.plain):
        return _tell_what_tells(incident)
    if asked.incident is None:
        return Answer(say("against_nothing", name=asked.name), (headline, *asked.found.facts))
    if apart.open:
        return Answer(say("against_open", n=len(apart.open)), (*facts, *doubt_of(asked)))
    if not facts and not doubt_of(asked):
        return Answer(say("against_none"), (headline,))
    return Answer(say("against_excluded", n=len(apart.excluded)), (*facts, *doubt_of(asked)))


_WOULD_TELL = re.compile(
    r"\b(?:would|could|can|will|might|do we need to|to) (?:\w+ ){0,2}(?:prove|proof|confirm|tell|show|settle"
    r"|make sure|be sure)|\bmissing\b"
)


_LOOKS = re.compile(r"(?:Check|Look|Compare|Find|Ask|Read)\b")


def _tell_what_tells(incident: Incident) -> Answer:
    """What would make it sure: what its playbook says, else the first check."""
    book, checks = read_playbook(incident.label), find_checks(incident)
    doubt = book.doubt if is_unanswered(incident.label, incident.facts) else ""
    step = next((one for one in checks if _LOOKS.match(one)), checks[0])
    text = doubt or step[0].lower() + step[1:]
    return Answer(
        say("what_tells", text=text), incident.facts, checks=tuple(checks), steps=not doubt
    )


def answer_checks(asked: Asked, headline: Fact, checks: tuple[str, ...]) -> Answer:
    """What to do next, the first step first; before that what has to be changed at which end, where
    that was asked."""
    incident = asked.incident
    if not checks:
        return Answer(say("checks_none", name=asked.name), (headline,))
    if incident is not None and incident.facts and _REMEDY.search(asked.query.plain):
        text, reply = (
            find_remedy(incident.label, incident.facts).remedy,
            reply_by_side(asked, incident),
        )
        text = text[0].lower() + text[1:] if reply else text
        line = say("remedy", reply, text=text, names=asked.name_ends(incident))
        return Answer(line, (headline, *incident.facts[1:]), checks=checks, steps=True)
    also, hostile = _list_further_steps(asked)
    if hostile is not None:  # whoever attacks in several ways is under somebody's control
        checks = (hostile.text, *checks)
    over = incident is not None and is_over(incident, asked.analysis)
    others = (
        () if asked.device else tuple(describe_incident(one, asked) for one in asked.found.others)
    )
    step = checks[0][0].lower() + checks[0][1:]
    at = find_culprits(incident)[:_MOST] if incident else []  # which device it is about
    unsaid = asked.focus is None and not asked.device  # nothing was told yet that "this" could mean
    if unsaid and incident:
        line = say("checks_first_of", what=name_incident(incident, asked), step=step)
    elif at:
        line = say("checks_first_at", names=asked.view.names_of(at), step=step)
    else:
        line = say("checks_first", step=step)
    return Answer(
        line,
        (
            *((say_span(asked, incident, ""),) if over and incident else ()),
            headline,
            *also,
            *others[:_MOST],
        ),
        checks=checks[1:],
        steps=True,
    )


def _list_further_steps(asked: Asked) -> tuple[list[Fact], Fact | None]:
    """The first step for each further incident of the device that is meant; and that it be taken off, where
    several kinds of attack come from it."""
    if not asked.device:
        return [], None
    mine = list_of_device(asked, asked.device, OWN)
    others = [one for one in mine if asked.incident is None or one.id != asked.incident.id]
    steps = [
        say("checks_also", what=read_playbook(one.label).short, step=find_checks(one)[0])
        for one in others
    ]
    acts = {
        one.label for one in mine
        if one.label in ATTACKS and asked.device in find_culprits(one)
    }  # fmt: skip
    if len(acts) < 2:
        return steps, None
    return steps, say("checks_hostile", name=asked.name, n=len(acts))


_REMEDY = re.compile(
    r"\b(?:chang(?:e|ed|ing)|fix(?:es|ed)?|corrects?|corrected|repair\w*|settings?|set|configur\w*"
    r"|reconfigur\w*|adjust\w*"
    r"|solves?|cures?|rem(?:edy|edies)|mend\w*|helps?|replac\w*|aender\w*|einstell\w*|beheb\w*|cambi\w*"
    r"|ajust\w*|arregl\w*)\b"
)
_RHYTHM = re.compile(
    r"\b(happens?|happen|occurs?|comes?|appears?|repeats?|passiert|ocurre)\b.*\bregular"
)


def answer_place(asked: Asked, headline: Fact) -> Answer:
    """Where it lies: at a device, on the way, or in settings, as far as traffic tells."""
    incident = asked.incident
    if incident is None or asked.found.standing == "inconclusive":
        return Answer(
            say("place_unknown", "unclear", name=asked.name), (headline, *asked.found.facts)
        )
    reply, place = reply_by_side(asked, incident), find_place(incident.label, incident.facts)
    place = place[0].lower() + place[1:] if reply else place
    line = say("place", reply, place=place, names=asked.name_ends(incident))
    return Answer(line, (headline, *incident.facts[1:]), whole=True)


_MEANT = re.compile(
    r"^(?:and |so |but )*(?:is|was|should|does) (?:it|he|she|that one) (?:\w+ )*?(?:to |ever |usually |normally )*"
    r"(?:talk|speak|connect|send|write|go|call|publish)\w* (?:to |with |at )?(?:the )?dev\b"
)


def _answer_meant(asked: Asked) -> Answer | None:
    """Whether who is talked about had to do with another before: "is it meant to talk to the broker?"."""
    focus, other = asked.focus, asked.device
    if focus is None or not other or not _MEANT.match(asked.query.plain):
        return None
    subject = next((one for one in find_culprits(focus) if one != other), focus.device)
    if subject == other:
        return None
    two = replace(asked.found, mention=Mention((subject, other)))
    return answer_met(replace(asked, found=replace(two, incident=focus)))


def answer_usual(asked: Asked, headline: Fact) -> Answer:
    """What the device does in this capture; more than that one capture cannot tell."""
    if met := _answer_meant(asked):
        return met
    device = asked.device or (asked.incident.device if asked.incident else "")
    if not device:
        return Answer(say("usual_which"), asked.found.facts)
    facts = asked.analysis.facts_of(device)
    if asked.incident is not None and asked.incident.facts and _RHYTHM.search(asked.query.plain):
        # Where few failures show a rhythm, its fact says how often.
        said = answer_rhythm(asked)
        return said or tell_incident(asked.incident)
    apart = asked.second and asked.incident and not asked.incident.touches(asked.second)
    if asked.incident is not None and not apart:
        # What another does to it, or suffers by it, says nothing of what it does itself.
        own = device in (asked.incident.device, *asked.incident.related)
        kind = "usual_incident" if own else "usual_touched"
        line = say(kind, name=asked.view.name_of(device), what=headline.text)
        return Answer(line, facts)
    return Answer(say("usual", name=asked.view.name_of(device), seen_s=asked.view.span_s), facts)


def answer_numbers(asked: Asked, headline: Fact) -> Answer:
    """Every fact there is."""
    incident = asked.incident
    device = asked.device or (incident.device if incident else asked.found.device)
    verdict = verdict_fact(incident, asked.analysis.verdicts) if incident else None
    own = (*incident.facts, *([verdict] if verdict else [])) if incident else asked.found.facts
    described = asked.analysis.facts_of(device) if device else ()
    return Answer(headline, (*own, *described), listing=True)


def answer_packets(asked: Asked, headline: Fact) -> Answer:
    """Frame numbers and display filters."""
    facts = asked.known
    if asked.incident:
        facts = tuple(point_at(one, asked.incident) for one in facts)
    proven = [one for one in facts if one.proof is not None]
    if not proven:
        return Answer(say("packets_none", name=asked.name), (headline,))
    lines = []
    for one in {one.proof.filter: one for one in reversed(proven) if one.proof}.values():
        assert one.proof is not None
        frames = listed(map(str, one.proof.frames), 6)
        values = {f"f{place}": frame for place, frame in enumerate(one.proof.frames)}
        kind = "packets_frames" if frames else "packets_filter"
        if not frames and proven[0].proof and one.proof.filter == proven[0].proof.filter:
            kind = "as_it_is"  # the line has the filter already
        lines.append(
            say(
                kind, text=one.text, what=one.text, filter=one.proof.filter, frames=frames, **values
            )
        )
    first = proven[0].proof
    assert first is not None
    return Answer(say("packets", filter=first.filter, id=proven[0].id), tuple(lines))


def answer_sensor(asked: Asked) -> Answer:
    """What the sensor could not see; that nothing is missing is said only where nothing is known."""
    notices = (one for one in asked.sensor if kind_of(one) == "notice")
    missed = (*notices, *sensor_facts(asked.view.quality))
    if not missed:
        both = say("sensor_two_way").text if asked.view.quality.whole["two_way"] else ""
        reply = asked.reply(not _MISSING.search(asked.query.plain))
        return Answer(say("sensor_none", reply, seen=both))
    if TWICE.search(asked.query.plain):
        missed = tuple(sorted(missed, key=lambda one: not _COPIES.search(one.text)))
        if _COPIES.search(missed[0].text):
            return Answer(begin(missed[0], asked.reply(False)), missed[1:])
    first = missed[0]
    return Answer(say("sensor_some", what=first.text, **first.values), missed[1:])


_MISSING = re.compile(
    r"\b(?:miss\w*|drop\w*|lost|los[et]s?|losing|gaps?|holes?|cut|blind\w*|lack\w*|not (?:see|read|get)|cannot see"
    r"|luecken?|fehl\w*|verlor\w*|verpass\w*|falta\w*|perd\w*|huecos?)\b"
)
TWICE = re.compile(r"\b(?:duplicat|doubl|copies|copied|twice|doppelt|loops?|schleife|bucle)\w*")
_COPIES = re.compile(r"\bcopies\b")


def answer_documents(asked: Asked, kind: Kind) -> Answer:
    """Passages that answer the question's own words, else those that fit the incident."""
    if asked.index is None:
        return Answer(say("documents_none"), refused=True)
    device = asked.device or (asked.incident.device if asked.incident else "")
    citations: tuple[Citation, ...] = ()
    if specific_words(asked.question):
        known = read_identity(device, asked.analysis)
        citations = find_quotations(asked.index, asked.question, kind, known)
    if not citations and asked.incident is not None:
        manuals, past = find_sources(asked.question, asked.found, asked.analysis, asked.index)
        citations = manuals if kind == "manual" else past
    if not citations:
        return Answer(say(f"documents_no_{kind}", name=asked.name), refused=asked.incident is None)
    line = say(f"documents_{kind}", place=citations[0].place)
    return Answer(line, citations=citations[:3], quotes=True)


_ANYBODY = re.compile(r"\b(?:any|some)(?:body|one)\b|\b(?:who|jemand|wer|alguien|quien)\b")
_NEW = re.compile(
    r"\b(?:is|are|was|were) (?:it|that|this|they|dev) (?:\w+ )?new\b|\bneu\b|\bnuev[oa]\b"
)


def answer_before(asked: Asked) -> Answer:
    """This plant's own past first, then documents of past incidents."""
    if WORKED.search(asked.query.plain) and (told := answer_worked(asked)):
        return told
    if MET.search(asked.query.plain) and (met := answer_met(asked)):
        return met
    if asked.device and _ANYBODY.search(asked.query.plain) and (began := answer_began(asked)):
        return began
    if asked.device and _NEW.search(asked.query.plain) and (first := say_first(asked)):
        return first
    incident, history = asked.incident, asked.history
    facts: list[Fact] = []
    if incident is not None and history is not None:
        kept = history.incidents(
            device=incident.device, label=incident.label, before_s=incident.start_s
        )
        for past in kept[:_MOST]:
            facts.append(
                say("before_one", at_time_s=past.start_s, summary=" ".join(past.summary.split()))
            )
        for one in history.feedback(incident.device)[-3:]:
            facts.append(
                say(
                    "before_said",
                    at_time_s=one.at_s,
                    who=one.who,
                    label=one.label or "wrong",
                    why=one.why or "no reason given",
                )
            )
    alike = quote_alike(incident, asked.analysis, asked.index, asked.question) if incident else ()
    if alike:
        line = say("before_alike", asked.reply(True), place=alike[0].place)
        return Answer(line, tuple(facts), citations=alike, quotes=True)
    passages = answer_documents(asked, "incident")
    if incident is not None:  # words that fit do not make another fault of this plant alike
        passages = replace(passages, citations=keep_by_words(passages.citations, asked.index))
    if facts:
        return Answer(
            say("before_own", asked.reply(True), n=len(facts)),
            tuple(facts),
            citations=passages.citations,
            quotes=True,
        )
    if passages.citations:
        return Answer(
            say("before_documents", "no" if asked.polar else ""),
            citations=passages.citations,
            quotes=True,
        )
    return Answer(say("before_none", asked.reply(False), name=asked.name))
