"""The truth of a run by hand: who surely shows what happened, who may, and how long it lasts."""

from dataclasses import replace

import pytest

from eval.testbed.events.event import Event, Participant
from eval.testbed.events.participants import (
    broker_and_shut_out,
    controller_and_refused,
    every_s,
    lookups,
    lossy_and_peers,
    resolver_and_misled,
)
from eval.testbed.site import Machine, Site
from eval.testbed.truth import ExecutedEvent, make_truth

T = 1_700_000_000.0
PLC, HMI, SLOW, BROKER, SENSOR, DNS = (f"10.9.0.{i}" for i in (5, 6, 7, 8, 9, 10))
RETRY = {"first_s": 2.0, "factor": 2.0, "most_s": 60.0, "jitter": 0.0}


def polling(every: float) -> dict[str, object]:
    polled = [{"name": "plc-1", "port": 502, "unit": 1, "address": 0, "count": 8}]
    return {"polled": polled, "poll_s": every, "retry": RETRY, "timeout_s": 3.0, "by_name": False}


def site() -> Site:
    """A controller that an HMI asks every second and a historian every forty; a sensor, its broker,
    a resolver."""
    login = {"broker": "broker-1", "period_s": 5.0, "keepalive_s": 60, "retry": RETRY}
    machines = (
        Machine("router", "router", "10.9.0.1", "02:00:00:00:00:01"),
        Machine("plc-1", "plc", PLC, "02:00:00:00:00:05", "plc", {"unit": 1}),
        Machine("hmi-1", "hmi", HMI, "02:00:00:00:00:06", "hmi", polling(1.0)),
        Machine("slow-1", "historian", SLOW, "02:00:00:00:00:07", "historian", polling(40.0)),
        Machine("broker-1", "broker", BROKER, "02:00:00:00:00:08", "broker", {}),
        Machine("sensor-1", "sensor", SENSOR, "02:00:00:00:00:09", "sensor", login),
        Machine("dns-1", "dns", DNS, "02:00:00:00:00:0a", "dns", {"names": {}}),
    )
    return Site(1, "10.9.0.0/24", "10.9.0.1", machines)


def truth_of(*executed: ExecutedEvent, end_s: float = 900.0) -> list[tuple]:
    """Device, label, direction, start and end of every interval; seconds of the run."""
    truth = make_truth(1, executed, site(), T, T + end_s, complete=True)
    return [
        (one.device, one.label, one.direction, round(one.start_s - T, 1), round(one.end_s - T, 1))
        for one in truth.intervals
    ]


def executed(event: Event) -> ExecutedEvent:
    return ExecutedEvent(event, T + event.start_s, T + event.start_s + event.length_s)


def off(start_s: float, length_s: float, target: str = "plc-1") -> ExecutedEvent:
    return executed(Event("powered_off", start_s, length_s, target))


def test_who_calls_too_seldom_may_or_may_not_notice() -> None:
    rows = truth_of(off(100, 60))
    assert (PLC, "device_silent", "source", 100, 160) in rows
    assert (HMI, "device_silent", "target", 100, 160) in rows
    # One call in forty seconds: surely one, not surely two.
    assert (SLOW, "unknown", "", 100, 160) in rows
    assert (SLOW, "device_silent", "target", 100, 180) in truth_of(off(100, 80))


def test_devices_find_back_after_their_longest_pause() -> None:
    """After pauses of 2, 4, 8, 16 and 32 s, 62 s have passed: the one under way may be of 32 s."""
    rows = truth_of(off(100, 60))
    assert (HMI, "unknown", "", 160, 160 + 12 + 3 + 32) in rows
    assert (PLC, "unknown", "", 160, 160 + 12 + 5.5) in rows  # its own clock's pauses, by default
    assert truth_of(off(100, 60), end_s=170)[-1][-1] == 170  # never beyond the run


def test_what_another_event_leaves_of_an_interval_must_be_a_window_long() -> None:
    """The HMI is off from 121 s on: whether it called in the 21 seconds before, nobody can say."""
    rows = truth_of(off(100, 180), off(121, 40, "hmi-1"))
    assert (HMI, "unknown", "", 100, 121) in rows
    assert (HMI, "device_silent", "source", 121, 161) in rows
    assert (HMI, "device_silent", "target", 161, 280) in rows


