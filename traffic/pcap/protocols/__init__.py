"""Application protocols, one module each in one form: ``Protocol`` of ``protocols/protocol.py``.

To add one: a module here that ends in its ``Protocol``, and a line in ``PROTOCOLS``. Its evidence
gets a column of samples in ``traffic.samples``, and its Zeek log a row in ``traffic.zeek.protocols``.
"""

from traffic.pcap.protocols.bacnet import BACNET
from traffic.pcap.protocols.banners import FTP, HTTP, SSH, TELNET, TLS
from traffic.pcap.protocols.dhcp import DHCP
from traffic.pcap.protocols.dnp3 import DNP3
from traffic.pcap.protocols.dns import DNS
from traffic.pcap.protocols.enip import CIP_IO, ENIP
from traffic.pcap.protocols.goose import GOOSE
from traffic.pcap.protocols.hartip import HARTIP
from traffic.pcap.protocols.iec104 import IEC104
from traffic.pcap.protocols.lldp import LLDP
from traffic.pcap.protocols.mail import IMAP, POP3, SMTP
from traffic.pcap.protocols.melsec import MELSOFT, SLMP
from traffic.pcap.protocols.mms import MMS
from traffic.pcap.protocols.modbus import MODBUS
from traffic.pcap.protocols.mqtt import MQTT
from traffic.pcap.protocols.ntp import NTP
from traffic.pcap.protocols.opcua import OPCUA
from traffic.pcap.protocols.profinet import PROFINET
from traffic.pcap.protocols.profinet_cm import PROFINET_CM
from traffic.pcap.protocols.protocol import Protocol
from traffic.pcap.protocols.s7comm import S7COMM
from traffic.pcap.protocols.smb import SMB
from traffic.pcap.protocols.synchrophasor import SYNCHROPHASOR
from traffic.pcap.protocols.unread import UNREAD

PROTOCOLS: tuple[Protocol, ...] = (
    NTP,
    DNS,
    MODBUS,
    MQTT,
    S7COMM,
    MMS,  # what the reader of S7comm finds to be an ISO session
    ENIP,
    CIP_IO,
    OPCUA,
    BACNET,
    HTTP,
    TLS,
    SSH,
    FTP,
    TELNET,
    SMTP,
    POP3,
    IMAP,
    SMB,
    LLDP,
    DNP3,
    IEC104,
    DHCP,
    GOOSE,
    PROFINET,
    PROFINET_CM,
    HARTIP,
    SYNCHROPHASOR,
    SLMP,
    MELSOFT,
    *UNREAD,
)
BY_NAME: dict[str, Protocol] = {one.name: one for one in PROTOCOLS}


def spoken_name(name: str) -> str:
    """A protocol as people write it, also one whose content is not read: "OPC UA", "SMTP"."""
    return BY_NAME[name].spoken if name in BY_NAME else name.upper()
