"""The inventory of a plant: plant.yaml, its draft from a capture, and which addresses are devices at all.

devices:
  - name: press-plc
    address: 192.168.1.104
    role: PLC
    model: Modicon M221        # optional, like zone, contact, mac and aliases
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from traffic.errors import UserError

__all__ = ["Device", "Plant", "dump_plant", "is_local", "load_plant"]

# RFC 1918, link-local (RFC 3927), unique local (RFC 4193) and IPv6 link-local (RFC 4291).
_PRIVATE = (
    r"(?i)(?:(?:10\.\d{1,3}|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}"
    r"|f[cd][0-9a-f]{2}:[0-9a-f:.]*|fe[89ab][0-9a-f]:[0-9a-f:.]*)"
)
# Nobody in particular: unspecified, multicast, broadcast. A host may own .255 in a network wider than /24, but hardly
# any does; one that does is named in plant.yaml.
_NOBODY = r"(?i)(?:0\.0\.0\.0|::|(?:22[4-9]|23\d)\.[\d.]+|\d+\.\d+\.\d+\.255|ff[0-9a-f]{2}:.*)"


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
