"""Conditions that need no model: hard evidence that something is broken, each conservative enough to raise an incident.

Every rule asks for need and for silence: somebody who keeps asking, and nobody who answers from then on. A router that
walks through its address pool asks once for each; a machine that was switched on later was never silent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.phrases import Fact, Value, listed, make_fact
from assistant.traces import Scene, is_group, make_scene
from traffic.capture import SAMPLE_S, Capture
from traffic.plant import Plant

__all__ = ["Evident", "find_evident", "find_evident_in"]

_MIN_REQUESTS = 3  # by one asker
_TRIES = (6, 3)  # one try is up to three requests within seconds; more requests, or more slots, are more tries
_WALKER = 8  # who asks for more absent addresses than this is looking around, not in need
_MIN_FAILURES = 5
_MIN_FAILING_S = 60.0
_SWEPT_REGISTERS, _SWEPT_REFUSED_SHARE = 50, 0.5  # different ones in a sample; exceptions among the answers
# In one sample to one port, nothing coming back: a stream may go one way over UDP (video, syslog), never so fast.
_FLOOD_PKTS = {"tcp": 1_000, "udp": 20_000}

_SAYS = {
    "absent": "Nobody answers at {address}: {asked:ARP request} for it by {askers} stayed without a reply.",
    "duplicate": "{address} is claimed by {machines:machine} at the same time ({claims:claim} seen).",
    "one_way": "{source} sent {target} at least {peak_pkts:packet} in {sample_s}, and nothing came back.",
    "sweep": "{client} asked {server} over Modbus for up to {registers:different register address} in {sample_s}, and "
    "{refused_share} of its {requests:request} got an exception: it sweeps.",
    "resolver": "The resolver {resolver} answers nobody: {failed:question} from {clients} stayed without a reply since "
    "{since_time_s}.",
    "refusing": "{service} has answered nobody since {since_time_s}: {failed:attempt} by {clients} failed, and before "
    "that it did answer.",
}


@dataclass(frozen=True)
class Evident:
    """A broken thing, known without a model.

    Attributes:
        device: the address that is absent, doubled or failing.
        label: one of ``LABELS``.
        role: ``source``, or ``target`` where somebody else, perhaps unknown, is the cause.
        fact: the sentence that says why.
        peers: who suffers, the most affected first.
        slots: where the evidence lies, int64, sorted.
    """

    device: str
    label: str
    role: str
    fact: Fact
    peers: tuple[str, ...]
    slots: np.ndarray


def find_evident(capture: Capture, samples: pd.DataFrame, plant: Plant | None = None) -> list[Evident]:
    """Find absent and doubled addresses, mute resolvers, failed services, one-way floods and sweeps."""
    return find_evident_in(make_scene(capture, samples, plant))


def find_evident_in(scene: Scene) -> list[Evident]:
    """As ``find_evident``, on a capture that is laid out already."""
    rules: tuple[Callable[[Scene], list[Evident]], ...] = (
        _absent_addresses,
        _doubled_addresses,
        _mute_resolvers,
        _failing_services,
        _one_way_floods,
        _register_sweeps,
    )
    return [one for rule in rules for one in rule(scene)]


def _absent_addresses(scene: Scene) -> list[Evident]:
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
    replied = asked.sub(vain, fill_value=0)
    replied = replied[replied > 0].reset_index()
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
    return Evident(address, "device_silent", "source", fact, tuple(map(str, askers.index)), _slots(rows))


def _doubled_addresses(scene: Scene) -> list[Evident]:
    claims = scene.evidence[scene.evidence["kind"] == "arp_conflict"]
    found = []
    for address, rows in claims.groupby("dst"):
        # One change of hardware is a replaced device or a failover; a claim that comes back is two machines.
        if rows["count"].sum() < _MIN_REQUESTS and rows["slot"].nunique() < 2:
            continue
        values: dict[str, Value] = {
            "address": scene.name(str(address)),
            "machines": int(rows["distinct"].max()),
            "claims": int(rows["count"].sum()),
        }
        fact = make_fact("duplicate", _SAYS["duplicate"], values)
        found.append(Evident(str(address), "spoofing", "target", fact, (), _slots(rows)))
    return found


def _mute_resolvers(scene: Scene) -> list[Evident]:
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
            found.append(Evident(str(resolver), "name_resolution", "source", fact, _clients(failing), _slots(failing)))
    return found


def _failing_services(scene: Scene) -> list[Evident]:
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
        found.append(Evident(str(server), label, "source", fact, _clients(failing), _slots(failing)))
    return found


def _one_way_floods(scene: Scene) -> list[Evident]:
    ends = ["src", "dst", "port", "proto"]
    moves = scene.moves[~scene.moves["answered"] & scene.moves["proto"].isin(list(_FLOOD_PKTS))]
    pkts = moves["src_pkts"].clip(lower=1).groupby([moves[name] for name in [*ends, "slot"]]).sum().reset_index()
    peaks = pkts[pkts["src_pkts"] >= pkts["proto"].map(_FLOOD_PKTS).astype(float)]
    local = set(scene.samples["device"])
    found = []
    for (source, target, port, _), peak in peaks.groupby(ends):
        if is_group(str(target)):
            continue
        values: dict[str, Value] = {
            "source": scene.name(str(source)),
            "target": scene.port_at(str(target), int(port)),
            "peak_pkts": int(peak["src_pkts"].max()),
            "sample_s": SAMPLE_S,
        }
        same = pkts[(pkts["src"] == source) & (pkts["dst"] == target) & (pkts["port"] == port)]
        # A flood begins and ends inside a slot: those beside its peaks belong to it.
        near = same[np.isin(same["slot"], np.unique(peak["slot"].to_numpy()[:, None] + np.arange(-1, 2)))]
        # A plant's device that floods somebody outside takes part in what others do too.
        label = "dos" if target in local else "ddos"
        device, other = (source, target) if source in local else (target, source)
        fact = make_fact("one_way", _SAYS["one_way"], values)
        role = "source" if source in local else "target"
        found.append(Evident(str(device), label, role, fact, (str(other),), _slots(near)))
    return found


def _register_sweeps(scene: Scene) -> list[Evident]:
    pair = ["src", "dst"]
    asked = scene.evidence[scene.evidence["kind"].isin(["modbus_read", "modbus_write", "modbus_other"])]
    refused = scene.evidence[scene.evidence["kind"] == "modbus_exception"].groupby(pair)["count"].sum()
    wide = asked[asked["distinct"] >= _SWEPT_REGISTERS]
    found = []
    for client, server in wide.groupby(pair)["count"].sum().index:
        rows = wide[(wide["src"] == client) & (wide["dst"] == server)]
        requests = int(rows["count"].sum())
        # A master with a wrong register map is refused too, but asks for the same few again and again.
        share = min(int(refused.get((client, server), 0)) / requests, 1.0)
        if share < _SWEPT_REFUSED_SHARE:
            continue
        values: dict[str, Value] = {
            "client": scene.name(str(client)),
            "server": scene.name(str(server)),
            "registers": int(rows["distinct"].max()),
            "requests": requests,
            "refused_share": share,
            "sample_s": SAMPLE_S,
        }
        fact = make_fact("sweep", _SAYS["sweep"], values)
        found.append(Evident(str(client), "recon", "source", fact, (str(server),), _slots(rows)))
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


def _slots(rows: pd.DataFrame) -> np.ndarray:
    return np.unique(rows["slot"].to_numpy(np.int64))
