"""TCP programs of attacks and routines: a beacon, a bulk transfer, held connections, a server."""

import contextlib
import http.client
import os
import random
import socket
import threading
import time

from eval.testbed.tools.command import log_failure, tool

app = tool()
_ANSWER_S = 4.0  # how long a beacon waits
_CHUNK_S = 0.05  # a bulk transfer's


@app.command()
def beacon(
    address: str, port: int, period_s: float, jitter: float = 0.0, say_bytes: int = 60
) -> None:
    """Call a controller again and again, as an infected device does.

    Each time random bytes are sent and orders are awaited; each pause differs from ``period_s`` by
    up to the share ``jitter``.
    """
    rng = random.Random(f"{address} {period_s}")  # noqa: S311 - a rhythm, not a secret
    due, where = time.monotonic(), (address, port)
    while True:
        with log_failure(where), socket.create_connection(where, _ANSWER_S) as controller:
            controller.sendall(os.urandom(say_bytes))
            controller.recv(4096)
        due += period_s * (1 + rng.uniform(-1, 1) * jitter)
        time.sleep(max(0.0, due - time.monotonic()))


@app.command()
def bulk(address: str, port: int, kbit: float, bytes: float = float("inf")) -> None:
    """Send ``bytes`` at ``kbit`` kbit/s: a backup, a theft, a full line.

    Connects again when the connection breaks.
    """
    left, where = bytes, (address, port)
    while left > 0:
        with log_failure(where), socket.create_connection(where, timeout=20) as peer:
            left = _send(peer, left, kbit)
        time.sleep(1.0 if left else 0.0)


def _send(peer: socket.socket, left: float, kbit: float) -> float:
    chunk = os.urandom(max(64, int(kbit * 1000 / 8 * _CHUNK_S)))
    due = time.monotonic()
    while left > 0:
        part = chunk[: int(min(left, len(chunk)))]
        peer.sendall(part)
        left -= len(part)
        # A line that was full for long is not made up for by a burst: at most one second is owed.
        due = max(due + _CHUNK_S, time.monotonic() - 1.0)
        time.sleep(max(0.0, due - time.monotonic()))
    return left


@app.command()
def hold(address: str, port: int, count: int, pause_s: float = 8.0) -> None:
    """Hold a server's connections, as slowloris does to web servers.

    Each gets a byte every ``pause_s``; a lost one is opened again.
    """
    held: list[socket.socket] = []
    while True:
        held = [one for one in held if _is_alive(one)]
        for _ in range(count - len(held)):
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((address, port), timeout=1))
            time.sleep(0.01)
        time.sleep(pause_s)


@app.command()
def idle(address: str, port: int, probe_s: int) -> None:
    """Hold one connection, say nothing, and let the kernel probe it every ``probe_s`` seconds."""
    where = (address, port)
    while True:
        with log_failure(where), socket.create_connection(where, timeout=4) as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            held.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, probe_s)
            held.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe_s)
            held.settimeout(None)
            held.recv(1)
        time.sleep(2.0)


@app.command()
def fetch(address: str, port: int, size: int) -> None:
    """Download so many bytes over HTTP, once."""
    with log_failure((address, port)):
        connection = http.client.HTTPConnection(address, port, timeout=20)
        connection.request("GET", f"/firmware/{size}", headers={"User-Agent": "updater"})
        answer = connection.getresponse()
        while answer.read(65536):
            continue


def _is_alive(held: socket.socket) -> bool:
    try:
        held.send(b"\x00")
    except OSError:
        held.close()
        return False
    return True


@app.command()
def listen(port: int, answer_bytes: int = 0, login: bool = False) -> None:
    """Accept connections: the far end of the programs above.

    Each message is answered with ``answer_bytes``; with ``login`` a user and a password are asked
    for, and refused.
    """
    with socket.create_server(("", port), backlog=64) as server:
        while True:
            client, _ = server.accept()
            threading.Thread(target=_serve, args=(client, answer_bytes, login), daemon=True).start()


def _serve(client: socket.socket, answer_bytes: int, login: bool) -> None:
    with client, contextlib.suppress(OSError):  # the client is gone
        if login:
            _refuse_login(client)
            return
        while client.recv(65536):
            if answer_bytes:
                client.sendall(os.urandom(answer_bytes))


def _refuse_login(client: socket.socket) -> None:
    """Three attempts a connection, as busybox's telnetd and login allow."""
    client.settimeout(30)
    # IAC DO ECHO, DO NAWS, WILL ECHO, WILL SGA
    client.sendall(b"\xff\xfd\x01\xff\xfd\x1f\xff\xfb\x01\xff\xfb\x03")
    for _ in range(3):
        for prompt in (b"login: ", b"Password: "):
            client.sendall(prompt)
            if not client.recv(1024):
                return
        client.sendall(b"\r\nLogin incorrect\r\n")


if __name__ == "__main__":
    app()
