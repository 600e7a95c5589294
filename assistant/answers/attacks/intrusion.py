"""Which machines do what belongs to attacks, whether one of them got in, and who bears an address."""

import re
from collections.abc import Collection

import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, begin, find_incidents, say
from assistant.answers.incidents.condition import judge_all
from assistant.answers.plant.descriptions import describe_requests
from assistant.answers.topics import find_topic
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import find_culprits, find_targets
from assistant.diagnosis.standing import judge
from assistant.facts.fact import Fact, kind_of, listed
from assistant.facts.moves import move_facts
from assistant.facts.requests import is_login, is_refused
from assistant.questions.queries import SERVICE_PORTS
from traffic.labels import ATTACKS

_MOST = 8
_LOGIN_SERVICES = ("telnet", "ssh", "ftp", "rdp")
_KEEPS_OUT = ("service_down", "misconfiguration", "flapping")
_GUESSES = ("brute_force",)
_INSIDE = re.compile(r"\b(inside|within|internal\w*|our own|innen|intern\w*|dentro)\b")
_OUTSIDE = re.compile(r"\b(outside|external\w*|internet|abroad|aussen|extern\w*|fuera)\b")
_TAKEN = re.compile(
    r"\b(compromis|hack|hijack|taken over|subvert|kompromitt|comprometid|uebernommen)"
)
_GENUINE = re.compile(
    r"\b(real|genuine|true|actual|authentic|right|echte\w*|richtige\w*|verdader\w*)\b"
)


def find_hostile(asked: Asked) -> dict[str, list[Incident]]:
    """Whose traffic belongs to attacks, with what each did, the worst first; whose address is taken
    does nothing."""
    acts: dict[str, list[Incident]] = {}
    for one in find_incidents(asked, ATTACKS):
        for culprit in find_culprits(one) if kind_of(one.facts[0]) != "duplicate" else ():
            acts.setdefault(culprit, []).append(one)
    return acts


def name_hostile(asked: Asked, hostile: Collection[str], reply: Reply) -> Fact:
    """Which of them are the plant's own, and which nobody knows."""
    known = list_known(asked)
    own = [one for one in hostile if one in known]
    others = [one for one in hostile if one not in known]
    kind = "hostile_both" if own and others else "hostile_own" if own else "hostile_others"
    return say(
        kind, reply, n=len(own), names=listed(map(asked.view.name_of, own), _MOST),
        others=len(others), other_names=listed(map(asked.view.name_of, others), _MOST),
    )  # fmt: skip


def list_known(asked: Asked) -> Collection[str]:
    """The addresses of the plant's own: those of plant.yaml, else what was taken for its devices."""
    plant = asked.analysis.plant
    return {one.address for one in plant.devices} if plant else asked.view.own


def answer_hostile(asked: Asked) -> Answer:
    """Which machines' traffic belongs to attacks: the plant's own, and those that nobody knows."""
    acts, plain = find_hostile(asked), asked.query.plain
    facts = tuple({one.id: one.facts[0] for found in acts.values() for one in found}.values())
    if not acts:
        judged = judge_all(asked.analysis)
        sure = judged.well == len(judged.devices) > 0 and not (asked.blind or judged.blamed)
        return Answer(
            say("hostile_none", asked.reply(False) if sure else "unclear"),
            (judged.line, *asked.sensor),
            standing="normal" if sure else "inconclusive",
        )
    if _INSIDE.search(plain):
        acts = {one: found for one, found in acts.items() if one in asked.view.local}
    elif _OUTSIDE.search(plain):
        acts = {one: found for one, found in acts.items() if one not in asked.view.local}
    if not acts:
        return Answer(say("hostile_none_there"), facts)
    # What a machine does shows no intruder in it: a tool of the plant scans too.
    doubted = bool(_TAKEN.search(plain)) or all(
        judge(one, asked.analysis.verdicts, one.facts) == "inconclusive"
        for found in acts.values()
        for one in found
    )
    reply: Reply = "unclear" if doubted and asked.polar else asked.reply(True)
    means = [say("hostile_means")] if set(acts) & set(list_known(asked)) else []
    return Answer(name_hostile(asked, acts, reply), (*means, *facts))


_NAMES_TRIED = re.compile(
    r"^(?:and |so |but )*(?:which|what|welche\w*|que|cual\w*) (?:\w+ )?(?:user ?names?|users?|passwords?|accounts?"
    r"|logins?|names"
    r"|benutzer\w*|passwoerter|usuarios?|contrasenas?)\b(?! (?:is|was) (?:refused|let in))"
)


