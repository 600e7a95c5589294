"""A sample cut out of a run: some machines, some time, only the heads of frames, and the truth of
just that."""

import shutil
import struct
from pathlib import Path

import pytest
from frames import arp_packet, ethernet, udp_packet, write_pcap
from typer.testing import CliRunner

from assistant.cli.main import app
from eval.testbed.dataset import excerpt
from traffic.datasets import load_labelled
from traffic.datasets.truth import Interval, Truth, read_truth, write_truth
from traffic.errors import UserError
from traffic.pcap.packets import read_packets
from traffic.plant import Device, Plant, dump_plant, load_plant

T = 1_700_000_000.0
PLC, HMI, OTHER = "10.20.0.5", "10.20.0.6", "10.20.0.7"

pytestmark = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")


def said(device: str, start_s: float, end_s: float, label: str = "service_down") -> Interval:
    times = {"start_s": T + start_s, "end_s": T + end_s}
    return Interval(
        device=device,
        label=label,
        direction="source",
        kind="k",
        cause="c",
        parameters={},
        root=PLC,
        **times,
    )


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
    intervals = (
        said(PLC, 10, 30),
        said(OTHER, 20, 40, "packet_loss"),
        said(HMI, 50, 90),
        said(PLC, 80, 95),
    )
    truth = Truth(
        seed=7, start_s=T, end_s=T + 100, complete=True, made_by="a test", intervals=intervals
    )
    write_truth(truth, folder / "truth.json")
    devices = [
        Device(name, address, "any")
        for name, address in (("plc-1", PLC), ("hmi-1", HMI), ("other", OTHER))
    ]
    (folder / "plant.yaml").write_text(dump_plant(Plant(tuple(devices))))
    return folder


def test_an_excerpt_holds_some_machines_for_some_time(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "sample"
    excerpt(run, out, ["plc-1", HMI], 20, 60)
    packets = read_packets([out / "capture.pcap"])
    assert set(packets.addresses) == {PLC, HMI}
    assert list(packets.table["ts"]) == [T + second + 0.25 for second in range(20, 60)]
    assert set(packets.table["ip_bytes"]) == {328}  # the wire's sizes stay, whatever was kept
    truth = read_truth(out / "truth.json")
    assert [(one.device, one.start_s - T, one.end_s - T) for one in truth.intervals] == [
        (PLC, 20, 30),
        (HMI, 50, 60),
    ]
    assert [device.name for device in load_plant(out / "plant.yaml").devices] == ["plc-1", "hmi-1"]
    assert load_labelled(out / "capture.pcap").name == "sample"


def test_what_comes_from_a_machine_that_is_left_out_is_unknown(run: Path, tmp_path: Path) -> None:
    excerpt(run, tmp_path / "sample", ["other", "hmi-1"], 0, 100)
    truth = read_truth(tmp_path / "sample" / "truth.json")
    assert [(one.device, one.label, one.direction) for one in truth.intervals] == [
        (OTHER, "unknown", ""),
        (HMI, "unknown", ""),
    ]


def test_frames_are_cut_to_their_heads(run: Path, tmp_path: Path) -> None:
    excerpt(run, tmp_path / "sample", ["plc-1", "hmi-1"], 0, 100)
    data = (tmp_path / "sample" / "capture.pcap").read_bytes()
    assert struct.unpack_from("<II", data, 24 + 8) == (42, 42)  # ARP comes whole
    assert struct.unpack_from("<II", data, 24 + 16 + 42 + 8) == (160, 342)
    assert len(data) == 24 + 16 + 42 + 100 * (16 + 160)


@pytest.mark.parametrize(
    ("machines", "start_s", "end_s", "words"),
    [
        (
            ["plc-9", "hmi-1"],
            0,
            10,
            "no machine is called plc-9; expected an address or one of plc-1, hmi-1, other",
        ),
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


def test_the_command_says_what_it_cut(run: Path, tmp_path: Path) -> None:
    given = [
        "testbed",
        "excerpt",
        str(run),
        "--out",
        str(tmp_path / "sample"),
        "--machine",
        "plc-1",
        "--machine",
        HMI,
    ]
    result = CliRunner().invoke(app, [*given, "--end", "100"])
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("sample: 18 kB, 100 s, 3 intervals\n")
