"""Let a chat model word what was seen, in a fixed form, every sentence checked; or not at all.

The verdict, the standing, the checks and the quotations stay code's. The model only words what was
measured, and each of its sentences must name the facts it rests on: a sentence whose numbers are
not in those facts is dropped.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from pydantic import ConfigDict, Field, ValidationError

from assistant.diagnosis.compose import render_answer
from assistant.diagnosis.diagnose import Diagnosis
from assistant.diagnosis.grounding import Citation, check, fold
from assistant.facts.fact import Fact, Value, plural
from prompts.messages import MOST_SENTENCES, Evidence, Statement, diagnosis
from traffic.errors import UserError
from traffic.files import Strict

MAX_TOKENS = 600
_MAX_REPLY_CHARS = 20_000
# A model must not sound surer than the code is; these words are the code's to use.
_OVERCLAIM = re.compile(
    r"\b(confirm\w*|certain(?:ly)?|definite\w*|undoubted\w*|proven?|without doubt|clearly|guarante\w*)\b",
    re.I,
)


class ChatModel(Protocol):
    """What ``LocalLLM`` and ``RemoteLLM`` have in common."""

    name: str

    def stream(self, messages: list[dict[str, str]], max_tokens: int) -> Iterator[str]:
        """Write a reply piece by piece."""
        ...


class Sentence(Strict):
    """One sentence of a model and the ids it says it rests on."""

    model_config = ConfigDict(strict=True)
    text: str = Field(min_length=1, max_length=600)
    facts: list[str] = Field(max_length=8)
    citations: list[str] = Field(max_length=4)


class Draft(Strict):
    """A model's whole reply."""

    model_config = ConfigDict(strict=True)
    sentences: list[Sentence] = Field(min_length=1, max_length=2 * MOST_SENTENCES)


def write(composed: Diagnosis, model: ChatModel | None) -> Diagnosis:
    """Let a model word a composed diagnosis; without a model it stays as it is.

    Returns:
        The diagnosis with the model's checked sentences in place of the list of facts; the composed
        one, with a note why, where the model's reply cannot be used. The note stands in its text.
    """
    facts = {f"f{number}": fact for number, fact in enumerate(composed.facts, start=1)}
    passages = {f"p{one.number}": one for one in composed.citations}
    if model is None or not facts:
        return composed
    try:
        reply = _ask(model, diagnosis(_evidence(composed, facts, passages)))
        draft = Draft.model_validate_json(_json_of(reply))
    except UserError as error:
        return _fall_back(composed, f"the model could not be used: {error}")
    except ValidationError as error:
        faults = error.error_count()
        return _fall_back(composed, f"its reply has not the form asked for ({faults} faults)")
    first = draft.sentences[:MOST_SENTENCES]
    kept = [text for one in first if (text := _checked(one, facts, passages, composed))]
    dropped = len(draft.sentences) - len(kept)
    if len(kept) < 2 or dropped > len(kept):
        lost = f"{dropped} of its {len(draft.sentences)} sentences had no source"
        return _fall_back(composed, lost)
    note = f"{dropped} {plural(dropped, 'sentence')} of the model had no source and went out."
    origin = (
        f"What was seen was worded by {model.name} from the measured facts; "
        "each sentence was checked against them."
    )
    sections = replace(composed.sections, worded=" ".join(kept), origin=origin)
    written = replace(composed, sections=sections, written_by=model.name)
    return _reword(written, {"name": model.name}, note if dropped else "")


def _fall_back(composed: Diagnosis, why: str) -> Diagnosis:
    # Folded: a server's own words stand in it, and must not look like markup or a citation.
    return _reword(composed, {}, f"Composed without the language model: {fold(why[:300])}.")


def _reword(diagnosis: Diagnosis, values: dict[str, Value], note: str) -> Diagnosis:
    """Render and check the text again; a note stands in it, and is the source of its numbers."""
    notes = (*diagnosis.notes, *([note] if note else []))
    sections = replace(diagnosis.sections, notes=notes)
    source = Fact("writer", "", values | ({"note": note} if note else {}))
    context = (*diagnosis.context, source)
    cited = (*diagnosis.citations, *diagnosis.similar)
    checked = check(render_answer(sections), (*diagnosis.facts, *context), cited)
    return replace(
        diagnosis,
        sections=sections,
        text=checked.text.strip(),
        notes=notes,
        context=context,
        removed=len(checked.removed),
    )


def _evidence(
    composed: Diagnosis, facts: dict[str, Fact], passages: dict[str, Citation]
) -> Evidence:
    return Evidence(
        question=composed.question,
        verdict=composed.cause,
        standing=composed.standing,
        facts=tuple(Statement(key, fact.text) for key, fact in facts.items()),
        passages=tuple(Statement(key, one.excerpt) for key, one in passages.items()),
    )


def _ask(model: ChatModel, messages: list[dict[str, str]]) -> str:
    """Collect the reply, held to its form by servers that can do that, and cut where a model does
    not end."""
    more: dict[str, Any] = {}
    if "schema" in inspect.signature(model.stream).parameters:
        more["schema"] = Draft.model_json_schema()
    reply = ""
    for piece in model.stream(messages, MAX_TOKENS, **more):
        reply += piece
        if len(reply) > _MAX_REPLY_CHARS:
            break
    return reply


def _json_of(reply: str) -> str:
    """The outermost braces: models like to talk around their JSON."""
    start, end = reply.find("{"), reply.rfind("}")
    return reply[start : end + 1] if 0 <= start < end else reply


def _checked(
    sentence: Sentence, facts: dict[str, Fact], passages: dict[str, Citation], composed: Diagnosis
) -> str:
    """The sentence with its citations as marks; "" where it rests on nothing, says too much, or has
    a wrong number."""
    text = re.sub(r"\s+", " ", re.sub(r"\[[^\]]*\]|[*_`#|<>]", "", sentence.text)).strip()
    if not set(sentence.facts) <= facts.keys() or not set(sentence.citations) <= passages.keys():
        return ""
    if not sentence.facts and not sentence.citations:
        return ""
    if composed.standing != "confirmed" and _OVERCLAIM.search(text):
        return ""
    marks = "".join(f" [{passages[key].number}]" for key in dict.fromkeys(sentence.citations))
    named = [facts[key] for key in sentence.facts]
    checked = check(text + marks, named, list(passages.values()))
    return checked.text if not checked.removed else ""
