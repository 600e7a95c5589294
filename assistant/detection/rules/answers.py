"""Requests that are not answered, too late or with failures, and messages that are none.

a a u a a a u a      a: answered, u: unanswered now and then
a a u l l l l l      l: each answer comes after the next request
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from assistant.detection.rules.conversation import (
    describe_ends,
    make_hit,
    prove,
    read_conversations,
    word_code,
)
from assistant.detection.rules.rule import RuleHit, slots_at
from assistant.facts.fact import by_count, listed, make_fact
from assistant.facts.proofs import ip_field
from assistant.facts.requests import OUTCOMES
from assistant.facts.sensor import find_blindness
from assistant.facts.traffic_view import TrafficView
from traffic.delays import median_delays
from traffic.pcap.protocols import spoken_name

_MIN_TIMEOUTS, _TIMEOUT_SHARE = 3, 0.1  # without a session that breaks because of it
_MIN_BREAKS = 2
_MIN_MUTE = 5  # requests for a unit
_BROKEN_S = 3.0  # a session that its client ends so soon after a request in vain ends because of it
_MIN_BEHIND, _IN_STEP = 10, 0.9  # answers in a row, and as many before them, mostly in step
_MIN_MALFORMED = 3
_SLOWER, _SLOWER_S = 5.0, 0.1  # times its own past, and by at least so much
_SLOW_FOR_S, _MIN_SLOW = 60.0, 10  # and answers on either side
_MIN_LOST, _LOST_SHARE = 10, 0.05  # packets, of all between two
_MIN_FAILED, _FAILED_SHARE = 5, 0.1
_APART_S = 600.0  # failures so far apart are two stories
_CLOCK_S = 1e-6  # a filter's text rounds
_MIN_UNKNOWN, _UNKNOWN_SHARE, _UNKNOWN_NAMES = 10, 0.5, 3
_DNS_FAULTS, _NO_SUCH_NAME = (
    (1, 2, 4, 5),
    3,
)  # of the resolver; the other says that the name is wrong

_SENTENCES = {
    "timeouts": "{server} left {unanswered} of {asked:request} of {client} without an answer.",
    "breaks": "After {breaks} of these {client} closed the connection within {wait_s} and opened a new one.",
    "mute": "{server} answers none of what {client} asks: {asked:request} since {since_time_s} stayed without an "
    "answer, though the connection stands.",
    "unit_mute": "{client} asks {server} for unit {unit}, for which nobody answers: {asked:request} between "
    "{since_time_s} and {until_time_s} stayed without an answer, while {server} answered for unit {alive}.",
    "behind": "Since {since_time_s} {client} is one transaction behind with {server}: {late} of {asked:answer} carry "
    "the number of the request before the last one, so that each value may be taken for another.",
    "servfail": "The resolver {server} answered {failed} of {asked:question} of {client} between {since_time_s} and "
    "{until_time_s} with a failure: {codes}.",
    "servfail, several": "The resolver {server} answered {failed} of {asked:question} of {clients:client} between "
    "{since_time_s} and {until_time_s} with a failure: {codes}.",
    "affected": "Failures came to {n:client}: {names}.",
    "unknown_names": '{client} asks {server} for names that do not exist: {failed} of {asked:question} got "no such '
    'name".',
    "malformed": "{client} sends {server} what is no {protocol}: {malformed:malformed message} since {since_time_s}.",
    "slow": "{server} answers {client} slowly: half of its answers took {slow_s} or more between {since_time_s} and "
    "{until_time_s}; before that {usual_s}.",
    "way_is_fast": "TCP at {server} acknowledged what {client} sent within {ack_s} meanwhile, so the program there is "
    "slow, not the way to it.",
}


def find_unanswered_requests(view: TrafficView) -> list[RuleHit]:
    """Servers that take requests and leave some or all of them without an answer."""
    hits = []
    for client, server, name, rows in read_conversations(view):
        vain = rows[rows["outcome"] == "unanswered"]
        if name == "dns" or len(vain) < _MIN_TIMEOUTS:
            continue
        values = describe_ends(view, client, server, vain) | {
            "asked": len(rows),
            "unanswered": len(vain),
            "wait_s": _BROKEN_S,
        }
        proof = prove(vain)
        mute = _find_mute_units(view, client, server, rows)
        if mute:
            hits += mute
            continue
        if not rows["outcome"].isin(["answered", "refused"]).any():
            if server not in view.heard:
                continue  # absent, or seen from one side only: no word about its program
            fact = make_fact("mute", _SENTENCES["mute"], values, proof=proof)
            hits.append(make_hit(server, "service_down", [fact], client, vain))
            continue
        if any(
            find_blindness(view.quality, end, view.seen_s) == "drops" for end in (client, server)
        ):
            continue  # some answers were never captured
        breaks = _count_breaks(view, vain)
        if breaks >= _MIN_BREAKS or len(vain) >= _TIMEOUT_SHARE * len(rows):
            facts = [make_fact("timeouts", _SENTENCES["timeouts"], values, proof=proof)]
            values["breaks"] = breaks
            if breaks:
                facts.append(make_fact("breaks", _SENTENCES["breaks"], values))
            label = "flapping" if breaks else "service_down"
            hits.append(make_hit(server, label, facts, client, vain))
    return hits


def _find_mute_units(
    view: TrafficView, client: str, server: str, rows: pd.DataFrame
) -> list[RuleHit]:
    """Units that a client asks for and that answer nobody, though the server answers for others: the
    wrong number, or a unit behind it that is gone."""
    asked = view.exchanges
    asked = asked[
        (asked["server"] == server) & asked["unit"].ge(0) & asked["outcome"].isin(OUTCOMES)
    ]
    good = asked[asked["outcome"] != "unanswered"]
    hits = []
    for unit, mine in rows[rows["unit"] >= 0].groupby("unit"):
        first_s, last_s = float(mine["ts"].min()), float(mine["ts"].max())
        lives = good["ts"].between(first_s, last_s) & (good["unit"] != unit)
        silent = (mine["outcome"] == "unanswered").all() and len(mine) >= _MIN_MUTE
        if not silent or not lives.any() or (good["unit"] == unit).any():
            continue
        values = describe_ends(view, client, server, mine) | {
            "asked": len(mine),
            "unit": str(unit),
            "alive": listed(map(str, sorted(good.loc[lives, "unit"].unique()))),
        }
        fact = make_fact("unit_mute", _SENTENCES["unit_mute"], values, proof=prove(mine))
        hits.append(make_hit(client, "misconfiguration", [fact], server, mine))
    return hits


def find_late_answers(view: TrafficView) -> list[RuleHit]:
    """Clients that fell behind: from some moment on each answer comes after the next request.

    A client that sends several requests at once is behind from the start; one that lost step was in
    step before.
    """
    hits = []
    for client, server, _, rows in read_conversations(view):
        answered = rows[rows["delay_s"].notna()]
        # Few of a million sessions are behind at all.
        behind = answered.loc[answered["behind"] > 0, "flow"].value_counts()
        some = answered["flow"].isin(behind.index[behind >= _MIN_BEHIND])
        for _, flow in answered[some].groupby("flow"):
            late = (flow["behind"] > 0).to_numpy()
            start = len(late) - int(np.argmin(late[::-1])) if not late.all() else 0
            if start < _MIN_BEHIND or len(late) - start < _MIN_BEHIND:
                continue
            if late[:start].mean() > 1 - _IN_STEP:
                continue
            part = flow.iloc[start:]
            values = describe_ends(view, client, server, part)
            values |= {"late": len(part), "asked": len(part)}
            proof = prove(part)
            fact = make_fact("behind", _SENTENCES["behind"], values, proof=proof)
            hits.append(make_hit(client, "misconfiguration", [fact], server, part))
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
        values = describe_ends(view, str(client), str(server), rows)
        values |= {"malformed": len(rows), "protocol": spoken_name(str(name))}
        proof = prove(rows, only="tcp.len > 0")
        fact = make_fact("malformed", _SENTENCES["malformed"], values, proof=proof)
        label = "mqtt_abuse" if name == "mqtt" else "misconfiguration"
        hits.append(make_hit(str(client), label, [fact], str(server), rows))
    return hits


def find_slow_servers(view: TrafficView) -> list[RuleHit]:
    """Servers that answer a client much more slowly than they did before, for a minute or more."""
    hits = []
    for client, server, _, rows in read_conversations(view):
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
        if _is_lossy(view, client, server, slots_at(part["ts"])):
            continue  # what is lost on the way is late as well
        values = describe_ends(view, client, server, part)
        values |= {"slow_s": float(part["delay_s"].median()), "usual_s": float(np.median(before))}
        proof = prove(part)
        facts = [make_fact("slow", _SENTENCES["slow"], values, proof=proof)]
        ack_s = _acknowledged_within(view, client, server, slots_at(part["ts"]))
        # A stack that waits for the answer, to send both together, tells nothing.
        if ack_s is not None and ack_s * _SLOWER <= part["delay_s"].median():
            values["ack_s"] = max(ack_s, 0.001)
            facts.append(make_fact("way_is_fast", _SENTENCES["way_is_fast"], values))
        hits.append(make_hit(server, "congestion", facts, client, part))
    return hits


def _is_lossy(view: TrafficView, client: str, server: str, slots: np.ndarray) -> bool:
    """Whether much of what two devices said was sent again in some slots."""
    resent = view.evidence_of(client, ("retransmission",))
    resent = resent[(resent["other"] == server) & resent["slot"].isin(slots)]
    rows = view.flows_of(client)
    rows = rows[(rows["other"] == server) & rows["slot"].isin(slots)]
    pkts = int((rows["src_pkts"] + rows["dst_pkts"]).sum())
    return int(resent["count"].sum()) >= max(_MIN_LOST, _LOST_SHARE * pkts)


def _acknowledged_within(
    view: TrafficView, client: str, server: str, slots: np.ndarray
) -> float | None:
    """How fast a server's TCP acknowledged half of what a client sent it; None where no packets tell."""
    rows = view.delays
    rows = rows[(rows["src"] == client) & (rows["dst"] == server) & rows["slot"].isin(slots)]
    rows = rows[~rows["handshake"]]
    if not len(rows):
        return None
    one = np.zeros(len(rows), np.int64)
    return float(median_delays(one, rows["step"].to_numpy(), rows["count"].to_numpy()).iloc[0])


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
    asked = [rows for _, _, name, rows in read_conversations(view) if name == "dns"]
    hits = [hit for rows in asked if (hit := _find_unknown_names(view, rows))]
    if not asked:
        return hits
    every = pd.concat(asked).sort_values("ts", kind="stable")
    for _, rows in every.groupby("server", observed=True):
        failed = rows[rows["code"].isin(_DNS_FAULTS)]
        for _, part in failed.groupby((failed["ts"].diff() > _APART_S).cumsum()):
            if hit := _find_failures(view, rows, part):
                hits.append(hit)
    return hits


