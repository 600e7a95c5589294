"""What an answer rests on, folded below it: only what the answer itself does not say already.

answer's lines ── a measured fact? ──▶ its interval and its packets, beside the line
facts that no line says, other causes, passages, past incidents ──▶ below, folded
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz import fuzz

from assistant.app.views.markup import list_lines, render, render_message
from assistant.diagnosis import Diagnosis
from assistant.diagnosis.citations import Citation
from assistant.facts.fact import Fact, Proof
from assistant.facts.moments import Clock
from traffic.labels import NORMAL

_ALIKE = 70  # of 100; the numbers have to be the same besides
_NUMBER = re.compile(r"\d[\d,.:]*\d|\d")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\s?")
_ADDRESS = re.compile(r" \([^()\s]+\)")
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


@dataclass(frozen=True)
class Evidence:
    """What is shown of a diagnosis, new or kept.

    Attributes:
        device, incident: what it is about; "" for nothing.
        sure: how sure it is, in a sentence; "" where nothing was judged.
        facts, checks, ruled_out, citations, similar, notes: as in a diagnosis.
    """

    device: str
    incident: str
    sure: str
    facts: tuple[Fact, ...]
    checks: tuple[str, ...]
    ruled_out: tuple[str, ...]
    citations: tuple[Citation, ...]
    similar: tuple[Citation, ...]
    notes: tuple[str, ...]


def read_evidence(kept: Mapping[str, Any]) -> Evidence | None:
    """What a diagnosis in its JSON form rests on; None where it is no answer."""
    if kept["refused"]:
        return None
    judged = kept["kind"] in _JUDGED  # how many packets there were is counted, not judged
    facts = tuple(map(_read_fact, kept["facts"]))
    return Evidence(
        kept["device"],
        kept["incidents"][0] if kept["incidents"] and kept["label"] not in ("", NORMAL) else "",
        _STANDINGS[kept["standing"]] if judged else "",
        facts,
        tuple(kept["checks"]) if judged else (),
        tuple(kept["ruled_out"]) if judged else (),
        tuple(Citation(**one) for one in kept["citations"]),
        tuple(Citation(**one) for one in kept["similar"]),
        tuple(kept["notes"]),
    )


def _read_fact(kept: dict[str, Any]) -> Fact:
    proof = kept["proof"]
    if proof:
        proof = Proof(**(proof | {"frames": tuple(proof["frames"])}))
    return Fact(**(kept | {"windows": tuple(kept["windows"]), "proof": proof}))


def make_evidence(diagnosis: Diagnosis | None) -> Evidence | None:
    """What a diagnosis rests on; None where there is none, or it is no answer."""
    return read_evidence(diagnosis.to_dict()) if diagnosis is not None else None


def render_answer(text: str, evidence: Evidence | None, clock: Clock, labels: Mapping[str, str],
                  number: int) -> str:  # fmt: skip
    """An answer, then what it rests on.

    Args:
        text: of the answer, checked.
        evidence: what it rests on; None for nothing.
        clock: of the plant.
        labels: the causes that may be named instead, by label.
        number: of the answer in its conversation, from 0.
    """
    if evidence is None:
        return render_message(text)
    lines = list_lines(text)
    said = {line: fact for line in lines if (fact := _find_fact(line, evidence.facts, clock))}
    places = {line: _render_place(fact, evidence) for line, fact in said.items()}
    unsaid = [one for one in evidence.facts if one not in said.values()]
    folded = render(
        "evidence.html.jinja",
        evidence=evidence,
        facts=[(clock.tell(one.text), _render_place(one, evidence)) for one in unsaid],
        checks=_not_in(evidence.checks, lines),
        ruled_out=_not_in([clock.tell(one) for one in evidence.ruled_out], lines),
        notes=_not_in([clock.tell(one) for one in evidence.notes], lines),
        labels=labels,
        number=number,
    )
    return render_message(text, places) + folded


def _render_place(fact: Fact, evidence: Evidence) -> str:
    """Buttons to a fact's time on the device's page, and its packet filter to copy."""
    spans = [value for name, value in fact.values.items() if name.endswith("_time_s")]
    moments = sorted({float(one) for one in (*spans, *fact.windows) if isinstance(one, float)})
    return render(
        "place.html.jinja",
        device=evidence.device,
        start_s=moments[0] if moments else None,
        end_s=moments[-1] if moments else None,
        proof=fact.proof,
    )


def _find_fact(line: str, facts: Sequence[Fact], clock: Clock) -> Fact | None:
    """The fact that a line says: its words, and the same numbers."""
    best = max(facts, key=lambda one: _alike(line, clock.tell(one.text)), default=None)
    if best is None or _alike(line, clock.tell(best.text)) < _ALIKE:
        return None
    return best


def _alike(line: str, text: str) -> float:
    """How alike a line and a sentence are, of 100; 0 where a number of the line is not in it."""
    here, there = (_DATE.sub("", _ADDRESS.sub("", one)) for one in (line, text))
    if not set(_NUMBER.findall(here)) <= set(_NUMBER.findall(text)):
        return 0.0
    return float(fuzz.ratio(here, there))


def _not_in(texts: Sequence[str], lines: Sequence[str]) -> list[str]:
    return [one for one in texts if all(_alike(line, one) < _ALIKE for line in lines)]
