"""The gradients of a fully connected layer and the ReLU after it, in two launches.

    g = gy where y > 0, else 0      gb = Σ_m g[m, :]      gx = g·w      gw = gᵀ·x

The first launch masks gy, sums its columns and packs w and x; the second multiplies both products.
Five launches and two passes of NumPy otherwise, each of which waits for the other threads: at
LeNet's sizes (64 × 400 → 120 → 84) they cost as much as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape

from . import gemm
from .memory import empty
from .microkernel import call
from .runtime import address, device, kernel, worker_scratch
from .simd import WIDTH, load_part, select_gt, splat, store_part, unpack

f4 = np.dtype(np.float32)
FEWEST_ROWS = 8  # below, packing w costs more than the products
STRIP = 64  # columns of gy that one chunk masks and sums
ROWS = 128  # rows that are summed before they meet the rest


@device
def _mask(g, y, masked, sums, rows, g_m, pitch, lanes):
    """One vector of columns: g = gy where y > 0 (all of gy without y), and its sum over rows."""
    zero = splat(np.float32(0))
    total = zero
    for first in range(0, rows, ROWS):
        some = zero
        for row in range(first, min(rows, first + ROWS)):
            value = load_part(g + row * g_m, lanes)
            if y:
                value = select_gt(load_part(y + row * pitch, lanes), zero, value, zero)
                store_part(masked + row * pitch, value, lanes)
            some = some + value
        total = total + some
    store_part(sums, total, lanes)


@kernel
def begin(chunk, worker, plan, g, y, masked, sums, w, packed_w, x, packed_x):
    """Chunks: strips of columns of gy, then panels of w, then panels of x."""
    strips, packs_w, entry, plan_w, plan_x, rows, columns, g_m = unpack(plan, 8)
    if chunk < strips:
        for c in range(chunk * STRIP, min(columns, (chunk + 1) * STRIP), WIDTH):
            _mask(g + 4 * c, y + 4 * c if y else 0, masked + 4 * c, sums + 4 * c, rows, g_m,
                  4 * columns, min(WIDTH, columns - c))  # fmt: skip
    elif chunk < strips + packs_w:
        call(entry, chunk - strips, worker, plan_w, packed_w, w)
    else:
        call(entry, chunk - strips - packs_w, worker, plan_x, packed_x, x)


@kernel
def end(chunk, worker, plan, g, packed_w, gx, packed_x, gw, scratch):
    """Chunks of gx = g·w, then of gw = gᵀ·x."""
    chunks, entry, plan_x, plan_w, scratch_bytes = unpack(plan, 5)
    own = scratch + worker * scratch_bytes  # the products' own shares differ in size
    if chunk < chunks:
        call(entry, chunk, 0, plan_x, g, packed_w, gx, 0, 0, own)
    else:
        call(entry, chunk - chunks, 0, plan_w, g, packed_x, gw, 0, 0, own)


class _Call(NamedTuple):
    """What the calls of one geometry have in common."""

    first: int  # address of the table of ``begin``
    first_chunks: int
    last: int  # of ``end``
    last_chunks: int
    packed_w: int  # bytes; 0 where a gradient is not wanted
    packed_x: int
    scratch_bytes: int
    keep: list[Any]


@lru_cache(maxsize=512)
def _prepare(
    gy_strides: Shape, x_shape: Shape, x_strides: Shape, w_shape: Shape, w_strides: Shape,
    relu: bool, gx: bool, gw: bool,
) -> _Call:  # fmt: skip
    rows, columns = x_shape[0], w_shape[0]
    g_strides = (4 * columns, 4) if relu else gy_strides
    to_x = gemm.plan_of((rows, columns), g_strides, w_shape, w_strides)
    to_w = gemm.plan_of((columns, rows), g_strides[::-1], x_shape, x_strides)
    strips = -(-columns // STRIP)
    packs_w, chunks_x = (to_x.packs, to_x.chunks) if gx else (0, 0)
    packs_x, chunks_w = (to_w.packs, to_w.chunks) if gw else (0, 0)
    scratch_bytes = max(to_x.scratch_bytes, to_w.scratch_bytes)
    tables = np.array([
        strips, packs_w, gemm.pack_matrix.load(), to_x.table, to_w.table, rows, columns,
        gy_strides[0], chunks_x, gemm.multiply.load(), to_x.table, to_w.table, scratch_bytes,
    ], np.int64)  # fmt: skip
    return _Call(
        first=address(tables),
        first_chunks=strips + packs_w + packs_x,
        last=address(tables) + 8 * 8,
        last_chunks=chunks_x + chunks_w,
        packed_w=to_x.packed_bytes * gx,
        packed_x=to_w.packed_bytes * gw,
        scratch_bytes=scratch_bytes,
        keep=[to_x, to_w, tables],
    )


def accepts(gy: Any, x: Any, y: Any) -> bool:
    """Whether the products are large enough, and the rows of gy and y contiguous."""
    return (
        x.shape[0] >= FEWEST_ROWS
        and x.size * gy.shape[1] >= gemm.SMALL
        and gy.strides[-1] == 4
        and (y is None or y.strides == (4 * y.shape[1], 4))
    )


def gradients(gy: Any, x: Any, w: Any, needs: Sequence[bool], y: Any) -> tuple[Any, Any, Any]:
    """(gx, gw, gb) of linear(x (M, K), w (N, K)), or with its result y (contiguous) of linear_relu;
    float32."""
    wants_x, wants_w, wants_b = needs
    relu = y is not None
    made = _prepare(gy.strides, x.shape, x.strides, w.shape, w.strides, relu, wants_x, wants_w)
    own = made.packed_w + made.packed_x
    packed = worker_scratch(made.scratch_bytes, own)
    gx = empty(x.shape, f4) if wants_x else None
    gw = empty(w.shape, f4) if wants_w else None
    gb, g = np.empty(len(w), f4), empty(y.shape, f4) if relu else gy
    packed_x, at_g = packed + made.packed_w, address(g)
    begin(made.first_chunks, made.first, address(gy), address(y) if relu else 0, at_g, address(gb),
          address(w), packed, address(x), packed_x)  # fmt: skip
    if made.last_chunks:
        end(made.last_chunks, made.last, at_g, packed, address(gx) if wants_x else 0, packed_x,
            address(gw) if wants_w else 0, packed + own)  # fmt: skip
    return gx, gw, gb if wants_b else None
