"""Faults: what breaks in a plant without anyone's intent, and who notices.

A fault takes the scene and its time, changes the flows, and tells its truth: ``source`` for the
device from which it comes, ``target`` for those that suffer, and those only while they show it.
"""

import numpy as np
import pandas as pd

from traffic.simulation.distributions import beats, between, pauses, public_address
from traffic.simulation.flows import Ledger, attempt, exchange, session
from traffic.simulation.outages import interrupt, misconfiguration
from traffic.simulation.scenario import (
    Lossy,
    Scene,
    busiest,
    coming_from,
    going_to,
    inside,
    speaking,
    taken,
)

# Faults of lines: packets lost by a bad cable or radio link, or by a line that one device fills.


def packet_loss(scene: Scene, start_s: float, end_s: float) -> None:
    """A bad cable or radio link: 1 to 40 % of a device's packets are lost."""
    rng = scene.stage.rng
    device = busiest(
        scene,
        speaking(scene, "tcp"),
        "id.orig_h" if rng.random() < 0.5 else "id.resp_h",
        start_s,
        end_s,
    )
    if device is None:
        return
    rate = between(rng, 0.01, 0.4)
    _lose(scene, device, start_s, end_s, rate)
    cause = f"{device} loses {rate:.0%} of its packets"
    scene.losses.append(Lossy(device, start_s, end_s, rate, 0.0, "packet_loss", "source", cause))


def _lose(scene: Scene, device: str, start_s: float, end_s: float, rate: float) -> None:
    """Short flows in a lossy time: SYNs sent twice, answers that never come, sessions that take
    longer."""
    rng, flows = scene.stage.rng, scene.flows
    now = scene.involving(device) & flows["ts"].between(start_s, end_s).to_numpy()
    luck = rng.random(len(flows))
    tcp, udp = now & speaking(scene, "tcp"), now & speaking(scene, "udp")
    again = tcp & (luck < 2 * rate) & (flows["conn_state"] != "S0").to_numpy()
    slower = np.where(luck < rate * rate * 2, 3.0, 1.0) + flows["duration"] * rate * rng.uniform(
        0, 4
    )
    flows.loc[again, "orig_pkts"] += 1
    flows.loc[again, "orig_ip_bytes"] += 60
    flows.loc[again, "duration"] = flows["duration"].fillna(0) + slower.fillna(1.0)
    dropped = (
        udp
        & (luck < 1 - (1 - rate) ** 2)
        & (flows["resp_pkts"] > 0).to_numpy()
        & (flows["duration"].fillna(0) < 20).to_numpy()
    )
    lost = Ledger(rng)
    vain = tcp & (luck < rate**3)
    hopeless = flows[vain]
    attempt(
        lost,
        hopeless["ts"].to_numpy(),
        hopeless["id.orig_h"].to_numpy(),
        hopeless["id.resp_h"].to_numpy(),
        hopeless["id.resp_p"].to_numpy(),
    )
    silent = flows[dropped].assign(resp_pkts=0.0, resp_ip_bytes=0.0, conn_state="S0", history="D")
    several = silent["orig_pkts"].to_numpy(float) > 1
    for column in ("duration", "orig_bytes"):
        silent[column] = np.where(several, silent[column], np.nan)
    silent["resp_bytes"] = np.where(several, 0.0, np.nan)
    repeated = flows[dropped].assign(ts=flows.loc[dropped, "ts"] + rng.choice([1.0, 2.0, 5.0]))
    scene.flows = pd.concat(
        [flows[~(dropped | vain)], silent, repeated, lost.flow_table()], ignore_index=True
    )


def congestion(scene: Scene, start_s: float, end_s: float) -> None:
    """One device fills a line that others share."""
    rng, stage = scene.stage.rng, scene.stage
    culprit = busiest(scene, np.ones(len(scene.flows), bool), "id.orig_h", start_s, end_s)
    others = [d.address for d in stage.plant.devices if d.address != culprit]
    if culprit is None or not others:
        return
    inside = rng.random() < 0.6
    dst = str(rng.choice(others)) if inside else str(public_address(rng, 1)[0])
    speed = between(rng, 3e5, 1e8)
    extra = Ledger(rng)
    length = end_s - start_s
    if rng.random() < 0.7:
        sizes = {
            "exchanges": max(length * speed / 60000, 1),
            "ask_bytes": 60000,
            "answer_bytes": 100,
        }
        session(
            extra,
            np.array([start_s]),
            culprit,
            dst,
            int(rng.choice([445, 21, 22, 443, 873, 8080])),
            duration=length,
            **sizes,
        )
    else:
        exchange(
            extra,
            np.array([start_s]),
            culprit,
            dst,
            int(rng.integers(5000, 60000)),
            out_pkts=length * speed / 1300,
            in_pkts=0,
            ask_bytes=1300,
            duration=length,
        )
    scene.flows = pd.concat([scene.flows, extra.flow_table()], ignore_index=True)
    cause = f"{culprit} fills the line with {speed * 8 / 1e6:.0f} Mbit/s"
    scene.tell(culprit, start_s, end_s, "congestion", "source", cause)
    sufferers = rng.choice(others, size=min(len(others), int(rng.integers(1, 8))), replace=False)
    for device in sufferers:
        if device not in taken(scene, start_s, end_s):
            rate = between(rng, 0.005, 0.1)
            _lose(scene, str(device), start_s, end_s, rate / 2)
            full = rate * rng.uniform(0, 0.2)
            scene.losses.append(
                Lossy(str(device), start_s, end_s, rate, full, "congestion", "target", cause)
            )


