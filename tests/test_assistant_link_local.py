"""A device that gave itself an IPv6 address beside its own: it is listed, judged and blamed once."""

from dataclasses import replace

import pandas as pd
import pytest

from assistant.answers.incidents.condition import judge_all
from assistant.detection.pipeline import Analysis, analyse_verdicts
from assistant.diagnosis.device_states import list_devices
from assistant.diagnosis.diagnose import diagnose
from assistant.diagnosis.health import judge_health
from assistant.questions.entities import list_machines, read_devices
from tests.frames import ethernet, read, tcp_packet, udp_packet
from traffic.labels import LABELS
from traffic.plant import Device, Plant
from traffic.samples import make_samples
from traffic.windows import make_windows

PANEL, PLC = "172.19.4.30", "172.19.4.31"
PANEL_MAC, PLC_MAC = bytes.fromhex("02aa00000030"), bytes.fromhex("02aa00000031")
GROUP_MAC = bytes.fromhex("3333000000fb")
# What the panel made of its hardware address (RFC 4291, appendix A), and what the PLC drew (RFC 7217).
PANEL_LINK, PLC_LINK = "fe80::aa:ff:fe00:30", "fe80::8d1:77ff:4b02:9c"


def _polls(seconds: int) -> list[tuple[float, bytes]]:
    """A question and its answer every second, on one connection."""
    frames = []
    for i in range(seconds):
        ask = tcp_packet("PA", 1 + 12 * i, b"q" * 12, PANEL, PLC, 41000, 502)
        reply = tcp_packet("PA", 1 + 20 * i, b"r" * 20, PLC, PANEL, 502, 41000)
        frames.append((1000.0 + i, ethernet(ask, src=PANEL_MAC, dst=PLC_MAC)))
        frames.append((1000.02 + i, ethernet(reply, src=PLC_MAC, dst=PANEL_MAC)))
    return frames


def _names(link: str, mac: bytes, seconds: int) -> list[tuple[float, bytes]]:
    """Words to all on the link every five seconds (RFC 6762)."""
    packet = udp_packet(bytes(30), link, "ff02::fb", 5353, 5353)
    return [(1001.0 + i, ethernet(packet, 0x86DD, mac, GROUP_MAC)) for i in range(0, seconds, 5)]


def _analyse(path, frames, plant=None, odd="") -> Analysis:
    """With every window called normal, but those of ``odd``, which stay undecided."""
    found = read(path, sorted(frames))
    windows = make_windows(make_samples(found, plant))
    told = {"label": "normal", "abstained": False, "probability": 0.9, "direction": "source"}
    shares = {f"p_{label}": 0.9 if label == "normal" else 0.005 for label in LABELS}
    verdicts = windows.table.assign(**told, **shares)
    doubtful = verdicts["device"] == odd
    verdicts.loc[doubtful, "label"], verdicts.loc[doubtful, "abstained"] = "c2", True
    return analyse_verdicts(found, plant, windows, verdicts)


def test_a_link_local_address_is_no_device_beside_its_own(tmp_path):
    frames = [*_polls(300), *_names(PANEL_LINK, PANEL_MAC, 300), *_names(PLC_LINK, PLC_MAC, 300)]
    seen = _analyse(tmp_path, frames)
    assert set(seen.windows.table["device"]) == {PANEL, PLC, PANEL_LINK, PLC_LINK}  # as it was
    assert seen.view.machine_of(PANEL_LINK) == PANEL
    assert seen.view.addresses_of(PLC) == [PLC, PLC_LINK]
    assert sorted(list_machines(seen)) == [PANEL, PLC]
    assert sorted(one.address for one in list_devices(seen)) == [PANEL, PLC]
    assert len(judge_all(seen).devices) == 2
    assert read_devices(f"is {PLC_LINK} fine?", seen).devices == (PLC,)
    assert "fe80" not in diagnose("which devices are there?", seen, None).text


def test_what_cannot_be_decided_at_the_link_local_address_is_the_devices_own(tmp_path):
    frames = [*_polls(300), *_names(PANEL_LINK, PANEL_MAC, 300)]
    doubt = _analyse(tmp_path, frames, odd=PANEL_LINK)
    health = judge_health(PANEL, doubt.verdicts, doubt.view)
    assert (health.standing, health.reason, health.device) == ("inconclusive", "open", PANEL)
    assert judge_health(PLC, doubt.verdicts, doubt.view).standing == "normal"
    answer = diagnose("is everything ok?", doubt, None)
    assert answer.standing == "inconclusive"
    assert PANEL in answer.cause
    assert "fe80" not in answer.cause


def test_who_scans_from_its_link_local_address_is_the_device(tmp_path):
    probes = [
        (1100.0 + i / 10, ethernet(tcp_packet("S", 0, b"", PANEL_LINK, PLC_LINK, 50000 + i, 20 + i),
                                   0x86DD, PANEL_MAC, PLC_MAC))
        for i in range(60)
    ]  # fmt: skip
    refusals = [
        (ts + 0.001, ethernet(tcp_packet("RA", 0, b"", PLC_LINK, PANEL_LINK, 20 + i, 50000 + i),
                              0x86DD, PLC_MAC, PANEL_MAC))
        for i, (ts, _) in enumerate(probes)
    ]  # fmt: skip
    frames = [*_polls(300), *_names(PANEL_LINK, PANEL_MAC, 300), *_names(PLC_LINK, PLC_MAC, 300)]
    seen = _analyse(tmp_path, [*frames, *probes, *refusals])
    assert [(one.label, one.device) for one in seen.incidents] == [("recon", PANEL)]
    assert seen.incidents[0].peers == (PLC_LINK,)


@pytest.mark.parametrize(
    ("role", "known_by"), [("router", "172.19.4.30"), ("", "fe80::aa:ff:fe00:30")]
)
def test_a_router_lends_its_hardware_address_to_others_and_is_none_of_them(
    tmp_path, role, known_by
):
    """The address behind it comes with the router's hardware address, which is no sign of a double."""
    behind = [
        (ts + 0.3, ethernet(udp_packet(b"x" * 20, "172.19.9.8", PLC, 7000, 7001), 0x0800, PANEL_MAC, PLC_MAC))
        for ts in range(1000, 1300, 10)
    ]  # fmt: skip
    plant = Plant((Device("gate", PANEL, role),))
    frames = [*_polls(300), *behind, *_names(PANEL_LINK, PANEL_MAC, 300)]
    assert _analyse(tmp_path, frames, plant).view.machine_of(PANEL_LINK) == known_by


def test_without_hardware_addresses_nothing_is_joined(tmp_path):
    frames = [*_polls(60), *_names(PANEL_LINK, PANEL_MAC, 60)]
    found = read(tmp_path, sorted(frames))
    bare = found.flows.drop(columns=["orig_l2_addr", "resp_l2_addr"])
    found = replace(found, flows=bare)
    windows = make_windows(make_samples(found))
    empty = pd.DataFrame(
        {"device": [], "start_s": [], "end_s": [], "label": [], "abstained": [], "direction": []}
    )
    view = analyse_verdicts(
        found, None, windows, empty.assign(**{f"p_{one}": [] for one in LABELS})
    ).view
    assert view.machine_of(PANEL_LINK) == PANEL_LINK
