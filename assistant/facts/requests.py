"""What a device asked and was asked, whatever the protocol: answered, refused, in vain."""

from typing import Literal

import pandas as pd

from assistant.facts.fact import Fact, Value, listed, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.pcap.protocols import BY_NAME, spoken_name

# How a request ended, where its end was seen.
OUTCOMES = ("answered", "refused", "unanswered")
_MOST_PAIRS = 4
_NO_SUCH_NAME = 3  # DNS: a question, not a failure
_MIN_FAILED, _FAILED_SHARE = 3, 0.01

_SENTENCES = {
    "asked": "{client} asked {server} {asked:time} over {protocol}: {answered} answered, {refused} refused, "
    "{unanswered} without an answer.",
    "codes": "The refusals of {server} were: {codes}.",
    "ails": "{server} says of itself, in {n} of the {said:message} over {protocol} that it sent: {codes}.",
}


def request_facts(view: TrafficView, device: str) -> list[Fact]:
    """Requests of a device and to it, the pairs with most failures first, and what it remarks of
    itself."""
    rows = _requests(view, device)
    facts = []
    pairs = rows.assign(bad=_is_failure(rows)).groupby(
        ["client", "server", "protocol"], observed=True
    )
    order = pairs["bad"].agg(["sum", "size"]).sort_values(["sum", "size"], ascending=False)
    for (client, server, protocol), counted in order.iloc[:_MOST_PAIRS].iterrows():
        mine = pairs.get_group((client, server, protocol))
        refused = mine[is_refused(mine)]
        values: dict[str, Value] = {
            "client": view.name_of(str(client)),
            "server": view.name_of(str(server)),
            "protocol": spoken_name(str(protocol)),
            "asked": int(counted["size"]),
            "answered": int((mine["outcome"] == "answered").sum()),
            "refused": len(refused),
            "unanswered": int((mine["outcome"] == "unanswered").sum()),
        }
        facts.append(make_fact("asked", _SENTENCES["asked"], values))
        if len(refused):
            words = BY_NAME[str(protocol)].refusals
            counts = refused["code"].value_counts()
            said = (f"{n:,} {words.get(int(code), f'code {code}')}" for code, n in counts.items())
            values |= {"codes": listed(said), **{f"n{c}": int(n) for c, n in counts.items()}}
            facts.append(make_fact("codes", _SENTENCES["codes"], values))
    troubles = _describe_troubles(view, device)
    return [*facts, *troubles] if order["sum"].any() else [*troubles, *facts]


def name_failing(view: TrafficView, device: str) -> Literal["", "failures", "ails"]:
    """Whether more requests of a device or to it failed than an accident explains ("failures"), or it
    often says that something is wrong with it ("ails")."""
    rows = _requests(view, device)
    if is_often(int(_is_failure(rows).sum()), len(rows)):
        return "failures"
    said = _select_said(view, device)
    return "ails" if is_often(int(_has_trouble(said).sum()), len(said)) else ""


def _select_said(view: TrafficView, device: str) -> pd.DataFrame:
    """What a device answered, and what it told by itself."""
    rows = view.exchanges
    answered = (rows["server"] == device) & (rows["outcome"] == "answered")
    return rows[answered | ((rows["client"] == device) & (rows["outcome"] == "told"))]


def _describe_troubles(view: TrafficView, device: str) -> list[Fact]:
    said = _select_said(view, device)
    facts = []
    for name, rows in said[_has_trouble(said)].groupby("protocol", observed=True):
        protocol, counts = BY_NAME[str(name)], rows["code"].value_counts()
        words = (protocol.refusals.get(int(code), "") for code in counts.index)
        codes = (protocol.say_code(int(c), w) for c, w in zip(counts.index, words, strict=True))
        values: dict[str, Value] = {
            "server": view.name_of(device), "n": len(rows), "protocol": protocol.spoken,
            "said": int((said["protocol"] == name).sum()), "codes": listed(codes),
        }  # fmt: skip
        facts.append(make_fact("ails", _SENTENCES["ails"], values))
    return facts


def is_often(failed: int, asked: int) -> bool:
    """Whether so many failures are more than an accident explains."""
    return failed >= max(_MIN_FAILED, _FAILED_SHARE * asked)


def _requests(view: TrafficView, device: str) -> pd.DataFrame:
    rows = view.exchanges
    rows = rows[(rows["client"] == device) | (rows["server"] == device)]
    return rows[rows["outcome"].isin(OUTCOMES) | _is_alone(rows)]


def _is_alone(rows: pd.DataFrame) -> pd.Series:
    """A refusal whose request was not seen is a refusal all the same."""
    return (rows["outcome"] == "unasked") & (rows["code"] > 0)


def is_refused(rows: pd.DataFrame) -> pd.Series:
    """What an answer remarks beside what was asked for is no refusal."""
    return (rows["outcome"] == "refused") | _is_alone(rows)


def is_login(rows: pd.DataFrame) -> pd.Series:
    """Requests to be let in, whose protocol says whether they were."""
    found = pd.Series(False, rows.index)
    for name in rows["protocol"].unique():
        found |= (rows["protocol"] == name) & rows["function"].isin(BY_NAME[str(name)].logins)
    return found


def _is_failure(rows: pd.DataFrame) -> pd.Series:
    unknown = (rows["protocol"] == "dns") & (rows["code"] == _NO_SUCH_NAME)
    return ((rows["outcome"] == "unanswered") | is_refused(rows)) & ~unknown


def _has_trouble(rows: pd.DataFrame) -> pd.Series:
    """What a device says in which it remarks that something is wrong with it."""
    found = pd.Series(data=False, index=rows.index)
    for name in rows["protocol"].unique():
        trouble = rows["code"].isin(BY_NAME[str(name)].troubles)
        found |= (rows["protocol"] == name) & trouble
    return found
