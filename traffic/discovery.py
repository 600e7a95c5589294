"""An inventory drafted from a capture: the devices, with roles by what each serves and asks, and what
they say of themselves."""

import ipaddress
from collections import Counter

import numpy as np
import pandas as pd

from traffic.capture import Capture
from traffic.identities import choose_identities
from traffic.plant import GROUP, Device, Plant, dump_plant, is_local

_ROUTER = "router"
# Service served -> role, the most telling first: a PLC may have a web page too, but no web server
# speaks Modbus.
_SERVES = {
    "modbus": "PLC or Modbus device",
    "s7comm": "PLC (S7)",
    "enip": "PLC or EtherNet/IP device",
    "cip": "PLC or EtherNet/IP device",
    "dnp3": "DNP3 outstation",
    "iec104": "IEC 104 station",
    "mms": "IEC 61850 device",
    "opcua": "OPC UA server",
    "bacnet": "BACnet device",
    "ads": "PLC (ADS)",
    "slmp": "PLC (MELSEC)",
    "melsoft": "PLC (MELSEC)",
    "fins": "PLC (FINS)",
    "synchrophasor": "phasor measurement unit",
    "hart_ip": "HART-IP device",
    "profinet_cm": "PROFINET device",
    "mqtt": "MQTT broker",
    "rtsp": "IP camera",
    "dhcp": _ROUTER,
    "dns": "DNS resolver",
    "ntp": "time server",
    "printer": "printer",
    "smb": "file server",
}
_CONTROL = tuple(_SERVES)[:16]  # those of plants
_ASKS = {**dict.fromkeys(_CONTROL, "HMI or SCADA master"), "mqtt": "MQTT client"}
_SHORT = {
    "PLC or Modbus device": "plc",
    "PLC (S7)": "plc",
    "PLC or EtherNet/IP device": "plc",
    "PLC (ADS)": "plc",
    "PLC (MELSEC)": "plc",
    "PLC (FINS)": "plc",
    "DNP3 outstation": "rtu",
    "IEC 104 station": "rtu",
    "IEC 61850 device": "ied",
    "OPC UA server": "opcua",
    "BACnet device": "bacnet",
    "phasor measurement unit": "pmu",
    "HART-IP device": "hart",
    "PROFINET device": "pn",
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
# What a server's port tells where the content of its flows does not.
_USUAL = {
    502: "modbus", 102: "s7comm", 44818: "enip", 2222: "enip", 20000: "dnp3", 2404: "iec104", 4840: "opcua",
    47808: "bacnet", 1883: "mqtt", 8883: "mqtt", 554: "rtsp", 67: "dhcp", 53: "dns", 123: "ntp", 9100: "printer",
    445: "smb", 48898: "ads", 4712: "synchrophasor", 5094: "hart_ip", 34964: "profinet_cm",
}  # fmt: skip
# One external address behind a MAC may be a neighbour's odd setting; two are a router.
_ROUTED = 2
# A plant lies in a few networks; what answers in more of them is the internet.
_MOST_NETWORKS = 8
_PREFIX = {4: 24, 6: 64}


def draft_plant(capture: Capture) -> Plant:
    """One device per local unicast address, in the order of addresses.

    Where the plant's addresses are public, those of ``find_plant_networks`` are local.

    Link-local addresses (169.254.0.0/16, fe80::/10) are left out where a capture has others: nearly
    every machine has one beside its real address, so they would list machines twice. Roles are
    guesses, empty where nothing tells; make and model are what the surest source says.
    """
    macs = _macs(capture.flows)
    roles = _roles(capture.flows)
    networks = find_plant_networks(capture)
    for address in _routers(macs, networks):
        roles[address] = _ROUTER
    addresses = _devices(capture, networks)
    names = _make_names(addresses, roles)
    models = _models(capture.identities)
    return Plant(
        tuple(
            Device(names[a], a, roles.get(a, ""), models.get(a, ""), mac=macs.get(a, ""))
            for a in addresses
        )
    )


def find_plant_networks(capture: Capture) -> tuple[str, ...]:
    """Networks (CIDR) of a plant on public addresses: both ends of its industrial traffic lie there.

    Empty where it lies in more than a few networks, or where there is none. A capture of one machine's
    loopback, as people take it at a desk, holds nothing else.
    """
    flows = _answered(capture.flows)
    flows = flows[_services(flows).isin(_CONTROL)]
    ends = flows[["id.orig_h", "id.resp_h"]].drop_duplicates()
    outside = [~is_local(ends[name]) & ~ends[name].str.match(GROUP) for name in ends]
    ends = ends[outside[0] & outside[1]]
    addresses = [ipaddress.ip_address(text) for text in pd.unique(ends.to_numpy().ravel())]
    others = [address for address in addresses if not address.is_loopback]
    if others or _holds_devices(capture.flows):
        addresses = others
    networks = {
        ipaddress.ip_network((one, _PREFIX[one.version]), strict=False) for one in addresses
    }
    if len(networks) > _MOST_NETWORKS:
        return ()
    four = [one for one in networks if isinstance(one, ipaddress.IPv4Network)]
    six = [one for one in networks if isinstance(one, ipaddress.IPv6Network)]
    joined = [*ipaddress.collapse_addresses(four), *ipaddress.collapse_addresses(six)]
    return tuple(str(network) for network in joined)


def _holds_devices(flows: pd.DataFrame) -> bool:
    return any(is_local(flows[name].drop_duplicates()).any() for name in ("id.orig_h", "id.resp_h"))


def hint_local(capture: Capture) -> str:
    """What to do where a capture's addresses are all public: which networks are the plant's;
    ``""`` where its traffic does not tell."""
    networks = find_plant_networks(capture)
    if not networks:
        return ""
    named = " ".join(f"--local {network}" for network in networks)
    return (
        f"the industrial traffic is between addresses that are not private; {named} makes them devices, if they "
        "are the plant's"
    )


def render_draft(plant: Plant, identities: pd.DataFrame) -> str:
    """The plant as YAML, after each device what it says of itself, from where and how sure, as
    comments."""
    told = choose_identities(identities)
    lines = ["devices:" if plant.devices else "devices: []"]
    for device in plant.devices:
        lines += dump_plant(Plant((device,))).splitlines()[1:]
        for row in told[told["device"] == device.address].itertuples():
            lines.append(f"  # {row.field}: {row.value} (by {row.source}, sure: {row.sure})")
    return "\n".join(lines) + "\n"


def describe_hosts_without_ip(capture: Capture) -> dict[str, str]:
    """What each MAC does that speaks a protocol over Ethernet and has no address of its own."""
    spoken = capture.exchanges[capture.exchanges["flow"] < 0]
    names = spoken.groupby("client", observed=True)["protocol"].unique()
    known = set(_macs(capture.flows).values())
    makes = choose_identities(capture.identities)
    makes = makes[makes["field"] == "make"].set_index("device")["value"].to_dict()
    return {
        mac: ", ".join(
            ["speaks " + " and ".join(protocols), *([makes[mac]] if mac in makes else [])]
        )
        for mac, protocols in names.items()
        if mac not in known
    }


def _devices(capture: Capture, networks: tuple[str, ...]) -> list[str]:
    flows, evidence = capture.flows, capture.evidence
    # Somebody who was only asked for, and never answered, is a device too: it may be the dead one.
    ends = [flows["id.orig_h"], flows["id.resp_h"], evidence["src"], evidence["dst"]]
    seen = pd.concat(ends).drop_duplicates()
    ours = is_local(seen, extra_networks=networks).to_numpy()
    local = [ipaddress.ip_address(name) for name in seen[ours]]
    routable = [address for address in local if not address.is_link_local]
    return [str(one) for one in sorted(routable or local, key=lambda a: (a.version, int(a)))]


def _answered(flows: pd.DataFrame) -> pd.DataFrame:
    tcp = (flows["proto"] == "tcp").to_numpy()
    # A reset is an answer, but not a service: data or a SYN-ACK is.
    opened = flows["history"].fillna("").str.contains("h", regex=False)
    opened |= flows["resp_bytes"].fillna(0) > 0
    return flows[np.where(tcp, opened, flows["resp_pkts"].fillna(0) > 0)]


def _services(flows: pd.DataFrame) -> pd.Series:
    """What each flow speaks, by its content; where that tells nothing, by its server's port."""
    spoken = flows["service"].astype("str").fillna("").str.split(",").str[-1]
    usual = flows["id.resp_p"].map(_USUAL).fillna("").astype("str")
    return spoken.where(spoken.isin([*_SERVES, *_IT]), usual)


_IT = ("http", "ssl", "ssh", "ftp", "telnet", "smtp", "pop3", "imap", "rdp", "snmp", "syslog")


def _roles(flows: pd.DataFrame) -> dict[str, str]:
    answered = _answered(flows)
    answered = answered.assign(spoken=_services(answered))
    roles: dict[str, str] = {}
    for end, table in (("id.orig_h", _ASKS), ("id.resp_h", _SERVES)):
        pairs = answered[[end, "spoken"]].drop_duplicates()
        for service in reversed(table):  # the most telling one last: it stays
            roles |= dict.fromkeys(pairs.loc[pairs["spoken"] == service, end], table[service])
    return roles


def _models(identities: pd.DataFrame) -> dict[str, str]:
    """Make and model of each device in one text; a make that only its MAC tells is left to the
    identities."""
    sure = choose_identities(identities[identities["source"] != "OUI"])
    sure = sure[(sure["sure"] != "low") & sure["field"].isin(["make", "model", "order number"])]
    table = sure.pivot_table(index="device", columns="field", values="value", aggfunc="first")
    models = {}
    for device, row in table.iterrows():
        texts = [row.get(field) for field in ("make", "model", "order number")]
        models[str(device)] = " ".join(text for text in texts if isinstance(text, str))[:80]
    return models


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


def _routers(macs: dict[str, str], networks: tuple[str, ...]) -> list[str]:
    """Who owns the MAC behind which external addresses lie."""
    names = pd.Series(list(macs), dtype="str")
    local = is_local(names, extra_networks=networks).to_numpy()
    outside = pd.Series([macs[name] for name in names[~local]]).value_counts()
    gateways = set(outside[outside >= _ROUTED].index)
    return [name for name in names[local] if macs[name] in gateways]


def _make_names(addresses: list[str], roles: dict[str, str]) -> dict[str, str]:
    short = {a: _SHORT.get(roles.get(a, ""), "device") for a in addresses}
    names = {a: f"{short[a]}-{a.replace(':', '.').rsplit('.', 1)[-1]}" for a in addresses}
    taken = Counter(names.values())
    return {a: name if taken[name] == 1 else f"{short[a]}-{a}" for a, name in names.items()}
