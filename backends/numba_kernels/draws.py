"""Random numbers: the draws of backends/philox.py, bit for bit, by vectors and on all threads.

A block's four words depend on its number alone, so chunks of blocks are independent. The compiler
turns the loops over blocks and over elements into vector code; without ``fastmath`` it neither
reorders nor contracts float64 arithmetic, so that the normal numbers are the reference's too.

A normal number needs a logarithm only in the tails, 15 % of all. As in the reference, the centre's
formula runs over all elements, and the tails, gathered into a run of their own, are mended after.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape
from tinygrad_cnn.philox import KEY_STEPS, MULTIPLIERS

from ..philox import ATANH, CENTRE, FAR, LN2_HIGH, LN2_LOW, NEAR, SQRT2_BITS
from .access import (
    bits64_of,
    float64_of,
    get64,
    put32,
    put64,
    puti32,
    read64,
    readi64,
    write64,
    writei64,
)
from .memory import empty
from .runtime import address, device, kernel, max_workers

BLOCKS = 1024  # of four words: a chunk
STAGE = 2 * BLOCKS  # normal numbers of a chunk, two words each
SCRATCH = 8 * 3 * STAGE  # bytes a worker: fractions, tails, and which elements they are

u8 = np.uint64
_LOW, _HALF = u8(0xFFFFFFFF), u8(32)
_M0, _M1 = (u8(m) for m in MULTIPLIERS)
_STEP0, _STEP1 = (u8(k) for k in KEY_STEPS)
_UNIT24, _UNIT53 = np.float32(2.0**-24), 2.0**-53


@device(inline=True)
def _block(counter, key):
    """The four words of one block; see tinygrad_cnn/philox.py."""
    c0, c1, c2, c3 = counter & _LOW, counter >> _HALF, u8(0), u8(0)
    k0, k1 = key & _LOW, key >> _HALF
    for _ in range(10):
        product0, product1 = c0 * _M0, c2 * _M1
        c0, c1 = (product1 >> _HALF) ^ c1 ^ k0, product1 & _LOW
        c2, c3 = (product0 >> _HALF) ^ c3 ^ k1, product0 & _LOW
        k0, k1 = (k0 + _STEP0) & _LOW, (k1 + _STEP1) & _LOW
    return c0, c1, c2, c3


@kernel
def words(chunk, worker, out, blocks, seed, offset):
    """The words themselves, as int32."""
    first = chunk * BLOCKS
    start, key, to = u8(offset) + u8(first), u8(seed), out + 16 * first
    for b in range(min(BLOCKS, blocks - first)):
        c0, c1, c2, c3 = _block(start + u8(b), key)
        puti32(to, 4 * b, np.int32(c0))
        puti32(to, 4 * b + 1, np.int32(c1))
        puti32(to, 4 * b + 2, np.int32(c2))
        puti32(to, 4 * b + 3, np.int32(c3))


@device(inline=True)
def _fraction24(word):
    return np.float32(np.int32(word >> u8(8))) * _UNIT24


@kernel
def uniform32(chunk, worker, out, blocks, seed, offset):
    """(word >> 8)·2⁻²⁴ in float32."""
    first = chunk * BLOCKS
    start, key, to = u8(offset) + u8(first), u8(seed), out + 16 * first
    for b in range(min(BLOCKS, blocks - first)):
        c0, c1, c2, c3 = _block(start + u8(b), key)
        put32(to, 4 * b, _fraction24(c0))
        put32(to, 4 * b + 1, _fraction24(c1))
        put32(to, 4 * b + 2, _fraction24(c2))
        put32(to, 4 * b + 3, _fraction24(c3))


@device(inline=True)
def _integer53(high, low):
    return np.int64((high << u8(21)) | (low >> u8(11)))


@kernel
def uniform64(chunk, worker, out, blocks, seed, offset):
    """The upper 53 bits of two words, ·2⁻⁵³, in float64."""
    first = chunk * BLOCKS
    start, key, to = u8(offset) + u8(first), u8(seed), out + 16 * first
    for b in range(min(BLOCKS, blocks - first)):
        c0, c1, c2, c3 = _block(start + u8(b), key)
        put64(to, 2 * b, np.float64(_integer53(c0, c1)) * _UNIT53)
        put64(to, 2 * b + 1, np.float64(_integer53(c2, c3)) * _UNIT53)


# -- normal numbers --------------------------------------------------------------------------------
def _polynomial(coefficients: tuple[float, ...]) -> Any:
    """x ↦ c[0] + x·(c[1] + x·(c[2] + …)), from the innermost bracket outwards."""
    last, rest = coefficients[-1], coefficients[-2::-1]

    @device(inline=True)
    def evaluate(x):
        total = last
        for c in rest:
            total = total * x + c
        return total

    return evaluate


_centre, _near, _far = ((_polynomial(a), _polynomial(b)) for a, b in (CENTRE, NEAR, FAR))
_centre_top, _centre_bottom = _centre
_near_top, _near_bottom = _near
_far_top, _far_bottom = _far
_atanh = _polynomial(ATANH)


@device(inline=True)
def _log(x):
    """log x for normal positive float64, as in the reference."""
    bits = bits64_of(x)
    mantissa = (bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000
    above = np.int64(mantissa >= SQRT2_BITS)
    e = np.float64((bits >> 52) - 1023 + above)
    m = float64_of(mantissa - (above << 52))
    s = (m - 1.0) / (m + 1.0)
    series = 2.0 * s * _atanh(s * s)
    return e * LN2_HIGH + (e * LN2_LOW + series)


@device(inline=True)
def _signed_tail(k):
    """p = min(u, 1 − u), negative where u > 1/2, for u = (k + 1/2)·2⁻⁵³."""
    upper = k >= 2**52
    p = (np.float64(2**53 - 1 - k if upper else k) + 0.5) * _UNIT53
    return -p if upper else p


@device
def _tails(fractions, tails, places, count):
    """Φ⁻¹ of the fractions below 0.075, and where they belong; returns how many there are."""
    found = 0
    for i in range(count):
        p = abs(read64(fractions, i))
        writei64(places, found, i)
        write64(tails, found, p)
        found += 1 if p - 0.5 < -0.425 else 0
    for i in range(found):
        r = np.sqrt(-_log(read64(tails, i)))
        x = r - 1.6 if r <= 5.0 else r - 5.0
        top = _near_top(x) if r <= 5.0 else _far_top(x)
        bottom = _near_bottom(x) if r <= 5.0 else _far_bottom(x)
        write64(tails, i, -(top / bottom))
    return found


@device
def _stage(chunk, blocks, seed, offset, fractions):
    """Signed tails of a chunk's elements; returns how many."""
    first = chunk * BLOCKS
    start, key, count = u8(offset) + u8(first), u8(seed), min(BLOCKS, blocks - first)
    for b in range(count):
        c0, c1, c2, c3 = _block(start + u8(b), key)
        write64(fractions, 2 * b, _signed_tail(_integer53(c0, c1)))
        write64(fractions, 2 * b + 1, _signed_tail(_integer53(c2, c3)))
    return 2 * count


