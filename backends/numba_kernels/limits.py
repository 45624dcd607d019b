"""The limits of a machine that kernels run into: multiply-adds and memory.

``multiply_add_peak`` keeps twelve independent sums in vector registers: enough that each of up to
two multiply-add units can start one every cycle while the last four cycles' results are on their
way, and few enough for the sixteen registers of AVX2. Nothing is loaded or stored meanwhile, so no
kernel can be faster. ``copy`` streams one block of memory to another, as the cheapest elementwise
operation does. ``read`` only reads one: fewer bytes a second, as nothing is written meanwhile, and
the limit of what writes little, such as pooling and sums. All blocks have been written before: one
that never was is one page of zeros over and over, which stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .memory import empty
from .runtime import address, get_num_threads, kernel
from .simd import BYTES, WIDTH, fence, fma, load, splat, store, stream, vmax

SUMS = 12
TURNS = 200_000
PIECE = 1 << 18  # bytes that a chunk copies


@kernel
def multiply_adds(chunk, worker, out, turns):
    """12 · turns vector multiply-adds s = x·s + y; their sum, which nobody needs, at ``out``."""
    x, y = splat(np.float32(0.999)), splat(np.float32(1e-3))
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = s10 = s11 = y
    for _ in range(turns):
        s0, s1, s2, s3 = fma(x, s0, y), fma(x, s1, y), fma(x, s2, y), fma(x, s3, y)
        s4, s5, s6, s7 = fma(x, s4, y), fma(x, s5, y), fma(x, s6, y), fma(x, s7, y)
        s8, s9, s10, s11 = fma(x, s8, y), fma(x, s9, y), fma(x, s10, y), fma(x, s11, y)
    total = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11
    store(out + chunk * BYTES, total)


@kernel
def copy_piece(chunk, worker, source, target, count):
    """PIECE bytes from ``source`` to ``target``; ``count`` is a multiple of PIECE."""
    first = chunk * PIECE
    for at in range(first, min(first + PIECE, count), BYTES):
        stream(target + at, load(source + at))
    fence()


@kernel
def read_piece(chunk, worker, source, count, out):
    """The largest numbers in PIECE bytes, which nobody needs; ``count`` is a multiple of PIECE."""
    a = b = c = d = splat(np.float32(0))
    first = source + chunk * PIECE
    for at in range(first, min(first + PIECE, source + count), 4 * BYTES):
        a, b = vmax(a, load(at)), vmax(b, load(at + BYTES))
        c, d = vmax(c, load(at + 2 * BYTES)), vmax(d, load(at + 3 * BYTES))
    store(out + worker * BYTES, vmax(vmax(a, b), vmax(c, d)))


def multiply_add_peak() -> tuple[Callable[[], None], float]:
    """(a run of nothing but multiply-adds on all threads, its floating-point operations)."""
    threads = get_num_threads()
    out = empty((threads * WIDTH,), np.float32)

    def run() -> None:
        multiply_adds(threads, address(out), TURNS)

    return run, 2.0 * SUMS * WIDTH * TURNS * threads


def copy(nbytes: int) -> tuple[Callable[[], None], float]:
    """(a run that copies about ``nbytes``, the bytes it reads and writes)."""
    count = -(-nbytes // PIECE) * PIECE
    arrays: list[Any] = [empty((count // 4,), np.float32) for _ in range(2)]
    for a in arrays:
        a.fill(1)

    def run() -> None:
        copy_piece(count // PIECE, address(arrays[0]), address(arrays[1]), count)

    return run, 2.0 * count


def read(nbytes: int) -> tuple[Callable[[], None], float]:
    """(a run that reads about ``nbytes``, how many)."""
    count = -(-nbytes // PIECE) * PIECE
    source = empty((count // 4,), np.float32)
    source.fill(1)
    out = empty((get_num_threads() * WIDTH,), np.float32)

    def run() -> None:
        read_piece(count // PIECE, address(source), count, address(out))

    return run, float(count)
