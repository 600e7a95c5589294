"""Zeek's ``history``: one letter for each thing that happened first in a direction, in the order it happened.

S SYN, H SYN-ACK, A bare ACK, D data, F FIN, R RST, I FIN with RST, Q other mixed flags, T data sent again, W zero
window; capitals are the originator's; ``^`` marks a flow whose direction was flipped. SYN, FIN and RST are written
again when their sequence number changes, T and W at their 1st, 10th, 100th … time. Checksums are not verified: no C.
"""

import numpy as np
import pandas as pd

from traffic.pcap.tcp import ACK, FIN, NEVER, RST, SYN, first_per_group

__all__ = ["render_histories"]

_ORDER = "SHFRIQDAWT"  # of the letters that one packet may write
_LOWER = 32  # from a capital to its small letter in ASCII


def render_histories(packets: pd.DataFrame, segments: pd.DataFrame, flipped: np.ndarray) -> np.ndarray:
    """The history of each flow.

    Args:
        packets: shape (n, ...), ``flow is_orig is_tcp is_udp flags seq payload``, sorted by flow, then time.
        segments: shape (n, ...), ``again zero_window``.
        flipped: shape (n_flows,), bool.

    Returns:
        Shape (n_flows,), object; "" for flows that are neither TCP nor UDP.
    """
    is_orig = packets["is_orig"].to_numpy()
    stream = packets["flow"].to_numpy() * 2 + is_orig
    events = [
        (index, np.full(len(index), _ORDER.index(letter)))
        for letter, mask, often in _marks(packets, segments)
        if len(index := _kept(packets, mask, often, stream, 2 * len(flipped)))
    ]
    if not events:
        return np.where(flipped, "^", "")
    index = np.concatenate([index for index, _ in events])
    place = np.concatenate([place for _, place in events])
    order = np.argsort(index * len(_ORDER) + place)
    index, place = index[order], place[order]
    letters = np.frombuffer(_ORDER.encode(), np.uint8)[place] + np.where(is_orig[index], 0, _LOWER)
    return _join(letters.astype(np.uint8), packets["flow"].to_numpy()[index], flipped)


def _marks(packets: pd.DataFrame, segments: pd.DataFrame) -> list[tuple[str, np.ndarray, str]]:
    """Each letter with the packets it may be written for, and how often: once, scaled, or when their number changes."""
    flags, payload = packets["flags"].to_numpy(), packets["payload"].to_numpy()
    tcp, udp = packets["is_tcp"].to_numpy(), packets["is_udp"].to_numpy()
    control = flags & (SYN | FIN | RST)
    syn, fin, rst = (tcp & (control == bit) for bit in (SYN, FIN, RST))
    plain = tcp & (control == 0)
    mixed = tcp & ~(plain | syn | fin | rst)
    reset = mixed & (control & (FIN | RST) == FIN | RST)
    return [
        ("S", syn & (flags & ACK == 0), "first number"),
        ("H", syn & (flags & ACK > 0), "first number"),
        ("F", fin, "last number"),
        ("R", rst, "first number"),
        ("I", reset, "once"),
        ("Q", mixed & ~reset, "once"),
        ("D", (plain & (payload > 0)) | udp, "once"),
        ("A", plain & (payload == 0) & (flags & ACK > 0), "once"),
        ("W", segments["zero_window"].to_numpy(), "scaled"),
        ("T", segments["again"].to_numpy(), "scaled"),
    ]


def _kept(packets: pd.DataFrame, mask: np.ndarray, often: str, stream: np.ndarray, n: int) -> np.ndarray:
    if often == "once":
        first = first_per_group(mask, stream, n)
        return first[first < NEVER]
    index = np.flatnonzero(mask)
    order = index[np.argsort(stream[index], kind="stable")]
    head = np.diff(stream[order], prepend=-1) != 0
    if often == "scaled":
        position = np.arange(len(order))
        times = position - np.maximum.accumulate(np.where(head, position, 0)) + 1
        return order[np.isin(times, 10 ** np.arange(10))]
    number = packets["seq"].to_numpy()[order].astype(np.int64)
    if often == "last number":
        number += packets["payload"].to_numpy()[order]
    return order[head | (np.diff(number, prepend=-1) != 0)]


def _join(letters: np.ndarray, flow: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    count = np.bincount(flow, minlength=len(flipped))
    column = np.arange(len(letters)) - np.repeat(np.cumsum(count) - count, count) + flipped[flow]
    table = np.zeros((len(flipped), int((count + flipped).max())), np.uint8)
    table[flipped, 0] = ord("^")
    table[flow, column] = letters
    # Histories are few and flows are many: decode each distinct one once.
    codes, texts = pd.factorize(table.view(f"S{table.shape[1]}").ravel())
    return np.array([text.decode() for text in texts], dtype=object)[codes]
