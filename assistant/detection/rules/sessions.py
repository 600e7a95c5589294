"""Sessions that break: closed while idle, refused, cut right after the handshake, taken over.

Every rule asks for a harm that shows: the client comes back at once, or writes to what is closed. A
session that ends and is not missed is none of them.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.facts.fact import Fact, Proof, Value, by_count, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols.mqtt import CONNECT, PING

_MIN_ENDS = 3
_MIN_IDLE_S = 5.0
_ALIKE = 0.1  # half of the idle times lie so close to their median: a timer, no accident
_MISSED_S = 60.0  # a client that comes back within this missed its session
_KEEP_ALIVE = (1.0, 2.0)  # a broker waits one and a half times (MQTT 3.1.1, 3.1.2.10), some longer
_MIN_TAKEOVERS = 2
_TAKEN_S, _CLOCK_S = 2.0, 0.05
_SHORT_S = 1.0
_MIN_REFUSED = 5
_MIN_VAIN, _MIN_VAIN_SLOTS = 5, 3
_FEW_FRAMES = 5

_SENTENCES = {
    "idle_close": "{closer} closes the connection of {other} after {idle_s} without a request; it did so "
    "{times:time} between {since_time_s} and {until_time_s}.",
    "met_closed": "The next request of {client} met a closed connection {resets:time} and was reset.",
    "keep_alive": "{client} asks the broker {server} for a keep-alive of {keep_alive_s} and then sends nothing for "
    "longer: the broker ended its connection {times:time}, after {idle_s} of silence.",
    "no_pings": "No ping of {client} was seen.",
    "same_id": '{clients} use one client id, "{name}", at the broker {server}: each connect of one ends the '
    "connection of the other, {times:time} between {since_time_s} and {until_time_s}.",
    "limit": "{server} accepts a connection of {client} and closes it within {short_s} of the handshake, before any "
    "answer: {times:time} between {since_time_s} and {until_time_s}.",
    "held": "Meanwhile it kept {held:connection} of {others} open: it may allow no more.",
    "port_refused": "{service} refuses every connection: {refused:attempt} by {clients} since {since_time_s}, none "
    "accepted.",
    "unheard": "Nobody answers at {server}: {attempts:attempt} by {clients} to reach it since {since_time_s} stayed "
    "without an answer, and nothing was heard from it in this capture.",
}


def find_idle_closes(view: TrafficView) -> list[RuleHit]:
    """Sessions that one side closes after the same idle time again and again."""
    table = view.sessions
    mine = table[(table["ended_by"] != "") & table["opened"] & (table["data_bytes"] > 0)]
    hits = []
    for client, server, port, rows in _pairs(mine):
        timed = rows[rows["idle_s"] >= _MIN_IDLE_S]
        if len(timed) < _MIN_ENDS or _find_keep_alive(view, client, server, timed) is not None:
            continue
        for side, ends in timed.groupby("ended_by", observed=True):
            idle = ends["idle_s"].to_numpy()
            middle = float(np.median(idle))
            alike = ends[np.abs(idle - middle) <= _ALIKE * middle]
            resets = _count_resets(rows, alike)
            missed = int((alike["retry_s"] <= _MISSED_S).sum()) if side == "server" else 0
            # A client that closes what it does not need for a while does no harm.
            if len(alike) < _MIN_ENDS or max(resets, missed) < _MIN_ENDS:
                continue
            closer, other = (server, client) if side == "server" else (client, server)
            values = _values(view, client, server, alike) | {
                "closer": view.name_of(closer),
                "other": view.name_of(other),
                "idle_s": middle,
                "times": len(alike),
                "resets": resets,
            }
            kinds = ["idle_close", *(["met_closed"] if resets else [])]
            proof = _proof(alike, f"{_filter(client, server, port)} && tcp.flags.fin == 1")
            facts = tuple(make_fact(kind, _SENTENCES[kind], values, proof=proof) for kind in kinds)
            hits.append(_hit(closer, "flapping", facts, other, alike))
    return hits


def find_missed_keep_alives(view: TrafficView) -> list[RuleHit]:
    """MQTT clients that stay silent for longer than they promised."""
    hits = []
    table = view.sessions
    ended = table[(table["ended_by"] == "server") & table["opened"]]
    for client, server, port, rows in _pairs(ended):
        promised = _find_keep_alive(view, client, server, rows)
        if promised is None:
            continue
        late = rows[rows["idle_s"].between(*(bound * promised for bound in _KEEP_ALIVE))]
        if len(late) < _MIN_TAKEOVERS:
            continue
        asked = view.exchanges
        pings = (asked["client"] == client) & (asked["protocol"] == "mqtt")
        pings &= asked["function"] == PING
        values = _values(view, client, server, late) | {
            "keep_alive_s": promised,
            "idle_s": float(late["idle_s"].median()),
            "times": len(late),
        }
        kinds = ["keep_alive", *(["no_pings"] if not pings.any() else [])]
        proof = _proof(late, f"{_filter(client, server, port)} && tcp.flags.fin == 1")
        facts = tuple(make_fact(kind, _SENTENCES[kind], values, proof=proof) for kind in kinds)
        hits.append(_hit(client, "flapping", facts, server, late))
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
            "since_time_s": float(ts[taken].min()),
            "until_time_s": float(ts[taken].max()),
        }
        kind = "ipv6" if ":" in str(server) else "ip"
        frames = tuple(int(frame) for frame in rows["frame"].iloc[:_FEW_FRAMES])
        escaped = str(name).replace("\\", "\\\\").replace('"', '\\"')
        only = f'mqtt.clientid == "{escaped}" && {kind}.dst == {server}'
        fact = make_fact("same_id", _SENTENCES["same_id"], values, proof=Proof(only, frames))
        slots = slots_of(np.floor(rows[["ts"]] / SAMPLE_S).set_axis(["slot"], axis=1))
        others = (*clients[1:], str(server))
        hits.append(RuleHit(clients[0], "misconfiguration", "both", (fact,), others, slots))
    return hits


def find_session_limits(view: TrafficView) -> list[RuleHit]:
    """Servers that accept a connection and end it before they answered anything."""
    table = view.sessions
    local = table["server"].isin(view.own)
    cut = table[local & table["begun"] & table["opened"] & (table["ended_by"] == "server")]
    asked = view.exchanges
    cut = cut[~cut["flow"].isin(asked.loc[asked["outcome"] == "malformed", "flow"])]
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
        proof = _proof(rows, f"{_filter(client, server, port)} && tcp.flags.syn == 1")
        facts = tuple(make_fact(kind, _SENTENCES[kind], values, proof=proof) for kind in kinds)
        hits.append(_hit(server, "service_down", facts, client, rows))
    return hits


def find_closed_ports(view: TrafficView) -> list[RuleHit]:
    """Ports of the plant's devices that refuse every connection in the whole capture."""
    rows = view.flow_slots
    tried = rows[(rows["proto"] == "tcp") & rows["dst"].isin(view.own)]
    known = tried.groupby(["dst", "port"])[["answered", "refused"]].agg(["any", "all"])
    known = known[~known["answered", "any"] & known["refused", "any"]]
    hits = []
    for server, port in known.index:
        mine = tried[(tried["dst"] == server) & (tried["port"] == port) & tried["refused"]]
        mine = mine[~mine["src"].isin(view.explorers)]
        if mine["attempt"].nunique() < _MIN_REFUSED or mine["slot"].nunique() < _MIN_VAIN_SLOTS:
            continue
        clients = by_count(mine["src"])
        values: dict[str, Value] = {
            "service": view.port_at(str(server), int(port)),
            "refused": mine["attempt"].nunique(),
            "clients": view.names_of(clients),
            "since_time_s": float(mine["since_s"].min()),
        }
        kind = "ipv6" if ":" in str(server) else "ip"
        only = f"{kind}.src == {server} && tcp.srcport == {port} && tcp.flags.reset == 1"
        fact = make_fact("port_refused", _SENTENCES["port_refused"], values, proof=Proof(only))
        slots, peers = slots_of(mine), tuple(map(str, clients))
        hits.append(RuleHit(str(server), "service_down", "source", (fact,), peers, slots))
    return hits


