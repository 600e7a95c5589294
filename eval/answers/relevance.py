"""Fit how likely it is that a passage answers, and measure that on questions it was not fitted on.

    python -m eval.answers.relevance [FURTHER]     prints the weights for knowledge_base/relevance.py

Every question of the cases is asked of the shipped documents; of each the first passage counts, and
whether the question is one that they answer. Five folds are held out in turn, whole documents at a
time, so that no question is judged by weights that saw another question to the same document.
Questions to the documents of FURTHER, a folder, are fitted on never.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import typer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from eval.answers.cases import CASES, Question, read_questions
from knowledge_base.index import ensure_samples, open_index
from knowledge_base.relevance import BOUND, CODE_SURE, WEIGHTS, Weights
from knowledge_base.retriever import Ranking, rank

_HERE = Path(__file__).parent
_FITTED = (
    CASES / "retrieval-shipped.yaml",
    _HERE / "relevance-fitted.yaml",
    _HERE / "relevance-unanswered.yaml",
)
_FOLDS, _ROUNDS = 5, 4


@dataclass(frozen=True)
class Seen:
    """A question with its candidates.

    Attributes:
        question: as it was asked.
        candidates: their features, (n_candidates, 5).
        right: which of them stand in a place that answers, (n_candidates,).
        exact: which hold the code that was asked for; they are not fitted.
    """

    question: Question
    candidates: np.ndarray
    right: np.ndarray
    exact: np.ndarray

    @property
    def answerable(self) -> bool:
        """Whether a document answers it."""
        return bool(self.question.answers)


def ask(questions: Sequence[Question], folders: Sequence[Path]) -> list[Seen]:
    """Look for every question among the shipped documents and those of further folders."""
    with tempfile.TemporaryDirectory() as home, open_index(home, examples=True) as index:
        ensure_samples(index)
        if folders:
            index.add(folders)
        names = {chunk: Path(entry.path).name for chunk, entry in index.sources().items()}
        return [_see(one, rank(index, one.question), names) for one in questions]


def _see(question: Question, ranking: Ranking, names: dict[str, str]) -> Seen:
    rows = ranking.by_relevance
    chunks = [ranking.chunks[row] for row in rows]
    right = [_answers(question, names[one.id], one.document, one.section) for one in chunks]
    exact = [ranking.scores[row] >= CODE_SURE for row in rows]
    seen = np.array([ranking.seen[row] for row in rows]).reshape(len(rows), -1)
    return Seen(question, seen, np.array(right, dtype=bool), np.array(exact, dtype=bool))


def _answers(question: Question, name: str, title: str, section: str) -> bool:
    parts = {*section.split(" › "), title}
    return any(
        name.startswith(beginning) and (not headings or not parts.isdisjoint(headings))
        for beginning, headings in question.answers.items()
    )


def fit(seen: Sequence[Seen]) -> Weights:
    """Weights under which the first passage of each question says whether there is an answer.

    Which passage is first depends on the weights, so both are found in turn.
    """
    weights = WEIGHTS
    for _ in range(_ROUNDS):
        first = np.array([one.candidates[np.argmax(_logits(one, weights))] for one in seen])
        scale = first.std(axis=0) + 1e-9
        model = LogisticRegression(max_iter=1000)
        model.fit(first / scale, [one.answerable for one in seen])
        weights = Weights(*map(float, [*(model.coef_[0] / scale), model.intercept_[0]]))
    return weights


def _logits(one: Seen, weights: Weights) -> np.ndarray:
    *slopes, bias = weights
    return one.candidates @ np.array(slopes) + bias


def judge(one: Seen, weights: Weights) -> tuple[float, bool]:
    """Probability of the first passage, and whether a right one is among the first five."""
    likely = 1 / (1 + np.exp(-_logits(one, weights)))
    likely = np.where(one.exact, CODE_SURE + (1 - CODE_SURE) * likely, likely)
    order = np.argsort(-likely, kind="stable")
    return float(likely[order[0]]), bool(one.right[order[:5]].any())


def cross_validate(seen: Sequence[Seen]) -> list[tuple[float, bool]]:
    """Judge each question by weights that were fitted on other documents' questions."""
    keys = [next(iter(one.question.answers), one.question.id) for one in seen]
    folds = np.array([crc32(key.encode()) % _FOLDS for key in keys])
    judged: dict[int, tuple[float, bool]] = {}
    for fold in range(_FOLDS):
        weights = fit([one for one, of in zip(seen, folds, strict=True) if of != fold])
        judged |= {int(i): judge(seen[int(i)], weights) for i in np.flatnonzero(folds == fold)}
    return [judged[i] for i in range(len(seen))]


def describe(name: str, seen: Sequence[Seen], judged: Sequence[tuple[float, bool]]) -> str:
    """One line: how often refused rightly, what refusal costs, how well probabilities are."""
    likely = np.array([probability for probability, _ in judged])
    found = np.array([hit for _, hit in judged])
    answerable = np.array([one.answerable for one in seen])
    shown = likely >= BOUND
    parts = [f"{name}: {answerable.sum()} answerable, {(~answerable).sum()} not"]
    if answerable.any():
        before, after = found[answerable].mean(), (found & shown)[answerable].mean()
        parts.append(f"Recall@5 {before:.3f} before refusal, {after:.3f} after")
    if not answerable.all():
        parts.append(f"refused rightly {(~shown)[~answerable].mean():.3f}")
    if 0 < answerable.sum() < len(seen):
        parts.append(f"AUC {roc_auc_score(answerable, likely):.3f}")
        parts.append(f"Brier {brier_score_loss(answerable, likely):.3f}")
        parts.append(f"calibration error {_calibration_error(answerable, likely):.3f}")
    return "; ".join(parts)


def _calibration_error(truth: np.ndarray, likely: np.ndarray, bins: int = 5) -> float:
    """Expected calibration error over bins of equal width (Naeini et al., AAAI 2015)."""
    at = np.minimum((likely * bins).astype(int), bins - 1)
    gaps = [abs(truth[at == b].mean() - likely[at == b].mean()) * (at == b).mean()
            for b in range(bins) if (at == b).any()]  # fmt: skip
    return float(sum(gaps))


def _read(paths: Sequence[Path]) -> list[Question]:
    return [one for file in read_questions(paths) for one in file.questions]


def main(further: Sequence[str]) -> None:
    """Fit, and print what was found."""
    seen = ask(_read(_FITTED), ())
    weights, judged = fit(seen), cross_validate(seen)
    typer.echo(str(weights))
    typer.echo(describe("cross-validated", seen, judged))
    shipped = [i for i, one in enumerate(seen) if one.question.id < "q200"]
    typer.echo(
        describe("  retrieval-shipped", [seen[i] for i in shipped], [judged[i] for i in shipped])
    )
    typer.echo(describe("as it ships", seen, [judge(one, WEIGHTS) for one in seen]))
    folders = [Path(one) for one in further]
    for name in ("held-out", *(("further",) if further else ())):
        others = ask(_read([CASES / f"retrieval-{name}.yaml"]), folders)
        typer.echo(describe(name, others, [judge(one, weights) for one in others]))


if __name__ == "__main__":
    main(sys.argv[1:])
