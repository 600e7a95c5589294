"""Outages: addresses that nobody answers at, resolvers and services that answer nobody.

Every rule asks for need and for silence: somebody who keeps asking, and nobody who answers from
then on. A router that walks through its address pool asks once for each; a machine that was
switched on later was never silent.
"""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_at, slots_of
from assistant.facts.fact import Proof, Value, by_count, listed, make_fact
from assistant.facts.spells import first_and_last
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S

# ---- Absent addresses ----
_PROBE = "0.0.0.0"  # noqa: S104 (RFC 5227: who asks so probes for a double and needs nobody)
_MIN_REQUESTS = 3  # by one asker
# One try is up to three requests within seconds; more requests, or more slots, are more tries.
_TRIED_REQUESTS, _TRIED_SLOTS = 6, 3
_WALKER = 8  # who asks for more absent addresses than this is looking around, not in need

# ---- Resolvers and services ----
_EMPTY_BYTES = 60  # of a packet without payload: headers of IPv6 and TCP
_MIN_FAILURES = 5
_MIN_FAILING_S = 60.0
# Several clients: one alone may have asked for what nobody knows, or be an intruder whom nobody
# lets in.
_MIN_CLIENTS = 2
_MIN_SURE_S = 25.0  # where several fail
_MANY_CLIENTS, _MIN_MUTE_S = 3, 15.0  # of a resolver, which answers within a second
# Where each of several is refused: a machine that says so itself, whoever asks, up to now. A program
# that is started anew is back sooner.
_MIN_REFUSED_S = 5.0

# ---- Devices that come and go ----
_MIN_ABSENCES = 3
_STALL_S, _STALL_TIMES = 2.0, 20.0
_APART_S = 15.0
_STALLED_SHARE = 0.5  # less of what is sent again is sent in stalls: the line is lossy

_SENTENCES = {
    "comes_and_goes": "{device} comes and goes: {times:time} between {since_time_s} and {until_time_s} nothing of what "
    "{peers} sent was answered, for up to {longest_s}, and then it answered again.",
    "absent": "Nobody answers at {address}: {asked:ARP request} for it by {askers} stayed without a reply.",
    "strayed": "{askers} asks for {address}, which no device of the plant has: {asked:ARP request} for it stayed "
    "without a reply.",
    "misled": "{askers} ask for {address}, which no device of the plant has, and {resolver} tells all of them names: "
    "{asked:ARP request} for it stayed without a reply.",
    "misleads": "{resolver} answers {names} with {address}, which no device of the plant has, {given:time} since "
    "{since_time_s}: {asked:ARP request} for it by {askers} stayed without a reply.",
    "resolver": "The resolver {failing} answers nobody: {failed:question} from {clients} stayed without a reply since "
    "{since_time_s}.",
    "resolver, over": "The resolver {failing} answered nobody from {since_time_s} to {over_time_s}: "
    "{failed:question} from {clients} stayed without a reply.",
    "time_server": "The time server {failing} answers nobody: {failed:question} from {clients} stayed without a reply "
    "since {since_time_s}.",
    "time_server, over": "The time server {failing} answered nobody from {since_time_s} to {over_time_s}: "
    "{failed:question} from {clients} stayed without a reply.",
    "refusing": "{failing} has answered nobody since {since_time_s}: {failed:attempt} by {clients} failed, and before "
    "that it did answer.",
    "refusing, over": "{failing} answered nobody from {since_time_s} to {over_time_s}: {failed:attempt} by {clients} "
    "failed; before that and afterwards it did answer.",
}


# ---- Addresses that nobody answers at ----


