"""What came of the incident that a talk is about, whom it hit, and whether another is of the same people.

"any luck?", "did they accept it?", "is he still there?", "against what?", "same guy as on robot-1?" name no trouble:
they are asked of what was spoken of last.
"""

import re
from dataclasses import replace

from assistant.answers.asked import (
    LATELY_S,
    Answer,
    Asked,
    Reply,
    begin,
    find_incidents,
    say,
    say_span,
    tell_incident,
)
from assistant.answers.attacks.intrusion import answer_logins
from assistant.answers.incidents.course import answer_retries
from assistant.answers.plant.descriptions import describe_fares, describe_requests
from assistant.answers.traffic.partners import KINDS_OF
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import OF_ACTS, find_culprits, find_targets
from assistant.diagnosis.playbook import find_asked
from assistant.diagnosis.spans import is_over
from assistant.diagnosis.standing import is_unanswered
from assistant.facts.fact import Value, kind_of, listed
from assistant.facts.requests import is_refused
from assistant.questions.plain import DEVICE
from traffic.labels import ATTACKS

_SO = r"(?:(?:and|so|but|ok|okay|well|then|und|aber|y|pero),? )*"
_THEY = r"(?:that one|this one|it|he|she|they|that|this|those|these|er|sie|es|das|der|die)"


def answer_outcome(asked: Asked) -> Answer | None:
    """What is asked of the incident in focus without naming it; None where a question names another thing."""
    focus = asked.focus
    if focus is None or not focus.facts:
        return None
    named = (*asked.found.mention.devices, *asked.found.mention.peers)
    spoken = find_asked(asked.query.plain)
    if _SAME.search(asked.query.plain):
        return _compare(asked, focus, spoken)
    if told := _tell_other_victim(asked, focus):
        return told
    if not all(map(focus.touches, named)) or (spoken and focus.label not in spoken):
        return None
    of_named = _SUCCESS.search(asked.query.plain) or _GOES_ON.match(asked.query.plain)
    if asked.query.names_device and not of_named:
        return None
    if focus.label in _GOES_OUT and _ANYBODY_ELSE.search(asked.query.plain):
        return _tell_same_target(asked, focus)
    if focus.label in _GOES_OUT and _WHERE_TO.match(asked.query.plain):
        return tell_incident(focus)
    return (
        _tell_success(asked, focus)
        or _tell_standing(asked, focus)
        or _tell_target(asked, focus)
        or _tell_ends(asked, focus)
    )


_THROUGH = re.compile(
    r"\b(?:g[eo]t|gets|getting|go|goes|went|came|come|make|made) (?:it )?through\b|\b(?:accept\w*|succe\w+|take effect"
    r"|took effect|arrive\w*|durchgekommen|angekommen|angenommen|aceptad\w*|pasaron|llegaron)\b"
)
_WRITES = re.compile(
    r"\b(?:writ\w+|wrote|commands?|changes?|values?|set ?points?|befehle?|geschrieben|escrit\w*|comandos?|anything"
    r"|something)\b"
)


def answer_through(asked: Asked) -> Answer | None:
    """Whether what a stranger wrote was accepted; None where that is not asked, or nobody did."""
    plain, incident = asked.query.plain, asked.incident
    if incident is None or incident.label != "unauthorized_command":
        return None
    asks = _THROUGH.search(plain) and _WRITES.search(plain)
    return _count_accepted(asked, incident) if asks else None


def asks_for_outcome(plain: str) -> bool:
    """Whether a question asks if what was tried worked: "did that one find anything?"."""
    return bool(_SUCCESS.search(plain))


# ---- Did it work? ----

