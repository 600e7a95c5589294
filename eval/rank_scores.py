"""Scores of rankings, each a mean over questions with its interval: Recall@k, MRR, nDCG@10, refusals."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from eval.answers.results import QuestionResult, Variant
from eval.detection.bootstrap import find_interval
from eval.results import Estimate

__all__ = ["first_rank", "ndcg", "resample", "score_variant"]

_DEPTH = 10  # places that count: nDCG@10
_DRAWS = 2000


def first_rank(places: Iterable[Hashable], accepted: frozenset[Hashable]) -> int | None:
    """The rank, from 1, of the first passage in an accepted place; None where there is none.

    >>> first_rank("abc", frozenset("cb"))
    2
    """
    return next((rank for rank, place in enumerate(places, 1) if place in accepted), None)


def ndcg(places: Iterable[Hashable], accepted: frozenset[Hashable], k: int = _DEPTH) -> float:
    """Normalised discounted cumulative gain of places: each counts once, at its first passage; accepted ones gain 1.

    Source: Järvelin and Kekäläinen, ACM TOIS 20 (2002); discount 1 / log2(rank + 1).

    Args:
        places: where the passages stand, best first.
        accepted: at least one.
        k: how many places count.
    """
    distinct = list(dict.fromkeys(places))[:k]
    gained = sum(1 / np.log2(rank + 1) for rank, place in enumerate(distinct, 1) if place in accepted)
    ideal = sum(1 / np.log2(rank + 1) for rank in range(1, min(len(accepted), k) + 1))
    return float(gained / ideal)


def resample(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean with its 95 % percentile bootstrap interval over questions or cases; no interval for fewer than two."""
    if not values:
        return Estimate(value=None)
    drawn = np.asarray(values, dtype=float)
    if len(drawn) < 2:
        return Estimate(value=float(drawn[0]))
    rng = np.random.default_rng(seed)
    means = drawn[rng.integers(0, len(drawn), (_DRAWS, len(drawn)))].mean(axis=1)  # (draws,)
    spread = find_interval(means)
    return Estimate(value=float(drawn.mean()), low=spread.low, high=spread.high)


def score_variant(
    found: Sequence[QuestionResult], name: str, group: str = "", seconds_per_question: float | None = None
) -> Variant:
    """Mean scores of one way of ranking over questions; those of one group where one is named."""
    chosen = [one for one in found if group in ("", one.group)]
    told = [one.placed[name] for one in chosen if one.answerable]
    mute = [one.placed[name] for one in chosen if not one.answerable]
    return Variant(
        variant=name,
        group=group,
        questions=len(told),
        unanswerable=len(mute),
        recall_at_1=resample([float(one.rank == 1) for one in told]),
        recall_at_5=resample([float(one.rank is not None and one.rank <= 5) for one in told]),
        mrr=resample([1 / one.rank if one.rank else 0.0 for one in told]),
        ndcg_at_10=resample([one.ndcg_at_10 or 0.0 for one in told]),
        refused_rightly=resample([float(one.silent) for one in mute]),
        refused_wrongly=resample([float(one.silent) for one in told]),
        seconds_per_question=seconds_per_question,
    )
