"""An analysis: one capture read, cut, classified and grouped, with everything later questions
need."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from assistant.detection.classify import classify
from assistant.detection.incidents import Incident, make_incidents
from assistant.facts.devices import describe_device, health_fact
from assistant.facts.fact import Fact
from assistant.facts.traffic_view import Scene, make_scene
from assistant.llm.adapters import AdapterCard
from assistant.llm.local import LocalLLM, Progress
from traffic.capture import Capture
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
        samples: one row per device and ten seconds.
        windows: the samples in sequences of six.
        verdicts: one row per window, in the order of ``windows``.
        incidents: in the order of their starts.
    """

    capture: Capture
    plant: Plant | None
    samples: pd.DataFrame
    windows: Windows
    verdicts: pd.DataFrame
    incidents: tuple[Incident, ...]

    @cached_property
    def scene(self) -> Scene:
        """The capture laid out for questions about one device, made when first asked for."""
        return make_scene(self.capture, self.samples, self.plant)

    def facts_of(self, device: str) -> tuple[Fact, ...]:
        """What a device did in this capture, and how many of its windows are normal."""
        starts = self.verdicts.loc[self.verdicts["device"] == device, "start_s"].tolist()
        return (
            *describe_device(self.scene, device, starts),
            health_fact(self.scene, device, self.verdicts),
        )


def analyse(
    path: Path | str,
    llm: LocalLLM,
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
        progress: told how far the classification is, which takes most of the time.

    Raises:
        UserError: the path holds no capture that can be read.
    """
    capture = read_capture(path)
    samples = make_samples(capture, plant, local)
    windows = make_windows(samples)
    verdicts = classify(windows, llm, card, progress)
    incidents = make_incidents(verdicts, windows, capture, plant)
    return Analysis(capture, plant, samples, windows, verdicts, tuple(incidents))
