"""The table of recorded windows gives the texts of its captures again, and no others."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from finetune.dataset import choose_captures, make_texts
from finetune.recipe import POCKET, read_recipe
from finetune.recorded import list_recorded, read_recorded, write_recorded
from traffic.datasets import simulate_labelled
from traffic.errors import UserError


@pytest.fixture(scope="module")
def captures():
    return [simulate_labelled(seed, 2, 0.1) for seed in (1, 2)]


@pytest.fixture(scope="module")
def table(captures, tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "recorded.parquet"
    write_recorded(captures, path)
    return path


def test_texts_come_back_with_their_labels_devices_and_distances(captures, table):
    assert list_recorded(table) == [one.name for one in captures]
    for one in captures:
        made, read = make_texts([one]), read_recorded(table, one.name)
        made["start_s"] -= made["start_s"].min()
        pd.testing.assert_frame_equal(read, made, check_dtype=False)


def test_a_table_is_data_beside_folders(captures, table):
    chosen = choose_captures(read_recipe(POCKET, "quick"), [table], calibrate=[captures[1].name])
    assert chosen.trained[-1] == captures[0].name
    assert chosen.calibrate[-1] == captures[1].name
    assert chosen.paths == {one.name: table for one in captures}


def test_no_address_and_no_day_is_in_it(captures, table):
    rows = pq.read_table(table).to_pandas()
    assert rows["slot"].min() == 0
    text = rows.astype("str").to_csv()
    assert not any(device in text for one in captures for device in one.windows.table["device"])


def test_what_is_no_table_of_this_edition_is_refused(table, tmp_path):
    (tmp_path / "other.parquet").write_text("capture")
    with pytest.raises(UserError, match="is no table of recorded windows"):
        list_recorded(tmp_path / "other.parquet")
    old = pq.read_table(table).replace_schema_metadata({b"window_text": b"abc"})
    pq.write_table(old, tmp_path / "old.parquet")
    with pytest.raises(UserError, match="was made for texts abc"):
        list_recorded(tmp_path / "old.parquet")
