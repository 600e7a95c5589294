"""Let a chat model put what was seen in order, or word it; or not at all.

The verdict, the standing, the checks and the quotations stay code's. In the closed form, which is
the usual one, the model chooses the order of the facts and joins them with phrases from a fixed
list: every word that is shown is a fact's own. In free prose, only where the settings ask for it,
it words them, and each of its sentences must say what one of the facts that it names says
(``assistant.diagnosis.claims``). Either way it reads roles, never names (``pseudonyms``), and what
was cut of its reply is said.

    facts ─▶ roles ─▶ prompt ─▶ model ─▶ {"order": [{"fact": "f2", "link": "also"}]}   closed
                                      └▶ {"sentences": [{"text": …, "facts": […]}]}    free
"""

import inspect
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

from pydantic import ConfigDict, Field, ValidationError

from assistant.diagnosis.citations import Citation, fold
from assistant.diagnosis.claims import find_fault
from assistant.diagnosis.compose import Sections
from assistant.diagnosis.diagnose import Diagnosis, check_answer
from assistant.diagnosis.grounding import check
from assistant.diagnosis.playbook import FOLDER
from assistant.diagnosis.pseudonyms import Roles, assign_roles
from assistant.facts.fact import Fact, Value, kind_of, plural
from assistant.facts.written import WRITTEN
from prompts.messages import LINKS, MOST_SENTENCES, Evidence, Statement, diagnosis, ordering
from traffic.errors import UserError
from traffic.files import Strict, read_text
from traffic.plant import Plant

MAX_TOKENS = 600
_MAX_REPLY_CHARS = 20_000
_MOST_CUT_SHOWN = 20
# A fact that leans on the one before it stays behind it, in whatever order a model wants them.
_LEANS = re.compile(
    r"(?i)\b(it|its|these|those|them|they|their|that address|the same|meanwhile|before that)\b"
)
# A model must not sound surer than the code is; these words are the code's to use.
_OVERCLAIM = re.compile(
    r"\b(confirm\w*|certain(?:ly)?|definite\w*|undoubted\w*|proven?|without doubt|clearly|guarante\w*)\b",
    re.I,
)


class ChatModel(Protocol):
    """What ``LocalLLM`` and ``RemoteLLM`` have in common; one with ``free_prose`` set words facts
    itself."""

    name: str

    def stream(self, messages: list[dict[str, str]], max_tokens: int) -> Iterator[str]:
        """Write a reply piece by piece."""
        ...


class Step(Strict):
    """One fact of an ordered answer, and how it is joined to the one before."""

    model_config = ConfigDict(strict=True)
    fact: str = Field(max_length=8)
    link: str = Field(max_length=40)


class Order(Strict):
    """A model's whole reply in the closed form."""

    model_config = ConfigDict(strict=True)
    order: list[Step] = Field(min_length=1, max_length=40)


class Sentence(Strict):
    """One sentence of a model and the ids it says it rests on."""

    model_config = ConfigDict(strict=True)
    text: str = Field(min_length=1, max_length=600)
    facts: list[str] = Field(max_length=8)
    citations: list[str] = Field(default=[], max_length=4)


class Draft(Strict):
    """A model's whole reply in free prose."""

    model_config = ConfigDict(strict=True)
    sentences: list[Sentence] = Field(min_length=1, max_length=2 * MOST_SENTENCES)


@dataclass(frozen=True)
class Prompt:
    """What a model is sent, and the names behind its roles."""

    messages: list[dict[str, str]]
    roles: Roles


def make_prompt(
    question: str,
    verdict: str,
    standing: str,
    facts: Sequence[Fact],
    context: Sequence[Fact] = (),
    plant: Plant | None = None,
    free: bool = False,
) -> Prompt:
    """Render what a writer is asked: no address and no name is in it.

    Args:
        question: the operator's words; those that are none of the trade's are left out.
        verdict, standing: fixed.
        facts: ``f1``, ``f2`` …
        context: further facts that know names which the verdict has.
        plant: its names are hidden even where no fact has them.
        free: whether the model words the facts, or only orders them.
    """
    roles = assign_roles((*facts, *context), plant)
    evidence = Evidence(
        question=_known_words(roles.hide(question)),
        verdict=roles.hide(verdict),
        standing=standing,
        facts=tuple(
            Statement(f"f{number}", roles.hide(fact.text))
            for number, fact in enumerate(facts, start=1)
        ),
    )
    return Prompt(diagnosis(evidence) if free else ordering(evidence), roles)


