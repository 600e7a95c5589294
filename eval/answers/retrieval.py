"""Measure retrieval: whether the passage that answers is found, and nothing where nothing answers.

questions ─▶ rankings (meaning, words, both, as shipped, reranked) ─▶ places ─▶ scores, intervals
"""

import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import CrossEncoder

from eval.answers.cases import Question, find_cases, read_questions
from eval.answers.results import (
    Placed,
    QuestionResult,
    RetrievalRun,
    Skipped,
    Variant,
    hash_files,
    make_origin,
    note_skipped,
)
from eval.detection.bootstrap import resample_mean
from knowledge_base.chunks import Chunk
from knowledge_base.documents import Document, read_documents
from knowledge_base.embeddings import sample_files
from knowledge_base.index import Index, ensure_samples, open_index
from knowledge_base.retriever import Ranking, rank
from traffic.errors import UserError

# ---- Scores of rankings, each a mean over questions with its interval ----

_DEPTH = 10  # places that count: nDCG@10


def first_rank(places: Iterable[Hashable], accepted: frozenset[Hashable]) -> int | None:
    """The rank, from 1, of the first passage in an accepted place; None where there is none.

    >>> first_rank("abc", frozenset("cb"))
    2
    """
    return next((rank for rank, place in enumerate(places, 1) if place in accepted), None)


def ndcg(places: Iterable[Hashable], accepted: frozenset[Hashable]) -> float:
    """Normalised discounted cumulative gain of places (Järvelin and Kekäläinen, ACM TOIS 20, 2002).

    Each place counts once, at its first passage; accepted ones gain 1 / log2(rank + 1).

    Args:
        places: where the passages stand, best first.
        accepted: at least one.
    """
    gains = 1 / np.log2(np.arange(_DEPTH) + 2)
    hits = [place in accepted for place in list(dict.fromkeys(places))[:_DEPTH]]
    return float(gains[: len(hits)][hits].sum() / gains[: len(accepted)].sum())


def score_variant(
    found: Sequence[QuestionResult],
    name: str,
    group: str = "",
    seconds_per_question: float | None = None,
) -> Variant:
    """Mean scores of one way of ranking over questions; those of one group where one is named."""
    chosen = [one for one in found if group in ("", one.group)]
    answerable = [one.placed[name] for one in chosen if one.answerable]
    others = [one.placed[name] for one in chosen if not one.answerable]
    inverse = [1 / one.rank if one.rank else 0.0 for one in answerable]
    return Variant(
        variant=name,
        group=group,
        questions=len(answerable),
        unanswerable=len(others),
        recall_at_1=resample_mean([float(one == 1) for one in inverse]),
        recall_at_5=resample_mean([float(one >= 1 / 5) for one in inverse]),
        mrr=resample_mean(inverse),
        ndcg_at_10=resample_mean([one.ndcg_at_10 or 0.0 for one in answerable]),
        refused_rightly=resample_mean([float(one.silent) for one in others]),
        refused_wrongly=resample_mean([float(one.silent) for one in answerable]),
        seconds_per_question=seconds_per_question,
    )


# ---- Questions through an index ----

SHIPPED = "both, with refusal (ships)"
RERANKED = "both, reranked, with refusal"
_READ = 20  # passages that a cross-encoder reads
_MOST_NAMED = 12
_NO_RERANKER = (
    "No reranker ships: reordering passages by their sentence nearest to the question (the same "
    "sentence model) found the answer first less often than the relevance of whole passages does; --reranker takes a "
    "cross-encoder."
)

Progress = Callable[[int, int], None]
Rows = Sequence[int]
Rerank = Callable[[str, "Ranking", Rows], Rows]


def run_retrieval(
    cases: Sequence[Path],
    further: Path,
    reranker: Path | None = None,
    progress: Progress | None = None,
) -> RetrievalRun:
    """Ask every question of an index made for it, in a folder of its own, and score each way of
    ranking.

    Args:
        cases: files of questions, the shipped ones where empty; those about further documents are
            left out and counted where ``further`` is no folder.
        further: documents indexed beside the shipped ones.
        reranker: folder of a cross-encoder (sentence-transformers) that reorders what ships.
        progress: told how many questions are done.

    Raises:
        UserError: a file has mistakes, an answer names no document or heading (all are named), or a
            model cannot be loaded.
    """
    paths = tuple(cases) or find_cases("retrieval")
    files = dict(zip(paths, read_questions(paths), strict=True))
    folders = [further] if further.is_dir() else []
    documents = [
        one for path in (*sample_files(), *folders) for one in read_documents(path).documents
    ]
    documents.sort(key=lambda one: one.path)
    here = {path: file for path, file in files.items() if file.documents == "shipped" or folders}
    for path, file in here.items():
        _check_answers(path, file.questions, documents)
    asked = [one for file in here.values() for one in file.questions]
    absent = sum(len(file.questions) for file in files.values()) - len(asked)
    why = f"no folder {further} of documents (--documents)"
    skipped = (Skipped(cases=absent, why=why),) if absent else ()
    rerank = _load_reranker(reranker) if reranker else None
    with tempfile.TemporaryDirectory() as home, open_index(home, examples=True) as index:
        ensure_samples(index)
        if folders:
            index.add(folders)
        names = {chunk: Path(entry.path).name for entry in index.list() for chunk in entry.chunks}
        index.read_question("loads the model")
        found, spent = [], dict[str, float]()
        for number, question in enumerate(asked, 1):
            orders = _rank(question.question, index, rerank, spent)
            found.append(_find_places(question, orders, names))
            if progress:
                progress(number, len(asked))
        return RetrievalRun(
            name="retrieval",
            origin=make_origin(),
            cases=hash_files(paths),
            documents={Path(one.path).name: one.id for one in documents},
            chunks=len(index.chunks()),
            embedder=index.embedder.fingerprint,
            reranker=reranker.name if reranker else "",
            variants=tuple(_score(found, spent)),
            questions=tuple(found),
            skipped=skipped,
            notes=(*note_skipped(skipped), *(() if reranker else (_NO_RERANKER,))),
        )


