"""The inventory: what counts as a device, plant.yaml and its mistakes, and the draft from a
capture."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.capture import FLOW_COLUMNS, Capture, spread
from traffic.discovery import draft_plant
from traffic.errors import UserError
from traffic.labels import ATTACKS
from traffic.plant import Device, Plant, Security, dump_plant, is_group, is_local, load_plant
from traffic.reader import read_capture

PLANT = Plant(
    (
        Device(
            "press-plc", "192.168.1.4", "PLC", "Modicon M221", aliases=("press line", "station 7")
        ),
        Device("plc-02", "192.168.1.5", "PLC or Modbus device", mac="00:80:f4:0e:61:01"),
        Device("gate", "192.168.1.9", "IP camera", zone="yard", contact="shift lead, 4711"),
        Device("Historian", "203.0.113.7", "file server"),
    )
)


def locals_of(
    addresses: list[str], plant: Plant | None = None, networks: tuple[str, ...] = ()
) -> list[str]:
    names = pd.Series(addresses)
    return names[is_local(names, plant, networks)].tolist()


# ---- who is local ----


def test_is_local_takes_private_and_link_local_addresses_and_no_others():
    ours = [
        "10.0.0.1", "10.255.3.4", "172.16.0.1", "172.31.9.9", "192.168.0.1", "169.254.7.7", "fd12::1",
        "FE80::1", "febf::2",
    ]  # fmt: skip
    others = [
        "11.0.0.1", "172.15.0.1", "172.32.0.1", "192.169.0.1", "8.8.8.8", "100.64.0.1", "127.0.0.1",
        "2001:db8::1", "::1",
    ]  # fmt: skip
    assert locals_of([*ours, *others]) == ours


def test_is_local_never_takes_a_group():
    groups = [
        "0.0.0.0", "255.255.255.255", "10.0.0.255", "192.168.1.255", "224.0.0.251",
        "239.255.255.250", "::", "ff02::fb",
    ]  # fmt: skip
    assert locals_of(groups, networks=("0.0.0.0/0", "::/0")) == []
    assert all(map(is_group, groups))


def test_is_local_takes_the_plant_and_extra_networks():
    addresses = ["203.0.113.7", "203.0.113.8", "198.51.100.1", "2001:db8::5", "10.1.0.255"]
    assert locals_of(addresses, PLANT) == ["203.0.113.7"]
    networks = ("198.51.100.0/24", "2001:db8::/32")
    assert locals_of(addresses, None, networks) == ["198.51.100.1", "2001:db8::5"]
    assert locals_of(addresses, Plant((Device("odd", "10.1.0.255", ""),))) == ["10.1.0.255"]


def test_is_local_keeps_index_order_and_repetition():
    texts = ["10.0.0.1", "8.8.8.8", "10.0.0.1", None, "not an address"]
    names = pd.Series(texts, index=[9, 8, 7, 6, 5])
    local = is_local(names)
    assert local.tolist() == [True, False, True, False, False]
    assert local.index.tolist() == [9, 8, 7, 6, 5]
    assert local.dtype == bool
    assert is_local(names.iloc[:0]).empty


def test_is_local_refuses_what_is_no_network():
    said = r"'10\.0\.0\.0/99' is not a network; expected CIDR .*; correct --local"
    with pytest.raises(UserError, match=said):
        is_local(pd.Series(["10.0.0.1"]), None, ["10.0.0.0/99"])


# ---- names ----


def test_name_of_shows_both_name_and_address():
    assert PLANT.name_of("192.168.1.4") == "press-plc (192.168.1.4)"
    assert PLANT.name_of("8.8.8.8") == "8.8.8.8"


# ---- plant.yaml ----


def test_load_plant_reads_what_dump_plant_writes(tmp_path):
    path = tmp_path / "plant.yaml"
    path.write_text(dump_plant(PLANT), encoding="utf-8")
    assert load_plant(path) == PLANT
    assert "model: Modicon M221" in path.read_text()
    assert "zone: ''" not in path.read_text()


_line = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12
)
_devices = st.lists(
    st.builds(
        Device,
        name=_line,
        address=st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
        role=st.one_of(st.just(""), _line),
        model=_line,
        mac=st.sampled_from(["", "10:20:30:40:50:51"]),
        aliases=st.lists(_line, max_size=2).map(tuple),
    ),
    max_size=4,
    unique_by=(lambda device: device.name.lower(), lambda device: device.address),
)


@settings(max_examples=60, deadline=None)
@given(_devices)
def test_any_plant_reads_back_equal(tmp_path_factory, devices):
    path = tmp_path_factory.mktemp("law") / "plant.yaml"
    path.write_text(dump_plant(Plant(tuple(devices))), encoding="utf-8")
    assert load_plant(path) == Plant(tuple(devices))


def test_zone_and_criteria_of_a_plant_are_read_and_written_back(tmp_path):
    path = tmp_path / "plant.yaml"
    path.write_text(
        "devices: [{name: a, address: 10.0.0.1, role: PLC}]\ntime_zone: Europe/Berlin\n"
        "security: {labels: [c2], devices: [a], outside: true, refused_logins: 'yes', contact: soc}\n"
    )
    plant = load_plant(path)
    assert plant.time_zone == "Europe/Berlin"
    assert plant.security == Security(("c2",), ("a",), True, "yes", "soc")
    path.write_text(dump_plant(plant))
    assert load_plant(path) == plant
    # What is left out keeps its default: every attack is a matter for security.
    path.write_text("devices: []\n")
    assert load_plant(path).security == Security()
    assert set(Security().labels) == set(ATTACKS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time_zone: Mars/Olympus", "line 1: time_zone: 'Mars/Olympus' is no time zone"),
        ("time_zone: ../../etc/passwd", "is no time zone"),
        ("security: {labels: [gremlins]}", "labels: no label is called gremlins"),
        ("security: {refused_logins: perhaps}", "refused_logins: Input should be 'yes', 'no' or"),
        ("security: {kontact: x}", "unknown key 'kontact'"),
    ],
)
def test_a_wrong_zone_or_criterion_is_placed(tmp_path, text, said):
    path = tmp_path / "plant.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        load_plant(path)
    assert said in str(refused.value)


def test_load_plant_writes_addresses_and_macs_one_way(tmp_path):
    path = tmp_path / "plant.yaml"
    path.write_text(
        "devices:\n- {name: a, address: 'FD00:0::1', mac: 00-80-F4-0E-61-01}\n- {name: b, address: 10.0.0.1}\n"
    )
    assert load_plant(path).devices == (
        Device("a", "fd00::1", "", mac="00:80:f4:0e:61:01"),
        Device("b", "10.0.0.1", ""),
    )


ONE = "devices:\n- name: a\n  address: 10.0.0.1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ONE.replace("address", "adress"), "line 2: key 'address' is missing|line 3: unknown key 'adress'"),
        (ONE + "- name: b\n  address: 10.0.0.1\n", "lines 3 and 5: a and b have one address, 10.0.0.1"),
        (ONE + "- name: A\n  address: 10.0.0.2\n", "lines 2 and 4: two devices have one name, A"),
        (ONE.replace("10.", "300."), "line 3: address: '300.0.0.1' is not an IP address"),
        (ONE + "  mac: nine\n", "line 4: mac: 'nine' is not a MAC address"),
        (ONE.replace("name: a", 'name: "a\\nb"'), "line 2: name: expected one line of text"),
        ("hosts: []\n", "line 1: unknown key 'hosts'"),
        ("devices:\n- just a word\n", "line 2: 0: Input should be"),
        ("devices: [\n", "is not YAML on line"),
        ("just text", "holds no key devices"),
        ("", "holds no key devices"),
    ],
)  # fmt: skip
def test_load_plant_places_every_mistake(tmp_path, text, words):
    path = tmp_path / "plant.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_plant(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(
        "; expected `devices:` with name, address and role each; correct the file"
    )
    for part in words.split("|"):
        assert part in message
    assert "\n" not in message


def test_load_plant_refuses_what_it_cannot_read(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"devices:\n- name: caf\xe9\n")
    told = {"no.yaml": "No such file", "latin.yaml": "not UTF-8", ".": "Is a directory"}
    for name, words in told.items():
        with pytest.raises(UserError, match=words):
            load_plant(tmp_path / name)


# ---- discovery ----


def capture_of(*rows: tuple, macs: dict[str, str] | None = None) -> Capture:
    """A second apart: client, server, port and, where they differ, other columns."""
    base = {"proto": "tcp", "conn_state": "SF", "history": "ShADad", "duration": 1.0}
    base |= {"orig_pkts": 3.0, "resp_pkts": 3.0, "id.orig_p": 5000}
    ends = ("ts", "id.orig_h", "id.resp_h", "id.resp_p")
    entries = [
        base | dict(zip(ends, (float(i), *row[:3]), strict=True)) | (row[3] if len(row) > 3 else {})
        for i, row in enumerate(rows)
    ]
    flows = pd.DataFrame(entries).reindex(columns=FLOW_COLUMNS)
    if macs:
        flows["orig_l2_addr"] = flows["id.orig_h"].map(macs)
        flows["resp_l2_addr"] = flows["id.resp_h"].map(macs)
    return Capture(flows, spread(flows))


def roles_of(capture: Capture) -> dict[str, str]:
    return {device.address: device.role for device in draft_plant(capture).devices}


def test_discover_guesses_roles_from_what_is_served_and_asked():
    udp = {"proto": "udp", "history": "Dd"}
    capture = capture_of(
        ("10.0.0.9", "10.0.0.1", 502),
        ("10.0.0.9", "10.0.0.2", 44818),
        ("10.0.0.1", "10.0.0.3", 80),
        ("10.0.0.8", "10.0.0.3", 1883),
        ("10.0.0.8", "10.0.0.4", 554),
        ("10.0.0.8", "10.0.0.5", 53, udp),
        ("10.0.0.7", "8.8.8.8", 443),
        ("10.0.0.7", "10.0.0.255", 137, udp),
    )
    assert roles_of(capture) == {
        "10.0.0.1": "PLC or Modbus device", "10.0.0.2": "PLC or EtherNet/IP device",
        "10.0.0.3": "MQTT broker", "10.0.0.4": "IP camera", "10.0.0.5": "DNS resolver",
        "10.0.0.7": "", "10.0.0.8": "MQTT client", "10.0.0.9": "HMI or SCADA master",
    }  # fmt: skip
    names = "plc-1 plc-2 broker-3 camera-4 resolver-5 device-7 sensor-8 hmi-9"
    assert " ".join(device.name for device in draft_plant(capture).devices) == names


def test_discover_takes_a_refusal_for_no_service():
    refused = {"conn_state": "REJ", "history": "Sr", "resp_bytes": 0.0, "resp_pkts": 1.0}
    roles = roles_of(capture_of(("10.0.0.9", "10.0.0.1", 502, refused)))
    assert roles == {"10.0.0.1": "", "10.0.0.9": ""}


def test_discover_finds_the_router_behind_whose_mac_the_world_lies():
    mac = "00:00:00:00:00:01"
    calls = (("10.0.0.7", *end) for end in (("8.8.8.8", 443), ("9.9.9.9", 443), ("10.0.0.1", 80)))
    capture = capture_of(*calls, macs=dict.fromkeys(("10.0.0.1", "8.8.8.8", "9.9.9.9"), mac))
    assert [(d.name, d.role, d.mac) for d in draft_plant(capture).devices] == [
        ("router-1", "router", mac),
        ("device-7", "", ""),
    ]


def test_discover_lists_a_machine_once_and_names_differ():
    capture = capture_of(
        ("169.254.3.3", "fe80::1", 80), ("10.0.0.5", "10.0.1.5", 80), ("fd00::5", "10.0.0.6", 80)
    )
    assert [(d.name, d.address) for d in draft_plant(capture).devices] == [
        ("device-10.0.0.5", "10.0.0.5"),
        ("device-6", "10.0.0.6"),
        ("device-10.0.1.5", "10.0.1.5"),
        ("device-fd00::5", "fd00::5"),
    ]
    only = capture_of(("169.254.3.3", "169.254.3.4", 502))
    assert list(roles_of(only)) == ["169.254.3.3", "169.254.3.4"]


def test_discover_proposes_loopback_where_there_is_nothing_else():
    desk = ("127.0.0.1", "127.0.0.1", 502)
    assert roles_of(capture_of(desk)) == {"127.0.0.1": "PLC or Modbus device"}
    assert list(roles_of(capture_of(desk, ("10.0.0.9", "10.0.0.1", 502)))) == [
        "10.0.0.1",
        "10.0.0.9",
    ]
    assert roles_of(capture_of(("127.0.0.1", "127.0.0.1", 8888))) == {}  # no plant speaks there


def test_discover_drafts_a_loadable_plant_from_a_real_capture(shared, tmp_path):
    log = shared / "data" / "iot23" / "honeypot-5-1" / "conn.log.labeled"
    plant = draft_plant(read_capture(log))
    # Beside them are link-local addresses, multicast groups and broadcasts.
    first = [device.address for device in plant.devices][:3]
    assert first == ["192.168.2.1", "192.168.2.3", "192.168.69.1"]
    assert len(plant.devices) == 11
    path = tmp_path / "plant.yaml"
    path.write_text(dump_plant(plant))
    assert load_plant(path) == plant