def find_unheard_addresses(view: TrafficView) -> list[RuleHit]:
    """Addresses of the plant that devices keep calling and from which nothing ever came."""
    rows = view.flow_slots
    vain = rows[rows["dst"].isin(view.own - view.heard) & (rows["syns"] > 0)]
    hits = []
    for server, mine in vain.groupby("dst"):
        mine = mine[~mine["src"].isin(view.explorers)]
        if mine["attempt"].nunique() < _MIN_VAIN or mine["slot"].nunique() < _MIN_VAIN_SLOTS:
            continue
        clients = by_count(mine["src"])
        values: dict[str, Value] = {
            "server": view.name_of(str(server)),
            "attempts": mine["attempt"].nunique(),
            "clients": view.names_of(clients),
            "since_time_s": float(mine["since_s"].min()),
        }
        kind = "ipv6" if ":" in str(server) else "ip"
        only = f"{kind}.dst == {server} && tcp.flags.syn == 1"
        fact = make_fact("unheard", _SENTENCES["unheard"], values, proof=Proof(only))
        slots, peers = slots_of(mine), tuple(map(str, clients))
        hits.append(RuleHit(str(server), "device_silent", "source", (fact,), peers, slots))
    return hits


# ---- What they share ----


def _pairs(sessions: pd.DataFrame) -> Iterator[tuple[str, str, int, pd.DataFrame]]:
    for (client, server, port), rows in sessions.groupby(
        ["client", "server", "port"], observed=True
    ):
        yield str(client), str(server), int(port), rows


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


def _hit(
    device: str, label: str, facts: tuple[Fact, ...], other: str, rows: pd.DataFrame
) -> RuleHit:
    slots = slots_of(np.floor(rows[["end_s"]] / SAMPLE_S).set_axis(["slot"], axis=1))
    return RuleHit(device, label, "source", facts, (other,), slots)


def _filter(client: str, server: str, port: int) -> str:
    kind = "ipv6" if ":" in client else "ip"
    return f"{kind}.addr == {client} && {kind}.addr == {server} && tcp.port == {port}"


def _proof(rows: pd.DataFrame, filter_: str) -> Proof:
    frames = rows["last_frame"].to_numpy()
    places = np.unique(np.linspace(0, len(frames) - 1, _FEW_FRAMES).astype(int))
    return Proof(filter_, tuple(int(frames[place]) for place in places if frames[place] > 0))
