"""Vectors made in numpy are those that sentence-transformers makes."""

import json
import shutil

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from knowledge_base.bulk import Bulk
from knowledge_base.embeddings import SentenceEmbedder, packaged_model
from knowledge_base.languages import to_english
from knowledge_base.minilm import MiniLM, is_minilm
from knowledge_base.scale import PACKAGED, PASSAGES, QUESTIONS, Likeness, measure_scale

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
    return model.encode([to_english(text) for text in TEXTS], normalize_embeddings=True)


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


def test_a_model_that_wants_prompts_gets_them_and_its_pieces_are_those_of_the_text(tmp_path):
    folder = shutil.copytree(packaged_model(), tmp_path / "model")
    file = folder / "config_sentence_transformers.json"
    prompts = {"query": "query: ", "passage": "passage: "}
    file.write_text(json.dumps({**json.loads(file.read_text()), "prompts": prompts}))
    assert not is_minilm(folder)  # sentence-transformers computes it
    plain, marked = SentenceEmbedder(), SentenceEmbedder(folder)
    asked, passage = marked.read_question("red lamp"), marked.read(["red lamp"])[0]
    for read, prompt in ((asked, "query: "), (passage, "passage: ")):
        assert [read.text[start:end] for start, end in read.spans] == ["red", "lamp"]
        expected = plain.read([prompt + "red lamp"])[0].vector
        np.testing.assert_allclose(read.vector, expected, atol=1e-5)
    assert asked.vector @ passage.vector < 0.9999


def test_a_model_of_english_reads_other_languages_in_english_and_a_multilingual_one_as_they_are(
    tmp_path,
):
    english, asked = SentenceEmbedder(), "lupa kata sandi"
    assert english.english
    assert (
        english.read_question(asked).text == english.read([asked])[0].text == "forgotten password"
    )
    folder = shutil.copytree(packaged_model(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 250_037}))
    assert not SentenceEmbedder(folder).english


def test_many_passages_have_the_vectors_of_few(reference):
    """What torch makes of many passages: exact in float32, near in bfloat16; whatever is beside."""
    model = MiniLM(packaged_model())
    texts = [to_english(text) for text in TEXTS] * 7
    wanted = np.concatenate([reference] * 7)
    for exact, most in ((True, 1e-5), (False, 0.02)):
        made = model.read(texts, Bulk(model, exact).encode)
        np.testing.assert_allclose(np.stack([one.vector for one in made]), wanted, atol=most)
        few = model.read(texts[:5])
        assert [one.spans.tolist() for one in made[:5]] == [one.spans.tolist() for one in few]
        assert [one.pieces.shape for one in made[:5]] == [one.pieces.shape for one in few]


def test_a_long_ingest_goes_on_where_torch_takes_over():
    embedder = SentenceEmbedder()
    before, question = embedder.embed(TEXTS), embedder.read_question(TEXTS[0]).vector
    embedder.embed(["short"] * 300)
    after = embedder.embed(TEXTS)
    assert np.sum(before * after, axis=1).min() > 0.9998
    # A question is read as before. Alone or among others: how a processor adds up differs by that.
    np.testing.assert_array_equal(embedder.read_question(TEXTS[0]).vector, question)
    np.testing.assert_allclose(question, before[0], atol=1e-6)


def test_likenesses_of_another_model_are_put_on_the_packaged_ones_scale():
    embedder = SentenceEmbedder()
    questions = [embedder.read_question(one) for one in QUESTIONS]
    measured = measure_scale(questions, embedder.read([*PASSAGES]))
    for name in ("meaning", "matched"):
        ours, shipped = getattr(measured, name), getattr(PACKAGED, name)
        assert ours.related == pytest.approx(shipped.related, abs=1e-3)
        assert ours.unrelated == pytest.approx(shipped.unrelated, abs=1e-3)
    other = Likeness(related=0.9, unrelated=0.8)
    on_ours = other.onto(PACKAGED.meaning, np.array([0.8, 0.85, 0.9]))
    middle = (PACKAGED.meaning.related + PACKAGED.meaning.unrelated) / 2
    np.testing.assert_allclose(
        on_ours, [PACKAGED.meaning.unrelated, middle, PACKAGED.meaning.related]
    )
