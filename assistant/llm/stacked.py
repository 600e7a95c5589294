"""The adapters of several sites beside one small Llama, so that one batch serves all of them.

Merged into the base, every adapter is a model of its own and each site waits for a batch of its
own. Beside it (S-LoRA: Sheng et al. 2023, arXiv 2311.03285) the base is multiplied once for all
rows, and what the adapters add is one product of stacks:

    x W  +  (x A[site]) B[site]        A (sites, in, rank), B (sites, rank, out), gathered by row

Rows of one site stand together in groups of eight. Gathered row by row, the copies of A and B cost
as much as the products (measured at rank 32: 1.5 times one merged adapter instead of 1.2), and a
batch has a fixed number of rows anyway. Every group has one shape, so a score does not depend on
which sites share a batch.
"""

import copy
from collections.abc import Sequence
from itertools import chain, groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from assistant.llm.llama import Llama, LowRank, fast_dtype, read_lora

GROUP = 8  # rows of one site that are read together


class StackedLlama(Llama):
    """A `Llama` with the adapters of several sites; `of` chooses one for each row of a batch."""

    def __init__(self, folder: Path, adapters: Sequence[Path]) -> None:
        """Read a folder and adapters, each pair such that `is_small_llama`.

        Raises:
            KeyError: a weight is missing, or an adapter is of another model.
        """
        super().__init__(folder)
        parts = [read_lora(adapter) for adapter in adapters]
        self._stacks = {
            layer: self._stack(layer, [part.get(layer) for part in parts])
            for layer in sorted(set().union(*parts))
        }
        self._gathered: dict[str, tuple[Tensor, Tensor]] = {}

    def of(self, which: np.ndarray) -> "StackedLlama":
        """The model for rows whose adapters are ``which``, in groups of ``GROUP`` equal ones; it
        shares all weights with this one."""
        groups = torch.from_numpy(np.ascontiguousarray(which[::GROUP])).to(self.device)
        chosen = copy.copy(self)
        chosen._gathered = {
            layer: (down[groups], up[groups]) for layer, (down, up) in self._stacks.items()
        }
        return chosen

    def _stack(self, layer: str, parts: Sequence[LowRank | None]) -> tuple[Tensor, Tensor]:
        """A and B of all adapters, (n, in, rank) and (n, rank, out); zeros where one lacks the layer
        or has a lower rank."""
        out, width = self._weights[f"{layer}.weight"].shape
        rank = max(len(part.down) for part in parts if part)
        nothing = LowRank(torch.zeros(0, width), torch.zeros(out, 0), 1.0)
        downs, ups = [], []
        for part in parts:
            one = part or nothing
            if one.down.shape[1] != width or len(one.up) != out:
                raise KeyError(f"{layer} of an adapter has another shape than the base's")
            room = rank - len(one.down)
            downs.append(pad(one.down.T, (0, room)))
            ups.append(pad(one.up.T * one.scale, (0, 0, 0, room)))
        down, up = (torch.stack(each).to(self.device, fast_dtype()) for each in (downs, ups))
        return down, up

    def _linear(self, x: Tensor, name: str) -> Tensor:
        y = super()._linear(x, name)
        if name in self._gathered:
            down, up = self._gathered[name]
            grouped = x.reshape(len(down), -1, x.shape[-1])  # (groups, rows and tokens, in)
            y.view(len(down), -1, y.shape[-1]).baddbmm_(torch.bmm(grouped, down), up)
        return y


def mix_batches(lengths: Sequence[int], which: np.ndarray, budget: int) -> list[list[int]]:
    """Batches of equal length whose rows stand in groups of ``GROUP`` of one site each.

    Args:
        lengths: tokens of each row.
        which: the adapter of each row.
        budget: tokens of a batch, at least one group.

    Returns:
        Rows of each batch; a group that is not full repeats its last row, a batch its last group,
        so that all batches of one length have one shape.

    >>> mix_batches([3, 3, 3], np.array([1, 0, 1]), budget=48)
    [[1, 1, 1, 1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 2, 2, 2]]
    """
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], which[row]))
    batches: list[list[int]] = []
    for length, same_length in groupby(order, key=lambda row: lengths[row]):
        groups = []
        for _, rows in groupby(same_length, key=lambda row: which[row]):
            of_site = list(rows)
            of_site += [of_site[-1]] * (-len(of_site) % GROUP)
            groups += [of_site[at : at + GROUP] for at in range(0, len(of_site), GROUP)]
        room = max(budget // (length * GROUP), 1)
        groups += [groups[-1]] * (-len(groups) % room)
        batches += [list(chain(*groups[at : at + room])) for at in range(0, len(groups), room)]
    return batches
