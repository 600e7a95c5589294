"""Whether two incidents are one event, whether all is over, and how who is hit fares meanwhile."""

import re
from collections import Counter

import numpy as np

from assistant.answers.asked import OPEN, Answer, Asked, Reply, begin, say, say_span
from assistant.answers.incidents.condition import OF_ALL, describe_incident, judge_all, list_ended
from assistant.answers.incidents.since import STILL_THERE
from assistant.answers.plant.descriptions import describe_fares
from assistant.answers.topics import find_labelled
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import OF_ACTS, OWN, measure_part
from assistant.diagnosis.playbook import find_asked, read_playbook
from assistant.diagnosis.resemblance import measure_resemblance
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.facts.fact import kind_of
from assistant.questions.entities import read_devices
from assistant.questions.plain import MAX_CHARS
from traffic.labels import ATTACKS

_ONE_EVENT = re.compile(
    r"\b(?:one|same|single) (?:and the same )?(?:event|story|cause|thing|incident|reason|root cause|trouble)s?\b"
    r"|\bone \w+ or two\b|\bcoincidence\b|\bto do with (?:each|one an)other\b"
    r"|\b(?:related|connected|linked) (?:to each other|events?|incidents?)\b"
    r"|\b(?:events|incidents|both|two) (?:related|connected|linked)\b"
    r"|\bzusammenhang\b|\bzusammen\w*haengen\b|\bel mismo (?:evento|problema|incidente)\b"
)
_TWO = 2
_HALVES = re.compile(
    r"\b(?:and|(?:before )?or(?: after)?|with|then|followed by|und|y|con)\b|[,;]", re.IGNORECASE
)


def answer_one_event(asked: Asked) -> Answer | None:
    """Whether the two incidents that a question speaks of are one event; None where it asks nothing of
    the kind, or there are no two. That they began together proves no common cause."""
    if len(asked.meant_by_list) > _TWO or not _ONE_EVENT.search(asked.query.plain):
        return None
    if asked.query.kind in ("before", "count"):
        return None
    both = (asked.device, asked.second)
    if asked.second and any(all(map(one.touches, both)) for one in asked.analysis.incidents):
        return None  # what touches both is one
    two = _find_two(asked)
    if len(two) < 2:
        return None
    return _tell_one_event(asked, *two)


def _tell_one_event(asked: Asked, first: Incident, second: Incident) -> Answer:
    view, gap_s = asked.view, find_start(second)[0] - find_start(first)[0]
    shared = first.device == second.device
    line = say(
        "one_event_device" if shared else "one_event_open",
        "unclear" if asked.polar or asked.either else "",
        first=read_playbook(first.label).short, first_name=view.name_of(first.device),
        second=read_playbook(second.label).short, second_name=view.name_of(second.device),
        gap_s=abs(gap_s),
    )  # fmt: skip
    facts = tuple(describe_incident(one, asked) for one in (first, second))
    return Answer(line, facts, listing=True, standing="inconclusive")


_FIRST = re.compile(
    r"\b(?:before|after|first|earlier|later|order|sequence|vor|nach|zuerst|frueher|reihenfolge|antes|despues|primero"
    r"|orden)\b"
)


def answer_related(asked: Asked) -> Answer | None:
    """Whether two incidents belong together, or which came first; None where none is known."""
    known = worst_first([one for one in asked.analysis.incidents if one.facts])
    if not known:
        return None
    if len(known) == 1:
        return Answer(
            say("related_one", "", None, name=asked.view.name_of(known[0].device)), known[0].facts
        )
    listed = asked.meant_by_list
    if not listed and asked.focus is None and not asked.device and _FIRST.search(asked.query.plain):
        named = _HALVES.search(asked.question) or find_labelled(asked)
        listed = [] if named else known
    if len(listed) > _TWO:
        return _tell_of_list(asked, listed)
    if _FIRST.search(asked.query.plain) and (told := answer_order(asked)):
        return told
    if told := answer_one_event(asked):
        return told
    focus = asked.focus or asked.incident
    beside = [one for one in known if focus is not None and one.id != focus.id]
    if focus is None or not beside:
        return None
    named = find_labelled(asked)
    near = [one for one in beside if one in named] or [
        one for one in beside if set(_ends_of(one)) & set(_ends_of(focus))
    ]
    other = min(near or beside, key=lambda one: abs(find_start(one)[0] - find_start(focus)[0]))
    first, second = sorted([focus, other], key=lambda one: find_start(one)[0])
    if _FIRST.search(asked.query.plain):
        return _tell_order(asked, first, second, "")
    return _tell_one_event(asked, first, second)


