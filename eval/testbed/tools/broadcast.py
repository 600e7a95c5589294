"""Say to all what computers of an office say: NetBIOS names, SSDP, mDNS, and ARP for a neighbour."""

import random
import socket
import time

from eval.testbed.tools.command import log_failure, tool

app = tool()
# A NetBIOS name query (RFC 1002, 4.2.12), an SSDP search (UPnP 1.1, 1.3.2), an mDNS question (RFC 6762).
_NETBIOS = bytes.fromhex("80f00110000100000000000020") + b"FH" * 16 + bytes.fromhex("0000200001")
_SSDP = b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 2\r\nST: ssdp:all\r\n\r\n'
_MDNS = (
    bytes.fromhex("000000000001000000000000") + b"\x05_http\x04_tcp\x05local\x00\x00\x0c\x00\x01"
)


@app.command()
def main(last: str, period_s: float) -> None:
    """Say one of them about every ``period_s``; ``last`` is the network's broadcast address."""
    rng = random.Random()  # noqa: S311 - a rhythm, not a secret
    targets = (
        (_NETBIOS, last, 137),
        (_SSDP, "239.255.255.250", 1900),
        (_MDNS, "224.0.0.251", 5353),
    )
    while True:
        said, address, port = rng.choice(targets)
        with (
            log_failure((address, port)),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.bind(("", port))
            sender.sendto(said, (address, port))
        time.sleep(period_s * rng.uniform(0.7, 1.3))


if __name__ == "__main__":
    app()
