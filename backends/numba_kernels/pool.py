"""Max and average pooling of float32 images over one to three spatial axes.

Two memory orders, as in ``norm``: with the channels innermost ("rows") one cell is a run of channels and the work goes by
vectors of them; otherwise ("planes") each (image, channel) plane is its own run, walked cell by cell, with a vector
loop for the common 2×2 window at stride 2. Adjoints work on whole images or planes, so that overlapping
windows meet in one thread, in order.

Geometry is passed as a table of int64: rows SIZE, OUTPUT, KERNEL, STRIDE, DILATION, TABLE of three axes each; TABLE says
where an axis's (first kernel position, last + 1, cell of position 0) of every output position begin.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .access import get8, get32, geti64, put8, put32, read32, write32
from .lanes import (
    interleave_high,
    interleave_low,
    load_bytes,
    select_later,
    select_same,
    store_bytes,
    vget,
    vput,
)
from .memory import empty
from .order import dense_strides, order
from .runtime import Kernel, address, device, kernel
from .simd import BYTES, WIDTH, load, splat, store

f4 = np.float32
SIZE, OUTPUT, KERNEL, STRIDE, DILATION, TABLE = range(0, 18, 3)
WORK = 16384  # elements of a chunk
SMALL = 16384  # elements of the larger side below which the calling thread does it


# ---------------------------------------------------------------------------------------------
# Where windows lie: three numbers an output position and axis, worked out beforehand
# ---------------------------------------------------------------------------------------------
@device
def _first(geo: int, axis: int, p: int) -> int:
    """The first kernel position of output p on an axis that lies on an input cell."""
    return geti64(geo, geti64(geo, TABLE + axis) + 3 * p)


@device
def _last(geo: int, axis: int, p: int) -> int:
    """One past the last such position."""
    return geti64(geo, geti64(geo, TABLE + axis) + 3 * p + 1)


@device
def _cell(geo: int, axis: int, p: int, i: int) -> int:
    """The input cell that kernel position i of output p sees."""
    return geti64(geo, geti64(geo, TABLE + axis) + 3 * p + 2) + i * geti64(geo, DILATION + axis)


@device
def _line(geo: int, d: int, h: int) -> int:
    """Number of the first cell of input line (d, h)."""
    return (d * geti64(geo, SIZE + 1) + h) * geti64(geo, SIZE + 2)


@device
def _cell_of_tap(geo: int, a: int, p: int, q: int, t: int) -> int:
    """Number of the input cell that kernel position t of output (a, p, q) sees."""
    j, rest = t % geti64(geo, KERNEL + 2), t // geti64(geo, KERNEL + 2)
    i, k = rest % geti64(geo, KERNEL + 1), rest // geti64(geo, KERNEL + 1)
    return _line(geo, _cell(geo, 0, a, k), _cell(geo, 1, p, i)) + _cell(geo, 2, q, j)


@device
def _is_two_by_two(geo: int) -> bool:
    """Whether the window is 2×2 at stride 2, undilated, on images."""
    return (
        geti64(geo, KERNEL) == 1 and geti64(geo, KERNEL + 1) == 2 and geti64(geo, KERNEL + 2) == 2
        and geti64(geo, STRIDE + 2) == 2 and geti64(geo, DILATION + 1) == 1 and geti64(geo, DILATION + 2) == 1
        and geti64(geo, geti64(geo, TABLE + 2) + 2) == 0
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Max pooling
# ---------------------------------------------------------------------------------------------
@kernel
def max_rows(
    chunk: int, worker: int, x: int, y: int, winner: int, geo: int, lines: int, channels: int, step: int
) -> None:  # fmt: skip
    """Channels innermost; ``step`` output lines (n, a, p) a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    image = 4 * channels * geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    rows, columns = geti64(geo, KERNEL + 1), geti64(geo, KERNEL + 2)
    for line in range(chunk * step, min(lines, (chunk + 1) * step)):
        p, a, source = line % height, line // height % depth, x + line // (height * depth) * image
        k0, k1, i0, i1 = _first(geo, 0, a), _last(geo, 0, a), _first(geo, 1, p), _last(geo, 1, p)
        for q in range(width):
            j0, j1, out = _first(geo, 2, q), _last(geo, 2, q), (line * width + q) * channels
            for c in range(0, channels, WIDTH):
                lanes = min(WIDTH, channels - c)
                best, taken = splat(f4(-np.inf)), splat(f4((k0 * rows + i0) * columns + j0))
                for k in range(k0, k1):
                    for i in range(i0, i1):
                        start = _line(geo, _cell(geo, 0, a, k), _cell(geo, 1, p, i))
                        for j in range(j0, j1):
                            v = vget(source + 4 * ((start + _cell(geo, 2, q, j)) * channels + c), lanes)
                            t = splat(f4((k * rows + i) * columns + j))
                            taken = select_later(v, best, t, taken)
                            best = select_later(v, best, v, best)
                vput(y + 4 * (out + c), best, lanes)
                store_bytes(winner + out + c, taken, lanes)


