"""Batch normalisation of float32 images, alone or with the residual sum and the ReLU that follow
it.

Memory is seen as outer × channel × inner (``order.split``). With inner = 1 the channels are
neighbours, a vector holds WIDTH of them and the work is cut into blocks of rows; otherwise every
(outer, channel) plane is a run of its own. Sums are taken per block or plane: float32 over at most
a few hundred terms a lane, the blocks then combined in float64, in order. Variances come from
squares about the block's own mean, found first, while the block is in the cache (the sum of what
remains then corrects the mean's rounding); blocks are combined by Chan, Golub and LeVeque's rule,
so that a large mean costs no digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import memory
from .access import get32
from .lanes import vget, vput
from .memory import empty
from .norm_sums import (
    RELU,
    RESIDUAL,
    STREAM,
    combine_stats,
    combine_sums,
    stats_planes,
    stats_rows,
    sums_planes,
    sums_rows,
)
from .order import dense_strides, order, split
from .runtime import Kernel, address, kernel
from .simd import BYTES, WIDTH, fence, fma, select_gt, splat, stream, vmax

f4 = np.float32
BLOCK = 16384  # elements of a chunk
SMALL = 8192  # elements below which the calling thread does it


# ---------------------------------------------------------------------------------------------
# Forward: y = (x − mean)·scale + bias [+ residual] [, not below 0]
# ---------------------------------------------------------------------------------------------
@kernel
def apply_rows(chunk, worker, x, y, residual, table, rows, channels, step, options):
    """Channels innermost; table = (mean, scale, bias), each (C,)."""
    pitch, zero = 4 * channels, splat(f4(0))
    for row in range(chunk * step, min(rows, (chunk + 1) * step)):
        for c in range(0, channels, WIDTH):
            lanes, t, at = min(WIDTH, channels - c), table + 4 * c, row * pitch + 4 * c
            v = vget(x + at, lanes) - vget(t, lanes)
            v = fma(v, vget(t + pitch, lanes), vget(t + 2 * pitch, lanes))
            if options & RESIDUAL:
                v = v + vget(residual + at, lanes)
            if options & RELU:
                v = vmax(zero, v)
            if options & STREAM:
                stream(y + at, v)
            else:
                vput(y + at, v, lanes)
    fence()


@kernel
def apply_planes(chunk, worker, x, y, residual, table, planes, channels, inner, step, options):
    """Runs of one channel."""
    zero = splat(f4(0))
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        c, base = plane % channels, 4 * plane * inner
        mean, scale = splat(get32(table, c)), splat(get32(table, channels + c))
        bias = splat(get32(table, 2 * channels + c))
        for i in range(0, inner, WIDTH):
            lanes, at = min(WIDTH, inner - i), base + 4 * i
            v = fma(vget(x + at, lanes) - mean, scale, bias)
            if options & RESIDUAL:
                v = v + vget(residual + at, lanes)
            if options & RELU:
                v = vmax(zero, v)
            if options & STREAM:
                stream(y + at, v)
            else:
                vput(y + at, v, lanes)
    fence()


# ---------------------------------------------------------------------------------------------
# Backward, second pass: gx = a·g + b·(x − mean) + c
# ---------------------------------------------------------------------------------------------
@kernel
def input_rows(chunk, worker, gy, x, y, gx, table, rows, channels, step, options):
    """Channels innermost; table = (mean, a, b, c), each (C,)."""
    pitch, zero = 4 * channels, splat(f4(0))
    for row in range(chunk * step, min(rows, (chunk + 1) * step)):
        for c in range(0, channels, WIDTH):
            lanes, t, at = min(WIDTH, channels - c), table + 4 * c, row * pitch + 4 * c
            v = vget(gy + at, lanes)
            if options & RELU:
                v = select_gt(vget(y + at, lanes), zero, v, zero)
            w = vget(x + at, lanes) - vget(t, lanes)
            w = fma(w, vget(t + 2 * pitch, lanes), vget(t + 3 * pitch, lanes))
            v = fma(v, vget(t + pitch, lanes), w)
            if options & STREAM:
                stream(gx + at, v)
            else:
                vput(gx + at, v, lanes)
    fence()


@kernel
def input_planes(chunk, worker, gy, x, y, gx, table, planes, channels, inner, step, options):
    """Runs of one channel."""
    zero = splat(f4(0))
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        k, base = plane % channels, 4 * plane * inner
        mean, a = splat(get32(table, k)), splat(get32(table, channels + k))
        b, c = splat(get32(table, 2 * channels + k)), splat(get32(table, 3 * channels + k))
        for i in range(0, inner, WIDTH):
            lanes, at = min(WIDTH, inner - i), base + 4 * i
            v = vget(gy + at, lanes)
            if options & RELU:
                v = select_gt(vget(y + at, lanes), zero, v, zero)
            w = fma(vget(x + at, lanes) - mean, b, c)
            v = fma(v, a, w)
            if options & STREAM:
                stream(gx + at, v)
            else:
                vput(gx + at, v, lanes)
    fence()


# ---------------------------------------------------------------------------------------------
# Calling them
# ---------------------------------------------------------------------------------------------
class Walk:
    """How an array's memory is cut into chunks: ``chunks`` of them, ``blocks`` partial sums of
    ``count`` terms."""

    def __init__(self, x: Any) -> None:
        axes = order(x.shape, x.strides, 4)
        if axes is None:  # a slice or a broadcast view
            x = np.array(x, order="C")
            axes = order(x.shape, x.strides, 4)
        assert axes is not None
        self.x, self.axes = x, axes
        outer, self.channels, inner = split(x.shape, axes, 1)
        self.terms = outer * inner
        if self.channels == 1:  # one channel: cut its run into rows of one element each
            outer, inner = self.terms, 1
        self.by_rows, self.inner = inner == 1, inner
        if self.by_rows:
            self.count = step = max(1, min(512, BLOCK // self.channels))
            self.chunks = self.blocks = -(-outer // step)
            self.last = outer - (self.blocks - 1) * step
            self.sizes = (outer, self.channels, step)
        else:
            planes, self.count = outer * self.channels, inner
            step = max(1, BLOCK // inner)
            self.chunks, self.blocks, self.last = -(-planes // step), outer, inner
            self.sizes = (planes, self.channels, inner, step)  # type: ignore[assignment]

    def run(self, by_rows: Kernel, by_planes: Kernel, *arguments: int) -> None:
        kernel = by_rows if self.by_rows else by_planes
        (kernel.serial if self.x.size < SMALL else kernel)(self.chunks, *arguments)

    def like(self) -> Any:
        """A new array of the same shape and memory order."""
        return empty(self.x.shape, f4, dense_strides(self.x.shape, self.axes, 4))

    def streams(self, y: Any) -> int:
        """``STREAM`` for a result that no cache holds and that is made of whole vectors."""
        whole = (self.channels if self.by_rows else self.inner) % WIDTH == 0
        large = y.nbytes > memory.STREAM_BYTES and address(y) % BYTES == 0
        return STREAM if whole and large else 0

    def aligned(self, a: Any) -> Any:
        """``a`` in this memory order: itself, or a copy."""
        if order(a.shape, a.strides, 4) == self.axes:
            return a
        b = self.like()
        np.copyto(b, a)
        return b

    def partial(self) -> Any:
        return np.empty((self.blocks, 2, self.channels), f4)


def accepts(x: Any) -> bool:
    """Whether the kernels take ``x``."""
    return x.dtype == f4 and x.size > 0


def stats(x: Any) -> tuple[Any, Any]:
    """(mean, biased variance) of each channel."""
    walk = Walk(x)
    partial, out = walk.partial(), np.empty((2, walk.channels))
    walk.run(stats_rows, stats_planes, address(walk.x), address(partial), *walk.sizes)
    combine_stats.serial(
        1, address(walk.x), walk.inner, address(partial), walk.blocks, walk.channels,
        walk.count, walk.last, address(out),
    )  # fmt: skip
    return out[0].astype(f4), out[1].astype(f4)


def forward(
    x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float, residual: Any, relu: bool
) -> Any:
    """(x − mean)·weight/σ + bias, then + residual (when given) and ReLU (when asked for)."""
    walk = Walk(x)
    y = walk.like()
    table = np.empty((3, walk.channels), f4)
    scale = 1 / np.sqrt(var.astype(np.float64) + eps)
    table[0], table[1] = mean, scale if weight is None else scale * weight
    table[2] = 0 if bias is None else bias
    other = None if residual is None else walk.aligned(residual)
    where = 0 if other is None else address(other)
    options = RELU * relu + RESIDUAL * (other is not None) + walk.streams(y)
    walk.run(
        apply_rows,
        apply_planes,
        address(walk.x),
        address(y),
        where,
        address(table),
        *walk.sizes,
        options,
    )
    return y


def backward(
    gy: Any, x: Any, y: Any, mean: Any, var: Any, weight: Any, eps: float, residual: bool
) -> tuple[Any, Any, Any, Any]:
    """(gx, gweight, gbias, gresidual or None) for ``forward``; y is its result when it ended in a
    ReLU, else None."""
    walk = Walk(x)
    gy, x = walk.aligned(gy), walk.x
    y_place = 0 if y is None else address(y := walk.aligned(y))
    g = walk.like() if residual and y is not None else None
    options = RELU * (y is not None)
    mean = np.ascontiguousarray(mean, f4)
    partial, sums = walk.partial(), np.empty((2, walk.channels))
    walk.run(
        sums_rows, sums_planes, address(gy), address(x), y_place, 0 if g is None else address(g),
        address(mean), address(partial), *walk.sizes, options + RESIDUAL * (g is not None),
    )  # fmt: skip
    combine_sums.serial(1, address(partial), walk.blocks, 2 * walk.channels, address(sums))
    inverse = 1 / np.sqrt(var.astype(np.float64) + eps)
    scale = inverse if weight is None else inverse * weight
    total, moment = sums
    table = np.empty((4, walk.channels), f4)
    table[0], table[1] = mean, scale
    table[2] = -scale * inverse * inverse * moment / walk.terms
    table[3] = -scale * total / walk.terms
    if g is not None:  # already masked
        gy, options = g, 0
    gx = walk.like()
    walk.run(
        input_rows, input_planes, address(gy), address(x), y_place, address(gx), address(table),
        *walk.sizes, options + walk.streams(gx),
    )  # fmt: skip
    gresidual = (gy if g is None else g) if residual else None
    return gx, (moment * inverse).astype(f4), total.astype(f4), gresidual
