"""What plant.yaml may hold, and where exactly it is wrong."""

import ipaddress
import re
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from traffic.errors import UserError

__all__ = ["parse_plant"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=80)
    address: str
    role: str = ""
    model: str = ""
    zone: str = ""
    contact: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()

    @field_validator("name", "role", "model", "zone", "contact")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", text):
            raise ValueError("expected one line of text")
        return text.strip()

    @field_validator("address")
    @classmethod
    def _is_address(cls, text: str) -> str:
        try:
            return str(ipaddress.ip_address(text.strip()))
        except ValueError:
            raise ValueError(f"{text!r} is not an IP address") from None

    @field_validator("mac")
    @classmethod
    def _is_mac(cls, text: str) -> str:
        digits = re.sub(r"[:.-]", "", text.strip().lower())
        if text and not re.fullmatch(r"[0-9a-f]{12}", digits):
            raise ValueError(f"{text!r} is not a MAC address")
        return ":".join(digits[i : i + 2] for i in range(0, 12, 2)) if digits else ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    devices: list[_Entry] = []


def parse_plant(text: str, source: str) -> list[dict[str, Any]]:
    """The entries of a plant.yaml, checked.

    Args:
        text: YAML.
        source: its name, for messages.

    Raises:
        UserError: with every mistake and its line.
    """
    try:
        # BaseLoader keeps all scalars as text: YAML 1.1 would read the MAC 10:20:30:40:50:51 as a number.
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        content = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506, it makes nothing but text, lists and dicts
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" on line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "unreadable"
        raise _mistake(source, f"is not YAML{line} ({what})") from None
    if node is None or not isinstance(content, dict):
        raise _mistake(source, "holds no key devices")
    try:
        entries = _File.model_validate(content).devices
    except ValidationError as error:
        raise _mistake(source, "; ".join(_say(problem, node) for problem in error.errors())) from None
    for key in ("address", "name"):
        _check_unique(entries, key, node, source)
    return [entry.model_dump() for entry in entries]


def _mistake(source: str, what: str) -> UserError:
    return UserError(f"{source}: {what}; expected `devices:` with name, address and role each; correct the file")


def _say(problem: Any, node: yaml.Node) -> str:
    place, kind = problem["loc"], problem["type"]
    key = str(place[-1]) if place else "file"
    line = f"line {_line_of(node, place)}"
    if kind == "extra_forbidden":
        return f"{line}: unknown key {key!r}"
    if kind == "missing":
        return f"{line}: key {key!r} is missing"
    return f"{line}: {key}: {problem['msg'].removeprefix('Value error, ')}"


def _line_of(node: yaml.Node, place: tuple[int | str, ...]) -> int:
    """The line of a key or list entry; of the nearest thing around it where it is missing."""
    line = node.start_mark.line
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
    return line + 1


def _check_unique(entries: list[_Entry], key: str, node: yaml.Node, source: str) -> None:
    seen: dict[str, int] = {}
    for i, entry in enumerate(entries):
        value = getattr(entry, key)
        first = seen.setdefault(value.lower(), i)
        if first != i:
            lines = [_line_of(node, ("devices", j, key)) for j in (first, i)]
            who = f"{entries[first].name} and {entry.name} have" if key == "address" else "two devices have"
            raise _mistake(source, f"lines {lines[0]} and {lines[1]}: {who} one {key}, {value}")
