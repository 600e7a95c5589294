"""Field cases that are made: laws of what is drawn, of what a sensor does, and two that are played."""

import json
import re
import socket
import struct
import subprocess
import sys
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from random import Random
from shutil import which

import dpkt
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eval.testbed.cases.case import CaseTruth, Draw, Scene, accelerate
from eval.testbed.cases.catalogue import KINDS, adapt_truth, draw_scene
from eval.testbed.cases.stage import SERVERS, name_local, record_scene
from eval.testbed.host import check_host
from eval.testbed.sensor import (
    DEGRADATIONS,
    Frame,
    degrade,
    read_frames,
    restamp,
    write_frames,
)  # fmt: skip
from traffic.errors import UserError
from traffic.plant import is_local

# ---- What is drawn ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_draws_other_plants_with_a_truth_that_fits_them(kind: str) -> None:
    scenes = [draw_scene(kind, seed) for seed in range(1, 6)]
    assert len({scene.site.network for scene in scenes}) > 1
    for scene in scenes:
        check_scene(scene, kind)


def check_scene(scene: Scene, kind: str) -> None:
    machines, truth = scene.site.machines, scene.truth
    addresses = [machine.address for machine in machines]
    assert len(set(addresses)) == len(addresses)
    assert len({machine.name for machine in machines}) == len(machines)
    assert all(ip_address(address) for address in addresses)
    for machine in machines:
        json.dumps(dict(machine.settings))  # plain values, which a process can be given
        assert len(machine.name) <= 12
        if machine.program in SERVERS:  # the stage waits until it listens
            assert machine.settings.get("front", machine.settings)["port"] > 0
    assert 120 <= scene.length_s <= 5000
    assert set(scene.late) <= {machine.name for machine in machines}
    assert set(re.findall(r"\{(\w+?)(?:_first_s|_last_s)?\}", truth.right)) <= set(truth.measures)
    for pattern in (*truth.must, *truth.must_not):
        re.compile(pattern)
    # Who asks about a plant on public addresses says which are its own.
    private = is_local(pd.Series(addresses[:1])).all()
    assert name_local(scene) == ({} if private else {"local": [scene.site.network]})
    if kind.startswith("healthy"):
        assert truth.standing in [("normal",), ("normal", "inconclusive")]
        assert not truth.device
    else:
        known = (
            {*addresses, truth.device}
            if truth.facts.get("label") == "device_silent"
            else {*addresses}
        )
        assert truth.device in known
        assert truth.must


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same_case(kind: str) -> None:
    one, two = (draw_scene(kind, 3) for _ in range(2))
    assert (one.site, one.truth, one.length_s) == (two.site, two.truth, two.length_s)


def test_time_is_shortened_and_what_is_said_on_the_wire_is_not() -> None:
    settings = {
        "poll_s": 2.0,
        "port": 502,
        "keepalive_s": 30,
        "retry": {"first_s": 4.0, "factor": 2},
    }
    assert accelerate({"polled": [settings]}, 4) == {
        "polled": [{"poll_s": 0.5, "port": 502, "keepalive_s": 30, "retry": {"first_s": 1.0, "factor": 2}}]
    }  # fmt: skip


# ---- What a sensor does ----

ONE, TWO = "10.1.0.5", "10.1.0.9"


def make_frame(src: str = ONE, dst: str = TWO, ttl: int = 64, payload: bytes = b"x" * 40) -> bytes:
    udp = dpkt.udp.UDP(sport=1000, dport=2000, data=payload)
    udp.ulen = len(udp)
    ip = dpkt.ip.IP(src=socket.inet_aton(src), dst=socket.inet_aton(dst), ttl=ttl, p=17, data=udp)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(src=b"\2\0\0\0\0\5", dst=b"\2\0\0\0\0\t", data=ip))


def apply(name: str, *raws: bytes) -> list[Frame]:
    frames = [Frame(10**6 * number, raw, len(raw)) for number, raw in enumerate(raws)]
    return DEGRADATIONS[name].apply(frames, Random(1))


