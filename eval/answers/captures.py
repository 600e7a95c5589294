"""Captures that cases ask about: samples, real captures, simulated plants, recordings, each with
its own truth.

What is handed on are tables: no path, no file name and no column of labels, so nothing hints the
    answer.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from eval.answers.cases import Recorded, Simulated, Source
from traffic.capture import Capture
from traffic.datasets.truth import read_truth
from traffic.errors import UserError
from traffic.labels import NORMAL
from traffic.plant import Plant, load_plant
from traffic.reader import read_capture
from traffic.simulation.simulate import simulate

SAMPLES = Path(__file__).resolve().parents[2] / "assistant" / "samples"
_TOLD = ("label", "detailed-label", "tunnel_parents")


@dataclass(frozen=True)
class Roots:
    """Where captures lie: ``data`` as the shared captures do, ``recordings`` one folder for each
    seed."""

    data: Path
    recordings: Path


@dataclass(frozen=True)
class Subject:
    """A capture to ask about.

    Attributes:
        capture: its tables, without labels.
        plant: its inventory; None where there is none.
        parts: the names of the devices in the parts that its truth gives them, ``source`` and
            ``target``.
    """

    capture: Capture
    plant: Plant | None
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hash of the flows and of the evidence beyond them."""
        digest = hashlib.sha256()
        for table in (self.capture.flows, self.capture.evidence):
            digest.update(table.to_csv(index=False).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Missing:
    """Why a capture is not here, and what would bring it."""

    why: str


def find_missing(source: Source, roots: Roots) -> Missing | None:
    """Say why a capture cannot be asked about; None where it can.

    Raises:
        UserError: the folder it should lie in is here, and it is not in it; or a recording broke
            off, or is of something else.
    """
    if source.sample is not None and not (SAMPLES / source.sample / "conn.log").is_file():
        raise UserError(
            f"sample: {SAMPLES} has no {source.sample}; expected a folder of it; correct the case"
        )
    if source.data is not None:
        if not roots.data.is_dir():
            return Missing(f"no folder {roots.data} of captures (--data)")
        if not (roots.data / source.data).exists():
            raise UserError(
                f"data: {roots.data / source.data} does not exist; expected a capture; correct the case"
            )
    return (
        _find_recording(source.recorded, roots.recordings) if source.recorded is not None else None
    )


def read_subject(source: Source, roots: Roots) -> Subject:
    """Read or invent a capture.

    Raises:
        UserError: a file cannot be read.
    """
    if source.simulated is not None:
        return _simulated(source.simulated)
    if source.recorded is not None:
        return _recorded(source.recorded, roots.recordings)

    if source.data is not None:
        return Subject(_without_labels(read_capture(roots.data / source.data)), None)
    folder = SAMPLES / str(source.sample)
    plant = load_plant(folder / "plant.yaml")
    capture = read_capture(folder / "conn.log")
    return Subject(
        _without_labels(capture), plant, _parts(pd.read_csv(folder / "truth.csv"), plant)
    )


def _find_recording(recorded: Recorded, recordings: Path) -> Missing | None:
    folder = recordings / str(recorded.seed)
    if not (folder / "truth.json").is_file():
        options = f"--seed {recorded.seed} --kind {recorded.kind} --minutes {recorded.minutes:g}"
        return Missing(f"no recording: faultwise testbed record {options} --out {folder}")
    kinds = {interval.kind for interval in read_truth(folder / "truth.json").intervals}
    if recorded.kind not in kinds:
        raise UserError(
            f"recorded: {folder} holds {', '.join(sorted(kinds)) or 'nothing'}; expected a run of {recorded.kind}; "
            "record it again"
        )
    return None


def _simulated(made: Simulated) -> Subject:
    simulation = simulate(made.seed, made.devices, made.hours, made.scenarios)
    return Subject(
        _without_labels(simulation.capture),
        simulation.plant,
        _parts(simulation.truth, simulation.plant),
    )


def _recorded(recorded: Recorded, recordings: Path) -> Subject:
    folder = recordings / str(recorded.seed)
    truth = read_truth(folder / "truth.json")
    plant = load_plant(folder / "plant.yaml")
    told = [interval.model_dump() for interval in truth.intervals if interval.kind == recorded.kind]
    return Subject(
        _without_labels(read_capture(folder / "capture.pcap")),
        plant,
        _parts(pd.DataFrame(told), plant),
    )


def _parts(truth: pd.DataFrame, plant: Plant) -> dict[str, str]:
    """The device that each direction holds longest, and the root of a recorded event; by name where
    it has one."""
    told = truth[truth["label"] != NORMAL] if (truth["label"] != NORMAL).any() else truth
    if told.empty:
        return {}
    length_s = (told["end_s"] - told["start_s"]).groupby([told["direction"], told["device"]]).sum()
    longest = {
        str(part): str(lengths.droplevel(0).idxmax()) for part, lengths in length_s.groupby(level=0)
    }
    if "root" in told:  # of a routine, which has no direction, only this tells whose it is
        longest["source"] = str(told["root"].mode()[0])
    names = {device.address: device.name for device in plant.devices}
    return {part: names.get(device, device) for part, device in longest.items() if part}


def _without_labels(capture: Capture) -> Capture:
    return replace(
        capture, flows=capture.flows.drop(columns=[name for name in _TOLD if name in capture.flows])
    )
