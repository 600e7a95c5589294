"""DNP3: outstations and the masters that ask them (dnp3py, TCP port 20000)."""

import asyncio
import logging
import time
from pathlib import Path
from random import Random

from dnp3.application.builder import build_cold_restart_request
from dnp3.database import AnalogInputConfig, BinaryInputConfig, Database
from dnp3.master import DefaultSOEHandler, Master, MasterConfig, MasterTcpRunner
from dnp3.master.commands import CommandBuilder
from dnp3.master.tcp_runner import MasterRunnerError
from dnp3.outstation import Outstation, OutstationConfig, OutstationTcpRunner
from dnp3.transport_io.channel import ChannelError

from eval.testbed.programs.infrastructure import find_address
from eval.testbed.programs.process import machine_random, retry_pauses
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

_PORT = 20000


def dnp3_outstation(machine: Machine, site: Site, _folder: Path) -> None:
    """An outstation with ``points`` of each kind at ``station``; it has no outputs to command."""
    asyncio.run(_serve(machine, machine_random(machine, site)))


def dnp3_master(machine: Machine, site: Site, _folder: Path) -> None:
    """Poll ``server`` every ``poll_s``; command an output every ``command_s``, restart at ``restart_s``."""
    rng = machine_random(machine, site)
    wait = retry_pauses(machine, rng)
    while True:
        try:
            asyncio.run(_follow(machine, find_address(machine, site, machine.settings["server"])))
        except (ChannelError, MasterRunnerError) as error:
            log.warning("%s: session lost: %s", machine.settings["server"], error)
        time.sleep(next(wait))


async def _serve(machine: Machine, rng: Random) -> None:
    settings, database = machine.settings, Database()
    for index in range(settings["points"]):
        database.add_binary_input(index, BinaryInputConfig())
        database.add_analog_input(index, AnalogInputConfig())
    outstation = Outstation(database=database, config=OutstationConfig(address=settings["station"]))
    port = settings.get("port", _PORT)
    runner = OutstationTcpRunner(outstation=outstation, host="0.0.0.0", port=port)  # noqa: S104
    running = asyncio.ensure_future(runner.run())
    while not running.done():
        for index in range(settings["points"]):
            database.update_analog_input(index, value=rng.randrange(1000))
        await asyncio.sleep(1.0)


async def _follow(machine: Machine, address: str) -> None:
    settings = machine.settings
    config = MasterConfig(
        address=settings.get("address", 2),
        outstation_address=settings["station"],
        response_timeout=settings.get("timeout_s", 3.0),
    )
    master = Master(handler=DefaultSOEHandler(), config=config)
    port, begun_s, last_s = settings.get("port", _PORT), time.monotonic(), time.monotonic()
    restart_s, number = settings.get("restart_s"), 0
    async with MasterTcpRunner(master=master, host=address, port=port) as runner:
        log.info("connected to %s", settings["server"])
        while True:
            await runner.integrity_poll()
            if time.monotonic() - last_s > settings.get("command_s", float("inf")):
                last_s, number = time.monotonic(), number + 1
                task = CommandBuilder().latch_on(settings.get("output", 0)).build_direct_operate()
                await runner.request(task.build_request(seq=number % 16))
            if restart_s is not None and time.monotonic() - begun_s > restart_s:
                restart_s = None
                await runner.request(build_cold_restart_request(seq=number % 16))
            await asyncio.sleep(settings["poll_s"])
