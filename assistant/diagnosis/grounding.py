"""Remove from an answer every sentence that has no source.

Every number, time and address must be found in the facts, every quotation in the passage it cites,
every citation in the knowledge base. The sentence that holds anything else is removed, whoever
wrote it, a template or a model.

    text ─▶ lines ─▶ sentences ─▶ quantities, quotations, citations ─▶ each in facts or passages?
"""

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from assistant.diagnosis.citations import Citation, fold, resolve
from assistant.facts.fact import Fact, show
from knowledge_base.index import Index

# ---- Quantities: numbers, times and addresses of a sentence, and values that support them ----
# A shown number is a rounded one, so a value supports it when the value, in the unit shown, rounds
# to what is shown: 1234567.0 supports "1.2 MB" and "1,234,567", but neither "1.3 MB" nor "1.20 MB".

Kind = Literal["address", "time", "date", "number", "name"]


@dataclass(frozen=True)
class Quantity:
    """One thing in a sentence that must have a source.

    Attributes:
        kind: ``name`` is a word with digits in it (``plc-2``, ``T0814``).
        text: as shown, lower case, compatibility-folded; a date as ``2018-12-22``, a time as
            ``08:22:30``.
        number: the value shown, NaN where it is none.
        step: one unit of the last digit shown.
        scales: what one unit shown may stand for (``MB``: 1, 10^6, 2^20).
    """

    kind: Kind
    text: str
    number: float = float("nan")
    step: float = 1.0
    scales: tuple[float, ...] = (1.0,)


_BYTES = {"k": 1, "m": 2, "g": 3, "t": 4}
_SCALES: dict[str, tuple[float, ...]] = {
    "%": (1.0, 0.01),
    "percent": (1.0, 0.01),
    "thousand": (1e3,),
    "million": (1e6,),
    "ms": (1.0, 1e-3),
    **dict.fromkeys(("min", "minute", "minutes"), (1.0, 60.0)),
    **dict.fromkeys(("h", "hour", "hours"), (1.0, 3600.0)),
    **dict.fromkeys(("d", "day", "days"), (1.0, 86400.0)),
    **{f"{k}b": (1.0, 1e3**n, 1024.0**n) for k, n in _BYTES.items()},
    **{f"{k}ib": (1.0, 1024.0**n) for k, n in _BYTES.items()},
    **{f"{k}bit": (1.0, 1e3**n, 1e3**n / 8) for k, n in _BYTES.items()},
}
_UNITS = sorted(_SCALES, key=len, reverse=True)
_WORDS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "dozen": 12, "twenty": 20, "thirty": 30, "fifty": 50,
    "hundred": 100, "thousand": 1e3, "million": 1e6,
}  # fmt: skip
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTH = "|".join(f"{name}|{name[:3]}" for name in _MONTHS)
# Words with digits that name a technology, not something measured.
_TECHNOLOGY = frozenset((
    "ipv4", "ipv6", "802.1q", "802.1x", "rs-485", "rs485", "rs-232", "http/2", "http2", "md5",
    "sha256", "s7", "c2",  # the last is a label
))  # fmt: skip

_PATTERN = re.compile(
    rf"""
    (?P<mac>\b(?:[0-9a-f]{{2}}[:-]){{5}}[0-9a-f]{{2}}\b)
  | (?P<date>\b\d{{4}}-\d{{2}}-\d{{2}}(?=\b|t\d))
  | (?P<day>\b\d{{1,2}}\s+(?:{_MONTH})\.?\s+\d{{4}}\b|\b(?:{_MONTH})\.?\s+\d{{1,2}},?\s+\d{{4}}\b)
  | (?P<ipv4>(?<![\w.])\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?![\w]|\.\d))
  | (?P<time>(?<![\d:.])\d{{1,2}}:[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?![\d:]))
  | (?P<ipv6>(?<![\w:.])(?:[0-9a-f]{{0,4}}:){{2,7}}[0-9a-f]{{0,4}}(?![\w:]))
  | (?P<name>\b[^\W\d_]\w*(?:[-./]\w+)*)
  | (?P<number>(?<![\w.])[-+\u2212]?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?)
    (?P<unit>\s?(?:{"|".join(map(re.escape, _UNITS))})(?![a-z]))?
    (?P<tail>(?:[^\W\d]|\.\d)(?:[\w.-]*\w)?)?
  | (?P<loose>\d+)
    """,
    re.VERBOSE,
)


