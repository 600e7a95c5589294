"""The card of a recorded set is counted from the runs, not written by hand."""

from pathlib import Path

import dpkt
import pytest

from eval.testbed.dataset import render_card
from traffic.datasets.truth import Interval, Truth, write_truth
from traffic.errors import UserError


def interval(device: str, start_s: float, label: str, kind: str) -> Interval:
    given = {
        "direction": "",
        "cause": f"{kind} happened at {start_s:g}",
        "parameters": {},
        "root": "10.0.0.1",
    }
    return Interval(
        device=device, start_s=start_s, end_s=start_s + 60, label=label, kind=kind, **given
    )


def write_run(folder: Path, packets: int, complete: bool = True, *intervals: Interval) -> Path:
    folder.mkdir()
    with (folder / "capture.pcap").open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for second in range(packets):
            writer.writepkt(bytes(60), ts=float(second))
    truth = Truth(
        seed=1, start_s=0.0, end_s=900.0, complete=complete, made_by="a test", intervals=intervals
    )
    write_truth(truth, folder / "truth.json")
    return folder


def test_runs_and_events_are_counted(tmp_path: Path) -> None:
    both = [interval(f"10.0.0.{host}", 100.0, "packet_loss", "packet_loss") for host in (1, 2)]
    scans = [interval("10.0.0.3", start_s, "recon", "nmap_syn") for start_s in (300.0, 500.0)]
    runs = [
        write_run(tmp_path / "run-1", 1234, True, *both),
        write_run(tmp_path / "run-2", 10, True, *scans),
    ]
    lines = render_card(runs).splitlines()
    assert "| run-1 | 15.0 | 1,234 | 0.1 | 1 |" in lines
    assert "| packet_loss | 1 | 2 | packet_loss 1 |" in lines  # one event that two devices show
    assert "| recon | 2 | 2 | nmap_syn 2 |" in lines
    assert "| ddos | 0 | 0 | none |" in lines


def test_an_incomplete_run_is_no_part_of_a_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="complete is false"):
        render_card([write_run(tmp_path / "run-1", 1, False)])
