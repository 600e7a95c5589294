"""Requests that fail: refused with a code, unanswered, answered too late, whatever the protocol.

Every rule looks at one client at one server, and counts what it asked:

    a a a r r r r r      a: answered, r: refused; what is refused from some moment on, or always
    a a u a a a u a      u: unanswered now and then
    a a u l l l l l      l: each answer comes after the next request
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.facts.fact import Fact, Proof, Value, listed, make_fact, plural
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols import PROTOCOLS
from traffic.pcap.protocols.dns import RESPONSE_CODES
from traffic.plant import GROUP, GROUP_MAC

_BY_NAME = {protocol.name: protocol for protocol in PROTOCOLS}
_MIN_REFUSED, _MIN_REFUSED_S = 5, 20.0
_MIN_PARTLY, _PARTLY_SHARE = 10, 0.03
_MIN_GONE = 3  # who asks a gateway for a unit waits for seconds each time
_MOSTLY = 0.9  # of the same request, from the first refusal on
_MIN_BUSY_S = 10.0  # a device that is busy for a moment is no incident
_PROBED = 10  # different functions or units that were refused: who asks looks around
_SWEPT = 50  # different addresses
_MIN_TIMEOUTS, _TIMEOUT_SHARE = 3, 0.1  # without a session that breaks because of it
_MIN_BREAKS = 2
_BROKEN_S = 3.0  # a session that its client ends so soon after a request in vain ends because of it
_MIN_BEHIND = 10  # answers in a row, and as many in step before them
_MIN_FAILED, _FAILED_SHARE = 5, 0.1
_MIN_UNKNOWN, _UNKNOWN_SHARE, _UNKNOWN_NAMES = 10, 0.5, 3
_DNS_FAULTS = (1, 2, 4, 5)  # of the resolver; 3 says that the name is wrong
_FEW_FRAMES = 5
_FEW_TARGETS = 4
_MIN_MALFORMED = 3
_SLOWER, _SLOWER_S = 5.0, 0.1  # times its own past, and by at least so much
_SLOW_FOR_S, _MIN_SLOW = 60.0, 10  # and answers on either side

_SENTENCES = {
    "refused": "{server} refuses what {client} asks: {refused} of {asked:request} to {what}{where} since "
    "{since_time_s} got {code}.",
    "partly_refused": "{server} refuses part of what {client} asks: {refused} of {asked:request} since {since_time_s} "
    "got {code}; the others were answered.",
    "others_fine": "Other requests of {client} were answered meanwhile: {answered}.",
    "login_refused": "{server} refuses the login of {client}: {refused} of {asked:attempt} since {since_time_s} got "
    "{code}.",
    "busy": "{server} answered {client} that it is busy {refused:time} between {since_time_s} and {until_time_s}: "
    "{code}. That is no wrong setting: a device answers so during a download or while it is overloaded.",
    "unit_gone": "Unit {unit} behind {server} does not answer: {refused} of {asked:request} of {client} for it since "
    "{since_time_s} got {code}.",
    "units_alive": "In the same time {server} answered for unit {units}.",
    "worked": "Before that, the same request was answered {answered:time}.",
    "timeouts": "{server} left {unanswered} of {asked:request} of {client} without an answer.",
    "breaks": "After {breaks} of these {client} closed the connection within {wait_s} and opened a new one.",
    "mute": "{server} answers none of what {client} asks: {asked:request} since {since_time_s} stayed without an "
    "answer, though the connection stands.",
    "behind": "Since {since_time_s} {client} is one transaction behind with {server}: {late} of {asked:answer} carry "
    "the number of the request before the last one, so that each value may be taken for another.",
    "servfail": "{failed} of {asked:answer} of the resolver {server} to {client} since {since_time_s} are failures: "
    "{codes}.",
    "unknown_names": '{client} asks {server} for names that do not exist: {failed} of {asked:question} got "no such '
    'name".',
    "malformed": "{client} sends {server} what is no {protocol}: {malformed:malformed message} since {since_time_s}.",
    "slow": "{server} answers {client} slowly: half of its answers took {slow_s} or more between {since_time_s} and "
    "{until_time_s}; before that {usual_s}.",
    "probe": "{client} tries {server} out: {functions:different function} and {units:unit} in {asked:request}, "
    "{refused} of them refused.",
}


def find_refusals(view: TrafficView) -> list[RuleHit]:
    """Requests, logins and units that a server refuses, and devices that say that they are busy."""
    hits = []
    for client, server, name, rows in _conversations(view):
        refused = rows["code"] > 0
        if name == "dns" or int(refused.sum()) < _MIN_GONE:
            continue
        protocol = _BY_NAME[name]
        if _sweeps(rows):
            continue  # find_register_sweeps, or the addresses themselves, tell more
        if _is_probing(rows):
            hits.append(_make_probe(view, client, server, rows))
            continue
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
                hits.append(_hit(server, "service_down", "source", (fact,), client, mine))
        wrong = refused & ~rows["code"].isin(protocol.gone | protocol.busy)
        hits += _find_wrong(view, client, server, rows, wrong)
    return hits


def find_unanswered_requests(view: TrafficView) -> list[RuleHit]:
    """Servers that take requests and leave some or all of them without an answer."""
    hits = []
    for client, server, name, rows in _conversations(view):
        vain = rows[rows["outcome"] == "unanswered"]
        if name == "dns" or len(vain) < _MIN_TIMEOUTS:
            continue
        values = _values(view, client, server, vain) | {
            "asked": len(rows),
            "unanswered": len(vain),
            "wait_s": _BROKEN_S,
        }
        proof = _proof(rows, vain, f"{_filter(rows)} && tcp.len > 0")
        if not rows["outcome"].isin(["answered", "refused"]).any():
            if server not in view.heard:
                continue  # absent, or seen from one side only: no word about its program
            fact = make_fact("mute", _SENTENCES["mute"], values, proof=proof)
            hits.append(_hit(server, "service_down", "source", (fact,), client, vain))
            continue
        breaks = _count_breaks(view, vain)
        if breaks >= _MIN_BREAKS or len(vain) >= _TIMEOUT_SHARE * len(rows):
            facts = [make_fact("timeouts", _SENTENCES["timeouts"], values, proof=proof)]
            values["breaks"] = breaks
            if breaks:
                facts.append(make_fact("breaks", _SENTENCES["breaks"], values))
            label = "flapping" if breaks else "service_down"
            hits.append(_hit(server, label, "source", tuple(facts), client, vain))
    return hits


def find_late_answers(view: TrafficView) -> list[RuleHit]:
    """Clients that fell behind: from some moment on each answer comes after the next request.

    A client that sends several requests at once is behind from the start; one that lost step was in
    step before.
    """
    hits = []
    for client, server, _, rows in _conversations(view):
        answered = rows[rows["delay_s"].notna()]
        for _, flow in answered.groupby("flow"):
            late = (flow["behind"] > 0).to_numpy()
            start = len(late) - int(np.argmin(late[::-1])) if not late.all() else 0
            if start < _MIN_BEHIND or len(late) - start < _MIN_BEHIND:
                continue
            if late[:start].mean() > 1 - _MOSTLY:
                continue
            part = flow.iloc[start:]
            values = _values(view, client, server, part)
            values |= {"late": len(part), "asked": len(part)}
            proof = _proof(rows, part, _filter(rows), answers=True)
            fact = make_fact("behind", _SENTENCES["behind"], values, proof=proof)
            hits.append(_hit(client, "misconfiguration", "source", (fact,), server, part))
    return hits


def find_malformed(view: TrafficView) -> list[RuleHit]:
    """Clients that send a server what no stack of its protocol would."""
    table = view.exchanges
    wrong = table[table["outcome"] == "malformed"]
    hits = []
    for (client, server, name), rows in wrong.groupby(
        ["client", "server", "protocol"], observed=True
    ):
        if len(rows) < _MIN_MALFORMED:
            continue
        values = _values(view, str(client), str(server), rows)
        values |= {"malformed": len(rows), "protocol": str(name).upper()}
        proof = _proof(rows, rows, f"{_filter(rows)} && tcp.len > 0")
        fact = make_fact("malformed", _SENTENCES["malformed"], values, proof=proof)
        label = "mqtt_abuse" if name == "mqtt" else "misconfiguration"
        hits.append(_hit(str(client), label, "source", (fact,), str(server), rows))
    return hits


def find_slow_servers(view: TrafficView) -> list[RuleHit]:
    """Servers that answer a client much more slowly than they did before, for a minute or more."""
    hits = []
    for client, server, _, rows in _conversations(view):
        timed = rows[rows["delay_s"].notna()]
        ts, delay = timed["ts"].to_numpy(), timed["delay_s"].to_numpy()
        if len(ts) < 2 * _MIN_SLOW or (timed["behind"] > 0).mean() > 0.5:
            continue
        # The moment that parts fast from slow best, by the gap of the medians of the minute on
        # either side.
        found = _find_slowdown(ts, delay)
        if found is None:
            continue
        start, end = found
        part, before = timed.iloc[start:end], delay[:start]
        values = _values(view, client, server, part)
        values |= {"slow_s": float(part["delay_s"].median()), "usual_s": float(np.median(before))}
        proof = _proof(rows, part, _filter(rows), answers=True)
        fact = make_fact("slow", _SENTENCES["slow"], values, proof=proof)
        hits.append(_hit(server, "congestion", "source", (fact,), client, part))
    return hits


def _find_slowdown(ts: np.ndarray, delay: np.ndarray) -> tuple[int, int] | None:
    """First and last row of the time in which answers are slow against all that came before."""
    usual = pd.Series(delay).expanding(_MIN_SLOW).median().to_numpy()
    ahead = pd.Series(delay[::-1]).rolling(_MIN_SLOW).median().to_numpy()[::-1]
    slow = (ahead >= _SLOWER * usual) & (ahead - usual >= _SLOWER_S)
    if not slow.any():
        return None
    start = int(np.argmax(slow))
    limit = max(_SLOWER * usual[start], usual[start] + _SLOWER_S)
    late = delay >= limit
    start += int(np.argmax(late[start:]))
    end = start
    # It ends where half of the next answers are as fast as before.
    while end < len(delay) and np.median(delay[end : end + _MIN_SLOW]) >= limit:
        end += _MIN_SLOW
    end = min(end, len(delay))
    lasts = end - start >= _MIN_SLOW and ts[end - 1] - ts[start] >= _SLOW_FOR_S
    return (start, end) if lasts else None


def find_failing_resolvers(view: TrafficView) -> list[RuleHit]:
    """Resolvers that answer with failures, and clients that ask for names that do not exist."""
    hits = []
    for client, server, name, rows in _conversations(view):
        if name != "dns":
            continue
        answered = rows[rows["code"] >= 0]
        failed = answered[answered["code"].isin(_DNS_FAULTS)]
        unknown = answered[answered["code"] == 3]
        if len(failed) >= max(_MIN_FAILED, _FAILED_SHARE * len(answered)):
            values = _values(view, client, server, failed)
            counts = failed["code"].value_counts()
            values |= {"failed": len(failed), "asked": len(answered)}
            values["codes"] = listed(
                f"{n:,} {_word_code('dns', int(c))}" for c, n in counts.items()
            )
            codes = " || ".join(f"dns.flags.rcode == {code}" for code in counts.index)
            proof = _proof(rows, failed, f"{_filter(rows)} && ({codes})", answers=True)
            fact = make_fact("servfail", _SENTENCES["servfail"], values, proof=proof)
            hits.append(_hit(server, "name_resolution", "source", (fact,), client, failed))
        elif len(unknown) >= max(_MIN_UNKNOWN, _UNKNOWN_SHARE * len(answered)):
            if unknown["name"].nunique() > _UNKNOWN_NAMES:
                continue
            values = _values(view, client, server, unknown)
            values |= {"failed": len(unknown), "asked": len(answered)}
            only = f"{_filter(rows)} && dns.flags.rcode == 3"
            proof = _proof(rows, unknown, only, answers=True)
            fact = make_fact("unknown_names", _SENTENCES["unknown_names"], values, proof=proof)
            hits.append(_hit(client, "misconfiguration", "source", (fact,), server, unknown))
    return hits


# ---- Refusals of one client at one server ----


def _is_probing(rows: pd.DataFrame) -> bool:
    refused = rows[rows["code"] > 0]
    many = max(refused["function"].nunique(), refused["unit"].nunique()) >= _PROBED
    many |= refused["target"].nunique() >= _SWEPT
    return many and 2 * len(refused) >= len(rows)


def _sweeps(rows: pd.DataFrame) -> bool:
    """Whether a client walks through addresses and is refused most of them, many in a sample."""
    refused = rows[rows["code"] > 0]
    slot = np.floor(refused["ts"] / SAMPLE_S)
    return bool((refused.groupby(slot)["target"].nunique() >= _SWEPT).any())


def _make_probe(view: TrafficView, client: str, server: str, rows: pd.DataFrame) -> RuleHit:
    values = _values(view, client, server, rows) | {
        "functions": rows["function"].nunique(),
        "units": rows["unit"].nunique(),
        "asked": len(rows),
        "refused": int((rows["code"] > 0).sum()),
    }
    proof = _proof(rows, rows, _asked_filter(rows))
    fact = make_fact("probe", _SENTENCES["probe"], values, proof=proof)
    return _hit(client, "recon", "source", (fact,), server, rows)


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
    if len(gone) < max(_MIN_GONE, _MOSTLY * len(since)):
        return None
    facts = [_refusal_fact("unit_gone", view, client, server, gone, since, unit=str(unit))]
    others = rows[(rows["ts"] >= gone["ts"].min()) & (rows["unit"] != unit)]
    alive = sorted(others.loc[others["outcome"] == "answered", "unit"].unique())
    if alive:
        values: dict[str, Value] = {"server": view.name_of(server)}
        values["units"] = listed(map(str, alive))
        facts.append(make_fact("units_alive", _SENTENCES["units_alive"], values))
    return _hit(server, "device_silent", "source", tuple(facts), client, gone)


def _find_wrong(
    view: TrafficView, client: str, server: str, rows: pd.DataFrame, wrong: pd.Series
) -> list[RuleHit]:
    """What is refused for good: the same request, from its first refusal on."""
    same = rows.groupby(["function", "unit", "target"], sort=False).ngroup()
    first = rows["ts"].where(wrong).groupby(same).transform("min")
    since = rows["ts"] >= first
    share = wrong.groupby(same).transform("sum") / since.groupby(same).transform("sum")
    kept = since & (share >= _MOSTLY)
    refused = rows[kept & wrong]
    if len(refused) < _MIN_REFUSED:
        return _find_partly_refused(view, client, server, rows, wrong)
    hits = []
    for code, mine in refused.groupby("code"):
        # Who looks around once (an engineering tool that reads what a device is) is refused a few
        # things at once; who needs something asks again.
        if len(mine) < _MIN_REFUSED or mine["ts"].max() - mine["ts"].min() < _MIN_REFUSED_S:
            continue
        asked = rows[kept & same.isin(same[mine.index].unique())]
        protocol = _BY_NAME[str(rows["protocol"].iloc[0])]
        login = int(code) in protocol.denied and (mine["kind"] == "session").all()
        kind = "login_refused" if login else "refused"
        facts = [_refusal_fact(kind, view, client, server, mine, asked)]
        values: dict[str, Value]
        fine = rows[(rows["outcome"] == "answered") & (rows["ts"] >= mine["ts"].min())]
        fine = fine[~same[fine.index].isin(same[mine.index].unique())]
        if len(fine):
            values = {"answered": len(fine), "client": view.name_of(client)}
            facts.append(make_fact("others_fine", _SENTENCES["others_fine"], values))
        before = rows[same.isin(same[mine.index].unique()) & (rows["outcome"] == "answered")]
        before = before[before["ts"] < mine["ts"].min()]
        if len(before):
            values = {"answered": len(before)}
            facts.append(make_fact("worked", _SENTENCES["worked"], values))
        hits.append(_hit(client, "misconfiguration", "source", tuple(facts), server, mine))
    return hits or _find_partly_refused(view, client, server, rows, wrong)


def _find_partly_refused(
    view: TrafficView, client: str, server: str, rows: pd.DataFrame, wrong: pd.Series
) -> list[RuleHit]:
    """Requests that are refused now and then, and answered at other times."""
    mine = rows[wrong]
    lasts = len(mine) and mine["ts"].max() - mine["ts"].min() >= _MIN_REFUSED_S
    if not lasts or len(mine) < max(_MIN_PARTLY, _PARTLY_SHARE * len(rows)):
        return []
    fact = _refusal_fact("partly_refused", view, client, server, mine, rows)
    return [_hit(server, "service_down", "source", (fact,), client, mine)]


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
    values = _values(view, client, server, refused) | {
        "refused": len(refused),
        "asked": len(asked),
        "code": listed(_word_code(name, int(code)) for code in codes.index),
        "what": _word_functions(name, refused),
        "where": _word_targets(name, refused),
        **words,
    }
    proof = _proof(asked, refused, _code_filter(refused), answers=True)
    return make_fact(kind, _SENTENCES[kind], values, proof=proof)


def _word_code(protocol: str, code: int) -> str:
    """A code as the protocol's people say it: "exception 2 (0x02, illegal data address)"."""
    word = _BY_NAME[protocol].refusals.get(code, "unknown to us")
    if protocol == "modbus":
        return f"exception {code} (0x{code:02X}, {word})"
    if protocol == "dns":
        return _DNS_WORDS.get(code, RESPONSE_CODES.get(code, f"code {code}"))
    number = f"code {code}" if code < 256 else f"code 0x{code:X}"
    return f"{number} ({word})"