def read_quantities(text: str) -> list[Quantity]:
    """All that needs a source in a text, in order.

    >>> text = "1,204 packets to 10.0.0.1:80 at 08:22:30, 40 % lost by plc-2"
    >>> [quantity.text for quantity in read_quantities(text)]
    ['1,204', '10.0.0.1', '80', '08:22:30', '40 %', 'plc-2']
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    # A time glued to its date (2018-12-22T08:22:30Z) and a port glued to its address are two
    # quantities each.
    folded = re.sub(r"(?<=\d)t(?=\d{2}:)", " ", folded)
    folded = re.sub(r"(?<=:\d\d)z\b", " ", folded)
    folded = re.sub(r"(\d{1,3}(?:\.\d{1,3}){3})[:/](\d+)", r"\1 \2", folded)
    found = (_read(match) for match in _PATTERN.finditer(folded))
    return [quantity for quantity in found if quantity is not None]


def is_supported(quantity: Quantity, values: Iterable[float | str]) -> bool:
    """Whether one of the values says what the text shows.

    Args:
        quantity: what a text shows.
        values: numbers (seconds since the epoch support times and dates) and texts (which support
            what they show).
    """
    return any(_supports(value, quantity) for value in values)


def is_name(word: str) -> bool:
    """Whether a word names somebody, as a word with digits in it does.

    >>> is_name("plc-2"), is_name("IPv4"), is_name("packets")
    (True, False, False)
    """
    found = _read_word(word.lower())
    return found is not None and found.kind == "name"


def _read(match: re.Match[str]) -> Quantity | None:
    kind, text = match.lastgroup or "", match.group()
    if kind == "name":
        return _read_word(text)
    if kind in ("mac", "ipv4", "ipv6"):
        return Quantity("address", _address(text))
    if kind == "time":
        return Quantity("time", text.zfill(len(text) + (text.index(":") == 1)))
    if kind == "date":
        return Quantity("date", text)
    if kind == "day":
        return Quantity("date", _iso_date(text))
    return _read_number(match)


def _read_word(text: str) -> Quantity | None:
    if text in _WORDS:
        return Quantity("number", text, _WORDS[text])
    if not any(letter.isdigit() for letter in text) or text in _TECHNOLOGY:
        return None
    return Quantity("name", text)


def _read_number(match: re.Match[str]) -> Quantity | None:
    if match["tail"]:
        text = match.group()
        return None if text in _TECHNOLOGY else _glued(text)
    shown = match["number"] or match["loose"]
    digits = shown.replace(",", "").replace("\u2212", "-")
    mantissa, _, exponent = digits.partition("e")
    decimals = len(mantissa.partition(".")[2])
    step = 10.0 ** (int(exponent or 0) - decimals)
    unit = (match["unit"] or "").strip()
    return Quantity("number", match.group(), float(digits), step, _SCALES.get(unit, (1.0,)))


def _glued(text: str) -> Quantity:
    """A number with letters on it: "30s", "5x" are numbers, "3com-1" is a name."""
    plain = re.fullmatch(r"[-+]?(\d+(?:\.\d+)?)(?:s|x|st|nd|rd|th|b|bytes?)", text)
    if plain is None:
        return Quantity("name", text)
    decimals = len(plain[1].partition(".")[2])
    return Quantity("number", text, float(plain[1]), 10.0**-decimals)


def _address(text: str) -> str:
    text = text if text.endswith("::") else text.removesuffix(":")  # "fe80::1: healthy"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text.replace("-", ":")


def _iso_date(text: str) -> str:
    words = re.findall(r"\w+", text)
    months = enumerate(_MONTHS, start=1)
    month = next(number for number, name in months if name.startswith(tuple(words)))
    day, year = (int(word) for word in words if word.isdigit())
    return f"{year:04d}-{month:02d}-{day:02d}"


def _supports(value: float | str, quantity: Quantity) -> bool:
    if isinstance(value, str):
        return any(_same(known, quantity) for known in read_quantities(value))
    if quantity.kind == "number":
        reach = quantity.step * (0.5 + 1e-9)
        return any(
            abs(float(value) / scale - quantity.number) <= reach for scale in quantity.scales
        )
    if quantity.kind in ("time", "date") and 1e8 < value < 1e11:
        form = "%Y-%m-%d" if quantity.kind == "date" else "%H:%M:%S"
        moment = datetime.fromtimestamp(value, UTC).strftime(form)
        return moment.startswith(quantity.text.partition(".")[0])
    return False


def _same(known: Quantity, shown: Quantity) -> bool:
    if known.kind == "number" and shown.kind == "number":
        return any(
            abs(known.number * have / scale - shown.number) <= shown.step * (0.5 + 1e-9)
            for have in known.scales
            for scale in shown.scales
        )
    if known.kind == "time" and shown.kind == "time":
        return known.text.startswith(shown.text)
    return known.kind == shown.kind and known.text == shown.text


# ---- The check ----


@dataclass(frozen=True)
class Checked:
    """A text without what has no source, and the sentences that were taken out."""

    text: str
    removed: tuple[str, ...]


def check(
    text: str, facts: Iterable[Fact], citations: Sequence[Citation], index: Index | None = None
) -> Checked:
    """Remove every sentence with a number, time, address, quotation or citation that does not
    resolve.

    Args:
        text: an answer; lines are kept, each is cut into sentences.
        facts: their values and windows are what numbers may say.
        citations: what ``[n]`` may point to; a quotation between typographic quotation marks on a
            line with ``[n]`` may say whatever the excerpt says.
        index: where given, citations are looked up in it first (``resolve``).
    """
    known = {one.number: one for one in (citations if index is None else resolve(citations, index))}
    values = _values(facts)
    lines: list[str | None] = []
    removed: list[str] = []
    numbering = 0
    for line in text.split("\n"):
        marker = _marker(line, numbering)
        listed = re.search(r"\d+", marker)
        numbering = int(listed.group()) if listed else numbering
        kept = _check_line(line[len(marker) :], values, known, removed)
        lines.append(marker + kept if kept or not line.strip() else None)
    return Checked("\n".join(_without_empty_headings(lines)), tuple(removed))


_MARKER = re.compile(r"\s*(?:[-*•]\s+)?(?:(\d{1,2})[.)]\s+)?")
_CITED = re.compile(r"\[\s*\^?\d+(?:\s*[,;]\s*\d+)*\s*\]")
_QUOTED = re.compile("\u201c([^\u201c\u201d]*)\u201d")
# Stand for a quotation or citation that resolves, and for one that does not, while its line is cut
# into sentences.
_HELD, _FALSE = "\ue000", "\ue001"  # private use: never text
_SENTENCE_END = re.compile(rf"""(?<=[.!?…])([*_)"\u201d']*(?:\s*[{_HELD}{_FALSE}])*\s+)(?=\S)""")


