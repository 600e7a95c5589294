"""The pipeline: one capture cut into windows, classified and grouped into incidents.

read ─▶ samples ─▶ windows ─▶ verdicts ─▶ incidents ─▶ Analysis
           └─▶ traffic view ──────────────▶┘
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from assistant.detection.classify import classify
from assistant.detection.incidents import Incident, make_incidents
from assistant.facts.devices import describe_device, health_fact
from assistant.facts.fact import Fact
from assistant.facts.logs_and_readings import record_facts
from assistant.facts.traffic_view import TrafficView
from assistant.llm.adapters import AdapterCard
from assistant.llm.local import Progress
from assistant.llm.remembered import Scorer
from traffic.capture import Capture
from traffic.discovery import hint_local
from traffic.plant import Plant
from traffic.reader import read_capture
from traffic.samples import make_samples
from traffic.windows import Windows, make_windows


@dataclass(frozen=True)
class Analysis:
    """One capture and all that was computed from it.

    Attributes:
        capture: flows, activity, evidence, notes.
        plant: the inventory, None where none was given.
        windows: the samples in sequences of six.
        view: the capture laid out for questions about one device.
        verdicts: one row per window, in the order of ``windows``.
        incidents: in the order of their starts.
    """

    capture: Capture
    plant: Plant | None
    windows: Windows
    view: TrafficView
    verdicts: pd.DataFrame
    incidents: tuple[Incident, ...]

    @property
    def samples(self) -> pd.DataFrame:
        """One row per device and ten seconds."""
        return self.windows.samples

    def facts_of(self, device: str) -> tuple[Fact, ...]:
        """What a device did in this capture, and how many of its windows are normal."""
        starts = self.verdicts.loc[self.verdicts["device"] == device, "start_s"].tolist()
        described = describe_device(self.view, device, starts)
        records = record_facts(self.view, device)
        return (*described, *records, health_fact(self.view, device, self.verdicts))


def analyse(
    path: Path | str,
    llm: Scorer,
    card: AdapterCard,
    plant: Plant | None = None,
    local: Sequence[str] = (),
    progress: Progress | None = None,
) -> Analysis:
    """Read a capture, classify its windows and group them into incidents.

    Args:
        path: a pcap, a conn.log, or a folder of either.
        llm: scores the labels.
        card: of its adapter: temperature, threshold.
        plant: the inventory.
        local: further networks (CIDR) whose addresses are devices.
        progress: called while windows are classified, which takes most of the time.

    Raises:
        UserError: the path holds no capture that can be read.
    """
    return analyse_capture(read_capture(path), llm, card, plant, local, progress)


def analyse_capture(
    capture: Capture,
    llm: Scorer,
    card: AdapterCard,
    plant: Plant | None = None,
    local: Sequence[str] = (),
    progress: Progress | None = None,
) -> Analysis:
    """The same from tables that were read already."""
    samples = make_samples(capture, plant, local)
    if samples.empty and (hint := hint_local(capture)):
        capture = replace(capture, notes=(*capture.notes, hint))
    windows = make_windows(samples)
    verdicts = classify(windows, llm, card, progress, plant)
    return analyse_verdicts(capture, plant, windows, verdicts)


def analyse_verdicts(
    capture: Capture, plant: Plant | None, windows: Windows, verdicts: pd.DataFrame
) -> Analysis:
    """The same from verdicts, whoever gave them; ``windows`` are those of the capture."""
    view = TrafficView(capture, windows.samples, plant)
    incidents = make_incidents(verdicts, windows, view)
    return Analysis(capture, plant, windows, view, verdicts, tuple(incidents))
