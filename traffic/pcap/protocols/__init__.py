"""Application protocols, one module each in one form: ``Protocol`` of ``protocols/protocol.py``.

To add one: a module here that ends in its ``Protocol``, and a line in ``PROTOCOLS``. Its evidence
gets a column of samples in ``traffic.samples``, and its Zeek log a row in ``traffic.zeek.protocols``.
"""

from traffic.pcap.protocols.banners import FTP, HTTP, SSH, TELNET, TLS
from traffic.pcap.protocols.dns import DNS
from traffic.pcap.protocols.enip import CIP_IO, ENIP
from traffic.pcap.protocols.lldp import LLDP
from traffic.pcap.protocols.modbus import MODBUS
from traffic.pcap.protocols.mqtt import MQTT
from traffic.pcap.protocols.opcua import OPCUA
from traffic.pcap.protocols.protocol import Protocol
from traffic.pcap.protocols.s7comm import S7COMM

PROTOCOLS: tuple[Protocol, ...] = (
    DNS,
    MODBUS,
    MQTT,
    S7COMM,
    ENIP,
    CIP_IO,
    OPCUA,
    HTTP,
    TLS,
    SSH,
    FTP,
    TELNET,
    LLDP,
)
