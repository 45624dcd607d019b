"""Input gradient for few input channels: one matrix product, then overlapping rows added up.

With 1, 3 or 6 input channels the phases of ``conv_direct`` would fill 1, 3 or 6 lanes of each vector.
Here all kernel positions share the vectors instead:

    t[pixel][i, j, c] = Σ_o gy[pixel, o] · w[o, c, i, j]          rows of I·J·C columns
    gx[p·s + i·d − pad, q·s + j·d − pad, c] += t[(p, q)][i, j, c]

(what is called GEMM + col2im). The product and the sums of a few pixels stay in the first-level
cache, the padded image in the second; an image is one chunk, so no two threads add to one cell.
It serves gradients of first layers and transposed convolutions to few channels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .conv_direct import pixels_times_panel
from .layout import add_floats, channels_last, copy_floats, to_channels_last, zero_floats
from .memory import empty
from .microkernel import ACCUMULATE, MAX_ROWS, TILE_ROWS, panel_vectors, rows_kernel
from .runtime import address, device, kernel, max_workers
from .simd import WIDTH, load_f32, load_i64, store_f32, unpack

PIXELS = 64  # whose products are kept before they are added up


class Plan(NamedTuple):
    """Parameters of ``scatter``; ``keep`` owns the lists behind the addresses."""

    table: np.ndarray
    columns: np.ndarray
    vectors: list[int]
    scratch_bytes: int
    keep: list[np.ndarray]


@lru_cache(maxsize=256)
def make_plan(
    gy_shape: Shape,
    gy_strides: Shape,
    shape: Shape,
    strides: Shape,
    w_strides: Shape,
    window: Window,
) -> Plan:
    """The plan of one geometry: gy to an input of that ``shape``."""
    (_, o, p, q), (g_n, _, g_p, g_q) = gy_shape, gy_strides
    (_, c, h, w), (x_n, _, x_h, x_w) = shape, strides
    (k, m), (s, t), ((top, bottom), (left, right)), (d, e) = window
    high = max(top + h, (p - 1) * s + d * (k - 1) + 1)
    wide = max(left + w, (q - 1) * t + e * (m - 1) + 1)
    a_rows = np.add.outer(np.arange(p) * g_p, np.arange(q) * g_q).reshape(-1).astype(np.int64)
    runs = m if e == 1 else 1  # kernel columns that are neighbours in the image
    vectors = panel_vectors(k * m * c)
    row_bytes = sum(vectors) * WIDTH * 4
    c_rows = np.arange(PIXELS, dtype=np.int64) * row_bytes
    taps = np.zeros(1, np.int64)
    i, j, channel = (g.reshape(-1) for g in np.indices((k, m, c)))
    columns = channel * w_strides[1] + i * w_strides[2] + j * w_strides[3]
    table = (o, p, q, g_n, c, h, w, x_n, x_h, x_w, k, m, s, t, top, left, d, e, high, wide, runs,
             row_bytes, k * m * c, vectors[0] * WIDTH, TILE_ROWS[vectors[0] - 1],
             TILE_ROWS[vectors[-1] - 1], address(a_rows), address(c_rows), address(taps))  # fmt: skip
    lists = 2 * MAX_ROWS * 8
    scratch_bytes = -(-(lists + PIXELS * row_bytes + high * wide * c * 4) // 64) * 64
    return Plan(np.array(table, np.int64), columns.astype(np.int64), vectors, scratch_bytes,
                [a_rows, c_rows, taps])  # fmt: skip


@kernel
def pack_columns(chunk, worker, target, w, k_step, k_count, n_list, n_count, nr):
    """One panel a chunk: target[panel][k][lane] = w[k·k_step + n_list[n]]."""
    first = chunk * nr
    padded = -(-n_count // WIDTH) * WIDTH
    width = min(nr, padded - first)
    for k in range(k_count):
        to = target + (first * k_count + k * width) * 4
        for lane in range(min(width, n_count - first)):
            store_f32(
                to + 4 * lane, load_f32(w + k * k_step + load_i64(n_list + 8 * (first + lane)))
            )
        count = min(width, n_count - first)
        zero_floats(to + 4 * count, width - count)


@device
def _add_pixels(plan, products, first, count, image):
    """Add the products of ``count`` pixels to the padded image."""
    (c,) = unpack(plan + 8 * 4, 1)
    (q,) = unpack(plan + 8 * 2, 1)
    k, m, s, t, top, left, d, e, high, wide, runs, row_bytes = unpack(plan + 8 * 10, 12)
    for index in range(count):
        row, column = (first + index) // q * s, (first + index) % q * t
        source = products + index * row_bytes
        for i in range(k):
            place = image + ((row + i * d) * wide + column) * c * 4
            for j in range(0, m, runs):
                add_floats(place + j * e * c * 4, source + (i * m + j) * c * 4, runs * c)


@kernel
def scatter(
    chunk, worker, plan, gy, gx, packed, mode, scratch, scratch_bytes, wide_entry, narrow_entry
):
    """The gradient of one image a chunk."""
    o, p, q, g_n, c, h, w, x_n, x_h, x_w = unpack(plan, 10)
    (
        top,
        left,
        d,
        e,
        high,
        wide,
        runs,
        row_bytes,
        columns,
        nr,
        mr_wide,
        mr_narrow,
        a_rows,
        c_rows,
        taps,
    ) = unpack(plan + 8 * 14, 15)
    tail = scratch + worker * scratch_bytes
    products = tail + 16 * MAX_ROWS
    image = products + PIXELS * row_bytes
    zero_floats(image, high * wide * c)
    for first in range(0, p * q, PIXELS):
        count = min(PIXELS, p * q - first)
        for n in range(0, row_bytes // 4, nr):
            full = row_bytes // 4 - n >= nr
            pixels_times_panel(wide_entry if full else narrow_entry, mr_wide if full else mr_narrow, count,
                               gy + chunk * g_n, a_rows + 8 * first, c_rows, tail, taps, 1, o,
                               packed + n * o * 4, products + 4 * n, WIDTH, 0, 0)  # fmt: skip
        _add_pixels(plan, products, first, count, image)
    for row in range(h):
        source = image + ((row + top) * wide + left) * c * 4
        target = gx + chunk * x_n + row * x_h
        pieces = 1 if x_w == 4 * c else w
        for piece in range(pieces):
            if mode & ACCUMULATE:
                add_floats(target + piece * x_w, source + piece * c * 4, w * c // pieces)
            else:
                copy_floats(target + piece * x_w, source + piece * c * 4, w * c // pieces)


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """As ``conv_direct.conv_input_grad``, without groups."""
    gy = to_channels_last(gy)
    gx = channels_last(shape) if into is None else into
    plan = make_plan(gy.shape, gy.strides, shape, gx.strides, w.strides, window)
    vectors, outputs = plan.vectors, w.shape[0]
    packed = empty((sum(vectors) * WIDTH * outputs,), np.float32)
    pack_columns(len(vectors), address(packed), address(w), w.strides[0], outputs, address(plan.columns),
                 plan.columns.size, vectors[0] * WIDTH)  # fmt: skip
    scratch = empty((plan.scratch_bytes * max_workers() // 4 + 16,), np.float32)
    entries = [rows_kernel(TILE_ROWS[v - 1], v).load() for v in (vectors[0], vectors[-1])]
    scatter(shape[0], address(plan.table), address(gy), address(gx), address(packed),
            0 if into is None else ACCUMULATE, address(scratch), plan.scratch_bytes, *entries)  # fmt: skip
    return gx
