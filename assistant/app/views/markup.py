"""HTML of the page from templates: whatever is put into one is escaped here and nowhere else.

Text from a capture, a document or a model may be written by an attacker. Gradio fills its components'
own templates with ``${…}`` and ``{{…}}`` besides, so that these characters are escaped too.
"""

import html
import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
# A shape and a word for each state, so that a page without colour says the same.
SHAPES = {"high": "▲", "medium": "◆", "low": "■", "normal": "○", "unsure": "◇", "nothing": "·"}
STATE_WORDS = {state: state for state in SHAPES} | {"unsure": "unclear", "nothing": "not seen"}

_TEMPLATE = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})


def safe(text: object) -> str:
    """Text as HTML shows it, whoever wrote it.

    >>> safe("<b>${x}</b>")
    '&lt;b&gt;&#36;&#123;x&#125;&lt;/b&gt;'
    """
    return html.escape(str(text)).translate(_TEMPLATE)


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(safe(value)),  # noqa: S704
    )
    found.globals |= {"shapes": SHAPES, "words": STATE_WORDS}
    return found


def render(template: str, **values: Any) -> str:
    """Fill a template of ``templates/``; every value is shown as the text it is."""
    return _environment().get_template(template).render(**values)


@cache
def _plain_environment() -> Environment:
    return Environment(  # Markdown, read as a file: nothing of it is HTML
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=False,  # noqa: S701
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def render_plain(template: str, **values: Any) -> str:
    """Fill a template that becomes a text file."""
    return _plain_environment().get_template(template).render(**values)


# What an answer's text is made of, line by line; everything in a line is text.
_LINE = re.compile(r"(?P<mark>[-*] |(?P<number>\d+)\. |> )?(?P<text>.*)")
_TAGS = {"- ": "ul", "* ": "ul", "> ": "blockquote"}


def render_message(text: str, after: dict[str, str] | None = None) -> str:
    """An answer as HTML: headlines, lists and quotations that the line's beginning marks, the rest
    as the text it is, so that no name becomes a link, a picture or emphasis.

    Args:
        text: lines.
        after: HTML that follows a line, by the line's text without its mark.

    >>> render_message("**Yes.**\\n- [x](http://y)")
    '<p><strong>Yes.</strong></p><ul><li>[x](http://y)</li></ul>'
    """
    parts: list[str] = []
    lines = [one[0] for one in map(_LINE.match, text.splitlines()) if one and one[0].strip()]
    for tag, group in groupby(lines, key=_tag):
        found = [one for one in map(_LINE.match, group) if one]
        first = found[0]["number"]
        start = f' start="{first}"' if first else ""
        inner = "li" if tag in ("ul", "ol") else "p"
        items = "".join(
            f"<{inner}>{_strong(one['text'])}{(after or {}).get(one['text'], '')}</{inner}>"
            for one in found
        )
        parts.append(items if tag == "p" else f"<{tag}{start}>{items}</{tag}>")
    return "".join(parts)


def list_lines(text: str) -> list[str]:
    """The lines of an answer without what marks their beginning."""
    return [one["text"] for one in map(_LINE.match, text.splitlines()) if one and one[0].strip()]


def _tag(line: str) -> str:
    found = _LINE.match(line)
    mark = (found["mark"] or "") if found else ""
    return _TAGS.get(mark, "ol" if mark else "p")


def _strong(text: str) -> str:
    """Text with its beginning strong where ``**`` marks that."""
    found = re.fullmatch(r"\*\*(.+?)\*\*(.*)", text)
    return f"<strong>{safe(found[1])}</strong>{safe(found[2])}" if found else safe(text)
