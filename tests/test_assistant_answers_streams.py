"""What devices send by themselves: how often, whether that is what they promise, who switched it; and who
stopped a controller, or that nobody was seen to."""

import re
from pathlib import Path

import pandas as pd
import pytest
from frames import (
    CLIENT,
    SERVER,
    Frame,
    ethernet,
    phasor_command,
    phasor_configuration,
    phasor_data,
    read,
    slmp_answer,
    slmp_request,
    talk,
    udp_packet,
)

from assistant.answers.answer import answer
from assistant.detection.pipeline import Analysis, analyse_verdicts
from traffic.labels import LABELS, NORMAL
from traffic.plant import Device, Plant
from traffic.samples import make_samples
from traffic.windows import make_windows

PLANT = Plant(
    (
        Device(address=SERVER, name="unit-1", role="", writers=(CLIENT,)),
        Device(address=CLIENT, name="pdc-1", role=""),
    )
)


def _analyse(path: Path, frames: list[Frame]) -> Analysis:
    """Every window is judged normal, so that only rules speak."""
    capture = read(path, sorted(frames))
    windows = make_windows(make_samples(capture, PLANT))
    verdicts = windows.table[["device", "start_s", "end_s"]].assign(
        label=NORMAL, probability=0.95, abstained=False, direction=""
    )
    shares = {f"p_{name}": 0.95 * (name == NORMAL) for name in LABELS}
    verdicts = pd.concat([verdicts, pd.DataFrame(shares, index=verdicts.index)], axis=1)
    return analyse_verdicts(capture, PLANT, windows, verdicts)


def _stream(rate: int, *more: tuple[str, bytes]) -> list[Frame]:
    """A unit that is asked and sends ten frames a second for six seconds, two marked as invalid."""
    data = [phasor_data(1000.3 + n / 10, 0x8000 * (n in (7, 8))) for n in range(60)]
    turns = [(">", phasor_command(5)), ("<", phasor_configuration(rate)), (">", phasor_command(2))]
    return talk(4712, *turns, *(("<", one) for one in data), *more)


@pytest.mark.parametrize(
    ("rate", "off", "question", "line"),
    [
        (10, True, "how many frames a second come from unit-1?",
         r"unit-1 .*sent 60 messages .*10\.0 a second, as its configuration promises \(10 a second\)"),
        (25, True, "how often does unit-1 send data?", r"10\.0 a second; its configuration promises 25"),
        (10, True, "why did the stream of unit-1 stop?",
         r"pdc-1 .*ended it: it sent unit-1 .*data transmission off.* 100 ms after the last of 60"),
        (10, True, "wer hat den datenstrom von unit-1 abgeschaltet?", r"pdc-1 .*ended it"),
        (10, True, "who started the data stream of unit-1?",
         r"pdc-1 .*started it: .*data transmission on.* first of 60 messages .* 100 ms later"),
        (10, False, "who switched the stream of unit-1 off?",
         r"^Cannot tell: nobody was seen to end what unit-1"),
        (10, True, "are the data of unit-1 valid?", r"marked 2 of these 60 messages: 2 data invalid"),
    ],
)  # fmt: skip
def test_a_stream_is_told_with_its_rate_and_its_switches(tmp_path, rate, off, question, line):
    last = [(">", phasor_command(1))] if off else []
    said = answer(question, _analyse(tmp_path, _stream(rate, *last)))
    assert re.search(line, said.cause), said.cause
    assert said.removed == 0


@pytest.mark.parametrize(
    ("question", "end"),
    [("how many packets a second come from unit-1?", "went out from"),
     ("how many packets a second came to unit-1?", "came to"),
     ("wie viele pakete pro sekunde kommen von unit-1?", "went out from")],
)  # fmt: skip
def test_the_most_in_a_second_is_not_below_the_mean(tmp_path, question, end):
    """100 packets from and 20 to unit-1, in 2 s of one slot and 3 s of the next."""
    frames = [
        (1008.0 + n / 20, ethernet(udp_packet(b"x", SERVER, CLIENT, 7000, 8000)))
        for n in range(100)
    ] + [
        (1008.0 + n / 4, ethernet(udp_packet(b"x", CLIENT, SERVER, 8000, 7000))) for n in range(20)
    ]
    values = answer(question, _analyse(tmp_path, frames)).context[0].values
    said = answer(question, _analyse(tmp_path, frames)).cause
    assert end in said
    assert values["n"] == (100 if end == "went out from" else 20)
    assert values["peak_per_s"] >= values["mean_per_s"]
    assert values["sample_s"] == pytest.approx(2.0, abs=1.0)


@pytest.mark.parametrize(
    ("commands", "question", "line"),
    [
        ((0x0401,), "who stopped unit-1?", r"^Nobody was seen to stop unit-1"),
        ((0x0401,), "was unit-1 restarted?", r"^No: nobody was seen to stop unit-1"),
        ((0x0401, 0x7777), "was unit-1 stopped?", r"^Cannot tell: nobody"),  # what is that?
        ((0x0401, 0x1002), "who stopped unit-1?",
         r"^pdc-1 .*sent unit-1 .*SLMP remote stop, 1 time, last at .*; 1 of that was accepted"),
    ],
)  # fmt: skip
def test_who_stopped_a_controller(tmp_path, commands, question, line):
    turns = [
        turn
        for n in range(3)
        for one in commands[: 1 if n < 2 else 2]
        for turn in (
            (">", slmp_request(one, b"\x64\0\0\xa8\2\0")),
            ("<", slmp_answer(data=b"\0\0")),
        )
    ]
    said = answer(question, _analyse(tmp_path, talk(5007, *turns)))
    assert re.search(line, said.cause), said.cause
