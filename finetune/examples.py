"""Examples: a window's text as the tokens that serving sends, and the answer's tokens to learn.

    prompt ─────────────── answer ─────────────────────────
    past known 12 … verdict anomalous recon   source   </s>
                            └ detection ┘class└direction┘      each a part of its own

``joint`` learns all parts in one example, ``separate`` each part in an example of its own, and a
single part alone is there for comparison (H7: does learning both help?). Prompts and answers are
tokenised exactly as `assistant.llm.local.LocalLLM` does, each alone: whatever a tokenizer merges
across their border would not be there when a window is judged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import AutoTokenizer

from assistant.llm.weights import HERE
from finetune.pocket.tokenizer import DIRECTIONS
from prompts.messages import ANSWERS, classification, classification_prompt
from traffic.errors import UserError
from traffic.labels import NORMAL

Target = Literal["joint", "separate", "detection", "class", "direction"]
IGNORED = -100  # cross-entropy leaves such targets out
_POOL = 50  # batches sorted together: sorted as a whole they would be the same each epoch
_AT_ONCE = 4096  # texts


@dataclass(frozen=True)
class Answer:
    """An answer's tokens, and where each of its parts begins; the last one ends with the answer."""

    ids: tuple[int, ...]
    starts: dict[str, int]

    def end(self, part: str) -> int:
        """Where a part ends."""
        later = [start for start in self.starts.values() if start > self.starts[part]]
        return min(later, default=len(self.ids))


def make_examples(
    texts: pd.DataFrame, tokenizer: Any, target: Target = "joint", decoder_start: int | None = None
) -> Dataset:
    """Tokenise labelled texts.

    Args:
        texts: ``text`` and ``label``, and ``direction`` ("source", "target" or "") where it is known.
        tokenizer: the base's.
        target: which parts of an answer an example teaches.
        decoder_start: the token with which the decoder of a sequence-to-sequence model begins; for
            a causal model none, its answer follows the prompt.

    Returns:
        ``input_ids`` and ``labels``, for a decoder ``decoder_input_ids`` too, in the texts' order;
        a text has as many examples as it has parts where they are separate, and none where it
        lacks the part.

    Raises:
        UserError: no text has the part that is to be learned.
    """
    prompts = dict(
        zip(texts["text"], encode_prompts(texts["text"].tolist(), tokenizer), strict=True)
    )
    directions = texts.get("direction", pd.Series("", index=texts.index))
    answers = {
        pair: _encode_answer(*pair, tokenizer)
        for pair in set(zip(texts["label"], directions, strict=True))
    }
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    if decoder_start is not None:
        rows["decoder_input_ids"] = []
    for text, label, direction in zip(texts["text"], texts["label"], directions, strict=True):
        prompt, answer = prompts[text], answers[label, direction]
        for parts in _choose_parts(answer, target):
            learned = _mask(answer, parts)
            if decoder_start is not None:
                rows["input_ids"].append(prompt)
                rows["labels"].append(learned)
                # Not from the labels, as transformers make it: what is masked is read all the same.
                rows["decoder_input_ids"].append([decoder_start, *answer.ids[:-1]])
            else:
                rows["input_ids"].append([*prompt, *answer.ids])
                rows["labels"].append([*[IGNORED] * len(prompt), *learned])
    if not rows["input_ids"]:
        raise UserError(
            f"no text shows a {target}; expected some anomalous ones; give captures that hold some"
        )
    return Dataset.from_dict(rows)


class SimilarLengths(Sampler[int]):
    """Batches of similar length in random order, the same for the same seed and epoch.

    So a run that goes on in the middle of an epoch reads exactly what is left of it. transformers'
    own sampler draws anew then, and reads long before short, which tells of the labels.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        """Batches of ``batch`` rows, whose tokens are ``lengths``."""
        self._lengths, self._batch, self._seed = np.asarray(lengths), batch, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """What `__iter__` gives next belongs to this epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self._epoch])
        order = rng.permutation(len(self._lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), _POOL * self._batch):
            pool = order[start : start + _POOL * self._batch]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            batches += np.split(pool, range(self._batch, len(pool), self._batch))
        whole = len(order) // self._batch  # an incomplete batch stays last, or it would cut others
        yield from np.concatenate(
            [*(batches[i] for i in rng.permutation(whole)), *batches[whole:]]
        ).tolist()


def encode_prompts(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """The tokens of each text's prompt, as serving sends it: a chat where the tokenizer has a
    template."""
    if tokenizer.chat_template:
        rendered = [
            tokenizer.apply_chat_template(
                classification(text), tokenize=False, add_generation_prompt=True
            )
            for text in texts
        ]
        return list(encode_texts(rendered, tokenizer, special=False))
    return list(
        encode_texts([classification_prompt(text) for text in texts], tokenizer, special=True)
    )


def full_answer(label: str, word: str) -> str:
    """An answer with its direction, by the word that the tokenizer knows for it."""
    return f"{ANSWERS[label]} {word}".strip()


def read_direction_words(base: Path) -> dict[str, str]:
    """The words for source and target that a base's tokenizer can tell apart."""
    return find_direction_words(AutoTokenizer.from_pretrained(base, **HERE))


def find_direction_words(tokenizer: Any) -> dict[str, str]:
    """The words for source and target that this tokenizer can tell apart; none where it knows no
    such words."""
    ids = list(encode_texts(DIRECTIONS, tokenizer, special=False))
    unknown = getattr(tokenizer, "unk_token_id", None)
    known = ids[0] != ids[1] and not any(unknown in one for one in ids)
    return {word: word for word in DIRECTIONS} if known else {}


def _encode_answer(label: str, direction: str, tokenizer: Any) -> Answer:
    """Its parts as far as their tokens stand apart: the beginning of an answer must be tokenised
    as it is alone, or what serving scores would not be what was learned."""
    answer = ANSWERS[label]
    word = find_direction_words(tokenizer).get(direction, "")
    texts = [answer.split()[0], answer, full_answer(label, word)]
    first, both, whole = encode_texts(texts, tokenizer, special=False)
    if whole[: len(both)] != both:
        whole = both
    starts = {"detection": 0}
    if label != NORMAL:
        # A tokenizer that merges both words into one token teaches them together.
        starts["class"] = len(first) if both[: len(first)] == first else 0
    if len(whole) > len(both):
        starts["direction"] = len(both)
    ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return Answer((*whole, *ends), starts)


def _choose_parts(answer: Answer, target: Target) -> list[tuple[str, ...]]:
    """The parts that each example of an answer teaches."""
    there = tuple(answer.starts)
    if target == "joint":
        return [there]
    return [(part,) for part in there if target in ("separate", part)]


def _mask(answer: Answer, parts: tuple[str, ...]) -> list[int]:
    learned = [IGNORED] * len(answer.ids)
    for part in parts:
        for place in range(answer.starts[part], answer.end(part)):
            learned[place] = answer.ids[place]
    return learned


def encode_texts(texts: Sequence[str], tokenizer: Any, special: bool) -> Iterator[list[int]]:
    """Each text's token ids, with those that begin and end one where ``special``; some texts at a
    time, because a tokenizer keeps much more of each than its ids."""
    for first in range(0, len(texts), _AT_ONCE):
        yield from tokenizer(
            list(texts[first : first + _AT_ONCE]), add_special_tokens=special
        ).input_ids