def _tell_of_list(asked: Asked, listed: list[Incident]) -> Answer:
    """Which of the listed incidents came first, or which device most of them have in common."""
    view = asked.view
    by_time = sorted(listed, key=lambda one: find_start(one)[0])
    if _FIRST.search(asked.query.plain):
        first = by_time[0]
        line = say(
            "order_of_list", "", None, n=len(listed), what=read_playbook(first.label).short,
            name=view.name_of(first.device), start_time_s=find_start(first)[0],
        )  # fmt: skip
        return Answer(line, tuple(describe_incident(one, asked) for one in by_time), listing=True)
    ends = Counter(end for one in listed for end in dict.fromkeys(_ends_of(one)))
    name, n = ends.most_common(1)[0]
    kind = "shared_by_list" if n > 1 else "shared_by_none"
    shared = [one for one in by_time if name in _ends_of(one)] if n > 1 else by_time
    line = say(kind, "unclear", n=n, all=len(listed), name=view.name_of(name))
    facts = tuple(describe_incident(one, asked) for one in shared)
    return Answer(line, facts, listing=True, standing="inconclusive")


def _ends_of(incident: Incident) -> tuple[str, ...]:
    return (incident.device, *incident.peers[:2])


_IT = re.compile(r"\b(?:it|him|her|them)\b", re.IGNORECASE)
_ORDER = re.compile(
    r"\b(?:before or after|after or before|(?:came|was|were|began|started|happened) (?:\w+ )?first"
    r"|vorher oder nachher|vor oder nach|antes o despues)\b"
)


# "was that before the flood?", "after the guessing?": of what the talk is about.
_ORDER_OF_IT = re.compile(
    r"^(?:(?:and|so|but|und|y),? )*(?:(?:is|was|did|were|does|ist|war|fue|era|happened|happen) )?"
    r"(?:(?:that|it|this|they|he|das|es|eso|esto)(?: all)? )?(?:(?:happen|happened|start|started|begin|began|come|came"
    r"|paso) )?(?P<side>before|after|vor|nach|antes|despues)(?: or (?:after|before))? (?!(?:that|this|it|then)\b)"
    r"(?:de |del |dem |der |den |die |the |la |el )?(?P<other>[\w-]{3,}.*)$"
)
_BEFORE = ("before", "vor", "antes")


def answer_order(asked: Asked) -> Answer | None:
    """Which of two incidents came first: "was plc-1 down before or after the flood?"; None where that is not
    asked, or there are no two."""
    if len(asked.meant_by_list) > _TWO:
        return None
    question = asked.question[:MAX_CHARS].lower()
    if asked.focus is None and not asked.device and not _HALVES.search(question):
        return None  # "what came first tonight?" of all
    of_it = _ORDER_OF_IT.match(question) if asked.focus is not None and asked.span is None else None
    found = of_it or _ORDER.search(question)
    two = (_find_beside_it(asked, of_it["other"]) if of_it else _find_two(asked)) if found else []
    if found is None or len(two) < 2:
        return None
    reply: Reply = ""
    if of_it and not _ORDER.search(question) and asked.focus:
        reply = "yes" if (two[0].id == asked.focus.id) == (of_it["side"] in _BEFORE) else "no"
    return _tell_order(asked, two[0], two[1], reply)


def _tell_order(asked: Asked, first: Incident, second: Incident, reply: Reply) -> Answer:
    end_s, begins_s = find_end(first), find_start(second)[0]
    line = say(
        "order_overlaps" if end_s > begins_s else "order",
        reply,
        first=read_playbook(first.label).short, first_name=asked.view.name_of(first.device),
        second=read_playbook(second.label).short, second_name=asked.view.name_of(second.device),
        first_time_s=find_start(first)[0], begin_time_s=begins_s, end_time_s=end_s,
    )  # fmt: skip
    facts = tuple(describe_incident(one, asked) for one in (first, second))
    return Answer(line, facts, listing=True)


