"""Rows with equal keys, numbered: by hand, and as a law."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.arrays import best_rows, number_groups

_KEY = st.integers(-3, 3) | st.sampled_from([-(2**40), 2**40])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_KEY, _KEY, _KEY), max_size=30))
def test_law_groups_are_those_of_a_dict(rows):
    # Three keys of 2**41 values each do not fit one 64-bit number.
    group, first = number_groups(*np.array(rows, np.int64).reshape(-1, 3).T)
    seen = list(dict.fromkeys(rows))
    assert group.tolist() == [seen.index(row) for row in rows]
    assert first.tolist() == [rows.index(row) for row in seen]


@pytest.mark.parametrize(
    ("values", "best"), [([1, 5, 2, 9], [1, 3]), ([7, 7, 2, 2], [1, 3]), ([7, 3, 4, 2], [0, 2])]
)
def test_the_best_row_of_each_group_is_the_last_of_equals(values, best):
    assert best_rows(np.array([4, 4, 8, 8]), np.array(values)).tolist() == best
    assert best_rows(np.array([8, 8, 4, 4]), np.array(values)).tolist() == best[::-1]
