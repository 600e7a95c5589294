"""What a sensor does to a capture: copies, cuts, drops, jumps, envelopes; from pcap to pcap.

Pure functions of frames, which anything that was recorded can go through, one after the other:

    degrade(source, target, ["mirror_both", "vlan"], seed=1)

Envelopes have no library here on purpose: they are a few bytes each, and the readers under test
should not be tested by their own headers.
"""

import shutil
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

from traffic.errors import UserError

_MAGIC = 0xA1B2C3D4  # microseconds, in the byte order of the writer
_SNAPLEN = 262144
_ETHERNET = 1
_IP = 0x0800
# The far ends of tunnels: a switch that mirrors, and the sensor.
_SWITCH, _SENSOR = "10.255.0.1", "10.255.0.2"
_SWITCH_MAC, _SENSOR_MAC = bytes.fromhex("00000c5a0001"), bytes.fromhex("00000c5a0002")


@dataclass(frozen=True)
class Frame:
    """One record of a pcap.

    Attributes:
        ts_us: microseconds since the epoch.
        raw: the bytes that were captured, from the Ethernet header on.
        length: how long it was on the wire.
    """

    ts_us: int
    raw: bytes
    length: int


def read_frames(path: Path) -> list[Frame]:
    """The frames of a pcap as tcpdump writes it here: microseconds, Ethernet, this byte order.

    Raises:
        UserError: it is another kind of file.
    """
    data = path.read_bytes()
    head = struct.unpack_from("=IHHiIII", data) if len(data) >= 24 else (0,)
    if head[0] != _MAGIC or head[6] != _ETHERNET:
        raise UserError(
            f"{path} is no pcap of Ethernet frames in microseconds; expected one that the case "
            "maker wrote; make it anew"
        )
    frames, at = [], 24
    while at + 16 <= len(data):
        seconds, micros, kept, length = struct.unpack_from("=IIII", data, at)
        raw = data[at + 16 : at + 16 + kept]
        frames.append(Frame(seconds * 10**6 + micros, raw, length))
        at += 16 + kept
    return frames


