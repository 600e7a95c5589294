"""What goes outside: much data to an address that was never met before, and calls like clockwork to
an address that nobody looked up."""

import numpy as np
import pandas as pd

from assistant.detection.rules.proofs import from_to
from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.facts.fact import Proof, Value, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.plant import is_group

_UPLOAD_BYTES, _UPLOAD_SLOTS, _MORE_SENT = 5e6, 60, 4.0  # within ten minutes
_BASELINE_S = 600.0
_MIN_CALLS, _MIN_CALLS_S = 12, 300.0
_CLOCKWORK = 0.05  # half of the spacings within this share of their median
_SMALL_BYTES = 5_000.0  # a call that says little
_DNS = 53
_ORDINARY = (_DNS, 80, 123, 443, 1883, 8080, 8443, 8883)

_SENTENCES = {
    "upload": "{device} sent {sent_bytes} to {target}, outside the plant, between {first_time_s} and {last_time_s} and "
    "received {got_bytes}.",
    "first_met": "It had nothing to do with that address before, in the {known_s} that it was seen.",
    "met_at_start": "Whether that address is new to it this recording cannot tell: it begins with it.",
    "clockwork": "{device} calls {target}, outside the plant, every {spacing_s} (half of the calls keep to it within "
    "{jitter_s}): {attempts:call} between {first_time_s} and {last_time_s}, each answered with little.",
    "no_name": "No name was asked for before the first of these calls, and the port is none of an ordinary service.",
}


def find_uploads(view: TrafficView) -> list[RuleHit]:
    """Much data that a device sends to one outside address and that nobody there asked for."""
    hits = []
    for device, target, rows in _outside(view):
        # A device that looks its service up by name and sends there by an ordinary port does what
        # its maker meant it to: a camera sends much.
        if _is_named(view, device, float(rows["since_s"].min())) and _is_ordinary(rows):
            continue
        busiest = rows["sent_bytes"].groupby(rows["slot"] // _UPLOAD_SLOTS).sum().max()
        sent, got = float(rows["sent_bytes"].sum()), float(rows["got_bytes"].sum())
        if busiest < _UPLOAD_BYTES or sent < _MORE_SENT * got or not rows["answered"].any():
            continue
        first_s, known_s = float(rows["since_s"].min()), _known_since(view, device)
        values = _values(view, device, target, rows) | {
            "sent_bytes": sent,
            "got_bytes": got,
            "known_s": first_s - known_s,
        }
        new = first_s - known_s >= _BASELINE_S
        kinds = ["upload", "first_met" if new else "met_at_start"]
        proof = Proof(from_to(device, target))
        facts = tuple(make_fact(one, _SENTENCES[one], values, proof=proof) for one in kinds)
        hits.append(RuleHit(device, "exfiltration", "source", facts, (target,), slots_of(rows)))
    return hits


def find_clockwork(view: TrafficView) -> list[RuleHit]:
    """Short calls at an even interval to an outside address that no name led to."""
    hits = []
    for device, target, rows in _outside(view):
        rows = rows[(rows["proto"] == "tcp") & rows["out"]]
        each = rows.groupby("attempt").agg(
            first=("since_s", "min"), answered=("answered", "any"), refused=("refused", "any")
        )
        each = each.sort_values("first")
        begun = each["first"].to_numpy()
        if len(begun) < _MIN_CALLS or begun[-1] - begun[0] < _MIN_CALLS_S:
            continue
        spacing = np.diff(begun)
        middle = float(np.median(spacing))
        jitter = float(np.median(np.abs(spacing - middle)))
        little = float((rows["src_bytes"] + rows["dst_bytes"]).sum()) <= _SMALL_BYTES * len(each)
        if jitter > _CLOCKWORK * middle or not little:
            continue
        if _is_named(view, device, float(begun[0])) or _is_ordinary(rows):
            continue
        if not each["answered"].any():
            continue  # find_vain_calls tells of these
        values = _values(view, device, target, rows) | {
            "target": view.endpoint(rows),
            "controller": view.endpoint(rows),
            "attempts": len(each),
            "sessions": int(each["answered"].sum()),
            "spacing_s": middle,
            "jitter_s": jitter,
        }
        proof = Proof(f"{from_to(device, target)} && tcp.flags.syn == 1")
        kinds = ["clockwork", "no_name"]
        facts = tuple(make_fact(one, _SENTENCES[one], values, proof=proof) for one in kinds)
        hits.append(RuleHit(device, "c2", "source", facts, (target,), slots_of(rows)))
    return hits


def _outside(view: TrafficView) -> list[tuple[str, str, pd.DataFrame]]:
    """What each device has with each outside address, from the device's side."""
    found = []
    for device in sorted(view.local):
        rows = view.flows_of(device)
        rows = rows[~rows["other"].isin(view.local)]
        for target, mine in rows.groupby("other"):
            if not is_group(str(target)):
                found.append((device, str(target), mine))
    return found


def _is_named(view: TrafficView, device: str, first_s: float) -> bool:
    """Whether the device asked for any name before its first contact."""
    asked = view.evidence_of_kind("dns_query")
    asked = asked[asked["src"] == device]
    if len(asked):
        return bool((asked["slot"] * SAMPLE_S <= first_s).any())
    rows = view.flows_of(device)
    return bool((rows["out"] & (rows["port"] == _DNS) & (rows["since_s"] <= first_s)).any())


def _is_ordinary(rows: pd.DataFrame) -> bool:
    return bool(rows["port"].isin(_ORDINARY).any())


def _known_since(view: TrafficView, device: str) -> float:
    rows = view.flows_of(device)
    return float(rows["since_s"].min()) if len(rows) else view.start_s


def _values(view: TrafficView, device: str, target: str, rows: pd.DataFrame) -> dict[str, Value]:
    return {
        "device": view.name_of(device),
        "target": view.name_of(target),
        "first_time_s": float(rows["since_s"].min()),
        "last_time_s": float(rows["until_s"].max()),
    }