def _find_failures(view: TrafficView, asked: pd.DataFrame, failed: pd.DataFrame) -> RuleHit | None:
    """A hit at a resolver that fails its clients for a while; None where it fails one of them now and
    then, as with a name that nobody serves.

    Args:
        asked: all questions that it was asked.
        failed: those that it answered with a failure in that while.
    """
    clients = by_count(failed["client"].astype(str))
    first_s, last_s = float(failed["ts"].min()), float(failed["ts"].max())
    meanwhile = asked[asked["ts"].between(first_s, last_s)]
    # One client alone is counted against all that it ever asked: a few failures in a row are a name
    # that is wrong.
    whole = meanwhile if len(clients) > 1 else asked[asked["client"] == clients[0]]
    if len(failed) < max(_MIN_FAILED, _FAILED_SHARE * len(whole)):
        return None
    if len(clients) == 1:
        meanwhile = meanwhile[meanwhile["client"] == clients[0]]
    server, several = str(failed["server"].iloc[0]), meanwhile["client"].nunique() > 1
    counts = failed["code"].value_counts()
    values = describe_ends(view, clients[0], server, failed) | {
        "failed": len(failed),
        "asked": len(meanwhile),
        "clients": meanwhile["client"].nunique(),
        "codes": listed(f"{n:,} {word_code('dns', int(c))}" for c, n in counts.items()),
        "n": len(clients),
        "names": view.names_of(clients),
    }
    proof = prove(failed, answers=True)
    if several:
        codes = " || ".join(f"dns.flags.rcode == {code}" for code in sorted(counts.index))
        proof = replace(proof, filter=f"{ip_field(server)}.src == {server} && ({codes})")
    if len(failed) < int(asked["code"].isin(counts.index).sum()):  # it failed at other times too
        last_s = float((failed["ts"] + failed["delay_s"].fillna(0)).max())
        time = f"frame.time_epoch >= {first_s - _CLOCK_S:.6f} && frame.time_epoch <= {last_s + _CLOCK_S:.6f}"
        proof = replace(proof, filter=f"{proof.filter} && {time}")
    sentence = _SENTENCES["servfail, several" if several else "servfail"]
    facts = [make_fact("servfail", sentence, values, proof=proof)]
    if several:
        facts.append(make_fact("affected", _SENTENCES["affected"], values))
    slots = slots_at(failed["ts"])
    return RuleHit(server, "name_resolution", "source", tuple(facts), tuple(clients), slots)


