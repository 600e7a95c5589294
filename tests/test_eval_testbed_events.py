"""Events of the emulated plant: laws of the draw, commands of tools, and three on real packets."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from ipaddress import ip_address, ip_network
from itertools import combinations, pairwise
from pathlib import Path

import dpkt
import pytest
import typer

from eval.testbed.events.catalogue import KINDS, draw_events
from eval.testbed.events.event import Event
from eval.testbed.events.participants import clients, servers
from eval.testbed.generator import SiteRandom, draw_site
from eval.testbed.host import check_host, enter
from eval.testbed.lab import open_lab
from eval.testbed.site import Machine, Site
from eval.testbed.tools.mqtt import connect_packet
from traffic.errors import UserError
from traffic.labels import LABELS

MINUTES = 15.0
SEEDS = range(1, 15)
FEW = ("powered_off", "service_crashed", "nmap_syn")


def small_site() -> Site:
    """An HMI that polls one controller, and a router."""
    polled = [{"name": "plc-1", "port": 502, "unit": 1, "address": 0, "count": 8}]
    polling = {"polled": polled, "poll_s": 0.5, "by_name": False}
    polling["retry"] = {"first_s": 1.0, "most_s": 1.0}
    machines = (
        Machine("router", "router", "10.9.0.1", "02:00:00:00:00:01", settings={}),
        Machine("plc-1", "plc", "10.9.0.5", "02:00:00:00:00:05", "plc", {"unit": 1, "port": 502}),
        Machine("hmi-1", "hmi", "10.9.0.6", "02:00:00:00:00:06", "hmi", polling),
    )
    return Site(1, "10.9.0.0/24", "10.9.0.1", machines)


@pytest.fixture(scope="module")
def runs() -> dict[int, list[Event]]:
    return {seed: draw_events(draw_site(seed), seed, MINUTES) for seed in SEEDS}


@pytest.fixture(scope="module")
def events(runs: dict[int, list[Event]]) -> list[Event]:
    return [event for events in runs.values() for event in events]


def test_the_same_seed_draws_the_same_events(runs: dict[int, list[Event]]) -> None:
    assert all(draw_events(draw_site(seed), seed, MINUTES) == runs[seed] for seed in (1, 2))
    assert runs[1] != draw_events(draw_site(1), 2, MINUTES)


def test_events_lie_within_the_run(events: list[Event]) -> None:
    for event in events:
        assert event.start_s >= 45
        assert event.start_s + event.length_s <= 60 * MINUTES + 0.2
        assert KINDS[event.kind].permanent or 20 <= event.length_s <= 180
    for minutes in (1.0, 3.0):
        short = draw_events(draw_site(1), 1, minutes)
        assert short
        assert all(KINDS[one.kind].permanent or one.length_s <= minutes * 20 + 0.1 for one in short)
        assert all(one.start_s >= minutes * 10 for one in short)


def test_no_machine_is_acted_on_twice_at_a_time(runs: dict[int, list[Event]]) -> None:
    for events in runs.values():
        for one, other in combinations(events, 2):
            apart = other.start_s >= one.start_s + one.length_s
            assert apart or not {one.target, one.source} & {other.target, other.source} - {""}


def test_fourteen_runs_hold_every_kind_and_every_label_about_as_often(events: list[Event]) -> None:
    assert {event.kind for event in events} == set(KINDS)
    labels = Counter(KINDS[event.kind].label for event in events)
    assert set(labels) == set(LABELS)
    # 140 events in 17 labels, less what had no room.
    assert max(labels.values()) <= 2 * min(labels.values())


def test_a_cause_names_the_machine_and_what_was_drawn_is_plain_json(events: list[Event]) -> None:
    for event in events:
        cause = KINDS[event.kind].render_cause(event)
        assert event.target in cause or event.settings["whom"].startswith("all ")
        assert event.source in cause
        assert not set("{}") & set(cause)
        assert json.loads(json.dumps(dict(event.settings))) == dict(event.settings)


class FakeLab:
    """A lab on paper: it keeps the commands of tools, and what is not as the site has it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.commands: list[list[str]] = []
        self.changed: dict[tuple[str, str], object] = {}
        self._machines = {machine.name: machine for machine in site.machines}

    def _change(self, what: str, name: str, value: object, usual: object) -> None:
        self.changed[what, name] = value
        if value == usual:
            del self.changed[what, name]

    def machine(self, name: str) -> Machine:
        return self._machines[name]

    def run(self, name: str, command: Sequence[str]) -> subprocess.Popen:
        assert name in self._machines
        self.commands.append(list(command))
        return subprocess.Popen(["true"], start_new_session=True)

    def add(self, machine: Machine) -> None:
        self._machines[machine.name] = machine
        self._change("added", machine.name, True, False)

    def remove(self, name: str) -> None:
        self._machines.pop(name)
        self._change("added", name, False, False)
        self._change("program", name, {}, {})

    def start(self, name: str, **changes: object) -> None:
        self._change("program", name, changes, {})

    def stop(self, name: str) -> None:
        self._change("program", name, None, {})

    def pause(self, name: str, on: bool = True) -> None:
        self._change("pause", name, on, False)

    def link(self, name: str, up: bool) -> None:
        self._change("link", name, up, True)

    def lose(self, name: str, share: float) -> None:
        self._change("loss", name, share, 0)

    def limit(self, name: str, kbit: float) -> None:
        self._change("limit", name, kbit, 0)

    def address(self, name: str, address: str, gateway: str) -> None:
        usual = (self._machines[name].address, self.site.gateway)
        self._change("address", name, (address, gateway), usual)

    def lost(self, name: str) -> dict[str, int]:
        return {}

    def carried_kbit(self, name: str) -> float:
        return 100.0

    def connections(self, name: str, port: int) -> list[str]:
        return []


