"""Record an agent whose commands fail: ``python -m eval.testbed.cases.agent OUT [--seed N]``, as root.

A plant of Modbus controllers, a gateway, a broker with a valve behind it, and an agent that drives
them (``eval.testbed.tools.agent``). What goes wrong, and when, is fixed before; so is whose fault each
command's failure is. ``OUT`` gets capture.pcap, plant.yaml, commands.jsonl, truth.yaml and manuals/;
``faultwise eval locate OUT`` grades what ``faultwise locate`` makes of them.
"""

import argparse
import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from eval.testbed.cases.background import add_broker, add_panel, polls
from eval.testbed.cases.case import Act, CaseTruth, Draw, Scene, Step, run_tools
from eval.testbed.cases.stage import isolated, play
from eval.testbed.events.actions import (
    packets_lost,
    program_paused,
    program_stopped,
    settings_changed,
    tool_command,
    tool_running,
    unplugged,
)
from eval.testbed.host import check_host
from eval.testbed.lab import Lab
from eval.testbed.site import Machine
from traffic.errors import UserError
from traffic.files import write_text
from traffic.plant import dump_plant

log = logging.getLogger(__name__)
_USER, _PASSWORD = "line", "k3WqmPz8"
_DOMAIN = "works.example"
_LENGTH_S = 470.0
_MODEL = "Ostra P40"

# What the makers of these devices say of them; the codes are meant as they are sent here.
MANUAL = f"""---
about: {_MODEL}
---
# {_MODEL} press controller: operating manual

## Register map

Unit id 1; another unit id is not answered.

| Register | Function codes | Content |
| --- | --- | --- |
| 40001-40060 | 3, 6, 16 | setpoints |
| 40071-40080 | 3 | recipe, read only |
| 30001-30016 | 4 | measuring module |

## Modbus exceptions sent by this controller

| Exception | Name | Usual reason here |
| --- | --- | --- |
| 0x01 | illegal function | not supported |
| 0x02 | illegal data address | measuring module not fitted, or its supply is off |
| 0x03 | illegal data value | emergency stop is pressed: no setpoint is taken before restart |
| 0x04 | device failure | setpoints 40031-40040 are write protected; key switch in RUN |
"""


def build(seed: int) -> tuple[Scene, dict[str, Any]]:
    """The scene of a seed and the plan of its agent, with the truth of each step."""
    draw = Draw("agent", seed)
    add: dict[str, Any] = {
        "port": 502,
        "unit": 1,
        "registers": 120,
        "scan_s": 0.004,
        "ignores_other_units": True,
    }
    failing = [{"code": 4, "first": 100, "last": 109}, {"code": 6, "first": 110, "last": 119}]
    refusing: list[list[dict[str, int]]] = [failing, [], []]
    plcs = [draw.add("plc", "plc", **{**add, "refuse": some}) for some in refusing]
    slow = draw.add("plc", "plc", **{**add, "scan_s": 8.0})
    own = [{"code": 4, "first": 30, "last": 39, "functions": [6, 16]},
           {"code": 3, "first": 40, "last": 49, "functions": [6, 16]},
           {"code": 2, "first": 0, "last": 15, "functions": [4]}]  # fmt: skip
    press = [draw.add("plc", "plc", **{**add, "refuse": own}) for _ in range(2)]
    gateway = draw.add("gateway", "modbus_gateway", units=[1, 2, 3], port=502)
    broker, other = add_broker(draw), add_broker(draw)
    valve, spare = draw.add("valve"), draw.add("valve")
    machines = [*plcs, slow, *press, gateway]
    for server in (*plcs, press[0], gateway):
        add_panel(draw, polls(server, 0, 8), poll_s=1.0)
    add_panel(draw, polls(gateway, 0, 4, unit=3), poll_s=1.0)
    names = {f"{one.name}.{_DOMAIN}": one.address for one in machines}
    resolver = draw.add("dns", "dns", domain=_DOMAIN, names=names)
    agent = draw.add("agent")
    nobody = draw.free_address()
    for one in press:
        draw.machines[draw.machines.index(one)] = replace(one, model=_MODEL)
    steps = _plan(plcs, slow, press, gateway, (broker, other), (valve, spare), nobody)
    hosts = {one.name: one.address for one in draw.machines}
    plan: dict[str, Any] = {"source": agent.address, "hosts": hosts, "resolver": resolver.address}
    plan |= {"password": _PASSWORD, "steps": steps}

    def actuate(machine: Machine) -> Act:
        words = ("actuator", machine.name, broker.address, _USER, _PASSWORD)
        return run_tools(machine, tool_command("agent", *words))

    acts = [
        Step(-1, 9e9, actuate(valve)), Step(-1, 165, actuate(spare)),
        Step(0, 9e9, _drive(agent)),
        Step(70, 9e9, lambda lab: settings_changed(lab, gateway.name, dead=[3])),
        Step(165, 205, _do(program_stopped, plcs[1].name)), Step(165, 9e9, _do(program_stopped, other.name)),
        Step(165, 205, _do(program_paused, plcs[2].name)), Step(165, 225, _do(unplugged, press[1].name)),
        Step(240, 275, _do(packets_lost, plcs[1].name, 0.65)), Step(240, 275, _do(packets_lost, broker.name, 0.65)),
        Step(300, 325, _do(unplugged, plcs[0].name, plcs[1].name, plcs[2].name, gateway.name)),
        Step(345, 370, _do(unplugged, agent.name)),
        Step(385, 405, _dropping(plcs[1].name, 502)),
        Step(410, 430, lambda lab: settings_changed(lab, resolver.name, mute=True)),
        Step(435, 465, _do(packets_lost, agent.name, 0.65)),
    ]  # fmt: skip
    return Scene(draw.site(), CaseTruth("", ""), _LENGTH_S, tuple(acts)), plan


