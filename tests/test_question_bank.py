"""The question bank is complete and well formed, so that what judges the understanding of
questions can be trusted.

They are invented, not collected: one author wrote them one by one, none made from another by a
rule, as operators, electricians, OT engineers, a security officer and a researcher would type them
on a night shift, and gave each its kind from the definitions below alone, without sight of the
patterns and examples by which questions are understood. 160 were then drawn at random and held out;
``questions-held-out.yaml`` is for measuring only.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

CASES = Path(__file__).parent / "cases"
KINDS = {
    "health": "is it, or everything, ok",
    "wrong": "what is wrong here, or with it",
    "why": "why does it not answer, lose its connection, send so much, read wrong values",
    "since": "since when, when did it start and stop, how long, is it still going on",
    "who": "who talks to, asks, writes to, scans, attacks, refuses it, and whom does it",
    "does": "what does it do: ports, peers, protocols, registers, topics, functions, names",
    "count": "how many, how often, how fast, how much of the traffic",
    "answers": "does it answer, is it reachable, alive",
    "dns": "does name resolution work",
    "affected": "is another one also affected, which others are",
    "devices": "which devices are there, what is this address",
    "responsible": "who is responsible, whom to call, which zone",
    "changed": "what changed, before and after, since yesterday",
    "attack": "was it an attack or a fault",
    "security": "is it a matter for security, must it be reported",
    "certainty": "how sure, why is it thought",
    "against": "what speaks against it, what else could it be, what was ruled out",
    "numbers": "the numbers, the evidence",
    "packets": "the packets, the frames, a Wireshark filter",
    "checks": "what to check or do first",
    "manual": "what the manual says",
    "before": "has it happened before",
    "code": "what a code or status word means",
    "usual": "what is normal for it",
    "loss": "are packets lost",
    "writers": "does anyone write who should not",
    "incidents": "list or summarise what was found, the worst",
    "feedback": "false alarm, confirm, acknowledge, shelve, undo",
    "help": "what the assistant can do, how it is used",
    "none": "nothing for this assistant, orders to act on the plant among it",
}
LANGUAGES = {"en", "de", "es"}
FIELDS = {"id", "question", "kind", "language"}


def _read(name: str) -> list[dict[str, Any]]:
    return yaml.safe_load((CASES / name).read_text(encoding="utf-8"))


def _several(value: Any) -> list[str]:
    """One word or a list of them, as a list: strict, so that ``kind: no`` is no kind."""
    found = value if isinstance(value, list) else [value]
    assert found, "an empty list names nothing"
    assert all(isinstance(one, str) and one for one in found), found
    assert len(set(found)) == len(found), found
    return found


@pytest.fixture(scope="module")
def for_tuning() -> list[dict[str, Any]]:
    return _read("questions.yaml")


@pytest.fixture(scope="module")
def held_out() -> list[dict[str, Any]]:
    return _read("questions-held-out.yaml")


@pytest.fixture(scope="module")
def conversations() -> list[dict[str, Any]]:
    return _read("conversations.yaml")


def test_every_question_is_well_formed(for_tuning: list[Any], held_out: list[Any]) -> None:
    for case in (*for_tuning, *held_out):
        assert FIELDS <= set(case) <= FIELDS | {"about", "held_out"}, case
        assert isinstance(case["question"], str), case
        assert set(_several(case["kind"])) <= set(KINDS), case
        assert case["language"] in LANGUAGES, case
        assert re.fullmatch(rf"{_several(case['kind'])[0]}-\d\d", case["id"]), case
        for name in _several(case["about"]) if "about" in case else ():
            assert name.casefold() in case["question"].casefold(), case


def test_no_question_is_asked_twice(for_tuning: list[Any], held_out: list[Any]) -> None:
    every = [*for_tuning, *held_out]
    asked = Counter(" ".join(case["question"].casefold().split()).strip(" ?.!") for case in every)
    assert [question for question, times in asked.items() if times > 1] == []
    assert len({case["id"] for case in every}) == len(every)


def test_every_kind_and_language_has_its_share(for_tuning: list[Any], held_out: list[Any]) -> None:
    every = [*for_tuning, *held_out]
    kinds = Counter(_several(case["kind"])[0] for case in every)
    assert {kind for kind in KINDS if kinds[kind] < (30 if kind == "none" else 15)} == set()
    languages = Counter(case["language"] for case in every)
    assert (len(every) >= 430, languages["de"] >= 60, languages["es"] >= 40) == (True,) * 3
    for language in LANGUAGES:
        spread = {_several(case["kind"])[0] for case in every if case["language"] == language}
        assert spread == set(KINDS), language


def test_the_held_out_are_apart_and_of_every_kind(
    for_tuning: list[Any], held_out: list[Any]
) -> None:
    assert len(held_out) == 160
    assert all(case.get("held_out") is True for case in held_out)
    assert not any("held_out" in case for case in for_tuning)
    kinds = Counter(_several(case["kind"])[0] for case in held_out)
    assert {kind for kind in KINDS if kinds[kind] < 5} == set()
    first = (CASES / "questions-held-out.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# HELD OUT: to measure with, never to tune")


def test_every_turn_means_a_device_that_was_named(conversations: list[Any]) -> None:
    assert len(conversations) == len({talk["id"] for talk in conversations}) == 25
    for talk in conversations:
        assert set(talk) == {"id", "language", "turns"}, talk["id"]
        assert talk["language"] in LANGUAGES, talk["id"]
        assert 3 <= len(talk["turns"]) <= 6, talk["id"]
        said = ""
        for turn in talk["turns"]:
            assert {"question", "kind"} <= set(turn) <= {"question", "kind", "about"}, turn
            assert set(_several(turn["kind"])) <= set(KINDS), turn
            said += turn["question"].casefold() + "\n"
            for name in _several(turn["about"]) if "about" in turn else ():
                assert name.casefold() in said, (talk["id"], turn)
