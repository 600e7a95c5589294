"""Send many bytes over one TCP connection at a given rate: a backup, a firmware image, a theft, a full line.

python -m eval.testbed.bulk ADDRESS PORT KBIT [--bytes N]
"""

import argparse
import os
import socket
import time
from collections.abc import Sequence

__all__ = ["main"]

_CHUNK_S = 0.05


def main(arguments: Sequence[str] | None = None) -> None:
    """Send ``--bytes``, or until ended, at ``KBIT`` kbit/s; connects again when the connection breaks."""
    parser = argparse.ArgumentParser(description="send in bulk")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("kbit", type=float)
    parser.add_argument("--bytes", type=float, default=float("inf"))
    given = parser.parse_args(arguments)
    left = given.bytes
    while left > 0:
        try:
            with socket.create_connection((given.address, given.port), timeout=20) as peer:
                left = _send(peer, left, given.kbit)
        except OSError as error:
            print(f"{given.address}:{given.port}: {error}", flush=True)  # noqa: T201 - becomes the tool's log
            time.sleep(1.0)


def _send(peer: socket.socket, left: float, kbit: float) -> float:
    chunk = os.urandom(max(64, int(kbit * 1000 / 8 * _CHUNK_S)))
    due = time.monotonic()
    while left > 0:
        part = chunk[: int(min(left, len(chunk)))]
        peer.sendall(part)
        left -= len(part)
        due = max(due + _CHUNK_S, time.monotonic() - 1.0)
        time.sleep(max(0.0, due - time.monotonic()))
    return left


if __name__ == "__main__":
    main()