def find_absent_addresses(view: TrafficView) -> list[RuleHit]:
    """Addresses that somebody needs and that never answer from then on.

    What the inventory does not know and nobody ever heard is no device that fell silent: who asks
    for it was set so, or was told so by the resolver that all who ask have in common.
    """
    rows = view.evidence_of_kind("arp_unanswered")
    rows = rows[(rows["src"] != rows["dst"]) & (rows["src"] != _PROBE)]
    if rows.empty:
        return []
    last_heard = spoken_slots(view).groupby("address")["slot"].max()
    heard = rows["dst"].map(last_heard).fillna(-1)
    rows = rows[rows["slot"] > heard]
    known = {device.address for device in view.plant.devices}
    absent_per_asker = rows["src"].map(rows.groupby("src")["dst"].nunique())
    was_there = rows["dst"].isin(known) | (heard[rows.index] >= 0)
    rows = rows[was_there | (absent_per_asker <= _WALKER)]
    tries = rows.groupby(["src", "dst"]).agg(count=("count", "sum"), slots=("slot", "nunique"))
    repeated = (tries["count"] >= _TRIED_REQUESTS) | (tries["slots"] >= _TRIED_SLOTS)
    tries = tries[(tries["count"] >= _MIN_REQUESTS) & repeated]
    found = []
    for address in map(str, tries.index.get_level_values("dst").unique()):
        asking = rows[rows["dst"] == address]
        foreign = bool(known) and address not in known and heard[asking.index].max() < 0
        found.append(_blame_absence(view, address, asking, foreign))
    return found


def spoken_slots(view: TrafficView) -> pd.DataFrame:
    """In which slots an address sent a packet, asked for another or answered a request: ``address
    slot``, some rows twice."""
    rows, asked = view.flow_slots, view.evidence_of_kind("arp_request")
    in_slot = ["slot", "dst"]
    unanswered = view.evidence_of_kind("arp_unanswered").groupby(in_slot)["count"].sum()
    answered = asked.groupby(in_slot)["count"].sum().sub(unanswered, fill_value=0)
    signs = [
        rows.loc[rows["src_pkts"] > 0, ["src", "slot"]],
        rows.loc[rows["dst_pkts"] > 0, ["dst", "slot"]],
        asked[["src", "slot"]],
        answered[answered > 0].reset_index()[["dst", "slot"]],
    ]
    return pd.concat([sign.set_axis(["address", "slot"], axis=1) for sign in signs])


def _blame_absence(view: TrafficView, address: str, asking: pd.DataFrame, foreign: bool) -> RuleHit:
    """Who is to blame that somebody asks for an address in vain: its device, or where it is
    ``foreign`` the only asker, or the resolver that all askers have in common."""
    by_asker = asking.groupby("src")["count"].sum().sort_values(ascending=False)
    askers = tuple(map(str, by_asker.index))
    values: dict[str, Value] = {
        "address": view.name_of(address),
        "asked": int(asking["count"].sum()),
        "askers": view.names_of(askers),
    }
    slots = slots_of(asking)
    if foreign and (hit := _blame_answers(view, address, asking, values)) is not None:
        return hit
    if foreign and len(askers) == 1:
        fact = make_fact("strayed", _SENTENCES["strayed"], values)
        hit = RuleHit(askers[0], "misconfiguration", "source", (fact,), (address,), slots)
        return replace(hit, gone=(address,))
    resolver = _common_resolver(view, askers) if foreign else None
    if resolver is not None:
        values["resolver"] = view.name_of(resolver)
        fact = make_fact("misled", _SENTENCES["misled"], values)
        ends = (*askers, address)  # that each of them asks in vain is not its own mistake
        return RuleHit(resolver, "name_resolution", "source", (fact,), ends, slots, gone=(address,))
    fact = make_fact("absent", _SENTENCES["absent"], values)
    return RuleHit(address, "device_silent", "source", (fact,), askers, slots)


