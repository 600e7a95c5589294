"""Headers of many packets at once, as structured arrays: a header is read whole, its fields are columns of it."""

from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

__all__ = ["header_type", "interleave", "read_headers"]

_Columns = TypeVar("_Columns")


def header_type(size: int, **named: tuple[int, str]) -> np.dtype:
    """A header of ``size`` bytes, with the offset and the type of its fields."""
    at, kinds = zip(*named.values(), strict=True)
    return np.dtype({"names": list(named), "formats": list(kinds), "offsets": list(at), "itemsize": size})


def read_headers(buffer: np.ndarray, at: np.ndarray, kind: np.dtype) -> np.ndarray:
    """The header of a structured type at each offset, shape (n,); what lies past the buffer's end reads as 0."""
    size = kind.itemsize
    if len(buffer) < 2 * size:
        buffer = np.append(buffer, np.zeros(2 * size, np.uint8))
    last = len(buffer) - size
    # A view with stride 1 holds the header that starts at every byte, and copies nothing.
    found = np.ndarray((last + 1,), f"V{size}", buffer, strides=(1,))[np.minimum(at, last)]
    cut = np.flatnonzero(at > last)
    if len(cut):
        end = np.append(buffer[last:], np.zeros(size, np.uint8))
        found[cut] = np.ndarray((size + 1,), f"V{size}", end, strides=(1,))[np.minimum(at[cut] - last, size)]
    return found.view(kind)


def interleave(rows: list[np.ndarray], parts: list[_Columns]) -> _Columns:
    """Parts of some packets as one, in the order of their ``rows``; a part is a dataclass of columns."""
    order = np.argsort(np.concatenate(rows), kind="stable")
    kind: Any = type(parts[0])
    return kind(*(np.concatenate([getattr(part, field.name) for part in parts])[order] for field in fields(kind)))
