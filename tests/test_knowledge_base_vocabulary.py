"""The field's words: other words, other languages, codes however they are written."""

import numpy as np
import pytest
import yaml
from word_vectors import WordVectors

from knowledge_base.chunks import Chunk
from knowledge_base.counted import count_words
from knowledge_base.languages import GLOSSARY, concept_of, language_of, to_english
from knowledge_base.minilm import Embedded
from knowledge_base.vocabulary import make_terms, numbers_alike, put_in_words
from knowledge_base.words import code_key


@pytest.mark.parametrize(
    ("text", "language", "english"),
    [
        ("Lupa kata sandi G-11", "id", "forgotten password G-11"),
        ("bagaimana cara mengganti baterai", "id", "how how replace battery"),
        ("Motorkabel prüfen", "de", "motor cable check"),
        ("contraseña por defecto", "es", "password default"),
        # Forms of a verb that the stemmer leaves: a participle, the third person.
        ("der Filter ist ausgetauscht", "de", "the Filter is replace"),
        ("der Motor wird gewechselt", "de", "the motor are replace"),
        ("die Pumpe braucht Öl", "de", "the pump need oil"),
        # "ister" is no form of "ist", nor "reg" of "Regen".
        ("in welchem Register steht der Druck", "de", "in that register stand the pressure"),
        # Words that all languages of a plant share say nothing, nor does one foreign word of many.
        ("reset password", "en", "reset password"),
        ("power light blinks red", "en", "power light blinks red"),
        ("man in the middle", "en", "man in the middle"),
        ("T0846 0x0B 40001", "en", "T0846 0x0B 40001"),
        ("", "en", ""),
    ],
)
def test_known_words_are_put_into_english_and_the_rest_is_left(text, language, english):
    assert (language_of(text), to_english(text)) == (language, english)
    assert to_english(to_english(text)) == to_english(text)


def test_the_glossary_is_words_in_known_languages_and_none_means_two_things_in_one_line():
    table = yaml.safe_load(GLOSSARY.read_text(encoding="utf-8"))
    assert len(table) > 200
    for concept, words in table.items():
        assert isinstance(concept, str), concept  # YAML takes a bare "on" or "no" for a truth
        assert words.keys() <= {"en", "id", "de", "es"}, concept
        for phrases in words.values():
            assert all(isinstance(phrase, str) and phrase for phrase in phrases), concept
            assert len(phrases) == len(set(phrases)), concept


@pytest.mark.parametrize(
    ("one", "other"), [("flashing", "blinks"), ("reboot", "restart"), ("amber", "orange")]
)
def test_other_words_are_one_concept(one, other):
    assert concept_of(one) == concept_of(other) is not None
    assert set(make_terms(one)) & set(make_terms(other))


@pytest.mark.parametrize("written", ["G-05", "g05", "G_05"])
def test_a_code_is_one_however_it_is_written(written):
    assert code_key(written) == "g05"
    assert "g05" in make_terms(written)


def test_numbers_are_alike_in_hex_and_decimal_where_they_are_codes():
    assert [*numbers_alike(["exception", "11", "0x0b", "11"])] == [
        (), ("0xb",), ("11",), (),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "in_words"),
    [
        ("upgrade the inverter", "update the drive"),  # other words
        ("f07", "F-07"),  # a code as the passages write it
        ("f 07", "F-07"),
        ("frimware of the drvie", "firmware of the drive"),  # typing errors
        ("wich register was missng", "which register was missing"),  # also of a small word
        ("the feildbus", "the fieldbus"),  # and of a word of the field that no passage holds
        ("bake", "bake"),  # too short to be a typing error of such a word
        ("resistor", "resistor"),  # a word of the field, though "register" is near
        ("kubernetes", "kubernetes"),
    ],
)
def test_a_question_is_put_into_the_words_of_the_passages(asked, in_words):
    text = "Update the firmware of the drive. F-07: a register is missing."
    words = count_words([Chunk("1", "Drive", "Update", None, text, "manual")])
    embedder = WordPieces()
    read = embedder.read_question(asked)
    while (put := put_in_words(read, words)) != read.text:
        read = embedder.read_question(put)
    assert read.text == in_words


class WordPieces(WordVectors):
    """Every word in two pieces: as a sentence model sees what it does not know."""

    def _read(self, text):
        read = super()._read(text)
        middle = read.spans.mean(axis=1, keepdims=True).astype(int)
        halves = np.hstack([read.spans[:, :1], middle, middle, read.spans[:, 1:]])
        return Embedded(
            read.vector, read.pieces.repeat(2, axis=0), halves.reshape(-1, 2), read.text
        )