def _plan(
    plcs: list[Machine],
    slow: Machine,
    press: list[Machine],
    gateway: Machine,
    brokers: tuple[Machine, Machine],
    valves: tuple[Machine, Machine],
    nobody: str,
) -> list[dict[str, Any]]:
    """What the agent does, when, and whose fault its failure is: ``truth``; ``manual``: only the
    device's manual tells."""
    one, two, three = (plc.name for plc in plcs)
    valve, spare = (one.name for one in valves)
    good, down = (broker.name for broker in brokers)
    through = {"topic": f"line/{valve}/cmd", "payload": "open", "broker": good}
    table: list[tuple[Any, ...]] = [
        (90, "read_registers", one, {"address": 300}, "command"),
        (0, "write_register", one, {"address": 400, "value": 5}, "command"),
        (0, "read_fifo", one, {"address": 3}, "command"),
        (0, "read_registers", two, {"address": 0, "unit": 9}, "command"),
        (0, "read_registers", two, {"address": 0, "port": 5020}, "command"),
        (0, "read_registers", nobody, {"address": 0}, "command"),
        (0, "read_registers", "plc-77", {"address": 0}, "command"),
        (0, "write_register", three, {"address": 7, "value": 70000}, "command"),
        (0, "publish", good, {"topic": "line/report", "payload": "1", "password": "wrong"}, "command"),
        (0, "publish", valve, {**through, "topic": f"lines/{valve}/cmd"}, "command"),
        (0, "read_registers", gateway.name, {"address": 0, "unit": 9}, "command"),
        (0, "read_registers", f"{one}x.{_DOMAIN}", {"address": 0}, "command"),
        (0, "write_register", one, {"address": 0, "value": 1}, "command"),
        (0, "read_registers", one, {"address": 102}, "device"),
        (0, "write_register", one, {"address": 112, "value": 5}, "device"),
        (0, "read_registers", gateway.name, {"address": 0, "unit": 3}, "device"),
        (0, "read_registers", slow.name, {"address": 0}, "device"),
        (0, "write_register", press[0].name, {"address": 35, "value": 5}, "command", "manual"),
        (0, "write_register", press[0].name, {"address": 45, "value": 5}, "device", "manual"),
        (0, "read_inputs", press[0].name, {"address": 3}, "device", "manual"),
        (0, "read_registers", press[1].name, {"address": 0, "unit": 2}, "command", "manual"),
        (178, "read_registers", two, {"address": 0}, "device"),
        (0, "read_registers", three, {"address": 0}, "device"),
        (0, "read_registers", press[1].name, {"address": 0}, "device"),
        (0, "publish", down, {"topic": "line/report", "payload": "1"}, "device"),
        (0, "publish", spare, {**through, "topic": f"line/{spare}/cmd"}, "device"),
        (243, "read_registers", two, {"address": 0}, "network"),
        (0, "write_register", two, {"address": 20, "value": 9}, "network"),
        (0, "publish", good, {"topic": "line/report", "payload": "1"}, "network"),
        (304, "read_registers", one, {"address": 0}, "network"),
        (0, "read_registers", gateway.name, {"address": 0}, "network"),
        (0, "read_registers", three, {"address": 0}, "network"),
        (349, "read_registers", one, {"address": 0}, "network"),
        (0, "write_register", three, {"address": 20, "value": 9}, "network"),
        (388, "read_registers", two, {"address": 0}, "network"),
        (413, "read_registers", f"{one}.{_DOMAIN}", {"address": 0}, "network"),
        (438, "read_registers", one, {"address": 0}, "network"),
        (0, "read_registers", three, {"address": 0}, "network"),
    ]  # fmt: skip
    steps, at_s = [], 0.0
    for number, (since_s, skill, device, args, truth, *manual) in enumerate(table, 1):
        at_s = max(at_s + 3.2, since_s)
        lossy = truth == "network" and (243 <= at_s < 300 or at_s >= 430)
        steps.append({
            "id": f"c{number:02}", "at_s": at_s, "skill": skill, "device": device, "args": args,
            "until_fails": 6 if lossy else 1, "truth": truth, "manual": bool(manual),
        })  # fmt: skip
    return steps