_SUCCESS = re.compile(
    rf"^{_SO}(?:any|with|what|had|have|has|did|was|were|with any|ohne|mit)? ?(?:{_THEY} )?(?:have |had )?"
    r"(?:any |some )?(?:luck|success|erfolg|exito|successful\w*)\W*$"
    rf"|\b(?:did|does|has|have|was|were) (?:{_THEY}|any\w*|{DEVICE}) (?:\w+ )?(?:work\w*|succe\w+|manage\w*"
    rf"|make it|made it|get (?:in|inside|through)|got (?:in|inside|through)|accept\w*|find (?:any|some)\w*"
    r"|found (?:any|some)\w*|take (?:it|them)|took effect)(?: (?:in|it|them|that|all|then|at all))*\W*$"
    r"|\b(?:find|found|get|got) (?:any|some)thing\W*$|^"
    rf"{_SO}(?:hat|hats|ist|war) (?:(?:{_THEY}|{DEVICE}) )?(?:\w+ )?(?:geklappt|funktioniert|erfolg gehabt"
    r"|reingekommen|gelungen|drin|angenommen)\W*$"
    rf"|^{_SO}(?:lo logro|funciono|entro|logro entrar|tuvo exito|tuvieron exito|consiguio (?:algo|entrar)|los acepto"
    r"|lo acepto|encontro algo)\W*$"
)
_REPLIED = re.compile(
    rf"^{_SO}(?:any|was there an?|did (?:{_THEY}|any\w*|some\w*|the other (?:side|end)|dev)(?: ever)?) "
    r"(?:answer\w*|repl\w+|respon\w+)(?: (?:it|back|to it|at all|come|came))*\W*$"
    rf"|^{_SO}(?:hat (?:jemand|wer|es|er|sie) geantwortet|kam eine antwort|contesto alguien|alguien contesto"
    r"|contestaron|respondio|respondieron)\W*$"
)
_ACCEPTED = re.compile(r"\b(?:accept\w*|angenommen|acept\w*|took effect)\b")
_HIT = ("dos", "ddos")
_GOES_OUT = ("c2", "exfiltration")
_ASKED_MANY = 10  # requests: who sends so many asks the program, and not for open ports alone


def _tell_success(asked: Asked, focus: Incident) -> Answer | None:
    """Whether what was tried worked, by what the other end answered; None where nothing tells."""
    replied = focus.label == "c2" and bool(_REPLIED.match(asked.query.plain))
    if not replied and not _SUCCESS.search(asked.query.plain):
        return None
    if asked.query.names_device and not _ACCEPTED.search(asked.query.plain):
        return None  # "did plc-3 keep working?" asks how who is hit fares
    return tell_success(asked, focus)


def answer_success(asked: Asked) -> Answer | None:
    """Whether what somebody tried worked: of an attack by what the other end answered, of a fault whether it
    works again; None where no incident is meant."""
    incident = asked.incident
    if incident is None or not incident.facts:
        return None
    if _GETS_IN.search(asked.query.plain) and incident.label not in _ENTERS:
        return None
    told = tell_success(asked, incident) or answer_retries(asked)
    return told or Answer(say_span(asked, incident, ""), incident.facts)


_ANYBODY_ELSE = re.compile(
    r"\b(?:any(?:body|one|thing)|who|some(?:body|one)|which \w+|jemand|alguien) (?:else|other|sonst"
    r"|mas)\b.*\b(?:that|this|the same|it"
    r"|there|dieser?|dort|esa|ese|alli)\b"
)


def _tell_same_target(asked: Asked, focus: Incident) -> Answer | None:
    """Who else exchanged traffic with the address outside that the talk is about."""
    target = next(iter(focus.peers), "")
    if not target:
        return None
    others = sorted({str(one) for one in asked.view.flows_of(target)["other"]} - {focus.device})
    values: dict[str, Value] = {"target": target, "names": asked.view.name_of(focus.device)}
    if not others:
        return Answer(say("same_target_none", asked.reply(False), **values), focus.facts)
    line = say("same_target", asked.reply(True), **values, others=asked.view.names_of(others))
    return Answer(line, focus.facts)


