"""An inventory drafted from a capture: the devices, with roles by what each serves and asks."""

import ipaddress
from collections import Counter

import numpy as np
import pandas as pd

from traffic.capture import Capture
from traffic.plant import Device, Plant, is_local

_ROUTER = "router"
# Port served -> role, the most telling first: a PLC may have a web page too, but no web server
# speaks Modbus.
_SERVES = {
    502: "PLC or Modbus device",
    102: "PLC (S7)",
    44818: "PLC or EtherNet/IP device",
    2222: "PLC or EtherNet/IP device",
    20000: "DNP3 outstation",
    4840: "OPC UA server",
    47808: "BACnet device",
    1883: "MQTT broker",
    8883: "MQTT broker",
    554: "IP camera",
    67: _ROUTER,
    53: "DNS resolver",
    123: "time server",
    9100: "printer",
    445: "file server",
}
_CONTROL = (502, 102, 44818, 2222, 20000)
_ASKS = {**dict.fromkeys(_CONTROL, "HMI or SCADA master"), 1883: "MQTT client", 8883: "MQTT client"}
_SHORT = {
    "PLC or Modbus device": "plc",
    "PLC (S7)": "plc",
    "PLC or EtherNet/IP device": "plc",
    "DNP3 outstation": "rtu",
    "OPC UA server": "opcua",
    "BACnet device": "bacnet",
    "MQTT broker": "broker",
    "IP camera": "camera",
    "router": "router",
    "DNS resolver": "resolver",
    "time server": "clock",
    "printer": "printer",
    "file server": "files",
    "HMI or SCADA master": "hmi",
    "MQTT client": "sensor",
}
# One external address behind a MAC may be a neighbour's odd setting; two are a router.
_ROUTED = 2


def draft_plant(capture: Capture) -> Plant:
    """One device per local unicast address, in the order of addresses.

    Link-local addresses (169.254.0.0/16, fe80::/10) are left out where a capture has others: nearly
    every machine has one beside its real address, so they would list machines twice. Roles are
    guesses, empty where nothing tells.
    """
    macs = _macs(capture.flows)
    roles = _roles(capture.flows)
    for address in _routers(macs):
        roles[address] = _ROUTER
    addresses = _devices(capture)
    names = _make_names(addresses, roles)
    return Plant(
        tuple(Device(names[a], a, roles.get(a, ""), mac=macs.get(a, "")) for a in addresses)
    )


def _devices(capture: Capture) -> list[str]:
    flows, evidence = capture.flows, capture.evidence
    # Somebody who was only asked for, and never answered, is a device too: it may be the dead one.
    ends = [flows["id.orig_h"], flows["id.resp_h"], evidence["src"], evidence["dst"]]
    seen = pd.concat(ends).drop_duplicates()
    local = [ipaddress.ip_address(name) for name in seen[is_local(seen).to_numpy()]]
    routable = [address for address in local if not address.is_link_local]
    return [str(one) for one in sorted(routable or local, key=lambda a: (a.version, int(a)))]


def _roles(flows: pd.DataFrame) -> dict[str, str]:
    tcp = (flows["proto"] == "tcp").to_numpy()
    # A reset is an answer, but not a service: data or a SYN-ACK is.
    opened = flows["history"].fillna("").str.contains("h", regex=False)
    opened |= flows["resp_bytes"].fillna(0) > 0
    answered = flows[np.where(tcp, opened, flows["resp_pkts"].fillna(0) > 0)]
    roles: dict[str, str] = {}
    for end, table in (("id.orig_h", _ASKS), ("id.resp_h", _SERVES)):
        pairs = answered[[end, "id.resp_p"]].drop_duplicates()
        for port in reversed(table):  # the most telling one last: it stays
            roles |= dict.fromkeys(pairs.loc[pairs["id.resp_p"] == port, end], table[port])
    return roles


def _macs(flows: pd.DataFrame) -> dict[str, str]:
    """The MAC that each address was seen with most; empty where the capture has none."""
    parts = [
        flows[[f"id.{side}_h", f"{side}_l2_addr"]].set_axis(["address", "mac"], axis=1)
        for side in ("orig", "resp")
        if f"{side}_l2_addr" in flows
    ]
    if not parts:
        return {}
    counts = pd.concat(parts).dropna().value_counts().reset_index()
    first = counts.drop_duplicates("address")
    return dict(zip(first["address"], first["mac"].str.lower(), strict=True))


def _routers(macs: dict[str, str]) -> list[str]:
    """Who owns the MAC behind which external addresses lie."""
    names = pd.Series(list(macs), dtype="str")
    local = is_local(names).to_numpy()
    outside = pd.Series([macs[name] for name in names[~local]]).value_counts()
    gateways = set(outside[outside >= _ROUTED].index)
    return [name for name in names[local] if macs[name] in gateways]


def _make_names(addresses: list[str], roles: dict[str, str]) -> dict[str, str]:
    short = {a: _SHORT.get(roles.get(a, ""), "device") for a in addresses}
    names = {a: f"{short[a]}-{a.replace(':', '.').rsplit('.', 1)[-1]}" for a in addresses}
    taken = Counter(names.values())
    return {a: name if taken[name] == 1 else f"{short[a]}-{a}" for a, name in names.items()}
