"""Labelled traffic without a network: a plant is drawn, runs for some hours, and things go wrong.

    plant ─▶ normal flows ─▶ faults change them ─▶ attacks are added ─▶ clipped to the capture ─▶
    activity, evidence

It exists to train models that must hold on captures they have not seen, so sizes, rates, addresses,
ports, periods and policies are drawn per plant and per device from wide ranges, all by one
generator. The order of draws is part of the result: to add one in the middle changes every seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from traffic.capture import ACTIVITY_COLUMNS, COUNTS, FLOW_COLUMNS, Capture, join_evidence
from traffic.errors import UserError
from traffic.labels import ATTACKS, FAULTS, LABELS, NORMAL
from traffic.plant import Device, Plant, dump_plant
from traffic.simulation import cloud, devices, services, wireless
from traffic.simulation.attacks import ATTACK_SIMULATORS
from traffic.simulation.distributions import log_uniform, public_address
from traffic.simulation.faults import FAULT_SIMULATORS
from traffic.simulation.flows import FlowLog
from traffic.simulation.observation import (
    PROTOCOL_KINDS,
    draw_losses,
    even_activity,
    make_evidence,
    mark_retransmissions,
    packet_activity,
)
from traffic.simulation.plant import FLAVOURS, WIRELESS, SimulatedPlant, draw_plant
from traffic.simulation.scenario import (
    TRUTH_COLUMNS,
    Scenario,
    clip,
    interrupt,
    merge_times,
    without_overlaps,
)
from traffic.zeek.conn import flow_evidence, write_conn_log
from traffic.zeek.sessions import make_sessions

VIEWS = ("packets", "logs", "conn")
# Roles without which a label cannot happen.
_NEEDED_ROLES = {
    "unauthorized_command": ("plc",),
    "mqtt_abuse": ("broker", "sensor"),
    "device_silent": ("server",),
}
# What shows in packets only, or in Zeek's protocol logs at least.
_NEEDS_PACKETS = {"spoofing", "packet_loss", "congestion"}
_NEEDS_LOGS = {"unauthorized_command", "mqtt_abuse", "name_resolution"}
# Four for each seed in turn, so that any four consecutive seeds hold every label.
_ROTA = (
    ("c2", "packet_loss", "recon", "service_down"),
    ("dos", "device_silent", "exfiltration", "name_resolution"),
    ("ddos", "congestion", "brute_force", "misconfiguration"),
    ("unauthorized_command", "flapping", "mqtt_abuse", "spoofing"),
)


@dataclass(frozen=True)
class Simulation:
    """A synthetic capture and its ground truth.

    Attributes:
        capture: flows (with ``label``), activity, evidence.
        truth: ``device start_s end_s label direction cause``. It is what labels a fault; flows of
            an attack carry its label themselves.
        plant: the devices.
    """

    capture: Capture
    truth: pd.DataFrame
    plant: Plant


def simulate(
    seed: int,
    devices: int = 20,
    hours: float = 1.0,
    scenarios: Sequence[str] | None = None,
    quiet: bool = False,
    flavour: str | None = None,
    view: str | None = None,
) -> Simulation:
    """Draw a plant and simulate it; the same arguments give the same tables.

    Args:
        seed: seeds the one generator.
        devices: how many devices the plant has, at least 1; the first is its router if there are
            two.
        hours: length of the capture, above 0.
        scenarios: labels that happen, each once; by default at least four of them in turn, so that
            any four consecutive seeds hold every label.
        quiet: nothing happens; only normal traffic.
        flavour: what the plant is, one of ``FLAVOURS``, drawn by default; or ``WIRELESS``.
        view: what the capture is made of, one of ``VIEWS``; drawn by default.

    Returns:
        Flows, evidence and truth, with local addresses in private ranges.

    Raises:
        UserError: a scenario is no label of an attack or fault, or ``devices`` or ``hours`` is too
            small.
    """
    _check(devices, hours, scenarios)
    rng = np.random.default_rng(seed)
    if quiet:
        labels = []
    elif scenarios is not None:
        labels = list(scenarios)
    elif flavour == WIRELESS:
        labels = _draw_house_labels(rng, seed)
    else:
        labels = _draw_labels(rng, seed, devices * hours)
    view = view or _draw_view(rng, labels)
    flavour = flavour or str(rng.choice(FLAVOURS, p=[0.45, 0.3, 0.25]))
    sim = _draw_simulated_plant(rng, devices, hours, labels, flavour)
    _add_normal_traffic(sim)
    flows, evidence = sim.log.flow_table(), sim.log.evidence_table()
    scenario = Scenario(sim, flows, evidence, packets=view == "packets")
    _join_and_leave(scenario)
    for label in labels:
        if label in FAULTS:
            FAULT_SIMULATORS[label](scenario, *_draw_interval(sim, label))
    for label in labels:
        if label in ATTACKS:
            _add_attack(scenario, label)
    return _observe(scenario, view)


def _check(devices: int, hours: float, scenarios: Sequence[str] | None) -> None:
    if devices < 1 or hours <= 0:
        raise UserError(
            f"devices is {devices} and hours is {hours}; expected at least 1 device and hours above 0; give more"
        )
    known = [name for name in LABELS if name != NORMAL]
    if unknown := [name for name in scenarios or () if name not in known]:
        raise UserError(
            f"no scenario is called {', '.join(unknown)}; expected any of {', '.join(known)}; change --scenarios"
        )


# ---- what happens, and where ----


def _draw_labels(rng: np.random.Generator, seed: int, device_hours: float) -> list[str]:
    """The labels whose turn it is, and up to one more for every two devices and hours."""
    more = int(rng.integers(0, 3 + int(min(device_hours / 2, 60))))
    return [*_ROTA[seed % 4], *map(str, rng.choice(np.ravel(_ROTA), size=more))]


def _draw_house_labels(rng: np.random.Generator, seed: int) -> list[str]:
    """Nothing in every other house, else the labels whose turn it is and that need no machine of a
    plant."""
    if rng.random() < 0.5:
        return []
    return [label for label in _ROTA[seed % 4] if label not in _NEEDED_ROLES]


def _draw_view(rng: np.random.Generator, labels: list[str]) -> str:
    """What the capture is made of: packets, Zeek's logs, or conn.log alone."""
    view = str(rng.choice(VIEWS, p=[0.5, 0.15, 0.35]))
    if _NEEDS_PACKETS & set(labels):
        return "packets"
    return "logs" if view == "conn" and _NEEDS_LOGS & set(labels) else view