_WHERE_TO = re.compile(
    rf"^{_SO}(?:where(?: to)?|to where|to whom|wohin|a ?donde|a quien|where (?:did|does|has) (?:it|he|she"
    rf"|dev) (?:send|sent|upload\w*|copy|copied|put) (?:\w+ )*?to|(?:who|what) is (?:that|the) (?:address|ip"
    rf"|server|destination))"
    r"\b(?! (?:is|are|do|does|did|was|were)\b)"
)
_GETS_IN = re.compile(
    r"\b(?:g[eo]t|came|come|broke|break|let|log\w*|made|make) (?:\w+ )?(?:in|into|inside)\b|\b(?:rein|drin|hinein\w*"
    r"|entr[oó]|entraron|dentro)\b"
)
_ENTERS = ("brute_force", "recon", "unauthorized_command", "misconfiguration", "mqtt_abuse")


def tell_success(asked: Asked, focus: Incident) -> Answer | None:
    """Whether what an attack tried worked, by what the other end answered; None where nothing tells."""
    if any(kind_of(one) == "login_refused" for one in focus.facts) or focus.label == "brute_force":
        query = replace(
            asked.query, plain="did it get in?", kind="logins", guessed=False, measure=""
        )
        of_it = asked.about(find_culprits(focus)[0], asked.span)
        return replace(
            answer_logins(replace(of_it, query=query, guessed=False)), about=asked.device
        )
    if focus.label == "unauthorized_command":
        return _count_accepted(asked, focus)
    if focus.label == "recon":
        return _count_opened(asked, focus)
    if focus.label in _HIT and (fares := describe_fares(asked.view, find_targets(focus)[0], focus)):
        well = kind_of(fares) == "fares_well"
        return Answer(begin(fares, "no" if well else "yes"), focus.facts)
    if focus.label in _HIT:
        name = asked.view.name_of(find_targets(focus)[0])
        return Answer(say("fares_unread", "unclear", name=name), focus.facts)
    if focus.label in _GOES_OUT:
        reply: Reply = "no" if is_unanswered(focus.label, focus.facts) else "yes"
        return Answer(begin(focus.facts[0], reply), focus.facts[1:])
    return None


def _count_accepted(asked: Asked, focus: Incident) -> Answer | None:
    """How many of the writes of who wrote were accepted."""
    rows = asked.view.exchanges
    rows = rows[
        rows["client"].isin(find_culprits(focus)) & rows["server"].isin(find_targets(focus))
    ]
    rows = rows[rows["kind"].isin(KINDS_OF["write"])]
    accepted, refused = int((rows["outcome"] == "answered").sum()), int(is_refused(rows).sum())
    if not accepted + refused:
        return None
    line = say(
        "writes_accepted", "yes" if accepted else "no", n=accepted, asked=len(rows), refused=refused,
        target=asked.view.names_of(find_targets(focus)), source=asked.view.names_of(find_culprits(focus)),
    )  # fmt: skip
    return Answer(line, (*describe_requests(rows, asked.view, refused=True), *focus.facts))


def _count_opened(asked: Asked, focus: Incident) -> Answer | None:
    """Which requests of who scanned were answered, else which ports accepted a connection; None where
    neither was tried."""
    tried = asked.view.exchanges
    tried = tried[
        tried["client"].isin(find_culprits(focus)) & tried["server"].isin(find_targets(focus))
    ]
    ends: dict[str, Value] = {
        "target": asked.view.names_of(find_targets(focus)), "source": asked.view.names_of(find_culprits(focus)),
    }  # fmt: skip
    if len(tried) >= _ASKED_MANY:
        good = int(((tried["outcome"] == "answered") & ~is_refused(tried)).sum())
        line = say("scan_asked", "yes" if good else "no", n=good, asked=len(tried), **ends)
        return Answer(line, focus.facts)
    rows = asked.view.sessions
    rows = rows[
        rows["client"].isin(find_culprits(focus)) & rows["server"].isin(find_targets(focus))
    ]
    rows = rows[rows["start_s"].between(focus.start_s, focus.end_s)]
    if rows.empty:
        return None
    ports = sorted({int(one) for one in rows.loc[rows["opened"], "port"]})
    values: dict[str, Value] = {f"p{place}": port for place, port in enumerate(ports)}
    values |= {
        "n": len(ports), "tried": int(rows["port"].nunique()), "ports": listed(map(str, ports)), **ends,
    }  # fmt: skip
    line = say("scan_found", "yes", **values) if ports else say("scan_found_none", "no", **values)
    return Answer(line, focus.facts)


