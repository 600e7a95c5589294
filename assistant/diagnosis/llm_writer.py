"""An answer worded by a chat model: from the same evidence, in a fixed form, every sentence
checked; or not at all.

The verdict, the standing, the checks and the quotations stay code's. The model only words what was
measured, and each of its sentences must name the facts it rests on: a sentence whose numbers are
    not in those facts is dropped.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.diagnosis.diagnose import Diagnosis
from assistant.diagnosis.grounding import Citation, check
from assistant.facts.fact import Fact, plural
from prompts.messages import MOST_SENTENCES, Evidence, Statement, diagnosis
from traffic.errors import UserError

MAX_TOKENS = 600
_MAX_REPLY_CHARS = 20_000
_SEEN = "**What was seen**"
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


class Sentence(BaseModel):
    """One sentence of a model and the ids it says it rests on."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: str = Field(min_length=1, max_length=600)
    facts: list[str] = Field(max_length=8)
    citations: list[str] = Field(max_length=4)


class Draft(BaseModel):
    """A model's whole reply."""

    model_config = ConfigDict(extra="forbid", strict=True)
    sentences: list[Sentence] = Field(min_length=1, max_length=2 * MOST_SENTENCES)


def write(composed: Diagnosis, model: ChatModel | None) -> Diagnosis:
    """Let a model word a composed diagnosis; without a model it stays as it is.

    Returns:
        The diagnosis with the model's checked sentences in place of the list of facts; the composed
        one, with a note why, where the model's reply cannot be used.
    """
    facts = {f"f{number}": fact for number, fact in enumerate(composed.facts, start=1)}
    passages = {f"p{one.number}": one for one in composed.citations}
    if model is None or not facts:
        return composed
    try:
        reply = _ask(model, diagnosis(_evidence(composed, facts, passages)))
        draft = Draft.model_validate_json(_json_of(reply))
    except UserError as error:
        return _refused(composed, f"the model could not be used: {error}")
    except ValidationError as error:
        return _refused(
            composed, f"its reply has not the form asked for ({error.error_count()} faults)"
        )
    kept = [
        text
        for one in draft.sentences[:MOST_SENTENCES]
        if (text := _checked(one, facts, passages, composed))
    ]
    dropped = len(draft.sentences) - len(kept)
    if len(kept) < 2 or dropped > len(kept):
        return _refused(
            composed, f"{dropped} of its {len(draft.sentences)} sentences had no source"
        )
    lost = f"{dropped} {plural(dropped, 'sentence')} of the model had no source and went out."
    notes = (*composed.notes, *([lost] if dropped else []))
    text = _in_place_of_facts(composed.text, " ".join(kept), model.name)
    return replace(
        composed,
        text=text,
        written_by=model.name,
        notes=notes,
        context=(*composed.context, _named(model)),
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


def _in_place_of_facts(text: str, written: str, name: str) -> str:
    """The composed text with a paragraph where the list of facts was, and its last line saying who
    wrote."""
    head, _, rest = text.partition(_SEEN)
    _, _, tail = rest.partition("\n\n")
    *sections, _ = tail.split("\n\n") if tail else [""]
    origin = f"What was seen was worded by {name} from the measured facts; each sentence was checked against them."
    return "\n\n".join([f"{head}{_SEEN}\n{written}", *sections, origin])


def _refused(composed: Diagnosis, why: str) -> Diagnosis:
    return replace(
        composed, notes=(*composed.notes, f"Composed without the language model: {why[:300]}.")
    )


def _named(model: ChatModel) -> Fact:
    return Fact("writer", "", {"name": model.name})
