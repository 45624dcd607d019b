"""Depthwise convolution: every channel has a kernel of its own, and channels fill the vectors.

    y[p, c] = b[c] + Σ_t x[p + tap t, c] · w[t, c]

There is no inner dimension to block, so no micro-kernel: four pixels at a time go over the taps,
one load and one multiply-add each. The geometry (padding, strides, phases of the input gradient)
is that of ``conv_plan``, with its lists of pixels and taps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .conv_direct import SCRATCH_HEAD, chunk_input
from .conv_plan import MAX_SPLITS, Plan, Source, correlation_plan
from .layout import add_floats, channels_last, pack_panels, to_channels_last, zero_floats
from .memory import empty
from .microkernel import ACCUMULATE, RELU
from .runtime import address, device, kernel, worker_scratch
from .simd import (
    WIDTH,
    fma,
    load,
    load_f32,
    load_i64,
    load_part,
    splat,
    store_f32,
    store_part,
    unpack,
    vmax,
)


@device
def _finish(place, value, lanes, mode):
    if mode & ACCUMULATE:
        value = value + load_part(place, lanes)
    if mode & RELU:
        value = vmax(splat(np.float32(0)), value)
    store_part(place, value, lanes)


@kernel
def depthwise(chunk, worker, plan, jobs, x, out, packed, bias, mode, scratch, scratch_bytes):
    """One chunk of a convolution or input gradient."""
    n, images, bands, band = unpack(plan, 4)
    (channels,) = unpack(plan + 8 * 11, 1)
    o_n, o_band, n_jobs = unpack(plan + 8 * 22, 3)
    first, at_band = chunk // bands * images, chunk % bands
    base = chunk_input(plan, chunk, x, scratch + worker * scratch_bytes + SCRATCH_HEAD)
    target = out + first * o_n + at_band * o_band
    row = -(-channels // WIDTH) * WIDTH * 4
    for job in range(n_jobs):
        a_rows, c_rows, height, width, taps, n_taps = unpack(jobs + 64 * job, 6)
        pixels = min(images, n - first) * min(band, height - at_band * band) * width
        for c in range(0, channels, WIDTH):
            lanes = min(WIDTH, channels - c)
            start = splat(np.float32(0))
            if bias:
                start = load_part(bias + 4 * c, lanes)
            for m in range(0, pixels, 4):
                # The last pixels of a chunk repeat its very last one, which changes nothing …
                at = (m, min(m + 1, pixels - 1), min(m + 2, pixels - 1), min(m + 3, pixels - 1))
                p0 = base + 4 * c + load_i64(a_rows + 8 * at[0])
                p1 = base + 4 * c + load_i64(a_rows + 8 * at[1])
                p2 = base + 4 * c + load_i64(a_rows + 8 * at[2])
                p3 = base + 4 * c + load_i64(a_rows + 8 * at[3])
                y0, y1, y2, y3 = start, start, start, start
                if lanes == WIDTH:  # asked here once, not at each load
                    for t in range(n_taps):
                        tap, w = load_i64(taps + 8 * t), load(packed + t * row + 4 * c)
                        y0, y1 = fma(load(p0 + tap), w, y0), fma(load(p1 + tap), w, y1)
                        y2, y3 = fma(load(p2 + tap), w, y2), fma(load(p3 + tap), w, y3)
                else:
                    for t in range(n_taps):
                        tap, w = load_i64(taps + 8 * t), load(packed + t * row + 4 * c)
                        y0 = fma(load_part(p0 + tap, lanes), w, y0)
                        y1 = fma(load_part(p1 + tap, lanes), w, y1)
                        y2 = fma(load_part(p2 + tap, lanes), w, y2)
                        y3 = fma(load_part(p3 + tap, lanes), w, y3)
                to = target + 4 * c
                _finish(to + load_i64(c_rows + 8 * m), y0, lanes, mode)
                if m + 1 < pixels:  # … except where results are added up
                    _finish(to + load_i64(c_rows + 8 * m + 8), y1, lanes, mode)
                if m + 2 < pixels:
                    _finish(to + load_i64(c_rows + 8 * m + 16), y2, lanes, mode)
                if m + 3 < pixels:
                    _finish(to + load_i64(c_rows + 8 * m + 24), y3, lanes, mode)
        packed += n_taps * row


@kernel
def depthwise_weights(
    chunk, worker, plan, jobs, x, gy, partials, units, splits, scratch, scratch_bytes
):
    """The partial sums gw[t, c] = Σ_p gy[p, c] · x[p + tap t, c] of one split of the chunks."""
    n, images, bands, band = unpack(plan, 4)
    (channels,) = unpack(plan + 8 * 11, 1)
    o_n, o_band = unpack(plan + 8 * 22, 2)
    a_rows, c_rows, height, width, taps, n_taps = unpack(jobs, 6)
    row = -(-channels // WIDTH) * WIDTH * 4
    sums = partials + chunk * n_taps * row
    zero_floats(sums, n_taps * row // 4)
    for unit in range(units * chunk // splits, units * (chunk + 1) // splits):
        first, at_band = unit // bands * images, unit % bands
        base = chunk_input(plan, unit, x, scratch + worker * scratch_bytes + SCRATCH_HEAD)
        start = gy + first * o_n + at_band * o_band
        pixels = min(images, n - first) * min(band, height - at_band * band) * width
        for c in range(0, channels, WIDTH):
            lanes = min(WIDTH, channels - c)
            for t in range(0, n_taps, 4):
                t1, t2, t3 = min(t + 1, n_taps - 1), min(t + 2, n_taps - 1), min(t + 3, n_taps - 1)
                p0 = base + 4 * c + load_i64(taps + 8 * t)
                p1 = base + 4 * c + load_i64(taps + 8 * t1)
                p2 = base + 4 * c + load_i64(taps + 8 * t2)
                p3 = base + 4 * c + load_i64(taps + 8 * t3)
                to = sums + 4 * c
                s0, s1 = load(to + t * row), load(to + t1 * row)
                s2, s3 = load(to + t2 * row), load(to + t3 * row)
                if lanes == WIDTH:
                    for m in range(pixels):
                        at, g = load_i64(a_rows + 8 * m), load_i64(c_rows + 8 * m)
                        v = load(start + 4 * c + g)
                        s0, s1 = fma(v, load(p0 + at), s0), fma(v, load(p1 + at), s1)
                        s2, s3 = fma(v, load(p2 + at), s2), fma(v, load(p3 + at), s3)
                else:
                    for m in range(pixels):
                        at, g = load_i64(a_rows + 8 * m), load_i64(c_rows + 8 * m)
                        v = load_part(start + 4 * c + g, lanes)
                        s0 = fma(v, load_part(p0 + at, lanes), s0)
                        s1 = fma(v, load_part(p1 + at, lanes), s1)
                        s2 = fma(v, load_part(p2 + at, lanes), s2)
                        s3 = fma(v, load_part(p3 + at, lanes), s3)
                # Repeated taps have repeated sums: the order of the stores does not matter.
                store_part(to + t * row, s0, WIDTH)
                store_part(to + t1 * row, s1, WIDTH)
                store_part(to + t2 * row, s2, WIDTH)
                store_part(to + t3 * row, s3, WIDTH)


@kernel
def depthwise_weight_sum(
    chunk, worker, partials, splits, split_bytes, row, channels, gw, k_list, s_o
):
    """gw = Σ_splits, one tap a chunk."""
    start = partials + chunk * row
    for split in range(1, splits):
        add_floats(start, start + split * split_bytes, row // 4)
    for c in range(channels):
        store_f32(gw + load_i64(k_list + 8 * chunk) + c * s_o, load_f32(start + 4 * c))


def _run(plan: Plan, x: Any, w: Any, out: Any, bias: Any, mode: int) -> None:
    channels = x.shape[1]
    padded = -(-channels // WIDTH) * WIDTH
    packed = empty((sum(k.size for k in plan.k_lists) * padded,), np.float32)
    at = address(packed)
    for k_list in plan.k_lists:
        pack_panels(1, at, address(w), address(k_list), k_list.size, w.strides[0], channels, padded,
                    padded, 0)  # fmt: skip
        at += k_list.size * padded * 4
    scratch = worker_scratch(plan.scratch_bytes)
    depthwise(plan.chunks, address(plan.table), address(plan.jobs), address(x), address(out),
              address(packed), 0 if bias is None else address(bias), mode, scratch,
              plan.scratch_bytes)  # fmt: skip


def conv(
    x: Any, w: Any, bias: Any, window: Window, groups: int, relu: bool = False, into: Any = None
) -> Any:
    """As ``conv_direct.conv``, for as many groups as input and output channels."""
    y = channels_last((*x.shape[:2], *window.output(x.shape[2:]))) if into is None else into
    plan = correlation_plan(
        Source(x.shape, x.strides), Source(y.shape, y.strides), w.strides, window, groups, False
    )
    if into is not None and bias is not None:
        y += bias[:, None, None]
        bias = None
    mode = (RELU if relu else 0) | (ACCUMULATE if into is not None else 0)
    _run(plan, x, w, y, bias if bias is None else np.ascontiguousarray(bias), mode)
    return y


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """As ``conv_direct.conv_input_grad``, for as many groups as input and output channels."""
    gx = channels_last(shape) if into is None else into
    plan = correlation_plan(
        Source(gy.shape, gy.strides), Source(gx.shape, gx.strides), w.strides, window, groups, True
    )
    if into is None and not plan.complete:
        gx.fill(0)
    if plan.chunks:
        _run(plan, gy, w, gx, None, ACCUMULATE if into is not None else 0)
    return gx


def conv_weight_grad(x: Any, gy: Any, shape: Shape, window: Window, groups: int) -> Any:
    """As ``conv_direct.conv_weight_grad``, for as many groups as input and output channels."""
    gy, gw = to_channels_last(gy), empty(shape, np.float32)
    plan = correlation_plan(
        Source(x.shape, x.strides), Source(gy.shape, gy.strides), gw.strides, window, groups, False
    )
    (k_list,) = plan.k_lists
    row = -(-shape[0] // WIDTH) * WIDTH * 4
    splits = min(plan.chunks, MAX_SPLITS)
    partials = empty((splits * k_list.size * row // 4,), np.float32)
    scratch = worker_scratch(plan.scratch_bytes)
    depthwise_weights(splits, address(plan.table), address(plan.jobs), address(x), address(gy),
                      address(partials), plan.chunks, splits, scratch,
                      plan.scratch_bytes)  # fmt: skip
    depthwise_weight_sum(k_list.size, address(partials), splits, k_list.size * row, row, shape[0],
                         address(gw), address(k_list), gw.strides[0])  # fmt: skip
    return gw
