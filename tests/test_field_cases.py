"""Captures from people who do this job, with the reading that they arrived at.

``../shared/data/field/cases.yaml`` says what an answer must and must not say.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from assistant.session import Models, load_models
from assistant.settings import Settings
from eval.testbed.cases.ask import ask_case, find_faults
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
    if "error" in case:
        with pytest.raises(UserError, match=case["error"]):
            ask_case(case, FIELD, tmp_path, models)
        return
    standing, text = ask_case(case, FIELD, tmp_path, models)
    assert find_faults(case, standing, text) == (), text
