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

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape

from . import memory
from .access import get32, put32, read64
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
from .order import Order, dense_strides, order, split
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


@kernel
def scale_table(chunk, worker, mean, var, weight, bias, eps, channels, table):
    """(mean, weight/√(var + eps), bias) of each channel, for ``apply_rows``."""
    for c in range(channels):
        scale = 1.0 / math.sqrt(get32(var, c) + read64(eps, 0))
        put32(table, c, get32(mean, c))
        put32(table, channels + c, f4(scale * get32(weight, c) if weight else scale))
        put32(table, 2 * channels + c, get32(bias, c) if bias else f4(0))


# ---------------------------------------------------------------------------------------------
# Calling them
# ---------------------------------------------------------------------------------------------
class Walk(NamedTuple):
    """How memory is cut into chunks: ``chunks`` of them, ``blocks`` partial sums of ``each``
    terms, ``last`` in the last one."""

    axes: Order
    strides: Shape  # of a new array of this order
    channels: int
    terms: int  # of each channel
    inner: int
    by_rows: bool
    serial: bool
    whole: bool  # made of whole vectors
    each: int
    chunks: int
    blocks: int
    last: int
    sizes: tuple[int, ...]  # what the kernels are told

    def run(self, by_rows: Kernel, by_planes: Kernel, *arguments: int) -> None:
        kernel = by_rows if self.by_rows else by_planes
        (kernel.serial if self.serial else kernel)(self.chunks, *arguments)

    def like(self, x: Any) -> Any:
        """A new array of the shape of x in this memory order."""
        return empty(x.shape, f4, self.strides)

    def streams(self, y: Any) -> int:
        """``STREAM`` for a result that no cache holds and that is made of whole vectors."""
        large = self.whole and y.nbytes > memory.STREAM_BYTES
        return STREAM if large and address(y) % BYTES == 0 else 0

    def aligned(self, a: Any) -> Any:
        """``a`` in this memory order: itself, or a copy."""
        if a.strides == self.strides or order(a.shape, a.strides, 4) == self.axes:
            return a
        b = self.like(a)
        np.copyto(b, a)
        return b

    def partial(self) -> Any:
        return np.empty((self.blocks, 2, self.channels), f4)


@lru_cache(1024)
def _walk(shape: Shape, strides: Shape) -> Walk | None:
    """The walk through an array; None when it is not dense."""
    axes = order(shape, strides, 4)
    if axes is None:
        return None
    outer, channels, inner = split(shape, axes, 1)
    terms = outer * inner
    if channels == 1:  # one channel: cut its run into rows of one element each
        outer, inner = terms, 1
    by_rows = inner == 1
    if by_rows:
        count = step = max(1, min(512, BLOCK // channels))
        chunks = blocks = -(-outer // step)
        last, sizes = outer - (blocks - 1) * step, (outer, channels, step)
    else:
        planes, count = outer * channels, inner
        step = max(1, BLOCK // inner)
        chunks, blocks, last = -(-planes // step), outer, inner
        sizes = (planes, channels, inner, step)  # type: ignore[assignment]
    whole = (channels if by_rows else inner) % WIDTH == 0
    small = terms * channels < SMALL
    return Walk(axes, dense_strides(shape, axes, 4), channels, terms, inner, by_rows, small, whole,
                count, chunks, blocks, last, sizes)  # fmt: skip


def walk_through(x: Any) -> tuple[Any, Walk]:
    """x, or a copy of it where it is a slice or a broadcast view, and the walk through it."""
    walk = _walk(x.shape, x.strides)
    if walk is None:
        x = np.array(x, order="C")
        walk = _walk(x.shape, x.strides)
    assert walk is not None
    return x, walk


@lru_cache(64)
def _number(value: float) -> Any:
    return np.array([value])


def _vector(v: Any) -> Any:
    """A vector as kernels read it."""
    return v if v.dtype == f4 and v.strides == (4,) else np.ascontiguousarray(v, f4)


def _place(v: Any) -> int:
    return 0 if v is None else address(v)


def accepts(x: Any) -> bool:
    """Whether the kernels take ``x``."""
    return x.dtype == f4 and x.size > 0


def stats(x: Any) -> tuple[Any, Any]:
    """(mean, biased variance) of each channel."""
    x, walk = walk_through(x)
    partial, out = walk.partial(), np.empty((2, walk.channels), f4)
    walk.run(stats_rows, stats_planes, address(x), address(partial), *walk.sizes)
    combine_stats.serial(
        1, address(x), walk.inner, address(partial), walk.blocks, walk.channels, walk.each,
        walk.last, address(out),
    )  # fmt: skip
    return out[0], out[1]


def forward(
    x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float, residual: Any, relu: bool
) -> Any:
    """(x − mean)·weight/σ + bias, then + residual (when given) and ReLU (when asked for)."""
    x, walk = walk_through(x)
    y, table = walk.like(x), np.empty((3, walk.channels), f4)
    mean, var, at_eps = _vector(mean), _vector(var), _number(eps)
    weight, bias = (None if v is None else _vector(v) for v in (weight, bias))
    scale_table.serial(1, address(mean), address(var), _place(weight), _place(bias),
                       address(at_eps), walk.channels, address(table))  # fmt: skip
    other = None if residual is None else walk.aligned(residual)
    options = RELU * relu + RESIDUAL * (other is not None) + walk.streams(y)
    walk.run(apply_rows, apply_planes, address(x), address(y), _place(other), address(table),
             *walk.sizes, options)  # fmt: skip
    return y


def backward(
    gy: Any, x: Any, y: Any, mean: Any, var: Any, weight: Any, eps: float, residual: bool
) -> tuple[Any, Any, Any, Any]:
    """(gx, gweight, gbias, gresidual or None) for ``forward``; y is its result when it ended in a
    ReLU, else None."""
    x, walk = walk_through(x)
    gy, y = walk.aligned(gy), None if y is None else walk.aligned(y)
    g = walk.like(x) if residual and y is not None else None
    options = RELU * (y is not None)
    mean, var, at_eps = _vector(mean), _vector(var), _number(eps)
    weight = None if weight is None else _vector(weight)
    partial, sums, table = (
        walk.partial(),
        np.empty(2 * walk.channels),
        np.empty((4, walk.channels), f4),
    )
    gweight, gbias = np.empty(walk.channels, f4), np.empty(walk.channels, f4)
    walk.run(
        sums_rows, sums_planes, address(gy), address(x), _place(y), _place(g), address(mean),
        address(partial), *walk.sizes, options + RESIDUAL * (g is not None),
    )  # fmt: skip
    combine_sums.serial(
        1, address(partial), walk.blocks, walk.channels, address(mean), address(var),
        _place(weight), address(at_eps), walk.terms, address(sums), address(table),
        address(gweight), address(gbias),
    )  # fmt: skip
    if g is not None:  # already masked
        gy, options = g, 0
    gx = walk.like(x)
    walk.run(
        input_rows, input_planes, address(gy), address(x), _place(y), address(gx), address(table),
        *walk.sizes, options + walk.streams(gx),
    )  # fmt: skip
    return gx, gweight, gbias, gy if residual else None
