"""Language models among the others: the same features, said as texts, and the likelihood of every
answer.

    features ─▶ samples ─▶ texts ─▶ prompts ─▶ LocalLLM.score ─▶ / temperature ─▶ probabilities of
    LABELS

An adapter brings a card, so its temperature, its threshold and the captures that it was trained on
are known. A base model brings none: its temperature is 1 and it never abstains.

The shipped base has learned the answers with all its weights before its adapter did. Its row
without the adapter shows what the adapter adds; what a model knows that was never tuned for this
shows ``llm:FOLDER`` of another base.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from assistant.detection.classify import decide, make_probabilities, make_prompts
from assistant.llm.adapters import CARD, POCKET, AdapterCard, load_adapter, read_card
from assistant.llm.local import LocalLLM
from assistant.llm.weights import check_model_folder
from eval.models.base import Given, WindowClassifier
from eval.models.features import restore_windows
from eval.results import INVALID
from prompts.messages import ANSWERS
from prompts.window_text import render_windows
from traffic.errors import UserError
from traffic.labels import LABELS

POCKET_NAME, ZERO_SHOT = "pocket", "zero-shot"
_SMALLEST = 1e-30  # a probability whose logarithm is still a number
_AT_ONCE = 20_000  # windows whose texts are made together


class LanguageModel(WindowClassifier):
    """A base model, with an adapter or without one, as `assistant.detection.classify` asks it.

    Attributes:
        source: ``pocket`` is the shipped adapter on its base, ``zero-shot`` that base alone; else a
            folder, of an adapter where a card lies in it and of a base model elsewhere.
        calibrate: let `fit` find the temperature on the windows it is given; nothing else is ever
            learned here.
    """

    def __init__(
        self, source: str = POCKET_NAME, calibrate: bool = False, seed: int = 0, quick: bool = False
    ) -> None:
        super().__init__(seed, quick)
        self.source = source
        self.calibrate = calibrate

    @property
    def learns(self) -> bool:  # type: ignore[override]
        """Only a temperature, and that only if told to."""
        return self.calibrate

    @property
    def trained_on(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the card names, for training and for calibration; nothing is known of another's base
        model.

        The shipped base has read what the shipped adapter's card names.
        """
        card = read_card(POCKET) if _is_pocket_base(self.source) else _card_of(self.source)
        return () if card is None else (*card.data, *card.split.get("calibrate", ()))

    @property
    def size_bytes(self) -> int:
        """The weights as they lie on disk, the adapter's on top of the base's."""
        return sum(
            file.stat().st_size
            for folder in _folders(self.source)
            for file in folder.glob("*.safetensors")
        )

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """As serving does: normal from a half on, else the likeliest anomaly; ``[invalid]`` for
        NaN."""
        said = self._verdicts(probabilities)["label"].to_numpy(object)
        return np.where(np.isnan(probabilities).any(axis=1), INVALID, said).astype(object)

    def abstains(self, probabilities: np.ndarray) -> np.ndarray:
        """Where an anomalous verdict stays silent: below the card's threshold, or next to a label's
        twin."""
        return np.asarray(self._verdicts(probabilities)["abstained"], bool)

    def _settle_classes(self, labels: np.ndarray) -> np.ndarray:  # noqa: ARG002 - it knows every label
        return np.array(LABELS, dtype=object)

    def _learn(self, given: Given, codes: np.ndarray) -> None:
        self.llm_ = _load(self.source)
        card = _card_of(self.source)
        self.temperature_ = 1.0 if card is None else card.temperature
        self.shift_ = 0.0 if card is None else card.prior_shift
        self.threshold_ = 0.0 if card is None else card.threshold
        if self.calibrate:
            self.temperature_, self.shift_ = (
                fit_temperature(self._score(given.features), codes),
                0.0,
            )

    def _judge(self, given: Given) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # an answer that is no number stays none
            return make_probabilities(self._score(given.features), self.temperature_, self.shift_)

    def _score(self, features: np.ndarray) -> np.ndarray:
        """Log-probabilities of LABELS, shape (n_windows, len(LABELS)); NaN where the model's
        numbers are none."""
        texts: list[str] = []
        for start in range(0, len(features), _AT_ONCE):
            texts += render_windows(restore_windows(features[start : start + _AT_ONCE]))
        with np.errstate(invalid="ignore"):
            scores = self.llm_.score(
                make_prompts(texts, self.llm_), [ANSWERS[label] for label in LABELS]
            )
        return np.where(np.isfinite(scores).all(axis=1, keepdims=True), scores, np.nan)

    def _verdicts(self, probabilities: np.ndarray) -> Any:
        readable = np.nan_to_num(probabilities, nan=1 / len(LABELS))
        return decide(np.log(np.maximum(readable, _SMALLEST)), 1.0, self.threshold_)


def check_source(folder: Path) -> None:
    """Check that a folder holds an adapter with its card, or a base model, before anything is
    computed.

    Raises:
        UserError: it holds neither.
    """
    if (folder / CARD).is_file():
        read_card(folder)
    elif (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder} is an adapter without a card ({CARD}); expected one that names its base; train it by "
            "faultwise finetune"
        )
    else:
        check_model_folder(folder)


def fit_temperature(scores: np.ndarray, codes: np.ndarray) -> float:
    """The temperature that makes the truth likeliest (Guo et al. 2017, arXiv 1706.04599), between
    0.1 and 20.

    Args:
        scores: shape (n_windows, n_labels), log-probabilities; rows of NaN are left out.
        codes: shape (n_windows,), the true label's column.
    """
    readable = np.isfinite(scores).all(axis=1)
    scores, codes = scores[readable], codes[readable]

    def surprise(log_t: float) -> float:
        scaled = scores / np.exp(log_t)
        truth = scaled[np.arange(len(scaled)), codes]
        return float((np.logaddexp.reduce(scaled, axis=1) - truth).mean())

    found = minimize_scalar(surprise, bounds=(np.log(0.1), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def _load(source: str) -> LocalLLM:
    if source == ZERO_SHOT:
        return LocalLLM(_pocket_base())
    if _card_of(source) is not None:
        llm, _ = load_adapter(_adapter_of(source))
        return llm
    return LocalLLM(Path(source))


def _adapter_of(source: str) -> Path:
    return POCKET if source == POCKET_NAME else Path(source)


def _card_of(source: str) -> AdapterCard | None:
    """An adapter's card; None for a base model."""
    folder = _adapter_of(source)
    return read_card(folder) if source != ZERO_SHOT and (folder / CARD).is_file() else None


def _is_pocket_base(source: str) -> bool:
    return source == ZERO_SHOT or Path(source).resolve() == _pocket_base()


def _folders(source: str) -> list[Path]:
    """Where a model's weights lie."""
    if source == ZERO_SHOT:
        return [_pocket_base()]
    card = _card_of(source)
    return (
        [Path(source)]
        if card is None
        else [_adapter_of(source), (_adapter_of(source) / card.base).resolve()]
    )


def _pocket_base() -> Path:
    return (POCKET / read_card(POCKET).base).resolve()
