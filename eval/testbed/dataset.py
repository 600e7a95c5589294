"""What is made of recorded runs: an excerpt of one, and the data card of a set.

    faultwise testbed excerpt runs/run-3 --out sample --machine plc-2 --machine hmi-1 --end 700

The card is counted from the runs' truth; what it says of limits is written here, by hand.
"""

import ipaddress
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from traffic.datasets.truth import Interval, Truth, read_truth, write_truth
from traffic.errors import UserError
from traffic.files import write_text
from traffic.labels import LABELS, NORMAL, UNKNOWN
from traffic.pcap.records import ETHERNET, Records, read_records
from traffic.plant import Plant, dump_plant, load_plant

# ---- An excerpt: what some machines sent each other for a while, with its truth ----

_SNAP_BYTES = 160  # headers, and the beginning of what Modbus, MQTT and DNS say
_MICROSECONDS = 0xA1B2C3D4


def excerpt(run: Path, out: Path, machines: Sequence[str], start_s: float, end_s: float) -> Truth:
    """Write capture.pcap, truth.json and plant.yaml of a part of a run.

    Args:
        run: a recorded run.
        out: a folder that does not exist yet.
        machines: names of its plant.yaml, or addresses; frames between two of them are kept.
        start_s: seconds after the run's start.
        end_s: likewise.

    Returns:
        The truth of the part.

    Raises:
        UserError: ``run`` is no run, a machine is not in it, the times lie outside, nothing is
            left, or ``out`` exists.
    """
    if out.exists():
        raise UserError(f"{out} exists already; expected a new folder; name another with --out")
    truth, plant = read_truth(run / "truth.json"), load_plant(run / "plant.yaml")
    length_s = truth.end_s - truth.start_s
    if not 0 <= start_s < end_s <= length_s:
        raise UserError(
            f"--start {start_s:g} --end {end_s:g} is no part of {run}; "
            f"expected 0 to {length_s:.0f} s, start before end"
        )
    addresses = [_address(plant, machine) for machine in machines]
    first_s, last_s = truth.start_s + start_s, truth.start_s + end_s
    with tempfile.TemporaryDirectory() as folder:
        filtered = Path(folder) / "filtered.pcap"
        _filter(run / "capture.pcap", filtered, addresses)
        records = read_records(filtered)
    records = records.take(np.flatnonzero((records.ts >= first_s) & (records.ts < last_s)))
    if not len(records.ts):
        raise UserError(
            f"{', '.join(machines)} said nothing to each other in that time; "
            "expected frames; name others"
        )
    intervals = tuple(
        _clip(one, addresses, first_s, last_s)
        for one in truth.intervals
        if one.device in addresses and one.start_s < last_s and one.end_s > first_s
    )
    made = {"start_s": first_s, "end_s": last_s, "made_by": "faultwise testbed excerpt"}
    part = truth.model_copy(update={**made, "intervals": intervals})
    out.mkdir(parents=True)
    _write_capture(records, out / "capture.pcap")
    write_truth(part, out / "truth.json")
    kept = Plant(tuple(device for device in plant.devices if device.address in addresses))
    write_text(out / "plant.yaml", dump_plant(kept))
    return part


def _address(plant: Plant, machine: str) -> str:
    for device in plant.devices:
        if machine in (device.name, device.address):
            return device.address
    try:
        return str(ipaddress.ip_address(machine))  # an intruder, or somebody beyond the router
    except ValueError:
        names = ", ".join(device.name for device in plant.devices)
        raise UserError(
            f"no machine is called {machine}; expected an address or one of {names}"
        ) from None


