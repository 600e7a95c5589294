"""Markdown: what it says of itself before its text begins, and the text cut at its headings."""

import re
from dataclasses import dataclass

import yaml

from knowledge_base.about import Scope
from knowledge_base.formats.sections import Outline, Section
from traffic.files import parse_yaml

_MARK = "---\n"
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True)
class FrontMatter:
    """What a Markdown file says of itself before its text begins; all may be ""."""

    title: str
    about: str
    scope: Scope
    text: str  # without front matter


_KEYS = {"about", "vendor", "model", *Scope.model_fields}


def cut_front_matter(text: str) -> FrontMatter:
    """What a Markdown text's front matter says, and the text without front matter.

    Front matter that says none of ``about`` (or ``vendor`` and ``model``), ``firmware``, ``roles``,
    ``site``, ``language``, ``version`` is left where it is; other keys are not read.

    >>> cut_front_matter("---\\nvendor: Acme\\nmodel: P-7\\nroles: [plc]\\n---\\n# Pump").about
    'Acme P-7'
    """
    parts = text.split(_MARK, 2)
    nothing = FrontMatter("", "", Scope(), text)
    if len(parts) != 3 or parts[0]:
        return nothing
    try:
        fields = parse_yaml(parts[1])
    except yaml.YAMLError:
        return nothing
    if not isinstance(fields, dict) or not _KEYS & fields.keys():
        return nothing
    words = {name: str(value).strip() for name, value in fields.items() if value is not None}
    roles = fields.get("roles") or ()
    roles = (roles,) if isinstance(roles, str) else tuple(map(str, roles))
    named = {name: words[name] for name in Scope.model_fields if name in words and name != "roles"}
    about = words.get("about") or f"{words.get('vendor', '')} {words.get('model', '')}".strip()
    return FrontMatter(words.get("title", ""), about, Scope(**named, roles=roles), parts[2])


def read_markdown(text: str) -> list[Section]:
    """Split Markdown at its ``#`` headings; the first level-1 heading is the document's title and
    not in the paths."""
    outline = Outline()
    fenced = titled = False
    for line in text.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if not heading:
            outline.add_text(line)
        elif len(heading[1]) == 1 and not titled:
            titled = True
        else:
            outline.add_heading(len(heading[1]), heading[2])
    return outline.sections()
