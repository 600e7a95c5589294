import struct

import pandas as pd
import pytest
from frames import SERVER, Frame, arp_packet, client, ethernet, read, server, tcp_packet

from traffic.identities import FIELDS, SOURCES, SURE, choose_identities, clean_text
from traffic.makers import find_maker

SIEMENS, PHOENIX = b"\x00\x1b\x1b\x00\x00\x01", b"\xa8\x74\x1d\x00\x00\x02"


def _told(identities: pd.DataFrame) -> list[list[object]]:
    return identities[["device", "unit", "field", "value", "source", "sure"]].values.tolist()


def _objects(*texts: bytes, unit: int = 255, lie: int = 0) -> bytes:
    body = b"".join(bytes([i, len(text) + lie]) + text for i, text in enumerate(texts))
    body = bytes([unit, 43, 14, 1, 1, 0, 0, len(texts)]) + body
    return struct.pack(">HHH", 7, 0, len(body)) + body


def _asked(answer: bytes) -> list[Frame]:
    request = struct.pack(">HHHBBBBB", 7, 0, 5, 255, 43, 14, 1, 0)
    return [
        client(1000.0, "PA", 1, request, dport=502),
        server(1000.1, "PA", 1, answer, port=502),
        client(1001.0, "PA", 12, request, dport=502),
        server(1001.1, "PA", 1 + len(answer), answer, port=502),
    ]


def test_a_device_names_its_make_order_number_and_firmware(tmp_path):
    answer = _objects(b"Schneider Electric", b"TM221CE40T\0", b"V1.6\x1b[2J")
    told = read(tmp_path, _asked(answer)).identities
    assert _told(told) == [
        [SERVER, -1, "make", "Schneider Electric", "Modbus 43/14", "high"],
        [SERVER, -1, "order number", "TM221CE40T", "Modbus 43/14", "high"],
        [SERVER, -1, "firmware", "V1.6\\x1b[2J", "Modbus 43/14", "high"],
    ]
    assert set(told["frame"]) == {2}  # said again in frame 4


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        (_objects(b"WAGO", unit=7), [7, "WAGO"]),
        (_objects(b"WAGO", lie=1), None),  # an object longer than its message
        (_objects(b"A" * 200), [-1, "A" * 79 + "…"]),
    ],
)
def test_units_lies_and_long_texts(tmp_path, answer, values):
    told = _told(read(tmp_path, _asked(answer)).identities)
    assert [[row[1], row[3]] for row in told] == ([values] if values else [])


def test_the_maker_is_that_of_the_interface_not_of_the_router(tmp_path):
    def packet(ts: float, mac: bytes, src: str, dst: str) -> Frame:
        return ts, ethernet(tcp_packet("PA", 1, b"x", src, dst), src=mac)

    frames = [
        packet(1.0, SIEMENS, "10.0.0.5", "10.0.0.9"),
        # One address outside behind the router's MAC, which owns 10.0.0.1.
        packet(2.0, PHOENIX, "8.8.8.8", "10.0.0.9"),
        (3.0, arp_packet(2, PHOENIX, "10.0.0.1", "10.0.0.9")),
    ]
    told = read(tmp_path, frames).identities
    assert sorted(_told(told)) == [
        ["10.0.0.1", -1, "make", "PHOENIX CONTACT Electronics GmbH", "OUI", "medium"],
        ["10.0.0.5", -1, "make", "Siemens AG", "OUI", "medium"],
    ]
    assert told.set_index("device")["frame"]["10.0.0.1"] == 3


@pytest.mark.parametrize(
    ("mac", "maker"),
    [
        ("28:63:36:12:34:56", "Siemens AG"),
        ("70:b3:d5:c8:70:00", "Siemens AG"),  # 36 bits are assigned
        ("02:00:00:00:00:01", ""),  # given by its owner
        ("ff:ff:ff:ff:ff:ff", ""),
        ("00:00:00:00:00:00", ""),
    ],
)
def test_makers_by_mac(mac, maker):
    assert find_maker(mac) == maker


def test_of_two_sources_the_surer_one_is_chosen():
    rows = [
        ("a", -1, "make", "X", "OUI"),
        ("a", -1, "make", "Y", "CIP identity"),
        ("a", 3, "make", "Z", "OUI"),
    ]
    table = pd.DataFrame(rows, columns=["device", "unit", "field", "value", "source"])
    table["sure"] = [SOURCES[source].sure for source in table["source"]]
    assert choose_identities(table)["value"].tolist() == ["Y"]


def test_forms():
    assert clean_text("\0\x07" + "é" * 90) == "\\x07" + "é" * 75 + "…"
    assert {source.sure for source in SOURCES.values()} == set(SURE)
    assert len(set(FIELDS)) == len(FIELDS)
