"""Drawn sites: every one is a plant that could be wired up as it stands."""

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.testbed.generator import draw_site
from eval.testbed.site import BEYOND, ROUTER
from traffic.plant import dump_plant, load_plant

SEEDS = st.integers(0, 10**9)
# role -> program; the router routes and runs nothing.
PROGRAMS = {"gateway": "modbus_gateway", "robot": "opcua_server", "mes": "opcua_client", ROUTER: ""}
PROGRAMS |= {"press": "s7_server", "console": "s7_client"}


def named_hosts(settings: Mapping[str, Any]) -> set[str]:
    """Every host that a machine's settings name."""
    entries = [*settings.get("polled", []), *settings.get("cameras", [])]
    hosts = {entry["name"] for entry in entries} | set(settings.get("hosts", []))
    hosts |= {settings[key]["host"] for key in ("remote", "store") if key in settings}
    single = ("ntp", "broker", "server", "cloud")
    return hosts | {settings[key] for key in single if key in settings}


@given(SEEDS)
def test_no_name_address_or_mac_is_given_twice(seed: int) -> None:
    machines = draw_site(seed).machines
    for column in ("name", "address", "mac"):
        assert len({getattr(machine, column) for machine in machines}) == len(machines)
    assert 25 <= len(machines) <= 32


@given(SEEDS)
def test_every_machine_stands_where_its_address_belongs(seed: int) -> None:
    site = draw_site(seed)
    network = ipaddress.IPv4Network(site.network)
    assert network.is_private
    assert site.named(ROUTER).address == site.gateway
    for machine in site.machines:
        address = ipaddress.IPv4Address(machine.address)
        home = [network] if not machine.beyond else [ipaddress.IPv4Network(text) for text in BEYOND]
        assert any(address in one for one in home)
        if machine.name != ROUTER:
            assert address not in {edge for one in home for edge in (one[0], one[-1])}
            assert machine.address != site.gateway
        if machine.beyond:  # the first address of each network is the router's
            assert address not in {one[1] for one in home}


@given(SEEDS)
def test_names_are_short_macs_are_macs_and_settings_are_json(seed: int) -> None:
    for machine in draw_site(seed).machines:
        assert re.fullmatch(r"[a-z]+(-\d+)?", machine.name)
        assert len(machine.name) <= 12
        assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", machine.mac)
        assert int(machine.mac[:2], 16) % 2 == 0, "a group address"
        assert json.loads(json.dumps(dict(machine.settings))) == machine.settings
        assert machine.program == PROGRAMS.get(machine.role, machine.role)


@given(SEEDS)
def test_settings_name_only_machines_and_names_that_exist(seed: int) -> None:
    site = draw_site(seed)
    names = site.named("dns-1").settings["names"]
    known = {machine.name for machine in site.machines} | set(names)
    assert all(named_hosts(machine.settings) <= known for machine in site.machines)
    assert set(names.values()) <= {machine.address for machine in site.machines if machine.beyond}


@given(SEEDS)
def test_who_asks_is_set_as_whom_it_asks(seed: int) -> None:
    site = draw_site(seed)
    for machine in site.machines:
        for entry in machine.settings.get("polled", []):
            asked = site.named(entry["name"]).settings
            assert entry["port"] == asked["port"]
            assert entry["unit"] in asked.get("units", [asked.get("unit")])
            assert 0 < entry["address"] + entry["count"] <= asked["registers"]
        if "password" in machine.settings:
            broker = site.named(machine.settings["broker"]).settings
            assert broker["users"][machine.settings["user"]] == machine.settings["password"]
            assert broker["port"] == machine.settings["port"]
    panels = [panel.settings["polled"] for panel in site.with_role("hmi")]
    polled = {entry["name"] for entries in panels for entry in entries}
    assert polled == {machine.name for machine in site.with_role("plc", "gateway")}
    assert len(site.with_role("sensor")) < site.named("broker-1").settings["max_connections"]


def test_the_same_seed_draws_the_same_site_and_another_another() -> None:
    assert draw_site(7) == draw_site(7)
    assert len({draw_site(seed).network for seed in range(20)}) > 15
    assert len({len(draw_site(seed).machines) for seed in range(20)}) > 3


def test_the_plant_is_what_is_not_beyond_and_reads_back_from_plant_yaml(tmp_path: Path) -> None:
    site = draw_site(5)
    plant = site.plant()
    inside = [machine.name for machine in site.machines if not machine.beyond]
    assert [device.name for device in plant.devices] == inside
    first = plant.devices[0]
    assert (first.name, first.address, first.role) == (ROUTER, site.gateway, ROUTER)
    assert all(device.mac and device.model and device.zone for device in plant.devices)
    path = tmp_path / "plant.yaml"
    path.write_text(dump_plant(plant), encoding="utf-8")
    assert load_plant(path) == plant
    with pytest.raises(KeyError, match="plc-99"):
        site.named("plc-99")
