"""Decide whether a question is about a plant, its traffic or its documents.

A question is in scope when it says so itself, in one of four ways; no list of other subjects is
kept:

    it names something of a plant                      "pump acting up?", "why is 10.0.0.5 slow?"
    it names a term of the documents                   "what does 0x0B mean?", "what is STP?"
    it asks one of our questions in words all ours     "since when?", "anything odd last night?"
    a passage of the documents is near it in meaning   "why do sessions time out?"
"""

import re

from assistant.questions.entities import Mention
from assistant.questions.intents import Intent, stem, words_of
from knowledge_base.index import Index
from knowledge_base.retriever import find_nearness, find_terms
from traffic.labels import LABELS, NORMAL

MAX_CHARS = 2000
# Cosine of a question with its nearest passage from which on that alone puts it in scope. Of 126
# questions to a plant 85 % lie there, of 112 others one; the nearest of these are of alarms, of
# stock markets that are down, of the weather.
NEAR = 0.36

_LABEL_WORDS = frozenset(
    word for label in LABELS if label != NORMAL for word in (label, *label.split("_"))
)
_EVERYWHERE = words_of("why") | words_of("incidents") | words_of("devices") | _LABEL_WORDS
_PLAIN_WORDS = """able about after ago all also always am and any anything are around away back been behave behaving
both but by came can could day days did does else evening ever every everything exactly few for from get getting give
got had has have her here his hour hours how its just keep keeps last let lot made make many maybe minute minutes
month more morning most much must never new next night not now off old once one ones only onto our out over own plant
please put quite really said same say seem seems she shift should some somebody somehow someone still such suddenly
sure take than that the them then there these they thing things this those time times today tonight too two under
until upon use using very via was way week well went were what when where which who whole why will with would
yesterday yet you your"""
_PLAIN = frozenset(_PLAIN_WORDS.split())


def is_in_scope(question: str, intent: Intent, mention: Mention, index: Index | None) -> bool:
    """Whether a question is one that can be answered here.

    Args:
        question: the operator's words.
        intent: what ``assistant.questions.intents.read_intent`` makes of them.
        mention: what they point at, as ``assistant.questions.entities.read_devices`` reads it.
        index: the knowledge base; without one, only the words decide.
    """
    if (
        mention.devices
        or mention.peers
        or mention.missing
        or mention.kind
        or _label_words(question)
    ):
        return True
    if intent.name and not foreign_words(question, intent):
        return True
    if index is None:
        return False

    return bool(find_terms(index, question)) or find_nearness(index, question) >= NEAR


def foreign_words(question: str, intent: Intent) -> list[str]:
    """Words of a question that are neither everyday ones nor its intent's: what it is about, if
    that is not a plant.

    Trouble, incidents and devices may be spoken of in every question, but "previous" and
    "instructions" belong to different ones: words of many intents in one sentence are none of ours.

    >>> from assistant.questions.intents import read_intent
    >>> foreign_words("why is the sky blue?", read_intent("why is the sky blue?"))
    ['sky', 'blue']
    """
    ours = _EVERYWHERE | _PLAIN | words_of(intent.name)
    words = re.findall(r"(?<![\w.:-])[^\W\d_]{3,}(?![\w.:]*\d)", question[:MAX_CHARS].lower())
    return [word for word in words if word not in _PLAIN and stem(word) not in ours]


def _label_words(question: str) -> bool:
    words = set(re.findall(r"[a-z0-9_]+", question.lower()))
    return bool(words & _NAMED_LABELS)


_NAMED_LABELS = frozenset(LABELS) - {NORMAL}
