"""Which weights of a base are trained on for another network: new answers, frozen layers.

What the second paper (section IV-C) does to the output layer of a classifier is done here to the
rows of the output embedding that stand for the answers' words. Where a base reads and writes with
one embedding, those rows are the reading's too, which costs nothing as long as no window's text
holds such a word.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from finetune.examples import encode_texts
from prompts.messages import ANSWERS
from traffic.errors import UserError
from traffic.labels import LABELS


def find_answer_rows(tokenizer: Any) -> list[int]:
    """Tokens of the answers, ascending: rows of the output embedding."""
    answers = encode_texts([ANSWERS[label] for label in LABELS], tokenizer, special=False)
    return sorted({token for answer in answers for token in answer})


def renew_answers(model: Any, tokenizer: Any, seed: int) -> None:
    """Draw the answers' rows of the output embedding anew, as the base drew them once.

    Args:
        model: a causal or sequence-to-sequence model, without an adapter.
        tokenizer: its own.
        seed: of the draw.

    Raises:
        UserError: the model's embeddings are frozen under an adapter.
    """
    weight = model.get_output_embeddings().weight
    if not weight.requires_grad:
        raise UserError(
            "new answers are rows of the base's embedding, which an adapter leaves frozen; expected "
            "a model that is trained whole; add --method full, or transfer by reduced-learning-rate"
        )
    rows = find_answer_rows(tokenizer)
    deviation = getattr(model.config, "initializer_range", None) or 0.02
    drawn = torch.randn(
        len(rows), weight.shape[1], generator=torch.Generator().manual_seed(seed)
    ).to(weight)
    with torch.no_grad():
        weight[rows] = deviation * drawn


def freeze_layers(model: Any, tokenizer: Any, count: int) -> None:
    """Take the lowest layers out of training, and of the embeddings all but the answers' rows.

    Args:
        model: a causal model, with or without an adapter.
        tokenizer: its own.
        count: layers from the bottom, at least 1.

    Raises:
        UserError: the model has no more layers than that, or is no stack of layers.
    """
    layers = _find_layers(model)
    if not 0 < count < len(layers):
        raise UserError(
            f"{count} layers to freeze of {len(layers)}; expected at least 1, and one left to train; "
            "correct --freeze"
        )
    for layer in layers[:count]:
        for weight in layer.parameters():
            weight.requires_grad_(False)
    rows = find_answer_rows(tokenizer)
    for weight in _embeddings(model):
        if weight.requires_grad:
            kept = torch.zeros(len(weight), 1, device=weight.device)
            kept[rows] = 1
            # Weights do not decay in tuning: a row without a gradient does not move.
            weight.register_hook(lambda gradient, kept=kept: gradient * kept.to(gradient))


def _find_layers(model: Any) -> nn.ModuleList:
    wanted = model.config.num_hidden_layers
    stacks = [
        part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == wanted
    ]
    if model.config.is_encoder_decoder or not stacks:
        raise UserError(
            f"{type(model).__name__} is no single stack of layers; expected a causal base; "
            "transfer by another technique"
        )
    return stacks[0]


def _embeddings(model: Any) -> Iterator[nn.Parameter]:
    """Those of input and output, one where they are tied."""
    reading, writing = model.get_input_embeddings(), model.get_output_embeddings()
    yield from {id(part.weight): part.weight for part in (reading, writing) if part}.values()
