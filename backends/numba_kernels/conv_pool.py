"""Convolution, ReLU and 2×2 max pooling in one pass.

max(pool(y), 0) = pool(max(y, 0)), so the convolution of a chunk goes to scratch memory that stays
in the cache, and only the pooled quarter of it, with the winners, is ever written out. Small
convolutions on large maps (LeNet's) spend as much time on writing and reading their output as on
computing it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Window

from .conv_direct import convolve_chunk, pack
from .conv_plan import Source, correlation_plan
from .lanes import store_bytes, vput
from .layout import channels_last
from .memory import empty
from .microkernel import call
from .runtime import address, device, kernel, max_workers
from .simd import (
    BYTES,
    WIDTH,
    load,
    select_larger,
    splat,
    unpack,
    vmax,
)

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
    chunk, worker, body, plan, jobs, x, out, winners, packed, bias, height, width, channels,
    scratch,
    scratch_bytes, conv_bytes, wide, narrow,
):  # fmt: skip
    """Convolve a chunk into scratch memory, then pool it into ``out`` and ``winners``."""
    n, images, bands, band = unpack(plan, 4)
    tail = scratch + worker * scratch_bytes
    local = tail + conv_bytes
    call(body, plan, jobs, chunk, x, local, packed, bias, 0, tail, wide, narrow)
    first, at_band = chunk // bands * images, chunk % bands
    pixel = 4 * channels
    row = width * pixel
    p, q = height // 2, width // 2
    begin, end = at_band * band // 2, min(p, (at_band + 1) * band // 2)
    for image in range(min(images, n - first)):
        for i in range(begin, end):
            for j in range(q):
                source = local + image * height * row + 2 * (i - begin) * row + 2 * j * pixel
                place = (((first + image) * p + i) * q + j) * channels
                _pool_pixel(source, row, pixel, channels, out + 4 * place, winners + place)


def conv_relu_pool(x: Any, w: Any, bias: Any, window: Window, groups: int) -> tuple[Any, Any]:
    """(max(pool(conv(x, w) + bias), 0), winners) for 2 × 2 pooling of stride 2, channels last."""
    n, o = x.shape[0], w.shape[0]
    height, width = window.output(x.shape[2:])
    pixel = 4 * o
    inner = Source((n, o, height, width), (height * width * pixel, 4, width * pixel, pixel))
    plan = correlation_plan(
        Source(x.shape, x.strides), inner, w.strides, window, groups, False, rows_together=2
    )
    y = channels_last((n, o, height // 2, width // 2))
    winners = np.empty((n, height // 2, width // 2, o), np.uint8)
    columns = o // groups
    bias = None if bias is None else np.ascontiguousarray(bias)
    packed = pack(plan, w, columns, w.strides[0], columns * w.strides[0], groups)
    images, band = int(plan.table[1]), int(plan.table[3])
    rows = images * height if images > 1 else band
    scratch_bytes = -(-(plan.scratch_bytes + rows * width * pixel + BYTES) // 64) * 64
    scratch = empty((scratch_bytes * max_workers() // 4,), np.float32)
    pooled(plan.chunks, convolve_chunk.load(), address(plan.table), address(plan.jobs),
           address(x), address(y), address(winners), address(packed),
           0 if bias is None else address(bias), height, width, o, address(scratch),
           scratch_bytes, plan.scratch_bytes, *plan.micro)  # fmt: skip
    return y, winners.transpose(0, 3, 1, 2)
