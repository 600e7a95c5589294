"""Makers and models of what stands in plants, as data: the first half of a MAC address says who made a machine.

The prefixes are the makers' own in the IEEE's register of organisations (OUI).
"""

__all__ = ["MAKES"]

# role -> (model, OUI)
MAKES: dict[str, tuple[tuple[str, str], ...]] = {
    "router": (("Hirschmann Eagle40", "00:80:63"), ("Cisco IR1101", "00:00:0c"), ("Phoenix mGuard", "00:a0:45")),
    "dns": (("Lantronix SLC", "00:80:a3"), ("Dell PowerEdge T150", "00:06:5b")),
    "ntp": (("Meinberg M300", "ec:46:70"), ("Raspberry Pi 4", "b8:27:eb")),
    "plc": (
        ("Siemens S7-1200", "00:01:e3"),
        ("Modicon M221", "00:00:54"),
        ("Allen-Bradley Micro850", "00:00:bc"),
        ("WAGO PFC200", "00:30:de"),
        ("Beckhoff CX5010", "00:01:05"),
        ("Omron NX1P2", "00:00:0a"),
    ),
    "gateway": (("Moxa MGate MB3180", "00:90:e8"), ("Anybus Communicator", "00:30:11")),
    "hmi": (("Pro-face GP4000", "00:15:a6"), ("Siemens KTP700", "00:01:e3"), ("B&R Power Panel", "00:60:65")),
    "historian": (("Dell PowerEdge R250", "00:06:5b"), ("HP ProLiant DL20", "00:01:e6")),
    "broker": (("Advantech UNO-2271G", "00:0b:ab"), ("Raspberry Pi CM4", "b8:27:eb")),
    "sensor": (("ifm IO-Link node", "00:02:01"), ("ESP32 node", "08:3a:8d"), ("ESP8266 node", "08:3a:f2")),
    "edge": (("Moxa UC-8200", "00:90:e8"), ("Advantech WISE-710", "00:0b:ab")),
    "robot": (("Fanuc R-30iB", "00:e0:e4"), ("KUKA KR C4", "00:60:c8"), ("Yaskawa YRC1000", "00:20:b5")),
    "mes": (("Dell PowerEdge R450", "00:06:5b"), ("HP ProLiant ML30", "00:01:e6")),
    "camera": (("Axis P1375", "00:40:8c"), ("Hikvision DS-2CD", "08:54:11")),
    "recorder": (("Synology NVR1218", "00:11:32"), ("Hikvision DS-7608", "04:03:12")),
    "workstation": (("Dell Precision 3460", "00:08:74"), ("HP Z2 G9", "00:01:e7")),
    "cloud": (("", "00:01:e6"), ("", "00:08:74")),
}
