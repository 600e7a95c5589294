"""Excerpts of a run, and the data card of a set: both say what is true of just what they hold."""

import shutil
import struct
from pathlib import Path

import pytest
from frames import arp_packet, ethernet, udp_packet, write_pcap
from typer.testing import CliRunner

from assistant.cli.main import app
from eval.testbed.dataset import excerpt, render_card
from traffic.datasets.labelled import load_labelled
from traffic.datasets.truth import Interval, Truth, read_truth, write_truth
from traffic.errors import UserError
from traffic.pcap.packets import read_packets
from traffic.plant import Device, Plant, dump_plant, load_plant

needs_tcpdump = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no tcpdump")
T = 1_700_000_000.0
PLC, HMI, OTHER = "10.20.0.5", "10.20.0.6", "10.20.0.7"
NOT_IN_PLANT = "no machine is called plc-9; expected an address or one of plc-1, hmi-1, other"


def interval(
    device: str, start_s: float, end_s: float, label: str = "service_down", kind: str = "crash"
) -> Interval:
    times = {"start_s": T + start_s, "end_s": T + end_s}
    what = {"kind": kind, "cause": f"{kind} at {start_s:g}", "parameters": {}, "root": PLC}
    return Interval(device=device, label=label, direction="source", **what, **times)


def truth_of(*intervals: Interval, end_s: float = 100, complete: bool = True) -> Truth:
    run = {"seed": 7, "start_s": T, "end_s": T + end_s, "complete": complete, "made_by": "a test"}
    return Truth(intervals=intervals, **run)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A hundred seconds: the HMI asks the PLC and somebody else in turn, 300 bytes every second."""
    folder = tmp_path / "run"
    folder.mkdir()
    frames = [(T, arp_packet(1, b"\x02" * 6, HMI, PLC))]
    for second in range(100):
        frames.append((T + second + 0.25, ethernet(udp_packet(bytes(300), HMI, PLC))))
        frames.append((T + second + 0.5, ethernet(udp_packet(bytes(300), HMI, OTHER))))
    write_pcap(folder / "capture.pcap", frames)
    intervals = [interval(PLC, 10, 30), interval(OTHER, 20, 40, "packet_loss")]
    intervals += [interval(HMI, 50, 90), interval(PLC, 80, 95)]
    write_truth(truth_of(*intervals), folder / "truth.json")
    names = {"plc-1": PLC, "hmi-1": HMI, "other": OTHER}
    devices = [Device(name, address, "any") for name, address in names.items()]
    (folder / "plant.yaml").write_text(dump_plant(Plant(tuple(devices))))
    return folder


@needs_tcpdump
def test_an_excerpt_holds_some_machines_for_some_time(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "sample"
    excerpt(run, out, ["plc-1", HMI], 20, 60)
    packets = read_packets([out / "capture.pcap"])
    assert set(packets.addresses) == {PLC, HMI}
    assert list(packets.table["ts"]) == [T + second + 0.25 for second in range(20, 60)]
    assert set(packets.table["ip_bytes"]) == {328}  # the wire's sizes stay, whatever was kept
    truth = read_truth(out / "truth.json")
    times = [(one.device, one.start_s - T, one.end_s - T) for one in truth.intervals]
    assert times == [(PLC, 20, 30), (HMI, 50, 60)]
    assert [device.name for device in load_plant(out / "plant.yaml").devices] == ["plc-1", "hmi-1"]
    assert load_labelled(out / "capture.pcap").name == "sample"


@needs_tcpdump
def test_what_comes_from_a_machine_that_is_left_out_is_unknown(run: Path, tmp_path: Path) -> None:
    excerpt(run, tmp_path / "sample", ["other", "hmi-1"], 0, 100)
    intervals = read_truth(tmp_path / "sample" / "truth.json").intervals
    labels = [(one.device, one.label, one.direction) for one in intervals]
    assert labels == [(OTHER, "unknown", ""), (HMI, "unknown", "")]


@needs_tcpdump
def test_frames_are_cut_to_their_heads(run: Path, tmp_path: Path) -> None:
    excerpt(run, tmp_path / "sample", ["plc-1", "hmi-1"], 0, 100)
    data = (tmp_path / "sample" / "capture.pcap").read_bytes()
    assert struct.unpack_from("<II", data, 24 + 8) == (42, 42)  # ARP comes whole
    assert struct.unpack_from("<II", data, 24 + 16 + 42 + 8) == (160, 342)
    assert len(data) == 24 + 16 + 42 + 100 * (16 + 160)


@needs_tcpdump
@pytest.mark.parametrize(
    ("machines", "start_s", "end_s", "words"),
    [
        (["plc-9", "hmi-1"], 0, 10, NOT_IN_PLANT),
        (["plc-1", "hmi-1"], 50, 40, "--start 50 --end 40 is no part of"),
        (["plc-1", "hmi-1"], 0, 101, "expected 0 to 100 s"),
        (["plc-1", "10.20.0.99"], 0, 100, "said nothing to each other"),
    ],
)
def test_what_cannot_be_cut_is_named(
    run: Path, tmp_path: Path, machines: list[str], start_s: float, end_s: float, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        excerpt(run, tmp_path / "sample", machines, start_s, end_s)
    assert not (tmp_path / "sample").exists()


@needs_tcpdump
def test_the_command_says_what_it_cut(run: Path, tmp_path: Path) -> None:
    given = ["testbed", "excerpt", str(run), "--out", str(tmp_path / "sample")]
    machines = ["--machine", "plc-1", "--machine", HMI]
    result = CliRunner().invoke(app, [*given, *machines, "--end", "100"])
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("sample: 18 kB, 100 s, 3 intervals\n")


# ---- The data card ----


def write_run(folder: Path, packets: int, truth: Truth) -> Path:
    folder.mkdir()
    frames = [(float(second), bytes(60)) for second in range(packets)]
    write_pcap(folder / "capture.pcap", frames)
    write_truth(truth, folder / "truth.json")
    return folder


def test_runs_and_events_are_counted(tmp_path: Path) -> None:
    losses = [interval(host, 100, 160, "packet_loss", "packet_loss") for host in (PLC, HMI)]
    scans = [interval(OTHER, at, at + 60, "recon", "nmap_syn") for at in (300, 500)]
    runs = [
        write_run(tmp_path / "run-1", 1234, truth_of(*losses, end_s=900)),
        write_run(tmp_path / "run-2", 10, truth_of(*scans, end_s=900)),
    ]
    lines = render_card(runs).splitlines()
    assert "| run-1 | 15.0 | 1,234 | 0.1 | 1 |" in lines
    assert "| packet_loss | 1 | 2 | packet_loss 1 |" in lines  # one event that two devices show
    assert "| recon | 2 | 2 | nmap_syn 2 |" in lines
    assert "| ddos | 0 | 0 | none |" in lines


def test_an_incomplete_run_is_no_part_of_a_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="complete is false"):
        render_card([write_run(tmp_path / "run-1", 1, truth_of(complete=False))])
