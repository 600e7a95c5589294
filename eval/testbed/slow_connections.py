"""Hold a server's connections: open many, say a byte now and then, never finish (as slowloris does to web servers).

python -m eval.testbed.slow_connections ADDRESS PORT COUNT [--pause-s S]
"""

import argparse
import contextlib
import socket
import time
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Keep ``COUNT`` connections open until ended, a byte on each every ``--pause-s``; a lost one is opened again."""
    parser = argparse.ArgumentParser(description="hold connections")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--pause-s", type=float, default=8.0)
    given = parser.parse_args(arguments)
    held: list[socket.socket] = []
    while True:
        held = [one for one in held if _drip(one)]
        for _ in range(given.count - len(held)):
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((given.address, given.port), timeout=1))
            time.sleep(0.01)
        time.sleep(given.pause_s)


def _drip(held: socket.socket) -> bool:
    """Say a byte; whether the connection lives."""
    try:
        held.send(b"\x00")
    except OSError:
        held.close()
        return False
    return True


if __name__ == "__main__":
    main()
