"""Sums of large float32 arrays over any axes that leave no more than two runs of axes in memory.

Memory is seen as runs of axes that are kept or summed. When the innermost is summed (everything,
the trailing axes, a bias gradient's N and H, W around the channels), each run of memory gives one
number; when it is kept (the leading axes, global average pooling with the channels innermost), rows
are added onto each other. Pieces of fixed size are summed in float32 by vectors, and the pieces'
sums in float64 in order: the bits do not depend on the number of threads, the error hardly on the
number of terms.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape

from .access import put32, put64
from .lanes import vget, vput
from .layout import copy_floats
from .memory import empty
from .order import Order, dense_strides, order
from .runtime import address, device, kernel
from .simd import BYTES, WIDTH, lane_sum, load, load_part, splat, store

f4 = np.float32
LARGE = 32768  # elements: below it NumPy has finished before the threads have started
BLOCK = 16384  # elements of a chunk
RUN = 4096  # elements summed in float32 at most, along memory
ROWS = 512  # the same, across it
TILE = 256  # columns that are added at a time, in the first cache
UNITS = 8  # pieces of work that are enough for all threads


@device
def _run_sum(x: int, count: int) -> float:
    """Σ of ``count`` neighbours, pieces of RUN added in float64."""
    total, zero = 0.0, splat(f4(0))
    for start in range(0, count, RUN):
        n = min(RUN, count - start)
        p, a, b, c, d = x + 4 * start, zero, zero, zero, zero
        for _ in range(n // (4 * WIDTH)):
            a, b = a + load(p), b + load(p + BYTES)
            c, d = c + load(p + 2 * BYTES), d + load(p + 3 * BYTES)
            p += 4 * BYTES
        rest = n % (4 * WIDTH)
        for _ in range(rest // WIDTH):
            a = a + load(p)
            p += BYTES
        if rest % WIDTH:
            b = b + load_part(p, rest % WIDTH)
        total += float(lane_sum((a + b) + (c + d)))
    return total


@kernel
def sum_runs(chunk, worker, x, y, runs, inner, step, final):
    """y[r] = Σ x[r, :] for ``step`` runs a chunk, in float32 where that is the result."""
    for r in range(chunk * step, min(runs, (chunk + 1) * step)):
        total = _run_sum(x + 4 * r * inner, inner)
        if final:
            put32(y, r, f4(total))
        else:
            put64(y, r, total)


@kernel
def sum_all(chunk, worker, x, partial, count):
    """partial[chunk] = Σ of its block of BLOCK elements."""
    start = chunk * BLOCK
    put64(partial, chunk, _run_sum(x + 4 * start, min(BLOCK, count - start)))


@device
def _add_rows(y, x, pitch, rows, columns):
    """y[c] = Σ_r x[r, c], four rows a pass."""
    copy_floats(y, x, columns)
    first, last = 1, columns // WIDTH * WIDTH
    for r in range(first, rows, 4):
        p0 = x + r * pitch
        p1, p2, p3 = p0 + pitch, p0 + 2 * pitch, p0 + 3 * pitch
        if r + 4 <= rows:
            for c in range(0, 4 * last, BYTES):
                more = (load(p0 + c) + load(p1 + c)) + (load(p2 + c) + load(p3 + c))
                store(y + c, load(y + c) + more)
        else:
            for p in range(p0, x + rows * pitch, pitch):
                for c in range(0, 4 * last, BYTES):
                    store(y + c, load(y + c) + load(p + c))
    if last < columns:
        total = splat(f4(0))
        for r in range(rows):
            total = total + load_part(x + r * pitch + 4 * last, columns - last)
        vput(y + 4 * last, total, columns - last)


@device
def _add_narrow_rows(y, x, pitch, rows, columns):
    """The same for up to two vectors of columns, which stay in registers."""
    for c in range(0, columns, 2 * WIDTH):
        n, m = min(WIDTH, columns - c), max(0, min(WIDTH, columns - c - WIDTH))
        p, a, b, u, v = x + 4 * c, splat(f4(0)), splat(f4(0)), splat(f4(0)), splat(f4(0))
        for _ in range(rows // 2):
            a, u = a + vget(p, n), u + vget(p + pitch, n)
            b, v = b + vget(p + BYTES, m), v + vget(p + pitch + BYTES, m)
            p += 2 * pitch
        if rows % 2:
            a, b = a + vget(p, n), b + vget(p + BYTES, m)
        vput(y + 4 * c, a + u, n)
        if m:
            vput(y + 4 * c + BYTES, b + v, m)


@device
def tile_of(chunk, x, y, rows, kept, blocks, step, tiles):
    """A chunk's part of x (n, rows, kept), its place in y (n, blocks, kept), and how many rows and
    columns it has."""
    piece, tile = chunk // tiles, chunk % tiles
    n, block = piece // blocks, piece % blocks
    first, column = block * step, tile * TILE
    count, columns = min(step, rows - first), min(TILE, kept - column)
    source = x + 4 * ((n * rows + first) * kept + column)
    target = y + 4 * (piece * kept + column)
    return source, target, count, columns


@kernel
def sum_rows(chunk, worker, x, y, rows, kept, blocks, step, tiles):
    """y[n, block, :] = Σ of ``step`` rows of x[n, :, :], for one tile of the columns a chunk."""
    source, target, count, columns = tile_of(chunk, x, y, rows, kept, blocks, step, tiles)
    if columns <= 2 * WIDTH:
        _add_narrow_rows(target, source, 4 * kept, count, columns)
    else:
        _add_rows(target, source, 4 * kept, count, columns)


class Plan(NamedTuple):
    """Memory as batches × outer × kept × inner; of the two in the middle, one is kept with the
    batches."""

    along: bool  # each run of ``inner`` neighbours gives a number; otherwise inner is 1
    batches: int
    outer: int
    kept: int
    inner: int
    kept_axes: Order  # in memory order


@lru_cache(1024)
def plan(shape: Shape, strides: Shape, axes: Shape) -> Plan | None:
    """How to sum over these axes; None when what is kept lies in too many pieces."""
    found = order(shape, strides, 4)
    if found is None:
        return None
    kept_axes = tuple(i for i in found if i not in axes)
    runs: list[tuple[bool, int]] = []  # kept?, elements
    for i in found:
        if runs and runs[-1][0] == (i not in axes):
            runs[-1] = runs[-1][0], runs[-1][1] * shape[i]
        else:
            runs.append((i not in axes, shape[i]))
    kinds, sizes = [kept for kept, _ in runs], [n for _, n in runs]
    if kinds == [False]:
        return Plan(True, 1, 1, 1, sizes[0], kept_axes)
    if kinds in ([True, False], [False, True, False]):
        outer = sizes[0] if len(sizes) == 3 else 1
        return Plan(True, 1, outer, sizes[-2], sizes[-1], kept_axes)
    if kinds in ([False, True], [True, False, True]):
        batches = sizes[0] if len(sizes) == 3 else 1
        return Plan(False, batches, sizes[-2], sizes[-1], 1, kept_axes)
    return None


def _sum_along(x: Any, y: Any, made: Plan) -> Any:
    """Into y, or the numbers that are to be added up over their first axis."""
    runs = made.outer * made.kept
    if runs == 1:
        chunks = -(-x.size // BLOCK)
        partial = np.empty((chunks, 1))
        sum_all(chunks, address(x), address(partial), x.size)
        return partial
    step, final = max(1, BLOCK // made.inner), made.outer == 1
    partial = y if final else np.empty((made.outer, made.kept))
    chunks = -(-runs // step)
    sum_runs(chunks, address(x), address(partial), runs, made.inner, step, final)
    return None if final else partial


def blocks_of_rows(made: Plan) -> tuple[int, int, int]:
    """(blocks, rows of a block, tiles of columns) in which threads take what lies across."""
    tiles = -(-made.kept // TILE)
    blocks = max(-(-made.outer // ROWS), min(made.outer // 32, UNITS // (made.batches * tiles)), 1)
    step = -(-made.outer // blocks)
    return -(-made.outer // step), step, tiles


def _sum_across(x: Any, y: Any, made: Plan) -> Any:
    """Into y, or the rows that are to be added up over their middle axis."""
    blocks, step, tiles = blocks_of_rows(made)
    partial = y if blocks == 1 else empty((made.batches, blocks, made.kept), f4)
    chunks = made.batches * blocks * tiles
    sum_rows(chunks, address(x), address(partial), made.outer, made.kept, blocks, step, tiles)
    return None if blocks == 1 else partial


def sum_axes(x: Any, axes: Shape, keepdims: bool) -> Any:
    """Σ of x over ``axes``; None when NumPy should do it."""
    made = plan(x.shape, x.strides, axes)
    if made is None:
        return None
    shape = tuple([1 if i in axes else n for i, n in enumerate(x.shape)])
    y = empty(shape, f4, dense_strides(shape, made.kept_axes, 4))
    partial = _sum_along(x, y, made) if made.along else _sum_across(x, y, made)
    if partial is not None:
        rest = tuple(i for i in range(x.ndim) if i not in made.kept_axes)
        total = partial.sum(axis=partial.ndim - 2, dtype=np.float64)
        y.transpose(made.kept_axes + rest).reshape(-1)[...] = total.reshape(-1)
    if keepdims:
        return y
    return y.reshape([n for i, n in enumerate(x.shape) if i not in axes])
