"""Losses of pairs of numbers and their slopes, composed of the backend's elementwise operations.

``VALUES[name](k, x, t, *settings)`` is ℓ(x, t) and ``SLOPES[name]`` are two functions of the same
arguments, ∂ℓ/∂x and ∂ℓ/∂t; the second is None where it is −∂ℓ/∂x, in losses of x − t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_cnn.backend import Array, Backend

LOWEST, NARROWEST = -100.0, 1e-12  # logarithms of probabilities and p·(1 − p) are at least that


def _square(k: Backend, x: Array, t: Array) -> Array:
    d = k.subtract(x, t)
    return k.multiply(d, d)


def _square_slope(k: Backend, x: Array, t: Array) -> Array:
    return k.multiply(k.subtract(x, t), 2)


def _absolute(k: Backend, x: Array, t: Array) -> Array:
    return k.absolute(k.subtract(x, t))


def _absolute_slope(k: Backend, x: Array, t: Array) -> Array:
    return k.sign(k.subtract(x, t))


def _huber(k: Backend, x: Array, t: Array, delta: float) -> Array:
    size = k.absolute(k.subtract(x, t))
    near = k.minimum(size, delta)  # size·near − near²/2 is both formulas, without ∞ − ∞
    return k.multiply(near, k.subtract(size, k.multiply(near, 0.5)))


def _huber_slope(k: Backend, x: Array, t: Array, delta: float) -> Array:
    return k.minimum(k.maximum(k.subtract(x, t), -delta), delta)


def _logistic(k: Backend, x: Array, t: Array) -> Array:
    rest = k.multiply(k.subtract(1, t), x)
    return k.subtract(rest, k.activation("log_sigmoid", x))


def _logistic_slope(k: Backend, x: Array, t: Array) -> Array:
    return k.subtract(k.sigmoid(x), t)


def _logs(k: Backend, x: Array) -> tuple[Array, Array]:
    """log x and log(1 − x), cut."""
    return k.maximum(k.log(x), LOWEST), k.maximum(k.log1p(k.negative(x)), LOWEST)


def _binary(k: Backend, x: Array, t: Array) -> Array:
    log_x, log_rest = _logs(k, x)
    return k.subtract(k.multiply(k.subtract(t, 1), log_rest), k.multiply(t, log_x))


def _binary_slope(k: Backend, x: Array, t: Array) -> Array:
    spread = k.maximum(k.multiply(k.subtract(1, x), x), NARROWEST)
    return k.divide(k.subtract(x, t), spread)


def _binary_target_slope(k: Backend, x: Array, t: Array) -> Array:
    log_x, log_rest = _logs(k, x)
    return k.subtract(log_rest, log_x)


def _divergence(k: Backend, x: Array, t: Array) -> Array:
    safe = k.where(k.greater(t, 0), t, 1.0)
    return k.subtract(k.multiply(t, k.log(safe)), k.multiply(t, x))


def _divergence_target_slope(k: Backend, x: Array, t: Array) -> Array:
    positive = k.greater(t, 0)
    entropy = k.add(k.log(k.where(positive, t, 1.0)), 1)
    return k.subtract(k.where(positive, entropy, 0.0), x)


Formula = Callable[..., Any]
VALUES: dict[str, Formula] = {
    "square": _square, "absolute": _absolute, "huber": _huber, "logistic": _logistic,
    "binary": _binary, "divergence": _divergence,
}  # fmt: skip
SLOPES: dict[str, tuple[Formula, Formula | None]] = {
    "square": (_square_slope, None),
    "absolute": (_absolute_slope, None),
    "huber": (_huber_slope, None),
    "logistic": (_logistic_slope, lambda k, x, t: k.negative(x)),
    "binary": (_binary_slope, _binary_target_slope),
    "divergence": (lambda k, x, t: k.negative(t), _divergence_target_slope),
}
