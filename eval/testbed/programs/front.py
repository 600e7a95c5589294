"""What stands before a device's server: few sessions, short patience, answers late or lost.

Real devices limit sessions and close idle ones in their TCP stack, below the protocol. So this is a
relay between the port that clients call and the real server behind it, for any protocol over TCP:

    client ── port ── Front ── 127.0.0.1:behind ── the machine's program
"""

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)


def front(machine: Machine, _site: Site) -> None:
    """Relay as ``front`` of the machine's settings says, beside its program.

    It has ``port`` and ``behind``, and may have, counted from the program's start:
    ``sessions`` (more are closed right after the handshake), ``idle_s`` (a session without a
    request for so long is closed, with ``reset`` by RST), ``mute_every_s`` (one answer in so many
    seconds is lost), ``late_every_s`` and ``late_s`` (one is late), ``hold_from_s`` (from then on
    each answer waits for the next request), ``delay_from_s``, ``delay_to_s`` and ``delay_s`` (all
    are late in that time).
    """
    asyncio.run(_Front(machine.settings["front"]).serve())


class _Front:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._start_s = time.monotonic()
        self._open = 0
        self._due_s = {
            name: float(settings.get(name, 0.0)) for name in ("mute_every_s", "late_every_s")
        }

    async def serve(self) -> None:
        server = await asyncio.start_server(self._accept, "0.0.0.0", self._settings["port"])  # noqa: S104
        log.info("port %d, as set: %s", self._settings["port"], dict(self._settings))
        await server.serve_forever()

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        most = self._settings.get("sessions", 0)
        if most and self._open >= most:
            log.warning("all %d sessions are taken", most)
            self._close(to_client)
            return
        self._open += 1
        try:
            server, to_server = await self._reach()
        except OSError as error:
            log.warning("no server behind: %s", error)
            self._open -= 1
            self._close(to_client)
            return
        answers = asyncio.ensure_future(self._relay_answers(server, to_client))
        try:
            await self._relay_requests(client, to_server, answers)
        except (OSError, TimeoutError):
            log.info("session ended")
        finally:
            self._open -= 1
            answers.cancel()
            self._close(to_client)
            to_server.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The server behind, which may still be starting."""
        for _ in range(20):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", self._settings["behind"])
            await asyncio.sleep(0.25)
        return await asyncio.open_connection("127.0.0.1", self._settings["behind"])

    async def _relay_requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, answers: asyncio.Future
    ) -> None:
        """Hand requests on until either side ends, or none has come for ``idle_s``."""
        idle_s = self._settings.get("idle_s") or None
        while not answers.done():
            more = asyncio.ensure_future(client.read(65536))
            await asyncio.wait({more, answers}, timeout=idle_s, return_when="FIRST_COMPLETED")
            if not more.done():
                more.cancel()
                return
            if not (data := more.result()):
                return
            server.write(data)
            await server.drain()

    async def _relay_answers(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        held = b""
        while data := await server.read(65536):
            if self._is_due("mute_every_s"):
                log.error("an answer of %d bytes is lost", len(data))
                continue
            await asyncio.sleep(self._delay_s())
            hold_s = self._settings.get("hold_from_s")
            if hold_s is not None and self._age_s() >= hold_s:
                held, data = data, held
            client.write(data)
            await client.drain()

    def _delay_s(self) -> float:
        settings, age_s = self._settings, self._age_s()
        if self._is_due("late_every_s"):
            return float(settings["late_s"])
        if settings.get("delay_from_s", 0.0) <= age_s < settings.get("delay_to_s", 0.0):
            return float(settings["delay_s"])
        return 0.0

    def _age_s(self) -> float:
        return time.monotonic() - self._start_s

    def _is_due(self, name: str) -> bool:
        """Whether what happens every so often happens now, which makes it due again later."""
        every_s = self._settings.get(name, 0.0)
        if not every_s or self._age_s() < self._due_s[name]:
            return False
        self._due_s[name] = self._age_s() + every_s
        return True

    def _close(self, client: asyncio.StreamWriter) -> None:
        if self._settings.get("reset"):
            # Closing with a linger time of zero sends RST (tcp(7), SO_LINGER).
            linger = client.get_extra_info("socket")
            with contextlib.suppress(OSError):
                linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
