"""What a device asked and was asked, whatever the protocol: answered, refused, in vain."""

import pandas as pd

from assistant.facts.fact import Fact, Value, listed, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.pcap.protocols import BY_NAME

_MOST_PAIRS = 4
_NO_SUCH_NAME = 3  # DNS: a question, not a failure
_MIN_FAILED, _FAILED_SHARE = 3, 0.01
_MIN_VAIN = 5  # calls of one endpoint that never accepts any

_SENTENCES = {
    "asked": "{client} asked {server} {asked:time} over {protocol}: {answered} answered, {refused} refused, "
    "{unanswered} without an answer.",
    "vain": "{client} called {server} {calls:time} between {first_time_s} and {last_time_s}, and none of these calls was "
    "accepted.",
    "codes": "The refusals of {server} were: {codes}.",
}


def request_facts(view: TrafficView, device: str) -> list[Fact]:
    """Requests of a device and to it, the pairs with most failures first."""
    rows = _requests(view, device)
    facts = []
    pairs = rows.assign(bad=_is_failure(rows)).groupby(
        ["client", "server", "protocol"], observed=True
    )
    order = pairs["bad"].agg(["sum", "size"]).sort_values(["sum", "size"], ascending=False)
    for (client, server, protocol), counted in order.iloc[:_MOST_PAIRS].iterrows():
        mine = pairs.get_group((client, server, protocol))
        refused = mine[_is_refused(mine)]
        values: dict[str, Value] = {
            "client": view.name_of(str(client)),
            "server": view.name_of(str(server)),
            "protocol": str(protocol),
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
    return [*_vain_facts(view, device), *facts]


def fails_often(view: TrafficView, device: str) -> bool:
    """Whether more requests of a device or to it failed than an accident explains, or its calls of
    somebody lead nowhere."""
    rows = _requests(view, device)
    failed = int(_is_failure(rows).sum()) >= max(_MIN_FAILED, _FAILED_SHARE * len(rows))
    return failed or not _calls_in_vain(view, device).empty


def _calls_in_vain(view: TrafficView, device: str) -> pd.DataFrame:
    """TCP endpoints that a device called several times and that never accepted: ``other port calls
    since_s until_s``, the most called first."""
    rows = view.flows_of(device)
    rows = rows[rows["out"] & (rows["proto"] == "tcp")]
    good = rows["answered"] & ~rows["refused"]
    tried = rows.assign(good=good)[(rows["syns"] > 0) | good]
    each = tried.groupby(["other", "port"]).agg(
        good=("good", "any"), calls=("attempt", "nunique"), since_s=("since_s", "min"), until_s=("until_s", "max"),
    )  # fmt: skip
    vain = each[~each["good"].astype(bool) & (each["calls"] >= _MIN_VAIN)]
    return vain.sort_values("calls", ascending=False).reset_index()


def _vain_facts(view: TrafficView, device: str) -> list[Fact]:
    facts = []
    for row in _calls_in_vain(view, device).head(_MOST_PAIRS).itertuples():
        values: dict[str, Value] = {
            "client": view.name_of(device),
            "server": view.port_at(str(row.other), int(row.port)),
            "calls": int(row.calls),
            "first_time_s": float(row.since_s),
            "last_time_s": float(row.until_s),
        }
        facts.append(make_fact("vain", _SENTENCES["vain"], values))
    return facts


def _requests(view: TrafficView, device: str) -> pd.DataFrame:
    rows = view.exchanges
    rows = rows[(rows["client"] == device) | (rows["server"] == device)]
    return rows[rows["outcome"].isin(["answered", "refused", "unanswered"]) | _is_alone(rows)]


def _is_alone(rows: pd.DataFrame) -> pd.Series:
    """A refusal whose request was not seen is a refusal all the same."""
    return (rows["outcome"] == "unasked") & (rows["code"] > 0)


def _is_refused(rows: pd.DataFrame) -> pd.Series:
    """What an answer remarks beside what was asked for is no refusal."""
    return (rows["outcome"] == "refused") | _is_alone(rows)


def _is_failure(rows: pd.DataFrame) -> pd.Series:
    unknown = (rows["protocol"] == "dns") & (rows["code"] == _NO_SUCH_NAME)
    return ((rows["outcome"] == "unanswered") | _is_refused(rows) | _has_trouble(rows)) & ~unknown


def _has_trouble(rows: pd.DataFrame) -> pd.Series:
    """Answers in which a device remarks that something is wrong with it."""
    found = pd.Series(data=False, index=rows.index)
    for name in rows["protocol"].unique():
        trouble = rows["code"].isin(BY_NAME[str(name)].troubles)
        found |= (rows["protocol"] == name) & (rows["outcome"] == "answered") & trouble
    return found
