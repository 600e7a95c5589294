"""Alerts of other detectors beside Zeek's logs: Suricata's eve.json, Slips' alerts.json.

Both are a JSON object a line. Suricata: https://docs.suricata.io/en/latest/output/eve/eve-json-format.html,
of which only `alert` events are read. Slips writes IDMEFv2 (draft-lehmann-idmefv2); what it says is free
text that may quote a host name, so that only its claim is kept, never its words.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import NOTICE_CLAIMS, NOTICE_COLUMNS
from traffic.zeek.notices import find_claim

ALERT_LOGS = ("eve", "alerts")  # their names beside a conn.log, .json or what a monitor keeps
SURICATA, SLIPS = "Suricata::", "Slips::"  # how the types of their notices begin
_MOST_CHARS = 60
_LONGEST_LINE = 1 << 20


def read_alerts(path: Path, notes: list[str]) -> pd.DataFrame:
    """The alerts of one file, ``NOTICE_COLUMNS``; what cannot be read is counted in ``notes``."""
    rows, bad, others = [], 0, 0
    try:
        for line in _lines(path):
            entry = _parse(line)
            if entry is None:
                bad += 1
            elif (row := _read_entry(entry)) is not None:
                rows.append(row)
            else:
                others += 1
    except (OSError, EOFError, zlib.error) as error:
        notes.append(f"{path.name} was read in part: {error}")
    if bad:
        notes.append(f"{path.name}: {bad:,} lines are no JSON objects and were skipped.")
    if rows:
        notes.append(f"{path.name} beside it holds {len(rows):,} alerts of another detector.")
    elif others:
        notes.append(f"{path.name}: none of its {others:,} lines is an alert of Suricata or Slips.")
    table = pd.DataFrame(rows, columns=NOTICE_COLUMNS)
    table["claim"] = pd.Categorical(table["claim"], list(NOTICE_CLAIMS))
    return table.astype(
        {"ts": float, "type": "str", "src": "str", "dst": "str", "port": "int64", "n": "int64"}
    )


def find_time(entry: Mapping[str, Any]) -> float:
    """When an alert of either was, seconds since the epoch; NaN where it does not say."""
    text = entry.get("timestamp") or entry.get("StartTime") or entry.get("CreateTime")
    when = pd.to_datetime(text, utc=True, errors="coerce") if isinstance(text, str) else pd.NaT
    return float("nan") if pd.isna(when) else when.timestamp()


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            if line.strip() and not line.startswith(b"#"):
                yield line


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _read_entry(entry: dict[str, Any]) -> list[Any] | None:
    """A row of ``NOTICE_COLUMNS``; None for what is no alert."""
    alert = entry.get("alert")
    if entry.get("event_type") == "alert" and isinstance(alert, dict):
        words = f"{alert.get('signature', '')} {alert.get('category', '')}"
        name = re.sub(r"[^A-Za-z0-9]+", "_", str(alert.get("signature", ""))).strip("_")
        type_ = (SURICATA + (name or "unnamed"))[:_MOST_CHARS].rstrip("_")
        ends = (entry.get("src_ip"), entry.get("dest_ip"), entry.get("dest_port"))
    elif str(entry.get("Version", "")).startswith("2.") and "Source" in entry:
        source, target = _first(entry, "Source"), _first(entry, "Target")
        words = str(entry.get("Description", ""))
        claim = find_claim(words)
        kind = "alert" if entry.get("Status") == "Incident" else claim.replace(" ", "_")
        type_ = SLIPS + kind
        ports = target.get("Port")
        port = ports[0] if isinstance(ports, list) and ports else None
        ends = (source.get("IP"), target.get("IP"), port)
    else:
        return None
    ts = find_time(entry)
    if np.isnan(ts):
        return None
    source_ip, target_ip = (one if isinstance(one, str) else None for one in ends[:2])
    port = ends[2] if isinstance(ends[2], int) else -1
    return [ts, type_, find_claim(words), source_ip, target_ip, port, -1]


def _first(entry: dict[str, Any], name: str) -> dict[str, Any]:
    found = entry.get(name)
    return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else {}
