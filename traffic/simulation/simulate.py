"""Labelled traffic without a network: a plant is drawn, lives for some hours, and things happen to
it.

    plant ─▶ normal flows ─▶ faults change them ─▶ attacks are added ─▶ clipped to the capture ─▶
    activity, evidence

It exists to train models that must hold on captures nobody has seen, so sizes, rates, addresses,
ports, rhythms and policies are drawn per plant and per device from wide ranges, all by one
generator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import ACTIVITY_COLUMNS, COUNTS, FLOW_COLUMNS, Capture, join_evidence
from traffic.errors import UserError
from traffic.labels import ATTACKS, FAULTS, LABELS, NORMAL
from traffic.plant import Device, Plant, dump_plant
from traffic.simulation.attacks import ATTACKS as ATTACKING
from traffic.simulation.cloud import BEYOND
from traffic.simulation.devices import (
    archive,
    axes,
    batches,
    camera,
    controller,
    engineer,
    history,
    implicit_io,
    remote,
    sensor,
    subscriber,
)
from traffic.simulation.distributions import between, public_address
from traffic.simulation.faults import FAULTS as BREAKING
from traffic.simulation.flows import Ledger
from traffic.simulation.observation import (
    PROTOCOL_KINDS,
    draw_losses,
    evenly,
    gathered,
    make_evidence,
    story_of,
)
from traffic.simulation.outages import clipped, interrupt
from traffic.simulation.plant import FLAVOURS, Stage, invent_plant
from traffic.simulation.scenario import Scene, merged, settled
from traffic.simulation.services import SERVICES
from traffic.zeek.conn import flow_evidence, write_conn_log

# What each kind of device does for its living, as a table: behaviours, and how likely each is.

MACHINES = {
    "plc": ((controller, 1.0), (implicit_io, 0.3)),
    "drive": ((controller, 1.0),),
    "gateway": ((controller, 1.0),),
    "robot": ((axes, 1.0), (remote, 0.45)),
    "sensor": ((sensor, 1.0),),
    "camera": ((camera, 1.0), (remote, 0.35)),
    "hmi": ((subscriber, 0.1),),
    "edge": ((subscriber, 0.95), (batches, 0.95), (remote, 0.7)),
    "historian": ((history, 0.85), (subscriber, 0.04), (archive, 0.1), (remote, 0.35)),
    "recorder": ((archive, 0.1),),
    "server": ((subscriber, 0.4), (archive, 0.5)),
    "workstation": ((engineer, 0.8),),
}


# What a plant's people have decided for all of its devices: who keeps time, who announces itself,
# who may call out.
#
# Devices of one plant are alike in this: a hardened network has no announcements at all, an open
# one is full of them.

# For a plant: the odds that every device, as many as usual, or no device does it
_TIME, _IPV6, _ELSE = (0.9, 0.07, 0.03), (0.65, 0.1, 0.25), (0.0, 0.55, 0.45)
# What closed plants never do, one group or another; in open ones each behaviour still is a custom
# of its own.
_GROUPS = {
    "outward": (
        "polling",
        "pushed",
        "timed_out",
        "upload",
        "update",
        "relay",
        "browsing",
        "stray",
        "mishaps",
    ),
    "chatter": (
        "announcements",
        "lease",
        "names",
        "needless_names",
        "reachable",
        "log_lines",
        "watched",
    ),
    "odd jobs": ("dead_service", "shell", "archive", "implicit_io"),
}
_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names}
_CLOSED = {"outward": 0.75, "chatter": 0.8, "odd jobs": 0.6}
_EVERY, _USUAL = 0, 1


def does(stage: Stage, behaviour: Callable[[Stage, Device], Any], likely: float) -> bool:
    """Whether a device does something that this share of its kind does, given the customs of an
    industrial plant."""
    rng, name = stage.rng, behaviour.__name__
    odds = {"clock": _TIME, "neighbours": _IPV6}.get(name, _ELSE if name in _GROUP_OF else None)
    if odds is not None and stage.flavour == "industrial":
        group = _GROUP_OF.get(name)
        if group and stage.habit("", group, lambda: rng.random() < _CLOSED[group]):
            return False
        custom = stage.habit("", name, lambda: int(rng.choice(3, p=odds)))
        if custom != _USUAL:
            return bool(custom == _EVERY)
    return bool(rng.random() < likely)


TRUTH_COLUMNS = ["device", "start_s", "end_s", "label", "direction", "cause"]
_NEEDED = {
    "unauthorized_command": ("plc",),
    "mqtt_abuse": ("broker", "sensor"),
    "device_silent": ("server",),
}
VIEWS = ("packets", "logs", "conn")
# What shows in packets only, or in Zeek's protocol logs at least.
_NEEDS_PACKETS = {"spoofing", "packet_loss", "congestion"}
_NEEDS_LOGS = {"unauthorized_command", "mqtt_abuse", "name_resolution"}
# Every four seeds in a row hold every label.
_ROTA = (
    *(
        "c2",
        "packet_loss",
        "recon",
        "service_down",
        "dos",
        "device_silent",
        "exfiltration",
        "name_resolution",
    ),
    *(
        "ddos",
        "congestion",
        "brute_force",
        "misconfiguration",
        "unauthorized_command",
        "flapping",
        "mqtt_abuse",
        "spoofing",
    ),
)


@dataclass(frozen=True)
class Simulation:
    """A capture that never was, and what is true of it.

    Attributes:
        capture: flows (with ``label``), activity, evidence.
        truth: ``device start_s end_s label direction cause``; of faults the label, of attacks the
            documentation.
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
    """Draw a plant and let it live; the same arguments give the same tables.

    Args:
        seed: seeds the one generator.
        devices: how many devices the plant has, at least 1; the first is its router if there are
            two.
        hours: length of the capture, above 0.
        scenarios: labels that happen, each once; by default at least four of them in turn, so that
            any four consecutive seeds hold every label.
        quiet: nothing happens; only normal traffic.
        flavour: what the plant is, one of ``FLAVOURS``; drawn by default.
        view: what the capture is made of, one of ``VIEWS``; drawn by default.

    Returns:
        Flows, evidence and truth, with local addresses in private ranges.

    Raises:
        UserError: a scenario is no label of an attack or fault, or ``devices`` or ``hours`` is too
            small.
    """
    _check(devices, hours, scenarios)
    rng = np.random.default_rng(seed)
    chosen = (
        []
        if quiet
        else list(scenarios)
        if scenarios is not None
        else _draw(rng, seed, devices * hours)
    )
    view = view or _draw_view(rng, chosen)
    stage = _set_stage(
        rng, devices, hours, chosen, flavour or str(rng.choice(FLAVOURS, p=[0.45, 0.3, 0.25]))
    )
    _live(stage)
    scene = Scene(
        stage, stage.ledger.flow_table(), stage.ledger.evidence_table(), packets=view == "packets"
    )
    _come_and_go(scene)
    for name in [name for name in chosen if name in FAULTS]:
        BREAKING[name](scene, *_time(stage, name))
    _attack(scene, [name for name in chosen if name in ATTACKS])
    return _captured(scene, view)


