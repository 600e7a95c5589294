"""What a first sign is, and what every finder of signs asks of the newest seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from assistant.facts.fact import Fact, Value, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S

_RECENT_SLOTS = 2  # the open slot and the one before
LEAST_PAST_S = 60.0  # hardly anything is a first sign before that

_SENTENCES = {
    "fails": "First sign: {service} has answered nobody since {since_time_s} ({failed:attempt} by {clients}); before "
    "that it did.",
    "quiet": "First sign: {device} sent nothing since {since_time_s}; before that it never sent fewer than "
    "{least:packet} in {sample_s}.",
    "quiet_together": "First sign: {devices} fell silent at one moment: none of these {members:device} sent anything "
    "since {since_time_s}, and before that each was heard all the time.",
    "refuses": "First sign: {server} refuses what it answered {client} before: {refused:request} in a row since "
    "{since_time_s} got {code}.",
    "logins_refused": "First sign: {server} refused {refused:login} of {client} in a row since {since_time_s} with "
    "{code}.",
    "logins": "First sign: {client} opened {opened:connection} to {service} since {since_time_s}, where it never went "
    "before.",
    "resent": "First sign: {resent} of {pkts:packet} between {device} and {peers} were sent again since "
    "{since_time_s}; before that hardly any.",
    "writes": "First sign: {client} never spoke with {server} before {since_time_s}, and came to write: "
    "{writes:write command}.",
    "claims": "First sign: {device} is claimed by a second machine since {since_time_s}.",
    "sweeps": "First sign: {client} asked {server} {asked:different question} in {requests:request} since "
    "{since_time_s}, and never spoke with it before.",
    "uploads": "First sign: {device} sent {sent_bytes} to {target}, outside the plant, since {since_time_s} and "
    "received {got_bytes}; it never called that address before.",
    "looks": "First sign: {source} tried {endpoints:port} of {hosts:address} in vain since {since_time_s}, none of "
    "which it tried before.",
    "calls_out": "First sign: {device} calls {target}, outside the plant, for the first time at {since_time_s}, and "
    "asked nobody for its name.",
}


@dataclass(frozen=True)
class Sign:
    """What may become an incident.

    Attributes:
        label: which one, as far as that can be told.
        device: address of whom it is about.
        peers: addresses that are concerned.
        fact: what was measured.
        start_s, end_s: of that.
        role: of the device.
        related: other devices that show the same.
        count: how much was counted: failures, refusals, packets, writes; 0 where one thing is all.
        hard: so much that it is no accident, if it goes on.
        stands: it is one word that stands until something speaks against it, as a refused login
            does: it need not become more to go on.
    """

    label: str
    device: str
    peers: tuple[str, ...]
    fact: Fact
    start_s: float
    end_s: float
    role: str = "source"
    related: tuple[str, ...] = ()
    count: int = 0
    hard: bool = False
    stands: bool = False


class Newest:
    """The view with what all signs ask of it."""

    def __init__(self, view: TrafficView, now_s: float) -> None:
        self.view, self.now_s = view, now_s
        self.first_slot = int((now_s - 0.01) // SAMPLE_S) - _RECENT_SLOTS + 1
        self.open_slot = self.first_slot + _RECENT_SLOTS - 1
        self.since_s = self.first_slot * SAMPLE_S

    def recent(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of the newest slots."""
        return rows[rows["slot"] >= self.first_slot]

    def sign(
        self,
        kind: str,
        label: str,
        about: str,
        others: Sequence[str],
        since_s: float,
        **values: Value,
    ) -> Sign:
        """A sign with its sentence."""
        fact = make_fact(kind, _SENTENCES[kind], values | {"since_time_s": since_s})
        return Sign(label, about, tuple(others), fact, since_s, self.now_s)