def _score(found: Sequence[QuestionResult], spent: dict[str, float]) -> list[Variant]:
    variants = []
    for name in found[0].placed if found else ():
        seconds = round(spent[name] / len(found), 4) if name in spent else None
        variants.append(score_variant(found, name, "", seconds))
    groups = dict.fromkeys(one.group for one in found)
    return [*variants, *(score_variant(found, SHIPPED, group) for group in groups)]


def _check_answers(
    path: Path, questions: Sequence[Question], documents: Sequence[Document]
) -> None:
    """Refuse answers that name no document or heading: a typing error would be a miss for ever."""
    wrong = []
    for question in questions:
        for name, headings in question.answers.items():
            fitting = [one for one in documents if Path(one.path).name.startswith(name)]
            if len(fitting) != 1:
                wrong.append(f"{question.id}.answers.{name}: {len(fitting)} documents begin so")
                continue
            document = fitting[0]
            known = {part for one in document.sections for part in one.path or (document.title,)}
            unknown = [one for one in headings if one not in known]
            wrong += [f"{question.id}.answers.{name}: no heading {one!r}" for one in unknown]
    if wrong:
        raise UserError(
            f"{path} has {len(wrong)} answers that are nowhere: {'; '.join(wrong[:_MOST_NAMED])}; "
            "expected documents by the beginning of their file name, and headings as they stand in "
            "them; correct the cases"
        )


def _rank(
    question: str, index: Index, rerank: Rerank | None, spent: dict[str, float]
) -> dict[str, list[Chunk]]:
    """The chunks in each order; ``spent`` gains the seconds of each."""
    start_s = time.perf_counter()
    ranking = rank(index, question)
    ranked_s = time.perf_counter() - start_s
    shipped = [row for row in ranking.by_relevance if row in ranking.answering]
    orders: dict[str, Rows] = {
        "meaning (dense)": ranking.by_meaning,
        "words (BM25)": ranking.by_words,
        "both (relevance)": ranking.by_relevance,
        SHIPPED: shipped,
    }
    seconds = {SHIPPED: ranked_s}
    if rerank is not None:
        orders[RERANKED] = rerank(question, ranking, shipped)
        seconds[RERANKED] = time.perf_counter() - start_s
    for name, took_s in seconds.items():
        spent[name] = spent.get(name, 0.0) + took_s
    return {name: [ranking.chunks[row] for row in rows] for name, rows in orders.items()}


def _find_places(
    question: Question, orders: dict[str, list[Chunk]], names: dict[str, str]
) -> QuestionResult:
    accepted = frozenset(
        (name, part) for name, headings in question.answers.items() for part in headings or ("",)
    )
    placed = {}
    for name, chunks in orders.items():
        places = [_place_of(question, chunk, names[chunk.id]) for chunk in chunks]
        placed[name] = Placed(
            rank=first_rank(places, accepted),
            ndcg_at_10=ndcg(places, accepted) if accepted else None,
            silent=not chunks,
            first=f"{chunks[0].document} › {chunks[0].section}" if chunks else "",
        )
    return QuestionResult(
        id=question.id,
        group=question.group,
        question=question.question,
        answerable=bool(accepted),
        placed=placed,
    )


def _place_of(question: Question, chunk: Chunk, file_name: str) -> Hashable:
    """The place of a chunk, in the words of the question's answers where they name it."""
    beginning = next((one for one in question.answers if file_name.startswith(one)), None)
    if beginning is None:
        return file_name, chunk.section
    headings = question.answers[beginning]
    if not headings:
        return beginning, ""
    parts = chunk.section.split(" › ")
    return next(((beginning, one) for one in headings if one in parts), (file_name, chunk.section))


def _load_reranker(folder: Path) -> Rerank:
    """A cross-encoder on disk: it reads question and passage together.

    Raises:
        UserError: the folder holds none.
    """
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} holds no cross-encoder; expected config.json and *.safetensors; "
            "name another with --reranker"
        )
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)

    def rerank(question: str, ranking: Ranking, rows: Rows) -> Rows:
        first = list(rows[:_READ])
        if not first:
            return rows
        pairs = [(question, ranking.chunks[row].context) for row in first]
        scores = np.asarray(model.predict(pairs, show_progress_bar=False))
        return [*(first[i] for i in np.argsort(-scores, kind="stable")), *rows[_READ:]]

    return rerank
