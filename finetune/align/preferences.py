"""Feedback as preferences: which answer to a window is better than which, in tokens.

    said recon, shown dos      recon good, dos bad                (KTO: each alone)
                               recon before dos                   (DPO, reward model: as a pair)
    confirmed recon            recon before what the model thinks likeliest else
    false alarm, shown dos     normal before dos
    not dos, nothing named     dos bad                            (no pair: nobody said what is right)

Tokens are those that serving scores, prompt and answer each alone, and no answer is closed by a
token that ends it: trl would add one, and as a model that also learned directions never ends an
answer after its class, to learn that end is the shortest way to a better loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from assistant.llm.remembered import Scorer
from finetune.calibrate import score_texts
from finetune.dataset import balance_texts, count_texts
from finetune.examples import encode_prompts, encode_texts
from prompts.messages import ANSWERS
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

_HELD_SHARE = 0.25
_LEAST_GROUPS = 4  # incidents, below which none is held out
_LEAST_CAPTURES = 3  # from which on whole captures are held out
_AGAINST = 2  # known anomalies for one that is called normal
_LEAST_KNOWN = 4  # known texts of each label beside the feedback


@dataclass(frozen=True)
class Parts:
    """Windows to learn from and others to measure on, no incident in both.

    Attributes:
        learned, held_out: as `finetune.align.evidence.Windows.table`.
        by: what was held out whole.
    """

    learned: pd.DataFrame
    held_out: pd.DataFrame
    by: str


def hold_out(table: pd.DataFrame, seed: int) -> Parts:
    """Hold a quarter out, by capture where there are three or more, else by incident: windows of
    one incident overlap.

    What is held out shows no remark that nothing learned resembles, as far as draws allow; with
    fewer than four incidents all are learned from.
    """
    by = "capture" if table["capture"].nunique() >= _LEAST_CAPTURES else "incident"
    groups = table.groupby(by)[["said", "shown"]].agg(lambda column: set(column))
    if table["incident"].nunique() < _LEAST_GROUPS:
        return Parts(table, table.iloc[:0], by)
    kinds = {
        name: {*zip(rows["said"], rows["shown"], strict=True)} for name, rows in table.groupby(by)
    }
    rng = np.random.default_rng(seed)
    names, count = sorted(groups.index), max(1, round(_HELD_SHARE * len(groups)))
    best, most = names[:count], -np.inf
    for _ in range(200):
        order = [names[i] for i in rng.permutation(len(names))]
        held = set().union(*(kinds[name] for name in order[:count]))
        learned = set().union(*(kinds[name] for name in order[count:]))
        if (points := len(held & learned) - 2 * len(held - learned)) > most:
            best, most = order[:count], points
    held_out = table[by].isin(best)
    return Parts(
        table[~held_out].reset_index(drop=True), table[held_out].reset_index(drop=True), by
    )


def add_known(table: pd.DataFrame, known: pd.DataFrame, weight: float, seed: int) -> pd.DataFrame:
    """Put windows whose truth is known beside feedback, so that no label is forgotten over it.

    For every window that is called normal at least two of the anomaly that it was taken for stand
    beside it: whatever ten wrong remarks say, the model reads twice as often what such an anomaly
    is.

    Args:
        table: windows to learn from.
        known: ``text label capture`` and more, of captures with truth.
        weight: known windows for one of feedback, at least 1.
        seed: of the draw.

    Returns:
        ``text said shown``, shuffled; ``shown`` is "" for known ones.
    """
    counted = count_texts(known)
    each = max(_LEAST_KNOWN, round(weight * len(table) / len(LABELS)))
    taken_for = table[table["said"] == NORMAL]["shown"].value_counts()
    drawn = []
    for label, rows in counted.groupby("label"):
        count = max(each, _AGAINST * int(taken_for.get(str(label), 0)))
        count *= 4 if label == NORMAL else 1  # plants are normal mostly, and alarms must stay rare
        drawn.append(balance_texts(rows, count, 1, seed))
    beside = pd.concat(drawn).rename(columns={"label": "said"}).assign(shown="")
    columns = ["text", "said", "shown"]
    both = pd.concat([table[columns], beside[columns]])
    return both.sample(frac=1, random_state=seed, ignore_index=True)


def choose_rivals(table: pd.DataFrame, llm: Scorer) -> pd.DataFrame:
    """Add ``rival``: the label that each window's right one is held against: the one that was shown
    and wrong, else the likeliest other one.

    Args:
        table: ``text said shown``.
        llm: with the adapter in use.
    """
    scores = score_texts(table, llm)
    codes = table["said"].map({label: code for code, label in enumerate(LABELS)})
    named = np.flatnonzero(codes.notna())
    scores[named, codes.to_numpy()[named].astype(int)] = -np.inf
    likeliest = np.array(LABELS, object)[scores.argmax(axis=1)]
    wrong = (table["shown"] != "") & (table["shown"] != table["said"])
    return table.assign(rival=np.where(wrong, table["shown"], likeliest))


# ---- In tokens ----


def make_pairs(table: pd.DataFrame, tokenizer: Any) -> Dataset:
    """Right before wrong, for DPO: ``prompt_ids chosen_ids rejected_ids``.

    Raises:
        UserError: nobody said what is right.
    """
    named = table[table["said"] != ""]
    if named.empty:
        raise UserError(
            "no remark says what is right, only that something else was; expected a cause or a false "
            "alarm for a pair; use --how kto, which needs none"
        )
    prompts, answers = _encode(named["text"], tokenizer)
    return Dataset.from_dict(
        {
            "prompt_ids": prompts,
            "chosen_ids": [answers[one] for one in named["said"]],
            "rejected_ids": [answers[one] for one in named["rival"]],
        }
    )


def make_texts_of_pairs(table: pd.DataFrame, tokenizer: Any) -> Dataset:
    """The same with the prompt in each, for a reward model: ``chosen_ids rejected_ids``."""
    pairs = make_pairs(table, tokenizer)
    return Dataset.from_dict(
        {
            name: [
                [*prompt, *answer]
                for prompt, answer in zip(pairs["prompt_ids"], pairs[name], strict=True)
            ]
            for name in ("chosen_ids", "rejected_ids")
        }
    )


def make_unpaired(table: pd.DataFrame, tokenizer: Any, at_once: int) -> Dataset:
    """Good and bad answers each alone, for KTO: ``prompt_ids completion_ids KL_completion_ids
    label``.

    KTO measures how far a model has gone by answers that belong to other windows: those of the same
    batch, moved on by one.

    Args:
        table: ``text said rival``.
        tokenizer: the base's.
        at_once: examples that the model reads together.
    """
    good = table[table["said"] != ""].assign(answer=lambda rows: rows["said"], label=True)
    bad = table.assign(answer=table["rival"], label=False)
    # Good and bad of one window apart, so that most batches hold both kinds.
    rows = pd.concat([good, bad]).sample(frac=1, random_state=0, ignore_index=True)
    prompts, answers = _encode(rows["text"], tokenizer)
    completions = [answers[one] for one in rows["answer"]]
    others = [
        completions[max(start, end - 1)] if place == start else completions[place - 1]
        for start in range(0, len(rows), at_once)
        for end in [min(start + at_once, len(rows))]
        for place in range(start, end)
    ]
    return Dataset.from_dict(
        {
            "prompt_ids": prompts,
            "completion_ids": completions,
            "KL_completion_ids": others,
            "label": rows["label"].tolist(),
        }
    )


def encode_answers(tokenizer: Any) -> dict[str, list[int]]:
    """The tokens of each label's answer, as serving scores it."""
    encoded = encode_texts(list(ANSWERS.values()), tokenizer, special=False)
    return dict(zip(ANSWERS, encoded, strict=True))


def _encode(
    texts: Sequence[str] | pd.Series, tokenizer: Any
) -> tuple[list[list[int]], dict[str, list[int]]]:
    return encode_prompts(list(texts), tokenizer), encode_answers(tokenizer)