@pytest.mark.parametrize(
    ("name", "unwrap"),
    [
        ("vlan", lambda frame: frame.data),
        ("qinq", lambda frame: frame.data),
        ("pppoe", lambda frame: frame.data.data.data),
        ("mpls", lambda frame: frame.data),
        ("gre", lambda frame: frame.data.data.data),
        ("vxlan", lambda frame: dpkt.ethernet.Ethernet(frame.data.data.data[8:]).data),
        # GRE's header is 8 bytes with its sequence number, ERSPAN's 8 more.
        ("erspan", lambda frame: dpkt.ethernet.Ethernet(bytes(frame.data.data)[16:]).data),
    ],
)
def test_an_envelope_holds_the_packet_as_it_was(name: str, unwrap) -> None:
    raw = make_frame()
    (wrapped,) = apply(name, raw)
    assert bytes(unwrap(dpkt.ethernet.Ethernet(wrapped.raw))) == raw[14:]
    assert wrapped.length == len(wrapped.raw) > len(raw)
    outer = dpkt.ethernet.Ethernet(wrapped.raw).data
    if isinstance(outer, dpkt.ip.IP) and name in ("gre", "vxlan", "erspan"):
        checksum, outer.sum = outer.sum, 0
        assert dpkt.ip.IP(bytes(outer)).sum == checksum  # dpkt makes it anew


def test_copies_are_those_of_a_mirror_port() -> None:
    up, down = make_frame(ONE, TWO), make_frame(TWO, ONE)
    both = apply("mirror_both", up, down)
    assert [(one.ts_us, one.raw) for one in both] == [
        (0, up),
        (1, up),
        (10**6, down),
        (10**6 + 1, down),
    ]
    assert [one.raw for one in apply("mirror_one", up, down)] == [up, up, down]
    first, copy = apply("mirror_routed", up)
    assert first.raw == up
    before, after = dpkt.ethernet.Ethernet(up), dpkt.ethernet.Ethernet(copy.raw)
    assert (after.data.ttl, after.data.id) == (63, before.data.id)
    assert after.src != before.src
    checksum, after.data.sum = after.data.sum, 0
    assert dpkt.ip.IP(bytes(after.data)).sum == checksum


def test_cuts_drops_and_jumps() -> None:
    up, down = make_frame(ONE, TWO), make_frame(TWO, ONE)
    (cut,) = apply("snaplen_54", up)
    assert (len(cut.raw), cut.length) == (54, len(up))
    assert [one.raw for one in apply("one_way", up, down, up)] == [up, up]
    assert [one.ts_us / 1e6 for one in apply("clock_ahead", up, up)] == [0, 3601]
    assert 600 <= len(apply("drops_30", *[up] * 1000)) <= 800


@given(st.lists(st.tuples(st.integers(0, 2**31), st.binary(min_size=14, max_size=90))))
def test_frames_of_any_content_survive_a_file_and_every_degradation(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.mktemp("pcap") / "a.pcap"
    frames = [Frame(ts, raw, len(raw)) for ts, raw in rows]
    write_frames(path, frames)
    assert read_frames(path) == frames
    for degradation in DEGRADATIONS.values():
        for frame in degradation.apply([one for one in frames if len(one.raw) > 34], Random(1)):
            assert len(frame.raw) <= frame.length


def test_a_capture_is_stretched(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", [Frame(5_000_000, b"a" * 20, 20), Frame(7_500_000, b"b" * 20, 20)])
    restamp(tmp_path / "a", tmp_path / "b", 100.0, 4.0)
    assert [one.ts_us for one in read_frames(tmp_path / "b")] == [100_000_000, 110_000_000]


def test_what_is_no_such_pcap_and_an_unknown_degradation_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 99, 1))
    with pytest.raises(UserError, match="is no pcap of Ethernet frames in microseconds"):
        read_frames(tmp_path / "a")
    with pytest.raises(
        UserError, match="no degradation is called rain; expected some of mirror_one"
    ):
        degrade(tmp_path / "a", tmp_path / "b", ["rain"], 1)


