"""Alarms for other systems: JSON lines, CEF, syslog, STIX 2.1, a webhook on the plant's network.

What comes from the plant (names, topics) is escaped as each form asks, so that no alarm can forge a
field or a line. Nothing is sent beyond private addresses.
"""

import ipaddress
import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from assistant.api.desk import alarm_json
from assistant.history import History
from assistant.monitor.alarm_list import Alarm, Standing, find_standing, list_alarms
from traffic.errors import UserError
from traffic.files import write_text
from traffic.labels import TAXONOMY

Export = Literal["jsonl", "cef", "syslog", "stix"]
FORMS: dict[Export, str] = {
    "jsonl": "application/jsonl; charset=utf-8",
    "cef": "text/plain; charset=utf-8",
    "syslog": "text/plain; charset=utf-8",
    "stix": "application/stix+json;version=2.1",
}
_SEVERITY = {"low": 3, "medium": 6, "high": 9}  # CEF: 0 to 10
_SYSLOG = {"low": 5, "medium": 4, "high": 2}  # RFC 5424, table 2: notice, warning, critical
_LOCAL0 = 16
_ENTERPRISE = 32473  # for private use in documents (RFC 5612)
_STIX_SPACE = uuid.UUID("00abedb4-aa42-466c-9c01-fed23315a9b7")  # STIX 2.1, 2.9
_OWN_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "faultwise.invalid")
_TRIES, _PAUSE_S, _TIMEOUT_S = 4, 1.0, 10.0

Row = tuple[Alarm, Standing]


def export(history: History, form: Export, hours: float, home: Path) -> str:
    """Alarms of the last hours of the history, by the traffic's clock.

    Args:
        history: the open history.
        form: as what.
        hours: those that were over earlier are left out.
        home: names the sensor in syslog and STIX.
    """
    found = list_alarms(history)
    now_s = max([one.returned_s or one.incident_end_s for one in found], default=time.time())
    kept = [one for one in found if (one.returned_s or now_s) >= now_s - hours * 3600]
    rows = [(one, find_standing(one, history, time.time())) for one in kept]
    return render(rows, form, home.name)


def render(rows: Sequence[Row], form: Export, host: str = "") -> str:
    """Alarms with their states in one form, a line each; STIX is one bundle."""
    if form == "stix":
        return (
            json.dumps(make_bundle([alarm for alarm, _ in rows]), indent=1, ensure_ascii=False)
            + "\n"
        )
    word: dict[str, Callable[[Row], str]] = {
        "jsonl": lambda row: json.dumps(alarm_json(*row), ensure_ascii=False),
        "cef": lambda row: render_cef(*row),
        "syslog": lambda row: render_syslog(*row, host),
    }
    return "".join(word[form](row) + "\n" for row in rows)


# ---- CEF (ArcSight Common Event Format, revision 26) ----


def render_cef(alarm: Alarm, standing: Standing) -> str:
    """An alarm as a line of CEF."""
    said, taxonomy = alarm.content, TAXONOMY.get(alarm.label)
    head = [
        "CEF:0", "faultwise", "faultwise", version("faultwise"), alarm.label,
        taxonomy.meaning if taxonomy else "the sensor itself", str(_SEVERITY[alarm.priority]),
    ]  # fmt: skip
    ends = _ends(alarm)
    more = {
        "rt": _millis(alarm.raised_s),
        "start": _millis(said.start_s),
        "end": _millis(alarm.incident_end_s),
        **({"src": ends[0]} if ends[0] else {}),
        **({"dst": ends[1]} if ends[1] else {}),
        "dvchost": alarm.device,
        "cat": alarm.tier,
        "cnt": str(alarm.times),
        "act": standing.state,
        "externalId": alarm.incident,
        "msg": said.text,
        "cs1Label": "response",
        "cs1": said.response,
    }
    extension = " ".join(f"{name}={_escape(str(value), '=')}" for name, value in more.items())
    return "|".join([head[0], *(_escape(part, "|") for part in head[1:]), extension])


