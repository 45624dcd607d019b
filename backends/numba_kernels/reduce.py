"""Sums of large float32 arrays, or of their squares, over any axes that leave no more than two runs
of axes in memory.

Memory is seen as runs of axes that are kept or summed. When the innermost is summed (everything,
the trailing axes, a bias gradient's N and H, W around the channels), each run of memory gives one
number; when it is kept (the leading axes, global average pooling with the channels innermost), rows
are added onto each other. Pieces of fixed size are summed in float32 by vectors, and the pieces'
sums in float64 in order: the bits do not depend on the number of threads, the error hardly on the
number of terms.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape

from .access import put32, put64
from .lanes import vget, vput
from .memory import empty
from .order import Order, dense_strides, order
from .runtime import Kernel, address, device, kernel_of
from .simd import BYTES, WIDTH, fma, lane_sum, load, load_part, splat, store

f4 = np.float32
LARGE = 32768  # elements: below it NumPy has finished before the threads have started
BLOCK = 16384  # elements of a chunk
RUN = 4096  # elements summed in float32 at most, along memory
ROWS = 512  # the same, across it
TILE = 256  # columns that are added at a time, in the first cache
UNITS = 8  # pieces of work that are enough for all threads
FEW = 1 << 18  # elements: with fewer, NumPy is as fast where it can use vectors


def _terms(squares: bool) -> tuple[Any, Any]:
    """(a vector of terms, a total with one more): of the numbers or of their squares."""
    if squares:
        return device(lambda v: v * v, inline=True), device(lambda s, v: fma(v, v, s), inline=True)
    return device(lambda v: v, inline=True), device(lambda s, v: s + v, inline=True)


@cache
def run_sum(squares: bool) -> Any:
    """Σ of ``count`` neighbours, pieces of RUN added in float64, as a function for kernels."""
    _, add = _terms(squares)

    @device
    def total_of(x, count):
        total, zero = 0.0, splat(f4(0))
        for start in range(0, count, RUN):
            n = min(RUN, count - start)
            p, a, b, c, d = x + 4 * start, zero, zero, zero, zero
            for _ in range(n // (4 * WIDTH)):
                a, b = add(a, load(p)), add(b, load(p + BYTES))
                c, d = add(c, load(p + 2 * BYTES)), add(d, load(p + 3 * BYTES))
                p += 4 * BYTES
            rest = n % (4 * WIDTH)
            for _ in range(rest // WIDTH):
                a = add(a, load(p))
                p += BYTES
            if rest % WIDTH:
                b = add(b, load_part(p, rest % WIDTH))
            total += float(lane_sum((a + b) + (c + d)))
        return total

    return total_of


def _named(name: str, squares: bool) -> str:
    return f"{name}_of_squares" if squares else name


@cache
def sum_runs(squares: bool) -> Kernel:
    """y[r] = Σ x[r, :] for ``step`` runs a chunk, in float32 where that is the result."""
    total_of = run_sum(squares)

    def run(chunk, worker, x, y, runs, inner, step, final):
        for r in range(chunk * step, min(runs, (chunk + 1) * step)):
            total = total_of(x + 4 * r * inner, inner)
            if final:
                put32(y, r, f4(total))
            else:
                put64(y, r, total)

    return kernel_of(run, _named("sum_runs", squares), False)


@cache
def sum_all(squares: bool) -> Kernel:
    """partial[chunk] = Σ of its block of BLOCK elements."""
    total_of = run_sum(squares)

    def run(chunk, worker, x, partial, count):
        start = chunk * BLOCK
        put64(partial, chunk, total_of(x + 4 * start, min(BLOCK, count - start)))

    return kernel_of(run, _named("sum_all", squares), False)


@cache
def sum_rows(squares: bool) -> Kernel:
    """y[n, block, :] = Σ of ``step`` rows of x[n, :, :], for one tile of the columns a chunk."""
    term, add = _terms(squares)

    @device
    def wide(y, x, pitch, rows, columns):
        """y[c] = Σ_r x[r, c], four rows a pass."""
        last = columns // WIDTH * WIDTH
        for c in range(0, 4 * last, BYTES):
            store(y + c, term(load(x + c)))
        for r in range(1, rows, 4):
            p0 = x + r * pitch
            p1, p2, p3 = p0 + pitch, p0 + 2 * pitch, p0 + 3 * pitch
            if r + 4 <= rows:
                for c in range(0, 4 * last, BYTES):
                    more = add(term(load(p0 + c)), load(p1 + c))
                    more = more + add(term(load(p2 + c)), load(p3 + c))
                    store(y + c, load(y + c) + more)
            else:
                for p in range(p0, x + rows * pitch, pitch):
                    for c in range(0, 4 * last, BYTES):
                        store(y + c, add(load(y + c), load(p + c)))
        if last < columns:
            total = splat(f4(0))
            for r in range(rows):
                total = add(total, load_part(x + r * pitch + 4 * last, columns - last))
            vput(y + 4 * last, total, columns - last)

    @device
    def narrow(y, x, pitch, rows, columns):
        """The same for up to two vectors of columns, which stay in registers."""
        for c in range(0, columns, 2 * WIDTH):
            n, m = min(WIDTH, columns - c), max(0, min(WIDTH, columns - c - WIDTH))
            p, a, b, u, v = x + 4 * c, splat(f4(0)), splat(f4(0)), splat(f4(0)), splat(f4(0))
            for _ in range(rows // 2):
                a, u = add(a, vget(p, n)), add(u, vget(p + pitch, n))
                b, v = add(b, vget(p + BYTES, m)), add(v, vget(p + pitch + BYTES, m))
                p += 2 * pitch
            if rows % 2:
                a, b = add(a, vget(p, n)), add(b, vget(p + BYTES, m))
            vput(y + 4 * c, a + u, n)
            if m:
                vput(y + 4 * c + BYTES, b + v, m)

    def run(chunk, worker, x, y, rows, kept, blocks, step, tiles):
        source, target, count, columns = tile_of(chunk, x, y, rows, kept, blocks, step, tiles)
        if columns <= 2 * WIDTH:
            narrow(target, source, 4 * kept, count, columns)
        else:
            wide(target, source, 4 * kept, count, columns)

    return kernel_of(run, _named("sum_rows", squares), False)


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


def is_easy(made: Plan, size: int) -> bool:
    """Whether NumPy does it as fast: few long rows onto each other."""
    rows = not made.along and made.batches == 1 and made.outer <= ROWS and made.kept >= TILE
    return rows and size < FEW


def _sum_along(x: Any, y: Any, made: Plan, squares: bool) -> Any:
    """Into y, or the numbers that are to be added up over their first axis."""
    runs = made.outer * made.kept
    if runs == 1:
        chunks = -(-x.size // BLOCK)
        partial = np.empty((chunks, 1))
        sum_all(squares)(chunks, address(x), address(partial), x.size)
        return partial
    step, final = max(1, BLOCK // made.inner), made.outer == 1
    partial = y if final else np.empty((made.outer, made.kept))
    chunks = -(-runs // step)
    places = address(x), address(partial)
    sum_runs(squares)(chunks, *places, runs, made.inner, step, final)
    return None if final else partial


def blocks_of_rows(made: Plan) -> tuple[int, int, int]:
    """(blocks, rows of a block, tiles of columns) in which threads take what lies across."""
    tiles = -(-made.kept // TILE)
    blocks = max(-(-made.outer // ROWS), min(made.outer // 32, UNITS // (made.batches * tiles)), 1)
    step = -(-made.outer // blocks)
    return -(-made.outer // step), step, tiles


def _sum_across(x: Any, y: Any, made: Plan, squares: bool) -> Any:
    """Into y, or the rows that are to be added up over their middle axis."""
    blocks, step, tiles = blocks_of_rows(made)
    partial = y if blocks == 1 else empty((made.batches, blocks, made.kept), f4)
    chunks = made.batches * blocks * tiles
    places = address(x), address(partial)
    sum_rows(squares)(chunks, *places, made.outer, made.kept, blocks, step, tiles)
    return None if blocks == 1 else partial


def sum_axes(x: Any, axes: Shape, keepdims: bool, squares: bool = False) -> Any:
    """Σ of x, or of its squares, over ``axes``; None when NumPy should do it."""
    made = plan(x.shape, x.strides, axes)
    if made is None or is_easy(made, x.size):
        return None
    shape = tuple([1 if i in axes else n for i, n in enumerate(x.shape)])
    y = empty(shape, f4, dense_strides(shape, made.kept_axes, 4))
    partial = (_sum_along if made.along else _sum_across)(x, y, made, squares)
    if partial is not None:
        rest = tuple(i for i in range(x.ndim) if i not in made.kept_axes)
        total = partial.sum(axis=partial.ndim - 2, dtype=np.float64)
        y.transpose(made.kept_axes + rest).reshape(-1)[...] = total.reshape(-1)
    if keepdims:
        return y
    return y.reshape([n for i, n in enumerate(x.shape) if i not in axes])
