"""Which trouble a question complains of, in whatever words: "the picture stutters" is of a slow link.

What people type when they see a trouble was written down by several hands, one file a trouble, and a question's
likeness with them is learned (`questions.text_classifier`). Of 428 lines by another hand, which often blame the
wrong thing, the likeliest of 28 was right in 0.84, one of the three likeliest in 0.95. A playbook names the
symptoms of its label, a cause its own.
"""

from functools import lru_cache
from pathlib import Path

import assistant.questions as questions
from assistant.detection.incidents import Incident
from assistant.diagnosis.playbook import find_cause, read_playbook
from assistant.questions.plain import make_plain
from assistant.questions.text_classifier import load_classifier
from traffic.labels import LABELS, NORMAL

FOLDER = Path(questions.__path__[0], "symptoms")
WEIGHTS = FOLDER.with_name("symptoms.safetensors")
NONE = "none"  # what fits any trouble: "is plc-1 ok?"
_BESIDE = 0.7  # how much a complaint of another cause of the same label says
_LEAST = 0.1  # score of what a question may be said to complain of at all
_PLAIN = 0.25  # from which score on a question complains of a trouble
_NEAR = 0.6  # of the best score, from which on another trouble may be meant as well


def read_symptoms() -> dict[str, tuple[str, ...]]:
    """What people say when they see a trouble, plain, by trouble."""
    files = sorted(FOLDER.glob("*.txt"))
    return {
        one.stem: tuple(map(make_plain, one.read_text(encoding="utf-8").splitlines()))
        for one in files
    }


@lru_cache(maxsize=1024)
def score_symptoms(plain: str) -> dict[str, float]:
    """How much a plain question complains of each trouble; about 0 where it does not."""
    model = load_classifier(WEIGHTS)
    return dict(zip(model.classes, map(float, model.score([plain])[0]), strict=True))


def measure_symptoms(plain: str, incident: Incident) -> float:
    """How much a plain question complains of what an incident is, 0 where it does not."""
    scores, cause = score_symptoms(plain), find_cause(incident.facts)
    if scores[NONE] == max(scores.values()):
        return 0.0
    own, *others = read_playbook(incident.label).symptoms
    if cause and cause.symptom:
        own, others = cause.symptom, [own]
    return max(0.0, scores[own] - _LEAST, *(_BESIDE * scores[one] - _LEAST for one in others))


def find_symptoms(plain: str) -> set[str]:
    """Labels of the troubles that a plain question complains of.

    >>> sorted(find_symptoms("is dev ok?")), sorted(find_symptoms("nothing opens by its name"))
    ([], ['name_resolution'])
    """
    scores = score_symptoms(plain)
    best = max(scores.values())
    if best < _PLAIN or scores[NONE] == best:
        return set()
    meant = {one for one, score in scores.items() if score >= max(_PLAIN, _NEAR * best)}
    labels = (one for one in LABELS if one != NORMAL)
    return {one for one in labels if meant & {*read_playbook(one).symptoms}}
