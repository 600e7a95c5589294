"""Whom an answer named: "which two?", "all of them", "and the other one?", "the second, is it ours?"."""

import re
from dataclasses import replace

from assistant.answers.asked import say
from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis import Diagnosis
from assistant.facts.fact import kind_of
from assistant.questions.entities import find_named

_NAME = r"[\w.:-]+(?: \([^()]*\))*"
_GROUP = re.compile(rf"{_NAME}(?:, {_NAME})* and (?:\d+ more|{_NAME})")
_CUT = re.compile(r" and (\d+) more\b")
# Of what is told so, each fact of the first one's kind tells of one more.
_OF_INCIDENT = frozenset(("why", "wrong", "health", "since", "attack"))
_OF_THEM = r"(?:them|those|these|ihnen|denen|ellos|ellas)"
_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_NUMBER = re.compile(rf"\b(?:{'|'.join(_NUMBERS)}|\d+)\b")
ALL = re.compile(
    rf"^(?:and )?(?:(?:which|what|who) (?:are |were )?(?:the |all )?(?:ones?|devices?|{'|'.join(_NUMBERS)}"
    rf"|\d+|they"
    rf"|(?:of )?{_OF_THEM})"
    rf"|(?:all|each|every one) (?:of )?{_OF_THEM}|(?:name|list|show)(?: me)? (?:all of )?(?:{_OF_THEM}|all|everyone)"
    rf"|how many (?:clients?|devices?|machines?|addresses|hosts?|of {_OF_THEM}|are they)(?: is (?:it|that))?"
    r"|(?:wer sind|nenne?) (?:sie|alle)|welche(?: davon)?|alle (?:davon|nennen)|cuales|quienes son|nombr\w+ todos)"
    r"(?: please| bitte| por favor| exactly| then)?\W*$"
)
_ORDINALS = (
    r"first|1st|erste[nrs]?|primer[oa]?", r"second|2nd|zweite[nrs]?|segund[oa]",
    r"third|3rd|dritte[nrs]?|tercer[oa]?", r"fourth|4th|vierte[nrs]?|cuart[oa]",
    r"fifth|5th|fuenfte[nrs]?|quint[oa]", r"sixth|6th|sechste[nrs]?|sext[oa]", r"seventh|7th", r"eighth|8th",
)  # fmt: skip
_LAST = r"last|letzte[nrs]?|ultim[oa]"
_OTHER = r"other|andere[nrs]?|otr[oa]"
_ENTRY = (
    r"one|two|incident|alarm|problem|thing|entry|item|device|machine|address|client|host|vorfall|geraet|alarma?"
    r"|incidente|equipo"
)
_PLACE = re.compile(
    r"\b(?:the|das|der|die|den|el|la) (?:" + "|".join(f"(?P<n{at}>{words})" for at, words in enumerate(_ORDINALS))
    + rf"|(?P<last>{_LAST})|(?P<other>{_OTHER}))(?: (?:{_ENTRY})\b|(?=\W*$|,))"
)  # fmt: skip
_TROUBLE = re.compile(r"\b(?:incident|alarma?|problem|thing|entry|item|vorfall|incidente)\b")
_BARE = re.compile(r"^(?:and|what about|und|was ist mit|y|so)?\W*$")


def _first_line(diagnosis: Diagnosis) -> str:
    return diagnosis.text.partition("\n")[0].strip("* ")


def read_listed(
    diagnosis: Diagnosis, analysis: Analysis, meant: tuple[str, ...]
) -> tuple[str, ...]:
    """The addresses that the first line of an answer lists, "A, B and C"; where it lists none, all that
    it names but those asked about."""
    longest = _find_group(diagnosis, analysis)
    if len(longest) > 1:
        return tuple(longest)
    line = _first_line(diagnosis)
    return tuple(one for one in find_named(line, analysis) if one not in meant)


def _find_group(diagnosis: Diagnosis, analysis: Analysis) -> list[str]:
    groups = [find_named(found[0], analysis) for found in _GROUP.finditer(_first_line(diagnosis))]
    return max(groups, key=len, default=[])


def lists(diagnosis: Diagnosis, analysis: Analysis | None) -> bool:
    """Whether the first line of an answer lists devices, "A, B and C"."""
    return analysis is not None and len(_find_group(diagnosis, analysis)) > 1


def is_cut(diagnosis: Diagnosis) -> bool:
    """Whether the list of an answer's first line ends in "and 5 more"."""
    return bool(_CUT.search(_first_line(diagnosis)))


def find_place(plain: str) -> re.Match[str] | None:
    """Words that mean one of a list by its place, "the other one", "the third"; None without any."""
    return _PLACE.search(plain)


def is_of_incidents(place: re.Match[str]) -> bool:
    """Whether the words name an entry of a list of incidents."""
    return bool(_TROUBLE.search(place[0]))


def put_in(question: str, address: str) -> str:
    """A question with an address for the words that mean one of a list."""
    found = _PLACE.search(question.lower())
    return f"{question[: found.start()]}{address}{question[found.end() :]}" if found else question


def is_bare(plain: str, place: re.Match[str]) -> bool:
    """Whether a question says nothing but which one it means: "and the other one?"."""
    return bool(_BARE.match(plain[: place.start()] + plain[place.end() :]))


def choose(place: re.Match[str], listed: tuple[str, ...], now: str) -> str:
    """The entry of a list that words mean; "" where it has none there. Beside the one that the talk
    is about, or else the first, the other is the next."""
    if not listed:
        return ""
    if place["last"]:
        return listed[-1]
    if place["other"]:
        rest = [one for one in listed if one != (now if now in listed else listed[0])]
        return next(iter(rest), "")
    at = next(at for at in range(len(_ORDINALS)) if place[f"n{at}"])
    return listed[at] if at < len(listed) else ""


def name_all(
    plain: str,
    last: Diagnosis,
    listed: tuple[str, ...],
    incident: Incident | None,
    analysis: Analysis,
) -> Diagnosis | None:
    """The last answer with all whom it lists, also those that its line had no room for; None where it
    named none, or where nothing tells who the rest are."""
    cut, number = _CUT.search(_first_line(last)), _NUMBER.search(plain)
    if last.kind == "devices":
        return None  # an inventory names all that there is already
    named = list(listed)
    if not find_named(_first_line(last), analysis):  # "4 incidents …": the lines below name them
        named = [one for fact in last.facts for one in find_named(fact.text, analysis)]
    elif last.kind in _OF_INCIDENT and incident is not None and incident.facts:
        kind = kind_of(incident.facts[0])
        for one in incident.facts[1:] if named else incident.facts:
            named += find_named(one.text, analysis) if kind_of(one) == kind else []
        named += incident.peers if cut else ()
        named = [one for one in named if one != incident.device or one in listed]
    named = list(dict.fromkeys(named))
    several = (_NUMBERS.get(number[0]) or int(number[0])) if number else 0
    if several and len(listed) == several:  # "which two?"
        named = list(listed)
    if not named or (cut and len(named) < len(listed) + int(cut[1])):
        return None
    every = say("listed_all", n=len(named), names=analysis.view.names_of(named, len(named))).text
    text = "\n".join([f"**{every}**", f"- {_first_line(last)}"])
    return replace(last, text=text, cause=every, facts=())