def _draw_simulated_plant(
    rng: np.random.Generator, devices: int, hours: float, labels: list[str], flavour: str
) -> SimulatedPlant:
    needed = dict.fromkeys(role for label in labels for role in _NEEDED_ROLES.get(label, ()))
    plant = draw_plant(rng, devices, flavour, tuple(needed))
    network = plant.devices[0].address.rsplit(".", 1)[0] + "."
    start_s = float(np.round(rng.uniform(1.4e9, 1.8e9), 3))
    end_s = start_s + hours * 3600
    daylight = max(np.sin((start_s % 86400 / 3600 - 6) / 12 * np.pi), 0)
    busy = float(rng.uniform(0.3, 0.6) + rng.uniform(0.5, 1.0) * daylight)
    resolver, clock = _draw_servers(rng, plant, network)
    log = FlowLog(rng)
    return SimulatedPlant(log, start_s, end_s, plant, network, resolver, clock, busy, flavour)


def _draw_servers(
    rng: np.random.Generator, plant: Plant, network: str
) -> tuple[str, tuple[str, ...]]:
    """The resolver, and the NTP servers: the plant's own where it has them, else the router or
    servers of the internet."""
    own, router = {device.role: device.address for device in plant.devices}, network + "1"
    afar = [str(address) for address in public_address(rng, int(rng.integers(2, 6)))]
    resolver = own.get("dns") or (router if rng.random() < 0.6 else afar[0])
    if "ntp" in own and rng.random() < 0.95:
        return resolver, (own["ntp"],)
    return resolver, tuple(([router] if rng.random() < 0.3 else []) + afar[1:])


