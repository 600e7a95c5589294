"""First signs: what the newest seconds show against the past, and what looks like it and is none."""

from dataclasses import replace

import bottling_line
import numpy as np
import pandas as pd
import pytest
from tables import CLOUD, DEVICE, PLC, capture, flow, unanswered

from assistant.answers.answer import answer
from assistant.audit import check_audit
from assistant.detection.incidents import Incident
from assistant.diagnosis.health import describe_health, judge_health
from assistant.facts.fact import kind_of, make_fact
from assistant.facts.traffic_view import TrafficView
from assistant.history import History
from assistant.monitor.alarm_list import list_alarms, name_alarm, read_meter
from assistant.monitor.alarms import Alarms, Change
from assistant.monitor.newest import Sign
from assistant.monitor.signs import find_signs
from traffic.conversations import EXCHANGE_COLUMNS
from traffic.plant import Device, Plant
from traffic.samples import make_samples

HMI, OTHER = "192.168.1.30", "192.168.1.40"
REFUSED = {
    "conn_state": "REJ", "history": "Sr", "duration": 0.0, "orig_pkts": 1.0, "resp_pkts": 1.0,
    "orig_bytes": 0.0, "resp_bytes": 0.0,
}  # fmt: skip
NONE = pd.DataFrame(
    {"device": [], "start_s": [], "end_s": [], "label": [], "probability": [], "abstained": []}
)


def polls(until_s: float, client: str = HMI, server: str = PLC, port: int = 502) -> list[dict]:
    """A session a second."""
    times = np.arange(0.2, until_s, 1.0)
    return [flow(ts, client, server, port, id__orig_p=41000 + n) for n, ts in enumerate(times)]


def view_of(*rows: dict, evidence=(), exchanges: pd.DataFrame | None = None) -> TrafficView:
    made = capture(*rows, evidence=list(evidence))
    if exchanges is not None:
        made = replace(made, exchanges=exchanges)
    return TrafficView(made, make_samples(made))


def found(view: TrafficView, now_s: float) -> list[tuple[str, str, str]]:
    return [(kind_of(one.fact), one.label, one.device) for one in find_signs(view, now_s)]


def refused(*times: float, client: str = HMI) -> list[dict]:
    ports = enumerate(times, 50000)
    return [flow(ts, client, PLC, 502, id__orig_p=port, **REFUSED) for port, ts in ports]


FAILS = [("fails", "service_down", PLC)]


@pytest.mark.parametrize(
    ("rows", "now_s", "wanted"),
    [
        ([*polls(200), *refused(201, 203)], 205.0, FAILS),
        ([*polls(200), *refused(201)], 205.0, []),  # one failure is an accident
        ([*polls(200), *refused(201, 203), *polls(205)[204:]], 210.0, []),  # it answers again
        (refused(*range(2, 200, 2)), 205.0, []),  # it never worked: find_closed_ports tells it
        ([*polls(40), *refused(41, 43)], 45.0, []),  # hardly anything is known of the plant
    ],
    ids=["refuses", "once", "back", "never worked", "just begun"],
)
def test_a_service_that_answered_and_now_fails(rows, now_s, wanted):
    quiet = [one for one in found(view_of(*rows), now_s) if one[0] == "fails"]
    assert quiet == wanted


def test_one_that_nobody_refuses_fails_after_some_seconds_only():
    silent = [unanswered(ts, HMI, PLC, 502, id__orig_p=50000 + ts) for ts in (201, 202)]
    view = view_of(*polls(200), *polls(210, HMI, OTHER), *silent)
    fails = [[one[0] for one in found(view, now_s)].count("fails") for now_s in (203.0, 206.0)]
    assert fails == [0, 1]


