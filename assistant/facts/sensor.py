"""What the sensor could not see, as facts, and whether that keeps a device from being judged."""

import re
from typing import Literal

from assistant.facts.fact import Fact, make_fact
from traffic.quality import Quality

Blindness = Literal["", "one_way", "cut", "drops", "holes"]

_MOST_ONE_WAY = 0.5  # of a device's conversations
_MOST_CUT = 0.1  # of its frames before their TCP flags
_MOST_GAPS = 0.005  # gaps a frame
_MOST_LOST = 0.01  # of what is acknowledged: about the same, as every second frame is
_MOST_HOLES = 0.1  # of the time
# Gaps are the smallest share of frames by which a judgement changes; a tenth of it changes none.
_SLIGHT = 0.1 * _MOST_GAPS
_MUCH = 0.05  # of frames; what was put right is told from then on
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def sensor_facts(quality: Quality, slight: bool = True) -> list[Fact]:
    """One fact for each thing that the capture does not show.

    Args:
        quality: of the capture.
        slight: whether to tell what is too little to change a judgement, too.
    """
    facts = []
    for note in quality.remarks:
        if not slight and note.share < (_MUCH if note.mended else _SLIGHT):
            continue
        numbers = [float(one.replace(",", "")) for one in _NUMBER.findall(note.text)]
        values = {f"n{place}": number for place, number in enumerate(numbers)}
        sentence = note.text[0].upper() + note.text[1:] + "."
        facts.append(make_fact("sensor", sentence.replace("{", "{{").replace("}", "}}"), values))
    return facts


def find_blindness(quality: Quality, device: str, seen_s: float) -> Blindness:
    """Why a device cannot be judged by this capture; "" where it can.

    Args:
        quality: of the capture.
        device: address.
        seen_s: how long the capture lasts.
    """
    row = quality.of(device)
    if not row["frames"]:
        row = quality.whole
    if row["frames"] and row["blind_frames"] >= _MOST_CUT * row["frames"]:
        return "cut"
    if row["one_way_share"] >= _MOST_ONE_WAY:
        return "one_way"
    lost = quality.lost_share >= _MOST_LOST  # False for NaN
    if lost or (row["gaps"] and row["gaps"] >= _MOST_GAPS * row["frames"]):
        return "drops"
    holes = quality.holes[quality.holes["kind"] != "clock back"]
    lost_s = float((holes["end_s"] - holes["start_s"]).abs().sum())
    lost_s += float(quality.logs["early_s"].max()) if len(quality.logs) else 0.0
    return "holes" if seen_s > 0 and lost_s >= _MOST_HOLES * seen_s else ""