def answer_logins(asked: Asked) -> Answer:
    """How many logins were refused, and whether who was refused was let in later."""
    if _NAMES_TRIED.match(asked.query.plain) and asked.incident is not None:
        return Answer(say("logins_unkept"), asked.incident.facts)
    rows = asked.requests
    attacks = find_incidents(asked, ATTACKS)
    if attacks and asked.polar and _REACHED.search(asked.query.plain):
        line = say("attack_reach", "unclear", n=len(attacks))
        return Answer(line, tuple(one.facts[0] for one in attacks))
    logins = rows[is_login(rows)]
    rows = logins[logins["outcome"].isin(["answered", "refused"])]
    refused = rows[is_refused(rows)]
    if _OTHERS.search(asked.query.plain) and len(refused):
        return _of_others(asked, rows, refused)
    guessed = find_incidents(asked, _GUESSES)
    service = next((one for one in _LOGIN_SERVICES if one in asked.query.plain.split()), "")
    if service and (logins["protocol"] == service).any():
        rows, refused = (part[part["protocol"] == service] for part in (rows, refused))
        guessed = []
    elif service:  # its logins are not read
        at = f"port {SERVICE_PORTS[service]} "
        guessed = [one for one in guessed if any(at in fact.text for fact in one.facts)]
        return _without_refusals(asked, rows[:0], guessed)
    if refused.empty:
        return _without_refusals(asked, rows, guessed)
    told = tuple(describe_requests(refused, asked.view, refused=True))
    inside = _let_in(asked, rows, refused)
    unread = [
        one
        for one in guessed
        if not {one.device, *one.peers} & set(refused["client"].astype("str"))
    ]
    others = tuple(fact for one in unread for fact in one.facts[:1])
    clients = listed(map(asked.view.name_of, dict.fromkeys(refused["client"].astype("str"))), _MOST)
    kind = "logins_refused" if inside else "logins_out"
    # Who was let in before is let in again without having guessed anything.
    in_again = rows[(rows["outcome"] == "answered") & rows["client"].isin(refused["client"])]
    again = kind == "logins_out" and (in_again["ts"] > refused["ts"].min()).any()
    kind = "logins_again" if again else kind
    out = say(kind, n=len(refused), asked=len(rows), clients=clients)
    open_ = _leave_open(asked, logins, refused)
    if asked.query.measure or not asked.polar:
        return Answer(out, (*inside, *open_, *told, *others))
    if inside:
        return Answer(begin(inside[0], "yes"), (*inside[1:], out, *told))
    if open_:
        return Answer(begin(open_[0], "unclear"), (*open_[1:], out, *others, *told))
    if unread:  # over a protocol whose logins are not read
        return Answer(say("logins_unread", "unclear", what=others[0].text), (out, *others, *told))
    return Answer(begin(out, "no"), told)


_REACHED = re.compile(
    r"\b(?:attackers?|intruders?|hackers?|attacks?|intrusion) (?:\w+ )?"
    r"(?:get|got|gotten|come|came|reach|succe|achiev)\w*"
)
_OTHERS = re.compile(r"\b(?:others?|anyone else|anybody else|rest|andere\w*|otr[oa]s?)\b")


def _of_others(asked: Asked, rows: pd.DataFrame, refused: pd.DataFrame) -> Answer:
    """Whether clients that were not refused were let in."""
    clients = set(refused["client"].astype("str"))
    others = rows[~rows["client"].isin(clients)]
    told = tuple(describe_requests(refused, asked.view, refused=True))
    if others.empty:
        names = listed(map(asked.view.name_of, sorted(clients)), _MOST)
        return Answer(say("logins_others_unseen", "unclear", names=names), told)
    names = listed(map(asked.view.name_of, dict.fromkeys(others["client"].astype("str"))), _MOST)
    line = say("logins_others", asked.reply(True), n=len(others), names=names)
    return Answer(line, (*describe_requests(others, asked.view), *told))


def _leave_open(asked: Asked, logins: pd.DataFrame, refused: pd.DataFrame) -> list[Fact]:
    """Clients that were refused and of which another login has an outcome that is not known."""
    unseen = logins[logins["outcome"] == "unseen"]
    facts = []
    for (client, server), mine in refused.groupby(["client", "server"], observed=True):
        pair = unseen[(unseen["client"] == client) & (unseen["server"] == server)]
        if (pair["ts"] > mine["ts"].min()).any():
            names = {
                "client": asked.view.name_of(str(client)),
                "server": asked.view.name_of(str(server)),
            }
            facts.append(say("logins_unseen", n=len(pair), **names))
    return facts


def _let_in(asked: Asked, rows: pd.DataFrame, refused: pd.DataFrame) -> list[Fact]:
    """Clients that were let in by a server after it had refused them."""
    facts = []
    for (client, server), mine in refused.groupby(["client", "server"], observed=True):
        pair = rows[(rows["client"] == client) & (rows["server"] == server)]
        later = pair[(pair["ts"] > mine["ts"].min()) & ~pair.index.isin(mine.index)]
        # Whoever was answered before is let in at other times too.
        known = asked.requests
        known = known[(known["client"] == client) & (known["server"] == server)]
        known = known[known["protocol"] == mine["protocol"].iloc[0]]
        before = (known["outcome"] == "answered") & (known["ts"] < mine["ts"].min())
        if later.empty or before.any():
            continue
        facts.append(
            say(
                "logins_in", client=asked.view.name_of(str(client)), server=asked.view.name_of(str(server)),
                at_time_s=float(later["ts"].min()), n=int((mine["ts"] < later["ts"].min()).sum()),
            )
        )  # fmt: skip
    return facts


