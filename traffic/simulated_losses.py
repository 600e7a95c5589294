"""Faults of lines: packets lost by a bad cable or radio link, or by a line that one device fills."""

import numpy as np
import pandas as pd

from traffic.simulated_choice import busiest, speaking, taken
from traffic.simulated_ledger import Ledger
from traffic.simulation.distributions import between, public_address
from traffic.simulation.flows import attempt, exchange, session
from traffic.simulation.scenario import Lossy, Scene

__all__ = ["congestion", "packet_loss"]


def packet_loss(scene: Scene, start_s: float, end_s: float) -> None:
    """A bad cable or radio link: 1 to 40 % of a device's packets are lost."""
    rng = scene.stage.rng
    device = busiest(scene, speaking(scene, "tcp"), "id.orig_h" if rng.random() < 0.5 else "id.resp_h", start_s, end_s)
    if device is None:
        return
    rate = between(rng, 0.01, 0.4)
    _lose(scene, device, start_s, end_s, rate)
    cause = f"{device} loses {rate:.0%} of its packets"
    scene.losses.append(Lossy(device, start_s, end_s, rate, 0.0, "packet_loss", "source", cause))


def _lose(scene: Scene, device: str, start_s: float, end_s: float, rate: float) -> None:
    """Short flows in a lossy time: SYNs sent twice, answers that never come, sessions that take longer."""
    rng, flows = scene.stage.rng, scene.flows
    now = scene.involving(device) & flows["ts"].between(start_s, end_s).to_numpy()
    luck = rng.random(len(flows))
    tcp, udp = now & speaking(scene, "tcp"), now & speaking(scene, "udp")
    again = tcp & (luck < 2 * rate) & (flows["conn_state"] != "S0").to_numpy()
    slower = np.where(luck < rate * rate * 2, 3.0, 1.0) + flows["duration"] * rate * rng.uniform(0, 4)
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
    scene.flows = pd.concat([flows[~(dropped | vain)], silent, repeated, lost.flow_table()], ignore_index=True)


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
        sizes = {"exchanges": max(length * speed / 60000, 1), "ask_bytes": 60000, "answer_bytes": 100}
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
            scene.losses.append(Lossy(str(device), start_s, end_s, rate, full, "congestion", "target", cause))
