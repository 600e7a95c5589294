"""Faults: what breaks in a plant without anyone's intent, and who suffers from it.

A fault takes the scenario and its time, changes the flows, and adds its truth: ``source`` for the
device from which it comes, ``target`` for those that suffer, and only while they show it.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from traffic.simulation.distributions import log_uniform, periodic, public_address, retry_times
from traffic.simulation.flows import (
    Datagrams,
    FlowLog,
    Payload,
    attempt,
    dns_query,
    session,
    udp_flow,
)
from traffic.simulation.misconfigurations import misconfiguration
from traffic.simulation.scenario import LossInterval, Scenario, interrupt, without_answers

# ---- lines: packets lost by a bad cable or radio link, or because one device fills the line ----


def packet_loss(scenario: Scenario, start_s: float, end_s: float) -> None:
    """A bad cable or radio link: 1 to 40 % of a device's packets are lost."""
    device = _draw_talker(scenario, ("id.orig_h", "id.resp_h"), start_s, end_s)
    if device is None:
        return
    rate = log_uniform(scenario.rng, 0.01, 0.4)
    _lose(scenario, device, start_s, end_s, rate)
    cause = f"{device} loses {rate:.0%} of its packets"
    loss = LossInterval(device, start_s, end_s, rate, 0.0, "packet_loss", "source", cause)
    scenario.losses.append(loss)


def _draw_talker(
    scenario: Scenario, columns: tuple[str, str], start_s: float, end_s: float
) -> str | None:
    """Draw a device that is busy with TCP, on one side or the other."""
    column = columns[0] if scenario.rng.random() < 0.5 else columns[1]
    return scenario.draw_busy(scenario.of_proto("tcp"), column, start_s, end_s)


def _lose(scenario: Scenario, device: str, start_s: float, end_s: float, rate: float) -> None:
    """Change the short flows of a lossy time: SYNs sent twice, answers that never come, sessions
    that take longer. Retransmissions within sessions are drawn later, from ``losses``."""
    rng, flows = scenario.rng, scenario.flows
    now = scenario.involving(device) & flows["ts"].between(start_s, end_s).to_numpy()
    luck = rng.random(len(flows))
    tcp, udp = now & scenario.of_proto("tcp"), now & scenario.of_proto("udp")
    twice = tcp & (luck < 2 * rate) & (flows["conn_state"] != "S0").to_numpy()
    wait = np.where(luck < rate * rate * 2, 3.0, 1.0)
    slower = wait + flows["duration"] * rate * rng.uniform(0, 4)
    flows.loc[twice, "orig_pkts"] += 1
    flows.loc[twice, "orig_ip_bytes"] += 60
    flows.loc[twice, "duration"] = flows["duration"].fillna(0) + slower.fillna(1.0)
    brief = (flows["duration"].fillna(0) < 20).to_numpy() & (flows["resp_pkts"] > 0).to_numpy()
    dropped = udp & (luck < 1 - (1 - rate) ** 2) & brief
    failed = tcp & (luck < rate**3)
    log, names = FlowLog(rng), ("ts", "id.orig_h", "id.resp_h", "id.resp_p")
    attempt(log, *(flows.loc[failed, name].to_numpy() for name in names))
    unanswered = without_answers(flows[dropped])
    repeated = flows[dropped].assign(ts=flows.loc[dropped, "ts"] + rng.choice([1.0, 2.0, 5.0]))
    parts = [flows[~(dropped | failed)], unanswered, repeated, log.flow_table()]
    scenario.flows = pd.concat(parts, ignore_index=True)


def congestion(scenario: Scenario, start_s: float, end_s: float) -> None:
    """One device fills a line that others share."""
    rng, sim = scenario.rng, scenario.sim
    sender = scenario.draw_busy(scenario.everything(), "id.orig_h", start_s, end_s)
    others = [d.address for d in sim.plant.devices if d.address != sender]
    if sender is None or not others:
        return
    inside = rng.random() < 0.6
    dst = str(rng.choice(others)) if inside else str(public_address(rng, 1)[0])
    bytes_per_s = log_uniform(rng, 3e5, 1e8)
    log, ts, length = FlowLog(rng), np.array([start_s]), end_s - start_s
    if rng.random() < 0.7:
        port = int(rng.choice([445, 21, 22, 443, 873, 8080]))
        bulk = Payload(max(length * bytes_per_s / 60000, 1), 60000, 100)
        session(log, ts, sender, dst, port, length, bulk)
    else:
        stream = Datagrams(length * bytes_per_s / 1300, 0, 1300)
        udp_flow(log, ts, sender, dst, int(rng.integers(5000, 60000)), length, stream)
    scenario.add_flows(log)
    cause = f"{sender} fills the line with {bytes_per_s * 8 / 1e6:.0f} Mbit/s"
    scenario.add_truth(sender, start_s, end_s, "congestion", "source", cause)
    suffering = rng.choice(others, size=min(len(others), int(rng.integers(1, 8))), replace=False)
    for device in map(str, suffering):
        if device not in scenario.affected(start_s, end_s):
            rate = log_uniform(rng, 0.005, 0.1)
            _lose(scenario, device, start_s, end_s, rate / 2)
            full = rate * rng.uniform(0, 0.2)
            loss = LossInterval(device, start_s, end_s, rate, full, "congestion", "target", cause)
            scenario.losses.append(loss)