def _without_refusals(asked: Asked, rows: pd.DataFrame, guessed: list[Incident]) -> Answer:
    if guessed:
        first = guessed[0].facts[0]
        reply: Reply = "unclear" if asked.polar else ""
        return Answer(say("logins_unread", reply, what=first.text), guessed[0].facts[1:])
    known = asked.incident.facts if asked.incident else ()
    if known and kind_of(known[0]) == "refused":  # who is let in may still not do all that it asks
        return Answer(known[0], known[1:])
    if rows.empty and known and asked.incident and asked.incident.label in _KEEPS_OUT:
        return Answer(known[0], known[1:])  # who is not let in before any login
    kind = "logins_fine" if len(rows) else "logins_none"
    reply = asked.reply(False) if len(rows) and not asked.blind else "unclear"
    return Answer(say(kind, reply, asked=len(rows)), asked.sensor, standing="inconclusive")


def _claimed(incident: Incident) -> set[str]:
    """The addresses that a second machine claims."""
    return set(find_targets(incident))


_SHARED = ("same_id", "station_twice", "duplicate", "double")


def _came_first(asked: Asked) -> Answer | None:
    """Of two that use one id: which is right nobody can tell from traffic, but who was there first."""
    found = [
        one
        for one in worst_first(list(asked.analysis.incidents))
        if one.facts and kind_of(one.facts[0]) in _SHARED
    ]
    if not found:
        return None
    first = found[0]
    rows = asked.view.sessions
    rows = rows[rows["client"].isin([first.device, *first.peers, *first.related])]
    since = rows.groupby("client", observed=True)["start_s"].min().sort_values()
    seen = tuple(
        say("shared_since", name=asked.view.name_of(str(one)), start_time_s=float(at_s))
        for one, at_s in since.items()
    )
    return Answer(say("shared_which", "unclear"), (*seen, *first.facts), standing="inconclusive")


_WHICH_OF_TWO = re.compile(
    r"\b(?:which|welche\w*|cual)\b.*\b(?:right|real|genuine|original|first|wrong|fake"
    r"|richtige?|echte?)\b|^which of (?:them|the two|dev)"
)
MAC = re.compile(
    r"\b(?:macs?|mac address\w*|hardware address\w*|network card|hardwareadresse\w*)\b"
)


def answer_bearer(asked: Asked) -> Answer:
    """Who bears the address of a device, by hardware addresses and by who claimed it."""
    topic = find_topic(asked, alike=False)
    if topic is not None and topic.label == "name_resolution":  # a resolver gives wrong addresses
        return Answer(begin(topic.facts[0], asked.reply(True)), topic.facts[1:])
    liars = find_incidents(asked, ("spoofing",))
    if not asked.device and liars and MAC.search(asked.query.plain):
        culprit = find_culprits(liars[0])[0]
        borne = asked.view.openers_of(culprit) or asked.view.macs_of(culprit)
        if not borne:  # what all bear whose address it claims
            claimed = [set(asked.view.macs_of(one)) for one in _claimed(liars[0]) - {culprit}]
            borne = sorted(set.intersection(*claimed)) if claimed else []
        if borne:
            line = say("bearer_macs", name=asked.view.name_of(culprit), macs=listed(borne))
            return Answer(line, liars[0].facts)
    first = "first" in asked.query.plain  # "which of them was first?"
    which = first or bool(_WHICH_OF_TWO.search(asked.query.plain))
    if which and (told := _came_first(asked)):
        return told
    view, names = asked.view, asked.view.names_of(filter(None, (asked.device, asked.second)))
    found = [
        one
        for one in find_incidents(asked, ("spoofing", "misconfiguration"))
        if (one.label == "spoofing" or kind_of(one.facts[0]) == "double")
        and (not asked.device or {asked.device, asked.second} & {*_claimed(one), one.device})
    ]
    if not (found or asked.device):
        return Answer(
            say("bearer_none", "unclear" if asked.blind else asked.reply(False)), asked.sensor
        )
    macs = {one: view.macs_of(one) for one in (asked.device, asked.second) if one}
    facts = tuple(
        say("bearer_macs", name=view.name_of(one), macs=listed(seen))
        for one, seen in macs.items()
        if seen
    )
    doubts = bool(_GENUINE.search(asked.query.plain)) and asked.polar
    if found:
        # A false address between others says little about these two.
        about = not asked.second or any(one.touches(asked.second) for one in found)
        reply: Reply = ("no" if about else "unclear") if doubts else asked.reply(True)
        return Answer(begin(found[0].facts[0], reply), (*found[0].facts[1:], *facts))
    if not facts:
        return Answer(
            say("bearer_unknown", "unclear" if asked.polar else "", names=names), asked.sensor
        )
    moved = tuple(move_facts(view, *macs))
    shared = any(len(seen) > 1 for seen in macs.values())
    kind = "bearer_several" if shared else "bearer_one"
    reply = "unclear" if asked.polar and (shared or doubts) else asked.reply(False)
    beside = (*moved, *facts, *asked.sensor)
    return Answer(say(kind, reply, names=names), beside, standing="inconclusive")