def _find_unknown_names(view: TrafficView, rows: pd.DataFrame) -> RuleHit | None:
    """A hit at a client that asks a resolver for names that do not exist; None where it does not, or
    for so many that it looks around."""
    answered = rows[rows["code"] >= 0]
    unknown = answered[answered["code"] == _NO_SUCH_NAME]
    failed = int(answered["code"].isin(_DNS_FAULTS).sum())
    if failed >= max(_MIN_FAILED, _FAILED_SHARE * len(answered)):
        return None  # of these the resolver is the cause
    if len(unknown) < max(_MIN_UNKNOWN, _UNKNOWN_SHARE * len(answered)):
        return None
    if unknown["name"].nunique() > _UNKNOWN_NAMES:
        return None
    client, server = str(rows["client"].iloc[0]), str(rows["server"].iloc[0])
    values = describe_ends(view, client, server, unknown)
    values |= {"failed": len(unknown), "asked": len(answered)}
    proof = prove(unknown, answers=True)
    fact = make_fact("unknown_names", _SENTENCES["unknown_names"], values, proof=proof)
    return make_hit(client, "misconfiguration", [fact], server, unknown)


def _count_breaks(view: TrafficView, vain: pd.DataFrame) -> int:
    """How many requests in vain their client answered by ending the session and trying again."""
    ended = view.sessions.set_index("flow")
    ended = ended[(ended["ended_by"] == "client") & ended["retry_s"].notna()]
    last = vain.groupby("flow")["ts"].max()
    end_s = ended["end_s"].reindex(last.index)
    return int((end_s - last).between(0, _BROKEN_S).sum())
