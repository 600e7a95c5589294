"""Faults: what breaks in a plant without anyone's intent, and who notices.

A fault takes the scene and its time, changes the flows, and tells its truth: ``source`` for the device from which it
comes, ``target`` for those that suffer, and those only while they show it.
"""

import numpy as np
import pandas as pd

from traffic.simulated_choice import busiest, coming_from, going_to, inside, speaking
from traffic.simulated_ledger import Ledger
from traffic.simulated_losses import congestion, packet_loss
from traffic.simulated_mistakes import misconfiguration
from traffic.simulation.distributions import beats, between, pauses
from traffic.simulation.flows import exchange
from traffic.simulation.outages import interrupt
from traffic.simulation.scenario import Scene

__all__ = ["FAULTS"]


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
    failed = interrupt(scene, going_to(scene, device), start_s, end_s, "absent" if scene.packets else "silent")
    scene.notes = scene.notes[~((scene.notes["src"] == device) & scene.notes["ts"].between(start_s, end_s))]
    for kind in ("arp_request", "arp_unanswered"):
        scene.note(sought["ts"].to_numpy(float), sought["src"].to_numpy(), device, kind, count=2)
    felt = pd.concat([failed, sought], ignore_index=True)
    felt = felt[felt["src"] != device]
    scene.tell_touched(felt["src"], felt["ts"], "device_silent", "target", cause, join_s=end_s - start_s)


def _sought(scene: Scene, device: str, start_s: float, end_s: float) -> pd.DataFrame:
    """Who was about to send it something asks for its address in vain, until their sessions are given up."""
    rng, flows = scene.stage.rng, scene.flows
    ts, end = flows["ts"].to_numpy(float), (flows["ts"] + flows["duration"].fillna(0)).to_numpy(float)
    open_now = flows[scene.involving(device) & (ts < start_s) & (end > start_s)]
    peers = open_now["id.orig_h"].where(open_now["id.orig_h"] != device, open_now["id.resp_h"])
    # A server that only answers has nothing to say to a client that is gone.
    has_more = (open_now["id.resp_h"] == device) | (open_now["tells"].astype(float) > 0)
    near = peers.str.startswith(scene.stage.network) & (peers != device)
    parts = [pd.DataFrame({"ts": [], "src": [], "dst": []}, dtype=object)]
    for peer in peers[has_more & near].unique():
        noticed = start_s + rng.uniform(2, 45)
        if noticed < end_s:
            asked = beats(rng, noticed, min(end_s, noticed + between(rng, 3, 90)), between(rng, 1, 8), 0.2)
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
    scene.tell_touched(failed["dst"], failed["ts"], "service_down", "source", cause, join_s=end_s - start_s)
    scene.tell_touched(failed["src"], failed["ts"], "service_down", "target", cause, join_s=end_s - start_s)


def flapping(scene: Scene, start_s: float, end_s: float) -> None:
    """A loose cable: sessions torn and opened again, silence of seconds, again and again."""
    rng = scene.stage.rng
    device = busiest(scene, speaking(scene, "tcp"), "id.resp_h" if rng.random() < 0.5 else "id.orig_h", start_s, end_s)
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
        failed.append(interrupt(scene, np.ones(len(scene.flows), bool), at, min(at + length, end_s), how))
        ups.append(at + length)
        at += length + up * rng.uniform(0.5, 1.8)
    scene.flows = pd.concat([rest, _torn(scene.flows, start_s, end_s, rng)], ignore_index=True)
    if device != scene.stage.network + "1":  # who is plugged in again asks for its router
        scene.note(np.array(ups), device, scene.stage.network + "1", "arp_request", count=2)
    cause = f"the link of {device} goes up and down"
    scene.tell(device, start_s, end_s, "flapping", "source", cause)
    felt = pd.concat(failed)
    felt = pd.concat(
        [felt["src"].to_frame("who").assign(ts=felt["ts"]), felt["dst"].to_frame("who").assign(ts=felt["ts"])]
    )
    felt = felt[(felt["who"] != device) & felt["who"].astype(str).str.startswith(scene.stage.network)]
    scene.tell_touched(felt["who"], felt["ts"], "flapping", "target", cause, least=2)


def _torn(flows: pd.DataFrame, start_s: float, end_s: float, rng: np.random.Generator) -> pd.DataFrame:
    """Sessions that ended within the time were reset by one side or the other."""
    end = flows["ts"] + flows["duration"].fillna(0)
    cut = ((end > start_s) & (end < end_s) & (flows["conn_state"] == "S1")).to_numpy(bool)
    state = rng.choice(["RSTO", "RSTR", "S1"], size=int(cut.sum()))
    story = pd.Series(state).map({"RSTO": "ShADadTR", "RSTR": "ShADadTr", "S1": "ShADadT"}).to_numpy(object)
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
            beats(rng, start_s, end_s, between(rng, 2, 30), 0.3) if rng.random() < 0.6 else pauses(rng, start_s, end_s)
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
        scene.tell_touched(felt["id.resp_h"], felt["ts"], "name_resolution", "source", cause, join_s=end_s - start_s)


def _vain_questions(ledger: Ledger, ts: np.ndarray, src: np.ndarray, resolver: str, code: int) -> None:
    rng, n = ledger.rng, len(ts)
    silent = code < 0
    given = {
        "out_pkts": rng.integers(1, 4, n) if silent else 1,
        "in_pkts": 0 if silent else 1,
        "duration": 5.0 if silent else 0.05,
    }
    sizes = {"ask_bytes": rng.integers(26, 60, n), "answer_bytes": rng.integers(26, 120, n)}
    exchange(ledger, ts, src, resolver, 53, service="dns", app="dns", code=code, asks=1.0, **given, **sizes)


FAULTS = {
    "packet_loss": packet_loss,
    "congestion": congestion,
    "device_silent": device_silent,
    "service_down": service_down,
    "misconfiguration": misconfiguration,
    "name_resolution": name_resolution,
    "flapping": flapping,
}