@device(inline=True)
def _max_cell(x: int, y: int, winner: int, geo: int, a: int, p: int, q: int, out: int) -> None:
    """One output cell of one plane."""
    rows, columns = geti64(geo, KERNEL + 1), geti64(geo, KERNEL + 2)
    k0, i0, j0 = _first(geo, 0, a), _first(geo, 1, p), _first(geo, 2, q)
    best, taken = f4(-np.inf), (k0 * rows + i0) * columns + j0
    for k in range(k0, _last(geo, 0, a)):
        for i in range(i0, _last(geo, 1, p)):
            start = _line(geo, _cell(geo, 0, a, k), _cell(geo, 1, p, i))
            for j in range(j0, _last(geo, 2, q)):
                v = get32(x, start + _cell(geo, 2, q, j))
                if v > best or v != v:
                    best, taken = v, (k * rows + i) * columns + j
    put32(y, out, best)
    put8(winner, out, np.uint8(taken))


@device
def _max_line2(top: int, low: int, y: int, winner: int, count: int) -> None:
    """``count`` 2×2 windows side by side on two input lines."""
    for q in range(count):
        best, taken = get32(top, 2 * q), np.int32(0)
        v = get32(top, 2 * q + 1)
        later = (v > best) | (v != v)
        best, taken = v if later else best, np.int32(1) if later else taken
        v = get32(low, 2 * q)
        later = (v > best) | (v != v)
        best, taken = v if later else best, np.int32(2) if later else taken
        v = get32(low, 2 * q + 1)
        later = (v > best) | (v != v)
        best, taken = v if later else best, np.int32(3) if later else taken
        put32(y, q, best)
        put8(winner, q, np.uint8(taken))


@kernel
def max_planes(
    chunk: int, worker: int, x: int, y: int, winner: int, geo: int, planes: int, step: int
) -> None:  # fmt: skip
    """``step`` planes a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    fast = _is_two_by_two(geo)
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        source, out = x + 4 * plane * cells, plane * depth * height * width
        for a in range(depth):
            for p in range(height):
                done = 0
                if fast and _last(geo, 1, p) - _first(geo, 1, p) == 2 and _last(geo, 0, a) == 1:
                    done = min(width, geti64(geo, SIZE + 2) // 2)
                    top = source + 4 * _line(geo, _cell(geo, 0, a, 0), _cell(geo, 1, p, 0))
                    low = top + 4 * geti64(geo, SIZE + 2)
                    _max_line2(top, low, y + 4 * out, winner + out, done)
                for q in range(done, width):
                    _max_cell(source, y, winner, geo, a, p, q, out + q)
                out += width


@kernel
def gather_rows(
    chunk: int, worker: int, x: int, y: int, winner: int, geo: int, lines: int, channels: int, step: int
) -> None:  # fmt: skip
    """Channels innermost: y[cell, c] = x[winning cell, c]."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    image = 4 * channels * geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    for line in range(chunk * step, min(lines, (chunk + 1) * step)):
        p, a, source = line % height, line // height % depth, x + line // (height * depth) * image
        for q in range(width):
            out = (line * width + q) * channels
            for c in range(channels):
                cell = _cell_of_tap(geo, a, p, q, np.int64(get8(winner, out + c)))
                put32(y, out + c, get32(source, cell * channels + c))


