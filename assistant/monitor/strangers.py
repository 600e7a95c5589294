"""First signs of who does what he never did: writes, walks through ports or registers, logs in, calls
outside, sends much there."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from assistant.detection.rules.outside import ORDINARY
from assistant.facts.contacts import known_since
from assistant.facts.fact import by_count
from assistant.monitor.newest import LEAST_PAST_S, Newest, Sign
from traffic.capture import SAMPLE_S
from traffic.plant import is_group

_NEW_S = 20.0  # who wrote within so long of the first word to a server came to write
_ENDPOINTS = 5  # that are new to who tries them, in vain
_LOGINS, _LOGIN_PORTS = 3, (21, 22, 23, 3389, 5900)
# Whose servers keep values at addresses; a machine that starts asks a resolver for many names.
_ADDRESSED = ("modbus", "s7comm", "enip", "bacnet", "iec104", "dnp3", "opcua")
_ASKED, _ONCE = 12, 1.5  # different questions of who came to ask, each so often at most
_BLIND_SHARE, _WAYS, _BLIND_PLACES = 0.25, 3, 6
_SENT_BYTES, _MORE_SENT = 50e3, 4.0
# What is hard to explain away; single calls have many harmless causes.
_HARD_LOGINS, _HARD_ENDPOINTS, _HARD_ASKED, _HARD_SENT_BYTES = 6, 8, 24, 200e3
# A burst: who came to write and does little else. It needs less of a past than whether a writer is new.
_BURST, _BURST_SHARE, _BURST_PAST_S = 20, 0.5, 30.0


def find_writers(seen: Newest) -> Iterator[Sign]:
    """Who never spoke with a server, and comes to write to it."""
    view = seen.view
    named = {one.address for one in view.plant.devices}
    for row in view.writes.itertuples():
        client, server = str(row.client), str(row.server)
        since_s = float(row.since_s)
        if since_s < seen.since_s or client in view.allowed_writers.get(server, ()):
            continue
        flows = view.flows_of(client)
        met_s = float(flows.loc[flows["other"] == server, "since_s"].min())
        burst = row.count >= _BURST and row.count >= _BURST_SHARE * _count_asked(
            seen, client, server
        )
        past_s = _BURST_PAST_S if burst else LEAST_PAST_S
        if met_s < max(since_s - _NEW_S, view.start_s + past_s) or server not in view.own:
            continue
        sign = seen.sign(
            "writes", "unauthorized_command", client, (server,), since_s,
            client=view.name_of(client), server=view.name_of(server), writes=int(row.count),
        )  # fmt: skip
        # A plant that names its devices, or who may write, knows who this is not.
        hard = burst or server in view.allowed_writers or bool(named and client not in named)
        yield replace(sign, count=int(row.count), hard=hard)


def _count_asked(seen: Newest, client: str, server: str) -> int:
    """How much a client asked a server, reading and writing."""
    rows = seen.view.exchanges
    return int(((rows["client"] == client) & (rows["server"] == server)).sum())


def find_sweepers(seen: Newest) -> Iterator[Sign]:
    """Who never spoke with a server, and asks it one thing after the other, each hardly twice."""
    view = seen.view
    rows = view.exchanges
    rows = rows[
        rows["kind"].isin(["read", "other"]) & ~rows["outcome"].isin(["unasked", "malformed"])
    ]
    rows = rows[rows["server"].isin(view.own) & rows["protocol"].isin(_ADDRESSED)]
    each = rows.groupby(["client", "server"], observed=True)["ts"].agg(["min", "size"])
    new = each[(each["min"] >= seen.since_s) & (each["size"] >= _ASKED)]
    for client, server in new.index:
        flows = view.flows_of(client)
        met_s = float(flows.loc[flows["other"] == server, "since_s"].min())
        if met_s < max(seen.since_s - _NEW_S, view.start_s + LEAST_PAST_S):
            continue
        mine = rows[(rows["client"] == client) & (rows["server"] == server)]
        asked = len(mine[["function", "unit", "target", "name"]].drop_duplicates())
        if asked < _ASKED or len(mine) > _ONCE * asked:
            continue
        sign = seen.sign(
            "sweeps", "recon", str(client), (str(server),), float(mine["ts"].min()),
            client=view.name_of(str(client)), server=view.name_of(str(server)), asked=asked,
            requests=len(mine),
        )  # fmt: skip
        yield replace(sign, count=asked, hard=asked >= _HARD_ASKED and _is_blind(mine))


def _is_blind(rows: pd.DataFrame) -> bool:
    """Whether who asks does not know the device: much is refused, or the same places are asked for in
    several ways. Who reads all of a device for the first time knows which way each is read."""
    ways = rows.groupby(["unit", "target"])["function"].nunique()
    refused = float((rows["outcome"] == "refused").mean())
    return refused >= _BLIND_SHARE or int((ways >= _WAYS).sum()) >= _BLIND_PLACES


def find_lookers(seen: Newest) -> Iterator[Sign]:
    """Who tries ports that it never tried before, one after the other, and gets none of them."""
    rows = seen.view.flow_slots
    rows = rows[(rows["proto"] == "tcp") & (rows["syns"] > 0) & rows["dst"].isin(seen.view.own)]
    each = rows.groupby(["src", "dst", "port"]).agg(
        since_s=("since_s", "min"), good=("answered", "any")
    )
    new = each[(each["since_s"] >= seen.since_s) & ~each["good"]].reset_index()
    for source, mine in new.groupby("src"):
        if len(mine) < _ENDPOINTS:
            continue
        hosts = by_count(mine["dst"].astype(str))
        sign = seen.sign(
            "looks", "recon", str(source), hosts[:20], float(mine["since_s"].min()),
            source=seen.view.name_of(str(source)), endpoints=len(mine), hosts=len(hosts),
        )  # fmt: skip
        yield replace(sign, count=len(mine), hard=len(mine) >= _HARD_ENDPOINTS)


def find_logins(seen: Newest) -> Iterator[Sign]:
    """Who opens connection after connection where people log in, and never went there before."""
    view = seen.view
    rows = view.flow_slots
    rows = rows[(rows["proto"] == "tcp") & rows["port"].isin(_LOGIN_PORTS) & (rows["syns"] > 0)]
    rows = rows[rows["dst"].isin(view.own)]
    for (client, server, port), mine in rows.groupby(["src", "dst", "port"]):
        since_s, opened = float(mine["since_s"].min()), mine["attempt"].nunique()
        if since_s < max(seen.since_s, view.start_s + LEAST_PAST_S) or opened < _LOGINS:
            continue
        sign = seen.sign(
            "logins", "brute_force", str(client), (str(server),), since_s, client=view.name_of(str(client)),
            service=view.port_at(str(server), int(port)), opened=opened,
        )  # fmt: skip
        yield replace(sign, count=opened, hard=opened >= _HARD_LOGINS)


def find_calls_out(seen: Newest) -> Iterator[Sign]:
    """Devices that call an outside address for the first time, though nobody told them its name."""
    view = seen.view
    rows = view.flow_slots
    rows = rows[(rows["proto"] == "tcp") & (rows["syns"] > 0) & rows["src"].isin(view.local)]
    rows = rows[~rows["dst"].isin(view.own)]
    since = rows.groupby(["src", "dst"])["since_s"].min()
    asked = view.evidence_of_kind("dns_query")
    new = since[since >= max(seen.since_s, view.start_s + LEAST_PAST_S)]
    for (device, target), since_s in new.items():
        slot = int(since_s // SAMPLE_S)
        mine = asked[(asked["src"] == device) & asked["slot"].between(slot - 6, slot)]
        if len(mine) or is_group(str(target)):
            continue
        yield seen.sign(
            "calls_out", "c2", str(device), (str(target),), float(since_s),
            device=view.name_of(str(device)), target=view.name_of(str(target)),
        )  # fmt: skip


def find_uploads(seen: Newest) -> Iterator[Sign]:
    """Devices that open a connection to an outside address which they never called before, at a port
    of no ordinary service, and send much there.

    At an ordinary port a camera does that whenever it sees somebody, and the look-up that led it there
    may lie before all that is looked back at: there the rule waits for more.
    """
    view = seen.view
    rows = view.flow_slots
    rows = rows[
        (rows["proto"] == "tcp") & rows["src"].isin(view.local) & ~rows["dst"].isin(view.own)
    ]
    ends = rows.assign(usual=rows["port"].isin(ORDINARY)).groupby(["src", "dst"])
    each = ends.agg(
        since_s=("since_s", "min"), sent=("src_bytes", "sum"), got=("dst_bytes", "sum"),
        answered=("answered", "any"), opened=("syns", "sum"), usual=("usual", "any"),
    )  # fmt: skip
    much = (each["sent"] >= _SENT_BYTES) & (each["sent"] >= _MORE_SENT * each["got"])
    new = each["since_s"] >= max(seen.since_s, view.start_s + LEAST_PAST_S)
    fits = much & new & each["answered"] & (each["opened"] > 0) & ~each["usual"]
    for (device, target), one in each[fits].iterrows():
        known_s = float(one["since_s"]) - known_since(view, str(device))
        if known_s < LEAST_PAST_S or is_group(str(target)):
            continue
        sign = seen.sign(
            "uploads", "exfiltration", str(device), (str(target),), float(one["since_s"]),
            device=view.name_of(str(device)), target=view.name_of(str(target)),
            sent_bytes=float(one["sent"]), got_bytes=float(one["got"]),
        )  # fmt: skip
        yield replace(sign, count=int(one["sent"]), hard=bool(one["sent"] >= _HARD_SENT_BYTES))
