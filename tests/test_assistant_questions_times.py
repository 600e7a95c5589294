"""A time in a question means those incidents, requests and changes that fall into it."""

from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import pytest

from assistant.answers.answer import answer
from assistant.questions.times import read_span
from assistant.session import analyse, load_models
from assistant.settings import Settings
from traffic.plant import load_plant

SAMPLES = Path(__file__).parents[1] / "assistant" / "samples"
NOON = 1_545_480_000.0  # 12:00:00 UTC, the capture's start; it lasts 15 minutes
MODELS = load_models(Settings(home=Path(mkdtemp())))


def load(name: str):
    folder = SAMPLES / name
    settings = Settings(home=Path(mkdtemp()), plant=folder / "plant.yaml")
    return analyse(folder / "capture.pcap", settings, MODELS)


@pytest.fixture(scope="module")
def press_shop():
    """13:56:40 to 13:58:50 UTC; writes of ws-1 from 13:57:29 on."""
    return load("press-shop")


@pytest.mark.parametrize(
    ("question", "start_s", "end_s"),
    [
        ("what happened between 12:05 and 12:10?", 300, 600),
        ("from 12:01 to 12:03, who wrote?", 60, 180),
        ("between 12:05:10 and 12:06:20", 310, 380),
        ("why was hmi-1 slow at 12:05?", 240, 419),
        ("why was hmi-1 slow at 12:05:30?", 270, 390),
        ("anything since 12:05?", 300, 900),
        ("what did plc-1 do before 12:10?", 0, 600),
        ("what changed in the last ten minutes?", 300, 900),
        ("and in the first two minutes?", 0, 120),
        ("was war um 12 Uhr 05?", 240, 419),
        ("was geschah zwischen 12:05 und 12:10 Uhr?", 300, 600),
        ("in den letzten 5 Minuten?", 600, 900),
        ("que paso entre las 12:05 y las 12:10?", 300, 600),
        ("desde las 12:05", 300, 900),
        ("at 12:05 pm?", 240, 419),
        ("what was that at quarter past twelve?", 840, 1019),
        ("what went on at half past twelve?", 1740, 1919),
        ("who wrote quarter to one?", 2640, 2819),
        ("what went on two minutes before the end?", 720, 840),
        ("what was that five minutes ago?", 540, 660),
        ("was war vor zwei Minuten?", 720, 840),
    ],
)
def test_the_time_that_is_named(question, start_s, end_s):
    span = read_span(question, NOON, NOON + 900)
    assert (span.start_s - NOON, span.end_s - NOON) == (start_s, end_s)


@pytest.mark.parametrize(
    "question",
    [
        "does 10.0.0.5 answer on port 502?", "is 10.0.0.5:502 open?", "who is 08:3a:8d:d6:a4:45?",
        "does fe80::12:30 answer?", "what is 0x0B?", "firmware 12.05?", "why are 12 of 30 late?", "",
    ],
)  # fmt: skip
def test_what_is_no_time(question):
    assert read_span(question, NOON, NOON + 900) is None


def test_a_clock_time_is_that_of_the_plant_and_the_nearest_to_the_capture():
    berlin = read_span("what was at 13:05?", NOON, NOON + 900, "Europe/Berlin")
    assert berlin.at_s == NOON + 300
    two_days = read_span("what was at 11:55?", NOON, NOON + 2 * 86_400)
    assert two_days.at_s == NOON + 2 * 86_400 - 300  # the newest of both
    assert read_span("what was at 11:55?", float("nan"), float("nan")) is None


@pytest.mark.parametrize(
    ("question", "line"),
    [
        ("what happened at 13:58?", "1 incident between 2026-11-21 13:57:00 UTC and 13:58:50"),
        ("is plc-3 ok at 13:58?", "No, confirmed: plc-3 (172.23.84.248) is affected"),
        (
            "what happened between 10:00 and 11:00?",
            "Cannot tell: this capture does not hold that time",
        ),
        ("is plc-3 ok at 10:00?", "Cannot tell: this capture does not hold that time"),
        ("how many writes did plc-3 get before 13:57:10?", "0 of "),
    ],
)
def test_answers_are_about_the_time(press_shop, question, line):
    said = answer(question, press_shop)
    assert said.text.startswith(f"**{line}")
    assert said.removed == 0


