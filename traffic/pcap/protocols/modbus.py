"""Modbus/TCP: requests by function code, and exceptions.

Modbus Application Protocol 1.1b3 and Messaging on TCP/IP 1.0b (modbus.org).
"""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP
from traffic.pcap.packets import Packets
from traffic.pcap.protocols.protocol import Events, Protocol, make_events, payload_rows, starts_with
from traffic.pcap.records import header_type

# Application Protocol, sections 6 and 7.
FUNCTIONS = {
    1: "read coils",
    2: "read discrete inputs",
    3: "read holding registers",
    4: "read input registers",
    5: "write single coil",
    6: "write single register",
    7: "read exception status",
    8: "diagnostics",
    15: "write multiple coils",
    16: "write multiple registers",
    17: "report server id",
    22: "mask write register",
    23: "read and write registers",
    43: "read device identification",
}
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
_READS = (1, 2, 3, 4, 7, 11, 12, 17, 20, 24)
_WRITES = (5, 6, 15, 16, 21, 22, 23)
_ADDRESSED = (1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 24)  # requests that name a start address
_PORT = 502
_MESSAGE = header_type(
    10, protocol=(2, ">u2"), length=(4, ">u2"), code=(7, "u1"), exception=(8, "u1"),
    target=(8, ">u2"),
)  # fmt: skip


def find_events(packets: Packets, segments: pd.DataFrame) -> Events:
    """Requests by function code with the start addresses they name, exceptions by their code."""
    messages = _read_messages(packets, payload_rows(packets, segments, (_PORT,)))
    to_server = messages["dport"] == _PORT
    requests = messages[to_server & (messages["code"] < 128)]
    exceptions = messages[~to_server & (messages["code"] >= 128)]
    exceptions = exceptions.rename(columns={"src": "dst", "dst": "src"})
    reads, writes = (requests["code"].isin(codes) for codes in (_READS, _WRITES))
    return {
        "modbus_read": make_events(requests[reads]),
        "modbus_write": make_events(requests[writes]),
        "modbus_other": make_events(requests[~reads & ~writes]),
        "modbus_exception": make_events(exceptions.assign(code=exceptions["exception"])),
    }


def _read_messages(packets: Packets, rows: np.ndarray) -> pd.DataFrame:
    """Every message of the segments ``rows``: ``ts src dst dport code target exception``.

    Each round reads the next message of every segment that has one left.
    """
    held = packets.table["held"].to_numpy()
    names = ("row", "code", "target", "exception")
    found = [pd.DataFrame({name: [] for name in names}, dtype=np.int64)]
    at = np.zeros(len(rows), np.int64)
    while len(rows):
        head = packets.read_payload(rows, _MESSAGE.itemsize, at).view(_MESSAGE)[:, 0]
        length, code = head["length"].astype(np.int32), head["code"].astype(np.int32)
        left = held[rows] - at
        # Protocol 0; at least unit and function, at most 254 bytes (MBAP header, Messaging on
        # TCP/IP 1.0b, 3.1.3).
        good = (head["protocol"] == 0) & (length >= 2) & (length <= 254) & (left >= 8) & (code > 0)
        addressed = np.isin(code, _ADDRESSED) & (length >= 4) & (left >= 10)
        target = np.where(addressed, head["target"], np.int32(-1))
        columns = (rows, code, target, head["exception"].astype(np.int32))
        found.append(pd.DataFrame(dict(zip(names, columns, strict=True)))[good])
        rows, at = rows[good], (at + 6 + length)[good]
        more = held[rows] - at >= 8
        rows, at = rows[more], at[more]
    messages = pd.concat(found, ignore_index=True)
    ends = packets.table[["ts", "src", "dst", "dport"]].iloc[messages["row"].to_numpy()]
    return pd.concat([ends.reset_index(drop=True), messages], axis=1)


MODBUS = Protocol(
    name="modbus",
    transports=(TCP,),
    ports=(_PORT,),
    fits=starts_with(b"\0\0\0", b"\0\0\1", at=2),
    codes={
        **dict.fromkeys(("modbus_read", "modbus_write", "modbus_other"), FUNCTIONS),
        "modbus_exception": EXCEPTIONS,
    },
    find_events=find_events,
)
