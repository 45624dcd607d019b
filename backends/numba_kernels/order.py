"""Memory orders: how a dense array of any axis order is walked as one flat buffer.

An array is dense when its elements fill one run of memory, whatever the order of its axes: a batch
of images may be stored as N, H, W, C behind the shape (N, C, H, W). Its order is the tuple of its
axes of more than one element from the outermost in memory to the innermost.
"""

from __future__ import annotations

import math
from functools import lru_cache

from tinygrad_cnn.geometry import Shape

Order = tuple[int, ...]


@lru_cache(4096)
def order(shape: Shape, strides: Shape, itemsize: int) -> Order | None:
    """The memory order of a dense array, None when it is not dense (or has no elements)."""
    axes = sorted((i for i, n in enumerate(shape) if n > 1), key=lambda i: -strides[i])
    expected = itemsize
    for i in reversed(axes):
        if strides[i] != expected:
            return None
        expected *= shape[i]
    return tuple(axes) if 0 not in shape else None


@lru_cache(4096)
def dense_strides(shape: Shape, axes: Order, itemsize: int) -> Shape:
    """Strides (bytes) of a dense array of this shape and order."""
    strides = [itemsize] * len(shape)
    step = itemsize
    for i in reversed(axes):
        strides[i] = step
        step *= shape[i]
    return tuple(strides)


@lru_cache(4096)
def split(shape: Shape, axes: Order, axis: int) -> tuple[int, int, int]:
    """(outer, n, inner) of a dense array seen as outer × axis × inner in memory."""
    if shape[axis] == 1:
        return 1, 1, math.prod(shape)
    at = axes.index(axis)
    outer = math.prod(shape[i] for i in axes[:at])
    return outer, shape[axis], math.prod(shape[i] for i in axes[at + 1 :])


@lru_cache(4096)
def varying_axis(shape: Shape, other: Shape) -> int | None:
    """The one axis of ``shape`` along which ``other`` (broadcast to it) varies; −1 for none, None
    for several.

    None also when ``other`` does not broadcast to exactly ``shape``.
    """
    if len(other) > len(shape):
        return None
    lead = len(shape) - len(other)
    axes = [lead + i for i, n in enumerate(other) if n > 1]
    if len(axes) > 1 or any(shape[i] != other[i - lead] for i in axes) or 0 in other:
        return None
    return axes[0] if axes else -1
