"""Names of the frames that nothing here reads: by ethertype, by LLC, or by link type.

Numbers: www.iana.org/assignments/ieee-802-numbers, standards-oui.ieee.org/ethertype/eth.txt.
"""

import numpy as np
import pandas as pd

from traffic.pcap.links import ARP, IP4, IP6, MPLS, PPP, PPPOE
from traffic.pcap.records import (
    AVS,
    LINK_NAMES,
    LINKS,
    PPI,
    PRISM,
    RADIOTAP,
    WIFI,
    header_type,
    read_headers,
)

GOOSE, SAMPLED_VALUES, PROFINET, LLDP = 0x88B8, 0x88BA, 0x8892, 0x88CC
_ETHERTYPES = {
    0: "cut or without a protocol number", IP4: "damaged or cut IPv4", IP6: "damaged or cut IPv6",
    ARP: "ARP that is cut or not for IPv4", GOOSE: "GOOSE", 0x88B9: "GSE management",
    SAMPLED_VALUES: "Sampled Values", PROFINET: "PROFINET", 0x88A4: "EtherCAT", LLDP: "LLDP",
    0x8809: "LACP or another slow protocol", 0x88E3: "MRP", 0x88FB: "PRP or HSR supervision",
    0x892F: "HSR", 0x88F7: "PTP", 0x88CD: "SERCOS III", 0x88AB: "Ethernet POWERLINK", 0x890F: "CC-Link IE",
    0x891D: "TTEthernet", 0x8902: "CFM or EtherOAM", 0x88E5: "MACsec (encrypted)", 0x888E: "802.1X",
    0x88C7: "802.11 pre-authentication", 0x8863: "PPPoE discovery", PPPOE: "PPPoE that is damaged",
    PPP: "PPP control", MPLS: "MPLS of an unknown content", 0x8848: "MPLS of an unknown content",
    0x8100: "VLAN tags without end", 0x88A8: "VLAN tags without end", 0x9000: "loopback test",
    0x6002: "DEC MOP", 0x6003: "DECnet", 0x6004: "DEC LAT", 0x8137: "IPX", 0x809B: "AppleTalk",
    0x80F3: "AppleTalk ARP", 0x8035: "RARP", 0x22EA: "stream reservation", 0x22F0: "AVTP", 0x22F3: "TRILL",
    0x8899: "Realtek loop detection", 0x887B: "HomePlug", 0x88E1: "HomePlug AV", 0x893A: "IEEE 1905.1",
    0x88BF: "MikroTik RoMON", 0x88D9: "LLTD", 0x88B5: "local experiment 1", 0x88B6: "local experiment 2",
    0x8819: "CobraNet", 0x88DC: "WSMP", 0x8926: "VN-Tag",
}  # fmt: skip
_LLC_SAPS = {0x42: "STP", 0xFE: "IS-IS or other OSI", 0xE0: "IPX", 0xFF: "IPX", 0xF0: "NetBIOS"}
_CISCO = {
    0x2000: "CDP", 0x2003: "VTP", 0x2004: "DTP", 0x010B: "PVST", 0x0111: "UDLD",
}  # fmt: skip
_LLC_HEADER = header_type(8, sap=(0, "u1"), vendor=(2, ">u4"), type=(6, ">u2"))
_WIFI_HEADER = header_type(2, type=(0, "u1"), flags=(1, "u1"))


def name_unread(others: pd.DataFrame, buffers: tuple[np.ndarray, ...]) -> pd.Series:
    """The name of each frame that is not read.

    Args:
        others: shape (n, ...), ``ethertype link at file`` as in ``Packets.others``.
        buffers: the bytes of each file, or of the only one that ``others`` are from.
    """
    ethertype, link = others["ethertype"].to_numpy(), others["link"].to_numpy()
    names = np.array([""] * len(others), dtype=object)
    for number in np.unique(ethertype):
        names[ethertype == number] = _ETHERTYPES.get(int(number), f"ethertype 0x{number:04x}")
    for kind in np.unique(link):
        if kind not in LINKS and kind < 1 << 16:
            names[link == kind] = LINK_NAMES.get(int(kind), f"link type {kind}")
    llc = np.flatnonzero((ethertype > 0) & (ethertype < 0x600))
    wifi = np.flatnonzero((ethertype == 0) & np.isin(link, (WIFI, RADIOTAP, PRISM, AVS, PPI)))
    for rows, header, name in ((llc, _LLC_HEADER, _name_llc), (wifi, _WIFI_HEADER, _name_wifi)):
        if len(rows):
            names[rows] = name(_read(others.iloc[rows], buffers, header))
    return pd.Series(names, index=others.index, dtype="str")


def _read(others: pd.DataFrame, buffers: tuple[np.ndarray, ...], kind: np.dtype) -> np.ndarray:
    at, file = others["at"].to_numpy(), others["file"].to_numpy()
    if len(buffers) == 1:
        return read_headers(buffers[0], at, kind)
    found = np.zeros(len(at), kind)
    for number, buffer in enumerate(buffers):
        rows = np.flatnonzero(file == number)
        found[rows] = read_headers(buffer, at[rows], kind)
    return found


def _name_llc(header: np.ndarray) -> np.ndarray:
    names = np.full(len(header), "LLC", dtype=object)
    for sap, name in _LLC_SAPS.items():
        names[header["sap"] == sap] = name
    snap = header["sap"] == 0xAA
    names[snap] = "SNAP"
    for number, name in _CISCO.items():
        names[snap & (header["vendor"] == 0x0300000C) & (header["type"] == number)] = name
    return names


def _name_wifi(header: np.ndarray) -> np.ndarray:
    kind = header["type"] >> 2 & 3
    encrypted = (kind == 2) & (header["flags"] & 0x40 > 0)
    return np.select(
        [encrypted, kind == 0, kind == 1],
        ["802.11 data (encrypted)", "802.11 management", "802.11 control"],
        "802.11 without data",
    ).astype(object)
