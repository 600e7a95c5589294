"""Tune the sentence model on a plant's own documents, and keep it only where it finds more.

passages ─▶ questions (headings, cells of tables, titles of incidents) ─▶ pairs ─▶ training
                                                                        └▶ held-out documents: Recall@5

A question and the passage that it was made from are pulled together, and the question and the other
passages of the batch apart (MultipleNegativesRanking: Henderson et al., arXiv 1705.00652). A
question is never part of what it is to find: of a heading the passage's text alone is the answer, a
cell is taken out of its row. Such questions are easier than an operator's, so a gain on them is the
least that a tuned model must show.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from knowledge_base.chunks import Chunk
from knowledge_base.languages import to_english
from traffic.errors import UserError

Progress = Callable[[int, int], None]
_LEAST_DOCUMENTS, _LEAST_PAIRS = 4, 32
_HELD_OUT = 4  # every fourth document, by its title
_CELLS = 3  # questions made of the cells of one passage, at most
_SHORTEST = 12  # characters of a cell that asks for something
_K = 5


@dataclass(frozen=True)
class Pair:
    """A question, the passage that it was made from without it, and the passage's document."""

    question: str
    passage: str
    document: str


@dataclass(frozen=True)
class Tuned:
    """What tuning did.

    Attributes:
        trained, held_out: how many questions were learnt from, and asked of held-out documents.
        before, after: Recall@5 on the latter.
        folder: the kept model; None where it found no more than before.
    """

    trained: int
    held_out: int
    before: float
    after: float
    folder: Path | None


def make_pairs(chunks: Sequence[Chunk], seed: int = 0) -> list[Pair]:
    """Questions to passages, in the order of the chunks; the same for the same seed."""
    pairs = []
    for chunk in chunks:
        draw = Random(f"{seed} {chunk.id}")  # noqa: S311  # a choice of questions, no secret
        heading = chunk.section.rpartition(" › ")[2]
        title = chunk.document if chunk.kind == "incident" else heading
        found = [(title, chunk.text)]
        cells = _find_cells(chunk.text)
        for cell in draw.sample(cells, min(_CELLS, len(cells))):
            found.append((cell, chunk.context.replace(cell, "", 1)))
        pairs += [Pair(to_english(q), to_english(p), chunk.document) for q, p in found]
    return pairs


def _find_cells(text: str) -> list[str]:
    """Cells of a table's rows that say something, without the header."""
    rows = [line for line in text.split("\n") if line.startswith("|")][2:]
    cells = [cell.strip() for row in rows for cell in row.strip("|").split(" | ")]
    return [cell for cell in dict.fromkeys(cells) if len(cell) >= _SHORTEST]


def tune_embedder(
    chunks: Sequence[Chunk],
    base: Path,
    out: Path,
    steps: int = 100,
    batch: int = 16,
    learning_rate: float = 2e-5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tuned:
    """Tune a sentence model on passages, and write it where Recall@5 on held-out documents rises.

    Args:
        chunks: of the knowledge base.
        base: folder of the model to begin with; its configuration is kept.
        out: folder of the tuned model, which must not exist.
        steps: of training, each on ``batch`` pairs.
        batch: pairs a step; each question's wrong passages are those of the others.
        learning_rate: of AdamW.
        seed: of the questions, their order and dropout.
        progress: called with (steps done, steps in all).

    Raises:
        UserError: ``out`` exists, or the documents are too few to hold one out.
    """
    if out.exists():
        raise UserError(f"{out} exists; expected a new folder; name another")
    pairs = make_pairs(chunks, seed)
    held = {pair.document for pair in pairs if crc32(pair.document.encode()) % _HELD_OUT == 0}
    learnt = [pair for pair in pairs if pair.document not in held]
    asked = [pair for pair in pairs if pair.document in held]
    if (
        len({pair.document for pair in pairs}) < _LEAST_DOCUMENTS
        or not asked
        or len(learnt) < batch
    ):
        raise UserError(
            f"{len(pairs)} questions of {len({pair.document for pair in pairs})} documents cannot be parted into "
            f"learnt and held out; expected at least {_LEAST_DOCUMENTS} documents with {_LEAST_PAIRS} questions; "
            "add documents, or lower --batch"
        )
    torch.manual_seed(seed)
    model = SentenceTransformer(
        str(base), device="cpu", local_files_only=True, trust_remote_code=False
    )
    before = _recall(model, asked)
    _train(model, learnt, steps, batch, learning_rate, seed, progress)
    after = _recall(model, asked)
    kept = after > before
    if kept:
        write_tuned(model, base, out)
    return Tuned(len(learnt), len(asked), before, after, out if kept else None)


def _train(
    model: SentenceTransformer,
    pairs: Sequence[Pair],
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    progress: Progress | None,
) -> None:
    loss = MultipleNegativesRankingLoss(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=steps)
    draw = Random(seed)  # noqa: S311
    model.train()
    for step in range(steps):
        some = draw.sample(list(pairs), batch)
        texts = ([one.question for one in some], [one.passage for one in some])
        optimiser.zero_grad()
        loss([model.tokenize(part) for part in texts], torch.empty(0)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if progress:
            progress(step + 1, steps)
    model.eval()


def _recall(model: SentenceTransformer, pairs: Sequence[Pair]) -> float:
    """The share of questions whose passage is among the first five of all passages by cosine."""
    questions = model.encode([one.question for one in pairs], normalize_embeddings=True)
    passages = model.encode([one.passage for one in pairs], normalize_embeddings=True)
    scores = questions @ passages.T  # (n, n)
    better = (scores > np.diag(scores)[:, None]).sum(axis=1)
    return float((better < _K).mean())


def write_tuned(model: SentenceTransformer, base: Path, out: Path) -> None:
    """Write the base with the tuned weights, whole or not at all."""
    folder = out.with_name(f".{out.name}.draft")
    shutil.rmtree(folder, ignore_errors=True)  # a killed run's
    shutil.copytree(base, folder)
    file = folder / "model.safetensors"
    with safe_open(file, "numpy") as stored:
        before = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    transformer: Any = model[0]
    tuned = transformer.auto_model.state_dict()
    weights = {
        name: tuned[name].numpy().astype(value.dtype) if name in tuned else value
        for name, value in before.items()
    }
    save_file(weights, file, {"format": "pt"})
    folder.rename(out)
