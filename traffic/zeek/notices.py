"""Zeek's notice.log: what Zeek itself claims to have seen, by kind of claim.

Types of notices: https://docs.zeek.org/en/master/zeek-noticeindex.html.
"""

import re

import numpy as np
import pandas as pd

from traffic.capture import NOTICE_CLAIMS, NOTICE_COLUMNS
from traffic.zeek.columns import Kind

NOTICE_KINDS: dict[str, Kind] = {
    "ts": "number", "note": "text", "src": "text", "dst": "text", "p": "number", "n": "number",
    "id.orig_h": "text", "id.resp_h": "text", "id.resp_p": "number",
}  # fmt: skip
# The first pattern that fits a notice's type names its claim. Types are of Zeek's own scripts, and
# of what is commonly added to them; a site's own scripts name theirs alike.
_CLAIMS = (
    (r"scan|sweep|traceroute", "scan"),
    (r"guess|brute", "guessing"),
    (r"sql_injection|heartbleed|exploit|attack|shellshock|log4j", "intrusion"),
    (r"malware|intel::|blocklist|blacklist|trojan|command.and.control|c&c", "known bad"),
    (r"cert|ssl::|weak_key|old_version", "certificate"),
    (r"loss|dropped|content_gap|packetfilter", "capture loss"),
)
_SAFE = re.compile(r"[A-Za-z0-9_:.-]{1,60}")
_TYPE_UNSAFE = "unnamed"  # a type is an identifier; anything else may be an attacker's words


def make_notices(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per notice.

    Args:
        rows: the columns of ``NOTICE_KINDS`` that the log has.

    Returns:
        ``NOTICE_COLUMNS``.
    """
    rows = rows.reindex(columns=list(NOTICE_KINDS))
    code, types = pd.factorize(rows["note"].fillna(""))
    safe = [one if _SAFE.fullmatch(one) else _TYPE_UNSAFE for one in types]
    claims = [find_claim(one) for one in safe]
    text = rows[["src", "dst", "id.orig_h", "id.resp_h"]].astype("str")
    return pd.DataFrame(
        {
            "ts": rows["ts"].to_numpy(float),
            "type": pd.Categorical.from_codes(code, pd.Index(safe)) if len(set(safe)) == len(safe)
            else pd.Series(np.array(safe, object)[code]).astype("category"),
            "claim": pd.Series(np.array(claims, object)[code] if len(rows) else [], dtype="str")
            .astype(pd.CategoricalDtype(list(NOTICE_CLAIMS))).array,
            "src": text["src"].fillna(text["id.orig_h"]).to_numpy(),
            "dst": text["dst"].fillna(text["id.resp_h"]).to_numpy(),
            "port": rows["p"].fillna(rows["id.resp_p"]).fillna(-1).to_numpy().astype(np.int64),
            "n": rows["n"].fillna(-1).to_numpy().astype(np.int64),
        }
    )[NOTICE_COLUMNS]  # fmt: skip


def find_claim(type_: str) -> str:
    """What a type of notice claims.

    >>> find_claim("Scan::Port_Scan"), find_claim("SSH::Password_Guessing"), find_claim("My::Own")
    ('scan', 'guessing', 'other')
    """
    return next((claim for p, claim in _CLAIMS if re.search(p, type_.lower())), "other")