def _values(facts: Iterable[Fact]) -> list[float | str]:
    """What facts know, as it is and as it is shown: "99.9 %" stands for 0.9996, which rounds to
    something else."""
    values: list[float | str] = []
    for fact in facts:
        shown = [show(name, value) for name, value in fact.values.items()]
        values += [*fact.values.values(), *shown, *fact.windows]
    return values


def _marker(line: str, numbering: int) -> str:
    """A bullet or list number at a line's start; a number that does not follow the one before it is
    no list number."""
    found = _MARKER.match(line)
    if found is None or (found[1] and int(found[1]) not in (1, numbering + 1)):
        return ""
    return found.group()


def _check_line(
    line: str, values: list[float | str], known: dict[int, Citation], removed: list[str]
) -> str:
    cited = [known[number] for number in _numbers(line) if number in known]
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        quotation = match[1]
        if quotation and not any(fold(quotation) in one.excerpt for one in cited):
            return match[0]
        held.append(match[0])
        return _HELD if quotation or _numbers(match[0]) <= known.keys() else _FALSE

    masked = re.sub(
        f"{_QUOTED.pattern}|{_CITED.pattern}", hold, re.sub(f"[{_HELD}{_FALSE}]", "", line)
    )
    texts = iter(held)
    kept = ""
    for sentence in _sentences(masked):
        shown = re.sub(f"[{_HELD}{_FALSE}]", lambda _: next(texts), sentence)
        if _is_sourced(sentence, shown, values, known):
            kept += shown
        else:
            removed.append(shown.strip())
    return kept.rstrip()


def _numbers(text: str) -> set[int]:
    return {int(number) for cited in _CITED.findall(text) for number in re.findall(r"\d+", cited)}


def _sentences(line: str) -> list[str]:
    """A line in pieces that join to the line again; a citation after a full stop belongs to the
    sentence before it."""
    ends = [match.end(1) for match in _SENTENCE_END.finditer(line)]
    return [line[start:end] for start, end in zip([0, *ends], [*ends, len(line)], strict=True)]


def _is_sourced(
    masked: str, shown: str, values: list[float | str], known: dict[int, Citation]
) -> bool:
    if _FALSE in masked:
        return False
    cited = _numbers(shown)
    if cited and re.search('["\u201c\u201d]', masked):
        return False  # words in quotation marks beside a citation that the passage does not hold
    allowed = values + [known[number].place for number in cited]
    return all(is_supported(quantity, allowed) for quantity in read_quantities(masked))


def _without_empty_headings(lines: list[str | None]) -> list[str]:
    """Drop removed lines, and a heading (a line all bold, or ending in a colon) that lost
    everything below it."""
    kept: list[str] = []
    lost = False
    for line in [*lines, ""]:
        if line is None:
            lost = True
            continue
        if not line.strip() and lost and kept and re.fullmatch(r"\*\*.*\*\*|.*:", kept[-1].strip()):
            kept.pop()
        lost = lost and bool(line.strip())
        kept.append(line)
    return kept[:-1]
