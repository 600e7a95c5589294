"""A model of what a person prefers: loaded, called as a reward, and kept for a site."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from assistant.llm.adapters import AdapterCard, prompt_fingerprint
from assistant.llm.remembered import Scorer
from assistant.llm.weights import HERE
from finetune.align.preferences import Parts, choose_rivals, encode_answers
from finetune.align.rewards import read_answer
from finetune.calibrate import score_texts
from finetune.examples import encode_prompts
from finetune.sites.cards import TUNED, round_metrics, today
from traffic.errors import UserError
from traffic.files import write_text
from traffic.labels import LABELS

_FOLDER, _REWARD = "rewards", "reward.json"
_PUNISHED = -10.0  # the score of what is no answer


@dataclass
class RewardModel:
    """A trained reward model, called as a reward function is.

    Attributes:
        folder: from `train_reward`.
    """

    folder: Path
    __name__: str = "reward_model"
    _model: Any = field(init=False, repr=False)
    _tokenizer: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Load it."""
        self._tokenizer = AutoTokenizer.from_pretrained(self.folder, **HERE)
        self._model = AutoModelForSequenceClassification.from_pretrained(self.folder, **HERE).eval()
        self._answers = encode_answers(self._tokenizer)

    def score(self, texts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        """How much a person would prefer each label as the answer to its window, shape (n,)."""
        prompts = encode_prompts(list(texts), self._tokenizer)
        rows = [
            torch.tensor([*prompt, *self._answers[label]])
            for prompt, label in zip(prompts, labels, strict=True)
        ]
        scores = []
        for first in range(0, len(rows), 256):
            part = rows[first : first + 256]
            padded = torch.nn.utils.rnn.pad_sequence(
                part, batch_first=True, padding_value=self._tokenizer.pad_token_id
            )
            mask = torch.arange(padded.shape[1]) < torch.tensor([[len(one)] for one in part])
            with torch.inference_mode():
                scores.append(self._model(padded, attention_mask=mask.long()).logits[:, 0].float())
        return torch.cat(scores).numpy() if scores else np.empty(0, np.float32)

    def __call__(self, completions: Sequence[Any], text: Sequence[str], **_: Any) -> list[float]:
        """Rewards of sampled answers."""
        labels = [read_answer(one) for one in completions]
        known = [place for place, label in enumerate(labels) if label]
        rewards = np.full(len(labels), _PUNISHED)
        rewards[known] = self.score([text[i] for i in known], [labels[i] for i in known])
        return rewards.tolist()


def load_reward(home: Path, site: str, card: AdapterCard) -> RewardModel:
    """Load the reward model of a site.

    Raises:
        UserError: it has none, or it was trained for another base or other texts than the card's.
    """
    folder = home / _FOLDER / site
    if not (folder / _REWARD).is_file():
        raise UserError(
            f"no reward model {folder}; expected one of this site; "
            f"train it first: `faultwise finetune align --site {site} --how reward`"
        )
    made_for = json.loads((folder / _REWARD).read_text(encoding="utf-8"))
    if (made_for["base"], made_for["prompts"]) != (card.base_fingerprint, prompt_fingerprint()):
        raise UserError(
            f"{folder} was trained for another base or other texts; expected those of {card.name}; "
            "train it again with --how reward"
        )
    return RewardModel(folder)


def keep_reward(
    home: Path, site: str, trained: Path, card: AdapterCard, parts: Parts, llm: Scorer
) -> dict[str, float]:
    """Put a reward model into its place, whole.

    Args:
        home: the folder of state.
        site: whose it is.
        trained: the model's folder.
        card: of the adapter that it began with.
        parts: windows of feedback, learned and held out.
        llm: with that adapter.

    Returns:
        How often it prefers what the person said (``after``), beside how often the adapter's own
        likelihood does (``before``).
    """
    model = RewardModel(trained)
    metrics = {}
    for name, table in (("held_out", parts.held_out), ("learned", parts.learned)):
        pairs = choose_rivals(table[table["said"] != ""], llm) if len(table) else table
        if pairs.empty:
            continue
        said, rival = (pairs[column].map(LABELS.index).to_numpy() for column in ("said", "rival"))
        own, rows = score_texts(pairs, llm), np.arange(len(pairs))
        texts = pairs["text"].tolist()
        better = model.score(texts, pairs["said"].tolist()) > model.score(
            texts, pairs["rival"].tolist()
        )
        metrics[f"{name}.pairs_right.before"] = float((own[rows, said] > own[rows, rival]).mean())
        metrics[f"{name}.pairs_right.after"] = float(better.mean())
    made_for = {
        "base": card.base_fingerprint,
        "prompts": prompt_fingerprint(),
        "metrics": round_metrics(metrics),
        "made_by": f"faultwise finetune align --site {site} --how reward",
        "created": today(),
    }
    place = home / _FOLDER / site
    draft = place.with_name(f".{site}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(trained, draft, ignore=shutil.ignore_patterns(TUNED))
    write_text(draft / _REWARD, json.dumps(made_for, indent=1) + "\n")
    if place.is_dir():
        shutil.rmtree(place)
    draft.rename(place)
    return metrics
