"""What a question asks for: one of a closed set of queries, which queries.yaml describes.

    "hw sure are you??"            certainty
    "schreibt jemand auf plc-2?"   who, relation write, device plc-2
    "what is the weather like"     "", and the queries that are nearest

Patterns and likeness with what people asked decide together (`kinds`). Nothing here looks at what was
measured.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from assistant.questions.forms import (
    FEEDBACK,
    NONE,
    all_forms,
    compile_terms,
    read_forms,
    read_terms,
)
from assistant.questions.kinds import NEAR, SURE, load_kinds, rank_kinds
from assistant.questions.plain import DEVICE, MAX_CHARS, is_name_alone, make_plain

# People ask in fewer letters; only so many are looked through for patterns.
_MOST_READ = 600


@dataclass(frozen=True)
class Query:
    """What is asked for.

    Attributes:
        kind: a key of queries.yaml; "" where the question was not understood.
        plain: the question as patterns see it.
        relation: of "who" questions: a key of ``relation`` in terms.yaml, "talk" where none is
            named.
        active: the device that is named is who acts: "whom does plc-1 write to?".
        measure: of numbers: a key of ``measure`` in terms.yaml; "" for none.
        aspect: of what a device does: a key of ``aspect`` in terms.yaml; "" for all.
        port, unit: numbers that are named so; None for none.
        protocol: that is named, as its module is; "" for none.
        state: of devices: a key of ``state`` in terms.yaml; "" for none.
        negative: "yes" means that something is wrong: "is it down?", "did anything fail?".
        positive: "yes" means that all is well: "is it ok?".
        exists: whether there is something of a kind is asked: "is there a flood?".
        guessed: another kind is nearly as likely, and every second time it is meant.
        nearest: the two likeliest kinds.
    """

    kind: str
    plain: str = ""
    relation: str = "talk"
    active: bool = False
    measure: str = ""
    aspect: str = ""
    port: int | None = None
    unit: int | None = None
    protocol: str = ""
    state: str = ""
    negative: bool = False
    positive: bool = False
    exists: bool = False
    guessed: bool = False
    nearest: tuple[str, ...] = ()

    @property
    def names_device(self) -> bool:
        """Whether a device is named, by its name, address or kind."""
        return bool(_NAMED.search(self.plain))


_NAMED = re.compile(rf"\b{DEVICE}\b")


def read_query(question: str, names: Iterable[str] = ()) -> Query:
    """Find what a question asks for.

    Args:
        question: the operator's words.
        names: of devices and hosts, which stand for themselves and are no words of the question.

    >>> read_query("Hw sure are you??").kind, read_query("who writes to plc-1?", ["plc-1"]).relation
    ('certainty', 'write')
    """
    plain = make_plain(question, names)
    meant = _find_kind(plain)
    relation = _term("relation", plain) or "talk"
    return Query(
        meant.kind,
        plain,
        relation,
        _is_active(plain, meant.kind),
        _term("measure", plain),
        _term("aspect", plain),
        _named_port(plain),
        _number(_UNIT, plain),
        _term("protocol", plain),
        _term("state", plain),
        _term("tone", plain) == "negative",
        _term("tone", plain) == "positive",
        bool(_term("existence", plain)),
        meant.guessed,
        meant.nearest,
    )


def split_question(question: str) -> tuple[str, ...]:
    """The questions in a text, at most three: people ask two at once.

    >>> split_question("is plc-1 ok? and since when?")
    ('is plc-1 ok?', 'and since when?')
    """
    parts = [part.strip() for part in re.findall(r"[^?\n]+\??", question[:MAX_CHARS])]
    return tuple(part for part in parts if re.search(r"\w{2}", part))[:3] or (question,)


# ---- Which query ----


@cache  # when it is first tried: to compile them all takes a tenth of a second
def _compile(pattern: str) -> re.Pattern[str]:
    """A pattern of queries.yaml as a regular expression: whole words, with its parts and gaps."""
    for _ in range(2):
        for name, part in read_terms()["part"].items():
            pattern = pattern.replace(f"{{{name}}}", f"(?:{part})")
    pattern = pattern.replace("\n", "").replace(" ~ ", r"\b.{1,45}\b").replace("$", r"\W*$")
    pattern = re.sub(r" ?\?~\? \??", r"\\b.{0,45}\\b", pattern)
    # Groups are never read: without them a search is faster.
    pattern = re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)
    return re.compile(rf"(?:(?<!\w)|(?=\W))(?:{pattern})(?:(?<=\W)|(?!\w))")


@dataclass(frozen=True)
class _Meant:
    """What `Query` says of the kind."""

    kind: str
    guessed: bool = False
    nearest: tuple[str, ...] = ()


def _find_kind(plain: str) -> _Meant:
    if is_name_alone(plain):
        return _Meant("health")
    pattern = find_pattern(plain)
    ranking = rank_kinds(load_kinds(), [plain[:_MOST_READ]], [pattern])
    order = [str(one) for one in ranking.kinds[0]]
    nearest = tuple(one for one in order if one not in (NONE, FEEDBACK))[:2]
    if NONE in (pattern, order[0]) or (not pattern and ranking.scores[0, 0] < NEAR):
        return _Meant("", nearest=nearest)
    # What changes the history is told by patterns alone.
    if FEEDBACK in (pattern, order[0]):
        kind = pattern or nearest[0]
        return _Meant(kind, kind != FEEDBACK, nearest)
    return _Meant(order[0], bool(ranking.lead[0] < SURE), nearest)


def find_pattern(plain: str) -> str:
    """The kind whose pattern is found first in a plain question, "" where none is."""
    plain = plain[:_MOST_READ]
    for kind, form in all_forms().items():
        if any(_compile(pattern).search(plain) for pattern in form.patterns):
            return kind
    return ""


def is_order(query: Query) -> bool:
    """Whether the plant is to be acted on: "restart plc-1", not "may I restart it?", nor "scan of plc-1 will
    not start, is it the program?"."""
    plain = query.plain[:_MOST_READ]
    return (
        not query.kind
        and bool(_compile("{given_order}").search(plain))
        and not _FAILS.search(plain)
    )


