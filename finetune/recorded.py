"""Windows of recorded runs as one small table, so that the shipped model can be made from nothing.

    python -m finetune.recorded --data runs/recorded --out finetune/recorded.parquet

Captures are gigabytes, what a model reads of them is levels of facts: one byte for each, most of
them zero. The table holds no address, name or time of day, and is good for one edition of the
texts, whose fingerprint it carries.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from prompts.window_text import fact_names, fingerprint, make_levels, render_levels
from traffic.capture import SAMPLE_S
from traffic.datasets import Labelled, find_labelled, load_labelled
from traffic.errors import UserError
from traffic.labels import LABELS

RECORDED = Path(__file__).parent / "recorded.parquet"
_MARK = b"window_text"


def write_recorded(labelled: Iterable[Labelled], path: Path) -> None:
    """Write the windows of captures, whole or not at all.

    Args:
        labelled: captures with their truth; slots are counted from each one's first.
        path: of the table, a parquet file.
    """
    table = pd.concat([_tabulate(one) for one in labelled], ignore_index=True)
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({_MARK: fingerprint().encode()})
    new = path.with_suffix(".new")
    pq.write_table(arrow, new, compression="zstd", compression_level=19)
    new.replace(path)


def list_recorded(path: Path) -> list[str]:
    """Names of the captures in a table.

    Raises:
        UserError: the file is no such table, or was made for other texts.
    """
    try:
        mark = (pq.read_schema(path).metadata or {}).get(_MARK, b"").decode()
        names = pq.read_table(path, columns=["capture"])["capture"].unique().to_pylist()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(
            f"{path} is no table of recorded windows; expected one that python -m "
            "finetune.recorded wrote; make it from the captures"
        ) from error
    if mark != fingerprint():
        raise UserError(
            f"{path} was made for texts {mark or 'unknown'}; this release writes {fingerprint()}; "
            "make it again from the captures"
        )
    return sorted(names)


def read_recorded(path: Path, name: str) -> pd.DataFrame:
    """The texts of one capture of a table that `list_recorded` takes.

    Returns:
        As `finetune.dataset.make_texts`.
    """
    table = pq.read_table(path, filters=[("capture", "=", name)]).to_pandas()
    levels = table[list(fact_names())].to_numpy(np.int8)
    return pd.DataFrame(
        {
            "text": pd.Series(render_levels(levels), dtype="str"),
            "label": table["label"].astype("str"),
            "capture": name,
            "device": table["device"].to_numpy(np.int64),
            "start_s": table["slot"].to_numpy(float) * SAMPLE_S,
        }
    )


def _tabulate(one: Labelled) -> pd.DataFrame:
    places = one.windows.table
    slot = np.rint(places["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    first = slot.min() if len(slot) else 0
    known = {
        "capture": np.full(len(places), one.name),
        "label": pd.Categorical(places["label"], categories=list(LABELS)),
        "device": places["device"].factorize()[0].astype(np.int32),
        "slot": (slot - first).astype(np.int32),
    }
    levels = pd.DataFrame(make_levels(one.windows), columns=list(fact_names()))
    return pd.concat([pd.DataFrame(known), levels], axis=1)


def main(data: Annotated[list[Path], typer.Option()], out: Annotated[Path, typer.Option()]) -> None:
    """Write the table of all labelled captures below some folders."""
    paths = [path for folder in data for path in find_labelled(folder)]
    write_recorded((load_labelled(path) for path in paths), out)


if __name__ == "__main__":
    typer.run(main)
