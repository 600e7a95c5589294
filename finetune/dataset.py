"""Tables of labelled texts: what adapters are trained, calibrated and judged on.

Steady traffic gives equal text, so equal texts of one capture and label are kept once with their count as weight: a
table is a tenth of its windows. Splits go by capture only. Windows of one capture overlap and share devices, and a
model that has seen some of them has seen the rest.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from prompts.window_text import render_windows
from traffic.datasets.labelled import Labelled
from traffic.errors import UserError
from traffic.labels import LABELS

__all__ = ["COLUMNS", "balance_texts", "make_texts", "read_texts", "write_texts"]

COLUMNS = ["text", "label", "capture", "weight"]


def make_texts(labelled: Iterable[Labelled]) -> pd.DataFrame:
    """Render labelled captures.

    Returns:
        Shape (n_texts, 4): ``text``, ``label``, ``capture``, ``weight`` (windows with that text, int64).
    """
    parts = [
        pd.DataFrame({"text": render_windows(one.windows), "label": one.windows.table["label"], "capture": one.name})
        for one in labelled
    ]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS[:3])
    return count_texts(table)


def count_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Keep equal rows once, in order of first appearance, with their number as ``weight``."""
    counted = table.groupby(COLUMNS[:3], sort=False, as_index=False).size().rename(columns={"size": "weight"})
    return counted.astype({"text": "str", "label": "str", "capture": "str", "weight": "int64"})[COLUMNS]


def balance_texts(table: pd.DataFrame, per_label: int, repeats: int = 4, seed: int = 0) -> pd.DataFrame:
    """Draw up to ``per_label`` texts of each label, evenly from its captures.

    A capture gives a label at most its even share of the texts, so that one long flood does not stand for all; a label
    with too few texts repeats each up to ``repeats`` times. Texts seen in more windows are drawn before rarer ones with
    probability in proportion to the square root of their weight: steady traffic matters, and must not drown the rest.

    Args:
        table: as `make_texts` gives it.
        per_label: most rows of one label.
        repeats: how often a text may stand in the result.
        seed: of the draw.

    Returns:
        Rows of the table, shuffled; ``weight`` is 1 in each.
    """
    drawn = [_draw_label(rows, per_label, repeats, seed) for _, rows in table.groupby("label", sort=True)]
    balanced = pd.concat(drawn) if drawn else table
    return balanced.sample(frac=1, random_state=seed).assign(weight=1).reset_index(drop=True)


def write_texts(table: pd.DataFrame, path: Path) -> None:
    """Write a table of texts as parquet, whole or not at all."""
    new = path.with_suffix(".new")
    table.to_parquet(new, index=False)
    new.replace(path)


def read_texts(path: Path) -> pd.DataFrame:
    """Read what `write_texts` wrote.

    Raises:
        UserError: the file is missing, is no such table, or holds a label that this release does not know.
    """
    if not path.is_file():
        raise UserError(f"no table of texts {path}; expected a parquet file; make it first")
    try:
        table = pd.read_parquet(path, columns=COLUMNS)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is no table of texts; expected the columns {', '.join(COLUMNS)}; make it again"
        ) from error
    unknown = sorted(set(table["label"]) - set(LABELS))
    if unknown:
        raise UserError(f"{path} holds the label {unknown[0]}; expected {', '.join(LABELS)}; make it again")
    return table


def _draw_label(rows: pd.DataFrame, per_label: int, repeats: int, seed: int) -> pd.DataFrame:
    """Captures with few texts give all they may; what they leave of their share goes to the larger ones."""
    rng = np.random.default_rng(seed)
    room, drawn = per_label, []
    groups = sorted((group for _, group in rows.groupby("capture", sort=True)), key=len)
    for place, group in enumerate(groups):
        share = room // (len(groups) - place)
        whole, rest = divmod(min(share, repeats * len(group)), len(group))
        odds = group["weight"].to_numpy(float) ** 0.5
        drawn += [group] * whole + [group.iloc[rng.choice(len(group), rest, replace=False, p=odds / odds.sum())]]
        room -= whole * len(group) + rest
    return pd.concat(drawn)


def _names(table: pd.DataFrame) -> str:
    return ", ".join(sorted(set(table["capture"]))) or "no capture"
