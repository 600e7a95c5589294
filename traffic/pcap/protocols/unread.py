"""Industrial protocols that are recognised by their content, which is not read."""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP, UDP
from traffic.pcap.protocols.protocol import Fits, Heads, Protocol, starts_with


def _u16(head: np.ndarray, at: int) -> np.ndarray:
    return head[:, at].astype(np.int64) << 8 | head[:, at + 1]


def _fits_synchrophasor(heads: Heads) -> np.ndarray:
    """Sync word, a frame of version 1 to 3, its size (IEEE C37.118.2, 6.2)."""
    head = heads.first
    size, version = _u16(head, 2), head[:, 1] & 15
    good = (head[:, 0] == 0xAA) & (head[:, 1] < 0x60) & (version >= 1) & (version <= 3)
    return good & (size >= 16) & (size <= heads.payload)


def _fits_ads(heads: Heads) -> np.ndarray:
    """Two zero bytes, and a length that the AMS header and its data have; over UDP a cookie
    (Beckhoff, AMS)."""
    head = heads.first.astype(np.int64)
    size = head[:, 2] | head[:, 3] << 8 | head[:, 4] << 16 | head[:, 5] << 24
    stream = (head[:, 0] == 0) & (head[:, 1] == 0) & (size >= 32) & (size + 6 == heads.payload)
    return np.where(heads.transport == TCP, stream, starts_with(b"\x03\x66\x14\x71")(heads))


def _fits_hart(heads: Heads) -> np.ndarray:
    """Version 1, a type and an identifier of a message, its length (HCF_SPEC-085)."""
    head, size = heads.first, _u16(heads.first, 6)
    good = (head[:, 0] == 1) & np.isin(head[:, 1], (0, 1, 2, 15)) & (head[:, 2] <= 4)
    return good & (size >= 8) & (size == heads.payload)


def _fits_melsoft(heads: Heads) -> np.ndarray:
    """What Mitsubishi's engineering tool sends first (by the trace of one)."""
    long = starts_with(b"\x57\0\0\0\0\x11\x11", b"\x57\1\0\0\0\x11\x11")(heads)
    short = starts_with(b"\x5a\0\0")(heads) & starts_with(b"\xda\0\0", side="resp")(heads)
    return long | (short & (heads.orig_payload == 4))


def _fits_fins(heads: Heads) -> np.ndarray:
    """Omron's word over TCP; over UDP a command with its gateway count (W342, 3)."""
    stream, packet = starts_with(b"FINS")(heads), starts_with(b"\x80\0\2", b"\x81\0\2")(heads)
    return np.where(heads.transport == TCP, stream, packet & (heads.payload >= 12))


def _recognise(
    name: str, transports: tuple[int, ...], ports: tuple[int, ...], fits: Fits
) -> Protocol:
    return Protocol(name=name, transports=transports, ports=ports, fits=fits, anywhere=True)


# The object of PROFINET's context manager (IEC 61158-6-10, 4.10.3), in either order of bytes.
_PNIO = (b"\xde\xa0\0\0\x6c\x97\x11\xd1", b"\0\0\xa0\xde\x97\x6c\xd1\x11")
UNREAD = (
    _recognise("synchrophasor", (TCP, UDP), (4712, 4713), _fits_synchrophasor),
    _recognise("ads", (TCP, UDP), (48898, 48899), _fits_ads),
    _recognise("hart_ip", (TCP, UDP), (5094, 5095), _fits_hart),
    _recognise("slmp", (TCP, UDP), (5007, 5008), starts_with(b"\x50\0\0\xff\xff\x03")),
    _recognise("melsoft", (TCP, UDP), (5560, 5562), _fits_melsoft),
    _recognise("profinet_cm", (UDP,), (34964,), starts_with(*_PNIO, at=8)),
    _recognise("fins", (TCP, UDP), (9600,), _fits_fins),
)


def note_unread(services: pd.Series, protocols: tuple[Protocol, ...]) -> tuple[str, ...]:
    """Say which industrial protocols were seen but not read.

    Args:
        services: what each flow speaks.
        protocols: all that are known.
    """
    unread = {one.name for one in protocols if one.read is None and one.identify is None}
    unread |= {name for one in protocols for name in one.others}
    counts = services[services.isin(sorted(unread))].value_counts()
    if counts.empty:
        return ()
    named = ", ".join(f"{name} ({count} flows)" for name, count in counts.sort_index().items())
    return (f"{named}: recognised, but the content was not read",)
