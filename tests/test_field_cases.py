"""Captures from people who do this job, with the reading that they arrived at.

``../shared/data/field/cases.yaml`` says what an answer must and must not say.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from assistant.answers.answer import answer
from assistant.report import render_diagnosis
from assistant.session import Models, analyse, load_models
from assistant.settings import Settings
from traffic.errors import UserError

FIELD = Path(__file__).parents[2] / "shared" / "data" / "field"
CASES = FIELD / "cases.yaml"


def _cases() -> list[dict[str, Any]]:
    return yaml.safe_load(CASES.read_text(encoding="utf-8")) if CASES.is_file() else []


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return load_models(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.mark.parametrize("case", _cases(), ids=lambda case: str(case["capture"]))
def test_an_answer_says_what_people_found(case: dict[str, Any], models: Models, tmp_path: Path):
    plant = FIELD / case["plant"] if "plant" in case else None
    settings = Settings(home=tmp_path, plant=plant, local=tuple(case.get("local", ())))
    if "error" in case:
        with pytest.raises(UserError, match=case["error"]):
            analyse(FIELD / case["capture"], settings, models)
        return
    answered = answer(case["ask"], analyse(FIELD / case["capture"], settings, models), None)
    text = render_diagnosis(answered, "text")
    assert find_faults(case, answered.standing, text) == [], text


def find_faults(case: Mapping[str, Any], standing: str, text: str) -> list[str]:
    """What is wrong with an answer to a case, in words; empty where it is right."""
    wrong = [] if standing in case.get("standing", (standing,)) else [f"is {standing}"]
    wrong += [f"lacks {one}" for one in case.get("must", ()) if not re.search(one, text, re.I)]
    return wrong + [f"says {one}" for one in case.get("must_not", ()) if re.search(one, text, re.I)]
