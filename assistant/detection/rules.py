"""Conditions that need no model: hard evidence that something is broken, each conservative enough
to raise an incident.

Every rule asks for need and for silence: somebody who keeps asking, and nobody who answers from
then on. A router that walks through its address pool asks once for each; a machine that was
switched on later was never silent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.facts.fact import Fact, Value, listed, make_fact
from assistant.facts.traffic_view import Scene
from traffic.capture import SAMPLE_S
from traffic.plant import is_group


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


def slots_of(rows: pd.DataFrame) -> np.ndarray:
    """The distinct slots of evidence rows or moves, sorted, int64."""
    return np.unique(rows["slot"].to_numpy(np.int64))


# Faults that are evident: an address that nobody answers at, a mute resolver, a service that
# answers nobody.
#
# A service and its clients, oldest first; an answer by anybody ends what failed before:
#
# a a a f f f f f f a a f a a a      a: answered, f: failed
# |- an outage -|   | one failure is an accident

_MIN_REQUESTS = 3  # by one asker
_TRIES = (
    6,
    3,
)  # one try is up to three requests within seconds; more requests, or more slots, are more tries
_WALKER = 8  # who asks for more absent addresses than this is looking around, not in need
_MIN_FAILURES = 5
_MIN_FAILING_S = 60.0
_MIN_CLIENTS = 2  # several: one alone may have asked for what nobody knows, or be an intruder whom nobody lets in
_MIN_SURE_S = 25.0  # where several fail

_FAULT_WORDS = {
    "absent": "Nobody answers at {address}: {asked:ARP request} for it by {askers} stayed without a reply.",
    "strayed": "{askers} asks for {address}, which no device of the plant has: {asked:ARP request} for it stayed "
    "without a reply.",
    "misled": "{askers} ask for {address}, which no device of the plant has, and {resolver} tells all of them names: "
    "{asked:ARP request} for it stayed without a reply.",
    "resolver": "The resolver {failing} answers nobody: {failed:question} from {clients} stayed without a reply since "
    "{since_time_s}.",
    "resolver, over": "The resolver {failing} answered nobody from {since_time_s} to {until_time_s}: "
    "{failed:question} from {clients} stayed without a reply.",
    "refusing": "{failing} has answered nobody since {since_time_s}: {failed:attempt} by {clients} failed, and before "
    "that it did answer.",
    "refusing, over": "{failing} answered nobody from {since_time_s} to {until_time_s}: {failed:attempt} by {clients} "
    "failed; before that and afterwards it did answer.",
}


def find_absent_addresses(scene: Scene) -> list[Evident]:
    """Addresses that somebody needs and that never answer from then on.

    What the inventory does not know and nobody ever heard is no device that fell silent: who asks
    for it was set so, or was told so by the resolver that all who ask have in common.
    """
    rows = scene.evidence[scene.evidence["kind"] == "arp_unanswered"]
    rows = rows[(rows["src"] != rows["dst"]) & (rows["src"] != "0.0.0.0")]  # noqa: S104 (RFC 5227: a probe, no need)
    if rows.empty:
        return []
    heard = rows["dst"].map(_last_heard(scene)).fillna(-1)
    rows = rows[rows["slot"] > heard]
    known = {device.address for device in scene.plant.devices} if scene.plant else set()
    walkers = rows.groupby("src")["dst"].nunique()
    needed = (
        rows["dst"].isin(known) | (heard[rows.index] >= 0) | (rows["src"].map(walkers) <= _WALKER)
    )
    rows = rows[needed]
    tries = rows.groupby(["src", "dst"]).agg(count=("count", "sum"), slots=("slot", "nunique"))
    tries = tries[
        (tries["count"] >= _MIN_REQUESTS)
        & ((tries["count"] >= _TRIES[0]) | (tries["slots"] >= _TRIES[1]))
    ]
    found = []
    for address in tries.index.get_level_values("dst").unique():
        asking = rows[rows["dst"] == address]
        foreign = bool(known) and address not in known and heard[asking.index].max() < 0
        found.append(
            (foreign and _mistaken(scene, str(address), asking))
            or _absent(scene, str(address), asking)
        )
    return found


def _last_heard(scene: Scene) -> pd.Series:
    """Last slot in which each address sent a packet, asked for another or answered a request;
    index: addresses."""
    moves, evidence = scene.moves, scene.evidence
    asked = evidence[evidence["kind"] == "arp_request"].groupby(["slot", "dst"])["count"].sum()
    vain = evidence[evidence["kind"] == "arp_unanswered"].groupby(["slot", "dst"])["count"].sum()
    answered = asked.sub(vain, fill_value=0)
    replied = answered[answered > 0].reset_index()
    signs = [
        moves.loc[moves["src_pkts"] > 0, ["src", "slot"]].set_axis(["who", "slot"], axis=1),
        moves.loc[moves["dst_pkts"] > 0, ["dst", "slot"]].set_axis(["who", "slot"], axis=1),
        evidence.loc[evidence["kind"] == "arp_request", ["src", "slot"]].set_axis(
            ["who", "slot"], axis=1
        ),
        replied[["dst", "slot"]].set_axis(["who", "slot"], axis=1),
    ]
    return pd.concat(signs).groupby("who")["slot"].max()


def _absent(scene: Scene, address: str, rows: pd.DataFrame) -> Evident:
    askers = _askers(rows)
    fact = make_fact("absent", _FAULT_WORDS["absent"], _asking_values(scene, address, rows, askers))
    return Evident(address, "device_silent", "source", fact, askers, slots_of(rows))


def _mistaken(scene: Scene, address: str, rows: pd.DataFrame) -> Evident | None:
    """Who is to blame that somebody asks for an address that is nobody's; None where nothing
    tells."""
    askers = _askers(rows)
    values = _asking_values(scene, address, rows, askers)
    if len(askers) == 1:
        fact = make_fact("strayed", _FAULT_WORDS["strayed"], values)
        return Evident(askers[0], "misconfiguration", "source", fact, (address,), slots_of(rows))
    resolver = _common_resolver(scene, askers)
    if resolver is None:
        return None
    fact = make_fact("misled", _FAULT_WORDS["misled"], values | {"resolver": scene.name(resolver)})
    return Evident(resolver, "name_resolution", "source", fact, askers, slots_of(rows))


def _common_resolver(scene: Scene, askers: tuple[str, ...]) -> str | None:
    asked = _questions(scene)
    told = asked[asked["answered"] & asked["src"].isin(askers)]
    clients = told.groupby("dst")["src"].nunique()
    common = clients.index[clients == len(askers)]
    return str(common[0]) if len(common) else None


def _questions(scene: Scene) -> pd.DataFrame:
    """The moves of DNS."""
    return scene.moves[(scene.moves["port"] == 53) & (scene.moves["proto"] == "udp")]


def _askers(rows: pd.DataFrame) -> tuple[str, ...]:
    return tuple(map(str, rows.groupby("src")["count"].sum().sort_values(ascending=False).index))


def _asking_values(
    scene: Scene, address: str, rows: pd.DataFrame, askers: tuple[str, ...]
) -> dict[str, Value]:
    return {
        "address": scene.name(address),
        "asked": int(rows["count"].sum()),
        "askers": listed(map(scene.name, askers)),
    }


def find_mute_resolvers(scene: Scene) -> list[Evident]:
    """Resolvers that answer none of their clients for a while, where these have no other that
    answers."""
    asked = _questions(scene)
    found = []
    for resolver, rows in asked.groupby("dst"):
        elsewhere = asked[(asked["dst"] != resolver) & asked["answered"]]
        # Who has another resolver that answers does not need this one.
        needing = rows[rows["answered"] | ~rows["src"].isin(elsewhere["src"])]
        for failing, over in _outages(needing):
            if over and failing["src"].nunique() < _MIN_CLIENTS:
                continue
            label = (
                "device_silent"
                if _is_sought(scene, str(resolver), failing["slot"])
                else "name_resolution"
            )
            found.append(
                _failure(
                    scene,
                    str(resolver),
                    label,
                    "resolver",
                    scene.name(str(resolver)),
                    failing,
                    over,
                )
            )
    return found


def find_failing_services(scene: Scene) -> list[Evident]:
    """Ports of the plant's own servers that answer at times, and for a while answer nobody."""
    moves = scene.moves
    ours = moves[(moves["proto"] == "tcp") & moves["dst"].isin(scene.samples["device"].unique())]
    # A session whose server has died goes on being asked: only a slot in which the server speaks
    # shows that it works.
    tried = ours[np.where(ours["answered"], ours["dst_pkts"] > 0, ours["syns"] > 0)]
    worked = tried.groupby(["dst", "port"])["answered"].agg(["any", "all"])
    found = []
    for server, port in worked.index[worked["any"] & ~worked["all"]]:
        for failing, over in _outages(tried[(tried["dst"] == server) & (tried["port"] == port)]):
            down = not failing["refused"].any() and not _lives(
                scene, str(server), failing["slot"], over
            )
            label = "device_silent" if down else "service_down"
            named = scene.port_at(str(server), int(port))
            found.append(_failure(scene, str(server), label, "refusing", named, failing, over))
    return found


