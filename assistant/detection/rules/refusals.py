"""Requests that are refused with a code, whatever the protocol: for good, in part, or not now.

a a a r r r r r      a: answered, r: refused; what is refused from some moment on, or always
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from assistant.detection.rules.conversation import (
    describe_ends,
    make_hit,
    prove,
    read_conversations,
    word_code,
)
from assistant.detection.rules.probes import find_tried, make_probe, sweeps
from assistant.detection.rules.rule import RuleHit
from assistant.facts.fact import Fact, Value, by_count, kind_of, listed, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols import BY_NAME

_MIN_REFUSED, _MIN_REFUSED_S = 5, 20.0
_MIN_LOCKED_OUT = 3  # logins of who was never let in
_MIN_TURNED_S, _MIN_BEFORE = 5.0, 5  # of what was answered so often before, or is a login
_MIN_PARTLY, _PARTLY_SHARE = 10, 0.03
_MIN_POOLED, _MIN_POOLED_S = 5, 10.0  # of several clients together, whom it answered before
_MIN_GONE = 3  # who asks a gateway for a unit waits for seconds each time
_MOSTLY = 0.9  # of the same request, from the first refusal on
_MIN_BUSY_S = 10.0  # a device that is busy for a moment is no incident
_FEW_TARGETS = 4
_GUESSES, _GUESS_S = 30, 1.0
# Who guesses hardly tries a login twice; devices behind one address each keep to their own.
_MANY_LOGINS, _TRIED_ONCE_SHARE = 5, 0.5
_MIN_CLIENTS = 2
_MANY_CLIENTS = 3  # turned away at once: what changed is the server
_SAME = ["function", "unit", "target", "name", "value"]  # what makes two requests the same

_SENTENCES = {
    "refused": "{server} refuses what {client} asks: {refused} of {asked:request} to {what}{where} since "
    "{since_time_s} got {code}.",
    "now_refused": "{server} refuses what it answered {client} before: {refused} of {asked:request} to {what}{where} "
    "since {since_time_s} got {code}.",
    "partly_refused": "{server} refuses part of what {client} asks: {refused} of {asked:request} since {since_time_s} "
    "got {code}; the others were answered.",
    "refused_in_part": "{server} refuses part of what {n:client} ask, {clients}: {refused} of {asked:request} between "
    "{since_time_s} and {until_time_s} got {code}; it answered the same before.",
    "others_fine": "Other requests of {client} were answered meanwhile: {answered}.",
    "login_refused": "{server} refuses the login of {client}: {refused} of {asked:attempt} since {since_time_s} got "
    "{code}.",
    "login_refused, account": "{server} refuses the login of {client} as {account}: {refused} of {asked:attempt} since "
    "{since_time_s} got {code}.",
    "logins_tried": "{client} tried {logins:different login} in these {refused:attempt}: it guesses user names or "
    "passwords.",
    "login_kept": "Each of these attempts bore the same user name and password, as a program with an old or wrong "
    "setting does.",
    "logins_kept": "These attempts bore {logins:different login}, each again and again, as programs with old or wrong "
    "settings do.",
    "let_in": "At {let_in_time_s} the server let {client} in with one that it had not let in before.",
    "turned_away": "{server} refuses the logins of {n:client} that it lets in at other times, {clients}: "
    "{refused:attempt} between {since_time_s} and {until_time_s} got {code}.",
    "busy": "{server} answered {client} that it is busy {refused:time} between {since_time_s} and {until_time_s}: "
    "{code}. That is no wrong setting: a device answers so during a download or while it is overloaded.",
    "unit_gone": "Unit {unit} behind {server} does not answer: {refused} of {asked:request} of {client} for it since "
    "{since_time_s} got {code}.",
    "units_alive": "In the same time {server} answered for unit {units}.",
    "unit_changed": "Until then {client} asked unit {unit} for the same and was answered {answered:time}; that unit it "
    "asks no more.",
    "worked": "Before that, the same request was answered {answered:time}.",
    "works_again": "From {again_time_s} on the same request was answered again.",
}


def find_refusals(view: TrafficView) -> list[RuleHit]:
    """Requests, logins and units that a server refuses, and devices that say that they are busy."""
    hits, pooled = [], dict[tuple[str, str], list[pd.DataFrame]]()
    for client, server, name, rows in read_conversations(view):
        refused = rows["code"] > 0
        if name == "dns":
            continue
        tried = find_tried(rows)
        if refused.any() and not len(tried):
            pooled.setdefault((server, name), []).append(rows)
        if sweeps(rows):
            continue  # find_register_sweeps, or the addresses themselves, tell more
        if len(tried):
            hits.append(make_probe(view, client, server, tried))
            continue
        if int(refused.sum()) < _MIN_GONE:
            continue
        protocol = BY_NAME[name]
        for kind, codes in (("gone", protocol.gone), ("busy", protocol.busy)):
            mine = rows[rows["code"].isin(codes)]
            if kind == "gone":
                hits += [
                    hit
                    for unit in mine["unit"].unique()
                    if (hit := _find_gone_unit(view, client, server, rows, int(unit), codes))
                ]
            elif len(mine) >= _MIN_GONE and mine["ts"].max() - mine["ts"].min() >= _MIN_BUSY_S:
                fact = _refusal_fact("busy", view, client, server, mine, mine)
                hits.append(make_hit(server, "service_down", [fact], client, mine))
        wrong = refused & ~rows["code"].isin(protocol.gone | protocol.busy)
        hits += _find_wrong(view, client, server, rows, wrong)
    told = {one for hit in hits for one in (hit.device, *hit.peers)}
    for (server, name), parts in pooled.items():
        if server not in told and (hit := _find_refused_in_part(view, server, name, parts)):
            hits.append(hit)
    return _blame_servers(view, hits)


# ---- A server that refuses several clients ----


def _blame_servers(view: TrafficView, hits: list[RuleHit]) -> list[RuleHit]:
    """One hit at a server in place of those of the clients that it turns away at once and lets in at
    other times; a client that was never let in stays a story of its own."""
    known = [hit for hit in hits if _is_known_login(hit)]
    left, blamed = list(hits), []
    for server in dict.fromkeys(hit.peers[0] for hit in known):
        mine = sorted(
            (one for one in known if one.peers[0] == server), key=lambda one: -len(one.slots)
        )
        mine = [one for one in mine if np.isin(one.slots, mine[0].slots).any()]
        if len(mine) >= _MANY_CLIENTS:
            left = [one for one in left if all(one is not other for other in mine)]
            blamed.append(_make_turned_away(view, server, mine))
    return left + blamed


def _is_known_login(hit: RuleHit) -> bool:
    kinds = {kind_of(one) for one in hit.facts}
    # However fast it tries: who bears one login all the time, and is let in with it again, guesses none.
    meant_well = hit.label == "misconfiguration" or "login_kept" in kinds
    refused = kind_of(hit.fact) == "login_refused" and meant_well
    return refused and bool(kinds & {"worked", "works_again"})


def _make_turned_away(view: TrafficView, server: str, hits: list[RuleHit]) -> RuleHit:
    since_s = min(float(hit.fact.values["since_time_s"]) for hit in hits)
    until_s = max(float(hit.fact.values["until_time_s"]) for hit in hits)
    asked = view.exchanges
    asked = asked[(asked["server"] == server) & (asked["kind"] == "session")]
    refused = asked[(asked["code"] > 0) & asked["ts"].between(since_s, until_s)]
    let_in = asked.loc[asked["outcome"] == "answered", "client"].unique()
    refused = refused[refused["client"].isin([*let_in, *(hit.device for hit in hits)])]
    clients = by_count(refused["client"].astype(str))
    values: dict[str, Value] = {
        "server": view.name_of(server),
        "n": len(clients),
        "clients": view.names_of(clients),
        "refused": len(refused),
        "since_time_s": since_s,
        "until_time_s": until_s,
        "code": hits[0].fact.values["code"],
    }
    facts = [make_fact("turned_away", _SENTENCES["turned_away"], values)]
    again = [one for hit in hits for one in hit.facts if kind_of(one) == "works_again"]
    if len(again) == len(hits):
        facts.append(max(again, key=lambda one: one.values["again_time_s"]))
    facts += [hit.fact for hit in hits]
    slots = np.unique(np.concatenate([hit.slots for hit in hits]))
    return RuleHit(server, "service_down", "source", tuple(facts), tuple(clients), slots)


# ---- Refusals of one client at one server ----


def _find_gone_unit(
    view: TrafficView,
    client: str,
    server: str,
    rows: pd.DataFrame,
    unit: int,
    codes: frozenset[int],
) -> RuleHit | None:
    mine = rows[rows["unit"] == unit]
    gone = mine[mine["code"].isin(codes)]
    since = mine[mine["ts"] >= gone["ts"].min()]
    heard = since["outcome"] != "unanswered"  # the last may only have been cut off
    if len(gone) < max(_MIN_GONE, _MOSTLY * heard.sum()):
        return None
    facts = [_refusal_fact("unit_gone", view, client, server, gone, since, unit=str(unit))]
    others = rows[(rows["ts"] >= gone["ts"].min()) & (rows["unit"] != unit)]
    alive = sorted(others.loc[others["outcome"] == "answered", "unit"].unique())
    if alive:
        values: dict[str, Value] = {"server": view.name_of(server)}
        values["units"] = listed(map(str, alive))
        facts.append(make_fact("units_alive", _SENTENCES["units_alive"], values))
    before = _find_former_unit(rows, since)
    if before.empty:
        return make_hit(server, "device_silent", facts, client, gone)
    values = {
        "client": view.name_of(client),
        "unit": str(before["unit"].mode().iloc[0]),
        "answered": len(before),
    }
    facts.insert(1, make_fact("unit_changed", _SENTENCES["unit_changed"], values))
    return make_hit(client, "misconfiguration", facts, server, gone)


def _find_former_unit(rows: pd.DataFrame, since: pd.DataFrame) -> pd.DataFrame:
    """Answered requests of one client for the same of another unit, which it asks no more since."""
    first_s, last_s = since["ts"].min(), since["ts"].max()
    others = rows[rows["unit"] != since["unit"].iloc[0]]
    same = others["target"].isin(since["target"]) & others["function"].isin(since["function"])
    kept = others.loc[others["ts"].between(first_s, last_s), "unit"]
    before = others[same & (others["ts"] < first_s) & (others["outcome"] == "answered")]
    before = before[~before["unit"].isin(kept)]
    return before if len(before) >= _MIN_GONE else before[:0]


def _find_wrong(
    view: TrafficView, client: str, server: str, rows: pd.DataFrame, wrong: pd.Series
) -> list[RuleHit]:
    """What is refused for good, or for a while: the same request, from its first refusal to its last."""
    same = rows.groupby(_SAME, sort=False, dropna=False, observed=True).ngroup()
    refused_s = rows["ts"].where(wrong).groupby(same)
    since = rows["ts"].between(refused_s.transform("min"), refused_s.transform("max"))
    share = wrong.groupby(same).transform("sum") / since.groupby(same).transform("sum")
    kept = since & (share >= _MOSTLY)
    refused = rows[kept & wrong]
    protocol = BY_NAME[str(rows["protocol"].iloc[0])]
    least = _MIN_LOCKED_OUT if _is_locked_out(rows, protocol.denied) else _MIN_REFUSED
    if len(refused) < least:
        return _find_partly_refused(view, client, server, rows, wrong)
    hits = []
    for code, mine in refused.groupby("code"):
        # Who looks around once (an engineering tool that reads what a device is) is refused a few
        # things at once; who needs something asks again.
        login = int(code) in protocol.denied and (mine["kind"] == "session").all()
        known = same.isin(same[mine.index].unique())
        alike = rows[known]
        fine = alike["outcome"] == "answered"
        if login and (mine["login"] >= 0).all():  # a guess that is right makes the others none
            fine &= alike["login"].isin(mine["login"])
        answered_s = alike.loc[fine, "ts"]
        needed = login or len(answered_s) >= _MIN_BEFORE
        turned = needed and not (answered_s > mine["ts"].min()).any()
        least_s = _MIN_TURNED_S if turned else _MIN_REFUSED_S
        enough = least if login else _MIN_REFUSED
        if len(mine) < enough or mine["ts"].max() - mine["ts"].min() < least_s:
            continue
        asked = rows[kept & known]
        good = rows["outcome"] == "answered"
        others = rows[good & ~known & (rows["ts"] >= mine["ts"].min())]
        told, before, again = _tell_around(view, client, mine, rows[good & known], others)
        # Who asks for what it was always given, and is given it again, has not changed: the server has.
        fails = int(code) in protocol.failed or again > 0
        by_server = not login and fails and before >= _MIN_BEFORE
        kind = "login_refused" if login else "now_refused" if by_server else "refused"
        facts = [_refusal_fact(kind, view, client, server, mine, asked), *told]
        tries_many = login and _tries_logins(mine)
        hurries = login and _is_guessing(mine["ts"])
        guesses = login and not before and (tries_many or hurries)
        label = "brute_force" if guesses else "misconfiguration"
        if login:
            # A short list of guesses is gone through more than once.
            many = guesses and mine["login"].nunique() >= _MANY_LOGINS
            facts[1:1] = _tell_logins(view, client, rows, mine, tries_many or many)
        if by_server:
            hits.append(make_hit(server, "service_down", facts, client, mine))
        else:
            hits.append(make_hit(client, label, facts, server, mine))
    return hits or _find_partly_refused(view, client, server, rows, wrong)


def _tell_around(
    view: TrafficView,
    client: str,
    refused: pd.DataFrame,
    answered: pd.DataFrame,
    others: pd.DataFrame,
) -> tuple[list[Fact], int, int]:
    """What was answered meanwhile, before and afterwards; and how often, of the same, before and
    afterwards.

    Args:
        refused: requests that were refused.
        answered: of the same, those that were answered.
        others: answered requests for something else, since the first was refused.
    """
    before = int((answered["ts"] < refused["ts"].min()).sum())
    again = answered[answered["ts"] > refused["ts"].max()]
    facts, values = list[Fact](), dict[str, Value]()
    if len(others):
        values = {"answered": len(others), "client": view.name_of(client)}
        facts.append(make_fact("others_fine", _SENTENCES["others_fine"], values))
    if before:
        facts.append(make_fact("worked", _SENTENCES["worked"], {"answered": before}))
    if len(again):
        values = {"again_time_s": float(again["ts"].min())}
        facts.append(make_fact("works_again", _SENTENCES["works_again"], values))
    return facts, before, len(again)


def _is_locked_out(rows: pd.DataFrame, denied: Collection[int]) -> bool:
    """Whether a client asked to be let in and never was."""
    sessions = rows.loc[rows["kind"] == "session", "code"]
    return len(sessions) > 0 and bool(sessions.isin(denied).all())


def _is_guessing(tried_s: pd.Series) -> bool:
    """Many logins, one a second or faster: a client with a wrong password waits in between, and
    longer each time."""
    return len(tried_s) >= _GUESSES and float(tried_s.diff().median()) <= _GUESS_S


def _tries_logins(refused: pd.DataFrame) -> bool:
    """Whether refused logins bear ever other user names and passwords, where these can be told apart."""
    known = refused.loc[refused["login"] >= 0, "login"]
    return known.nunique() >= max(_MANY_LOGINS, _TRIED_ONCE_SHARE * len(refused))


def _tell_logins(
    view: TrafficView, client: str, rows: pd.DataFrame, refused: pd.DataFrame, guesses: bool
) -> list[Fact]:
    """Whether it was always the same login or guesses, and whether one was right after all."""
    known = refused["login"] >= 0
    if not known.all():
        return []  # encrypted, or of a protocol whose logins are not read: open
    values: dict[str, Value] = {
        "client": view.name_of(client),
        "logins": refused["login"].nunique(),
        "refused": len(refused),
    }
    kind = "login_kept" if values["logins"] == 1 else "logins_kept"
    if not guesses:
        return [make_fact(kind, _SENTENCES[kind], values)]
    facts = [make_fact("logins_tried", _SENTENCES["logins_tried"], values)]
    let_in = rows[(rows["outcome"] == "answered") & (rows["login"] >= 0)]
    since = let_in["ts"] > refused["ts"].min()
    let_in = let_in[since & ~let_in["login"].isin(let_in.loc[~since, "login"])]
    if len(let_in):
        values["let_in_time_s"] = float(let_in["ts"].min())
        facts.append(make_fact("let_in", _SENTENCES["let_in"], values))
    return facts


def _find_partly_refused(
    view: TrafficView, client: str, server: str, rows: pd.DataFrame, wrong: pd.Series
) -> list[RuleHit]:
    """Requests that are refused now and then, and answered at other times."""
    asked = view.exchanges
    mine = (asked["client"] == client) & (asked["server"] == server)
    if (asked.loc[mine, "outcome"] == "malformed").sum() >= _MIN_PARTLY:
        return []  # who sends what is no message is turned away for that
    mine = rows[wrong]
    lasts = len(mine) and mine["ts"].max() - mine["ts"].min() >= _MIN_REFUSED_S
    if not lasts or len(mine) < max(_MIN_PARTLY, _PARTLY_SHARE * len(rows)):
        return []
    fact = _refusal_fact("partly_refused", view, client, server, mine, rows)
    return [make_hit(server, "service_down", [fact], client, mine)]


def _find_refused_in_part(
    view: TrafficView, server: str, name: str, parts: list[pd.DataFrame]
) -> RuleHit | None:
    """A server that refuses several clients a few times each what it answered them before: too
    little of each to tell, enough of all."""
    protocol = BY_NAME[name]
    mine, asked = [], []
    for rows in parts:
        same = rows.groupby(_SAME, sort=False, dropna=False, observed=True).ngroup()
        wrong = (rows["code"] > 0) & ~rows["code"].isin(protocol.gone | protocol.busy)
        wrong &= rows["kind"] != "session"
        first_s = rows["ts"].where(wrong).groupby(same).transform("min")
        fine = (rows["outcome"] == "answered") & (rows["ts"] < first_s)
        known = fine.groupby(same).transform("sum") >= _MIN_BEFORE
        if (wrong & known).any():
            mine.append(rows[wrong & known])
            asked.append(rows[same.isin(same[wrong & known].unique())])
    if len(mine) < _MIN_CLIENTS:
        return None
    refused, tried = pd.concat(mine).sort_values("ts"), pd.concat(asked)
    since_s, until_s = float(refused["ts"].min()), float(refused["ts"].max())
    if len(refused) < _MIN_POOLED or until_s - since_s < _MIN_POOLED_S:
        return None
    clients = by_count(refused["client"].astype(str))
    codes = refused["code"].value_counts()
    values: dict[str, Value] = {
        "server": view.name_of(server),
        "n": len(clients),
        "clients": view.names_of(clients),
        "refused": len(refused),
        "asked": int(tried["ts"].between(since_s, until_s).sum()),
        "since_time_s": since_s,
        "until_time_s": until_s,
        "code": listed(word_code(name, int(code)) for code in codes.index),
    }
    fact = make_fact("refused_in_part", _SENTENCES["refused_in_part"], values)
    slots = np.unique(np.floor(refused["ts"].to_numpy() / SAMPLE_S).astype(np.int64))
    return RuleHit(server, "service_down", "source", (fact,), tuple(clients), slots)


def _refusal_fact(
    kind: str,
    view: TrafficView,
    client: str,
    server: str,
    refused: pd.DataFrame,
    asked: pd.DataFrame,
    **words: str,
) -> Fact:
    name = str(refused["protocol"].iloc[0])
    codes = refused["code"].value_counts()
    values = describe_ends(view, client, server, refused) | {
        "refused": len(refused),
        "asked": len(asked),
        "code": listed(word_code(name, int(code)) for code in codes.index),
        "what": _word_functions(name, refused),
        "where": _word_targets(name, refused),
        **words,
    }
    proof = prove(refused, answers=True)
    sentence = _SENTENCES[kind]
    if kind == "login_refused" and (account := _word_accounts(name, refused)):
        values["account"], sentence = account, _SENTENCES["login_refused, account"]
    return make_fact(kind, sentence, values, proof=proof)


def _word_functions(protocol: str, rows: pd.DataFrame) -> str:
    words = BY_NAME[protocol].functions
    counts = rows["function"].value_counts()
    return listed(words.get(int(code), f"function {code}") for code in counts.index[:3])


def _word_accounts(protocol: str, rows: pd.DataFrame) -> str:
    """Under which accounts a client wants to be let in, where its protocol names them; "" else."""
    names = rows["name"].dropna().astype("str").value_counts().index
    known = BY_NAME[protocol].accounts and len(names)
    return listed((f"“{one}”" for one in names), _FEW_TARGETS) if known else ""


def _word_targets(protocol: str, rows: pd.DataFrame) -> str:
    """Which addresses and which unit, where these are few; "" else."""
    targets = sorted(int(one) for one in rows["target"].unique() if one >= 0)
    units = sorted(int(one) for one in rows["unit"].unique() if one >= 0)
    name_target, words = BY_NAME[protocol].name_target, ""
    # A bare number says nothing: what it numbers only the protocol knows.
    if name_target is not str and 0 < len(targets) <= _FEW_TARGETS:
        words += f" at {listed(map(name_target, targets))}"
    return words + (f" of unit {units[0]}" if len(units) == 1 else "")