def _blame_answers(
    view: TrafficView, address: str, asking: pd.DataFrame, values: dict[str, Value]
) -> RuleHit | None:
    """The resolver whose answers held the absent address; None where none was seen to give it."""
    if ":" in address:
        return None
    rows, askers = view.exchanges, tuple(by_count(asking["src"]))
    rows = rows[(rows["protocol"] == "dns") & (rows["value"] == int(IPv4Address(address)))]
    rows = rows.astype({"client": "str", "server": "str", "name": "str"})
    told = rows[rows["client"].isin(askers)]
    if told.empty:
        return None
    resolver = str(by_count(told["server"])[0])
    rows = rows[rows["server"] == resolver]
    values = values | {
        "resolver": view.name_of(resolver),
        "names": listed(f"“{one}”" for one in by_count(rows["name"])),
        "given": len(rows),
        "since_time_s": float(rows["ts"].min()),
        "last_time_s": max(float(rows["ts"].max()), first_and_last(asking)[1]),
    }
    clients = dict.fromkeys((*by_count(rows["client"]), *askers))
    frames = tuple(map(int, rows["answer_frame"].iloc[[0, *range(1, min(4, len(rows))), -1]]))
    only = f"ip.src == {resolver} && dns.flags.response == 1 && dns.a == {address}"
    proof = Proof(only, tuple(dict.fromkeys(frames)), len(rows))
    fact = make_fact("misleads", _SENTENCES["misleads"], values, proof=proof)
    slots = np.union1d(slots_of(asking), slots_at(rows["ts"]))
    ends = (*map(str, clients), address)
    return RuleHit(resolver, "name_resolution", "source", (fact,), ends, slots, gone=(address,))


def _common_resolver(view: TrafficView, askers: tuple[str, ...]) -> str | None:
    """A resolver that answered every asker."""
    asked = _dns_flows(view)
    answered = asked[asked["answered"] & asked["src"].isin(askers)]
    clients = answered.groupby("dst")["src"].nunique()
    common = clients.index[clients == len(askers)]
    return str(common[0]) if len(common) else None


def _dns_flows(view: TrafficView) -> pd.DataFrame:
    rows = view.flow_slots
    rows = rows[(rows["port"] == 53) & (rows["proto"] == "udp")]
    return rows[rows["answered"] | view.by_clients(rows)]


# ---- Resolvers and services that answer nobody ----
#
# A service and its clients, oldest first; an answer by anybody ends what failed before:
#
# a a a f f f f f f a a f a a a      a: answered, f: failed
# |- an outage -|   | one failure is an accident


def find_mute_resolvers(view: TrafficView) -> list[RuleHit]:
    """Resolvers that answer none of their clients for a while, where these have no other that
    answers."""
    asked = _dns_flows(view)
    found: list[RuleHit] = []
    for resolver, rows in asked.groupby("dst"):
        elsewhere = asked[(asked["dst"] != resolver) & asked["answered"]]
        # Who has another resolver that answers does not need this one.
        needing = rows[rows["answered"] | ~rows["src"].isin(elsewhere["src"].unique())]
        found += _blame_mute(view, str(resolver), "name_resolution", "resolver", needing)
    return found


def find_mute_time_servers(view: TrafficView) -> list[RuleHit]:
    """Time servers that answer at times, and for a while answer none of their clients."""
    asked = view.exchanges
    asked = asked[(asked["protocol"] == "ntp") & asked["outcome"].isin(["answered", "unanswered"])]
    tried = pd.DataFrame(
        {
            "src": asked["client"].astype(str),
            "dst": asked["server"].astype(str),
            "answered": asked["outcome"] == "answered",
            "refused": False,
            "attempt": asked.index,
            "since_s": asked["ts"],
            "until_s": asked["ts"],
            "slot": np.floor(asked["ts"] / SAMPLE_S).astype(np.int64),
        }
    )
    found: list[RuleHit] = []
    for server, rows in tried.groupby("dst"):
        if rows["answered"].any():
            found += _blame_mute(view, str(server), "service_down", "time_server", rows)
    return found


def _blame_mute(
    view: TrafficView, server: str, label: str, kind: str, asked: pd.DataFrame
) -> Iterator[RuleHit]:
    """A server's outages; where ARP requests for it stayed without a reply too, it is gone, not only
    its program."""
    sought = view.evidence_of_kind("arp_unanswered")
    sought = sought[sought["dst"] == server]
    for failing, over in _outages(asked, _MIN_MUTE_S):
        if over and failing["src"].nunique() < _MIN_CLIENTS:
            continue
        gone = sought["slot"].between(failing["slot"].min(), failing["slot"].max()).any()
        blamed = "device_silent" if gone else label
        yield _failure(view, server, blamed, kind, view.name_of(server), failing, over)


