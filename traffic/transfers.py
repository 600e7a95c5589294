"""What was fetched or sent over HTTP, as a table: which file, from whom, how large, whole or not.

Names of files and hosts are text from outside, and may be an attacker's words: they are shown to people
in quotation marks, cut to a length, and given to no model.
"""

from urllib.parse import unquote_to_bytes

import pandas as pd

_TYPES = {
    "ts": "float64", "client": "str", "server": "str", "port": "int64", "flow": "int64", "method": "category",
    "file": "str", "host": "str", "mime": "str", "status": "int64", "sent_bytes": "float64", "got_bytes": "float64",
    "declared_bytes": "float64", "whole": "float64", "frame": "int64", "answer_frame": "int64",
}  # fmt: skip
TRANSFER_COLUMNS = list(_TYPES)
METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "CONNECT", "PATCH")
PARTIAL = 206  # the status of a part of a file
_MOST_CHARS = 60


def empty_transfers() -> pd.DataFrame:
    """Transfers of a capture in which no HTTP was read.

    One row per request, by time. Columns: ``ts`` (of the request); ``client server`` ``port`` ``flow`` (-1
    where unknown); ``method`` (of METHODS); ``file`` (the last part of the path, or the name that the
    answer gives; NA for none) ``host`` (as asked for) ``mime`` (NA where unknown); ``status`` (-1: no
    answer was seen); ``sent_bytes got_bytes`` (content of the request, of the answer, as far as it was
    seen); ``declared_bytes`` (what the answer says that it holds, of a part the part; NaN where it says
    nothing); ``whole`` (1 the content came whole, 0 it broke off, NaN where that cannot be told); ``frame
    answer_frame`` (0 for none).
    """
    return make_transfers(pd.DataFrame(columns=TRANSFER_COLUMNS))


def make_transfers(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with these columns, typed, by time."""
    method = pd.Categorical(rows["method"], METHODS)
    table = rows.assign(method=method)[TRANSFER_COLUMNS].astype(_TYPES | {"method": method.dtype})
    return table.sort_values("ts", kind="stable", ignore_index=True)


def join_transfers(*parts: pd.DataFrame) -> pd.DataFrame:
    """Tables of transfers as one, by time."""
    parts = tuple(part for part in parts if len(part))
    if not parts:
        return empty_transfers()
    return make_transfers(pd.concat(parts, ignore_index=True))


def read_file_name(uri: str | bytes) -> str | None:
    """The last part of a path as a person reads it; None where it ends in none.

    >>> read_file_name("/a/b/Setup%20v1.exe?key=7"), read_file_name("/"), read_file_name("/a/?b=c/d")
    ('Setup v1.exe', None, None)
    """
    raw = uri.encode("utf-8", "surrogateescape") if isinstance(uri, str) else uri
    path = raw.partition(b"?")[0].partition(b"#")[0]
    return cut_text(unquote_to_bytes(path.rpartition(b"/")[2]))


def cut_text(raw: bytes | str) -> str | None:
    """Text from outside in one line of printable characters, cut to a length; None for none."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    plain = "".join(
        c if c.isprintable() and c not in '\u201c\u201d"' else "\ufffd" for c in text
    ).strip()
    return (plain if len(plain) <= _MOST_CHARS else f"{plain[: _MOST_CHARS - 1]}…") or None