def _find_beside_it(asked: Asked, other: str) -> list[Incident]:
    """The incident of the talk and the one that words name beside it, the earlier first."""
    focus = asked.focus
    known = [one for one in worst_first(list(asked.analysis.incidents)) if one.facts]
    left = [one for one in known if focus is not None and one.id != focus.id]
    if focus is None or not left:
        return []
    labels = (*find_asked(other), OF_ACTS.get(asked.query.relation, ""))
    named = read_devices(other, asked.analysis)
    ends = (*named.devices, *named.peers)
    near = measure_resemblance(other, left, asked.analysis)
    parts = [sum(measure_part(one, end, asked.view) for end in ends) / OWN for one in left]
    scores = near + np.array(parts) + np.array([float(one.label in labels) for one in left])
    if scores.max() < _NEAR:
        return []
    return sorted([focus, left[int(scores.argmax())]], key=lambda one: find_start(one)[0])


def _find_two(asked: Asked) -> list[Incident]:
    """The two incidents that a question means most, the earlier first: of each of its halves the
    nearest, else the nearest of the whole."""
    known = [one for one in worst_first(list(asked.analysis.incidents)) if one.facts]
    here = [
        one for one in known if asked.device and measure_part(one, asked.device, asked.view) >= OWN
    ]
    chosen: list[Incident] = []
    if asked.focus in here and len(here) > 1 and not asked.query.names_device:
        known, chosen = here, [asked.focus]  # "which came first?" of what the device had
    question = asked.question[:MAX_CHARS]
    before: tuple[
        str, ...
    ] = ()  # that the parts so far name: "plc-1 was written to before the hmi lost it"
    for part in (*_HALVES.split(question)[:_MOST_PARTS], question, question):
        named = read_devices(part, asked.analysis).devices
        named = (*named, *before) if _IT.search(part) else named
        before = (*before, *named)
        left = [one for one in known if one not in chosen]
        near = measure_resemblance(part, left, asked.analysis)
        parts = ((measure_part(one, end, asked.view) for end in named) for one in left)
        own = np.array([sum(each) / OWN for each in parts])
        means = part is question or (len(left) and max(near.max(), own.max()) >= _NEAR)
        if len(left) and len(chosen) < 2 and means:
            chosen.append(left[int((near + own).argmax())])
    return sorted(chosen, key=lambda one: find_start(one)[0])


_NEAR, _MOST_PARTS = 0.35, 6
_KEEPS = re.compile(
    r"\b(?:keep|kept|carry|carried|go|went) (?:on )?(?:work|serv|answer|runn)\w*"
    r"|\bstill (?:work|serv|answer|runn|respond)\w*|\bstay\w* (?:up|alive|reachable)"
    r"|\b(?:cope[sd]?|coping|survive[sd]?|surviving|withst\w+)\b"
)
_SUFFERS = re.compile(
    r"\b(?:suffer\w*|hurt\w*|harm\w*|impaired|disturb\w*|leid\w*|gelitten|litt\w*|sufr\w*)\b"
)
_OF_THE_ATTACK = re.compile(
    r"^(?:and |so )?(?:is|was|are|were|does|did|has) (?:the |this |that |any )?(?:\w+ )?"
    r"(?:flood|attack|scan|storm|sweep|guess)\w*\b"
)
# "does it still answer?" asks for now, and not for the time of an attack.
_MEANWHILE = re.compile(
    r"\b(?:during|while|under|despite|meanwhile|through|then|keep|kept|survive\w*|cope\w*|withst\w+|pings?"
    r"|by it|from it|(?:the )?others)\b"
)


def answer_fares(asked: Asked) -> Answer | None:
    """Whether a device that is attacked still serves the others; None where that is not asked, or
    nothing attacks it."""
    keeps, suffers = _KEEPS.search(asked.query.plain), _SUFFERS.search(asked.query.plain)
    if _OF_THE_ATTACK.match(asked.query.plain):
        return None  # "is the flood on plc-1 still running?"
    if not asked.device or not asked.polar or not (keeps or suffers):
        return None
    hits = [
        one
        for one in worst_first([one for one in asked.analysis.incidents if one.facts])
        if one.label in ATTACKS
        and (one.role == "target" if one.device == asked.device else one.touches(asked.device))
    ]
    named = find_asked(asked.query.plain)
    if keeps and not named and not _MEANWHILE.search(asked.query.plain):
        return None
    hits.sort(key=lambda one: one.label not in named)
    if not hits or (asked.second and not hits[0].touches(asked.second)):
        return None
    fares = describe_fares(asked.view, asked.device, hits[0])
    if fares is None:
        return Answer(say("fares_unread", "unclear", name=asked.name), hits[0].facts)
    well = kind_of(fares) == "fares_well"
    return Answer(begin(fares, asked.reply(well == bool(keeps))), hits[0].facts)


