"""The card of a recorded set: how it was made, what it holds, and what it does not cover."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from traffic.datasets.truth import Truth, read_truth
from traffic.labels import LABELS, UNKNOWN
from traffic.pcap.records import read_records

__all__ = ["render_card"]

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
    return "\n".join([_HEAD, _table(runs), "\n## What happens\n", _table(_count(truths)), f"\n{_TAIL}"])


def _count(truths: Sequence[Truth]) -> pd.DataFrame:
    """One row per label: its kinds, how often each happens, and for how long devices show it."""
    rows = pd.DataFrame(
        [
            {"run": number, "label": one.label, "kind": one.kind, "cause": one.cause, "length": one.end_s - one.start_s}
            for number, truth in enumerate(truths)
            for one in truth.intervals
        ],
        columns=["run", "label", "kind", "cause", "length"],
    )
    events = rows.drop_duplicates(["run", "kind", "cause"])
    kinds = events.groupby("label")["kind"].value_counts()
    return pd.DataFrame(
        [
            {
                "label": label,
                "events": int((events["label"] == label).sum()),
                "device-minutes": f"{rows.loc[rows['label'] == label, 'length'].sum() / 60:.0f}",
                "kinds": ", ".join(f"{kind} {n}" for kind, n in kinds.loc[label].items()) if label in kinds else "none",
            }
            for label in (*LABELS, UNKNOWN)
        ]
    )


def _table(rows: pd.DataFrame) -> str:
    lines = [list(rows.columns), ["---"] * rows.shape[1], *rows.astype("str").to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