def _is_sought(scene: Scene, device: str, slots: pd.Series) -> bool:
    """Whether ARP requests for a device stayed without a reply meanwhile: it is gone, not only its
    program."""
    rows = scene.evidence[
        (scene.evidence["kind"] == "arp_unanswered") & (scene.evidence["dst"] == device)
    ]
    return bool(rows["slot"].between(slots.min(), slots.max()).any())


def _lives(scene: Scene, device: str, slots: pd.Series, over: bool) -> bool:
    """Whether a device sent anything inside an outage; at its edges it may have been up."""
    first, last = slots.min() + 1, slots.max() - 1 if over else np.inf
    moves, evidence = scene.moves, scene.evidence
    sent = ((moves["src"] == device) & (moves["src_pkts"] > 0)) | (
        (moves["dst"] == device) & (moves["dst_pkts"] > 0)
    )
    asked = (evidence["src"] == device) & (evidence["kind"] == "arp_request")
    return any(
        table.loc[of, "slot"].between(first, last).any()
        for table, of in ((moves, sent), (evidence, asked))
    )


def _outages(rows: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, bool]]:
    """Attempts in a row that all failed, where they are many and last; and whether one was answered
    afterwards.

    What answers later and never before was switched on meanwhile.
    """
    rows = rows.sort_values("since_s", kind="stable")
    answers = rows["answered"].cumsum()
    failing = rows[~rows["answered"]]
    for count, part in failing.groupby(answers[failing.index]):
        over = bool(count < answers.max())
        if (count > 0 or not over) and _lasts(part):
            yield part, over


