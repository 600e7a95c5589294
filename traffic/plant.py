"""The inventory of a plant: plant.yaml, its draft from a capture, and which addresses are devices at all.

devices:
  - name: press-plc
    address: 192.168.1.104
    role: PLC
    model: Modicon M221        # optional, like zone, contact, mac and aliases
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd

from traffic.capture import Capture
from traffic.errors import UserError

__all__ = ["Device", "Plant", "discover", "dump_plant", "is_local", "load_plant"]

# RFC 1918, link-local (RFC 3927), unique local (RFC 4193) and IPv6 link-local (RFC 4291).
_PRIVATE = (
    r"(?i)(?:(?:10\.\d{1,3}|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}"
    r"|f[cd][0-9a-f]{2}:[0-9a-f:.]*|fe[89ab][0-9a-f]:[0-9a-f:.]*)"
)
# Nobody in particular: unspecified, multicast, broadcast. A host may own .255 in a network wider than /24, but hardly
# any does; one that does is named in plant.yaml.
_NOBODY = r"(?i)(?:0\.0\.0\.0|::|(?:22[4-9]|23\d)\.[\d.]+|\d+\.\d+\.\d+\.255|ff[0-9a-f]{2}:.*)"
# Words of a question or a role that point at no device.
_VAGUE = frozenset(
    [
        *["a", "an", "and", "are", "at", "by", "do", "for", "from", "has", "have", "in", "is", "it", "me", "my", "no"],
        *["of", "on", "or", "our", "that", "the", "this", "to", "what", "why", "with"],
        *["device", "devices", "unit", "dns", "ip", "modbus", "mqtt"],
    ]
)


@dataclass(frozen=True)
class Device:
    """One device of the plant; ``address`` is its identity, ``role`` what an operator would call it."""

    name: str
    address: str
    role: str
    model: str = ""
    zone: str = ""
    contact: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plant:
    """The devices of a plant, in the order of plant.yaml."""

    devices: tuple[Device, ...] = ()

    def name_of(self, address: str) -> str:
        """``"press-plc (192.168.1.104)"`` for a device, the address itself for anybody else."""
        for device in self.devices:
            if device.address == address:
                return f"{device.name} ({address})"
        return address

    def find(self, text: str) -> Device | None:
        """The device that a text speaks of: by address, name or alias, else by its role if only one device fits.

        Args:
            text: ``"192.168.1.104"``, ``"Press-PLC"``, ``"the camera"``, ``"PLC 2"``, or a whole question.

        Returns:
            None where no device or more than one fits: a wrong guess would blame the wrong machine.
        """
        words = _words(text)
        named = [(len(known), device) for device in self.devices for known in _names(device) if _holds(words, known)]
        if named:
            longest = max(length for length, _ in named)
            return _only([device for length, device in named if length == longest])
        fits = [device for device in self.devices if set(words) & (set(_words(device.role)) - _VAGUE)]
        number = _number_after(words, {word for device in fits for word in _words(device.role)})
        if number is not None:
            return fits[number - 1] if 1 <= number <= len(fits) else None
        return _only(fits)


def _number_after(words: list[str], roles: set[str]) -> int | None:
    """The 2 of "PLC 2", not that of "2 hours"."""
    return next((int(n) for word, n in pairwise(words) if word in roles and n.isdecimal() and len(n) < 4), None)


def _only(devices: list[Device]) -> Device | None:
    different = list(dict.fromkeys(devices))
    return different[0] if len(different) == 1 else None


def _names(device: Device) -> list[list[str]]:
    return [_words(text) for text in (device.address, device.name, device.mac, *device.aliases) if text]


def _words(text: str) -> list[str]:
    """Addresses whole, everything else in words and numbers: ``"PLC-02"`` is ``["plc", "2"]``."""
    found = re.findall(r"(?:[0-9a-f]*:){2,}[0-9a-f.:]*[0-9a-f]|\d+(?:\.\d+){3}|[^\W\d_]+|\d+", text.lower())
    return [word.lstrip("0") or "0" if word.isdecimal() else word for word in found]


def _holds(words: list[str], known: list[str]) -> bool:
    return bool(known) and any(words[i : i + len(known)] == known for i in range(len(words) - len(known) + 1))


def is_local(addresses: pd.Series, plant: Plant | None = None, extra_networks: Sequence[str] = ()) -> pd.Series:
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
    local &= ~names.str.fullmatch(_NOBODY)
    if plant is not None:
        local |= names.isin([device.address for device in plant.devices])
    known = pd.concat([local.astype(bool), pd.Series([False])], ignore_index=True)  # code -1, no address, is the last
    return pd.Series(known.to_numpy()[codes], index=addresses.index, dtype=bool)


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise UserError(f"{text!r} is not a network; expected CIDR such as 203.0.113.0/24; correct --local") from None


def _lies_in(name: str, networks: list[_Network]) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return any(address in network for network in networks)


def load_plant(path: Path | str) -> Plant:
    """Read plant.yaml.

    Raises:
        UserError: there is no such file, it is not YAML, or an entry is wrong; every mistake is said with its line.
    """
    from traffic.plant_file import parse_plant

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"{path} cannot be read ({why}); expected a plant.yaml; check the path") from None
    return Plant(tuple(Device(**entry) for entry in parse_plant(text, str(path))))


def dump_plant(plant: Plant) -> str:
    """The plant as YAML that ``load_plant`` reads back equal; what is empty is left out."""
    import yaml

    entries = [{key: value for key, value in asdict(device).items() if value} for device in plant.devices]
    for entry in entries:
        if "aliases" in entry:
            entry["aliases"] = list(entry["aliases"])
    return yaml.safe_dump({"devices": entries}, sort_keys=False, allow_unicode=True, width=1000)


def discover(capture: Capture) -> Plant:
    """Draft the inventory from a capture: addresses, MACs where known, and roles guessed from what each serves."""
    from traffic.discovery import draft_plant

    return draft_plant(capture)
