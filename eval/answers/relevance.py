"""Fit how likely it is that a passage answers, and measure that on questions it was not fitted on.

    python -m eval.answers.relevance [FURTHER]     prints the weights for knowledge_base/relevance.py

Every question that is fitted on is asked of the shipped documents together; of each manual alone
that answers it, as of a plant that has added one manual; and of a manual that does not answer it,
where silence is right. The questions of each manual in ``tuning`` and ``near-misses`` are asked of it alone and
of it among the shipped documents, those of ``taught`` of it alone, for half of them name no device; half of the
questions in these two ask a manual for what it does not state of a thing that it knows. What orders passages
is fitted to put those that answer first, on the shipped documents alone; how likely the first one answers
is fitted after that, on all of them. Five folds and each of these manuals are held out in turn, whole
documents at a time, so that no question is judged by weights that saw another question to the same document.
The questions that ``eval retrieval`` counts are fitted on never, those to the documents of FURTHER, a folder,
among them; nor are those of ``unseen``, nor those of ``first-contact`` and ``second-contact``, where a question
may name another device than the one whose manual would answer: their manuals are asked in one base too.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
import typer
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from assistant.llm.calibration import calibration_error
from eval.answers.cases import CASES, UNSEEN, Question, read_questions
from eval.detection.bootstrap import resample_mean
from knowledge_base.embeddings import Embedder, SentenceEmbedder, sample_files
from knowledge_base.index import Index, ensure_samples, open_index
from knowledge_base.relevance import BOUND, CODE_SURE, OF_PASSAGE, Weights, put_exact_first
from knowledge_base.retriever import Ranking, rank

_HERE = Path(__file__).parent
_FITTED = (_HERE / "relevance-fitted.yaml", _HERE / "relevance-unanswered.yaml")
_TESTED, _TESTED_FURTHER = ("shipped", "held-out"), ("further", "stack", "zeek")
_TUNING = _HERE / "tuning"  # manuals whose misses were looked at
NEAR_MISSES = _HERE / "near-misses"  # asked for what they do not state
TAUGHT = _HERE / "taught"  # the same, written to be fitted on
FIRST_CONTACT = (
    _HERE / "first-contact"
)  # neighbours in one base; misses were looked at, nothing is fitted
SECOND_CONTACT = _HERE / "second-contact"  # the same, and never looked at
_FOLDS, _BINS = 5, 5
_BOUNDS = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75)
_SHRUNK, _RIDGE = 4e-4, 0.1  # on the weights of the order, and of the probability
_ELSEWHERE_EVERY, _ELSEWHERE_WEIGHT = 6, 0.25  # which of the pairs of question and other manual
Place = Literal["together", "alone", "elsewhere"]


@dataclass(frozen=True)
class Seen:
    """A question with its candidates.

    Attributes:
        question: as it was asked.
        place: of all documents together, of one that answers alone, or of one that does not.
        candidates: their features, (n_candidates, n_weights - 1).
        right: which of them stand in a place that answers, (n_candidates,).
        exact: which hold the code that was asked for; they are not fitted.
        missing: whether it is about a code that no document asked holds.
        manual: the folder and the file name, without its ending, of the manual that was added to the
            shipped documents or asked alone; "" where it is one of these.
    """

    question: Question
    place: Place
    candidates: np.ndarray
    right: np.ndarray
    exact: np.ndarray
    missing: bool = False
    manual: str = ""

    @property
    def answerable(self) -> bool:
        """Whether a document that was asked answers it."""
        return bool(self.question.answers) and self.place != "elsewhere"

    @property
    def fold(self) -> int | str:
        """In which fold its documents are held out."""
        if self.manual:
            return self.manual
        key = next(iter(self.question.answers), self.question.id)
        return crc32(key.encode()) % _FOLDS


def ask(questions: Sequence[Question], folders: Sequence[Path] = ()) -> list[Seen]:
    """Look for every question among the shipped documents and those of further folders."""
    with tempfile.TemporaryDirectory() as home, open_index(home, examples=True) as index:
        ensure_samples(index)
        if folders:
            index.add(folders)
        return _ask(index, questions, "together")


def ask_alone(
    questions: Sequence[Question],
    manuals: Sequence[Path],
    every: int = _ELSEWHERE_EVERY,
    embedder: Embedder | None = None,
) -> list[Seen]:
    """Look for questions in one manual at a time: those that it answers, and of those that it does
    not one in ``every``; with the packaged sentence model or another."""
    embedder, seen = embedder or SentenceEmbedder(), list[Seen]()
    for path in manuals:
        inside = [q for q in questions if any(path.name.startswith(one) for one in q.answers)]
        outside = [
            q
            for q in questions
            if q not in inside and crc32((q.id + path.name).encode()) % every == 0
        ]
        with tempfile.TemporaryDirectory() as home, open_index(home, embedder, False) as index:
            index.add([path])
            seen += _ask(index, inside, "alone") + _ask(index, outside, "elsewhere")
    return seen


def _ask(index: Index, questions: Sequence[Question], place: Place) -> list[Seen]:
    names = {chunk: Path(entry.path).name for chunk, entry in index.sources().items()}
    return [_see(one, rank(index, one.question), names, place) for one in questions]


def _see(question: Question, ranking: Ranking, names: dict[str, str], place: Place) -> Seen:
    rows = ranking.by_relevance
    chunks = [ranking.chunks[row] for row in rows]
    right = [_answers(question, names[one.id], one.document, one.section) for one in chunks]
    exact = [row in ranking.exact for row in rows]
    seen = np.array([ranking.seen[row] for row in rows]).reshape(len(rows), -1)
    return Seen(
        question,
        place,
        seen,
        np.array(right, dtype=bool),
        np.array(exact, dtype=bool),
        ranking.about_missing,
    )


def _answers(question: Question, name: str, title: str, section: str) -> bool:
    parts = {*section.split(" › "), title}
    return any(
        name.startswith(beginning) and (not headings or not parts.isdisjoint(headings))
        for beginning, headings in question.answers.items()
    )


def fit(seen: Sequence[Seen]) -> Weights:
    """Fit the order of passages (softmax over a question's candidates), then the probability of
    the first (logistic in its place in the order, and in the question)."""
    seen = [one for one in seen if len(one.candidates)]
    order = _fit_order([one for one in seen if one.right.any() and not one.manual])
    first = [_first(one, order) for one in seen]
    inexact = [at for at, one in enumerate(seen) if not one.exact[first[at]] and not one.missing]
    x = np.array(
        [
            [
                seen[at].candidates[first[at], :OF_PASSAGE] @ order,
                *seen[at].candidates[0, OF_PASSAGE:],
            ]
            for at in inexact
        ]
    )
    weights = [_weight(seen[at]) for at in inexact]
    spread = x.std(axis=0) + 1e-9  # so that the ridge is the same for all
    model = LogisticRegression(C=_RIDGE, max_iter=3000)
    model.fit(x / spread, [seen[at].answerable for at in inexact], sample_weight=weights)
    scale, *of_question = model.coef_[0] / spread
    found = [*(scale * order), *of_question, model.intercept_[0]]
    return Weights(*(round(float(weight), 2) for weight in found))


def _weight(one: Seen) -> float:
    return _ELSEWHERE_WEIGHT if one.place == "elsewhere" and not one.manual else 1.0


def _first(one: Seen, order: np.ndarray) -> int:
    return int(np.argmax(one.candidates[:, :OF_PASSAGE] @ order + 1e3 * one.exact))


def _fit_order(seen: Sequence[Seen]) -> np.ndarray:
    """Weights of what a passage and a question have in common, (OF_PASSAGE,)."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, slope = 0.0, np.zeros(OF_PASSAGE)
        for one in seen:
            x = one.candidates[:, :OF_PASSAGE]
            scores = x @ weights
            likely = np.exp(scores - scores.max())
            right = likely[one.right].sum() / likely.sum()
            total -= np.log(right + 1e-12)
            slope += (
                likely / likely.sum() @ x
                - likely[one.right] / likely[one.right].sum() @ x[one.right]
            )
        n = len(seen)
        return total / n + _SHRUNK / 2 * weights @ weights, slope / n + _SHRUNK * weights

    return minimize(loss, np.full(OF_PASSAGE, 5.0), jac=True, method="L-BFGS-B").x


def judge(one: Seen, weights: Weights) -> tuple[float, int]:
    """Probability of the first passage, and the rank of the first right one, 0 where there is
    none."""
    if not len(one.candidates):
        return 0.0, 0
    *slopes, bias = weights
    likely = 1 / (1 + np.exp(-(one.candidates @ np.array(slopes) + bias)))
    likely = np.minimum(likely, 1 - CODE_SURE) if one.missing else likely
    likely = put_exact_first(likely, one.exact, likely)
    order = np.argsort(-likely, kind="stable")
    places = np.flatnonzero(one.right[order])
    return float(likely[order[0]]), int(places[0]) + 1 if len(places) else 0


def cross_validate(seen: Sequence[Seen]) -> list[tuple[float, int]]:
    """Judge each question by weights that were fitted on other documents' questions."""
    fitted = {
        fold: fit([one for one in seen if one.fold != fold]) for fold in {one.fold for one in seen}
    }
    return [judge(one, fitted[one.fold]) for one in seen]


def describe(
    name: str, seen: Sequence[Seen], judged: Sequence[tuple[float, int]], bound: float = BOUND
) -> str:
    """One line: where the answers stand, what refusal at a bound costs, how often it is right, and
    how well probabilities are."""
    likely = np.array([probability for probability, _ in judged])
    ranks = np.array([rank for _, rank in judged])
    answerable = np.array([one.answerable for one in seen])
    shown = likely >= bound
    parts = [f"{name}: {answerable.sum()} answerable, {(~answerable).sum()} not"]
    if answerable.any():
        first, five = ranks == 1, (ranks >= 1) & (ranks <= 5)
        parts += [
            f"Recall@{k} {_mean(hit[answerable])} before refusal, {_mean((hit & shown)[answerable])} after"
            for k, hit in ((1, first), (5, five))
        ]
    if not answerable.all():
        parts.append(f"refused rightly {_mean((~shown)[~answerable])}")
    if 0 < answerable.sum() < len(seen):
        parts.append(f"AUC {roc_auc_score(answerable, likely):.3f}")
        parts.append(f"Brier {brier_score_loss(answerable, likely):.3f}")
        parts.append(f"calibration error {calibration_error(likely, answerable, _BINS):.3f}")
    return "; ".join(parts)


def _mean(hits: np.ndarray) -> str:
    """A share with its interval: 95 % by resampling questions."""
    found = resample_mean(hits.astype(float).tolist())
    return f"{found.value:.3f} ({found.low:.2f} to {found.high:.2f})"


def render_reliability(truth: np.ndarray, likely: np.ndarray) -> str:
    """How often a first passage answers where that was said to be so likely: a line for each fifth of
    the probabilities, with its 95 % interval."""
    at = np.minimum((likely * _BINS).astype(int), _BINS - 1)
    return "\n".join(
        f"reliability: said {likely[at == b].mean():.2f}, true {_mean(truth[at == b])}, of {(at == b).sum()}"
        for b in range(_BINS)
        if (at == b).any()
    )


def _read(paths: Sequence[Path]) -> list[Question]:
    return [one for file in read_questions(paths) for one in file.questions]


def ask_manuals(folder: Path, among: bool = True) -> list[Seen]:
    """The questions of each manual in a folder, of it alone and of it among the shipped documents."""
    seen = []
    for questions in sorted(folder.glob("*.yaml")):
        asked, name = _read([questions]), questions.stem
        path = next(one for one in folder.glob(f"{name}.*") if one != questions)
        found = [*ask_alone(asked, [path], 1), *(ask(asked, [path]) if among else ())]
        seen += [replace(one, manual=f"{folder.name}/{name}") for one in found]
    return seen


def ask_neighbours(folder: Path) -> list[Seen]:
    """The questions to all manuals of a folder, of these manuals in one base that has no others."""
    questions = sorted(folder.glob("*.yaml"))
    with tempfile.TemporaryDirectory() as home, open_index(home, examples=False) as index:
        index.add(sorted(path for path in folder.iterdir() if path not in questions))
        return _ask(index, _read(questions), "together")


def main(further: Sequence[str]) -> None:
    """Fit, and print what was found."""
    questions = _read(_FITTED)
    manuals = [path for path in sample_files() if not path.name.startswith("inc-")]
    seen = ask(questions) + ask_alone(questions, manuals)
    seen += ask_manuals(_TUNING) + ask_manuals(NEAR_MISSES) + ask_manuals(TAUGHT, among=False)
    weights = fit(seen)
    typer.echo(str(weights))
    pairs = [*zip(seen, cross_validate(seen), strict=True)]
    for name, some in _group(pairs).items():
        typer.echo(_describe_pairs(f"held out, {name}", some))
    for at in _BOUNDS:
        typer.echo(_describe_pairs(f"held out, at a bound of {at}", pairs, at))
    folders = [Path(one) for one in further]
    tested = {}
    for name in (*_TESTED, *(_TESTED_FURTHER if further else ())):
        others = ask(_read([CASES / f"retrieval-{name}.yaml"]), folders)
        tested[name] = [(one, judge(one, weights)) for one in others]
        typer.echo(_describe_pairs(name, tested[name]))
    cases = [*tested["shipped"], *tested.get("further", ())]
    mistyped = [(one, found) for one, found in cases if one.question.group == "mistyped"]
    every = [pair for pairs in tested.values() for pair in pairs]
    typer.echo(_describe_pairs("shipped and further", cases))
    typer.echo(_describe_pairs("of them mistyped", mistyped))
    typer.echo(_describe_pairs("all that were never fitted on", every))
    truth = np.array([one.answerable for one, _ in every])
    typer.echo(render_reliability(truth, np.array([likely for _, (likely, _) in every])))
    for at in _BOUNDS:
        typer.echo(_describe_pairs(f"at a bound of {at}", every, at))
    for folder in (UNSEEN, FIRST_CONTACT, SECOND_CONTACT):
        near = [(one, judge(one, weights)) for one in ask_manuals(folder)]
        for name, some in _group(near).items():
            typer.echo(_describe_pairs(name, some))
        pairs = [(one, judge(one, weights)) for one in ask_neighbours(folder)]
        typer.echo(_describe_pairs(f"{folder.name}, in one base", pairs))


_Judged = tuple[Seen, tuple[float, int]]


def _group(pairs: Sequence[_Judged]) -> dict[str, list[_Judged]]:
    """Questions by the folder of their manual, and by whether it was asked alone."""
    groups: dict[str, list[_Judged]] = {}
    for one, found in pairs:
        folder = one.manual.partition("/")[0] or "shipped"
        place = one.place if folder == "shipped" else "alone"
        name = f"{folder}, {'among the shipped' if one.place == 'together' else place}"
        groups.setdefault(name, []).append((one, found))
    return groups


def _describe_pairs(name: str, pairs: Sequence[_Judged], bound: float = BOUND) -> str:
    return describe(name, [one for one, _ in pairs], [found for _, found in pairs], bound)


if __name__ == "__main__":
    main(sys.argv[1:])
