"""BACnet/IP devices and who asks them (bacpypes3, UDP port 47808)."""

import asyncio
import ipaddress
import logging
from pathlib import Path

from bacpypes3.apdu import ErrorRejectAbortNack, ReinitializeDeviceRequest
from bacpypes3.app import Application
from bacpypes3.local.analog import AnalogValueObject
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.networkport import NetworkPortObject
from bacpypes3.pdu import Address

from eval.testbed.programs.infrastructure import find_address
from eval.testbed.programs.process import machine_random
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)


def bacnet_device(machine: Machine, site: Site, _folder: Path) -> None:
    """A device ``instance`` with ``values`` analog values, numbered from 1."""
    asyncio.run(_serve(machine, site))


def bacnet_client(machine: Machine, site: Site, _folder: Path) -> None:
    """Read ``objects`` of ``server`` every ``poll_s``, and look for devices every ``whois_s``.

    An object is ``[object, property]``, as ``["analog-value,1", "present-value"]``. Every
    ``restart_s`` the device is told to restart, which it does not know how to.
    """
    asyncio.run(_ask(machine, site))


def _application(machine: Machine, site: Site) -> Application:
    prefix = ipaddress.ip_network(site.network).prefixlen
    instance = machine.settings["instance"]
    device = DeviceObject(
        objectIdentifier=("device", instance), objectName=machine.name, vendorIdentifier=15
    )
    port = NetworkPortObject(
        f"{machine.address}/{prefix}", objectIdentifier=("network-port", 1), objectName="port"
    )
    return Application.from_object_list([device, port])


async def _serve(machine: Machine, site: Site) -> None:
    rng, application = machine_random(machine, site), _application(machine, site)
    values = []
    for number in range(1, machine.settings["values"] + 1):
        value = AnalogValueObject(
            objectIdentifier=("analog-value", number), objectName=f"value {number}", presentValue=20.0,
            statusFlags=[0, 0, 0, 0], eventState="normal", outOfService=False, units="degrees-celsius",
        )  # fmt: skip
        application.add_object(value)
        values.append(value)
    log.info("device %d", machine.settings["instance"])
    while True:
        for value in values:
            value.presentValue = rng.uniform(18, 24)
        await asyncio.sleep(1.0)


async def _ask(machine: Machine, site: Site) -> None:
    rng, settings, application = (
        machine_random(machine, site),
        machine.settings,
        _application(machine, site),
    )
    server = Address(find_address(machine, site, settings["server"]))
    loop, whois_s = asyncio.get_running_loop(), settings.get("whois_s", float("inf"))
    due_s = loop.time() + min(whois_s, 5.0)
    restart_due_s = loop.time() + settings.get("restart_s", float("inf"))
    while True:
        for name, what in settings["objects"]:
            try:
                await application.read_property(server, name, what)
            except ErrorRejectAbortNack as error:
                log.error("%s %s: %s", name, what, error)
        if loop.time() > restart_due_s:
            restart_due_s = loop.time() + settings["restart_s"]
            request = ReinitializeDeviceRequest(
                reinitializedStateOfDevice="warmstart", password="", destination=server
            )
            try:
                await application.request(request)
            except ErrorRejectAbortNack as error:
                log.error("restart refused: %s", error)
        if loop.time() > due_s:
            application.who_is()
            due_s = loop.time() + whois_s
        await asyncio.sleep(settings["poll_s"] * rng.uniform(0.98, 1.02))
