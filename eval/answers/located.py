"""How many failed commands of recorded agents are laid to the right one of network, device, command.

A folder is what ``python -m eval.testbed.cases.agent`` recorded. Each is located twice, by the packets
alone and with the device's manual in a knowledge base, which shows the manual's share.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from assistant.locate import Located, read_commands
from assistant.locate.open import locate_in
from assistant.settings import Settings
from knowledge_base.index import open_index
from traffic.errors import UserError
from traffic.files import read_text


@dataclass(frozen=True)
class LocatedScore:
    """The grade of some recordings.

    Attributes:
        commands: how many failed.
        right: share of them with the right verdict, with manuals.
        right_without: the same by the packets alone.
        open: how many are left inconclusive, with manuals.
        only_manuals: of those that only the manual tells, the share right with and without it.
        wrong: id, truth, verdict and reason of each that is not right, with manuals.
    """

    commands: int
    right: float
    right_without: float
    open: int
    only_manuals: tuple[float, float]
    wrong: tuple[tuple[str, str, str, str], ...]


def grade(folders: Sequence[Path]) -> LocatedScore:
    """Locate the failed commands of recordings and compare with their truth.

    Raises:
        UserError: a folder is no such recording, or holds a command without truth.
    """
    rows: list[tuple[str, str, bool, Located, Located]] = []
    for folder in folders:
        truths = _read_truth(folder / "truth.yaml")
        commands = read_commands(folder / "commands.jsonl")
        if missing := [one.id for one in commands if one.id not in truths]:
            raise UserError(
                f"{folder}/truth.yaml lacks {', '.join(missing)}; expected every command"
            )
        with TemporaryDirectory() as home:
            settings = Settings(home=Path(home), plant=folder / "plant.yaml")
            with open_index(Path(home), examples=False) as index:
                index.add([folder / "manuals"])
            found = [
                locate_in(folder / "capture.pcap", commands, settings, manuals).found
                for manuals in (True, False)
            ]
        for command, told, alone in zip(commands, *found, strict=True):
            truth = truths[command.id]
            rows.append(
                (f"{folder.name}/{command.id}", truth["truth"], truth["manual"], told, alone)
            )
    good = [one[1] == one[3].verdict for one in rows]
    alone = [one[1] == one[4].verdict for one in rows]
    manual = [n for n, one in enumerate(rows) if one[2]]
    states = Counter(one[3].verdict for one in rows)
    return LocatedScore(
        commands=len(rows),
        right=sum(good) / len(rows),
        right_without=sum(alone) / len(rows),
        open=states["inconclusive"],
        only_manuals=_shares(good, alone, manual),
        wrong=tuple(
            (one[0], one[1], one[3].verdict, one[3].reason)
            for one, right in zip(rows, good, strict=True)
            if not right
        ),
    )


def _shares(good: list[bool], alone: list[bool], which: list[int]) -> tuple[float, float]:
    n = max(len(which), 1)
    return sum(good[i] for i in which) / n, sum(alone[i] for i in which) / n


def _read_truth(path: Path) -> dict[str, dict[str, Any]]:
    found = yaml.safe_load(read_text(path, "the truth of failed commands"))
    return {one["id"]: one for one in found}


def render_score(score: LocatedScore) -> str:
    """The grade in lines."""
    only, without = score.only_manuals
    lines = [
        f"{score.commands} failed commands: {score.right:.1%} right, {score.open} inconclusive",
        f"by the packets alone: {score.right_without:.1%} right",
        f"those that only the manual tells: {only:.0%} right with it, {without:.0%} without",
    ]
    lines += [
        f"  {name}: {verdict} ({reason}), is {truth}"
        for name, truth, verdict, reason in score.wrong
    ]
    return "\n".join(lines)
