"""Verdicts: what each window is, how sure that is, and when to say nothing.

    windows ─▶ texts ─▶ prompts ─▶ likelihood of each answer ─▶ calibrated probabilities ─▶ label |
    abstain

A window is normal when normal is at least as likely as all anomalies together; else its label is
the likeliest anomaly. An anomalous verdict abstains when its label's probability is below the
card's threshold, or when the runner-up is one that traffic alone cannot tell from it. A normal one
never does: what is not worth an alarm is normal.
"""

import numpy as np
import pandas as pd

from assistant.facts.profiles import PROFILES
from assistant.llm.adapters import AdapterCard, check_card
from assistant.llm.local import Progress
from assistant.llm.remembered import Scorer
from prompts.messages import ANSWERS, classification, classification_prompt
from prompts.window_text import render_windows
from traffic.labels import LABELS, NORMAL
from traffic.windows import Windows

# A service that never answered and a dead controller of malware look the same from flows.
_INSEPARABLE = tuple((one.label, other) for one in PROFILES.values() for other in one.inseparable)
_MARGIN = 0.4
_NORMAL = LABELS.index(NORMAL)


def classify(
    windows: Windows, llm: Scorer, card: AdapterCard, progress: Progress | None = None
) -> pd.DataFrame:
    """Judge windows.

    Args:
        windows: from `traffic.windows.make_windows`.
        llm: the base with the card's adapter merged in.
        card: gives the temperature and the threshold.
        progress: called with the numbers of different texts that are scored and that there are.

    Returns:
        One row per window: ``device``, ``start_s``, ``end_s``, ``label``, ``probability`` (of that
        label, calibrated), ``abstained``, ``direction`` (source, target or ""), then ``p_<label>``
        for every label, float32.

    Raises:
        UserError: the card was made for other prompts or labels.
    """
    check_card(card)
    prompts = make_prompts(render_windows(windows), llm)
    scores = llm.score(prompts, [ANSWERS[label] for label in LABELS], progress)
    verdicts = decide(scores, card.temperature, card.threshold, card.prior_shift)
    place = windows.table[["device", "start_s", "end_s"]].reset_index(drop=True)
    verdicts.insert(3, "direction", choose_directions(windows, verdicts["label"].to_numpy()))
    return pd.concat([place, verdicts], axis=1)


def make_prompts(texts: list[str], llm: Scorer) -> list[str]:
    """The prompt of every text in the form that a model was tuned on: chat where it has a template,
    plain elsewhere."""
    if llm.chat_capable:
        return [llm.render(classification(text)) for text in texts]
    return [classification_prompt(text) for text in texts]


def decide(
    scores: np.ndarray, temperature: float, threshold: float, prior_shift: float = 0.0
) -> pd.DataFrame:
    """Turn log-probabilities into verdicts.

    Args:
        scores: shape (n, len(LABELS)), in the order of ``LABELS``.
        temperature: divides the scores, above 0.
        threshold: anomalous verdicts with a smaller probability abstain.
        prior_shift: nats that normal gains, since plants live more quietly than what the model was
            calibrated on.

    Returns:
        Shape (n, 3 + len(LABELS)): ``label``, ``probability``, ``abstained``, ``p_<label>`` …
    """
    probabilities = make_probabilities(scores, temperature, prior_shift)
    code, top = choose(probabilities)
    verdicts = pd.DataFrame({"label": np.array(LABELS, dtype=object)[code], "probability": top})
    verdicts["abstained"] = (code != _NORMAL) & (
        (top < threshold) | _undecided(probabilities, code)
    )
    return pd.concat(
        [verdicts, pd.DataFrame(probabilities, columns=[f"p_{label}" for label in LABELS])], axis=1
    )


def choose(probabilities: np.ndarray, normal: int = _NORMAL) -> tuple[np.ndarray, np.ndarray]:
    """Column and probability of each verdict, shape (n,) each: normal from a half on, else the
    likeliest anomaly."""
    anomalies = probabilities.copy()
    anomalies[:, normal] = -1
    code = np.where(probabilities[:, normal] >= 0.5, normal, anomalies.argmax(axis=1))
    return code, probabilities[np.arange(len(code)), code]


def make_probabilities(
    scores: np.ndarray, temperature: float, prior_shift: float = 0.0, normal: int = _NORMAL
) -> np.ndarray:
    """Calibrated probabilities, float32, of the shape of ``scores``; arguments as ``decide`` has
    them.

    ``normal`` is its column.
    """
    scaled = scores / temperature
    scaled[:, normal] += prior_shift
    return np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)).astype(np.float32)


def _undecided(probabilities: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Whether a label's inseparable twin is nearly as likely, shape (n,)."""
    undecided = np.zeros(len(code), bool)
    for pair in _INSEPARABLE:
        one, other = (LABELS.index(label) for label in pair)
        near = np.abs(probabilities[:, one] - probabilities[:, other]) < _MARGIN
        undecided |= (
            near
            & np.isin(code, (one, other))
            & (probabilities[:, [one, other]].sum(axis=1) >= _MARGIN)
        )
    return undecided


# ---- From whom an anomaly comes ----


def choose_directions(windows: Windows, labels: np.ndarray) -> np.ndarray:
    """Source or target for every window, from its numbers once its label is settled.

    The columns that grow at the label's source and at its target are summed; the larger sum
    decides.

    Args:
        windows: n of them.
        labels: shape (n,), each window's verdict.

    Returns:
        Shape (n,), "source" or "target", and "" where the label is normal.
    """
    directions = np.full(len(windows), "", dtype=object)
    for label in LABELS:
        which = np.flatnonzero(labels == label)
        if label != NORMAL and len(which):
            one = PROFILES[label]
            source = _total(windows, which, one.source_columns)
            target = _total(windows, which, one.target_columns)
            directions[which] = np.where(source >= target, "source", "target")
    return directions


def _total(windows: Windows, which: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """Sum of columns over the samples of chosen windows, shape (len(which),)."""
    return windows.take(which).values(list(columns)).sum(axis=(1, 2))
