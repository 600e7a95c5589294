"""Alarms a person can bear: one for each cause, raised, returned, hidden and counted as ISA-18.2 has
it; and a sensor that cannot be taken for a calm plant."""

from dataclasses import replace

import pandas as pd
import pytest

from assistant.audit import check_audit
from assistant.detection.incidents import Incident
from assistant.facts.fact import make_fact
from assistant.history import History
from assistant.monitor.alarm_list import find_standing, list_alarms, read_meter, suppress
from assistant.monitor.alarms import Alarms
from assistant.monitor.sensor import SensorHealth, make_condition, read_sensor_words
from assistant.monitor.source import Trouble
from traffic.errors import UserError
from traffic.plant import Device, Plant
from traffic.quality import Quality

NONE = pd.DataFrame(
    {"device": [], "start_s": [], "end_s": [], "label": [], "probability": [], "abstained": []}
)
PLANT = Plant(
    (
        Device("plc-1", "10.0.0.5", "PLC", contact="shift fitter, 4711"),
        Device("hmi", "10.0.0.9", "HMI"),
    )
)


def make_incident(start_s: float, end_s: float, device: str = "10.0.0.5", **changes) -> Incident:
    """A scan that a rule proved, so that nothing but its facts carries it."""
    fact = make_fact("port_scan", "{name} is scanned.", {"name": device})
    one = Incident(
        f"recon-{device}-{start_s:.0f}", device, "target", "recon", "medium", start_s, end_s, (),
        (fact,), ("10.0.0.66",), (), (),
    )  # fmt: skip
    return replace(one, **changes)


@pytest.fixture
def history(tmp_path):
    opened = History(tmp_path / "history.sqlite")
    yield opened
    assert check_audit(tmp_path / "history.sqlite").outcome == "whole"
    opened.close()


def follow(alarms: Alarms, now_s: float, *incidents: Incident, at_s: float = 0.0) -> list[str]:
    return [one.act for one in alarms.update(incidents, NONE, (), now_s, at_s)]


def test_an_incident_is_one_alarm_from_its_raising_to_its_return(history):
    alarms = Alarms(history, PLANT)
    assert follow(alarms, 1000.0, make_incident(900, 995)) == ["raise"]
    (alarm,) = list_alarms(history)
    assert (alarm.tier, alarm.priority, alarm.raised_s) == ("alarm", "medium", 1000.0)
    assert alarm.content.contact == "shift fitter, 4711"
    assert alarm.content.cause.startswith("plc-1 (10.0.0.5) ")
    assert alarm.content.response
    assert alarm.content.respond_min == 15
    # It grows, and what is seen of its start moves; its id stays.
    assert follow(alarms, 1010.0, make_incident(880, 1005)) == []
    assert (
        follow(alarms, 1200.0, make_incident(900, 1080)) == []
    )  # 120 s: not longer than the delay
    assert follow(alarms, 1210.0, make_incident(900, 1080)) == ["return"]
    (after,) = list_alarms(history)
    assert (after.incident, after.returned_s, after.times) == (alarm.incident, 1210.0, 1)


def test_one_that_comes_again_is_the_same_alarm_and_counted(history):
    alarms = Alarms(history, PLANT)
    follow(alarms, 1000.0, make_incident(900, 995))
    follow(alarms, 1200.0, make_incident(900, 1000))
    assert follow(alarms, 1300.0, make_incident(900, 1295)) == ["raise"]
    (alarm,) = list_alarms(history)
    assert (alarm.times, alarm.returned_s, alarm.raised_s) == (2, None, 1300.0)
    # Another peer, and a day later, are others.
    other = make_incident(900, 1300, id="recon-other", peers=("10.0.0.77",))
    assert follow(alarms, 1310.0, make_incident(900, 1305), other) == ["raise"]
    follow(alarms, 1600.0, make_incident(900, 1305), other)
    assert follow(alarms, 90_000.0, make_incident(89_900, 89_990)) == ["raise"]
    assert len(list_alarms(history)) == 3


