"""Choose what goes onto a card: temperature, shift and bounds, from captures never trained on.

Held-out plants are troubled on purpose; in service anomalies are rare, so normal gains. An alarm
has a budget of false ones, a name one of wrong names; neither pays for the other.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from assistant.detection.classify import decide, find_shifts, make_probabilities, make_prompts
from assistant.llm.adapters import Bounds
from assistant.llm.calibration import (
    calibration_error,
    find_prior_shift,
    fit_temperature,
    negative_log_likelihood,
)
from assistant.llm.remembered import Scorer
from finetune.recipe import Recipe
from prompts.messages import ANSWERS
from traffic.capture import SAMPLE_S
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

log = logging.getLogger(__name__)

_ALARMS = np.round(np.arange(0.10, 0.991, 0.01), 2)
_NAMES = np.round(np.arange(0.0, 0.991, 0.01), 2)
_EPISODES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # the last is never
_NORMAL = LABELS.index(NORMAL)


@dataclass(frozen=True)
class Calibration:
    """What goes onto the card, and what it does to the windows that it was chosen on.

    Attributes:
        bounds: temperature, shift, and from where on a window is odd and its label named.
        false_share: of normal windows, those alarmed.
        recall: of anomalous windows, those alarmed.
        named_share: of anomalous windows that are alarmed, those with a name.
        wrong_name_share: of these, those with another than the true one.
        nll: negative log-likelihood of the truth, nats a window, at that temperature.
        calibration_error: mean distance between a verdict's probability and how often such verdicts
            are right.
    """

    bounds: Bounds
    false_share: float
    recall: float
    named_share: float
    wrong_name_share: float
    nll: float
    calibration_error: float

    def on_card(self) -> dict[str, Any]:
        """The bounds under the names of a card."""
        return {
            "temperature": round(self.bounds.temperature, 4),
            "prior_shift": round(self.bounds.prior_shift, 4),
            "threshold": self.bounds.alarm,
            "name_threshold": self.bounds.name,
            "episode_threshold": self.bounds.episode,
        }

    def measures(self) -> dict[str, float]:
        """The rest, as a card's metrics."""
        rest = {name: value for name, value in asdict(self).items() if name != "bounds"}
        return {f"calibration.{name}": round(value, 4) for name, value in rest.items()}


def calibrate(
    windows: pd.DataFrame,
    scores: np.ndarray,
    max_false: float,
    max_wrong_name: float,
    anomalous_share: float | None = None,
    episodes: Sequence[float] = _EPISODES,
) -> Calibration:
    """Find temperature, shift and bounds on held-out windows.

    Args:
        windows: ``label``, ``capture``, ``device``, ``start_s``, as `finetune.dataset.make_texts`
            gives them: every window, a device's together and by time.
        scores: shape (n, len(LABELS)), log-probabilities.
        max_false: the share of normal windows that may be alarmed: of the episode bounds and the
            smallest alarm bound that keeps to it, those with most recall are chosen.
        max_wrong_name: of named true anomalies, those that may have a wrong name.
        anomalous_share: of windows in service; by default as many as are held out.
        episodes: bounds of an episode to choose from.

    Raises:
        UserError: there are no held-out windows.
    """
    if not len(scores):
        raise UserError(
            "no held-out windows to calibrate on; expected some; hold captures out of training"
        )
    truth = windows["label"].map(LABELS.index).to_numpy()
    temperature = fit_temperature(scores, truth)
    calibrated = make_probabilities(scores, temperature)
    shift = find_prior_shift(float((truth != _NORMAL).mean()), anomalous_share)
    start = Bounds(temperature, shift)
    bounds = _choose_alarm(windows, scores, truth, start, max_false, episodes)
    bounds = _choose_name(windows, scores, truth, bounds, max_wrong_name)
    verdicts = judge_windows(windows, scores, bounds)
    odd, alarmed = truth != _NORMAL, (verdicts["label"] != NORMAL).to_numpy()
    named = alarmed & odd & ~verdicts["abstained"].to_numpy()
    wrong = named & (verdicts["label"] != windows["label"].to_numpy()).to_numpy()
    return Calibration(
        bounds=bounds,
        false_share=_share(alarmed, ~odd),
        recall=_share(alarmed, odd),
        named_share=_share(named, alarmed & odd),
        wrong_name_share=_share(wrong, named),
        nll=negative_log_likelihood(scores, truth, temperature),
        calibration_error=calibration_error(
            calibrated.max(axis=1), calibrated.argmax(axis=1) == truth
        ),
    )