_DNS_WORDS = {1: "FORMERR (format error)", 2: "SERVFAIL (server failure)", 3: "NXDOMAIN (no such name)",
              4: "NOTIMP (not implemented)", 5: "REFUSED"}  # fmt: skip


def _word_functions(protocol: str, rows: pd.DataFrame) -> str:
    words = _BY_NAME[protocol].functions
    counts = rows["function"].value_counts()
    return listed(words.get(int(code), f"function {code}") for code in counts.index[:3])


def _word_targets(protocol: str, rows: pd.DataFrame) -> str:
    """Which addresses and which unit, where these are few; "" else."""
    if protocol != "modbus":
        return ""
    targets = sorted(int(one) for one in rows["target"].unique() if one >= 0)
    units = sorted(int(one) for one in rows["unit"].unique() if one >= 0)
    words = ""
    if 0 < len(targets) <= _FEW_TARGETS:
        words += f" at {plural(len(targets), 'address')} {listed(map(str, targets))}"
    if len(units) == 1:
        words += f" of unit {units[0]}"
    return words


# ---- What all of them share ----


def _conversations(view: TrafficView) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """What each client asked of each server in one protocol, by time; what was asked of all is not
    judged, and a remark on an answer is no refusal."""
    asked = view.exchanges
    asked = asked[asked["outcome"].isin(["answered", "refused", "unanswered"])]
    asked = asked[~asked["server"].astype("str").str.match(f"{GROUP}|{GROUP_MAC}")]
    asked = asked.assign(code=asked["code"].mask((asked["outcome"] == "answered"), 0))
    for (client, server, protocol), rows in asked.groupby(
        ["client", "server", "protocol"], observed=True
    ):
        yield str(client), str(server), str(protocol), rows


