"""A server of the project in a process of its own, as an operator starts it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A running server: its address and its process."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Seconds of CPU that it has used, proc(5)."""
        fields = (
            Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def find_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def serving(home: Path, options: Sequence[str]) -> Iterator[Server]:
    """`faultwise serve` with options, once it listens.

    Args:
        home: folder for its state.
        options: what it shows or watches.
    """
    port = find_port()
    command = [sys.executable, "-m", "assistant.cli", "serve", "--home", str(home),
               "--port", str(port), *options]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(  # noqa: S603
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            if server.stdout is None or not server.stdout.readline():
                raise RuntimeError("the server did not begin")
            yield Server(f"http://127.0.0.1:{port}", server.pid)
        finally:
            server.terminate()