def find_failing_services(view: TrafficView) -> list[RuleHit]:
    """Ports of the plant's own servers that answer at times, and for a while answer nobody."""
    rows = view.flow_slots
    ours = rows[(rows["proto"] == "tcp") & rows["dst"].isin(view.local)]
    ours = ours[ours["answered"] | view.by_clients(ours)]
    # A session whose server has died goes on being asked: only a slot in which the server speaks,
    # and more than resets, shows that it works.
    speaks = (ours["dst_pkts"] > 0) & ~_only_resets(view, ours)
    tried = ours[np.where(ours["answered"], speaks, ours["syns"] > 0)]
    worked = tried.groupby(["dst", "port"])["answered"].agg(["any", "all"])
    found = []
    for server, port in worked.index[worked["any"] & ~worked["all"]]:
        for failing, over in _outages(tried[(tried["dst"] == server) & (tried["port"] == port)]):
            lives = failing["refused"].any() or _lives(view, str(server), failing["slot"], over)
            label = "service_down" if lives else "device_silent"
            name = view.port_at(str(server), int(port))
            found.append(_failure(view, str(server), label, "refusing", name, failing, over))
    return found


def _only_resets(view: TrafficView, rows: pd.DataFrame) -> np.ndarray:
    """Whether all that the server sent in a slot of a flow were resets, shape (n,), bool."""
    resets = view.evidence_of_kind("reset").groupby(["slot", "src", "dst"])["count"].sum()
    ends = pd.MultiIndex.from_frame(rows[["slot", "dst", "src"]])
    count = resets.reindex(ends).fillna(0).to_numpy()
    empty = rows["dst_bytes"] <= _EMPTY_BYTES * rows["dst_pkts"]
    return ((count >= rows["dst_pkts"]) & empty & (rows["dst_pkts"] > 0)).to_numpy()


def _lives(view: TrafficView, device: str, slots: pd.Series, over: bool) -> bool:
    """Whether a device sent anything inside an outage; at its edges it may have been up."""
    first, last = slots.min() + 1, slots.max() - 1 if over else np.inf
    rows, asked = view.flow_slots, view.evidence_of_kind("arp_request")
    as_client = (rows["src"] == device) & (rows["src_pkts"] > 0)
    as_server = (rows["dst"] == device) & (rows["dst_pkts"] > 0)
    heard = pd.concat(
        [rows.loc[as_client | as_server, "slot"], asked.loc[asked["src"] == device, "slot"]]
    )
    return bool(heard.between(first, last).any())


def _outages(
    rows: pd.DataFrame, many_s: float = _MIN_SURE_S
) -> Iterator[tuple[pd.DataFrame, bool]]:
    """Attempts in a row that all failed, where they are many and last; and whether one was answered
    afterwards.

    What answers later and never before was switched on meanwhile.

    Args:
        rows: attempts of all clients of one service.
        many_s: how long it must last where several fail, twice as often as needed.
    """
    rows = rows.sort_values("since_s", kind="stable")
    answers = rows["answered"].cumsum()
    failing = rows[~rows["answered"]]
    for count, part in failing.groupby(answers[failing.index]):
        over = bool(count < answers.max())
        least_s = _MIN_FAILING_S
        if part["src"].nunique() >= _MIN_CLIENTS:
            # The newest may still wait for its answer.
            refused = part["refused"] | (part["since_s"] == part["since_s"].max())
            least_s = _MIN_REFUSED_S if refused.all() and not over else _MIN_SURE_S
            sure = part["attempt"].nunique() >= 2 * _MIN_FAILURES
            if sure and part["src"].nunique() >= _MANY_CLIENTS:
                least_s = min(least_s, many_s)
        lasts = part["since_s"].max() - part["since_s"].min() >= least_s
        many = part["attempt"].nunique() >= _MIN_FAILURES
        if (count > 0 or not over) and many and lasts:
            yield part, over


