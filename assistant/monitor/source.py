"""What a source of live traffic hands over: pieces of raw input in the order of their arrival.

An interface and a recording give packet records, a Zeek folder gives lines of its logs. The engine
(`assistant.monitor.watch`) keeps them as they came and reads them with the same functions as files.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Part:
    """Input of one kind.

    Attributes:
        name: ``packets``, or Zeek's name of a log: ``conn``.
        head: what a file of it begins with: a pcap's header, the ``#`` lines of a log, nothing for
            JSON.
        data: whole packet records, or whole lines.
    """

    name: str
    head: bytes
    data: bytes


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a source.

    Attributes:
        kind: a key of ``sensor.yaml``: ``interface_down``.
        about: the interface, the folder; stands in the sentence.
        count: how many frames or rows, where that is counted.
    """

    kind: str
    about: str = ""
    count: int = 0


@dataclass(frozen=True)
class Batch:
    """What came since the last one.

    Attributes:
        parts: the input.
        ts: shape (n,), seconds since the epoch: when each packet passed, or when the connection of
            a row ended, in the order of arrival.
        position: where the source goes on after a stop; kept by the engine once all of this is.
        more: further input waits already.
        ended: nothing will come any more.
        troubles: what is wrong with the source now.
    """

    parts: tuple[Part, ...] = ()
    ts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    position: dict[str, Any] = field(default_factory=dict)
    more: bool = False
    ended: bool = False
    troubles: tuple[Trouble, ...] = ()


class Source(Protocol):
    """Where live traffic comes from.

    Attributes:
        lateness_s: how long after a slot's end input of it is waited for.
        back_s: input that is older than the newest by more than this, and nothing newer with it,
            means that the clock was set back.
        live: whether time passes by itself, so that nothing arriving is news.
    """

    lateness_s: float
    back_s: float
    live: bool

    def read(self, wait_s: float) -> Batch:
        """What there is, after waiting for it at most so long."""

    def close(self) -> None:
        """Let go of it."""
