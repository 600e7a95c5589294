"""Guess passwords, one after the other: of a telnet login, or of an MQTT broker.

python -m eval.testbed.tools.guesses telnet|mqtt ADDRESS PORT RATE
"""

import argparse
import itertools
import random
import socket
import time
from collections.abc import Iterator, Sequence

from eval.testbed.tools.mqtt import connect_packet

# The first of those that Mirai tried (Antonakakis et al. 2017, "Understanding the Mirai Botnet",
# table 5).
_USERS = ("root", "admin", "support", "user", "guest", "operator", "service", "mqtt")
_PASSWORDS = (
    "xc3511",
    "vizxv",
    "admin",
    "888888",
    "default",
    "juantech",
    "123456",
    "54321",
    "root",
    "pass",
    "1111",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Try ``RATE`` passwords a second until ended."""
    parser = argparse.ArgumentParser(description="guess passwords")
    parser.add_argument("service", choices=["telnet", "mqtt"])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float)
    given = parser.parse_args(arguments)
    guesses = itertools.cycle(itertools.product(_USERS, _PASSWORDS))
    while True:
        try:
            with socket.create_connection((given.address, given.port), timeout=5) as server:
                if given.service == "telnet":
                    _telnet(server, guesses, given.rate)
                else:
                    _mqtt(server, *next(guesses))
        except OSError as error:
            print(f"{given.address}:{given.port}: {error}", flush=True)  # noqa: T201 - becomes the tool's log
        time.sleep(random.uniform(0.7, 1.3) / given.rate)  # noqa: S311 - a rhythm, not a secret


def _telnet(server: socket.socket, guesses: Iterator[tuple[str, str]], rate: float) -> None:
    """Guess until the server closes the connection."""
    while True:
        user, password = next(guesses)
        for word, prompt in ((user, b"ogin: "), (password, b"assword: ")):
            if not _heard(server, prompt):
                return
            server.sendall(word.encode() + b"\r\n")
        time.sleep(1 / rate)


def _heard(server: socket.socket, prompt: bytes) -> bool:
    said = b""
    while prompt not in said:
        more = server.recv(1024)
        if not more:
            return False
        said += more
    return True


def _mqtt(server: socket.socket, user: str, password: str) -> None:
    server.sendall(connect_packet(f"{user}-{random.randrange(10**6)}", user, password))  # noqa: S311 - not a secret
    server.recv(16)


if __name__ == "__main__":
    main()
