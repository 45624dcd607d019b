"""Losses of pairs of numbers in one pass: ``backends/losses.py`` says what they are.

Composed of elementwise operations, the mean squared error reads and writes six arrays; here two are
read, and only a loss an element or the gradient is written. Sums are taken in float32 over runs of
``RUN`` pairs, by vectors, and of those in float64 in order: the bits do not depend on the number of
threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..losses import LOWEST, NARROWEST
from .access import get32, put32, put64
from .activation import CHUNK, SMALL, settings_of
from .memory import empty
from .operands import common_order, ordered
from .order import dense_strides, order
from .polynomials import exp32, log1p32, log32, sigmoid32
from .runtime import Kernel, address, device, kernel_of

f4 = np.float32
_FLOAT32 = np.dtype(f4)
RUN = 4096  # pairs summed in float32 at most
ZERO, ONE, TWO, HALF = f4(0), f4(1), f4(2), f4(0.5)
_LOWEST, _NARROWEST = f4(LOWEST), f4(NARROWEST)


@device(inline=True)
def _at_least(v, low):
    """NaN stays NaN."""
    return low if v < low else v


@device(inline=True)
def _log(x):
    return _at_least(log32(x), _LOWEST)


@device(inline=True)
def _log_of_rest(x):
    return _at_least(log1p32(-x), _LOWEST)


@device(inline=True)
def _huber(x, t, delta):
    size = abs(x - t)
    near = delta if size > delta else size
    return near * (size - HALF * near)


@device(inline=True)
def _huber_slope(x, t, delta):
    d = _at_least(x - t, -delta)
    return delta if d > delta else d


@device(inline=True)
def _absolute_slope(x, t, a):
    d = x - t
    return ONE if d > ZERO else (-ONE if d < ZERO else d)


@device(inline=True)
def _logistic(x, t, a):
    """(1 − t)·x − log σ(x)."""
    tail = log1p32(exp32(-abs(x)))
    return (ONE - t) * x - ((ZERO if x > ZERO else x) - tail)


def _inlined(table: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    return {name: device(f, inline=True) for name, f in table.items()}


VALUES = {"huber": _huber, "logistic": _logistic} | _inlined({
    "square": lambda x, t, a: (x - t) * (x - t),
    "absolute": lambda x, t, a: abs(x - t),
    "binary": lambda x, t, a: (t - ONE) * _log_of_rest(x) - t * _log(x),
    "divergence": lambda x, t, a: t * log32(t if t > ZERO else ONE) - t * x,
})  # fmt: skip
SLOPES = {"huber": _huber_slope, "absolute": _absolute_slope} | _inlined({
    "square": lambda x, t, a: TWO * (x - t),
    "logistic": lambda x, t, a: sigmoid32(x) - t,
    "binary": lambda x, t, a: (x - t) / _at_least((ONE - x) * x, _NARROWEST),
    "divergence": lambda x, t, a: -t,
})  # fmt: skip
TARGET_SLOPES = _inlined({  # of the others, −∂ℓ/∂x
    "logistic": lambda x, t, a: -x,
    "binary": lambda x, t, a: _log_of_rest(x) - _log(x),
    "divergence": lambda x, t, a: (log32(t) + ONE if t > ZERO else ZERO) - x,
})  # fmt: skip


@cache
def value_kernel(name: str) -> Kernel:
    """y[i] = ℓ(x[i], t[i])."""
    f = VALUES[name]

    def run(chunk, worker, x, t, y, settings, n):
        a = get32(settings, 0)
        for i in range(chunk * CHUNK, min(n, (chunk + 1) * CHUNK)):
            put32(y, i, f(get32(x, i), get32(t, i), a))

    return kernel_of(run, name, False)


@cache
def total_kernel(name: str) -> Kernel:
    """partial[chunk] = Σ ℓ(x[i], t[i]) of its pairs."""
    f = VALUES[name]

    @device(fastmath={"reassoc"})
    def total_of(x, t, count, a):
        total = ZERO
        for i in range(count):
            total += f(get32(x, i), get32(t, i), a)
        return total

    def run(chunk, worker, x, t, partial, settings, n):
        a, total, end = get32(settings, 0), 0.0, min(n, (chunk + 1) * CHUNK)
        for at in range(chunk * CHUNK, end, RUN):
            total += float(total_of(x + 4 * at, t + 4 * at, min(RUN, end - at), a))
        put64(partial, chunk, total)

    return kernel_of(run, f"{name}_total", False)


@cache
def gradient_kernel(name: str, of_target: bool, moves: bool) -> Kernel:
    """z[i] = g[i]·∂ℓ(x[i], t[i]); a g that does not move is one number, as the gradient of a mean
    is."""
    negative = of_target and name not in TARGET_SLOPES
    slope = TARGET_SLOPES[name] if of_target and not negative else SLOPES[name]

    def run(chunk, worker, g, x, t, z, settings, n):
        a = get32(settings, 0)
        for i in range(chunk * CHUNK, min(n, (chunk + 1) * CHUNK)):
            v = get32(g, i if moves else 0) * slope(get32(x, i), get32(t, i), a)
            put32(z, i, -v if negative else v)

    return kernel_of(run, f"{name}_gradient{int(of_target)}{int(moves)}", False)


def _run(kernel: Kernel, n: int, *arguments: int) -> None:
    (kernel.serial if n < SMALL else kernel)(-(-n // CHUNK), *arguments, n)


def _pair(x: Any, t: Any) -> tuple[Any, Any, Any]:
    """x and t in one memory order, and that order; Nones for what the kernels do not take."""
    if x.dtype != _FLOAT32 or t.dtype != _FLOAT32 or x.shape != t.shape or not x.size:
        return None, None, None
    axes = order(x.shape, x.strides, 4)
    if axes is not None and x.strides == t.strides:
        return x, t, axes
    axes = common_order(x, t)
    return ordered(x, axes), ordered(t, axes), axes


def values(name: str, x: Any, t: Any, settings: tuple[float, ...]) -> Any:
    """ℓ(x, t), or None where it is to be composed."""
    x, t, axes = _pair(x, t)
    if x is None or t is None:
        return None
    y = empty(x.shape, _FLOAT32, dense_strides(x.shape, axes, 4))
    places = map(address, (x, t, y, settings_of(settings)))
    _run(value_kernel(name), x.size, *places)
    return y


def total(name: str, x: Any, t: Any, settings: tuple[float, ...]) -> Any:
    """Σ ℓ(x, t), 0-d, or None."""
    x, t, _ = _pair(x, t)
    if x is None or t is None:
        return None
    partial = np.empty(-(-x.size // CHUNK))
    places = map(address, (x, t, partial, settings_of(settings)))
    _run(total_kernel(name), x.size, *places)
    return np.array(partial.sum() if partial.size > 1 else partial[0], f4)


def gradients(
    name: str, g: Any, x: Any, t: Any, needs: Sequence[bool], settings: tuple[float, ...]
) -> Any:
    """(g·∂ℓ/∂x, g·∂ℓ/∂t), None for what is not needed; or None."""
    x, t, axes = _pair(x, t)
    moves = any(g.strides)
    g = ordered(g, axes) if moves and x is not None else g
    if x is None or t is None or g is None or g.dtype != _FLOAT32:
        return None
    found: list[Any] = [None, None]
    for i in range(2):
        if needs[i]:
            found[i] = empty(x.shape, _FLOAT32, dense_strides(x.shape, axes, 4))
            places = map(address, (g, x, t, found[i], settings_of(settings)))
            _run(gradient_kernel(name, bool(i), moves), x.size, *places)
    return tuple(found)
