"""Answers about real captures: verdicts as published labels would have them, everything after them
is ours."""

import re

import numpy as np
import pandas as pd
import pytest

from assistant.chat import Conversation
from assistant.detection.pipeline import Analysis, analyse_verdicts
from assistant.diagnosis import diagnose
from assistant.diagnosis.grounding import check
from traffic.datasets.formats import label_flows
from traffic.datasets.labelling import label_windows
from traffic.discovery import draft_plant
from traffic.labels import LABELS, NORMAL
from traffic.reader import read_capture
from traffic.samples import make_samples
from traffic.windows import make_windows

CASES = {
    "34-1": ("iot23/34-1/conn.log.labeled", "why is 192.168.1.195 behaving oddly?"),
    "44-1": ("iot23/44-1/conn.log.labeled", "what is going on?"),
    "honeypot": ("iot23/honeypot-4-1/conn.log.labeled", "is 192.168.1.132 healthy?"),
    "download": (
        "quickdraw/CL5000EIP-Software-Download-Failure.pcap",
        "why does the download to the PLC fail?",
    ),
}


@pytest.fixture(scope="module")
def analyses(shared):
    return {name: _analyse(shared / "data" / path) for name, (path, _) in CASES.items()}


def _analyse(path) -> Analysis:
    capture = read_capture(path)
    plant = draft_plant(capture)
    windows = make_windows(make_samples(capture, plant))
    labels, sides = np.full(len(windows), NORMAL, object), np.full(len(windows), "", object)
    if "label" in capture.flows:
        truth = label_windows(windows, capture, label_flows(capture.flows)).table
        labels = truth["label"].where(truth["label"].isin(LABELS), NORMAL).to_numpy(object)
        sides = truth["direction"].to_numpy(object)
    verdicts = windows.table[["device", "start_s", "end_s"]].assign(
        label=labels, probability=0.97, abstained=False, direction=sides
    )
    shares = pd.DataFrame(
        {f"p_{name}": np.where(labels == name, 0.97, 0.03 / 16) for name in LABELS}
    )
    verdicts = pd.concat([verdicts, shares], axis=1)
    return analyse_verdicts(capture, plant, windows, verdicts)


def test_the_beacon_and_the_flood_are_named_with_peer_time_and_size(analyses):
    diagnosis = diagnose(CASES["34-1"][1], analyses["34-1"], None)
    found = (diagnosis.standing, diagnosis.device, diagnosis.label)
    # A program of the maker calls at an even interval too: traffic alone does not confirm it.
    assert found == ("likely", "192.168.1.195", "c2")
    assert "185.244.25.235:6667" in diagnosis.text
    flood = next(line for line in diagnosis.long.split("\n") if "123.59.209.185:80" in line)
    assert "2018-12-22 08:22:38 UTC" in flood
    assert "14,260 connections" in flood


def test_the_silent_controller_of_a_failing_download(analyses):
    diagnosis = diagnose(CASES["download"][1], analyses["download"], None)
    found = (diagnosis.standing, diagnosis.device, diagnosis.label)
    assert found == ("confirmed", "192.168.10.120", "device_silent")
    assert re.search(r"48 ARP requests .* stayed without a reply", diagnosis.text)
    assert diagnosis.checks[0].startswith("Look at the device: power")


def test_a_healthy_device_is_called_healthy(analyses):
    diagnosis = diagnose(CASES["honeypot"][1], analyses["honeypot"], None)
    assert (diagnosis.standing, diagnosis.incidents) == ("normal", ())


@pytest.mark.parametrize("name", CASES)
def test_every_number_is_found_again_and_a_wrong_one_is_caught(analyses, name):
    diagnosis = diagnose(CASES[name][1], analyses[name], None)
    assert check(diagnosis.text, diagnosis.known, ()).removed == ()
    planted = "It sent 123,457 packets at 03:14:15."
    assert check(f"{diagnosis.text}\n{planted}", diagnosis.known, ()).removed == (planted,)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("question", [
    "since when?", "which other devices?", "is it an attack?", "how sure are you?", "what should I check first?",
    "what is normal for it?", "show the numbers", "list devices", "list incidents",
])  # fmt: skip
def test_no_reply_about_a_real_capture_holds_a_part_without_a_source(analyses, name, question):
    talk = Conversation(analyses[name], None, None)
    talk.reply(CASES[name][1])
    assert talk.reply(question).removed == 0
