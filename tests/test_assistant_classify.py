"""Verdicts from scores worked out by hand, and directions from windows written out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import CLOUD, DEVICE, PLC, capture, flow, unanswered
from tiny_models import build_model, make_card

from assistant.detection.classify import (
    choose_directions,
    classify,
    decide,
    deny_impossible,
    find_shifts,
    make_probabilities,
    make_prompts,
)
from assistant.llm.adapters import Bounds
from assistant.llm.local import LocalLLM
from assistant.report import verdict_lines
from prompts.messages import classification_prompt
from prompts.window_text import vocabulary
from traffic.errors import UserError
from traffic.labels import LABELS
from traffic.samples import make_samples
from traffic.windows import Windows, make_windows


def probabilities(**shares: float) -> np.ndarray:
    """Probabilities of one window; what is left is spread over the labels that are not named."""
    rest = (1 - sum(shares.values())) / (len(LABELS) - len(shares))
    return np.array([[max(shares.get(label, rest), 1e-9) for label in LABELS]])


def only(verdicts: pd.DataFrame) -> pd.Series:
    assert len(verdicts) == 1
    return verdicts.iloc[0]


def test_the_likeliest_label_is_said_with_its_probability():
    verdict = only(decide(probabilities(normal=0.05, dos=0.9), Bounds(name=0.6)))
    assert (verdict["label"], verdict["abstained"]) == ("dos", False)
    assert verdict["probability"] == pytest.approx(0.9, abs=1e-5)
    assert verdict["p_normal"] == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize(("alarm", "label"), [(0.5, "dos"), (0.65, "normal"), (0.6, "dos")])
def test_all_anomalies_together_decide_whether_a_window_is_odd(alarm, label):
    assert only(decide(probabilities(normal=0.4, dos=0.5), Bounds(alarm=alarm)))["label"] == label


@pytest.mark.parametrize(
    ("shares", "abstained"),
    [
        ({"normal": 0.2, "recon": 0.56}, False),  # 0.7 of what is odd
        ({"normal": 0.2, "recon": 0.44}, True),  # 0.55
        ({"normal": 0.1, "dos": 0.45, "ddos": 0.4}, False),  # one device cannot tell how many flood
        ({"normal": 0.55, "recon": 0.1}, False),  # a normal verdict never abstains
    ],
)
def test_a_label_is_named_by_its_share_of_what_is_odd(shares, abstained):
    assert only(decide(probabilities(**shares), Bounds(name=0.6)))["abstained"] == abstained


def test_temperature_is_the_power_of_the_odds():
    cooled = make_probabilities(np.log(probabilities(normal=0.9, dos=0.1)), 2.0)[0]
    assert cooled[0] / cooled[LABELS.index("dos")] == pytest.approx(3, rel=1e-3)  # odds 9


@pytest.mark.parametrize(
    ("c2", "service_down", "abstained"), [(0.5, 0.4, True), (0.9, 0.05, False)]
)
def test_a_pair_that_traffic_cannot_tell_apart_abstains(c2, service_down, abstained):
    verdict = only(decide(probabilities(c2=c2, service_down=service_down), Bounds(name=0.3)))
    assert (verdict["label"], verdict["abstained"]) == ("c2", abstained)


@pytest.mark.parametrize("likeliest", ["normal", "dos"])
def test_the_pair_counts_only_when_one_of_it_is_the_verdict(likeliest):
    shares = {likeliest: 0.8, "c2": 0.1, "service_down": 0.09}
    assert not only(decide(probabilities(**shares), Bounds(name=0.3)))["abstained"]


@given(st.lists(st.floats(-30, 0), min_size=len(LABELS), max_size=len(LABELS)), st.floats(0.2, 5))
def test_probabilities_sum_to_one_and_the_verdict_carries_its_own(row, temperature):
    verdict = only(decide(make_probabilities(np.array([row]), temperature), Bounds()))
    assert sum(verdict[f"p_{label}"] for label in LABELS) == pytest.approx(1, abs=1e-3)
    assert verdict["probability"] == verdict[f"p_{verdict['label']}"]


def test_the_shift_is_dropped_amid_an_episode_of_one_device():
    """Twelve windows of the last five minutes, of that device alone, with a mean of 0.7."""
    odd, calm = np.log(probabilities(normal=0.2)), np.log(probabilities(normal=0.99))
    scores = np.concatenate([*[odd] * 20, *[calm] * 8, *[odd] * 11])
    devices = np.repeat([0, 1], [28, 11])
    slots = np.concatenate([np.arange(28), np.arange(11)])
    dropped = find_shifts(scores, Bounds(prior_shift=2.0, episode=0.7), devices, slots)[:, 0] == 0
    # (20 * 0.8 + n * 0.01) / (20 + n) is 0.7 up to n = 2.
    assert dropped.tolist() == [False] * 11 + [True] * 11 + [False] * 17
    apart = find_shifts(scores, Bounds(prior_shift=2.0, episode=0.7), devices, slots * 30)
    assert (apart == 2.0).all()


def windows_of(*rows: dict[str, object]) -> Windows:
    return make_windows(make_samples(capture(*rows)), min_active=1)


def direction_of(windows: Windows, device: str, label: str) -> str:
    mine = windows.take((windows.table["device"] == device).to_numpy())
    assert len(mine)
    return str(choose_directions(mine, np.full(len(mine), label, dtype=object))[0])


def test_who_opens_a_flood_is_its_source_and_who_gets_it_the_target():
    windows = windows_of(
        *(flow(1 + i / 10, DEVICE, PLC, 502, **{"id__orig_p": 2000 + i}) for i in range(50))
    )
    assert direction_of(windows, DEVICE, "dos") == "source"
    assert direction_of(windows, PLC, "dos") == "target"


def test_a_dead_service_is_the_source_and_its_client_the_target():
    windows = windows_of(
        *(unanswered(1 + 10 * i, DEVICE, PLC, 502, **{"id__orig_p": 2000 + i}) for i in range(4))
    )
    for label in ("service_down", "device_silent"):
        assert direction_of(windows, PLC, label) == "source"
        assert direction_of(windows, DEVICE, label) == "target"
    assert direction_of(windows, DEVICE, "misconfiguration") == "source"


def test_normal_windows_have_no_direction():
    assert direction_of(windows_of(flow(1, DEVICE, CLOUD, 443)), DEVICE, "normal") == ""


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LocalLLM:
    return LocalLLM(build_model(tmp_path_factory.mktemp("model"), words=vocabulary()))


def test_every_window_gets_a_verdict_with_every_probability(llm):
    windows = windows_of(*(flow(1 + 10 * i, DEVICE, CLOUD, 443) for i in range(8)))
    verdicts = classify(windows, llm, make_card())
    said = ["device", "start_s", "end_s", "label", "probability", "abstained", "direction"]
    assert list(verdicts.columns) == [*said, *(f"p_{label}" for label in LABELS)]
    pd.testing.assert_frame_equal(verdicts[said[:3]], windows.table[said[:3]])


def test_no_windows_give_no_verdicts(llm):
    windows = windows_of(flow(1, DEVICE, CLOUD, 443))
    assert len(classify(windows.take(np.array([], dtype=int)), llm, make_card())) == 0


def test_a_card_for_other_prompts_is_refused(llm):
    with pytest.raises(UserError, match="trained on prompts"):
        classify(windows_of(flow(1, DEVICE, CLOUD, 443)), llm, make_card(prompt_fingerprint="feed"))


def test_prompts_are_chat_where_the_model_chats(llm, tmp_path):
    assert make_prompts(["quiet"], llm) == [classification_prompt("quiet")]
    prompt = make_prompts(["quiet"], LocalLLM(build_model(tmp_path, chat=True)))[0]
    assert prompt.startswith("<system> You judge one minute")
    assert prompt.endswith("<user> quiet\n<reply> ")


def test_a_verdict_is_one_line_of_json():
    place = pd.DataFrame(
        {"device": [DEVICE], "start_s": [10.0], "end_s": [70.0], "direction": ["source"]}
    )
    verdicts = pd.concat([place, decide(probabilities(normal=0.1, dos=0.9), Bounds())], axis=1)
    line = json.loads(next(verdict_lines(verdicts)))
    chances = line.pop("probabilities")
    assert line == {
        "device": DEVICE, "start_s": 10.0, "end_s": 70.0, "label": "dos", "probability": 0.9, "abstained": False,
    }  # fmt: skip
    assert list(chances) == list(LABELS)
    assert chances["dos"] == 0.9


def test_no_link_is_full_of_a_few_hundred_bytes():
    congested = np.repeat(probabilities(congestion=0.8, normal=0.1), 3, axis=0).astype(np.float32)
    calm = np.zeros((3, 6))
    columns = {name: calm.copy() for name in ("out_bytes", "in_bytes", "zero_windows")}
    columns["out_bytes"][1] = 12_500.0  # 10 kbit/s
    columns["zero_windows"][2, 3] = 1.0
    left = deny_impossible(congested, columns)[:, LABELS.index("congestion")]
    assert left == pytest.approx([0.0, 0.8, 0.8], abs=1e-3)
    assert deny_impossible(congested, columns).sum(axis=1) == pytest.approx(1.0)
