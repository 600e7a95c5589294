"""LLDP: what a device announces of itself to its neighbours (IEEE 802.1AB)."""

import ipaddress
from collections.abc import Iterator

import numpy as np
import pandas as pd

from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ETHERNET,
    IDENTIFY,
    TELL,
    Heads,
    Identity,
    Protocol,
    make_rows,
    select_distinct,
)

_LONGEST = 1500
# Types of TLVs (802.1AB, table 8-1).
_CHASSIS, _NAME, _DESCRIPTION, _MANAGEMENT, _OWN = 1, 5, 6, 8, 127
_CHASSIS_IS_MAC = 4
_PROFINET_CHASSIS = b"\x00\x0e\xcf\x05"  # PNO's own TLV 5 holds the chassis' MAC
# Types of Inventory that ANSI/TIA-1057 adds, by the last byte after its identifier.
_MED = {5: "order number", 6: "firmware", 7: "software", 8: "serial", 9: "make", 10: "model"}
_MED_OUI = b"\x00\x12\xbb"


def _fits(heads: Heads) -> np.ndarray:
    """A chassis with a subtype comes first."""
    head = heads.first
    return (head[:, 0] == _CHASSIS << 1) & (head[:, 2] >= 1) & (head[:, 2] <= 7)


def _read(messages: Messages) -> pd.DataFrame:
    return make_rows(messages, np.full(len(messages), TELL), kind=IDENTIFY)


def _walk(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(body):
        kind, size = body[at] >> 1, (body[at] & 1) << 8 | body[at + 1]
        if not kind or at + 2 + size > len(body):
            return
        yield kind, body[at + 2 : at + 2 + size]
        at += 2 + size


def _identify(messages: Messages) -> list[Identity]:
    """System name, description and inventory; the device is its management address, or the MAC of
    its chassis, since each port sends under a MAC of its own."""
    found = []
    for message, body in select_distinct(messages, np.ones(len(messages), bool), 0, _LONGEST):
        said: list[tuple[str, bytes]] = []
        address = chassis = ""
        for kind, value in _walk(body):
            if kind == _CHASSIS and value[:1] == bytes([_CHASSIS_IS_MAC]) and len(value) == 7:
                chassis = value[1:].hex(":")
            elif kind == _OWN and value[:4] == _PROFINET_CHASSIS and len(value) == 10:
                chassis = value[4:].hex(":")
            elif kind == _CHASSIS and value[:1] == b"\7":  # a name that its owner gave, as PROFINET
                said.append(("name", value[1:]))
            elif kind == _MANAGEMENT and value[:2] == b"\5\1" and any(value[2:6]):
                address = str(ipaddress.ip_address(value[2:6])) if len(value) >= 6 else ""
            elif kind == _OWN and value[:3] == _MED_OUI and value[3:4] and value[3] in _MED:
                said.append((_MED[value[3]], value[4:]))
            elif kind in (_NAME, _DESCRIPTION):
                said.append(("name" if kind == _NAME else "model", value))
        found += [
            Identity(message, field, value, "LLDP", address or chassis) for field, value in said
        ]
    return found


LLDP = Protocol(
    name="lldp", transports=(ETHERNET,), ports=(0x88CC,), fits=_fits, read=_read, identify=_identify
)
