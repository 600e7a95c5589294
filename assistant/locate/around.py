"""What a capture holds around one command: who is meant, what was asked, who was still heard."""

import ipaddress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from assistant.facts.traffic_view import TrafficView
from assistant.locate.commands import FailedCommand, read_error
from traffic.capture import SAMPLE_S, Capture
from traffic.identities import choose_identities
from traffic.plant import Plant

_CLOCK_S = 0.5  # an agent's clock may be so much off the sensor's
_ROUNDED_S = 0.05  # times are told in milliseconds, and measured by two programs
_PATIENCE_S = 10.0  # how long a command is followed where the agent says no end
_BEFORE_SLOTS = 6
_STEADY = 3  # slots of the minute before in which a device spoke that should be heard after


@dataclass(frozen=True)
class Scene:
    """A capture, and the view of it."""

    capture: Capture
    view: TrafficView

    @classmethod
    def of(cls, capture: Capture, samples: pd.DataFrame, plant: Plant | None) -> "Scene":
        """Lay a capture out."""
        return cls(capture, TrafficView(capture, samples, plant))

    @cached_property
    def names(self) -> dict[str, str]:
        """Addresses by name, in lower case: of plant.yaml, and what devices call themselves where
        one alone is called so."""
        told = choose_identities(self.capture.identities)
        told = told[told["field"] == "name"][["value", "device"]].astype("str")
        asked = self.capture.exchanges
        logins = asked[(asked["kind"] == "session") & asked["name"].notna()]
        own = logins[["name", "client"]].astype("str").set_axis(["value", "device"], axis=1)
        both = pd.concat([told, own]).drop_duplicates()
        both["value"] = both["value"].str.lower()
        single = both[both.groupby("value")["device"].transform("nunique") == 1]
        given = {
            name.lower(): one.address
            for one in self.view.plant.devices
            for name in (one.name, *one.aliases)
            if name
        }
        return dict(zip(single["value"], single["device"], strict=True)) | given

    @cached_property
    def inventory(self) -> frozenset[str]:
        """The addresses of plant.yaml."""
        return frozenset(one.address for one in self.view.plant.devices)

    @cached_property
    def _heard(self) -> pd.Series:
        """Slots in which each address sent anything, by address."""
        rows = self.view.flow_slots
        arp = self.view.evidence_of_kind("arp_request")
        parts = [
            rows.loc[rows["src_pkts"] > 0, ["src", "slot"]],
            rows.loc[rows["dst_pkts"] > 0, ["dst", "slot"]],
            arp[["src", "slot"]],
        ]
        told = pd.concat([part.set_axis(["who", "slot"], axis=1) for part in parts])
        return told.astype({"who": "str"}).groupby("who")["slot"].unique()

    def heard_slots(self, address: str) -> np.ndarray:
        """Slots in which an address sent anything."""
        return np.sort(self._heard[address]) if address in self._heard.index else np.zeros(0, int)

    def gone_quiet(self, at_s: float) -> list[str]:
        """Local addresses that spoke steadily in the minute before a moment, and then not at all in
        the slot of it or in the whole one after it."""
        slot = int(at_s // SAMPLE_S)
        found = []
        for address, slots in self._heard.items():
            before = ((slots >= slot - _BEFORE_SLOTS) & (slots <= slot)).sum()
            local = str(address) in self.view.local
            if local and before >= _STEADY and self.is_silent(str(address), at_s):
                found.append(str(address))
        return sorted(found)

    def is_silent(self, address: str, at_s: float) -> bool:
        """Whether an address sent nothing in the slot of a moment, or in the whole one after it,
        where the capture goes on for so long."""
        slots, slot = self.heard_slots(address), int(at_s // SAMPLE_S)
        last = int(self.view.end_s // SAMPLE_S) - 1
        return any(one <= last and one not in slots for one in (slot, slot + 1))


class Around:
    """One command in its capture; ``device`` and ``source`` are addresses, "" where unknown."""

    def __init__(self, scene: Scene, command: FailedCommand) -> None:
        self.scene, self.command = scene, command
        self.view = scene.view
        self.start_s = command.time - _CLOCK_S
        # What begins once the agent has given up is of its next command.
        end_s = command.until if command.until is not None else command.time + _PATIENCE_S
        self.end_s = max(end_s, command.time) + _ROUNDED_S
        self.device = self._resolve(command.device)
        self.source = self._resolve(command.source) if command.source else self._guess_source()
        self.error = read_error(command.error)

    def _resolve(self, name: str) -> str:
        try:
            return str(ipaddress.ip_address(name.strip()))
        except ValueError:
            return self.scene.names.get(name.strip().lower(), "")

    def _guess_source(self) -> str:
        """Who asked the device then, where that was one alone."""
        asked = self.select(self.view.exchanges, "server", self.device)
        opened = self.select(self.view.sessions, "server", self.device, "start_s")
        clients = {*map(str, asked["client"].unique()), *map(str, opened["client"].unique())}
        return clients.pop() if len(clients) == 1 else ""

    def select(
        self, rows: pd.DataFrame, end: str, address: str, moment: str = "ts"
    ) -> pd.DataFrame:
        ts = rows[moment].to_numpy(float)
        within = (ts >= self.start_s) & (ts <= self.end_s)
        rows = rows.iloc[np.flatnonzero(within)]
        return rows[rows[end] == address] if address else rows

    @property
    def slots(self) -> tuple[int, int]:
        """The first and the last slot of the command."""
        return int(self.start_s // SAMPLE_S), int(self.end_s // SAMPLE_S)

    @property
    def covered(self) -> bool:
        """Whether the capture was running when the command was sent."""
        return bool(self.view.start_s <= self.command.time < self.view.end_s)

    @cached_property
    def between(self) -> pd.DataFrame:
        """What the source asked the device then."""
        rows = self.select(self.view.exchanges, "server", self.device)
        return self._of_command(self._from_source(rows))

    def _from_source(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows[rows["client"] == self.source] if self.source else rows

    def _of_command(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Those of one protocol and port, where the command names them."""
        if self.command.protocol:
            rows = rows[rows["protocol"] == self.command.protocol.lower()]
        return rows[rows["port"] == self.command.port] if self.command.port else rows

    @cached_property
    def matching(self) -> pd.DataFrame:
        """Of ``between`` what is the command itself, by all that is known of it in numbers."""
        rows = self.between
        for field in ("kind", "function", "unit", "target", "name"):
            wanted = getattr(self.command, field)
            if wanted not in (None, ""):
                rows = rows[rows[field] == wanted]
        return rows

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """TCP connections that the source opened to the device then."""
        rows = self._from_source(self.select(self.view.sessions, "server", self.device, "start_s"))
        return rows[rows["port"] == self.command.port] if self.command.port else rows

    @cached_property
    def published(self) -> pd.DataFrame:
        """What the source published then under the command's topic, to whatever broker."""
        rows = self.select(self.view.exchanges, "client", self.source)
        if not self.source or not self.command.name:
            return rows.iloc[:0]
        return rows[(rows["kind"] == "publish") & (rows["name"] == self.command.name)]

    @cached_property
    def lookups(self) -> pd.DataFrame:
        """What the source asked of a resolver then for the command's device."""
        rows = self.select(self.view.exchanges, "client", self.source)
        rows = rows[rows["protocol"] == "dns"]
        wanted = self.command.device.strip().rstrip(".").lower()
        names = rows["name"].astype("str").str.lower().str.rstrip(".")
        return rows[(names == wanted) | names.str.startswith(f"{wanted}.")]

    def count(self, kind: str, one: str, other: str = "", both: bool = True) -> int:
        """Pieces of evidence of a kind in the command's slots from one address to another, of
        ``both`` directions; an empty other is anybody."""
        rows, (first, last) = self.view.evidence_of_kind(kind), self.slots
        rows = rows[(rows["slot"] >= first) & (rows["slot"] <= last)]
        there = (rows["src"] == one) & ((rows["dst"] == other) | (other == ""))
        back = (rows["dst"] == one) & ((rows["src"] == other) | (other == ""))
        return int(rows.loc[there | back if both else there, "count"].sum())

    def is_silent(self, address: str) -> bool:
        """Whether an address says nothing once the command was sent: no answer to anybody, and no
        packet in the slots that tell."""
        answers = self.view.exchanges
        answers = answers[(answers["server"] == address) & answers["delay_s"].notna()]
        at_s = answers["ts"] + answers["delay_s"]
        if ((at_s > self.command.time) & (at_s <= self.end_s)).any():
            return False
        return self.scene.is_silent(address, self.command.time)

    def is_connected_to(self, server: str, at_s: float) -> bool:
        """Whether the device holds a connection to a server at a moment, and is heard from within
        the minute after it."""
        rows = self.view.sessions
        rows = rows[(rows["client"] == self.device) & (rows["server"] == server) & rows["opened"]]
        held = bool(((rows["start_s"] <= at_s) & (rows["end_s"] >= at_s)).any())
        slots, slot = self.scene.heard_slots(self.device), int(at_s // SAMPLE_S)
        return held and bool(((slots >= slot) & (slots <= slot + _BEFORE_SLOTS)).any())

    def is_heard_in(self, address: str) -> bool:
        """Whether an address sent anything in the command's slots."""
        slots, (first, last) = self.scene.heard_slots(address), self.slots
        return bool(((slots >= first) & (slots <= last)).any())

    def met_before(self) -> bool:
        """Whether source and device were seen with each other before: the sensor sees that way."""
        rows = self.view.flow_slots
        ends = (rows["src"] == self.source) & (rows["dst"] == self.device)
        ends |= (rows["src"] == self.device) & (rows["dst"] == self.source)
        return bool((ends & (rows["slot"] < self.slots[0])).any())
