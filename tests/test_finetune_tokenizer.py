"""A closed vocabulary: one token a word, nothing learned, nothing unknown passes."""

from pathlib import Path

from transformers import AutoTokenizer

from finetune.pocket.tokenizer import build_tokenizer
from prompts.messages import ANSWERS, classification_prompt
from prompts.window_text import vocabulary


def test_every_word_of_prompts_and_answers_is_one_known_token() -> None:
    tokenizer = build_tokenizer(vocabulary())
    for word in vocabulary():
        tokens = tokenizer(word, add_special_tokens=False).input_ids
        assert len(tokens) == 1
        assert tokenizer.unk_token_id not in tokens
    lengths = {
        label: len(tokenizer(answer, add_special_tokens=False).input_ids)
        for label, answer in ANSWERS.items()
    }
    assert lengths == {label: 1 if label == "normal" else 2 for label in ANSWERS}


def test_an_answer_is_the_same_tokens_alone_and_after_the_prompt() -> None:
    tokenizer = build_tokenizer(vocabulary())
    prompt = classification_prompt(" ".join(vocabulary()[3:30:5]))
    joint = tokenizer(prompt + ANSWERS["recon"]).input_ids
    answer = tokenizer(ANSWERS["recon"], add_special_tokens=False).input_ids
    assert joint == tokenizer(prompt).input_ids + answer


def test_unknown_words_become_one_token_and_line_ends_none() -> None:
    tokenizer = build_tokenizer(["sent", "got"])
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("got 192.168.1.1\n\nsent").input_ids)
    assert tokens == ["<s>", "got", "<unk>", "sent"]


def test_a_saved_tokenizer_is_loaded_as_it_was(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(vocabulary(), max_length=77)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = f"{vocabulary()[5]} {vocabulary()[40]}\nverdict\n"
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert (loaded.pad_token, loaded.eos_token, loaded.model_max_length) == ("<pad>", "</s>", 77)
