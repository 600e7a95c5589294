"""Read captures as one table of packets, sorted by time.

Nothing here loops over packets in Python: ``records`` finds where each packet lies, ``headers``
reads one layer of many packets at a time. Checksums are never verified, because captures are full
of packets whose checksum the network card was still to fill in; Zeek's ``-C`` does the same.
"""

import ipaddress
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from traffic.errors import UserError
from traffic.pcap.clock import find_clock_steps, mend_clock
from traffic.pcap.copies import find_arp_copies, find_copies
from traffic.pcap.layers import read_layers
from traffic.pcap.links import ENVELOPES, MOST_ROUNDS
from traffic.pcap.records import Records, read_headers, read_records

# Packets decoded together, each part in a thread: what is only needed on the way fits the
# processor's cache.
DECODED = 65_536


@dataclass(frozen=True)
class Packets:
    """The packets of a capture.

    Attributes:
        table: one row per IP packet, sorted by ``ts`` (stable): ``ts``; ``src dst`` (rows of
            ``addresses``); ``proto`` (IANA number); ``sport dport`` (ICMP: type and code);
            ``ip_bytes``; ``flags seq ack window has_tcp`` of TCP; ``payload`` (bytes above transport),
            ``held`` (of these captured, at ``payload_at`` of buffer ``file``); ``src_mac dst_mac``
            (48 bits, -1 = none); ``cut`` (not all was captured); ``frame`` (its number in ``file``,
            from 1, as Wireshark counts: all records of a file, those that are not read too). A
            packet in a tunnel is a row of its own, with the frame that it came in.
        arp: one row per ARP packet, sorted by ``ts``: ``ts op sender target`` (rows of
            ``addresses``) ``mac to_all file frame``.
        others: one row per frame that is neither, sorted by ``ts``: ``ts file frame ethertype`` (0
            = none, below 0x600 a length: LLC), ``link`` (its type), ``src_mac dst_mac``, ``at held``
            (what is above the link header, and how much of it was captured).
        copies: one row per packet that was left out as another's copy, sorted by ``ts``: ``ts src
            dst file frame``.
        envelopes: one row per kind of envelope that was opened: ``name packets``.
        clock_steps: one row per frame that is over a second older than the one before it in its
            file: ``ts back_s file frame``, and whether the clock was ``set`` there: then the times
            before it were moved.
        addresses: shape (n_addresses,), object, address texts.
        buffers: each file's bytes, mapped; or the only ones in which everything lies.
        start_s, end_s: times of the first and last frame of any kind.
        notes: what was skipped or assumed, one sentence each.
    """

    table: pd.DataFrame
    arp: pd.DataFrame
    others: pd.DataFrame
    copies: pd.DataFrame
    envelopes: pd.DataFrame
    clock_steps: pd.DataFrame
    addresses: np.ndarray
    buffers: tuple[np.ndarray, ...]
    start_s: float
    end_s: float
    notes: tuple[str, ...] = ()

    def read_payload(self, rows: np.ndarray, width: int, skip: np.ndarray | int = 0) -> np.ndarray:
        """Payload bytes of some packets.

        Args:
            rows: shape (n,), positions in ``table``.
            width: how many bytes of each.
            skip: where to start in each payload.

        Returns:
            Shape (n, width), uint8; 0 where the payload ends or was not captured.
        """
        held = self.table["held"].to_numpy()[rows] - skip
        start = self.table["payload_at"].to_numpy()[rows] + skip
        file = self.table["file"].to_numpy()[rows]
        out = np.zeros(len(rows), f"V{width}")
        for number, buffer in enumerate(self.buffers):
            mine = (file == number) | (len(self.buffers) == 1)
            which = np.flatnonzero(mine & (held > 0))
            out[which] = read_headers(buffer, start[which], out.dtype)
        found = out.view(np.uint8).reshape(len(rows), width)
        short = np.flatnonzero(held < width)
        found[short] *= np.arange(width) < np.reshape(held[short], (-1, 1))
        return found


