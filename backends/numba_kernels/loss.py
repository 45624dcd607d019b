"""Softmax, log-softmax and cross-entropy over the last axis of float32 matrices.

A row is read, exponentiated and scaled while it is in the cache, in whole vectors and one part of a
vector at its end. A chunk is a block of rows, so nothing depends on the number of threads. Sums run
on the lanes of a vector, which are then added in pairs: the error grows with n / lanes only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .access import get32, geti64, put32
from .memory import empty
from .polynomials import log32, vexp
from .runtime import address, device, kernel
from .simd import WIDTH, lane_max, lane_sum, load, load_part, splat, store, store_part, vmax

f4 = np.float32
ELEMENTS = 8192  # of a chunk
SMALL = 4096  # elements below which the calling thread does it
# Read at WIDTH − t, the first t lanes are 0 and the others −∞: added to a row's last vector, they
# drop out.
EDGE = np.repeat(np.array([0, -np.inf], f4), WIDTH)


@device
def _maximum(x: int, n: int, edge: int) -> Any:
    """The largest of n numbers. A NaN may be passed over: it comes back with the exponentials."""
    whole, tail = n // WIDTH * WIDTH, n % WIDTH
    v = splat(f4(-np.inf))
    for i in range(0, whole, WIDTH):
        v = vmax(v, load(x + 4 * i))
    if tail:
        v = vmax(v, load_part(x + 4 * whole, tail) + load(edge + 4 * (WIDTH - tail)))
    return lane_max(v)


@device
def _exponentials(x: int, y: int, n: int, edge: int, largest: Any) -> Any:
    """y[i] = exp(x[i] − largest); returns Σ y."""
    whole, tail = n // WIDTH * WIDTH, n % WIDTH
    shift, total = splat(largest), splat(f4(0))
    for i in range(0, whole, WIDTH):
        e = vexp(load(x + 4 * i) - shift)
        store(y + 4 * i, e)
        total = total + e
    if tail:
        e = vexp(load_part(x + 4 * whole, tail) + load(edge + 4 * (WIDTH - tail)) - shift)
        store_part(y + 4 * whole, e, tail)
        total = total + e
    return lane_sum(total)


@device
def _scale(y: int, n: int, factor: Any) -> None:
    """y[i] *= factor."""
    whole, tail, f = n // WIDTH * WIDTH, n % WIDTH, splat(factor)
    for i in range(0, whole, WIDTH):
        store(y + 4 * i, load(y + 4 * i) * f)
    if tail:
        store_part(y + 4 * whole, load_part(y + 4 * whole, tail) * f, tail)


@kernel
def softmax_rows(chunk, worker, x, y, edge, rows, n, step):
    """y[r] = exp(x[r] − max) / Σ exp(x[r] − max)."""
    for r in range(chunk * step, min(rows, (chunk + 1) * step)):
        a, b = x + 4 * r * n, y + 4 * r * n
        _scale(b, n, f4(1) / _exponentials(a, b, n, edge, _maximum(a, n, edge)))


@kernel
def log_softmax_rows(chunk, worker, x, y, edge, rows, n, step):
    """y[r] = x[r] − max − log Σ exp(x[r] − max)."""
    for r in range(chunk * step, min(rows, (chunk + 1) * step)):
        a, b = x + 4 * r * n, y + 4 * r * n
        largest = _maximum(a, n, edge)
        shift = log32(_exponentials(a, b, n, edge, largest))
        for i in range(n):
            put32(b, i, (get32(a, i) - largest) - shift)


@kernel
def cross_entropy_rows(chunk, worker, x, target, y, losses, edge, rows, n, step):
    """losses[r] = log Σ exp(x[r] − max) − (x[r, target[r]] − max), y the softmax."""
    for r in range(chunk * step, min(rows, (chunk + 1) * step)):
        a, b = x + 4 * r * n, y + 4 * r * n
        largest = _maximum(a, n, edge)
        total = _exponentials(a, b, n, edge, largest)
        put32(losses, r, log32(total) - (get32(a, geti64(target, r)) - largest))
        _scale(b, n, f4(1) / total)


@kernel
def cross_entropy_grad_rows(chunk, worker, g, p, target, y, g_step, rows, n, step):
    """y[r, k] = (p[r, k] − [k = target[r]])·g[r]."""
    for r in range(chunk * step, min(rows, (chunk + 1) * step)):
        a, b, scale = p + 4 * r * n, y + 4 * r * n, get32(g + r * g_step, 0)
        for i in range(n):
            put32(b, i, get32(a, i) * scale)
        k = geti64(target, r)
        put32(b, k, (get32(a, k) - f4(1)) * scale)


def is_rows(x: Any) -> bool:
    """Whether ``x`` is a float32 array stored row after row along its last axis, with elements."""
    return x.dtype == f4 and bool(x.flags.c_contiguous) and x.size > 0


def launch(kernel: Any, rows: int, n: int, *arguments: int) -> None:
    """Run a kernel of (…, rows, n, step) over blocks of rows."""
    step = max(1, ELEMENTS // n)
    run = kernel.serial if rows * n < SMALL else kernel
    run(-(-rows // step), *arguments, rows, n, step)


def cross_entropy(logits: Any, target: Any) -> tuple[Any, Any]:
    """(losses, probabilities) of contiguous float32 logits (N, K) and int64 classes (N,)."""
    rows, n = logits.shape
    y, losses = empty(logits.shape, f4), np.empty(rows, f4)
    places = map(address, (logits, target, y, losses, EDGE))
    launch(cross_entropy_rows, rows, n, *places)
    return losses, y


def cross_entropy_grad(g: Any, probabilities: Any, target: Any) -> Any:
    """(p − onehot(target))·g[:, None] of contiguous float32 probabilities (N, K); g (N,) may be
    one number repeated, as the gradient of a mean is."""
    rows, n = probabilities.shape
    y = empty(probabilities.shape, f4)
    places = map(address, (g, probabilities, target, y))
    launch(cross_entropy_grad_rows, rows, n, *places, g.strides[0])
    return y