def flapping(scenario: Scenario, start_s: float, end_s: float) -> None:
    """A loose cable: sessions broken and opened again, silence of seconds, again and again."""
    rng = scenario.rng
    device = _draw_talker(scenario, ("id.resp_h", "id.orig_h"), start_s, end_s)
    if device is None:
        return
    mine = scenario.involving(device)
    rest = scenario.flows[~mine]
    scenario.flows = scenario.flows[mine].reset_index(drop=True)
    longest_s = (end_s - start_s) / 6  # off at least three times, or it is an outage
    up_s = min(log_uniform(rng, 4, 60), longest_s)
    down_s = min(log_uniform(rng, 1, 25), longest_s)
    at, failures, ups = start_s, [], []
    while at < end_s:
        off_s = down_s * rng.uniform(0.5, 1.8)
        how = str(rng.choice(["silent", "refused", "silent", "gone"]))
        until = min(at + off_s, end_s)
        failures.append(interrupt(scenario, scenario.everything(), at, until, how))
        ups.append(at + off_s)
        at += off_s + up_s * rng.uniform(0.5, 1.8)
    broken = _broken_by_resets(scenario.flows, start_s, end_s, rng)
    scenario.flows = pd.concat([rest, broken], ignore_index=True)
    if device != scenario.sim.router:  # a device whose link comes up asks for its router
        scenario.note(np.array(ups), device, scenario.sim.router, "arp_request", count=2)
    cause = f"the link of {device} goes up and down"
    scenario.add_truth(device, start_s, end_s, "flapping", "source", cause)
    failed = pd.concat(failures)
    who = pd.concat([failed["src"], failed["dst"]])
    ts = pd.concat([failed["ts"], failed["ts"]])
    peers = ((who != device) & who.astype(str).str.startswith(scenario.sim.network)).to_numpy()
    scenario.add_truth_at(who[peers], ts[peers], "flapping", "target", cause, least=2)


