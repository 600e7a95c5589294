"""TCP programs of attacks and routines: a beacon, a bulk transfer, held connections, and a server
for each.

python -m eval.testbed.tools.tcp beacon ADDRESS PORT PERIOD_S [--jitter SHARE] [--say-bytes N]
python -m eval.testbed.tools.tcp bulk ADDRESS PORT KBIT [--bytes N]
python -m eval.testbed.tools.tcp hold ADDRESS PORT COUNT [--pause-s S]
python -m eval.testbed.tools.tcp listen PORT [--answer-bytes N | --login]
"""

import argparse
import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence

_PATIENCE_S = 4.0  # a beacon's, for an answer
_CHUNK_S = 0.05  # a bulk transfer's


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the programs until it is ended."""
    parser = argparse.ArgumentParser(description="TCP programs of the testbed")
    programs = parser.add_subparsers(required=True)

    beacon = programs.add_parser(
        "beacon", help="call a controller again and again, as an infected device does"
    )
    beacon.add_argument("address")
    beacon.add_argument("port", type=int)
    beacon.add_argument("period_s", type=float)
    beacon.add_argument(
        "--jitter", type=float, default=0.0, help="each pause differs by up to this share"
    )
    beacon.add_argument("--say-bytes", type=int, default=60)
    beacon.set_defaults(run=call_home)

    bulk = programs.add_parser(
        "bulk", help="send many bytes over one connection: a backup, a theft, a full line"
    )
    bulk.add_argument("address")
    bulk.add_argument("port", type=int)
    bulk.add_argument("kbit", type=float, help="rate in kbit/s")
    bulk.add_argument("--bytes", type=float, default=float("inf"))
    bulk.set_defaults(run=send_bulk)

    hold = programs.add_parser(
        "hold", help="hold a server's connections, as slowloris does to web servers"
    )
    hold.add_argument("address")
    hold.add_argument("port", type=int)
    hold.add_argument("count", type=int)
    hold.add_argument(
        "--pause-s", type=float, default=8.0, help="between two bytes on a connection"
    )
    hold.set_defaults(run=hold_connections)

    listen = programs.add_parser(
        "listen", help="accept and answer: the far end of the programs above"
    )
    listen.add_argument("port", type=int)
    listen.add_argument(
        "--answer-bytes",
        type=int,
        default=0,
        help="answer each message with so many; 0 stays silent",
    )
    listen.add_argument(
        "--login", action="store_true", help="ask for a user and a password, and refuse"
    )
    listen.set_defaults(run=accept_clients)

    given = vars(parser.parse_args(arguments))
    run: Callable[..., None] = given.pop("run")
    run(**given)


def call_home(address: str, port: int, period_s: float, jitter: float, say_bytes: int) -> None:
    """Connect every ``period_s``, say random bytes and wait for orders; never give up."""
    dice = random.Random(f"{address} {period_s}")  # noqa: S311 - a rhythm, not a secret
    due = time.monotonic()
    while True:
        try:
            with socket.create_connection((address, port), timeout=_PATIENCE_S) as controller:
                controller.sendall(os.urandom(say_bytes))
                controller.recv(4096)
        except OSError as error:
            _log(address, port, error)
        due += period_s * (1 + dice.uniform(-1, 1) * jitter)
        time.sleep(max(0.0, due - time.monotonic()))


def send_bulk(address: str, port: int, kbit: float, bytes: float) -> None:
    """Send ``bytes`` at ``kbit`` kbit/s; connect again when the connection breaks."""
    left = bytes
    while left > 0:
        try:
            with socket.create_connection((address, port), timeout=20) as peer:
                left = _send(peer, left, kbit)
        except OSError as error:
            _log(address, port, error)
            time.sleep(1.0)


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


def hold_connections(address: str, port: int, count: int, pause_s: float) -> None:
    """Keep ``count`` connections open, a byte on each every ``pause_s``; a lost one is opened
    again."""
    held: list[socket.socket] = []
    while True:
        held = [one for one in held if _drip(one)]
        for _ in range(count - len(held)):
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((address, port), timeout=1))
            time.sleep(0.01)
        time.sleep(pause_s)


def _drip(held: socket.socket) -> bool:
    """Send a byte; whether the connection lives."""
    try:
        held.send(b"\x00")
    except OSError:
        held.close()
        return False
    return True


def accept_clients(port: int, answer_bytes: int, login: bool) -> None:
    """Accept connections for ever, a thread each."""
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
    client.sendall(
        b"\xff\xfd\x01\xff\xfd\x1f\xff\xfb\x01\xff\xfb\x03"
    )  # IAC DO ECHO, DO NAWS, WILL ECHO, WILL SGA
    for _ in range(3):
        for prompt in (b"login: ", b"Password: "):
            client.sendall(prompt)
            if not client.recv(1024):
                return
        client.sendall(b"\r\nLogin incorrect\r\n")


def _log(address: str, port: int, error: OSError) -> None:
    print(f"{address}:{port}: {error}", flush=True)  # noqa: T201 - becomes the tool's log


if __name__ == "__main__":
    main()
