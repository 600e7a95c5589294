"""A server that takes what it is given: the far end of a bulk transfer, a controller of malware, a telnet login.

python -m eval.testbed.listener PORT [--answer-bytes N | --login]
"""

import argparse
import os
import socket
import threading
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Accept connections for ever, a thread each."""
    parser = argparse.ArgumentParser(description="accept and answer")
    parser.add_argument("port", type=int)
    parser.add_argument("--answer-bytes", type=int, default=0, help="answer each message with so many; 0 stays silent")
    parser.add_argument("--login", action="store_true", help="ask for a user and a password, and refuse")
    given = parser.parse_args(arguments)
    with socket.create_server(("", given.port), backlog=64) as server:
        while True:
            client, _ = server.accept()
            work = (_refuse_login, client) if given.login else (_swallow, client, given.answer_bytes)
            threading.Thread(target=_quietly, args=work, daemon=True).start()


def _quietly(serve, client: socket.socket, *arguments: int) -> None:  # type: ignore[no-untyped-def]
    with client:
        try:
            serve(client, *arguments)
        except OSError:
            return  # the client is gone


def _swallow(client: socket.socket, answer_bytes: int) -> None:
    while client.recv(65536):
        if answer_bytes:
            client.sendall(os.urandom(answer_bytes))


def _refuse_login(client: socket.socket) -> None:
    """Three attempts a connection, as busybox's telnetd and login allow."""
    client.settimeout(30)
    client.sendall(b"\xff\xfd\x01\xff\xfd\x1f\xff\xfb\x01\xff\xfb\x03")  # IAC DO ECHO, DO NAWS, WILL ECHO, WILL SGA
    for _ in range(3):
        for prompt in (b"login: ", b"Password: "):
            client.sendall(prompt)
            if not client.recv(1024):
                return
        client.sendall(b"\r\nLogin incorrect\r\n")


if __name__ == "__main__":
    main()