def read_packets(paths: Sequence[Path]) -> Packets:
    """Read captures as one: packets of all files, merged by time.

    Args:
        paths: pcap or pcapng files, in the order in which equal times should stay.

    Raises:
        UserError: no paths, no packets in any of them; or a file is missing, empty, no capture, or
            of an unknown link type. A file without packets beside others with some is a note.
    """
    if not paths:
        raise UserError(
            "no capture files given; expected at least one pcap or pcapng; check the folder"
        )
    notes: list[str] = []
    parts: list[Decoded] = []
    buffers: list[np.ndarray] = []
    steps: list[pd.DataFrame] = []
    start_s, end_s = np.inf, -np.inf
    for path in paths:
        records = read_records(path)
        near = partial(_slice_records, records)
        steps.append(find_clock_steps(records.ts, records.frame, near, len(buffers)))
        records = replace(records, ts=mend_clock(records.ts, steps[-1]))
        notes += [*records.notes, *say_disorder(path, records.ts)]
        if not len(records.ts):
            notes.append(f"{path.name}: holds no packets")
            continue
        decoded = decode(records, len(buffers))
        notes += say_decoded(path, decoded)
        parts += decoded
        buffers.append(records.buffer)
        start_s, end_s = min(start_s, records.ts.min()), max(end_s, records.ts.max())
    if not buffers:
        raise UserError(
            f"{paths[0]} holds no packets ({'; '.join(notes)}); expected at least one; "
            "check the capture's filter"
        )
    none = np.zeros(0, np.int64)
    texts = render_addresses(*share_addresses(parts, none, none))
    arp, table, others = (
        _by_time([getattr(part, name) for part in parts]) for name in ("arp", "packets", "others")
    )
    return leave_out_copies(
        Packets(
            table,
            arp,
            others,
            table.iloc[:0],
            name_envelopes(np.sum([part.envelopes for part in parts], axis=0)),
            pd.concat(steps, ignore_index=True),
            texts,
            tuple(buffers),
            float(start_s),
            float(end_s),
            notes=tuple(notes),
        )
    )


def _slice_records(records: Records, first: int, last: int) -> Records:
    return records.take(slice(first, last))


def name_envelopes(counts: np.ndarray) -> pd.DataFrame:
    """``Packets.envelopes`` from how many packets came in each of ``ENVELOPES``."""
    envelopes = pd.DataFrame({"name": pd.Series(ENVELOPES, dtype="str"), "packets": counts})
    return envelopes[counts > 0].reset_index(drop=True)


def leave_out_copies(packets: Packets, poor: np.ndarray | None = None) -> Packets:
    """Packets without those that are another's copies, and with the ports of all fragments.

    Args:
        packets: with the columns in ``table`` that are only needed here.
        poor: as ``traffic.pcap.copies.find_copies`` has it.
    """
    table = packets.table
    _join_fragments(table)
    copies = find_copies(table, packets.buffers, poor)
    table, copied = _split_copies(table.drop(columns=_ONLY_HERE), copies)
    arp, arp_copied = _split_copies(packets.arp, find_arp_copies(packets.arp))
    copied = pd.concat([copied, arp_copied.rename(columns={"sender": "src", "target": "dst"})])
    copied = copied[_COPY_COLUMNS].sort_values("ts", kind="stable", ignore_index=True)
    return replace(packets, table=table, arp=arp, copies=copied)


_ONLY_HERE = ["ident", "ttl", "fragment", "later", "first", "head"]
_COPY_COLUMNS = ["ts", "src", "dst", "file", "frame"]


