"""What an outage does to flows: sessions end early, clients try again in vain, and long sessions
come back afterwards.

before    |==================session==================|
outage            |xxxxxxxxxxxxxxxxxxx|
after     |=======|  S0    S0      S0   |=============|
"""

import numpy as np
import pandas as pd

from traffic.simulation.distributions import beats, between, lognormal, pauses
from traffic.simulation.flows import Ledger, attempt, refuse, session
from traffic.simulation.scenario import Scene, busiest, coming_from, going_to, inside, speaking

LONG_S = (
    60.0  # a session this long is opened again after the outage; a shorter one is simply missed
)


_COUNTS = ["orig_bytes", "resp_bytes", "orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes"]


def _part(rows: pd.DataFrame, start_s: np.ndarray, end_s: np.ndarray) -> pd.DataFrame:
    """The share of each flow that passes between two times: counts in proportion, at least one
    packet a side."""
    duration = rows["duration"].fillna(0).to_numpy(float)
    share = np.clip((end_s - start_s) / np.maximum(duration, 1e-6), 0, 1)
    part = {column: np.ceil(rows[column].to_numpy(float) * share) for column in _COUNTS}
    for side in ("orig", "resp"):  # a packet is no shorter than its header
        part[f"{side}_ip_bytes"] = np.maximum(part[f"{side}_ip_bytes"], 28.0 * part[f"{side}_pkts"])
    lone = part["orig_pkts"] + part["resp_pkts"] <= 1
    part["duration"] = np.maximum(end_s - start_s, 1e-3)
    for column in ("duration", "orig_bytes", "resp_bytes"):
        part[column] = np.where(lone, np.nan, part[column])  # Zeek's words for a single packet
    return rows.assign(ts=start_s, exchanges=rows["exchanges"].to_numpy(float) * share, **part)


def interrupt(
    scene: Scene, hit: np.ndarray, start_s: float, end_s: float, how: str, port: int | None = None
) -> pd.DataFrame:
    """Take the flows marked by ``hit`` away from an interval, and let their clients notice.

    Args:
        scene: its flows and notes are replaced.
        hit: shape (n_flows,), which flows the outage concerns.
        start_s: first second of the outage; ``end_s`` its end.
        how: ``gone`` (nobody tries), ``silent`` (SYNs unanswered), ``absent`` (not even ARP is
            answered), ``refused`` (reset).
        port: the port that the attempts go to, if not that of the flows.

    Returns:
        The failed attempts: ``ts src dst``, one row each.
    """
    flows, rng = scene.flows, scene.stage.rng
    ts = flows["ts"].to_numpy(float)
    duration = flows["duration"].fillna(0).to_numpy(float)
    end = ts + duration
    over = hit & (ts < end_s) & (end >= start_s)
    rows, at, until = flows[over], ts[over], end[over]
    cut, lasting = at < start_s, (until > end_s) & (duration[over] > LONG_S)
    kept = [flows[~over]]
    if cut.any():
        kept.append(_ended(_part(rows[cut], at[cut], np.full(cut.sum(), start_s)), how))
    if lasting.any():
        again = end_s + rng.uniform(0.3, min(40, 2 + end_s - start_s), int(lasting.sum()))
        later = again < until[lasting]
        tail = _part(rows[lasting][later], again[later], until[lasting][later])
        kept.append(tail.assign(**{"id.orig_p": rng.integers(32768, 60999, len(tail))}))
    scene.notes = _without(scene.notes, rows, start_s, end_s)
    tried = Ledger(rng)
    failed = pd.DataFrame({"ts": [], "src": [], "dst": []})
    if how != "gone":
        failed = _retries(scene, tried, rows, start_s, end_s, how, port)
    scene.flows = pd.concat(
        [part for part in (*kept, tried.flow_table()) if len(part)], ignore_index=True
    )
    return failed


def _ended(head: pd.DataFrame, how: str) -> pd.DataFrame:
    """How a session looks that the outage ended: reset by a live host, or left open with
    retransmissions."""
    tcp = (head["proto"] == "tcp").to_numpy()
    state, story = ("RSTR", "ShADadr") if how == "refused" else ("S1", "ShADadT")
    opened = tcp & head["history"].str.startswith("Sh").to_numpy(bool)
    return head.assign(
        conn_state=np.where(opened, state, head["conn_state"]),
        history=np.where(opened, story, head["history"]),
    )


