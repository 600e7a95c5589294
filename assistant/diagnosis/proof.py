"""Where a fact is in the packets, and whether tshark counts the same there.

A fact of a rule has a filter of its own. One that was measured over all that a device sends has
none: then the filter is its incident's, the traffic of the device with its peers in that time.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from assistant.detection.incidents import Incident
from assistant.facts.fact import Fact, Proof
from assistant.facts.proofs import between, ip_field
from traffic.errors import UserError

_MOST_NAMED = 12
_MOST_PEERS = 8
_LONGEST_S = 300.0


@dataclass(frozen=True)
class Recount:
    """A fact and what its display filter selects.

    Attributes:
        fact: with its proof.
        frames: how many frames tshark selects; None where it was not asked.
        reason: why it was not asked, "" where it was.
    """

    fact: Fact
    frames: int | None
    reason: str = ""

    @property
    def agrees(self) -> bool | None:
        """Whether tshark selects what was counted; None where one of both is unknown."""
        counted = self.fact.proof.count if self.fact.proof else None
        return None if None in (counted, self.frames) else counted == self.frames


def find_facts(wanted: str, incidents: Sequence[Incident]) -> tuple[Fact, ...]:
    """The facts of an incident, or one fact, by id.

    Raises:
        UserError: nothing here has that id.
    """
    for one in incidents:
        if one.id == wanted:
            return tuple(point_at(fact, one) for fact in one.facts)
    facts = [point_at(fact, one) for one in incidents for fact in one.facts]
    found = tuple(fact for fact in facts if fact.id == wanted)[:1]
    if found:
        return found
    known = [*(one.id for one in incidents), *(fact.id for fact in facts)]
    listed = ", ".join(known[:_MOST_NAMED]) or "none: this capture has no incident"
    raise UserError(
        f"nothing is called {wanted} here; expected the id of an incident or a fact ({listed}); "
        "faultwise incidents PATH --format json lists them"
    )


def point_at(fact: Fact, incident: Incident) -> Fact:
    """The fact with a proof: its own, else the traffic of its incident."""
    if fact.proof is not None:
        return fact
    device = incident.device
    parts = [f"({between(device, peer)})" for peer in incident.peers[:_MOST_PEERS]]
    ends = " || ".join(parts) or f"{ip_field(device)}.addr == {device}"
    time = f"frame.time_epoch >= {incident.start_s:.3f} && frame.time_epoch <= {incident.end_s:.3f}"
    return replace(fact, proof=Proof(f"({ends}) && {time}"))


def recount(fact: Fact, pcaps: Sequence[Path]) -> Recount:
    """Ask tshark how many frames the fact's filter selects.

    Args:
        fact: with a proof, as ``find_facts`` returns it.
        pcaps: the files of the capture; none where it is a log.

    Raises:
        UserError: tshark refuses the filter or a file.
    """
    assert fact.proof is not None
    if not pcaps:
        return Recount(fact, None, "the capture is a log and holds no packets")
    if shutil.which("tshark") is None:
        return Recount(fact, None, "tshark is not installed")
    options = ["-d", fact.proof.decode_as] if fact.proof.decode_as else []
    frames = 0
    for path in pcaps:
        command = ["tshark", "-n", "-r", str(path), "-Y", fact.proof.filter, *options]
        try:
            ran = subprocess.run(  # noqa: S603 - a list of words, no shell
                [*command, "-T", "fields", "-e", "frame.number"],
                capture_output=True,
                text=True,
                timeout=_LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Recount(fact, None, f"tshark did not end within {_LONGEST_S:.0f} s")
        if ran.returncode not in (0, 2):  # 2: the file is cut, and was read as far as it is good
            said = ran.stderr.strip().splitlines()[-1:] or ["no word"]
            raise UserError(
                f"tshark cannot apply {fact.proof.filter} to {path} ({said[0]}); expected a capture that it "
                "reads; open the capture in Wireshark to see why"
            )
        frames += len(ran.stdout.splitlines())
    return Recount(fact, frames)
