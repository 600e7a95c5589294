"""Captures from people who do this job, with the reading that they arrived at.

``../shared/data/field/cases.yaml`` says what an answer must and must not say.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from assistant.diagnosis import diagnose
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
    settings = Settings(home=tmp_path, plant=plant)
    if "error" in case:
        with pytest.raises(UserError, match=case["error"]):
            analyse(FIELD / case["capture"], settings, models)
        return
    answer = diagnose(case["ask"], analyse(FIELD / case["capture"], settings, models), None)
    text = render_diagnosis(answer, "text")
    if "standing" in case:
        assert answer.standing in case["standing"], text
    missing = [one for one in case.get("must", ()) if not re.search(one, text, re.IGNORECASE)]
    wrong = [one for one in case.get("must_not", ()) if re.search(one, text, re.IGNORECASE)]
    assert (missing, wrong) == ([], []), text
