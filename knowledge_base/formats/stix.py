"""STIX 2 bundles, such as MITRE's ATT&CK for ICS: a section for each technique and mitigation."""

import re

from pydantic import BaseModel, ValidationError

from knowledge_base.formats.sections import Section
from traffic.errors import UserError

_CITATION = re.compile(r"\(Citation: [^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


class _Reference(BaseModel):
    external_id: str = ""


class _Phase(BaseModel):
    phase_name: str


class _Item(BaseModel):
    """The fields of a STIX object that are read; every object has more, and they are left out."""

    id: str
    type: str
    name: str = ""
    description: str = ""
    revoked: bool = False
    x_mitre_deprecated: bool = False
    external_references: list[_Reference] = []
    kill_chain_phases: list[_Phase] = []
    relationship_type: str = ""
    source_ref: str = ""
    target_ref: str = ""

    @property
    def in_force(self) -> bool:
        known = self.type in ("attack-pattern", "course-of-action")
        return known and not self.revoked and not self.x_mitre_deprecated

    @property
    def heading(self) -> str:
        number = next(
            (
                reference.external_id
                for reference in self.external_references
                if reference.external_id
            ),
            "",
        )
        return f"{number} {self.name}".strip()


class _Bundle(BaseModel):
    objects: list[_Item]


def _clean(text: str) -> str:
    return _LINK.sub(r"\1", _CITATION.sub("", text)).strip()


def read_stix(text: str) -> list[Section]:
    """Read a STIX 2 bundle: a section for each technique and mitigation in force, under its
    external id and name.

    Techniques name their tactics and mitigations. Source: STIX 2.1 (OASIS), MITRE ATT&CK's
        extensions.

    Raises:
        UserError: JSON that is no bundle, or a bundle without techniques.
    """
    try:
        items = _Bundle.model_validate_json(text).objects
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"is no STIX 2 bundle ({where}: {first['msg']}); expected JSON; export it again"
        ) from error
    names = {item.id: item.heading for item in items if item.in_force}
    if not names:
        raise UserError(
            "holds no technique or mitigation in force; expected ATT&CK as STIX 2; export it again"
        )
    mitigated: dict[str, list[str]] = {}
    for item in items:
        if item.relationship_type == "mitigates" and item.source_ref in names:
            mitigated.setdefault(item.target_ref, []).append(names[item.source_ref])
    return [
        _stix_section(item, sorted(mitigated.get(item.id, []))) for item in items if item.in_force
    ]


def _stix_section(item: _Item, mitigations: list[str]) -> Section:
    tactics = ", ".join(phase.phase_name for phase in item.kill_chain_phases)
    lines = [
        _clean(item.description),
        tactics and f"Tactics: {tactics}.",
        mitigations and f"Mitigations: {', '.join(mitigations)}.",
    ]
    return Section((item.heading,), "\n\n".join(line for line in lines if line))
