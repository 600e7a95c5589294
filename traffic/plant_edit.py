"""plant.yaml changed where something is confirmed; comments, order and all other keys stay as they are.

A YAML library writes the file anew: PyYAML loses the comments, one that keeps them lays lines out as
it likes. So the text is changed at the places that the parser names, and read again: whatever else
came out otherwise is a mistake.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from traffic.errors import UserError
from traffic.plant import Device, parse_plant


@dataclass(frozen=True)
class _Edit:
    """Characters ``start`` to ``end`` of the text become ``text``."""

    start: int
    end: int
    text: str


def allow_writers(text: str, source: str, allowed: Mapping[str, Sequence[str]]) -> str:
    """A plant.yaml in which further writers are allowed.

    Args:
        text: YAML.
        source: its name, for messages.
        allowed: names or addresses that may write, by the address of the device.

    Raises:
        UserError: the text is no plant.yaml, does not name a device, or cannot be changed safely.
    """
    before = parse_plant(text, source)
    if unknown := sorted(set(allowed) - {one.address for one in before.devices}):
        raise UserError(
            f"{source} does not name {', '.join(unknown)}; expected devices of the inventory; add them first"
        )
    wanted = [_add(one, allowed.get(one.address, ())) for one in before.devices]
    node: Any = yaml.compose(text, Loader=yaml.BaseLoader)
    entries = next(value for key, value in node.value if key.value == "devices").value
    edits = [
        _edit(entry, one, new, text)
        for entry, one, new in zip(entries, before.devices, wanted, strict=True)
        if new != one
    ]
    changed = text
    for edit in reversed(edits):
        changed = changed[: edit.start] + edit.text + changed[edit.end :]
    if _read(changed, source) != replace(before, devices=tuple(wanted)):
        raise UserError(
            f"{source} cannot be changed without changing something else in it; expected devices one below "
            "the other; add `writers: [...]` by hand"
        )
    return changed


def _add(device: Device, names: Sequence[str]) -> Device:
    known = {one.lower() for one in device.writers}
    new = [one for one in dict.fromkeys(names) if one.lower() not in known]
    return replace(device, writers=(*device.writers, *new)) if new else device


def _read(text: str, source: str) -> object:
    try:
        return parse_plant(text, source)
    except UserError:
        return None


def _edit(entry: yaml.MappingNode, before: Device, after: Device, text: str) -> _Edit:
    """The change of one device's entry."""
    new = after.writers[len(before.writers) :]
    listed = next((value for key, value in entry.value if key.value == "writers"), None)
    if listed is None:
        last = _end(entry.value[-1][1])
        if entry.flow_style:
            return _Edit(last, last, f", writers: {_dump(new)}")
        line = " " * entry.value[0][0].start_mark.column + f"writers: {_dump(new)}"
        return _insert_line(text, last, line)
    if listed.flow_style or not listed.value:
        return _Edit(listed.start_mark.index, listed.end_mark.index, _dump(after.writers))
    dash = " " * listed.start_mark.column + "- "
    return _insert_line(text, _end(listed), "\n".join(dash + _dump([one])[1:-1] for one in new))


def _end(node: yaml.Node) -> int:
    """Where a value's last character was; a block's own end lies behind comments that follow it."""
    if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        return _end(node.value[-1])
    return int(node.end_mark.index)


def _insert_line(text: str, at: int, line: str) -> _Edit:
    """A line below the one that holds a character, and below its comment."""
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    return _Edit(end, end, f"\n{line}")


def _dump(names: Sequence[str]) -> str:
    """Names as a list on one line, quoted where YAML asks for it."""
    return yaml.safe_dump(
        list(names), default_flow_style=True, allow_unicode=True, width=1_000_000
    ).strip()