def _check(devices: int, hours: float, scenarios: Sequence[str] | None) -> None:
    if devices < 1 or hours <= 0:
        raise UserError(
            f"devices is {devices} and hours is {hours}; expected at least 1 device and hours above 0; give more"
        )
    unknown = [name for name in scenarios or () if name not in LABELS or name == NORMAL]
    if unknown:
        known = ", ".join(name for name in LABELS if name != NORMAL)
        raise UserError(
            f"no scenario is called {', '.join(unknown)}; expected any of {known}; change --scenarios"
        )


def _draw(rng: np.random.Generator, seed: int, device_hours: float) -> list[str]:
    """The labels whose turn it is, and up to one more for every two devices and hours."""
    first = seed % 4 * 4
    more = int(rng.integers(0, 3 + int(min(device_hours / 2, 60))))
    return [*_ROTA[first : first + 4], *(str(name) for name in rng.choice(_ROTA, size=more))]


def _draw_view(rng: np.random.Generator, chosen: list[str]) -> str:
    """What the capture is made of: packets, Zeek's logs, or conn.log alone."""
    view = str(rng.choice(VIEWS, p=[0.5, 0.15, 0.35]))
    if _NEEDS_PACKETS & set(chosen):
        return "packets"
    return "logs" if view == "conn" and _NEEDS_LOGS & set(chosen) else view


