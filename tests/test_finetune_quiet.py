"""A site's bounds from its quiet time: how many quiet windows exceed them, and who sets them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.detection.classify import find_alarms
from assistant.detection.drift import Usual, read_usual
from assistant.detection.pipeline import analyse
from assistant.llm.adapters import read_card
from assistant.llm.calibration import fit_role_bounds
from assistant.pocket import POCKET
from assistant.registry import find_folder, load_registered
from assistant.session import analyse as open_analysis
from assistant.session import load_models, watch_site
from assistant.settings import Settings
from finetune.sites.quiet import FAMILY, refresh_from_quiet, render_quieted
from traffic.errors import UserError
from traffic.files import write_sums
from traffic.plant import Device, Plant, load_plant
from traffic.simulation.simulate import simulate, write_simulation

SAMPLE = Path(__file__).parents[1] / "assistant" / "samples" / "filling-line"


def test_the_bound_of_a_role_is_exceeded_by_its_share_of_quiet_windows():
    """Of 199 windows at 1/200, 2/200 … the 190th smallest is the bound for a twentieth."""
    odd = np.arange(1, 200) / 200
    roles = np.array(["camera"] * 199)
    bounds = fit_role_bounds(odd, roles, usual=0.1, false_share=0.05)
    assert set(bounds) == {"camera", ""}
    assert bounds["camera"] == pytest.approx(190 / 200, abs=1e-4)


def test_a_role_that_was_hardly_seen_shares_the_bound_of_all():
    roles = np.array(["camera"] * 199 + ["plc"] * 5)
    odd = np.concatenate([np.full(199, 0.2), np.full(5, 0.95)])
    assert set(fit_role_bounds(odd, roles, 0.1, 0.05)) == {"camera", ""}


def test_a_quiet_time_never_lowers_the_bound_of_the_card():
    bounds = fit_role_bounds(np.full(500, 0.01), np.full(500, "plc"), usual=0.7, false_share=0.005)
    assert bounds == {"plc": 0.7, "": 0.7}


def test_too_few_windows_give_no_bound():
    assert fit_role_bounds(np.full(100, 0.2), np.full(100, "plc"), 0.5, 0.005) == {}


@given(st.lists(st.floats(0.5, 0.999), min_size=25, max_size=300), st.floats(0.04, 0.4))
def test_at_most_the_share_of_the_quiet_windows_themselves_is_alarmed(odd, share):
    values = np.array(odd)
    bound = fit_role_bounds(values, np.full(len(values), "plc"), 0.1, share)["plc"]
    alarmed = (values >= bound + 1e-4).mean()  # bounds are rounded to four places
    assert alarmed <= share


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A plant in which nothing happens."""
    folder = tmp_path_factory.mktemp("calm")
    write_simulation(simulate(5, devices=8, hours=0.6, quiet=True), folder)
    return folder


@pytest.fixture(scope="module")
def quieted(calm, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return home, refresh_from_quiet(calm, "works", home, load_plant(calm / "plant.yaml"), 0.01)


def test_the_site_uses_the_shipped_weights_with_the_bounds_of_its_quiet_time(quieted, calm):
    home, made = quieted
    folder = find_folder(home, "works")
    card, shipped = read_card(folder), read_card(POCKET)
    assert (folder, made.adapter.family) == (made.adapter.path, FAMILY)
    assert (card.role_thresholds, card.base_fingerprint) == (made.bounds, shipped.base_fingerprint)
    assert all(bound >= shipped.threshold for bound in made.bounds.values())
    llm, loaded = load_registered(folder)
    verdicts = analyse(calm, llm, loaded, load_plant(calm / "plant.yaml")).verdicts
    assert (verdicts["label"] != "normal").mean() <= 0.01
    assert "site works uses it" in render_quieted(made)


def test_a_second_quiet_time_takes_the_place_of_the_first(quieted, calm):
    home, made = quieted
    again = refresh_from_quiet(calm, "works", home, load_plant(calm / "plant.yaml"), 0.01)
    assert again.bounds == made.bounds
    assert read_card(find_folder(home, "works")).made_by.count("refresh") == 1


def verdicts_of(path, plant):
    llm, card = load_registered(POCKET)
    return analyse(path, llm, card, plant).verdicts


def test_the_time_around_an_incident_does_not_set_what_is_normal(tmp_path):
    write_simulation(simulate(11, devices=8, hours=0.5, scenarios=["recon"]), tmp_path / "plant")
    plant = load_plant(tmp_path / "plant" / "plant.yaml")
    made = refresh_from_quiet(tmp_path / "plant", "line", tmp_path, plant, 0.05)
    assert any("recon" in why for why in made.left_out.values())
    assert 0 < made.windows[""] < len(verdicts_of(tmp_path / "plant", plant))
    assert "left out: " in render_quieted(made)


def test_a_few_minutes_are_refused(tmp_path):
    with pytest.raises(UserError, match="lasts 8 minutes; expected 20 or more"):
        refresh_from_quiet(SAMPLE, "line", tmp_path, load_plant(SAMPLE / "plant.yaml"), 0.05)


def test_too_few_windows_to_tell_are_refused(calm, tmp_path):
    with pytest.raises(UserError, match="expected 10000 or more"):
        refresh_from_quiet(calm, "line", tmp_path, None, 0.0001)
    assert not (tmp_path / "adapters" / "line").exists()


def test_a_window_is_held_against_the_bound_of_its_devices_role():
    card = read_card(POCKET).model_copy(update={"role_thresholds": {"camera": 0.9, "": 0.8}})
    plant = Plant((Device("cam-1", "10.0.0.1", "camera"), Device("plc-1", "10.0.0.2", "plc")))
    devices = pd.Series(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"])
    assert find_alarms(card, devices, plant).tolist() == [0.9, 0.8, 0.8, 0.9]
    assert find_alarms(card, devices).tolist() == [0.8] * 4
    assert (
        find_alarms(read_card(POCKET), devices, plant).tolist() == [read_card(POCKET).threshold] * 4
    )


def test_a_capture_is_held_against_the_quiet_time_that_the_adapter_keeps(quieted, calm):
    home, made = quieted
    settings = Settings(home=home, plant=calm / "plant.yaml", site="works")
    assert len(read_usual(made.adapter.path)) >= 30
    assert "nothing says" in watch_site(calm, settings)
    # The same windows are odd to a site where less was usual.
    (made.adapter.path / "usual.json").write_text(
        Usual(minutes=(0.0,) * 60).model_dump_json(), encoding="utf-8"
    )
    write_sums(made.adapter.path)
    said = watch_site(calm, settings)
    assert "look unlike its quiet time" in said
    models = load_models(settings)
    assert said in open_analysis(calm, settings, models).capture.notes
