"""Misconfigurations: a wrong gateway, port, host, unit, password, or an address given twice."""

import numpy as np
import pandas as pd

from traffic.simulated_choice import busiest, coming_from, going_to, inside, speaking
from traffic.simulated_ledger import Ledger
from traffic.simulation.distributions import beats, between, lognormal, pauses
from traffic.simulation.flows import attempt, session
from traffic.simulation.outages import interrupt
from traffic.simulation.scenario import Scene

__all__ = ["misconfiguration"]


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
    """Everything beyond the router stays unanswered; the wrong gateway does not answer ARP, or is a host that drops."""
    rng = scene.stage.rng
    outward = ~inside(scene, "id.resp_h") & ~scene.flows["id.resp_h"].str.match(r"(22[4-9]|23\d|255|ff|fe8)").to_numpy(
        bool
    )
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
    scene.tell_touched(failed["src"], failed["ts"], "misconfiguration", "source", cause, join_s=end_s - start_s)
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
        scene, near & coming_from(scene, client) & going_to(scene, server), start_s, end_s, "refused", port
    )
    cause = f"{client} calls port {port} of {server}, which is the wrong one"
    scene.tell_touched(failed["src"], failed["ts"], "misconfiguration", "source", cause, join_s=end_s - start_s)
    scene.tell_touched(failed["dst"], failed["ts"], "misconfiguration", "target", cause, join_s=end_s - start_s)
    return bool(len(failed))


def _wrong_host(scene: Scene, start_s: float, end_s: float) -> bool:
    """A client calls an address of the plant that nobody has."""
    rng, stage = scene.stage.rng, scene.stage
    client = busiest(scene, speaking(scene, "tcp"), "id.orig_h", start_s, end_s)
    if client is None:
        return False
    used = {device.address for device in stage.plant.devices}
    wrong = str(rng.choice([stage.network + str(i) for i in range(2, 254) if stage.network + str(i) not in used]))
    ts = beats(rng, start_s, end_s, between(rng, 1, 30), 0.1) if rng.random() < 0.6 else pauses(rng, start_s, end_s)
    if scene.packets:
        _ask_in_vain(scene, ts, client, wrong)
    if not scene.packets or rng.random() < 0.2:
        tried = Ledger(rng)
        attempt(tried, ts, client, wrong, int(rng.choice([502, 1883, 445, 80, 4840])), tries=stage.tries(client))
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
    ts = beats(rng, start_s, end_s, between(rng, 1, 60), 0.1) if rng.random() < 0.6 else pauses(rng, start_s, end_s)
    tried = Ledger(rng)
    given = {
        "duration": lognormal(rng, 0.05, 0.6, len(ts)),
        "ask_bytes": 60,
        "answer_bytes": 4,
        "service": "mqtt",
        "app": "mqtt",
    }
    session(tried, ts, client, broker, 1883, ending={"closed_by_server": 1, "reset_server": 0.3}, **given)
    scene.note(ts, client, broker, "mqtt_refused", code=int(rng.choice([4, 5])))
    scene.flows = pd.concat([scene.flows, tried.flow_table()], ignore_index=True)
    felt = tried.flow_table()
    cause = f"{client} has the wrong password for {broker}"
    scene.tell_touched(felt["id.orig_h"], felt["ts"], "misconfiguration", "source", cause, join_s=end_s - start_s)
    scene.tell_touched(felt["id.resp_h"], felt["ts"], "misconfiguration", "target", cause, join_s=end_s - start_s)
    return bool(len(ts))


def _same_address(scene: Scene, start_s: float, end_s: float) -> bool:
    """Two machines were given one address: both claim it, and its sessions break."""
    rng = scene.stage.rng
    device = busiest(scene, speaking(scene, "tcp") & inside(scene, "id.resp_h"), "id.resp_h", start_s, end_s)
    if device is None:
        return False
    ts = beats(rng, start_s, end_s, between(rng, 5, 45), 0.5)
    scene.note(ts, device, device, "arp_conflict", count=rng.integers(1, 4, len(ts)), distinct=2)
    for at in rng.choice(ts, size=min(len(ts), int(rng.integers(0, 6))), replace=False):
        interrupt(scene, going_to(scene, device), float(at), float(at) + rng.uniform(2, 15), "refused")
    scene.tell(device, start_s, end_s, "misconfiguration", "source", f"a second machine uses the address {device}")
    return True
