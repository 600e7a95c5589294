"""Vary the texts that a model is trained on (A8): a level one step off, a fact left out.

    out_pkts.max=7 streak.max=9 known_min.mean=4     ─▶     out_pkts.max=8 known_min.mean=4

Each word is a token of its own, so nothing tells a model that level 7 lies beside 8: it learns which
words of its training plants go with which label by heart. A base that read plain texts for 90 minutes
had 0.15 nats a window on plants that it had read and 0.41 on others; five minutes more of texts varied
anew at each reading made that 0.18 and 0.35.
"""

from collections.abc import Sequence

import numpy as np

from prompts.window_text import LEVELS, QUIET, vocabulary


def vary_texts(texts: Sequence[str], moved: float, left_out: float, seed: int) -> list[str]:
    """Texts of windows, each varied by chance.

    Args:
        texts: as `prompts.window_text` renders them.
        moved: of the facts, the share whose level is one lower or one higher; lowest and highest
            stay within the levels.
        left_out: of the facts, the share that is not said.
        seed: of the chance.

    Returns:
        As many texts, in the same order; one of which nothing is left is a quiet one.

    >>> vary_texts(["quiet"], 1, 1, 0)
    ['quiet']
    """
    words = vocabulary()  # quiet, then the levels of each fact
    number = {word: place for place, word in enumerate(words)}
    said = [text.split() for text in texts]
    lengths = [len(text) for text in said]
    ids = np.fromiter((number[word] for text in said for word in text), np.int64, sum(lengths))

    rng = np.random.default_rng(seed)
    level = (ids - 1) % LEVELS
    step = rng.choice([-1, 1], len(ids)) * (rng.random(len(ids)) < moved)
    is_fact = ids > 0
    varied = np.where(is_fact, ids - level + np.clip(level + step, 0, LEVELS - 1), ids)
    kept = ~is_fact | (rng.random(len(ids)) >= left_out)

    owner = np.repeat(np.arange(len(texts)), lengths)
    ends = np.cumsum(np.bincount(owner[kept], minlength=len(texts)))
    left = np.array(words, object)[varied[kept]]
    return [
        " ".join(left[start:end]) or QUIET for start, end in zip([0, *ends], ends, strict=False)
    ]
