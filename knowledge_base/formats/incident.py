"""A resolved incident as a document: YAML front matter with the facts, Markdown below it with the
account.

The file is what people write and review; unknown fields are refused so that a slip of the pen is
not lost in silence.
"""

import re
from datetime import date
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from knowledge_base.formats.sections import Section
from traffic.errors import UserError
from traffic.files import parse_yaml
from traffic.labels import LABELS

_MARK = "---\n"
_BOUNDS = re.compile(f"^{_MARK}", re.MULTILINE)  # YAML may fold a text behind its own dashes
Text = Annotated[str, Field(min_length=1)]


class PastIncident(BaseModel):
    """What happened once, what it turned out to be, and what mended it."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$")]
    title: Text
    date: date
    plant: str = ""
    devices: dict[str, str] = {}  # name -> role, the one that was at fault first
    label: str = ""  # "" where nobody said
    direction: Literal["source", "target", ""] = ""
    first_guess: str = ""  # what was suspected before, where that was wrong
    symptoms: Text
    cause: Text
    fix: Text
    lesson: str = ""
    who: str = ""  # who confirmed it
    downtime_min: Annotated[int, Field(ge=0)] | None = None
    account: str = ""
    signs: tuple[
        str, ...
    ] = ()  # of what was measured, as ``knowledge_base.likeness`` compares them

    @field_validator("label")
    @classmethod
    def _known_label(cls, value: str) -> str:
        if value and value not in LABELS:
            raise ValueError(f"{value!r} is no label; expected one of {', '.join(LABELS)}")
        return value


def parse_incident_yaml(text: str, place: str) -> PastIncident:
    """Read an incident from YAML that is nothing else; ``account`` is one of its fields.

    Raises:
        UserError: as ``parse_incident``.
    """
    return _validate(text, {}, place)


def is_incident(text: str) -> bool:
    """Whether a Markdown file begins with the front matter of an incident; other front matter is
    just text."""
    parts = _BOUNDS.split(text, 2)
    return (
        len(parts) == 3
        and not parts[0]
        and bool(re.search(r"^(symptoms|cause):", parts[1], re.MULTILINE))
    )


def parse_incident(text: str, place: str) -> PastIncident:
    """Read an incident from its Markdown; ``place`` names it in errors.

    Raises:
        UserError: the front matter is no YAML, lacks a field, has an unknown one, or names an
            unknown label.
    """
    _, front, account = _BOUNDS.split(text, 2)
    return _validate(front, {"account": account.strip()}, place)


def _validate(front: str, more: dict[str, str], place: str) -> PastIncident:
    try:
        fields = parse_yaml(front)
        return PastIncident.model_validate({**fields, **more})
    except (yaml.YAMLError, TypeError) as error:
        raise UserError(f"{place}: the front matter is no YAML mapping ({' '.join(str(error).split())}); expected "
                        "'name: value' lines between two '---'; mend the file") from error  # fmt: skip
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(
            f"{place}: {found}; expected the fields of a past incident; mend the front matter"
        ) from error


def render_incident(incident: PastIncident) -> str:
    """Write the incident as Markdown with front matter; ``parse_incident`` reads it back
    unchanged."""
    fields = incident.model_dump(mode="json", exclude={"account"})
    kept = {
        name: value
        for name, value in fields.items()
        if value not in ("", None, {}, []) or name == "symptoms"
    }
    kept["date"] = incident.date
    front = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110)
    return f"{_MARK}{front}{_MARK}\n{incident.account}\n"


def incident_sections(incident: PastIncident) -> list[Section]:
    """The incident as sections: what was seen is apart from what it was, so that a question meets
    the symptoms."""
    devices = ", ".join(
        f"{name} ({role})" if role else name for name, role in incident.devices.items()
    )
    guess = (
        f" First guess: {incident.first_guess}, which was wrong." if incident.first_guess else ""
    )
    down = (
        f"Downtime: {incident.downtime_min} minutes." if incident.downtime_min is not None else ""
    )
    facts = [
        incident.label and f"Label: {incident.label}.",
        devices and f"Devices: {devices}.",
        f"{incident.plant}, {incident.date}." if incident.plant else f"{incident.date}.",
        incident.who and f"Confirmed by {incident.who}.",
    ]
    seen = f"{incident.symptoms}\n\n{' '.join(filter(None, facts))}"
    mended = f"Cause: {incident.cause}\n\nFix: {incident.fix}"
    after = (down + guess).strip()
    lesson = incident.lesson and f"Lesson: {incident.lesson}"
    mended = "\n\n".join(filter(None, [mended, after, lesson]))
    parts = {"Symptoms": seen, "Cause and fix": mended, "Account": incident.account}
    return [Section((name,), text) for name, text in parts.items() if text]
