"""A small plant with three incidents, put together by hand: what answers are tested on, every
number known."""

import pandas as pd
from tables import capture, flow, unanswered

from assistant.detection import Analysis, Incident
from assistant.facts.fact import Fact, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.labels import LABELS
from traffic.plant import Device, Plant
from traffic.samples import make_samples
from traffic.windows import make_windows

START = 1_545_466_920.0  # 2018-12-22 08:22:00 UTC
CAMERA, YARD, PLC, SPARE, PANEL = (f"192.168.1.{n}" for n in (20, 21, 10, 11, 30))
CONTROLLER = "203.0.113.5"
PLANT = Plant(
    (
        Device("cam-1", CAMERA, "camera", "Korvo VC310", aliases=("gate camera",)),
        Device("cam-2", YARD, "camera", "Korvo VC310"),
        Device("plc-1", PLC, "PLC", "Norvik CX-20"),
        Device("plc-2", SPARE, "PLC", "Norvik CX-20", mac="00:11:22:33:44:55"),
        Device("press-panel", PANEL, "HMI panel", "Lumen HP10"),
    )
)


def make_analysis(
    incidents: tuple[Incident, ...] | None = None, *, answered: bool = False, **verdict: object
) -> Analysis:
    """Two minutes of traffic; ``verdict`` overrides columns of the camera's verdicts.

    Args:
        incidents: those of the fixture by default.
        answered: whether the one that the camera calls accepts.
    """
    call = flow if answered else unanswered
    beats = [
        call(START + 10.0 * i, CAMERA, CONTROLLER, 6667, id__orig_p=41000 + i) for i in range(12)
    ]
    polls = [flow(START + 5.0 * i, PANEL, PLC, 502, id__orig_p=50000 + i) for i in range(24)]
    video = [flow(START + 10.0 * i, PANEL, YARD, 554, id__orig_p=52000 + i) for i in range(12)]
    slot = int(START // 10)
    asked = [
        (slot + i, PANEL, SPARE, kind, -1, 1, 0)
        for i in range(12)
        for kind in ("arp_request", "arp_unanswered")
    ]
    table = capture(*beats, *polls, *video, evidence=asked)
    windows = make_windows(make_samples(table, PLANT))
    verdicts = _verdicts(windows.table, verdict)
    chosen = (beacon(), silence(), loss()) if incidents is None else incidents
    view = TrafficView(table, windows.samples, PLANT)
    return Analysis(table, PLANT, windows, view, verdicts, chosen)


def beacon(*facts: Fact, sessions: float = 0.0, **more: object) -> Incident:
    """The camera calls an address that never answers."""
    values = {
        "device": f"cam-1 ({CAMERA})", "controller": f"{CONTROLLER}:6667", "attempts": 12.0, "sessions": sessions,
        "unanswered": 12.0 - sessions, "first_time_s": START,
    }  # fmt: skip
    beat = {"spacing_s": 10.0, "jitter_s": 0.01}
    starts = (START, START + 10.0)
    contact = "{device} contacted {controller} {attempts:time}, first at {first_time_s}; {unanswered} got no answer."
    own = (
        make_fact("contact", contact, values, starts),
        make_fact("rhythm", "The spacing is {spacing_s}, within {jitter_s}.", beat, starts),
    )
    return _incident("c2", CAMERA, "high", (*own, *facts), (CONTROLLER,), windows=starts, **more)


def silence(**more: object) -> Incident:
    """The spare controller does not answer the panel's ARP requests; no model is needed for
    that."""
    values = {"address": f"plc-2 ({SPARE})", "asked": 12.0, "askers": f"press-panel ({PANEL})"}
    text = "Nobody answers at {address}: {asked:ARP request} for it by {askers} stayed without a reply."
    facts = (make_fact("absent", text, values),)
    return _incident("device_silent", SPARE, "low", facts, (PANEL,), related=(PANEL,), **more)


def loss(**more: object) -> Incident:
    """The yard camera loses packets."""
    values = {"device": f"cam-2 ({YARD})", "resent": 9.0, "pkts": 108.0, "resent_share": 9 / 108}
    text = "{resent:segment} of {pkts:packet} of {device} were sent again."
    facts = (make_fact("loss", text, values, (START,)),)
    more = {"role": "target", "windows": (START,), **more}
    return _incident("packet_loss", YARD, "medium", facts, (), **more)


def _incident(label: str, device: str, severity: str, facts: tuple[Fact, ...], peers: tuple[str, ...],
              role: str = "source", windows: tuple[float, ...] = (), related: tuple[str, ...] = (), **more: object
              ) -> Incident:  # fmt: skip
    techniques = ("T0869", "T0885") if label == "c2" else ()
    who = {
        "id": f"{label}-0a1b2c3d", "device": device, "label": label, "severity": severity,
        "role": role,
    }  # fmt: skip
    rest = {
        "windows": windows, "facts": facts, "peers": peers, "techniques": techniques,
        "related": related,
    }  # fmt: skip
    return Incident(**who, **rest, **{"start_s": START, "end_s": START + 120.0, **more})


def _verdicts(table: pd.DataFrame, camera: dict[str, object]) -> pd.DataFrame:
    labels = {CAMERA: "c2", YARD: "packet_loss"}
    verdicts = table[["device", "start_s", "end_s"]].copy()
    verdicts["label"] = [labels.get(device, "normal") for device in verdicts["device"]]
    verdicts["probability"] = 0.95
    verdicts["abstained"] = False
    verdicts["direction"] = ["source" if device in labels else "" for device in verdicts["device"]]
    for name, value in camera.items():
        verdicts.loc[verdicts["device"] == CAMERA, name] = value
    for label in LABELS:
        verdicts[f"p_{label}"] = (verdicts["label"] == label) * 0.95
    return verdicts