def _values(view: TrafficView, client: str, server: str, rows: pd.DataFrame) -> dict[str, Value]:
    return {
        "client": view.name_of(client),
        "server": view.name_of(server),
        "since_time_s": float(rows["ts"].min()),
        "until_time_s": float(rows["ts"].max()),
    }


def _hit(
    device: str, label: str, role: str, facts: tuple[Fact, ...], other: str, rows: pd.DataFrame
) -> RuleHit:
    slots = slots_of(np.floor(rows[["ts"]] / SAMPLE_S).set_axis(["slot"], axis=1))
    return RuleHit(device, label, role, facts, (other,), slots)


def _count_breaks(view: TrafficView, vain: pd.DataFrame) -> int:
    """How many requests in vain their client answered by ending the session and trying again."""
    ended = view.sessions.set_index("flow")
    ended = ended[(ended["ended_by"] == "client") & ended["retry_s"].notna()]
    last = vain.groupby("flow")["ts"].max()
    end_s = ended["end_s"].reindex(last.index)
    return int((end_s - last).between(0, _BROKEN_S).sum())


# ---- Where it is in the packets ----


def _filter(rows: pd.DataFrame) -> str:
    """Both ways between a client and a server."""
    client, server = (str(rows[name].iloc[0]) for name in ("client", "server"))
    kind = "ipv6" if ":" in client else "ip"
    return f"{kind}.addr == {client} && {kind}.addr == {server}"


