"""Who commands a machine under foreign control, and how many of its calls were answered."""

import pytest
from tables import CLOUD, DEVICE, PLC, capture, flow, unanswered

from assistant.answers.answer import answer
from assistant.detection.pipeline import analyse_capture
from assistant.detection.rules.outside import find_clockwork
from assistant.facts.traffic_view import TrafficView
from assistant.session import load_models, open_session
from assistant.settings import Settings
from traffic.samples import make_samples


def _calls(vain: int) -> list[dict[str, object]]:
    """Thirty calls, one a minute; the last of them in vain."""
    rows = [
        flow(1000 + 60 * n, DEVICE, CLOUD, 6667, id__orig_p=41000 + n) for n in range(30 - vain)
    ]
    return rows + [
        unanswered(1000 + 60 * n, DEVICE, CLOUD, 6667, id__orig_p=41000 + n)
        for n in range(30 - vain, 30)
    ]


def _polls() -> list[dict[str, object]]:
    return [flow(1000 + 10 * n, PLC, DEVICE, 502, id__orig_p=50000 + n) for n in range(180)]


@pytest.mark.parametrize(
    ("vain", "says"),
    [(0, "each answered with little."), (18, "12 of them answered with little and 18 not at all.")],
)
def test_what_is_said_of_each_call_is_true_of_each(vain, says):
    made = capture(*_calls(vain))
    (hit,) = find_clockwork(TrafficView(made, make_samples(made)))
    assert "30 calls" in hit.fact.text
    assert hit.fact.text.endswith(says)
    assert (hit.fact.values["sessions"], hit.fact.values["left"]) == (30 - vain, vain)


@pytest.mark.parametrize(
    ("question", "peer"),
    [
        ("who commands it?", True),
        (f"who controls {DEVICE}?", True),
        ("who is the controller of the bot?", True),
        (f"who writes to {DEVICE}?", False),
        (f"who controls {PLC}?", False),
        ("who controls the valves?", False),
    ],
)
def test_a_bot_is_commanded_by_whom_it_calls_and_not_by_who_writes(tmp_path, question, peer):
    settings = Settings(home=tmp_path)
    models = load_models(settings)
    analysis = analyse_capture(capture(*_calls(3), *_polls()), models.llm, models.card)
    said = answer(question, analysis)
    assert said.cause.startswith(f"{CLOUD}:6667, as far as traffic tells") == peer
    assert said.removed == 0


def test_the_bot_of_a_shared_log_has_its_controller(shared):
    with open_session(Settings()) as session:
        analysis = session.analyse(shared / "data" / "iot23" / "34-1" / "conn.log.labeled")
        said = answer("who commands it?", analysis)
    # conn.log: 6,706 connections, 5,065 of them S0, and the retries of one port are one call
    assert said.cause.startswith("185.244.25.235:6667")
    assert "4,055 calls" in said.text
    assert "1,641 of them answered with little and 2,414 not at all" in said.text
