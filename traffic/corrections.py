"""Published labels of public captures, read as ours, and corrected where they are wrong.

Corrections are data: a row of ``corrections/*.csv`` names the flows by addresses, port, protocol and time, what was
published, what is true, and why. A capture is known by these, never by its file's name, and a flow is corrected only
if its published label is the one that the row disputes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from traffic.labels import IOT23, LABELS, NORMAL, UNKNOWN

__all__ = ["CORRECTION_COLUMNS", "label_flows", "read_corrections", "read_labels"]

CORRECTION_COLUMNS = [
    *["capture", "orig", "resp", "port", "proto", "from_s", "until_s", "flows"],
    *["published", "corrected", "why", "source"],
]
_FOLDER = Path(__file__).parent / "corrections"


def label_flows(flows: pd.DataFrame, corrected: bool = True) -> pd.Series:
    """Our label of every flow: ``normal``, ``c2``, … or ``unknown``.

    Args:
        flows: Zeek's names with ``label`` and ``detailed-label``; without either every flow is unknown.
        corrected: apply the corrections; otherwise the labels count as published.

    Returns:
        Shape (n_flows,), text, with the index of ``flows``.
    """
    labels = read_labels(flows)
    if not corrected:
        return labels
    published = _published(flows)
    for row in read_corrections().itertuples(index=False):
        disputed = _match(flows, row) & (published == row.published).to_numpy()
        labels = labels.mask(disputed, row.corrected)
    return labels


def read_labels(flows: pd.DataFrame) -> pd.Series:
    """What published labels mean, in our words: IoT-23's in any case and compound, or ours as ``simulate`` writes."""
    published = _published(flows)
    meaning = {name: _meaning(name) for name in published.unique()}
    return published.map(meaning).astype("str")


def read_corrections() -> pd.DataFrame:
    """Every correction that ships with the package; shape (n, 12), ``CORRECTION_COLUMNS``."""
    files = sorted(_FOLDER.glob("*.csv"))
    types = {"orig": "str", "resp": "str", "port": "int64", "proto": "str", "from_s": "float64", "until_s": "float64"}
    # "-" is IoT-23's word for benign, not a missing value.
    tables = [pd.read_csv(file, dtype=types, keep_default_na=False) for file in files]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=CORRECTION_COLUMNS)


def _published(flows: pd.DataFrame) -> pd.Series:
    """The detailed label in lower case, the plain label where there is no detail; ``-`` is benign, empty nothing."""
    texts = flows.reindex(columns=["label", "detailed-label"]).astype("str")
    plain, detail = (texts[column].str.lower().str.strip() for column in texts)
    # "Benign" with no detail is what IoT-23 writes as "-"; our own names and a bare "Malicious" stay.
    return detail.fillna(plain.replace("benign", "-")).fillna("")


def _meaning(name: str) -> str:
    if name in IOT23:
        return IOT23[name]
    if name in LABELS:
        return name
    known = [key for key in IOT23 if IOT23[key] != NORMAL and name.startswith(f"{key}-")]
    return IOT23[max(known, key=len)] if known else UNKNOWN


def _match(flows: pd.DataFrame, row: Any) -> np.ndarray:
    same = {"id.orig_h": row.orig, "id.resp_h": row.resp, "id.resp_p": row.port, "proto": row.proto}
    found = flows["ts"].between(row.from_s, row.until_s, inclusive="left").to_numpy().copy()
    for column, value in same.items():
        found &= (flows[column] == value).to_numpy(bool)
    return found
