"""From a file to incidents, with a model of a few lines in the place of the pocket model."""

from pathlib import Path

import numpy as np
import pytest

from assistant.detection import Analysis, analyse
from assistant.llm.adapters import AdapterCard, prompt_fingerprint
from assistant.questions.entities import read_devices
from traffic.errors import UserError
from traffic.labels import LABELS
from traffic.plant import Device, Plant

FAILURE = "quickdraw/CL5000EIP-Software-Download-Failure.pcap"
ROUTER = Device("office-router", "192.168.10.1", "router")
PLANT = Plant((Device("press-plc", "192.168.10.120", "PLC"), ROUTER))


class Calm:
    """Takes every window for normal."""

    chat_capable = False

    def score(self, prompts: list[str], choices: list[str], progress: object = None) -> np.ndarray:
        return np.tile(np.where(np.array(choices) == "normal", -0.01, -9.0), (len(prompts), 1))


@pytest.fixture(scope="module")
def card() -> AdapterCard:
    return AdapterCard(
        name="calm", base="none", base_fingerprint="", prompt_fingerprint=prompt_fingerprint(), labels=LABELS,
        temperature=1.0, threshold=0.5, data=(), split={}, seed=0, metrics={}, made_by="a test", created="2026-01-01",
    )  # fmt: skip


@pytest.fixture(scope="module")
def failure(shared: Path, card: AdapterCard) -> Analysis:
    return analyse(shared / "data" / FAILURE, Calm(), card, PLANT)


def test_hard_evidence_reaches_the_analysis_whatever_the_model_says(failure):
    assert [(one.device, one.label) for one in failure.incidents] == [
        ("192.168.10.120", "device_silent")
    ]
    assert len(failure.verdicts) == len(failure.windows)
    values = failure.incidents[0].facts[0].values
    assert (values["address"], values["asked"]) == ("press-plc (192.168.10.120)", 48)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("why is 192.168.10.120 quiet?", "192.168.10.120"),
        ("what about press-plc", "192.168.10.120"),
        ("why does the download to the PLC fail?", "192.168.10.120"),
        ("is the router fine?", "192.168.10.1"),
        ("how is everything?", None),
    ],
)
def test_a_device_is_found_by_address_name_and_role(failure, text, address):
    assert next(iter(read_devices(text, failure).devices), None) == address


def test_what_concerns_a_device(failure):
    assert "asked for the hardware address" in failure.facts_of("192.168.10.120")[1].text


def test_a_healthy_device_is_said_to_be_healthy(shared, card):
    analysis = analyse(
        shared / "data" / "iot23" / "honeypot-4-1" / "conn.log.labeled", Calm(), card
    )
    assert analysis.incidents == ()
    assert analysis.facts_of("192.168.1.132")[-1].text.endswith("are normal (100 %).")


def test_a_missing_capture_is_a_users_mistake(tmp_path, card):
    with pytest.raises(UserError, match=r"nothing\.pcap"):
        analyse(tmp_path / "nothing.pcap", Calm(), card)