def _lasts(failing: pd.DataFrame) -> bool:
    if failing["attempt"].nunique() < _MIN_FAILURES:
        return False
    least_s = _MIN_SURE_S if failing["src"].nunique() >= _MIN_CLIENTS else _MIN_FAILING_S
    return bool(failing["since_s"].max() - failing["since_s"].min() >= least_s)


def _failure(
    scene: Scene, device: str, label: str, kind: str, named: str, failing: pd.DataFrame, over: bool
) -> Evident:
    """An outage as evidence: ``kind`` of fact, and how what failed is ``named``."""
    clients = _clients(failing)
    values: dict[str, Value] = {
        "failing": named,
        "failed": failing["attempt"].nunique(),
        "clients": listed(map(scene.name, clients)),
        "since_time_s": float(failing["since_s"].min()),
        **({"until_time_s": float(failing["until_s"].max())} if over else {}),
    }
    fact = make_fact(kind, _FAULT_WORDS[f"{kind}, over" if over else kind], values)
    return Evident(device, label, "source", fact, clients, slots_of(failing))


def _clients(failing: pd.DataFrame) -> tuple[str, ...]:
    return tuple(
        map(str, failing.groupby("src")["attempt"].nunique().sort_values(ascending=False).index)
    )


# Attacks that are evident: an address with two owners, a flood that nothing answers, a sweep of
# registers.

_MIN_CLAIMS = 3
_SWEPT_REGISTERS, _SWEPT_REFUSED_SHARE = (
    50,
    0.5,
)  # different ones in a sample; exceptions among the answers
# In one sample to one port, nothing coming back: a stream may go one way over UDP (video, syslog),
# never so fast.
_FLOOD_PKTS = {"tcp": 1_000, "udp": 20_000}

_ATTACK_WORDS = {
    "duplicate": "{address} is claimed by {machines:machine} at the same time ({claims:claim} seen).",
    "one_way": "{source} sent {target} at least {peak_pkts:packet} in {sample_s}, and nothing came back.",
    "sweep": "{client} asked {server} over Modbus for up to {registers:different register address} in {sample_s}, and "
    "{refused_share} of its {requests:request} got an exception: it sweeps.",
}


