"""Convolution, ReLU and 2×2 max pooling in one pass.

max(pool(y), 0) = pool(max(y, 0)), so the convolution of a chunk goes to scratch memory that stays
in the cache, and only the pooled quarter of it, with the winners, is ever written out. Small
convolutions on large maps (LeNet's) spend as much time on writing and reading their output as on
computing it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .conv_direct import convolve_chunk
from .conv_plan import Plan, Source, correlation_plan
from .lanes import store_bytes, vput
from .layout import channels_last_strides, pack_panels
from .memory import empty
from .microkernel import call, panels
from .runtime import address, device, kernel, worker_scratch
from .simd import (
    BYTES,
    WIDTH,
    load,
    select_larger,
    splat,
    unpack,
    vmax,
)

f4 = np.dtype(np.float32)
POOL = Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))


@device
def _pool_pixel(source, row, pixel, channels, target, winners):
    """max(·, 0) of the largest of 2 × 2 pixels and the number of the first that is it.

    The last NaN wins over everything, as in ``Backend.max_pool``. Whole vectors are read; of a last
    vector that the channels do not fill, only their lanes are written.
    """
    zero = splat(np.float32(0))
    for c in range(0, channels, WIDTH):
        at = source + 4 * c
        best, winner = load(at), zero
        for k in range(1, 4):
            other = load(at + (k // 2) * row + (k % 2) * pixel)
            winner = select_larger(other, best, splat(np.float32(k)), winner)
            best = select_larger(other, best, other, best)
        best = vmax(zero, best)
        lanes = min(WIDTH, channels - c)
        vput(target + 4 * c, best, lanes)
        store_bytes(winners + c, winner, lanes)


@kernel
def pooled(
    chunk, worker, body, plan, jobs, x, out, winners, packed, bias, height, width, channels, pixel,
    scratch,
    scratch_bytes, conv_bytes, wide, narrow,
):  # fmt: skip
    """Convolve a chunk into scratch memory, then pool it into ``out`` and ``winners``."""
    n, images, bands, band = unpack(plan, 4)
    tail = scratch + worker * scratch_bytes
    local = tail + conv_bytes
    call(body, plan, jobs, chunk, x, local, packed, bias, 0, tail, wide, narrow)
    first, at_band = chunk // bands * images, chunk % bands
    row = width * pixel
    p, q = height // 2, width // 2
    begin, end = at_band * band // 2, min(p, (at_band + 1) * band // 2)
    for image in range(min(images, n - first)):
        for i in range(begin, end):
            for j in range(q):
                source = local + image * height * row + 2 * (i - begin) * row + 2 * j * pixel
                place = (((first + image) * p + i) * q + j) * channels
                _pool_pixel(source, row, pixel, channels, out + 4 * place, winners + place)


class _Call(NamedTuple):
    """What the calls of one geometry have in common, in the order of the kernels' arguments."""

    shape: Shape  # of the pooled output
    strides: Shape
    packed_bytes: int
    panels: int
    packing: tuple[int, ...]
    chunks: int
    body: tuple[int, ...]
    sizes: tuple[int, ...]
    scratch_bytes: int
    tail: tuple[int, ...]
    plan: Plan  # owns the lists behind the addresses


@lru_cache(maxsize=512)
def _prepare(
    x_shape: Shape, x_strides: Shape, w_shape: Shape, w_strides: Shape, window: Window, groups: int
) -> _Call:
    n, o = x_shape[0], w_shape[0]
    height, width = window.output(x_shape[2:])
    columns, (p, q) = o // groups, (height // 2, width // 2)
    # Padded, vectors do not straddle cache lines.
    pixel = 4 * (o if groups > 1 else panels(o).columns)
    inner = Source((n, o, height, width), (height * width * pixel, 4, width * pixel, pixel))
    plan = correlation_plan(
        Source(x_shape, x_strides), inner, w_strides, window, groups, False, rows_together=2
    )
    (k_list,), cut = plan.k_lists, panels(columns)  # a forward convolution is one job
    images, band = int(plan.table[1]), int(plan.table[3])
    rows = images * height if images > 1 else band
    scratch_bytes = -(-(plan.scratch_bytes + rows * width * pixel + BYTES) // 64) * 64
    return _Call(
        shape=(n, o, p, q),
        strides=channels_last_strides((n, o, p, q)),
        packed_bytes=-(-k_list.size * groups * cut.columns * 4 // 64) * 64,
        panels=groups * cut.number,
        packing=(address(k_list), k_list.size, w_strides[0], columns, cut.columns, cut.nr,
                 columns * w_strides[0]),
        chunks=plan.chunks,
        body=(convolve_chunk.load(), address(plan.table), address(plan.jobs)),
        sizes=(height, width, o, pixel),
        scratch_bytes=scratch_bytes,
        tail=(scratch_bytes, plan.scratch_bytes, *plan.micro),
        plan=plan,
    )  # fmt: skip


def conv_relu_pool(x: Any, w: Any, bias: Any, window: Window, groups: int) -> tuple[Any, Any]:
    """(max(pool(conv(x, w) + bias), 0), winners) for 2 × 2 pooling of stride 2, channels last."""
    made = _prepare(x.shape, x.strides, w.shape, w.strides, window, groups)
    y = empty(made.shape, f4, made.strides)
    n, o, p, q = made.shape
    winners = np.empty((n, p, q, o), np.uint8)
    bias = None if bias is None else np.ascontiguousarray(bias)
    packed = worker_scratch(made.scratch_bytes, made.packed_bytes)
    pack_panels(made.panels, packed, address(w), *made.packing)
    pooled(made.chunks, *made.body, address(x), address(y), address(winners), packed,
           0 if bias is None else address(bias), *made.sizes, packed + made.packed_bytes,
           *made.tail)  # fmt: skip
    return y, winners.transpose(0, 3, 1, 2)