def test_what_lies_outside_of_the_time_is_said_and_is_no_all_clear(press_shop):
    late = replace(press_shop.incidents[0], start_s=press_shop.view.end_s - 20, facts=())
    said = answer("is plc-3 ok at 13:57:00?", replace(press_shop, incidents=(late,)))
    assert said.standing == "inconclusive"
    assert "1 incident outside of that time" in said.cause


def test_what_changed_is_split_at_the_time(press_shop):
    said = answer("what changed at 13:57:20?", press_shop)
    assert "since 2026-11-21 13:57:20 UTC" in said.cause
    assert "writes to plc-3 (172.23.84.248), which it did not before." in said.text


# ---- Questions that name devices by what was found of them, or two at once ----

QUESTIONS = {
    "press-shop": [
        ("how many machines attacked plc-3?", "It comes from 1 machine: ws-1"),
        ("which problem do I handle first?", "First: "),
        ("name the three worst things", "1 incident; the worst: unexpected commands by ws-1"),
        ("are any passwords being guessed?", "No: no sign of this kind of trouble (login attempts)"),
        ("since when is ws-1 under attack?", "At ws-1 (172.23.84.41) it began at 2026-11-21 13:57:"),
        ("which of these should security look at?", "It is a matter for security: what ws-1"),
        ("did anything leave the plant?", "No: no sign of this kind of trouble (unusual upload)"),
        ("is there an unknown device?", "No: every address of the plant that was seen stands in plant.yaml."),
        ("which devices are healthy?", "1 device of 3 judged normal: hmi-1 (172.23.84.155)."),
        ("which devices are you not sure of?", "None of 3 devices is undecided."),
        ("is plc-3 the cause?", "No: plc-3 (172.23.84.248) has to do with it, but the cause lies at ws-1"),
        ("is ws-1 the culprit?", "Yes: ws-1 (172.23.84.41) sent plc-3"),
        ("do plc-3 and ws-1 have the same problem?", "Yes: plc-3 (172.23.84.248) and ws-1 (172.23.84.41) have to do"),
        ("do plc-3 and hmi-1 have the same problem?", "No: plc-3 (172.23.84.248) and hmi-1"),
        ("is ws-1 allowed to write to plc-3?", "Cannot tell: nothing here says who may write to plc-3"),
        ("does hmi-1 write to plc-9?", "Cannot tell: nothing was sent by plc-9 in this capture"),
        ("who uses modbus?", "2 clients made 1,013 requests: ws-1 (172.23.84.41) (888 times) and hmi-1"),
        ("who speaks mqtt?", "No mqtt was read in this capture."),
        ("are the clocks in order?", "Cannot tell: no request for the time was seen"),
        ("when was hmi-1 last seen?", "hmi-1 (172.23.84.155) sent its last packet at 2026-11-21 13:58:4"),
        ("guten Abend, ist alles in Ordnung?", "No, confirmed: ws-1"),
        ("was there a spike in traffic?", "Most in 10 s: 0.02 Mbit/s"),
        ("is the internet connection ok?", "Cannot tell: the plant calls nobody outside"),
        ("how often did hmi-1 reconnect to plc-3?", "hmi-1 (172.23.84.155) opened 1 connection to plc-3"),
        ("anything I should worry about?", "Yes, confirmed: ws-1"),
        ("can I trust plc-3?", "No, confirmed: plc-3"),
        ("how is plc-3 doing?", "Confirmed: plc-3"),
        ("is the cable of plc-3 ok?", "Yes: no packet loss shows at plc-3"),
        ("is the cable of plc-3 bad?", "No: no packet loss shows at plc-3"),
        ("what was the peak load of plc-3?", "Most in 10 s: 0.02 Mbit/s"),
        ("what does E-431 on plc-3 mean?", "Neither the protocols that are read nor the documents know E-431."),
    ],
    "boiler-house": [
        ("did anyone try passwords?", "Yes: broker-1 (192.168.11.247) refuses the login of sensor-6"),
        ("who gets errors from broker-1?", "broker-1 (192.168.11.247) refuses what is asked by sensor-6"),
        ("is ws-1 the cause?", "Ws-1 is not in this capture"),
        ("which of the sensors behave suspiciously?", "1 device of 3 with an incident: sensor-6"),
    ],
    "tank-farm": [
        ("is there packet loss anywhere?", "Yes, likely: packets are lost between"),
    ],
    "filling-line": [
        ("is plc-4 ok now?", "plc-4 (10.95.111.80) port 502 answered nobody from 2026-11-21 13:40:46 UTC to 13:42:54"),
        ("is plc-4 ok?", "No, confirmed: plc-4"),
    ],
    "paint-shop": [
        ("which ports of plc-1 were scanned?", "edge-1 (10.79.32.26) tried "),
        ("did the scanner find anything open?", "Yes: edge-1 (10.79.32.26) tried "),
        ("is hmi-1 allowed to write to plc-7?", "hmi-1 and plc-7 are not in this capture"),
    ],
}  # fmt: skip