def find_doubled_addresses(scene: Scene) -> list[Evident]:
    """Addresses that two machines claim by turns; the address is the target, the liar may have any
    other."""
    claims = scene.evidence[scene.evidence["kind"] == "arp_conflict"]
    found = []
    for address, rows in claims.groupby("dst"):
        # One change of hardware is a replaced device or a failover; a claim that comes back is two
        # machines.
        if rows["count"].sum() < _MIN_CLAIMS and rows["slot"].nunique() < 2:
            continue
        values: dict[str, Value] = {
            "address": scene.name(str(address)),
            "machines": int(rows["distinct"].max()),
            "claims": int(rows["count"].sum()),
        }
        fact = make_fact("duplicate", _ATTACK_WORDS["duplicate"], values)
        found.append(Evident(str(address), "spoofing", "target", fact, (), slots_of(rows)))
    return found


def find_one_way_floods(scene: Scene) -> list[Evident]:
    """Floods of one port by one address, to which nothing ever came back."""
    ends = ["src", "dst", "port", "proto"]
    moves = scene.moves[~scene.moves["answered"] & scene.moves["proto"].isin(list(_FLOOD_PKTS))]
    busy = moves["src_pkts"].clip(lower=1).groupby(moves["slot"]).sum()
    moves = moves[moves["slot"].isin(busy.index[busy >= min(_FLOOD_PKTS.values())])]
    pkts = (
        moves["src_pkts"]
        .clip(lower=1)
        .groupby([moves[name] for name in [*ends, "slot"]])
        .sum()
        .reset_index()
    )
    peaks = pkts[pkts["src_pkts"] >= pkts["proto"].map(_FLOOD_PKTS).astype(float)]
    local = set(scene.samples["device"])
    found = []
    for ends_of, peak in peaks.groupby(ends):
        source, target, port = str(ends_of[0]), str(ends_of[1]), int(peak["port"].iloc[0])
        if is_group(target):
            continue
        values: dict[str, Value] = {
            "source": scene.name(source),
            "target": scene.port_at(target, port),
            "peak_pkts": int(peak["src_pkts"].max()),
            "sample_s": SAMPLE_S,
        }
        same = scene.moves[(scene.moves["src"] == source) & (scene.moves["dst"] == target)]
        near = _beside(same[same["port"] == port], peak)
        # A plant's device that floods somebody outside takes part in what others do too.
        label = "dos" if target in local else "ddos"
        device, other = (source, target) if source in local else (target, source)
        fact = make_fact("one_way", _ATTACK_WORDS["one_way"], values)
        role = "source" if source in local else "target"
        found.append(Evident(device, label, role, fact, (other,), slots_of(near)))
    return found


def find_register_sweeps(scene: Scene) -> list[Evident]:
    """Modbus clients that walk through a server's addresses and are refused most of them."""
    pair = ["src", "dst"]
    asked = scene.evidence[
        scene.evidence["kind"].isin(["modbus_read", "modbus_write", "modbus_other"])
    ]
    refused = scene.evidence[scene.evidence["kind"] == "modbus_exception"]
    wide = asked[asked["distinct"] >= _SWEPT_REGISTERS]
    found = []
    for client, server in wide.groupby(pair)["count"].sum().index:
        peaks = wide[(wide["src"] == client) & (wide["dst"] == server)]
        rows = _beside(asked[(asked["src"] == client) & (asked["dst"] == server)], peaks)
        rows = rows[rows["code"].isin(peaks["code"])]
        answers = refused[
            (refused["src"] == client)
            & (refused["dst"] == server)
            & refused["slot"].isin(rows["slot"])
        ]
        requests = int(rows["count"].sum())
        # A master with a wrong register map is refused too, but asks for the same few again and
        # again.
        share = min(float(answers["count"].sum()) / requests, 1.0)
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
        fact = make_fact("sweep", _ATTACK_WORDS["sweep"], values)
        found.append(Evident(str(client), "recon", "source", fact, (str(server),), slots_of(rows)))
    return found


def _beside(rows: pd.DataFrame, peaks: pd.DataFrame) -> pd.DataFrame:
    """Rows in the slots of peaks and next to them: what peaks begins and ends inside a slot."""
    return rows[
        np.isin(rows["slot"], np.unique(peaks["slot"].to_numpy()[:, None] + np.arange(-1, 2)))
    ]


_RULES: tuple[Callable[[Scene], list[Evident]], ...] = (
    find_absent_addresses,
    find_doubled_addresses,
    find_mute_resolvers,
    find_failing_services,
    find_one_way_floods,
    find_register_sweeps,
)


def find_evident_in(scene: Scene) -> list[Evident]:
    """Find what needs no model: absent and doubled addresses, mute resolvers, failed services,
    floods and sweeps."""
    return [one for rule in _RULES for one in rule(scene)]