def steady(
    until_s: float, device: str = DEVICE, at_s: float = 0.2, lasts_s: float = 9.6
) -> list[dict]:
    """Ten packets in each slot, spread over so much of it from a second on."""
    slots = range(int(until_s // 10))
    return [
        flow(
            10 * n + at_s,
            device,
            OTHER,
            8000,
            orig_pkts=10.0,
            duration=lasts_s,
            id__orig_p=42000 + n,
        )
        for n in slots
    ]


@pytest.mark.parametrize(
    ("until_s", "now_s", "wanted"),
    [
        (200, 210.0, True),  # ten packets are missing
        (200, 205.0, False),  # half of a slot: who asks one after the other pauses as long
        (210, 205.0, False),
        (100, 105.0, False),  # ten slots are no past
    ],
)
def test_a_device_that_never_paused_falls_silent(until_s, now_s, wanted):
    view = view_of(*steady(until_s), *polls(now_s, HMI, OTHER))
    signs = [one for one in find_signs(view, now_s) if kind_of(one.fact) == "quiet"]
    assert [one.device for one in signs] == [DEVICE] * wanted


def test_who_speaks_for_a_moment_of_each_slot_is_quiet_in_between():
    view = view_of(*steady(200, at_s=7.0, lasts_s=0.5), *polls(205, HMI, OTHER))
    assert "quiet" not in [kind_of(one.fact) for one in find_signs(view, 205.0)]


def test_many_that_fall_silent_at_once_are_one_sign():
    many = [f"192.168.1.{n}" for n in (60, 61, 62)]
    view = view_of(*(row for one in many for row in steady(200, one)), *polls(210, HMI, OTHER))
    (sign,) = [one for one in find_signs(view, 210.0) if kind_of(one.fact) == "quiet"]
    assert {sign.device, *sign.related} == set(many)


def requests(codes: list[int], first_s: float = 100.0, step_s: float = 1.0, **more) -> pd.DataFrame:
    """The same Modbus request again and again, with what each was answered."""
    rows = pd.DataFrame({"ts": first_s + step_s * np.arange(len(codes)), "code": codes})
    rows["outcome"] = np.where(rows["code"] > 0, "refused", "answered")
    place = {"client": HMI, "server": PLC, "port": 502, "protocol": "modbus", "kind": "read",
             "function": 3, "unit": 1, "target": 7, "value": 1, "flow": 0}  # fmt: skip
    rows = rows.assign(**(place | more)).reindex(columns=EXCHANGE_COLUMNS)
    rows = rows.fillna({"delay_s": 0.01, "behind": 0, "frame": 0, "answer_frame": 0})
    return rows.astype(
        dict.fromkeys(["client", "server", "protocol", "kind", "name", "outcome"], "category")
    )


SENSORS = ("192.168.1.60", "192.168.1.61", "192.168.1.62")


def told_every(
    step_s: float, until_s: float, client: str, server: str = OTHER, **more
) -> pd.DataFrame:
    """Messages of one session, at an even interval from second 1 on."""
    times = int((until_s - 1.0) // step_s) + 1
    kind = {"client": client, "server": server, "kind": "publish", "outcome": "told"}
    return requests([0] * times, 1.0, step_s, protocol="mqtt", port=1883, **(kind | more))


def sessions(rows: pd.DataFrame) -> list[dict]:
    """The flow that holds each client's messages: its last packet is the other end's, seconds later."""
    ends = rows.groupby(["client", "server"], observed=True)["ts"].max()
    return [
        flow(0.5, client, server, 1883, duration=last_s + 1.4, conn_state="OTH", history="DdA",
             orig_pkts=400.0, resp_pkts=400.0)
        for (client, server), last_s in ends.items()
    ]  # fmt: skip


def view_of_messages(*tables: pd.DataFrame, others=()) -> TrafficView:
    rows = pd.concat(tables, ignore_index=True)
    rows = rows.astype(
        dict.fromkeys(["client", "server", "protocol", "kind", "name", "outcome"], "category")
    )
    made = capture(*sessions(rows), *others)
    ends = list(zip(made.flows["id.orig_h"], made.flows["id.resp_h"], strict=True))
    place = [ends.index((one.client, one.server)) for one in rows.itertuples()]
    made = replace(made, exchanges=rows.assign(flow=place).sort_values("ts", ignore_index=True))
    return TrafficView(made, make_samples(made))


def together(view: TrafficView, now_s: float) -> list[set[str]]:
    signs = [one for one in find_signs(view, now_s) if kind_of(one.fact) == "quiet_together"]
    return [{one.device, *one.related} for one in signs]


GOING_ON = ("192.168.1.70", "192.168.1.71", "192.168.1.72")
STEPS_S = (1.0, 2.0, 4.0)  # the rhythm of each


def messages_until(stop_s: float, **more) -> list[pd.DataFrame]:
    stopped = [
        told_every(step_s, stop_s, one, **more)
        for one, step_s in zip(SENSORS, STEPS_S, strict=True)
    ]
    return [*stopped, *(told_every(1.0, 220.0, one) for one in GOING_ON)]


@pytest.mark.parametrize(
    ("now_s", "wanted"),
    [
        (206.5, []),  # one may pause for four seconds, and has for five and a half
        (207.5, [set(SENSORS)]),
        (212.5, [set(SENSORS)]),
    ],
)
def test_several_that_stop_at_one_moment_are_told_as_soon_as_their_rhythms_allow(now_s, wanted):
    """The slowest said its last word at 201 s: six seconds after that it is overdue."""
    assert together(view_of_messages(*messages_until(201.5)), now_s) == wanted


def test_what_several_that_stop_at_one_moment_are_told_as():
    (sign,) = [
        one for one in find_signs(view_of_messages(*messages_until(201.5)), 212.5) if one.count
    ]
    assert (sign.label, sign.peers, sign.count) == ("device_silent", (), 3)
    assert (sign.hard, sign.stands, sign.start_s) == (True, True, 201.0)


@pytest.mark.parametrize(
    ("tables", "now_s"),
    [
        ([*messages_until(201.5)[1:]], 215.0),  # two are no group
        (messages_until(201.5)[:4], 215.0),  # hardly anybody goes on: the sensor may be deaf
        ([*messages_until(201.5)[:2], told_every(4.0, 160.0, SENSORS[2]), *messages_until(0)[3:]], 215.0),
        (messages_until(201.5, server=GOING_ON[0]), 203.0),  # none is overdue yet
        (messages_until(80.0), 92.0),  # hardly anything is known of them
    ],
    ids=["two", "nobody else", "one of them long before", "too soon", "just begun"],
)  # fmt: skip
def test_what_is_no_silence_of_several(tables, now_s):
    assert together(view_of_messages(*tables), now_s) == []


def test_who_waits_after_a_refusal_or_for_a_silent_server_is_none_of_them():
    refused = [
        pd.concat([rows, requests([5], 202.0, protocol="mqtt", kind="session", port=1883,
                                  client=rows["client"].iloc[0], server=OTHER)])
        for rows in messages_until(201.5)[:3]
    ]  # fmt: skip
    others = messages_until(201.5)[3:]
    assert together(view_of_messages(*refused, *others), 215.0) == []
    # All three speak to one that is itself silent: it may be all that is wrong.
    server = "192.168.1.80"
    silent = [
        told_every(step_s, 201.5, one, server) for one, step_s in zip(SENSORS, STEPS_S, strict=True)
    ]
    answers = told_every(1.0, 201.5, server, GOING_ON[0])
    assert together(view_of_messages(*silent, answers, *others), 215.0) == []


@pytest.mark.parametrize(
    ("codes", "wanted"),
    [
        ([0] * 20 + [2] * 3, ["refuses"]),
        ([0] * 20 + [2] * 2, []),
        ([0] * 20 + [2] * 3 + [0], []),
        ([2] * 23, []),  # it never was answered: the rule waits, and so does this
        ([0] * 20 + [6] * 3, []),  # busy
    ],
)
def test_requests_that_were_answered_are_refused(codes, wanted):
    view = view_of(*polls(130), exchanges=requests(codes))
    now_s = 100.0 + len(codes)
    assert [one[0] for one in found(view, now_s) if one[0] == "refuses"] == wanted


@pytest.mark.parametrize(
    ("codes", "met_s", "wanted"),
    [
        ([5], 0.0, ["logins_refused"]),  # it was let in for minutes
        ([5], 190.0, []),
        ([5, 5, 5], 190.0, ["logins_refused"]),
        ([5, 0], 0.0, []),
    ],
)
def test_a_login_that_is_refused(codes, met_s, wanted):
    tried = requests(codes, 201.0, protocol="mqtt", kind="session", function=1, port=1883)
    met = [flow(ts, HMI, PLC, 1883) for ts in np.arange(met_s, 200.0, 5.0)]
    view = view_of(*met, *polls(205, OTHER), exchanges=tried)
    assert [one[0] for one in found(view, 205.0) if one[0] == "logins_refused"] == wanted


def test_all_whom_one_server_refuses_are_one_sign():
    tried = pd.concat([
        requests([5, 5], 201.0 + n / 4, protocol="mqtt", kind="session", function=1, port=1883, client=one)
        for n, one in enumerate((DEVICE, HMI, OTHER))
    ], ignore_index=True)  # fmt: skip
    tried = tried.astype(dict.fromkeys(["client", "server"], "category"))
    met = [flow(ts, one, PLC, 1883) for one in (DEVICE, HMI, OTHER) for ts in range(0, 200, 5)]
    (sign,) = find_signs(view_of(*met, exchanges=tried), 205.0)
    assert (sign.device, sign.related, sign.peers) == (DEVICE, (HMI, OTHER), (PLC,))
    assert (sign.count, sign.hard, sign.fact.values["refused"]) == (6, True, 6)


@pytest.mark.parametrize("ports", [4, 5])
def test_who_tries_one_port_after_the_other_in_vain(ports):
    tries = [
        flow(201.0 + n / 2, DEVICE, PLC, 20 + n, id__orig_p=50000 + n, **REFUSED)
        for n in range(ports)
    ]
    signs = found(view_of(*polls(205), *polls(205, DEVICE, OTHER), *tries), 205.0)
    assert [one for one in signs if one[0] == "looks"] == [("looks", "recon", DEVICE)] * (ports > 4)


@pytest.mark.parametrize(("size", "wanted"), [(52, FAILS), (200, [])])
def test_a_reset_of_an_open_session_is_no_answer(size, wanted):
    """The machine sends it, though the service is gone; what carries something is an answer."""
    held = flow(0.5, OTHER, PLC, 502, duration=203.0, conn_state="RSTRH", history="DdAfr")
    made = capture(*polls(197), held, *refused(198, 199))
    place = made.flows.index[made.flows["id.orig_h"] == OTHER][0]
    last = made.activity.index[made.activity["flow"] == place][-1]
    made.activity.loc[last, ["orig_syns", "resp_pkts", "resp_bytes"]] = 0, 1, size
    view = TrafficView(made, make_samples(made))
    assert [one for one in found(view, 205.0) if one[0] == "fails"] == wanted


HARD = {
    "refused often and for long": ([*polls(200), *refused(201, 203, 205, 207)], True),
    "for a moment": ([*polls(200), *refused(201, 201.5, 202, 202.5)], False),
    "twice": ([*polls(200), *refused(201, 207)], False),
    "mute, as one that restarts": (
        [*polls(200), *(unanswered(t, HMI, PLC, 502, id__orig_p=50000 + t) for t in range(201, 208))],
        False,
    ),
    "tries eight ports": (
        [*polls(209), *polls(209, DEVICE, OTHER),
         *(flow(201.0 + n / 2, DEVICE, PLC, 20 + n, id__orig_p=50000 + n, **REFUSED) for n in range(8))],
        True,
    ),
    "tries five": (
        [*polls(209), *polls(209, DEVICE, OTHER),
         *(flow(201.0 + n / 2, DEVICE, PLC, 20 + n, id__orig_p=50000 + n, **REFUSED) for n in range(5))],
        False,
    ),
    "calls out": ([*polls(209), *polls(209, DEVICE, OTHER), flow(201.0, DEVICE, CLOUD, 4444)], False),
    "is silent": ([*steady(200, lasts_s=8.6), *polls(209, HMI, OTHER)], False),
}  # fmt: skip


@pytest.mark.parametrize("case", HARD)
def test_how_much_of_a_sign_is_no_accident(case):
    rows, hard = HARD[case]
    (sign,) = find_signs(view_of(*rows), 209.0)
    assert sign.hard is hard


@pytest.mark.parametrize(
    ("devices", "hard"),
    [
        ((), False),
        ((Device("plc", PLC, "PLC"), Device("hmi", DEVICE, "HMI")), False),
        ((Device("plc", PLC, "PLC"),), True),  # the writer is none of the plant's
        ((Device("plc", PLC, "PLC", writers=(HMI,)), Device("hmi", DEVICE, "HMI")), True),
    ],
)
def test_a_new_writer_is_hard_where_the_plant_says_who_there_is_or_who_may(devices, hard):
    writes = requests([0, 0], 200.0, client=DEVICE, kind="write", function=6)
    view = view_of(*polls(205), flow(199.0, DEVICE, PLC, 502, duration=5.0), exchanges=writes)
    view.plant = Plant(devices)
    assert [one.hard for one in find_signs(view, 205.0)] == [hard]


def test_who_comes_to_write_and_who_was_there_before():
    writes = requests([0, 0], 200.0, client=DEVICE, kind="write", function=6)
    visits = flow(199.0, DEVICE, PLC, 502, duration=5.0)
    assert found(view_of(*polls(205), visits, exchanges=writes), 205.0) == [
        ("writes", "unauthorized_command", DEVICE)
    ]
    assert found(view_of(*polls(205), *polls(205, DEVICE), exchanges=writes), 205.0) == []


def test_a_second_machine_claims_an_address_for_the_first_time():
    claim = (20, OTHER, PLC, "arp_conflict", 0, 1, 2)
    rows = [*polls(205), *polls(205, OTHER, HMI)]
    assert found(view_of(*rows, evidence=[claim]), 205.0) == [("claims", "spoofing", PLC)]
    before = (10, *claim[1:])
    assert found(view_of(*rows, evidence=[before, claim]), 205.0) == []


def test_a_call_outside_that_no_name_led_to():
    call = flow(201.0, DEVICE, CLOUD, 4444)
    asked = (20, DEVICE, HMI, "dns_query", 0, 1, 1)
    rows = [*polls(205), *polls(205, DEVICE, OTHER)]
    assert found(view_of(*rows, call), 205.0) == [("calls_out", "c2", DEVICE)]
    assert found(view_of(*rows, call, evidence=[asked]), 205.0) == []
    assert found(view_of(*rows, call, flow(5.0, DEVICE, CLOUD, 4444)), 205.0) == []


def test_loss_where_there_was_none_is_one_sign_of_the_device_that_has_it():
    peers = [HMI, OTHER]
    lost = [(slot, PLC, peer, "retransmission", 0, 4, 1) for slot in (20, 21) for peer in peers]
    rows = [row for peer in peers for row in polls(215, peer)]
    (sign,) = find_signs(view_of(*rows, evidence=lost), 215.0)
    assert (sign.label, sign.device, set(sign.peers)) == ("packet_loss", PLC, set(peers))
    assert sign.fact.values["resent"] == 16
    assert sign.hard
    # Loss of the open slot alone, which the slot before would thin.
    row = flow(0.2, PLC, HMI, 502, duration=214.0, orig_pkts=850.0, resp_pkts=850.0)
    fresh = view_of(*rows, row, evidence=[(21, PLC, HMI, "retransmission", 0, 5, 1)])
    assert [one.count for one in find_signs(fresh, 215.0)] == [5]
    # What nobody answers any more is sent again too: then it is no loss that goes on.
    left = [row for peer in peers for row in polls(211, peer)]
    (dead,) = [one for one in find_signs(view_of(*left, evidence=lost), 215.0) if one.count]
    assert (dead.label, dead.hard) == ("packet_loss", False)
    always = [(slot, PLC, HMI, "retransmission", 0, 4, 1) for slot in range(22)]
    assert found(view_of(*rows, evidence=always), 215.0) == []


# ---- What is hard to explain away though little of it was seen ----


@pytest.mark.parametrize(
    ("met", "now_s", "later", "stands"),
    [
        (range(0, 200, 5), 207.0, [], True),
        (range(0, 200, 5), 205.0, [], False),  # it may try again
        (range(0, 200, 25), 207.0, [], False),  # who comes now and then may have been mistyped
        (range(0, 200, 5), 207.0, [flow(204.0, HMI, PLC, 1883)], False),  # it is let in elsewhere
    ],
    ids=["mute since", "too soon", "now and then", "talks on"],
)
def test_one_refused_login_of_who_reported_until_then_stands(met, now_s, later, stands):
    tried = requests([5], 201.0, protocol="mqtt", kind="session", function=1, port=1883)
    rows = [*(flow(ts, HMI, PLC, 1883) for ts in met), *later]
    view = view_of(*rows, *polls(now_s, OTHER, DEVICE), exchanges=tried)
    (sign,) = [one for one in find_signs(view, now_s) if kind_of(one.fact) == "logins_refused"]
    assert (sign.count, sign.hard, sign.stands) == (1, stands, stands)


def silent_incident(device: str, start_s: float, end_s: float, *fellows: str) -> Incident:
    kind = "silent_together" if fellows else "stopped"
    fact = make_fact(kind, "{members:device} fell silent.", {"members": len(fellows) + 1})
    return Incident(f"device_silent-{device}-{start_s:.0f}", device, "source", "device_silent", "low",
                    start_s, end_s, (), (fact,), (*fellows, HMI), (), ())  # fmt: skip


def test_what_several_are_told_as_stays_one_alarm_with_all_names(history):
    """One alarm of three; then each of them alone, then all as a rule says it, then each again."""
    alarms, named = (
        Alarms(history),
        {"related": SENSORS[1:], "hard": True, "stands": True, "count": 3},
    )
    sign = make_sign(1000, "device_silent", SENSORS[0], **named)
    sign = replace(sign, peers=(), fact=make_fact("quiet_together", "All three.", {}))
    (first,) = follow(alarms, 1007.5, sign)
    assert (first.act, first.alarm.tier) == ("raise", "notification")
    (then,) = follow(alarms, 1010.0, sign)
    assert (then.act, then.alarm.tier) == ("raise", "alarm")
    assert "what they share" in then.alarm.content.cause
    assert "switch" in then.alarm.content.response
    each = [silent_incident(one, 998.0 + n, 1020.0) for n, one in enumerate(SENSORS)]
    assert follow(alarms, 1020.0, *each) == []
    (alarm,) = list_alarms(history)
    assert (alarm.content.text, alarm.content.together) == ("All three.", SENSORS[1:])
    assert name_alarm(alarm, Plant()) == f"{SENSORS[0]} and 2 more"
    whole = silent_incident(SENSORS[1], 1000.0, 1040.0, SENSORS[0], SENSORS[2])
    assert [one.act for one in follow(alarms, 1040.0, whole, each[2])] == ["change"]
    (alarm,) = list_alarms(history)
    assert (alarm.incident, alarm.device, alarm.content.sign) == (
        then.alarm.incident, SENSORS[1], False,
    )  # fmt: skip


def test_who_fell_silent_at_another_time_is_an_alarm_of_its_own(history):
    alarms = Alarms(history)
    follow(alarms, 1040.0, silent_incident(SENSORS[1], 1000.0, 1040.0, SENSORS[0], SENSORS[2]))
    later = silent_incident("192.168.1.90", 1100.0, 1140.0)
    assert [one.act for one in follow(alarms, 1140.0, later)] == ["raise"]
    assert len(list_alarms(history)) == 2


def test_an_alarm_of_several_goes_on_as_that_and_not_as_a_notification_of_one(history):
    alarms = Alarms(history)
    follow(alarms, 1008.0, make_sign(1000, "service_down", SENSORS[1]))
    (first, *_) = follow(
        alarms, 1020.0, silent_incident(SENSORS[0], 1000.0, 1020.0, SENSORS[1], SENSORS[2]),
        make_sign(1000, "service_down", SENSORS[1]),
    )  # fmt: skip
    assert first.act == "raise"
    turned = silent_incident(SENSORS[1], 1000.0, 1030.0, SENSORS[0], SENSORS[2])
    assert [one.act for one in follow(alarms, 1030.0, turned)] == ["change"]


def test_what_stands_is_an_alarm_though_there_is_no_more_of_it(history):
    alarms = Alarms(history)
    follow(alarms, 1005.0, make_sign(1000, count=1))
    (then,) = follow(alarms, 1007.5, make_sign(1000, count=1, hard=True, stands=True))
    assert (then.act, then.alarm.tier) == ("raise", "alarm")
    assert "nothing spoke against it since" in then.alarm.content.cause


@pytest.mark.parametrize(
    ("writes", "reads", "since_s", "wanted"),
    [
        (30, 0, 45.0, [True]),  # half a minute is enough for a burst
        (30, 0, 25.0, []),
        (30, 40, 100.0, [False]),  # it reads more than it writes
        (10, 0, 45.0, []),  # so few may have come before the watch began
        (10, 0, 100.0, [False]),
    ],
)
def test_a_burst_of_writes_of_who_comes_to_write(writes, reads, since_s, wanted):
    asked = [
        requests([0] * n, since_s, 0.1, client=DEVICE, kind=kind, function=function)
        for n, kind, function in ((writes, "write", 6), (reads, "read", 3))
        if n
    ]
    both = pd.concat(asked, ignore_index=True).astype(dict.fromkeys(["client", "kind"], "category"))
    view = view_of(*polls(200), flow(since_s, DEVICE, PLC, 502, duration=9.0), exchanges=both)
    view.plant = Plant((Device("plc", PLC, "PLC"), Device("ws", DEVICE, "workstation")))
    signs = [one for one in find_signs(view, since_s + 9.0) if kind_of(one.fact) == "writes"]
    assert [one.hard for one in signs] == wanted


def asked(functions: tuple[int, ...], targets: int, codes: tuple[int, ...] = (0,)) -> pd.DataFrame:
    """Each of some addresses once in each of some ways, ten a second from 100 s on."""
    rows = requests([codes[n % len(codes)] for n in range(len(functions) * targets)], 100.0, 0.1)
    places = [(function, target) for function in functions for target in range(targets)]
    return rows.assign(
        client=pd.Categorical([DEVICE] * len(rows)),
        function=[one[0] for one in places],
        target=[one[1] for one in places],
    )


@pytest.mark.parametrize(
    ("questions", "wanted"),
    [
        (asked((1, 3, 4), 10), [True]),  # the same places in three ways
        (asked((3,), 30, (0, 0, 2)), [True]),  # a third of it is not there
        (asked((3,), 30), [False]),  # who reads all of a device knows what it has
        (asked((3,), 11), []),
        (asked((1, 28, 15), 10, (0, 3)).assign(protocol=pd.Categorical(["dns"] * 30)), []),
        (pd.concat([asked((3,), 15)] * 2, ignore_index=True), []),  # a poll comes again
    ],
    ids=["three ways", "refused", "all of it", "few", "names", "polls"],
)
def test_who_comes_to_ask_for_one_thing_after_the_other(questions, wanted):
    visits = flow(100.0, DEVICE, PLC, 502, duration=4.0)
    known = polls(104, DEVICE, OTHER)
    signs = find_signs(view_of(*polls(104), *known, visits, exchanges=questions), 104.0)
    assert [one.hard for one in signs if kind_of(one.fact) == "sweeps"] == wanted


@pytest.mark.parametrize(
    ("sent", "more", "wanted"),
    [
        (300e3, {}, [True]),
        (100e3, {}, [False]),
        (20e3, {}, []),
        (300e3, {"resp_bytes": 200e3}, []),  # a download
        (300e3, {"ts": 50.0, "duration": 155.0}, []),  # it went on before
        (300e3, {"port": 443}, []),  # a camera does so whenever it sees somebody
        (300e3, {"history": "DadA", "conn_state": "OTH"}, []),  # opened before all that was seen
    ],
    ids=["much", "some", "little", "both ways", "known", "ordinary", "open"],
)
def test_much_that_is_sent_outside_where_nothing_went_before(sent, more, wanted):
    sizes = {"duration": 3.0, "orig_bytes": sent, "orig_ip_bytes": sent, "resp_bytes": 200.0}
    made = {"ts": 201.0, "port": 2222} | sizes | more
    ts, port = made.pop("ts"), made.pop("port")
    row = flow(ts, DEVICE, CLOUD, port, **made, resp_ip_bytes=made["resp_bytes"])
    signs = find_signs(view_of(*polls(205), *polls(205, DEVICE, OTHER), row), 205.0)
    uploads = [one for one in signs if kind_of(one.fact) == "uploads"]
    assert [one.hard for one in uploads] == wanted
    assert {one.label for one in uploads} <= {"exfiltration"}


@pytest.mark.parametrize(("step_s", "lost", "wanted"), [(0.1, 90, ["resent"]), (2.0, 9, [])])
def test_a_busy_pair_needs_no_minute_to_show_that_it_loses(step_s, lost, wanted):
    times = np.arange(0.2, 45.0, step_s)
    rows = [flow(ts, HMI, PLC, 502, id__orig_p=41000 + n) for n, ts in enumerate(times)]
    sent_again = [(4, PLC, HMI, "retransmission", 0, lost, 1)]
    assert [one[0] for one in found(view_of(*rows, evidence=sent_again), 45.0)] == wanted


# ---- What becomes of them ----


@pytest.fixture
def history(tmp_path):
    opened = History(tmp_path / "history.sqlite")
    yield opened
    assert check_audit(tmp_path / "history.sqlite").outcome in ("whole", "not there")
    opened.close()


def make_sign(start_s: float, label: str = "service_down", device: str = PLC, **more) -> Sign:
    fact = make_fact("fails", "First sign: {name} fails.", {"name": device})
    return replace(Sign(label, device, (HMI,), fact, start_s, start_s + 5), **more)


def make_incident(start_s: float, label: str = "service_down", device: str = PLC) -> Incident:
    fact = make_fact("port_refused", "{name} refuses.", {"name": device})
    return Incident(f"{label}-{start_s:.0f}", device, "source", label, "low", start_s, start_s + 20,
                    (), (fact,), (HMI,), (), ())  # fmt: skip


def follow(
    alarms: Alarms, now_s: float, *seen: Sign | Incident, over: bool = False
) -> list[Change]:
    incidents = [one for one in seen if isinstance(one, Incident)]
    signs = [one for one in seen if isinstance(one, Sign)]
    return alarms.update(incidents, NONE, (), now_s, now_s, signs, over)


def test_a_sign_calls_nobody_until_an_incident_bears_it_out(history):
    alarms = Alarms(history)
    (first,) = follow(alarms, 1005.0, make_sign(1000))
    assert (first.act, first.alarm.tier, first.alarm.content.sign) == (
        "raise",
        "notification",
        True,
    )
    assert follow(alarms, 1010.0, make_sign(1000)) == []
    assert read_meter(history, 1010.0).last == 0
    (then,) = follow(alarms, 1020.0, make_sign(1000), make_incident(1000))
    assert (then.act, then.alarm.tier, then.alarm.content.sign) == ("raise", "alarm", False)
    assert (then.alarm.incident, then.alarm.raised_s, then.alarm.times) == (
        first.alarm.incident,
        1020.0,
        1,
    )
    assert read_meter(history, 1020.0).last == 1
    assert len(list_alarms(history)) == 1
    assert follow(alarms, 1030.0, make_sign(1000), make_incident(1005)) == []


def test_a_hard_sign_that_goes_on_is_an_alarm_of_what_is_likely(history):
    alarms = Alarms(history)
    (first,) = follow(alarms, 1005.0, make_sign(1000, count=4, hard=True))
    assert first.alarm.tier == "notification"
    again = make_sign(1000, count=6, hard=True, end_s=1007.5)
    (then,) = follow(alarms, 1007.5, again)
    assert (then.act, then.alarm.tier, then.alarm.incident) == (
        "raise", "alarm", first.alarm.incident,
    )  # fmt: skip
    assert then.alarm.content.cause.startswith("Likely ")
    assert (then.alarm.content.sign, then.alarm.raised_s) == (True, 1007.5)
    assert read_meter(history, 1007.5).last == 1
    # It stays one and says the same, also where a look adds nothing; another process goes on with it.
    assert follow(Alarms(history), 1010.0, again) == []
    (stands,) = list_alarms(history)
    assert (stands.tier, stands.content.cause) == ("alarm", then.alarm.content.cause)
    # The incident that bears it out goes on under it, and calls nobody a second time.
    assert follow(alarms, 1020.0, make_incident(1000)) == []
    (after,) = list_alarms(history)
    assert (after.incident, after.tier, after.raised_s) == (first.alarm.incident, "alarm", 1007.5)
    assert (after.content.sign, after.times) == (False, 1)
    assert read_meter(history, 1020.0).last == 1
    assert [one.act for one in follow(alarms, 1200.0, make_incident(1000))] == ["return"]


@pytest.mark.parametrize(
    "second",
    [
        {"count": 4, "hard": True},  # no more than before
        {"count": 9},
        {"count": 9, "hard": True, "start_s": 1006.0},  # it worked in between
    ],
    ids=["no more", "not hard", "it worked"],
)
def test_a_sign_calls_nobody_where_it_does_not_go_on(history, second):
    alarms = Alarms(history)
    follow(alarms, 1005.0, make_sign(1000, count=4, hard=True))
    assert follow(alarms, 1007.5, make_sign(**{"start_s": 1000.0} | second)) == []
    assert [one.tier for one in list_alarms(history)] == ["notification"]


def test_an_alarm_of_a_sign_that_nothing_bears_out_is_withdrawn(history):
    alarms = Alarms(history)
    follow(alarms, 1005.0, make_sign(1000, count=4, hard=True))
    follow(alarms, 1010.0, make_sign(1000, count=6, hard=True))
    assert follow(alarms, 1129.0) == []
    assert [(one.act, one.alarm.tier) for one in follow(alarms, 1249.0)] == [("withdraw", "alarm")]


def test_an_alarm_of_a_sign_tells_other_signs_of_the_same_trouble(history):
    alarms = Alarms(history)
    follow(alarms, 1005.0, make_sign(1000, count=4, hard=True))
    more = make_sign(1000, count=6, hard=True)
    assert len(follow(alarms, 1010.0, more)) == 1
    assert follow(alarms, 1012.5, more, make_sign(1005, "packet_loss", count=9, hard=True)) == []
    attack = make_sign(1005, "recon", count=9, hard=True)
    assert [one.alarm.label for one in follow(alarms, 1015.0, more, attack)] == ["recon"]


def test_a_sign_that_nothing_bears_out_is_withdrawn(history):
    alarms = Alarms(history)
    follow(alarms, 1005.0, make_sign(1000))
    assert follow(alarms, 1020.0) == []
    assert [one.act for one in follow(alarms, 1140.0)] == ["withdraw"]
    follow(alarms, 2005.0, make_sign(2000))
    assert [one.act for one in follow(alarms, 2010.0, over=True)] == ["withdraw"]


def test_another_name_of_the_same_trouble_bears_it_out_and_a_fault_no_attack(history):
    alarms = Alarms(history)
    follow(alarms, 1005.0, make_sign(1000, "device_silent"), make_sign(1000, "c2", DEVICE))
    follow(
        alarms,
        1020.0,
        make_sign(1000, "c2", DEVICE),
        make_incident(1000),
        make_incident(1001, device=DEVICE),
    )
    told = {(one.label, one.device, one.tier) for one in list_alarms(history)}
    assert told == {
        ("service_down", PLC, "alarm"),
        ("service_down", DEVICE, "alarm"),
        ("c2", DEVICE, "notification"),
    }


def test_a_device_that_shows_a_sign_is_not_called_well():
    view = view_of(*polls(400))
    normal = pd.DataFrame(
        {"start_s": np.arange(0.0, 340.0, 10.0), "device": PLC, "label": "normal"}
    )
    normal = normal.assign(end_s=normal["start_s"] + 60, probability=1.0, abstained=False)
    assert judge_health(PLC, normal, view).standing == "normal"
    view.signs = {PLC: "First sign: it fails."}
    health = judge_health(PLC, normal, view)
    assert (health.standing, health.reason) == ("inconclusive", "sign")
    assert "First sign: it fails." in describe_health(health, normal, view).headline.text


@pytest.mark.parametrize("device", [bottling_line.PLC, bottling_line.CAMERA])
def test_of_a_plant_without_incidents_the_device_with_a_sign_is_told_first(device):
    """Also where its own windows are undecided, or others' are."""
    analysis = bottling_line.make_analysis(())
    assert "First sign" not in answer("what is wrong?", analysis).text
    analysis.view.signs[device] = "First sign: it fails."
    said = answer("what is wrong?", analysis)
    assert (said.device, said.standing) == (device, "inconclusive")
    assert "First sign: it fails." in said.text.splitlines()[0]


def test_of_a_plant_watched_live_no_capture_ends():
    """A time is said instead, as the watching may have stopped since."""
    analysis = bottling_line.make_analysis()
    told = answer("what is wrong?", analysis).text
    analysis.view.live = True
    live = answer("what is wrong?", analysis).text
    assert "still at the end of the capture" in told
    assert "end of the capture" not in live
    assert "since 2018-12-22 08:22:00 UTC and still at 08:24:00" in live
