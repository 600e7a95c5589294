"""Lengths and numbers in BER (ITU-T X.690, 8.1 and 8.3), of many messages at once."""

import numpy as np

from traffic.pcap.messages import Messages


def read_length(messages: Messages, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The length at ``at`` in BER, of at most two bytes, and where what it counts begins."""
    first = messages.u8(at)
    size = np.select(
        [first == 0x81, first == 0x82], [messages.u8(at + 1), messages.u16(at + 1)], first
    )
    return np.maximum(size, 0), at + np.select([first == 0x81, first == 0x82], [2, 3], 1)


def read_numbers(messages: Messages, at: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Unsigned numbers of one to five bytes; -1 where there is none."""
    digits = messages.bytes(at, 5).astype(np.int64)
    value = np.zeros(len(messages), np.int64)
    for i in range(5):
        value = np.where(i < size, value << 8 | digits[:, i], value)
    return np.where((size >= 1) & (size <= 5) & (messages.held >= at + size), value, -1)
