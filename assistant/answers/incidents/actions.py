"""Leave that is asked for: to restart a machine, to take it off, to start; how to stop it, if it comes again."""

import re
from collections.abc import Callable, Sequence

from assistant.answers.asked import OF_NO_INCIDENT, Answer, Asked, Reply, say, say_span
from assistant.answers.attacks.intrusion import find_hostile, list_known, name_hostile
from assistant.answers.incidents.condition import describe_incident
from assistant.answers.incidents.sides import find_sides
from assistant.answers.plant.descriptions import describe_fares
from assistant.answers.traffic.behaviour import name_uses
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import attacks, find_culprits, find_targets, is_bystander
from assistant.diagnosis.compose import find_checks
from assistant.diagnosis.playbook import find_asked, find_place, find_remedy, read_playbook
from assistant.diagnosis.spans import find_end, is_over
from assistant.facts.fact import Fact, Value, kind_of
from assistant.questions.entities import list_names
from assistant.questions.plain import hide_names
from traffic.labels import ATTACKS

_MOST = 5
# What asks for leave or advice; "did somebody restart it?" asks what happened.
_ASKS_LEAVE = re.compile(
    r"^(?:(?:and|so|ok|but|then|und|y|pero|aber)\W+)*(?:may|can|could|should|shall|must|do|would|will|need"
    r"|does (?:it |this |that |a |the |an |\w+ )*(?:help|mend|fix|solve|bring)"
    r"|is (?:it|there|a|an|dev) (?:\w+ )?(?:safe|ok|okay|possible|risk|danger|\w+ing)|safe to|ok to|what|which|how"
    r"|darf|kann|soll\w*|muss|muessen|duerfen|koennen|puedo|podemos|debo|debemos|hay que|tengo que|tenemos que|se puede"
    r"|conviene|is there)\b"
    r"|\b(?:should|may|can|must|do|would|need|dare) (?:i|we|one)\b|\b(?:soll|darf|muss|kann) (?:ich|man|wir)\b"
    r"|\b(?:hay|tengo|tenemos) que\b|\b(?:yes or no|or not|would (?:it|that|this) help|ja oder nein|si o no"
    r"|now or (?:wait|later))\W*$"
)
_PAST = re.compile(
    r"^(?:(?:and|so|ok|but|und|y)\W+)*(?:did|was|were|has|have|had|who|when|why|where|how (?:often|many|long)|hat"
    r"|wurde|war|wer|wann|warum|quien|cuando|por que|(?:can|could) (?:\w+ ){1,3}have)\b"
    r"|.*[,;:-] ?(?:was|were|did|has|had|who|why) (?:that|it|this|he|she|dev|somebody|someone)\b"
)
_OFF = re.compile(
    r"\b(?:unplug|plug out|pull (?:\w+ )?(?:plug|cable)|pull (?:it|dev)|disconnect|isolate|quarantine|block|ban"
    r"|unplugging|disconnecting|isolating|blocking"
    r"|(?:switch|turn|power|shut) (?:\w+ )?(?:off|down)"
    r"|tak(?:e|ing) (?:\w+ ){0,2}(?:off|down|out|offline)|cut (?:\w+ )?off|kick (?:\w+ )?out|throw (?:\w+ )?out"
    r"|abklemmen|abziehen|ausstecken|abschalten|ausschalten|rausnehmen|rauswerfen|abhaengen"
    r"|trennen|sperren|vom netz|am netz (?:lassen|bleiben)|(?:leave|keep|stay|remain) (?:\w+ )?(?:connected"
    r"|online|plugged|on (?:the|our) network)|desconect(?:ar|o|amos)\w*|desenchuf(?:ar|o|amos)\w*|apagar\w*"
    r"|aisl(?:ar|amos|o)\w*"
    r"|bloque(?:ar|o|amos)\w*)\b"
)
_RESTART = re.compile(
    r"\b(?:re-?start|re-?boot|re-?set|restarting|rebooting|power.?cycle|neustart|(?:off and on|on and off)"
    r"|neu ?starten|rebooten"
    r"|reiniciar\w*|reinicio|reiniciamos)\b"
)
# The line, and not a program: "may I start the machine again?"
_RUN = re.compile(
    r"\bkeep (?:\w+ )?(?:running|producing|going)\b"
    r"|\b(?:re-?)?(?:start|run|resume|continue|launch|ramp|go back|go on|carry on|produce|arranc\w*|rearranc\w*"
    r"|anfahren|hochfahren|weiterfahren|losfahren|starten|seguir|poner en marcha)\b"
)
_WORK = re.compile(
    r"\b(?:line|production|machine|press|process|batch|work|shift|plant|station|mixer|oven|linea|maquina|prensa"
    r"|produccion|planta|anlage|linie|maschine|produktion|presse|produce|anfahren|hochfahren|arranc\w*|rearranc\w*)\b"
)
_START = re.compile(
    r"\b(?:safe|ok|okay) to (?:start|run|use|operate)\b|\b(?:back )?(?:to|in|into|on|auf) (?:auto\w*|remote)\b"
    r"|\buse (?:it|dev) again\b|\b(?:we|i) (?:run|start"
    r"|produce|use it)\W*$"
    r"|\b(?:go on|carry on|continue|weitermachen|weiterfahren|seguir) (?:with|mit|con)\b"
)
_STOP = re.compile(
    r"\b(?:how|was|wie|que|como|what) (?:do|can|could|should|would|must|will|kann|soll|puedo|podemos|to)\b.{0,20}"
    r"\b(?:stop\w*|get rid|kick|throw|block|prevent|shut|end|keep (?:\w+ )?out"
    r"|stoppen|aufhalten|loswerden|parar|detener|against)\b|^(?:and )?how to (?:stop|block|get rid)\b"
    r"|\bcan (?:it|this|dev|(?:the|that|this) \w+|that) (?:still |even )?be stopped\b"
)
_AGAIN = re.compile(
    r"\b(?:will|could|can|might|may|does|kann|wird|va a|puede)\b.{0,40}\b(?:come back|come again|return"
    r"|happen again|again|recur|repeat|keep \w+ing|wieder(?:kommen| passieren| auftreten)?|volver|repetir\w*"
    r"|otra vez)\b"
)
_MINE = re.compile(r"\b(?:i|we|ich|man|wir|puedo|podemos)\b")