_FAILS = re.compile(
    r"\b(?:(?:will|does|did|can|could|would) not|fail\w*|why|geht nicht|klappt nicht|no funciona)\b"
    r"|, (?:is|was) (?:it|that)\b"
)


def specific_words(question: str) -> list[str]:
    """Words of a question that no query knows: what it is about, if it is about more than that
    something is wrong.

    >>> specific_words("why does the download to 10.0.0.5 fail?"), specific_words("why is it slow?")
    (['download'], [])
    """
    words = re.findall(r"(?<![\w.:-])[^\W\d_]{4,}(?![\w.:]*\d)", make_plain(question))
    return [word for word in words if word not in _common_words()]


@cache
def _common_words() -> frozenset[str]:
    """Words of the examples of more than one kind: they tell nothing of what a question is about."""
    words = [set(re.findall(r"\w+", " ".join(form.examples))) for form in read_forms().values()]
    kinds = Counter(word for one in words for word in one)
    return frozenset(word for word, count in kinds.items() if count > 1)


# ---- What more it says ----


def _term(group: str, plain: str) -> str:
    return next(
        (name for name, pattern in compile_terms()[group].items() if pattern.search(plain)), ""
    )


_PORT = re.compile(r"\b(?:ports?|puerto)(?: number| no\.?)? (\d{1,5})\b")
_UNIT = re.compile(r"\b(?:units?|unit id|slave|einheit|unidad)(?: id| number| no\.?)? (\d{1,3})\b")


def _number(pattern: re.Pattern[str], plain: str) -> int | None:
    found = pattern.search(plain)
    return int(found[1]) if found else None


# Services that people name where others say the port.
SERVICE_PORTS = {
    "telnet": 23, "ssh": 22, "ftp": 21, "rdp": 3389, "vnc": 5900, "smb": 445, "https": 443, "snmp": 161,
}  # fmt: skip
_SERVICE = re.compile(
    rf"\b(?:use|uses|using|over|via|by|speaks?|runs?) ({'|'.join(SERVICE_PORTS)})\b"
)


def _named_port(plain: str) -> int | None:
    number = _number(_PORT, plain)
    if number is None and (service := _SERVICE.search(plain)):
        return SERVICE_PORTS[service[1]]
    return number


def _is_active(plain: str, kind: str) -> bool:
    """Whether the device that is named does it, and is not who suffers it.

    Of numbers, what a device gets and refuses others have asked.
    """
    actor = compile_terms()["actor"]
    plain = plain[:_MOST_READ]
    if actor["another"].search(plain) or (kind == "count" and actor["takes"].search(plain)):
        return False
    return bool(actor["device"].search(plain))
