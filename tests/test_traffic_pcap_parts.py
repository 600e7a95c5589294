"""A capture read in parts is the capture read at once: every table, every count, every note."""

from pathlib import Path

import pandas as pd
import pytest
from frames import client, server, write_pcap

from traffic.capture import SAMPLE_S, Capture
from traffic.device_view import Share, select_share
from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets
from traffic.pcap.parts import read_large
from traffic.samples import make_samples

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
# Copies by a mirror port, clients of DHCP, frames without IP, ARP, resets, tunnels, fragments, drops.
CAPTURES = (
    "home/ultraloq-hub-01.pcap",
    "field/modbus-periodic-timeout.pcap",
    "field/mqtt-one-client-id-twice.pcap",
    "modbus/CnC_uploading_exe_modbus_6RTU_with_operate.pcap",
    "protocols/profinet/capture.pcap",
    "protocols/bacnet/capture.pcap",
    "protocols/opcua/read.pcap",
    "quickdraw/CL5000EIP-Software-Download-Failure.pcap",
)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Categories by their names: a part numbers them in its own order."""
    words = [c for c in table if isinstance(table[c].dtype, pd.CategoricalDtype)]
    return table.astype(dict.fromkeys(words, object))


def assert_same(whole: Capture, parts: Capture) -> None:
    for name in ("flows", "activity", "evidence", "sessions", "exchanges", "identities"):
        pd.testing.assert_frame_equal(*(_plain(getattr(one, name)) for one in (whole, parts)))
    for name in ("devices", "unread", "envelopes", "drops", "holes"):
        pd.testing.assert_frame_equal(*(getattr(one.quality, name) for one in (whole, parts)))
    pd.testing.assert_series_equal(whole.quality.whole, parts.quality.whole)
    assert whole.notes == parts.notes


@pytest.mark.parametrize("name", CAPTURES)
def test_parts_are_the_whole(name):
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert_same(make_flows(read_packets([path])), read_large([path], part_packets=100))


def test_several_files_in_parts_and_a_clock_that_was_set_back(tmp_path):
    def talk(start_s: float, n: int, seq: int = 0) -> list:
        asked = [client(start_s + i, "PA", seq + i, b"x") for i in range(n)]
        return sorted(
            asked + [server(start_s + i + 0.1, "A") for i in range(n)], key=lambda p: p[0]
        )

    paths = [
        write_pcap(tmp_path / "a.pcap", talk(1000.0, 40) + talk(500.0, 40, 40)),
        write_pcap(tmp_path / "b.pcap", talk(700.0, 10)),
    ]
    whole = make_flows(read_packets(paths))
    assert len(whole.quality.holes) == 1
    assert_same(whole, read_large(paths, part_packets=7))


def test_samples_of_shares_are_those_of_all_devices(tmp_path):
    path = SHARED / CAPTURES[1]
    if not path.is_file():
        pytest.skip(f"no {path}")
    capture = read_large([path], whole=False)
    assert not len(capture.exchanges) + len(capture.sessions)
    end_slot = round(capture.end_s / SAMPLE_S) - 1
    shares = [Share(number, 3, end_slot) for number in range(3)]
    parts = [make_samples(select_share(capture, one), share=one) for one in shares]
    assert sum(len(part) > 0 for part in parts) > 1
    joined = pd.concat(parts).sort_values(["device", "start_s"], ignore_index=True)
    pd.testing.assert_frame_equal(make_samples(capture), joined)
