"""Softmax and log-softmax along any axis of float32 arrays, and their gradients.

An array is seen as outer × n × inner in memory (``order.split``). With inner = 1 the kernels of
``loss.py`` work on whole rows; otherwise a vector holds WIDTH neighbouring places, each with a sum
of its own, and no lanes need to be added: the classes of an image's pixels are of this kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loss
from .access import get32, put32
from .lanes import vget, vput
from .memory import empty
from .order import dense_strides, order, split
from .polynomials import log32, vexp
from .runtime import address, kernel
from .simd import WIDTH, fma, lane_sum, splat, vmax

f4 = np.float32
LOG = 1
BLOCK = 256  # neighbouring places of a chunk


@kernel
def softmax_places(chunk, worker, x, y, n, inner, blocks, options):
    """softmax or, with LOG, log-softmax over n numbers ``inner`` apart."""
    pitch, first = 4 * inner, chunk % blocks * BLOCK
    start = 4 * (chunk // blocks * n * inner)
    for i in range(first, min(first + BLOCK, inner), WIDTH):
        lanes, at = min(WIDTH, inner - i), start + 4 * i
        largest = vget(x + at, lanes)
        for k in range(1, n):
            largest = vmax(largest, vget(x + at + k * pitch, lanes))
        total = splat(f4(0))
        for k in range(n):
            e = vexp(vget(x + at + k * pitch, lanes) - largest)
            if not options & LOG:
                vput(y + at + k * pitch, e, lanes)
            total = total + e
        if options & LOG:
            vput(y + at, total, lanes)
            for j in range(lanes):
                put32(y + at, j, log32(get32(y + at, j)))
            shift = vget(y + at, lanes)
            for k in range(n):
                v = (vget(x + at + k * pitch, lanes) - largest) - shift
                vput(y + at + k * pitch, v, lanes)
        else:
            factor = splat(f4(1)) / total
            for k in range(n):
                vput(y + at + k * pitch, vget(y + at + k * pitch, lanes) * factor, lanes)


@kernel
def softmax_places_grad(chunk, worker, g, y, gx, n, inner, blocks, options):
    """y·(g − Σ g·y), or with LOG g − eʸ·Σ g."""
    pitch, first = 4 * inner, chunk % blocks * BLOCK
    start = 4 * (chunk // blocks * n * inner)
    for i in range(first, min(first + BLOCK, inner), WIDTH):
        lanes, at = min(WIDTH, inner - i), start + 4 * i
        total = splat(f4(0))
        for k in range(n):
            v = vget(g + at + k * pitch, lanes)
            if options & LOG:
                total = total + v
            else:
                total = fma(v, vget(y + at + k * pitch, lanes), total)
        for k in range(n):
            v, w = vget(g + at + k * pitch, lanes), vget(y + at + k * pitch, lanes)
            v = v - vexp(w) * total if options & LOG else w * (v - total)
            vput(gx + at + k * pitch, v, lanes)


@kernel
def softmax_rows_grad(chunk, worker, g, y, gx, options, rows, n, step):
    """The same for rows of n neighbours."""
    for r in range(chunk * step, min(rows, (chunk + 1) * step)):
        at, total = 4 * r * n, splat(f4(0))
        for i in range(0, n, WIDTH):
            lanes = min(WIDTH, n - i)
            v = vget(g + at + 4 * i, lanes)
            if options & LOG:
                total = total + v
            else:
                total = fma(v, vget(y + at + 4 * i, lanes), total)
        level = splat(lane_sum(total))
        for i in range(0, n, WIDTH):
            lanes = min(WIDTH, n - i)
            v, w = vget(g + at + 4 * i, lanes), vget(y + at + 4 * i, lanes)
            v = v - vexp(w) * level if options & LOG else w * (v - level)
            vput(gx + at + 4 * i, v, lanes)


def forward(x: Any, axis: int, log: bool) -> Any:
    """Softmax or its logarithm along an axis; None for what is not dense float32."""
    axes = order(x.shape, x.strides, 4) if x.dtype == f4 and x.ndim else None
    if axes is None:
        return None
    outer, n, inner = _split(x.shape, axes, axis % x.ndim)
    y = empty(x.shape, f4, dense_strides(x.shape, axes, 4))
    if inner == 1:
        rows = loss.log_softmax_rows if log else loss.softmax_rows
        loss.launch(rows, outer, n, address(x), address(y), address(loss.EDGE))
    else:
        blocks = -(-inner // BLOCK)
        softmax_places(outer * blocks, address(x), address(y), n, inner, blocks, LOG * log)
    return y


def gradient(g: Any, y: Any, axis: int, log: bool) -> Any:
    """The input's gradient from the result y; None for what is not dense float32."""
    axes = order(y.shape, y.strides, 4) if y.dtype == f4 == g.dtype and y.ndim else None
    if axes is None:
        return None
    outer, n, inner = _split(y.shape, axes, axis % y.ndim)
    gx = empty(y.shape, f4, dense_strides(y.shape, axes, 4))
    if order(g.shape, g.strides, 4) != axes:
        np.copyto(gx, g)
        g = gx
    places = (address(g), address(y), address(gx))
    if inner == 1:
        loss.launch(softmax_rows_grad, outer, n, *places, LOG * log)
    else:
        blocks = -(-inner // BLOCK)
        softmax_places_grad(outer * blocks, *places, n, inner, blocks, LOG * log)
    return gx


def _split(shape: Any, axes: Any, axis: int) -> tuple[int, int, int]:
    """``order.split``; an axis of one element is innermost, as rows of one."""
    if shape[axis] > 1:
        return split(shape, axes, axis)
    _, _, size = split(shape, axes, axis)
    return size, 1, 1
