"""What a document is about: one device, by make and model, or everything (a general guide).

A device's manual says nothing about another device, however near its words are. So each document
carries the make and model that it is about: given when it is added, in its front matter
(``about: Norvik CX-20``, or ``vendor`` and ``model``), else found in its title, its file's name or
its headings. A document that names no model is a general guide.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from knowledge_base.formats.sections import Section
from knowledge_base.words import WORD, is_code
from traffic.files import Strict

GENERAL = "general"
# Digits that name a standard, a bus or an attack technique: no device is called so.
_STANDARD = re.compile(
    r"(?i)(?:rs-?(?:232|422|485)|ieee\d*|iec-?\d+|iso-?\d+|en\d+|ipv[46]|802\W?\d+\w*|h\W?26[45]|mp[34]|cat\d\w?|"
    r"t\d{4}|m\d{4}|sha\d+|md5|utf-?\d+|s7comm\w*|wpa\d|tls\d*|snmpv\d|smbv?\d|layer\d|v\d+(?:\.\d+)*|0x\w+)"
)
_SHORTEST_WORD = 4  # letters; fewer are part of a model
_HEADINGS = 2  # a model stands in more than one heading; an error code has one of its own


class Scope(Strict):
    """Where and for what a document holds, as far as somebody says so; "" and () are for all.

    Attributes:
        firmware: of the device, "4.2" or "4.x".
        roles: of devices in plant.yaml, such as "plc".
        site: of the plant.
        language: of the text, "en", "de-CH".
        version: of the document itself.
    """

    firmware: str = ""
    roles: tuple[str, ...] = ()
    site: str = ""
    language: str = ""
    version: str = ""

    def over(self, other: "Scope") -> "Scope":
        """This one, with what only ``other`` says."""
        said = {name: value for name, value in self.model_dump().items() if value}
        return other.model_copy(update=said)


def find_about(title: str, file_name: str, sections: Sequence[Section]) -> str:
    """The make and model that a document's title, file name or headings name; "" for none.

    >>> find_about("Norvik CX-20 programmable controller: operating manual", "manual", ())
    'Norvik CX-20'
    >>> find_about("Wiring of RS-485 lines", "wiring", ())
    ''
    """
    if found := _name_model(title) or _name_model(file_name.replace("_", " ")):
        return found
    headings = {heading for section in sections for heading in section.path}
    counted = Counter(word for heading in headings for word in _models(heading))
    word, count = next(iter(counted.most_common(1)), ("", 0))
    return word if count >= _HEADINGS else ""


def _models(text: str) -> list[str]:
    words = WORD.findall(text)
    return [w for w in words if is_code(w) and re.search(r"\d", w) and not _STANDARD.fullmatch(w)]


def _name_model(text: str) -> str:
    """The first model of a text, with the maker's name before it and the number behind it."""
    words = WORD.findall(text)
    models = _models(text)
    if not models:
        return ""
    at = words.index(models[0])
    words[at] = _cut_words(words[at])
    start, end = at, at + 1
    while start and at - start < 2 and words[start - 1][:1].isupper():
        start -= 1
    while end < len(words) and words[end].isdigit() and len(words[end]) < 6:
        end += 1
    return " ".join(words[start:end])


def _cut_words(model: str) -> str:
    """A model without the words that are tied to it.

    >>> _cut_words("kp12-registers"), _cut_words("CX-20"), _cut_words("cx20-R")
    ('kp12', 'CX-20', 'cx20-R')
    """
    parts = model.split("-")
    if not any(is_code(part) for part in parts):
        return model
    return "-".join(p for p in parts if not (p.isalpha() and len(p) >= _SHORTEST_WORD))


def fits(about: str, identity: Iterable[str]) -> bool:
    """Whether a document is about a device: its model is in what is known of the device, or, where
    no model is named, all of its words are.

    Args:
        about: make and model, as ``Document.about``.
        identity: what the inventory says of the device, and what it says of itself.

    >>> fits("Norvik CX-20", ["plc", "Norvik cx20-R"]), fits("Norvik CX-20", ["CX-200"])
    (True, False)
    """
    known = " | ".join(identity).lower()
    words = [word.lower() for word in WORD.findall(about)]
    models = [word for word in words if re.search(r"\d", word)] or words
    return bool(models) and all(re.search(_spelt(word), known) for word in models)


def find_model(question: str, abouts: Iterable[str]) -> str:
    """The make and model of a document that a question names by its model, the longest where several
    are; "" for none.

    >>> find_model("how heavy is the cx20?", ["Norvik CX-20", "Korvo VC-310", ""])
    'Norvik CX-20'
    """
    named = [one for one in abouts if re.search(r"\d", one) and fits(one, [question])]
    return max(sorted(named), key=len, default="")


def _spelt(word: str) -> str:
    """A pattern for a model however it is parted: cx-20, cx20, CX 20; not cx-200."""
    runs = re.findall(r"\d+|[^\W\d_]+", word)
    last = r"(?!\d)" if runs[-1].isdigit() else r"(?![^\W\d_])"
    first = r"(?<!\d)" if runs[0].isdigit() else r"(?<![^\W\d_])"
    return first + r"[\W_]*".join(map(re.escape, runs)) + last
