import datetime
import struct
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from frames import SERVER, Frame, arp_packet, client, ethernet, read, server, tcp_packet
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.identities import SOURCES, SURE, choose_identities, clean_text
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


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">H", kind << 9 | len(value)) + value


def test_a_neighbour_is_known_by_its_chassis(tmp_path):
    chassis = _tlv(1, b"\4" + SIEMENS)
    frame = chassis + _tlv(2, b"\7p1") + _tlv(5, b"switch-1") + _tlv(6, b"SCALANCE X208") + b"\0\0"
    managed = chassis + _tlv(8, b"\5\1\x0a\0\0\7\2\0\0\0\1\0") + _tlv(5, b"rtr") + b"\0\0"
    frames = [(1.0, ethernet(frame, 0x88CC)), (2.0, ethernet(managed, 0x88CC))]
    capture = read(tmp_path, frames)
    assert _told(capture.identities) == [
        ["00:1b:1b:00:00:01", -1, "name", "switch-1", "LLDP", "medium"],
        ["00:1b:1b:00:00:01", -1, "model", "SCALANCE X208", "LLDP", "medium"],
        ["10.0.0.7", -1, "name", "rtr", "LLDP", "medium"],
    ]
    assert capture.exchanges[
        ["client", "protocol", "kind", "outcome", "frame"]
    ].values.tolist() == [
        ["02:00:00:00:00:0a", "lldp", "identify", "told", number] for number in (1, 2)
    ]


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    oid = x509.NameOID
    subject = x509.Name(
        [
            x509.NameAttribute(oid.COUNTRY_NAME, "DE"),
            x509.NameAttribute(oid.ORGANIZATION_NAME, "WAGO GmbH"),
            x509.NameAttribute(oid.COMMON_NAME, "pfc200-42"),
        ]
    )
    issuer = x509.Name([x509.NameAttribute(oid.COMMON_NAME, "nobody")])
    day = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder(
        issuer, subject, key.public_key(), 7, day, day.replace(year=2034)
    )
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _sized(body: bytes) -> bytes:
    return len(body).to_bytes(3) + body


def test_a_certificate_names_its_owner_not_its_issuer(tmp_path):
    handshake = b"\2" + _sized(bytes(70)) + b"\x0b" + _sized(_sized(_sized(_certificate())))
    cut = len(handshake) // 2  # over two records, and these over two segments
    sent = b"".join(
        b"\x16\3\3" + struct.pack(">H", len(part)) + part
        for part in (handshake[:cut], handshake[cut:])
    )
    frames = [
        client(1000.0, "S", 0, dport=8443),
        client(1000.1, "PA", 1, b"\x16\3\1\0\5\1\0\0\1\0", dport=8443),
        server(1000.2, "PA", 1, sent[:100], port=8443),
        server(1000.3, "PA", 101, sent[100:], port=8443),
    ]
    assert _told(read(tmp_path, frames).identities) == [
        [SERVER, -1, "make", "WAGO GmbH", "TLS certificate", "low"],
        [SERVER, -1, "name", "pfc200-42", "TLS certificate", "low"],
    ]


HTTP_ANSWER = b'HTTP/1.1 401 No\r\nServer: GoAhead-Webs\r\nWWW-Authenticate: Basic realm="NPort 5110"\r\n\r\nServer: no'


@pytest.mark.parametrize(
    ("port", "asked", "answer", "values"),
    [
        (80, b"GET / HTTP/1.1\r\n\r\n", HTTP_ANSWER, ["GoAhead-Webs", "NPort 5110"]),
        (22, b"SSH-2.0-PuTTY\r\n", b"SSH-2.0-dropbear_2019.78\r\n", ["dropbear_2019.78"]),
        (
            23,
            b"\xff\xfb\x18",
            b"\xff\xfd\x18\xff\xfa\x18\x01\xff\xf0\r\n i.LON router\r\nlogin:",
            ["i.LON router"],
        ),
        (21, b"USER a\r\n", b"220 VxWorks FTP server\r\n", ["VxWorks FTP server"]),
        (21, b"USER a\r\n", b"220 ", []),
    ],
)
def test_banners(tmp_path, port, asked, answer, values):
    frames = [client(1.0, "S", 0, dport=port), client(1.1, "PA", 1, asked, dport=port)]
    frames.append(server(1.2, "PA", 1, answer, port=port))
    assert [row[3] for row in _told(read(tmp_path, frames).identities)] == values


@given(
    st.sampled_from([21, 22, 23, 80, 443, 502]),
    st.sampled_from([b"", b"\x16\3\3", b"HTTP/", b"\2\1\6"]),
    st.binary(max_size=300),
)
@settings(max_examples=60, deadline=None)
def test_law_no_bytes_break_the_readers_of_identities(port, start, data):
    with tempfile.TemporaryDirectory() as folder:
        frames = [
            client(1.0, "PA", 1, b"GET \x16\3", dport=port),
            (1.1, ethernet(start + data + b"\1\0", 0x88CC)),
        ]
        frames += [server(1.2, "PA", 1, start + b"\2\0\0\0" + data, port=port)]
        told = read(Path(folder), frames).identities
    assert told["value"].str.len().le(80).all()
    assert all(value.isprintable() for value in told["value"])