def _set_stage(
    rng: np.random.Generator, devices: int, hours: float, chosen: list[str], flavour: str
) -> Stage:
    needed = tuple(dict.fromkeys(role for name in chosen for role in _NEEDED.get(name, ())))
    plant = invent_plant(rng, devices, flavour, needed)
    network = plant.devices[0].address.rsplit(".", 1)[0] + "."
    start_s = float(np.round(rng.uniform(1.4e9, 1.8e9), 3))
    hour = start_s % 86400 / 3600
    busy = float(
        rng.uniform(0.3, 0.6) + rng.uniform(0.5, 1.0) * max(np.sin((hour - 6) / 12 * np.pi), 0)
    )
    resolver, clock = _servers(rng, plant, network)
    return Stage(
        Ledger(rng), start_s, start_s + hours * 3600, plant, network, resolver, clock, busy, flavour
    )


def _servers(rng: np.random.Generator, plant: Plant, network: str) -> tuple[str, tuple[str, ...]]:
    """Who is asked for names and time: servers of the plant's own where it has them, else the
    router or strangers."""
    own = {device.role: device.address for device in plant.devices}
    router, afar = (
        network + "1",
        [str(address) for address in public_address(rng, int(rng.integers(2, 6)))],
    )
    resolver = own.get("dns") or (router if rng.random() < 0.6 else afar[0])
    if "ntp" in own and rng.random() < 0.95:
        return resolver, (own["ntp"],)
    return resolver, tuple(([router] if rng.random() < 0.3 else []) + afar[1:])


def _live(stage: Stage) -> None:
    """Everything normal: each device does what its role does, each thing with its likelihood."""
    mute = (
        stage.flavour == "industrial" and stage.rng.random() < 0.8
    )  # a router that does nothing but forward
    for device in stage.plant.devices[int(mute) :]:
        services = SERVICES.get(device.role, SERVICES["default"])
        for behaviour, likely in (
            *MACHINES.get(device.role, ()),
            *services,
            *BEYOND.get(device.role, ()),
        ):
            if does(stage, behaviour, likely):
                behaviour(stage, device)


def _come_and_go(scene: Scene) -> None:
    """Some devices join late or leave early, as laptops do and new devices must."""
    rng, stage = scene.stage.rng, scene.stage
    for device in stage.plant.devices[1:]:
        if rng.random() < (0.5 if device.role == "laptop" else 0.06):
            join = rng.uniform(stage.start_s, stage.end_s)
            interrupt(scene, scene.involving(device.address), stage.start_s - 86400, join, "gone")
        if device.role == "laptop" and rng.random() < 0.3:
            leave = rng.uniform(stage.start_s, stage.end_s)
            interrupt(scene, scene.involving(device.address), leave, stage.end_s + 86400, "gone")


def _time(stage: Stage, name: str) -> tuple[float, float]:
    """When something happens: for minutes at any time; malware often was there first and stays."""
    rng = stage.rng
    length = min(between(rng, 60, 2400), stage.length_s * (1.0 if name == "c2" else 0.5))
    if name == "c2":
        length = max(length, stage.length_s * rng.uniform(0.1, 1))
        if rng.random() < 0.3:
            return stage.start_s, stage.start_s + length
    start_s = stage.start_s + rng.uniform(0, stage.length_s - length)
    return start_s, start_s + length


