"""The document formats: each a module that cuts a file into sections under their headings.

Sections are the unit a citation names, so nothing is reworded: markup is dropped, text stays.
"""

from knowledge_base.formats.incident import PastIncident, render_incident
from knowledge_base.formats.sections import Content, Section

__all__ = ["Content", "PastIncident", "Section", "render_incident"]
