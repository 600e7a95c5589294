"""Questions of operators about the field captures: how the first line of each answer reads."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from assistant.answers.answer import answer
from assistant.chat import Conversation
from assistant.detection.pipeline import Analysis
from assistant.session import open_session
from assistant.settings import Settings

FIELD = Path(__file__).parents[2] / "shared" / "data" / "field"
CASES = Path(__file__).parent / "cases" / "answers-field.yaml"


def _cases() -> list[dict[str, Any]]:
    return yaml.safe_load(CASES.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def analyse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Analysis]:
    home = tmp_path_factory.mktemp("home")

    @cache
    def read(name: str) -> Analysis:
        path = FIELD / name
        if not path.exists():
            pytest.skip(f"no capture {path}: the real captures are not part of the repository")
        plant = path.with_suffix(".plant.yaml")
        settings = Settings(home=home, plant=plant if plant.exists() else None)
        with open_session(settings) as session:
            return session.analyse(path)

    return read


@pytest.mark.parametrize("case", _cases(), ids=lambda one: f"{one['capture']}: {one['ask']}")
def test_the_first_line_answers_what_was_asked(
    case: dict[str, Any], analyse: Callable[[str], Analysis]
) -> None:
    said = answer(case["ask"], analyse(case["capture"]))
    line = said.text.split("\n")[0].replace("**", "")
    assert re.search(case["line"], line, re.IGNORECASE), line
    assert said.removed == 0, said.text


def _talks() -> list[dict[str, Any]]:
    return yaml.safe_load((CASES.parent / "talks-field.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("talk", _talks(), ids=lambda one: one["capture"])
def test_each_turn_of_a_talk_goes_on_from_the_last(
    talk: dict[str, Any], analyse: Callable[[str], Analysis]
) -> None:
    conversation = Conversation(analyse(talk["capture"]), None, None)
    for question, expected in talk["turns"]:
        line = conversation.reply(question).text.split("\n")[0].replace("**", "")
        assert re.search(expected, line, re.IGNORECASE), f"{question}: {line}"