# ---- Is it still so? ----

_GOES_ON = re.compile(
    rf"^{_SO}(?:does|is|are|do) {_THEY} still(?: (?:do\w*|going|happening|at it|active|running|on|attacking|flooding"
    rf"|calling|sending|scanning|writing|trying|so|it|that|this|like that))*\W*$"
    rf"|^{_SO}(?:is|does) {DEVICE} still (?:do\w*|at it|attack\w*|flood\w*|scan\w*|call\w*|send\w*|writ\w*|try\w*)"
    r"(?: (?:it|that|this|so))*\W*$"
    rf"|^{_SO}still(?: (?:going|on|active|running|happening|there|now))*\W*$"
    rf"|^{_SO}(?:(?:sigue|siguen|continua|todavia|aun)(?: (?:sigue|asi|activo|activa|ahora|en marcha|pasando))*)\W*$"
    rf"|^{_SO}(?:laeuft|geht|macht|tut|ist|sind) (?:{_THEY} )?(?:das )?(?:immer )?noch"
    r"(?: (?:da|aktiv|so|weiter|an))?\W*$"
    rf"|^{_SO}(?:immer )?noch (?:aktiv|an|so|da|hier)\W*$"
)
_OVER = re.compile(
    rf"^{_SO}(?:(?:is|are|was|has|did) (?:{_THEY}|all of (?:it|them)) (?:all )?)?(?:over|finished|ended|stopped"
    r"|gone away|done|stop|end)(?: (?:now|already|yet|by now|then))*\W*$"
    rf"|^{_SO}(?:ist|sind) {_THEY} (?:jetzt |schon |wieder )?(?:vorbei|beendet|weg)\W*$|^{_SO}vorbei\W*$"
    rf"|^{_SO}(?:ya )?(?:termino|acabo|paso|ha terminado|se acabo|paro)(?: ya)?\W*$"
)
_THERE = re.compile(
    rf"^{_SO}(?:is|are) (?:he|she|they|that one|it) still (?:there|here|around|in|inside|connected|on the network"
    rf"|on our network|present)\W*$|^{_SO}(?:ist|sind) (?:er|sie) noch (?:da|drin|im netz)\W*$"
    rf"|^{_SO}(?:sigue|siguen) (?:ahi|aqui|dentro|conectad\w+)\W*$"
)
_BACK = re.compile(
    rf"^{_SO}(?:is|are|was|were) (?:it|they|all|all of them|everything|everyone|those|dev)(?: all| both)? (?:back"
    r"|up again|there again|online)(?: (?:now|again|online|up))*\W*$"
    rf"|^{_SO}(?:sind|ist) (?:sie|alle|es)(?: alle)? wieder (?:da|online)\W*$"
    rf"|^{_SO}(?:back|wieder da)(?: (?:now|again|up|online))*\W*$"
    rf"|^{_SO}(?:ya )?(?:funciona|volvio|volvieron|estan de vuelta|esta de vuelta)\W*$"
)
_AWAY = ("device_silent", "flapping", "service_down", "name_resolution")


def _tell_standing(asked: Asked, focus: Incident) -> Answer | None:
    """Whether it goes on, or who did it is still there."""
    plain, over = asked.query.plain, is_over(focus, asked.analysis)
    if _THERE.match(plain) and focus.label in ATTACKS:
        return _tell_presence(asked, focus)
    asks_end = _OVER.match(plain) or (_BACK.match(plain) and focus.label in _AWAY)
    if not asks_end and not _GOES_ON.match(plain):
        return None
    reply: Reply = "yes" if over == bool(asks_end) else "no"
    return Answer(say_span(asked, focus, reply), focus.facts)


