"""Max and average pooling of float32 images over one to three spatial axes.

Two memory orders, as in ``norm``: with the channels innermost ("rows") one cell is a run of
channels and the work goes by vectors of them; otherwise ("planes") each (image, channel) plane is
its own run, walked cell by cell, with a vector loop for the common 2×2 window at stride 2. Adjoints
work on whole images or planes, so that overlapping windows meet in one thread, in order.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from . import memory, pool_average, pool_max
from .lanes import HALF
from .memory import empty
from .order import dense_strides, order
from .pool_windows import geometry
from .runtime import Kernel, address
from .simd import BYTES, WIDTH

f4 = np.float32
WORK = 16384  # elements of a chunk
SMALL = 16384  # elements of the larger side below which the calling thread does it


@lru_cache(256)
def divisor_table(divisors: tuple[tuple[int, ...], ...]) -> Any:
    """divisors[0][p]·divisors[1][q]… as a contiguous float32 array."""
    product = math.prod(np.ix_(*(np.array(axis, np.float64) for axis in divisors)))
    return np.ascontiguousarray(product, f4)


def is_rows(x: Any) -> bool | None:
    """True when the channels are innermost, False when each plane is a C-order run, None for other
    orders."""
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


def _by_outputs(
    by_rows: Kernel, by_planes: Kernel, x: Any, y: Any, third: Any, geo: Any, rows: bool
) -> None:
    """Run a kernel over blocks of output lines."""
    n, channels = x.shape[:2]
    lines = n * math.prod(y.shape[2:-1]) * (1 if rows else channels)
    step = max(1, WORK * lines // x.size)
    sizes = (lines, channels, step) if rows else (lines, step)
    run = by_rows if rows else by_planes
    call = run.serial if x.size < SMALL else run
    call(-(-lines // step), address(x), address(y), address(third), address(geo), *sizes)


def _by_inputs(
    by_rows: Kernel, by_planes: Kernel, gy: Any, gx: Any, third: Any, window: Window, rows: bool
) -> None:
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
    _by_outputs(
        pool_max.max_rows,
        pool_max.max_planes,
        x,
        y,
        winner,
        geometry(x.shape[2:], outputs, window)[0],
        rows,
    )
    return y, winner


def gather(x: Any, winner: Any, window: Window) -> Any:
    """x at the winners."""
    rows = bool(is_rows(winner))
    x, winner, y = _as(x, rows), _as(winner, rows, np.uint8), _new(winner.shape, rows)
    geo = geometry(x.shape[2:], y.shape[2:], window)[0]
    _by_outputs(pool_max.gather_rows, pool_max.gather_planes, x, y, winner, geo, rows)
    return y


def _streams(gx: Any, gy: Any, window: Window) -> bool:
    """Whether the gradient of planes is for ``stream_planes``."""
    kernel, stride, padding, dilation = window
    pairs = kernel == stride == (2, 2) and dilation == (1, 1) and padding == ((0, 0), (0, 0))
    covers = pairs and gx.size == 4 * gy.size
    halves = WIDTH >= 8 and gx.shape[-1] % HALF == 0 and address(gx) % BYTES == 0
    return covers and halves and gx.nbytes > memory.STREAM_BYTES


def scatter(gy: Any, winner: Any, shape: Shape, window: Window) -> Any:
    """gy added to zeros(shape) at the winners."""
    rows = bool(is_rows(winner))
    gy, winner, gx = _as(gy, rows), _as(winner, rows, np.uint8), _new(shape, rows)
    if not rows and _streams(gx, gy, window):
        columns, lines = shape[-1], gy.size // gy.shape[-1]
        step = max(1, WORK // (2 * columns))
        places = (address(gy), address(gx), address(winner))
        pool_max.stream_planes(-(-lines // step), *places, lines, columns, step)
    else:
        _by_inputs(pool_max.scatter_rows, pool_max.scatter_planes, gy, gx, winner, window, rows)
    return gx


def average(x: Any, window: Window, divisors: tuple[tuple[int, ...], ...]) -> Any:
    """Window sums over their divisors."""
    rows = is_rows(x)
    if rows is None:
        rows, x = False, np.ascontiguousarray(x)
    outputs = window.output(x.shape[2:])
    y = _new((*x.shape[:2], *outputs), rows)
    geo = geometry(x.shape[2:], outputs, window)[0]
    _by_outputs(
        pool_average.average_rows,
        pool_average.average_planes,
        x,
        y,
        divisor_table(divisors),
        geo,
        rows,
    )
    return y


def spread(gy: Any, shape: Shape, window: Window, divisors: tuple[tuple[int, ...], ...]) -> Any:
    """The adjoint of ``average``."""
    rows = is_rows(gy)
    if rows is None:
        rows, gy = False, np.ascontiguousarray(gy)
    gx = _new(shape, rows)
    _by_inputs(
        pool_average.spread_rows,
        pool_average.spread_planes,
        gy,
        gx,
        divisor_table(divisors),
        window,
        rows,
    )
    return gx
