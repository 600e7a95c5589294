"""Templates are filled whole or not at all."""

import pytest

from prompts.messages import Statement
from prompts.render import render
from traffic.errors import UserError

GIVEN = {"verdict": "v", "standing": "likely", "question": "q", "facts": [], "task": "t"}


def test_fills_and_leaves_markup_alone():
    text = render(
        "writing_evidence.jinja", **{**GIVEN, "verdict": "<a & b>", "facts": [Statement("f1", "x")]}
    )
    assert text.startswith("Verdict (fixed): <a & b>\n")
    assert "\nf1: <data>x</data>\n" in text


def test_text_from_outside_is_never_a_template():
    assert "{{ verdict }} {% if %}" in render(
        "writing_evidence.jinja", **{**GIVEN, "question": "{{ verdict }} {% if %}"}
    )


def test_all_missing_variables_are_named_at_once():
    with pytest.raises(
        UserError, match="lacks values for: facts, standing, task, verdict; pass each"
    ):
        render("writing_evidence.jinja", question="q")


def test_a_value_without_the_attribute_is_no_hole_in_the_text():
    with pytest.raises(
        UserError, match=r"writing_evidence\.jinja: 'str object' has no attribute 'id'"
    ):
        render("writing_evidence.jinja", **{**GIVEN, "facts": ["no statement"]})


def test_an_unknown_template_names_those_there_are():
    with pytest.raises(
        UserError, match=r"no template 'nothing\.jinja'.*diagnosis\.jinja, .*writing_rules\.jinja"
    ):
        render("nothing.jinja")
