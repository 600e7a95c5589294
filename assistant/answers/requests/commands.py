"""What commands were sent to a controller: who stopped or restarted it, whether a restart was commanded, whether
it runs again, and what else somebody changed."""

import re

import pandas as pd

from assistant.answers.asked import Answer, Asked, begin, say
from assistant.answers.plant.descriptions import describe_requests, name_function, name_times
from assistant.detection.incidents import Incident, worst_first
from assistant.facts.fact import Value, kind_of, listed
from traffic.pcap.protocols import BY_NAME

_MOST = 8
_STOPS = (
    r"(?:stopp?(?:ed|s|ing)?|restart\w*|reboot\w*|reset\w*|halt\w*|shut (?:it |dev )?down|started|gestoppt|angehalten"
    r"|neu ?gestartet|par(?:o|ado)|reinici\w*)"
)
_WHO = re.compile(
    rf"^(?:and |so |but |und |y )*(?:who|wer|quien|which \w+|from where) (?:\w+ ){{0,2}}?{_STOPS}\b"
)
_EITHER = re.compile(
    rf"\b{_STOPS}\b.*\b(?:command\w*|crash\w*|on purpose|by itself|told|ordered|sent|triggered|power|absturz"
    rf"|abgestuerzt|befehl\w*|orden\w*)\b"
    rf"|\b(?:crash\w*|abgestuerzt)\b.*\b{_STOPS}\b"
)
_WHAT = re.compile(
    r"^(?:and |so |but |und |y )*(?:what|which|was|welche\w*|que|cual\w*) (?:other |else |all |anderen? |otr[oa]s? )*"
    r"(?:commands?|orders?|befehle?|ordenes|changes?|else|noch|mas)\b.*"
    r"\b(?:do|did|done|send|sent|chang\w*|writ\w*|wrote|command\w*|alter\w*|modif\w*|issue\w*|get|got|given|receiv\w*"
    r"|geaendert|geschrieben|geschickt|gesendet|getan|gemacht|cambi\w*|escrib\w*|envi\w*|hizo)\b"
)
_ELSE = re.compile(r"\b(?:else|other|noch|sonst|anderen?|mas|otr[oa]s?)\b")


def answer_commands(asked: Asked) -> Answer | None:
    """Who stopped or restarted a controller, or what else a client changed; None where neither is asked, or
    no command was read."""
    plain = asked.query.plain
    if _WHO.match(plain) or _EITHER.search(plain):
        return _tell_interruption(asked)
    if _WHAT.match(plain):
        return _tell_commands(asked)
    return _tell_deed(asked)


_DEED = re.compile(
    r"\b(?:set|sets|chang\w*|adjust\w*|compress\w*|cop(?:y|ied)|delet\w*|eras\w*|activat\w*|reset\w*|verstell\w*|gestellt"
    r"|geaendert|geloescht|cambi\w*|borr\w*)\b"
)
_OBJECT = re.compile(r"\b(?:clock|memory|ram|rom|blocks?|files?|mode|firmware)\b")


def _tell_deed(asked: Asked) -> Answer | None:
    """Who did what a command is called after: "did anyone change the clock of the cpu?"."""
    plain = asked.query.plain
    meant = set(_OBJECT.findall(plain))
    if not meant or not _DEED.search(plain):
        return None
    rows = asked.view.exchanges  # "clock" names a protocol too, which is not meant
    rows = rows[rows["kind"].isin(["write", "control"])]
    if asked.device:
        rows = rows[(rows["client"] == asked.device) | (rows["server"] == asked.device)]
    keys = pd.MultiIndex.from_arrays([rows["protocol"].astype("str"), rows["function"]])
    named = [key for key in keys.unique() if meant & set(name_function(*key).casefold().split())]
    rows = rows[keys.isin(named)]
    if rows.empty:
        return None
    told = describe_requests(rows, asked.view, refused=True)
    return Answer(begin(told[0], asked.reply(True)), tuple(told[1:]))