def test_every_event_does_something_that_tools_can_read_and_undoes_it(
    runs: dict[int, list[Event]], tmp_path: Path
) -> None:
    read = set()
    for seed, drawn in runs.items():
        lab = FakeLab(draw_site(seed), tmp_path)
        for event in drawn:
            before = len(lab.commands)
            with KINDS[event.kind].execute(lab, event):
                assert lab.changed or len(lab.commands) > before, event
            assert not lab.changed, event
        ours = [command for command in lab.commands if command[0] == sys.executable]
        for _, dash_m, module, *arguments in ours:
            assert dash_m == "-m"
            command = typer.main.get_command(import_module(module).app)
            name = module.rpartition(".")[2]
            if hasattr(command, "commands"):
                command, name = command.commands[arguments[0]], f"{name} {arguments.pop(0)}"
            values = command.make_context(name, arguments).params  # refuses what it cannot read
            assert 0 < values.get("port", 1) < 65536
            assert ip_address(values.get("address", "10.0.0.1"))
            assert all(values.get(key, 1) > 0 for key in ("rate", "period_s", "kbit", "count"))
            read.add(name)
    assert not list(tmp_path.iterdir())
    assert read == {
        *("arp", "modbus", "guesses telnet", "guesses mqtt", "mqtt malformed", "mqtt flood"),
        *("tcp beacon", "tcp bulk", "tcp hold", "tcp listen"),
    }


def test_participants_begin_at_the_root_and_stays_in_the_plant() -> None:
    site = draw_site(4)
    for event in draw_events(site, 4, 60.0, [kind for kind in KINDS if KINDS[kind].targets(site)]):
        added = {machine.name for machine in event.added}
        participants = KINDS[event.kind].participants(site, event)
        assert participants[0].direction == "source"
        assert len({(one.machine, one.address) for one in participants}) == len(participants)
        for one in participants:
            assert one.machine in added or not site.named(one.machine).beyond
            assert ip_address(one.address).is_private
    assert all(ip_address(one.address) in ip_network(site.network) for one in site.inside)


