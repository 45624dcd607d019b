"""The gradients of PReLU, of its input and of its slopes, in one pass.

gx = g where x > 0, else w·g; gw is the sum of g·x over the other places. A slope belongs to a plane
of neighbours in memory (channels of N, C, H, W memory, or one slope for all), or the slopes repeat
row after row (channels innermost). Sums are taken in float32 over a plane or a chunk of rows, and
of those in float64 in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .access import get32, put32
from .lanes import vget, vput
from .memory import empty
from .operands import ordered
from .order import dense_strides, order, split, varying_axis
from .runtime import address, kernel
from .simd import WIDTH, fma, lane_sum, select_gt, splat

f4 = np.float32
_FLOAT32 = np.dtype(f4)
CHUNK = 8192  # elements
NEIGHBOURS = 8  # of one slope, to be a plane


@kernel
def planes(chunk, worker, g, x, w, gx, partial, n, inner, channels, count, step):
    """partial[p] = Σ g·x where x ≤ 0 over plane p of ``inner`` elements, ``step`` planes a chunk;
    the last one of the ``count`` ends where the array does."""
    zero = splat(f4(0))
    for p in range(chunk * step, min(count, (chunk + 1) * step)):
        slope, total = splat(get32(w, p % channels)), zero
        for i in range(p * inner, min(n, (p + 1) * inner), WIDTH):
            lanes = min(WIDTH, min(n, (p + 1) * inner) - i)
            a, b = vget(g + 4 * i, lanes), vget(x + 4 * i, lanes)
            vput(gx + 4 * i, select_gt(b, zero, a, slope * a), lanes)
            total = select_gt(b, zero, total, fma(a, b, total))  # 0·∞ would be NaN
        put32(partial, p, lane_sum(total))


@kernel
def rows(chunk, worker, g, x, w, gx, partial, count, width, step):
    """partial[chunk, :] = Σ g·x where x ≤ 0 over ``step`` rows of ``width`` elements."""
    zero, to = splat(f4(0)), partial + 4 * chunk * width
    for i in range(0, width, WIDTH):
        vput(to + 4 * i, zero, min(WIDTH, width - i))
    for r in range(chunk * step, min(count, (chunk + 1) * step)):
        start = 4 * r * width
        for i in range(0, width, WIDTH):
            lanes, at = min(WIDTH, width - i), start + 4 * i
            a, b = vget(g + at, lanes), vget(x + at, lanes)
            vput(gx + at, select_gt(b, zero, a, vget(w + 4 * i, lanes) * a), lanes)
            total = vget(to + 4 * i, lanes)
            vput(to + 4 * i, select_gt(b, zero, total, fma(a, b, total)), lanes)


def gradients(g: Any, x: Any, w: Any) -> tuple[Any, Any] | None:
    """(gx, gw) for slopes that vary along one axis of x at most, or None."""
    axes = order(x.shape, x.strides, 4)
    axis = varying_axis(x.shape, w.shape)
    if not x.dtype == g.dtype == w.dtype == _FLOAT32 or axes is None or axis is None:
        return None
    g = ordered(g, axes)
    if g is None:
        return None
    gx, slopes = empty(x.shape, _FLOAT32, dense_strides(x.shape, axes, 4)), w.reshape(-1).copy()
    outer, channels, inner = (1, 1, x.size) if axis < 0 else split(x.shape, axes, axis)
    places = (g, x, slopes, gx)
    if channels == 1:
        inner = min(CHUNK, x.size)
    if inner >= NEIGHBOURS or channels == 1:
        totals = _planes(places, x.size, inner, channels)
    else:
        totals = _rows(places, outer, channels * inner).reshape(channels, inner).sum(axis=1)
    return gx, totals.astype(_FLOAT32).reshape(w.shape)


def _planes(places: tuple[Any, ...], n: int, inner: int, channels: int) -> Any:
    count, step = -(-n // inner), max(1, CHUNK // inner)
    partial = np.empty(count, f4)
    planes(-(-count // step), *map(address, (*places, partial)), n, inner, channels, count, step)
    return partial.reshape(-1, channels).sum(axis=0, dtype=np.float64)


def _rows(places: tuple[Any, ...], count: int, width: int) -> Any:
    step = max(1, CHUNK // width)
    chunks = -(-count // step)
    partial = np.empty((chunks, width), f4)
    small = np.repeat(places[2], width // places[2].size)
    rows(chunks, *map(address, (*places[:2], small, places[3], partial)), count, width, step)
    return partial.sum(axis=0, dtype=np.float64)
