"""A short piece of a recorded run: what some of its machines said to each other for a while, with its truth.

faultwise testbed excerpt runs/run-3 --out sample --machine plc-2 --machine hmi-1 --start 200 --end 700
"""

import ipaddress
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from traffic.datasets.truth import Interval, Truth, read_truth, write_truth
from traffic.errors import UserError
from traffic.labels import NORMAL, UNKNOWN
from traffic.pcap.records import ETHERNET, Records, read_records
from traffic.plant import Plant, dump_plant, load_plant

__all__ = ["SNAP_BYTES", "excerpt"]

SNAP_BYTES = 160  # headers, and the beginning of what Modbus, MQTT and DNS say
_MICROSECONDS = 0xA1B2C3D4


def excerpt(
    run: Path, out: Path, machines: Sequence[str], start_s: float, end_s: float, snap_bytes: int = SNAP_BYTES
) -> Truth:
    """Write capture.pcap, truth.json and plant.yaml of a part of a run.

    Args:
        run: a recorded run.
        out: a folder that does not exist yet.
        machines: names of its plant.yaml, or addresses; frames between two of them are kept.
        start_s: seconds after the run's start.
        end_s: likewise.
        snap_bytes: what is kept of each frame.

    Returns:
        The truth of the part.

    Raises:
        UserError: the run is none, a machine is not in it, the times lie outside, nothing is left, or ``out`` exists.
    """
    if out.exists():
        raise UserError(f"{out} exists already; expected a new folder; name another with --out")
    truth, plant = read_truth(run / "truth.json"), load_plant(run / "plant.yaml")
    length_s = truth.end_s - truth.start_s
    if not 0 <= start_s < end_s <= length_s:
        raise UserError(
            f"--start {start_s:g} --end {end_s:g} is no part of {run}; expected 0 to {length_s:.0f} s, start before end"
        )
    addresses = [_address(plant, machine) for machine in machines]
    first_s, last_s = truth.start_s + start_s, truth.start_s + end_s
    with tempfile.TemporaryDirectory() as folder:
        theirs = Path(folder) / "theirs.pcap"
        _filter(run / "capture.pcap", theirs, addresses)
        records = read_records(theirs)
    records = records.take(np.flatnonzero((records.ts >= first_s) & (records.ts < last_s)))
    if not len(records.ts):
        raise UserError(f"{', '.join(machines)} said nothing to each other in that time; expected frames; name others")
    part = truth.model_copy(
        update={
            "start_s": first_s,
            "end_s": last_s,
            "intervals": tuple(
                _clipped(one, addresses, first_s, last_s)
                for one in truth.intervals
                if one.device in addresses and one.start_s < last_s and one.end_s > first_s
            ),
            "made_by": "faultwise testbed excerpt",
        }
    )
    out.mkdir(parents=True)
    _write_capture(records, out / "capture.pcap", snap_bytes)
    write_truth(part, out / "truth.json")
    kept = Plant(tuple(device for device in plant.devices if device.address in addresses))
    (out / "plant.yaml").write_text(dump_plant(kept), encoding="utf-8")
    return part


def _address(plant: Plant, machine: str) -> str:
    for device in plant.devices:
        if machine in (device.name, device.address):
            return device.address
    try:
        return str(ipaddress.ip_address(machine))  # an intruder, or somebody beyond the router
    except ValueError:
        names = ", ".join(device.name for device in plant.devices)
        raise UserError(f"no machine is called {machine}; expected an address or one of {names}") from None


def _filter(capture: Path, out: Path, addresses: Sequence[str]) -> None:
    """Frames whose two ends are both among the addresses, ARP too."""
    ends = [" or ".join(f"{way} host {address}" for address in addresses) for way in ("src", "dst")]
    command = ["tcpdump", "-n", "-r", str(capture), "-w", str(out), f"({ends[0]}) and ({ends[1]})"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        raise UserError("tcpdump is missing; expected it on PATH; apt-get install tcpdump") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"{capture}: tcpdump says {''.join(said)!r}; expected a capture it can read") from None


def _clipped(interval: Interval, addresses: Sequence[str], first_s: float, last_s: float) -> Interval:
    """What comes from a machine that was left out may not show any more."""
    times = {"start_s": max(interval.start_s, first_s), "end_s": min(interval.end_s, last_s)}
    claim = {} if interval.root in addresses or interval.label == NORMAL else {"label": UNKNOWN, "direction": ""}
    return interval.model_copy(update=times | claim)


def _write_capture(records: Records, path: Path, snap_bytes: int) -> None:
    """Classic pcap, microseconds, Ethernet."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", _MICROSECONDS, 2, 4, 0, 0, snap_bytes, ETHERNET))
        micros = np.rint(records.ts * 1_000_000).astype(np.int64)
        kept = np.minimum(records.captured, snap_bytes)
        for ts, at, size, wire in zip(micros, records.at, kept, records.wire, strict=True):
            file.write(struct.pack("<IIII", ts // 1_000_000, ts % 1_000_000, size, wire))
            file.write(records.buffer[at : at + size].tobytes())
