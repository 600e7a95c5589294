"""Sessions that break: closed while idle, refused, cut right after the handshake, taken over.

Every rule asks for a harm that shows: the client comes back at once, or writes to what is closed. A
session that ends and is not missed is none of them.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_at, slots_of
from assistant.facts.fact import Proof, Value, by_count, make_fact
from assistant.facts.proofs import between, ip_field, pick_frames
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols.mqtt import CONNECT, PING

_MIN_ENDS = 3
_MIN_IDLE_S = 5.0
_MIN_TIMED, _TIMED_SHARE = 5, 0.8  # of shorter times
_ALIKE = 0.1  # half of the idle times lie so close to their median: a timer, no accident
_MISSED_S = 60.0  # a client that comes back within this missed its session
_KEEP_ALIVE = (1.0, 2.0)  # a broker waits one and a half times (MQTT 3.1.1, 3.1.2.10), some longer
_MIN_TAKEOVERS = 2
_TAKEN_S, _CLOCK_S = 2.0, 0.05
_SHORT_S = 1.0
_MIN_VAIN, _MIN_VAIN_SLOTS = 5, 3
# Programs that ask once a connection may end each by a reset: those are over in a moment.
_MIN_BREAKS, _BREAK_SHARE, _IN_USE_S = 5, 0.4, 5.0

_SENTENCES = {
    "idle_close": "{closer} closes the connection of {other} after {idle_s} without a request; it did so "
    "{times:time} between {since_time_s} and {until_time_s}.",
    "met_closed": "The next request of {client} met a closed connection {resets:time} and was reset.",
    "keep_alive": "{client} asks the broker {server} for a keep-alive of {keep_alive_s} and then sends nothing for "
    "longer: the broker ended its connection {times:time}, after {idle_s} of silence.",
    "no_pings": "No ping of {client} was seen.",
    "same_id": '{clients} use one client id, "{name}", at the broker {server}: each connect of one ends the '
    "connection of the other, {times:time} between {since_time_s} and {until_time_s}.",
    "breaks": "The connection of {client} to {server} breaks: {times:time} between {since_time_s} and {until_time_s} "
    "it was reset in use, half of the times within {lasted_s}, and it was opened again.",
    "limit": "{server} accepts a connection of {client} and closes it within {short_s} of the handshake, before any "
    "answer: {times:time} between {since_time_s} and {until_time_s}.",
    "held": "Meanwhile it kept {held:connection} of {others} open: it may allow no more.",
    "port_refused": "{service} refuses every connection: {attempts:attempt} by {clients} since {since_time_s}, none "
    "accepted.",
    "port_left": "{client} asks {server} at port {port}, which refuses every connection: {attempts:attempt} since "
    "{since_time_s}, none accepted. Until then it was served there at port {before}, where it asks no more: its own "
    "setting has changed.",
    "unheard": "Nobody answers at {server}: {attempts:attempt} by {clients} to reach it since {since_time_s} stayed "
    "without an answer, and nothing was heard from it in this capture.",
}


def find_idle_closes(view: TrafficView) -> list[RuleHit]:
    """Sessions that one side closes after the same idle time again and again.

    Many programs are done with a connection within seconds. That a time below ``_MIN_IDLE_S`` is a
    timer's, and harms, more closes show, nearly all alike, each a reset.
    """
    table = view.sessions
    mine = table[(table["ended_by"] != "") & table["opened"]]
    hits = []
    for client, server, _, rows in _pairs(_with_most(mine, mine["idle_s"] >= _SHORT_S, _MIN_ENDS)):
        # Who asks now and then may be cut off before he has asked at all; who never asks needs nothing.
        if not (rows["data_bytes"] > 0).any():
            continue
        timed = rows[rows["idle_s"] >= _MIN_IDLE_S]
        found = [
            (side, alike)
            for side, ends in timed.groupby("ended_by", observed=True)
            if len(alike := _select_alike(ends)) >= _MIN_ENDS
        ]
        if not found and len(short := _find_short_timer(view, client, server, rows)):
            found = [("server", short)]
        for side, alike in found:
            resets = _count_resets(rows, alike)
            missed = int((alike["retry_s"] <= _MISSED_S).sum()) if side == "server" else 0
            # A client that closes what it does not need for a while does no harm.
            if max(resets, missed) < _MIN_ENDS:
                continue
            if _find_keep_alive(view, client, server, alike) is not None:
                continue
            closer, other = (server, client) if side == "server" else (client, server)
            values = _values(view, client, server, alike) | {
                "closer": view.name_of(closer),
                "other": view.name_of(other),
                "idle_s": float(alike["idle_s"].median()),
                "times": len(alike),
                "resets": resets,
            }
            kinds = ["idle_close", *(["met_closed"] if resets else [])]
            flag = "reset" if (alike["ended"] == "reset").all() else "fin"
            hits.append(_make_hit(closer, "flapping", other, alike, kinds, values, flag))
    return hits


def _select_alike(ends: pd.DataFrame) -> pd.DataFrame:
    """Those of some sessions whose idle times lie close to the median."""
    middle = ends["idle_s"].median()
    return ends[(ends["idle_s"] - middle).abs() <= _ALIKE * middle]


def _find_short_timer(
    view: TrafficView, client: str, server: str, rows: pd.DataFrame
) -> pd.DataFrame:
    """Sessions of two of the plant's devices that the server resets after one short idle time, and
    that the client misses; empty where that is not all that ends them, or something else explains
    it."""
    ends = rows[(rows["ended_by"] == "server") & (rows["idle_s"] >= _SHORT_S)]
    alike = _select_alike(ends)
    alike = alike[(alike["ended"] == "reset") & (alike["retry_s"] <= _MISSED_S)]
    asked = view.exchanges
    # Who is refused is thrown out for that, and a broker ends a session for reasons of its own.
    bad = asked["outcome"].isin(["refused", "malformed"]) | (asked["protocol"] == "mqtt")
    told = asked["flow"].isin(alike["flow"]) & bad
    strange = client in view.explorers or not {client, server} <= set(view.own)
    if len(alike) < max(_MIN_TIMED, _TIMED_SHARE * len(ends)) or told.any() or strange:
        return alike[:0]
    return alike


def find_missed_keep_alives(view: TrafficView) -> list[RuleHit]:
    """MQTT clients that stay silent for longer than they promised."""
    hits = []
    table, asked = view.sessions, view.exchanges
    connects = asked.loc[(asked["protocol"] == "mqtt") & (asked["function"] == CONNECT), "flow"]
    ended = table[(table["ended_by"] == "server") & table["opened"]]
    ended = _with_most(ended, ended["flow"].isin(connects), 1)
    for client, server, _, rows in _pairs(ended):
        promised = _find_keep_alive(view, client, server, rows)
        if promised is None:
            continue
        late = rows[rows["idle_s"].between(*(bound * promised for bound in _KEEP_ALIVE))]
        if len(late) < _MIN_TAKEOVERS:
            continue
        pings = (asked["client"] == client) & (asked["protocol"] == "mqtt")
        pings &= asked["function"] == PING
        values = _values(view, client, server, late) | {
            "keep_alive_s": promised,
            "idle_s": float(late["idle_s"].median()),
            "times": len(late),
        }
        kinds = ["keep_alive", *(["no_pings"] if not pings.any() else [])]
        hits.append(_make_hit(client, "flapping", server, late, kinds, values, "fin"))
    return hits


def find_shared_client_ids(view: TrafficView) -> list[RuleHit]:
    """Clients of one broker that use one client id and throw each other out."""
    asked = view.exchanges
    connects = asked[(asked["protocol"] == "mqtt") & (asked["function"] == CONNECT)]
    connects = connects[connects["name"].notna() & (connects["outcome"] == "answered")]
    ends = view.sessions.set_index("flow")
    hits = []
    for (server, name), rows in connects.groupby(["server", "name"], observed=True):
        if rows["client"].nunique() < 2:
            continue
        ended = ends.reindex(rows["flow"])
        by_server = (ended["ended_by"] == "server").to_numpy()
        end_s, client = ended["end_s"].to_numpy(), rows["client"].to_numpy(object)
        ts = rows["ts"].to_numpy()
        # The connect of another client ends the session of this one.
        before = np.maximum(np.searchsorted(ts, end_s + _CLOCK_S) - 1, 0)
        taken = by_server & (end_s - ts[before] <= _TAKEN_S) & (client[before] != client)
        if taken.sum() < _MIN_TAKEOVERS:
            continue
        clients = by_count(rows["client"].astype(str))
        values: dict[str, Value] = {
            "clients": view.names_of(clients),
            "server": view.name_of(str(server)),
            "name": str(name),
            "times": int(taken.sum()),
            # It began when the first session was taken over, not when that session was opened.
            "since_time_s": float(end_s[taken].min()),
            "until_time_s": float(end_s[taken].max()),
        }
        escaped = str(name).replace("\\", "\\\\").replace('"', '\\"')
        condition = f'mqtt.clientid == "{escaped}" && {ip_field(str(server))}.dst == {server}'
        proof = Proof(condition, pick_frames(rows["frame"]))
        fact = make_fact("same_id", _SENTENCES["same_id"], values, proof=proof)
        others = (*clients[1:], str(server))
        hits.append(
            RuleHit(
                clients[0],
                "misconfiguration",
                "both",
                (fact,),
                others,
                slots_at(pd.Series(end_s[taken])),
            )
        )
    return hits


def find_breaking_sessions(view: TrafficView) -> list[RuleHit]:
    """Connections inside the plant that are reset in use again and again, and opened again."""
    table = view.sessions
    mine = table[table["begun"] & table["opened"]]
    lasted_s = (mine["end_s"] - mine["start_s"]).rename("lasted_s")
    mine = mine.assign(lasted_s=lasted_s, broken=mine["ended"] == "reset")
    inside = mine[mine["client"].isin(view.own) & mine["server"].isin(view.own)]
    hits = []
    for client, server, _, rows in _pairs(_with_most(inside, inside["broken"], _MIN_BREAKS)):
        broken = rows[rows["broken"]]
        # Many that end in one moment are a program that ends.
        again = len(slots_at(broken.loc[broken["retry_s"] <= _MISSED_S, "end_s"]))
        seldom = again < _MIN_BREAKS or len(broken) < _BREAK_SHARE * len(rows)
        if seldom or rows["lasted_s"].median() < _IN_USE_S:
            continue
        device, other = _blame_break(mine, client, server)
        values = _values(view, client, server, broken) | {
            "times": len(broken),
            "lasted_s": float(broken["lasted_s"].median()),
        }
        hits.append(_make_hit(device, "flapping", other, broken, ["breaks"], values, "reset"))
    return hits


def _blame_break(sessions: pd.DataFrame, client: str, server: str) -> tuple[str, str]:
    """The end whose connections with others break more often, the server where neither's do."""
    broken = sessions[sessions["broken"] & (sessions["lasted_s"] >= _IN_USE_S)]
    between_them = broken["client"].eq(client) & broken["server"].eq(server)
    others = broken.loc[~between_them, ["client", "server"]].astype(str)
    of = {one: int(others.eq(one).to_numpy().sum()) for one in (client, server)}
    return (client, server) if of[client] > of[server] else (server, client)