FIELD = {
    "dns-servfail": [
        ("did it recover?", "No: at router-a (192.168.7.1) it began at 2026-11-21 13:42:31 UTC and still goes on"),
        ("is it over?", "No: at router-a (192.168.7.1) it began at 2026-11-21 13:42:31 UTC and still goes on"),
        ("is it getting worse?", "No: it stays about the same: 150 failures at router-a"),
        ("is it getting better?", "No: it stays about the same: 150 failures at router-a"),
        ("can I ignore it?", "No, confirmed: the resolver router-a"),
        ("which devices could not resolve names?", "1 device had names that failed: sensor-a"),
        ("how bad is it?", "Devices that know their partners by name cannot reach them. It is rated low"),
    ],
    "enip-idle-120s-closed": [
        # It comes every two minutes: 28 s without it is no end.
        ("is it over?", "No: at 10.20.0.67 it began at 2026-09-21 14:15:22 UTC and still goes on"),
        ("does it happen regularly?", "Yes: it comes every 2.4 minutes: 10 times at 10.20.0.67."),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", FIELD)
def test_how_it_goes_on(name, shared):
    path = shared / "data" / "field" / f"{name}.pcap"
    plant = path.with_name(f"{name}.plant.yaml")
    settings = Settings(home=Path(mkdtemp()), plant=plant if plant.is_file() else None)
    analysis = analyse(path, settings, MODELS)
    for question, line in FIELD[name]:
        said = answer(question, analysis)
        assert said.text[2:].startswith(line), f"{question!r}: {said.text[:200]}"


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_asked_for_comes_first(name):
    analysis = load(name)
    for question, line in QUESTIONS[name]:
        said = answer(question, analysis)
        assert said.text[2:].lower().startswith(line.lower()), f"{question!r}: {said.text[:200]}"
        assert said.removed == 0, question


def test_a_machine_that_plant_yaml_does_not_name_is_said(press_shop):
    named = load_plant(SAMPLES / "press-shop" / "plant.yaml")
    fewer = replace(named, devices=tuple(one for one in named.devices if one.name != "ws-1"))
    said = answer("are there unknown devices on the network?", replace(press_shop, plant=fewer))
    assert "Yes: 1 address in the plant's networks that plant.yaml does not name" in said.text


def test_who_may_write_is_what_plant_yaml_says(press_shop):
    server, client = "172.23.84.248", "172.23.84.155"
    view = press_shop.view
    devices = tuple(
        replace(one, writers=("hmi-1",)) if one.address == server else one
        for one in press_shop.plant.devices
    )
    plant = replace(press_shop.plant, devices=devices)
    allowed = type(view)(press_shop.capture, press_shop.samples, plant)
    assert allowed.allowed_writers[server] == {client}
    analysis = replace(press_shop, view=allowed, plant=plant)
    assert (
        "Yes: plant.yaml allows hmi-1"
        in answer("is hmi-1 allowed to write to plc-3?", analysis).text
    )
    assert "No: plant.yaml does not name ws-1" in answer("may ws-1 write to plc-3?", analysis).text
