"""Speak MQTT wrongly or too much (OASIS MQTT 3.1.1): malformed packets, a flood of messages."""

import itertools
import os
import random
import socket
import struct
import time

from eval.testbed.tools.command import log_failure, tool

app = tool()
_TICK_S = 0.02


@app.command()
def malformed(address: str, port: int, rate: float) -> None:
    """Open ``rate`` connections a second, each with a packet that the broker has to refuse."""
    where = (address, port)
    for packets in itertools.cycle(_malformed_packets(_hello())):
        with log_failure(where), socket.create_connection(where, timeout=4) as broker:
            broker.sendall(packets)
            while broker.recv(1024):
                continue
        time.sleep(1 / rate)


@app.command()
def flood(address: str, port: int, rate: float, user: str = "", password: str = "") -> None:
    """Publish ``rate`` messages a second; connect again when the connection breaks."""
    hello, where = _hello(user, password), (address, port)
    while True:
        with log_failure(where), socket.create_connection(where, timeout=4) as broker:
            _publish(broker, hello, rate)
        time.sleep(0.5)


@app.command()
def mute(address: str, port: int, keepalive: int, user: str, password: str) -> None:
    """Ask for a keep-alive and never ping; connect again 2 s after the broker has closed."""
    hello, where = connect_packet("meter-7", user, password, keepalive), (address, port)
    while True:
        with log_failure(where), socket.create_connection(where, timeout=4) as broker:
            broker.sendall(hello + _packet(0x30, _text("meter/7") + b"17.4"))
            broker.settimeout(None)
            while broker.recv(1024):
                continue
        time.sleep(2.0)


@app.command()
def refuse(port: int, code: int) -> None:
    """Refuse every login with a return code: those that mosquitto never gives (3.2.2.3)."""
    with socket.create_server(("", port)) as server:
        while True:
            client, (address, _) = server.accept()
            with log_failure((address, port)), client:
                client.settimeout(4)
                hello = client.recv(1024)
                # Version 5 has one more byte, the length of properties that are not there.
                more = b"\x00" if hello[8:9] == b"\x05" else b""
                client.sendall(_packet(0x20, bytes([0, code]) + more))
                client.recv(1024)


def _hello(user: str = "", password: str = "") -> bytes:
    return connect_packet(f"node-{random.randrange(10**6)}", user, password)  # noqa: S311


def connect_packet(client: str, user: str = "", password: str = "", keepalive: int = 60) -> bytes:
    """A CONNECT with a clean session and a keep-alive in seconds; section 3.1.

    Examples:
        >>> connect_packet("a").hex(" ")
        '10 0d 00 04 4d 51 54 54 04 02 00 3c 00 01 61'
    """
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)
    body = _text("MQTT") + bytes([4, flags]) + struct.pack("!H", keepalive)
    return _packet(0x10, body + b"".join(_text(part) for part in (client, user, password) if part))


def _malformed_packets(hello: bytes) -> list[bytes]:
    """What a broker has to close the connection for; 2.2.3, 3.1.0, 3.1.2.1, 3.3.1.2, 3.8.1."""
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


def _publish(broker: socket.socket, hello: bytes, rate: float) -> None:
    broker.sendall(hello)
    if broker.recv(4)[3:] != b"\x00":
        raise OSError("the broker does not accept these credentials")
    due, owed = time.monotonic(), 0.0
    while True:
        owed += rate * _TICK_S
        messages = [_packet(0x30, _text(f"plant/{i}") + os.urandom(80)) for i in range(int(owed))]
        broker.sendall(b"".join(messages))
        owed -= int(owed)
        due = max(due + _TICK_S, time.monotonic() - 1.0)
        time.sleep(max(0.0, due - time.monotonic()))


def _packet(first: int, body: bytes) -> bytes:
    """A control packet: its first byte, the length in groups of 7 bits (2.2.3), the rest."""
    length, left = b"", len(body)
    while True:
        left, low = left >> 7, left & 0x7F
        length += bytes([low | (0x80 if left else 0)])
        if not left:
            return bytes([first]) + length + body


def _text(text: str) -> bytes:
    return struct.pack("!H", len(text)) + text.encode()


if __name__ == "__main__":
    app()
