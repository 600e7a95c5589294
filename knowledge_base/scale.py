"""Likenesses of another sentence model on the scale of the packaged one.

Of multilingual-e5-small unrelated sentences have a cosine of 0.78 and related ones of 0.84; of the
packaged model 0.06 and 0.51. The probability that a passage answers (`knowledge_base.relevance`) was
fitted to the latter. So a few sentences that belong together, and the same that do not, are put to
each model, and its likenesses are stretched until both means lie where the packaged model has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knowledge_base.minilm import Embedded
from knowledge_base.pieces import telling_pieces

# A question and the passage that answers it.
_PAIRS = (
    ("why does the pump not start?", "Pump does not run: check the fuse and the motor's contactor."),
    ("how do I set the address of the meter?", "Hold the key for 3 s and choose the device address with the arrows."),
    ("what does the red lamp mean?", "LED red: the unit has an internal error and must be replaced."),
    ("how often is the filter cleaned?", "Maintenance: clean the filter every 500 hours of operation."),
    ("which cable may be used for the bus?", "Use a shielded twisted pair of 120 ohm for RS-485."),
    ("reset the password of the administrator", "To restore the factory login, press the button behind the cover."),
    ("temperature limit in storage", "Ambient conditions: store between -20 and 60 degrees Celsius."),
    ("the display stays dark after power on", "No picture: measure the supply voltage at the terminals."),
)  # fmt: skip


@dataclass(frozen=True)
class Likeness:
    """Means of a model's likenesses: of questions with their passages, and with others."""

    related: float
    unrelated: float

    def onto(self, other: "Likeness", values: np.ndarray) -> np.ndarray:
        """Values of this model as the other model would have them."""
        spread = (other.related - other.unrelated) / (self.related - self.unrelated)
        return other.unrelated + (values - self.unrelated) * spread


@dataclass(frozen=True)
class Scale:
    """How alike a model finds whole texts (``meaning``), and words in their context (``matched``)."""

    meaning: Likeness
    matched: Likeness


# Of the packaged model, as a test measures it.
PACKAGED = Scale(Likeness(0.5138, 0.0616), Likeness(0.5229, 0.1108))


def measure_scale(questions: Sequence[Embedded], passages: Sequence[Embedded]) -> Scale:
    """The scale of the model that read ``QUESTIONS`` and ``PASSAGES``, in their order."""
    meaning = np.array([[q.vector @ p.vector for p in passages] for q in questions])
    pieces = [telling_pieces(one) for one in passages]
    asked = [telling_pieces(one) for one in questions]
    matched = np.array([[(q @ p.T).max(axis=1).mean() for p in pieces] for q in asked])
    return Scale(_compare(meaning), _compare(matched))


def _compare(alike: np.ndarray) -> Likeness:
    same = np.eye(len(alike), dtype=bool)
    return Likeness(round(float(alike[same].mean()), 4), round(float(alike[~same].mean()), 4))


QUESTIONS = tuple(question for question, _ in _PAIRS)
PASSAGES = tuple(passage for _, passage in _PAIRS)
