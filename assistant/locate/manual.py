"""What the manual of a device says of a command that failed: its codes, its registers, its units.

Only the device's own manual counts, and only its tables and numbers: which register takes which
function, which units there are, and what a code means at this device, by words that leave no doubt.
The standard's meaning of a code is a guess where the manual has one of its own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from assistant.locate.around import Around, Scene
from knowledge_base.about import fits
from knowledge_base.chunks import Chunk
from knowledge_base.index import Index
from knowledge_base.retriever import search
from traffic.identities import choose_identities
from traffic.pcap.protocols import BY_NAME

_QUOTED_CHARS = 300
_LOOKED_AT = 8
_HOLDING, _READS = (3, 6, 16, 22, 23), (1, 2, 3, 4)
_ENTITIES = {"0": (1, 5, 15), "1": (2,), "3": (4,), "4": _HOLDING}  # 40001 is holding register 0

# Words of a reason that leave no doubt whose it is.
_WORDS = {
    "command": r"protect\w*|locked|locks?|read[- ]only|outside|not supported|unsupported|unknown|wrong|passwords?|"
    r"credentials?|not allowed|not authori\w+|forbidden|permission|past (?:its|the) end|more than|out of range|"
    r"invalid|malformed|not in the map|key switch",
    "device": r"busy|faults?|hardware|start(?:s|ing|up)|restart\w*|memory|overload\w*|emergency|supply|modules?|"
    r"defect\w*|full|download|maintenance|battery|wire break|not fitted|err is red|stopped|does not reply",
    "network": r"cables?|noise|no link|link down|packet loss|terminators?",
}  # fmt: skip
_CODE_TABLE = re.compile(r"(?i)exception|return code|reason code|status code|error code|\bcode\b")
_RANGE = re.compile(r"(\d{1,6})(?:\s*(?:-|–|\.\.|to)\s*(\d{1,6}))?")
_UNITS = re.compile(r"(?i)unit ids?\s+((?:\d{1,3})(?:\s*(?:,|or|and|to|-|–)\s*\d{1,3})*)")


@dataclass(frozen=True)
class Quoted:
    """A place of a manual: ``text`` is the row or sentence that says it."""

    document: str
    section: str
    page: int | None
    text: str
    chunk_id: str


@dataclass(frozen=True)
class Said:
    """What a manual says of a failed command; ``blame`` is "" where it leaves the verdict alone."""

    blame: Literal["", "network", "device", "command"] = ""
    text: str = ""
    checks: tuple[str, ...] = ()
    quoted: tuple[Quoted, ...] = ()


def read_manual(
    index: Index, scene: Scene, around: Around, row: pd.Series | None, reason: str, sure: bool
) -> Said:
    """What the device's own manual says of the command.

    Args:
        index: the knowledge base.
        scene: the capture.
        around: the command in it.
        row: the exchange that shows why it failed; None where none was seen.
        reason: why it failed, by the packets.
        sure: whether the packets leave the manual nothing to say.
    """
    known = _identity(scene, around)
    sources = index.sources()
    own = [
        chunk
        for chunk in index.chunks()
        if chunk.kind == "manual"
        and chunk.id in sources
        and sources[chunk.id].about
        and fits(sources[chunk.id].about, known)
    ]
    if not own:
        return Said()
    said = Said()
    if row is not None and not sure:
        if reason.startswith("refused"):
            said = _say_code(own, row)
        if not said.blame and reason in ("refused_device", "answered", "hung"):
            said = _say_registers(own, row) or said
        if not said.blame and reason == "hung":
            said = _say_units(own, row) or said
    return said if said.quoted else Said(quoted=_find_quotes(index, own, around, row))


def _identity(scene: Scene, around: Around) -> list[str]:
    known = [
        text
        for one in scene.view.plant.devices
        if one.address == around.device
        for text in (one.name, one.role, one.model, *one.aliases)
        if text
    ]
    told = choose_identities(scene.capture.identities)
    told = told[(told["device"] == around.device) & (told["sure"] != "low")]
    return [*known, *told["value"].astype(str)]


def _tables(chunk: Chunk) -> Iterator[tuple[list[str], list[str]]]:
    """The rows of a chunk's tables, each with the heads above it."""
    heads: list[str] = []
    for line in chunk.text.splitlines():
        if not line.strip().startswith("|"):
            heads = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            continue
        if not heads:
            heads = cells
            continue
        yield heads, cells


def _quote(chunk: Chunk, text: str) -> Quoted:
    short = " ".join(text.split())[:_QUOTED_CHARS]
    return Quoted(chunk.document, chunk.section, chunk.page, short, chunk.id)


# ---- Codes ----


