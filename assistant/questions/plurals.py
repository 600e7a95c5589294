"""Kinds of devices that a question names in the plural: "plcs", "the sensors", "alle Kameras"."""

import re

from assistant.detection.pipeline import Analysis
from assistant.questions.plain import MAX_CHARS, hide_names

# Roles that people call by other words; of the others a role's own name is the word.
_WORDS = {
    "plc": "plc|controller|sps|steuerung|automata|rtu",
    "camera": "camera|cam|kamera|camara",
    "hmi": "hmi|panel",
    "robot": "robot|roboter",
    "workstation": "work ?station|laptop",
}


def read_plural(question: str, analysis: Analysis) -> tuple[str, ...]:
    """Addresses of the devices of plant.yaml whose kind a question names in the plural; empty for none."""
    text = hide_names(question[:MAX_CHARS])
    devices = analysis.plant.devices if analysis.plant else ()
    roles = dict.fromkeys(one.role for one in devices if one.role)
    named = {role for role in roles if re.search(_plural_of(role), text)}
    return tuple(one.address for one in devices if one.role in named)


def _plural_of(role: str) -> str:
    words = _WORDS.get(role, re.escape(role))
    return rf"\b(?:{words})(?:['’]?s|es|n|en)\b(?![-_ ]?\d)"
