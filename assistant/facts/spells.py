"""When evidence began and ended, and for how long a device said nothing: by packets where they tell."""

import numpy as np
import pandas as pd

from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S

# Values of a fact that say when it begins and ends, the one that tells most first.
BEGINS = ("since_time_s", "start_time_s", "first_time_s", "heard_time_s")
ENDS = ("over_time_s", "until_time_s", "back_time_s", "end_time_s")


def first_and_last(evidence: pd.DataFrame) -> tuple[float, float]:
    """When the first and the last event of some evidence was; the edges of its slots where nothing
    tells."""
    first_s, last_s = evidence["first_s"].min(), evidence["last_s"].max()
    slot = evidence["slot"]
    return (
        float(slot.min() * SAMPLE_S if np.isnan(first_s) else first_s),
        float((slot.max() + 1) * SAMPLE_S if np.isnan(last_s) else last_s),
    )


def quiet_spell(
    view: TrafficView, device: str, start_s: float, end_s: float, least_s: float = 2 * SAMPLE_S
) -> tuple[float, float] | None:
    """The longest time within reach of an interval in which a device sent nothing, up to the end of
    the capture.

    Returns:
        None where it was never heard, or is never quiet for as long as ``least_s``.
    """
    flows = view.flows_of(device)
    asked = view.evidence_of_kind("arp_request")
    asked = asked[asked["src"] == device]
    sent = flows[flows["sent_pkts"] > 0]
    slot_s = asked["slot"] * SAMPLE_S
    since = np.concatenate([sent["sent_first_s"], asked["first_s"].fillna(slot_s)])
    until = np.concatenate([sent["sent_last_s"], asked["last_s"].fillna(slot_s + SAMPLE_S)])
    if not len(since):
        return None
    order = np.argsort(since)
    left = np.maximum.accumulate(until[order])
    back = np.append(since[order][1:], view.end_s)
    near = (left < end_s) & (back > start_s) & (back - left >= least_s)
    if not near.any():
        return None
    longest = int(np.argmax(np.where(near, back - left, -1.0)))
    return float(left[longest]), float(back[longest])
