"""Feedback is read, held against the evidence, and becomes an adapter that the site uses or not."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelled_folders import write_plants
from typer.testing import CliRunner

from assistant.chat.exported import EXPORTED
from assistant.cli.main import app, main
from assistant.detection.pipeline import Analysis, analyse
from assistant.history import Feedback, History, IncidentRecord
from assistant.llm.adapters import read_card
from assistant.pocket import POCKET
from assistant.registry import find_folder, list_registered, load_registered
from finetune.align.claims import choose_claims, read_claims
from finetune.align.evidence import (
    Windows,
    _cap,
    _choose_last,
    _choose_place,
    _drop_like_proved,
    check_claims,
)
from finetune.align.measure import find_losses
from traffic.errors import UserError
from traffic.labels import NORMAL
from traffic.plant import load_plant
from traffic.simulation.simulate import simulate, write_simulation

DAY = 1_800_000_000.0


def remark(incident: str, said: str, at_s: float, **more: object) -> dict[str, object]:
    row: dict[str, object] = {
        "device": "10.0.0.5", "start_s": 100.0, "end_s": 160.0, "incident": incident,
        "label_shown": "recon", "label_said": said, "who": "ana", "why": "", "at_s": at_s,
        "act": "false_alarm" if said == NORMAL else "confirm" if said == "recon" else "wrong",
        "until_s": np.nan, "undone": False,
    }  # fmt: skip
    return row | more


def table(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(EXPORTED))


def write(path: Path, *rows: dict[str, object]) -> Path:
    table(*rows).to_csv(path, index=False)
    return path


# ---- claims ----


def test_the_last_word_on_an_incident_counts_and_what_was_taken_back_does_not():
    claims = choose_claims(
        table(
            remark("recon-1", "recon", DAY),
            remark("recon-1", NORMAL, DAY + 60, who="ben"),
            remark("recon-2", "", DAY),
            remark("recon-3", NORMAL, DAY, undone=True),
            remark("recon-4", "recon", DAY, act="shelve"),
        ),
        "here",
    )
    said = dict(zip(claims.table["incident"], claims.table["said"], strict=True))
    assert said == {"recon-2": "", "recon-1": NORMAL}
    assert "1 remark left out that was taken back" in claims.notes
    assert any(
        "recon-1 was called recon and normal" in one and "ben" in one for one in claims.notes
    )


def test_a_remark_that_was_exported_too_counts_once():
    assert len(choose_claims(table(*[remark("recon-1", "recon", DAY)] * 2), "here").table) == 1


def test_two_last_words_of_one_moment_are_refused():
    both = table(remark("recon-1", "recon", DAY), remark("recon-1", NORMAL, DAY))
    with pytest.raises(UserError, match="recon-1 was called recon and normal at the same time"):
        choose_claims(both, "here")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_exported_files_and_the_history_are_read_alike(form, home, tmp_path):
    history = History(home / "history.sqlite")
    history.add_incident(IncidentRecord("recon-1", "10.0.0.5", "recon", 100.0, 160.0, "a scan"))
    said = Feedback("10.0.0.5", 100.0, 160.0, "recon-1", "recon", NORMAL, "ana", "a test", DAY)
    history.set_state("recon-1", "acknowledged", "ana", "a test", None, DAY, "false_alarm", said)
    history.close()
    own = read_claims(home).table
    out = CliRunner().invoke(app, ["feedback", "export", "--format", form, "--home", str(home)])
    file = tmp_path / f"exported.{form}"
    file.write_text(out.stdout)
    pd.testing.assert_frame_equal(read_claims(tmp_path, [file]).table, own)
    assert len(read_claims(home, [file]).table) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label_said": "gremlins"}, "row 1: label_said 'gremlins' is unknown"),
        ({"label_shown": "normal"}, "label_shown 'normal' is no anomaly"),
        ({"act": "false_alarm"}, "a false alarm with label_said 'recon'"),
        ({"end_s": 50.0}, "its times are no times"),
        ({"at_s": "yesterday"}, "its times are no times"),
    ],
)
def test_a_file_with_mistakes_is_refused_with_their_place(changes, said, tmp_path):
    with pytest.raises(UserError, match=said):
        read_claims(tmp_path, [write(tmp_path / "f.csv", remark("r", "recon", DAY) | changes)])


def test_what_is_no_feedback_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no feedback"):
        read_claims(tmp_path)
    (tmp_path / "other.csv").write_text("device,start_s\n1,2\n")
    with pytest.raises(UserError, match="has no column end_s"):
        read_claims(tmp_path, [tmp_path / "other.csv"])
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(UserError, match="cannot be read as feedback"):
        read_claims(tmp_path, [tmp_path / "broken.jsonl"])


# ---- evidence ----


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plant in which somebody scans, which packets prove."""
    folder = tmp_path_factory.mktemp("plants") / "scanned"
    made = simulate(6, devices=6, hours=0.3, scenarios=["recon"], view="packets")
    write_simulation(made, folder)
    return folder


