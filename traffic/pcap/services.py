"""Which service a flow speaks, by its first bytes; like Zeek, a port alone names none.

Zeek confirms a service by parsing it; here the first payload of each direction must look like it,
which is enough to tell a protocol from another one on its port.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from traffic.pcap.headers import TCP, UDP

WIDTH = 12  # bytes of payload that the rules below look at

# Ports that Zeek's analyzers register (likely_server_ports), and those of the usual plant
# protocols.
SERVER_PORTS: dict[int, tuple[int, ...]] = {
    TCP: (
        *(
            21,
            22,
            25,
            53,
            80,
            81,
            88,
            102,
            143,
            389,
            443,
            445,
            465,
            502,
            515,
            563,
            585,
            587,
            614,
            631,
            636,
            853,
        ),
        *(
            989,
            990,
            992,
            993,
            995,
            1080,
            1883,
            1911,
            2404,
            2811,
            3128,
            3268,
            3306,
            3389,
            4840,
            5060,
            5223,
            5432,
        ),
        *(5672, 6379, 6666, 6667, 6668, 6669, 8000, 8080, 8443, 8883, 8888, 20000, 44818),
    ),
    UDP: (
        53,
        67,
        68,
        69,
        88,
        123,
        137,
        161,
        162,
        389,
        443,
        514,
        1812,
        1900,
        3544,
        5060,
        5353,
        5355,
        20000,
        44818,
        47808,
    ),
}

_Side = Literal["orig", "resp"]


@dataclass(frozen=True)
class _Rule:
    """``service`` is spoken where the payload of ``side`` holds one of ``starts`` from byte
    ``skip`` on."""

    service: str
    proto: int
    starts: tuple[bytes, ...]
    side: _Side = "orig"
    skip: int = 0
    ports: tuple[int, ...] = ()


_RULES = (
    _Rule(
        "http",
        TCP,
        (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE ", b"CONNECT ", b"PATCH "),
    ),
    _Rule("ssl", TCP, (b"\x16\x03",)),
    _Rule("ssh", TCP, (b"SSH-",)),
    _Rule("ssh", TCP, (b"SSH-",), "resp"),
    _Rule("ftp", TCP, (b"220",), "resp", ports=(21,)),
    _Rule("smtp", TCP, (b"220",), "resp", ports=(25, 465, 587)),
    _Rule("smb", TCP, (b"\xffSMB", b"\xfeSMB"), skip=4, ports=(139, 445)),
    _Rule("rdp", TCP, (b"\x03\x00",), ports=(3389,)),
    _Rule("modbus", TCP, (b"\x00\x00\x00", b"\x00\x00\x01"), skip=2, ports=(502,)),
    _Rule("mqtt", TCP, (b"\x00\x04MQTT", b"\x00\x06MQIsdp"), skip=2, ports=(1883,)),
    _Rule("dnp3", TCP, (b"\x05\x64",), ports=(20000,)),
    _Rule("s7comm", TCP, (b"\x03\x00",), ports=(102,)),
    _Rule("enip", TCP, (b"\x65\x00", b"\x63\x00", b"\x6f\x00", b"\x70\x00"), ports=(44818,)),
    _Rule("dhcp", UDP, (b"\x01\x01\x06", b"\x02\x01\x06"), ports=(67, 68)),
    _Rule("dhcp", UDP, (b"\x02\x01\x06",), "resp", ports=(67, 68)),
    _Rule("snmp", UDP, (b"\x30",), ports=(161, 162)),
    _Rule("syslog", UDP, (b"<",), ports=(514,)),
)
_DNS_PORTS = (53, 137, 5353, 5355)
_NTP_PORT = 123


def name_services(
    proto: np.ndarray, server_port: np.ndarray, orig: np.ndarray, resp: np.ndarray, most: np.ndarray
) -> np.ndarray:
    """Name the service of each flow.

    Args:
        proto: shape (n,), IANA number.
        server_port: shape (n,), the responder's port.
        orig, resp: shape (n, WIDTH), uint8, first payload bytes of each side, 0 where it sent none.
        most: shape (n,), payload bytes of the first packet with any.

    Returns:
        Shape (n,), object; "" where none is recognised.
    """
    names = np.array(["", "dns", "ntp", *(rule.service for rule in _RULES)], dtype=object)
    spoken = np.zeros(len(proto), np.int8)
    sides = {"orig": orig, "resp": resp}
    for number, rule in enumerate(_RULES, 3):
        which = (proto == rule.proto) & (spoken == 0)
        if rule.ports:
            which &= np.isin(server_port, rule.ports)
        rows = np.flatnonzero(which)
        spoken[rows[_holds(sides[rule.side][rows], rule)]] = number
    either = np.where(np.asarray(orig.any(axis=1))[:, None], orig, resp)
    spoken[_looks_like_dns(proto, server_port, either, most)] = 1
    mode = either[:, 0] & 7
    spoken[
        (proto == UDP) & (server_port == _NTP_PORT) & (most >= 48) & (mode >= 1) & (mode <= 5)
    ] = 2
    return names[spoken]


def _holds(payload: np.ndarray, rule: _Rule) -> np.ndarray:
    held = np.zeros(len(payload), bool)
    for start in rule.starts:
        here = payload[:, rule.skip] == start[0]
        for i, byte in enumerate(start[1:], rule.skip + 1):
            here &= payload[:, i] == byte
        held |= here
    return held


def _looks_like_dns(
    proto: np.ndarray, port: np.ndarray, payload: np.ndarray, most: np.ndarray
) -> np.ndarray:
    """Port, a header's length, at most a few questions (RFC 1035, 4.1.1); over TCP after a
    length."""
    tcp = proto == TCP
    questions = np.where(
        tcp,
        payload[:, 6].astype(int) << 8 | payload[:, 7],
        payload[:, 4].astype(int) << 8 | payload[:, 5],
    )
    possible = np.isin(port, _DNS_PORTS) & (tcp | (proto == UDP)) & (most >= np.where(tcp, 14, 12))
    return possible & (questions <= 16)