def device_silent(scene: Scene, start_s: float, end_s: float) -> None:
    """A device is switched off: its traffic stops and its clients ask in vain."""
    everything = np.ones(len(scene.flows), bool)
    column = "id.resp_h" if scene.stage.rng.random() < 0.6 else "id.orig_h"
    device = busiest(scene, everything & inside(scene, "id.resp_h"), column, start_s, end_s)
    device = device or busiest(scene, everything, "id.orig_h", start_s, end_s)
    if device is None:
        return
    cause = f"{device} is switched off"
    scene.tell(device, start_s, end_s, "device_silent", "source", cause)
    sought = _sought(scene, device, start_s, end_s if scene.packets else start_s)
    interrupt(scene, coming_from(scene, device), start_s, end_s, "gone")
    failed = interrupt(
        scene, going_to(scene, device), start_s, end_s, "absent" if scene.packets else "silent"
    )
    scene.notes = scene.notes[
        ~((scene.notes["src"] == device) & scene.notes["ts"].between(start_s, end_s))
    ]
    for kind in ("arp_request", "arp_unanswered"):
        scene.note(sought["ts"].to_numpy(float), sought["src"].to_numpy(), device, kind, count=2)
    felt = pd.concat([failed, sought], ignore_index=True)
    felt = felt[felt["src"] != device]
    scene.tell_touched(
        felt["src"], felt["ts"], "device_silent", "target", cause, join_s=end_s - start_s
    )


def _sought(scene: Scene, device: str, start_s: float, end_s: float) -> pd.DataFrame:
    """Who was about to send it something asks for its address in vain, until their sessions are
    given up."""
    rng, flows = scene.stage.rng, scene.flows
    ts, end = (
        flows["ts"].to_numpy(float),
        (flows["ts"] + flows["duration"].fillna(0)).to_numpy(float),
    )
    open_now = flows[scene.involving(device) & (ts < start_s) & (end > start_s)]
    peers = open_now["id.orig_h"].where(open_now["id.orig_h"] != device, open_now["id.resp_h"])
    # A server that only answers has nothing to say to a client that is gone.
    has_more = (open_now["id.resp_h"] == device) | (open_now["tells"].astype(float) > 0)
    near = peers.str.startswith(scene.stage.network) & (peers != device)
    parts = [pd.DataFrame({"ts": [], "src": [], "dst": []}, dtype=object)]
    for peer in peers[has_more & near].unique():
        noticed = start_s + rng.uniform(2, 45)
        if noticed < end_s:
            asked = beats(
                rng, noticed, min(end_s, noticed + between(rng, 3, 90)), between(rng, 1, 8), 0.2
            )
            parts.append(pd.DataFrame({"ts": asked, "src": peer, "dst": device}))
    return pd.concat(parts, ignore_index=True)


def service_down(scene: Scene, start_s: float, end_s: float) -> None:
    """The host lives, one of its ports refuses or times out."""
    rng = scene.stage.rng
    tcp = speaking(scene, "tcp") & inside(scene, "id.orig_h")
    server = busiest(scene, tcp, "id.resp_h", start_s, end_s)
    if server is None:
        return
    hit = tcp & going_to(scene, server)
    port = (
        int(scene.flows.loc[hit, "id.resp_p"].value_counts().index[0])
        if rng.random() < 0.5
        else int(rng.choice(scene.flows.loc[hit, "id.resp_p"]))
    )
    hit &= (scene.flows["id.resp_p"] == port).to_numpy()
    how = "refused" if rng.random() < 0.6 else "silent"
    cause = f"port {port} of {server} is {how}"
    failed = interrupt(scene, hit, start_s, end_s, how)
    scene.tell_touched(
        failed["dst"], failed["ts"], "service_down", "source", cause, join_s=end_s - start_s
    )
    scene.tell_touched(
        failed["src"], failed["ts"], "service_down", "target", cause, join_s=end_s - start_s
    )


