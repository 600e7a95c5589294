"""Checked rewards: what a sampled answer is worth, as plain functions that trl calls.

An answer is read by its words, as it was written, so nothing but the operators' word and the
taxonomy decides. ``said`` is what a person says a window shows ("" where that is open) and
``shown`` what the assistant had called it.
"""

from collections.abc import Sequence
from typing import Any

from assistant.facts.profiles import PROFILES
from prompts.messages import ANSWERS
from traffic.labels import NORMAL

_WORDS = {label: tuple(answer.split()) for label, answer in ANSWERS.items()}
_UNSURE = 0.5  # a twin that traffic cannot tell apart is half right
_SILENT = -1.0  # an all-clear that is false is worse than any wrong name


def read_answer(completion: Any) -> str:
    """The label that a sampled answer begins with; "" where it is none.

    >>> read_answer("anomalous recon source"), read_answer("normal"), read_answer("anomalous")
    ('recon', 'normal', '')
    """
    text = completion if isinstance(completion, str) else completion[-1]["content"]
    words = tuple(text.split())
    fits = [label for label, answer in _WORDS.items() if words[: len(answer)] == answer]
    return max(fits, key=lambda label: len(_WORDS[label]), default="")


def right_class(completions: Sequence[Any], said: Sequence[str], **_: Any) -> list[float]:
    """1 where an answer is what the person says, else 0."""
    return [
        float(bool(label) and read_answer(completion) == label)
        for completion, label in zip(completions, said, strict=True)
    ]


def right_abstention(
    completions: Sequence[Any], said: Sequence[str], shown: Sequence[str], **_: Any
) -> list[float]:
    """What there is to gain where the class is not known: 1 for an anomaly other than the one that
    was wrong, where nobody says which; a half for a cause that looks the same from flows."""
    rewards = []
    for completion, label, wrong in zip(completions, said, shown, strict=True):
        answer = read_answer(completion)
        odd = answer not in ("", NORMAL)
        if not label:
            rewards.append(float(odd and answer != wrong))
        else:
            rewards.append(_UNSURE if odd and answer != label and _twins(answer, label) else 0.0)
    return rewards


def false_all_clear(completions: Sequence[Any], said: Sequence[str], **_: Any) -> list[float]:
    """-1 for normal where somebody says that something was wrong, and for what is no answer."""
    return [
        _SILENT
        if not (answer := read_answer(completion)) or (answer == NORMAL and label != NORMAL)
        else 0.0
        for completion, label in zip(completions, said, strict=True)
    ]


CHECKED = (right_class, right_abstention, false_all_clear)


def _twins(one: str, other: str) -> bool:
    return any(
        second in PROFILES[first].inseparable
        for first, second in ((one, other), (other, one))
        if first in PROFILES
    )
