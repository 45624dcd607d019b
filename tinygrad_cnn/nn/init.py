"""Initial values: each function fills a tensor in place, without recording, and returns it.

The random ones draw from the engine's counter-based generator, so a seed gives the same weights on
every backend. Fans of a weight (O, I, J…): fan_in = I·J…, fan_out = O·J…
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backend import load_backend
from ..dtypes import float64
from ..random import Generator, normal_array, uniform_array
from ..tensor import Tensor

_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
_GAINS |= {f"conv{t}{n}d": 1.0 for t in ("", "_transpose") for n in (1, 2, 3)}


class _Drawing(threading.local):
    """Whether random initialisers of this thread draw numbers."""

    on: bool = True


_drawing = _Drawing()


@contextmanager
def skip() -> Iterator[None]:
    """``with nn.init.skip():`` random initialisers leave their tensor as it is and draw nothing.

    For a network whose weights are loaded afterwards, or of which only the shape is of interest:
    layers made inside hold zeros where random numbers belong, which takes no time and, until they
    are written, no memory.
    """
    before, _drawing.on = _drawing.on, False
    try:
        yield
    finally:
        _drawing.on = before


def _fill(t: Tensor, values: Any) -> Tensor:
    t.backend.assign(t.array, values)
    t._version_list()[0] += 1
    return t


def _fill_from_host(t: Tensor, values: np.ndarray[Any, Any]) -> Tensor:
    return _fill(t, t.backend.asarray(values, t.dtype))


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform on [a, b)."""
    if not _drawing.on:
        return tensor
    k = tensor.backend
    u = uniform_array(k, tensor.shape, tensor.dtype, generator)
    return _fill(tensor, k.add(k.multiply(u, b - a), a))


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with the given mean and standard deviation."""
    if not _drawing.on:
        return tensor
    k = tensor.backend
    z = normal_array(k, tensor.shape, tensor.dtype, generator)
    return _fill(tensor, k.add(k.multiply(z, std), mean))


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Normal conditioned on a ≤ x ≤ b.

    Inverts the distribution function: p uniform on [Φ(a'), Φ(b')], x = mean + std·Φ⁻¹(p), a' = (a −
    mean)/std, found by bisection of [a', b'] in float64. Raises ValueError unless a < b and std >
    0.
    """
    if not (a < b and std > 0):
        raise ValueError(
            f"trunc_normal_: expected a < b and std > 0, received a={a}, b={b}, std={std}"
        )
    if not _drawing.on:
        return tensor
    host = load_backend("numpy")

    def phi(z: Any) -> Any:
        return 0.5 * (1.0 + host.erf(np.asarray(z, np.float64) / math.sqrt(2)))

    # beyond ±9 standard deviations Φ is 0 or 1 in float64
    low = np.full(tensor.shape, np.clip((a - mean) / std, -9.0, 9.0))
    high = np.full(tensor.shape, np.clip((b - mean) / std, -9.0, 9.0))
    p = phi(low) + uniform_array(host, tensor.shape, float64, generator) * (phi(high) - phi(low))
    for _ in range(56):
        middle = 0.5 * (low + high)
        below = phi(middle) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return _fill_from_host(tensor, np.clip(mean + std * 0.5 * (low + high), a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """The same number everywhere."""
    return _fill(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return _fill(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return _fill(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, of any two sizes. Raises ValueError unless there are 2 dimensions."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected 2 dimensions, received shape {tensor.shape}")
    return _fill_from_host(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution weight that passes its channels through: in each group 1 at the centre, o = c.

    Raises ValueError unless there are 3 to 5 dimensions and ``groups`` divides the first.
    """
    shape = tensor.shape
    if tensor.ndim not in (3, 4, 5) or shape[0] % groups:
        raise ValueError(
            f"dirac_: expected 3 to 5 dimensions, the first divisible by groups={groups}, "
            f"received shape {shape}"
        )
    values = np.zeros(shape)
    centre = tuple(size // 2 for size in shape[2:])
    outputs = shape[0] // groups
    for group in range(groups):
        for i in range(min(outputs, shape[1])):
            values[(group * outputs + i, i, *centre)] = 1.0
    return _fill_from_host(tensor, values)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """gain·Q with orthonormal rows or columns (whichever are fewer) of the (size(0), rest) matrix.

    Q is the QR factor of a normal matrix, with the signs of diag(R) divided out so that it is
    uniformly distributed. Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear
    dynamics of learning in deep linear neural networks", 2014. Raises ValueError below 2
    dimensions.
    """
    if tensor.ndim < 2:
        raise ValueError(
            f"orthogonal_: expected at least 2 dimensions, received shape {tensor.shape}"
        )
    if not _drawing.on:
        return tensor
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    z = normal_array(
        load_backend("numpy"), (max(rows, columns), min(rows, columns)), float64, generator
    )
    q, r = np.linalg.qr(z)
    q = q * np.sign(np.diagonal(r))
    return _fill_from_host(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation that keeps the signal's scale through a non-linearity.

    ``param`` is the negative slope of ``leaky_relu`` (0.01). Raises ValueError for an unknown name.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        known = ", ".join([*_GAINS, "leaky_relu"])
        raise ValueError(f"calculate_gain: expected one of {known}, received {nonlinearity!r}")
    return _GAINS[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight. Raises ValueError below 2 dimensions."""
    if tensor.ndim < 2:
        raise ValueError(
            f"fan in and fan out need at least 2 dimensions, received shape {tensor.shape}"
        )
    taps = math.prod(tensor.shape[2:])
    return tensor.shape[1] * taps, tensor.shape[0] * taps


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'mode: expected "fan_in" or "fan_out", received {mode!r}')
    return fans(tensor)[mode == "fan_out"]


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform on ±gain·sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.
    """
    bound = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain·sqrt(2 / (fan_in + fan_out)), as ``xavier_uniform_``."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Uniform on ±gain·sqrt(3 / fan).

    Source: He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015.
    """
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Normal with standard deviation gain / sqrt(fan); source as ``kaiming_uniform_``."""
    return normal_(
        tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator
    )


def weight_and_bias_(weight: Tensor, bias: Tensor | None) -> None:
    """The default of Linear and the convolutions: both uniform on ±1/sqrt(fan_in of ``weight``)."""
    if weight.array.size:
        kaiming_uniform_(weight, math.sqrt(5))
        if bias is not None:
            bound = 1 / math.sqrt(fans(weight)[0])
            uniform_(bias, -bound, bound)
