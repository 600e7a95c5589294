"""What is asked at once in a talk, parted; and where the operator turns to another subject."""

import re

from assistant.detection.pipeline import Analysis
from assistant.questions.entities import list_names, read_devices
from assistant.questions.plain import is_name_alone, make_plain
from assistant.questions.queries import split_question

_OTHER_SUBJECT = re.compile(
    r"(?i)^(?:ok|okay|so|and|now|well|und|y|,|\s)*(?:an)?(?:other|different|new|next|andere|otra)"
    r" (?:thing|question|topic|matter|subject|frage|sache|cosa|pregunta)\b[\s:,.-]*(?=\S)"
)


def leave_subject(question: str) -> str:
    """A question without the words that say that it is about something else than the talk so far.

    >>> leave_subject("ok other thing: does dns work?"), leave_subject("and the other one?")
    ('does dns work?', 'and the other one?')
    """
    return _OTHER_SUBJECT.sub("", question)


def part_question(question: str, analysis: Analysis | None) -> list[str]:
    """The questions in a text; a device alone is what the part after it asks about: "and plc-2? anyone write
    there?"."""
    parts: list[str] = []
    for part in split_question(question):
        if analysis is not None and parts and _goes_on(parts[-1], part, analysis):
            parts[-1] = f"{parts[-1]} {part}"
        else:
            parts.append(part)
    return parts


def _goes_on(before: str, part: str, analysis: Analysis) -> bool:
    if not read_devices(before, analysis).devices or read_devices(part, analysis).devices:
        return False
    return is_name_alone(make_plain(before, list_names(analysis)))
