"""What the sensor could not see, as facts, and whether that keeps a device from being judged."""

import re
from typing import Literal

from assistant.facts.fact import Fact, make_fact
from traffic.quality import Quality

Blindness = Literal["", "one_way", "cut", "drops", "holes"]

_MOST_ONE_WAY = 0.5  # of a device's conversations
_MOST_CUT = 0.1  # of its frames before their TCP flags
_MOST_GAPS = 0.005  # gaps a frame
_MOST_HOLES = 0.1  # of the time
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def sensor_facts(quality: Quality) -> list[Fact]:
    """One fact for each thing that the capture does not show."""
    facts = []
    for note in quality.notes:
        numbers = [float(one.replace(",", "")) for one in _NUMBER.findall(note)]
        values = {f"n{place}": number for place, number in enumerate(numbers)}
        sentence = note[0].upper() + note[1:] + "."
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
    if row["gaps"] and row["gaps"] >= _MOST_GAPS * row["frames"]:
        return "drops"
    holes = quality.holes[quality.holes["kind"] != "clock back"]
    lost_s = float((holes["end_s"] - holes["start_s"]).abs().sum())
    return "holes" if seen_s > 0 and lost_s >= _MOST_HOLES * seen_s else ""
