"""Where the allowed answers part: the few positions whose logits decide between them.

Answers share beginnings, so their tokens form a tree. Only inner nodes need logits, and inner nodes
that lie on one path are read in one pass by appending that path to the prompt:

    prompt ── normal
           └─ anomalous ─┬─ recon         inner nodes: the prompt's end, and after "anomalous";
                         └─ dos           one path, ("anomalous",), holds both
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

# Batches: which prompts one forward pass of a small model reads together, and how much of them is
# the same.

# Measured with 3 M parameters on 2 cores: flat between 2,000 and 6,000, slower once caches
# overflow.
BATCH_TOKENS = 4096
SHARED_TOKENS = (
    64  # below this, copying the cache and masking cost more than the shared beginning saves
)


def make_batches(lengths: Sequence[int], budget: int, equal: bool = False) -> list[list[int]]:
    """Group rows of similar length so that a padded group holds at most ``budget`` tokens (or one
    row).

    Args:
        lengths: tokens of each row.
        budget: tokens per group, padding counted.
        equal: only rows of the same length share a group.

    >>> make_batches([3, 9, 4, 3], budget=10)
    [[0, 3], [2], [1]]
    """
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        batch = batches[-1] if batches else None
        if (
            batch
            and (len(batch) + 1) * lengths[i] <= budget
            and not (equal and lengths[batch[0]] != lengths[i])
        ):
            batch.append(i)
        else:
            batches.append([i])
    return batches


def count_shared_tokens(rows: list[list[int]]) -> int:
    """How many leading tokens all rows share, one of each row left over; 0 where sharing would not
    pay."""
    # Sorted, the first and the last row differ soonest.
    same = takewhile(lambda pair: pair[0] == pair[1], zip(min(rows), max(rows), strict=False))
    shared = min(sum(1 for _ in same), min(len(row) for row in rows) - 1)
    return shared if len(rows) > 1 and shared >= SHARED_TOKENS else 0


@dataclass(frozen=True)
class ChoiceTree:
    """Tokenised choices as nodes to read and steps to sum.

    Attributes:
        paths: token ids to append to a prompt; none is the beginning of another, so together they
            reach every node.
        nodes: the path's number and how many of its tokens come before the logits; (0, 0) is the
            prompt's own end.
        steps: for each choice, the node at which each of its tokens is predicted, and the token.
    """

    paths: tuple[tuple[int, ...], ...]
    nodes: tuple[tuple[int, int], ...]
    steps: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def longest(self) -> int:
        """Tokens that scoring appends to a prompt at most."""
        return max(len(path) for path in self.paths)


def build_choice_tree(choices: Sequence[Sequence[int]]) -> ChoiceTree:
    """Lay out tokenised choices as a tree.

    Args:
        choices: token ids of each choice, at least one choice and one token each, no two alike.

    Raises:
        ValueError: a choice has no token, or two choices have the same tokens.

    >>> build_choice_tree([[5], [6, 7], [6, 8]])
    ChoiceTree(paths=((6,),), nodes=((0, 0), (0, 1)), steps=(((0, 5),), ((0, 6), (1, 7)), ((0, 6),
    (1, 8))))
    """
    tokens = [tuple(choice) for choice in choices]
    if not tokens or not all(tokens) or len(set(tokens)) < len(tokens):
        raise ValueError(f"choices must differ and have at least one token each, got {tokens}")
    inner = sorted({choice[:depth] for choice in tokens for depth in range(len(choice))})
    # Sorted, a beginning stands directly before its continuations: a node is a path's end unless
    # the next extends it.
    ends = [
        node
        for node, after in zip(inner, [*inner[1:], None], strict=True)
        if after is None or not _begins(after, node)
    ]
    place = {node: next(i for i, path in enumerate(ends) if _begins(path, node)) for node in inner}
    number = {node: i for i, node in enumerate(inner)}
    return ChoiceTree(
        paths=tuple(ends),
        nodes=tuple((place[node], len(node)) for node in inner),
        steps=tuple(
            tuple((number[choice[:depth]], token) for depth, token in enumerate(choice))
            for choice in tokens
        ),
    )


def _begins(path: tuple[int, ...], node: tuple[int, ...]) -> bool:
    return path[: len(node)] == node