def _say_code(own: list[Chunk], row: pd.Series) -> Said:
    protocol, code = BY_NAME[str(row["protocol"])], int(row["code"])
    standard = set(re.findall(r"\w+", protocol.refusals.get(code, "").lower()))
    for chunk in own:
        for heads, cells in _tables(chunk):
            place = next((n for n, cell in enumerate(cells[:2]) if _is_code(cell, code)), None)
            if place is None or not _CODE_TABLE.search(f"{chunk.section} {heads[place]}"):
                continue
            told = [
                cell
                for cell in cells[place + 1 :]
                if not set(re.findall(r"\w+", cell.lower())) <= standard
            ]
            quoted = (_quote(chunk, " | ".join(cells)),)
            where = f"Its manual ({chunk.document}, {chunk.section}) says of this code: {'; '.join(told)}."
            checks = (f"Do as the manual says: {told[-1]}.",) if told else ()
            return Said(_classify(" ".join(told)), where if told else "", checks, quoted)
    return Said()


def _is_code(cell: str, code: int) -> bool:
    """Whether a cell is a code: 4, 0x04, 0x0B (11)."""
    found = re.fullmatch(
        r"(?i)(?:code |exception )?(0x[0-9a-f]+|\d+)(?:\s*\((\d+)\))?", cell.strip("` ")
    )
    return (
        found is not None and int(found[1], 0 if found[1].lower().startswith("0x") else 10) == code
    )


def _classify(text: str) -> Literal["", "network", "device", "command"]:
    """Whose a reason is, by its words; "" where they speak of several, or of none."""
    lowered = text.lower()
    hits = [blame for blame, words in _WORDS.items() if re.search(rf"\b(?:{words})\b", lowered)]
    return hits[0] if len(hits) == 1 else ""  # type: ignore[return-value]


# ---- Registers and units ----


def _say_registers(own: list[Chunk], row: pd.Series) -> Said | None:
    """Whether the manual's register map has what was asked; None where it has no map."""
    target, function = int(row["target"]), int(row["function"])
    if str(row["protocol"]) != "modbus" or target < 0:
        return None
    count = max(int(row["value"]), 1) if function in _READS else 1
    wanted = set(range(target, target + min(count, 200)))
    held: set[int] = set()
    some: Chunk | None = None
    near = ""
    for chunk in own:
        for heads, cells in _tables(chunk):
            if len(cells) < 2 or not re.search(r"(?i)register|address", heads[0]):
                continue
            if not re.search(r"(?i)function|access", heads[1]):
                continue
            some = some or chunk
            for kind, registers in _read_registers(cells[0], cells[1]):
                if not wanted.isdisjoint(registers):
                    some, near = chunk, " | ".join(cells)
                if function in kind:
                    held |= wanted & set(registers)
    if some is None or wanted <= held:
        return None
    text = (
        f"Its manual ({some.document}, {some.section}) has no register at address {target} that takes "
        f"function {function}."
    )
    checks = (f"Take an address and a function of the register map in {some.document}.",)
    return Said("command", text, checks, (_quote(some, near or some.text),))


def _read_registers(cell: str, functions: str) -> Iterator[tuple[tuple[int, ...], range]]:
    """(function codes, addresses as they are sent) of a row of a register map."""
    told = tuple(int(one) for one in re.findall(r"\b\d{1,2}\b", functions))
    if not told and re.search(r"(?i)\br\b|read", functions):
        told = _READS
    if re.search(r"(?i)\bw\b|write|r/?w", functions):
        told = (*told, *_READS, 5, 6, 15, 16, 22, 23)
    for first, last in _RANGE.findall(cell):
        low, high = int(first), int(last or first)
        entity = _ENTITIES.get(first[0], ()) if len(first) in (5, 6) else ()
        if set(entity) & set(told):
            low, high = int(first[1:]) - 1, int((last or first)[1:]) - 1
        yield told, range(low, high + 1)


def _say_units(own: list[Chunk], row: pd.Series) -> Said | None:
    """Whether the manual knows the unit that was asked; None where it names none."""
    unit, units, some = int(row["unit"]), set[int](), None
    for chunk in own:
        for sentence in re.split(r"(?<=[.;])\s|\n", chunk.text):
            if sentence.strip().startswith("|"):
                continue
            for listed in _UNITS.findall(sentence):
                some = some or _quote(chunk, sentence)
                for low, high in re.findall(r"(\d{1,3})(?:\s*(?:to|-|–)\s*(\d{1,3}))?", listed):
                    units |= set(range(int(low), int(high or low) + 1))
    if some is None or unit < 0 or unit in units:
        return None
    text = f"Its manual ({some.document}, {some.section}) names units, and {unit} is none of them."
    return Said("command", text, (f"Correct the unit id: {some.text}",), (some,))


# ---- Whatever else it says ----


def _find_quotes(
    index: Index, own: list[Chunk], around: Around, row: pd.Series | None
) -> tuple[Quoted, ...]:
    """The passage of the device's manual nearest to what happened, if any is near."""
    asked = f"{around.command.command[:200]} {around.command.error[:200]}"
    if row is not None and int(row["code"]) > 0:
        protocol = BY_NAME[str(row["protocol"])]
        asked = f"{protocol.name} {protocol.refusals.get(int(row['code']), '')} {asked}"
    mine = {chunk.id: chunk for chunk in own}
    found = search(index, asked, k=_LOOKED_AT, kind="manual")
    return tuple(_quote(mine[one.chunk_id], one.text) for one in found if one.chunk_id in mine)[:1]