def write(composed: Diagnosis, model: ChatModel | None, plant: Plant | None = None) -> Diagnosis:
    """Let a model order or word a composed diagnosis; without a model it stays as it is.

    Args:
        composed: the answer as code made it.
        model: in free prose where its ``free_prose`` is true.
        plant: names that no prompt may hold, beside those of the facts.

    Returns:
        The diagnosis with its facts in the model's order, or its checked sentences in their place;
        the composed one, with a note why, where the reply cannot be used. The note stands in its
        text, and what was cut in ``cut``.
    """
    if model is None or not composed.facts:
        return composed
    if any(kind_of(fact).startswith(WRITTEN) for fact in composed.known):
        return composed  # values of the process are the plant's own business
    free = bool(getattr(model, "free_prose", False))
    shown = [fact for fact in composed.facts if free or fact.text in composed.sections.seen]
    if not free and len(_grouped(shown)) < 2:
        return composed  # nothing to put in order
    context = (*composed.facts, *composed.context)
    prompt = make_prompt(
        composed.question, composed.cause, composed.standing, shown, context, plant, free
    )
    try:
        reply = _ask(model, prompt.messages, Draft if free else Order)
        if free:
            return _word(composed, model, Draft.model_validate_json(_json_of(reply)), prompt.roles)
        return _order(composed, model, Order.model_validate_json(_json_of(reply)), shown)
    except UserError as error:
        return _fall_back(composed, f"the model could not be used: {error}")
    except ValidationError as error:
        faults = error.error_count()
        return _fall_back(composed, f"its reply has not the form asked for ({faults} faults)")


# ---- The closed form ----


def _order(
    composed: Diagnosis, model: ChatModel, wanted: Order, shown: Sequence[Fact]
) -> Diagnosis:
    """The facts in the order that was chosen, then the rest in the code's own: a model hides none."""
    groups = _grouped(shown)
    group_of = {f"f{n}": g for g, group in enumerate(groups) for n in group}
    chosen: dict[int, str] = {}
    cut: list[str] = []
    for step in wanted.order:
        if step.fact not in group_of or step.link not in LINKS:
            cut.append(json.dumps({"fact": step.fact, "link": step.link}))
        else:
            chosen.setdefault(group_of[step.fact], step.link)
    if not chosen:
        return _fall_back(composed, "it names no fact of this answer", cut)
    if len(cut) > len(chosen):
        return _fall_back(composed, f"{len(cut)} of its steps name no fact or no link", cut)
    rest = [group for group in range(len(groups)) if group not in chosen]
    lines = []
    for place, group in enumerate((*chosen, *rest)):
        first, *more = (shown[n - 1].text for n in groups[group])
        link = LINKS[chosen.get(group, "")] if place else ""
        lines += [link + first, *more]
    texts = {fact.text for fact in shown}
    lines += [line for line in composed.sections.seen if line not in texts]
    origin = f"Measured facts in their own words; {model.name} put them in this order."
    sections = replace(composed.sections, seen=tuple(lines), origin=origin)
    steps = plural(len(cut), "step")
    note = f"{len(cut)} {steps} of the model named no fact and went out." if cut else ""
    return _finish(composed, sections, model, note, cut)


def _grouped(facts: Sequence[Fact]) -> list[list[int]]:
    """Numbers of the facts, from 1; one that does not stand alone is with the one that it leans
    on."""
    groups: list[list[int]] = []
    for number, fact in enumerate(facts, start=1):
        if groups and not _stands_alone(fact):
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _stands_alone(fact: Fact) -> bool:
    """Whether a fact names whom it is about before it leans on anything."""
    hidden = assign_roles([fact]).hide(fact.text)
    named = re.search(r"\b(?:device|peer|name) \d+\b", hidden)
    leans = _LEANS.search(hidden)
    return named is not None and (leans is None or named.start() < leans.start())


# ---- Free prose ----


def _word(composed: Diagnosis, model: ChatModel, draft: Draft, roles: Roles) -> Diagnosis:
    facts = {f"f{number}": fact for number, fact in enumerate(composed.facts, start=1)}
    passages = {f"p{one.number}": one for one in composed.citations}
    kept: list[str] = []
    cut: list[str] = []
    for place, sentence in enumerate(draft.sentences):
        restored = sentence.model_copy(update={"text": roles.restore(sentence.text)})
        text = _checked(restored, facts, passages, composed) if place < MOST_SENTENCES else ""
        (kept if text else cut).append(text or restored.text)
    if len(kept) < 2 or len(cut) > len(kept):
        lost = f"{len(cut)} of its {len(draft.sentences)} sentences had no source"
        return _fall_back(composed, lost, cut)
    note = f"{len(cut)} {plural(len(cut), 'sentence')} of the model had no source and went out."
    origin = (
        f"What was seen was worded by {model.name} from the measured facts; "
        "each sentence was checked against them."
    )
    sections = replace(composed.sections, worded=" ".join(kept), origin=origin)
    return _finish(composed, sections, model, note if cut else "", cut)