def _without(notes: pd.DataFrame, rows: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    pairs = set(zip(rows["id.orig_h"], rows["id.resp_h"], strict=True))
    inside = ((notes["ts"] >= start_s) & (notes["ts"] < end_s)).to_numpy(bool, copy=True)
    within = notes[inside]
    concerned = [pair in pairs for pair in zip(within["src"], within["dst"], strict=True)]
    inside[inside] = concerned
    return notes[~inside] if any(concerned) else notes


def _retries(
    scene: Scene,
    tried: Ledger,
    rows: pd.DataFrame,
    start_s: float,
    end_s: float,
    how: str,
    port: int | None,
) -> pd.DataFrame:
    """Attempts of the clients during the outage: at each missed start, or by a policy for a session
    that was cut."""
    rng = scene.stage.rng
    ts, duration = rows["ts"].to_numpy(float), rows["duration"].fillna(0).to_numpy(float)
    short = (ts >= start_s) & (duration <= LONG_S)
    index, times = [np.flatnonzero(short)], [ts[short]]
    for i in np.flatnonzero(~short & (rows["proto"] == "tcp").to_numpy()):
        first, last = max(ts[i], start_s) + rng.uniform(0.5, 20), min(ts[i] + duration[i], end_s)
        again = pauses(rng, first, last)
        index.append(np.full(len(again), i))
        times.append(again)
    chosen = rows.iloc[np.concatenate(index)].assign(ts=np.concatenate(times))
    chosen = chosen[chosen["id.orig_h"] != chosen["id.resp_h"]]
    seen = _asked_by_arp(scene, chosen, start_s) if how == "absent" else np.ones(len(chosen), bool)
    tcp = (chosen["proto"] == "tcp").to_numpy()
    knock = chosen[seen & tcp]
    where = knock["id.resp_p"].to_numpy() if port is None else port
    given = {
        "orig": knock["id.orig_h"].to_numpy(),
        "resp": knock["id.resp_h"].to_numpy(),
        "port": where,
    }
    if how == "refused":
        refuse(tried, knock["ts"].to_numpy(), **given)
    else:
        attempt(tried, knock["ts"].to_numpy(), **given, tries=knock["tries"].to_numpy())
    _unanswered(tried, chosen[seen & ~tcp])
    return pd.DataFrame(
        {"ts": chosen["ts"], "src": chosen["id.orig_h"], "dst": chosen["id.resp_h"]}
    )


def _asked_by_arp(scene: Scene, chosen: pd.DataFrame, start_s: float) -> np.ndarray:
    """Note the ARP questions; once a client has forgotten the address, nothing else of it is on the
    wire."""
    rng = scene.stage.rng
    forgotten = chosen["ts"].to_numpy(float) > start_s + rng.uniform(3, 60)
    asked = chosen[forgotten]
    note = Ledger(rng)
    for kind in ("arp_request", "arp_unanswered"):
        many = rng.integers(1, 4, len(asked))
        note.note(
            asked["ts"].to_numpy(),
            asked["id.orig_h"].to_numpy(),
            asked["id.resp_h"].to_numpy(),
            kind,
            count=many,
        )
    scene.notes = pd.concat([scene.notes, note.evidence_table()], ignore_index=True)
    return ~forgotten if rng.random() < 0.8 else np.ones(len(chosen), bool)


def _unanswered(tried: Ledger, rows: pd.DataFrame) -> None:
    """Datagrams and pings whose answer never came."""
    if not len(rows):
        return
    several = rows["orig_pkts"].to_numpy(float) > 1
    silent = rows[rows["orig_pkts"].to_numpy(float) > 0].assign(resp_pkts=0.0, resp_ip_bytes=0.0)
    several = silent["orig_pkts"].to_numpy(float) > 1
    for column in ("duration", "orig_bytes", "resp_bytes"):
        silent[column] = np.where(several, silent[column], np.nan)
    silent["resp_bytes"] = np.where(several, 0.0, np.nan)
    udp = (silent["proto"] == "udp").to_numpy()
    silent["conn_state"] = np.where(udp, "S0", silent["conn_state"])
    silent["history"] = np.where(udp, "D", silent["history"])
    tried.flows.append({name: silent[name].to_numpy() for name in silent.columns})


def clipped(flows: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    """What a capture of [start, end) sees: sessions lose the part, and the SYN, from before it."""
    ts = flows["ts"].to_numpy(float)
    end = ts + flows["duration"].fillna(0).to_numpy(float)
    early, late = (ts < start_s) & (end > start_s), (ts >= start_s) & (ts < end_s) & (end >= end_s)
    inside = (ts >= start_s) & (end < end_s)
    last = np.full(len(flows), end_s - 1e-3)
    head = _part(flows[early], np.full(early.sum(), start_s + 1e-3), np.minimum(end, last)[early])
    head["ts"] = head["ts"] + np.arange(len(head)) % 997 * 1e-2 % 5
    head["duration"] = np.maximum(np.minimum(end, last)[early] - head["ts"], 1e-3)
    known = (head["proto"] == "tcp").to_numpy() & head["history"].str.startswith("Sh").to_numpy(
        bool
    )
    head["conn_state"] = np.where(known, "OTH", head["conn_state"])
    head["history"] = np.where(known, "DdAa", head["history"])
    tail = _part(flows[late], ts[late], last[late])
    opened = (tail["proto"] == "tcp").to_numpy() & tail["history"].str.startswith("Sh").to_numpy(
        bool
    )
    tail["conn_state"] = np.where(opened, "S1", tail["conn_state"])
    tail["history"] = np.where(opened, "ShADad", tail["history"])
    return pd.concat([flows[inside], head, tail], ignore_index=True).sort_values(
        "ts", kind="stable", ignore_index=True
    )


# Misconfigurations: a wrong gateway, port, host, unit, password, or an address given twice.


def misconfiguration(scene: Scene, start_s: float, end_s: float) -> None:
    """Someone typed the wrong thing; often it has been wrong since before the capture."""
    rng = scene.stage.rng
    if rng.random() < 0.5:
        start_s = scene.stage.start_s
    ways = [_wrong_gateway, _wrong_port, _wrong_host]
    if scene.packets:
        ways += [_wrong_unit, _wrong_password, _same_address]
    for i in rng.permutation(len(ways)):
        if ways[i](scene, start_s, end_s):
            return


def _wrong_gateway(scene: Scene, start_s: float, end_s: float) -> bool:
    """Everything beyond the router stays unanswered; the wrong gateway does not answer ARP, or is a
    host that drops."""
    rng = scene.stage.rng
    outward = ~inside(scene, "id.resp_h") & ~scene.flows["id.resp_h"].str.match(
        r"(22[4-9]|23\d|255|ff|fe8)"
    ).to_numpy(bool)
    device = busiest(scene, outward & inside(scene, "id.orig_h"), "id.orig_h", start_s, end_s)
    if device is None:
        return False
    cause = f"{device} has the wrong gateway"
    failed = interrupt(scene, outward & coming_from(scene, device), start_s, end_s, "silent")
    if scene.packets and rng.random() < 0.7:
        wrong = scene.stage.network + str(rng.integers(2, 255))
        _ask_in_vain(scene, failed["ts"].to_numpy(), device, wrong)
        if rng.random() < 0.7:  # nothing leaves while ARP stays unanswered
            lost = (
                coming_from(scene, device)
                & scene.flows["ts"].isin(failed["ts"]).to_numpy()
                & ~inside(scene, "id.resp_h")
            )
            scene.flows = scene.flows[~lost].reset_index(drop=True)
    scene.tell_touched(
        failed["src"], failed["ts"], "misconfiguration", "source", cause, join_s=end_s - start_s
    )
    return bool(len(failed))


def _ask_in_vain(scene: Scene, ts: np.ndarray, src: str, dst: str) -> None:
    many = scene.stage.rng.integers(1, 4, len(ts))
    for kind in ("arp_request", "arp_unanswered"):
        scene.note(ts, src, dst, kind, count=many)


def _wrong_port(scene: Scene, start_s: float, end_s: float) -> bool:
    rng = scene.stage.rng
    near = speaking(scene, "tcp") & inside(scene, "id.resp_h")
    client = busiest(scene, near, "id.orig_h", start_s, end_s)
    if client is None:
        return False
    server = str(rng.choice(scene.flows.loc[near & coming_from(scene, client), "id.resp_h"]))
    port = int(rng.choice([501, 503, 1884, 8081, 4841, int(rng.integers(1024, 65535))]))
    failed = interrupt(
        scene,
        near & coming_from(scene, client) & going_to(scene, server),
        start_s,
        end_s,
        "refused",
        port,
    )
    cause = f"{client} calls port {port} of {server}, which is the wrong one"
    scene.tell_touched(
        failed["src"], failed["ts"], "misconfiguration", "source", cause, join_s=end_s - start_s
    )
    scene.tell_touched(
        failed["dst"], failed["ts"], "misconfiguration", "target", cause, join_s=end_s - start_s
    )
    return bool(len(failed))


def _wrong_host(scene: Scene, start_s: float, end_s: float) -> bool:
    """A client calls an address of the plant that nobody has."""
    rng, stage = scene.stage.rng, scene.stage
    client = busiest(scene, speaking(scene, "tcp"), "id.orig_h", start_s, end_s)
    if client is None:
        return False
    used = {device.address for device in stage.plant.devices}
    wrong = str(
        rng.choice(
            [stage.network + str(i) for i in range(2, 254) if stage.network + str(i) not in used]
        )
    )
    ts = (
        beats(rng, start_s, end_s, between(rng, 1, 30), 0.1)
        if rng.random() < 0.6
        else pauses(rng, start_s, end_s)
    )
    if scene.packets:
        _ask_in_vain(scene, ts, client, wrong)
    if not scene.packets or rng.random() < 0.2:
        tried = Ledger(rng)
        attempt(
            tried,
            ts,
            client,
            wrong,
            int(rng.choice([502, 1883, 445, 80, 4840])),
            tries=stage.tries(client),
        )
        scene.flows = pd.concat([scene.flows, tried.flow_table()], ignore_index=True)
    felt = pd.Series(np.full(len(ts), client, object))
    scene.tell_touched(
        felt,
        pd.Series(ts),
        "misconfiguration",
        "source",
        f"{client} calls {wrong}, which does not exist",
        join_s=end_s - start_s,
    )
    return bool(len(ts))


def _wrong_unit(scene: Scene, start_s: float, end_s: float) -> bool:
    rng = scene.stage.rng
    modbus = (scene.flows["app"] == "modbus").to_numpy()
    client = busiest(scene, modbus, "id.orig_h", start_s, end_s)
    if client is None:
        return False
    server = str(rng.choice(scene.flows.loc[modbus & coming_from(scene, client), "id.resp_h"]))
    ts = beats(rng, start_s, end_s, between(rng, 0.3, 10), 0.05)
    scene.note(ts, client, server, "modbus_exception", code=int(rng.choice([10, 11, 11])))
    cause = f"{client} asks {server} for a unit that does not exist"
    scene.tell(client, start_s, end_s, "misconfiguration", "source", cause)
    scene.tell(server, start_s, end_s, "misconfiguration", "target", cause)
    return True


def _wrong_password(scene: Scene, start_s: float, end_s: float) -> bool:
    rng = scene.stage.rng
    mqtt = (scene.flows["id.resp_p"].isin([1883, 8883])).to_numpy() & inside(scene, "id.resp_h")
    client = busiest(scene, mqtt, "id.orig_h", start_s, end_s)
    if client is None:
        return False
    hit = mqtt & coming_from(scene, client)
    broker = str(scene.flows.loc[hit, "id.resp_h"].iloc[0])
    interrupt(scene, hit, start_s, end_s, "gone")
    ts = (
        beats(rng, start_s, end_s, between(rng, 1, 60), 0.1)
        if rng.random() < 0.6
        else pauses(rng, start_s, end_s)
    )
    tried = Ledger(rng)
    given = {
        "duration": lognormal(rng, 0.05, 0.6, len(ts)),
        "ask_bytes": 60,
        "answer_bytes": 4,
        "service": "mqtt",
        "app": "mqtt",
    }
    session(
        tried,
        ts,
        client,
        broker,
        1883,
        ending={"closed_by_server": 1, "reset_server": 0.3},
        **given,
    )
    scene.note(ts, client, broker, "mqtt_refused", code=int(rng.choice([4, 5])))
    scene.flows = pd.concat([scene.flows, tried.flow_table()], ignore_index=True)
    felt = tried.flow_table()
    cause = f"{client} has the wrong password for {broker}"
    scene.tell_touched(
        felt["id.orig_h"], felt["ts"], "misconfiguration", "source", cause, join_s=end_s - start_s
    )
    scene.tell_touched(
        felt["id.resp_h"], felt["ts"], "misconfiguration", "target", cause, join_s=end_s - start_s
    )
    return bool(len(ts))


def _same_address(scene: Scene, start_s: float, end_s: float) -> bool:
    """Two machines were given one address: both claim it, and its sessions break."""
    rng = scene.stage.rng
    device = busiest(
        scene, speaking(scene, "tcp") & inside(scene, "id.resp_h"), "id.resp_h", start_s, end_s
    )
    if device is None:
        return False
    ts = beats(rng, start_s, end_s, between(rng, 5, 45), 0.5)
    scene.note(ts, device, device, "arp_conflict", count=rng.integers(1, 4, len(ts)), distinct=2)
    for at in rng.choice(ts, size=min(len(ts), int(rng.integers(0, 6))), replace=False):
        interrupt(
            scene, going_to(scene, device), float(at), float(at) + rng.uniform(2, 15), "refused"
        )
    scene.tell(
        device,
        start_s,
        end_s,
        "misconfiguration",
        "source",
        f"a second machine uses the address {device}",
    )
    return True