@kernel
def gather_planes(
    chunk: int, worker: int, x: int, y: int, winner: int, geo: int, planes: int, step: int
) -> None:  # fmt: skip
    """y[plane, cell] = x[plane, winning cell]."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        out = plane * depth * height * width
        for a in range(depth):
            for p in range(height):
                for q in range(width):
                    cell = _cell_of_tap(geo, a, p, q, np.int64(get8(winner, out)))
                    put32(y, out, get32(x, plane * cells + cell))
                    out += 1


@device
def _zero(p: int, count: int) -> None:
    for i in range(count):
        put32(p, i, f4(0))


@kernel
def scatter_rows(
    chunk: int, worker: int, gy: int, gx: int, winner: int, geo: int, channels: int, apart: int
) -> None:  # fmt: skip
    """Image ``chunk``, channels innermost. ``apart``: windows do not overlap, so that cells are written, not added to."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    rows, columns, target = geti64(geo, KERNEL + 1), geti64(geo, KERNEL + 2), gx + 4 * chunk * cells * channels
    out, zero = chunk * depth * height * width * channels, splat(f4(0))
    if apart < 2:
        _zero(target, cells * channels)
    for a in range(depth):
        for p in range(height):
            for q in range(width):
                for c in range(0, channels, WIDTH):
                    lanes = min(WIDTH, channels - c)
                    g, won = vget(gy + 4 * (out + c), lanes), load_bytes(winner + out + c, lanes)
                    for k in range(_first(geo, 0, a), _last(geo, 0, a)):
                        for i in range(_first(geo, 1, p), _last(geo, 1, p)):
                            start = _line(geo, _cell(geo, 0, a, k), _cell(geo, 1, p, i))
                            for j in range(_first(geo, 2, q), _last(geo, 2, q)):
                                v = select_same(won, splat(f4((k * rows + i) * columns + j)), g, zero)
                                at = target + 4 * ((start + _cell(geo, 2, q, j)) * channels + c)
                                vput(at, v if apart else v + vget(at, lanes), lanes)
                out += channels


@device
def _scatter_line2(g: int, winner: int, top: int, low: int, count: int) -> None:
    """The adjoint of ``_max_line2``."""
    zero, zeros, whole = f4(0), splat(f4(0)), count // WIDTH * WIDTH
    for q in range(0, whole, WIDTH):
        u, won = load(g + 4 * q), load_bytes(winner + q, WIDTH)
        a, b = select_same(won, zeros, u, zeros), select_same(won, splat(f4(1)), u, zeros)
        store(top + 8 * q, interleave_low(a, b))
        store(top + 8 * q + BYTES, interleave_high(a, b))
        a, b = select_same(won, splat(f4(2)), u, zeros), select_same(won, splat(f4(3)), u, zeros)
        store(low + 8 * q, interleave_low(a, b))
        store(low + 8 * q + BYTES, interleave_high(a, b))
    for q in range(whole, count):
        v, t = get32(g, q), get8(winner, q)
        put32(top, 2 * q, v if t == 0 else zero)
        put32(top, 2 * q + 1, v if t == 1 else zero)
        put32(low, 2 * q, v if t == 2 else zero)
        put32(low, 2 * q + 1, v if t == 3 else zero)


