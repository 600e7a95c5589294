"""What a write command writes and where: the bytes of a request as points and values.

Reading a capture keeps the bytes alone (``data_at`` of ``make_rows``), each once; what they mean is
read here when somebody asks:

    06 004d 0794                        register 77 = 1940
    0501 120a 10 05 0001 0005 84 000060 DB5.DBB12 = 1200
    2d 01 06 00 0100 4d0000 01          object 77 = on
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

DATA_BYTES = 80  # of a write command that are kept


@dataclass(frozen=True)
class Point:
    """One value that a request writes.

    Attributes:
        place: what it is written to, as the protocol's engineers write it: "register 77".
        number: by which people ask for it, 77; -1 for none.
        value: what is written, "1940", "on"; "" where it was not kept.
    """

    place: str
    number: int
    value: str


# The points of a request by its bytes; empty where it writes nothing by itself, as a selection does,
# None where that is not understood.
ReadPoints = Callable[[bytes], list[Point] | None]


def read_no_points(data: bytes) -> list[Point] | None:  # noqa: ARG001
    """Of a protocol whose values are not read."""
    return None


def _show_float(value: float) -> str:
    """The digits that a number of 32 bits has."""
    return f"{value:.7g}"


# ---- Modbus (Application Protocol 1.1b3, 6.5 to 6.17): from the function on ----

READ_COILS, READ_REGISTERS = 1, 3
COIL, REGISTER, COILS, REGISTERS, MASK, READ_WRITE = 5, 6, 15, 16, 22, 23
MODBUS_VALUED = (COIL, REGISTER, COILS, REGISTERS, MASK, READ_WRITE)
_MOST_WRITTEN = {COILS: 1968, REGISTERS: 123, READ_WRITE: 121}
_SWITCHED = {b"\xff\0": "on", b"\0\0": "off"}


def read_modbus(data: bytes) -> list[Point] | None:
    """Coils and registers with what is written to them.

    >>> read_modbus(bytes.fromhex("06004d0794"))
    [Point(place='register 77', number=77, value='1940')]
    >>> [(one.place, one.value) for one in read_modbus(bytes.fromhex("0f0013000a02cd01"))][:3]
    [('coil 19', 'on'), ('coil 20', 'off'), ('coil 21', 'on')]
    """
    if data[0] in (READ_COILS, READ_REGISTERS):  # what reads found: places and values
        pairs = [struct.unpack_from(">HH", data, at) for at in range(1, len(data), 4)]
        space = "coil" if data[0] == READ_COILS else "register"
        names = ("off", "on")
        return [
            Point(f"{space} {place}", place, names[value] if space == "coil" else str(value))
            for place, value in pairs
        ]
    function, at = data[0], 5 if data[0] == READ_WRITE else 1
    address, rest = int.from_bytes(data[at : at + 2]), data[at + 2 :]
    if function == COIL:
        return _place([_SWITCHED.get(rest[:2], f"0x{rest[:2].hex().upper()}")], "coil", address)
    if function == REGISTER:
        return _place([str(int.from_bytes(rest[:2]))], "register", address)
    if function == MASK:
        masks = f"AND 0x{rest[:2].hex().upper()} OR 0x{rest[2:4].hex().upper()}"
        return _place([masks if rest[3:] else ""], "register", address)
    count, values = int.from_bytes(rest[:2]), rest[3:]
    if count > _MOST_WRITTEN[function]:
        return None
    if function == COILS:
        bits = [("off", "on")[byte >> bit & 1] for byte in values for bit in range(8)]
        return _place(_fill(bits, count), "coil", address)
    words = [str(int.from_bytes(values[n : n + 2])) for n in range(0, len(values) - 1, 2)]
    return _place(_fill(words, count), "register", address)


def _fill(values: list[str], count: int) -> list[str]:
    """As many values as were announced, "" for those that were not kept."""
    return [*values[:count], *[""] * (count - len(values))]


def _place(values: list[str], space: str, first: int) -> list[Point]:
    return [Point(f"{space} {first + n}", first + n, value) for n, value in enumerate(values)]


def pack_modbus(function: int, address: int, values: list[int]) -> bytes:
    """The bytes of a plain write of coils or registers, as ``read_modbus`` takes them.

    >>> pack_modbus(6, 77, [1940]).hex(), pack_modbus(15, 19, [1, 0, 1]).hex()
    ('06004d0794', '0f001300030105')
    """
    head = bytes([function]) + address.to_bytes(2)
    if function == COIL:
        return head + (0xFF00 if values[0] else 0).to_bytes(2)
    if function == REGISTER:
        return head + values[0].to_bytes(2)
    data = b"".join(value.to_bytes(2) for value in values)
    if function == COILS:
        bits = sum(bool(value) << n for n, value in enumerate(values))
        data = bits.to_bytes(-(-len(values) // 8), "little")
    return (head + len(values).to_bytes(2) + bytes([len(data) & 255]) + data)[:DATA_BYTES]


# ---- S7comm: from the function on, the items, then their data ----

_ITEM = b"\x12\x0a\x10"  # an address of ten bytes, by area and place
_IN_BITS = (3, 4, 5)  # kinds of data whose length is in bits
_FORMS = {2: "B", 4: "H", 5: "h", 6: "I", 7: "i", 8: "f"}  # BYTE, WORD, INT, DWORD, DINT, REAL


def read_s7comm(data: bytes, name: Callable[[int], str]) -> list[Point] | None:
    """Variables with what a job writes to them.

    Args:
        data: of a job.
        name: a place by its number, area, block and address.

    >>> read_s7comm(bytes.fromhex("0501120a100500010005840000600004001004b0"), hex)
    [Point(place='0x840005000060', number=-1, value='1200')]
    """
    count, points = data[1] if len(data) > 1 else 0, list[Point]()
    at = 2 + 12 * count
    for item in range(count):
        head, held = data[2 + 12 * item : 14 + 12 * item], data[at : at + 4]
        if head[:3] != _ITEM or len(head) < 12:
            return points or None
        size = int.from_bytes(held[2:])
        size = (size + 7) // 8 if held[1:2] and held[1] in _IN_BITS else size
        block, area, address = head[6:8], head[8:9], head[9:]
        place = name(int.from_bytes(area + block + address))
        value = data[at + 4 : at + 4 + size] if len(held) == 4 else b""
        shown = _show_s7(head[3], int.from_bytes(head[4:6]), value) if len(value) == size else ""
        points.append(Point(place, -1, shown))
        at += 4 + size + size % 2
    return points


def _show_s7(kind: int, elements: int, value: bytes) -> str:
    """A value by its transport size; what is no one number as its bytes."""
    form = _FORMS.get(kind, "")
    if not value:
        return ""
    if kind == 1 and elements == 1:
        return "on" if value[0] & 1 else "off"
    if elements == 1 and form and struct.calcsize(form) == len(value):
        (number,) = struct.unpack(f">{form}", value)
        return _show_float(number) if form == "f" else str(number)
    return f"0x{value.hex().upper()}"


# ---- IEC 60870-5-104: from the type on (-101, 7.2.6 and 7.3.2) ----

_ACTIVATE = 6
_NORMALIZED = (48, 61, 110)
IEC104_VALUED = {
    **dict.fromkeys((45, 46, 47, 58, 59, 60), "B"), **dict.fromkeys((48, 49, 61, 62, 110, 111), "h"),
    **dict.fromkeys((50, 63, 112), "f"), **dict.fromkeys((51, 64), "I"),
}  # fmt: skip
_SINGLE, _DOUBLE, _STEP = (
    {0: "off", 1: "on", 2: "off", 3: "on"},
    {1: "off", 2: "on"},
    {1: "lower", 2: "higher"},
)
_COMMANDED = {45: _SINGLE, 58: _SINGLE, 46: _DOUBLE, 59: _DOUBLE, 47: _STEP, 60: _STEP}


def read_iec104(data: bytes) -> list[Point] | None:
    """The object that a command sets, and to what; none where it only selects or takes that back.

    >>> read_iec104(bytes.fromhex("2d010600010" "04d000001"))
    [Point(place='object 77', number=77, value='on')]
    >>> read_iec104(bytes.fromhex("2d010600010" "04d000081"))
    []
    """
    kind, cause, address = data[0], data[2] & 63, int.from_bytes(data[6:9], "little")
    form = IEC104_VALUED[kind]
    size = struct.calcsize(form)
    held = data[9 : 9 + size]
    # The bit "select" is in the byte of a command itself, or in the one after a set point.
    qualifier = data[9:10] if kind in _COMMANDED else data[9 + size : 10 + size]
    if kind not in (51, 64, 110, 111, 112) and (qualifier and qualifier[0] & 0x80):
        return []
    if cause != _ACTIVATE:
        return []
    value = ""
    if len(held) == size:
        (number,) = struct.unpack(f"<{form}", held)
        if kind in _COMMANDED:
            value = _COMMANDED[kind].get(number & 3, "")
        elif form == "I":
            value = f"0x{number:08X}"
        else:
            scaled = number / 32768 if kind in _NORMALIZED else number
            value = _show_float(scaled) if form == "f" or kind in _NORMALIZED else str(number)
    return [Point(f"object {address}", address, value)]


# ---- DNP3: from the first block of the user's data on (IEEE 1815, A.8.1 and A.21) ----

_SELECT, _OPERATES = 3, (4, 5, 6)
DNP3_VALUED = (_SELECT, *_OPERATES)
_BINARY, _ANALOG = 12, 41
_WIDTHS = {0x17: 1, 0x28: 2}  # bytes of count and index by qualifier
_OUTPUTS = {
    (_BINARY, 1): "B", (_ANALOG, 1): "i", (_ANALOG, 2): "h", (_ANALOG, 3): "f", (_ANALOG, 4): "d",
}  # fmt: skip
_CONTROL_BYTES = 11
_OPERATIONS = {0: "nothing", 1: "pulse on", 2: "pulse off", 3: "latch on", 4: "latch off"}


def read_dnp3(data: bytes) -> list[Point] | None:
    """Outputs with what a command does to them; a selection operates nothing yet.

    >>> read_dnp3(bytes.fromhex("c0c1052902280100030014000" "0"))
    [Point(place='analog output 3', number=3, value='20')]
    """
    user = b"".join(data[at : at + 16] for at in range(0, len(data), 18))  # without checksums
    if len(user) < 8:
        return None
    group, width = user[3], _WIDTHS.get(user[5])
    form = _OUTPUTS.get((group, user[4]))
    if form is None or width is None:
        return None
    if user[2] == _SELECT:
        return []
    word = "binary" if group == _BINARY else "analog"
    size = _CONTROL_BYTES if group == _BINARY else struct.calcsize(form) + 1  # with the status
    at, points = 6 + width, list[Point]()
    for _ in range(int.from_bytes(user[6 : 6 + width], "little")):
        held = user[at : at + width + struct.calcsize(form)]
        if len(held) < width + struct.calcsize(form):
            break  # the rest was not kept
        index = int.from_bytes(held[:width], "little")
        (number,) = struct.unpack_from(f"<{form}", held, width)
        value = _show_float(number) if form in "fd" else str(number)
        value = _name_operation(number) if group == _BINARY else value
        points.append(Point(f"{word} output {index}", index, value))
        at += width + size
    return points or None


def _name_operation(control: int) -> str:
    """A control code in words: what is done, and whether it closes or trips."""
    what = _OPERATIONS.get(control & 15, f"0x{control:02X}")
    return what + {1: " (close)", 2: " (trip)"}.get(control >> 6, "")


# ---- BACnet WriteProperty: from its parameters on (ANSI/ASHRAE 135, 15.9) ----

_PRESENT_VALUE = 85


def read_bacnet(
    data: bytes,
    name: Callable[[int], str],
    walk: Callable[[bytes], Iterator[tuple[int, bool, bytes]]],
) -> list[Point] | None:
    """The property of an object that is written.

    Args:
        data: of a request to write one property.
        name: an object by its number.
        walk: the tags of some bytes: number, whether of the context, content.
    """
    tags = list(walk(data))
    context = {number: content for number, of_context, content in tags if of_context}
    said = [(number, content) for number, of_context, content in tags if not of_context]
    if len(context.get(0, b"")) != 4 or not context.get(1):
        return None
    target, written = int.from_bytes(context[0]), int.from_bytes(context[1])
    place = name(target) + ("" if written == _PRESENT_VALUE else f" property {written}")
    place += f"[{int.from_bytes(context[2])}]" if 2 in context else ""
    value = _show_bacnet(*said[0]) if len(said) == 1 else ""
    return [Point(place, target & 0x3FFFFF, value)]


def _show_bacnet(kind: int, content: bytes) -> str:
    """A value by its application tag (20.2.1.4); "" for texts and what is no number."""
    if kind == 0:
        return "null (released)"
    if kind in (2, 9) and content:
        return str(int.from_bytes(content))
    if kind == 3 and content:
        return str(int.from_bytes(content, signed=True))
    if kind in (4, 5) and len(content) == (4 if kind == 4 else 8):
        return _show_float(struct.unpack(">f" if kind == 4 else ">d", content)[0])
    return ""


# ---- CIP write tag (Rockwell 1756-PM020): from the tag's path on ----

_SEGMENTS = {0x28: 2, 0x29: 4, 0x2A: 6}  # bytes of an index by its kind
_TYPES = {
    0xC1: "B", 0xC2: "b", 0xC3: "h", 0xC4: "i", 0xC5: "q", 0xC6: "B", 0xC7: "H", 0xC8: "I", 0xC9: "Q",
    0xCA: "f", 0xCB: "d",
}  # fmt: skip
_BOOL = 0xC1


def read_tag(data: bytes, name: Callable[[bytes], str]) -> list[Point] | None:
    """A tag, or elements of one, with what is written.

    Args:
        data: path, type, number of elements, values.
        name: a tag by its path.

    >>> read_tag(b"\\x91\\x05Speed\\0" + bytes.fromhex("c4000100b0040000"), lambda path: "Speed")
    [Point(place='“Speed”', number=-1, value='1200')]
    """
    at = 0
    while at + 1 < len(data) and (data[at] == 0x91 or data[at] in _SEGMENTS):
        size = 2 + data[at + 1] + data[at + 1] % 2
        at += size if data[at] == 0x91 else _SEGMENTS[data[at]]
    form, count = _TYPES.get(data[at]) if at < len(data) else None, data[at + 2 : at + 4]
    if not at or form is None or len(count) < 2:
        return None
    tag, size = name(data[:at]), struct.calcsize(form)
    elements = int.from_bytes(count, "little")
    points = []
    for n in range(min(elements, DATA_BYTES)):
        held = data[at + 4 + n * size : at + 4 + (n + 1) * size]
        value = _show_tag(data[at], form, held) if len(held) == size else ""
        points.append(Point(f"“{tag}”" if elements == 1 else f"“{tag}” element {n}", -1, value))
    return points


def _show_tag(kind: int, form: str, held: bytes) -> str:
    (number,) = struct.unpack(f"<{form}", held)
    if kind == _BOOL:
        return "on" if number else "off"
    return _show_float(number) if form in "fd" else str(number)
