"""Which service a flow speaks, by its first bytes; like Zeek, a port alone names none.

Zeek confirms a service by parsing it; here the first payload of each direction must look like it,
which is enough to tell a protocol from another one on its port.
"""

import numpy as np
import pandas as pd

from traffic.pcap.headers import ICMP, TCP, UDP
from traffic.pcap.packets import Packets
from traffic.pcap.protocols import PROTOCOLS
from traffic.pcap.protocols.protocol import HEAD_BYTES, Fits, Heads, Protocol, starts_with
from traffic.pcap.tcp import NEVER, first_per_group

# Ports that Zeek's analyzers register (likely_server_ports), and those of the usual plant
# protocols: a flow's direction is guessed by them.
SERVER_PORTS: dict[int, tuple[int, ...]] = {
    TCP: (
        21, 22, 25, 53, 80, 81, 88, 102, 135, 139, 143, 389, 443, 445, 465, 502, 515, 563, 585, 587, 614,
        631, 636, 853, 989, 990, 992, 993, 995, 1080, 1883, 1911, 2404, 2811, 3128, 3268, 3306,
        3389, 4840, 5060, 5222, 5223, 5269, 5432, 5672, 6379, 6666, 6667, 6668, 6669, 8000, 8080, 8443, 8883,
        8888, 20000, 44818,
    ),
    UDP: (
        53, 67, 68, 69, 88, 123, 137, 161, 162, 389, 443, 514, 1812, 1900, 2123, 2152, 3544, 4011,
        4713, 4789, 5060, 5072, 5094, 5095, 5353, 5355, 6081, 20000, 44818, 47808,
    ),
}  # fmt: skip


def _only(
    name: str, transport: int, ports: tuple[int, ...], fits: Fits, anywhere: bool = False
) -> Protocol:
    return Protocol(name=name, transports=(transport,), ports=ports, fits=fits, anywhere=anywhere)


# The first one that fits names the flow: on its own port before what is met on any.
_SERVICES = (
    *PROTOCOLS,
    # A server that has greeted, whatever a client of which nothing was captured said.
    _only("ftp", TCP, (21,), starts_with(b"220", side="resp")),
    _only("smtp", TCP, (25, 465, 587), starts_with(b"220", side="resp")),
    _only("rdp", TCP, (3389,), starts_with(b"\x03\x00")),
    _only("snmp", UDP, (161, 162), starts_with(b"\x30")),
    _only("syslog", UDP, (514,), starts_with(b"<")),
)


def name_services(heads: Heads, server_port: np.ndarray) -> np.ndarray:
    """Name the service of each flow.

    Args:
        heads: the beginnings of n flows.
        server_port: shape (n,), the responder's port.

    Returns:
        Shape (n,), object; "" where none is recognised.
    """
    names = np.array([*(service.name for service in _SERVICES), ""], dtype=object)
    spoken = np.full(len(server_port), len(_SERVICES))
    for own_port in (True, False):
        for number, service in enumerate(_SERVICES):
            open_ = (spoken == len(_SERVICES)) & np.isin(heads.transport, service.transports)
            if own_port:
                open_ &= np.isin(server_port, service.ports)
            rows = np.flatnonzero(open_ & (own_port or service.anywhere))
            spoken[rows[service.fits(heads.take(rows))]] = number
    return names[spoken]


def read_services(
    work: pd.DataFrame, packets: Packets, proto: np.ndarray, port: np.ndarray
) -> np.ndarray:
    """Name the service of each flow by its first payloads.

    Args:
        work: packets, sorted by flow.
        packets: that they are of.
        proto, port: shape (n_flows,): transport, and the responder's port.

    Returns:
        Shape (n_flows,), object; "" where none is recognised.
    """
    flow, is_orig, row = (work[name].to_numpy() for name in ("flow", "is_orig", "row"))
    speaks = (work["held"].to_numpy() > 0) & (work["proto"].to_numpy() != ICMP)
    n = len(proto)
    orig, resp = (first_per_group(speaks & (is_orig == side), flow, n) for side in (True, False))
    heads = np.zeros((2, n, HEAD_BYTES), np.uint8)
    for head, index in zip(heads, (orig, resp), strict=True):
        spoken = np.flatnonzero(index < NEVER)
        head[spoken] = packets.read_payload(row[index[spoken]], HEAD_BYTES)
    sizes = np.zeros((2, n), np.int64)
    for size, index in zip(sizes, (orig, resp), strict=True):
        spoken = np.flatnonzero(index < NEVER)
        size[spoken] = work["payload"].to_numpy()[index[spoken]]
    return name_services(Heads(proto, heads[0], heads[1], *sizes), port)
