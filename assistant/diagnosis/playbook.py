"""What each label means to an operator: the cause in words, what it is told apart from, what to
check in which order.

These sentences are the same for every plant, so they hold no numbers: numbers come from facts
alone. Checks start with what is nearest, safest and most likely, and never ask for a scan or a
write on a control network (NIST SP 800-82r3).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """How a label is explained.

    Attributes:
        source, target: what the device does, or what happens to it; they follow its name in a
            sentence.
        gloss: what that means, for someone who has not met the word.
        apart: labels that look alike at first sight; numbers rule them out or leave them open.
        checks: what to do next, in order, at the device that is the source.
        target_checks: the same at a device that suffers.
        terms: words that manuals and past incidents use for it.
        doubt: what cannot be told from traffic alone, and what would tell it.
    """

    source: str
    target: str
    gloss: str
    apart: tuple[str, ...]
    checks: tuple[str, ...]
    target_checks: tuple[str, ...]
    terms: str
    doubt: str = ""


_ISOLATE = "Agree with the process owner, then take the device off the network at its switch port; keep it powered on."
_SOURCE_FIRST = (
    "Look at the device that causes this, named above; nothing needs to be changed at this one yet."
)
_CHANGES = "Ask what was changed shortly before it began: wiring, settings, firmware, new equipment, a test."

_ATTACKS = {
    "recon": Meaning(
        "asks many addresses, ports or registers in turn, as a scan does",
        "is being scanned: something asks its ports or registers in turn",
        "A scan is how an intruder, but also an inventory or engineering tool, finds out what is there.",
        ("device_silent", "dos", "misconfiguration"),
        (
            "Ask whether an inventory tool, a vulnerability scanner or an engineer was at work at that time.",
            "Find the machine that sends this and who was logged in on it.",
            "If nobody can explain it: " + _ISOLATE[0].lower() + _ISOLATE[1:],
            "Check whether any of the machines that were asked behaves differently since.",
        ),
        (_SOURCE_FIRST, "Ask whether an inventory tool or an engineer was at work at that time.",
         "Check that the device still answers its usual partners and kept its settings."),
        "port scan host scan network discovery register sweep reconnaissance",
    ),
    "dos": Meaning(
        "sends a flood of packets at another machine",
        "is being flooded by one machine",
        "A flood keeps its target too busy to answer anyone else.",
        ("congestion", "packet_loss", "recon"),
        (_ISOLATE, "Check the device for a fault that makes it send without end: a stuck program, a network loop.",
         "Look for foreign software, open logins and default passwords on it before it goes back.",
         "Ask the owner of the flooded machine whether it still works."),
        ("Limit or block the sender at the switch or router, after agreement with the process owner.",
         "Check that the device recovers once the flood ends; restart it only if it does not.",
         "Find out what the sending machine is and why it sends."),
        "flood denial of service overload storm",
    ),
    "ddos": Meaning(
        "takes part in a flood of packets at another machine",
        "is being flooded by many machines",
        "A device that floods others together with many more is usually under foreign control.",
        ("congestion", "packet_loss", "recon"),
        (_ISOLATE, "Look for foreign software, open logins and default passwords; renew the firmware from the maker.",
         "Block the flooded address at the router until the device is clean.",
         "Look for other devices of the same model that behave alike."),
        ("Block the senders at the router or ask the network provider to.",
         "Check that the device recovers once the flood ends."),
        "distributed denial of service botnet flood",
    ),
    "brute_force": Meaning(
        "tries to log in again and again",
        "is the target of repeated attempts to log in",
        "Someone, or a program with an old password, tries one login after the other.",
        ("misconfiguration", "service_down", "recon"),
        ("Ask whether a program or script runs there with a password that was changed.",
         "Find out who uses the machine that tries, and look for foreign software on it.", _ISOLATE),
        ("Check in the device's own log whether any of the attempts succeeded.",
         "Change default and weak passwords; close the login service where nobody needs it.", _SOURCE_FIRST),
        "login attempts password telnet ssh default credentials locked account",
    ),
    "c2": Meaning(
        "contacts one machine again and again, as software under remote control does",
        "is contacted like a controller of foreign software",
        "Malware calls its controller at regular times and waits for orders.",
        ("name_resolution", "service_down", "misconfiguration"),
        ("Look up the contacted address: is it a service of the maker, of the plant, or unknown?",
         "Block that address at the router for this device and see whether any function is missed.",
         "Look for foreign software, open logins and default passwords on the device.", _ISOLATE,
         "Look for other devices that contact the same address."),
        ("Find out what service this machine offers and who installed it.", _ISOLATE),
        "beacon: contacts an unknown outside address again and again at an even interval, botnet, command and control",
        "If the contacted machine never answered, traffic alone cannot tell a dead cloud service of the maker from a"
        " dead controller of malware. A maker's service has a name that was asked from DNS (the network's address book)"
        " before, was there from the first day, uses an ordinary web port, and is retried at growing intervals; a"
        " controller appears suddenly, often without a name, on an odd port, at a steady interval.",
    ),
    "exfiltration": Meaning(
        "sends an unusual volume of data to a machine it did not know before",
        "receives an unusual volume of data from a device that did not know it before",
        "This is what stolen data looks like, and also what a new backup or a firmware upload looks like.",
        ("congestion", "c2"),
        ("Ask whether a backup, an export or a support session was planned at that time.",
         "Look up who owns the receiving address, and block it at the router if nobody knows it.",
         "Find out which program sent the data and what was in the files.", _ISOLATE),
        ("Find out who owns the receiving machine and what it stored.", _SOURCE_FIRST),
        "large upload to an unknown outside address, unusual volume, data leaves by night, exfiltration",
    ),
    "spoofing": Meaning(
        "claims an address that another machine has",
        "has an address that a second machine claims as well",
        "Machines that share an address take each other's traffic: by mistake, or to read and change it on the way.",
        ("misconfiguration", "flapping", "packet_loss"),
        ("Find the second machine by its hardware address in the table of the switch, and unplug it.",
         "Ask whether a device was replaced or added with a copied address.",
         "If it was nobody's mistake, treat what passed between the machines as read and changed by others."),
        ("Find the second machine by its hardware address in the table of the switch, and unplug it.",
         "Check that the address is given to this device alone, in the plan and in the DHCP server."),
        "duplicate address ARP conflict man in the middle MAC address",
    ),
    "mqtt_abuse": Meaning(
        "sends malformed, too many or unauthorised MQTT messages",
        "receives malformed, too many or unauthorised MQTT messages",
        "MQTT is the message service of sensors; its broker passes on whatever it accepts.",
        ("misconfiguration", "dos", "flapping"),
        ("Look in the broker's log for the client's name and the reason of refusal.",
         "Check the client's program, firmware and password.",
         "Withdraw the client's right to publish until it is explained."),
        ("Look in the broker's log for the clients that were refused or sent too much.",
         "Check that the broker asks for a password and limits what each client may publish.", _SOURCE_FIRST),
        "MQTT broker malformed publish refused topic access control",
    ),
    "unauthorized_command": Meaning(
        "writes to a controller in a way that is new or far above what is usual",
        "receives write commands from a machine, or at a rate, that is new",
        "Write commands change what a controller does to the process.",
        ("misconfiguration", "recon"),
        ("Check the process first: are setpoints and outputs what they should be?",
         "Ask whether an engineer or a new program wrote to the controller at that time.",
         "Find out who was logged in on the machine that wrote.",
         "If nobody can explain it: " + _ISOLATE[0].lower() + _ISOLATE[1:]),
        ("Check the process first: are setpoints and outputs what they should be?",
         "Compare the controller's program and settings with the last saved ones.",
         "Ask whether an engineer wrote to it at that time.", _SOURCE_FIRST),
        "Modbus write command setpoint coil register controller",
    ),
}  # fmt: skip

_FAULTS = {
    "packet_loss": Meaning(
        "loses packets: parts of its traffic have to be sent again",
        "loses packets: parts of its traffic have to be sent again",
        "Lost packets make everything slow and sometimes break a connection.",
        ("congestion", "service_down", "dos"),
        ("Look at the cable, the plug and the lamps of the switch port; replace the cable.",
         "Read the error counters of the switch port and check that both ends agree on speed and duplex.",
         "If it is on radio: check signal, channel and what was moved near it.",
         "See whether other devices on the same switch lose packets too; then it is the uplink."),
        ("Look at the cable, the plug and the lamps of the switch port; replace the cable.",
         "Read the error counters of the switch port.", _SOURCE_FIRST),
        "packet loss retransmission cable duplex port errors radio signal",
    ),
    "congestion": Meaning(
        "fills its link: more traffic than usual, and delay",
        "suffers from a link that is full",
        "On a full link everything waits, so answers come late.",
        ("packet_loss", "dos", "exfiltration"),
        ("Find what the extra traffic is: a backup, an update, a second video stream, a network loop.",
         "Move it to another time or limit its rate at the switch.",
         "Read the use of the switch port and of the uplink over the last days."),
        (_SOURCE_FIRST, "Read the use of the switch port and of the uplink over the last days.",
         "Give control traffic priority at the switch."),
        "congestion bandwidth saturated link latency slow uplink quality of service",
    ),
    "device_silent": Meaning(
        "does not answer: its usual traffic has stopped or requests to it stay unanswered",
        "gets no answer from a machine it needs",
        "A silent device has no power, no link, another address, or has crashed.",
        ("service_down", "misconfiguration", "packet_loss"),
        ("Look at the device: power, lamps, display; then the cable and the lamp of its switch port.",
         "Check that its address is the one its partners ask for, and that the network mask fits.",
         "See when it last spoke and what was changed since.",
         "Restart it, once the process owner agrees."),
        ("Look at the machine that does not answer, named above: power, lamps, cable, switch port.",
         "Check that this device asks for the right address.", _CHANGES),
        "does not answer, ARP requests without reply, time-out, device offline, no power, no link",
    ),
    "service_down": Meaning(
        "is alive, but one of its services refuses or does not answer",
        "needs a service that refuses or does not answer",
        "The machine runs, but the program behind the port does not.",
        ("device_silent", "misconfiguration", "packet_loss"),
        ("Check on the machine whether the program behind the port runs, and read its log.",
         "Check its limits: full disk, expired certificate, too many sessions.",
         "Check firewall rules that were changed.", "Restart the program, once the process owner agrees."),
        ("Check the service on the machine that refuses, named above.",
         "Check that this device asks for the right address and port.", _CHANGES),
        "service refused connection reset port closed server not running sessions",
    ),
    "misconfiguration": Meaning(
        "asks the wrong address, port or unit, or with the wrong password",
        "is asked in a way it does not accept",
        "A wrong setting: the request is sent and answered with an error, or goes where nobody is.",
        ("service_down", "device_silent", "recon"),
        (_CHANGES, "Compare address, mask, gateway, port, unit number and user of this device with the plan.",
         "Compare with a device of the same kind that works."),
        ("Correct the setting at the device that asks, named above.",
         "Check that this device's own address, unit number and users are as planned."),
        "wrong address gateway unit id illegal data address exception bad user name or password",
    ),
    "name_resolution": Meaning(
        "resolves the names that it is asked for wrongly or not at all",
        "asks for names that do not resolve",
        "DNS is the address book of the network; without it a device does not find its services.",
        ("service_down", "device_silent", "c2"),
        ("Check that the DNS program runs on this machine and can reach the server above it.",
         "Ask it for the name that fails, and hold its answer against the plan; look in its log for others that fail.",
         "Check that firewall rules still let questions for names reach it."),
        ("Check which DNS server the device uses and whether that server answers others.",
         "Check the name it asks for: is it spelled right, does the service still exist?",
         "In a network without internet: enter the name in the local server, or switch the function off."),
        "DNS name resolution failed resolver NXDOMAIN no answer",
    ),
    "flapping": Meaning(
        "connects and loses its connection again and again",
        "sees a partner connect and vanish again and again",
        "A loose plug, weak power or a restarting device looks like this.",
        ("packet_loss", "service_down", "mqtt_abuse"),
        ("Look at the plug, the cable and the power supply of the device.",
         "Look in the switch's log for the port going up and down.",
         "Look whether the device restarts: its uptime, its own log.",
         "Check that no second device uses the same client name or address."),
        (_SOURCE_FIRST, "Look in the switch's log for ports going up and down."),
        "reconnect link up down flapping keep alive restart session taken over",
    ),
}  # fmt: skip

MEANINGS: dict[str, Meaning] = _ATTACKS | _FAULTS
