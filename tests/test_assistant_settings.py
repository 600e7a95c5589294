"""Settings: an option overrules the environment, and a wrong value is said by its name."""

from pathlib import Path

import pytest

from assistant.settings import read_settings
from traffic.errors import UserError


def test_an_option_overrules_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTWISE_PLANT", "of-environment.yaml")
    assert read_settings().plant == Path("of-environment.yaml")
    assert read_settings(plant=Path("given.yaml")).plant == Path("given.yaml")
    assert read_settings(plant=None).plant == Path("of-environment.yaml")


def test_home_follows_xdg_where_nothing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAULTWISE_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert read_settings().home == Path("/data/faultwise")


def test_networks_are_a_list_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTWISE_LOCAL", "100.64.0.0/10, 203.0.113.7")
    assert read_settings().local == ("100.64.0.0/10", "203.0.113.7/32")


@pytest.mark.parametrize("value", ["10.0.0.0/99", "plant", ""])
def test_a_wrong_network_is_said(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTWISE_LOCAL", value)
    with pytest.raises(UserError, match="FAULTWISE_LOCAL"):
        read_settings()