def find_session_limits(view: TrafficView) -> list[RuleHit]:
    """Servers that accept a connection and end it before they answered anything."""
    table = view.sessions
    local = table["server"].isin(view.own)
    cut = table[local & table["begun"] & table["opened"] & (table["ended_by"] == "server")]
    asked = view.exchanges
    wrong = asked[asked["outcome"] == "malformed"]
    # Who sends what no stack would is thrown out for that, also where only some of it was read.
    senders = wrong.groupby(["client", "server"], observed=True).size()
    senders = senders.index[senders >= _MIN_ENDS]
    ends = pd.MultiIndex.from_frame(cut[["client", "server"]].astype("str"))
    cut = cut[~cut["flow"].isin(wrong["flow"]) & ~ends.isin(senders)]
    cut = cut[(cut["end_s"] - cut["start_s"] <= _SHORT_S) & (cut["server_bytes"] == 0)]
    hits = []
    for client, server, port, rows in _pairs(cut):
        if len(rows) < _MIN_ENDS or client in view.explorers:
            continue
        held = table[(table["server"] == server) & (table["port"] == port)]
        held = held[held["opened"] & (held["server_bytes"] > 0)]
        held = held[
            (held["start_s"] < rows["end_s"].max()) & (held["end_s"] > rows["start_s"].min())
        ]
        values = _values(view, client, server, rows)
        values |= {"times": len(rows), "short_s": _SHORT_S, "held": len(held)}
        kinds = ["limit"]
        if len(held):
            values["others"] = view.names_of(by_count(held["client"].astype(str)))
            kinds.append("held")
        hits.append(_make_hit(server, "service_down", client, rows, kinds, values, "syn"))
    return hits


