"""What happens in the emulated plant: laws of the draw for everybody, and three kinds on real
packets for root."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import combinations, pairwise
from pathlib import Path

import dpkt
import pytest

from eval.testbed.events.catalogue import KINDS, draw_events
from eval.testbed.events.event import Event
from eval.testbed.events.participants import clients, servers
from eval.testbed.generator import Dice, draw_site
from eval.testbed.host import check_host, enter
from eval.testbed.lab import open_lab
from eval.testbed.site import Machine, Site
from eval.testbed.tools.mqtt import connect_packet
from traffic.errors import UserError
from traffic.labels import LABELS

MINUTES = 15.0
SEEDS = range(1, 13)
FEW = ("powered_off", "service_crashed", "nmap_syn")


def small_site() -> Site:
    """An HMI that polls one controller, and a router."""
    polled = [{"name": "plc-1", "port": 502, "unit": 1, "address": 0, "count": 8}]
    polling = {
        "polled": polled,
        "poll_s": 0.5,
        "retry": {"first_s": 1.0, "most_s": 1.0},
        "by_name": False,
    }
    machines = (
        Machine("router", "router", "10.9.0.1", "02:00:00:00:00:01", settings={}),
        Machine("plc-1", "plc", "10.9.0.5", "02:00:00:00:00:05", "plc", {"unit": 1, "port": 502}),
        Machine("hmi-1", "hmi", "10.9.0.6", "02:00:00:00:00:06", "hmi", polling),
    )
    return Site(1, "10.9.0.0/24", "10.9.0.1", machines)


@pytest.fixture(scope="module")
def runs() -> dict[Site, list[Event]]:
    sites = {seed: draw_site(seed) for seed in SEEDS}
    return {seed: draw_events(site, seed, MINUTES) for seed, site in sites.items()}


def test_the_same_seed_draws_the_same_events(runs: dict[int, list[Event]]) -> None:
    assert all(draw_events(draw_site(seed), seed, MINUTES) == runs[seed] for seed in (1, 2))
    assert runs[1] != draw_events(draw_site(1), 2, MINUTES)


def test_events_lie_within_the_run(runs: dict[int, list[Event]]) -> None:
    for event in (event for events in runs.values() for event in events):
        assert event.start_s >= 45
        assert event.start_s + event.length_s <= 60 * MINUTES + 0.2
        assert KINDS[event.kind].stays or 20 <= event.length_s <= 180
    for minutes in (1.0, 3.0):
        short = draw_events(draw_site(1), 1, minutes)
        assert short
        assert all(KINDS[one.kind].stays or one.length_s <= minutes * 20 + 0.1 for one in short)
        assert all(one.start_s >= minutes * 10 for one in short)


def test_no_machine_is_acted_on_twice_at_a_time(runs: dict[int, list[Event]]) -> None:
    for events in runs.values():
        for one, other in combinations(events, 2):
            apart = other.start_s >= one.start_s + one.length_s
            assert apart or not {one.target, one.source} & {other.target, other.source} - {""}


def test_twelve_runs_hold_every_kind_and_every_label_about_as_often(
    runs: dict[int, list[Event]],
) -> None:
    drawn = Counter(event.kind for events in runs.values() for event in events)
    assert set(drawn) == set(KINDS)
    labels = Counter(KINDS[event.kind].label for events in runs.values() for event in events)
    assert set(labels) == set(LABELS)
    assert max(labels.values()) <= 2 * min(
        labels.values()
    )  # 120 events in 17 labels, less what had no room


def test_a_cause_is_a_sentence_that_names_the_machine(runs: dict[int, list[Event]]) -> None:
    for event in (event for events in runs.values() for event in events):
        cause = KINDS[event.kind].tell(event)
        assert event.target in cause or event.settings["whom"].startswith("all ")
        assert event.source in cause
        assert not set("{}") & set(cause)


def test_what_was_drawn_is_plain_json(runs: dict[int, list[Event]]) -> None:
    for event in (event for events in runs.values() for event in events):
        assert json.loads(json.dumps(dict(event.settings))) == dict(event.settings)


def test_blame_begins_at_the_root_and_stays_in_the_plant() -> None:
    site = draw_site(4)
    for event in draw_events(site, 4, 60.0, [kind for kind in KINDS if KINDS[kind].targets(site)]):
        added = {machine.name for machine in event.added}
        blames = KINDS[event.kind].blamed(site, event)
        assert blames[0].direction == "source"
        assert len({(blame.machine, blame.address) for blame in blames}) == len(blames)
        for blame in blames:
            assert blame.machine in added or not site.named(blame.machine).beyond
            assert ip_address(blame.address).is_private
    assert all(
        ip_address(machine.address) in ip_network(site.network)
        for machine in site.machines
        if not machine.beyond
    )


def test_whoever_calls_a_dead_controller_suffers_it() -> None:
    site = small_site()
    assert [machine.name for machine in servers(site, site.named("hmi-1"))] == ["plc-1"]
    assert [machine.name for machine in clients(site, "plc-1")] == ["hmi-1"]
    blames = KINDS["powered_off"].blamed(site, Event("powered_off", 0, 10, "plc-1"))
    assert [(blame.machine, blame.direction) for blame in blames] == [
        ("plc-1", "source"),
        ("hmi-1", "target"),
    ]


def test_a_wrong_address_is_shown_under_both() -> None:
    site = small_site()
    event = Event("wrong_address", 0, 10, "hmi-1", settings={"address": "10.9.3.6"})
    blames = KINDS["wrong_address"].blamed(site, event)
    assert [blame.address for blame in blames if blame.direction == "source"] == [
        "10.9.3.6",
        "10.9.0.6",
    ]


def test_dice_give_no_address_twice() -> None:
    dice = Dice(replace(small_site(), network="10.9.0.0/28"), 1)
    given = [
        dice.address() for _ in range(10)
    ]  # of 16: not the network, broadcast, router, PLC, HMI and .1
    assert len(set(given)) == 10
    assert not {"10.9.0.0", "10.9.0.1", "10.9.0.5", "10.9.0.6", "10.9.0.15"} & set(given)


def test_named_kinds_happen_once_each_one_after_the_other() -> None:
    events = draw_events(draw_site(1), 1, 6.0, ["nmap_syn", "powered_off", "beacon_dead"])
    assert [event.kind for event in events] == ["nmap_syn", "powered_off", "beacon_dead"]
    assert all(one.start_s + one.length_s <= two.start_s for one, two in pairwise(events))


@pytest.mark.parametrize(
    ("kinds", "minutes", "said"),
    [
        (["earthquake"], 5.0, "earthquake"),
        (["nmap_syn"] * 20, 2.0, "2 minutes"),
        (["mqtt_guess"], 5.0, "mqtt_guess"),
    ],
)
def test_what_cannot_happen_is_named(kinds: list[str], minutes: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        draw_events(small_site(), 1, minutes, kinds)


def test_a_connect_packet_is_that_of_the_standard() -> None:
    assert connect_packet("a").hex(" ") == "10 0d 00 04 4d 51 54 54 04 02 00 3c 00 01 61"
    long = connect_packet("a" * 200)  # 212 bytes follow: 0xd4 0x01 in groups of 7 bits
    assert long[1:3] == b"\xd4\x01"
    assert len(long) == 3 + 212


def test_three_kinds_show_on_real_packets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        check_host()
    except UserError as error:
        pytest.skip(str(error))
    here = Path(__file__).resolve()
    monkeypatch.setenv("PYTHONPATH", f"{here.parents[1]}{os.pathsep}{here.parent}")
    assert enter(here.stem, [str(tmp_path)]) == 0
    times = json.loads((tmp_path / "times.json").read_text())
    frames = read_tcp(tmp_path / "capture.pcap")
    answers = {
        kind: [one for one in between(frames, *times[kind]) if one["src"] == "10.9.0.5"]
        for kind in FEW
    }
    assert answers["powered_off"] == []
    assert sum(one["reset"] for one in answers["service_crashed"]) >= 1
    assert set(json.loads((tmp_path / "measured.json").read_text())["dropped"]) == {
        "10.9.0.6"
    }  # its one client
    scanned = {
        one["port"]
        for one in between(frames, *times["nmap_syn"])
        if one["src"] not in ("10.9.0.5", "10.9.0.6")
    }
    assert len(scanned) >= 50
    assert any(
        one["bytes"]
        for one in between(frames, times["end"][0] - 2, times["end"][0])
        if one["src"] == "10.9.0.5"
    )


def between(frames: list[dict], start_s: float, end_s: float) -> list[dict]:
    return [frame for frame in frames if start_s <= frame["ts"] < end_s]


def read_tcp(path: Path) -> list[dict]:
    frames = []
    with path.open("rb") as file:
        for ts, raw in dpkt.pcap.Reader(file):
            ip = dpkt.ethernet.Ethernet(raw).data
            if isinstance(ip, dpkt.ip.IP) and isinstance(ip.data, dpkt.tcp.TCP):
                reset = bool(ip.data.flags & dpkt.tcp.TH_RST)
                src = str(ip_address(ip.src))
                frames.append(
                    {
                        "ts": ts,
                        "src": src,
                        "port": ip.data.dport,
                        "reset": reset,
                        "bytes": len(ip.data.data),
                    }
                )
    return frames


def live(folder: Path) -> None:
    """Inside the lab: each of the few kinds for a few seconds."""
    site = small_site()
    intruder = Machine("intruder-1", "intruder", "10.9.0.77", "02:00:00:00:00:77")
    drawn = [Event(kind, 0, 3, "plc-1") for kind in FEW[:2]]
    drawn.append(Event("packet_loss", 0, 5, "plc-1", strength=0.5))
    scan = {"also": [], "whom": "plc-1"}
    drawn.append(
        Event("nmap_syn", 0, 3, "plc-1", "intruder-1", 100.0, settings=scan, added=(intruder,))
    )
    times: dict[str, tuple[float, ...]] = {}
    with open_lab(site, folder) as lab:
        capture = subprocess.Popen(
            [
                "tcpdump",
                "-i",
                "plant",
                "-U",
                "-w",
                str(folder / "capture.pcap"),
                "--relinquish-privileges=root",
            ],
            stderr=subprocess.DEVNULL,
        )
        for machine in site.machines:
            lab.start(machine.name)
        time.sleep(3)
        for event in drawn:
            with KINDS[event.kind].act(lab, event) as measured:
                start_s = time.time()
                time.sleep(event.length_s - 1)
                times[event.kind] = (start_s, time.time())
            if measured:
                (folder / "measured.json").write_text(json.dumps(measured))
            time.sleep(1)
        time.sleep(2)
        times["end"] = (time.time(),)
        capture.terminate()
        capture.wait()
    (folder / "times.json").write_text(json.dumps(times))


if __name__ == "__main__":
    live(Path(sys.argv[1]))