def write_frames(path: Path, frames: Iterable[Frame]) -> None:
    """Write a pcap of Ethernet frames in microseconds, in the order given."""
    parts = [struct.pack("=IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAPLEN, _ETHERNET)]
    for frame in frames:
        seconds, micros = divmod(frame.ts_us, 10**6)
        parts += [struct.pack("=IIII", seconds, micros, len(frame.raw), frame.length), frame.raw]
    path.write_bytes(b"".join(parts))


def restamp(source: Path, target: Path, start_s: float, speed: float) -> None:
    """Move a capture in time and stretch it: what was played fast gets the time it stands for."""
    frames = read_frames(source)
    first = frames[0].ts_us if frames else 0
    begin = round(start_s * 1e6)
    moved = [replace(one, ts_us=begin + round((one.ts_us - first) * speed)) for one in frames]
    write_frames(target, moved)


# ---- Copies, cuts, drops and jumps ----


def _mirror(both: bool, frames: list[Frame], _rng: Random) -> list[Frame]:
    """Every frame twice, 1 us apart; or only those that go from the lower address to the higher."""
    copied = []
    for frame in frames:
        copied.append(frame)
        if both or _goes_up(frame):
            copied.append(replace(frame, ts_us=frame.ts_us + 1))
    return copied


def _mirror_routed(frames: list[Frame], rng: Random) -> list[Frame]:
    """IP packets again behind the next router: one TTL lower, with its MACs, some 10 us later."""
    copied = []
    for frame in frames:
        copied.append(frame)
        if _ethertype(frame) == _IP and frame.raw[22] > 1:
            later = replace(
                frame, ts_us=frame.ts_us + rng.randint(20, 300), raw=_forward(frame.raw)
            )
            copied.append(later)
    return sorted(copied, key=lambda frame: frame.ts_us)


def _forward(raw: bytes) -> bytes:
    """What a router makes of a packet (RFC 1812, 5.3.1); the checksum is made anew."""
    header = bytearray(raw[14 : 14 + (raw[14] & 0x0F) * 4])
    header[8] -= 1
    header[10:12] = b"\0\0"
    header[10:12] = _checksum(bytes(header))
    return _SENSOR_MAC + _SWITCH_MAC + raw[12:14] + bytes(header) + raw[14 + len(header) :]


def _one_way(frames: list[Frame], _rng: Random) -> list[Frame]:
    """Only one direction of each conversation, as one fibre of a tap shows."""
    return [frame for frame in frames if _goes_up(frame)]


def _goes_up(frame: Frame) -> bool:
    """Whether a frame goes from the lower address to the higher; what is no IP: by its MACs."""
    if _ethertype(frame) == _IP:
        return frame.raw[26:30] < frame.raw[30:34]
    return frame.raw[6:12] < frame.raw[0:6]


def _cut(most: int, frames: list[Frame], _rng: Random) -> list[Frame]:
    """Frames cut by the snap length; their records keep the true length."""
    return [replace(frame, raw=frame.raw[:most]) for frame in frames]


def _drop(share: float, frames: list[Frame], rng: Random) -> list[Frame]:
    """Frames that a busy sensor loses, though they were on the wire."""
    return [frame for frame in frames if rng.random() >= share]


def _jump(seconds: float, frames: list[Frame], _rng: Random) -> list[Frame]:
    """The sensor's clock is set in the middle of the capture."""
    half = len(frames) // 2
    later = [replace(one, ts_us=one.ts_us + round(seconds * 1e6)) for one in frames[half:]]
    return frames[:half] + later


def _stop(frames: list[Frame], _rng: Random) -> list[Frame]:
    """A sensor that stops after half of the frames."""
    return frames[: len(frames) // 2]


def stop_log(source: Path, target: Path) -> None:
    """Copy a folder of Zeek logs whose conn.log stopped after half of its rows, the others not."""
    target.mkdir()
    for path in source.iterdir():
        shutil.copyfile(path, target / path.name)
    rows = (source / "conn.log").read_text("utf-8").splitlines(keepends=True)
    head = [row for row in rows if row.startswith("#") and not row.startswith("#close")]
    body = [row for row in rows if not row.startswith("#")]
    (target / "conn.log").write_text("".join([*head, *body[: len(body) // 2]]), "utf-8")


# ---- Envelopes ----


def _wrap(make: Callable[[Frame, int], bytes], frames: list[Frame], _rng: Random) -> list[Frame]:
    wrapped = []
    for number, frame in enumerate(frames):
        raw = make(frame, number)
        wrapped.append(Frame(frame.ts_us, raw, frame.length + len(raw) - len(frame.raw)))
    return wrapped


def _vlan(*tags: tuple[int, int]) -> Callable[[Frame, int], bytes]:
    """IEEE 802.1Q tags, outer first."""
    between = b"".join(struct.pack("!HH", kind, vlan) for kind, vlan in tags)
    return lambda frame, _number: frame.raw[:12] + between + frame.raw[12:]


def _pppoe(frame: Frame, _number: int) -> bytes:
    """PPPoE session stage (RFC 2516, 4) with PPP (RFC 1661); what is no IP stays as it is."""
    if _ethertype(frame) != _IP:
        return frame.raw
    packet = struct.pack("!H", 0x0021) + frame.raw[14:]
    return frame.raw[:12] + struct.pack("!HBBHH", 0x8864, 0x11, 0, 0x2A, len(packet)) + packet


def _mpls(frame: Frame, _number: int) -> bytes:
    """Two labels (RFC 3032, 2.1), the last with the bottom bit."""
    if _ethertype(frame) != _IP:
        return frame.raw
    labels = struct.pack("!II", 18 << 12 | 64, 300 << 12 | 0x100 | 64)
    return frame.raw[:12] + struct.pack("!H", 0x8847) + labels + frame.raw[14:]


def _gre(frame: Frame, number: int) -> bytes:
    """An IP packet in GRE (RFC 2784)."""
    if _ethertype(frame) != _IP:
        return frame.raw
    return _outer(47, struct.pack("!HH", 0, _IP) + frame.raw[14:], number)


def _erspan(frame: Frame, number: int) -> bytes:
    """ERSPAN II: GRE with a sequence number, 8 bytes of its own (draft-foschiano-erspan-03, 4.2)."""
    gre = struct.pack("!HHI", 0x1000, 0x88BE, number)
    return _outer(47, gre + struct.pack("!HHI", 0x1000 | 100, 7, 0) + frame.raw, number)


def _vxlan(frame: Frame, number: int) -> bytes:
    """VXLAN (RFC 7348, 5) over UDP without a checksum."""
    vxlan = struct.pack("!II", 0x08000000, 5001 << 8) + frame.raw
    return _outer(
        17, struct.pack("!HHHH", 49152 + number % 1000, 4789, 8 + len(vxlan), 0) + vxlan, number
    )


def _outer(protocol: int, packet: bytes, number: int) -> bytes:
    """An Ethernet frame from the switch to the sensor with an IP packet."""
    ends = socket.inet_aton(_SWITCH) + socket.inet_aton(_SENSOR)
    fields = (0x45, 0, 20 + len(packet), number & 0xFFFF, 0, 64, protocol, 0)
    header = struct.pack("!BBHHHBBH", *fields) + ends
    header = header[:10] + _checksum(header) + header[12:]
    return _SENSOR_MAC + _SWITCH_MAC + struct.pack("!H", _IP) + header + packet


def _ethertype(frame: Frame) -> int:
    return int.from_bytes(frame.raw[12:14], "big")


def _checksum(header: bytes) -> bytes:
    """Internet checksum (RFC 1071) of a header whose own is zero."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


@dataclass(frozen=True)
class Degradation:
    """One thing that a sensor does.

    Attributes:
        apply: frames to frames.
        says: what an answer has to say of it, as a regular expression.
        blinds: nothing about a device can be judged any more.
        keeps_counts: what was counted in the case still holds, once copies are left out.
    """

    apply: Callable[[list[Frame], Random], list[Frame]]
    says: str = ""
    blinds: bool = False
    keeps_counts: bool = True


_COPIES = "cop(y|ies)|twice|duplicate"
DEGRADATIONS: Mapping[str, Degradation] = {
    "mirror_one": Degradation(partial(_mirror, False), _COPIES),
    "mirror_both": Degradation(partial(_mirror, True), _COPIES),
    "mirror_routed": Degradation(_mirror_routed, _COPIES),
    "one_way": Degradation(_one_way, "one direction|one side|one way", True, False),
    "snaplen_40": Degradation(partial(_cut, 40), "cut|snap", True, False),
    "snaplen_54": Degradation(partial(_cut, 54), "cut|snap", False, False),
    "snaplen_68": Degradation(partial(_cut, 68), "cut|snap", False, False),
    "drops_30": Degradation(partial(_drop, 0.3), "sensor|capture|missed|drop", False, False),
    "clock_ahead": Degradation(partial(_jump, 3600.0), "clock|jump"),
    "clock_back": Degradation(partial(_jump, -90.0), "clock|jump|order"),
    "log_stopped": Degradation(_stop, "", False, False),
    "vlan": Degradation(partial(_wrap, _vlan((0x8100, 42)))),
    "qinq": Degradation(partial(_wrap, _vlan((0x88A8, 100), (0x8100, 42)))),
    "pppoe": Degradation(partial(_wrap, _pppoe)),
    "mpls": Degradation(partial(_wrap, _mpls)),
    "gre": Degradation(partial(_wrap, _gre)),
    "erspan": Degradation(partial(_wrap, _erspan)),
    "vxlan": Degradation(partial(_wrap, _vxlan)),
}


def degrade(source: Path, target: Path, names: Sequence[str], seed: int) -> None:
    """Write what sensors make of a capture, one degradation after the other.

    Raises:
        UserError: a name is unknown, or the source is no such pcap.
    """
    check_degradations(names)
    if source.is_dir():
        if tuple(names) != ("log_stopped",):
            raise UserError(f"{source} is a folder of logs; expected log_stopped alone for one")
        stop_log(source, target)
        return
    frames = read_frames(source)
    for name in names:
        frames = DEGRADATIONS[name].apply(frames, Random(f"{name} {seed}"))  # noqa: S311
    write_frames(target, frames)


def check_degradations(names: Sequence[str]) -> None:
    """Refuse names of degradations that do not exist.

    Raises:
        UserError: one is unknown.
    """
    if unknown := [name for name in names if name not in DEGRADATIONS]:
        raise UserError(
            f"no degradation is called {', '.join(unknown)}; expected some of "
            f"{', '.join(DEGRADATIONS)}; correct the name"
        )
