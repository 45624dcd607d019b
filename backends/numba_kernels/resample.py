"""Sparse linear maps along the rows and columns of images: interpolation, padding by copies, means
of uneven windows, and the adjoint of each.

Channels are innermost, so that every step is on vectors. One output row is a chunk: the input rows
that it needs are added up in a buffer (read as it lies if it is a single one of weight 1), from
which its pixels gather their columns. The adjoint is the same with the transposed maps: results
are gathered, never scattered, and so do not depend on the number of threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import LinearMap

from .access import get32, geti64
from .lanes import vget, vput
from .layout import channels_last, to_channels_last
from .memory import empty
from .runtime import address, device, kernel, max_workers
from .simd import WIDTH, fma, splat

f4 = np.float32


@device
def _combine(out, source, step, count, first, last, cells, weights):
    """out[0 … count) = Σ weight·source[cell·step …] over the pairs from first to last."""
    for c in range(0, count, WIDTH):
        lanes, total = min(WIDTH, count - c), splat(f4(0))
        for k in range(first, last):
            v = vget(source + geti64(cells, k) * step + 4 * c, lanes)
            total = fma(splat(get32(weights, k)), v, total)
        vput(out + 4 * c, total, lanes)


@kernel
def resample_rows(
    chunk, worker, x, x_n, x_h, y, y_n, y_h, outputs, w, q, channels,
    starts_h, cells_h, weights_h, starts_w, cells_w, weights_w, buffers,
):  # fmt: skip
    """Output row ``chunk`` of ``outputs`` an image; starts_w = 0 where columns stay as they are."""
    image, row = chunk // outputs, chunk % outputs
    source, to = x + image * x_n, y + image * y_n + row * y_h
    first, last = geti64(starts_h, row), geti64(starts_h, row + 1)
    if starts_w == 0:
        _combine(to, source, x_h, w * channels, first, last, cells_h, weights_h)
        return
    at = buffers + worker * w * channels * 4
    if last - first == 1 and get32(weights_h, first) == f4(1):
        at = source + geti64(cells_h, first) * x_h
    else:
        _combine(at, source, x_h, w * channels, first, last, cells_h, weights_h)
    pixel = 4 * channels
    for p in range(q):
        first, last = geti64(starts_w, p), geti64(starts_w, p + 1)
        _combine(to + p * pixel, at, pixel, channels, first, last, cells_w, weights_w)


@lru_cache(512)
def _table(of: LinearMap) -> tuple[Any, Any, Any]:
    """(first pair of each row and the end, cells, weights)."""
    starts = np.cumsum([0, *map(len, of.rows)], dtype=np.int64)
    pairs = [pair for row in of.rows for pair in row]
    return starts, np.array([c for c, _ in pairs], np.int64), np.array([v for _, v in pairs], f4)


@lru_cache(64)
def _identity(n: int) -> LinearMap:
    return LinearMap([[(i, 1.0)] for i in range(n)], n)


def _copied(x: Any) -> Any:
    """x, channels last: their stride says nothing when there is one, or when pixels repeat."""
    y = channels_last(x.shape)
    np.copyto(y, x)
    return y


def resample(x: Any, rows: LinearMap | None, columns: LinearMap | None) -> Any:
    """x (N, C, H, W), float32 and not empty, mapped along H and W."""
    n, c, h, w = x.shape
    if (w > 1 and x.strides[3] != 4 * c) or (c > 1 and x.strides[1] != 4):
        x = to_channels_last(x) if x.strides[1] != 4 else _copied(x)
    tables = [_table(rows or _identity(h))] + ([] if columns is None else [_table(columns)])
    p, q = len(tables[0][0]) - 1, w if columns is None else len(tables[1][0]) - 1
    y = channels_last((n, c, p, q))
    buffers = empty((0 if columns is None else w * c * max_workers(),), f4)
    places = [address(a) for table in tables for a in table] + [0, 0, 0] * (columns is None)
    resample_rows(n * p, address(x), x.strides[0], x.strides[2], address(y), y.strides[0],
                  y.strides[2], p, w, q, c, *places, address(buffers))  # fmt: skip
    return y