def flapping(scene: Scene, start_s: float, end_s: float) -> None:
    """A loose cable: sessions torn and opened again, silence of seconds, again and again."""
    rng = scene.stage.rng
    device = busiest(
        scene,
        speaking(scene, "tcp"),
        "id.resp_h" if rng.random() < 0.5 else "id.orig_h",
        start_s,
        end_s,
    )
    if device is None:
        return
    mine = scene.involving(device)
    rest = scene.flows[~mine]
    scene.flows = scene.flows[mine].reset_index(drop=True)
    third = (end_s - start_s) / 6  # at least three times, or it is an outage
    up, down = min(between(rng, 4, 60), third), min(between(rng, 1, 25), third)
    at, failed, ups = start_s, [], []
    while at < end_s:
        length = down * rng.uniform(0.5, 1.8)
        how = str(rng.choice(["silent", "refused", "silent", "gone"]))
        failed.append(
            interrupt(scene, np.ones(len(scene.flows), bool), at, min(at + length, end_s), how)
        )
        ups.append(at + length)
        at += length + up * rng.uniform(0.5, 1.8)
    scene.flows = pd.concat([rest, _torn(scene.flows, start_s, end_s, rng)], ignore_index=True)
    if device != scene.stage.network + "1":  # who is plugged in again asks for its router
        scene.note(np.array(ups), device, scene.stage.network + "1", "arp_request", count=2)
    cause = f"the link of {device} goes up and down"
    scene.tell(device, start_s, end_s, "flapping", "source", cause)
    felt = pd.concat(failed)
    felt = pd.concat(
        [
            felt["src"].to_frame("who").assign(ts=felt["ts"]),
            felt["dst"].to_frame("who").assign(ts=felt["ts"]),
        ]
    )
    felt = felt[
        (felt["who"] != device) & felt["who"].astype(str).str.startswith(scene.stage.network)
    ]
    scene.tell_touched(felt["who"], felt["ts"], "flapping", "target", cause, least=2)


def _torn(
    flows: pd.DataFrame, start_s: float, end_s: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Sessions that ended within the time were reset by one side or the other."""
    end = flows["ts"] + flows["duration"].fillna(0)
    cut = ((end > start_s) & (end < end_s) & (flows["conn_state"] == "S1")).to_numpy(bool)
    state = rng.choice(["RSTO", "RSTR", "S1"], size=int(cut.sum()))
    story = (
        pd.Series(state)
        .map({"RSTO": "ShADadTR", "RSTR": "ShADadTr", "S1": "ShADadT"})
        .to_numpy(object)
    )
    flows.loc[cut, "conn_state"] = state.astype(object)
    flows.loc[cut, "history"] = story
    return flows


def name_resolution(scene: Scene, start_s: float, end_s: float) -> None:
    """Names do not resolve: for one device, or for all when the resolver is at fault."""
    rng, stage = scene.stage.rng, scene.stage
    dns = (scene.flows["app"] == "dns").to_numpy()
    asker = busiest(scene, dns, "id.orig_h", start_s, end_s) or busiest(
        scene, speaking(scene, "tcp"), "id.orig_h", start_s, end_s
    )
    if asker is None:
        return
    everyone = rng.random() < 0.6
    who = np.ones(len(scene.flows), bool) if everyone else coming_from(scene, asker)
    code = int(rng.choice([2, 3, 3, 5, -1])) if scene.packets else -1
    flows = scene.flows
    now = who & flows["ts"].between(start_s, end_s).to_numpy()
    unmet = now & flows["named"].to_numpy(bool)
    asked = flows[now & dns]
    again = Ledger(rng)
    clients = asked["id.orig_h"].unique() if everyone else [asker]
    ts = [asked["ts"].to_numpy(float)]
    src = [asked["id.orig_h"].to_numpy(object)]
    for client in clients:
        retry = (
            beats(rng, start_s, end_s, between(rng, 2, 30), 0.3)
            if rng.random() < 0.6
            else pauses(rng, start_s, end_s)
        )
        ts.append(retry)
        src.append(np.full(len(retry), client, object))
    _vain_questions(again, np.concatenate(ts), np.concatenate(src), stage.resolver, code)
    scene.flows = pd.concat([flows[~(unmet | (now & dns))], again.flow_table()], ignore_index=True)
    cause = f"the resolver {stage.resolver} fails" if everyone else f"{asker} cannot resolve names"
    felt = again.flow_table()
    scene.tell_touched(
        felt["id.orig_h"],
        felt["ts"],
        "name_resolution",
        "target" if everyone else "source",
        cause,
        join_s=end_s - start_s,
    )
    if everyone and stage.resolver.startswith(stage.network):
        scene.tell_touched(
            felt["id.resp_h"],
            felt["ts"],
            "name_resolution",
            "source",
            cause,
            join_s=end_s - start_s,
        )


def _vain_questions(
    ledger: Ledger, ts: np.ndarray, src: np.ndarray, resolver: str, code: int
) -> None:
    rng, n = ledger.rng, len(ts)
    silent = code < 0
    given = {
        "out_pkts": rng.integers(1, 4, n) if silent else 1,
        "in_pkts": 0 if silent else 1,
        "duration": 5.0 if silent else 0.05,
    }
    sizes = {"ask_bytes": rng.integers(26, 60, n), "answer_bytes": rng.integers(26, 120, n)}
    exchange(
        ledger,
        ts,
        src,
        resolver,
        53,
        service="dns",
        app="dns",
        code=code,
        asks=1.0,
        **given,
        **sizes,
    )


FAULTS = {
    "packet_loss": packet_loss,
    "congestion": congestion,
    "device_silent": device_silent,
    "service_down": service_down,
    "misconfiguration": misconfiguration,
    "name_resolution": name_resolution,
    "flapping": flapping,
}