def answer_action(asked: Asked) -> Answer | None:
    """Whether to restart, disconnect or start something, how to stop what goes on, whether it will come
    again; None where none of these is asked."""
    plain = asked.query.plain
    if _PAST.match(plain):
        return None
    if again := answer_again(asked):
        return again
    if _STOP.search(plain) and asked.incident is not None and asked.incident.facts:
        return _answer_stop(asked, asked.incident)
    for words, told in _ACTIONS:
        found = words.search(plain)
        if found and (_ASKS_LEAVE.search(plain) or _BARE.match(plain[: found.start()])):
            said = told(asked)
            if said is not None:
                return said
    return None


def answer_leave(asked: Asked) -> Answer | None:
    """Whether what is proposed helps: by the act that is named, else what has to be changed instead; None
    where nothing is known that calls for it."""
    plain, incident = asked.query.plain, asked.incident
    if _PAST.match(plain):  # "could somebody have unplugged it?"
        return _answer_place(asked, incident)
    for words, told in _ACTIONS:
        if words.search(plain) and (said := told(asked)):
            return said
    if incident is None or not incident.facts:
        return None
    known = find_remedy(incident.label, incident.facts)
    names = (
        _name_sources(asked, [incident]) if incident.label in ATTACKS else asked.name_ends(incident)
    )
    over = is_over(incident, asked.analysis)
    line = say(
        "leave_over" if over else "leave", "", text=read_playbook(incident.label).consequence,
        remedy=known.remedy, names=names, end_time_s=find_end(incident),
    )  # fmt: skip
    return Answer(line, incident.facts, checks=tuple(find_checks(incident)), steps=True)