def _tell_interruption(asked: Asked) -> Answer | None:
    told = _find_interruption(asked)
    if told is None:
        return None
    fact = told.facts[0]
    if _EITHER.search(asked.query.plain):
        return Answer(say("commanded", what=fact.text), told.facts[1:], about=told.device)
    return Answer(begin(fact, ""), told.facts[1:], about=told.device)


def _find_interruption(asked: Asked) -> Incident | None:
    """The incident of commands that stop or restart, at the device that is named if any is."""
    found = (
        one
        for one in worst_first(list(asked.analysis.incidents))
        if one.facts and kind_of(one.facts[0]) == "interrupt"
    )
    return next((one for one in found if not asked.device or one.touches(asked.device)), None)


def _tell_commands(asked: Asked) -> Answer | None:
    """All that changes a controller, by what requests are called; "what else" leaves out what was told."""
    rows = asked.requests
    rows = rows[rows["kind"].isin(["write", "control"])]
    told = _find_interruption(asked)
    other = bool(_ELSE.search(asked.query.plain)) and told is not None
    if other:
        keys = rows[["protocol", "function"]].astype({"protocol": "str"}).itertuples(index=False)
        known = [
            one.function in BY_NAME[one.protocol].interrupts | BY_NAME[one.protocol].resumes
            for one in keys
        ]
        rows = rows[~pd.Series(known, rows.index, dtype=bool)]
    clients = rows["client"].astype("str").unique()
    if rows.empty or (len(clients) > 1 and not other):
        return None
    if asked.device in clients:
        rows = rows[rows["client"] == asked.device]
    counts: dict[str, Value] = {}
    shown = list[str]()
    keys = [rows["protocol"].astype("str"), rows["function"]]
    sizes = rows.groupby(keys, sort=False).size().sort_values(ascending=False, kind="stable")
    for (protocol, function), n in sizes.items():
        counts[f"k{len(counts)}"] = int(n)
        shown.append(f"{name_function(str(protocol), int(function))} ({name_times(int(n))})")
    values = counts | {
        "clients": asked.view.names_of(rows["client"].astype("str").unique()),
        "servers": asked.view.names_of(rows["server"].astype("str").unique()),
        "n": len(rows),
        "what": listed(shown, _MOST),
    }
    line = say("commands_else" if other else "commands", **values)
    facts = describe_requests(rows, asked.view, refused=True)
    return Answer(line, (*facts, *(told.facts if told else ())), about=str(clients[0]))


# ---- Whether what was stopped runs again ----

_RESUMES = re.compile(
    r"\b(?:runs?|running|back|start\w*|restart\w*|reboot\w*|stopped|stands?|halted|laeuft|gestartet|steht|arranc\w*|marcha|parad\w)\b"
)
_SINCE = re.compile(
    r"\b(?:again|now|still|back|afterwards?|after|since|wieder|jetzt|noch|danach|otra vez|ahora|despues|todavia)\b"
)


def answer_resumed(asked: Asked) -> Answer | None:
    """Whether a controller that was told to stop was started again: "is the cpu running again?"; None where
    that is not asked, or nobody stopped one."""
    plain = asked.query.plain
    if not (asked.polar and _RESUMES.search(plain) and _SINCE.search(plain)):
        return None
    meant = [asked.focus or asked.incident, *asked.analysis.incidents]
    for one in filter(None, meant):
        told = [fact for fact in one.facts if kind_of(fact) in ("resumed", "stands", "back")]
        if not told or (
            asked.query.names_device and asked.device and not one.touches(asked.device)
        ):
            continue
        runs = all(kind_of(fact) != "stands" for fact in told)
        stands = bool(_STANDS.search(plain)) and not _STARTS.search(plain)
        reply = asked.reply(runs != stands)
        return Answer(begin(told[0], reply), (*told[1:], *one.facts), about=one.peers[0])
    return None


_STANDS = re.compile(r"\b(?:stopped|stands?|halted|restart\w*|reboot\w*|steht|parad\w)\b")
_STARTS = re.compile(
    r"\b(?:runs?|running|start(?:s|ed|ing)?|restarted|back|laeuft|gestartet|arranc\w*|marcha)\b"
)
