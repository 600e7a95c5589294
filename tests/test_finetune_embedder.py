"""A sentence model tuned on documents: questions are no part of what they find, and only a gain is kept."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from finetune.embedder import make_pairs, tune_embedder, write_tuned
from knowledge_base.chunks import Chunk, make_chunks
from knowledge_base.documents import read_documents
from knowledge_base.embeddings import SentenceEmbedder, packaged_model, sample_files
from traffic.errors import UserError

TABLE = "| Code | Meaning |\n| --- | --- |\n| F1 | overcurrent at the output |\n| F2 | short |"


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    files = [
        path
        for path in sample_files()
        if path.stem.startswith(("korvo", "lumen", "tarn", "halden", "aster"))
    ]
    return [
        chunk
        for file in files
        for one in read_documents(file).documents
        for chunk in make_chunks(one)
    ]


def test_a_heading_a_cell_and_a_title_ask_for_what_does_not_hold_them():
    manual = Chunk("1", "Drive", "7 Faults › Fault table", None, TABLE, "manual")
    incident = Chunk("2", "INC-1 Cable pinched", "Symptoms", None, "No link.", "incident")
    pairs = make_pairs([manual, incident])
    assert [pair.question for pair in pairs] == [
        "Fault table", "overcurrent at the output", "INC-1 Cable pinched",
    ]  # fmt: skip
    assert pairs[0].passage == TABLE
    assert pairs[1].passage == manual.context.replace("overcurrent at the output", "")
    assert pairs == make_pairs([manual, incident])


def test_too_few_documents_and_a_folder_that_exists_are_refused(chunks, tmp_path):
    with pytest.raises(UserError, match="expected at least 4 documents"):
        tune_embedder(chunks[:3], packaged_model(), tmp_path / "new")
    with pytest.raises(UserError, match="exists; expected a new folder"):
        tune_embedder(chunks, packaged_model(), tmp_path)


def test_a_model_that_finds_no_more_is_not_kept(chunks, tmp_path):
    steps = []
    tuned = tune_embedder(
        chunks, packaged_model(), tmp_path / "new", 2, 4, 0.0, progress=lambda *at: steps.append(at)
    )
    assert tuned.before == tuned.after > 0
    assert tuned.folder is None
    assert not [*tmp_path.iterdir()]
    assert steps == [(1, 2), (2, 2)]


def test_a_tuned_model_is_the_base_with_other_weights_and_loads(tmp_path):
    model = SentenceTransformer(str(packaged_model()), device="cpu", local_files_only=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.01)
    write_tuned(model, packaged_model(), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    old, new = SentenceEmbedder(), SentenceEmbedder(tmp_path / "new")
    assert new.fingerprint != old.fingerprint
    expected = model.encode(["red lamp"], normalize_embeddings=True)
    np.testing.assert_allclose(new.embed(["red lamp"]), expected, atol=1e-5)
    assert np.abs(new.embed(["red lamp"]) - old.embed(["red lamp"])).max() > 1e-3
