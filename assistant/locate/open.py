"""Locate failed commands in a capture on disk, and word what was found."""

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from assistant.locate.around import Scene
from assistant.locate.commands import FailedCommand
from assistant.locate.decide import Located, locate
from assistant.report import clock, plain
from assistant.session import open_knowledge, read_plant
from assistant.settings import Settings
from traffic.reader import read_capture
from traffic.samples import make_samples


@dataclass(frozen=True)
class LocatedAll:
    """What was found of each command, in their order, and what the capture does not show."""

    notes: tuple[str, ...]
    found: tuple[Located, ...]


def locate_in(
    path: Path, commands: Sequence[FailedCommand], settings: Settings, manuals: bool = True
) -> LocatedAll:
    """Say of failed commands whose fault each was.

    Args:
        path: the capture, as ``traffic.reader.read_capture`` has it.
        commands: at least one.
        settings: names the plant, further local networks and the knowledge base.
        manuals: whether to ask the knowledge base too.
    """
    plant, capture = read_plant(settings), read_capture(path)
    scene = Scene.of(capture, make_samples(capture, plant, settings.local), plant)
    with open_knowledge(settings) if manuals else nullcontext() as index:
        found = tuple(locate(one, scene, index) for one in commands)
    return LocatedAll(capture.notes, found)


def render_located(one: Located, form: str) -> Iterator[str]:
    """A located command as lines of ``text``, or as one line of ``jsonl``."""
    if form == "jsonl":
        yield json.dumps(plain(one), ensure_ascii=False)
        return
    mark = f" {one.id}" if one.id else ""
    yield f"{one.verdict.upper()}{mark}  {clock(one.at_s)} UTC  {one.device or 'unknown device'}"
    yield f"  {one.text}"
    for fact in one.evidence:
        yield f"  - {fact.text}"
        if fact.proof is not None:
            frames = ", ".join(map(str, fact.proof.frames))
            yield f"    frames {frames}; display filter: {fact.proof.filter}"
    for quoted in one.quoted:
        page = f", page {quoted.page}" if quoted.page else ""
        yield f'  > {quoted.document}, {quoted.section}{page}: "{quoted.text}"'
    for number, check in enumerate(one.checks, 1):
        yield f"  {number}. {check}"