def _answer_place(asked: Asked, incident: Incident | None) -> Answer | None:
    """Where a fault lies, where it is asked whether somebody did a thing to the device."""
    if incident is None or not incident.facts or incident.label in ATTACKS:
        return None
    place = find_place(incident.label, incident.facts)
    line = say(
        "place", "unclear" if asked.polar else "", place=place, names=asked.name_ends(incident)
    )
    return Answer(line, incident.facts, standing="inconclusive")


def _reply(asked: Asked, yes: bool) -> Reply:
    """Who asks for leave wants "yes" or "no", whatever the words; not who asks which or how."""
    return "" if _WHICH.match(asked.query.plain) else "yes" if yes else "no"


_WHICH = re.compile(
    r"^(?:(?:and|so|ok|but)\W+)*(?:which|what|how|who|welche\w*|was|wie|que|cual\w*|como)\b"
)
# "hmi-1 rebooten, damit es wieder geht?": it begins with the machine, if any, and what to do with it.
_BARE = re.compile(r"^(?:(?:und|and|y|also|so) )?(?:dev[,:]? (?:(?:and|und|y) )?){0,3}(?:\w+ )?$")
# "may it stay on the network?" asks the other way round.
_KEEP = re.compile(
    r"\b(?:leave|keep|stay|remain) (?:\w+ )?(?:on|connected|online|plugged|running)\b|\bam netz (?:lassen|bleiben)"
    r"|\bdran ?lassen|\bdejar\w* conectad"
)
_SWAP = re.compile(
    r"\b(?:swap\w*|replac\w*|exchang\w*|tauschen|austauschen|auswechseln|ersetzen|sustituir|(?:new|neue[ns]?|nuev[oa])"
    r" (?:cables?|plugs?|switch|ports?|cards?|suppl(?:y|ies)|wires?|device|machine|one|plc|kabel|stecker|geraet))\b"
    r"(?! (?:\w+ ){0,2}(?:passwords?|settings?|config\w*|address\w*|ports?|values?))"
)


def _choose_role(asked: Asked, device: str) -> str:
    """What a device has to do with attacks: "acts", "suffers" or "" for none."""
    if device in find_hostile(asked):
        return "acts"
    return "suffers" if _list_hits(asked, device) else ""


def _list_hits(asked: Asked, device: str) -> list[Incident]:
    """Attacks on a device, that which is meant before the others."""
    known = worst_first([one for one in asked.analysis.incidents if one.facts])
    hits = [one for one in known if attacks(one, device)]
    named = find_asked(asked.query.plain)
    hits = [one for one in hits if one.label in named] or hits
    # Who looks at it does not have to be stopped as who floods it has.
    return [one for one in hits if one.label != "recon"] or hits


def _name_sources(asked: Asked, incidents: Sequence[Incident]) -> str:
    return asked.view.names_of(
        dict.fromkeys(end for one in incidents for end in find_culprits(one))
    )


def _answer_taking_off(asked: Asked) -> Answer | None:
    """What speaks for taking a machine off the network, and what would stop."""
    device = asked.device
    if not device:
        return _answer_which_off(asked)
    acts = find_hostile(asked).get(device, [])
    hits = [] if acts else _list_hits(asked, device)
    if hits:
        line = say(
            "off_victim", _reply(asked, False), name=asked.name, sources=_name_sources(asked, hits)
        )
        return Answer(line, _tell_with_end(asked, hits))
    uses, keep = name_uses(asked), bool(_KEEP.search(asked.query.plain))
    stranger = asked.analysis.plant is not None and device not in list_known(asked)
    kind = ("off_stranger" if stranger else "off_hostile") if acts else "off_plain"
    incident = asked.incident
    own = incident is not None and not is_bystander(incident, device, asked.view)
    if incident is not None and own and not acts and incident.label not in ATTACKS:
        line = say(
            "off_fault", _reply(asked, False), place=find_place(incident.label, incident.facts)
        )
        return Answer(line, _tell_with_end(asked, [incident]))
    kind = kind if uses else f"{kind}_idle"
    reply: Reply = _reply(asked, not keep) if acts else "unclear" if _reply(asked, True) else ""
    line = say(kind, reply, name=asked.name, parts=uses)
    shown = acts or ([incident] if incident is not None else [])
    return Answer(line, _tell_with_end(asked, shown))


