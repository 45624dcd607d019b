"""Copies between memory layouts: any strides to any strides, zeros around and between on request.

Copying, padding, joining, reversing, changing the memory order and the gradient of a slice are one
thing: elements of a source placed in a target, which may have positions that no element goes to.
Along each axis element k goes to position start + k·step of ``total`` positions. A plan (kept for
the next call with the same strides) walks the target in its memory order: axes that lie behind each
other in both arrays become one, the two innermost form a matrix, and the matrix is cut into tiles
that fit the first cache. When the innermost axis of the target is not that of the source, the
source's goes next to it, so that tiles are transposed in registers.

Elements are moved four bytes at a time; other sizes go to NumPy unless their rows are runs of
memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Pairs, Shape

from . import memory
from .layout import copy_matrix, stream_floats, zero_floats
from .memory import empty
from .order import Order, dense_strides, order
from .runtime import address, device, kernel
from .simd import BYTES, WIDTH, fence, load_f32, load_i64, splat, store, store_f32, store_part

LARGE = 32768  # elements: below it NumPy has finished before the threads have started
FLAT = 1 << 18  # the same for one run of memory, where NumPy needs no loop
TILE = 4096  # floats of a tile: 16 KB, half of the first cache
CHUNK = 16384  # floats of a chunk of work
MOST_AXES = 8  # of a plan, after joining
LONG = 64  # floats of a run worth streaming: it begins and ends in parts of cache lines
FILL, FAR = 1, 2  # options of a walk


class Axis(NamedTuple):
    """Element k of ``items`` goes from byte k·s_step to position start + k·step of ``total``, which
    are t_step bytes apart."""

    total: int
    start: int
    step: int
    items: int
    t_step: int
    s_step: int


class Plan(NamedTuple):
    table: Any  # int64: the fields of all axes, outermost first
    axes: int
    row_tile: int
    column_tile: int
    units: int
    step: int  # units a chunk
    fill: int  # FILL: there are positions without an element
    far: int  # FAR: long runs of memory go to runs, so that large targets are streamed
    t_shift: int  # bytes from the arrays' first elements to the first ones of the walk
    s_shift: int


# -- the kernel ------------------------------------------------------------------------------------
@device
def _inside(first, end, start, step, count):
    """The elements k in low … high−1 whose positions lie in first … end−1."""
    low, high = first - start, end - start
    if step > 1:  # a division takes as long as a row of 16 pixels
        low, high = -(-low // step), -(-high // step)
    low = max(0, low)
    return low, max(low, min(count, high))


@device
def _fill_row(target, value, count):
    """``count`` floats of one value."""
    v, whole = splat(value), count // WIDTH * BYTES
    for at in range(0, whole, BYTES):
        store(target + at, v)
    if count % WIDTH:
        store_part(target + whole, v, count % WIDTH)


@device
def _copy_tile(target, t_r, t_c, source, s_r, s_c, rows, columns, far):
    """target[r·t_r + c·t_c] = source[r·s_r + c·s_c]; ``far``: past the caches, runs to runs."""
    if far:
        for r in range(rows):
            stream_floats(target + r * t_r, source + r * s_r, columns)
    elif t_c != 4:
        for r in range(rows):
            for c in range(columns):
                store_f32(target + r * t_r + c * t_c, load_f32(source + r * s_r + c * s_c))
    elif s_c == 0:
        for r in range(rows):
            _fill_row(target + r * t_r, load_f32(source + r * s_r), columns)
    else:
        copy_matrix(target, t_r, source, s_r, s_c, rows, columns)


@device
def _zero_tile(target, t_r, rows, columns):
    if t_r == 4 * columns:
        zero_floats(target, rows * columns)
    else:
        for r in range(rows):
            zero_floats(target + r * t_r, columns)


@kernel
def place(chunk, worker, target, source, table, axes, row_tile, column_tile, units, step, options):
    """``step`` tiles a chunk; their number counts columns, rows, then the outer axes."""
    fill, far = options & FILL, options & FAR
    r_axis, c_axis = table + 48 * (axes - 2), table + 48 * (axes - 1)
    height, width = load_i64(r_axis), load_i64(c_axis)
    r_step, c_step = load_i64(r_axis + 16), load_i64(c_axis + 16)
    t_r, t_c, s_r, s_c = (
        load_i64(r_axis + 32), load_i64(c_axis + 32), load_i64(r_axis + 40), load_i64(c_axis + 40)
    )  # fmt: skip
    down, across = -(-height // row_tile), -(-width // column_tile)
    for unit in range(chunk * step, min(units, (chunk + 1) * step)):
        rest = unit // across
        c0, r0 = (unit - rest * across) * column_tile, rest
        rest = rest // down
        r0 = (r0 - rest * down) * row_tile
        c1, r1 = min(width, c0 + column_tile), min(height, r0 + row_tile)
        to, start, exists = target, source, True
        for d in range(axes - 3, -1, -1):
            axis = table + 48 * d
            total = load_i64(axis)
            above = rest // total
            at = rest - above * total
            rest = above
            to += at * load_i64(axis + 32)
            low, high = _inside(at, at + 1, load_i64(axis + 8), load_i64(axis + 16),
                                load_i64(axis + 24))  # fmt: skip
            exists = exists and low < high
            start += low * load_i64(axis + 40)
        if fill:
            _zero_tile(to + r0 * t_r + c0 * t_c, t_r, r1 - r0, c1 - c0)
        if exists:
            ra, rb = _inside(r0, r1, load_i64(r_axis + 8), r_step, load_i64(r_axis + 24))
            ca, cb = _inside(c0, c1, load_i64(c_axis + 8), c_step, load_i64(c_axis + 24))
            row = load_i64(r_axis + 8) + ra * r_step
            column = load_i64(c_axis + 8) + ca * c_step
            _copy_tile(
                to + row * t_r + column * t_c, t_r * r_step, t_c * c_step,
                start + ra * s_r + ca * s_c, s_r, s_c, rb - ra, cb - ca, far,
            )  # fmt: skip
    if far:
        fence()


# -- plans -----------------------------------------------------------------------------------------
def _join(outer: Axis, inner: Axis) -> Axis | None:
    """Two axes as one, if the inner one is full and they lie behind each other in both arrays."""
    if inner.total != inner.items or outer.step != 1:
        return None
    if outer.t_step != inner.total * inner.t_step:
        return None
    if outer.items > 1 and outer.s_step != inner.items * inner.s_step:
        return None
    n = inner.total
    return Axis(outer.total * n, outer.start * n, 1, outer.items * n, inner.t_step, inner.s_step)


def _walk(axes: Sequence[Axis]) -> list[Axis]:
    """The axes from the outermost in the target to the innermost, joined where possible."""
    found: list[Axis] = []
    for axis in sorted((a for a in axes if a.total > 1), key=lambda a: -a.t_step):
        joined = _join(found[-1], axis) if found else None
        if joined is None:
            found.append(axis)
        else:
            found[-1] = joined
    return found


def _in_floats(axes: list[Axis], itemsize: int) -> bool:
    """Count a row of 8-byte elements in floats, where it is a run of memory."""
    if itemsize == 4:
        return True
    last = axes[-1] if axes else None
    if last is None or itemsize != 8 or (last.t_step, last.s_step, last.step) != (8, 8, 1):
        return False
    axes[-1] = Axis(2 * last.total, 2 * last.start, 1, 2 * last.items, 4, 4)
    return True


@lru_cache(4096)
def plan(given: tuple[Axis, ...], itemsize: int) -> Plan | None:
    """How to place a source along these axes; None when NumPy should do it."""
    t_shift = s_shift = 0
    forward = []
    for a in given:
        if a.t_step == 0 and a.total > 1:
            return None  # several elements for one position: the last one counts
        if a.t_step < 0:  # from the other end
            t_shift += (a.total - 1) * a.t_step
            s_shift += (a.items - 1) * a.s_step
            start = a.total - 1 - (a.start + (a.items - 1) * a.step)
            a = Axis(a.total, start, a.step, a.items, -a.t_step, -a.s_step)
        forward.append(a)
    axes = _walk(forward)
    if not _in_floats(axes, itemsize):
        return None
    if len(axes) == 1 and axes[0].total < FLAT and axes[0].t_step == axes[0].s_step:
        return None
    row_tile, column_tile = 0, TILE
    if axes and axes[-1].s_step != 4:  # bring the source's innermost axis next to the target's
        for i, a in enumerate(axes[:-1]):
            if a.s_step == 4:
                axes.insert(len(axes) - 2, axes.pop(i))
                row_tile, column_tile = 64, 64
                break
    while len(axes) < 2:
        axes.insert(0, Axis(1, 0, 1, 1, 0, 0))
    if len(axes) > MOST_AXES:
        return None
    rows, columns = axes[-2].total, min(axes[-1].total, column_tile)
    row_tile = row_tile or max(1, min(rows, TILE // columns))
    holes = any(a.total != a.items for a in axes)
    last = axes[-1]
    runs = last.step == 1 and last.t_step == last.s_step == 4 and columns >= LONG
    tiles = -(-rows // row_tile) * -(-axes[-1].total // column_tile)
    units = math.prod(a.total for a in axes[:-2]) * tiles
    return Plan(
        np.array(axes, np.int64), len(axes), row_tile, column_tile, units,
        max(1, CHUNK // (min(rows, row_tile) * columns)), FILL * holes, FAR * (runs and not holes),
        t_shift, s_shift,
    )  # fmt: skip


def _run(made: Plan, target: Any, source: Any) -> None:
    place(
        -(-made.units // made.step), address(target) + made.t_shift, address(source) + made.s_shift,
        address(made.table), made.axes, made.row_tile, made.column_tile, made.units, made.step,
        made.fill | (made.far if target.nbytes > memory.STREAM_BYTES else 0),
    )  # fmt: skip


# -- what the backend calls; None or False: NumPy should do it -------------------------------------
@lru_cache(4096)
def copy_plan(shape: Shape, t_strides: Shape, s_strides: Shape, itemsize: int) -> Plan | None:
    """How to copy from one set of strides to another."""
    parts = zip(shape, t_strides, s_strides, strict=True)
    return plan(tuple(Axis(n, 0, 1, n, t, s) for n, t, s in parts), itemsize)


def assign(target: Any, source: Any) -> bool:
    """target[...] = source, of equal shape and dtype and apart in memory."""
    made = copy_plan(target.shape, target.strides, source.strides, target.itemsize)
    if made is None:
        return False
    _run(made, target, source)
    return True


@lru_cache(4096)
def _own_order(strides: Shape) -> Order:
    """The axes from the outermost in memory; as they are when elements repeat."""
    axes = range(len(strides))
    return tuple(axes if 0 in strides else sorted(axes, key=lambda i: -abs(strides[i])))


def ordered(a: Any, axes: Order) -> Any:
    """A copy of ``a``, dense, whose axes lie in memory in this order."""
    strides = dense_strides(a.shape, axes, a.itemsize)
    made = copy_plan(a.shape, strides, a.strides, a.itemsize)
    if made is None:
        return None
    out = empty(a.shape, a.dtype, strides)
    _run(made, out, a)
    return out


def copy(a: Any) -> Any:
    """A dense copy of ``a`` whose axes keep their order in memory."""
    return ordered(a, _own_order(a.strides))


@lru_cache(4096)
def is_view(shape: Shape, strides: Shape, wanted: Shape) -> bool:
    """Whether an array of these strides can be seen in another shape without a copy: its runs of
    memory must be products of whole new axes (of as many elements)."""
    runs: list[tuple[int, int]] = []  # size, stride of the innermost axis
    for n, stride in zip(shape, strides, strict=True):
        if n > 1 and runs and runs[-1][1] == n * stride:
            runs[-1] = (runs[-1][0] * n, stride)
        elif n > 1:
            runs.append((n, stride))
    left = [n for n in wanted if n != 1]
    for size, _ in runs:
        while size > 1:
            n = left.pop(0)
            if size % n:
                return False
            size //= n
    return True


def reshape(a: Any, shape: Shape) -> Any:
    """``a.reshape(shape)`` where that is a copy; None also where it is a view."""
    if math.prod(shape) != a.size or is_view(a.shape, a.strides, shape):
        return None
    strides = dense_strides(a.shape, tuple(range(a.ndim)), a.itemsize)
    made = copy_plan(a.shape, strides, a.strides, a.itemsize)
    if made is None:
        return None
    out = empty(shape, a.dtype)
    _run(made, out, a)
    return out


Span = tuple[int, int, int]  # start, step, count


@lru_cache(4096)
def _spread_plan(
    shape: Shape, spans: tuple[Span, ...], steps: Shape, keep: bool, itemsize: int
) -> tuple[Plan | None, Shape]:
    """How to place an array along spans, and the result's strides; ``steps`` are the source's."""
    axes = _own_order(steps) if keep else tuple(range(len(shape)))
    strides = dense_strides(shape, axes, itemsize)
    parts = zip(shape, spans, strides, steps, strict=True)
    return plan(tuple(Axis(n, *span, t, s) for n, span, t, s in parts), itemsize), strides


def _spread(values: Any, shape: Shape, spans: Sequence[Span], steps: Shape) -> Any:
    """A new array of ``shape``: ``values`` along spans, zeros elsewhere; in the values' memory
    order, if they have as many axes."""
    if values.size == 0:
        return None
    keep = values.ndim == len(shape)
    made, strides = _spread_plan(shape, tuple(spans), steps, keep, values.itemsize)
    if made is None:
        return None
    out = empty(shape, values.dtype, strides)
    _run(made, out, values)
    return out


def pad(a: Any, padding: Pairs) -> Any:
    """``a`` with zeros around it."""
    shape = tuple([lo + n + hi for n, (lo, hi) in zip(a.shape, padding, strict=True)])
    spans = [(lo, 1, n) for n, (lo, _) in zip(a.shape, padding, strict=True)]
    return _spread(a, shape, spans, a.strides)


def is_basic(index: Any) -> bool:
    """Whether an index consists of integers, slices, None and … only."""
    return isinstance(index, tuple) and all(
        part is None or part is ... or type(part) in (int, slice) for part in index
    )


def slice_add(shape: Shape, index: tuple[Any, ...], values: Any) -> Any:
    """zeros(shape) with out[index] = values, for a basic index with rising slices."""
    if ... in index:
        at = index.index(...)
        missing = len(shape) - sum(p is not None for p in index) + 1
        index = (*index[:at], *[slice(None)] * missing, *index[at + 1 :])
    index += (slice(None),) * (len(shape) - sum(p is not None for p in index))
    spans, steps, at, axis = [], [], 0, 0
    for part in index:
        if part is None:
            at += 1
            continue
        n = shape[axis]
        axis += 1
        if isinstance(part, slice):
            start, _, step = part.indices(n)
            if step < 0:
                return None
            spans.append((start, step, values.shape[at]))
            steps.append(values.strides[at])
            at += 1
        else:
            spans.append((part % n, 1, 1))
            steps.append(0)
    return _spread(values, shape, spans, tuple(steps))


def concatenate(arrays: Sequence[Any], axis: int) -> Any:
    """The arrays one after another along an axis, in the memory order of the first."""
    first = arrays[0]
    axis %= first.ndim
    alike = first.shape[:axis] + first.shape[axis + 1 :]
    for a in arrays:
        if a.dtype != first.dtype or a.shape[:axis] + a.shape[axis + 1 :] != alike:
            return None
    axes = None if first.flags.c_contiguous else order(first.shape, first.strides, first.itemsize)
    axes = tuple(range(first.ndim)) if axes is None else axes
    axes = (*(i for i in range(first.ndim) if i not in axes), *axes)
    total = sum(a.shape[axis] for a in arrays)
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    out = empty(shape, first.dtype, dense_strides(shape, axes, first.itemsize))
    start = 0
    for a in arrays:
        end = start + a.shape[axis]
        part = out[(slice(None),) * axis + (slice(start, end),)]
        start = end
        if a.size and not assign(part, a):
            part[...] = a
    return out
