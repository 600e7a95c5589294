"""HTML: what a browser shows, cut at its headings; tables keep their header."""

import re
from collections.abc import Iterator
from typing import Any

from knowledge_base.formats.sections import Content, Outline, render_cells

_SILENT = {"script", "style", "template", "noscript", "head", "svg", "iframe", "object", "select"}
_FURNITURE = {"nav", "footer", "aside"}
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])"
    r"|opacity\s*:\s*0(?![.\d])|text-indent\s*:\s*-\d{3,}|(?:left|top)\s*:\s*-\d{4,}"
    r"|(?<!-)color\s*:\s*(?:transparent|white|#fff(?:fff)?\b)",
    re.IGNORECASE,
)
_GROUND = re.compile(r"background", re.IGNORECASE)
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_LEAVES = {"p", "dt", "dd", "figcaption", "caption", "summary", "blockquote", "address"}


def read_html(text: str) -> Content:
    """Read a page: headings, paragraphs, lists, tables and code in their order. What its markup or
    style hides, and menus, are left out and counted."""
    # Imported here: a search need not wait for it.
    from lxml import html

    parser = html.HTMLParser(recover=True, remove_comments=True, remove_pis=True)
    root = html.document_fromstring(text, parser=parser)
    language = root.get("lang", "")
    title = " ".join((root.findtext(".//title") or "").split())
    counts = _strip(root)
    outline = Outline()
    headings = root.findall(".//h1")
    title = title or (_flat(headings[0]) if headings else "")
    body = root.find("body")
    _lay_out(root if body is None else body, outline, headings[0] if len(headings) == 1 else None)
    hidden, menus = counts
    notes = [
        f"{hidden} hidden passages were left out (a reader of the page does not see them)"
        if hidden
        else "",
        f"{menus} menus and page margins were left out" if menus else "",
    ]
    return Content(title, tuple(outline.sections("\n\n")), tuple(filter(None, notes)), language)


def _strip(root: Any) -> tuple[int, int]:
    """Take out what is not shown; how many hidden parts with text, and how many menus."""
    hiding = _hiding_rules(root)
    hidden = menus = 0
    for element in [*root.iter()]:
        if not isinstance(element.tag, str) or element is root:
            continue
        names = {f".{one}" for one in (element.get("class") or "").split()}
        names |= {element.tag, f"#{element.get('id')}"}
        style = element.get("style") or ""
        dark = bool(_GROUND.search(style))  # white letters on a ground of their own are seen
        concealed = (
            element.get("hidden") is not None
            or (bool(_HIDING.search(style)) and not dark)
            or not names.isdisjoint(hiding)
            or (element.tag == "input" and element.get("type") == "hidden")
        )
        if element.tag in _SILENT:
            _drop(element)
        elif concealed:
            hidden += bool(_flat(element))
            _drop(element)
        elif element.tag in _FURNITURE:
            menus += bool(_flat(element))
            _drop(element)
    return hidden, menus


def _hiding_rules(root: Any) -> set[str]:
    """The tags, classes and ids that the page's own style sheet hides by a rule of one name."""
    hiding: set[str] = set()
    for sheet in root.iter("style"):
        for names, rule in _RULE.findall(re.sub(r"/\*.*?\*/", "", sheet.text or "", flags=re.S)):
            if _HIDING.search(rule) and not _GROUND.search(rule):
                hiding |= {one.strip() for one in names.split(",")}
    return {name for name in hiding if re.fullmatch(r"[.#]?[\w-]+", name)}


def _drop(element: Any) -> None:
    if element.getparent() is not None:
        element.drop_tree()


def _flat(element: Any) -> str:
    return " ".join(element.text_content().split())


def _lay_out(element: Any, outline: Outline, title: Any) -> None:
    """Add what an element holds, block by block."""
    loose: list[str] = [element.text or ""]
    for child in element:
        if not isinstance(child.tag, str):
            loose.append(child.tail or "")
            continue
        if _is_inline(child):
            loose += [child.text_content(), child.tail or ""]
            continue
        _add_loose(loose, outline)
        loose = [child.tail or ""]
        level = re.fullmatch(r"h([1-6])", child.tag)
        if level:
            if child is not title and _flat(child):
                outline.add_heading(int(level[1]), _flat(child))
        elif child.tag == "table":
            outline.add_text(render_cells([*_rows(child)]))
        elif child.tag in ("ul", "ol"):
            outline.add_text("\n".join(_items(child)))
        elif child.tag == "pre":
            outline.add_text(f"```\n{child.text_content().strip()}\n```")
        elif child.tag in _LEAVES and not child.findall(".//table"):
            _add_loose([child.text_content()], outline)
        else:
            _lay_out(child, outline, title)
    _add_loose(loose, outline)


def _add_loose(texts: list[str], outline: Outline) -> None:
    if text := " ".join("".join(texts).split()):
        outline.add_text(text)


_INLINE = {
    "a", "abbr", "b", "bdi", "bdo", "br", "button", "cite", "code", "data", "del", "dfn", "em", "font", "i",
    "img", "input", "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup",
    "time", "tt", "u", "var", "wbr",
}  # fmt: skip


def _is_inline(element: Any) -> bool:
    return element.tag in _INLINE and all(_is_inline(one) for one in element.iterdescendants("*"))


def _items(element: Any, indent: str = "") -> Iterator[str]:
    for number, item in enumerate(element.findall("li"), 1):
        mark = f"{number}." if element.tag == "ol" else "-"
        inner = item.findall(".//ul") + item.findall(".//ol")
        lists = [one for one in inner if _owner(one) is item]
        below = [line for one in lists for line in _items(one, indent + "   ")]
        for one in lists:
            _drop(one)
        yield f"{indent}{mark} {_flat(item)}"
        yield from below


def _owner(element: Any) -> Any:
    return next(element.iterancestors("li"), None)


def _rows(table: Any) -> Iterator[list[str]]:
    """The rows of a table; a cell that spans several is repeated in each."""
    carried: dict[int, tuple[int, str]] = {}  # column -> rows still spanned, text
    for row in table.iter("tr"):
        if next(row.iterancestors("table")) is not table:
            continue
        cells: list[str] = []
        own = [cell for cell in row if cell.tag in ("td", "th")]
        while own or len(cells) in carried:
            if len(cells) in carried:
                left, text = carried.pop(len(cells))
                if left > 1:
                    carried[len(cells)] = (left - 1, text)
                cells.append(text)
                continue
            cell = own.pop(0)
            text, down = _flat(cell), _span(cell, "rowspan")
            for _ in range(_span(cell, "colspan")):
                if down > 1:
                    carried[len(cells)] = (down - 1, text)
                cells.append(text)
        yield cells


def _span(cell: Any, name: str) -> int:
    value = cell.get(name) or "1"
    return max(1, min(int(value), 100)) if value.isdecimal() else 1
