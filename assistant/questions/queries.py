"""What a question asks for: one of a closed set of queries, which queries.yaml describes.

    "hw sure are you??"            certainty
    "schreibt jemand auf plc-2?"   who, relation write, device plc-2
    "what is the weather like"     "", and the queries that are nearest

Patterns decide first, then the nearest example. Nothing here looks at what was measured.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import RootModel
from scipy.sparse import csr_array

from traffic.files import Strict, read_yaml

MAX_CHARS = 2000
# Words of under four letters, which are in no vocabulary, and which name no device.
_SHORT_WORDS = frozenset(
    "a an the is it my who why how all any ok der die das wer wie was el la que es".split()  # noqa: SIM905
)
# People ask in fewer letters; only so many are looked through for patterns.
_MOST_READ = 600
DEVICE = "dev"
_NONE = "none"
# Score from which on a question asks for what the examples of a kind ask for. Of questions that no
# pattern knows, most of those about nothing of a plant lie below.
_NEAR = 0.2
_RIDGE = 0.7
_FOLDER = Path(__file__).parent


class QueryForm(Strict):
    """How a query is asked.

    Attributes:
        offer: a question of that kind, offered where a question was not understood.
        patterns: regular expressions over the plain question.
        examples: plain questions.
    """

    offer: str
    patterns: tuple[str, ...]
    examples: tuple[str, ...]


class _Forms(RootModel[dict[str, QueryForm]]):
    pass


class _Terms(RootModel[dict[str, dict[str, str]]]):
    pass


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
        nearest: kinds that are nearest to a question that was not understood.
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
    nearest: tuple[str, ...] = ()


def read_query(question: str, names: Iterable[str] = ()) -> Query:
    """Find what a question asks for.

    Args:
        question: the operator's words.
        names: of devices and hosts, which stand for themselves and are no words of the question.

    >>> read_query("Hw sure are you??").kind, read_query("who writes to plc-1?", ["plc-1"]).relation
    ('certainty', 'write')
    """
    plain = make_plain(question, names)
    kind = "health" if is_name_alone(plain) else _by_pattern(plain)
    nearest: tuple[str, ...] = ()
    if not kind:
        kind, nearest = _by_example(plain)
    if kind == _NONE:
        kind, nearest = "", tuple(one for one in _by_example(plain)[1] if one != _NONE)
    relation = _term("relation", plain) or "talk"
    return Query(
        kind,
        plain,
        relation,
        _is_active(plain, kind),
        _term("measure", plain),
        _term("aspect", plain),
        _named_port(plain),
        _number(_UNIT, plain),
        _term("protocol", plain),
        _term("state", plain),
        _term("tone", plain) == "negative",
        _term("tone", plain) == "positive",
        bool(_term("existence", plain)),
        nearest,
    )


_NAME_ALONE = re.compile(
    rf"(?:(?:and|und|y|or|what about|how about|was ist mit|was macht|que hay de|,|\s)*{DEVICE}\W*)+"
)


def is_name_alone(plain: str) -> bool:
    """Whether a plain question is nothing but a device: "and plc-2?" asks the same of it again.

    >>> is_name_alone(make_plain("what about 10.0.0.5?"))
    True
    """
    return _NAME_ALONE.fullmatch(plain) is not None


def split_question(question: str) -> tuple[str, ...]:
    """The questions in a text, at most three: people ask two at once.

    >>> split_question("is plc-1 ok? and since when?")
    ('is plc-1 ok?', 'and since when?')
    """
    parts = [part.strip() for part in re.findall(r"[^?\n]+\??", question[:MAX_CHARS])]
    return tuple(part for part in parts if re.search(r"\w{2}", part))[:3] or (question,)


@cache
def read_forms() -> dict[str, QueryForm]:
    """The closed set of queries, in the order in which they are tried."""
    return {kind: form for kind, form in _forms().items() if kind != _NONE}


@cache
def _forms() -> dict[str, QueryForm]:
    return read_yaml(_FOLDER / "queries.yaml", _Forms, "a form a query").root


@cache
def compile_terms() -> dict[str, dict[str, re.Pattern[str]]]:
    """The words that tell questions of one kind apart, by group and name."""
    return {
        group: {name: re.compile(pattern.replace("\n", "")) for name, pattern in terms.items()}
        for group, terms in _read_terms().items()
        if group != "part"
    }


@cache
def _read_terms() -> dict[str, dict[str, str]]:
    return read_yaml(_FOLDER / "terms.yaml", _Terms, "patterns by group").root


# ---- The question in plain form ----

_ADDRESS = re.compile(
    r"(?<![\w.:-])(?:\d{1,3}(?:\.\d{1,3}){3}(?:/\d+)?|(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}"
    r"|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*)(?![\w])"
)
_KIND_WORDS = (
    "plc|sps|hmi|camera|cam|webcam|gateway|broker|switch|router|sensor|drive|vfd|inverter|printer|robot|server|scada"
    "|historian|rtu|ied|io|pump|valve|panel|controller|steuerung|kamera|drucker|antrieb|pumpe|fuehler|bedienpanel"
    "|camara|bomba|valvula|variador|impresora|servidor|automata|press|presse|filler|oven|mixer|conveyor|pasarela"
    "|workstation|laptop|pc|machine|device|geraet|maschine|dispositivo|equipo|maquina|firewall|meter|scanner|rack"
    "|chiller|boiler|weigher|scale|waage|wrapper|labeller|palletizer|palletiser|depalletiser|compressor|kompressor"
    "|crane|kran|turbine|kiln|furnace|ofen|horno|autoclave|dryer|tank|sorter|capper|robot cell|outstation|breaker"
    "|recloser|relay|relais|caldera|prensa|umrichter|ruehrwerk|leitstand|abfueller|kuehlhaus|substation|booster station"
    "|engineering station|safety controller|building controller|ups card|ups|modem|access point|nas|opc server"
    "|escalas|balanza|etiquetadora|llenadora|cinta|grua|compresor|remote io|et200|time server|roboter|foerderband"
)
# "plc-2", "cam3", "the press plc", "our gateway": a device even where nobody named it so.
_NUMBERED = re.compile(rf"\b(?:{_KIND_WORDS})[-_ ]?\d{{1,3}}[a-z]?\b(?![.:]\d)")
_ARTICLE = r"(?:the|our|my|this|that|der|die|das|den|dem|dieser|dieses|diese|unsere?|el|la|este|nuestr[oa])"
_NO_NAMES = "name |dns |domain |right |wrong |real |same |correct "
_DESCRIBED = re.compile(
    rf"\b{_ARTICLE} (?!{_NO_NAMES})(?:[\w-]+ )?(?:{_KIND_WORDS})\b(?! (?:loss|numbers?))"
)
_CONTRACTIONS = (
    (r"\b(what|who|when|how|that|there|where|why|which|here|whats|he|she)['’]?s\b", r"\1 is"),
    (r"\bit['’]s\b", "it is"),
    (r"\bits (?=(?:an?|the|not|still|ok|down|been|broken|over|just|only|fine|normal)\b)", "it is "),
    (r"\bcan['’]?t\b|\bcannot\b", "can not"), (r"\bi['’]m\b", "i am"),
    (r"\bim (?=(?:new|alone|only|on|here|at|just|not|\w+ing|in front|the|a|sure|still)\b)", "i am "),
    (r"\bwon['’]?t\b", "will not"),
    (r"\b(we|i|you|they)['’]ve\b", r"\1 have"), (r"\b(you|we|they)['’]re\b", r"\1 are"), (r"\bwhatre\b", "what are"),
    (r"\b(i|you|we|they|it|he|she|that)['’](?:ll|d)\b", r"\1 would"), (r"\bain['’]?t\b", "is not"),
    (r"\b(is|are|does|do|did|has|have|had|was|were|could|would|should|must|need)n['’]?t\b", r"\1 not"),
    (r"\bu\b", "you"), (r"\br\b", "are"), (r"\bpls\b|\bplz\b|\bplease\b", "please"), (r"\bw/", "with "),
    (r"\bgibts\b", "gibt es"), (r"\bgehts\b", "geht es"), (r"\bists\b", "ist es"), (r"\bwars\b", "war es"),
    (r"\bkanns\b", "kann es"), (r"\bhats\b", "hat es"), (r"\blaeufts\b", "laeuft es"), (r"\bso ?was\b", "sowas"),
    (r"\bgonna\b", "going to"), (r"\bwanna\b", "want to"), (r"\bgimme\b", "give me"), (r"\blemme\b", "let me"),
    (r"\bdunno\b", "do not know"), (r"\bwtf\b", "what"), (r"\by['’]?all\b", "you"),
)  # fmt: skip


# "before 14:05" asks for a time, not for what was before; times.py reads it.
_TIME = re.compile(
    r"\b(?:before|after|since|vor|nach|seit|desde|antes de|despues de) (?:las |la )?\d{1,2}:\d\d(?::\d\d)?\b"
    r"|(?<![\w:.])\d{1,2}:\d\d:\d\d(?![\w:.]\w)"
)


def make_plain(question: str, names: Iterable[str] = ()) -> str:
    """A question as patterns see it: small letters without accents, devices as ``dev``.

    >>> make_plain("Wer schreibt auf 10.0.0.5, für die Pumpe?")
    'wer schreibt auf dev, fuer dev?'
    """
    text = _fold(question[:MAX_CHARS])
    text = _ADDRESS.sub(DEVICE, _TIME.sub(" ", text))
    known = sorted({_fold(one) for one in names if len(one) > 1}, key=len, reverse=True)
    for name in known:
        if re.split(r"[-_ ]", name)[0] not in text:
            continue
        loose = r"[-_ ]?".join(map(re.escape, re.split(r"[-_ ]", name)))
        text = re.sub(rf"(?<![\w-]){loose}(?![\w])", DEVICE, text)
    for pattern, plain in _CONTRACTIONS:
        text = re.sub(pattern, plain, text)
    text = _NUMBERED.sub(DEVICE, text)
    text = _DESCRIBED.sub(DEVICE, text)
    text = re.sub(rf"\b(?:{_ARTICLE} )?{DEVICE}\b", DEVICE, text)
    text = re.sub(r"[^\w\s?.,:%/-]", " ", text)
    return " ".join(map(_mend, text.split()))


def _fold(text: str) -> str:
    """Small letters without accents; "ä" is "ae"."""
    text = unicodedata.normalize("NFKC", text).lower()
    for letter, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        text = text.replace(letter, plain)
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(one for one in decomposed if not unicodedata.combining(one))


@lru_cache(maxsize=4096)
def _mend(word: str) -> str:
    """The word that a misspelt one resembles; itself where it is known or resembles none."""
    core = word.strip("?.,:")
    if len(core) < 4 or not core.isalpha() or core in _vocabulary() or core == DEVICE:
        return word
    if any(core[:length] in _stems() for length in range(4, len(core) + 1)):
        return word
    near = get_close_matches(
        core, _by_length(len(core)), n=1, cutoff=0.84 if len(core) > 4 else 0.87
    )
    return word.replace(core, near[0]) if near else word


@cache
def _vocabulary() -> frozenset[str]:
    """Whole words of the patterns and examples."""
    return frozenset(re.findall(r"(?<![a-z\\)?])[a-z]{4,}(?![a-z\\([?])", _all_patterns()))


@cache
def _stems() -> frozenset[str]:
    """Beginnings of words, "writ" of "writ\\w+"."""
    return frozenset(re.findall(r"(?<![a-z\\)?])[a-z]{4,}(?=[\\([?])", _all_patterns()))


@cache
def _all_patterns() -> str:
    texts = [text for form in _forms().values() for text in (*form.patterns, *form.examples)]
    texts += [one for terms in _read_terms().values() for one in terms.values()]
    return re.sub(r"\\b", " ", " ".join(texts))


@cache
def _by_length(length: int) -> tuple[str, ...]:
    return tuple(sorted(one for one in _vocabulary() if abs(len(one) - length) <= 1))


# ---- Which query ----


@cache
def _patterns() -> dict[str, tuple[re.Pattern[str], ...]]:
    return {kind: tuple(map(_compile, form.patterns)) for kind, form in _forms().items()}


def _compile(pattern: str) -> re.Pattern[str]:
    """A pattern of queries.yaml as a regular expression: whole words, with its parts and gaps."""
    for _ in range(2):
        for name, part in _read_terms()["part"].items():
            pattern = pattern.replace(f"{{{name}}}", f"(?:{part})")
    pattern = pattern.replace("\n", "").replace(" ~ ", r"\b.{1,45}\b").replace("$", r"\W*$")
    pattern = re.sub(r" ?\?~\? \??", r"\\b.{0,45}\\b", pattern)
    # Groups are never read: without them a search is faster.
    pattern = re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)
    return re.compile(rf"(?:(?<!\w)|(?=\W))(?:{pattern})(?:(?<=\W)|(?!\w))")


def _by_pattern(plain: str) -> str:
    plain = plain[:_MOST_READ]
    for kind, patterns in _patterns().items():
        if any(pattern.search(plain) for pattern in patterns):
            return kind
    return ""


def _by_example(plain: str) -> tuple[str, tuple[str, ...]]:
    """The kind whose examples a question resembles, "" where none; and the two nearest kinds.

    Ridge regression on words, pairs of words and pieces of four letters: of the
    questions that no pattern knew it was right in 0.58 to 0.60, the nearest example alone in 0.52.
    """
    learnt = _learn()
    scores = (_weigh([plain[:_MOST_READ]], learnt.rareness) @ learnt.weights)[0]
    order = [learnt.kinds[at] for at in np.argsort(-scores, kind="stable")]
    return (order[0] if scores.max() >= _NEAR else ""), tuple(order[:2])


@dataclass(frozen=True)
class _Learnt:
    """Weights of pieces of text for each kind, shape (pieces, kinds), and how rare a piece is."""

    kinds: tuple[str, ...]
    rareness: dict[str, tuple[int, float]]
    weights: NDArray[np.float64]


@cache
def _learn() -> _Learnt:
    kinds = tuple(_forms())
    texts = [text for form in _forms().values() for text in form.examples]
    meant = [at for at, form in enumerate(_forms().values()) for _ in form.examples]
    seen = Counter(piece for text in texts for piece in set(_pieces(text)))
    rareness = {
        piece: (at, math.log(len(texts) / count) + 0.1)
        for at, (piece, count) in enumerate(seen.items())
    }
    rows = _weigh(texts, rareness)  # (examples, pieces)
    kernel = (rows @ rows.T).toarray() + _RIDGE * np.eye(len(texts))
    return _Learnt(kinds, rareness, rows.T @ np.linalg.solve(kernel, np.eye(len(kinds))[meant]))


def _weigh(texts: list[str], rareness: dict[str, tuple[int, float]]) -> csr_array:
    """Pieces of each text, the rare ones heavier, as rows of length 1; unknown ones shorten them."""
    values: list[float] = []
    columns: list[int] = []
    ends = [0]
    for text in texts:
        counts = Counter(_pieces(text))
        row = {
            rareness[one][0]: rareness[one][1] * n for one, n in counts.items() if one in rareness
        }
        unknown = sum(n for one, n in counts.items() if one not in rareness)
        length = math.hypot(*row.values(), math.sqrt(math.log(len(rareness)) * unknown)) or 1.0
        values += [weight / length for weight in row.values()]
        columns += row
        ends.append(len(columns))
    return csr_array((values, columns, ends), shape=(len(texts), len(rareness)))


def _pieces(text: str) -> list[str]:
    words = re.findall(r"\w+", text)
    grams = [f" {word} "[at : at + 4] for word in words for at in range(max(len(word) - 1, 1))]
    pairs = [f"{one} {two}" for one, two in pairwise(["^", *words])]
    return [*grams, *pairs, *(f"#{word}" for word in words)]


def is_ordinary(text: str) -> bool:
    """Whether all words of a text are such as questions consist of, so that it names nothing."""
    return set(re.findall(r"\w+", text.lower())) <= _vocabulary() | _SHORT_WORDS


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
_SERVICE_PORTS = {
    "telnet": 23, "ssh": 22, "ftp": 21, "rdp": 3389, "vnc": 5900, "smb": 445, "https": 443, "snmp": 161,
}  # fmt: skip
_SERVICE = re.compile(
    rf"\b(?:use|uses|using|over|via|by|speaks?|runs?) ({'|'.join(_SERVICE_PORTS)})\b"
)


def _named_port(plain: str) -> int | None:
    number = _number(_PORT, plain)
    if number is None and (service := _SERVICE.search(plain)):
        return _SERVICE_PORTS[service[1]]
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
