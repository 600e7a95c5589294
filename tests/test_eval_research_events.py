"""Events of a recorded run, found or not: the shipped samples are runs with their truth."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from assistant.llm.adapters import load_adapter
from eval.research.events import Judged, judge_run, main, render_found
from traffic.datasets.truth import read_truth, write_truth
from traffic.errors import UserError

SAMPLES = Path(__file__).parents[1] / "assistant" / "samples"


@pytest.fixture(scope="module")
def model():
    return load_adapter()


@pytest.fixture(scope="module")
def judged(model):
    return judge_run(SAMPLES / "filling-line", *model)


def test_a_crashed_service_is_found_in_time_at_its_device_by_its_name(judged):
    assert judged.events.to_dict("records") == [
        {
            "label": "service_down", "kind": "service_crashed", "found": True, "in_time": True,
            "device": True, "named": True,
        }
    ]  # fmt: skip
    assert (judged.incidents, judged.false) == (1, 0)
    assert not judged.windows["right_name"][judged.windows["label"] == "normal"].any()


def test_an_incident_that_no_event_accounts_for_is_false(model, tmp_path):
    """The same capture under a truth that knows nothing of it."""
    run = shutil.copytree(SAMPLES / "filling-line", tmp_path / "run")
    truth = read_truth(run / "truth.json")
    write_truth(truth.model_copy(update={"intervals": ()}), run / "truth.json")
    calm = judge_run(run, *model)
    assert (calm.incidents, calm.false, len(calm.events)) == (1, 1, 0)
    assert set(calm.windows["label"]) == {"normal"}


def test_the_report_counts_windows_and_events_by_label():
    windows = pd.DataFrame(
        [("normal", True, True, False), *[("normal", False, False, False)] * 3,
         ("dos", True, True, True), ("dos", True, False, False)],
        columns=["label", "alarmed", "named", "right_name"],
    )  # fmt: skip
    events = pd.DataFrame(
        [("dos", "flood", True, True, False, True)],
        columns=["label", "kind", "found", "in_time", "device", "named"],
    )
    report = render_found([Judged(windows, events, 2, 1, 3.5)], "the command")
    row = "| dos | 2 | 100 % | 50 % | 100 % | 1 | 100 % | 100 % | 0 % | 100 % |"
    assert row in report
    assert "Of 4 normal windows 25.00% were alarmed." in report
    assert "2 incidents in 4 device-hours; 1 that no event accounts for." in report


def test_a_run_that_was_learned_from_is_refused(model, tmp_path):
    llm, card = model
    known = shutil.copytree(SAMPLES / "filling-line", tmp_path / card.data[-1])
    with pytest.raises(UserError, match="was learned from"):
        judge_run(known, llm, card)


def test_the_command_writes_its_report(tmp_path):
    main([SAMPLES / "boiler-house"], out=tmp_path / "found.md")
    assert "| misconfiguration |" in (tmp_path / "found.md").read_text()
