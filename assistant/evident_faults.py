"""Faults that are evident: an address that nobody answers at, a mute resolver, a service that stopped answering."""

import numpy as np
import pandas as pd

from assistant.evident import Evident, slots_of
from assistant.phrases import Value, listed, make_fact
from assistant.scene import Scene

__all__ = ["find_absent_addresses", "find_failing_services", "find_mute_resolvers"]

_MIN_REQUESTS = 3  # by one asker
_TRIES = (6, 3)  # one try is up to three requests within seconds; more requests, or more slots, are more tries
_WALKER = 8  # who asks for more absent addresses than this is looking around, not in need
_MIN_FAILURES = 5
_MIN_FAILING_S = 60.0

_SAYS = {
    "absent": "Nobody answers at {address}: {asked:ARP request} for it by {askers} stayed without a reply.",
    "resolver": "The resolver {resolver} answers nobody: {failed:question} from {clients} stayed without a reply since "
    "{since_time_s}.",
    "refusing": "{service} has answered nobody since {since_time_s}: {failed:attempt} by {clients} failed, and before "
    "that it did answer.",
}


def find_absent_addresses(scene: Scene) -> list[Evident]:
    """Addresses that somebody needs and that never answer from then on."""
    rows = scene.evidence[scene.evidence["kind"] == "arp_unanswered"]
    rows = rows[(rows["src"] != rows["dst"]) & (rows["src"] != "0.0.0.0")]  # noqa: S104 (RFC 5227: a probe, no need)
    if rows.empty:
        return []
    heard = rows["dst"].map(_last_heard(scene)).fillna(-1)
    rows = rows[rows["slot"] > heard]
    known = {device.address for device in scene.plant.devices} if scene.plant else set()
    walkers = rows.groupby("src")["dst"].nunique()
    needed = rows["dst"].isin(known) | (heard[rows.index] >= 0) | (rows["src"].map(walkers) <= _WALKER)
    rows = rows[needed]
    tries = rows.groupby(["src", "dst"]).agg(count=("count", "sum"), slots=("slot", "nunique"))
    tries = tries[(tries["count"] >= _MIN_REQUESTS) & ((tries["count"] >= _TRIES[0]) | (tries["slots"] >= _TRIES[1]))]
    return [
        _absent(scene, str(address), rows[rows["dst"] == address])
        for address in tries.index.get_level_values("dst").unique()
    ]


def _last_heard(scene: Scene) -> pd.Series:
    """Last slot in which each address sent a packet, asked for another or answered a request; index: addresses."""
    moves, evidence = scene.moves, scene.evidence
    asked = evidence[evidence["kind"] == "arp_request"].groupby(["slot", "dst"])["count"].sum()
    vain = evidence[evidence["kind"] == "arp_unanswered"].groupby(["slot", "dst"])["count"].sum()
    answered = asked.sub(vain, fill_value=0)
    replied = answered[answered > 0].reset_index()
    signs = [
        moves.loc[moves["src_pkts"] > 0, ["src", "slot"]].set_axis(["who", "slot"], axis=1),
        moves.loc[moves["dst_pkts"] > 0, ["dst", "slot"]].set_axis(["who", "slot"], axis=1),
        evidence.loc[evidence["kind"] == "arp_request", ["src", "slot"]].set_axis(["who", "slot"], axis=1),
        replied[["dst", "slot"]].set_axis(["who", "slot"], axis=1),
    ]
    return pd.concat(signs).groupby("who")["slot"].max()


def _absent(scene: Scene, address: str, rows: pd.DataFrame) -> Evident:
    askers = rows.groupby("src")["count"].sum().sort_values(ascending=False)
    values: dict[str, Value] = {
        "address": scene.name(address),
        "asked": int(rows["count"].sum()),
        "askers": listed(scene.name(str(name)) for name in askers.index),
    }
    fact = make_fact("absent", _SAYS["absent"], values)
    return Evident(address, "device_silent", "source", fact, tuple(map(str, askers.index)), slots_of(rows))


def find_mute_resolvers(scene: Scene) -> list[Evident]:
    """Resolvers that answer none of their clients any more, where these have no other that answers."""
    asked = scene.moves[(scene.moves["port"] == 53) & (scene.moves["proto"] == "udp")]
    found = []
    for resolver, rows in asked.groupby("dst"):
        failing = _failing_since(rows)
        elsewhere = asked[(asked["dst"] != resolver) & asked["answered"]]
        # Who has another resolver that answers does not need this one.
        failing = failing[~failing["src"].isin(elsewhere["src"])]
        if _lasts(failing):
            values = _failure_values(scene, failing) | {"resolver": scene.name(str(resolver))}
            fact = make_fact("resolver", _SAYS["resolver"], values)
            found.append(
                Evident(str(resolver), "name_resolution", "source", fact, _clients(failing), slots_of(failing))
            )
    return found


def find_failing_services(scene: Scene) -> list[Evident]:
    """Ports of the plant's own servers that used to answer and now answer nobody."""
    moves = scene.moves
    ours = moves[(moves["proto"] == "tcp") & moves["dst"].isin(scene.samples["device"].unique())]
    tried = ours[(ours["syns"] > 0) | ours["answered"]]
    worked = tried.groupby(["dst", "port"])["answered"].agg(["any", "all"])
    found = []
    for server, port in worked.index[worked["any"] & ~worked["all"]]:
        failing = _failing_since(tried[(tried["dst"] == server) & (tried["port"] == port)])
        if not _lasts(failing):
            continue
        lives = moves[(moves["slot"] >= failing["slot"].min()) & _sends(moves, server)]
        label = "service_down" if len(lives) or failing["refused"].any() else "device_silent"
        values = _failure_values(scene, failing) | {"service": scene.port_at(str(server), int(port))}
        fact = make_fact("refusing", _SAYS["refusing"], values)
        found.append(Evident(str(server), label, "source", fact, _clients(failing), slots_of(failing)))
    return found


def _sends(moves: pd.DataFrame, device: str) -> pd.Series:
    return ((moves["src"] == device) & (moves["src_pkts"] > 0)) | ((moves["dst"] == device) & (moves["dst_pkts"] > 0))


def _failing_since(rows: pd.DataFrame) -> pd.DataFrame:
    """Attempts that began after the last one that was answered."""
    worked = rows.loc[rows["answered"], "since_s"].max()
    return rows if np.isnan(worked) else rows[rows["since_s"] > worked]


def _lasts(failing: pd.DataFrame) -> bool:
    if failing["attempt"].nunique() < _MIN_FAILURES:
        return False
    return bool(failing["since_s"].max() - failing["since_s"].min() >= _MIN_FAILING_S)


def _failure_values(scene: Scene, failing: pd.DataFrame) -> dict[str, Value]:
    return {
        "failed": failing["attempt"].nunique(),
        "clients": listed(scene.name(name) for name in _clients(failing)),
        "since_time_s": float(failing["since_s"].min()),
    }


def _clients(failing: pd.DataFrame) -> tuple[str, ...]:
    return tuple(map(str, failing.groupby("src")["attempt"].nunique().sort_values(ascending=False).index))
