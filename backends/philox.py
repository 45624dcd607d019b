"""Counter-based random numbers: Philox 4x32-10, and the draws made from its words.

A draw is a pure function of (seed, offset, position), so it does not depend on threads, chunking or
machine. Every backend must give the same bits; what follows therefore uses integer operations and
the correctly rounded +, −, ·, / and sqrt of IEEE 754 only. A compiled version must switch off
contraction into fused multiply-add (CUDA: ``--fmad=false``; no ``fastmath``) and keep the order of
operations written here.

How many words an element takes, counted from the first word of block ``offset``:

    uniform float16, float32   1 word  (word e)
    uniform float64, normal    2 words (words 2e and 2e+1)

so no draw of n elements reads more than ceil(2n / 4) blocks of four words, which is what a
generator advances its offset by.

Sources: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011;
Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37
(1988).
"""

from __future__ import annotations

import math
from typing import Any

from tinygrad_cnn.backend import Array, DType
from tinygrad_cnn.geometry import Shape
from tinygrad_cnn.philox import philox

_LOW = 0xFFFFFFFF


def random_bits(xp: Any, count: int, seed: int, offset: int) -> Array:
    """``count`` uint32 words: block b (b = 0, 1, …) is philox of counter offset + b, key ``seed``.

    Both are taken modulo 2^64 and split into (low, high) words; the upper counter words are 0.
    """
    blocks = -(-count // 4)
    counter = xp.arange(blocks, dtype="uint64") + xp.uint64(offset % 2**64)
    zero = xp.zeros_like(counter)
    words = (counter & xp.uint64(_LOW), counter >> xp.uint64(32), zero, zero)
    out = xp.empty((blocks, 4), dtype="uint32")
    for i, word in enumerate(philox(xp, words, (seed & _LOW, (seed >> 32) & _LOW))):
        out[:, i] = word
    return out.reshape(-1)[:count]


def random_uniform(xp: Any, shape: Shape, dtype: DType, seed: int, offset: int) -> Array:
    """Uniform on [0, 1), on an even grid that the dtype holds exactly.

    float32: (word >> 8)·2^−24;  float16: (word >> 21)·2^−11 (the float32 value cut, not rounded, as
    rounding would reach 1);  float64: the upper 53 bits of two words, ·2^−53.
    """
    count, dtype = math.prod(shape), xp.dtype(dtype)
    if dtype.itemsize == 8:
        integers, bits = _integers53(xp, count, seed, offset), 53
    else:
        bits = 24 if dtype.itemsize == 4 else 11
        integers = random_bits(xp, count, seed, offset) >> xp.uint32(32 - bits)
    return (integers.astype("float64") * 2.0**-bits).astype(dtype).reshape(shape)


def random_normal(xp: Any, shape: Shape, dtype: DType, seed: int, offset: int) -> Array:
    """Standard normal Φ⁻¹(u), u = (k + 1/2)·2^−53 with k made of 53 bits; float64, then rounded.

    u itself would need 54 bits, so the smaller tail p = min(u, 1 − u) and a sign carry it exactly.
    """
    k = _integers53(xp, math.prod(shape), seed, offset)
    upper = k >= xp.uint64(2**52)
    tail = xp.where(upper, xp.uint64(2**53 - 1) - k, k)
    z = _normal_quantile(xp, (tail.astype("float64") + 0.5) * 2.0**-53)
    return xp.where(upper, -z, z).astype(dtype).reshape(shape)


def _integers53(xp: Any, count: int, seed: int, offset: int) -> Array:
    """53-bit integers: the upper bits of (word 2e, word 2e+1) read as one 64-bit number."""
    words = random_bits(xp, 2 * count, seed, offset).astype("uint64")
    return ((words[0::2] << xp.uint64(32)) | words[1::2]) >> xp.uint64(11)


# Numerators and denominators of AS 241's PPND16, constant term first: the centre |u − 1/2| ≤ 0.425
# in 0.180625 − q², the near tail in r − 1.6 and the far tail in r − 5, with r = sqrt(−log p).
CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
     3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2,
     5.3941960214247511077e3, 2.1213794301586595867e4, 3.9307895800092710610e4,
     2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
NEAR = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
     3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
     2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0,
     6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2,
     5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
FAR = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
     2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
     2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1,
     1.48753612908506148525e-2, 7.86869131145613259100e-4, 1.84631831751005468180e-5,
     1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip


def _normal_quantile(xp: Any, p: Array) -> Array:
    """Φ⁻¹(p) for 0 < p < 1/2 in float64 (so the result is negative), by AS 241."""
    q = p - 0.5
    z = q * _rational(CENTRE, 0.180625 - q * q)
    outside = xp.flatnonzero(q < -0.425)
    r = xp.sqrt(-_log(xp, p[outside]))
    z[outside] = xp.where(r <= 5.0, -_rational(NEAR, r - 1.6), -_rational(FAR, r - 5.0))
    return z


def _rational(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    numerator, denominator = (_horner(c, x) for c in coefficients)
    return numerator / denominator


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    """c[0] + x·(c[1] + x·(c[2] + …)), from the innermost bracket outwards."""
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


SQRT2_BITS = 0x3FF6A09E667F3BCD
LN2_HIGH, LN2_LOW = (
    0.6931471803691238,
    1.9082149292705877e-10,
)  # high: 33 bits, so e·high is exact
ATANH = tuple(1.0 / (2 * n + 1) for n in range(12))  # atanh(s) = s·Σ s^2n / (2n+1)


def _log(xp: Any, x: Array) -> Array:
    """log x for normal positive float64: x = m·2^e with m in [sqrt(1/2), sqrt 2), and
    log x = e·log 2 + 2·atanh((m − 1)/(m + 1)); |s| ≤ 0.172, so twelve terms reach round-off."""
    bits = x.view("int64")
    one = 0x3FF0000000000000
    mantissa = (bits & 0x000FFFFFFFFFFFFF) | one
    above = (mantissa >= SQRT2_BITS).astype("int64")
    e = ((bits >> 52) - 1023 + above).astype("float64")
    m = (mantissa - (above << 52)).view("float64")
    s = (m - 1.0) / (m + 1.0)
    series = 2.0 * s * _horner(ATANH, s * s)
    return e * LN2_HIGH + (e * LN2_LOW + series)
