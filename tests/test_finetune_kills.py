"""Trainers that were killed go on to the same loss, and show no half adapter meanwhile."""

import pytest
import torch
from kill_trainers import kill_trainer, prepare


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory):
    torch.set_num_threads(1)
    return prepare(tmp_path_factory.mktemp("given"))


@pytest.mark.parametrize("name", ["transfer", "refresh"])
def test_a_trainer_that_was_killed_goes_on_to_the_same_loss(name, given):
    # Homes lie beside the base, as a card names it from its own folder.
    tally = kill_trainer(name, given, given.home.parent, 1, 0)
    assert tally.before + tally.after == 1
    assert tally.went_on == tally.before
    assert not tally.wrong