def _asked_filter(rows: pd.DataFrame) -> str:
    client, server = (str(rows[name].iloc[0]) for name in ("client", "server"))
    kind = "ipv6" if ":" in client else "ip"
    layer = _LAYERS.get(str(rows["protocol"].iloc[0]), str(rows["protocol"].iloc[0]))
    return f"{kind}.src == {client} && {kind}.dst == {server} && {layer}"


def _code_filter(rows: pd.DataFrame) -> str:
    field = _CODE_FIELDS.get(str(rows["protocol"].iloc[0]))
    if field is None:
        return _filter(rows)
    codes = " || ".join(f"{field} == {code}" for code in sorted(rows["code"].unique()))
    return f"{_filter(rows)} && ({codes})"


_LAYERS = {"modbus": "modbus", "dns": "dns", "mqtt": "mqtt"}
_CODE_FIELDS = {"modbus": "modbus.exception_code", "mqtt": "mqtt.conack.val"}


def _proof(rows: pd.DataFrame, counted: pd.DataFrame, filter_: str, answers: bool = False) -> Proof:
    frames = counted["answer_frame" if answers else "frame"].to_numpy()
    frames = frames[frames > 0]
    places = np.unique(np.linspace(0, len(frames) - 1, _FEW_FRAMES).astype(int))
    chosen = tuple(int(frames[place]) for place in places) if len(frames) else ()
    return Proof(filter_, chosen, len(counted) if answers and rows is not counted else None)