def _answer_which_off(asked: Asked) -> Answer | None:
    """Which machines to take off: those whose traffic belongs to attacks."""
    acts = find_hostile(asked)
    if asked.focus is not None:
        acts = {one: found for one, found in acts.items() if asked.focus in found} or acts
    if not acts:
        return None
    told = {one.id: one for found in acts.values() for one in found}
    line = name_hostile(asked, acts, _reply(asked, True))
    return Answer(line, _tell_with_end(asked, list(told.values())), about=next(iter(acts)))


def _tell_with_end(asked: Asked, incidents: Sequence[Incident]) -> tuple[Fact, ...]:
    facts = list[Fact]()
    for one in incidents:
        if is_over(one, asked.analysis):
            facts.append(say_span(asked, one, ""))
        facts += one.facts[:1]
    return tuple(facts)


def _answer_restart(asked: Asked) -> Answer | None:
    """Whether a restart helps: not who is hit, nor who does it; else as its playbook says."""
    incident = asked.incident
    written = _list_written(asked)
    if written:
        return _tell_written(asked, written)
    if incident is None or not incident.facts:
        if asked.found.standing != "normal":
            return None
        none: Reply = _reply(asked, False) if asked.device else ""
        return Answer(say("restart_none", none, name=asked.name), asked.found.facts)
    device = asked.device or next(iter(find_targets(incident)), "")
    fault = incident.device == device and incident.label not in ATTACKS
    if device and not fault and _choose_role(asked, device) == "suffers":
        hits = sorted(_list_hits(asked, device), key=lambda one: one is not incident)
        over = is_over(hits[0], asked.analysis)
        values: dict[str, Value] = {
            "name": asked.view.name_of(device), "sources": _name_sources(asked, hits[:1]),
            "end_time_s": find_end(hits[0]),
        }  # fmt: skip
        line = say(
            "restart_victim_over" if over else "restart_victim", _reply(asked, False), **values
        )
        fares = describe_fares(asked.view, device, hits[0])
        return Answer(line, ((fares,) if fares else ()) + hits[0].facts)
    if device and (acts := find_hostile(asked).get(device)):
        line = say("restart_hostile", _reply(asked, False), name=asked.view.name_of(device))
        return Answer(line, _tell_with_end(asked, acts))
    known = find_remedy(incident.label, incident.facts)
    ends = find_culprits(incident)
    names = asked.view.names_of(ends) if incident.label in ATTACKS else asked.name_ends(incident)
    if device and is_bystander(incident, device, asked.view):
        line = say(
            "restart_bystander", _reply(asked, False), name=asked.view.name_of(device), names=names
        )
        return Answer(line, incident.facts)
    kind = "restart_over" if is_over(incident, asked.analysis) else "remedy"
    line = say(kind, "", text=known.restart, names=names, end_time_s=find_end(incident))
    checks = tuple(find_checks(incident))
    return Answer(line, incident.facts, checks=checks, steps=True)


def _answer_swap(asked: Asked) -> Answer | None:
    """Whether a new part helps: that which is named, or the device itself."""
    incident = asked.incident
    if incident is None or not incident.facts or incident.label in ATTACKS:
        return None
    if _WHICH.match(asked.query.plain):
        return None
    known = find_remedy(incident.label, incident.facts)
    named = set(find_sides(hide_names(asked.question, list_names(asked.analysis)))) or {"machine"}
    reply: Reply = "yes" if named & {*known.lies} else "unclear" if named & {*known.maybe} else "no"
    kind = {"yes": "swap_yes", "no": "swap_no"}.get(reply, "swap_maybe")
    name = asked.view.name_of(asked.device or incident.device)
    line = say(kind, reply if _reply(asked, True) else "", name=name, remedy=known.remedy)
    return Answer(line, incident.facts)


