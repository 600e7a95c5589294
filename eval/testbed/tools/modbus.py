"""Call a Modbus/TCP server as somebody who is not its HMI: sweep its registers, write to them, or
do some maintenance.

    python -m eval.testbed.tools.modbus sweep|write|maintain ADDRESS PORT RATE [--unit U]
    [--registers N]

Frames are those of the MODBUS Messaging Implementation Guide V1.0b, section 3.1.
"""

import argparse
import itertools
import random
import socket
import struct
import time
from collections.abc import Iterator, Sequence

_READS = (3, 4, 1, 2)  # holding and input registers, coils, discrete inputs
_WRITE_ONE, _WRITE_SEVERAL = 6, 16


def main(arguments: Sequence[str] | None = None) -> None:
    """Send ``RATE`` requests a second until ended."""
    parser = argparse.ArgumentParser(description="call a Modbus server")
    parser.add_argument("way", choices=["sweep", "write", "maintain"])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("--unit", type=int, default=1)
    parser.add_argument("--registers", type=int, default=16)
    given = parser.parse_args(arguments)
    dice = random.Random(given.address)  # noqa: S311 - not a secret
    ways = {"sweep": _sweep, "write": _writes, "maintain": _maintenance}
    requests = ways[given.way](dice, given.unit, given.registers)
    for number in itertools.cycle(range(1, 65536)):
        try:
            with socket.create_connection((given.address, given.port), timeout=3) as server:
                _converse(server, requests, given.rate, number)
        except OSError as error:
            print(f"{given.address}:{given.port}: {error}", flush=True)  # noqa: T201 - becomes the tool's log
        time.sleep(1.0)


def _converse(server: socket.socket, requests: Iterator[bytes], rate: float, number: int) -> None:
    """Ask and wait for each answer until the connection breaks; a unit that says nothing costs a
    second."""
    server.settimeout(1.0)
    for request in requests:
        number = number % 65535 + 1
        server.sendall(struct.pack("!HHH", number, 0, len(request)) + request)
        try:
            if not server.recv(512):
                return
        except TimeoutError:
            continue
        time.sleep(1 / rate)


def _sweep(dice: random.Random, unit: int, registers: int) -> Iterator[bytes]:
    """Every kind of read over all addresses, then the next unit: what is there?"""
    del dice, registers
    for asked in itertools.chain([unit], itertools.cycle(range(1, 248))):
        for function, address in itertools.product(_READS, range(0, 1000, 50)):
            yield struct.pack("!BBHH", asked, function, address, 50)


def _writes(dice: random.Random, unit: int, registers: int) -> Iterator[bytes]:
    while True:
        yield _write(dice, unit, registers)


def _maintenance(dice: random.Random, unit: int, registers: int) -> Iterator[bytes]:
    """An engineer looks at everything and now and then sets a value."""
    while True:
        for _ in range(dice.randint(12, 40)):
            first = dice.randrange(registers)
            yield struct.pack("!BBHH", unit, 3, first, min(8, registers - first))
        yield _write(dice, unit, registers)


def _write(dice: random.Random, unit: int, registers: int) -> bytes:
    first, value = dice.randrange(registers), dice.randrange(2000)
    if dice.random() < 0.6 or first + 2 > registers:
        return struct.pack("!BBHH", unit, _WRITE_ONE, first, value)
    return struct.pack("!BBHHBHH", unit, _WRITE_SEVERAL, first, 2, 4, value, dice.randrange(2000))


if __name__ == "__main__":
    main()