@pytest.fixture(scope="module")
def seen(plant: Path) -> Analysis:
    return analyse(plant, *load_registered(POCKET), load_plant(plant / "plant.yaml"))


def claims_of(*rows: dict[str, object]):
    return choose_claims(table(*rows), "here")


def calm_device(seen: Analysis) -> tuple[str, float]:
    """A device that no incident concerns, and when it is first seen."""
    troubled = {one for i in seen.incidents for one in (i.device, *i.related, *i.peers)}
    first = seen.windows.table.groupby("device")["start_s"].min()
    return next((str(name), float(at)) for name, at in first.items() if name not in troubled)


def test_normal_is_set_aside_where_packets_prove_something_and_kept_elsewhere(plant, seen):
    scan = next(one for one in seen.incidents if one.label == "recon")
    calm, at_s = calm_device(seen)
    place = {"device": scan.device, "start_s": scan.start_s, "end_s": scan.end_s}
    wrong = [
        remark(f"other-{n}", NORMAL, DAY + n, **place)  # not by the name of the incident
        for n in range(10)
    ]
    fair = remark("dos-1", NORMAL, DAY, device=calm, start_s=at_s, end_s=at_s + 600)
    found = check_claims(claims_of(*wrong, fair), [plant], *load_registered(POCKET), most=3)
    assert set(found.set_aside) == {f"other-{n}" for n in range(10)}
    assert "recon is proved" in found.set_aside["other-0"]
    assert set(found.table["incident"]) == {"dos-1"}
    assert 0 < len(found.table) <= 3
    assert any("at most 3 of a device and cause count" in one for one in found.notes)
    assert set(found.proved["label"]) == {"recon"}
    with pytest.raises(UserError, match=r"none of 10 claims .*10 against the evidence"):
        check_claims(claims_of(*wrong), [plant], *load_registered(POCKET))


def test_what_the_capture_shows_is_learned_and_what_is_gone_is_named(plant, seen):
    scan = next(one for one in seen.incidents if one.label == "recon")
    place = {"device": scan.device, "start_s": scan.start_s, "end_s": scan.end_s}
    right = remark(scan.id, "recon", DAY, **place)
    gone = remark("recon-gone", NORMAL, DAY, device="192.0.2.7")
    empty = remark("full", "congestion", DAY, **place, label_shown="dos")
    found = check_claims(claims_of(right, gone, empty), [plant], *load_registered(POCKET))
    assert set(found.table["said"]) == {"recon"}
    assert found.table["start_s"].between(scan.start_s - 60, scan.end_s).all()
    named = next(one for one in found.notes if "no capture that was given shows" in one)
    assert "recon-gone (192.0.2.7" in named
    with pytest.raises(UserError, match="none of 1 claims"):
        check_claims(claims_of(gone), [plant], *load_registered(POCKET))


def claimed(*rows: tuple[str, str, float, str, str]) -> pd.DataFrame:
    """Windows of device 0: text, said, start, incident, capture; a later row was said later."""
    columns = ["text", "said", "start_s", "incident", "capture"]
    windows = pd.DataFrame(list(rows), columns=columns)
    return windows.assign(shown="dos", device=0, at_s=range(len(rows)), sure=False)


NOTHING = pd.DataFrame({"text": []})


def test_a_cause_counts_before_normal_and_then_the_later_word():
    table, notes = _choose_last(
        claimed(
            ("a", "recon", 0.0, "1", "x"),
            ("a", NORMAL, 0.0, "2", "x"),  # later, and about another alarm
            ("b", "recon", 10.0, "1", "x"),
            ("b", "flapping", 10.0, "3", "x"),
            ("c", "", 20.0, "4", "x"),
            ("c", NORMAL, 20.0, "2", "x"),
        ),
        NOTHING,
    )
    assert table["said"].tolist() == ["recon", "flapping", NORMAL]
    assert notes[0].startswith("3 windows of several remarks")


def test_normal_that_reads_like_something_proved_or_confirmed_is_left_out():
    windows = claimed(
        ("bot", NORMAL, 0.0, "1", "x"),
        ("scan", NORMAL, 10.0, "1", "x"),
        ("scan", "recon", 0.0, "2", "y"),
        ("calm", NORMAL, 20.0, "1", "x"),
    )
    table, notes = _drop_like_proved(windows, pd.DataFrame({"text": ["bot"]}))
    assert table["text"].tolist() == ["scan", "calm"]
    assert table["said"].tolist() == ["recon", NORMAL]
    assert notes[0].startswith("2 windows called normal left out")