def _draw_interval(sim: SimulatedPlant, label: str) -> tuple[float, float]:
    """When something happens: for minutes at any time; malware often was there first and stays."""
    rng = sim.rng
    length = min(log_uniform(rng, 60, 2400), sim.length_s * (1.0 if label == "c2" else 0.5))
    if label == "c2":
        length = max(length, sim.length_s * rng.uniform(0.1, 1))
        if rng.random() < 0.3:
            return sim.start_s, sim.start_s + length
    start_s = sim.start_s + rng.uniform(0, sim.length_s - length)
    return start_s, start_s + length


# ---- normal traffic ----
# Devices of one plant are alike: a hardened network has no announcements at all, an open one is
# full of them. So in an industrial plant a policy decides for all devices at once.

# What closed plants never do, one group or another.
_GROUPS = {
    "outward": (
        cloud.cloud_polling,
        cloud.push_session,
        cloud.idle_timeouts,
        cloud.upload,
        cloud.firmware_download,
        cloud.udp_relay,
        cloud.browsing,
        cloud.late_packets,
        cloud.failed_calls,
    ),
    "chatter": (
        services.announcements,
        services.dhcp,
        services.regular_lookups,
        services.failing_lookups,
        services.online_check,
        services.syslog,
        services.monitoring,
    ),
    "odd jobs": (cloud.dead_cloud, cloud.maintenance, devices.backup, devices.implicit_io),
}
_CLOSED_SHARE = {"outward": 0.75, "chatter": 0.8, "odd jobs": 0.6}
_GROUP_OF = {one: group for group, several in _GROUPS.items() for one in several}
# The odds of the policies: every device does it, as many as usual, or none.
_EVERY, _USUAL, _NONE = range(3)
_POLICY_ODDS = {services.ntp: (0.9, 0.07, 0.03), services.ipv6_neighbours: (0.65, 0.1, 0.25)}
_POLICY_ODDS |= dict.fromkeys(_GROUP_OF, (0.0, 0.55, 0.45))


def _is_drawn(
    sim: SimulatedPlant, behaviour: Callable[[SimulatedPlant, Device], None], likely: float
) -> bool:
    """Whether a device does what this share of its role does, given the plant's policy."""
    rng = sim.rng
    if behaviour in _POLICY_ODDS and sim.flavour == "industrial":
        group = _GROUP_OF.get(behaviour)
        if group and sim.draw_once("", group, lambda: rng.random() < _CLOSED_SHARE[group]):
            return False
        odds = _POLICY_ODDS[behaviour]
        policy = sim.draw_once("", behaviour.__name__, lambda: int(rng.choice(3, p=odds)))
        if policy != _USUAL:
            return bool(policy == _EVERY)
    return bool(rng.random() < likely)


def _add_normal_traffic(sim: SimulatedPlant) -> None:
    """Each device does what its role does, each thing with its likelihood."""
    # Most routers of industrial plants do nothing but forward.
    mute = sim.flavour == "industrial" and sim.rng.random() < 0.8
    for device in sim.plant.devices[int(mute) :]:
        for behaviour, likely in _list_habits(sim, device):
            if _is_drawn(sim, behaviour, likely):
                behaviour(sim, device)


def _list_habits(
    sim: SimulatedPlant, device: Device
) -> tuple[tuple[Callable[[SimulatedPlant, Device], None], float], ...]:
    """What a device may do, and how likely."""
    if sim.flavour == WIRELESS:
        return wireless.list_habits(sim, device)
    beside = services.SERVICES.get(device.role, services.SERVICES["default"])
    return (*devices.JOBS.get(device.role, ()), *beside, *cloud.CLOUD.get(device.role, ()))


def _join_and_leave(scenario: Scenario) -> None:
    """Some devices join late or leave early, as laptops do and new devices must."""
    rng, sim = scenario.rng, scenario.sim
    for device in sim.plant.devices[1:]:
        if rng.random() < (0.5 if device.role == "laptop" else 0.06):
            joins = rng.uniform(sim.start_s, sim.end_s)
            hit = scenario.involving(device.address)
            interrupt(scenario, hit, sim.start_s - 86400, joins, "gone")
        if device.role == "laptop" and rng.random() < 0.3:
            leaves = rng.uniform(sim.start_s, sim.end_s)
            hit = scenario.involving(device.address)
            interrupt(scenario, hit, leaves, sim.end_s + 86400, "gone")