def _tell_presence(asked: Asked, focus: Incident) -> Answer | None:
    """When who did it was last heard: whoever is there and says nothing is not seen."""
    culprit = find_culprits(focus)[0]
    sent = asked.view.sent_by(culprit)
    if sent.empty:
        return None
    last_s, end_s = float(sent["until_s"].max()), asked.view.last_s
    late = end_s - last_s <= LATELY_S
    line = say(
        "last_seen" if late else "last_seen_quiet", "yes" if late else "unclear",
        name=asked.view.name_of(culprit), last_time_s=last_s, before_s=max(end_s - last_s, 0.0),
    )  # fmt: skip
    return Answer(line, (say_span(asked, focus, ""), *focus.facts), about=culprit)


# ---- Whom, and the same? ----

_AGAINST = re.compile(
    rf"^{_SO}(?:against|at|on|gegen|auf|contra) (?:what|whom?|which (?:one|device|machine|plc)|wen|was|quien|que)\W*$"
    rf"|^{_SO}(?:wohin|where to|to where|a ?donde)\W*$"
)


def _tell_target(asked: Asked, focus: Incident) -> Answer | None:
    """Whom an attack is aimed at: its leading fact names both ends."""
    if not _AGAINST.match(asked.query.plain) or focus.label not in ATTACKS:
        return None
    return replace(tell_incident(focus), about=find_culprits(focus)[0])


_HOW_MANY = re.compile(
    rf"^{_SO}(?:how (?:many|often|much)(?: times)?|wie (?:viele?|oft)|cuant[oa]s(?: veces)?)\W*$"
)
_WHO_DID = re.compile(
    rf"^{_SO}(?:who (?:did|does|is doing|was doing|has done|is behind|was behind|caused)"
    r" (?:it|that|this|so)|by whom|von wem"
    r"|wer (?:macht|tut|hat) (?:das|es)"
    r"(?: gemacht| getan)?|quien (?:lo )?(?:hizo|hace)(?: eso)?|por quien|de quien)\W*$"
)
_OTHER_END = re.compile(
    rf"^{_SO}(?:who|what|which|wer|quien) (?:is|was|are|were|ist|war|es|era|fue)? ?(?:the|das|el|la) "
    r"(?:other|second|andere|zweite|otr[oa]s?) (?:victim|target|end|side|one hit|opfer|victima)\W*$"
)


def _tell_ends(asked: Asked, focus: Incident) -> Answer | None:
    """How often it was, who did it, who is at its other end: what its leading fact says of it."""
    plain = asked.query.plain
    if _HOW_MANY.match(plain) or _OTHER_END.match(plain):
        return tell_incident(focus)
    if not _WHO_DID.match(plain) or focus.label not in ATTACKS:
        return None
    culprits = find_culprits(focus)
    line = say("blame_attack", names=asked.view.names_of(culprits, len(culprits)))
    return Answer(line, focus.facts, about=culprits[0] if len(culprits) == 1 else "")


_HIT_TOO = re.compile(
    rf"^{_SO}(?:(?:is|was|were|got|did|has) {DEVICE} (?:\w+ ){{0,2}}?(?:hit|attacked|flooded|scanned"
    r"|affected|touched|bothered)"
    r"(?: too| also| as well)? (?:by|from) (?:it|him|her|them|that one|that|this"
    r"|the same \w+)"
    rf"|(?:did|does|has) (?:it|he|she|they|that one) (?:also |too )?(?:(?:hit|attack\w*|flood\w*|scan\w*|touch\w*"
    rf"|go for|went for|try|tried|do (?:it|that|the same) (?:to|with|at|on)) )+(?:the )?{DEVICE})"
    r"(?: too| also| as well| then)?\W*$"
    rf"|^{_SO}(?:hat|haben) (?:er|sie|es|das|der|die) (?:auch |noch )?(?:auf )?{DEVICE} (?:auch )?(?:angegriffen"
    rf"|geflutet|gescannt|attackiert)\W*$"
    rf"|^{_SO}(?:(?:tambien )?(?:ataco|toco|escaneo|inundo) (?:tambien )?(?:a )?)+(?:la |el )?{DEVICE}\W*$"
)


