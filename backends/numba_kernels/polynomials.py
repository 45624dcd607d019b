"""exp, log, tanh, sigmoid and erf of one float32, in additions, multiplications, selections and bit
shifts only.

LLVM turns loops over them into vector code. Each is a polynomial on a short interval (minimax fits,
by Lawson's iteration in float64) and exact steps that lead there. Largest error against float64, in
units in the last place (ulp) of the true value, over a dense sweep of all magnitudes
(tests/test_numba_runtime.py measures it again): exp 1.1, log 0.9, tanh 1.4, sigmoid 2.4, erf 1.2.
NaN stays NaN, infinities give the limits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .access import bits_of, float_of
from .runtime import device
from .simd import fma, power_of_two, round_even, select_gt, splat, vmax

f4, i4 = np.float32, np.int32

_LOG2E = f4(1.4426950408889634)
_LN2_HIGH = f4(0.693359375)  # nine bits: n·this is exact
_LN2_LOW = f4(0.6931471805599453 - 0.693359375)
_ROUND = f4(1.5 * 2**23)  # adding and subtracting it rounds to the nearest whole number
_TINY = f4(2.0**-126)  # the smallest normal float32
_E = [f4(v) for v in (0.5000000095700852, 0.16666518306017727, 0.04166620413883467,
                      0.008368953512662319, 0.0013950602284090916)]  # fmt: skip
_E0, _E1, _E2, _E3, _E4 = _E


@device(fastmath={"contract"}, inline=True)
def exp32(x: Any) -> Any:
    """2ⁿ · exp(r) with n = round(x / ln 2), |r| ≤ ln(2)/2 and exp(r) = 1 + r + r²·q(r).

    2ⁿ is multiplied in as two factors: n may leave the range of one exponent field.
    """
    clamped = f4(-104) if x < f4(-104) else x
    clamped = f4(89) if clamped > f4(89) else clamped
    n = (clamped * _LOG2E + _ROUND) - _ROUND
    r = (clamped - n * _LN2_HIGH) - n * _LN2_LOW
    q = _E0 + r * (_E1 + r * (_E2 + r * (_E3 + r * _E4)))
    value = f4(1) + (r + r * r * q)
    whole = i4(n) if n == n else i4(0)
    half = i4(whole >> i4(1))
    first = float_of(i4((half + i4(127)) << i4(23)))
    second = float_of(i4((whole - half + i4(127)) << i4(23)))
    return value * first * second


@device
def vexp(v: Any) -> Any:
    """exp of a vector of ``simd`` for v ≤ 88; results below the smallest normal number are 0."""
    lowest = splat(f4(-87.3))
    x = vmax(lowest, v)
    n = round_even(x * splat(_LOG2E))
    r = fma(n, splat(-_LN2_LOW), fma(n, splat(-_LN2_HIGH), x))
    q = fma(r, fma(r, fma(r, fma(r, splat(_E4), splat(_E3)), splat(_E2)), splat(_E1)), splat(_E0))
    value = splat(f4(1)) + fma(r * r, q, r)
    return select_gt(lowest, v, splat(f4(0)), value * power_of_two(n))


_T0, _T1, _T2, _T3, _T4 = (f4(v) for v in (
    -0.333332839252957, 0.13331491286946845, -0.053743498063914576,
    0.020650587217953244, -0.005717044954026903))  # fmt: skip


@device(fastmath={"contract"}, inline=True)
def tanh32(x: Any) -> Any:
    """x + x³·p(x²) for |x| < 0.625, else ±(1 − 2 / (exp(2|x|) + 1))."""
    size = abs(x)
    u = x * x
    small = x + x * u * (_T0 + u * (_T1 + u * (_T2 + u * (_T3 + u * _T4))))
    bounded = f4(10) if size > f4(10) else size
    large = f4(1) - f4(2) / (exp32(bounded + bounded) + f4(1))
    large = -large if x < f4(0) else large
    return small if size < f4(0.625) else large


@device(fastmath={"contract"}, inline=True)
def sigmoid32(x: Any) -> Any:
    """1 / (1 + e) for x ≥ 0, e / (1 + e) below, with e = exp(−|x|): nothing overflows."""
    e = exp32(-abs(x))
    return (e if x < f4(0) else f4(1)) / (f4(1) + e)


_S0, _S1, _S2, _S3, _S4, _S5, _S6 = (f4(v) for v in (
    0.12837916591376763, -0.37612627136085214, 0.11283600177661739, -0.02685444465215539,
    0.005189535456001515, -0.0008020842320010071, 7.889123008028077e-05))  # fmt: skip
_L0, _L1, _L2, _L3, _L4, _L5, _L6 = (f4(v) for v in (
    0.00034152287, 1.12708919, 0.63814483, 0.10310676,
    -0.02183806, 0.00294766, -0.00018637921))  # fmt: skip


@device(fastmath={"contract"}, inline=True)
def erf32(x: Any) -> Any:
    """x + x·p(x²) for |x| < 1, else ±(1 − exp(−g(|x|))), g a fit of −log(1 − erf)."""
    size = abs(x)
    u = x * x
    small = x + x * (_S0 + u * (_S1 + u * (_S2 + u * (_S3 + u * (_S4 + u * (_S5 + u * _S6))))))
    b = f4(3.95) if size > f4(3.95) else size
    g = _L0 + b * (_L1 + b * (_L2 + b * (_L3 + b * (_L4 + b * (_L5 + b * _L6)))))
    large = f4(1) - exp32(-g)
    large = -large if x < f4(0) else large
    return small if size < f4(1) else large


_G0, _G1, _G2, _G3, _G4, _G5, _G6, _G7 = (f4(v) for v in (
    0.3333331672572615, -0.2500081040386964, 0.20002286285511464, -0.16624554093716723,
    0.1418119170672677, -0.13128754087405808,
    0.12881648884135538, -0.07859615153090668))  # fmt: skip
_NAN, _INF = f4(np.nan), f4(np.inf)


@device(fastmath={"contract"}, inline=True)
def log32(x: Any) -> Any:
    """e·ln 2 + log(1 + f), x = 2ᵉ·(1 + f), √½ ≤ 1 + f < √2; log(1 + f) = f − f²/2 + f³·q(f)."""
    scaled = x * f4(2.0**23) if x < _TINY else x
    offset = f4(-23) if x < _TINY else f4(0)
    shifted = i4(bits_of(scaled) - i4(0x3F3504F3))  # counted from √½
    exponent = i4(shifted >> i4(23))
    f = float_of(i4((shifted & i4(0x7FFFFF)) + i4(0x3F3504F3))) - f4(1)
    e = f4(exponent) + offset
    q = _G0 + f * (_G1 + f * (_G2 + f * (_G3 + f * (_G4 + f * (_G5 + f * (_G6 + f * _G7))))))
    tail = e * _LN2_LOW + (f * f * (f * q - f4(0.5)))
    value = e * _LN2_HIGH + (f + tail)
    value = value if x > f4(0) else (-_INF if x == f4(0) else _NAN)
    return value if x < _INF else x  # +inf and NaN stay what they are


@device(fastmath={"contract"}, inline=True)
def expm1_32(x: Any) -> Any:
    """exp(x) − 1: by the polynomial alone where |x| < ⅓, so that small results keep digits."""
    q = _E0 + x * (_E1 + x * (_E2 + x * (_E3 + x * _E4)))
    return x + x * x * q if abs(x) < f4(1 / 3) else exp32(x) - f4(1)


@device(fastmath=set(), inline=True)
def log1p32(x: Any) -> Any:
    """log(1 + x) for x ≥ 0: log(u)·x/(u − 1) with u = 1 + x rounded, which undoes the rounding."""
    u = f4(1) + x
    rounded = u - f4(1)
    return x if rounded == f4(0) else (log32(u) * (x / rounded) if u < _INF else u)