# ---- attacks ----


def _add_attack(scenario: Scenario, label: str) -> None:
    """Add an attack's own flows, and its intervals of truth as the flows show them."""
    sim = scenario.sim
    sim.log = FlowLog(sim.rng)
    cause = ATTACK_SIMULATORS[label](sim, *_draw_interval(sim, label))
    flows, evidence = sim.log.flow_table(), sim.log.evidence_table()
    scenario.add_flows(sim.log)
    if len(evidence):
        scenario.evidence = pd.concat([scenario.evidence, evidence], ignore_index=True)
    marked = clip(flows[flows["label"] != NORMAL], sim.start_s, sim.end_s)
    for column, direction in (("id.orig_h", "source"), ("id.resp_h", "target")):
        near = marked[marked[column].str.startswith(sim.network)]
        for device, rows in near.groupby(column):
            for start_s, end_s in _active_intervals(rows):
                scenario.add_truth(str(device), start_s, end_s, label, direction, cause)


def _active_intervals(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Intervals in which one of the flows was active, a minute of rest bridged."""
    ts, duration = rows["ts"].to_numpy(float), rows["duration"].fillna(0).to_numpy(float)
    during = [t + np.arange(0, max(d, 1e-9), 30.0) for t, d in zip(ts, duration, strict=True)]
    return merge_times(np.concatenate([*during, ts + duration]), join_s=60.0)


# ---- the capture ----


def _observe(scenario: Scenario, view: str) -> Simulation:
    """What the chosen kind of capture sees of all that happened."""
    sim = scenario.sim
    flows = _typed(clip(scenario.flows, sim.start_s, sim.end_s))
    activity = packet_activity(flows, sim.rng) if view == "packets" else even_activity(flows)
    lost = draw_losses(scenario, flows, activity)
    flows["history"] = mark_retransmissions(flows["history"], lost).astype("str")
    evidence = make_evidence(scenario, flows, activity, lost)
    seen = flows[[*FLOW_COLUMNS, "label"]].copy()
    for name in ("service", "history"):
        seen[name] = seen[name].mask(seen[name] == "")
    if view != "packets":
        logged = evidence[evidence["kind"].isin(PROTOCOL_KINDS if view == "logs" else ())]
        evidence = join_evidence([flow_evidence(seen, view == "conn"), logged])
    truth = pd.DataFrame(without_overlaps(scenario.truth), columns=TRUTH_COLUMNS)
    truth = truth.sort_values(["start_s", "device"], kind="stable", ignore_index=True)
    sessions = make_sessions(seen, sim.end_s)
    activity = activity.reindex(columns=ACTIVITY_COLUMNS)
    capture = Capture(seen, activity, evidence, sessions=sessions)
    return Simulation(capture, truth, sim.plant)


def _typed(flows: pd.DataFrame) -> pd.DataFrame:
    """The flows with the column types of a capture, and uids."""
    types: dict[str, type | str] = dict.fromkeys(["ts", *COUNTS], float)
    types |= dict.fromkeys(["id.orig_p", "id.resp_p"], np.int64)
    words = ["id.orig_h", "id.resp_h", "proto", "service", "conn_state", "history", "label"]
    uid = "C" + pd.Series(np.arange(len(flows)).astype(str), dtype="str")
    return flows.astype({**types, **dict.fromkeys(words, "str")}).assign(uid=uid)


def write_simulation(simulation: Simulation, folder: Path) -> None:
    """Write conn.log, evidence.csv, truth.csv and plant.yaml into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "conn.log").open("w", encoding="utf-8") as stream:
        write_conn_log(simulation.capture.flows, stream)
    simulation.capture.evidence.to_csv(folder / "evidence.csv", index=False)
    simulation.truth.to_csv(folder / "truth.csv", index=False)
    (folder / "plant.yaml").write_text(dump_plant(simulation.plant), encoding="utf-8")