def _ends(alarm: Alarm) -> tuple[str, str]:
    """(source, destination) where the incident has them."""
    peer = alarm.content.peers[0] if alarm.content.peers else ""
    device = alarm.device if _is_address(alarm.device) else ""
    peer = peer if _is_address(peer) else ""
    return (device, peer) if alarm.content.role == "source" else (peer, device)


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _millis(seconds: float) -> str:
    return str(round(seconds * 1000))


def _escape(text: str, mark: str) -> str:
    """Backslashes and the mark escaped, line ends as \\n, other control characters gone."""
    text = text.replace("\\", "\\\\").replace(mark, f"\\{mark}")
    text = re.sub(r"\r\n|\r|\n", " " if mark == "|" else r"\\n", text)
    return "".join(c for c in text if c.isprintable())


# ---- Syslog (RFC 5424) ----


def render_syslog(alarm: Alarm, standing: Standing, host: str = "") -> str:
    """An alarm as a syslog message, without the frame of a transport."""
    priority = _LOCAL0 * 8 + _SYSLOG[alarm.priority]
    at = datetime.fromtimestamp(alarm.raised_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    values = {
        "incident": alarm.incident, "label": alarm.label, "device": alarm.device, "tier": alarm.tier,
        "state": standing.state, "times": str(alarm.times),
    }  # fmt: skip
    data = " ".join(f'{name}="{_escape_data(value)}"' for name, value in values.items())
    host = re.sub(r"[^!-~]", "-", host or socket.gethostname())[:255] or "-"
    kind = re.sub(r"[^!-~]", "-", alarm.label)[:32]
    text = " ".join(alarm.content.text.split())
    return f"<{priority}>1 {at} {host} faultwise - {kind} [faultwise@{_ENTERPRISE} {data}] {text}"


def _escape_data(text: str) -> str:
    """RFC 5424, 6.3.3."""
    text = re.sub(r'(["\\\]])', r"\\\1", text)
    return "".join(c if c.isprintable() else " " for c in text)


# ---- STIX 2.1 (OASIS) ----


def make_bundle(alarms: Sequence[Alarm]) -> dict[str, Any]:
    """Alarms as a STIX 2.1 bundle: incidents, what was observed, the techniques these are consistent
    with. Equal alarms give equal ids, so that a second import adds nothing."""
    objects: dict[str, dict[str, Any]] = {}

    def add(kind: str, key: str, at_s: float, **fields: Any) -> str:
        mark = f"{kind}--{uuid.uuid5(_OWN_SPACE, f'{kind} {key}')}"
        at = _stix_time(at_s)
        common = {"type": kind, "spec_version": "2.1", "id": mark, "created": at, "modified": at}
        objects[mark] = common | fields
        return mark

    maker = add("identity", "faultwise", 0.0, name="faultwise", identity_class="system")
    for alarm in alarms:
        said, by = alarm.content, {"created_by_ref": maker}
        incident = add(
            "incident", alarm.incident, alarm.raised_s, **by,
            name=f"{alarm.label} at {alarm.device}", description=said.text,
            labels=[alarm.label, alarm.priority],
        )  # fmt: skip
        seen = [_observe(one, objects) for one in (alarm.device, *said.peers) if _is_address(one)]
        if seen:
            observed = add(
                "observed-data", alarm.incident, alarm.raised_s, **by,
                first_observed=_stix_time(said.start_s),
                last_observed=_stix_time(max(alarm.incident_end_s, said.start_s)),
                number_observed=max(alarm.times, 1), object_refs=sorted(set(seen)),
            )  # fmt: skip
            add("relationship", f"{observed} {incident}", alarm.raised_s, **by,
                relationship_type="related-to", source_ref=observed, target_ref=incident)  # fmt: skip
        for technique in TAXONOMY[alarm.label].techniques if alarm.label in TAXONOMY else ():
            source = {"source_name": "mitre-attack", "external_id": technique}
            pattern = add("attack-pattern", technique, 0.0, **by, name=technique,
                          external_references=[source])  # fmt: skip
            add("relationship", f"{incident} {pattern}", alarm.raised_s, **by,
                relationship_type="related-to", source_ref=incident, target_ref=pattern)  # fmt: skip
    mark = uuid.uuid5(_OWN_SPACE, " ".join(sorted(objects)))
    return {"type": "bundle", "id": f"bundle--{mark}", "objects": list(objects.values())}


def _observe(address: str, objects: dict[str, dict[str, Any]]) -> str:
    kind = "ipv6-addr" if ":" in address else "ipv4-addr"
    key = json.dumps({"value": address}, separators=(",", ":"))
    mark = f"{kind}--{uuid.uuid5(_STIX_SPACE, key)}"
    objects[mark] = {"type": kind, "spec_version": "2.1", "id": mark, "value": address}
    return mark


def _stix_time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


# ---- Sending, on the plant's network alone ----


def send(rows: Sequence[Row], target: str, pause_s: float = _PAUSE_S) -> None:
    """Send alarms to ``http(s)://…`` as JSON, or to ``syslog://host:port`` over UDP.

    Args:
        rows: what to send; nothing is done with none.
        target: where to, a private or loopback address or a name that resolves to such.
        pause_s: before the second try; each further one waits twice as long, four at most.

    Raises:
        UserError: a target of another kind or beyond the plant, or one that does not take them.
    """
    where = urlsplit(target)
    if where.scheme not in ("http", "https", "syslog") or not where.hostname:
        raise UserError(
            f"{target!r} is no target; expected http://host/path, https://host/path or syslog://host:514"
        )
    address = _resolve_private(where.hostname, where.port or 0)
    if not rows:
        return
    if where.scheme == "syslog":
        _send_syslog(rows, address, where.port or 514)
        return
    trouble = ""
    for number in range(_TRIES):
        if number:
            time.sleep(pause_s * 2 ** (number - 1))
        try:
            body = {"alarms": [alarm_json(*row) for row in rows]}
            answer = httpx.post(
                target, json=body, timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False
            )
            if answer.is_success:
                return
            trouble = f"it answered {answer.status_code}"
            if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
                break
        except httpx.HTTPError as error:
            trouble = str(error) or type(error).__name__
    raise UserError(
        f"{len(rows)} alarms were not taken by {target}: {trouble}; see to the receiver"
    )


def _resolve_private(host: str, port: int) -> str:
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise UserError(
            f"{host} has no address ({error.strerror}); give one, or correct the name"
        ) from error
    public = [one for one in found if not ipaddress.ip_address(one).is_private]
    if public or not found:
        raise UserError(
            f"{host} is {', '.join(public)}, beyond the plant; expected a private address: alarms stay inside"
        )
    return min(found)


def _send_syslog(rows: Sequence[Row], address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        for row in rows:  # RFC 5426: one message a datagram
            out.sendto(render_syslog(*row).encode()[:2048], (address, port))


def send_new(history: History, target: str, cursor: Path) -> int:
    """Send every alarm that was raised since the last call to this target; returns how many.

    Args:
        history: the open history.
        target: as ``send`` has it.
        cursor: a file that notes how far it got, written after the target took them.

    Raises:
        UserError: as ``send``; nothing is noted then, so that they are sent again.
    """
    noted = _read_cursor(cursor)
    sql = "SELECT id, incident FROM raisings WHERE id > ? ORDER BY id LIMIT 500"
    found = history.file.rows(sql, noted.get(target, 0))
    if not found:
        return 0
    raised = {row["incident"] for row in found}
    alarms = [one for one in list_alarms(history) if one.incident in raised]
    send([(one, find_standing(one, history, time.time())) for one in alarms], target)
    write_text(cursor, json.dumps(noted | {target: found[-1]["id"]}) + "\n")
    return len(alarms)


def _read_cursor(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(k): int(v) for k, v in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}