def find_closed_ports(view: TrafficView) -> list[RuleHit]:
    """Ports of the plant's devices that refuse every connection in the whole capture.

    Who is refused at many ports of one device looks for open ones, and who floods a port needs no
    service: of neither is any down.
    """
    rows = view.flow_slots
    tried = rows[(rows["proto"] == "tcp") & rows["dst"].isin(view.own)]
    tried = tried[tried["answered"] | view.by_clients(tried)]
    known = tried.groupby(["dst", "port"])[["answered", "refused"]].agg(["any", "all"])
    known = known[~known["answered", "any"] & known["refused", "any"]]
    hits = list[RuleHit | None]()
    for server, port in known.index:
        mine = tried[(tried["dst"] == server) & (tried["port"] == port) & tried["refused"]]
        if hit := _find_left_port(view, str(server), int(port), mine):
            hits.append(hit)
            continue
        values: dict[str, Value] = {"service": view.port_at(str(server), int(port))}
        field = ip_field(str(server))
        condition = f"{field}.src == {server} && tcp.srcport == {port} && tcp.flags.reset == 1"
        hits.append(
            _make_server_hit(
                view, str(server), "service_down", "port_refused", mine, values, condition
            )
        )
    return [hit for hit in hits if hit]


def _find_left_port(
    view: TrafficView, server: str, port: int, refused: pd.DataFrame
) -> RuleHit | None:
    """A hit at the only client of a port that nobody serves, where it left another port of that server
    for it, at which it was served; None where it is another story."""
    clients = refused["src"].unique()
    begun = np.sort(refused.groupby("attempt")["since_s"].min().to_numpy())
    if len(clients) != 1 or len(begun) < _MIN_VAIN or refused["slot"].nunique() < _MIN_VAIN_SLOTS:
        return None
    client, last_s = str(clients[0]), float(begun[-1])
    rows = view.flows_of(client)
    rows = rows[rows["out"] & (rows["other"] == server) & (rows["proto"] == "tcp")]
    served = rows[rows["answered"] & (rows["dst_pkts"] > 0)]
    before = served[served["since_s"] < begun[0]]
    if before.empty:
        return None
    left = int(before.loc[before["since_s"].idxmax(), "port"])
    # Who goes on there while it is refused here uses two services, of which one is down.
    meanwhile = served["until_s"].between(begun[0] + SAMPLE_S, last_s - SAMPLE_S)
    if (meanwhile & (served["port"] == left)).any():
        return None
    values: dict[str, Value] = {
        "client": view.name_of(client),
        "server": view.name_of(server),
        "port": str(port),
        "before": str(left),
        "attempts": len(begun),
        "since_time_s": float(begun[0]),
    }
    field = ip_field(server)
    only = f"{field}.src == {server} && tcp.srcport == {port} && tcp.flags.reset == 1"
    fact = make_fact("port_left", _SENTENCES["port_left"], values, proof=Proof(only))
    return RuleHit(
        client, "misconfiguration", "source", (fact,), (server,), slots_at(refused["since_s"])
    )