def test_a_blind_sensor_leaves_one_right_answer() -> None:
    case = {"standing": ["likely"], "must": ["refus"], "facts": {"port": 502}, "measured": {"a": 1}}
    blind = adapt_truth(case, "one_way")
    assert (blind["standing"], blind["must"]) == (
        ["inconclusive"],
        ["one direction|one side|one way"],
    )
    assert "measured" not in blind
    wrapped = adapt_truth(case, "vxlan")
    assert wrapped == {**case, "facts": {"port": 502, "degradation": "vxlan"}}


# ---- Two cases that are played, outside this process, whose network ends at this machine ----


@pytest.fixture(scope="module")
def _lab() -> None:
    try:
        check_host()
    except UserError as reason:
        pytest.skip(str(reason))
    if which("tshark") is None:
        pytest.skip("cases are counted by tshark, which is not installed")


@pytest.mark.usefixtures("_lab")
def test_a_case_is_recorded_with_what_tshark_counts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eval.testbed.cases", str(tmp_path), "--seed", "2"]
    subprocess.run(
        [*command, "--kind", "modbus_one_address_refused", "--seconds", "30"], check=True
    )
    (case,) = yaml.safe_load((tmp_path / "cases.yaml").read_text())
    counts = {name: one["count"] for name, one in case["measured"].items()}
    assert counts["refused"] >= 10
    assert abs(counts["refused"] - counts["asked"]) <= 1  # all of them, but for one at the very end
    assert f"all {counts['refused']} reads" in case["right"]
    frames = read_frames(tmp_path / case["capture"])
    # 30 s, played in 10 and stretched again.
    assert 15 < (frames[-1].ts_us - frames[0].ts_us) / 1e6 < 45
    assert {str(address) for address in (case["facts"]["device"], *case["facts"]["peers"])} <= {
        str(host) for host in Draw("modbus_one_address_refused", 2).network.hosts()
    }


# Each shows that a program starts and is asked, is answered well, and refuses as its standard says.
REFUSING = {
    "s7_object_missing": "snap7", "cip_error_0x08": "cpppo", "opcua_node_unknown": "asyncua",
    "opcua_access_denied": "asyncua", "bacnet_unknown_object": "bacpypes3",
    "bacnet_unrecognized_service": "bacpypes3", "iec104_unknown_station": "c104",
    "dnp3_command_refused": "dnp3", "dns_servfail": "dns", "mqtt_bad_password_v5": "paho",
}  # fmt: skip


@pytest.fixture(scope="module")
def refusing(_lab: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case for each program, played at once; those whose library is not installed are left out."""
    out = tmp_path_factory.mktemp("refusing")
    # The rarest request is one in 15 s; a machine with much to do loses the first few of them.
    command = [sys.executable, "-m", "eval.testbed.cases", str(out), "--seconds", "60"]
    there = [kind for kind, library in REFUSING.items() if find_spec(library)]
    subprocess.run([*command, "--at-once", "10", *(f"--kind={kind}" for kind in there)])
    return out


@pytest.mark.parametrize("kind", REFUSING)
def test_a_program_answers_and_refuses_as_its_protocol_says(refusing: Path, kind: str) -> None:
    if not find_spec(REFUSING[kind]):
        pytest.skip(f"{REFUSING[kind]} is not installed")
    made = refusing / f"{kind}-1.yaml"
    assert made.exists(), (refusing / "logs" / f"{kind}-1" / "stage.log").read_text()
    (case,) = yaml.safe_load(made.read_text())
    assert all(one["count"] >= 1 for one in case["measured"].values())


@pytest.mark.usefixtures("_lab")
def test_a_case_whose_program_dies_is_not_made(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, str(Path(__file__).resolve()), str(tmp_path)])
    assert run.returncode == 1
    assert (
        "plc-1 does not listen at port 502"
        in (tmp_path / "logs" / "broken" / "stage.log").read_text()
    )
    assert not (tmp_path / "broken.pcap").exists()


def play_broken(out: Path) -> bool:
    draw = Draw("a test", 2)
    draw.add("plc", "plc", port=502)  # it has no unit, and fails
    scene = Scene(draw.site(), CaseTruth("", ""), length_s=30.0)
    return record_scene(scene, "broken", out, 0.0)


if __name__ == "__main__":
    sys.exit(not play_broken(Path(sys.argv[1])))
