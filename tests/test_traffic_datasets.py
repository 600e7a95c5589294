"""Labelled captures, real and simulated."""

import shutil

import pytest

from traffic.datasets import find_labelled, load_labelled, simulate_labelled
from traffic.errors import UserError
from traffic.labels import LABELS


def test_a_healthy_honeypot_is_normal_throughout(shared):
    labelled = load_labelled(shared / "data/iot23/honeypot-5-1/conn.log.labeled")
    assert labelled.name == "honeypot-5-1"
    assert set(labelled.windows.table["label"]) == {"normal"}
    assert labelled.unknown == 0


def test_corrections_turn_scans_that_were_floods_into_floods(shared):
    path = shared / "data/iot23/34-1/conn.log.labeled"
    published, corrected = (load_labelled(path, corrected).windows.table["label"] for corrected in (False, True))
    assert {"recon", "c2", "ddos", "normal"} == set(published)
    assert {"c2", "ddos", "normal"} == set(corrected)


def test_the_folder_s_name_changes_nothing(shared, tmp_path):
    path = shared / "data/iot23/44-1/conn.log.labeled"
    other = tmp_path / "benign-traffic" / "conn.log.labeled"
    other.parent.mkdir()
    shutil.copy(path, other)
    assert find_labelled(tmp_path) == [other]
    assert load_labelled(other).windows.table.equals(load_labelled(path).windows.table)


def test_each_seed_is_a_capture_of_its_own():
    one, again, other = (simulate_labelled(seed, 4, 0.2) for seed in (3, 3, 4))
    assert one.windows.table.equals(again.windows.table)
    assert not one.windows.table.equals(other.windows.table)
    assert set(one.windows.table["label"]) <= set(LABELS)


def test_nothing_labelled_is_said(tmp_path):
    with pytest.raises(UserError, match=r"holds no conn\.log\.labeled; expected .*; check --data"):
        find_labelled(tmp_path)
