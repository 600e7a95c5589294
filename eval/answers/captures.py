"""Captures that cases ask about: samples, real captures, simulated plants, recordings.

What is handed on are tables: no path, no file name and no column of labels, so nothing hints the
answer.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from eval.answers.cases import Recorded, Source
from eval.testbed.sensor import degrade
from traffic.capture import Capture
from traffic.datasets.truth import read_truth
from traffic.device_logs.gather import gather_records
from traffic.errors import UserError
from traffic.labels import NORMAL
from traffic.plant import Plant, load_plant
from traffic.reader import read_capture
from traffic.simulation.simulate import simulate

SAMPLES = Path(__file__).resolve().parents[2] / "assistant" / "samples"
_TRUTH_COLUMNS = ("label", "detailed-label", "tunnel_parents")


@dataclass(frozen=True)
class Roots:
    """Folders of captures: ``data`` of recorded networks, ``recordings`` of the testbed by seed."""

    data: Path
    recordings: Path


@dataclass(frozen=True)
class CaseCapture:
    """A capture to ask about.

    Attributes:
        capture: its tables, without labels.
        plant: its inventory; None where there is none.
        parts: names of the devices that its truth calls ``source`` and ``target``.
        local: public networks that are the plant's.
    """

    capture: Capture
    plant: Plant | None
    parts: Mapping[str, str] = field(default_factory=dict)
    local: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the flows and of the evidence beyond them."""
        digest = hashlib.sha256()
        for table in (self.capture.flows, self.capture.evidence):
            digest.update(table.to_csv(index=False).encode())
        return digest.hexdigest()


def find_missing(source: Source, roots: Roots) -> str:
    """Say why a capture is not here and what would bring it; "" where it is here.

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
            return f"no folder {roots.data} of captures (--data)"
        if not (path := roots.data / source.data).exists():
            raise UserError(f"data: {path} does not exist; expected a capture; correct the case")
    if source.file is not None and not source.file.exists():
        raise UserError(f"{source.file} does not exist; expected a capture; correct the case")
    return "" if source.recorded is None else _find_recording(source.recorded, roots.recordings)


def read_case_capture(source: Source, roots: Roots) -> CaseCapture:
    """Read or simulate a capture.

    Raises:
        UserError: a file cannot be read.
    """
    if source.data is not None or source.file is not None:
        return _read_file(source, roots)
    if source.simulated is not None:
        made = source.simulated
        simulation = simulate(made.seed, made.devices, made.hours, made.scenarios)
        capture, plant, truth = simulation.capture, simulation.plant, simulation.truth
    elif source.recorded is not None:
        folder = roots.recordings / str(source.recorded.seed)
        intervals = read_truth(folder / "truth.json").intervals
        kind = source.recorded.kind
        truth = pd.DataFrame([one.model_dump() for one in intervals if one.kind == kind])
        capture = read_capture(folder / "capture.pcap")
        plant = load_plant(folder / "plant.yaml")
    else:
        folder = SAMPLES / str(source.sample)
        truth = pd.read_csv(folder / "truth.csv")
        capture = read_capture(folder / "conn.log")
        plant = load_plant(folder / "plant.yaml")
    return CaseCapture(_without_labels(capture), plant, _parts(truth, plant))


def _read_file(source: Source, roots: Roots) -> CaseCapture:
    """A capture on disk as the product reads it, after what the case's sensor makes of it."""
    # What lies beside its cases is named as it lies, all else below the data.
    root = roots.data if source.file is None else Path()
    path = source.file or root / str(source.data)
    plant = load_plant(root / source.plant) if source.plant else None
    with TemporaryDirectory() as scratch:
        if source.sensor:
            worse = Path(scratch) / path.name
            degrade(path, worse, source.sensor, seed=1)
            path = worse
        capture = read_capture(path)
        records = gather_records(capture, plant, beside=path if path.is_dir() else None)
    return CaseCapture(_without_labels(replace(capture, records=records)), plant, {}, source.local)


def _find_recording(recorded: Recorded, recordings: Path) -> str:
    folder = recordings / str(recorded.seed)
    if not (folder / "truth.json").is_file():
        options = f"--seed {recorded.seed} --kind {recorded.kind} --minutes {recorded.minutes:g}"
        return f"no recording: faultwise testbed record {options} --out {folder}"
    kinds = {interval.kind for interval in read_truth(folder / "truth.json").intervals}
    if recorded.kind not in kinds:
        raise UserError(
            f"recorded: {folder} holds {', '.join(sorted(kinds)) or 'nothing'}; expected a run of "
            f"{recorded.kind}; record it again"
        )
    return ""


def _parts(truth: pd.DataFrame, plant: Plant) -> dict[str, str]:
    """The device that has each direction longest, or is an event's root; by name where it has one."""
    odd = truth[truth["label"] != NORMAL]
    odd = truth if odd.empty else odd
    if odd.empty:
        return {}
    length_s = (odd["end_s"] - odd["start_s"]).groupby([odd["direction"], odd["device"]]).sum()
    longest = {
        str(part): str(lengths.droplevel(0).idxmax()) for part, lengths in length_s.groupby(level=0)
    }
    if "root" in odd:  # of a routine, which has no direction, only this tells whose it is
        longest["source"] = str(odd["root"].mode()[0])
    names = {device.address: device.name for device in plant.devices}
    return {part: names.get(device, device) for part, device in longest.items() if part}


def _without_labels(capture: Capture) -> Capture:
    return replace(capture, flows=capture.flows.drop(columns=list(_TRUTH_COLUMNS), errors="ignore"))