def test_a_claim_that_fits_two_captures_belongs_to_the_one_with_its_incident():
    windows = claimed(
        ("a", NORMAL, 0.0, "1", "x"),
        ("b", NORMAL, 0.0, "1", "y"),
        ("c", NORMAL, 0.0, "2", "x"),
        ("d", NORMAL, 0.0, "2", "y"),
    )
    windows.loc[1, "sure"] = True
    table, notes = _choose_place(windows, NOTHING)
    assert table["text"].tolist() == ["b"]
    assert notes == ["2 left out: several captures fit it, and none tells which"]


@given(st.integers(1, 60), st.integers(1, 9))
def test_saying_it_often_does_not_make_it_weigh_more(count, most):
    rows = [(f"text {n}", NORMAL, 10.0 * n, str(n), "x") for n in range(count)]
    table, notes = _cap(claimed(*rows, *rows), most)
    assert len(table) == min(count, most)
    assert bool(notes) == (count > most)
    assert table["text"].iloc[0] == "text 0"


# ---- the command ----


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plants(tmp_path_factory.mktemp("data"), (1,), hours=0.06)


def order(plant: Path, data: Path, feedback: Path, *more: str) -> list[str]:
    asked = ["--site", "demo", "--capture", str(plant), "--feedback", str(feedback)]
    small = ["--plants", "0", "--data", str(data), "--epochs", "1", "--known", "1"]
    return ["finetune", "align", *asked, *small, *more]


@pytest.fixture
def said(plant: Path, seen: Analysis, tmp_path: Path) -> Path:
    scan = next(one for one in seen.incidents if one.label == "recon")
    calm, at_s = calm_device(seen)
    place = {"device": scan.device, "start_s": scan.start_s, "end_s": scan.end_s}
    minutes = [
        {"device": calm, "start_s": at_s + 90 * n, "end_s": at_s + 90 * n + 60} for n in range(4)
    ]
    return write(
        tmp_path / "said.csv",
        remark(scan.id, "recon", DAY, **place),
        remark("other", NORMAL, DAY, **place),
        *(
            remark(f"dos-{n}", NORMAL, DAY, label_shown="dos", **minute)
            for n, minute in enumerate(minutes)
        ),
    )


def test_one_command_makes_an_adapter_that_can_be_chosen(plant, data, said, home):
    torch.set_num_threads(1)
    done = CliRunner().invoke(app, order(plant, data, said, "--how", "dpo"))
    assert done.exit_code == 0, done.output
    assert "set aside: other: ana calls" in done.output
    made = list_registered(home)
    assert [one.name for one in made] == ["demo/pocket-dpo"]
    card = read_card(made[0].path)
    assert "scanned" in {*card.data, *card.split["feedback"]}
    assert card.split["calibrate"]
    assert {"truth.recall.before", "truth.recall.after", "learned.right.after"} <= set(card.metrics)
    held = "held_out.right.after" in card.metrics
    assert held == bool(card.split["feedback"])
    assert "10.0.0.5" not in card.model_dump_json()
    assert str(data) not in card.model_dump_json()
    assert not (made[0].path / "tuned.json").exists()
    if not made[0].used:
        assert "demo does not use it" in done.output
        chosen = CliRunner().invoke(app, ["adapters", "use", "demo", "pocket-dpo"])
        assert chosen.exit_code == 0, chosen.output
    assert find_folder(home, "demo") == made[0].path
    asked = ["classify", str(plant), "--site", "demo", "--format", "jsonl"]
    verdicts = CliRunner().invoke(app, asked)
    assert verdicts.exit_code == 0, verdicts.output
    assert json.loads(verdicts.stdout.splitlines()[0])["device"]
    assert main(order(plant, data, said, "--how", "dpo", "--family", "pocket-dpo")) == 2


def test_a_reward_model_comes_before_those_who_ask_for_it(plant, data, said, home, capsys):
    torch.set_num_threads(1)
    wanted = ("--how", "rloo", "--rewards", "model", "--samples", "2", "--batch", "8")
    assert main(order(plant, data, said, *wanted)) == 2
    assert "train it first" in capsys.readouterr().err
    done = CliRunner().invoke(app, order(plant, data, said, "--how", "reward"))
    assert done.exit_code == 0, done.output
    assert "pairs right" in done.output
    assert not list_registered(home)
    assert (home / "rewards" / "demo" / "reward.json").is_file()


def test_who_silences_what_is_proved_is_not_used():
    proved = pd.DataFrame({"text": ["scan"] * 40})
    windows = Windows(proved, proved, {}, ())
    fine = {"proved.alarmed.before": 0.9, "proved.alarmed.after": 0.9, "truth.recall.before": 0.8}
    assert find_losses(fine | {"truth.recall.after": 0.79}, windows) == ()
    (lost,) = find_losses(fine | {"truth.recall.after": 0.8, "proved.alarmed.after": 0.5}, windows)
    assert "of 40 windows whose cause is proved it alarms 50% instead of 90%" in lost
    (silent,) = find_losses({"truth.c2.before": 0.6, "truth.c2.after": 0.3}, windows)
    assert "far less c2" in silent
