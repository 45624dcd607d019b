"""Activation functions and their gradients in one pass: ``backends/activations.py`` says what they
are.

Composed of elementwise operations, GELU and its gradient read and write an array fifteen times; and
on small arrays, every one of those is a call. Here each is one function of one element, which LLVM
turns into vector code, for float32 arrays of any size and any dense memory order. The second table
has the slopes y′, of x, or of y for sigmoid and tanh; a gradient is g·y′, and exactly 0 or g where
the slope is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ..activations import BEND, DENSITY, ROOT_HALF, WIDE
from .access import get32, put32
from .memory import empty
from .order import dense_strides, order
from .polynomials import erf32, exp32, expm1_32, log1p32, sigmoid32, tanh32
from .runtime import Kernel, address, device, kernel_of

f4 = np.float32
_FLOAT32 = np.dtype(f4)
CHUNK = 8192
SMALL = 4096  # elements below which the calling thread does it
ZERO, ONE, HALF = f4(0), f4(1), f4(0.5)
_ROOT_HALF, _DENSITY, _BEND, _WIDE = f4(ROOT_HALF), f4(DENSITY), f4(BEND), f4(WIDE)
_THREE_BEND, _THIRD, _SIX, _SIXTH = f4(3 * BEND), f4(1 / 3), f4(6), f4(1 / 6)


@device(inline=True)
def _between(x, low, high):
    """x, or the limit that it passes; NaN stays NaN."""
    x = low if x < low else x
    return high if x > high else x


@device(fastmath={"contract"}, inline=True)
def _cdf(x):
    return (erf32(x * _ROOT_HALF) + ONE) * HALF


@device(fastmath={"contract"}, inline=True)
def _bend(x):
    return tanh32((x + x * x * x * _BEND) * _WIDE)


@device(fastmath={"contract"}, inline=True)
def _gelu_slope(x, a, b, c):
    v = _between(x, f4(-20), f4(20))
    return _cdf(x) + v * (exp32(v * v * f4(-0.5)) * _DENSITY)


@device(fastmath={"contract"}, inline=True)
def _gelu_tanh_slope(x, a, b, c):
    v = _between(x, f4(-20), f4(20))
    t = _bend(v)
    inner = (v * v * _THREE_BEND + ONE) * _WIDE
    return (v * (ONE - t * t) * inner + t + ONE) * HALF


@device(inline=True)
def _softplus(x, beta, threshold, c):
    z = x * beta
    return x if z > threshold else log1p32(exp32(threshold if z > threshold else z)) / beta


@device(inline=True)
def _silu_slope(x, a, b, c):
    s = sigmoid32(x)
    return s * (x * (ONE - s) + ONE)


@device(inline=True)
def _softsign_slope(x, a, b, c):
    root = ONE / (abs(x) + ONE)
    return root * root


def _inlined(table: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    return {name: device(f, inline=True) for name, f in table.items()}


# Of x and up to three settings.
VALUES = {
    "gelu": device(lambda x, a, b, c: x * _cdf(x), inline=True),
    "softplus": _softplus,
} | _inlined({
    "elu": lambda x, a, s, r: x * s if x > ZERO else expm1_32(x * r) * (a * s),
    "silu": lambda x, a, b, c: x * sigmoid32(x),
    "gelu_tanh": lambda x, a, b, c: x * ((_bend(x) + ONE) * HALF),
    "log_sigmoid": lambda x, a, b, c: (ZERO if x > ZERO else x) - log1p32(exp32(-abs(x))),
    "hardtanh": lambda x, low, high, c: _between(x, low, high),
    "sigmoid": lambda x, a, b, c: sigmoid32(x),
    "erf": lambda x, a, b, c: erf32(x),
    "hardswish": lambda x, a, b, c: x * _between(x + f4(3), ZERO, _SIX) / _SIX,
    "hardsigmoid": lambda x, a, b, c: _between(x + f4(3), ZERO, _SIX) / _SIX,
    "softsign": lambda x, a, b, c: x / (abs(x) + ONE),
})  # fmt: skip
SLOPES = {
    "gelu": _gelu_slope,
    "gelu_tanh": _gelu_tanh_slope,
    "silu": _silu_slope,
    "softsign": _softsign_slope,
} | _inlined({
    "elu": lambda x, a, s, r: s if x > ZERO else exp32((ZERO if x > ZERO else x) * r) * (a * s * r),
    "softplus": lambda x, b, t, c: ONE if x * b > t else sigmoid32(x * b),
    "log_sigmoid": lambda x, a, b, c: sigmoid32(-x),
    "hardtanh": lambda x, low, high, c: ONE if (x > low) & (x < high) else ZERO,
    "clamp": lambda x, low, high, c: ONE if (x >= low) & (x <= high) else ZERO,
    "hardswish": lambda x, a, b, c: (
        ZERO if x <= f4(-3) else (ONE if x >= f4(3) else x * _THIRD + HALF)
    ),
    "hardsigmoid": lambda x, a, b, c: _SIXTH if (x > f4(-3)) & (x < f4(3)) else ZERO,
    "absolute": lambda x, a, b, c: ONE if x > ZERO else (-ONE if x < ZERO else x),
    "sigmoid": lambda y, a, b, c: y * (ONE - y),
    "tanh": lambda y, a, b, c: ONE - y * y,
})  # fmt: skip


@cache
def value_kernel(name: str) -> Kernel:
    """y[i] = f(x[i])."""
    f = VALUES[name]

    def run(chunk, worker, x, y, settings, n):
        a, b, c = get32(settings, 0), get32(settings, 1), get32(settings, 2)
        for i in range(chunk * CHUNK, min(n, (chunk + 1) * CHUNK)):
            put32(y, i, f(get32(x, i), a, b, c))

    return kernel_of(run, name, False)


@cache
def gradient_kernel(name: str, moves: bool) -> Kernel:
    """z[i] = g[i]·f′(x[i]), 0 where the slope is 0 even if g is infinite; a g that does not move is
    one number, as the gradient of a mean is."""
    slope = SLOPES[name]

    def run(chunk, worker, g, x, z, settings, n):
        a, b, c = get32(settings, 0), get32(settings, 1), get32(settings, 2)
        for i in range(chunk * CHUNK, min(n, (chunk + 1) * CHUNK)):
            s = slope(get32(x, i), a, b, c)
            put32(z, i, ZERO if s == ZERO else get32(g, i if moves else 0) * s)

    return kernel_of(run, f"{name}_gradient{int(moves)}", False)


@lru_cache(256)
def settings_of(values: tuple[float, ...]) -> Any:
    return np.array((*values, 0, 0, 0)[:3], f4)


def _run(kernel: Kernel, n: int, *arguments: int) -> None:
    (kernel.serial if n < SMALL else kernel)(-(-n // CHUNK), *arguments, n)


def value(name: str, x: Any, settings: tuple[float, ...]) -> Any:
    """f(x), or None for what is not dense float32."""
    axes = order(x.shape, x.strides, 4) if x.dtype == _FLOAT32 else None
    if axes is None:
        return None
    y = empty(x.shape, _FLOAT32, dense_strides(x.shape, axes, 4))
    _run(value_kernel(name), x.size, address(x), address(y), address(settings_of(settings)))
    return y


def gradient(name: str, g: Any, x: Any, settings: tuple[float, ...]) -> Any:
    """g·f′(x), or None for what is not dense float32; g in another order is copied first."""
    axes = order(x.shape, x.strides, 4) if x.dtype == _FLOAT32 == g.dtype else None
    if axes is None:
        return None
    z = empty(x.shape, _FLOAT32, dense_strides(x.shape, axes, 4))
    moves = any(g.strides)
    if moves and order(g.shape, g.strides, 4) != axes:
        np.copyto(z, g)
        g = z
    places = (address(g), address(x), address(z), address(settings_of(settings)))
    _run(gradient_kernel(name, moves), x.size, *places)
    return z
