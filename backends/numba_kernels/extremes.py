"""Largest and smallest elements of large float32 arrays over any axes; NaN if there is one.

Memory is walked as ``reduce`` says: runs of neighbours each give one number, or rows are compared
with each other. Which of several equal numbers is taken does not matter, so pieces that overlap are
allowed: the last vector of a run starts before the one in front of it ends.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape

from .access import get32, put32
from .lanes import vget, vput
from .layout import copy_floats
from .memory import empty
from .order import dense_strides
from .reduce import BLOCK, FEW, blocks_of_rows, is_easy, plan, tile_of
from .runtime import Kernel, address, device, kernel_of
from .simd import BYTES, WIDTH, _binary, _fold, load, store

f4 = np.float32


def _choices(largest: bool) -> tuple[Any, Any, Any]:
    """The better of two: numbers, vectors, and of all lanes of a vector. NaN is best."""

    @device(inline=True)
    def numbers(best, x):
        return x if (x > best if largest else x < best) or x != x else best

    def emit(b: Any, best: Any, x: Any) -> Any:
        better = b.select(b.fcmp_ordered(">" if largest else "<", best, x), best, x)  # or x is NaN
        return b.select(b.fcmp_unordered("uno", best, best), best, better)

    return numbers, _binary(emit), _fold(emit)


@cache
def extreme_of_run(largest: bool) -> Any:
    """The extreme of ``count`` neighbours, as a function for kernels."""
    numbers, vectors, lanes = _choices(largest)

    @device
    def extreme(x, count):
        if count < WIDTH:
            best = get32(x, 0)
            for i in range(1, count):
                best = numbers(best, get32(x, i))
            return best
        a = load(x + 4 * (count - WIDTH))
        b, c, d, p = a, a, a, x
        for _ in range(count // (4 * WIDTH)):
            a, b = vectors(a, load(p)), vectors(b, load(p + BYTES))
            c, d = vectors(c, load(p + 2 * BYTES)), vectors(d, load(p + 3 * BYTES))
            p += 4 * BYTES
        for _ in range(count % (4 * WIDTH) // WIDTH):
            a = vectors(a, load(p))
            p += BYTES
        return lanes(vectors(vectors(a, b), vectors(c, d)))

    return extreme


@cache
def runs_kernel(largest: bool) -> Kernel:
    """y[r] = extreme of x[r, :] for ``step`` runs a chunk; the last run ends where x does."""
    extreme = extreme_of_run(largest)

    def run(chunk, worker, x, y, runs, inner, step, size):
        for r in range(chunk * step, min(runs, (chunk + 1) * step)):
            put32(y, r, extreme(x + 4 * r * inner, min(inner, size - r * inner)))

    return kernel_of(run, f"{'max' if largest else 'min'}_runs", False)


@cache
def rows_kernel(largest: bool) -> Kernel:
    """y[n, block, :] = extremes of ``step`` rows of x[n, :, :], for one tile of columns a chunk."""
    _, vectors, _ = _choices(largest)

    @device
    def wide(y, x, pitch, rows, columns):
        """Whole vectors of columns, four rows a pass."""
        copy_floats(y, x, columns)
        for r in range(1, rows, 4):
            p0 = x + r * pitch
            p1, p2, p3 = p0 + pitch, p0 + 2 * pitch, p0 + 3 * pitch
            if r + 4 <= rows:
                for c in range(0, 4 * columns, BYTES):
                    u, v = vectors(load(p0 + c), load(p1 + c)), vectors(load(p2 + c), load(p3 + c))
                    store(y + c, vectors(load(y + c), vectors(u, v)))
            else:
                for p in range(p0, x + rows * pitch, pitch):
                    for c in range(0, 4 * columns, BYTES):
                        store(y + c, vectors(load(y + c), load(p + c)))

    @device
    def narrow(y, x, pitch, rows, columns):
        """Up to one vector of columns, which stays in registers."""
        a = vget(x, columns)
        b, p = a, x
        for _ in range(rows // 2):
            a, b = vectors(a, vget(p, columns)), vectors(b, vget(p + pitch, columns))
            p += 2 * pitch
        if rows % 2:
            a = vectors(a, vget(p, columns))
        vput(y, vectors(a, b), columns)

    def run(chunk, worker, x, y, rows, kept, blocks, step, tiles):
        source, target, count, columns = tile_of(chunk, x, y, rows, kept, blocks, step, tiles)
        whole = columns // WIDTH * WIDTH if columns > 2 * WIDTH else 0
        if whole:
            wide(target, source, 4 * kept, count, whole)
        for c in range(whole, columns, WIDTH):
            narrow(target + 4 * c, source + 4 * c, 4 * kept, count, min(WIDTH, columns - c))

    return kernel_of(run, f"{'max' if largest else 'min'}_rows", False)


def extreme_axes(x: Any, axes: Shape, keepdims: bool, largest: bool) -> Any:
    """The largest or smallest elements over ``axes``; None when NumPy should do it."""
    made = plan(x.shape, x.strides, axes)
    if made is None or is_easy(made, x.size):
        return None
    if x.size < FEW and made.inner == x.size:  # one run: NumPy compares vectors, too
        return None
    shape = tuple([1 if i in axes else n for i, n in enumerate(x.shape)])
    y = empty(shape, f4, dense_strides(shape, made.kept_axes, 4))
    if made.along:
        runs, inner = made.outer * made.kept, made.inner
        if runs == 1:
            runs, inner = -(-x.size // BLOCK), BLOCK
        final, step = runs == made.kept, max(1, BLOCK // inner)
        partial = y if final else empty((runs // made.kept, made.kept), f4)
        runs_kernel(largest)(
            -(-runs // step), address(x), address(partial), runs, inner, step, x.size
        )
    else:
        blocks, step, tiles = blocks_of_rows(made)
        final = blocks == 1
        partial = y if final else empty((made.batches, blocks, made.kept), f4)
        rows_kernel(largest)(
            made.batches * blocks * tiles,
            *(address(x), address(partial), made.outer, made.kept, blocks, step, tiles),
        )
    if not final:
        better = np.maximum if largest else np.minimum
        rest = tuple(i for i in range(x.ndim) if i not in made.kept_axes)
        best = better.reduce(partial, axis=partial.ndim - 2)
        y.transpose(made.kept_axes + rest).reshape(-1)[...] = best.reshape(-1)
    if keepdims:
        return y
    return y.reshape([n for i, n in enumerate(x.shape) if i not in axes])
