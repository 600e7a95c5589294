"""Misconfigurations: a wrong gateway, port, server, unit or password, or an address given twice.

Each takes the scenario and its time, changes the flows, adds its truth, and returns whether it
found a device to show it.
"""

import numpy as np
import pandas as pd

from traffic.simulation.distributions import log_uniform, lognormal, periodic, retry_times
from traffic.simulation.flows import Columns, FlowLog, Payload, attempt, session
from traffic.simulation.scenario import Scenario, interrupt

_LABEL = "misconfiguration"
_NOT_ROUTED = r"(22[4-9]|23\d|255|ff|fe8)"  # multicast, broadcast, link-local
_NEAR_PORTS = (501, 503, 1884, 8081, 4841)


def misconfiguration(scenario: Scenario, start_s: float, end_s: float) -> None:
    """Someone typed the wrong thing; often it has been wrong since before the capture."""
    rng = scenario.rng
    if rng.random() < 0.5:
        start_s = scenario.sim.start_s
    kinds = [_wrong_gateway, _wrong_port, _wrong_server]
    if scenario.packets:
        kinds += [_wrong_unit, _wrong_password, _duplicate_address]
    for i in rng.permutation(len(kinds)):
        if kinds[i](scenario, start_s, end_s):
            return


def _add_truth(
    scenario: Scenario, failed: pd.DataFrame, cause: str, length_s: float, target: bool = True
) -> bool:
    """Truth from failed calls ``ts src dst``: the client is the source, and its server suffers."""
    for column, direction in (("src", "source"), ("dst", "target"))[: 1 + target]:
        scenario.add_truth_at(
            failed[column], failed["ts"], _LABEL, direction, cause, join_s=length_s
        )
    return bool(len(failed))


def _wrong_gateway(scenario: Scenario, start_s: float, end_s: float) -> bool:
    """Everything beyond the router stays unanswered; the wrong gateway does not answer ARP, or is a
    host that drops."""
    rng = scenario.rng
    grouped = scenario.flows["id.resp_h"].str.match(_NOT_ROUTED).to_numpy(bool)
    outward = ~scenario.in_plant("id.resp_h") & ~grouped
    own = outward & scenario.in_plant("id.orig_h")
    device = scenario.draw_busy(own, "id.orig_h", start_s, end_s)
    if device is None:
        return False
    failed = interrupt(scenario, outward & scenario.sent_by(device), start_s, end_s, "silent")
    if scenario.packets and rng.random() < 0.7:
        gateway = scenario.sim.network + str(rng.integers(2, 255))
        count = rng.integers(1, 4, len(failed))
        scenario.note_unanswered_arp(failed["ts"].to_numpy(), device, gateway, count)
        if rng.random() < 0.7:  # nothing leaves while ARP stays unanswered
            calls = scenario.sent_by(device) & scenario.flows["ts"].isin(failed["ts"]).to_numpy()
            kept = ~calls | scenario.in_plant("id.resp_h")
            scenario.flows = scenario.flows[kept].reset_index(drop=True)
    cause = f"{device} has the wrong gateway"
    return _add_truth(scenario, failed, cause, end_s - start_s, target=False)


def _wrong_port(scenario: Scenario, start_s: float, end_s: float) -> bool:
    """A client calls a port of its server that refuses."""
    rng = scenario.rng
    near = scenario.of_proto("tcp") & scenario.in_plant("id.resp_h")
    client = scenario.draw_busy(near, "id.orig_h", start_s, end_s)
    if client is None:
        return False
    own = near & scenario.sent_by(client)
    server = str(rng.choice(scenario.flows.loc[own, "id.resp_h"]))
    port = int(rng.choice([*_NEAR_PORTS, int(rng.integers(1024, 65535))]))
    hit = own & scenario.sent_to(server)
    failed = interrupt(scenario, hit, start_s, end_s, "refused", port)
    cause = f"{client} calls port {port} of {server}, which is the wrong one"
    return _add_truth(scenario, failed, cause, end_s - start_s)


