"""What a question names that stands in requests: a name that is looked for, an account, a block, an object.

    "who asks for baidu?"          baidu.com, asked for 9 times by 192.168.1.99, and nobody answers
    "which blocks were read out?"  SDB0 4 times; OB0 was refused

Names of protocols are words that no question has otherwise, so that one in it means them.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

import pandas as pd

from assistant.answers.asked import OF_NO_INCIDENT, Answer, Asked, begin, say
from assistant.answers.plant.descriptions import describe_requests, name_function, name_times
from assistant.detection.rules.conversation import word_code
from assistant.facts.fact import Fact, Value, kind_of, listed
from assistant.facts.requests import is_login, is_refused
from assistant.questions.entities import list_names
from assistant.questions.forms import vocabulary
from assistant.questions.plain import real_words
from traffic.labels import ATTACKS
from traffic.pcap.protocols import BY_NAME
from traffic.pcap.protocols.dns import TELLS

_MOST = 8
_LEAST_CHARS = 4  # of a part of a name; the whole of one may be shorter
_PARTS = re.compile(r"[\s./\\\\$<>@:_-]+")
_WORDS = re.compile(r"[\w./\\\\$<>@:-]+")
_WHY = re.compile(
    r"\b(?:why|reason|refus\w*|denied|fail\w*|could not|can not|not|warum|wieso|weshalb|por que)\b"
)


_ASKS = re.compile(
    r"\b(?:ask\w*|look\w*|search\w*|quer(?:y|ies|ied)|request\w*|want\w*|call\w*|read\w*|writ\w*|wrote|us(?:e|es|ed|ing)"
    r"|frag\w*|such\w*|lies\w*|schreib\w*|busc\w*|pregunt\w*|lee\w*|escrib\w*)\b"
)
_RESOLVED = re.compile(
    r"\b(?:resolv\w*|answer\w*|found|known|exist\w*|aufgeloest|beantwortet|gefunden|resuelt\w*|respond\w*)\b"
)
_OF_CAUSES = frozenset(("why", "wrong", "cause", "checks", "meaning", "related", "responsible"))
_OF_DEVICES = frozenset(("health", "answers", "fares"))  # a name may be that of a machine


def answer_named(asked: Asked) -> Answer | None:
    """Who asked for what a question names, how often and with what result; None where it names nothing
    that stands in requests, or what is known of an incident says so."""
    if asked.query.kind in OF_NO_INCIDENT or asked.query.kind in _OF_DEVICES:
        return None
    # "ntp.plant.local" names no protocol.
    rows = replace(asked, query=replace(asked.query, protocol="")).requests
    rows = rows[rows["name"].notna()]
    meant = _find_meant(asked, rows)
    if not meant:
        return None
    rows = rows[rows["name"].astype("str").isin(meant) & ~_tells(rows)]
    known = asked.incident.facts if asked.incident else ()
    if rows.empty or any(one in fact.text for one in meant for fact in known):
        return None
    incident = asked.incident
    explains = incident is not None and incident.label not in ATTACKS
    if incident is not None and explains and asked.query.kind in _OF_CAUSES:
        ends = {*rows["client"].astype("str"), *rows["server"].astype("str")}
        if ends <= {incident.device, *incident.peers, *incident.related}:
            return None  # what is wrong between these explains it
    refused = rows[is_refused(rows)]
    if len(refused) and _WHY.search(asked.query.plain):
        rows = refused
    told = describe_requests(rows, asked.view, refused=True)
    vain = _tell_vain(asked, rows, meant)
    if vain and _RESOLVED.search(asked.query.plain):
        reply = asked.reply(kind_of(vain[0]) == "names_answered")
        return Answer(begin(vain[0], reply), tuple(told), standing="inconclusive")
    reply = asked.reply(True) if _ASKS.search(asked.query.plain) else ""
    return Answer(begin(told[0], reply), (*vain, *told[1:]), standing="inconclusive")


def _find_meant(asked: Asked, rows: pd.DataFrame) -> list[str]:
    """The names in requests that words of the question are, or are a part of."""
    words = {one.strip(".:-").casefold() for one in _WORDS.findall(asked.question)}
    plant = asked.analysis.plant
    zones = {one.zone for one in plant.devices} if plant else set()
    words -= {one.casefold() for one in (*list_names(asked.analysis), *zones) if one}
    names = list(rows["name"].astype("str").value_counts().index)
    return [one for one in names if words & _split(one)]


@lru_cache(maxsize=4096)
def _split(name: str) -> frozenset[str]:
    """A name in small letters, and those of its parts that are no words of a language."""
    whole = name.casefold()
    parts = {one for one in _PARTS.split(whole) if len(one) >= _LEAST_CHARS and not one.isdigit()}
    parts -= vocabulary()
    parts = {one for one in parts if one not in real_words()}
    plain = whole in vocabulary() or whole in real_words() or len(whole) < 3
    return frozenset(parts if plain else parts | {whole})


def _tells(rows: pd.DataFrame) -> pd.Series:
    """Answers to what all were asked, which are rows of their own."""
    return (rows["protocol"] == "dns") & (rows["function"] == TELLS)


def _tell_vain(asked: Asked, rows: pd.DataFrame, names: list[str]) -> list[Fact]:
    """That nobody answered names that all were asked for: no resolver is to blame for it."""
    asks = rows[(rows["protocol"] == "dns") & (rows["outcome"] == "told")]
    if asks.empty:
        return []
    every = asked.view.exchanges
    answers = every[_tells(every) & every["name"].astype("str").isin(names)]
    if len(answers):
        names_of = asked.view.names_of(dict.fromkeys(answers["client"].astype("str")))
        return [say("names_answered", n=len(answers), names=names_of)]
    return [say("names_vain", n=len(asks))]


# ---- Blocks, programs and files ----

_FILES = re.compile(
    r"\b(?:blocks?|files?|programs?|programmes?|recipes?|bloecke|baustein\w*|dateien?|programme|bloques?|archivos?"
    r"|sdb|ob|db|fb|fc)\b"
)
_TAKEN = re.compile(
    r"\b(?:read|uploaded|upload|fetched|copied|taken|stolen|opened|downloaded|loaded|written|gelesen|ausgelesen"
    r"|hochgeladen|geladen|uebertragen|kopiert|leid\w+|copiad\w+|cargad\w+)\b"
)
_ASKS_WHICH = re.compile(
    r"^(?:and |so |but |und |y )*(?:which|what|welche\w*|was fuer|que|cual\w*|how many|wie viele|cuant\w+"
    r"|(?:was|were|is|are|did|has|have|wurde\w*) (?:any|some|a|anyone|anybody|somebody|someone)?)\b"
)
_OF_FILES = re.compile(r"(?i)upload|download|file")
_BROUGHT = re.compile(r"\b(?:download|loaded|downloaded|written|geladen|cargad\w+)\b")


def answer_files(asked: Asked) -> Answer | None:
    """Which blocks or files of a controller were read out or loaded, and which of them were refused;
    None where that is not asked, or no request named one."""
    plain = asked.query.plain
    asks = _ASKS_WHICH.match(plain) and _FILES.search(plain) and _TAKEN.search(plain)
    rows = asked.requests if asks else asked.view.exchanges[:0]
    rows = rows[rows["name"].notna()]
    keys = pd.MultiIndex.from_arrays([rows["protocol"].astype("str"), rows["function"]])
    about = [key for key in keys.unique() if _OF_FILES.search(name_function(*key))]
    rows = rows[keys.isin(about)]
    brought = bool(_BROUGHT.search(plain))
    rows = rows[rows["kind"].isin(("write", "control") if brought else ("read",))]
    if rows.empty:
        return None
    bad = is_refused(rows)
    counts: dict[str, Value] = {}
    names = [_count_name(rows[~bad], one, counts) for one in _most(rows[~bad])]
    refused = [
        f"{_count_name(rows[bad], one, counts)}: {_word_codes(rows[bad], one)}"
        for one in _most(rows[bad])
    ]
    clients = asked.view.names_of(dict.fromkeys(rows["client"].astype("str")))
    servers = asked.view.names_of(dict.fromkeys(rows["server"].astype("str")))
    kind = ("loaded" if brought else "read_out") if names else "files_refused"
    kind += "_partly" if names and refused else ""
    line = say(
        kind, asked.reply(bool(names)), clients=clients, servers=servers, names=listed(names, _MOST),
        refused=listed(refused, _MOST), **counts,
    )  # fmt: skip
    return Answer(line, tuple(describe_requests(rows, asked.view, refused=True)))


def _most(rows: pd.DataFrame) -> Iterable[str]:
    return list(rows["name"].astype("str").value_counts().index)


def _count_name(rows: pd.DataFrame, name: str, counts: dict[str, Value]) -> str:
    n = int((rows["name"].astype("str") == name).sum())
    counts[f"f{len(counts)}"] = n
    return f"{name} ({name_times(n)})"


def _word_codes(rows: pd.DataFrame, name: str) -> str:
    mine = rows[(rows["name"].astype("str") == name) & (rows["code"] > 0)]
    keys = mine[["protocol", "code"]].astype({"protocol": "str"}).drop_duplicates()
    return listed(word_code(one.protocol, int(one.code)) for one in keys.itertuples())


# ---- Accounts ----

_WHO_TRIED = re.compile(
    r"\b(?:who|which (?:user|account|login|client)s?|what (?:user|account)s?|whose|wer|welche\w* (?:benutzer|konto)"
    r"|quien|que usuario)\b.*"
    r"\b(?:log(?:s|ged|ging)? ?(?:in|on)|logins?|logons?|sign(?:ed|s)? ?(?:in|on)|authenticat\w*|refused|rejected"
    r"|locked out|tried|tries|used?|using|anmeld\w*|angemeldet|einlog\w*|sesion)\b"
)


def answer_accounts(asked: Asked) -> Answer | None:
    """Who asked to be let in, under which account, and whether he was; None where that is not asked, or no
    login names its account."""
    if not _WHO_TRIED.search(asked.query.plain):
        return None
    rows = asked.requests
    rows = rows[is_login(rows) & rows["outcome"].isin(["answered", "refused", "unanswered"])]
    if rows.empty or not any(BY_NAME[str(one)].accounts for one in rows["protocol"].unique()):
        return None
    told = describe_requests(rows, asked.view, refused=True)
    facts = asked.incident.facts if asked.incident else ()
    return Answer(told[0], (*told[1:], *facts))