def find_unheard_addresses(view: TrafficView) -> list[RuleHit]:
    """Addresses of the plant that devices keep calling and from which nothing ever came."""
    rows = view.flow_slots
    vain = rows[rows["dst"].isin(view.own - view.heard) & (rows["syns"] > 0)]
    hits = []
    for server, mine in vain.groupby("dst"):
        values: dict[str, Value] = {"server": view.name_of(str(server))}
        condition = f"{ip_field(str(server))}.dst == {server} && tcp.flags.syn == 1"
        hits.append(
            _make_server_hit(view, str(server), "device_silent", "unheard", mine, values, condition)
        )
    return [hit for hit in hits if hit]


# ---- What they share ----


def _pairs(sessions: pd.DataFrame) -> Iterator[tuple[str, str, int, pd.DataFrame]]:
    for (client, server, port), rows in sessions.groupby(
        ["client", "server", "port"], observed=True
    ):
        yield str(client), str(server), int(port), rows


def _with_most(sessions: pd.DataFrame, which: pd.Series, least: int) -> pd.DataFrame:
    """The sessions of those pairs that have at least so many of ``which``: a table of each pair of a
    plant takes long, and few pairs have what a rule looks for."""
    ends = [sessions[name] for name in ("client", "server", "port")]
    return sessions[which.groupby(ends, observed=True).transform("sum") >= least]


