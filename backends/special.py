"""Special functions that array modules lack."""

from __future__ import annotations

from typing import Any

from tinygrad_cnn.backend import Array

# Coefficients, highest power first, of W. J. Cody, "Rational Chebyshev approximations for the error
# function", Mathematics of Computation 23 (1969).
_SMALL = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
     3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2,
     1.28261652607737228e3, 2.84423683343917062e3),
)  # fmt: skip
_LARGE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
     6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
     1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
     1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
     3.43936767414372164e3, 1.23033935480374942e3),
)  # fmt: skip


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    total = coefficients[0]
    for c in coefficients[1:]:
        total = total * x + c
    return total


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    return _polynomial(coefficients[0], x) / _polynomial(coefficients[1], x)


def erf(xp: Any, x: Array) -> Array:
    """erf(x) = 2/sqrt(π)·∫₀ˣ exp(−t²) dt elementwise, to the round-off of x's dtype.

    Computed in float64: x·R(x²) for |x| ≤ 1/2, else 1 − exp(−x²)·R(|x|), which is 1 from 6 on.
    """
    wide = xp.asarray(x, dtype="float64")
    size = xp.minimum(xp.absolute(wide), 6.0)  # NaN passes through
    small = wide * _ratio(_SMALL, xp.minimum(size * size, 0.25))
    large = 1.0 - xp.exp(-size * size) * _ratio(_LARGE, size)
    return xp.where(size <= 0.5, small, xp.copysign(large, wide)).astype(x.dtype)