def test_what_comes_again_and_again_is_one_alarm_that_stands(history):
    alarms = Alarms(history, PLANT)
    acts = []
    for begun_s in (1000.0, 2000.0, 3000.0, 4000.0, 5000.0):  # for 100 s, each 900 s after the last
        for now_s in (begun_s + 50.0, begun_s + 100.0, begun_s + 250.0, begun_s + 800.0):
            acts += follow(alarms, now_s, make_incident(begun_s, min(now_s, begun_s + 100.0)))
    # Raised the third time it stands: 900 s without it are no end of it, and the fourth is no news.
    assert acts == ["raise", "return", "raise", "return", "raise"]
    (alarm,) = list_alarms(history)
    assert (alarm.times, alarm.incident_end_s, alarm.returned_s) == (3, 5100.0, None)
    assert follow(alarms, 8700.0) == []  # an hour
    assert follow(alarms, 8710.0) == ["return"]


def test_of_what_came_again_within_the_recent_past_the_newest_is_the_alarm(history):
    alarms = Alarms(history, PLANT)
    first = make_incident(1000.0, 1100.0)
    follow(alarms, 1110.0, first)
    follow(alarms, 1300.0, first)
    second = make_incident(2000.0, 2100.0)
    assert follow(alarms, 2110.0, first, second) == ["raise"]
    (alarm,) = list_alarms(history)
    assert (alarm.incident, alarm.times, alarm.incident_end_s) == (first.id, 2, 2100.0)
    earlier, newest = alarms.name_incidents([first, second])
    assert newest.id == first.id
    assert earlier.id != first.id
    # Whoever does it to another, or soon after, is another.
    other = make_incident(2000.0, 2100.0, id="recon-other", peers=("10.0.0.77",))
    assert follow(alarms, 2120.0, first, second, other) == ["raise"]


def test_the_cause_moves_to_another_device_and_the_alarm_with_it(history):
    alarms = Alarms(history, PLANT)
    follow(alarms, 1000.0, make_incident(900, 995))
    found = make_incident(890, 1005, "10.0.0.66", peers=("10.0.0.5", "10.0.0.9"), severity="high")
    assert follow(alarms, 1010.0, found) == ["change"]
    (alarm,) = list_alarms(history)
    assert (alarm.incident, alarm.device, alarm.priority) == (
        "recon-10.0.0.5-900",
        "10.0.0.66",
        "high",
    )


def test_one_that_was_missed_first_goes_on_as_the_alarm_of_all_that_fell_silent(history):
    alarms = Alarms(history, PLANT)
    alone = make_incident(1000.0, 1060.0, "10.0.0.5", label="device_silent", peers=("10.0.0.9",))
    assert follow(alarms, 1060.0, alone) == ["raise"]
    fact = make_fact("silent_together", "{members:device} fell silent.", {"members": 3})
    peers = ("10.0.0.6", "10.0.0.5", "10.0.0.9")  # two fellows, and who asked for them
    both = make_incident(
        990.0, 1080.0, "10.0.0.7", label="device_silent", peers=peers, facts=(fact,)
    )
    assert follow(alarms, 1080.0, both) == ["change"]
    (alarm,) = list_alarms(history)
    assert (alarm.incident, alarm.device) == (alone.id, "10.0.0.7")
    # One that asked is none of them.
    asked = make_incident(1000.0, 1090.0, "10.0.0.9", label="device_silent", peers=())
    assert follow(alarms, 1090.0, both, asked) == ["raise"]


def test_what_later_input_does_not_bear_out_is_withdrawn_after_the_delay(history):
    alarms = Alarms(history, PLANT)
    follow(alarms, 1000.0, make_incident(900, 995))
    assert follow(alarms, 1010.0) == []
    assert follow(alarms, 1110.0) == []
    assert follow(alarms, 1120.0) == ["withdraw"]


