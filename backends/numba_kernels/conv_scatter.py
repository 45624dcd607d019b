"""Input gradient for few input channels: one matrix product, then shifted rows added up.

With 1, 3 or 6 input channels the phases of ``conv_direct`` would fill 1, 3 or 6 lanes of each
vector. Here all kernel positions share the vectors instead:

    t[p, q][i, j, c] = Σ_o gy[p, q, o] · w[o, c, i, j]              rows of I·J·C columns
    gx[p·s + i·d − pad, q·s + j·d − pad, c] += t[p, q][i, j, c]

(what is called GEMM + col2im). The sums are made line by line of gx: for each q first over the
kernel rows i that reach the line, in registers, then into the line at the shift of q. Adding every
(p, q, i) to the image at once would do I times as many overlapping reads of what was just written,
for which the processor has to wait. Only the products of the rows that a line needs are kept, in a
ring. It serves gradients of first layers and transposed convolutions to few channels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .conv_direct import pixels_times_panel
from .conv_plan import row_tile
from .layout import add_floats, channels_last, copy_floats, to_channels_last, zero_floats
from .memory import empty
from .microkernel import ACCUMULATE, MAX_ROWS, Panels, panels
from .runtime import address, device, kernel, max_workers
from .simd import (
    WIDTH,
    load,
    load_f32,
    load_i64,
    load_part,
    store,
    store_f32,
    store_i64,
    unpack,
)

PIXELS = 48  # of a matrix product at least, in whole rows


class Plan(NamedTuple):
    """Parameters of ``scatter``; ``keep`` owns the lists behind the addresses."""

    table: np.ndarray
    columns: np.ndarray
    panels: Panels
    scratch_bytes: int
    micro: tuple[int, int]
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
    (k, m), (s, t), ((top, _), (left, _)), (d, e) = window
    cut = panels(k * m * c)
    pixel = cut.columns * 4
    tiles = [row_tile(q, nv, cut.lanes, g_q) for nv in (cut.wide, cut.narrow)]
    together = min(p, -(-PIXELS // q))  # rows of gy in one matrix product
    ring = together * (-(-((k - 1) * d // s) // together) + 1)  # rows of products that are kept
    wide = max(left + w, (q - 1) * t + e * (m - 1) + 1)
    a_rows = np.add.outer(np.arange(p) * g_p, np.arange(q) * g_q).reshape(-1).astype(np.int64)
    c_rows = np.arange(together * q, dtype=np.int64) * pixel
    taps = np.zeros(1, np.int64)
    runs = m if e == 1 else 1  # kernel columns that are neighbours in the image
    i, j, channel = (g.reshape(-1) for g in np.indices((k, m, c)))
    columns = channel * w_strides[1] + i * w_strides[2] + j * w_strides[3]
    lists = 16 * MAX_ROWS + 8 * k
    line_bytes = 4 * (wide * c + WIDTH)
    table = (o, p, q, g_n, c, h, w, x_n, x_h, x_w, k, m, s, t, top, left, d, e, runs, pixel,
             cut.lanes, cut.nr, tiles[0][0], tiles[1][0], together, ring,
             lists, line_bytes, wide, address(a_rows), address(c_rows), address(taps))  # fmt: skip
    scratch_bytes = -(-(lists + line_bytes + ring * q * pixel + 4 * WIDTH) // 64) * 64
    return Plan(
        table=np.array(table, np.int64),
        columns=columns.astype(np.int64),
        panels=cut,
        scratch_bytes=scratch_bytes,
        micro=(tiles[0][1], tiles[1][1]),
        keep=[a_rows, c_rows, taps],
    )


@kernel
def pack_columns(chunk, worker, target, w, k_step, k_count, n_list, n_count, padded, nr):
    """One panel a chunk: target[panel][k][lane] = w[k·k_step + n_list[n]]."""
    first = chunk * nr
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
def _line(plan, line, products, sources, row):
    """Row ``row`` of the padded image from the products that reach it; ``sources`` is room for a
    list."""
    p, q = unpack(plan + 8, 2)
    (c,) = unpack(plan + 8 * 4, 1)
    k, m, s, t, top, left, d, e, runs, pixel = unpack(plan + 8 * 10, 10)
    ring, lists, line_bytes, wide = unpack(plan + 8 * 25, 4)
    zero_floats(line, wide * c)
    count = 0
    for i in range(k):
        at = row - i * d
        if at >= 0 and at % s == 0 and at // s < p:
            store_i64(sources + 8 * count, products + (at // s % ring * q * pixel) + i * m * c * 4)
            count += 1
    if count == 0:
        return
    # Neighbouring columns overlap in the line. Every ``apart``-th does not, so no addition has to
    # wait for the store of the one before: 1.5 times as fast.
    apart = -(-(runs * c + WIDTH - 1) // (t * c))
    for j in range(0, m, runs):
        for start in range(apart):
            for column in range(start, q, apart):
                to = line + ((column * t + j * e) * c) * 4
                for v in range(0, runs * c, WIDTH):
                    lanes = min(WIDTH, runs * c - v)
                    at = 4 * (j * c + v) + column * pixel
                    total = load_part(load_i64(sources) + at, lanes)
                    for source in range(1, count):
                        total = total + load_part(load_i64(sources + 8 * source) + at, lanes)
                    store(to + 4 * v, load(to + 4 * v) + total)


@kernel
def scatter(
    chunk, worker, plan, gy, gx, packed, mode, scratch, scratch_bytes, wide_entry, narrow_entry
):
    """The gradient of one image a chunk."""
    o, p, q, g_n, c, h, w, x_n, x_h, x_w, k, m, s, t, top, left = unpack(plan, 16)
    (pixel, lanes, nr, mr_wide, mr_narrow, together, ring, lists, line_bytes, wide, a_rows,
     c_rows, taps
     ) = unpack(plan + 8 * 19, 13)  # fmt: skip
    tail = scratch + worker * scratch_bytes
    line = tail + lists
    products = line + line_bytes
    for first in range(0, p, together):
        count = min(together, p - first)
        block = products + first % ring * q * pixel
        for n in range(0, pixel // 4, nr):
            full = pixel // 4 - n >= nr
            pixels_times_panel(wide_entry if full else narrow_entry,
                               mr_wide if full else mr_narrow, count * q, gy + chunk * g_n,
                               a_rows + 8 * first * q, c_rows, tail, taps, 1, o,
                               packed + n * o * 4, block + 4 * n, lanes, 0, 0)  # fmt: skip
        # Lines that no later product reaches; after the last block, all that are left.
        end = h if first + count == p else min(h, (first + count) * s - top)
        for row in range(max(0, first * s - top) if first else 0, end):
            _line(plan, line, products, tail + 16 * MAX_ROWS, row + top)
            source, target = line + left * c * 4, gx + chunk * x_n + row * x_h
            pieces = 1 if x_w == 4 * c else w
            for piece in range(pieces):
                if mode & ACCUMULATE:
                    add_floats(target + piece * x_w, source + piece * c * 4, w * c // pieces)
                else:
                    copy_floats(target + piece * x_w, source + piece * c * 4, w * c // pieces)


def packed_bytes(plan: Plan, outputs: int) -> int:
    """Of ``pack``, rounded up to whole cache lines."""
    return -(-plan.panels.columns * outputs * 4 // 64) * 64


def pack(plan: Plan, w: Any, target: int) -> None:
    """The weights as the matrix of the product, a row an output channel, to an address."""
    cut = plan.panels
    pack_columns(cut.number, target, address(w), w.strides[0], w.shape[0], address(plan.columns),
                 plan.columns.size, cut.columns, cut.nr)  # fmt: skip


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """As ``conv_direct.conv_input_grad``, without groups."""
    gy = to_channels_last(gy)
    gx = channels_last(shape) if into is None else into
    plan = make_plan(gy.shape, gy.strides, shape, gx.strides, w.strides, window)
    packed = packed_bytes(plan, w.shape[0])
    memory = empty(((packed + plan.scratch_bytes * max_workers()) // 4 + 16,), np.float32)
    start = address(memory)
    pack(plan, w, start)
    scatter(shape[0], address(plan.table), address(gy), address(gx), start,
            0 if into is None else ACCUMULATE, start + packed, plan.scratch_bytes,
            *plan.micro)  # fmt: skip
    return gx
