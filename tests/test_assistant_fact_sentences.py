"""Sentences of facts hold no number of their own: one that no value bears is cut from every answer."""

import importlib
import pkgutil
import re
from types import ModuleType

import pytest

import assistant.detection.rules
import assistant.facts
from assistant.answers.asked import read_sentences
from assistant.diagnosis.grounding import check, read_quantities
from assistant.facts.fact import make_fact

_SAID = {"double": "two"}  # the fact has it as a value


def _sentences(package: ModuleType) -> list[tuple[str, str]]:
    return [
        (kind, sentence)
        for one in pkgutil.iter_modules(package.__path__)
        for kind, sentence in getattr(
            importlib.import_module(f"{package.__name__}.{one.name}"), "_SENTENCES", {}
        ).items()
    ]


@pytest.mark.parametrize("package", [assistant.detection.rules, assistant.facts])
def test_no_sentence_has_a_number_that_no_value_bears(package):
    sentences = _sentences(package)
    assert len(sentences) > 20
    own = {
        kind: [one.text for one in read_quantities(re.sub(r"\{[^}]*\}", "x", sentence))]
        for kind, sentence in sentences
    }
    assert {kind: numbers for kind, numbers in own.items() if numbers} == {
        kind: [number] for kind, number in _SAID.items() if kind in own
    }


def test_no_sentence_of_a_short_answer_has_one_either():
    own = {
        kind: [one.text for one in read_quantities(re.sub(r"\{[^}]*\}", "x", sentence))]
        for kind, sentence in read_sentences("sentences.yaml").items()
    }
    placed = {kind for kind, numbers in own.items() if numbers}
    # What is placed to a sample is said to its width, which facts know.
    assert placed == {"since_still_about", "since_last_about", "since_over_about"}


def test_two_machines_with_one_address_are_told():
    values = {"address": "gateway-1 (10.0.0.1)", "one": "00:30:11:1b:f2:a0", "other": "02:9f:59:41:f4:c6",
              "claims": 13, "since_time_s": 0.0, "machines": 2}  # fmt: skip
    sentence = dict(_sentences(assistant.detection.rules))["double"]
    fact = make_fact("double", sentence, values)
    assert check(fact.text, [fact], ()).removed == ()
