"""Language models among the others: the same features as texts, and the likelihood of each label.

    features ─▶ levels ─▶ texts ─▶ prompts ─▶ LocalLLM.score ─▶ / temperature ─▶ probabilities

An adapter brings a card, so its temperature, its bounds and the captures that it was trained on are
known. A base model brings none: its temperature is 1, and odd is what is likelier odd than normal.

The shipped base has learned the answers with all its weights before its adapter did. Its row
without the adapter shows what the adapter adds; ``llm:FOLDER`` of another base shows what a model
knows that was never tuned for this.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import pandas as pd

from assistant.detection.classify import (
    decide,
    deny_impossible,
    find_shifts,
    make_probabilities,
    make_prompts,
)
from assistant.facts.exclusion import FORBIDDEN_BY
from assistant.llm.adapters import CARD, POCKET, AdapterCard, Bounds, read_card
from assistant.llm.local import LocalLLM
from assistant.llm.remembered import Scorer
from assistant.llm.weights import check_model_folder
from assistant.registry import load_registered
from eval.models.classifier import TrainingInput, WindowClassifier
from eval.models.features import FEATURES
from eval.results import INVALID
from prompts.messages import ANSWERS
from prompts.window_text import fact_names, quantise, render_levels
from traffic.errors import UserError
from traffic.labels import LABELS
from traffic.window_facts import summarise_rows
from traffic.windows import WINDOW_SAMPLES

_AT_ONCE = 20_000  # windows whose texts are made together


@dataclass(frozen=True)
class _Weights:
    """The folders of a model's weights. What was tuned has a card, an adapter or a whole model; a
    whole one is a base of its own."""

    base: Path
    adapter: Path | None = None
    card: AdapterCard | None = None


class LanguageModel(WindowClassifier):
    """A base model, with an adapter or without one, asked as `assistant.detection.classify` asks.

    Attributes:
        source: ``pocket`` is the shipped adapter on its base, ``zero-shot`` that base alone; else a
            folder, of an adapter or of a model tuned whole where a card lies in it, and of a base
            model elsewhere.
    """

    learns = False
    reads_past = True

    def __init__(self, source: str = "pocket", seed: int = 0, quick: bool = False) -> None:
        super().__init__(seed, quick)
        self.source = source

    @property
    def trained_on(self) -> tuple[str, ...]:  # type: ignore[override]
        """Captures that the card names, for training and for calibration.

        The shipped base has read what the shipped adapter's card names; nothing is known of
        another base.
        """
        weights = _find_weights(self.source)
        shipped = weights.base.resolve() == _pocket_base()
        card = read_card(POCKET) if weights.card is None and shipped else weights.card
        return () if card is None else (*card.data, *card.split.get("calibrate", ()))

    @property
    def size_bytes(self) -> int:
        """The weights on disk, the adapter's on top of the base's."""
        weights = _find_weights(self.source)
        folders = [weights.base, *([weights.adapter] if weights.adapter else [])]
        files = [file for folder in folders for file in folder.glob("*.safetensors")]
        return sum(file.stat().st_size for file in files)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """As serving does, whether it would name the label or not; ``[invalid]`` for NaN."""
        readable = np.nan_to_num(probabilities, nan=1 / len(LABELS))
        labels = decide(readable, self.bounds_)["label"].to_numpy(object)
        return np.where(np.isnan(probabilities).any(axis=1), INVALID, labels).astype(object)

    def _fit(self, training: TrainingInput) -> None:
        del training  # all that it knows lies on disk
        weights = _find_weights(self.source)
        self.llm_: Scorer
        if weights.card is None:
            self.llm_ = LocalLLM(weights.base)
        else:
            self.llm_, _ = load_registered(_find_folder(self.source))
        self.bounds_ = Bounds() if weights.card is None else weights.card.bounds

    def tuned(
        self,
        x: np.ndarray,
        y: np.ndarray,
        method: str,
        tune: Callable[[Path, Path | None, pd.DataFrame, str, int, Path], None],
    ) -> Self:
        """This model, trained on with labelled windows; on the disk nothing changes.

        Args:
            x: features, shape (n_windows, 9, F).
            y: shape (n_windows,), our labels.
            method: one of `eval.models.transfer.TUNED`.
            tune: given base, adapter or None, texts with their labels, method, seed and a folder,
                writes a whole model there.
        """
        weights = _find_weights(self.source)
        texts = pd.DataFrame({"text": _write_texts(self.rows(x)), "label": y})
        made = copy.copy(self)
        with TemporaryDirectory(prefix="faultwise-") as scratch:
            out = Path(scratch) / "tuned"
            tune(weights.base, weights.adapter, texts, method, self.seed, out)
            made.llm_ = LocalLLM(out)
        # The card's bounds are those of other weights: odd is what is likelier odd than normal.
        made.bounds_, made.learns = Bounds(), True
        return made

    def _predict_proba(self, x: np.ndarray, devices: np.ndarray) -> np.ndarray:
        texts = _write_texts(x)
        answers = [ANSWERS[label] for label in LABELS]
        with np.errstate(invalid="ignore"):  # an answer that is no number stays none
            scores = self.llm_.score(make_prompts(texts, self.llm_), answers)
            scores = np.where(np.isfinite(scores).all(axis=1, keepdims=True), scores, np.nan)
            # A device's windows stand together, one sample apart; breaks between them are not known.
            codes = pd.factorize(devices)[0]
            slots = pd.Series(codes).groupby(codes).cumcount().to_numpy(np.int64)
            shift = find_shifts(np.nan_to_num(scores), self.bounds_, codes, slots)
            probabilities = make_probabilities(scores, self.bounds_.temperature, shift)
            samples = {name: x[:, :WINDOW_SAMPLES, FEATURES.index(name)] for name in FORBIDDEN_BY}
            return deny_impossible(probabilities, samples)


def _write_texts(x: np.ndarray) -> list[str]:
    texts: list[str] = []
    for start in range(0, len(x), _AT_ONCE):
        facts = summarise_rows(x[start : start + _AT_ONCE], FEATURES, fact_names())
        texts += render_levels(quantise(facts))
    return texts


def check_source(folder: Path) -> None:
    """Check that a folder holds an adapter with its card, or a base model.

    Raises:
        UserError: it holds neither.
    """
    if (folder / CARD).is_file():
        read_card(folder)
    elif (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder} is an adapter without a card ({CARD}); expected one that names its base; "
            "train it by faultwise finetune"
        )
    else:
        check_model_folder(folder)


def _find_weights(source: str) -> _Weights:
    if source == "zero-shot":
        return _Weights(_pocket_base())
    folder = _find_folder(source)
    if not (folder / CARD).is_file():
        return _Weights(folder)
    card = read_card(folder)
    adapter = folder if (folder / "adapter_config.json").is_file() else None
    return _Weights(card.find_base(folder), adapter, card)


def _find_folder(source: str) -> Path:
    return POCKET if source == "pocket" else Path(source)


def _pocket_base() -> Path:
    return read_card(POCKET).find_base(POCKET)
