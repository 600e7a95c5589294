"""Small tables written out by hand, for tests that know every number in them."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from traffic.capture import COUNTS, EVIDENCE_COLUMNS, Capture, spread

DEVICE, PLC, CLOUD = "192.168.1.10", "192.168.1.20", "203.0.113.5"


def flow(ts: float, orig: str, resp: str, port: int, **more: object) -> dict[str, object]:
    """A row of conn.log: an answered TCP session of one second unless ``more`` says otherwise."""
    row: dict[str, object] = {
        "ts": ts, "uid": "C1", "id.orig_h": orig, "id.orig_p": 40000, "id.resp_h": resp, "id.resp_p": port,
        "proto": "tcp", "service": np.nan, "duration": 1.0, "conn_state": "SF", "history": "ShADadFf",
        "orig_bytes": 100.0, "resp_bytes": 200.0, "missed_bytes": 0.0,
        "orig_pkts": 5.0, "orig_ip_bytes": 300.0, "resp_pkts": 4.0, "resp_ip_bytes": 400.0,
    }  # fmt: skip
    return row | {name.replace("__", "."): value for name, value in more.items()}


def unanswered(ts: float, orig: str, resp: str, port: int, **more: object) -> dict[str, object]:
    """A SYN and its two retries that nobody answered."""
    tried = {
        "conn_state": "S0", "history": "S", "duration": 3.0, "orig_pkts": 3.0, "orig_ip_bytes": 180.0,
        "resp_pkts": 0.0, "resp_ip_bytes": 0.0, "orig_bytes": 0.0, "resp_bytes": 0.0,
    }  # fmt: skip
    return flow(ts, orig, resp, port, **{**tried, **more})


def capture(*rows: dict[str, object], evidence: list[tuple] = ()) -> Capture:
    """A capture of these flows; ``evidence`` are rows of EVIDENCE_COLUMNS, moments left out."""
    flows = pd.DataFrame(list(rows) or [flow(0, DEVICE, PLC, 1)])
    flows = flows.sort_values("ts", kind="stable", ignore_index=True)
    flows = flows.astype(dict.fromkeys(COUNTS, float))
    flows = flows if rows else flows.iloc[:0]
    made = Capture(flows, spread(flows))
    if not evidence:
        return made
    counted = pd.DataFrame(evidence, columns=EVIDENCE_COLUMNS[:7])
    counted = counted.reindex(columns=EVIDENCE_COLUMNS).astype(made.evidence.dtypes.to_dict())
    return replace(made, evidence=counted)


def read_phrases(text: str) -> list[str]:
    """The phrases of a text table; a bar or the end of a line ends one."""
    return [phrase.strip() for phrase in re.split(r"[|\n]", text) if phrase.strip()]
