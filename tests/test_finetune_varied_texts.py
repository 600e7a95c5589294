"""Varied texts stay texts of windows, one level off at most, and chance alone decides."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finetune.dataset import vary_texts
from prompts.window_text import LEVELS, QUIET, vocabulary

WORDS = vocabulary()[1:]
texts = st.lists(st.sampled_from(WORDS), max_size=40, unique_by=lambda word: word.split("=")[0])


def parts(text: str) -> dict[str, int]:
    facts = (word.rpartition("=") for word in text.split() if word != QUIET)
    return {name: int(level) for name, _, level in facts}


@given(st.lists(texts.map(lambda words: " ".join(words) or QUIET), max_size=5), st.integers(0, 99))
def test_facts_keep_their_order_and_move_one_level_at_most(said: list[str], seed: int) -> None:
    for before, after in zip(said, vary_texts(said, 0.5, 0.3, seed), strict=True):
        old, new = parts(before), parts(after)
        assert [name for name in old if name in new] == list(new)
        assert all(abs(level - old[name]) <= 1 <= level <= LEVELS for name, level in new.items())
        assert after


def test_shares_are_those_asked_for() -> None:
    name = WORDS[0].split("=")[0]
    varied = vary_texts([f"{name}=6"] * 20_000, 0.2, 0.1, 0)
    levels = [parts(text).get(name) for text in varied]
    assert np.isclose(levels.count(None) / 20_000, 0.1, atol=0.01)
    assert np.isclose(levels.count(5) / 20_000, 0.09, atol=0.01)
    assert np.isclose(levels.count(7) / 20_000, 0.09, atol=0.01)
    assert set(varied) == {f"{name}={level}" for level in (5, 6, 7)} | {QUIET}


def test_nothing_varies_where_nothing_shall_and_seeds_decide() -> None:
    said = [" ".join(WORDS[5::12]), QUIET]
    assert vary_texts(said, 0, 0, 1) == said
    assert vary_texts(said, 0.5, 0.5, 1) == vary_texts(said, 0.5, 0.5, 1)
    assert vary_texts(said, 0.5, 0.5, 1) != vary_texts(said, 0.5, 0.5, 2)