_TROUBLE = re.compile(
    r"\b(?:fehler|errors?|problems?|probleme?|troubles?|faults?|refus\w*|fail\w*|busy|loss|los(?:es|ing)|slow|attack\w*"
    r"|flood\w*|drop\w*|kick\w*|clos(?:es|ing)|broken|stoer\w*|fallos?|errores)\b"
)


def answer_still(asked: Asked) -> Answer | None:
    """Whether a trouble that is named goes on; None where that is not asked, or none is known."""
    if asked.still and OF_ALL.match(asked.query.plain) and not asked.device:
        known = worst_first([one for one in asked.analysis.incidents if one.facts])
        return list_ended(asked, known, over=False) if known else None
    if not (asked.still and (asked.polar or asked.guessed)) or not _TROUBLE.search(
        asked.query.plain
    ):
        return None
    if OPEN.match(asked.query.plain) or asked.either:
        return None
    named = find_labelled(asked)
    if not named and STILL_THERE.search(asked.query.plain):
        return None
    spoken = asked.incident if asked.incident in named or not named else max(named, key=find_end)
    if spoken is None or not spoken.facts or not (asked.device or named or asked.focus):
        return None
    if not named and asked.query.kind in ("attack", "logins", "hostile"):
        return None
    over = is_over(spoken, asked.analysis)
    return Answer(say_span(asked, spoken, "no" if over else "yes"), spoken.facts)


_BACK = re.compile(
    r"^(?:and |und |y )?(?:is|are|was|were|ist|sind|esta|estan) (?:dev|it|they|er|sie|es)\b.*"
    r"\b(?:back|wieder (?:da|am netz|online|erreichbar)|zurueck|de vuelta)\b"
    r"|\b(?:everything|all) (?:is )?quiet\b|\bquiet at the end\b|\bsafe to start\b"
    r"|\b(?:back to normal|all clear|(?:normal|ok|okay|fine|well|quiet|calm|good|stable) again|as (?:it was )?before"
    r"|under control|stand down|everything over|all over|over and done|wieder (?:normal|ok|ruhig|gut|alles)"
    r"|alles wieder|entwarnung|de nuevo normal|vuelto a la normalidad|otra vez normal)\b"
)


def answer_back(asked: Asked) -> Answer | None:
    """Whether all incidents are over; None where another thing is asked, or there were none. What was not
    judged is said, and only where nothing is left is it "yes"."""
    incidents = [one for one in asked.analysis.incidents if one.facts]
    if asked.device:
        incidents = [one for one in incidents if one.touches(asked.device)]
    incidents = find_labelled(asked) or incidents  # "is dns ok again?"
    asks_why = (
        asked.query.kind == "why" and not asked.query.guessed
    )  # "... and then good again. why?"
    if not incidents or asks_why or not _BACK.search(asked.query.plain):
        return None
    if asked.device and asked.focus is not None and not asked.query.names_device:
        incidents = [one for one in incidents if one.id == asked.focus.id] or incidents
    going = worst_first([one for one in incidents if not is_over(one, asked.analysis)])
    is_back = asked.device and re.search(
        r"\b(?:back(?! to)|wieder|zurueck|de vuelta)\b", asked.query.plain
    )
    if is_back and not going:
        last = max(incidents, key=find_end)
        heard = asked.view.sent_by(asked.device)
        if (heard["until_s"] > find_end(last)).any():
            return Answer(say_span(asked, last, asked.reply(True)), last.facts)
    if len(incidents) == 1:
        over = not going
        return Answer(
            say_span(asked, incidents[0], "" if over else asked.reply(False)), incidents[0].facts
        )
    judged = judge_all(asked.analysis)
    if going:
        line = say(
            "back_not", asked.reply(False), n=len(going), all=len(incidents),
            name=asked.view.name_of(going[0].device), end_time_s=asked.view.last_s,
        )  # fmt: skip
        return Answer(line, tuple(describe_incident(one, asked) for one in going), listing=True)
    last = max(incidents, key=find_end)
    before_s = asked.view.last_s - find_end(last)
    line = say(
        "back_all", all=len(incidents), end_time_s=find_end(last), before_s=max(before_s, 0.0),
        name=asked.view.name_of(last.device),
    )  # fmt: skip
    shown = [describe_incident(last, asked), judged.line, *asked.sensor]
    return Answer(line, tuple(shown), listing=True)
