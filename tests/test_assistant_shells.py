"""Sessions at ports that are known for shells from afar: told with when and how much, and proving nothing."""

import pytest
from tables import DEVICE, PLC, capture, flow, unanswered

from assistant.answers.answer import answer
from assistant.detection.pipeline import analyse_capture
from assistant.diagnosis.shells import find_shell_sessions, read_shell_ports
from assistant.session import load_models, open_session
from assistant.settings import Settings
from traffic.zeek.sessions import make_sessions

MASTER = "192.168.1.5"


def _analyse(tmp_path, *rows):
    polls = [
        flow(1000 + 5 * n, MASTER, one, 502, id__orig_p=50000 + 2 * n + place)
        for n in range(60)
        for place, one in enumerate((DEVICE, PLC))
    ]
    made = capture(*polls, *rows)
    object.__setattr__(made, "sessions", make_sessions(made.flows, 1400.0))
    models = load_models(Settings(home=tmp_path))
    return analyse_capture(made, models.llm, models.card)


def _session(port: int = 4444, **more):
    return flow(1050, DEVICE, PLC, port, duration=20.0, orig_bytes=74_653.0, resp_bytes=1_172.0,
                orig_pkts=65.0, resp_pkts=33.0, orig_ip_bytes=78_000.0, resp_ip_bytes=2_600.0, **more)  # fmt: skip


def test_such_a_session_is_told_with_when_how_much_and_what_the_port_is_known_for(tmp_path):
    analysis = _analyse(tmp_path, _session())
    said = answer("is there a reverse shell anywhere?", analysis)
    assert said.cause.startswith(f"Cannot tell: {DEVICE} had a session with {PLC} at TCP port 4444")
    assert "it sent 74.7 kB and received 1.2 kB" in said.cause
    assert "known for shells of the Metasploit Framework" in said.cause
    assert "proves no intruder" in said.text
    assert "nothing but TCP port 502 (Modbus)" in said.text
    assert said.standing == "inconclusive"
    health = answer(f"is there a hacker on {DEVICE}?", analysis)
    assert "known for shells of the Metasploit Framework" in health.text
    assert "16:40" not in health.cause  # seconds of a clock that begins at 0
    what = answer("what is port 4444 known for?", analysis)
    assert what.cause.startswith(f"{DEVICE} had a session")
    assert said.removed + health.removed + what.removed == 0


@pytest.mark.parametrize(
    "row",
    [
        _session(8080),  # no such port
        _session(service="http"),  # what is spoken there is known
        unanswered(1050, DEVICE, PLC, 4444),  # nobody listens there
        _session()
        | {"id.orig_h": "203.0.113.5", "id.resp_h": "203.0.113.6"},  # none of the plant's
    ],
)
def test_what_is_none_is_not_told_as_one(tmp_path, row):
    analysis = _analyse(tmp_path, row)
    assert find_shell_sessions(analysis.view).empty
    said = answer("is there a reverse shell anywhere?", analysis)
    assert said.cause.startswith("Cannot tell: no session at a port that is known for shells")
    assert said.removed == 0


def test_each_port_says_where_it_is_known_from():
    assert all(one.known_for and one.source for one in read_shell_ports().values())


def test_the_session_of_a_shared_capture_is_told(shared):
    folder = shared / "data" / "modbus"
    with open_session(Settings()) as session:
        analysis = session.analyse(folder / "CnC_uploading_exe_modbus_6RTU_with_operate.pcap")
        said = answer("is there a hacker on 192.168.1.101 or 105", analysis)
        file = answer("was a file uploaded to 192.168.1.105", analysis)
    # tshark: 192.168.1.101:1630 to 192.168.1.105:4444, 45.6 s to 65.8 s, 74,653 and 1,172 bytes of payload
    assert "is on TCP port 4444 with 192.168.1.105" in said.cause
    assert "known for shells of the Metasploit Framework" in said.cause
    assert "from 2015-02-24 17:19:06 UTC to 17:19:26" in said.text
    assert "it sent 74.7 kB and received 1.2 kB" in said.text
    assert "nothing but TCP port 502 (Modbus)" in said.text
    assert not said.cause.startswith(("Yes", "No:"))
    assert file.cause.startswith("Cannot tell: 192.168.1.101 sent 7")
    assert "to 192.168.1.105, TCP port 4444" in file.cause
    assert said.removed == 0