def _normal_kernel(put: Any, size: int, name: str) -> Any:
    """The kernel for one dtype."""

    @kernel(name=name)
    def normal(chunk, worker, out, blocks, seed, offset, scratch):
        """Φ⁻¹(u), u = (k + 1/2)·2⁻⁵³."""
        fractions = scratch + worker * SCRATCH
        tails, places = fractions + 8 * STAGE, fractions + 16 * STAGE
        count, to = _stage(chunk, blocks, seed, offset, fractions), out + chunk * STAGE * size
        for i in range(count):
            signed = get64(fractions, i)
            q = abs(signed) - 0.5
            x = 0.180625 - q * q
            z = q * (_centre_top(x) / _centre_bottom(x))
            put(to, i, -z if signed < 0 else z)
        for i in range(_tails(fractions, tails, places, count)):
            at, z = readi64(places, i), read64(tails, i)
            put(to, at, -z if get64(fractions, at) < 0 else z)

    return normal


@device(inline=True)
def _round32(p, i, v):
    put32(p, i, np.float32(v))


normal32 = _normal_kernel(_round32, 4, "normal32")
normal64 = _normal_kernel(put64, 8, "normal64")


# -- what the backend calls ------------------------------------------------------------------------
def _signed(n: int) -> int:
    """n modulo 2⁶⁴ as the int64 of the same bits."""
    n %= 2**64
    return n - 2**64 if n >= 2**63 else n


def _draw(
    run: Any, per_block: int, shape: Shape, dtype: Any, seed: int, offset: int, *scratch: int
) -> Any:
    """An array of what a kernel draws, ``per_block`` elements a block; the last may be cut."""
    count = math.prod(shape)
    blocks = -(-count // per_block)
    whole = blocks * per_block == count
    out = empty(shape if whole else (blocks * per_block,), dtype)
    run(-(-blocks // BLOCKS), address(out), blocks, _signed(seed), _signed(offset), *scratch)
    return out if whole else out[:count].reshape(shape)


def random_bits(count: int, seed: int, offset: int) -> Any:
    """``count`` uint32 words."""
    return _draw(words, 4, (count,), np.uint32, seed, offset)


def random_uniform(shape: Shape, dtype: Any, seed: int, offset: int) -> Any:
    """Uniform on [0, 1) in float32 or float64; None for other dtypes."""
    if dtype == np.float32:
        return _draw(uniform32, 4, shape, dtype, seed, offset)
    return _draw(uniform64, 2, shape, dtype, seed, offset) if dtype == np.float64 else None


def random_normal(shape: Shape, dtype: Any, seed: int, offset: int) -> Any:
    """Standard normal in float32 or float64; None for other dtypes."""
    if dtype not in (np.float32, np.float64):
        return None
    run = normal32 if dtype == np.float32 else normal64
    scratch = empty((max_workers() * SCRATCH // 8,), np.float64)
    return _draw(run, 2, shape, dtype, seed, offset, address(scratch))
