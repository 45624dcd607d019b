"""The loops that elementwise operations run in; ``elementwise.py`` chooses among them.

Four loops serve every operation of two operands: ``flat`` (both run along), ``periodic`` (the short
one repeats every few elements: scalars, channels that are innermost in memory), ``samples`` (so it
does, but another one for each image) and ``planes`` (it is constant over long runs: channels of
N, C, H, W memory). Each combination that occurs is one small kernel, compiled when first needed.

Results that no cache can hold are computed piece by piece in a buffer of one kilobyte and then
streamed to their place: a plain store would first read what it overwrites, a third of the traffic.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .access import get8, get32, get64, put32, put64
from .elements import KINDS, NAMES, element, result_of
from .layout import stream_floats
from .runtime import Kernel, device, kernel_of
from .simd import fence

CHUNK = 16384
PIECE = 256  # elements that are computed before they are streamed: loads and stores overlap
BUFFER = 8 * PIECE  # bytes of a worker's buffer


def _access(name: str, kind: str) -> tuple[Any, Any, int, int]:
    """(read an operand's element, write a result's, bytes of each)."""
    to = KINDS[NAMES[result_of(name, np.dtype(kind))]]
    return KINDS[kind].get, to.put, KINDS[kind].size, to.size


def _in_pieces(piece: Any, size: int) -> Any:
    """run(first, end, target, buffer, p, q, r): ``piece`` of the elements from first to end, which
    writes them from an address on; directly to ``target``, or by way of ``buffer`` if there is one
    (then the chunk ends with ``_finish``)."""

    @device
    def run(first, end, target, buffer, p, q, r):
        if buffer == 0 or size < 4:
            piece(first, end - first, target + size * first, p, q, r)
            return
        for at in range(first, end, PIECE):
            count = min(PIECE, end - at)
            piece(at, count, buffer, p, q, r)
            stream_floats(target + size * at, buffer, count * size // 4)

    return run


@device
def _finish(buffers: int) -> None:
    """After a chunk's last piece, and not after each run of it: a fence waits for the memory."""
    if buffers:
        fence()


@device
def _buffer(buffers: int, worker: int) -> int:
    """A worker's buffer; 0 when there are none."""
    return buffers + worker * BUFFER if buffers else 0


@cache
def unary_kernel(name: str, kind: str) -> Kernel:
    """y[i] = f(x[i])."""
    f = element(name, kind)
    get, put, _, size = _access(name, kind)

    @device
    def piece(first, count, to, x, q, r):
        for i in range(count):
            put(to, i, f(get(x, first + i)))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, n, buffers):
        start = chunk * CHUNK
        pieces(start, min(n, start + CHUNK), y, _buffer(buffers, worker), x, 0, 0)
        _finish(buffers)

    return kernel_of(run, f"{name}_{kind}", False)


@cache
def flat_kernel(name: str, kind: str) -> Kernel:
    """z[i] = f(x[i], y[i])."""
    f = element(name, kind)
    get, put, _, size = _access(name, kind)

    @device
    def piece(first, count, to, x, y, r):
        for i in range(count):
            put(to, i, f(get(x, first + i), get(y, first + i)))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, z, n, buffers):
        start = chunk * CHUNK
        pieces(start, min(n, start + CHUNK), z, _buffer(buffers, worker), x, y, 0)
        _finish(buffers)

    return kernel_of(run, f"{name}_{kind}", False)


@cache
def periodic_kernel(name: str, kind: str, short_first: bool) -> Kernel:
    """z[i] = f(x[i], y[i mod period]), or f(y, x) when the short operand comes first; chunks of
    ``step`` elements, a multiple of the period."""
    f = element(name, kind)
    get, put, width, size = _access(name, kind)

    @device
    def piece(first, count, to, x, y, period):
        a = x + width * first
        for i in range(count):
            if short_first:
                put(to, i, f(get(y, first % period + i), get(a, i)))
            else:
                put(to, i, f(get(a, i), get(y, first % period + i)))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, z, n, period, step, buffers):
        for start in range(chunk * step, min(n, (chunk + 1) * step), period):
            end = min(start + period, n)
            pieces(start, end, z, _buffer(buffers, worker), x, y, period)
        _finish(buffers)

    return kernel_of(run, f"{name}_periodic{int(short_first)}_{kind}", False)


