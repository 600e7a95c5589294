"""Call a Modbus/TCP server as somebody who is not its HMI: sweep, write, or maintain.

Frames are those of the MODBUS Messaging Implementation Guide V1.0b, section 3.1.
"""

import itertools
import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Literal

from eval.testbed.tools.command import log_failure, tool

app = tool()
_READS = (3, 4, 1, 2)  # holding and input registers, coils, discrete inputs
_WRITE_ONE, _WRITE_SEVERAL = 6, 16


@app.command()
def main(
    way: Literal["sweep", "write", "maintain", "functions", "poll"],
    address: str,
    port: int,
    rate: float,
    unit: int = 1,
    registers: int = 16,
) -> None:
    """Send ``rate`` requests a second until ended, or until all functions have been tried."""
    rng = random.Random(address)  # noqa: S311 - not a secret
    requests = {
        "sweep": _sweep(unit),
        "write": _write(rng, unit, registers),
        "maintain": _maintain(rng, unit, registers),
        "functions": _try_functions(unit),
        "poll": itertools.repeat(struct.pack("!BBHH", unit, 3, 0, min(registers, 8))),
    }[way]
    where = (address, port)
    for number in itertools.cycle(range(1, 65536)):
        with log_failure(where), socket.create_connection(where, timeout=3) as server:
            if _converse(server, requests, rate, number):
                return
        time.sleep(1.0)


def _converse(server: socket.socket, requests: Iterator[bytes], rate: float, number: int) -> bool:
    """Ask and wait for each answer; a silent unit costs a second.

    Returns:
        Whether all was asked; else the connection broke before.
    """
    server.settimeout(1.0)
    for request in requests:
        number = number % 65535 + 1
        server.sendall(struct.pack("!HHH", number, 0, len(request)) + request)
        try:
            if not server.recv(512):
                return False
        except TimeoutError:
            continue
        time.sleep(1 / rate)
    return True


def _sweep(unit: int) -> Iterator[bytes]:
    """Every kind of read over all addresses, then the next unit: what is there?"""
    for asked in itertools.chain([unit], itertools.cycle(range(1, 248))):
        for function, address in itertools.product(_READS, range(0, 1000, 50)):
            yield struct.pack("!BBHH", asked, function, address, 50)


def _try_functions(unit: int) -> Iterator[bytes]:
    """Every function code once (Modbus Application Protocol V1.1b3, 4.1): which are there?"""
    for function in range(1, 128):
        yield struct.pack("!BBHH", unit, function, 0, 1)


def _maintain(rng: random.Random, unit: int, registers: int) -> Iterator[bytes]:
    """An engineer looks at everything and now and then sets a value."""
    writes = _write(rng, unit, registers)
    while True:
        for _ in range(rng.randint(12, 40)):
            first = rng.randrange(registers)
            yield struct.pack("!BBHH", unit, 3, first, min(8, registers - first))
        yield next(writes)


def _write(rng: random.Random, unit: int, registers: int) -> Iterator[bytes]:
    """Single and double registers with random values."""
    while True:
        first, value = rng.randrange(registers), rng.randrange(2000)
        if rng.random() < 0.6 or first + 2 > registers:
            yield struct.pack("!BBHH", unit, _WRITE_ONE, first, value)
        else:
            several = (unit, _WRITE_SEVERAL, first, 2, 4, value, rng.randrange(2000))
            yield struct.pack("!BBHHBHH", *several)


if __name__ == "__main__":
    app()
