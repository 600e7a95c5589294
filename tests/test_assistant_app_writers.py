"""Writers confirmed on the page, over a recorded plant in which a workstation writes to a controller."""

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from test_assistant_app import CalmLLM, Gated
from tiny_models import make_card

from assistant.app.live import Live
from assistant.app.subject import Subject
from assistant.app.writers import confirm_writers, find_writers
from assistant.audit import check_audit
from assistant.detection.pipeline import analyse
from assistant.history import History
from assistant.monitor.alarm_list import list_alarms
from assistant.monitor.watch import Monitor
from assistant.monitor.watched import Watched
from traffic.errors import UserError
from traffic.plant import load_plant

PRESS = Path(__file__).parents[1] / "assistant" / "samples" / "press-shop"
PRESS_S = 1_795_269_400.0  # its first slot
PLC, HMI, WS = "172.23.84.248", "172.23.84.155", "172.23.84.41"


@pytest.fixture
def plant_file(tmp_path):
    path = Path(shutil.copy(PRESS / "plant.yaml", tmp_path))
    text = path.read_text(encoding="utf-8")
    path.write_text("# as built\n" + text, encoding="utf-8")
    return path


@pytest.fixture
def subject(plant_file):
    return Subject("press", analyse(PRESS, CalmLLM(), make_card(), load_plant(plant_file)))  # type: ignore[arg-type]


@pytest.fixture
def history(home):
    with closing(History(home / "history.sqlite")) as opened:
        yield opened


def standings(subject: Subject) -> dict[tuple[str, str], tuple[int, str]]:
    return {(one.client, one.server): (one.writes, one.standing) for one in find_writers(subject)}


def forbidden(subject: Subject) -> list[str]:
    return [
        one.device
        for one in subject.analysis.incidents  # type: ignore[union-attr]
        if one.label == "unauthorized_command" and "plant.yaml allows" in str(one.facts)
    ]


def test_who_is_not_confirmed_is_an_incident_from_then_on(subject, plant_file, history):
    assert standings(subject) == {
        (HMI, PLC): (1, "nobody is named"),
        (WS, PLC): (888, "nobody is named"),
    }
    assert forbidden(subject) == []
    seen = subject.version(history)[:2]
    said = confirm_writers(subject, plant_file, [f"{HMI} > {PLC}"], "eva", history)
    assert (
        said == "plant.yaml names the writers of plc-3: whoever else writes there is an incident."
    )
    assert standings(subject) == {(HMI, PLC): (1, "allowed"), (WS, PLC): (888, "not allowed")}
    assert forbidden(subject) == [WS]
    assert subject.version(history)[:2] != seen  # every tab paints it
    text = plant_file.read_text(encoding="utf-8")
    assert text.startswith("# as built\n")
    assert text.count("writers: [hmi-1]") == 1
    assert load_plant(plant_file) == subject.plant

    confirm_writers(subject, plant_file, [f"{WS} > {PLC}"], "eva", history)
    assert forbidden(subject) == []
    assert "writers: [hmi-1, ws-1]" in plant_file.read_text(encoding="utf-8")
    rows = history.file.rows("SELECT who, subject, content FROM audit WHERE act = 'allow_writers'")
    assert [(row["who"], row["subject"], row["content"]) for row in rows] == [
        ("eva", PLC, '{"writers": ["hmi-1"]}'),
        ("eva", PLC, '{"writers": ["ws-1"]}'),
    ]
    assert check_audit(history.file.path).outcome == "whole"


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ([], "no writer is chosen"),
        ([f"{PLC} > {HMI}"], "no writer is chosen"),  # never seen, whatever a browser sends
        (["x > y: [", ""], "no writer is chosen"),
    ],
)
def test_only_what_was_seen_can_be_confirmed(subject, plant_file, history, chosen, says):
    before = plant_file.read_bytes()
    with pytest.raises(UserError, match=says):
        confirm_writers(subject, plant_file, chosen, "eva", history)
    assert plant_file.read_bytes() == before
    with pytest.raises(UserError, match="start the server with --plant"):
        confirm_writers(subject, None, [f"{HMI} > {PLC}"], "eva", history)
    assert forbidden(subject) == []


def test_a_plant_that_is_watched_is_judged_by_them_from_the_next_slot_on(plant_file, history, home):
    source = Gated(PRESS, PRESS_S + 90.0)
    plant = load_plant(plant_file)
    watched = Watched(
        source,
        CalmLLM(),
        make_card(),
        history,
        home / "monitor",
        "press",
        plant,  # type: ignore[arg-type]
    )
    with closing(Live(lambda: Monitor(watched), "press", source.live)) as live:
        subject = Subject("press", live=live, plant=plant)
        wait_until(lambda: (WS, PLC) in standings(subject))
        wait_until(lambda: (HMI, PLC) in standings(subject))
        assert list_alarms(history) == []
        confirm_writers(subject, plant_file, [f"{HMI} > {PLC}"], "eva", history)
        assert standings(subject)[WS, PLC][1] == "not allowed"
        source.gate.set()
        wait_until(lambda: live.ended)
        assert forbidden(subject) == [WS]
    assert WS in [one.device for one in list_alarms(history)]


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")
