"""Captures, Zeek logs, device logs and readings, damaged in every way that a number can name.

``python -m mutations 5000 --from 100000`` (in tests/, with the repository on PYTHONPATH) reads the
mutations 100000 to 104999 as the product would and lists those that broke it. A mutation depends on
its number and the seeds alone, so a number is all that a report needs:
``python -m mutations 1 --from 100123``.
"""

import gzip
import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

import pandas as pd

SEEDS = Path(__file__).with_name("seeds")
# Each kind's share of twenty numbers in a row.
KINDS = ("capture",) * 14 + ("zeek",) * 4 + ("device_log", "readings")
_ODD = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 127, 128, 255, 256, 1500, 4095, 32767, 32768, 65535,
        2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)  # fmt: skip
_LINKS = (0, 1, 9, 50, 51, 101, 104, 105, 108, 113, 119, 127, 163, 166, 192, 204, 228, 240, 241, 276, 284, 285,
          147, 195)  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One mutation: the files it consists of, by name; and what they are, a name of ``KINDS``."""

    number: int
    kind: str
    files: dict[str, bytes]


def make_mutation(number: int) -> Mutation:
    """The mutation of a number: always the same bytes."""
    kind = KINDS[number % len(KINDS)]
    random = Random(number)
    make = {
        "capture": mutate_capture, "zeek": mutate_zeek, "device_log": mutate_device_log,
        "readings": mutate_readings,
    }[kind]  # fmt: skip
    return Mutation(number, kind, make(random, f"{number:07}"))


# ---- Bytes, whatever they mean ----


def _flip(data: bytearray, random: Random) -> None:
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _overwrite(data: bytearray, random: Random) -> None:
    at, size = random.randrange(len(data)), random.choice((1, 2, 4, 8, 32))
    fill = random.choice((b"\0" * size, b"\xff" * size, random.randbytes(size)))
    data[at : at + size] = fill[: len(data) - at]


def _put_number(data: bytearray, random: Random) -> None:
    """A length, count or number that is at an edge of its type, of either byte order."""
    form = random.choice((">B", ">H", "<H", ">I", "<I"))
    size = struct.calcsize(form)
    if len(data) >= size:
        at = random.randrange(len(data) - size + 1)
        near = struct.unpack_from(form, data, at)[0] + random.choice((-1, 1))
        value = random.choice((*_ODD, near, len(data), len(data) - at))
        struct.pack_into(form, data, at, value % 256**size)


def _cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def _remove(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.choice((1, 2, 4, 16))]


def _insert(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    data[at:at] = random.randbytes(random.choice((1, 2, 4, 16)))


def _repeat(data: bytearray, random: Random) -> None:
    at, size = random.randrange(len(data)), random.choice((4, 16, 64))
    data[at:at] = data[at : at + size] * random.choice((1, 1, 2, 40))


_BYTES = (_flip, _flip, _overwrite, _put_number, _put_number, _cut, _remove, _insert, _repeat)


def _mutate_bytes(data: bytes, random: Random, times: int = 1) -> bytes:
    changed = bytearray(data)
    for _ in range(times):
        if changed:
            random.choice(_BYTES)(changed, random)
    return bytes(changed)


def _pack(data: bytes, random: Random) -> bytes:
    """A gzip file, now and then cut, damaged, doubled, or one that unpacks to far more."""
    how = random.randrange(40)
    if how == 0:
        data += bytes(3 << 20)
    packed = gzip.compress(data, 1, mtime=0)
    if how < 12:
        return _mutate_bytes(packed, random)
    return packed + (packed if how == 12 else b"\0" * 9 if how == 13 else b"")


# ---- Captures: frames, then records, then files ----


@dataclass
class _Capture:
    """Frames with their times, and how the file is written."""

    link: int
    frames: list[tuple[float, bytes]]
    wire: dict[int, int] = field(default_factory=dict)  # frames said to have been longer


@cache
def _captures() -> tuple[_Capture, ...]:
    found = []
    for path in sorted(SEEDS.glob("*.pcap")):
        data, frames, at = path.read_bytes(), [], 24
        (link,) = struct.unpack_from("<I", data, 20)
        while at < len(data):
            s, us, size, _ = struct.unpack_from("<IIII", data, at)
            frames.append((s + us / 1e6, data[at + 16 : at + 16 + size]))
            at += 16 + size
        found.append(_Capture(link, frames))
    return tuple(found)


def _take(random: Random) -> _Capture:
    """Some frames in a row of one seed: a conversation from its start or from its middle."""
    seed = random.choice(_captures())
    n = len(seed.frames)
    first = random.choice((0, random.randrange(n)))
    return _Capture(seed.link, seed.frames[first : first + random.choice((1, 3, 8, 16, 30))])


def _ip4(body: bytes, proto: int) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body) & 0xFFFF, 7, 0, 64, proto, 0)
    return head + b"\x0a\x09\0\1\x0a\x09\0\2" + body


def _udp(body: bytes, port: int) -> bytes:
    return _ip4(struct.pack(">HHHH", 33333, port, 8 + len(body) & 0xFFFF, 0) + body, 17)


_MACS = b"\2\0\0\0\0\xbb\2\0\0\0\0\xaa"
# An Ethernet frame in an Ethernet frame.
_TUNNELS: tuple[Callable[[bytes], bytes], ...] = (
    lambda frame: frame[:12] + b"\x81\0\0\5" + frame[12:],
    lambda frame: frame[:12] + b"\x88\xa8\0\5\x81\0\0\6" + frame[12:],
    lambda frame: _MACS + b"\x88\x47\0\6\x41\x40" + bytes(4) + frame,
    lambda frame: _MACS + b"\x88\xe7" + bytes(4) + frame,
    lambda frame: _MACS + b"\x89\x2f\x10\x34\0\7" + frame[12:],
    lambda frame: _MACS + b"\x08\0" + _ip4(b"\0\0\x65\x58" + frame, 47),
    lambda frame: _MACS + b"\x08\0" + _ip4(b"\x10\0\x88\xbe\0\0\0\7\x10" + bytes(7) + frame, 47),
    lambda frame: _MACS + b"\x08\0" + _ip4(b"\x10\0\x22\xeb\0\0\0\7" + bytes(12) + frame, 47),
    lambda frame: _MACS + b"\x08\0" + _ip4(frame[14:], 4),
    lambda frame: _MACS + b"\x08\0" + _ip4(b"\x30\0" + frame, 97),
    lambda frame: _MACS + b"\x08\0" + _udp(b"\x08\0\0\0\0\0\x2a\0" + frame, 4789),
    lambda frame: _MACS + b"\x08\0" + _udp(b"\0\0\x65\x58\0\0\x2a\0" + frame, 6081),
    lambda frame: _MACS + b"\x88\x64\x11\0\0\7" + struct.pack(">H", len(frame) - 12 & 0xFFFF)
    + b"\0\x21" + frame[14:],
)  # fmt: skip


def _nest(capture: _Capture, random: Random) -> None:
    """Some frames inside a few tunnels: a lying length may come before or after."""
    if capture.link != 1:
        return
    way = [random.choice(_TUNNELS) for _ in range(random.choice((1, 1, 2, 3, 5, 9, 12)))]
    share = random.choice((0.3, 1.0))
    for i, (ts, frame) in enumerate(capture.frames):
        if random.random() < share:
            for tunnel in way:
                frame = tunnel(frame)
            capture.frames[i] = ts, frame


def _change_frames(capture: _Capture, random: Random) -> None:
    for i in range(len(capture.frames)):
        if random.random() < 0.4:
            ts, frame = capture.frames[i]
            capture.frames[i] = ts, _mutate_bytes(frame, random, random.choice((1, 1, 2, 5)))


def _lie_inside(capture: _Capture, random: Random) -> None:
    """Numbers behind the headers: the lengths and counts of application protocols."""
    for i, (ts, frame) in enumerate(capture.frames):
        if len(frame) > 58 and random.random() < 0.5:
            body = bytearray(frame[54:])
            _put_number(body, random)
            capture.frames[i] = ts, frame[:54] + bytes(body)


def _lie_in_headers(capture: _Capture, random: Random) -> None:
    for i, (ts, frame) in enumerate(capture.frames):
        if len(frame) > 20 and random.random() < 0.5:
            head = bytearray(frame[12:54])
            random.choice((_put_number, _flip))(head, random)
            capture.frames[i] = ts, frame[:12] + bytes(head) + frame[54:]


def _swap_content(capture: _Capture, random: Random) -> None:
    """Another protocol's messages on this one's port and connection."""
    other = _take(random).frames
    for i, (ts, frame) in enumerate(capture.frames):
        if len(frame) > 54 and random.random() < 0.5:
            _, foreign = random.choice(other)
            capture.frames[i] = ts, frame[:54] + foreign[54:][: random.choice((9, 60, 2000))]


def _move_records(capture: _Capture, random: Random) -> None:
    """Frames lost, doubled, in another order, or of another capture."""
    frames = capture.frames
    for _ in range(random.choice((1, 2, 6))):
        at = random.randrange(len(frames))
        how = random.randrange(5)
        if how == 0 and len(frames) > 1:
            del frames[at]
        elif how == 1:
            frames.insert(at, frames[random.randrange(len(frames))])
        elif how == 2:
            random.shuffle(frames)
        elif how == 3:
            frames[at:at] = _take(random).frames[:8]
        else:
            frames += [(ts + 1e-4, frame) for ts, frame in frames[at : at + 6]]


def _move_times(capture: _Capture, random: Random) -> None:
    how = random.randrange(6)
    start = capture.frames[0][0]
    for i, (ts, frame) in enumerate(capture.frames):
        moved = (
            start,
            start + i * random.choice((0.0001, 1.0, 61.0, 301.0)),
            ts - random.choice((0, 0, 0, 3600.0, 5.0)),
            ts + (random.choice((1e6, 86400.0 * 365, 2.4e9)) if random.random() < 0.1 else 0),
            0.0 if random.random() < 0.1 else ts,
            random.uniform(0, 2**32 - 1) if random.random() < 0.1 else ts,
        )[how]
        capture.frames[i] = min(max(moved, 0.0), 2**32 - 1), frame


def _shorten(capture: _Capture, random: Random) -> None:
    """A snap length: what the wire held was longer."""
    limit = random.choice((0, 1, 14, 20, 34, 40, 54, 60, 68, 96))
    for i, (ts, frame) in enumerate(capture.frames):
        capture.wire[i] = random.choice((len(frame), len(frame), 65535, 2**32 - 1, 0))
        capture.frames[i] = ts, frame[:limit]


def _change_link(capture: _Capture, random: Random) -> None:
    capture.link = random.choice(_LINKS)


_CAPTURES = (
    _change_frames, _change_frames, _lie_inside, _lie_inside, _lie_in_headers, _lie_in_headers, _swap_content,
    _move_records, _move_records, _move_times, _nest, _nest, _shorten, _change_link,
)  # fmt: skip


def mutate_capture(random: Random, name: str) -> dict[str, bytes]:
    """A pcap or pcapng of a few frames, packed now and then."""
    capture = _take(random)
    for _ in range(random.choice((1, 1, 2, 3))):
        random.choice(_CAPTURES)(capture, random)
    write = _write_pcapng if random.random() < 0.15 else _write_pcap
    data = write(capture, random)
    if random.random() < 0.15:
        data = data[:24] + _mutate_bytes(data[24:], random)
    if random.random() < 0.02:
        data = _mutate_bytes(data, random)
    return {f"{name}.pcap": _pack(data, random) if random.random() < 0.05 else data}


def _write_pcap(capture: _Capture, random: Random) -> bytes:
    order, nano = random.choice("<<<>"), random.random() < 0.1
    per_s, magic = (10**9, 0xA1B23C4D) if nano else (10**6, 0xA1B2C3D4)
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, capture.link)]
    for i, (ts, frame) in enumerate(capture.frames):
        s, part = divmod(round(ts * per_s), per_s)
        wire = max(capture.wire.get(i, 0), len(frame))
        out += [struct.pack(order + "IIII", s % 2**32, part, len(frame), wire), frame]
    return b"".join(out)


def _write_pcapng(capture: _Capture, random: Random) -> bytes:
    order = random.choice("<>")

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = struct.pack(order + "I", 12 + len(body))
        return struct.pack(order + "I", kind) + size + body + size

    options = random.choice(
        (b"", struct.pack(order + "HHB3xHH", 9, 1, random.choice((3, 6, 9, 0x8A, 63, 255)), 0, 0))
    )
    out = [block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))]
    out.append(block(1, struct.pack(order + "HHI", capture.link, 0, 262144) + options))
    for i, (ts, frame) in enumerate(capture.frames):
        ticks, wire = round(ts * 1e6), max(capture.wire.get(i, 0), len(frame))
        owner = 0 if random.random() < 0.98 else random.choice((1, 2**32 - 1))
        head = struct.pack(order + "IIIII", owner, ticks >> 32, ticks % 2**32, len(frame), wire)
        simple = random.random() < 0.03
        out.append(
            block(3, struct.pack(order + "I", wire) + frame) if simple else block(6, head + frame)
        )
    return b"".join(out)


# ---- Text: Zeek's logs, logs of devices, readings ----

_CELLS = (
    "", "-", "(empty)", "0", "-1", "nan", "inf", "-inf", "1e308", "1e999", "99999999999999999999", "2147483648",
    "65536", "4294967296", "0x1F", "0xffffffffffff", "1795700000", "253402300799", "1e-9", "T", "true", "\0",
    "a\0b", "\ufffd", "\x1b[2J", '"', "'; --", "::1", "::ffff:1.2.3.4", "999.1.1.1", "fe80::1%eth0", "10.0.0.1",
    "SF", "ShADadFf", "^" * 30, "T" * 40, "\u202e", "\U0001f525", "1,2", "1.5,2", ",", "x" * 5000, "\r", "\n", "\t",
    ";", "2026-11-26T14:32:08Z", "26.11.2026 14:32", "9999-99-99 99:99:99", "<999>", "<191>1 ", "Feb 30 25:61:61 ",
)  # fmt: skip


def _change_lines(text: str, random: Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    for _ in range(random.choice((1, 1, 3, 8))):
        at, how = random.randrange(len(lines)), random.randrange(8)
        if how == 0 and len(lines) > 1:
            del lines[at]
        elif how == 1:
            lines.insert(at, lines[random.randrange(len(lines))])
        elif how == 2:
            random.shuffle(lines)
        elif how == 3:
            lines[at] = lines[at][: random.randrange(len(lines[at]) + 1)]
        elif how == 4:
            lines[at] = lines[at].rstrip("\n")
        elif how == 5:
            place = random.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + random.choice(_CELLS) + lines[at][place:]
        else:
            mark = random.choice("\t,; :")
            cells = lines[at].rstrip("\n").split(mark)
            cells[random.randrange(len(cells))] = random.choice(_CELLS)
            if how == 7:
                random.shuffle(cells)
            lines[at] = mark.join(cells) + "\n"
    return "".join(lines)


def _write_text(text: str, random: Random) -> bytes:
    """Bytes of a text: damaged, packed, of another encoding, most often as it is."""
    how = random.randrange(20)
    forms = ("utf-16", "latin-1", "utf-8-sig", "utf-32")
    data = text.encode(forms[how] if how < len(forms) else "utf-8", "replace")
    if how in (4, 5, 6):
        data = _mutate_bytes(data, random, random.choice((1, 3)))
    if how == 7:
        data = data.replace(b"\n", b"\r\n")
    return _pack(data, random) if how in (8, 9) else data


@cache
def _logs() -> dict[str, list[dict[str, str]]]:
    return json.loads((SEEDS / "zeek.json").read_text())


def mutate_zeek(random: Random, name: str) -> dict[str, bytes]:
    """A conn.log and a few logs beside it, each in one of the forms that logs are written in."""
    others = sorted(set(_logs()) - {"conn"})
    names = ["conn", *random.sample(others, random.choice((0, 1, 2, 4)))]
    hurt = {random.choice(names) for _ in range(random.choice((1, 2)))}
    return {f"{log}.{name}.log": _write_log(log, random, log in hurt) for log in names}


def _write_log(log: str, random: Random, hurt: bool) -> bytes:
    rows = [dict(row) for row in _logs()[log]]
    rows = random.sample(rows, random.randint(1, len(rows))) if random.random() < 0.5 else rows
    if hurt:
        for _ in range(random.choice((0, 1, 3, 9))):
            _change_row(rows, random)
    form = random.randrange(8)
    if form == 0:
        return _write_parquet(rows, random)
    if form in (1, 2):
        text = "".join(json.dumps(_as_json(row, random)) + "\n" for row in rows)
    else:
        text = _as_tsv(rows, log, random)
    return _write_text(_change_lines(text, random), random) if hurt else text.encode()


def _change_row(rows: list[dict[str, str]], random: Random) -> None:
    row = random.choice(rows)
    column, how = random.choice([*row, "new"]), random.randrange(6)
    if how == 0:
        row.pop(column, None)
    elif how == 1:
        for one in rows:
            one.pop(column, None)
    elif how == 2:
        row[column] = str(random.choice(list(row.values()) or [""]))
    elif how == 3:
        for one in rows:
            one[column] = random.choice(_CELLS)
    else:
        row[column] = random.choice(_CELLS)


def _as_tsv(rows: list[dict[str, str]], log: str, random: Random) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if random.random() < 0.1:
        random.shuffle(columns)
    head = [
        "#separator \\x09",
        "#set_separator\t,",
        "#empty_field\t(empty)",
        "#unset_field\t-",
        f"#path\t{log}",
    ]
    head.append("\t".join(["#fields", *columns]))
    body = ["\t".join(row.get(column, "-") for column in columns) for row in rows]
    return "\n".join([*head, *body, "#close\t2026-11-26-14-32-08"]) + "\n"


def _as_json(row: dict[str, str], random: Random) -> dict[str, object]:
    """Numbers as numbers, sets as lists; now and then what no log holds."""
    entry: dict[str, object] = {}
    for column, value in row.items():
        number = value.replace(".", "", 1).isdigit() and len(value) < 25 and value.isascii()
        entry[column] = float(value) if number else value
        if random.random() < 0.01:
            entry[column] = random.choice(
                (None, True, [], ["a", 1], {"a": {"b": []}}, 10**30, -1.5, [[[]]])
            )
    return entry


def _write_parquet(rows: list[dict[str, str]], random: Random) -> bytes:
    table = pd.DataFrame(rows)
    for column in table:
        if random.random() < 0.5:
            numbers = pd.to_numeric(table[column], errors="coerce")
            table[column] = numbers if random.random() < 0.9 else numbers > 0
    if "ts" in table and random.random() < 0.3:
        table["ts"] = pd.to_datetime(
            pd.to_numeric(table["ts"], errors="coerce"), unit="s", errors="coerce"
        )
    out = io.BytesIO()
    table.to_parquet(out, index=False)
    data = out.getvalue()
    return _mutate_bytes(data, random) if random.random() < 0.3 else data


def mutate_device_log(random: Random, name: str) -> dict[str, bytes]:
    """What a device wrote of itself: lines of many forms, or a journal."""
    file = random.choice(("devices.log", "devices.log", "devices.journal"))
    text = (SEEDS / file).read_text()
    lines = text.splitlines(keepends=True)
    if file.endswith("log") and random.random() < 0.6:
        text = "".join(random.choices(lines, k=random.choice((1, 3, 20, 60))))
    return {f"{name}.log": _write_text(_change_lines(text, random), random)}


def mutate_readings(random: Random, name: str) -> dict[str, bytes]:
    """A table of a sensor's readings."""
    path = random.choice(sorted(SEEDS.glob("readings-*.csv")))
    return {f"{name}.csv": _write_text(_change_lines(path.read_text(), random), random)}
