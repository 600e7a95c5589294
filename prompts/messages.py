"""Every message a model ever sees; training, serving and eval call these same functions.

A verdict is two decisions in one go: is the window normal, and if not, which label? So each
answer's first word is the detection and its second the class, and a model that only continues text
can be scored on both in one pass:

    normal | anomalous recon | anomalous dos | …
"""

import re
from dataclasses import dataclass

from prompts.render import render
from traffic.labels import LABELS, NORMAL, TAXONOMY

# What a model that words a diagnosis is given: statements with ids, and a verdict that is fixed.


@dataclass(frozen=True)
class Statement:
    """A fact or passage under the id by which the model must name it."""

    id: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """What was decided, and what may be said about it.

    Attributes:
        question: the operator's words; quoted, never obeyed.
        verdict: the answer in one sentence, fixed.
        standing: how sure, fixed.
        facts: ``f1``, ``f2`` … computed sentences.

    All of it names roles (``device 1``), never addresses or names
    (``assistant.diagnosis.pseudonyms``). Passages of documents are not among it: code quotes them,
    and what anybody may have written in a manual needs no model.
    """

    question: str
    verdict: str
    standing: str
    facts: tuple[Statement, ...]


ANSWERS: dict[str, str] = {
    label: label if label == NORMAL else f"anomalous {label}" for label in LABELS
}


def classification_prompt(text: str) -> str:
    r"""Render one window's text for a model without a chat template, so that the answer is what
    comes next.

    The prompt ends with a newline and answers start without a space: then the answer's tokens are
    the same whether it is tokenised alone or after the prompt.

    >>> classification_prompt("quiet")
    'quiet\nverdict\n'
    """
    return f"{text}\nverdict\n"


def classification(text: str) -> list[dict[str, str]]:
    """Render one window's text for a chat model.

    The instruction comes first and is the same for every window, so that its part of the prompt is
    computed once.
    """
    return [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": text}]


_INSTRUCTION = "\n".join(
    [
        "You judge one minute of a network device's traffic in an industrial plant.",
        "It is given as facts: what was counted in six samples of ten seconds, what is said of it, and its level.",
        "mean, max and spread are of this minute, before and before_max of the four minutes before,",
        "over and under tell how far the device is from its own past.",
        "Levels go from 1, the least, to 12, the most; what is not said is zero.",
        "Answer with exactly one of these lines and nothing else:",
        *(f"{ANSWERS[name]} ({label.meaning})" for name, label in TAXONOMY.items()),
        "Leave out the explanation in brackets.",
    ]
)


MOST_SENTENCES = 6
_MOST_FACTS = 8
_QUESTION_CHARS, _FACT_CHARS = 300, 320  # under 2,000 tokens: a CPU reads the prompt slowly
# How a fact may be joined to the one before it. None of them says that one thing follows from
# another, in time or as a cause: nobody measured that.
LINKS: dict[str, str] = {
    "": "",
    "and": "And: ",
    "also": "Also: ",
    "further": "Further: ",
    "in detail": "In detail: ",
    "to compare": "To compare: ",
}


def ordering(evidence: Evidence) -> list[dict[str, str]]:
    """Render evidence for a chat model that puts the facts of an answer in order and writes no
    sentence."""
    rules = render("writing_order.jinja", links=[name for name in LINKS if name])
    return _messages(rules, evidence, "Order the facts for the operator in JSON.")


def diagnosis(evidence: Evidence) -> list[dict[str, str]]:
    """Render evidence for a chat model that words an answer whose verdict is fixed already.

    Topics and questions may have been written by an attacker: they are cut to length and stand
    between markers that they cannot close.
    """
    rules = render("writing_rules.jinja", most_sentences=MOST_SENTENCES)
    return _messages(rules, evidence, "Explain the verdict to the operator in JSON.")


def _messages(rules: str, evidence: Evidence, task: str) -> list[dict[str, str]]:
    content = render(
        "writing_evidence.jinja",
        verdict=_quote(evidence.verdict, _FACT_CHARS),
        standing=evidence.standing,
        question=_quote(evidence.question, _QUESTION_CHARS),
        facts=[
            Statement(one.id, _quote(one.text, _FACT_CHARS)) for one in evidence.facts[:_MOST_FACTS]
        ],
        task=task,
    )
    return [{"role": "system", "content": rules}, {"role": "user", "content": content}]


def _quote(text: str, most: int) -> str:
    """One line without angle brackets or control characters, at most ``most`` characters."""
    plain = re.sub(r"[\x00-\x1f\x7f]+|\s+", " ", text).replace("<", "(").replace(">", ")").strip()
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"
