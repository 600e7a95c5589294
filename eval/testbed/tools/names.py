"""Ask a resolver for names, as devices do that look up a name before each message."""

import random
import time

import dns.exception
import dns.message
import dns.query
import dns.rcode
import typer

from eval.testbed.tools.command import log_failure, tool

app = tool()
_TIMEOUT_S = 2.0


@app.command()
def main(
    server: str, rate: float, names: list[str], tries: int = 2, wrong: str = "", share: float = 0.0
) -> None:
    """Ask for one of the names ``rate`` times a second until ended.

    A share of the questions is for the name ``wrong``.
    """
    rng = random.Random(server)  # noqa: S311 - not a secret
    due = time.monotonic()
    while True:
        name = wrong if rng.random() < share else rng.choice(names)
        for _ in range(tries):
            try:
                with log_failure((server, 53)):
                    dns.query.udp(dns.message.make_query(name, "A"), server, timeout=_TIMEOUT_S)
                    break
            except dns.exception.DNSException as error:
                typer.echo(f"{name}: {type(error).__name__}")
        due = max(due + rng.uniform(0.8, 1.2) / rate, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0.0)


if __name__ == "__main__":
    app()
