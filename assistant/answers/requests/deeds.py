"""Who writes to, reads from or asks several devices, whether strangers do, and who but one, from requests:
"who writes to the plcs?", "which plcs were written to by strangers?", "who else writes, besides hmi-1?".
"""

import re

import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, say
from assistant.answers.attacks.denials import deny
from assistant.answers.attacks.raids import OWN, STRANGERS, WHO
from assistant.answers.plant.descriptions import describe_requests, name_times
from assistant.answers.plant.inventory import is_known
from assistant.answers.plant.parties import Parties, name_parties, part_machines
from assistant.answers.traffic.partners import KINDS_OF
from assistant.facts.fact import Value, listed
from assistant.facts.requests import is_refused
from assistant.questions.plain import DEVICE
from assistant.questions.plurals import read_plural

_MOST = 12
_ACTS = ("write", "read", "ask", "login", "publish")
_KINDS = frozenset(
    ("who", "writers", "devices", "count", "hostile", "does", "changed", "answers", "security")
)
_STRANGER = re.compile(rf"\b(?:{STRANGERS})\b")
_SUFFERED = re.compile(
    r"\b(?:is|are|was|were|been|got|get|gets|being) (?:\w+ )?(?:written|read|polled|asked|queried|changed|commanded)\b"
    r"|\b(?:an|in|auf) welche\w*\b|\ba que\b|\bto which\b"
)
_BUT = re.compile(
    rf"\b(?:besides?|other than|apart from|except(?: for)?|but|aside from|ausser|aparte de|menos) (?:the )?{DEVICE}\b"
)
IS_IT = re.compile(
    r"\b(?:is|was|are|were|ist|war|sind|es|era|son) (?:that|this|it|he|dev|they|those|one|any of them|das|der|die|eso)"
    rf" (?:\w+ ){{0,2}}?(?:{OWN}|{STRANGERS}|known)\b"
)


def answer_deeds(asked: Asked) -> Answer | None:
    """Who did it to the devices of a kind, to which of them it was done, whether by strangers, and by whom
    but one; None where a question asks none of these."""
    query, plain = asked.query, asked.query.plain
    if query.kind not in _KINDS or query.relation not in _ACTS:
        return None
    mention = asked.found.mention
    asks_who, is_it = bool(WHO.match(plain)), bool(IS_IT.search(plain))
    if len(mention.devices) == 1 and is_it and not asks_who:
        return is_known(asked)
    several = read_plural(asked.question, asked.analysis)
    strange = query.state == "unknown" or bool(_STRANGER.search(plain))
    # "who writes to plc-1, and is it ours?" asks for all of them.
    stranger, but = strange and not (asks_who and is_it), bool(_BUT.search(plain))
    if not (several or stranger or but or is_it) or (strange and asked.analysis.plant is None):
        return None
    named = (*mention.devices, *mention.peers) if query.names_device or not several else ()
    left = named[-1:] if but else ()
    return _tell(asked, several, tuple(one for one in named if one not in left), left, stranger)


def _tell(
    asked: Asked,
    several: tuple[str, ...],
    named: tuple[str, ...],
    left: tuple[str, ...],
    stranger: bool,
) -> Answer | None:
    relation, plain = asked.query.relation, asked.query.plain
    rows = asked.about("", asked.span).requests
    if relation in KINDS_OF:
        rows = rows[rows["kind"].isin(KINDS_OF[relation])]
    if asked.query.active and several and named:  # "which plcs does hmi-1 write to?"
        rows, suffered = rows[rows["client"].isin(named)], True
    else:
        suffered = bool(_SUFFERED.search(plain)) and bool(several)
        rows = rows[~rows["client"].isin(left)]
        if asked.query.active and named:
            return None
    targets = several or named
    among = rows[rows["server"].isin(targets)] if targets else rows
    if among.empty and not len(rows):
        return deny(asked, f"nobody_{relation}")
    parties = part_machines(asked, among["client"].astype("str").value_counts().index)
    if suffered:
        return _name_sufferers(asked, among, parties, several, stranger)
    return _name_doers(asked, among, parties, targets, left, stranger)


