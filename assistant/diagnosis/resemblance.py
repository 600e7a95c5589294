"""Which incident a question speaks of, by what its words mean.

"plc-1's screen went grey four times" is nearer to a device that comes and goes than to a scan of it.
"""

import re
from collections.abc import Sequence

import numpy as np

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.playbook import find_cause, read_playbook
from assistant.questions.entities import list_names
from assistant.questions.kinds import load_kinds
from assistant.questions.plain import make_plain
from assistant.questions.queries import specific_words
from assistant.questions.text_classifier import read_meaning

LEAD = 0.04  # from which on another incident than the worst is meant; chosen on fifteen questions
_MOST = 20  # incidents that are read: each takes some 20 ms, and a flood may make hundreds


# Words that say no more than that something is wrong.
_ODD = re.compile(r"\w*behav\w*|acting|odd\w*|strange\w*|weird\w*|funny|crazy|mad|suspicious\w*")


def measure_resemblance(
    question: str, incidents: Sequence[Incident], analysis: Analysis
) -> np.ndarray:
    """How near a question is to what each incident is, -1 to 1; 0 where it has no words of its own,
    and of those after the first twenty.

    "what is wrong?" speaks of no incident more than of another.
    """
    own = set(specific_words(question)) - load_kinds().common
    if not incidents or all(map(_ODD.fullmatch, own)):
        return np.zeros(len(incidents))
    names = tuple(list_names(analysis))
    asked = read_meaning(make_plain(question, names))
    near = [_nearest(asked, one, names) for one in incidents[:_MOST]]
    return np.array(near + [0.0] * (len(incidents) - len(near)))


def _nearest(asked: np.ndarray, incident: Incident, names: tuple[str, ...]) -> float:
    book = read_playbook(incident.label)
    texts = [book.short, book.gloss]
    for fact in incident.facts[:1]:
        cause = find_cause((fact,))
        texts += [make_plain(fact.text, names), *([cause.meaning] if cause else [])]
    return max(float(read_meaning(one) @ asked) for one in texts if one)
