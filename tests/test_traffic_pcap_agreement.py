"""Protocols over real traces: counts are those of Zeek with ICSNPP's parsers, and of tshark."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets


def _exchanges(path: Path, protocol: str) -> pd.DataFrame:
    exchanges = make_flows(read_packets([path])).exchanges
    return exchanges[exchanges["protocol"] == protocol]


def _tshark(path: Path, shown: str, *fields: str) -> pd.DataFrame:
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    command = ["tshark", "-r", str(path), "-Y", shown, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return pd.DataFrame([line.split("\t") for line in lines], columns=list(fields))


def _zeek(path: Path) -> pd.DataFrame:
    lines = path.read_text().splitlines()
    names = next(line for line in lines if line.startswith("#fields")).split("\t")[1:]
    return pd.DataFrame([line.split("\t") for line in lines if line[0] != "#"], columns=names)


def test_bacnet_services_and_errors_are_those_of_icsnpp(shared):
    folder = shared / "data/protocols/bacnet"
    mine, log = _exchanges(folder / "capture.pcap", "bacnet"), _zeek(folder / "zeek/bacnet.log")
    asked = log[log["pdu_type"] == "CONFIRMED_REQUEST"]["pdu_service"].value_counts()
    assert mine["function"].value_counts().to_dict() == {
        12: asked["read_property"], 20: asked["reinitialize_device"], 256: 210, 264: 7,
    }  # fmt: skip
    refused = mine[mine["outcome"] == "refused"]
    assert len(refused) == (log["result_code"] == "password-failure").sum() == 90
    assert set(refused["code"]) == {1026}
    assert set(mine["outcome"]) == {"answered", "refused", "told"}


def test_bacnet_refusals_of_every_form(shared):
    mine = _exchanges(shared / "data/field/bacnet-error-reject-abort.pcap", "bacnet")
    codes = mine[mine["code"] > 0]["code"].tolist()
    assert sorted(codes) == [1026, 2009, 3000]  # one Error, one Reject, one Abort


def test_dnp3_requests_and_answers_are_those_of_zeek(shared):
    folder = shared / "data/protocols/dnp3"
    mine, log = _exchanges(folder / "capture.pcap", "dnp3"), _zeek(folder / "zeek/dnp3.log")
    assert (mine["answer_frame"] > 0).sum() + (mine["outcome"] == "unasked").sum() == (
        log["fc_reply"] == "RESPONSE"
    ).sum()
    assert (mine["function"] == 1).sum() == (log["fc_request"] == "READ").sum() == 97
    assert (mine["function"] == 130).sum() == log["fc_reply"].eq("UNSOLICITED_RESPONSE").sum() == 4
    control = _zeek(folder / "zeek/dnp3_control.log")
    selected = mine[mine["function"] == 3]
    assert len(selected) == (control["function_code"] == "SELECT").sum()
    assert set(selected["target"] & 0xFFFF) == set(
        control[control["function_code"] == "SELECT"]["index_number"].astype(int)
    )


@pytest.mark.parametrize("name", ["field/goose-only.pcap", "protocols/iec61850/mms-goose.pcap"])
def test_goose_numbers_are_those_of_tshark(shared, name):
    path = shared / "data" / name
    mine = _exchanges(path, "goose")
    theirs = _tshark(
        path, "goose", "frame.number", "eth.src", "goose.gocbRef", "goose.stNum", "goose.sqNum"
    )
    columns = ["frame", "client", "name", "target", "value"]
    assert mine[columns].astype(str).values.tolist() == theirs.values.tolist()


def test_profinet_stations_are_those_of_tshark(shared):
    path = shared / "data/protocols/profinet/capture.pcap"
    mine = _exchanges(path, "profinet")
    shown = "pn_dcp || pn_rt.frame_id == 0xfe01"
    name = "pn_dcp.suboption_device_nameofstation"
    theirs = _tshark(
        path, shown, "frame.number", "frame.time_relative", "eth.src", "pn_dcp.xid", name
    )
    frames = theirs["frame.number"].astype(int)
    since = (
        theirs["frame.time_relative"]
        .astype(float)
        .groupby([theirs["eth.src"], theirs["pn_dcp.xid"]])
    )
    copies = (since.diff() < 0.001).to_numpy()  # of the mirror port
    heard = {*mine["frame"], *mine["answer_frame"][mine["answer_frame"] > 0]}
    assert sorted(heard) == frames[~copies].tolist()
    named = mine[mine["name"].notna()]
    assert named["name"].tolist() == theirs.set_index(frames)[name][named["frame"]].tolist()
    # A switch that asks for its own name, once a minute, has no answer to wait for.
    assert set(mine[mine["outcome"] == "unanswered"]["name"]) == {"turck", "flm-pn-bk-2tx4"}


def test_iec104_asdus_are_those_of_tshark(shared):
    path = shared / "data/protocols/iec104/diverse.pcap"
    mine = _exchanges(path, "iec104")
    theirs = _tshark(path, "iec60870_asdu", "iec60870_asdu.typeid", "iec60870_asdu.causetx")
    pairs = [
        (int(kind), int(cause))
        for kinds, causes in theirs.values
        for kind, cause in zip(kinds.split(","), causes.split(","), strict=True)
    ]
    for kind in {kind for kind, _ in pairs}:
        asked = sum(1 for one, cause in pairs if one == kind and cause not in (7, 10))
        rows = mine[mine["function"] == kind]
        assert len(rows) == asked
        confirmed = sum(1 for one, cause in pairs if one == kind and cause == 7)
        assert (rows["outcome"] == "answered").sum() == confirmed
    tests = mine[mine["function"] == 256 + 0x43]  # of a test frame
    assert len(tests) == len(_tshark(path, "iec60870_104.utype == 0x10", "frame.number")) == 2


@pytest.mark.parametrize(
    ("name", "protocol", "asks", "answers"),
    [
        ("protocols/iec61850/mms-goose.pcap", "ntp", "ntp.flags.mode == 3", "ntp.flags.mode == 4"),
        ("iot23/honeypot-4-1", "dhcp", "dhcp.type == 1", "dhcp.type == 2"),
    ],
)
def test_questions_and_answers_are_those_of_tshark(shared, name, protocol, asks, answers):
    path = shared / "data" / name
    path = next(path.glob("*.pcap")) if path.is_dir() else path
    mine = _exchanges(path, protocol)
    assert (
        mine["frame"].tolist()
        == _tshark(path, asks, "frame.number")["frame.number"].astype(int).tolist()
    )
    theirs = _tshark(path, answers, "frame.number")["frame.number"].astype(int).tolist()
    assert sorted(mine["answer_frame"][mine["answer_frame"] > 0]) == theirs


def test_hart_requests_and_answers_are_those_of_tshark(shared):
    path = shared / "data/protocols/hartip/capture.pcap"
    mine = _exchanges(path, "hart_ip")
    frames = "frame.number", "hart_ip.transaction_id", "hart_ip.pt.command"
    asked = _tshark(path, "hart_ip.message_type == 0", *frames)
    answered = _tshark(path, "hart_ip.message_type == 1", *frames)
    assert mine["frame"].tolist() == asked["frame.number"].astype(int).tolist()
    assert mine["answer_frame"].tolist() == answered["frame.number"].astype(int).tolist()
    commands = asked["hart_ip.pt.command"]
    passed = (commands != "").to_numpy()
    assert mine["function"][passed].tolist() == commands[passed].astype(int).tolist()


def test_phasor_frames_are_those_of_tshark(shared):
    path = shared / "data/protocols/c37118/pmu.pcap"
    mine = _exchanges(path, "synchrophasor")
    theirs = _tshark(path, "synphasor", "frame.number", "synphasor.frtype", "synphasor.command")
    theirs = theirs.assign(kind=[int(one, 16) for one in theirs["synphasor.frtype"]])
    frames = theirs["frame.number"].astype(int)
    assert mine[mine["kind"] == "publish"]["frame"].tolist() == frames[theirs["kind"] == 0].tolist()
    commands = theirs[theirs["kind"] == 4]
    mine = mine[mine["kind"] != "publish"]
    assert mine["function"].tolist() == [int(one, 16) for one in commands["synphasor.command"]]
    assert mine["answer_frame"].max() == frames[theirs["kind"] == 3].iloc[0]


def test_melsoft_requests_and_answers_are_as_many_as_their_bytes_tell(shared):
    path = shared / "data/protocols/melsec/clean.pcap"
    mine = _exchanges(path, "melsoft")
    for shown, frames in (
        ("udp.payload[0:1] == 57 || udp.payload[0:1] == 5a", mine["frame"]),
        ("udp.payload[0:1] == d7 || udp.payload[0:1] == da", mine["answer_frame"]),
    ):
        theirs = _tshark(path, shown, "frame.number")["frame.number"].astype(int)
        assert sorted(frames) == theirs.tolist()
        assert len(theirs) == 216
    assert set(mine["server"]) == {"192.168.3.250"}
