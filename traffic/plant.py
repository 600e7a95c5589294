"""The inventory of a plant, plant.yaml, and which addresses are devices.

devices:
  - name: press-plc
    address: 192.168.1.104
    role: PLC
    model: Modicon M221        # optional, like zone, contact, mac and aliases
    writers: [hmi-1]           # optional: who may write to it; another writer is an incident
time_zone: Europe/Berlin       # optional: of the times that people read; UTC without
security:                      # optional: when an anomaly becomes a matter for security
  labels: [recon, c2]          # labels that always are; all attacks without
  devices: [safety-plc]        # at these everything is
  outside: true                # so is what involves an address outside the plant
  refused_logins: "yes"        # yes, no or ask; ask without
  contact: soc@plant.example   # whom to tell
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import yaml
from pydantic import Field, ValidationError, field_validator

from traffic.errors import UserError
from traffic.files import Strict, read_text
from traffic.labels import ATTACKS, LABELS

# ---- The form of plant.yaml, and the line of each mistake ----


class _Entry(Strict):
    name: str = Field(min_length=1, max_length=80)
    address: str
    role: str = ""
    model: str = ""
    zone: str = ""
    contact: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()

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


class _Security(Strict):
    labels: tuple[str, ...] = ATTACKS
    devices: tuple[str, ...] = ()
    outside: bool = False
    refused_logins: Literal["yes", "no", "ask"] = "ask"
    contact: str = Field(default="", max_length=200, pattern=r"^[^\x00-\x1f\x7f\x85\u2028\u2029]*$")

    @field_validator("labels")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [one for one in names if one not in LABELS[1:]]:
            raise ValueError(f"no label is called {', '.join(unknown)}")
        return names


class _File(Strict):
    devices: tuple[_Entry, ...] = ()
    time_zone: str = ""
    security: _Security = _Security()

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        try:
            return ZoneInfo(name).key if name else ""
        except (OSError, ValueError, ZoneInfoNotFoundError):
            raise ValueError(f"{name!r} is no time zone such as Europe/Berlin") from None


def parse_plant(text: str, source: str) -> "Plant":
    """A plant.yaml, checked.

    Args:
        text: YAML.
        source: its name, for messages.

    Raises:
        UserError: with every mistake and its line.
    """
    try:
        # BaseLoader keeps all scalars as text: YAML 1.1 would read the MAC 10:20:30:40:50:51 as a
        # number.
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
        file = _File.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(_say_mistake(problem, node) for problem in error.errors())
        raise _mistake(source, mistakes) from None
    for key in ("address", "name"):
        _check_unique(file.devices, key, node, source)
    return Plant(
        tuple(Device(**entry.model_dump()) for entry in file.devices),
        file.time_zone,
        Security(**file.security.model_dump()),
    )


def _mistake(source: str, what: str) -> UserError:
    return UserError(
        f"{source}: {what}; expected `devices:` with name, address and role each; correct the file"
    )


def _say_mistake(problem: Any, node: yaml.Node) -> str:
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
        elif isinstance(node, yaml.SequenceNode) and step in range(len(node.value)):
            node = node.value[int(step)]
            line = node.start_mark.line
    return line + 1


def _check_unique(entries: Sequence[_Entry], key: str, node: yaml.Node, source: str) -> None:
    seen: dict[str, int] = {}
    for i, entry in enumerate(entries):
        value = getattr(entry, key)
        first = seen.setdefault(value.lower(), i)
        if first != i:
            one, two = (_line_of(node, ("devices", j, key)) for j in (first, i))
            both = f"{entries[first].name} and {entry.name}" if key == "address" else "two devices"
            raise _mistake(source, f"lines {one} and {two}: {both} have one {key}, {value}")


# ---- Devices and their addresses ----

# RFC 1918, link-local (RFC 3927), unique local (RFC 4193) and IPv6 link-local (RFC 4291).
_PRIVATE = (
    r"(?i)(?:(?:10\.\d{1,3}|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}"
    r"|f[cd][0-9a-f]{2}:[0-9a-f:.]*|fe[89ab][0-9a-f]:[0-9a-f:.]*)"
)
# Multicast, broadcast and unspecified. A host may own .255 in a network wider than /24, but hardly
# any does; one that does is named in plant.yaml. Patterns and not ``ipaddress``: a scan has a
# million addresses.
GROUP = r"(?:22[4-9]|23\d)\.|.*\.255$|0\.0\.0\.0$|(?i:ff[0-9a-f]{2}:)|::$"

GROUP_MAC = r"[0-9a-f][13579bdf]:[0-9a-f]{2}:[0-9a-f]{2}:[0-9a-f]{2}:[0-9a-f]{2}:[0-9a-f]{2}$"


def is_link_local(address: str) -> bool:
    """Whether an address is one that a machine gave itself on its link, fe80:: or 169.254."""
    return ipaddress.ip_address(address).is_link_local


def is_group(address: str) -> bool:
    """Multicast, broadcast and unspecified addresses: nobody in particular is expected to answer.

    >>> is_group("224.0.0.251"), is_group("ff02::fb"), is_group("10.0.0.1")
    (True, True, False)
    """
    return re.match(GROUP, address) is not None


@dataclass(frozen=True)
class Device:
    """One device of the plant; ``address`` is its identity, ``role`` what an operator would call
    it, ``writers`` the names or addresses that may write to it (any, where none is named)."""

    name: str
    address: str
    role: str
    model: str = ""
    zone: str = ""
    contact: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Security:
    """When an anomaly becomes a matter for security.

    Attributes:
        labels: those of incidents that always are.
        devices: names or addresses at which every incident is.
        outside: so is every incident that involves an address outside the plant.
        refused_logins: so are logins that are refused: ``yes``, ``no``, or ``ask`` (if nobody knows
            the client).
        contact: whom to tell; "" where plant.yaml names nobody.
    """

    labels: tuple[str, ...] = ATTACKS
    devices: tuple[str, ...] = ()
    outside: bool = False
    refused_logins: str = "ask"
    contact: str = ""


@dataclass(frozen=True)
class Plant:
    """The devices of a plant, in the order of plant.yaml; the IANA name of its time zone, "" for
    UTC; its criteria for what is a matter for security."""

    devices: tuple[Device, ...] = ()
    time_zone: str = ""
    security: Security = Security()

    @property
    def allowed_writers(self) -> dict[str, frozenset[str]]:
        """Addresses that may write to each device of which writers are named."""
        named = {one.name.lower(): one.address for one in self.devices}
        return {
            one.address: frozenset(named.get(name.lower(), name) for name in one.writers)
            for one in self.devices
            if one.writers
        }

    def short_name_of(self, address: str) -> str:
        """``"press-plc"`` for a device, the address itself for anybody else."""
        return next((one.name for one in self.devices if one.address == address), address)

    def name_of(self, address: str) -> str:
        """``"press-plc (192.168.1.104)"`` for a device, the address itself for anybody else."""
        name = self.short_name_of(address)
        return address if name == address else f"{name} ({address})"


def is_local(
    addresses: pd.Series, plant: Plant | None = None, extra_networks: Sequence[str] = ()
) -> pd.Series:
    """Which addresses are devices: private ones, those of the plant, those in the extra networks.

    Multicast, broadcast and unspecified addresses never are, unless the plant names them.

    Args:
        addresses: shape (n,), text; repeated addresses cost nothing.
        plant: its addresses are local wherever they lie.
        extra_networks: CIDR such as ``203.0.113.0/24``, for plants on public addresses.

    Returns:
        Shape (n,), bool, with the index of ``addresses``.

    Raises:
        UserError: an extra network is not a network.
    """
    codes, unique = pd.factorize(addresses)
    names = pd.Series(unique, dtype="str")
    local = names.str.fullmatch(_PRIVATE)
    networks = [_network(text) for text in extra_networks]
    if networks:
        local |= names.map(lambda name: _lies_in(name, networks)).astype(bool)
    local &= ~names.str.match(GROUP)
    if plant is not None:
        local |= names.isin([device.address for device in plant.devices])
    known = np.append(local.to_numpy(bool), False)  # code -1, no address, is the last
    return pd.Series(known[codes], index=addresses.index, dtype=bool)


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise UserError(
            f"{text!r} is not a network; expected CIDR such as 203.0.113.0/24; correct --local"
        ) from None


def _lies_in(name: str, networks: list[_Network]) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return any(address in network for network in networks)


def load_plant(path: Path | str) -> Plant:
    """Read plant.yaml.

    Raises:
        UserError: there is no such file, it is not YAML, or an entry is wrong; every mistake is
            said with its line.
    """
    text = read_text(Path(path), "a plant.yaml")
    return parse_plant(text, str(path))


def dump_plant(plant: Plant) -> str:
    """The plant as YAML that ``load_plant`` reads back equal; what is empty is left out."""
    entries = [
        {key: list(value) if key == "aliases" else value for key, value in asdict(device).items() if value}
        for device in plant.devices
    ]  # fmt: skip
    more: dict[str, Any] = {"time_zone": plant.time_zone} if plant.time_zone else {}
    if plant.security != Security():
        more["security"] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(plant.security).items()
            if value != getattr(Security(), key)
        }
    return yaml.safe_dump(
        {"devices": entries} | more, sort_keys=False, allow_unicode=True, width=1000
    )