def _failure(
    view: TrafficView,
    device: str,
    label: str,
    kind: str,
    name: str,
    failing: pd.DataFrame,
    over: bool,
) -> RuleHit:
    """An outage as a hit: ``kind`` of fact, and the ``name`` of what failed."""
    by_client = failing.groupby("src")["attempt"].nunique().sort_values(ascending=False)
    clients = tuple(map(str, by_client.index))
    values: dict[str, Value] = {
        "failing": name,
        "failed": failing["attempt"].nunique(),
        "clients": view.names_of(clients),
        "since_time_s": float(failing["since_s"].min()),
    }
    if over:
        values["over_time_s"] = float(failing["until_s"].max())
    fact = make_fact(kind, _SENTENCES[f"{kind}, over" if over else kind], values)
    return RuleHit(device, label, "source", (fact,), clients, slots_of(failing))


# ---- Devices that come and go ----


def find_unsteady_devices(view: TrafficView) -> list[RuleHit]:
    """Devices that answer nothing for some seconds, again and again, while packets to them are sent
    again.

    A program that is slow now and then is another story: its machine acknowledges what arrives.
    """
    asked = view.exchanges
    asked = asked[asked["server"].isin(view.own) & (asked["outcome"] != "unasked")]
    resent = view.evidence_of_kind("retransmission")
    hits = []
    for server, rows in asked.groupby("server", observed=True):
        usual = rows["delay_s"].median()
        stalled = (rows["delay_s"] >= max(_STALL_S, _STALL_TIMES * usual)) | (
            rows["outcome"] == "unanswered"
        )
        ts = rows.loc[stalled, "ts"].to_numpy()
        if stalled.mean() > 0.5 or len(ts) < _MIN_ABSENCES:
            continue
        slots = set(resent.loc[resent["dst"] == server, "slot"])
        runs = np.split(ts, np.flatnonzero(np.diff(ts) > _APART_S) + 1)
        gone = [run for run in runs if slots & set(range(*_span(run)))]
        if len(gone) < max(_MIN_ABSENCES, 0.6 * len(runs)):
            continue
        packets = (rows["frame"] > 0).any()  # a log does not tell which segment was sent again
        first, last = _span(np.concatenate(gone))
        if packets and stalled_share(view, str(server), first, last) < _STALLED_SHARE:
            continue
        ends = rows["ts"] + rows["delay_s"].fillna(0)
        longest = max(float(ends[rows["ts"].isin(run)].max() - run[0]) for run in gone)
        clients = by_count(rows.loc[stalled, "client"].astype(str))
        values: dict[str, Value] = {
            "device": view.name_of(str(server)),
            "peers": view.names_of(clients),
            "times": len(gone),
            "longest_s": longest,
            "since_time_s": float(gone[0][0]),
            "until_time_s": float(gone[-1][-1]),
        }
        fact = make_fact("comes_and_goes", _SENTENCES["comes_and_goes"], values)
        where = np.unique(np.floor(np.concatenate(gone) / SAMPLE_S).astype(np.int64))
        others = tuple(map(str, clients))
        hits.append(RuleHit(str(server), "flapping", "source", (fact,), others, where))
    return hits


def stalled_share(view: TrafficView, device: str, first: int, last: int) -> float:
    """How much of what a device and others sent each other again, in some slots, was sent in stalls,
    when nothing got through; 1 where nothing was sent again."""
    counts = []
    for kind in ("stall", "retransmission"):
        rows = view.evidence_of(device, (kind,))
        counts.append(int(rows.loc[rows["slot"].between(first, last), "count"].sum()))
    return counts[0] / counts[1] if counts[1] else 1.0


def _span(run: np.ndarray) -> tuple[int, int]:
    """The slots of a run and the two after it, as a range."""
    return int(run[0] // SAMPLE_S), int(run[-1] // SAMPLE_S) + 3
