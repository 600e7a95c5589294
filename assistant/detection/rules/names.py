"""Names that a resolver answers with addresses at which nobody is, though it gave others that answer.

    portal -> 198.51.100.7   answered          x x x x
    portal -> 192.0.2.20     nobody answers            . . . . .

An address of the plant's own network that no device has shows by ARP and is told in outages.py; one
behind a router shows by calls in vain alone, as those of a service that is gone do. So it takes a
name that leads to somebody at other times.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_at
from assistant.facts.fact import Proof, Value, by_count, listed, make_fact
from assistant.facts.proofs import ip_field, pick_frames
from assistant.facts.traffic_view import TrafficView

_MIN_VAIN = 5  # calls in vain, of all who were led astray
# Of the answers for a name in that time: one dead server of several is no lie.
_MIN_GIVEN, _MOSTLY = 2, 0.8
_MOST_NAMED = 4

_SENTENCES = {
    "astray": "The resolver {resolver} answers {names} with {addresses} since {since_time_s}, where nobody answers: "
    "{calls:call} of {clients} there stayed without an answer.",
    "astray, over": "The resolver {resolver} answered {names} with {addresses} from {since_time_s} to {until_time_s}, "
    "where nobody answers: {calls:call} of {clients} there stayed without an answer.",
    "led_right": "At other times it answered with {others}, and there somebody answers.",
}


@dataclass(frozen=True)
class _Lie:
    """A name that led nowhere for a while.

    Attributes:
        given: the answers that led nowhere, rows of exchanges with ``address``.
        right: addresses that the name leads to at other times.
        calls: of those who were led there, rows of ``flow_slots``.
        over: whether it was given right again.
    """

    given: pd.DataFrame
    right: tuple[str, ...]
    calls: pd.DataFrame
    over: bool


def find_wrong_answers(
    view: TrafficView, least_vain: int = _MIN_VAIN, least_given: int = _MIN_GIVEN
) -> list[RuleHit]:
    """Resolvers that for a while lead their clients to addresses outside at which nobody is.

    Args:
        view: the capture.
        least_vain: calls in vain from which on it is an incident; a single one is worth a word to who asks.
        least_given: answers for a name from which on, likewise.
    """
    told = _read_answers(view)
    hits = []
    for resolver, rows in told.groupby("server"):
        lies = list(_find_lies(view, rows, least_given))
        if lies and sum(lie.calls["attempt"].nunique() for lie in lies) >= least_vain:
            hits.append(_make_hit(view, str(resolver), lies))
    return hits


def _read_answers(view: TrafficView) -> pd.DataFrame:
    """Answers that gave an address for a name, by time: rows of exchanges with ``address``, and whether
    anything was ``heard`` from it."""
    rows = view.exchanges
    rows = rows[(rows["protocol"] == "dns") & (rows["value"] > 0) & rows["name"].notna()]
    rows = rows.astype({"client": "str", "server": "str", "name": "str"})
    address = rows["value"].map(lambda one: str(IPv4Address(int(one)))).astype("str")
    return rows.assign(address=address, heard=address.isin(view.speakers))


def _find_lies(view: TrafficView, rows: pd.DataFrame, least: int) -> Iterator[_Lie]:
    """The names of a resolver that led nowhere; ``rows``: its answers."""
    mixed = rows.groupby("name")["heard"].agg(["any", "all"])
    calls = view.flow_slots
    calls = calls[(calls["syns"] > 0) & ~calls["answered"]]
    for name in mixed.index[mixed["any"] & ~mixed["all"]]:
        mine = rows[rows["name"] == name]
        given = mine[~mine["heard"]]
        first_s, last_s = float(given["ts"].min()), float(given["ts"].max())
        meanwhile = mine["ts"].between(first_s, last_s)
        if len(given) < max(least, _MOSTLY * meanwhile.sum()):
            continue
        vain = calls["src"].isin(given["client"]) & calls["dst"].isin(given["address"])
        vain &= calls["until_s"] >= first_s
        right = tuple(by_count(mine.loc[mine["heard"], "address"]))
        over = bool((mine.loc[mine["heard"], "ts"] > last_s).any())
        if vain.any():
            yield _Lie(given, right, calls[vain], over)


def _make_hit(view: TrafficView, resolver: str, lies: list[_Lie]) -> RuleHit:
    given, calls = (pd.concat([getattr(lie, one) for lie in lies]) for one in ("given", "calls"))
    clients, addresses = by_count(calls["src"].astype(str)), by_count(calls["dst"].astype(str))
    over = all(lie.over for lie in lies)
    values: dict[str, Value] = {
        "resolver": view.name_of(resolver),
        "names": listed([f"“{one}”" for one in by_count(given["name"])], _MOST_NAMED),
        "addresses": view.names_of(addresses),
        "calls": calls["attempt"].nunique(),
        "clients": view.names_of(clients),
        "since_time_s": float(given["ts"].min()),
        "until_time_s": max(float(given["ts"].max()), float(calls["until_s"].max())),
        "others": view.names_of(dict.fromkeys(one for lie in lies for one in lie.right)),
    }
    field = ip_field(resolver)
    gave = " || ".join(f"dns.a == {one}" for one in addresses[:_MOST_NAMED])
    proof = Proof(f"{field}.src == {resolver} && ({gave})", pick_frames(given["answer_frame"]))
    facts = (
        make_fact("astray", _SENTENCES["astray, over" if over else "astray"], values, proof=proof),
        make_fact("led_right", _SENTENCES["led_right"], values),
    )
    slots = np.union1d(slots_at(given["ts"]), np.unique(calls["slot"].to_numpy(np.int64)))
    ends = (*clients, *addresses)
    gone = tuple(addresses)
    return RuleHit(resolver, "name_resolution", "source", facts, ends, slots, gone=gone)
