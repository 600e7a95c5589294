"""What an infected device does: call its controller again and again, say a little, wait for orders.

python -m eval.testbed.beacon ADDRESS PORT PERIOD_S [--jitter SHARE] [--say-bytes N]
"""

import argparse
import os
import random
import socket
import time
from collections.abc import Sequence

__all__ = ["main"]

_PATIENCE_S = 4.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Call every ``PERIOD_S``, each pause longer or shorter by up to ``--jitter`` of it; never give up."""
    parser = argparse.ArgumentParser(description="call a controller")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("period_s", type=float)
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--say-bytes", type=int, default=60)
    given = parser.parse_args(arguments)
    dice = random.Random(f"{given.address} {given.period_s}")  # noqa: S311 - a rhythm, not a secret
    due = time.monotonic()
    while True:
        _call(given.address, given.port, given.say_bytes)
        due += given.period_s * (1 + dice.uniform(-1, 1) * given.jitter)
        time.sleep(max(0.0, due - time.monotonic()))


def _call(address: str, port: int, say_bytes: int) -> None:
    try:
        with socket.create_connection((address, port), timeout=_PATIENCE_S) as controller:
            controller.sendall(os.urandom(say_bytes))
            controller.recv(4096)
    except OSError as error:
        print(f"{address}:{port}: {error}", flush=True)  # noqa: T201 - becomes the tool's log


if __name__ == "__main__":
    main()