def _wrong_server(scenario: Scenario, start_s: float, end_s: float) -> bool:
    """A client calls an address of the plant that nobody has."""
    rng, sim = scenario.rng, scenario.sim
    client = scenario.draw_busy(scenario.of_proto("tcp"), "id.orig_h", start_s, end_s)
    if client is None:
        return False
    server = str(rng.choice(sim.free_addresses()))
    ts = retry_times(rng, start_s, end_s, 1, 30)
    if scenario.packets:
        scenario.note_unanswered_arp(ts, client, server, rng.integers(1, 4, len(ts)))
    if not scenario.packets or rng.random() < 0.2:
        log, port = FlowLog(rng), int(rng.choice([502, 1883, 445, 80, 4840]))
        attempt(log, ts, client, server, port, tries=sim.retry_policy(client))
        scenario.add_flows(log)
    cause = f"{client} calls {server}, which does not exist"
    failed = pd.DataFrame({"ts": ts, "src": np.full(len(ts), client, object)})
    return _add_truth(scenario, failed, cause, end_s - start_s, target=False)


def _wrong_unit(scenario: Scenario, start_s: float, end_s: float) -> bool:
    """A client asks a controller for a Modbus unit that it does not have."""
    rng = scenario.rng
    modbus = (scenario.flows["app"] == "modbus").to_numpy()
    client = scenario.draw_busy(modbus, "id.orig_h", start_s, end_s)
    if client is None:
        return False
    own = modbus & scenario.sent_by(client)
    server = str(rng.choice(scenario.flows.loc[own, "id.resp_h"]))
    ts = periodic(rng, start_s, end_s, log_uniform(rng, 0.3, 10), 0.05)
    # Gateway path unavailable, or target failed to respond (Modbus application protocol, 7)
    code = int(rng.choice([10, 11, 11]))
    scenario.note(ts, client, server, "modbus_exception", code=code)
    cause = f"{client} asks {server} for a unit that does not exist"
    scenario.add_truth(client, start_s, end_s, _LABEL, "source", cause)
    scenario.add_truth(server, start_s, end_s, _LABEL, "target", cause)
    return True


def _wrong_password(scenario: Scenario, start_s: float, end_s: float) -> bool:
    """An MQTT client is refused by its broker and tries again."""
    rng = scenario.rng
    to_broker = scenario.flows["id.resp_p"].isin([1883, 8883]).to_numpy()
    mqtt = to_broker & scenario.in_plant("id.resp_h")
    client = scenario.draw_busy(mqtt, "id.orig_h", start_s, end_s)
    if client is None:
        return False
    own = mqtt & scenario.sent_by(client)
    broker = str(scenario.flows.loc[own, "id.resp_h"].iloc[0])
    interrupt(scenario, own, start_s, end_s, "gone")
    ts, log = retry_times(rng, start_s, end_s, 1, 60), FlowLog(rng)
    length, ending = (
        lognormal(rng, 0.05, 0.6, len(ts)),
        {"closed_by_server": 1, "reset_server": 0.3},
    )
    mqtt_columns: Columns = {"service": "mqtt", "app": "mqtt"}
    payload = Payload(1, 60, 4)
    session(log, ts, client, broker, 1883, length, payload, ending=ending, **mqtt_columns)
    scenario.note(ts, client, broker, "mqtt_refused", code=int(rng.choice([4, 5])))
    scenario.add_flows(log)
    cause = f"{client} has the wrong password for {broker}"
    failed = log.flow_table().rename(columns={"id.orig_h": "src", "id.resp_h": "dst"})
    return _add_truth(scenario, failed, cause, end_s - start_s)


def _duplicate_address(scenario: Scenario, start_s: float, end_s: float) -> bool:
    """Two machines were given one address: both claim it, and its sessions break."""
    rng = scenario.rng
    near = scenario.of_proto("tcp") & scenario.in_plant("id.resp_h")
    device = scenario.draw_busy(near, "id.resp_h", start_s, end_s)
    if device is None:
        return False
    ts = periodic(rng, start_s, end_s, log_uniform(rng, 5, 45), 0.5)
    count = rng.integers(1, 4, len(ts))
    scenario.note(ts, device, device, "arp_conflict", count=count, distinct=2)
    for at in rng.choice(ts, size=min(len(ts), int(rng.integers(0, 6))), replace=False):
        until = float(at) + rng.uniform(2, 15)
        interrupt(scenario, scenario.sent_to(device), float(at), until, "refused")
    cause = f"a second machine uses the address {device}"
    scenario.add_truth(device, start_s, end_s, _LABEL, "source", cause)
    return True