def _tell_other_victim(asked: Asked, focus: Incident) -> Answer | None:
    """Whether who attacks in the talk did something to the device that is named, too."""
    if asked.second and _DID_TO.match(asked.query.plain):
        return _tell_act(asked)
    victim = asked.found.mention.devices[:1]
    if not victim or focus.label not in ATTACKS or not _HIT_TOO.match(asked.query.plain):
        return None
    culprits, name = set(find_culprits(focus)), asked.view.name_of(victim[0])
    if victim[0] in culprits:
        return None
    hits = [
        one
        for one in find_incidents(asked.about("", asked.span), ATTACKS)
        if victim[0] in find_targets(one)
    ]
    theirs = [one for one in hits if culprits & set(find_culprits(one))]
    if theirs:
        return Answer(begin(theirs[0].facts[0], "yes"), theirs[0].facts[1:])
    line = say("hit_not", "no", names=asked.view.names_of(find_culprits(focus)), name=name)
    return Answer(line, tuple(one.facts[0] for one in (*hits, focus)))


_DID_TO = re.compile(
    rf"^{_SO}(?:did|does|has) {DEVICE} (?:also |too )?(?:hit|attack\w*|flood\w*|scan\w*) (?:the )?{DEVICE}\W*$"
)


def _tell_act(asked: Asked) -> Answer | None:
    """Whether one device attacked another; None where it did so in another way."""
    source, victim = asked.device, asked.second
    found = find_incidents(asked.about("", asked.span), ATTACKS)
    acts = [one for one in found if source in find_culprits(one) and victim in find_targets(one)]
    labels = find_asked(asked.query.plain) or (OF_ACTS.get(asked.query.relation, ""),)
    alike = [one for one in acts if not any(labels) or one.label in labels]
    if acts and not alike:
        return None
    if alike:
        return Answer(begin(alike[0].facts[0], "yes"), alike[0].facts[1:])
    line = say("hit_not", "no", names=asked.name, name=asked.view.name_of(victim))
    hits = [one.facts[0] for one in found if victim in find_targets(one)]
    does = [one.facts[0] for one in found if source in find_culprits(one)]
    return Answer(line, (*hits, *does))


_SAME = re.compile(
    r"\bsame (?:guy|one|machine|attacker|source|address|culprit|person|people|host|device|ip|place|destination)s?\b"
    r"|^(?:and |the )?same\W*$|\b(?:derselbe|dieselbe|der gleiche|die gleiche)\b|\b(?:el mismo|la misma|los mismos)\b"
)
_ADDRESS = re.compile(r"\b(?:address|ip|destination|place|adresse|ziel|direccion|destino)\b")


def _compare(asked: Asked, focus: Incident, spoken: tuple[str, ...]) -> Answer | None:
    """Whether those of the talk did another thing too; None where there are no two to compare."""
    acts = OF_ACTS.get(asked.query.relation, "")
    labels = spoken or ((acts,) if acts else ())
    named = (*asked.found.mention.devices, *asked.found.mention.peers)
    if not labels and not named:
        return None
    found = find_incidents(asked.about("", asked.span), labels or ATTACKS)
    found = [one for one in found if one.id != focus.id and all(map(one.touches, named))]
    if not found or focus.label not in ATTACKS or len(named) > 1:
        return None
    outward = bool(_ADDRESS.search(asked.query.plain)) and focus.label in _GOES_OUT
    alike = [one for one in found if one.label in _GOES_OUT] if outward else []
    other = (alike or found)[0]

    def name_ends(one: Incident) -> list[str]:
        return list(one.peers[:1]) if outward and alike else find_culprits(one)

    first, second = name_ends(focus), name_ends(other)
    both = [one for one in first if one in second]
    line = say(
        "same_ends" if both else "other_ends", "yes" if both else "no",
        names=asked.view.names_of(both or first), what=focus.facts[0].text,
        other_names=asked.view.names_of(second), other=other.facts[0].text,
    )  # fmt: skip
    about = "" if both else next((one for one in second if not outward), "")
    return Answer(line, (other.facts[0], focus.facts[0]), about=about)
