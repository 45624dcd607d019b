"""Winograd's transforms: F(4×4, 3×3) and F(4×4, 2×2).

A stride-1 convolution of an r×r kernel g with an (m+r−1)×(m+r−1) input tile d gives an m×m output
tile

    y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A,

⊙ being the product of corresponding entries. For m = 4 and r = 3 that takes 36 multiplications
instead of 144, for r = 2 25 instead of 64; over all channels each of the entries is a small matrix
product, so the tuned micro-kernel does them. The matrices come from evaluating polynomials at the
points 0, ±1, ±2, ∞ (r = 3) and 0, ±1, 2, ∞ (r = 2). Rounding grows with the points: about 1e-5 of
the output's standard deviation, 1e-6 for direct convolution.
Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.

The transforms below work on WIDTH channels at once: each 1-D transform is a few additions and
multiply-adds of registers, run first down the columns of the tile, then along its rows; the values
in between wait in ``work``, a piece of memory that never leaves the first-level cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .lanes import put, take
from .runtime import device
from .simd import BYTES, fma, load, prefetch, splat, store, vmax

_F = np.float32


# -- 1-D transforms of the vectors at p, p + s, …, for r = 3 ---------------------------------------


@device(inline=True)
def _input_3(p, s):
    """Bᵀ d."""
    d0, d1, d2, d3, d4, d5 = take(p, s, 6)
    two, four, five = splat(_F(2)), splat(_F(4)), splat(_F(5))
    a, b = d4 - four * d2, d3 - four * d1
    c, e = d4 - d2, two * (d3 - d1)
    first = fma(four, d0, d4 - five * d2)
    return first, a + b, a - b, c + e, c - e, fma(four, d1, d5 - five * d3)


@device(inline=True)
def _output_3(p, s):
    """Aᵀ y."""
    y0, y1, y2, y3, y4, y5 = take(p, s, 6)
    two, four, eight = splat(_F(2)), splat(_F(4)), splat(_F(8))
    a, b, c, d = y1 + y2, y1 - y2, y3 + y4, y3 - y4
    return y0 + a + c, fma(two, d, b), fma(four, c, a), fma(eight, d, b) + y5


@device(inline=True)
def _gradient_3(p, s):
    """A g: the adjoint of ``_output_3``."""
    g0, g1, g2, g3 = take(p, s, 4)
    two, four, eight = splat(_F(2)), splat(_F(4)), splat(_F(8))
    a, b = g0 + g2, g1 + g3
    c, d = fma(four, g2, g0), fma(eight, g3, two * g1)
    return g0, a + b, a - b, c + d, c - d, g3


@device(inline=True)
def _weight_3(p, s):
    """G w."""
    w0, w1, w2 = take(p, s, 3)
    a, b = splat(_F(-1 / 6)) * (w0 + w2), splat(_F(-1 / 6)) * w1
    u = fma(w0, splat(_F(1 / 24)), w2 * splat(_F(1 / 6)))
    v = w1 * splat(_F(1 / 12))
    return w0 * splat(_F(1 / 4)), a + b, a - b, u + v, u - v, w2


@device(inline=True)
def _weight_back_3(p, s):
    """Gᵀ u: the adjoint of ``_weight_3``."""
    u0, u1, u2, u3, u4, u5 = take(p, s, 6)
    sixth = splat(_F(1 / 6))
    a, b, c, d = u1 + u2, u1 - u2, u3 + u4, u3 - u4
    first = fma(u0, splat(_F(1 / 4)), fma(c, splat(_F(1 / 24)), splat(_F(0)) - a * sixth))
    return first, fma(d, splat(_F(1 / 12)), splat(_F(0)) - b * sixth), fma(sixth, c - a, u5)


# -- the same for r = 2 ----------------------------------------------------------------------------


@device(inline=True)
def _input_2(p, s):
    """Bᵀ d."""
    d0, d1, d2, d3, d4 = take(p, s, 5)
    two, a, b, c = splat(_F(2)), d3 - d1, d3 - d2, d2 - d1
    return fma(two, d0 - d2, a), fma(two, splat(_F(0)) - d1, b), fma(two, splat(_F(0)) - c, b), a, \
        fma(two, splat(_F(0)) - a, d4 - d2)  # fmt: skip


@device(inline=True)
def _output_2(p, s):
    """Aᵀ y."""
    y0, y1, y2, y3, y4 = take(p, s, 5)
    a, b = y1 + y2, y1 - y2
    return y0 + a + y3, fma(splat(_F(2)), y3, b), fma(splat(_F(4)), y3, a), \
        fma(splat(_F(8)), y3, b) + y4  # fmt: skip


@device(inline=True)
def _gradient_2(p, s):
    """A g: the adjoint of ``_output_2``."""
    g0, g1, g2, g3 = take(p, s, 4)
    a, b = g0 + g2, g1 + g3
    last = fma(splat(_F(4)), g2, fma(splat(_F(8)), g3, fma(splat(_F(2)), g1, g0)))
    return g0, a + b, a - b, last, g3


@device(inline=True)
def _weight_2(p, s):
    """G w."""
    w0, w1 = take(p, s, 2)
    half, sixth = splat(_F(1 / 2)), splat(_F(1 / 6))
    return half * w0, splat(_F(-1 / 2)) * (w0 + w1), sixth * (w1 - w0), \
        sixth * fma(splat(_F(2)), w1, w0), w1  # fmt: skip


@device(inline=True)
def _weight_back_2(p, s):
    """Gᵀ u: the adjoint of ``_weight_2``."""
    u0, u1, u2, u3, u4 = take(p, s, 5)
    half, sixth = splat(_F(1 / 2)), splat(_F(1 / 6))
    first = fma(half, u0 - u1, sixth * (u3 - u2))
    return first, fma(sixth, fma(splat(_F(2)), u3, u2), u4 - half * u1)


# -- 2-D transforms of one tile --------------------------------------------------------------------


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


class Transforms(NamedTuple):
    """F(4×4, r×r): ``size`` = r + 3 rows and columns of an input tile, and the functions of
    ``_tiles``."""

    r: int
    size: int
    entries: int
    input: Any
    output: Any
    gradient: Any
    weight: Any
    weight_back: Any


def _tiles(r: int, lines: Any) -> Transforms:
    """The transforms of F(4×4, r×r) from its five 1-D transforms ``lines``.

    ``channels`` is a multiple of WIDTH; ``step`` bytes lie between the entries of the transformed
    tile, of which number size·i + j is the one of row i and column j.
    """
    size = r + 3
    input_line, output_line, gradient_line, weight_line, weight_back_line = lines

    @device
    def input_tile(source, row, pixel, channels, work, target, step):
        """target = Bᵀ d B for the size × size pixels at ``source``."""
        for c in range(0, 4 * channels, BYTES):
            for j in range(size):
                put(work + j * BYTES, size * BYTES, input_line(source + j * pixel + c, row))
            for i in range(size):
                t = input_line(work + size * i * BYTES, BYTES)
                put(target + size * i * step + c, step, t)

    @device
    def output_tile(source, step, channels, work, target, row, pixel, old, bias, relu):
        """The 4 × 4 pixels at ``target`` = Aᵀ M A (+ old values) (+ bias), for M at ``source``."""
        for c in range(0, 4 * channels, BYTES):
            for i in range(4):
                for j in range(4):
                    prefetch(target + i * row + j * pixel + c)
            for j in range(size):
                t = output_line(source + j * step + c, size * step)
                put(work + j * BYTES, size * BYTES, t)
            for i in range(4):
                to = target + i * row + c
                t = output_line(work + size * i * BYTES, BYTES)
                extra = bias + c if bias else 0
                _finish(to, t[0], old, extra, relu)
                _finish(to + pixel, t[1], old, extra, relu)
                _finish(to + 2 * pixel, t[2], old, extra, relu)
                _finish(to + 3 * pixel, t[3], old, extra, relu)

    @device
    def gradient_tile(source, row, pixel, channels, work, target, step):
        """target = A g Aᵀ for the 4 × 4 pixels at ``source``."""
        for c in range(0, 4 * channels, BYTES):
            for j in range(4):
                put(work + j * BYTES, 4 * BYTES, gradient_line(source + j * pixel + c, row))
            for i in range(size):
                t = gradient_line(work + 4 * i * BYTES, BYTES)
                put(target + size * i * step + c, step, t)

    @device
    def weight_tile(source, work, target, step):
        """target = G g Gᵀ for the r × r vectors at ``source``."""
        for j in range(r):
            put(work + j * BYTES, r * BYTES, weight_line(source + j * BYTES, r * BYTES))
        for i in range(size):
            put(target + size * i * step, step, weight_line(work + r * i * BYTES, BYTES))

    @device
    def weight_back_tile(source, step, work, target):
        """The r × r vectors at ``target`` = Gᵀ U G for U at ``source``."""
        for j in range(size):
            put(work + j * BYTES, size * BYTES, weight_back_line(source + j * step, size * step))
        for i in range(r):
            t = weight_back_line(work + size * i * BYTES, BYTES)
            put(target + r * i * BYTES, BYTES, t)

    return Transforms(
        r=r,
        size=size,
        entries=size * size,
        input=input_tile,
        output=output_tile,
        gradient=gradient_tile,
        weight=weight_tile,
        weight_back=weight_back_tile,
    )


M = 4  # rows and columns of an output tile
F3 = _tiles(3, (_input_3, _output_3, _gradient_3, _weight_3, _weight_back_3))
F2 = _tiles(2, (_input_2, _output_2, _gradient_2, _weight_2, _weight_back_2))