@cache
def planes_kernel(name: str, kind: str, short_first: bool) -> Kernel:
    """z[p, i] = f(x[p, i], y[p mod channels]) for planes p of ``inner`` elements, ``step`` of them
    a chunk."""
    f = element(name, kind)
    get, put, width, size = _access(name, kind)

    @device
    def piece(first, count, to, x, place, r):
        b, a = get(place, 0), x + width * first
        for i in range(count):
            if short_first:
                put(to, i, f(b, get(a, i)))
            else:
                put(to, i, f(get(a, i), b))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, z, planes, channels, inner, step, buffers):
        for p in range(chunk * step, min(planes, (chunk + 1) * step)):
            place = y + width * (p % channels)
            pieces(p * inner, (p + 1) * inner, z, _buffer(buffers, worker), x, place, 0)
        _finish(buffers)

    return kernel_of(run, f"{name}_planes{int(short_first)}_{kind}", False)


@cache
def samples_kernel(name: str, kind: str, short_first: bool) -> Kernel:
    """z[n, i] = f(x[n, i], y[n, i mod period]) for samples n of ``length`` elements, in ``blocks``
    chunks of ``step`` elements, a multiple of the period."""
    f = element(name, kind)
    get, put, width, size = _access(name, kind)

    @device
    def piece(first, count, to, x, y, start):
        a, b = x + width * first, y + width * (first - start)
        for i in range(count):
            if short_first:
                put(to, i, f(get(b, i), get(a, i)))
            else:
                put(to, i, f(get(a, i), get(b, i)))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, z, length, period, blocks, step, buffers):
        n, block = chunk // blocks, chunk % blocks
        first = n * length + block * step
        last = min(first + step, (n + 1) * length)
        row = y + width * period * n
        for start in range(first, last, period):
            end = min(start + period, last)
            pieces(start, end, z, _buffer(buffers, worker), x, row, start)
        _finish(buffers)

    return kernel_of(run, f"{name}_samples{int(short_first)}_{kind}", False)


@cache
def where_kernel(a_moves: bool, b_moves: bool, size: int) -> Kernel:
    """z[i] = a[i] if c[i] else b[i] for numbers of 4 or 8 bytes, which are only moved; an operand
    that does not move is one number."""
    get, put = (get32, put32) if size == 4 else (get64, put64)

    def run(chunk, worker, c, a, b, z, n):
        start = chunk * CHUNK
        for i in range(start, min(n, start + CHUNK)):
            u = get(a, i if a_moves else 0)
            v = get(b, i if b_moves else 0)
            put(z, i, u if get8(c, i) != 0 else v)

    return kernel_of(run, f"where{int(a_moves)}{int(b_moves)}_{size}", False)


@cache
def slope_kernel() -> Kernel:
    """z[i] = g[i] if x[i] > 0 else slope·g[i] for float32: leaky ReLU (g = x) and its gradient."""

    @device
    def piece(first, count, to, g, x, slope):
        s, zero = get32(slope, 0), np.float32(0)
        for i in range(count):
            v = get32(g, first + i)
            put32(to, i, v if get32(x, first + i) > zero else s * v)

    pieces = _in_pieces(piece, 4)

    def run(chunk, worker, g, x, z, slope, n, buffers):
        start = chunk * CHUNK
        pieces(start, min(n, start + CHUNK), z, _buffer(buffers, worker), g, x, slope)
        _finish(buffers)

    return kernel_of(run, "slope", False)