@kernel
def scatter_planes(
    chunk: int, worker: int, gy: int, gx: int, winner: int, geo: int, planes: int, step: int, apart: int
) -> None:  # fmt: skip
    """``step`` planes a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    fast = _is_two_by_two(geo) and geti64(geo, STRIDE + 1) == 2
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        target, out = gx + 4 * plane * cells, plane * depth * height * width
        if not (fast and apart == 2 and geti64(geo, OUTPUT + 2) * 2 == geti64(geo, SIZE + 2)):
            _zero(target, cells)
        for a in range(depth):
            for p in range(height):
                done = 0
                if fast and _last(geo, 1, p) - _first(geo, 1, p) == 2 and _last(geo, 0, a) == 1:
                    done = min(width, geti64(geo, SIZE + 2) // 2)
                    top = target + 4 * _line(geo, _cell(geo, 0, a, 0), _cell(geo, 1, p, 0))
                    _scatter_line2(gy + 4 * out, winner + out, top, top + 4 * geti64(geo, SIZE + 2), done)
                for q in range(done, width):
                    cell = _cell_of_tap(geo, a, p, q, np.int64(get8(winner, out + q)))
                    write32(target, cell, read32(target, cell) + get32(gy, out + q))
                out += width


# ---------------------------------------------------------------------------------------------
# Average pooling; divisors: one float32 an output cell
# ---------------------------------------------------------------------------------------------
@kernel
def average_rows(
    chunk: int, worker: int, x: int, y: int, divisors: int, geo: int, lines: int, channels: int, step: int
) -> None:  # fmt: skip
    """Channels innermost; ``step`` output lines a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    image = 4 * channels * geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    for line in range(chunk * step, min(lines, (chunk + 1) * step)):
        p, a, source = line % height, line // height % depth, x + line // (height * depth) * image
        for q in range(width):
            divisor = splat(get32(divisors, (a * height + p) * width + q))
            for c in range(0, channels, WIDTH):
                lanes, total = min(WIDTH, channels - c), splat(f4(0))
                for k in range(_first(geo, 0, a), _last(geo, 0, a)):
                    for i in range(_first(geo, 1, p), _last(geo, 1, p)):
                        start = _line(geo, _cell(geo, 0, a, k), _cell(geo, 1, p, i))
                        for j in range(_first(geo, 2, q), _last(geo, 2, q)):
                            at = (start + _cell(geo, 2, q, j)) * channels + c
                            total = total + vget(source + 4 * at, lanes)
                vput(y + 4 * ((line * width + q) * channels + c), total / divisor, lanes)


@device(fastmath={"reassoc", "nsz"})
def _sum_line(p: int, step: int, count: int) -> Any:
    """Σ of ``count`` numbers ``step`` apart."""
    total = f4(0)
    if step == 1:
        for j in range(count):
            total += get32(p, j)
    else:
        for j in range(count):
            total += get32(p, j * step)
    return total


@kernel
def average_planes(
    chunk: int, worker: int, x: int, y: int, divisors: int, geo: int, planes: int, step: int
) -> None:  # fmt: skip
    """``step`` planes a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells, dilation = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2), geti64(geo, DILATION + 2)
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        source, out = x + 4 * plane * cells, plane * depth * height * width
        for a in range(depth):
            for p in range(height):
                for q in range(width):
                    j0, j1, total = _first(geo, 2, q), _last(geo, 2, q), f4(0)
                    for k in range(_first(geo, 0, a), _last(geo, 0, a)):
                        for i in range(_first(geo, 1, p), _last(geo, 1, p)):
                            start = _line(geo, _cell(geo, 0, a, k), _cell(geo, 1, p, i))
                            total += _sum_line(source + 4 * (start + _cell(geo, 2, q, j0)), dilation, j1 - j0)
                    put32(y, out, total / get32(divisors, (a * height + p) * width + q))
                    out += 1


@kernel
def spread_rows(
    chunk: int, worker: int, gy: int, gx: int, divisors: int, geo: int, channels: int, apart: int
) -> None:  # fmt: skip
    """Image ``chunk``, channels innermost: every window's share added to its cells; ``apart`` as in scatter_rows."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    target, out = gx + 4 * chunk * cells * channels, chunk * depth * height * width * channels
    if apart < 2:
        _zero(target, cells * channels)
    for a in range(depth):
        for p in range(height):
            for q in range(width):
                divisor = splat(get32(divisors, (a * height + p) * width + q))
                for c in range(0, channels, WIDTH):
                    lanes = min(WIDTH, channels - c)
                    share = vget(gy + 4 * (out + c), lanes) / divisor
                    for k in range(_first(geo, 0, a), _last(geo, 0, a)):
                        for i in range(_first(geo, 1, p), _last(geo, 1, p)):
                            start = _line(geo, _cell(geo, 0, a, k), _cell(geo, 1, p, i))
                            for j in range(_first(geo, 2, q), _last(geo, 2, q)):
                                at = target + 4 * ((start + _cell(geo, 2, q, j)) * channels + c)
                                vput(at, share if apart else share + vget(at, lanes), lanes)
                out += channels


