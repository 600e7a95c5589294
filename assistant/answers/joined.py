"""Questions that ask two things at once: "who polls it, and how often?"."""

import re
from collections.abc import Sequence
from dataclasses import replace

from assistant.detection.pipeline import Analysis
from assistant.diagnosis.diagnose import Diagnosis, check_answer
from assistant.questions.entities import list_names, read_devices
from assistant.questions.plain import MAX_CHARS, is_name_alone, make_plain
from assistant.questions.queries import split_question

_MOST_PARTS = 3
_FACTS_OF_OTHERS, _FACTS_BEFORE = 2, 3
_WHAT = "what|which|who|whom|whose|when|how|where|why|since (?:when|what)|until when|for how"
_PREPOSITION = r"(?:by|from|to|with|at|over|in|into|on|against) (?:whom?|what|which|where|when)"
_VERB = (
    "(?:is|are|was|were|does|do|did|has|have|can|could|should|will)"
    r" (?:it|they|he|she|that|this|there|any\w*|some\w*|the|i|we|you)"
)
_ELSEWHERE = (
    r"wie|wer|wem|wen|wann|warum|wieso|wo|woher|seit wann|welche\w*|ist (?:es|das|er|sie)"
    r"|quien|cuando|como|cuant\w+|por que|desde cuando"
)
_ASKS = rf"(?:(?:also|then|if so) )?(?:{_WHAT}|{_PREPOSITION}|{_VERB}|{_ELSEWHERE})\b"
_ANY_VERB = (
    "(?:is|are|was|were|does|do|did|has|have|can|ist|sind|war|hat|kann|esta|estan|es|fue|hay|puede)"
)
_JOINT = re.compile(
    rf"\?+\s*(?:(?:and|und|y) )?|,? (?:and|und|y|plus) (?={_ASKS})|, (?={_ASKS})|, (?:and|und|y) (?={_ANY_VERB} \w)",
    re.IGNORECASE,
)
# A part without such a beginning tells something: "plc-2 refuses us, why?" asks one thing.
_QUESTION = re.compile(
    rf"^(?:(?:and|but|so|und|y|ok|hi|hello|please)\b,? )*(?:{_ASKS}|{_VERB.split(' ')[0]}\b"
    r"|(?:(?:any|some)(?:one|body|thing)|tell|name|list|show|give|say|explain|find|compare|describe"
    r"|i (?:want|need|would like)|at|in|on|after|until)\b)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[.:;!] | [-–] ")
_LEAST_WORDS = 3  # "where and when was it?" asks one thing


def split_joined(question: str) -> tuple[str, ...]:
    """What a text asks, in its order.

    >>> split_joined("who polls plc-6, and how often?")
    ('who polls plc-6', 'how often')
    >>> split_joined("where and when was it?"), split_joined("plc-2 refuses us, why?")
    (('where and when was it?',), ('plc-2 refuses us, why?',))
    """
    parts = [one.strip() for one in _JOINT.split(question[:MAX_CHARS]) if re.search(r"\w{2}", one)]
    if len(parts) < 2 or len(parts[0].split()) < _LEAST_WORDS:
        return (question,)
    asking = [one for one in parts if _QUESTION.match(_CLAUSE.split(one)[-1].strip())]
    return tuple(asking[:_MOST_PARTS]) if len(asking) > 1 else (question,)


_REPLY = re.compile(r"^(?:yes|no|cannot tell)(?:, \w+)?: ")


def _bare(line: str) -> str:
    return _REPLY.sub("", line.lower())


def join_answers(question: str, first: Diagnosis, others: Sequence[Diagnosis]) -> Diagnosis:
    """The first answer with the lines of the others below its own, and the facts that bear them most."""
    same = [one for one in others if _bare(one.cause) == _bare(first.cause)]
    # With "yes" or "no", if one of both has it.
    headline = max((first.cause, *(one.cause for one in same)), key=len)
    others = [one for one in others if one not in same]
    lines = tuple(dict.fromkeys(one.cause for one in others))
    if not lines and headline == first.cause:
        return replace(first, question=question)
    more = [
        fact.text
        for one in others
        for fact in one.facts[:_FACTS_OF_OTHERS]
        if fact.text not in (*first.sections.seen, first.cause, *lines)
    ]
    seen = first.sections.seen
    sections = replace(
        first.sections,
        headline=headline,
        further=lines,
        seen=tuple(dict.fromkeys((*seen[:_FACTS_BEFORE], *more, *seen[_FACTS_BEFORE:]))),
    )
    context = (*first.context, *(fact for one in others for fact in one.known))
    cited = (*first.citations, *first.similar)
    checked = check_answer(sections, (*first.facts, *context), cited)
    removed = first.removed + len(checked.removed)
    return replace(
        first, question=question, cause=headline, text=checked.text, context=context, sections=sections,
        removed=removed,
    )  # fmt: skip


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
