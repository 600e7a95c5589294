"""The taxonomy: what a window can be, and what each public data set calls it.

Techniques are MITRE ATT&CK for ICS ids (https://attack.mitre.org/matrices/ics/).
"""

from dataclasses import dataclass
from typing import Literal

NORMAL = "normal"
UNKNOWN = "unknown"  # a slot whose truth the source does not settle; never trained on, never scored

Kind = Literal["normal", "attack", "fault"]


@dataclass(frozen=True)
class Label:
    """One class: its name, its meaning to an operator, techniques it is consistent with."""

    name: str
    kind: Kind
    meaning: str
    techniques: tuple[str, ...] = ()


_ALL = (
    Label(NORMAL, "normal", "ordinary traffic of this device"),
    Label("recon", "attack", "a scan of hosts, ports or registers", ("T0846", "T0888")),
    Label("dos", "attack", "a flood from one source", ("T0814",)),
    Label(
        "ddos", "attack", "a flood from many sources, or a device taking part in one", ("T0814",)
    ),
    Label("brute_force", "attack", "repeated attempts to log in", ("T0812", "T0859")),
    Label("c2", "attack", "repeated contact with a controller of malware", ("T0869", "T0885")),
    Label("exfiltration", "attack", "an unusual volume sent to a new peer", ("T0882",)),
    Label(
        "spoofing", "attack", "an address claimed by two machines, a man in the middle", ("T0830",)
    ),
    Label("mqtt_abuse", "attack", "malformed, flooding or unauthorised MQTT messages"),
    Label(
        "unauthorized_command",
        "attack",
        "a new writer, or a burst of writes, to a controller",
        ("T0855", "T0836"),
    ),
    Label("packet_loss", "fault", "segments sent again, gaps, replies that never come"),
    Label("congestion", "fault", "a saturated link: delay and peaks of bandwidth"),
    Label(
        "device_silent", "fault", "expected traffic stops; requests for the device stay unanswered"
    ),
    Label("service_down", "fault", "the host lives, but a port refuses or times out"),
    Label("misconfiguration", "fault", "a wrong address, gateway, port, unit id or password"),
    Label("name_resolution", "fault", "DNS names do not resolve"),
    Label("flapping", "fault", "repeated reconnects; the link goes up and down"),
)

TAXONOMY: dict[str, Label] = {label.name: label for label in _ALL}
LABELS: tuple[str, ...] = tuple(TAXONOMY)
ATTACKS: tuple[str, ...] = tuple(name for name, label in TAXONOMY.items() if label.kind == "attack")
FAULTS: tuple[str, ...] = tuple(name for name, label in TAXONOMY.items() if label.kind == "fault")

# IoT-23's detailed-label, lower case -> ours (Garcia, Parmisano, Erquiaga 2020, doi
# 10.5281/zenodo.4743746). Compound labels ("c&c-heartbeat-attack") are looked up by their longest
# known beginning.
IOT23: dict[str, str] = {
    "-": NORMAL,
    "benign": NORMAL,
    "ddos": "ddos",
    "partofahorizontalportscan": "recon",
    "attack": "brute_force",
    "c&c": "c2",
    "c&c-filedownload": "c2",
    "c&c-heartbeat": "c2",
    "c&c-torii": "c2",
    "c&c-mirai": "c2",
    "filedownload": "c2",
    "okiru": "recon",
}

# A pcap's name in CIC IoMT 2024, without part number, `_train` and `_test` -> ours (Dadkhah et al.
# 2024, doi 10.1016/j.iot.2024.101351). The second paper's six classes: floods over MQTT are its
# class MQTT, not DoS.
CIC_IOMT: dict[str, str] = {
    "Benign": NORMAL,
    "ARP_Spoofing": "spoofing",
    "MQTT-DDoS-Connect_Flood": "mqtt_abuse",
    "MQTT-DDoS-Publish_Flood": "mqtt_abuse",
    "MQTT-DoS-Connect_Flood": "mqtt_abuse",
    "MQTT-DoS-Publish_Flood": "mqtt_abuse",
    "MQTT-Malformed_Data": "mqtt_abuse",
    "Recon-OS_Scan": "recon",
    "Recon-Ping_Sweep": "recon",
    "Recon-Port_Scan": "recon",
    "Recon-VulScan": "recon",
    "TCP_IP-DDoS-ICMP": "ddos",
    "TCP_IP-DDoS-SYN": "ddos",
    "TCP_IP-DDoS-TCP": "ddos",
    "TCP_IP-DDoS-UDP": "ddos",
    "TCP_IP-DoS-ICMP": "dos",
    "TCP_IP-DoS-SYN": "dos",
    "TCP_IP-DoS-TCP": "dos",
    "TCP_IP-DoS-UDP": "dos",
}

# The beginning of a capture's name in the Modbus/TCP sandbox -> what its malicious packets are
# (Lemay, Fernandez, "Providing SCADA network data sets for intrusion detection research", CSET
# 2016).
MODBUS_SANDBOX: dict[str, str] = {"characterization_": "recon", "CnC_uploading_exe_": "c2"}
