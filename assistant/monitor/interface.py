"""Packets of a network interface: a ring that the kernel fills (TPACKET_V3), read and never written to.

Nothing is sent. All capabilities are given up once the socket is open: what reads packets of unknown
origin afterwards may do nothing that the state's owner may not.
Source: https://www.kernel.org/doc/Documentation/networking/packet_mmap.rst
"""

import ctypes
import errno
import fcntl
import mmap
import os
import pwd
import select
import socket
import struct
import time
from pathlib import Path

import numpy as np

from assistant.monitor.flood import thin_out
from assistant.monitor.records import make_head, pack_records
from assistant.monitor.source import Batch, Part, Trouble
from traffic.errors import UserError
from traffic.pcap.records import ETHERNET, Records

MOST_PKTS_PER_S = 20_000
_SOL_PACKET, _ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION = 263, 1, 5, 6, 10
_V3, _PROMISCUOUS, _ALL, _USER = 2, 1, 3, 1
_BLOCK, _BLOCKS, _FRAME, _RETIRE_MS = 1 << 20, 32, 1 << 11, 100
_TYPES = {
    "1": ETHERNET,
    "772": ETHERNET,
    "65534": 101,
}  # of /sys/class/net: Ethernet, loopback, IP alone
_HEADER = struct.Struct("=IIIIIIH")  # next, seconds, nanoseconds, captured, wire, status, at
_UP = 0x1 | 0x40  # IFF_UP, IFF_RUNNING


class Interface:
    """A network interface as a source."""

    lateness_s, back_s, live = 0.25, 30.0, True

    def __init__(self, name: str, most_pkts_per_s: int = MOST_PKTS_PER_S) -> None:
        """Open the interface, which needs CAP_NET_RAW.

        Raises:
            UserError: there is no such interface, it is of a kind that is not read, or the right is
                missing.
        """
        self._name, self._most = name, most_pkts_per_s
        self._link = _find_link(name)
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(_SOL_PACKET, _VERSION, _V3)
            ring = (_BLOCK, _BLOCKS, _FRAME, _BLOCK * _BLOCKS // _FRAME, _RETIRE_MS, 0, 0)
            self._socket.setsockopt(_SOL_PACKET, _RX_RING, struct.pack("7I", *ring))
            self._ring = mmap.mmap(self._socket.fileno(), _BLOCK * _BLOCKS)
        except PermissionError as error:
            raise UserError(
                f"the interface {name} cannot be opened ({error.strerror}); expected the capability "
                "CAP_NET_RAW, or root; give it to the service, or use --zeek-dir"
            ) from error
        except OSError as error:
            raise UserError(
                f"the interface {name} cannot be opened ({error.strerror}); expected Linux with packet "
                "sockets; use --zeek-dir"
            ) from error
        self._block, self._index = 0, -1
        self._bind()
        self._read_s = time.monotonic()

    def _bind(self) -> bool:
        """Listen to the interface of that name as it is now; False where there is none."""
        try:
            index = socket.if_nametoindex(self._name)
            if index != self._index:
                self._socket.bind((self._name, _ALL))
                wanted = struct.pack("IHH8s", index, _PROMISCUOUS, 0, b"")
                self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, wanted)
                self._index = index
            return _is_up(self._name)
        except OSError:
            self._index = -1
            return False

    def read(self, wait_s: float) -> Batch:
        """The packets that the kernel has handed over."""
        troubles: list[Trouble] = []
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLERR)
        poll.poll(wait_s * 1000)
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not self._bind() or error in (errno.ENETDOWN, errno.ENODEV):
            troubles.append(Trouble("interface_down", self._name))
        parts, times = [], []
        while (records := self._next_block()) is not None:
            parts.append(records)
            times.append(records.ts)
            if len(parts) >= _BLOCKS:
                break
        if not parts:
            if troubles:
                time.sleep(wait_s)
            return Batch(troubles=(*troubles, *self._drops()))
        now_s = time.monotonic()
        allowed = int(self._most * max(now_s - self._read_s, 0.1))
        self._read_s = now_s
        kept, left_out = thin_out(parts, allowed)
        if left_out:
            troubles.append(Trouble("flood", self._name, left_out))
        data = b"".join(pack_records(records) for records in kept)
        part = Part("packets", make_head(self._link), data)
        ts = np.concatenate([records.ts for records in kept])
        return Batch((part,), ts, troubles=(*troubles, *self._drops()))

    def _next_block(self) -> Records | None:
        """The packets of the next block of the ring; None where the kernel still fills it."""
        start = self._block * _BLOCK
        status, n, first = struct.unpack_from("=III", self._ring, start + 8)
        if not status & _USER:
            return None
        (size,) = struct.unpack_from("=I", self._ring, start + 20)
        block = bytes(self._ring[start : start + size])
        struct.pack_into("=I", self._ring, start + 8, 0)  # the kernel's again
        self._block = (self._block + 1) % _BLOCKS
        rows, at = np.zeros((n, 5), np.int64), first
        for number in range(n):
            following, seconds, nanos, captured, wire, _, mac = _HEADER.unpack_from(block, at)
            rows[number] = seconds, nanos, captured, wire, at + mac
            at += following
        seconds, nanos, captured, wire, offset = rows.T
        link = np.full(n, self._link, np.int32)
        frame = np.arange(1, n + 1, dtype=np.int32)
        ts = seconds + nanos / 1e9
        sizes = captured.astype(np.int32), wire.astype(np.int32)
        return Records(np.frombuffer(block, np.uint8), ts, offset, *sizes, link, frame)

    def _drops(self) -> tuple[Trouble, ...]:
        """Frames that the kernel had no room for, since it was asked last."""
        found = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12)
        _, drops, _ = struct.unpack("3I", found)
        return (Trouble("drops", self._name, drops),) if drops else ()

    def close(self) -> None:
        """Let go of the interface."""
        self._ring.close()
        self._socket.close()


def _find_link(name: str) -> int:
    """The link type of an interface's packets.

    Raises:
        UserError: there is no such interface, or its packets are of another kind.
    """
    names = [one for _, one in socket.if_nameindex()]
    path = Path("/sys/class/net") / name / "type"
    if name not in names:
        raise UserError(
            f"there is no interface {name!r}; expected one of: {', '.join(names)}; name one of these"
        )
    # A namespace of its own may come without its /sys: then Ethernet is what it most likely is.
    kind = path.read_text(encoding="ascii").strip() if path.exists() else "1"
    if kind not in _TYPES:
        raise UserError(
            f"the interface {name} is of type {kind}; expected Ethernet; name the one at the mirror port"
        )
    return _TYPES[kind]


def _is_up(name: str) -> bool:
    """Whether an interface is up and its cable in (SIOCGIFFLAGS, which needs no right)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked.fileno(), 0x8913, struct.pack("256s", name.encode()[:15]))
    return struct.unpack_from("H", answer, 16)[0] & _UP == _UP


def drop_privileges(user: str = "") -> None:
    """Give up all capabilities, and root's account where another is named.

    Raises:
        UserError: there is no such user, or one who cannot read the program.
    """
    if user and os.geteuid() == 0:
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            raise UserError(
                f"there is no user {user!r}; expected the one that owns the state; correct --user"
            ) from None
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        # Installed below root's own home, as by pipx: what is imported later would not be found.
        if closed := [path for path in (os.__file__, __file__) if not os.access(path, os.R_OK)]:
            raise UserError(
                f"the user {user} cannot read {closed[0]}; expected Python and faultwise where it can; "
                "install them outside root's home, or leave --user out"
            )
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    if libc.capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be given up")
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