def _attack(scene: Scene, names: list[str]) -> None:
    """Add the attacks' own flows, and their intervals as the flows show them."""
    for name in names:
        ledger = Ledger(scene.stage.rng)
        scene.stage.ledger = ledger
        cause = ATTACKING[name](scene.stage, *_time(scene.stage, name))
        flows, notes = ledger.flow_table(), ledger.evidence_table()
        scene.flows = pd.concat([scene.flows, flows], ignore_index=True)
        scene.notes = (
            pd.concat([scene.notes, notes], ignore_index=True) if len(notes) else scene.notes
        )
        marked = clipped(flows[flows["label"] != NORMAL], scene.stage.start_s, scene.stage.end_s)
        for column, direction in (("id.orig_h", "source"), ("id.resp_h", "target")):
            for device, rows in marked[marked[column].str.startswith(scene.stage.network)].groupby(
                column
            ):
                for start_s, end_s in _spans(rows):
                    scene.tell(str(device), start_s, end_s, name, direction, cause)


def _spans(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Stretches in which one of the flows was active, a minute of rest bridged."""
    ts, duration = rows["ts"].to_numpy(float), rows["duration"].fillna(0).to_numpy(float)
    steps = [np.arange(0, max(d, 1e-9), 30.0) for d in duration]
    return merged(
        np.concatenate([t + s for t, s in zip(ts, steps, strict=True)] + [ts + duration]),
        join_s=60.0,
    )


def _captured(scene: Scene, view: str) -> Simulation:
    """What the chosen kind of capture sees of all that happened."""
    stage = scene.stage
    flows = _typed(clipped(scene.flows, stage.start_s, stage.end_s))
    activity = gathered(flows, stage.rng) if view == "packets" else evenly(flows)
    lost = draw_losses(scene, flows, activity)
    flows["history"] = story_of(flows["history"], lost).astype("str")
    evidence = make_evidence(scene, flows, activity, lost)
    plain = flows[[*FLOW_COLUMNS, "label"]].copy()
    for name in ("service", "history"):
        plain[name] = plain[name].mask(plain[name] == "")
    if view != "packets":
        kinds = PROTOCOL_KINDS if view == "logs" else ()
        evidence = join_evidence(
            [flow_evidence(plain, view == "conn"), evidence[evidence["kind"].isin(kinds)]]
        )
    truth = pd.DataFrame(settled(scene.truth), columns=TRUTH_COLUMNS)
    truth = truth.sort_values(["start_s", "device"], kind="stable", ignore_index=True)
    return Simulation(Capture(plain, activity[ACTIVITY_COLUMNS], evidence), truth, stage.plant)


def _typed(flows: pd.DataFrame) -> pd.DataFrame:
    numbers = dict.fromkeys(["ts", *COUNTS], float) | dict.fromkeys(
        ["id.orig_p", "id.resp_p"], np.int64
    )
    words = ["id.orig_h", "id.resp_h", "proto", "service", "conn_state", "history", "label"]
    uid = "C" + pd.Series(np.arange(len(flows)).astype(str), dtype="str")
    return flows.astype(numbers | dict.fromkeys(words, "str")).assign(uid=uid)


def write_simulation(simulation: Simulation, folder: Path) -> None:
    """Write conn.log, evidence.csv, truth.csv and plant.yaml into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "conn.log").open("w", encoding="utf-8") as stream:
        write_conn_log(simulation.capture.flows, stream)
    simulation.capture.evidence.to_csv(folder / "evidence.csv", index=False)
    simulation.truth.to_csv(folder / "truth.csv", index=False)
    (folder / "plant.yaml").write_text(dump_plant(simulation.plant), encoding="utf-8")
