"""A tokenizer for a closed vocabulary: one token a word. A line's end is none, since its first word
tells it.

Window text is made by code from a fixed list of words, so nothing is learned from data and nothing
outside the list can reach the model: a word that is not on it becomes ``<unk>``.
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from prompts.messages import ANSWERS, classification_prompt

DIRECTIONS = ("source", "target")  # an adapter may be asked from whom an anomaly comes
SPECIAL = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def build_tokenizer(words: Iterable[str], max_length: int = 1024) -> PreTrainedTokenizerFast:
    r"""Build the tokenizer of a pocket model.

    Args:
        words: the vocabulary of window text, single words; those of the prompt and of its answers
            are added.
        max_length: tokens of the model's context.

    Returns:
        A tokenizer that starts every text with ``<s>``; ids follow the words' order, so equal words
        give equal ids.

    >>> tokenizer = build_tokenizer(["sent", "got"])
    >>> tokenizer.convert_ids_to_tokens(tokenizer("got sent x\n").input_ids)
    ['<s>', 'got', 'sent', '<unk>']
    """
    framing = [
        *classification_prompt("").split(),
        *(word for answer in ANSWERS.values() for word in answer.split()),
        *DIRECTIONS,
    ]
    tokens = list(dict.fromkeys([*SPECIAL.values(), *words, *framing]))
    tokenizer = Tokenizer(
        models.WordLevel(
            {token: i for i, token in enumerate(tokens)}, unk_token=SPECIAL["unk_token"]
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    start = SPECIAL["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokens.index(start))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL
    )
