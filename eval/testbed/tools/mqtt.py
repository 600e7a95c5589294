"""Speak MQTT 3.1.1 wrongly or too much (OASIS MQTT 3.1.1): malformed packets, a flood of messages.

python -m eval.testbed.tools.mqtt malformed ADDRESS PORT RATE
python -m eval.testbed.tools.mqtt flood ADDRESS PORT RATE [--user U --password P]
"""

import argparse
import itertools
import os
import random
import socket
import struct
import time
from collections.abc import Sequence

_TICK_S = 0.02


def main(arguments: Sequence[str] | None = None) -> None:
    """Abuse a broker until ended: ``RATE`` malformed connections a second, or messages a second."""
    parser = argparse.ArgumentParser(description="abuse a broker")
    parser.add_argument("way", choices=["malformed", "flood"])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    given = parser.parse_args(arguments)
    hello = connect_packet(f"node-{random.randrange(10**6)}", given.user, given.password)  # noqa: S311
    for packets in (
        itertools.cycle(_malformed(hello)) if given.way == "malformed" else itertools.repeat(hello)
    ):
        try:
            with socket.create_connection((given.address, given.port), timeout=4) as broker:
                if given.way == "malformed":
                    _say(broker, packets)
                else:
                    _flood(broker, hello, given.rate)
        except OSError as error:
            print(f"{given.address}:{given.port}: {error}", flush=True)  # noqa: T201 - becomes the tool's log
        time.sleep(1 / given.rate if given.way == "malformed" else 0.5)


def connect_packet(client: str, user: str = "", password: str = "") -> bytes:
    """A CONNECT with a clean session and a keep-alive of 60 s; section 3.1.

    Examples:
        >>> connect_packet("a").hex(" ")
        '10 0d 00 04 4d 51 54 54 04 02 00 3c 00 01 61'
    """
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)
    body = _text("MQTT") + bytes([4, flags]) + struct.pack("!H", 60)
    return _packet(0x10, body + b"".join(_text(part) for part in (client, user, password) if part))


def _malformed(hello: bytes) -> list[bytes]:
    """Packets that a broker has to close the connection for; sections 2.2.3, 3.1.2.1, 3.3.1.2,
    3.8.1, 3.1.0."""
    topic = _text("plant/line")
    return [
        hello.replace(b"MQTT", b"MQXX"),
        b"\x10\xff\xff\xff\xff\x7f" + os.urandom(40),
        _packet(0x30, topic + b"21.5"),
        hello + _packet(0x36, topic + os.urandom(20)),
        hello + _packet(0x80, b"\x00\x01" + topic + b"\x00"),
        hello + hello,
        hello + _packet(0x30, struct.pack("!H", 400) + b"plant"),
        hello + _packet(0xF0, os.urandom(12)),
    ]


def _say(broker: socket.socket, packets: bytes) -> None:
    broker.sendall(packets)
    while broker.recv(1024):
        continue


def _flood(broker: socket.socket, hello: bytes, rate: float) -> None:
    broker.sendall(hello)
    if broker.recv(4)[3:] != b"\x00":
        raise OSError("the broker does not accept these credentials")
    due, owed = time.monotonic(), 0.0
    while True:
        owed += rate * _TICK_S
        broker.sendall(
            b"".join(_packet(0x30, _text(f"plant/{i}") + os.urandom(80)) for i in range(int(owed)))
        )
        owed -= int(owed)
        due = max(due + _TICK_S, time.monotonic() - 1.0)
        time.sleep(max(0.0, due - time.monotonic()))


def _packet(first: int, body: bytes) -> bytes:
    """A control packet: its first byte, the length in groups of 7 bits (section 2.2.3), the
    rest."""
    length, left = b"", len(body)
    while True:
        left, low = left >> 7, left & 0x7F
        length += bytes([low | (0x80 if left else 0)])
        if not left:
            return bytes([first]) + length + body


def _text(text: str) -> bytes:
    return struct.pack("!H", len(text)) + text.encode()


if __name__ == "__main__":
    main()
