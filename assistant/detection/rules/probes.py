"""Who tries a server out: every function, unit or address once, to see which of them is there.

1:0 1:50 1:100 2:0 2:50 ...      unit and address: different each time, and mostly refused or unanswered
"""

import numpy as np
import pandas as pd

from assistant.detection.rules.conversation import describe_ends, make_hit, prove
from assistant.detection.rules.rule import RuleHit
from assistant.facts.fact import make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S

# Different functions or units that were never answered, asked for a few times each: who asks looks
# around, and tools may try thrice. Who has a wrong setting asks for the same again and again.
_PROBED, _TRIED_FEW = 10, 5
_SWEPT = 50  # different addresses; or different requests, by function, unit and address
_WHAT = ["function", "unit", "target"]

_SENTENCES = {
    "probe": "{client} tries {server} out: {functions:different function}, {units:unit} and {targets:address} in "
    "{asked:request} between {since_time_s} and {until_time_s}, {refused} of them refused.",
    "probe, mute": "{client} tries {server} out: {functions:different function}, {units:unit} and {targets:address} in "
    "{asked:request} between {since_time_s} and {until_time_s}, {refused} of them refused and {unanswered} left "
    "without an answer.",
}


def find_tried(rows: pd.DataFrame) -> pd.DataFrame:
    """What a client tries at a server to see what is there: many different requests, most of which are
    never answered, and that it asks for a few times; empty where it does not. What it goes on
    asking beside that is its work."""
    vain = rows[(rows["code"] > 0) | (rows["outcome"] == "unanswered")]
    if len(vain) < _PROBED:
        return rows[:0]
    since = rows[rows["ts"].between(vain["ts"].min(), vain["ts"].max())]
    before = rows.loc[rows["ts"] < vain["ts"].min(), _WHAT]
    work = pd.MultiIndex.from_frame(since[_WHAT]).isin(pd.MultiIndex.from_frame(before))
    tried = since[~work]
    told = tried.assign(answered=tried["outcome"] == "answered", refused=tried["code"] > 0)
    each = told.groupby(_WHAT, observed=True).agg(
        answered=("answered", "any"), refused=("refused", "any"), times=("ts", "size")
    )
    never = each[~each["answered"].astype(bool)].reset_index()
    known = never["refused"].astype(bool)
    kinds = max(never.loc[known, "function"].nunique(), never["unit"].nunique())
    many = kinds >= _PROBED or int(known.sum()) >= _SWEPT
    once = len(never) and never["times"].median() <= _TRIED_FEW
    return tried if many and once and 2 * len(never) >= len(each) else rows[:0]


def sweeps(rows: pd.DataFrame) -> bool:
    """Whether a client walks through addresses and is refused most of them, many in a sample."""
    refused = rows[rows["code"] > 0]
    slot = np.floor(refused["ts"] / SAMPLE_S)
    return bool((refused.groupby(slot)["target"].nunique() >= _SWEPT).any())


def make_probe(view: TrafficView, client: str, server: str, rows: pd.DataFrame) -> RuleHit:
    """A hit at a client that tries a server out, by what it tried."""
    values = describe_ends(view, client, server, rows) | {
        "functions": rows["function"].nunique(),
        "units": rows["unit"].nunique(),
        "targets": rows["target"].nunique(),
        "asked": len(rows),
        "refused": int((rows["code"] > 0).sum()),
        "unanswered": int((rows["outcome"] == "unanswered").sum()),
    }
    sentence = _SENTENCES["probe, mute" if values["unanswered"] else "probe"]
    fact = make_fact("probe", sentence, values, proof=prove(rows))
    return make_hit(client, "recon", [fact], server, rows)
