"""The gradients of convolution, ReLU and 2×2 max pooling in one pass, from the winners alone.

Composed, the backward pass writes the gradient of the large map (four cells for each one that
arrives, three of them 0), and multiplies all of it by the weights and by the image. But let
g[p, q, o] = gy where y > 0, else 0, and (a, b) the place of the winner of p, q, o among its four
cells. Then the sums are, without the terms that are 0 (s, t strides, d, e dilations, no padding):

    gb[o]          = Σ g[p, q, o]
    gw[o, c, i, j] = Σ g[p, q, o] · x[(2p + a)·s + i·d, (2q + b)·t + j·e, c]
    gx[(2p + a)·s + i·d, (2q + b)·t + j·e, c] += Σ_o g[p, q, o] · w[o, c, i, j]

That is a quarter of the multiplications. As each channel has its own winners, the lanes of a vector
are no longer the channels o but the floats (j, c) of a patch of the image, which ``winner_tile``
adds up. For gx the patch is what all four places reach, and the weights of a channel are shifted
within it, with zeros around them: (I + 1)·(J + 1) instead of I·J. Backward, LeNet's two layers are
2 times as fast as with dense products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .conv_plan import MAX_SPLITS, SPLIT_BYTES
from .lanes import store_shifts, vget
from .layout import (
    add_floats,
    channels_last_strides,
    copy_floats,
    copy_matrix,
    copy_window,
    zero_floats,
)
from .memory import empty
from .microkernel import call
from .runtime import Kernel, address, device, kernel, max_workers, u8
from .simd import (
    BYTES,
    WIDTH,
    lane_sum,
    load,
    load_f32,
    load_i64,
    select_gt,
    splat,
    store,
    store_f32,
    unpack,
)
from .winner_tile import winner_kernel, winner_tile

f4 = np.dtype(np.float32)
LARGEST = 1 << 17  # weights: with more, the partial sums of eight splits leave every cache
SERIAL_BYTES = 256 * 1024  # that one thread adds up or packs before another would have started
NEAR = 2048  # values of g, each with its shift, beside an image in the first-level cache
# Where the parts of the table of parameters begin.
IMAGE, WEIGHTS, INPUTS = 9, 23, 33


@device
def _live(g, gy, y, count, sums, sum_bytes):
    """g = gy where y > 0, else 0; added to ``sums``, which begin anew after ``sum_bytes``.

    True when all of g is finite.
    """
    zero = splat(np.float32(0))
    odd, place = zero, 0
    for i in range(0, count, WIDTH):
        lanes = min(WIDTH, count - i)
        v = select_gt(vget(y + 4 * i, lanes), zero, vget(gy + 4 * i, lanes), zero)
        store(g + 4 * i, v)
        store(sums + place, load(sums + place) + v)
        odd = odd + (v - v)
        place += BYTES
        if place == sum_bytes:
            place = 0
    return lane_sum(odd) == 0


@device
def _shifts(target, winners, count, down, right):
    """Where the patch of each winner begins, as int16 floats from that of the first place."""
    for i in range(0, count, WIDTH):
        store_shifts(target + 2 * i, winners + i, min(WIDTH, count - i), down, right)


@device
def _weights(plan, g, shifts, image, partial):
    """For each channel the patches of the image under its winners, added to its partial sum."""
    o, cells = unpack(plan, 2)
    (entry, groups, rows, floats, k, runs, line, row_step, run_step, places
     ) = unpack(plan + 8 * WEIGHTS, 10)  # fmt: skip
    few = max(32, NEAR // o)  # cells whose g and shifts stay in the first-level cache
    for cell in range(0, cells, few):
        for at in range(0, o, groups):
            first = cell * o + at
            for j in range(runs):
                for r in range(0, k, rows):
                    for v in range(0, line, floats):
                        call(entry, min(few, cells - cell), g + 4 * first, 4 * o,
                             shifts + 2 * first, 2 * o,
                             image + j * run_step + r * row_step + 4 * v, places + 8 * cell,
                             row_step, partial + (((at * runs + j) * k + r) * line + v) * 4,
                             runs * k * line * 4, line * 4)  # fmt: skip


@device
def _inputs(plan, g, shifts, packed, target):
    """For each pooled cell the weights of all channels, added to its patch of the gradient."""
    o, cells = unpack(plan, 2)
    (entry, rows, floats, patch_rows, line, w_row, t_row, channels, places
     ) = unpack(plan + 8 * INPUTS, 9)  # fmt: skip
    for cell in range(cells):
        to = target + load_i64(places + 8 * cell)
        for r in range(0, patch_rows, rows):
            for v in range(0, line, floats):
                call(entry, o, g + 4 * cell * o, 4, shifts + 2 * cell * o, 2,
                     packed + r * w_row + 4 * v, channels, w_row, to + r * t_row + 4 * v, 0,
                     t_row)  # fmt: skip


@device
def _inputs_one_by_one(plan, g, winners, packed, target):
    """``_inputs`` without the zeros around the weights: times ∞ they would be NaN."""
    o, cells = unpack(plan, 2)
    w_row, t_row, channels, places, taps, n_taps, down, right = unpack(plan + 8 * (INPUTS + 5), 8)
    for cell in range(cells):
        for channel in range(o):
            index = cell * o + channel
            winner = u8(winners + index, 1)[0]
            first = load_i64(channels + 8 * channel)
            start = first + 4 * (winner // 2 * down + winner % 2 * right)
            for tap in range(n_taps):
                place = first + load_i64(taps + 8 * tap)
                at = (place - start) // w_row * t_row + (place - start) % w_row
                at += target + load_i64(places + 8 * cell)
                term = load_f32(g + 4 * index) * load_f32(packed + place)
                store_f32(at, load_f32(at) + term)


@kernel
def pooled_grads(
    chunk, worker, plan, x, gy, g_n, g_cell, g_o, y, winners, with_weight, partials, sums, packed,
    gx, scratch, scratch_bytes,
):  # fmt: skip
    """All gradients of the images of one split; ``winner_sum`` adds up the splits."""
    (o, cells, n, splits, sum_bytes, partial_bytes, live_bytes, image_bytes, copy
     ) = unpack(plan, 9)  # fmt: skip
    (pitch, x_rows, x_columns, s_n, s_h, s_w, s_c, h, w, channels, top, left, down, right
     ) = unpack(plan + 8 * IMAGE, 14)  # fmt: skip
    (t_row,) = unpack(plan + 8 * (INPUTS + 6), 1)
    w_down, w_right, t_bytes, gx_n = unpack(plan + 8 * (INPUTS + 11), 4)
    live = scratch + worker * scratch_bytes
    shifts = live + live_bytes
    image = shifts + live_bytes
    target = image + image_bytes
    partial = partials + chunk * partial_bytes
    zero_floats(sums + chunk * sum_bytes, sum_bytes // 4)
    if with_weight:
        zero_floats(partial, partial_bytes // 4)
    for i in range(n * chunk // splits, n * (chunk + 1) // splits):
        at = i * cells * o
        source = gy + i * g_n
        if g_o != 4 or g_cell != 4 * o:
            copy_matrix(live, 4 * o, source, g_cell, g_o, cells, o)
            source = live
        finite = _live(live, source, y + 4 * at, cells * o, sums + chunk * sum_bytes, sum_bytes)
        if with_weight:
            call(copy, image, pitch, x_rows, x_columns, x + i * s_n, s_h, s_w, s_c, h, w,
                 channels, -top, -left)  # fmt: skip
            _shifts(shifts, winners + at, cells * o, down, right)
            _weights(plan, live, shifts, image, partial)
        if gx:
            zero_floats(target, t_bytes // 4)
            _shifts(shifts, winners + at, cells * o, w_down, w_right)
            if finite:
                _inputs(plan, live, shifts, packed, target)
            else:
                _inputs_one_by_one(plan, live, winners + at, packed, target)
            for row in range(h):
                copy_floats(gx + i * gx_n + row * w * pitch,
                            target + (top + row) * t_row + left * pitch, w * channels)  # fmt: skip


@kernel
def winner_sum(chunk, worker, partials, partial_bytes, splits, gw, gw_step, k_list, lines, run,
               line):  # fmt: skip
    """gw[o] = Σ_splits partials, a channel a chunk: ``lines`` lines, of each the first ``run``
    floats."""
    start = partials + chunk * lines * line * 4
    for split in range(1, splits):
        add_floats(start, start + split * partial_bytes, lines * line)
    for r in range(lines):
        for i in range(run):
            to = gw + chunk * gw_step + load_i64(k_list + 8 * (r * run + i))
            store_f32(to, load_f32(start + (r * line + i) * 4))


@kernel
def pack_patches(chunk, worker, target, size, lead, w, w_step, taps, w_list, n_taps):
    """The weights of one output channel a chunk, at their places among zeros."""
    start = target + chunk * size
    zero_floats(start, size // 4)
    for i in range(n_taps):
        weight = load_f32(w + chunk * w_step + load_i64(w_list + 8 * i))
        store_f32(start + lead + load_i64(taps + 8 * i), weight)


class _Weights(NamedTuple):
    """The plan of the weight gradient."""

    parameters: tuple[int, ...]
    partial_bytes: int
    sum_tail: tuple[int, ...]  # arguments of ``winner_sum``
    keep: tuple[np.ndarray, ...]  # own the lists behind the addresses


class _Inputs(NamedTuple):
    """The plan of the input gradient."""

    parameters: tuple[int, ...]
    patch_bytes: int  # of the weights of one channel
    target_bytes: int
    pack: tuple[int, ...]  # arguments of ``pack_patches``
    keep: tuple[np.ndarray, ...]


class _Plan(NamedTuple):
    """What the calls of one geometry have in common."""

    table: np.ndarray
    splits: int
    sum_floats: int  # of a split: channels 0 … O − 1 over and over, in whole vectors
    weights: _Weights
    inputs: _Inputs
    scratch_bytes: int


def _lines(floats: int, tile_floats: int) -> int:
    """``floats`` rounded up to whole tiles."""
    return -(-floats // tile_floats) * tile_floats


def _grid(*axes: tuple[int, int]) -> np.ndarray:
    """Σ index·step over all indices of axes (count, step), the last index running fastest."""
    total = np.zeros(1, np.int64)
    for count, step in axes:
        total = (total[:, None] + np.arange(count) * step).reshape(-1)
    return total


def _plan_weights(o: int, c: int, pooled: Shape, window: Window, row: int, pitch: int) -> _Weights:
    """``row`` and ``pitch`` are the bytes from row to row and pixel to pixel of the image."""
    (k, m), (s, t), _, (d, e) = window
    runs = 1 if e == 1 else m  # kernel columns that are neighbours in the image are one run
    run = m // runs * c
    tile = winner_tile(o, k, run)
    line = _lines(run, tile.vectors * tile.lanes)
    places = _grid((pooled[0], 2 * s * row), (pooled[1], 2 * t * pitch))
    k_list = _grid((runs, 4), (k, 4 * m), (m // runs, 4), (c, 4 * k * m))
    return _Weights(
        parameters=(winner_kernel(tile).load(), tile.groups, tile.rows, tile.vectors * tile.lanes,
                    k, runs, line, d * row, e * pitch, address(places)),
        partial_bytes=-(-4 * o * runs * k * line // 64) * 64,
        sum_tail=(4 * c * k * m, address(k_list), runs * k, run, line),
        keep=(places, k_list),
    )  # fmt: skip


def _plan_inputs(
    x_shape: Shape, o: int, w_strides: Shape, pooled: Shape, window: Window
) -> _Inputs:
    _, c, h, w = x_shape
    (k, m), (s, t), ((top, _), (left, _)), (d, e) = window
    rows, columns = (k - 1) * d + 1 + s, (m - 1) * e + 1 + t  # of the patch of a pooled cell
    tile = winner_tile(1, rows, columns * c)
    line = _lines(columns * c, tile.vectors * tile.lanes)
    w_row = -(-4 * (t * c + line) // 64) * 64
    lead, patch_bytes = s * w_row + 4 * t * c, (s + rows) * w_row
    t_row = 4 * c * max(2 * t * (pooled[1] - 1) + columns, left + w)
    target_bytes = t_row * max(2 * s * (pooled[0] - 1) + rows, top + h)
    places = _grid((pooled[0], 2 * s * t_row), (pooled[1], 8 * t * c))
    channels = lead + _grid((o, patch_bytes))
    taps = _grid((k, d * w_row), (m, 4 * e * c), (c, 4))
    w_list = _grid((k, w_strides[2]), (m, w_strides[3]), (c, w_strides[1]))
    return _Inputs(
        parameters=(winner_kernel(tile).load(), tile.rows, tile.vectors * tile.lanes, rows, line,
                    w_row, t_row, address(channels), address(places), address(taps), taps.size,
                    -s * w_row // 4, -t * c, target_bytes, 4 * h * w * c),
        patch_bytes=patch_bytes,
        target_bytes=target_bytes + 4 * line,
        pack=(patch_bytes, lead, w_strides[0], address(taps), address(w_list), taps.size),
        keep=(places, channels, taps, w_list),
    )  # fmt: skip


NO_INPUTS = _Inputs((0,) * 15, 0, 0, (), ())


@lru_cache(maxsize=512)
def _prepare(
    x_shape: Shape,
    x_strides: Shape,
    w_shape: Shape,
    w_strides: Shape,
    window: Window,
    input_too: bool,
) -> _Plan:
    (n, c, h, w), o = x_shape, w_shape[0]
    (s_n, s_c, s_h, s_w), pitch = x_strides, 4 * c
    _, strides, ((top, _), (left, _)), _ = window
    pooled = tuple(size // 2 for size in window.output((h, w)))
    rows, columns = (
        (2 * p - 1) * s + (k - 1) * d + 1
        for p, k, s, d in zip(pooled, window.kernel, strides, window.dilation, strict=True)
    )
    row = columns * pitch
    weights = _plan_weights(o, c, pooled, window, row, pitch)
    inputs = _plan_inputs(x_shape, o, w_strides, pooled, window) if input_too else NO_INPUTS
    splits = max(1, min(n, MAX_SPLITS, SPLIT_BYTES // weights.partial_bytes))
    sum_bytes = math.lcm(o, WIDTH) * 4
    live_bytes = -(-(4 * math.prod(pooled) * o + BYTES) // 64) * 64
    image_bytes = -(-(rows * row + 4 * weights.parameters[6]) // 64) * 64
    table = (o, math.prod(pooled), n, splits, sum_bytes, weights.partial_bytes, live_bytes,
             image_bytes, copy_window.load(), pitch, rows, columns, s_n, s_h, s_w,
             4 if c == 1 else s_c, h, w, c, top, left, strides[0] * row // 4, strides[1] * c,
             *weights.parameters, *inputs.parameters)  # fmt: skip
    return _Plan(
        table=np.array(table, np.int64),
        splits=splits,
        sum_floats=sum_bytes // 4,
        weights=weights,
        inputs=inputs,
        scratch_bytes=-(-(2 * live_bytes + image_bytes + inputs.target_bytes) // 64) * 64,
    )


@lru_cache(maxsize=512)
def _fits(
    x: Shape, w: Shape, y: Shape, y_strides: Shape, winner_strides: Shape, window: Window
) -> bool:
    dense = y_strides == channels_last_strides(y) and winner_strides == channels_last_strides(y, 1)
    s, t = window.stride
    wide = x[3] + sum(window.padding[1]) + t  # of an image or a patch at most
    shift = s * (wide * x[1] + 2 * WIDTH) + t * x[1]
    return dense and math.prod(w) <= LARGEST and shift < 1 << 15


def accepts(x: Any, w: Any, y: Any, winner: Any, window: Window) -> bool:
    """Whether y and winner lie channels last, the weights are not too many, and the shifts fit into
    16 bits."""
    return _fits(x.shape, w.shape, y.shape, y.strides, winner.strides, window)


@lru_cache(maxsize=512)
def saves(window: Window, input_too: bool) -> bool:
    """Whether patches have fewer multiplications than the four cells of each winner."""
    patch = ((k - 1) * d + 1 + s for k, s, _, d in zip(*window, strict=True))
    return not input_too or math.prod(patch) <= 3 * window.taps()


def _start(step: Kernel, size: int, chunks: int, *arguments: int) -> None:
    """Run a kernel that works on ``size`` bytes, on one thread when they are few."""
    (step if size > SERIAL_BYTES else step.serial)(chunks, *arguments)


def conv_relu_pool_grad(
    gy: Any, y: Any, winner: Any, x: Any, w: Any, window: Window, needs: Sequence[bool]
) -> tuple[Any, Any, Any]:
    """``Backend.conv_relu_pool_grad`` for what ``accepts``."""
    plan = _prepare(x.shape, x.strides, w.shape, w.strides, window, bool(needs[0]))
    gx, gw, o = None, None, len(w)
    if gy.strides[2] != gy.shape[3] * gy.strides[3]:  # cells that are not evenly spaced
        gy = np.ascontiguousarray(gy)
    partial_bytes, patch_bytes = plan.weights.partial_bytes, plan.inputs.patch_bytes
    own = partial_bytes * plan.splits + patch_bytes * o
    memory = empty(((own + plan.scratch_bytes * max_workers()) // 4 + 16,), f4)
    partials = address(memory)
    packed = partials + partial_bytes * plan.splits
    if needs[0]:
        gx = empty(x.shape, f4, channels_last_strides(x.shape))
        size, lead, *rest = plan.inputs.pack
        _start(pack_patches, size * o, o, packed, size, lead, address(w), *rest)
    sums = np.empty((plan.splits, plan.sum_floats), f4)
    g_n, g_o, _, g_cell = gy.strides
    pooled_grads(plan.splits, address(plan.table), address(x), address(gy), g_n, g_cell, g_o,
                 address(y), address(winner), int(needs[1]), partials, address(sums), packed,
                 address(gx) if needs[0] else 0, partials + own, plan.scratch_bytes)  # fmt: skip
    if needs[1]:
        gw = empty(w.shape, f4)
        _start(winner_sum, partial_bytes * plan.splits, o, partials, partial_bytes, plan.splits,
               address(gw), *plan.weights.sum_tail)  # fmt: skip
    return gx, gw, np.add.reduce(sums.reshape(-1, o)) if needs[2] else None
