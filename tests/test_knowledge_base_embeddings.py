"""Vectors made in numpy are those that sentence-transformers makes."""

import shutil

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from knowledge_base.embeddings import SentenceEmbedder, packaged_model
from knowledge_base.minilm import MiniLM, is_minilm

TEXTS = [
    "what is wrong here?",
    "Exceptions 0x0B and E-1042 on port 502\n| register | value |",
    "Überspannung am Umrichter – ½ Last",
    "a word " * 400,  # longer than the model reads
    "",
]


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    model = SentenceTransformer(str(packaged_model()), device="cpu", local_files_only=True)
    return model.encode(TEXTS, normalize_embeddings=True)


def test_numpy_makes_the_vectors_of_sentence_transformers(reference):
    assert is_minilm(packaged_model())
    vectors = SentenceEmbedder().embed(TEXTS)
    assert vectors.dtype == np.float32
    assert np.sum(vectors * reference, axis=1).min() > 0.999999
    np.testing.assert_allclose(vectors, reference, atol=1e-5)


def test_a_text_has_one_vector_whatever_is_embedded_beside_it():
    model = MiniLM(packaged_model())
    together = model.embed(TEXTS * 2)
    alone = np.concatenate([model.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, np.concatenate([alone, alone]), atol=1e-6)


def test_a_model_of_another_form_is_left_to_sentence_transformers(tmp_path, reference):
    folder = shutil.copytree(packaged_model(), tmp_path / "model")
    modules = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(modules.replace("models.Normalize", "models.Dense"))
    assert not is_minilm(folder)
    (folder / "modules.json").write_text(modules)
    (folder / "sentence_bert_config.json").unlink()
    assert not is_minilm(folder)
    np.testing.assert_allclose(SentenceEmbedder(folder).embed(TEXTS[:2]), reference[:2], atol=1e-5)
