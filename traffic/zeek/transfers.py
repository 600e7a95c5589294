"""What was fetched or sent over HTTP, from Zeek's http.log and files.log.

http.log has what was asked for and how much content came; whether that is all of it stands in files.log
(HTTP::Info and Files::Info at https://docs.zeek.org/en/master/script-reference/log-files.html).
"""

import numpy as np
import pandas as pd

from traffic.transfers import METHODS, cut_text, empty_transfers, read_file_name
from traffic.transfers import make_transfers as make_table
from traffic.zeek.columns import Kind

FILE_KINDS: dict[str, Kind] = {
    "ts": "number", "fuid": "unique", "filename": "unique", "seen_bytes": "number", "total_bytes": "number",
    "missing_bytes": "number",
}  # fmt: skip
_MIME = r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,80}"
_NO_CONTENT = (204, 304)


def make_transfers(http: pd.DataFrame, files: pd.DataFrame, flows: pd.DataFrame) -> pd.DataFrame:
    """The transfers of a capture.

    Args:
        http: rows of http.log with the columns of ``traffic.zeek.protocols.LOGS``.
        files: rows of files.log with those of ``FILE_KINDS``; empty where there is none.
        flows: the capture's, whose ``uid`` http.log repeats.
    """
    if http.empty:
        return empty_transfers()
    method = http["method"].str.upper()
    status = http["status_code"].fillna(-1)
    uid = flows.loc[flows["uid"].notna(), "uid"].drop_duplicates()
    mime = http["resp_mime_types"].str.extract("^([^,]*)", expand=False)
    came = _find_files(http, files)
    got = http["response_body_len"].fillna(0.0)
    none = (method == "HEAD") | status.isin(_NO_CONTENT)
    named = http["uri"].map(read_file_name, na_action="ignore")
    rows = pd.DataFrame(
        {
            "ts": http["ts"], "client": http["id.orig_h"], "server": http["id.resp_h"],
            "port": http["id.resp_p"].fillna(-1), "flow": http["uid"].map(pd.Series(uid.index, index=uid)).fillna(-1),
            "method": method.where(method.isin(METHODS)),
            "file": [
                cut_text(given) if isinstance(given, str) else asked
                for given, asked in zip(came["filename"], named, strict=True)
            ],
            "host": http["host"].map(cut_text, na_action="ignore"), "mime": mime.where(mime.str.fullmatch(_MIME)),
            "status": status, "sent_bytes": http["request_body_len"].fillna(0.0), "got_bytes": got,
            "declared_bytes": came["total_bytes"].where(~none), "whole": _judge(came, got).mask(none, 1.0),
            "frame": 0, "answer_frame": 0,
        }
    )  # fmt: skip
    return make_table(rows[http["id.orig_h"].notna() & http["id.resp_h"].notna()])


def _find_files(http: pd.DataFrame, files: pd.DataFrame) -> pd.DataFrame:
    """The file that each answer carried, the columns of ``FILE_KINDS``; NaN where files.log has none."""
    first = http["resp_fuids"].str.extract("^([^,]*)", expand=False)
    known = files.drop_duplicates("fuid").set_index("fuid") if len(files) else files
    columns = [name for name in FILE_KINDS if name not in ("ts", "fuid")]
    return known.reindex(index=first, columns=columns).reset_index(drop=True)


def _judge(came: pd.DataFrame, got: pd.Series) -> pd.Series:
    """Whether a file came whole: 1, 0, or NaN where the log does not say how large it is."""
    seen = came["seen_bytes"].fillna(got)
    short = (seen < came["total_bytes"]) | (came["missing_bytes"] > 0)
    # What the sensor missed may have come all the same.
    unknown = came["total_bytes"].isna() | (came["missing_bytes"] > 0)
    return (~short).astype(float).mask(unknown, np.nan)
