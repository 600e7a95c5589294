"""Identity: what a device says of its make, model and firmware, with the source and how sure it is.

Every value is text from outside: escaped, cut, and never an instruction to anybody.
"""

from dataclasses import dataclass

import pandas as pd

SURE = ("low", "medium", "high")
_LONGEST = 80


@dataclass(frozen=True)
class Source:
    """Where an identity comes from: ``sure`` (of SURE) and why."""

    sure: str
    why: str


SOURCES = {
    "Modbus 43/14": Source("high", "its own identification, read by a client"),
    "Modbus 17": Source("medium", "free text that its maker chose"),
    "S7 SZL": Source("high", "its own identification, read by a client"),
    "MMS identify": Source("high", "its own identification, read by a client"),
    "SMB": Source("medium", "what its system calls itself when somebody logs in"),
    "CIP identity": Source("high", "its identity object"),
    "BACnet I-Am": Source("high", "announced by itself"),
    "BACnet device object": Source("high", "its device object, read by a client"),
    "PROFINET DCP": Source("high", "its own identification, asked for by a controller"),
    "DNP3 attributes": Source("high", "its device attributes, read by a master"),
    "HART identity": Source("high", "its own identification, read by a client"),
    "C37.118": Source("high", "its configuration, read by a client"),
    "MELSEC CPU model": Source("high", "its own identification, read by a client"),
    "OPC UA": Source("high", "its own description, read by a client"),
    "OPC UA certificate": Source(
        "low", "whom its certificate was made for, which may be a default"
    ),
    "LLDP": Source("medium", "announced to its neighbours in free text"),
    "DHCP": Source("medium", "what its system calls itself when it asks for an address"),
    "TLS certificate": Source("low", "whom its certificate was made for, which may be a default"),
    "HTTP banner": Source("low", "the name of a program, which may be set to anything"),
    "SSH banner": Source("low", "the name of a program, which may be set to anything"),
    "FTP banner": Source("low", "the greeting of a program, which may be set to anything"),
    "Telnet banner": Source("low", "the greeting of a program, which may be set to anything"),
    "OUI": Source("medium", "who made its network interface, by the first bytes of its MAC"),
}
_TYPES = {
    "device": "str", "unit": "int64", "field": "str", "value": "str", "source": "str",
    "sure": "str", "frame": "int64",
}  # fmt: skip


def empty_identities() -> pd.DataFrame:
    """Identities of a capture in which no device says what it is.

    One row per device, field, value and source. Columns: ``device`` (address; the MAC of one that
    has none); ``unit`` (which device behind that address, -1 for itself); ``field``: make,
    model, order number, serial, firmware, software or name, as inventories of plants ask (IEC 62443-2-1);
    ``value`` (text from outside, at most 80 characters, without control characters); ``source`` (of
    SOURCES) and how ``sure`` it is (of SURE); ``frame`` (the first that says so; 0 for none).
    """
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _TYPES.items()})


def make_identities(rows: pd.DataFrame) -> pd.DataFrame:
    """The table of a capture from what was found, each value once, its first frame kept.

    Args:
        rows: ``device unit field value source frame``, in the order of time.
    """
    if rows.empty:
        return empty_identities()
    rows = rows.assign(value=[clean_text(value) for value in rows["value"]])
    rows = rows[(rows["value"] != "") & (rows["device"] != "")]
    rows = rows.drop_duplicates(["device", "unit", "field", "value", "source"])
    rows = rows.assign(sure=[SOURCES[source].sure for source in rows["source"]])
    return rows[list(_TYPES)].astype(_TYPES).reset_index(drop=True)


def clean_text(text: str | bytes) -> str:
    """One line of printable text, at most 80 characters.

    >>> clean_text(" CPU 315-2\\x00\\x00"), clean_text("a\\nb\\x1b[2J")
    ('CPU 315-2', 'a\\\\x0ab\\\\x1b[2J')
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="backslashreplace")
    text = text.strip(" \0\t\r\n")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def choose_identities(identities: pd.DataFrame) -> pd.DataFrame:
    """The surest value of each field of each device itself, of equals the one seen first."""
    own = identities[identities["unit"] < 0]
    rank = own["sure"].map({sure: -i for i, sure in enumerate(SURE)})
    order = rank.sort_values(kind="stable").index
    return own.loc[order].drop_duplicates(["device", "field"]).sort_index()