def _split_copies(table: pd.DataFrame, copies: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    if not copies.any():
        return table, table.iloc[:0]
    return table[~copies].reset_index(drop=True), table[copies]


@dataclass(frozen=True)
class Decoded:
    """Some packets of a file, as columns that are let go once they are joined.

    Their addresses are rows of ``low`` and ``high``, in which each stands once.
    """

    packets: dict[str, np.ndarray]
    arp: dict[str, np.ndarray]
    others: dict[str, np.ndarray]
    envelopes: np.ndarray
    too_deep: int
    lying: int
    low: np.ndarray
    high: np.ndarray


def say_disorder(path: Path, ts: np.ndarray) -> list[str]:
    """Says how many packets of a file are older than one before them."""
    if (ts[1:] >= ts[:-1]).all():
        return []
    late = np.maximum.accumulate(ts) - ts
    count, most = int((late > 0).sum()), float(late.max())
    return [
        f"{path.name}: {count} packets were out of order (by up to {most:.6g} s) and sorted by time"
    ]


def decode(records: Records, file: int) -> list[Decoded]:
    """Read the layers of a file's records, some in each part."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy lets go of the interpreter's lock
        starts = range(0, len(records.ts), DECODED)
        return list(pool.map(partial(_decode_part, records, file), starts))


def say_decoded(path: Path, parts: list[Decoded]) -> list[str]:
    """Says what of a file's packets was not read as it stands."""
    notes = []
    if too_deep := sum(part.too_deep for part in parts):
        notes.append(
            f"{path.name}: {too_deep} packets lie in more than {MOST_ROUNDS} envelopes; what is inside "
            "the last of these was not read"
        )
    if lying := sum(part.lying for part in parts):
        notes.append(
            f"{path.name}: {lying} IP packets claim a length their frame cannot hold; the frame's was taken"
        )
    return notes


def _decode_part(whole: Records, file: int, first: int) -> Decoded:
    records = whole.take(slice(first, first + DECODED))
    layers = read_layers(records)
    arp, others = vars(layers.arp).copy(), vars(layers.unread).copy()
    packets = vars(layers.ip) | vars(layers.transport) | vars(layers.ends)
    n, m = len(layers.ip.row), len(arp["row"])
    lows = [packets.pop("src_low"), packets.pop("dst_low"), arp["sender"], arp["target"]]
    highs = [packets.pop("src_high"), packets.pop("dst_high"), np.zeros(2 * m, np.int64)]
    codes, low, high = _number(np.concatenate(lows), np.concatenate(highs))
    ends = np.split(codes.astype(np.int32), [n, 2 * n, 2 * n + m])
    packets["src"], packets["dst"], arp["sender"], arp["target"] = ends
    for columns in (packets, arp, others):
        row = columns.pop("row")
        columns |= {"ts": records.ts[row], "file": np.full(len(row), file, np.int32)}
        columns["frame"] = records.frame[row]
    packets["head"] = (packets["payload_at"] - packets.pop("transport")).astype(np.uint8)
    lying = int(packets.pop("lying").sum())
    del packets["rest"]
    return Decoded(packets, arp, others, layers.envelopes, layers.too_deep, lying, low, high)


def _by_time(parts: list[dict[str, np.ndarray]]) -> pd.DataFrame:
    names = list(parts[0])
    columns = {name: np.concatenate([part.pop(name) for part in parts]) for name in names}
    table = pd.DataFrame(columns, copy=False)
    if table["ts"].is_monotonic_increasing:
        return table
    return table.sort_values("ts", kind="stable", ignore_index=True)


def _number(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A small number for each 128-bit address, and the two halves behind each number."""
    codes, lows = pd.factorize(low)
    if not high.any():
        return codes, lows, np.zeros(len(lows), np.int64)
    prefix, prefixes = pd.factorize(high)
    codes, pairs = pd.factorize(codes * len(prefixes) + prefix)
    return codes, lows[pairs // len(prefixes)], prefixes[pairs % len(prefixes)]


def share_addresses(
    parts: list[Decoded], low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Number the addresses of all parts as one, in place, after those that have numbers already.

    Args:
        parts: of a capture.
        low, high: the halves of the addresses with numbers, in their order.

    Returns:
        The halves of all addresses, in the order of their numbers.
    """
    lows, highs = [part.low for part in parts], [part.high for part in parts]
    codes, low, high = _number(np.concatenate([low, *lows]), np.concatenate([high, *highs]))
    shared = np.split(
        codes.astype(np.int32)[len(codes) - sum(map(len, lows)) :],
        np.cumsum([len(part) for part in lows])[:-1],
    )
    for part, mine in zip(parts, shared, strict=True):
        for columns, names in ((part.packets, ("src", "dst")), (part.arp, ("sender", "target"))):
            columns.update({name: mine[columns[name]] for name in names})
    return low, high


def render_addresses(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The text of each address, shape (n,), object."""
    texts = [_address(int(h), int(lo)) for h, lo in zip(high, low, strict=True)]
    return np.array(texts, dtype=object)


def _address(high: int, low: int) -> str:
    if high == 0 and low >> 32 == 0xFFFF:  # by hand, since a scan has a million of them
        return f"{low >> 24 & 255}.{low >> 16 & 255}.{low >> 8 & 255}.{low & 255}"
    return str(ipaddress.IPv6Address((high & (1 << 64) - 1) << 64 | low & (1 << 64) - 1))


def _join_fragments(table: pd.DataFrame) -> None:
    """Give later fragments the ports of the fragment that began their packet, in place.

    Fragments of one packet share addresses, protocol and identification; the last beginning before
    a fragment is its own, or, where fragments were reordered, the first one after it.
    """
    part = table.loc[table["later"] | table["first"]]
    if part.empty:
        return
    ports = part[["sport", "dport"]].astype(float).mask(part["later"])
    keys = [part[name] for name in ("src", "dst", "proto", "ident")]
    known = ports.groupby(keys).ffill()
    known = known.fillna(known.groupby(keys).bfill()).fillna(0).astype(np.int64)
    table.loc[part.index, ["sport", "dport"]] = known
