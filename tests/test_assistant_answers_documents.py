"""A question that names a model of which no device of the capture is known to be."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from frames import SERVER, ethernet, read, udp_packet

from assistant.answers.answer import answer
from assistant.detection.pipeline import Analysis, analyse_verdicts
from knowledge_base.index import Index, open_index
from traffic.labels import LABELS, NORMAL
from traffic.plant import Device, Plant
from traffic.samples import make_samples
from traffic.windows import make_windows

_CLIENT = "192.168.1.40"
_MANUAL = """# Wendelin KP-12 dosing pump: manual

## Technical data

| Item | Value |
| --- | --- |
| Weight | 2.3 kg |
| Supply | 230 V AC |

## Alarms

| Code | Meaning |
| --- | --- |
| AL-07 | leak in the diaphragm |
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("kb")
    manual = folder / "wendelin-kp12.md"
    manual.write_text(_MANUAL, encoding="utf-8")
    with open_index(folder / "home", examples=False) as opened:
        opened.add([manual])
        yield opened


def _analyse(path: Path, model: str = "") -> Analysis:
    plant = Plant((Device(address=SERVER, name="broker-1", role="broker", model=model),))
    packet = ethernet(udp_packet(b"21.5", src=_CLIENT, dst=SERVER, sport=4000, dport=4000))
    capture = read(path, [(5.0 * n, packet) for n in range(40)])
    windows = make_windows(make_samples(capture, plant))
    verdicts = windows.table[["device", "start_s", "end_s"]].assign(
        label=NORMAL, probability=0.95, abstained=False, direction=""
    )
    shares = {f"p_{name}": 0.95 * (name == NORMAL) for name in LABELS}
    verdicts = pd.concat([verdicts, pd.DataFrame(shares, index=verdicts.index)], axis=1)
    return analyse_verdicts(capture, plant, windows, verdicts)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("how heavy is the KP-12?", "2.3 kg"),
        ("what does AL-07 mean on the kp12?", "leak in the diaphragm"),
        ("which documents are about the KP-12?", "Wendelin KP-12 dosing pump: manual"),
    ],
)
def test_the_documents_answer(tmp_path: Path, index: Index, question: str, said: str) -> None:
    assert said in answer(question, _analyse(tmp_path), index).text


def test_what_they_do_not_say_is_said_so(tmp_path: Path, index: Index) -> None:
    found = answer("what is the price of the KP-12?", _analyse(tmp_path), index)
    assert found.refused
    assert not found.citations


def test_a_device_of_the_plant_is_asked_of_the_capture(tmp_path: Path, index: Index) -> None:
    analysis = _analyse(tmp_path, model="Wendelin KP-12")
    assert (
        "No device of this capture" not in answer("how heavy is the KP-12?", analysis, index).text
    )
