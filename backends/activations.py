"""Activation functions and their gradients, composed of the backend's elementwise operations.

The tables say what every backend computes: ``VALUES[name](k, x, *settings)`` is y and
``GRADIENTS[name](k, g, x, *settings)`` is g·y′(x), for ``sigmoid`` and ``tanh`` from the result y
in place of x. What happens at the kinks is PyTorch's convention, stated in ``tinygrad_cnn.ops``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tinygrad_cnn.backend import Array, Backend

ROOT_HALF, DENSITY = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
BEND, WIDE = 0.044715, math.sqrt(2 / math.pi)  # of the approximation of GELU by tanh


def _elu(k: Backend, x: Array, alpha: float, scale: float, rate: float) -> Array:
    low = k.multiply(k.expm1(k.multiply(k.minimum(x, 0), rate)), alpha * scale)
    return k.where(k.greater(x, 0), k.multiply(x, scale), low)


def _elu_grad(k: Backend, g: Array, x: Array, alpha: float, scale: float, rate: float) -> Array:
    low = k.multiply(k.exp(k.multiply(k.minimum(x, 0), rate)), alpha * scale * rate)
    return k.where(k.greater(x, 0), k.multiply(g, scale), k.multiply(g, low))


def _silu(k: Backend, x: Array) -> Array:
    return k.multiply(x, k.sigmoid(x))


def _silu_grad(k: Backend, g: Array, x: Array) -> Array:
    s = k.sigmoid(x)
    slope = k.multiply(s, k.add(k.multiply(x, k.subtract(1, s)), 1))
    return k.multiply(g, slope)


def _normal_cdf(k: Backend, x: Array) -> Array:
    return k.multiply(k.add(k.erf(k.multiply(x, ROOT_HALF)), 1), 0.5)


def _gelu(k: Backend, x: Array) -> Array:
    return k.multiply(x, _normal_cdf(k, x))


def _gelu_grad(k: Backend, g: Array, x: Array) -> Array:
    bounded = k.minimum(k.maximum(x, -20), 20)  # the density is 0 there, and x·density as well
    density = k.multiply(k.exp(k.multiply(k.multiply(bounded, bounded), -0.5)), DENSITY)
    return k.multiply(g, k.add(_normal_cdf(k, x), k.multiply(bounded, density)))


def _gelu_bend(k: Backend, x: Array) -> Array:
    """tanh of the approximation."""
    cube = k.multiply(k.multiply(x, x), x)
    return k.tanh(k.multiply(k.add(x, k.multiply(cube, BEND)), WIDE))


def _gelu_tanh(k: Backend, x: Array) -> Array:
    return k.multiply(x, k.multiply(k.add(_gelu_bend(k, x), 1), 0.5))


def _gelu_tanh_grad(k: Backend, g: Array, x: Array) -> Array:
    t = _gelu_bend(k, x)
    bounded = k.minimum(k.maximum(x, -20), 20)  # beyond, 1 − t² is 0
    inner = k.multiply(k.add(k.multiply(k.multiply(bounded, bounded), 3 * BEND), 1), WIDE)
    slope = k.multiply(k.multiply(bounded, k.subtract(1, k.multiply(t, t))), inner)
    return k.multiply(g, k.multiply(k.add(k.add(slope, t), 1), 0.5))


def _softplus(k: Backend, x: Array, beta: float, threshold: float) -> Array:
    z = k.multiply(x, beta)
    curve = k.log1p(k.exp(k.minimum(z, threshold)))
    return k.where(k.greater(z, threshold), x, k.divide(curve, beta))


def _softplus_grad(k: Backend, g: Array, x: Array, beta: float, threshold: float) -> Array:
    z = k.multiply(x, beta)
    return k.where(k.greater(z, threshold), g, k.multiply(g, k.sigmoid(k.minimum(z, threshold))))


def _log_sigmoid(k: Backend, x: Array) -> Array:
    tail = k.log1p(k.exp(k.negative(k.absolute(x))))
    return k.subtract(k.minimum(x, 0), tail)


def _log_sigmoid_grad(k: Backend, g: Array, x: Array) -> Array:
    return k.multiply(g, k.sigmoid(k.negative(x)))


def _hardtanh(k: Backend, x: Array, low: float, high: float) -> Array:
    return k.minimum(k.maximum(x, low), high)


def _hardtanh_grad(k: Backend, g: Array, x: Array, low: float, high: float) -> Array:
    inside = k.logical_and(k.greater(x, low), k.less(x, high))
    return k.where(inside, g, 0.0)


def _clamp_grad(k: Backend, g: Array, x: Array, low: float, high: float) -> Array:
    inside = k.logical_and(k.greater_equal(x, low), k.less_equal(x, high))
    return k.where(inside, g, 0.0)


def _hardswish(k: Backend, x: Array) -> Array:
    ramp = k.minimum(k.maximum(k.add(x, 3), 0), 6)
    return k.divide(k.multiply(x, ramp), 6)


def _hardswish_grad(k: Backend, g: Array, x: Array) -> Array:
    between = k.multiply(g, k.add(k.divide(x, 3), 0.5))
    above = k.where(k.greater_equal(x, 3), g, between)
    return k.where(k.less_equal(x, -3), 0.0, above)


def _hardsigmoid(k: Backend, x: Array) -> Array:
    return k.divide(k.minimum(k.maximum(k.add(x, 3), 0), 6), 6)


def _hardsigmoid_grad(k: Backend, g: Array, x: Array) -> Array:
    inside = k.logical_and(k.greater(x, -3), k.less(x, 3))
    return k.where(inside, k.divide(g, 6), 0.0)


def _softsign(k: Backend, x: Array) -> Array:
    return k.divide(x, k.add(k.absolute(x), 1))


def _softsign_grad(k: Backend, g: Array, x: Array) -> Array:
    root = k.divide(1, k.add(k.absolute(x), 1))
    return k.multiply(k.multiply(g, root), root)


def _sigmoid_grad(k: Backend, g: Array, y: Array) -> Array:
    return k.multiply(k.multiply(g, y), k.subtract(1, y))


def _tanh_grad(k: Backend, g: Array, y: Array) -> Array:
    return k.multiply(g, k.subtract(1, k.multiply(y, y)))


def _absolute_grad(k: Backend, g: Array, x: Array) -> Array:
    return k.multiply(g, k.sign(x))


Formula = Callable[..., Any]
VALUES: dict[str, Formula] = {
    "elu": _elu, "silu": _silu, "gelu": _gelu, "gelu_tanh": _gelu_tanh, "softplus": _softplus,
    "log_sigmoid": _log_sigmoid, "hardtanh": _hardtanh, "hardswish": _hardswish,
    "hardsigmoid": _hardsigmoid, "softsign": _softsign,
}  # fmt: skip
GRADIENTS: dict[str, Formula] = {
    "elu": _elu_grad, "silu": _silu_grad, "gelu": _gelu_grad, "gelu_tanh": _gelu_tanh_grad,
    "softplus": _softplus_grad, "log_sigmoid": _log_sigmoid_grad, "hardtanh": _hardtanh_grad,
    "hardswish": _hardswish_grad, "sigmoid": _sigmoid_grad, "tanh": _tanh_grad,
    "hardsigmoid": _hardsigmoid_grad, "softsign": _softsign_grad,
    "absolute": _absolute_grad, "clamp": _clamp_grad,
}  # fmt: skip