def test_another_process_goes_on_with_the_same_alarms(history):
    follow(Alarms(history, PLANT), 1000.0, make_incident(900, 995))
    assert follow(Alarms(history, PLANT), 1000.0, make_incident(900, 995)) == []
    assert follow(Alarms(history, PLANT), 1010.0, make_incident(900, 1005)) == []
    assert len(history.file.rows("SELECT * FROM raisings")) == 1


def test_a_replay_beside_the_plant_leaves_its_alarms_alone(history):
    follow(Alarms(history, PLANT, "eth1"), 1000.0, make_incident(900, 995))
    replay = Alarms(history, PLANT, "a.pcap")
    assert follow(replay, 1010.0) == follow(replay, 2000.0) == []
    assert [one.returned_s for one in list_alarms(history)] == [None]


def test_a_suspicion_without_evidence_calls_nobody(history):
    bare = make_incident(900, 995, facts=())
    follow(
        Alarms(history, PLANT),
        1000.0,
        bare,
        make_incident(900, 995, "10.0.0.9", facts=(), severity="low"),
    )
    tiers = {one.device: one.tier for one in list_alarms(history)}
    assert tiers == {"10.0.0.5": "notification", "10.0.0.9": "log"}
    assert [one.device for one in list_alarms(history, tier="notification")] == ["10.0.0.5"]


def test_states_are_what_people_declared_of_this_raising(history):
    alarms = Alarms(history, PLANT)
    follow(alarms, 1000.0, make_incident(900, 995), at_s=50.0)
    name = "recon-10.0.0.5-900"

    def state(at_s: float) -> str:
        return find_standing(list_alarms(history)[0], history, at_s).state

    assert state(50.0) == "active"
    history.set_state(name, "acknowledged", "ana", now_s=60.0, act="acknowledge")
    assert state(61.0) == "acknowledged"
    history.set_state(
        name, "shelved", "ana", "fitter comes", until_s=100.0, now_s=70.0, act="shelve"
    )
    assert state(99.0) == "shelved"
    history.undo(name, "ana", now_s=80.0)
    assert state(81.0) == "acknowledged"
    follow(alarms, 1200.0, make_incident(900, 1000))
    assert state(81.0) == "returned"
    follow(alarms, 1300.0, make_incident(900, 1295), at_s=90.0)
    assert state(91.0) == "active"  # raised again: the acknowledgement was for the raising before


def test_maintenance_is_kept_and_calls_nobody(history):
    suppress(history, "10.0.0.5", 500.0, 2000.0, "bo", "new firmware", 500.0)
    changes = Alarms(history, PLANT).update(
        [make_incident(900, 995), make_incident(900, 995, "10.0.0.9")], NONE, (), 1000.0, 0.0
    )
    assert {one.alarm.device: one.suppressed for one in changes} == {
        "10.0.0.5": "maintenance, bo: new firmware",
        "10.0.0.9": "",
    }
    states = {one.device: find_standing(one, history, 0.0).state for one in list_alarms(history)}
    assert states == {"10.0.0.5": "suppressed", "10.0.0.9": "active"}
    assert read_meter(history, 1000.0).last == 1
    with pytest.raises(UserError, match="expected a reason"):
        suppress(history, "", 0.0, 100.0, "bo", " ", 0.0)


def test_more_than_ten_in_ten_minutes_are_a_flood_until_fewer_than_five(history):
    alarms = Alarms(history, PLANT)
    for number in range(11):
        at_s = 1000.0 + 10 * number
        follow(alarms, at_s, make_incident(at_s - 50, at_s, f"10.0.1.{number}"))
        assert read_meter(history, at_s).flood is (number == 10)
    assert read_meter(history, 1105.0, operators=2).last == 5.5
    assert not read_meter(history, 1105.0, operators=2).flood
    # Those of 1000 to 1060 are older than ten minutes at 1660: four are left.
    assert read_meter(history, 1655.0).flood
    assert not read_meter(history, 1661.0).flood
    follow(alarms, 5000.0, make_incident(4900, 4990, "10.0.1.3"))
    assert read_meter(history, 5000.0).actors[0] == ("10.0.1.3", "recon", 2)


