"""OPC UA: a robot that serves its axes, and the MES that subscribes to them and reads them now and then."""

import asyncio
import logging
import math
import time
from pathlib import Path
from random import Random
from typing import Any

from asyncua import Client, Node, Server, ua

from eval.testbed.names import find
from eval.testbed.rhythm import dice_of, pauses
from eval.testbed.site import Machine, Site

__all__ = ["opcua_client", "opcua_server"]

log = logging.getLogger(__name__)

_NAMESPACE = "urn:plant:robot"


def opcua_server(machine: Machine, site: Site, folder: Path) -> None:
    """Serve ``axes`` positions on ``port``, moved every ``cycle_s``."""
    del folder
    asyncio.run(_serve(machine, dice_of(machine, site)))


def opcua_client(machine: Machine, site: Site, folder: Path) -> None:
    """Subscribe to the axes of ``server`` at ``publish_ms``, and read them all every ``read_s``, for ever."""
    del folder
    dice = dice_of(machine, site)
    wait = pauses(machine, dice)
    while True:
        start_s = time.monotonic()
        try:
            url = f"opc.tcp://{find(machine, site, machine.settings['server'])}:{machine.settings['port']}"
            asyncio.run(_follow(machine, url, dice))
        except (OSError, ua.UaError, asyncio.CancelledError) as error:
            log.warning("%s: session lost: %s", machine.settings["server"], error or type(error).__name__)
            if time.monotonic() - start_s > 30:  # it had been connected
                wait = pauses(machine, dice)
        time.sleep(next(wait))


async def _serve(machine: Machine, dice: Random) -> None:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://0.0.0.0:{machine.settings['port']}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(_NAMESPACE)
    robot = await server.nodes.objects.add_object(index, "Robot")
    names = [f"Axis{number}" for number in range(1, machine.settings["axes"] + 1)]
    axes = [await robot.add_variable(ua.NodeId.from_string(f"ns={index};s={name}"), name, 0.0) for name in names]
    turn_s = [dice.uniform(3, 12) for _ in axes]
    async with server:
        log.info("OPC UA server on port %d", machine.settings["port"])
        while True:
            for axis, turn in zip(axes, turn_s, strict=True):
                await axis.write_value(90 * math.sin(2 * math.pi * time.monotonic() / turn))
            await asyncio.sleep(machine.settings["cycle_s"])


async def _follow(machine: Machine, url: str, dice: Random) -> None:
    """Hold one session until it fails."""
    async with Client(url, timeout=machine.settings.get("timeout_s", 4.0)) as client:
        index = await client.get_namespace_index(_NAMESPACE)
        names = [f"Axis{number}" for number in range(1, machine.settings["axes"] + 1)]
        axes = [client.get_node(ua.NodeId.from_string(f"ns={index};s={name}")) for name in names]
        subscription = await client.create_subscription(machine.settings["publish_ms"], _Changes())
        await subscription.subscribe_data_change(axes)
        log.info("connected to %s, %d axes", machine.settings["server"], len(axes))
        while True:
            await asyncio.sleep(machine.settings["read_s"] * (1 + dice.uniform(-0.1, 0.1)))
            await client.read_values(axes)


class _Changes:
    """What a subscription reports is taken and forgotten: the MES would book it."""

    def datachange_notification(self, node: Node, value: Any, data: Any) -> None:
        del node, value, data
