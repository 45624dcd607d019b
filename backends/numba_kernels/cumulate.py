"""Running sums along one axis, from either end, added in order as NumPy adds them.

An array is (outer, n, inner) in its memory order. Where inner is 1 each sum waits for the one
before it, so four rows are added side by side; otherwise whole lines are added to lines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .lanes import vget, vput
from .memory import empty
from .order import dense_strides, order
from .runtime import Kernel, address, kernel
from .simd import WIDTH, load_f32, store_f32

LARGE = 16384  # numbers below which NumPy is as fast
WORK = 16384  # numbers of a chunk
COLUMNS = 1024  # numbers of a line at once: the line before is still in the first-level cache


@kernel
def running_rows(chunk, worker, x, y, rows, n, step, at_once):
    """``at_once`` rows a chunk; ``step`` is 4 bytes, or −4 where addresses are those of the last
    numbers."""
    end = min(rows, (chunk + 1) * at_once)
    row = chunk * at_once
    while row + 4 <= end:
        at = row * n * 4
        a = b = c = d = np.float32(0)
        for _ in range(n):
            a += load_f32(x + at)
            b += load_f32(x + at + 4 * n)
            c += load_f32(x + at + 8 * n)
            d += load_f32(x + at + 12 * n)
            store_f32(y + at, a)
            store_f32(y + at + 4 * n, b)
            store_f32(y + at + 8 * n, c)
            store_f32(y + at + 12 * n, d)
            at += step
        row += 4
    while row < end:
        at, total = row * n * 4, np.float32(0)
        for _ in range(n):
            total += load_f32(x + at)
            store_f32(y + at, total)
            at += step
        row += 1


@kernel
def running_lines(chunk, worker, x, y, n, inner, step, blocks):
    """One block of columns of one outer entry a chunk; ``step`` bytes from line to line."""
    first = chunk % blocks * COLUMNS
    count = min(COLUMNS, inner - first)
    at = 4 * (chunk // blocks * n * inner + first)
    for j in range(n):
        for c in range(0, count, WIDTH):
            lanes = min(WIDTH, count - c)
            v = vget(x + at + 4 * c, lanes)
            vput(y + at + 4 * c, v + vget(y + at - step + 4 * c, lanes) if j else v, lanes)
        at += step


def cumsum(a: Any, axis: int) -> Any:
    """y[j] = Σ_{i ≤ j} a[i] of float32, in the memory order of ``a``."""
    if a.strides[axis] < 0:
        return np.flip(_cumsum(np.flip(a, axis), axis, True), axis)
    return _cumsum(a, axis, False)


def _cumsum(a: Any, axis: int, from_end: bool) -> Any:
    axes = order(a.shape, a.strides, a.itemsize)
    if axes is None:
        a = np.ascontiguousarray(a)
        axes = order(a.shape, a.strides, a.itemsize)
    assert axes is not None
    y = empty(a.shape, np.float32, dense_strides(a.shape, axes, 4))
    n = a.shape[axis]
    place = axes.index(axis) if axis in axes else len(axes)
    inner = math.prod(a.shape[i] for i in axes[place + 1 :])
    outer = a.size // (n * inner)
    run: Kernel
    if inner == 1:
        begin = 4 * (n - 1) if from_end else 0
        at_once = max(4, WORK // n // 4 * 4)
        run, units = running_rows, -(-outer // at_once)
        rest = (outer, n, -4 if from_end else 4, at_once)
    else:
        begin = 4 * (n - 1) * inner if from_end else 0
        blocks = -(-inner // COLUMNS)
        run, units = running_lines, outer * blocks
        rest = (n, inner, -4 * inner if from_end else 4 * inner, blocks)
    run(units, address(a) + begin, address(y) + begin, *rest)
    return y