# ---- What goes wrong ----


def _do(change: Callable[..., AbstractContextManager[None]], *arguments: Any) -> Act:
    return lambda lab: change(lab, *arguments)


def _drive(agent: Machine) -> Act:
    def act(lab: Lab) -> AbstractContextManager[None]:
        plan, out = lab.folder / "plan.json", lab.folder / "commands.jsonl"
        return tool_running(lab, agent.name, tool_command("agent", "drive", plan, out))

    return act


def _dropping(name: str, port: int) -> Act:
    """A filter on a machine's cable that drops new connections to a port, and says nothing."""
    chain = "type filter hook ingress device eth0 priority 1;"
    drop = f"tcp dport {port} tcp flags & (syn | ack) == syn drop;"
    rules = f"table netdev filter {{ chain cable {{ {chain} {drop} }}; }}\n"

    @contextlib.contextmanager
    def act(lab: Lab) -> Iterator[None]:
        path = lab.folder / "filter.nft"
        path.write_text(rules)
        if lab.run(name, ["nft", "-f", str(path)]).wait():
            raise RuntimeError("the filter could not be set")
        yield
        lab.run(name, ["nft", "delete", "table", "netdev", "filter"]).wait()

    return act


# ---- Recording ----


def record(out: Path, seed: int) -> bool:
    """Record the scene of a seed into a new folder; returns whether that went well."""
    scene, plan = build(seed)
    folder = out / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "plan.json", json.dumps(plan))
    pcap = folder / "capture.pcap"
    if isolated(lambda: play(scene, folder, pcap), folder / "stage.log") or not pcap.exists():
        return False
    pcap.rename(out / "capture.pcap")
    (folder / "commands.jsonl").rename(out / "commands.jsonl")
    write_text(out / "plant.yaml", dump_plant(scene.site.plant()))
    write_text(out / "manuals" / "ostra-p40.md", MANUAL)
    truth = [{"id": s["id"], "truth": s["truth"], "manual": s["manual"]} for s in plan["steps"]]
    write_text(out / "truth.yaml", yaml.safe_dump(truth, sort_keys=False))
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.testbed.cases.agent", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        check_host()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    begun = time.monotonic()
    good = record(given.out, given.seed)
    how = "recorded" if good else f"failed, {given.out}/logs says why"
    log.info("seed %d: %s in %.0f s", given.seed, how, time.monotonic() - begun)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
