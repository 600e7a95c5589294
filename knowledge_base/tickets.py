"""Import the tickets of a maintenance system as past incidents.

A CSV export has the columns of its system; a mapping names those that hold an incident's fields.
Each ticket becomes a file of its own, named by its number, so that a later export replaces it.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from knowledge_base.formats.incident import PastIncident, render_incident
from traffic.errors import UserError
from traffic.files import read_text, say_mistakes, write_text
from traffic.labels import LABELS

NEEDED = ("id", "title", "date", "symptoms", "cause", "fix")
FIELDS = (*NEEDED, "plant", "devices", "label", "direction", "downtime_min", "who", "lesson", "account")  # fmt: skip
DATES = (
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%Y/%m/%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%d.%m.%Y %H:%M",
)
MOST_NAMED = 5  # rows that were skipped; more are counted


@dataclass(frozen=True)
class Tickets:
    """What an export held: incidents by the file each is to be, and one sentence for what was
    skipped."""

    incidents: Mapping[str, PastIncident]
    notes: tuple[str, ...]


def read_tickets(path: Path, columns: Mapping[str, str], date_format: str = "") -> Tickets:
    """Read a CSV export (comma, semicolon or tab; header first).

    Args:
        path: the export.
        columns: the column of each field of ``FIELDS``; a field whose column has its own name need
            not be given.
        date_format: as ``strptime`` has it; by default those of ``DATES`` are tried, in which no
            order of day and month is guessed.

    Raises:
        UserError: the file is no CSV, a field or column is unknown, a needed one is missing, or no
            ticket can be taken.
    """
    text = read_text(path, "a ticket export as CSV in UTF-8").lstrip("\ufeff")
    first = text.splitlines()[0] if text.strip() else ""
    delimiter = max(",;\t", key=first.count)
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    named = _find_columns(path, [*(rows.fieldnames or ())], columns)
    formats = (date_format,) if date_format else DATES
    incidents: dict[str, PastIncident] = {}
    skipped: list[str] = []
    unknown: Counter[str] = Counter()
    try:
        for row in rows:
            values = {field: (row.get(column) or "").strip() for field, column in named.items()}
            label = values.get("label", "")
            if label and label not in LABELS:
                unknown[values.pop("label")] += 1
            try:
                incident = _make_incident(values, formats)
            except UserError as error:
                skipped.append(f"line {rows.line_num}: {error}")
                continue
            incidents[f"{incident.id.lower()}.md"] = incident
    except csv.Error as error:
        raise UserError(
            f"{path} is no CSV ({error}); expected a header and a ticket a row; export it again"
        ) from error
    if not incidents:
        reason = f" ({skipped[0]})" if skipped else ""
        raise UserError(
            f"{path} holds no ticket that can be taken{reason}; expected solved tickets with "
            f"{', '.join(NEEDED)}; name their columns with --column"
        )
    return Tickets(incidents, tuple(_notes(path, len(incidents), skipped, unknown)))


def _notes(path: Path, taken: int, skipped: list[str], unknown: Counter[str]) -> list[str]:
    notes = []
    if skipped:
        notes.append(f"{len(skipped)} of {taken + len(skipped)} tickets in {path} were skipped")
        notes += [f"skipped: {one}" for one in skipped[:MOST_NAMED]]
        more = len(skipped) - MOST_NAMED
        notes += [f"skipped: {more} more"] if more > 0 else []
    if unknown:
        words = ", ".join(map(repr, [*unknown][:MOST_NAMED]))
        notes.append(
            f"{unknown.total()} tickets have a label that is none ({words}) and are kept without; "
            f"labels are {', '.join(LABELS)}"
        )
    return notes


def _find_columns(path: Path, there: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    if unknown := sorted(columns.keys() - set(FIELDS)):
        raise UserError(
            f"{unknown[0]!r} is no field of an incident; expected one of {', '.join(FIELDS)}; "
            "write FIELD=COLUMN"
        )
    named = {field: columns.get(field, field) for field in FIELDS}
    missing = [f"{field}={column}" for field, column in named.items() if column not in there]
    bad = [one for one in missing if one.split("=")[0] in {*columns, *NEEDED}]
    if bad:
        raise UserError(
            f"{path} has no column for {', '.join(bad)}; expected some of "
            f"{', '.join(map(repr, there)) or '(none)'}; write --column FIELD=COLUMN"
        )
    return {field: column for field, column in named.items() if column in there}


def _make_incident(values: dict[str, str], formats: tuple[str, ...]) -> PastIncident:
    """The incident of a row.

    Raises:
        UserError: a value is missing or is none.
    """
    given: dict[str, object] = {field: value for field, value in values.items() if value}
    given["id"] = re.sub(r"[^A-Za-z0-9._-]+", "-", values.get("id", "")).strip("-._")[:41]
    given["date"] = _date(values.get("date", ""), formats)
    names = re.split(r"[,;\n]", values.get("devices", ""))
    given["devices"] = {name.strip(): "" for name in names if name.strip()}
    try:
        return PastIncident.model_validate(given)
    except ValidationError as error:
        raise UserError(say_mistakes(error)) from error


def _date(text: str, formats: tuple[str, ...]) -> str:
    for form in formats:
        try:
            return datetime.strptime(text, form).date().isoformat()
        except ValueError:
            continue
    try:
        return datetime.fromisoformat(text).date().isoformat()
    except ValueError as error:
        raise UserError(
            f"{text!r} is no date of {' or '.join(formats)}; give --date-format"
        ) from error


def write_tickets(tickets: Tickets, folder: Path) -> list[Path]:
    """Write each incident to its file; a file of the same ticket is replaced."""
    paths = []
    for name, incident in tickets.incidents.items():
        write_text(folder / name, render_incident(incident))
        paths.append(folder / name)
    return paths