def _checked(
    sentence: Sentence, facts: dict[str, Fact], passages: dict[str, Citation], composed: Diagnosis
) -> str:
    """The sentence with its citations as marks; "" where no fact that it names says the same."""
    text = re.sub(r"\s+", " ", re.sub(r"\[[^\]]*\]|[*_`#|<>]", "", sentence.text)).strip()
    if not set(sentence.facts) <= facts.keys() or not set(sentence.citations) <= passages.keys():
        return ""
    if not sentence.facts and not sentence.citations:
        return ""
    if composed.standing != "confirmed" and _OVERCLAIM.search(text):
        return ""
    named = [facts[key] for key in sentence.facts]
    advice = (*composed.checks, *(passages[key].excerpt for key in sentence.citations))
    if find_fault(text, named, advice):
        return ""
    marks = "".join(f" [{passages[key].number}]" for key in dict.fromkeys(sentence.citations))
    checked = check(text + marks, named, list(passages.values()))
    return checked.text if not checked.removed else ""


# ---- What both share ----


def _finish(
    composed: Diagnosis, sections: Sections, model: ChatModel, note: str, cut: Sequence[str]
) -> Diagnosis:
    written = replace(composed, sections=sections, written_by=model.name, cut=_shortened(cut))
    return _reword(written, {"name": model.name}, note)


def _fall_back(composed: Diagnosis, why: str, cut: Sequence[str] = ()) -> Diagnosis:
    # Folded: a server's own words stand in it, and must not look like markup or a citation.
    kept = replace(composed, cut=_shortened(cut))
    return _reword(kept, {}, f"Composed without the language model: {fold(why[:300])}.")


def _shortened(cut: Sequence[str]) -> tuple[str, ...]:
    return tuple(fold(one[:600]) for one in cut[:_MOST_CUT_SHOWN])


def _reword(diagnosis: Diagnosis, values: dict[str, Value], note: str) -> Diagnosis:
    """Render and check the text again; a note stands in it, and is the source of its numbers."""
    notes = (*diagnosis.notes, *([note] if note else []))
    sections = replace(diagnosis.sections, notes=notes)
    source = Fact("writer", "", values | ({"note": note} if note else {}))
    context = (*diagnosis.context, source)
    cited = (*diagnosis.citations, *diagnosis.similar)
    checked = check_answer(sections, (*diagnosis.facts, *context), cited)
    return replace(
        diagnosis,
        sections=sections,
        text=checked.text.strip(),
        notes=notes,
        context=context,
        removed=len(checked.removed),
    )


def _ask(model: ChatModel, messages: list[dict[str, str]], form: type[Order] | type[Draft]) -> str:
    """Collect the reply, held to its form by servers that can do that, and cut where a model does
    not end."""
    more: dict[str, Any] = {}
    if "schema" in inspect.signature(model.stream).parameters:
        more["schema"] = form.model_json_schema()
    reply = ""
    for piece in model.stream(messages, MAX_TOKENS, **more):
        reply += piece
        if len(reply) > _MAX_REPLY_CHARS:
            break
    return reply[:_MAX_REPLY_CHARS]


def _json_of(reply: str) -> str:
    """The outermost braces: models like to talk around their JSON. A bare list of steps is an
    order."""
    if re.match(r"\s*\[\s*\{", reply):
        reply = '{"order": ' + reply[: reply.rfind("]") + 1] + "}"
    start, end = reply.find("{"), reply.rfind("}")
    return reply[start : end + 1] if 0 <= start < end else reply


# ---- The operator's words ----

_COMMON = (
    "what who why when where which how is are was were be been does do did has have had can could should will "
    "would the a an and or but not no in on at of to from by with for it its this that these there here we i my "
    "our you me us they them so if then now still again since until before after during about any all some more "
    "most much many often long first last next one two new old happens happened happening going wrong odd strange "
    "okay ok well fine bad good slow fast tell show explain mean means reason cause problem fault trouble attack "
    "attacks failure fails failed down up device devices today yesterday night morning hour hours minute minutes "
    "day days peer name"
)


@cache
def _vocabulary() -> frozenset[str]:
    """The words of the playbooks: what an operator may ask about without naming anybody."""
    texts = [
        read_text(path, "a playbook")
        for path in (*sorted(FOLDER.glob("*.yaml")), FOLDER.with_name("causes.yaml"))
    ]
    words = re.findall(r"[^\W\d_]+", " ".join([_COMMON, *texts]))
    return frozenset(word.lower() for word in words)


def _known_words(question: str) -> str:
    """The question with ``…`` for every word that is neither common nor the trade's: it may be a
    name."""
    known = _vocabulary()
    words = re.findall(r"(?:device|peer|name) \d+|\w+(?:[^\s\w]+\w+)*|[?!.,]", question)
    plain = [
        word if word.lower() in known or re.fullmatch(r"[?!.,]|\w+ \d+", word) else "…"
        for word in words
    ]
    return re.sub(r" (?=[?!.,])", "", re.sub(r"…(?: …)+", "…", " ".join(plain)))
