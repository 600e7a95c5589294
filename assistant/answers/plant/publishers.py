"""Who publishes GOOSE, how many messages, and how often what they tell changes its state.

A message counts the changes of its state (stNum, IEC 61850-8-1, 18), so that its numbers tell of those
too that were not seen.
"""

import re
from typing import Any

import numpy as np
import pandas as pd

from assistant.answers.asked import Answer, Asked, say
from assistant.facts.fact import Fact, Value, listed
from traffic.pcap.protocols.goose import PROBLEMS, TEST

_MOST = 8
_GOOSE = re.compile(r"\bgoose\b|\bgocb\w*|\bst ?num\w*|\bgo ?id\b")
_STATE = re.compile(
    r"\b(?:chang\w*|chatter\w*|flutter\w*|toggl\w*|flips?|flapp?\w*|st ?num\w*|bounc\w*|switch(?:es|ed|ing)"
    r"|aendert|wechsel\w*|flattert|cambi\w*|oscila\w*)\b"
)
_WELL = re.compile(
    r"\b(?:ok|okay|normal\w*|healthy|fine|well|wrong|problems?|miss\w*|los[et]s?|losing|drop\w*|late|gut|mal|bien)\b"
)
_TOKEN = re.compile(r"[A-Za-z0-9_$/]{4,}")
_OF_OTHERS = frozenset(("manual", "code", "before", "feedback", "help", "checks", "none"))


def answer_publishers(asked: Asked) -> Answer | None:
    """Who publishes GOOSE and how many messages, or how often the state of one changes; None where it is
    not asked, or nobody does."""
    rows = asked.view.exchanges
    rows = rows[(rows["protocol"] == "goose") & rows["name"].notna()]
    if rows.empty or asked.query.kind in _OF_OTHERS:
        return None
    if asked.span is not None:
        rows = rows[rows["ts"].between(asked.span.start_s, asked.span.end_s)]
    named = _find_named(asked.question, rows)
    if not named and not _GOOSE.search(asked.query.plain):
        return None
    if named:
        rows = rows[rows["name"].astype("str").isin(named)]
    publishers = _describe(rows)
    if publishers.empty:
        return None
    incident = next(
        (one for one in asked.analysis.incidents if one.facts and _is_goose(one.facts[0])), None
    )
    if incident is not None and _WELL.search(asked.query.plain):
        return None  # what is wrong with it says more
    told = [_tell_state(asked, one) for one in publishers.head(_MOST).to_dict("records")]
    odd = _tell_problems(rows)
    if _WELL.search(asked.query.plain) and not _STATE.search(asked.query.plain):
        return Answer(odd[0], (*odd[1:], *told), standing="inconclusive")
    facts = (*told, *odd)
    if len(publishers) == 1 or (_STATE.search(asked.query.plain) and named):
        return Answer(told[0], facts[1:], about=str(publishers["client"].iloc[0]))
    names = listed((_name_one(asked, one) for one in publishers.to_dict("records")), _MOST)
    values: dict[str, Value] = {f"count{place}": int(n) for place, n in enumerate(publishers["n"])}
    line = say(
        "publishers", asked.reply(True), machines=publishers["client"].nunique(), n=len(rows), names=names,
        start_time_s=float(rows["ts"].min()), span_s=float(np.ptp(rows["ts"])), **values,
    )  # fmt: skip
    return Answer(line, facts)


def _is_goose(fact: Fact) -> bool:
    return fact.id.startswith("goose")


def _find_named(question: str, rows: pd.DataFrame) -> list[str]:
    """References of which the question names a part with a digit in it: "AA1C1Q07"."""
    parts = [one.lower() for one in _TOKEN.findall(question) if re.search(r"\d", one)]
    names = rows["name"].astype("str").unique()
    return [str(one) for one in names if any(part in one.lower() for part in parts)]


def _describe(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per publisher and reference: messages, states and their changes, most changes first."""
    ends = ["client", "name"]
    rows = rows.sort_values("ts", kind="stable")
    step = rows.groupby(ends, observed=True)["target"].diff()
    # A number that goes back began anew; from there on it counts on.
    rows = rows.assign(step=step.clip(lower=0), back=step < 0, new_s=rows["ts"].where(step > 0))
    found = rows.groupby(ends, observed=True).agg(
        n=("ts", "size"), start_s=("ts", "min"), end_s=("ts", "max"), first=("target", "first"),
        last=("target", "last"), changes=("step", "sum"), back=("back", "sum"),
        every_s=("new_s", lambda at: float(at.dropna().diff().median())),
        seen=("new_s", "count"),
        test=("function", lambda one: int((one == TEST).sum())),
    )  # fmt: skip
    return found.reset_index().sort_values(
        "changes", ascending=False, kind="stable", ignore_index=True
    )


def _name_one(asked: Asked, one: dict[str, Any]) -> str:
    return say(
        "publisher",
        name=f"\u201c{one['name']}\u201d",
        client=asked.view.name_of(str(one["client"])),
        n=int(one["n"]),
    ).text


def _tell_state(asked: Asked, one: dict[str, Any]) -> Fact:
    changes, seen = int(one["changes"]), int(one["seen"])
    span_s = max(float(one["end_s"]) - float(one["start_s"]), 0.001)
    kind = (
        "state_once"
        if one["n"] == 1
        else "state_same"
        if not changes
        else "state_changes"
        if seen > 1
        else "state_changed_once"
    )
    more = [
        say("state_unseen", n=changes - seen).text if changes > seen else "",
        say("state_back", n=int(one["back"])).text if one["back"] else "",
        say("state_test", n=int(one["test"])).text if one["test"] else "",
    ]
    beside = listed([text for text in more if text])
    values: dict[str, Value] = {
        "name": f"\u201c{one['name']}\u201d", "client": asked.view.name_of(str(one["client"])), "n": int(one["n"]),
        "first": str(one["first"]), "last": str(one["last"]), "changes": changes, "span_s": span_s,
        "rate_per_s": changes / span_s, "every_s": float(one["every_s"]),
        "start_time_s": float(one["start_s"]), "unseen": changes - seen, "back": int(one["back"]),
        "test": int(one["test"]), "beside": f"; {beside}" if beside else "",
    }  # fmt: skip
    return say(kind, **{name: value for name, value in values.items() if value == value})


def _tell_problems(rows: pd.DataFrame) -> list[Fact]:
    """What was missing, late or out of order by the messages' own numbers."""
    counts = rows.loc[rows["code"] > 0, "code"].value_counts()
    if counts.empty:
        return [say("publishers_whole", n=len(rows))]
    return [say("publishers_odd", n=int(n), what=PROBLEMS[int(code)]) for code, n in counts.items()]