def test_whoever_calls_a_dead_controller_suffers_it() -> None:
    site = small_site()
    assert [machine.name for machine in servers(site, site.named("hmi-1"))] == ["plc-1"]
    assert [machine.name for machine in clients(site, "plc-1")] == ["hmi-1"]
    participants = KINDS["powered_off"].participants(site, Event("powered_off", 0, 10, "plc-1"))
    parts = [(one.machine, one.direction) for one in participants]
    assert parts == [("plc-1", "source"), ("hmi-1", "target")]
    wrong = Event("wrong_address", 0, 10, "hmi-1", settings={"address": "10.9.3.6"})
    participants = KINDS["wrong_address"].participants(site, wrong)
    sources = [one.address for one in participants if one.direction == "source"]
    assert sources == ["10.9.3.6", "10.9.0.6"]  # a wrong address shows under both


def test_dice_give_no_address_twice() -> None:
    rng = SiteRandom(replace(small_site(), network="10.9.0.0/28"), 1)
    # Of 16: not the network, broadcast, router, PLC, HMI and .1
    given = [rng.free_address() for _ in range(10)]
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
    of_plc = [frame for frame in frames if frame["src"] == "10.9.0.5"]
    assert between(of_plc, *times["powered_off"]) == []
    assert any(one["reset"] for one in between(of_plc, *times["service_crashed"]))
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert set(measured["dropped"]) == {"10.9.0.6"}  # its one client
    scan = between(frames, *times["nmap_syn"])
    strangers = [one for one in scan if one["src"] not in ("10.9.0.5", "10.9.0.6")]
    assert len({one["port"] for one in strangers}) >= 50  # of up to 600
    end_s = times["end"][0]
    assert any(one["bytes"] for one in between(of_plc, end_s - 2, end_s))


def between(frames: list[dict], start_s: float, end_s: float) -> list[dict]:
    return [frame for frame in frames if start_s <= frame["ts"] < end_s]


def read_tcp(path: Path) -> list[dict]:
    frames = []
    with path.open("rb") as file:
        for ts, raw in dpkt.pcap.Reader(file):
            ip = dpkt.ethernet.Ethernet(raw).data
            if isinstance(ip, dpkt.ip.IP) and isinstance(ip.data, dpkt.tcp.TCP):
                src, reset = str(ip_address(ip.src)), bool(ip.data.flags & dpkt.tcp.TH_RST)
                frame = {"ts": ts, "src": src, "port": ip.data.dport, "reset": reset}
                frames.append({**frame, "bytes": len(ip.data.data)})
    return frames


def live(folder: Path) -> None:
    """Inside the lab: each of the few kinds for a few seconds."""
    site = small_site()
    intruder = Machine("intruder-1", "intruder", "10.9.0.77", "02:00:00:00:00:77")
    drawn = [Event(kind, 0, 3, "plc-1") for kind in FEW[:2]]
    drawn.append(Event("packet_loss", 0, 5, "plc-1", strength=0.5))
    scan = {"also": [], "whom": "plc-1"}
    # Long enough for 50 ports even where a busy machine starts nmap late.
    drawn.append(Event("nmap_syn", 0, 7, "plc-1", intruder.name, 100.0, scan, (intruder,)))
    times: dict[str, tuple[float, ...]] = {}
    with open_lab(site, folder) as lab:
        tcpdump = ["tcpdump", "-i", "plant", "-U", "-w", str(folder / "capture.pcap")]
        tcpdump += ["--relinquish-privileges=root"]
        capture = subprocess.Popen(tcpdump, stderr=subprocess.DEVNULL)
        for machine in site.machines:
            lab.start(machine.name)
        time.sleep(3)
        for event in drawn:
            with KINDS[event.kind].execute(lab, event) as measured:
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
