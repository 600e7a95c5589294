"""The columns of a Zeek log, whatever it is written in, as Arrow arrays.

Text with few different values (addresses, states, names) is kept once per value: a column of codes
and the values they stand for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from traffic.errors import UserError

# A number is a float64; a flag "T" or "F"; a unique text (a uid) differs in nearly every row; the
# texts of a set are joined by commas.
Kind = Literal["number", "text", "flag", "unique", "set"]
Valid = Callable[[pa.Table], np.ndarray]
WORDS = pa.dictionary(pa.int32(), pa.string())
_ARROW = {"number": pa.float64(), "text": WORDS, "flag": WORDS, "unique": pa.string(), "set": WORDS}


@dataclass(frozen=True)
class Rows:
    """The well-formed rows of a piece of a log, in its order.

    Attributes:
        table: the wanted columns that the piece has; unset is null.
        bad: rows left out because they are malformed.
        first_bad: the line of the first of them, 0 where there is none.
    """

    table: pa.Table
    bad: int = 0
    first_bad: int = 0


def arrow_type(kind: Kind) -> pa.DataType:
    """How a column of this kind is held."""
    return _ARROW[kind]


def check_fields(
    fields: tuple[str, ...], needed: tuple[str, ...], place: str, path: Path, name: str
) -> None:
    """Refuse a log without its needed columns, or with one twice.

    Raises:
        UserError: says which, and in which ``place`` they were looked for.
    """
    missing = [column for column in needed if column not in fields]
    if missing:
        columns = f"column {missing[0]}" if len(missing) == 1 else f"columns {', '.join(missing)}"
        raise UserError(
            f"{path} has no {columns} ({place}); expected Zeek's {name}; write it with Zeek's own fields"
        )
    twice = [column for column in set(fields) if fields.count(column) > 1]
    if twice:
        raise UserError(
            f"{path} names column {twice[0]} twice ({place}); expected Zeek's {name}; repair the header"
        )


def make_rows(
    text: pd.DataFrame,
    kinds: Mapping[str, Kind],
    lines: np.ndarray,
    broken: list[int],
    valid: Valid | None,
) -> Rows:
    """Rows whose cells are text, one by one good or bad.

    Args:
        text: shape (n_rows, n_columns), unset is NaN.
        kinds: the kind of each column.
        lines: the line of each row, shape (n_rows,).
        broken: lines that are no rows at all.
        valid: as ``traffic.zeek.logs.read_log`` has it.
    """
    good, columns = np.ones(len(text), bool), {}
    for column, kind in kinds.items():
        if kind == "number":
            number = pd.to_numeric(text[column], errors="coerce").astype(float)
            good &= (number.notna() | text[column].isna()).to_numpy()
            columns[column] = pa.array(number, pa.float64(), from_pandas=True)
        else:
            columns[column] = pa.array(text[column], pa.string(), from_pandas=True)
    table = with_types(pa.table(columns), kinds)
    if valid is not None:
        good &= valid(table)
    bad = sorted([*broken, *lines[~good].tolist()])
    return Rows(table.filter(pa.array(good)), len(bad), bad[0] if bad else 0)


def with_types(table: pa.Table, kinds: Mapping[str, Kind]) -> pa.Table:
    """The columns as ``arrow_type`` has them."""
    for i, column in enumerate(table.column_names):
        wanted, have = arrow_type(kinds[column]), table.column(i)
        if have.type != wanted:
            is_words = pa.types.is_dictionary(wanted)
            changed = have.cast(pa.string()).dictionary_encode() if is_words else have.cast(wanted)
            table = table.set_column(i, column, changed)
    return table


def decode(
    column: pa.ChunkedArray, rows: np.ndarray | None = None
) -> pd.api.extensions.ExtensionArray:
    """A column of text as pandas' ``str``, in the order of ``rows`` where it is given."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    if rows is not None:
        column = column.combine_chunks().take(pa.array(rows))
    return pd.array(column.cast(pa.large_string()), dtype="str")


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers, float64, NaN where unset."""
    return column.combine_chunks().to_numpy(zero_copy_only=False).astype(float, copy=False)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """The table in pandas: float64 and ``str``."""
    is_number = {name: table.schema.field(name).type == pa.float64() for name in table.column_names}
    columns = {
        name: numbers(table[name]) if number else decode(table[name])
        for name, number in is_number.items()
    }
    return pd.DataFrame(columns, index=range(table.num_rows), copy=False)


def matches(column: pa.ChunkedArray, pattern: str) -> np.ndarray:
    """Whether each text matches a regular expression, each different text looked at once; unset
    does not."""
    parts = [np.zeros(0, bool)]
    for chunk in column.chunks:
        fits = pc.match_substring_regex(chunk.dictionary, pattern).to_numpy(zero_copy_only=False)
        code = chunk.indices.fill_null(-1).to_numpy()
        parts.append(np.append(fits, False).astype(bool)[code])
    return np.concatenate(parts)
