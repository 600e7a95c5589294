"""What each expert learns from: a family of labels, or of networks."""

from typing import Literal

import pandas as pd

from finetune.sites.captures import KINDS
from traffic.errors import UserError
from traffic.labels import ATTACKS, FAULTS, NORMAL

By = Literal["labels", "network"]
FAMILIES: dict[By, tuple[str, ...]] = {"labels": ("attacks", "faults"), "network": KINDS}
_LABELS = {"attacks": ATTACKS, "faults": FAULTS}


def choose_families(texts: pd.DataFrame, by: By) -> dict[str, pd.DataFrame]:
    """The texts of each family, by its name.

    Args:
        texts: ``label`` and ``kind``, a row a window, as
            `finetune.sites.captures.make_site_texts` has them.
        by: ``labels``: attacks and faults, normal windows in both; ``network``: captures without
            control protocols and with them.

    Raises:
        UserError: a family has no anomaly to learn, so that there would be one expert only.
    """
    found = {}
    for name in FAMILIES[by]:
        own = (
            texts["label"].isin([NORMAL, *_LABELS[name]])
            if by == "labels"
            else texts["kind"] == name
        )
        found[name] = texts[own]
        if not (found[name]["label"] != NORMAL).any():
            there = ", ".join(sorted(set(texts["label"]) - {NORMAL})) or "none"
            raise UserError(
                f"no anomalous window to learn from is of the family {name} (anomalies: {there}); "
                "expected some in each; give captures that show them, or another --by"
            )
    return found
