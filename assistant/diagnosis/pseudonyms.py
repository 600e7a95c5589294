"""What a model may see of a plant: roles in the place of addresses and names.

A prompt may leave this machine for a server on the plant's network, and a model repeats what it
reads. So no prompt holds an address, a name, a zone, a topic or a file: they become ``device 1``,
``peer 1``, ``name 1``, and code puts them back (``Roles.restore``).

    cam-1 (192.168.1.20) contacted 203.0.113.5:6667 12 times.
    device 1 contacted peer 1 port 6667 12 times.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from assistant.diagnosis.grounding import is_name
from assistant.facts.fact import Fact, Value
from traffic.plant import Plant, is_local

# Values that say what was done, in words of a protocol; every other text names somebody.
_TECHNICAL = frozenset((
    "code", "codes", "functions", "services", "service_words", "protocol", "what", "where", "counts", "fits",
    "some_ports", "units", "unit", "answered", "role", "kind",
))  # fmt: skip
_HEX = r"[0-9A-Fa-f]"
_MAC = rf"(?:{_HEX}{{2}}[:-]){{5}}{_HEX}{{2}}"
_IPV4 = r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)"
# Eight groups, or a gap: "08:22:30" is a time.
_IPV6 = (
    rf"(?<![\w:.])(?:(?:{_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}|"
    rf"(?=[\w:]*::)(?:{_HEX}{{0,4}}:){{2,7}}{_HEX}{{0,4}})(?![\w:])"
)
_ADDRESS = re.compile(rf"{_MAC}|{_IPV4}|{_IPV6}")
_NAMED = re.compile(rf"([^\s,;()\[\]][^,;()\[\]]*?)\s+\(({_MAC}|{_IPV4}|{_IPV6})\)")
# Host names, files, paths and topics; a mailbox; whatever stands in quotation marks.
_FOREIGN = re.compile(
    r"\"[^\"]*\"|\u201c[^\u201d]*\u201d|[\w.+-]+@[\w.-]+|"
    r"(?<!\w)(?=[\w$+#./\\-]*[^\W\d_]{2})[\w$+#-]+(?:[./\\][\w$+#-]+)+[/\\]?|[\\/][\w$+#./\\-]{2,}"
)
_UNITS_OF_SPEED = re.compile(r"(?i)(?:[kmg]?bit|bytes?)/s|https?|ethernet/ip|tcp/ip|and/or|up/down")


@dataclass(frozen=True)
class Roles:
    """Which role stands for which name.

    Attributes:
        roles: by name, as facts write it; a name with its address, the name and the address share
            one role.
    """

    roles: Mapping[str, str]

    def hide(self, text: str) -> str:
        """The text without names and addresses; what looks like either and is not known becomes
        ``name``."""
        if self.roles:
            names = sorted(self.roles, key=lambda name: (-len(name), name))
            known = "|".join(map(re.escape, names))
            folded = {name.lower(): role for name, role in self.roles.items()}
            text = re.sub(
                rf"(?i)(?<![\w-])(?<!\d\.)(?:{known})(?![\w-]|\.\d)",
                lambda found: folded[found.group().lower()],
                text,
            )
        text = re.sub(r"((?:device|peer|name) \d+):(\d+)\b", r"\1 port \2", text)
        text = _ADDRESS.sub("another address", text)
        text = _FOREIGN.sub(
            lambda found: found[0] if _UNITS_OF_SPEED.fullmatch(found[0]) else "a name", text
        )
        return re.sub(
            r"(?<!\w)[^\W\d_][\w-]*",
            lambda found: "a name" if is_name(found[0]) else found[0],
            text,
        )

    def restore(self, text: str) -> str:
        """The text with each role as the name that facts write, the longest of it."""
        names: dict[str, str] = {}
        for name, role in self.roles.items():
            if len(name) > len(names.get(role, "")):
                names[role] = name
        return re.sub(
            r"(?i)\b(device|peer|name) (\d+)\b",
            lambda found: names.get(found.group().lower(), found.group()),
            text,
        )


def assign_roles(facts: Iterable[Fact], plant: Plant | None = None) -> Roles:
    """Number the devices, peers and other names of facts in the order in which they appear.

    Args:
        facts: their values name who it is about.
        plant: its names, aliases, hardware addresses, zones and contacts are hidden too, whether a
            fact names them or not.
    """
    roles: dict[str, str] = {}
    counts = {"device": 0, "peer": 0, "name": 0}

    def number(kind: str, names: Iterable[str]) -> None:
        new = [name for name in names if name and name not in roles]
        if not new:
            return
        known = next((roles[name] for name in names if name in roles), "")
        if not known:
            counts[kind] += 1
            known = f"{kind} {counts[kind]}"
        roles.update(dict.fromkeys(new, known))

    for device in (plant or Plant()).devices:
        names = (f"{device.name} ({device.address})", device.address, device.name, *device.aliases)
        number("device", (*names, device.mac))
        for other in (device.zone, device.contact):
            number("name", (other,))
    texts = [text for fact in facts for text in _naming(fact.values)]
    for text in texts:
        for name, address in _NAMED.findall(text):
            name = re.sub(r"^(?:and|by|from|to|of|with|between)\s+", "", name)
            number(_kind(address), (f"{name} ({address})", address, name))
        for address in _ADDRESS.findall(text):
            number(_kind(address), (address,))
    hidden = Roles(roles)
    for text in texts:
        if not _is_plain(hidden.hide(text)):
            number("name", (text,))
    return Roles(dict(roles))


def _naming(values: Mapping[str, Value]) -> list[str]:
    return [
        value
        for name, value in values.items()
        if isinstance(value, str) and value and name.rstrip("0123456789") not in _TECHNICAL
    ]


def _kind(address: str) -> str:
    # A hardware address is somebody's on this wire.
    own = re.fullmatch(_MAC, address) or is_local(pd.Series([address])).all()
    return "device" if own else "peer"


_PLAIN = re.compile(
    r"(?i)(?:(?:device|peer|name) \d+|another address|its|their|peers?|others?|outside|and|by|\d+|more|ports?|"
    r"over|TCP|UDP|ICMP|DNS|DHCP|HTTPS?|NTP|NetBIOS|SSH|Telnet|S7|SMB|Modbus|MQTT|TLS|SSDP|OPC UA|mDNS|DNP3|"
    r"EtherNet/IP|an unknown address|(?:Modbus )?requests?|with|of|[,()+:.\s])*"
)


def _is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None