def _filter(capture: Path, out: Path, addresses: Sequence[str]) -> None:
    """Frames whose two ends are both among the addresses, ARP too."""
    ends = [" or ".join(f"{way} host {address}" for address in addresses) for way in ("src", "dst")]
    command = ["tcpdump", "-n", "-r", str(capture), "-w", str(out), f"({ends[0]}) and ({ends[1]})"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        what = "tcpdump is missing; expected it on PATH; apt-get install tcpdump"
        raise UserError(what) from None
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(
            f"{capture}: tcpdump says {''.join(words)!r}; expected a capture it can read"
        ) from None


def _clip(interval: Interval, addresses: Sequence[str], first_s: float, last_s: float) -> Interval:
    """What comes from a machine that was left out may not show any more: it becomes unknown."""
    start_s, end_s = max(interval.start_s, first_s), min(interval.end_s, last_s)
    update: dict[str, Any] = {"start_s": start_s, "end_s": end_s}
    if interval.root not in addresses and interval.label != NORMAL:
        update |= {"label": UNKNOWN, "direction": ""}
    return interval.model_copy(update=update)


def _write_capture(records: Records, path: Path) -> None:
    """Classic pcap, microseconds, Ethernet."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", _MICROSECONDS, 2, 4, 0, 0, _SNAP_BYTES, ETHERNET))
        micros = np.rint(records.ts * 1_000_000).astype(np.int64)
        kept = np.minimum(records.captured, _SNAP_BYTES)
        for ts, at, size, wire in zip(micros, records.at, kept, records.wire, strict=True):
            file.write(struct.pack("<IIII", ts // 1_000_000, ts % 1_000_000, size, wire))
            file.write(records.buffer[at : at + size].tobytes())


# ---- The card of a set: how it was made, what it holds, what it does not cover ----

_HEAD = """# Recorded plants

Made by `faultwise testbed run`: every run is a plant of its own, drawn from its seed, of Linux network namespaces in
which real programs speak real protocols. `capture.pcap` is what a span port of the plant's switch sees; `truth.json`
says which device was at fault or attacked, when, and by what; `plant.yaml` is the inventory; `logs/` and `sensors.csv`
are what the machines said themselves. `tools/` belongs to whoever attacked: nothing in it is for a model.
"""
_TAIL = """## What it does not cover

- One switch, one router, IPv4; no fieldbus but Modbus/TCP, MQTT and OPC UA; no wireless links, no vendor's firmware.
- Delay comes from queues only, and clocks are one clock. Every machine is a Linux host: its TCP is Linux's.
- Attacks are made by the public tools of everybody's training set (nmap, hping3) and by scripts of this project.
- `unknown` is a time in which nobody can tell whether a device showed what happened: it calls too seldom to be sure,
  lost too few packets, or was finding back afterwards; or it was plugged in for an event and has left with it.
- Quarter of an hour a run: nothing that needs days, as rhythms of shifts or slow drifts.
"""


def render_card(folders: Sequence[Path]) -> str:
    """Markdown about complete runs.

    Args:
        folders: of the runs, each with capture.pcap and truth.json.

    Raises:
        UserError: a run is incomplete or its truth cannot be read.
    """
    truths = [read_truth(folder / "truth.json") for folder in folders]
    runs = pd.DataFrame(
        {
            "run": [folder.name for folder in folders],
            "minutes": [f"{(truth.end_s - truth.start_s) / 60:.1f}" for truth in truths],
            "packets": [f"{len(read_records(folder / 'capture.pcap').ts):,}" for folder in folders],
            "MB": [f"{(folder / 'capture.pcap').stat().st_size / 1e6:.1f}" for folder in folders],
            "events": [len({(one.kind, one.cause) for one in truth.intervals}) for truth in truths],
        }
    )
    happens = ["\n## What happens\n", _table(_count(truths)), f"\n{_TAIL}"]
    return "\n".join([_HEAD, _table(runs), *happens])


def _count(truths: Sequence[Truth]) -> pd.DataFrame:
    """One row per label: its kinds, how often each happens, and for how long devices show it."""
    intervals = [(run, one) for run, truth in enumerate(truths) for one in truth.intervals]
    rows = pd.DataFrame(
        [(run, i.label, i.kind, i.cause, (i.end_s - i.start_s) / 60) for run, i in intervals],
        columns=["run", "label", "kind", "cause", "minutes"],
    )
    events = rows.drop_duplicates(["run", "kind", "cause"])
    counted = []
    for label in (*LABELS, UNKNOWN):
        kinds = events.loc[events["label"] == label, "kind"].value_counts()
        minutes = rows.loc[rows["label"] == label, "minutes"].sum()
        names = ", ".join(f"{kind} {count}" for kind, count in kinds.items()) or "none"
        counted.append((label, kinds.sum(), f"{minutes:.0f}", names))
    return pd.DataFrame(counted, columns=["label", "events", "device-minutes", "kinds"])


def _table(rows: pd.DataFrame) -> str:
    lines = [list(rows.columns), ["---"] * rows.shape[1], *rows.astype("str").to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