@kernel
def spread_planes(
    chunk: int, worker: int, gy: int, gx: int, divisors: int, geo: int, planes: int, step: int, apart: int
) -> None:  # fmt: skip
    """``step`` planes a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        target, out = gx + 4 * plane * cells, plane * depth * height * width
        _zero(target, cells)
        for a in range(depth):
            for p in range(height):
                for q in range(width):
                    share = get32(gy, out) / get32(divisors, (a * height + p) * width + q)
                    out += 1
                    for k in range(_first(geo, 0, a), _last(geo, 0, a)):
                        for i in range(_first(geo, 1, p), _last(geo, 1, p)):
                            start = _line(geo, _cell(geo, 0, a, k), _cell(geo, 1, p, i))
                            for j in range(_first(geo, 2, q), _last(geo, 2, q)):
                                cell = start + _cell(geo, 2, q, j)
                                write32(target, cell, read32(target, cell) + share)


# ---------------------------------------------------------------------------------------------
# Calling them
# ---------------------------------------------------------------------------------------------
@lru_cache(64)
def geometry(sizes: Shape, outputs: Shape, window: Window) -> tuple[Any, int]:
    """(the table, apart): 0 windows overlap, 1 they do not, 2 they also cover every cell."""
    kernel, stride, padding, dilation = window
    lone = (1,) * (3 - len(sizes))  # missing axes
    head = [*lone, *sizes, *lone, *outputs, *lone, *kernel, *lone, *stride, *lone, *dilation, 0, 0, 0]
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
    table = np.concatenate([head, *parts]).astype(np.int64)
    apart = all(s >= k and d == 1 for k, s, d in zip(kernel, stride, dilation, strict=True))
    covers = apart and all(
        k == s and lo == 0 and q * s >= n
        for n, q, k, s, (lo, _) in zip(sizes, outputs, kernel, stride, padding, strict=True)
    )
    return table, apart + covers


@lru_cache(256)
def divisor_table(divisors: tuple[tuple[int, ...], ...]) -> Any:
    """divisors[0][p]·divisors[1][q]… as a contiguous float32 array."""
    product = math.prod(np.ix_(*(np.array(axis, np.float64) for axis in divisors)))
    return np.ascontiguousarray(product, f4)


def is_rows(x: Any) -> bool | None:
    """True when the channels are innermost, False when each plane is a C-order run, None for other orders."""
    axes = order(x.shape, x.strides, x.itemsize)
    if axes is None:
        return None
    if axes == tuple(i for i, n in enumerate(x.shape) if n > 1):
        return x.shape[1] > 1 and math.prod(x.shape[2:]) == 1
    rows = (0, *range(2, x.ndim), 1)
    return True if axes == tuple(i for i in rows if x.shape[i] > 1) else None


def accepts(x: Any, window: Window) -> bool:
    """Whether the kernels take ``x``: winners of larger windows do not fit a byte."""
    return x.dtype == f4 and x.size > 0 and x.ndim <= 5 and window.taps() <= 255


def _as(a: Any, rows: bool, dtype: Any = f4) -> Any:
    """``a`` in one of the two orders: itself, or a copy."""
    found = is_rows(a)
    if found is rows or (found is not None and (a.shape[1] == 1 or math.prod(a.shape[2:]) == 1)):
        return a
    b = _new(a.shape, rows, dtype)
    np.copyto(b, a)
    return b


def _new(shape: Shape, rows: bool, dtype: Any = f4) -> Any:
    axes = (0, *range(2, len(shape)), 1) if rows else tuple(range(len(shape)))
    axes = tuple(i for i in axes if shape[i] > 1)
    return empty(shape, dtype, dense_strides(shape, axes, np.dtype(dtype).itemsize))


def _by_outputs(by_rows: Kernel, by_planes: Kernel, x: Any, y: Any, third: Any, geo: Any, rows: bool) -> None:
    """Run a kernel over blocks of output lines or of planes."""
    n, channels = x.shape[:2]
    if rows:
        lines = n * math.prod(y.shape[2:-1])
        step = max(1, WORK * lines // max(x.size, 1))
        run, sizes, units = by_rows, (lines, channels, step), lines
    else:
        units = n * channels
        step = max(1, WORK * units // x.size)
        run, sizes = by_planes, (units, step)  # type: ignore[assignment]
    call = run.serial if x.size < SMALL else run
    call(-(-units // step), address(x), address(y), address(third), address(geo), *sizes)


def _by_inputs(by_rows: Kernel, by_planes: Kernel, gy: Any, gx: Any, third: Any, window: Window, rows: bool) -> None:
    """Run an adjoint's kernel over images or blocks of planes."""
    geo, apart = geometry(gx.shape[2:], gy.shape[2:], window)
    n, channels = gx.shape[:2]
    places = (address(gy), address(gx), address(third), address(geo))
    if rows:
        (by_rows.serial if gx.size < SMALL else by_rows)(n, *places, channels, apart)
    else:
        step = max(1, WORK * n * channels // gx.size)
        call = by_planes.serial if gx.size < SMALL else by_planes
        call(-(-n * channels // step), *places, n * channels, step, apart)


def max_pool(x: Any, window: Window) -> tuple[Any, Any]:
    """(maxima, winners as uint8)."""
    rows = is_rows(x)
    if rows is None:
        rows, x = False, np.ascontiguousarray(x)
    outputs = window.output(x.shape[2:])
    shape = (*x.shape[:2], *outputs)
    y, winner = _new(shape, rows), _new(shape, rows, np.uint8)
    _by_outputs(max_rows, max_planes, x, y, winner, geometry(x.shape[2:], outputs, window)[0], rows)
    return y, winner


def gather(x: Any, winner: Any, window: Window) -> Any:
    """x at the winners."""
    rows = bool(is_rows(winner))
    x, winner, y = _as(x, rows), _as(winner, rows, np.uint8), _new(winner.shape, rows)
    geo = geometry(x.shape[2:], y.shape[2:], window)[0]
    _by_outputs(gather_rows, gather_planes, x, y, winner, geo, rows)
    return y


def scatter(gy: Any, winner: Any, shape: Shape, window: Window) -> Any:
    """gy added to zeros(shape) at the winners."""
    rows = bool(is_rows(winner))
    gy, winner, gx = _as(gy, rows), _as(winner, rows, np.uint8), _new(shape, rows)
    _by_inputs(scatter_rows, scatter_planes, gy, gx, winner, window, rows)
    return gx


def average(x: Any, window: Window, divisors: tuple[tuple[int, ...], ...]) -> Any:
    """Window sums over their divisors."""
    rows = is_rows(x)
    if rows is None:
        rows, x = False, np.ascontiguousarray(x)
    outputs = window.output(x.shape[2:])
    y = _new((*x.shape[:2], *outputs), rows)
    geo = geometry(x.shape[2:], outputs, window)[0]
    _by_outputs(average_rows, average_planes, x, y, divisor_table(divisors), geo, rows)
    return y


def spread(gy: Any, shape: Shape, window: Window, divisors: tuple[tuple[int, ...], ...]) -> Any:
    """The adjoint of ``average``."""
    rows = is_rows(gy)
    if rows is None:
        rows, gy = False, np.ascontiguousarray(gy)
    gx = _new(shape, rows)
    _by_inputs(spread_rows, spread_planes, gy, gx, divisor_table(divisors), window, rows)
    return gx
