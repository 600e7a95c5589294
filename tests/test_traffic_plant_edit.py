"""plant.yaml changed in place: what is confirmed comes in, and not a character else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic.errors import UserError
from traffic.plant import Device, Plant, dump_plant, parse_plant
from traffic.plant_edit import allow_writers

PLANT = """# line 3, as built
devices:
  - name: plc-1          # the press
    address: 10.0.0.1
    role: PLC            # do not touch
    # below it stands nothing
  - {name: plc-2, address: 10.0.0.2, role: PLC, }
  - name: plc-3
    writers: [hmi-1]     # since 2024
    address: 10.0.0.3
    role: PLC
  - name: plc-4
    address: 10.0.0.4
    role: PLC
    writers:
    # the panel, and
    - hmi-1  # at the door
    # nobody else

  - name: hmi-1
    address: 10.0.0.9
    role: HMI
time_zone: Europe/Berlin  # of the plant
"""


@pytest.mark.parametrize(
    ("device", "old", "new"),
    [
        ("10.0.0.1", "do not touch\n", "do not touch\n    writers: [hmi-1, 10.0.0.7]\n"),
        ("10.0.0.2", "role: PLC, }", "role: PLC, writers: [hmi-1, 10.0.0.7], }"),
        ("10.0.0.3", "[hmi-1]     # since", "[hmi-1, 10.0.0.7]     # since"),
        ("10.0.0.4", "# at the door\n", "# at the door\n    - 10.0.0.7\n"),
        ("10.0.0.9", "role: HMI\n", "role: HMI\n    writers: [hmi-1, 10.0.0.7]\n"),
    ],
)  # fmt: skip
def test_a_writer_comes_in_and_nothing_else_changes(device, old, new):
    changed = allow_writers(PLANT, "plant.yaml", {device: ["hmi-1", "10.0.0.7"]})
    assert changed == PLANT.replace(old, new, 1)
    known = {one.address: one.writers for one in parse_plant(changed, "plant.yaml").devices}
    assert known[device] == ("hmi-1", "10.0.0.7")
    assert allow_writers(changed, "plant.yaml", {device: ["HMI-1"]}) == changed


def test_the_last_line_may_end_without_a_break():
    text = "devices:\n- name: a\n  address: 10.0.0.1"
    assert allow_writers(text, "p", {"10.0.0.1": ["b"]}) == text + "\n  writers: [b]"


@pytest.mark.parametrize(
    ("text", "device", "says"),
    [
        (PLANT, "10.0.0.77", "does not name 10.0.0.77"),
        ("devices: [{name: a, address: &x 10.0.0.1, role: *x}]\n", "10.0.0.2", "does not name"),
        ("<html>", "10.0.0.1", "plant.yaml: holds no key devices"),
    ],
)
def test_what_cannot_be_changed_is_said(text, device, says):
    with pytest.raises(UserError, match=says):
        allow_writers(text, "plant.yaml", {device: ["b"]})


words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=9)


@given(st.lists(words, min_size=1, max_size=4, unique_by=str.lower), st.booleans())
def test_any_name_is_read_back_as_it_was(names, some):
    device = Device("plc-1", "10.0.0.1", "PLC", writers=("hmi-1",) if some else ())
    before = dump_plant(Plant((device, Device("b", "10.0.0.2", "PLC", aliases=("x",)))))
    wanted = [one for one in names if one.lower() != "hmi-1"]
    for address in ("10.0.0.1", "10.0.0.2"):
        after = parse_plant(allow_writers(before, "p", {address: wanted}), "p")
        (found,) = [one.writers for one in after.devices if one.address == address]
        assert [*found][-len(wanted) :] == wanted if wanted else True