def calibrate_model(windows: pd.DataFrame, llm: Scorer, recipe: Recipe) -> Calibration:
    """Find what goes onto a card on windows that were not learned from, scored as serving does."""
    if windows["label"].nunique() < 2:
        log.warning(
            "the captures held out show only %s: the bounds are a guess; record another capture",
            ", ".join(sorted(set(windows["label"]))),
        )
    return calibrate(
        windows,
        score_texts(windows, llm),
        recipe.max_false,
        recipe.max_wrong_name,
        recipe.anomalous_share,
        recipe.episodes,
    )


def _choose_alarm(
    windows: pd.DataFrame,
    scores: np.ndarray,
    truth: np.ndarray,
    bounds: Bounds,
    max_false: float,
    episodes: Sequence[float],
) -> Bounds:
    found: list[tuple[float, float, float]] = []  # recall, episode, alarm
    for episode in episodes:
        odd = 1 - _probabilities(windows, scores, replace(bounds, episode=episode))[:, _NORMAL]
        calm = np.sort(odd[truth == _NORMAL])
        false = 1 - np.searchsorted(calm, _ALARMS, side="left") / max(len(calm), 1)
        alarm = (
            _ALARMS[np.argmax(false <= max_false)] if (false <= max_false).any() else _ALARMS[-1]
        )
        found.append((_share(odd >= alarm, truth != _NORMAL), episode, float(alarm)))
    _, episode, alarm = max(found)
    return replace(bounds, episode=episode, alarm=alarm)


def _choose_name(
    windows: pd.DataFrame, scores: np.ndarray, truth: np.ndarray, bounds: Bounds, max_wrong: float
) -> Bounds:
    probabilities = _probabilities(windows, scores, bounds)
    for name in _NAMES:
        bounds = replace(bounds, name=float(name))
        verdicts = decide(probabilities, bounds)
        named = (verdicts["label"] != NORMAL) & ~verdicts["abstained"] & (truth != _NORMAL)
        if _share((verdicts["label"] != windows["label"].to_numpy()), named) <= max_wrong:
            break
    return bounds


def _share(which: np.ndarray | pd.Series, among: np.ndarray | pd.Series) -> float:
    chosen = np.asarray(which)[np.asarray(among)]
    return float(chosen.mean()) if len(chosen) else 0.0


# ---- Verdicts on windows that were not trained on, scored as serving scores them ----


def score_texts(table: pd.DataFrame, llm: Scorer) -> np.ndarray:
    """Log-probabilities of every label, shape (n_texts, len(LABELS))."""
    return llm.score(
        make_prompts(table["text"].tolist(), llm), [ANSWERS[label] for label in LABELS]
    )


def judge_windows(windows: pd.DataFrame, scores: np.ndarray, bounds: Bounds) -> pd.DataFrame:
    """The verdicts that serving would give, as `assistant.detection.classify.decide` has them."""
    return decide(_probabilities(windows, scores, bounds), bounds)


def _probabilities(windows: pd.DataFrame, scores: np.ndarray, bounds: Bounds) -> np.ndarray:
    device = windows.groupby(["capture", "device"], sort=False).ngroup().to_numpy()
    slots = np.rint(windows["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    # Captures of one set lie years apart: slots are counted from each device's first.
    slots = slots - pd.Series(slots).groupby(device).transform("min").to_numpy()
    shift = find_shifts(scores, bounds, device, slots)
    return make_probabilities(scores, bounds.temperature, shift)


def measure_windows(windows: pd.DataFrame, scores: np.ndarray, bounds: Bounds) -> dict[str, float]:
    """Measures of the verdicts on held-out windows, as an operator sees them.

    Returns:
        ``windows``; ``macro_f1`` over the labels that are true; ``false_share``, of the normal
        windows those alarmed, and ``recall``, of the anomalous ones, named or not (each only where
        there are such windows); ``named_share`` of alarmed anomalies, and ``right_name_share`` of
        those.
    """
    verdicts = judge_windows(windows, scores, bounds)
    truth, label = windows["label"].to_numpy(object), verdicts["label"].to_numpy(object)
    odd, alarmed = truth != NORMAL, label != NORMAL
    named = odd & alarmed & ~verdicts["abstained"].to_numpy()
    true_labels = sorted(set(truth))
    measures = {
        "windows": float(len(windows)),
        "macro_f1": float(
            f1_score(truth, label, labels=true_labels, average="macro", zero_division=0.0)
        ),
    }
    if (~odd).any():
        measures["false_share"] = _share(alarmed, ~odd)
    if odd.any():
        measures["recall"] = _share(alarmed, odd)
        measures["named_share"] = _share(named, odd & alarmed)
        measures["right_name_share"] = _share(label == truth, named)
    return {name: round(value, 4) for name, value in measures.items()}
