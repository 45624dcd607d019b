"""Where pooling windows lie: a table of int64 worked out beforehand, and its reading in kernels.

Rows SIZE, OUTPUT, KERNEL, STRIDE, DILATION, TABLE of three axes each (missing ones have size 1).
TABLE says where an axis's list of (first tap on an input cell, last + 1, cell of tap 0) by output
position begins. A tap is a position of the kernel; cells of one plane are counted from 0 in C
order. TWO_BY_TWO: whether windows are 2×2 at stride 2 on images, undilated, and begin on input
cells of the last axis. INNER, INNER + 1: first output of the last axis all of whose taps lie on
input cells, and one past the last such. WHOLE: whether the one window is the whole plane. TAPS:
where the list of the taps' distances in cells begins.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .access import geti64, put32
from .lanes import every_second, load_spaced, vget
from .runtime import device
from .simd import BYTES, WIDTH, load_part

SIZE, OUTPUT, KERNEL, STRIDE, DILATION, TABLE = range(0, 18, 3)
TWO_BY_TWO, WHOLE, TAPS, INNER = 18, 19, 20, 21


@lru_cache(64)
def geometry(sizes: Shape, outputs: Shape, window: Window) -> tuple[Any, int]:
    """(the table, apart): 0 windows overlap, 1 they do not, 2 they also cover every cell."""
    kernel, stride, padding, dilation = window
    lone = (1,) * (3 - len(sizes))  # missing axes
    rows = (sizes, outputs, kernel, stride, dilation)
    head = [value for row in rows for value in (*lone, *row)] + [0] * 8
    before = [0] * len(lone) + [lo for lo, _ in padding]
    parts, length = [], len(head)
    for axis in range(3):
        n, q, k, s, d = head[axis : DILATION + 3 : 3]
        start = np.arange(q) * s - before[axis]
        first = np.maximum(0, -(start // d))
        last = np.minimum(k, -((start - n) // d))
        parts.append(np.stack([first, last, start], 1).reshape(-1))
        head[TABLE + axis] = length
        length += 3 * q
    pairs = kernel[-2:] == stride[-2:] == (2, 2) and all(k == 1 for k in kernel[:-2])
    head[TWO_BY_TWO] = int(pairs and set(dilation) == {1} and before[2] == 0)
    head[WHOLE] = int(kernel == sizes and not any(before) and set(dilation) == {1})
    head[TAPS] = length
    inside = np.flatnonzero((first == 0) & (last == kernel[-1]))  # of the last axis
    head[INNER : INNER + 2] = (inside[0], inside[-1] + 1) if inside.size else (0, 0)
    step = (head[SIZE + 1] * head[SIZE + 2], head[SIZE + 2], 1)  # between cells along each axis
    axes = [np.arange(head[KERNEL + i]) * head[DILATION + i] * step[i] for i in range(3)]
    parts.append((axes[0][:, None, None] + axes[1][:, None] + axes[2]).reshape(-1))
    table = np.concatenate([head, *parts]).astype(np.int64)
    apart = all(s >= k and d == 1 for k, s, d in zip(kernel, stride, dilation, strict=True))
    covers = apart and all(
        k == s and lo == 0 and q * s >= n
        for n, q, k, s, (lo, _) in zip(sizes, outputs, kernel, stride, padding, strict=True)
    )
    return table, apart + covers


@device
def first_tap(geo: int, axis: int, p: int) -> int:
    """The first kernel position of output p on an axis that lies on an input cell."""
    return geti64(geo, geti64(geo, TABLE + axis) + 3 * p)


@device
def last_tap(geo: int, axis: int, p: int) -> int:
    """One past the last such position."""
    return geti64(geo, geti64(geo, TABLE + axis) + 3 * p + 1)


@device
def cell(geo: int, axis: int, p: int, i: int) -> int:
    """The input cell that kernel position i of output p sees."""
    return geti64(geo, geti64(geo, TABLE + axis) + 3 * p + 2) + i * geti64(geo, DILATION + axis)


@device
def line_start(geo: int, d: int, h: int) -> int:
    """Number of the first cell of input line (d, h)."""
    return (d * geti64(geo, SIZE + 1) + h) * geti64(geo, SIZE + 2)


@device(inline=True)
def next_line(p: int, a: int, plane: int, height: int, depth: int, size: int) -> Any:
    """(p, a, address of the plane) of the output line after line (a, p) of a plane; planes are
    ``size`` bytes apart. (Three divisions would take longer than a short line.)"""
    if p + 1 < height:
        return p + 1, a, plane
    if a + 1 < depth:
        return 0, a + 1, plane
    return 0, 0, plane + size


@device
def winning_cell(geo: int, a: int, p: int, q: int, t: int) -> int:
    """Number of the input cell that tap t of output (a, p, q) sees."""
    start = line_start(geo, cell(geo, 0, a, 0), cell(geo, 1, p, 0)) + cell(geo, 2, q, 0)
    return start + geti64(geo, geti64(geo, TAPS) + t)


@device(inline=True)
def vspaced(p: int, step: int, lanes: int) -> Any:
    """``lanes`` numbers in memory, ``step`` apart."""
    if step == 1:
        return vget(p, lanes)
    if step > 2:
        return load_spaced(p, step, lanes)
    reach = 2 * lanes - 1
    return every_second(vget(p, min(WIDTH, reach)), load_part(p + BYTES, max(0, reach - WIDTH)))


@device
def set_zero(p: int, count: int) -> None:
    """``count`` float32."""
    for i in range(count):
        put32(p, i, np.float32(0))
