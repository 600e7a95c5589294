"""Tables of labelled texts, counted and drawn by hand."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import CLOUD, DEVICE, capture, flow

from finetune.dataset import balance_texts, count_texts, make_texts, read_texts, write_texts
from traffic.datasets import Labelled
from traffic.errors import UserError
from traffic.samples import make_samples
from traffic.windows import make_windows


def labelled(name: str, labels: list[str]) -> Labelled:
    """A steady device for as many windows as there are labels."""
    rows = [flow(1 + 10 * i, DEVICE, CLOUD, 443, duration=1.0) for i in range(len(labels) + 5)]
    windows = make_windows(make_samples(capture(*rows)))
    mine = windows.take((windows.table["device"] == DEVICE).to_numpy())
    assert len(mine) == len(labels)
    mine.table["label"] = labels
    return Labelled(name, mine, 0)


def table(**counts: int) -> pd.DataFrame:
    """``counts`` texts, each named by capture and label as ``capture__label``."""
    rows = [
        (f"{key} {i}", key.split("__")[1], key.split("__")[0], 1)
        for key, n in counts.items()
        for i in range(n)
    ]
    return pd.DataFrame(rows, columns=["text", "label", "capture", "weight"])


def test_equal_texts_are_kept_once_and_counted():
    made = make_texts([labelled("a", ["normal"] * 60), labelled("b", ["normal"] * 60)])
    assert len(made) == 120
    texts = count_texts(made)
    assert texts["weight"].sum() == 120
    assert len(texts) < 120
    assert not texts.duplicated(["text", "label", "capture"]).any()
    assert texts.groupby("capture")["weight"].sum().to_dict() == {"a": 60, "b": 60}


def test_one_text_with_two_labels_stays_two_rows():
    texts = count_texts(make_texts([labelled("a", ["normal", "c2"] * 30)]))
    assert texts.groupby("label")["weight"].sum().to_dict() == {"normal": 30, "c2": 30}


def test_labels_are_capped_and_rare_ones_repeated():
    drawn = balance_texts(table(a__normal=100, a__dos=3, a__c2=1), per_label=10, repeats=4)
    assert drawn["label"].value_counts().to_dict() == {"normal": 10, "dos": 10, "c2": 4}
    assert drawn.loc[drawn["label"] == "dos", "text"].value_counts().max() == 4  # 3 + 3 + 3 + 1
    assert not drawn[drawn["label"] == "normal"].duplicated().any()


def test_a_small_capture_gives_all_and_the_large_ones_the_rest():
    drawn = balance_texts(table(a__dos=100, b__dos=100, c__dos=2), per_label=30, repeats=1)
    assert drawn["capture"].value_counts().to_dict() == {"a": 14, "b": 14, "c": 2}


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5))
def test_a_draw_keeps_its_bounds_and_repeats_itself(a, b, per_label, repeats):
    texts = table(a__dos=a, b__dos=b)
    drawn = balance_texts(texts, per_label, repeats, seed=3)
    assert len(drawn) <= per_label
    assert drawn["text"].value_counts().max() <= repeats
    pd.testing.assert_frame_equal(drawn, balance_texts(texts, per_label, repeats, seed=3))


def test_a_table_is_read_as_it_was_written(tmp_path):
    texts = make_texts([labelled("a", ["normal"] * 8), labelled("b", ["dos"] * 8)])
    assert texts["start_s"].tolist() == [10.0 * place for place in range(8)] * 2
    write_texts(texts, tmp_path / "texts.parquet")
    pd.testing.assert_frame_equal(read_texts(tmp_path / "texts.parquet"), texts, check_dtype=False)


def test_what_is_no_table_of_texts_is_refused(tmp_path):
    file = tmp_path / "texts.parquet"
    with pytest.raises(UserError, match="no table of texts"):
        read_texts(file)
    file.write_text("text,label\n")
    with pytest.raises(UserError, match="is no table of texts"):
        read_texts(file)
    windows = make_texts([labelled("a", ["dos"] * 8)])
    windows.drop(columns="device").to_parquet(file)
    with pytest.raises(UserError, match="is no table of texts"):
        read_texts(file)
    write_texts(windows.assign(label="gremlins"), file)
    with pytest.raises(UserError, match="holds the label gremlins"):
        read_texts(file)
