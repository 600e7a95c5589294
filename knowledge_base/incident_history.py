"""What happened before: past incidents as files that people review, and as passages that answer."""

import re
from pathlib import Path

from knowledge_base.index import Index
from knowledge_base.past_incident import PastIncident, read_incident, render_incident
from knowledge_base.retriever import Passage, search
from traffic.errors import UserError

__all__ = ["PastIncident", "read_incidents", "similar", "write_incident"]

SHIPPED = Path(__file__).parent / "incidents"


def read_incidents(folder: Path = SHIPPED) -> list[PastIncident]:
    """Read every incident of a folder, sorted by id.

    Raises:
        UserError: a file is no past incident, or two have one id.
    """
    incidents = [read_incident(path) for path in sorted(folder.glob("*.md"))]
    ids = [incident.id for incident in incidents]
    if twice := sorted({identity for identity in ids if ids.count(identity) > 1}):
        raise UserError(f"{folder} holds {', '.join(twice)} more than once; expected ids that differ; rename one")
    return sorted(incidents, key=lambda incident: incident.id)


def similar(index: Index, text: str, k: int = 3) -> list[Passage]:
    """The past incidents most like a description, one passage each, best first; empty where none is like it."""

    best: dict[str, Passage] = {}
    for passage in search(index, text, k=4 * k, kind="incident"):
        best.setdefault(passage.document, passage)
    return [*best.values()][:k]


def write_incident(incident: PastIncident, folder: Path) -> Path:
    """Write a resolved incident as a document, ready for ``Index.add``; returns the file.

    Raises:
        UserError: another incident has that file name already.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", incident.title.lower()).strip("-")[:60].strip("-")
    path = folder / f"{incident.id.lower()}-{slug}.md"
    text = render_incident(incident)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path} exists with other content; expected a new incident; choose another id")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
