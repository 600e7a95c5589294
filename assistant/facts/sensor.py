"""What the sensor could not see, as facts, and whether that keeps a device from being judged."""

import re
from typing import Literal

import pandas as pd

from assistant.facts.fact import Fact, Value, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.quality import Quality
from traffic.zeek.alerts import SLIPS, SURICATA

Blindness = Literal["", "one_way", "cut", "drops", "holes"]

_MOST_ONE_WAY = 0.5  # of a device's conversations
_MOST_CUT = 0.1  # of its frames before their TCP flags
_MOST_GAPS = 0.005  # gaps a frame
_MOST_HOLES = 0.1  # of the time
# Gaps are the smallest share of frames by which a judgement changes; a tenth of it changes none.
_SLIGHT = 0.1 * _MOST_GAPS
_MUCH = 0.05  # of frames; what was put right is told from then on
_MOST_NOTICES = 3
_NOTICE = " reports {count:time} {kind} by {source}."
# Whose word it is, by how its types begin: it is somebody else's, and is shown as that.
_WHOSE = {SURICATA: "Suricata's eve.json", SLIPS: "Slips' alerts.json"}
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


def notice_facts(view: TrafficView, notices: pd.DataFrame, device: str = "") -> list[Fact]:
    """What the sensor itself claims to have seen, by source and kind, the most frequent first.

    Args:
        view: names addresses.
        notices: ``Capture.notices``.
        device: whose notices; "" for all.
    """
    if device:
        notices = notices[(notices["src"] == device) | (notices["dst"] == device)]
    counts = notices.groupby(["src", "type"], dropna=False).size().sort_values(ascending=False)
    facts = []
    for (source, kind), count in counts.head(_MOST_NOTICES).items():
        # A type is a word of the sensor's own scripts; only what looks like one is repeated.
        known = re.fullmatch(r"[A-Za-z0-9_:]{1,60}", str(kind))
        values: dict[str, Value] = {
            "count": int(count),
            "kind": str(kind) if known else "another kind",
            "source": view.name_of(str(source))
            if isinstance(source, str)
            else "an unknown address",
        }
        whose = (log for start, log in _WHOSE.items() if str(kind).startswith(start))
        facts.append(make_fact("notice", next(whose, "The sensor's notice.log") + _NOTICE, values))
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
    lost_s += float(quality.logs["early_s"].max()) if len(quality.logs) else 0.0
    return "holes" if seen_s > 0 and lost_s >= _MOST_HOLES * seen_s else ""