def _broken_by_resets(
    flows: pd.DataFrame, start_s: float, end_s: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Sessions that ended within the time were reset by one side or the other, or left open."""
    end = flows["ts"] + flows["duration"].fillna(0)
    cut = ((end > start_s) & (end < end_s) & (flows["conn_state"] == "S1")).to_numpy(bool)
    state = pd.Series(rng.choice(["RSTO", "RSTR", "S1"], size=int(cut.sum())))
    history = state.map({"RSTO": "ShADadTR", "RSTR": "ShADadTr", "S1": "ShADadT"})
    flows.loc[cut, "conn_state"] = state.to_numpy(object)
    flows.loc[cut, "history"] = history.to_numpy(object)
    return flows


# ---- devices and services that are gone ----


def device_silent(scenario: Scenario, start_s: float, end_s: float) -> None:
    """A device is switched off: its traffic stops, and its clients' attempts fail."""
    everything = scenario.everything()
    column = "id.resp_h" if scenario.rng.random() < 0.6 else "id.orig_h"
    near = everything & scenario.in_plant("id.resp_h")
    device = scenario.draw_busy(near, column, start_s, end_s)
    device = device or scenario.draw_busy(everything, "id.orig_h", start_s, end_s)
    if device is None:
        return
    cause = f"{device} is switched off"
    scenario.add_truth(device, start_s, end_s, "device_silent", "source", cause)
    requests = _arp_requests(scenario, device, start_s, end_s if scenario.packets else start_s)
    interrupt(scenario, scenario.sent_by(device), start_s, end_s, "gone")
    how = "absent" if scenario.packets else "silent"
    failed = interrupt(scenario, scenario.sent_to(device), start_s, end_s, how)
    evidence = scenario.evidence
    its_own = (evidence["src"] == device) & evidence["ts"].between(start_s, end_s)
    scenario.evidence = evidence[~its_own]
    at, src = requests["ts"].to_numpy(float), requests["src"].to_numpy()
    scenario.note_unanswered_arp(at, src, device, 2)
    shown = pd.concat([failed, requests], ignore_index=True)
    shown = shown[shown["src"] != device]
    length_s = end_s - start_s
    scenario.add_truth_at(
        shown["src"], shown["ts"], "device_silent", "target", cause, join_s=length_s
    )


def _arp_requests(scenario: Scenario, device: str, start_s: float, end_s: float) -> pd.DataFrame:
    """Who has something to send to a device asks for its address until the session is given up:
    ``ts src dst``."""
    rng, flows = scenario.rng, scenario.flows
    ts = flows["ts"].to_numpy(float)
    end = (flows["ts"] + flows["duration"].fillna(0)).to_numpy(float)
    open_now = flows[scenario.involving(device) & (ts < start_s) & (end > start_s)]
    peers = open_now["id.orig_h"].where(open_now["id.orig_h"] != device, open_now["id.resp_h"])
    # A server that only answers has nothing to say to a client that is gone.
    has_more = (open_now["id.resp_h"] == device) | (open_now["tells"].astype(float) > 0)
    near = peers.str.startswith(scenario.sim.network) & (peers != device)
    parts = [pd.DataFrame({"ts": [], "src": [], "dst": []}, dtype=object)]
    for peer in peers[has_more & near].unique():
        first = start_s + rng.uniform(2, 45)
        if first < end_s:
            last = min(end_s, first + log_uniform(rng, 3, 90))
            at = periodic(rng, first, last, log_uniform(rng, 1, 8), 0.2)
            parts.append(pd.DataFrame({"ts": at, "src": peer, "dst": device}))
    return pd.concat(parts, ignore_index=True)


def service_down(scenario: Scenario, start_s: float, end_s: float) -> None:
    """The host lives, one of its ports refuses or times out."""
    rng = scenario.rng
    tcp = scenario.of_proto("tcp") & scenario.in_plant("id.orig_h")
    server = scenario.draw_busy(tcp, "id.resp_h", start_s, end_s)
    if server is None:
        return
    hit = tcp & scenario.sent_to(server)
    ports = scenario.flows.loc[hit, "id.resp_p"]
    port = int(ports.value_counts().index[0] if rng.random() < 0.5 else rng.choice(ports))
    hit &= (scenario.flows["id.resp_p"] == port).to_numpy()
    how = "refused" if rng.random() < 0.6 else "silent"
    cause, length_s = f"port {port} of {server} is {how}", end_s - start_s
    failed = interrupt(scenario, hit, start_s, end_s, how)
    for column, direction in (("dst", "source"), ("src", "target")):
        scenario.add_truth_at(
            failed[column], failed["ts"], "service_down", direction, cause, join_s=length_s
        )


def name_resolution(scenario: Scenario, start_s: float, end_s: float) -> None:
    """Names do not resolve: for one device, or for all when the resolver is at fault."""
    rng, sim = scenario.rng, scenario.sim
    dns = (scenario.flows["app"] == "dns").to_numpy()
    asker = scenario.draw_busy(dns, "id.orig_h", start_s, end_s) or scenario.draw_busy(
        scenario.of_proto("tcp"), "id.orig_h", start_s, end_s
    )
    if asker is None:
        return
    everyone = rng.random() < 0.6
    who = scenario.everything() if everyone else scenario.sent_by(asker)
    code = int(rng.choice([2, 3, 3, 5, -1])) if scenario.packets else -1
    flows, log = scenario.flows, FlowLog(rng)
    now = who & flows["ts"].between(start_s, end_s).to_numpy()
    needs_name = now & flows["named"].to_numpy(bool)
    queries = flows[now & dns]
    ts, src = [queries["ts"].to_numpy(float)], [queries["id.orig_h"].to_numpy(object)]
    for client in queries["id.orig_h"].unique() if everyone else [asker]:
        ts.append(retry_times(rng, start_s, end_s, 2, 30, 0.3))
        src.append(np.full(len(ts[-1]), client, object))
    _failing_queries(log, np.concatenate(ts), np.concatenate(src), sim.resolver, code)
    failed = log.flow_table()
    scenario.flows = pd.concat([flows[~(needs_name | (now & dns))], failed], ignore_index=True)
    cause = f"the resolver {sim.resolver} fails" if everyone else f"{asker} cannot resolve names"
    sides = [("id.orig_h", "target" if everyone else "source")]
    if everyone and sim.resolver.startswith(sim.network):
        sides.append(("id.resp_h", "source"))
    for column, direction in sides:
        scenario.add_truth_at(
            failed[column],
            failed["ts"],
            "name_resolution",
            direction,
            cause,
            join_s=end_s - start_s,
        )


def _failing_queries(
    log: FlowLog, ts: np.ndarray, src: np.ndarray, resolver: str, code: int
) -> None:
    rng, n, silent = log.rng, len(ts), code < 0
    out, back = (rng.integers(1, 4, n), 0) if silent else (1, 1)
    datagrams = Datagrams(out, back, rng.integers(26, 60, n), rng.integers(26, 120, n))
    dns_query(log, ts, src, resolver, code, 5.0 if silent else 0.05, datagrams)


FAULT_SIMULATORS: dict[str, Callable[[Scenario, float, float], None]] = {
    "packet_loss": packet_loss,
    "congestion": congestion,
    "device_silent": device_silent,
    "service_down": service_down,
    "misconfiguration": misconfiguration,
    "name_resolution": name_resolution,
    "flapping": flapping,
}
