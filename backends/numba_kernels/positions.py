"""Positions of the largest or smallest number along one axis of float32 arrays: the first of equal
ones, the first NaN if there is one.

In a row of neighbours the extreme is found first, by vectors, and then its position, while the row
is in the cache. Otherwise neighbouring places are compared side by side, from the last row to the
first, with the position so far beside each; a float32 holds it exactly.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .access import get32, puti64, read32, write32
from .extremes import extreme_of_run
from .memory import empty
from .order import dense_strides, order, split
from .runtime import Kernel, address, device, kernel_of, worker_scratch

f4, i8 = np.float32, np.dtype(np.int64)
LARGE = 16384  # elements below which NumPy does it
CHUNK = 16384  # elements
TILE = 256  # places that are compared side by side
LONGEST = 1 << 24  # positions that a float32 holds


@device
def _first(x: int, count: int, best: Any) -> int:
    """Where ``best`` is first; it is one of the numbers."""
    at = 0
    while True:
        end, found = min(at + 32, count), False
        for i in range(at, end):
            v = get32(x, i)
            found |= (v == best) | ((best != best) & (v != v))
        if found:
            break
        at = end
    v = get32(x, at)
    while not (v == best or (best != best and v != v)):
        at += 1
        v = get32(x, at)
    return at


@cache
def runs_kernel(largest: bool) -> Kernel:
    """y[r] = position in x[r, :] for ``step`` rows a chunk."""
    extreme = extreme_of_run(largest)

    def run(chunk, worker, x, y, rows, n, step):
        for r in range(chunk * step, min(rows, (chunk + 1) * step)):
            row = x + 4 * r * n
            puti64(y, r, _first(row, n, extreme(row, n)))

    return kernel_of(run, f"arg{'max' if largest else 'min'}_runs", False)


@cache
def places_kernel(largest: bool) -> Kernel:
    """y[o, i] = position in x[o, :, i] for one tile of places i a chunk."""

    @device
    def compare(row, best, index, k, count):
        position = f4(k)
        for i in range(count):
            v, b = get32(row, i), read32(best, i)
            better = ((v >= b) if largest else (v <= b)) | (v != v)
            write32(best, i, v if better else b)
            write32(index, i, position if better else read32(index, i))

    def run(chunk, worker, x, y, n, inner, tiles, scratch):
        outer, first = chunk // tiles, chunk % tiles * TILE
        count = min(TILE, inner - first)
        best = scratch + worker * 8 * TILE
        index, start = best + 4 * TILE, x + 4 * (outer * n * inner + first)
        for i in range(count):
            write32(best, i, get32(start + 4 * (n - 1) * inner, i))
            write32(index, i, f4(n - 1))
        for k in range(n - 2, -1, -1):
            compare(start + 4 * k * inner, best, index, k, count)
        to = y + 8 * (outer * inner + first)
        for i in range(count):
            puti64(to, i, np.int64(get32(index, i)))

    return kernel_of(run, f"arg{'max' if largest else 'min'}_places", False)


def position(x: Any, axis: int, largest: bool) -> Any:
    """int64 positions along an axis of a float32 array; None when NumPy should find them."""
    axis %= x.ndim
    axes = order(x.shape, x.strides, 4) if x.dtype == f4 else None
    if axes is None or x.shape[axis] == 1 or x.shape[axis] > LONGEST:
        return None
    outer, n, inner = split(x.shape, axes, axis)
    if outer == inner == 1:  # one row: NumPy compares vectors, too, and stops at a NaN
        return None
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    kept = tuple(i - (i > axis) for i in axes if i != axis)
    y = empty(shape, i8, dense_strides(shape, kept, 8))
    if inner == 1:
        step = max(1, CHUNK // n)
        runs_kernel(largest)(-(-outer // step), address(x), address(y), outer, n, step)
    else:
        tiles, scratch = -(-inner // TILE), worker_scratch(8 * TILE)
        places_kernel(largest)(outer * tiles, address(x), address(y), n, inner, tiles, scratch)
    return y