def _list_written(asked: Asked) -> list[Incident]:
    """Writes of somebody who should not, to the machine that is meant or one of those."""
    known = [one for one in asked.analysis.incidents if one.facts]
    ends = {asked.device} if asked.device else set(asked.found.mention.devices)
    found = [one for one in known if one.label == "unauthorized_command"]
    return [one for one in found if not ends or ends & set(find_targets(one))]


def _tell_written(asked: Asked, written: Sequence[Incident]) -> Answer:
    """That a machine was written to: what it is set to has to be looked at before it runs."""
    line = say(
        "start_written", _reply(asked, False), sources=_name_sources(asked, written),
        names=asked.view.names_of(dict.fromkeys(end for one in written for end in find_targets(one))),
    )  # fmt: skip
    facts = [fact for one in written for fact in (say_span(asked, one, ""), *one.facts[:2])]
    return Answer(line, tuple(facts))


def _answer_start(asked: Asked) -> Answer | None:
    """What speaks against starting a machine or the line, as far as its traffic tells."""
    if not (_WORK.search(asked.question.lower()) or _START.search(asked.query.plain)):
        return None
    if written := _list_written(asked):
        return _tell_written(asked, written)
    known = worst_first([one for one in asked.analysis.incidents if one.facts])
    device = asked.device
    mine = [
        one for one in known
        if not device or (one.touches(device) and not is_bystander(one, device, asked.view))
    ]  # fmt: skip
    going = [one for one in mine if not is_over(one, asked.analysis)]
    values: dict[str, Value] = {"name": asked.name, "n": len(mine), "going": len(going)}
    facts = tuple(describe_incident(one, asked) for one in (going or mine)[:_MOST])
    if going:
        return Answer(say("start_going", _reply(asked, False), **values), facts, listing=True)
    kind = "start_over" if mine else "start_none"
    unclear: Reply = "unclear" if _reply(asked, True) else ""
    return Answer(
        say(kind, unclear, **values),
        facts or asked.found.facts,
        listing=True,
        standing="inconclusive",
    )


def _answer_stop(asked: Asked, incident: Incident) -> Answer:
    """The first step against what is meant, and that it is over where it is."""
    step, *others = find_checks(incident)
    over = is_over(incident, asked.analysis)
    step = step[0].lower() + step[1:]
    values: dict[str, Value] = {
        "step": step, "end_time_s": find_end(incident), "names": _name_sources(asked, [incident]),
    }  # fmt: skip
    still = bool(_BE_STOPPED.search(asked.query.plain))
    kind = ("stop_over_still" if still else "stop_over") if over else "stop"
    line = say(kind, _reply(asked, not over) if still else "", **values)
    return Answer(line, incident.facts, checks=tuple(others), steps=True)


_BE_STOPPED = re.compile(r"\bbe stopped\b")


def answer_again(asked: Asked) -> Answer | None:
    """That what is to come stands in no recording, and what would let it come again; None where nobody asks
    whether it will."""
    incident, plain = asked.incident, asked.query.plain
    asks = _AGAIN.search(plain) and not _MINE.search(plain) and not _PAST.match(plain)
    if not asks or incident is None or not incident.facts or asked.query.kind in OF_NO_INCIDENT:
        return None
    over = is_over(incident, asked.analysis)
    remedy = find_remedy(incident.label, incident.facts).remedy
    attack = incident.label in ATTACKS and kind_of(incident.facts[0]) != "duplicate"
    kind = "again_attack" if attack else "again_fault"
    kind = kind if over else "again_going"
    end_s = find_end(incident)
    line = say(
        kind, "unclear" if over else _reply(asked, True), end_time_s=end_s,
        before_s=max(asked.view.last_s - end_s, 0.0), names=_name_sources(asked, [incident]),
        remedy=remedy,
    )  # fmt: skip
    return Answer(line, incident.facts)


_ACTIONS: tuple[tuple[re.Pattern[str], Callable[[Asked], Answer | None]], ...] = (
    (_OFF, _answer_taking_off), (_RUN, _answer_start), (_RESTART, _answer_restart), (_SWAP, _answer_swap),
    (_START, _answer_start),
)  # fmt: skip