def test_what_was_plugged_in_is_unknown_once_it_has_gone_and_routines_are_normal() -> None:
    intruder = Machine("intruder-1", "copy", "10.9.0.66", "02:00:00:00:00:99")
    scan = {"also": [], "whom": "plc-1"}
    rows = truth_of(
        executed(Event("nmap_syn", 100, 60, "plc-1", "intruder-1", 100.0, scan, (intruder,)))
    )
    assert ("10.9.0.66", "recon", "source", 100, 160) in rows
    assert ("10.9.0.66", "unknown", "", 160, 900) in rows
    new = Machine("new-1", "hmi", "10.9.0.77", "02:00:00:00:00:77", "hmi", polling(1.0))
    settings = {"model": "hmi-1", "address": new.address}
    joined = Event("device_joins", 50, 100, "new-1", added=(new,), settings=settings)
    rows = truth_of(executed(joined))
    assert ("10.9.0.77", "normal", "", 50, 150) in rows
    assert ("10.9.0.77", "unknown", "", 150, 900) in rows


def test_rhythms_add_up() -> None:
    plant = site()
    assert every_s(plant, plant.named("hmi-1"), plant.named("plc-1")) == pytest.approx(1.0)
    assert every_s(plant, plant.named("sensor-1"), plant.named("broker-1")) == pytest.approx(5.0)
    assert every_s(plant, plant.named("plc-1"), plant.named("broker-1")) == float("inf")
    asks = {"ntp": "a", "ntp_s": 30, "cloud": "b.example", "batch_s": 15}
    machine = Machine("m", "edge", "10.9.0.20", "", "edge", asks)
    # 30 and 15 s together
    assert 1 / sum(1 / call.every_s for call in lookups(machine)) == pytest.approx(10.0)
    written = replace(machine, settings={**machine.settings, "by_name": False})
    assert [call.host for call in lookups(written)] == ["b.example"]


def sure(participants: list[Participant]) -> dict[str, bool]:
    return {one.machine: one.sure for one in participants}


def test_loss_is_what_the_cable_dropped() -> None:
    event = Event("packet_loss", 0, 60, "plc-1", strength=0.02)
    assert sure(lossy_and_peers(site(), event)) == {"plc-1": False}
    lost = replace(event, settings={"dropped": {HMI: 7, SLOW: 1, DNS: 9}})
    found = sure(lossy_and_peers(site(), lost))
    assert found == {"plc-1": True, "hmi-1": True, "slow-1": False, "dns-1": False}


def test_a_broker_without_room_shuts_out_whom_it_had_not_let_in() -> None:
    event = Event("broker_refuses", 0, 60, "broker-1", settings={"users_lost": False, "room": 1})
    assert sure(broker_and_shut_out(site(), event)) == {"broker-1": True, "sensor-1": True}
    full = replace(event, settings={**event.settings, "let_in": [SENSOR]})
    assert sure(broker_and_shut_out(site(), full)) == {"broker-1": False, "sensor-1": False}


def test_exceptions_are_met_by_who_asks_often_or_for_a_dead_unit() -> None:
    mild = Event("exception_storm", 0, 40, "plc-1", strength=0.1, settings={"dead": []})
    refused = sure(controller_and_refused(site(), mild))
    assert refused == {"plc-1": True, "hmi-1": True, "slow-1": False}
    dead = replace(mild, settings={"dead": [3]})
    assert sure(controller_and_refused(site(), dead)) == {"plc-1": False}


def test_a_resolver_misleads_who_asks_for_a_wrong_name() -> None:
    plant = site()
    edge = Machine("edge-1", "edge", "10.9.0.20", "", "edge", {"cloud": "b.example", "batch_s": 15})
    plant = replace(plant, machines=(*plant.machines, edge))
    event = Event("dns_wrong", 0, 60, "dns-1", settings={"answers": {"b.example": "10.9.0.99"}})
    assert sure(resolver_and_misled(plant, event)) == {"dns-1": True, "edge-1": True}
    short = replace(event, length_s=20)
    assert sure(resolver_and_misled(plant, short)) == {"dns-1": False, "edge-1": False}
