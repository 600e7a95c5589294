"""What the readers of Zeek's TSV and JSON share: kinds of columns, and what makes a row or a header unfit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from traffic.errors import UserError

__all__ = ["Kind", "Rows", "Valid", "check_fields", "to_kinds"]

Kind = Literal["number", "text", "flag"]
Valid = Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Rows:
    """Well-formed rows in the log's order, and the lines of the others."""

    table: pd.DataFrame
    bad_lines: tuple[int, ...] = ()


def check_fields(fields: tuple[str, ...], needed: tuple[str, ...], place: str, path: Path, name: str) -> None:
    missing = [column for column in needed if column not in fields]
    if missing:
        columns = f"column {missing[0]}" if len(missing) == 1 else f"columns {', '.join(missing)}"
        raise UserError(f"{path} has no {columns} ({place}); expected Zeek's {name}; write it with Zeek's own fields")
    twice = [column for column in set(fields) if fields.count(column) > 1]
    if twice:
        raise UserError(f"{path} names column {twice[0]} twice ({place}); expected Zeek's {name}; repair the header")


def to_kinds(text: pd.DataFrame, wanted: Mapping[str, Kind], valid: Valid | None) -> tuple[pd.DataFrame, np.ndarray]:
    """Columns of text as the kinds they should be, and which rows are well-formed."""
    table, good = text.copy(), np.ones(len(text), dtype=bool)
    for column, kind in wanted.items():
        if kind == "number":
            table[column] = pd.to_numeric(text[column], errors="coerce").astype(float)
            good &= (table[column].notna() | text[column].isna()).to_numpy()
    if valid is not None:
        good &= valid(table).to_numpy(bool)
    return table, good