# ---- The sensor ----


def test_nothing_arriving_is_an_alarm_of_its_own_and_returns(history):
    health, alarms = SensorHealth("eth1"), Alarms(history, PLANT)

    def told(at_s: float, arrived: bool) -> list[str]:
        health.see_troubles((), arrived, at_s)
        return [one.act for one in alarms.update_sensor(health.conditions(at_s, True), at_s, at_s)]

    assert told(1000.0, True) == []
    assert told(1059.0, False) == []
    assert told(1060.0, False) == ["raise"]
    assert told(1070.0, False) == []
    (alarm,) = list_alarms(history)
    assert (alarm.label, alarm.device, alarm.priority) == ("sensor", "eth1", "high")
    assert "eth1" in alarm.content.text
    assert told(1080.0, True) == ["return"]
    assert not health.conditions(9999.0, live=False)  # a replay that waits is no dead port


def test_what_is_down_is_one_alarm_until_it_is_up_again(history):
    """Nothing can arrive meanwhile, which is no alarm beside it."""
    health, alarms = SensorHealth("eth1"), Alarms(history, PLANT)
    down = (Trouble("interface_down", "eth1"),)

    def told(at_s: float, *troubles: Trouble) -> list[str]:
        health.see_troubles(troubles, not troubles, at_s)
        return [one.act for one in alarms.update_sensor(health.conditions(at_s, True), at_s, at_s)]

    assert told(1000.0) == []
    assert [told(at_s, *down) for at_s in (1004.0, 1064.0, 1100.0)] == [["raise"], [], []]
    # A slot that ended before it was raised tells that it is over.
    assert [one.act for one in alarms.update_sensor([], 1000.0, 1105.0)] == ["return"]
    assert [(one.raised_s, one.returned_s) for one in list_alarms(history)] == [(1004.0, 1004.0)]


def test_the_sensors_alarms_leave_incidents_alone(history):
    alarms = Alarms(history, PLANT)
    follow(alarms, 1000.0, make_incident(900, 995))
    gone = make_condition("interface_down", "eth1", 1005.0, 1010.0)
    assert [one.act for one in alarms.update_sensor([gone], 1010.0, 0.0)] == ["raise"]
    assert [one.act for one in alarms.update_sensor([], 2000.0, 0.0)] == ["return"]
    assert [one.returned_s for one in list_alarms(history) if one.label == "recon"] == [None]


def test_drops_are_added_up_and_shown_for_a_while():
    health = SensorHealth("eth1")
    health.see_troubles((Trouble("drops", "eth1", 30),), True, 1000.0)
    health.see_troubles((Trouble("drops", "eth1", 12),), True, 1010.0)
    (found,) = health.conditions(1010.0, True)
    assert "42 frames" in found.text
    assert not health.conditions(1071.0, live=False)


def test_one_direction_alone_is_said():
    health = SensorHealth("eth1")
    whole = Quality().whole.copy()
    whole[["one_way", "two_way", "one_way_share"]] = [9, 1, 0.9]
    health.see_quality(replace(Quality(), whole=whole), 1000.0)
    assert [one.kind for one in health.conditions(1000.0, True)] == ["one_way"]


@pytest.mark.parametrize("kind", sorted(read_sensor_words()))
def test_every_condition_says_what_to_do(kind):
    values = {"count": 3, "share_share": 0.7, "reason": "no capture", "span_s": 600.0}
    found = make_condition(kind, "eth1", 1000.0, 1010.0, **values)
    assert found.text.endswith(".")
    assert "{" not in found.text
    assert found.words.response