def _name_doers(
    asked: Asked,
    rows: pd.DataFrame,
    parties: Parties,
    targets: tuple[str, ...],
    left: tuple[str, ...],
    stranger: bool,
) -> Answer:
    relation = asked.query.relation
    seen = dict.fromkeys(rows["server"].astype("str").value_counts().index)
    values: dict[str, Value] = {
        "verb": say(f"verb_{relation}").text, "read": len(asked.requests),
        "targets": listed(map(asked.view.name_of, seen or targets), _MOST),
        "left": listed(map(asked.view.name_of, left)),
    }  # fmt: skip
    facts = tuple(describe_requests(rows, asked.view, refused=True)) if len(rows) else ()
    if rows.empty:
        kind = "doers_no_other" if left else "doers_none"
        return Answer(say(kind, _deny(asked), **values), asked.sensor)
    if stranger and not parties.strangers:
        told = name_parties(asked, parties, _count(rows))
        line = say("doers_no_stranger", _deny(asked), **values, parties=told.text, **told.values)
        return Answer(line, facts)
    shown = Parties((), parties.strangers) if stranger else parties
    mine = rows[rows["client"].isin(shown.everybody)]
    values["targets"] = listed(
        map(asked.view.name_of, mine["server"].astype("str").value_counts().index), _MOST
    )
    told = name_parties(asked, shown, _count(mine))
    values["total"] = len(mine)
    one = len(shown.everybody) == 1
    kind = "doers_strangers" if stranger else "doers_one" if one else "doers"
    kind += "_vain" if is_refused(mine).all() else ""
    # That one writes is no "yes" to whether it is the plant's.
    reply = asked.reply(True) if not IS_IT.search(asked.query.plain) else ""
    line = say(kind, reply, **values, all=len(shown.everybody), parties=told.text, **told.values)
    facts = tuple(describe_requests(mine, asked.view, refused=True))
    return Answer(line, facts, about=shown.everybody[0])


def _name_sufferers(
    asked: Asked, rows: pd.DataFrame, parties: Parties, several: tuple[str, ...], stranger: bool
) -> Answer:
    """To which devices of a kind it was done, how often, and by whom."""
    rows = rows[rows["client"].isin(parties.strangers)] if stranger else rows
    verb = say(f"verbs_{asked.query.relation}").text
    if rows.empty:
        kind = "sufferers_by_no_stranger" if stranger else "sufferers_none"
        line = say(kind, _deny(asked), all=len(several), verb=verb, read=len(asked.requests))
        return Answer(line, asked.sensor)
    values: dict[str, Value] = {"all": len(several), "verb": verb}
    names = list[str]()
    for place, (server, n) in enumerate(rows["server"].astype("str").value_counts().items()):
        clients = rows.loc[rows["server"] == server, "client"].astype("str").value_counts().index
        by = listed(map(asked.view.name_of, clients), 4)
        names.append(
            say(
                "by_whom", name=asked.view.name_of(str(server)), times=name_times(int(n)), names=by
            ).text
        )
        values[f"s{place}"] = int(n)
    kind = "sufferers_by_strangers" if stranger else "sufferers"
    kind += "_one" if len(names) == 1 else ""
    line = say(kind, asked.reply(True), n=len(names), names=listed(names, _MOST), **values)
    return Answer(line, tuple(describe_requests(rows, asked.view, refused=True)))


def _deny(asked: Asked) -> Reply:
    """How an answer begins that says that nobody did: what a blind sensor did not see may have been."""
    return "unclear" if asked.blind and asked.polar else asked.reply(False)


def _count(rows: pd.DataFrame) -> dict[str, int]:
    return {str(one): int(n) for one, n in rows["client"].astype("str").value_counts().items()}
