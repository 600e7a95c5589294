"""Results as text, against lines written by hand."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
from bottling_line import CAMERA, beacon

from assistant.facts.moments import Clock
from assistant.report import (
    incident_table,
    passage_text,
    plain,
    render_table,
    verdict_csv,
    verdict_lines,
    verdict_table,
    window_samples,
)  # fmt: skip
from traffic.labels import LABELS
from traffic.samples import COLUMNS
from traffic.windows import Windows


def verdicts() -> pd.DataFrame:
    chances = {
        f"p_{label}": np.float32([0.25 if label in ("dos", "c2") else 0.5 * (label == "normal")])
        for label in LABELS
    }
    known = {"device": ["10.0.0.5"], "start_s": [60.0], "end_s": [120.0], "label": ["c2"]}
    guess = {"probability": np.float32([0.25]), "abstained": [True], "direction": [""]}
    return pd.DataFrame(known | guess | chances)


def test_a_verdict_is_one_line_of_json_with_exactly_the_promised_names() -> None:
    (line,) = verdict_lines(verdicts())
    assert json.loads(line) == {
        "device": "10.0.0.5", "start_s": 60.0, "end_s": 120.0, "label": "c2", "probability": 0.25, "abstained": True,
        "probabilities": {label: {"normal": 0.5, "dos": 0.25, "c2": 0.25}.get(label, 0.0) for label in LABELS},
    }  # fmt: skip


def test_a_verdict_that_abstains_is_marked_in_the_table() -> None:
    row = verdict_table(verdicts()).splitlines()[1]
    assert row.split() == ["10.0.0.5", "1970-01-01", "00:01:00", "c2", "?", "0.25"]


def test_csv_has_a_column_for_each_label() -> None:
    head, row, end = verdict_csv(verdicts()).split("\n")
    assert head.split(",")[-len(LABELS) :] == [f"p_{label}" for label in LABELS]
    assert (row.split(",")[0], end) == ("10.0.0.5", "")


def test_what_was_judged_stands_below_the_incidents_and_alone_without_any() -> None:
    judged = "2 devices were judged normal."
    assert incident_table([], judged, Clock(), str) == judged
    head, row, last = incident_table([beacon()], judged, Clock(), "cam-1 ({})".format).splitlines()
    words = ["beacon", "to", "a", "controller", "of", "malware"]
    assert (head.split()[0], row.split()[: len(words) + 4], last) == (
        "id", ["c2-0a1b2c3d", "high", *words, "cam-1", f"({CAMERA})"], judged,
    )  # fmt: skip


def test_records_become_what_json_can_say() -> None:
    @dataclass(frozen=True)
    class Inner:
        n: np.int64
        xs: tuple[float, ...]

    assert plain({"a": Inner(np.int64(3), (1.5, float("inf"))), 2: {"x"}}) == {
        "a": {"n": 3, "xs": [1.5, None]},
        "2": ["x"],
    }


def test_a_table_without_rows_has_its_header() -> None:
    assert render_table(["device", "n"], []) == "device  n"


def test_a_passage_says_where_it_stands() -> None:
    known = {
        "document": "VX-9 manual",
        "score": 0.5,
        "text": " The coil is open.\n",
        "example": False,
    }
    assert passage_text(SimpleNamespace(section="Blinking", page=4, **known)) == (  # type: ignore[arg-type]
        "VX-9 manual · Blinking, page 4 · 0.500\nThe coil is open."
    )
    assert passage_text(SimpleNamespace(section="", page=None, **known)).startswith(
        "VX-9 manual · 0.500\n"
    )  # type: ignore[arg-type]


def test_the_samples_of_windows_can_be_reshaped_into_windows() -> None:
    values = np.arange(7 * len(COLUMNS), dtype=np.float32).reshape(7, -1)
    samples = pd.DataFrame(values, columns=list(COLUMNS))
    table = pd.DataFrame({"device": ["a", "a"], "start_s": [0.0, 10.0], "end_s": [60.0, 70.0]})
    windows = Windows(samples, table, np.array([[0, 1, 2, 3, 4, 5], [1, 2, 3, -1, 5, 6]]))
    long = window_samples(windows)
    assert (long[list(COLUMNS)].to_numpy().reshape(2, 6, -1) == windows.values(list(COLUMNS))).all()
    row = long.loc[9, ["window", "sample", "device", "start_s", "out_pkts"]]
    assert row.tolist() == [1, 3, "a", 10.0, 0.0]
