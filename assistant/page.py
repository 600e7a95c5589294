"""The pieces of the page as HTML. Text from a capture, a document or a model is escaped here and nowhere else."""

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from assistant.report import clock

if TYPE_CHECKING:
    from assistant.detection.incidents import Incident
    from assistant.detection.pipeline import Analysis
    from assistant.devices import DeviceState
    from assistant.diagnosis.diagnose import Diagnosis
    from assistant.diagnosis.grounding import Citation

__all__ = ["render_bar", "render_evidence", "render_plant", "safe"]

# A shape and a word for each state, so that a page without colour says the same.
_SHAPES = {"high": "▲", "medium": "◆", "low": "■", "normal": "○", "unsure": "◇"}
_WORDS = {"high": "urgent", "medium": "soon", "low": "later", "normal": "normal", "unsure": "unclear"}
_STANDINGS = {
    "confirmed": "Confirmed: the traffic itself shows it, beside the model's verdict.",
    "likely": "Likely: the verdict and the measured facts agree; another cause is possible.",
    "inconclusive": "Inconclusive: the evidence does not settle the cause.",
    "normal": "Normal: nothing unusual was found.",
}

# Gradio fills its components' templates with these characters; text from outside must not.
_TEMPLATE = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})


def safe(text: object) -> str:
    """Text as HTML shows it, whoever wrote it.

    >>> safe("<b>${x}</b>")
    '&lt;b&gt;&#36;&#123;x&#125;&lt;/b&gt;'
    """
    return html.escape(str(text)).translate(_TEMPLATE)


def render_bar(analysis: "Analysis | None", name: str) -> str:
    """The line at the top: which capture, from when to when."""
    if analysis is None:
        what = "no capture is open"
    else:
        capture = analysis.capture
        span = f"{clock(capture.start_s)} to {clock(capture.end_s)} UTC"
        what = f"{safe(name)} · {span} · {len(analysis.windows):,} windows"
    return (
        f'<div class="bar"><h1>faultwise</h1><span class="what">{what}</span>'
        '<span class="here">on this machine only</span></div>'
    )


def render_plant(devices: Sequence["DeviceState"], incidents: Sequence["Incident"], notes: Sequence[str]) -> str:
    """Devices and incidents as rows that can be chosen; what the reader of the capture noted stands below."""
    if not devices:
        return '<div class="panel"><h2>Devices</h2><p class="empty">Open a capture to see its devices.</p></div>'
    below = f"<h2>About this capture</h2>{_listed('ul', notes)}" if notes else ""
    return (
        f'<div class="panel"><h2>Incidents</h2>{_incident_rows(incidents)}'
        f'<h2>Devices</h2><div class="rows">{"".join(_device_row(one) for one in devices)}</div>{below}</div>'
    )


def _device_row(one: "DeviceState") -> str:
    under = " · ".join(filter(None, [one.address if one.name != one.address else "", one.role, one.words]))
    return _row(one.state, one.address, one.name, _WORDS[one.state], under)


def _incident_rows(incidents: Sequence["Incident"]) -> str:
    if not incidents:
        return '<p class="empty">None: every device behaves as it usually does.</p>'
    rows = (
        _row(one.severity, one.device, one.label.replace("_", " "), _WORDS[one.severity], _when(one))
        for one in incidents
    )
    return f'<div class="rows">{"".join(rows)}</div>'


def _when(one: "Incident") -> str:
    return f"{one.device} · {clock(one.start_s)[11:]} to {clock(one.end_s)[11:]} UTC"


def _row(state: str, device: str, name: str, word: str, under: str) -> str:
    return (
        f'<button class="{safe(state)}" data-device="{safe(device)}"><span class="state">{_SHAPES[state]}</span>'
        f'<span class="name">{safe(name)}</span><span class="state">{word}</span>'
        f'<span class="under">{safe(under)}</span></button>'
    )


def render_evidence(diagnosis: "Diagnosis | None") -> str:
    """What the answer rests on, beside the answer."""
    if diagnosis is None:
        return (
            '<div class="panel"><h2>Evidence</h2><p class="empty">What an answer rests on stands here: the facts that '
            "were measured, what to check, and the passages it cites.</p></div>"
        )
    parts = [
        f'<div class="sure"><b>How sure</b><span>{safe(_STANDINGS[diagnosis.standing])}</span></div>',
        _section("Measured", "ul", [fact.text for fact in diagnosis.facts]),
        _section("Check next", "ol", diagnosis.checks),
        _section("Ruled out", "ul", diagnosis.ruled_out),
        _cited("From the manuals", diagnosis.citations),
        _cited("Past incidents", diagnosis.similar),
        _section("Notes", "ul", diagnosis.notes),
    ]
    return f'<div class="panel"><h2>Evidence</h2>{"".join(parts)}</div>'


def _cited(title: str, citations: Sequence["Citation"]) -> str:
    return f"<h2>{title}</h2>{''.join(_citation(one) for one in citations)}" if citations else ""


def _citation(one: "Citation") -> str:
    return (
        f"<details><summary>[{one.number}] {safe(one.place)}</summary>"
        f"<blockquote>{safe(one.excerpt)}</blockquote></details>"
    )


def _section(title: str, kind: str, items: Iterable[str]) -> str:
    items = list(items)
    return f"<h2>{title}</h2>{_listed(kind, items)}" if items else ""


def _listed(kind: str, items: Iterable[str]) -> str:
    return f"<{kind}>{''.join(f'<li>{safe(item)}</li>' for item in items)}</{kind}>"