def _find_keep_alive(
    view: TrafficView, client: str, server: str, sessions: pd.DataFrame
) -> float | None:
    """The keep-alive that an MQTT client asked for in these sessions, in seconds; None for none."""
    asked = view.exchanges
    connects = asked[(asked["protocol"] == "mqtt") & (asked["function"] == CONNECT)]
    connects = connects[connects["flow"].isin(sessions["flow"]) & (connects["value"] > 0)]
    connects = connects[(connects["client"] == client) & (connects["server"] == server)]
    return float(connects["value"].median()) if len(connects) else None


def _count_resets(sessions: pd.DataFrame, closed: pd.DataFrame) -> int:
    """Sessions that were reset by the server at their first words, after one that was closed."""
    reset = sessions[(sessions["ended"] == "reset") & (sessions["ended_by"] == "server")]
    reset = reset[reset["end_s"] - reset["start_s"] <= _SHORT_S]
    place = np.searchsorted(np.sort(closed["end_s"].to_numpy()), reset["start_s"].to_numpy())
    return int((place > 0).sum())


def _values(view: TrafficView, client: str, server: str, rows: pd.DataFrame) -> dict[str, Value]:
    return {
        "client": view.name_of(client),
        "server": view.name_of(server),
        "since_time_s": float(rows["end_s"].min()),
        "until_time_s": float(rows["end_s"].max()),
    }


def _make_hit(
    device: str,
    label: str,
    other: str,
    rows: pd.DataFrame,
    kinds: list[str],
    values: dict[str, Value],
    flag: str,
) -> RuleHit:
    """A hit at a device whose facts are of ``kinds``; ``flag``: of the segments that show it."""
    client, server, port = (rows[name].iloc[0] for name in ("client", "server", "port"))
    condition = (
        f"{between(str(client), str(server))} && tcp.port == {port} && tcp.flags.{flag} == 1"
    )
    proof = Proof(condition, pick_frames(rows["last_frame"]))
    facts = tuple(make_fact(kind, _SENTENCES[kind], values, proof=proof) for kind in kinds)
    return RuleHit(device, label, "source", facts, (other,), slots_at(rows["end_s"]))


def _make_server_hit(
    view: TrafficView,
    server: str,
    label: str,
    kind: str,
    rows: pd.DataFrame,
    values: dict[str, Value],
    condition: str,
) -> RuleHit | None:
    """A hit at a server that clients try in vain; None where they do so too seldom."""
    rows = rows[view.by_clients(rows)]
    if rows["attempt"].nunique() < _MIN_VAIN or rows["slot"].nunique() < _MIN_VAIN_SLOTS:
        return None
    clients = tuple(map(str, by_count(rows["src"])))
    values |= {
        "attempts": rows["attempt"].nunique(),
        "clients": view.names_of(clients),
        "since_time_s": float(rows["since_s"].min()),
    }
    fact = make_fact(kind, _SENTENCES[kind], values, proof=Proof(condition))
    return RuleHit(server, label, "source", (fact,), clients, slots_of(rows))
