"""``faultwise prove``: what a fact counts, tshark counts in the same frames."""

import json
import re
import shutil
from pathlib import Path

import pytest

from assistant.cli.main import main

FIELD = Path(__file__).parents[2] / "shared" / "data" / "field"

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


def read_incidents(capture: Path, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    assert main(["incidents", str(capture), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


@needs_tshark
@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("modbus-on-502-illegal-address.pcap", 300),
        ("modbus-on-5020-illegal-address.pcap", 300),  # tshark has to be told of the port
        ("dns-servfail.pcap", 299),
    ],
)
def test_tshark_counts_what_the_fact_says(name: str, counted: int, capsys) -> None:
    (incident,) = read_incidents(FIELD / name, capsys)
    assert main(["prove", incident["id"], "--capture", str(FIELD / name)]) == 0
    shown = capsys.readouterr().out
    assert f"{counted} frames, as counted" in shown
    first = incident["facts"][0]
    assert main(["prove", first["id"], "--capture", str(FIELD / name)]) == 0
    alone = capsys.readouterr().out
    assert alone.startswith(first["id"])
    assert alone.rstrip() == shown.split("\n\n")[0].rstrip()


@needs_tshark
def test_a_fact_without_a_filter_of_its_own_points_at_its_incident(capsys) -> None:
    capture = FIELD / "modbus-on-502-illegal-address.pcap"
    (incident,) = read_incidents(capture, capsys)
    (own,) = (one for one in incident["facts"] if one["proof"] is None)
    assert main(["prove", own["id"], "--capture", str(capture)]) == 0
    shown = capsys.readouterr().out
    assert f"frame.time_epoch >= {incident['start_s']:.3f}" in shown
    assert re.search(r"tshark: +[1-9][\d,]* frames, those counted among them", shown)


def test_a_log_has_no_packets_to_show(capsys) -> None:
    log = Path(__file__).parents[1] / "assistant" / "samples" / "bottling-line" / "conn.log"
    incidents = read_incidents(log, capsys)
    assert main(["prove", incidents[0]["id"], "--capture", str(log)]) == 0
    assert "not checked:    the capture is a log and holds no packets" in capsys.readouterr().out


def test_what_is_not_there_is_said_with_what_is(capsys) -> None:
    capture = FIELD / "dns-servfail.pcap"
    (incident,) = read_incidents(capture, capsys)
    assert main(["prove", "fact-7", "--capture", str(capture)]) == 2
    error = capsys.readouterr().err
    assert "nothing is called fact-7 here" in error
    assert incident["id"] in error
