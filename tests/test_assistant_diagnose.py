"""A diagnosis says what the numbers say, as sure as they are, about the device that was asked
for."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bottling_line import (
    CAMERA,
    CONTROLLER,
    PANEL,
    PLC,
    SPARE,
    START,
    YARD,
    beacon,
    loss,
    make_analysis,
    silence,
)
from tables import capture, flow

from assistant.detection.pipeline import analyse_verdicts
from assistant.diagnosis import diagnose
from assistant.diagnosis.grounding import check, read_quantities
from assistant.diagnosis.investigate import investigate
from assistant.diagnosis.playbook import FOLDER, read_health_playbook, read_playbook
from assistant.diagnosis.standing import judge, lower
from assistant.diagnosis.symptoms import find_symptoms
from assistant.facts.fact import Fact, make_fact
from assistant.questions.entities import read_devices
from knowledge_base.index import open_index
from knowledge_base.retriever import find_passage
from traffic.capture import Capture
from traffic.labels import LABELS
from traffic.samples import make_samples
from traffic.windows import make_windows


@pytest.mark.parametrize(
    ("question", "devices", "missing"),
    [
        ("why is 192.168.1.20 odd?", [CAMERA], []),
        ("why is 192.168.1.20:554 odd", [CAMERA], []),
        ("what is wrong with cam-1", [CAMERA], []),
        ("what is wrong with CAM 1?", [CAMERA], []),
        ("the gate camera is slow", [CAMERA], []),
        ("the gate camra is slow", [CAMERA], []),
        ("plc-2 vs plc-1", [SPARE, PLC], []),
        ("who has 00-11-22-33-44-55", [SPARE], []),
        ("why is the camera slow?", [CAMERA, YARD], []),  # the one with the worse incident first
        ("why is the webcam slow?", [CAMERA, YARD], []),
        ("why does the download to the controller fail", [SPARE, PLC], []),
        ("press pannel is frozen", [PANEL], []),
        ("the touchscreen is frozen", [PANEL], []),
        ("is camera 2 fine?", [YARD], []),
        ("what about plc-9?", [], ["plc-9"]),
        ("what about 10.9.9.9?", [], ["10.9.9.9"]),
        ("what about 999.1.1.1 at 08:22:30?", [], []),
        ("is anything wrong?", [], []),
    ],
)
def test_the_device_of_a_question(line, question, devices, missing):
    asked = read_devices(question, line)
    assert (list(asked.devices), list(asked.missing)) == (devices, missing)


def test_a_peer_is_no_device_but_its_incident_is_found(line):
    asked = read_devices(f"who is {CONTROLLER}?", line)
    assert (asked.devices, asked.peers) == ((), (CONTROLLER,))
    assert investigate(f"who is {CONTROLLER}?", line).incident.id == "c2-0a1b2c3d"


def test_without_a_device_the_worst_incident_answers(line):
    assert diagnose("what is going on?", line, None).label == "c2"


def test_a_symptom_prefers_incidents_it_fits(line):
    assert diagnose("why is everything slow?", line, None).label == "packet_loss"


def test_an_unanswered_beacon_is_never_confirmed_and_both_causes_are_named(line):
    diagnosis = diagnose("why is cam-1 odd?", line, None)
    assert diagnosis.standing == "likely"
    assert read_playbook("c2").doubt in diagnosis.text


def test_an_answered_beacon_with_a_sure_verdict_is_confirmed_without_doubt():
    diagnosis = diagnose("why is cam-1 odd?", make_analysis((beacon(sessions=3.0),)), None)
    assert diagnosis.standing == "confirmed"
    assert read_playbook("c2").doubt not in diagnosis.text


@pytest.mark.parametrize(
    ("incident", "verdict", "standing"),
    [
        (beacon(sessions=3.0), {"probability": 0.6}, "likely"),
        (beacon(sessions=3.0), {"abstained": True}, "inconclusive"),
        (beacon(sessions=3.0), {"label": "normal"}, "inconclusive"),  # no window says so
        (beacon(sessions=3.0, start_s=START + 9e5, end_s=START + 9.1e5), {}, "inconclusive"),
        (silence(), {}, "confirmed"),  # evident: no model was asked
    ],
)
def test_the_standing_is_gated_by_evidence(incident, verdict, standing):
    analysis = make_analysis((incident,), **verdict)
    assert diagnose("what is wrong?", analysis, None).standing == standing


@pytest.mark.parametrize(
    ("sure", "unsure", "standing"), [(4, 6, "inconclusive"), (30, 90, "likely"), (6, 4, "likely")]
)
def test_many_sure_windows_are_not_taken_back_by_more_unsure_ones(sure, unsure, standing):
    incident = beacon(sessions=3.0, end_s=START + 2000.0)
    starts = START + 10.0 * np.arange(sure + unsure)
    windows = pd.DataFrame(
        {"device": CAMERA, "start_s": starts, "end_s": starts + 60.0, "label": "c2"}
    )
    windows["abstained"] = np.arange(len(windows)) >= sure
    windows["probability"] = 0.7
    assert judge(incident, windows, incident.facts) == standing


@pytest.mark.parametrize(
    ("peak_pkts_per_s", "answered_share", "standing"),
    [(40.0, 1.0, "inconclusive"), (40.0, 0.9, "confirmed"), (100.0, 1.0, "confirmed")],
)
def test_a_flood_that_is_answered_and_no_more_than_a_device_sends_is_only_suspected(
    peak_pkts_per_s, answered_share, standing
):
    facts = (
        make_fact("flood", "{source} sent much.", {"source": CAMERA}),
        make_fact("rate", "At most {peak_pkts_per_s}.", {"peak_pkts_per_s": peak_pkts_per_s}),
        make_fact("served", "{answered_share} of it.", {"answered_share": answered_share}),
    )
    incident = replace(beacon(), label="dos", facts=facts)
    windows = pd.DataFrame(
        {"device": [CAMERA], "start_s": [START], "end_s": [START + 60.0], "label": ["dos"],
         "abstained": [False], "probability": [0.9]}
    )  # fmt: skip
    assert judge(incident, windows, facts) == standing


def test_two_contacts_are_no_beacon():
    contact = make_fact("contact", "It called {attempts:time}.", {"attempts": 2, "sessions": 2})
    incident = replace(beacon(), facts=(contact,))
    windows = pd.DataFrame(
        {"device": [CAMERA], "start_s": [START], "end_s": [START + 60.0], "label": ["c2"],
         "abstained": [False], "probability": [0.9]}
    )  # fmt: skip
    assert judge(incident, windows, incident.facts) == "inconclusive"


def test_numbers_that_deny_a_label_make_it_inconclusive():
    # The capture's history holds no letter T: nothing was sent again.
    diagnosis = diagnose("what is wrong with cam-2?", make_analysis((loss(),)), None)
    assert diagnosis.standing == "inconclusive"
    assert diagnosis.cause.startswith("Not certain: cam-2 (192.168.1.21) loses packets")


def test_one_step_less_sure():
    assert [lower(one) for one in ("confirmed", "likely", "inconclusive", "normal")] == [
        "likely", "inconclusive", "inconclusive", "inconclusive",
    ]  # fmt: skip


def test_a_fact_that_does_not_say_its_own_values_is_left_out_and_lowers_nothing_else():
    forged = Fact(
        "contact-x", "It contacted 198.51.100.7 exactly 777 times.", {"attempts": 12.0}, (START,)
    )
    diagnosis = diagnose("cam-1?", make_analysis((beacon(forged, sessions=3.0),)), None)
    assert "777" not in diagnosis.text
    assert "198.51.100.7" not in diagnosis.text
    assert forged not in diagnosis.facts
    assert any("did not pass the check" in note for note in diagnosis.notes)


@pytest.mark.parametrize(
    ("question", "standing", "note"),
    [
        ("what is wrong?", "likely", "was removed; the answer counts as less sure for it."),
        ("is plc-1 fine?", "normal", "A sentence of this answer had no source and was removed."),
    ],
)
def test_a_sentence_that_is_removed_is_noted_and_counted(question, standing, note):
    forged = replace(loss(), facts=(Fact("loss-x", "It lost 777 packets.", {}),))
    answer = diagnose(question, make_analysis((beacon(sessions=3.0), forged)), None)
    assert (answer.standing, answer.removed) == (standing, 1)
    assert answer.notes[-1].endswith(note)
    assert answer.notes[-1] in answer.text
    assert "777" not in answer.text
    assert not {"sections", "removed"} & answer.to_dict().keys()


def test_only_forged_facts_prove_nothing():
    incident = beacon(sessions=3.0)
    forged = tuple(
        Fact(fact.id, fact.text + " And 777 more.", {}, fact.windows) for fact in incident.facts
    )
    analysis = make_analysis((type(incident)(**{**vars(incident), "facts": forged}),))
    assert diagnose("cam-1?", analysis, None).standing == "inconclusive"


def test_who_suffers_is_told_where_the_cause_is(line):
    diagnosis = diagnose("why does press-panel hang?", line, None)
    assert diagnosis.device == PANEL
    where = "press-panel (192.168.1.30) is affected; the cause lies at plc-2 (192.168.1.11)"
    assert where in diagnosis.cause
    assert diagnosis.checks[0].startswith("Start at the device that causes this")


def test_a_healthy_device_is_called_healthy(line):
    diagnosis = diagnose("is plc-1 fine?", line, None)
    assert (diagnosis.standing, diagnosis.label) == ("normal", "normal")
    assert diagnosis.cause.startswith("Healthy: plc-1 (192.168.1.10) behaves as usual; ")


def test_odd_windows_without_an_incident_are_inconclusive():
    diagnosis = diagnose("is cam-1 fine?", make_analysis(()), None)
    assert diagnosis.standing == "inconclusive"
    assert diagnosis.cause.startswith("Not certain: cam-1 (192.168.1.20) has no incident, but")
    assert re.search(r"looked most like (?!c2)[^,]+, but not surely enough", diagnosis.text)
    assert diagnosis.checks[-1] == read_health_playbook().until["open"]


def test_a_device_that_is_not_there_is_said_with_those_that_are(line):
    diagnosis = diagnose("why is 10.9.9.9 slow?", line, None)
    assert diagnosis.device == ""
    assert "10.9.9.9 is not in this capture" in diagnosis.text
    for name in ("cam-1", "cam-2", "plc-1", "plc-2", "press-panel"):
        assert name in diagnosis.text


def test_an_unknown_kind_of_device_is_said_first(line):
    diagnosis = diagnose("why is the printer slow?", line, None)
    assert diagnosis.text.split("\n")[1].startswith("No device is known as a printer here")


def test_the_device_argument_wins_over_the_words(line):
    assert diagnose("why is the camera slow?", line, None, device="plc-2").device == SPARE
    absent = diagnose("why?", line, None, device="no-such-thing")
    assert absent.refused
    assert "no-such-thing is not in this capture" in absent.text


def test_an_empty_capture_is_answered():
    analysis = make_analysis(())
    table = Capture(analysis.capture.flows[:0], analysis.capture.activity[:0])
    windows = make_windows(make_samples(table))
    empty = analyse_verdicts(table, None, windows, analysis.verdicts[:0])
    assert "holds no device" in diagnose("what is wrong?", empty, None).text


def test_ruled_out_by_numbers_of_the_same_time(line):
    diagnosis = diagnose("why is cam-1 odd?", line, None)
    # 12 attempts, none answered: a service that is down cannot be excluded. No DNS was seen, so
    # nothing is said of it.
    down = "Not excluded is a service that is down: 12 of 12 connections failed."
    assert down in diagnosis.ruled_out
    assert not any("DNS" in one for one in diagnosis.ruled_out)


@pytest.mark.parametrize("question", [
    "why is cam-1 odd?", "why is the PLC silent?", "why is cam-2 slow?", "is plc-1 fine?", "what about 10.9.9.9?",
])  # fmt: skip
def test_every_number_and_citation_of_an_answer_resolves(line, index, question):
    diagnosis = diagnose(question, line, index)
    sources = (*diagnosis.citations, *diagnosis.similar)
    assert check(diagnosis.text, diagnosis.known, sources, index).removed == ()
    assert [one.number for one in sources] == list(range(1, len(sources) + 1))
    assert all(find_passage(index, one.chunk_id).document == one.document for one in sources)
    assert len(diagnosis.text.split("\n")) <= 38


def test_planted_numbers_and_citations_are_caught(line, index):
    diagnosis = diagnose("why is cam-1 odd?", line, index)
    sources = (*diagnosis.citations, *diagnosis.similar)
    planted = (
        "It sent 48,213 packets.", "See the manual [9].", "It began at 03:14:15.",
        "It came from 198.51.100.99.",
    )  # fmt: skip
    text = f"{diagnosis.text}\n{' '.join(planted)}"
    checked = check(text, diagnosis.known, sources, index)
    assert checked.removed == planted
    assert checked.text.strip() == diagnosis.text


def test_a_document_that_was_removed_is_no_longer_cited(line, stocked_home, index):
    with open_index(stocked_home, index.embedder) as own:
        before = diagnose("why is cam-1 odd?", line, own)
        title = before.citations[0].document
        own.remove(title)
        checked = check(before.long, before.known, (*before.citations, *before.similar), own)
        assert any(f"[{before.citations[0].number}]" in one for one in checked.removed)
        after = diagnose("why is cam-1 odd?", line, own)
        assert title not in {one.document for one in after.citations}


def test_manual_and_past_incident_fit_the_cause(line, index):
    silent = diagnose("why does plc-2 not answer?", line, index)
    assert any("silent" in one.section.lower() for one in silent.citations)
    assert any("INC-2025-004" in one.document for one in silent.similar)


def test_json_holds_plain_values(line, index):
    plain = json.loads(json.dumps(diagnose("why is cam-1 odd?", line, index).to_dict()))
    assert plain["device"] == CAMERA
    assert plain["facts"][0]["values"]["attempts"] == 12.0
    known = {"number", "document", "section", "page", "excerpt", "chunk_id"}
    assert plain["citations"][0].keys() >= known


@pytest.mark.parametrize("label", LABELS[1:])
def test_every_label_has_a_playbook_without_numbers(label):
    playbook = read_playbook(label)
    once = (playbook.source, playbook.target, playbook.gloss, playbook.doubt)
    texts = (*once, *playbook.checks, *playbook.target_checks)
    assert [q.text for text in texts for q in read_quantities(text)] == []
    assert set(playbook.apart) <= set(LABELS) - {label}
    assert len(playbook.checks) >= 3
    assert len(playbook.target_checks) >= 2


def test_the_playbooks_are_those_of_the_labels():
    assert {path.stem for path in FOLDER.iterdir()} == set(LABELS)
    assert find_symptoms("why is dev so slow?") >= {"congestion", "packet_loss"}
    health = read_health_playbook()
    assert health.in_short.keys() - {"well"} == health.unclear.keys()
    assert health.until.keys() <= health.unclear.keys()


def test_an_unanswered_beacon_recalls_both_a_bot_and_a_dead_service(line, index):
    recalled = [one.document for one in diagnose("why is cam-1 odd?", line, index).similar]
    assert [name[:12] for name in recalled] == ["INC-2026-046", "INC-2026-055"]


def test_who_calls_somebody_in_vain_is_not_called_well():
    well = make_analysis((), label="normal")
    well.verdicts.loc[well.verdicts["device"] == YARD, "label"] = "normal"
    answer = diagnose("is cam-1 ok?", well, None)
    assert answer.standing == "inconclusive"
    assert re.search(r"called \S+:6667 12 times from .* was never answered", answer.cause)
    assert (
        diagnose("is cam-1 ok?", make_analysis((), answered=True, label="normal"), None).standing
        == "normal"
    )


def test_who_was_seen_for_a_minute_does_not_spoil_the_health_of_all():
    well = make_analysis((), answered=True, label="normal")
    well.verdicts.loc[well.verdicts["device"] == YARD, "label"] = "normal"
    alone = diagnose("is everything fine?", well, None)
    assert alone.cause.startswith("Healthy: no incident was found; every device that could be")
    guest = well.verdicts.iloc[[0]].assign(device="fe80::1", label="recon", abstained=True)
    both = replace(well, verdicts=pd.concat([well.verdicts, guest], ignore_index=True))
    answer = diagnose("is everything fine?", both, None)
    assert (answer.standing, answer.cause) == ("normal", alone.cause)
    assert "1 device could not be judged, seen too briefly: fe80::1." in answer.text
    assert diagnose("is fe80::1 fine?", both, None).standing == "inconclusive"


@pytest.mark.parametrize(
    ("plant", "device", "standing"),
    [("141.81.0", "fe80::1", "inconclusive"), ("141.81.0", "192.168.7.9", "inconclusive"),
     ("192.168.0", "fe80::1", "normal")],
    ids=["link-local ones beside", "a private one beside", "private"],
)  # fmt: skip
def test_a_plant_on_public_addresses_is_not_called_well_for_those_beside(plant, device, standing):
    ends = f"{plant}.10", f"{plant}.20"
    polls = [flow(1000.0 + 10 * i, *ends, 502, service="modbus") for i in range(12)]
    beside = [flow(1001.0 + 10 * i, device, "fe80::2", 5355, proto="udp") for i in range(12)]
    table = capture(*polls, *beside)
    windows = make_windows(make_samples(table))
    told = {"label": "normal", "abstained": False, "probability": 0.9, "direction": "source"}
    shares = {f"p_{label}": 0.9 if label == "normal" else 0.005 for label in LABELS}
    verdicts = windows.table.assign(**told, **shares)
    answer = diagnose("is everything ok?", analyse_verdicts(table, None, windows, verdicts), None)
    assert answer.standing == standing
    assert ("--local" in answer.text) == (standing != "normal")
