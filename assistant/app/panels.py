"""The pieces of the page as HTML: the bar, incidents and devices, messages, evidence.

Text from a capture, a document or a model is escaped here and nowhere else.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis import Diagnosis
from assistant.diagnosis.compose import clock_of
from assistant.diagnosis.grounding import Citation
from assistant.diagnosis.health import DeviceState
from assistant.facts.moments import UTC_CLOCK, Clock
from traffic.labels import TAXONOMY

# A shape and a word for each state, so that a page without colour says the same.
_SHAPES = {"high": "▲", "medium": "◆", "low": "■", "normal": "○", "unsure": "◇"}
_WORDS = {state: state for state in _SHAPES} | {"unsure": "unclear"}
# What people declared of an incident, by the state's first word.
_MARKS = {"acknowledged": "✓", "confirmed": "✓", "false": "×", "shelved": "‖", "another": "≠"}
_STANDINGS = {
    "confirmed": "Confirmed: the thing itself was measured.",
    "likely": "Likely: the traffic looks so, but what would prove it is missing.",
    "inconclusive": "Inconclusive: the evidence does not settle the cause.",
    "normal": "Normal: what was judged was normal, and no failure was counted.",
}
# Kinds of questions whose answer is a judgement of the device.
_JUDGED = (
    "why", "wrong", "health", "since", "checks", "affected", "attack", "security", "certainty", "against",
)  # fmt: skip

# Gradio fills its components' templates with these characters; text from outside must not.
_TEMPLATE = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})


def safe(text: object) -> str:
    """Text as HTML shows it, whoever wrote it.

    >>> safe("<b>${x}</b>")
    '&lt;b&gt;&#36;&#123;x&#125;&lt;/b&gt;'
    """
    return html.escape(str(text)).translate(_TEMPLATE)


def render_bar(analysis: Analysis | None, name: str) -> str:
    """The line at the top: which capture, from when to when."""
    if analysis is None:
        what = "no capture is open"
    else:
        capture = analysis.capture
        shown = clock_of(analysis)
        span = f"{shown.show(capture.start_s)} to {shown.show(capture.end_s)}"
        what = f"{safe(name)} · {span} · {len(analysis.windows):,} windows"
    return (
        f'<div class="bar"><h1>faultwise</h1><span class="what">{what}</span>'
        '<span class="here">on this machine only</span></div>'
    )


def render_plant(
    devices: Sequence[DeviceState],
    incidents: Sequence[Incident],
    notes: Sequence[str],
    judged: str = "",
    states: Mapping[str, str] = MappingProxyType({}),
    shown: Clock = UTC_CLOCK,
) -> str:
    """Devices and incidents as rows that can be chosen.

    Args:
        devices: the worst first.
        incidents: the worst first.
        notes: what the reader of the capture noted.
        judged: what was judged beside the incidents, and what could not be; the one all-clear.
        states: of incidents by id, "shelved until 18:00"; one that is not in it is active.
        shown: the clock of the plant.
    """
    if not devices:
        empty = '<p class="empty">Open a capture to see its devices.</p>'
        return f'<div class="panel"><h2>Devices</h2>{empty}</div>'
    found = ""
    if incidents:
        listed = "".join(_incident_row(one, states.get(one.id, ""), shown) for one in incidents)
        found = f'<div class="rows">{listed}</div>'
    found += f'<p class="empty">{safe(judged)}</p>' if judged else ""
    rows = "".join(_device_row(one) for one in devices)
    below = f"<h2>About this capture</h2>{_listed('ul', notes)}" if notes else ""
    return (
        f'<div class="panel"><h2>Incidents</h2>{found}'
        f'<h2>Devices</h2><div class="rows">{rows}</div>{below}</div>'
    )


def _device_row(one: DeviceState) -> str:
    address = one.address if one.name != one.address else ""
    under = " · ".join(filter(None, [address, one.role, one.words]))
    return _row(one.state, one.address, one.name, under)


def _incident_row(one: Incident, state: str, shown: Clock) -> str:
    under = f"{one.device} · {shown.show(one.start_s)} to {shown.show(one.end_s)}"
    if state and state != "active":
        under = f"{_MARKS.get(state.split()[0], '•')} {state} · {under}"
    return _row(one.severity, one.device, TAXONOMY[one.label].meaning, under)


def _row(state: str, device: str, name: str, under: str) -> str:
    return (
        f'<button class="{safe(state)}" data-device="{safe(device)}">'
        f'<span class="state">{_SHAPES[state]}</span>'
        f'<span class="name">{safe(name)}</span><span class="state">{_WORDS[state]}</span>'
        f'<span class="under">{safe(under)}</span></button>'
    )


# What an answer's text is made of, line by line; everything in a line is text.
_LINE = re.compile(r"(?P<mark>[-*] |(?P<number>\d+)\. |> )?(?P<text>.*)")
_TAGS = {"- ": "ul", "* ": "ul", "> ": "blockquote"}


def render_message(text: str) -> str:
    """An answer as HTML: headlines, lists and quotations that the line's beginning marks, the rest
    as the text it is, so that no name becomes a link, a picture or emphasis.

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
        items = "".join(f"<{inner}>{_strong(one['text'])}</{inner}>" for one in found)
        parts.append(items if tag == "p" else f"<{tag}{start}>{items}</{tag}>")
    return "".join(parts)


def _tag(line: str) -> str:
    found = _LINE.match(line)
    mark = (found["mark"] or "") if found else ""
    return _TAGS.get(mark, "ol" if mark else "p")


def _strong(text: str) -> str:
    """Text with its beginning strong where ``**`` marks that."""
    found = re.fullmatch(r"\*\*(.+?)\*\*(.*)", text)
    return f"<strong>{safe(found[1])}</strong>{safe(found[2])}" if found else safe(text)


def render_evidence(diagnosis: Diagnosis | None) -> str:
    """What the answer rests on, beside the answer."""
    if diagnosis is None or diagnosis.refused:
        return (
            '<div class="panel"><h2>Evidence</h2><p class="empty">What an answer rests on stands '
            "here: the facts that were measured, what to check, and the passages it cites."
            "</p></div>"
        )
    parts = [_section("Measured", "ul", [fact.text for fact in diagnosis.facts])]
    if diagnosis.kind in _JUDGED:  # how many packets there were is counted, not judged
        sure = safe(_STANDINGS[diagnosis.standing])
        parts = [
            f'<div class="sure"><b>How sure</b><span>{sure}</span></div>',
            *parts,
            _section("Check next", "ol", diagnosis.checks),
            _section("Ruled out", "ul", diagnosis.ruled_out),
        ]
    parts += [
        _cited("From the manuals", diagnosis.citations),
        _cited("Past incidents", diagnosis.similar),
        _section("Notes", "ul", diagnosis.notes),
    ]
    return f'<div class="panel"><h2>Evidence</h2>{"".join(parts)}</div>'


def _cited(title: str, citations: Sequence[Citation]) -> str:
    details = "".join(
        f"<details><summary>[{one.number}] {safe(one.place)}</summary>"
        f"<blockquote>{safe(one.excerpt)}</blockquote></details>"
        for one in citations
    )
    return f"<h2>{title}</h2>{details}" if details else ""


def _section(title: str, kind: str, items: Sequence[str]) -> str:
    return f"<h2>{title}</h2>{_listed(kind, items)}" if items else ""


def _listed(kind: str, items: Iterable[str]) -> str:
    return f"<{kind}>{''.join(f'<li>{safe(item)}</li>' for item in items)}</{kind}>"
