"""Industrial protocols that are recognised by their content, which is not read."""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP, UDP
from traffic.pcap.protocols.protocol import Fits, Heads, Protocol, starts_with


def _fits_ads(heads: Heads) -> np.ndarray:
    """Two zero bytes, and a length that the AMS header and its data have; over UDP a cookie
    (Beckhoff, AMS)."""
    head = heads.first.astype(np.int64)
    size = head[:, 2] | head[:, 3] << 8 | head[:, 4] << 16 | head[:, 5] << 24
    stream = (head[:, 0] == 0) & (head[:, 1] == 0) & (size >= 32) & (size + 6 == heads.payload)
    return np.where(heads.transport == TCP, stream, starts_with(b"\x03\x66\x14\x71")(heads))


def _fits_fins(heads: Heads) -> np.ndarray:
    """Omron's word over TCP; over UDP a command with its gateway count (W342, 3)."""
    stream, packet = starts_with(b"FINS")(heads), starts_with(b"\x80\0\2", b"\x81\0\2")(heads)
    return np.where(heads.transport == TCP, stream, packet & (heads.payload >= 12))


def _recognise(
    name: str, transports: tuple[int, ...], ports: tuple[int, ...], fits: Fits
) -> Protocol:
    return Protocol(name=name, transports=transports, ports=ports, fits=fits, anywhere=True)


UNREAD = (
    _recognise("ads", (TCP, UDP), (48898, 48899), _fits_ads),
    _recognise("fins", (TCP, UDP), (9600,), _fits_fins),
)


def note_unread(services: pd.Series, protocols: tuple[Protocol, ...]) -> tuple[str, ...]:
    """Say which industrial protocols were seen but not read.

    Args:
        services: what each flow speaks.
        protocols: all that are known.
    """
    unread = {one.name for one in protocols if one.read is None and one.identify is None}
    unread |= {name for one in protocols for name in one.others} - {one.name for one in protocols}
    counts = services[services.isin(sorted(unread))].value_counts()
    if counts.empty:
        return ()
    named = ", ".join(f"{name} ({count} flows)" for name, count in counts.sort_index().items())
    return (f"{named}: recognised, but the content was not read",)
