"""Sums of large float32 arrays over any axes that leave one run of axes in memory.

Memory is seen as outer × kept × inner: everything (kept = 1), the trailing axes (outer = 1), the
leading ones (inner = 1), or a bias gradient's N, H, W around the channels. Blocks of fixed size are
summed in float32 by vectors, and the blocks' sums in float64 in order: the bits do not depend on
the number of threads, the error hardly on the number of terms.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape

from .access import put64
from .lanes import vget, vput
from .memory import empty
from .order import Order, dense_strides, order
from .runtime import address, device, kernel
from .simd import BYTES, WIDTH, lane_sum, load, load_part, splat

f4 = np.float32
LARGE = 32768  # elements: below it NumPy has finished before the threads have started
BLOCK = 16384  # elements of a chunk
RUN = 4096  # elements summed in float32 at most, along memory
ROWS = 512  # the same, across it


@device
def _run_sum(x: int, count: int) -> float:
    """Σ of ``count`` neighbours, pieces of RUN added in float64."""
    total, zero = 0.0, splat(f4(0))
    for start in range(0, count, RUN):
        n = min(RUN, count - start)
        p, a, b = x + 4 * start, zero, zero
        for _ in range(n // (2 * WIDTH)):
            a, b = a + load(p), b + load(p + BYTES)
            p += 2 * BYTES
        rest = n % (2 * WIDTH)
        if rest >= WIDTH:
            a = a + load(p)
            p += BYTES
        if rest % WIDTH:
            b = b + load_part(p, rest % WIDTH)
        total += float(lane_sum(a + b))
    return total


@kernel
def sum_runs(chunk, worker, x, partial, runs, inner, step):
    """partial[r] = Σ x[r, :] for ``step`` runs a chunk, in float64."""
    for r in range(chunk * step, min(runs, (chunk + 1) * step)):
        put64(partial, r, _run_sum(x + 4 * r * inner, inner))


@kernel
def sum_all(chunk, worker, x, partial, count):
    """partial[chunk] = Σ of its block of BLOCK elements."""
    start = chunk * BLOCK
    put64(partial, chunk, _run_sum(x + 4 * start, min(BLOCK, count - start)))


@kernel
def sum_rows(chunk, worker, x, partial, rows, kept, step):
    """partial[chunk, :] = Σ of its ``step`` rows."""
    first = chunk * step
    count, pitch = min(step, rows - first), 4 * kept
    for c in range(0, kept, WIDTH):
        lanes, p = min(WIDTH, kept - c), x + first * pitch + 4 * c
        a = b = splat(f4(0))
        for _ in range(count // 2):
            a, b = a + vget(p, lanes), b + vget(p + pitch, lanes)
            p += 2 * pitch
        if count % 2:
            a = a + vget(p, lanes)
        vput(partial + chunk * pitch + 4 * c, a + b, lanes)


@lru_cache(1024)
def plan(shape: Shape, strides: Shape, axes: Shape) -> tuple[int, int, int, Order] | None:
    """(outer, kept, inner, the kept axes in memory order); None when they are not one run."""
    found = order(shape, strides, 4)
    if found is None:
        return None
    kept = tuple(i for i in found if i not in axes)
    at = found.index(kept[0]) if kept else 0
    if found[at : at + len(kept)] != kept:
        return None
    sizes = [
        math.prod(shape[i] for i in part) for part in (found[:at], kept, found[at + len(kept) :])
    ]
    return sizes[0], sizes[1], sizes[2], kept


def sum_axes(x: Any, axes: Shape, keepdims: bool) -> Any:
    """Σ of x over ``axes``; None when NumPy should do it."""
    found = plan(x.shape, x.strides, axes)
    if found is None:
        return None
    outer, kept, inner, kept_axes = found
    if kept == 1:
        chunks = -(-x.size // BLOCK)
        partial = np.empty((chunks, 1))
        sum_all(chunks, address(x), address(partial), x.size)
    elif inner > 1:
        runs = outer * kept
        step = max(1, BLOCK // inner)
        partial = np.empty((outer, kept))
        sum_runs(-(-runs // step), address(x), address(partial), runs, inner, step)
    else:
        step = max(8, min(ROWS, BLOCK // kept))
        if outer < 4 * step and kept > BLOCK:
            return None  # few long rows: partial sums would cost as much as the sum
        partial = np.empty((-(-outer // step), kept), f4)
        sum_rows(len(partial), address(x), address(partial), outer, kept, step)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    y = empty(shape, f4, dense_strides(shape, kept_axes, 4))
    flat = partial.sum(axis=0, dtype=np.float64)
    y.transpose(*kept_axes, *(i for i in range(x.ndim) if i not in kept_axes)).reshape(-1)[...] = (
        flat
    )
    if keepdims:
        return y
    return y.reshape([n for i, n in enumerate(x.shape) if i not in axes])
