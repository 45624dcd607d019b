"""Winograd's transforms for 3×3 kernels: F(4×4, 3×3) and F(2×2, 3×3).

A stride-1 3×3 convolution of a (m+2)×(m+2) input tile d gives an m×m output tile

    y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A,

⊙ being the product of corresponding entries. For m = 4 that takes 36 multiplications instead of
144, for m = 2 16 instead of 36; over all channels each of the entries is a small matrix product, so
the tuned micro-kernel does them. The matrices come from evaluating polynomials at the points
0, ±1, ±2, ∞ (m = 4) and 0, ±1, ∞ (m = 2); the larger the points, the larger the rounding error:
about 1e-5 of the output's standard deviation for m = 4, 1e-6 for m = 2 and for direct convolution.
Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.

The transforms below work on WIDTH channels at once: each 1-D transform is a few additions and
multiply-adds of registers, run first down the columns of the tile, then along its rows; the values
in between wait in ``work``, a piece of memory that never leaves the first-level cache.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .runtime import device
from .simd import BYTES, fma, load, prefetch, splat, store, vmax

_F = np.float32


@device
def put_3(place, step, v):
    """The three vectors of a tuple at place, place + step, …"""
    store(place, v[0])
    store(place + step, v[1])
    store(place + 2 * step, v[2])


@device
def put_4(place, step, v):
    """Four of them."""
    put_3(place, step, v)
    store(place + 3 * step, v[3])


@device
def put_6(place, step, v):
    """Six of them."""
    put_4(place, step, v)
    store(place + 4 * step, v[4])
    store(place + 5 * step, v[5])


# -- 1-D transforms, m = 4 ------------------------------------------------------------------------


@device
def _input_4(d0, d1, d2, d3, d4, d5):
    """Bᵀ d."""
    two, four, five = splat(_F(2)), splat(_F(4)), splat(_F(5))
    a, b = d4 - four * d2, d3 - four * d1
    c, e = d4 - d2, two * (d3 - d1)
    first = fma(four, d0, d4 - five * d2)
    return first, a + b, a - b, c + e, c - e, fma(four, d1, d5 - five * d3)


@device
def _output_4(y0, y1, y2, y3, y4, y5):
    """Aᵀ y."""
    two, four, eight = splat(_F(2)), splat(_F(4)), splat(_F(8))
    a, b, c, d = y1 + y2, y1 - y2, y3 + y4, y3 - y4
    return y0 + a + c, fma(two, d, b), fma(four, c, a), fma(eight, d, b) + y5


@device
def _gradient_4(g0, g1, g2, g3):
    """A g: the adjoint of ``_output_4``."""
    two, four, eight = splat(_F(2)), splat(_F(4)), splat(_F(8))
    a, b = g0 + g2, g1 + g3
    c, d = fma(four, g2, g0), fma(eight, g3, two * g1)
    return g0, a + b, a - b, c + d, c - d, g3


@device
def _weight_4(w0, w1, w2):
    """G w."""
    s, t = splat(_F(-1 / 6)) * (w0 + w2), splat(_F(-1 / 6)) * w1
    u = fma(w0, splat(_F(1 / 24)), w2 * splat(_F(1 / 6)))
    v = w1 * splat(_F(1 / 12))
    return w0 * splat(_F(1 / 4)), s + t, s - t, u + v, u - v, w2


@device
def _weight_back_4(u0, u1, u2, u3, u4, u5):
    """Gᵀ u: the adjoint of ``_weight_4``."""
    sixth = splat(_F(1 / 6))
    a, b, c, d = u1 + u2, u1 - u2, u3 + u4, u3 - u4
    first = fma(u0, splat(_F(1 / 4)), fma(c, splat(_F(1 / 24)), splat(_F(0)) - a * sixth))
    return first, fma(d, splat(_F(1 / 12)), splat(_F(0)) - b * sixth), fma(sixth, c - a, u5)


# -- 2-D transforms of one tile --------------------------------------------------------------------
# ``channels`` is a multiple of WIDTH; *_step are bytes between the entries of the transformed tile.


@device
def input_tile_4(source, row, pixel, channels, work, target, step):
    """target[6i + j] = (Bᵀ d B)[i, j] for the 6 × 6 pixels at ``source``."""
    for c in range(0, 4 * channels, BYTES):
        for j in range(6):
            p, q = source + j * pixel + c, work + j * BYTES
            t = _input_4(load(p), load(p + row), load(p + 2 * row), load(p + 3 * row),
                         load(p + 4 * row), load(p + 5 * row))  # fmt: skip
            put_6(q, 6 * BYTES, t)
        for i in range(6):
            q, to = work + 6 * i * BYTES, target + 6 * i * step + c
            t = _input_4(load(q), load(q + BYTES), load(q + 2 * BYTES), load(q + 3 * BYTES),
                         load(q + 4 * BYTES), load(q + 5 * BYTES))  # fmt: skip
            put_6(to, step, t)


@device
def _finish(place, value, old, bias, relu):
    """Store an output with what the epilogue asks for."""
    if old:
        value = value + load(place)
    if bias:
        value = value + load(bias)
    if relu:
        value = vmax(splat(_F(0)), value)
    store(place, value)


@device
def output_tile_4(source, step, channels, work, target, row, pixel, old, bias, relu):
    """The 4 × 4 pixels at ``target`` = Aᵀ M A (+ old values) (+ bias), for M at source[6i + j]."""
    for c in range(0, 4 * channels, BYTES):
        for i in range(4):
            for j in range(4):
                prefetch(target + i * row + j * pixel + c)
        for j in range(6):
            p, q = source + j * step + c, work + j * BYTES
            t = _output_4(load(p), load(p + 6 * step), load(p + 12 * step), load(p + 18 * step),
                          load(p + 24 * step), load(p + 30 * step))  # fmt: skip
            put_4(q, 6 * BYTES, t)
        for i in range(4):
            q, to = work + 6 * i * BYTES, target + i * row + c
            t = _output_4(load(q), load(q + BYTES), load(q + 2 * BYTES), load(q + 3 * BYTES),
                          load(q + 4 * BYTES), load(q + 5 * BYTES))  # fmt: skip
            extra = bias + c if bias else 0
            _finish(to, t[0], old, extra, relu)
            _finish(to + pixel, t[1], old, extra, relu)
            _finish(to + 2 * pixel, t[2], old, extra, relu)
            _finish(to + 3 * pixel, t[3], old, extra, relu)


@device
def gradient_tile_4(source, row, pixel, channels, work, target, step):
    """target[6i + j] = (A g Aᵀ)[i, j] for the 4 × 4 pixels at ``source``."""
    for c in range(0, 4 * channels, BYTES):
        for j in range(4):
            p, q = source + j * pixel + c, work + j * BYTES
            t = _gradient_4(load(p), load(p + row), load(p + 2 * row), load(p + 3 * row))
            put_6(q, 4 * BYTES, t)
        for i in range(6):
            q, to = work + 4 * i * BYTES, target + 6 * i * step + c
            t = _gradient_4(load(q), load(q + BYTES), load(q + 2 * BYTES), load(q + 3 * BYTES))
            put_6(to, step, t)


@device
def weight_tile_4(source, work, target, step):
    """target[6i + j] = (G g Gᵀ)[i, j] for the 3 × 3 vectors at ``source``."""
    for j in range(3):
        p, q = source + j * BYTES, work + j * BYTES
        t = _weight_4(load(p), load(p + 3 * BYTES), load(p + 6 * BYTES))
        put_6(q, 3 * BYTES, t)
    for i in range(6):
        q = work + 3 * i * BYTES
        t = _weight_4(load(q), load(q + BYTES), load(q + 2 * BYTES))
        put_6(target + 6 * i * step, step, t)


@device
def weight_back_tile_4(source, step, work, target):
    """The 3 × 3 vectors at ``target`` = Gᵀ U G for U at source[6i + j]."""
    for j in range(6):
        p, q = source + j * step, work + j * BYTES
        t = _weight_back_4(load(p), load(p + 6 * step), load(p + 12 * step), load(p + 18 * step),
                           load(p + 24 * step), load(p + 30 * step))  # fmt: skip
        put_3(q, 6 * BYTES, t)
    for i in range(3):
        q = work + 6 * i * BYTES
        t = _weight_back_4(load(q), load(q + BYTES), load(q + 2 * BYTES), load(q + 3 * BYTES),
                           load(q + 4 * BYTES), load(q + 5 * BYTES))  # fmt: skip
        put_3(target + 3 * i * BYTES, BYTES, t)


F4 = SimpleNamespace(
    m=4,
    input=input_tile_4,
    output=output_tile_4,
    gradient=gradient_tile_4,
    weight=weight_tile_4,
    weight_back=weight_back_tile_4,
)
