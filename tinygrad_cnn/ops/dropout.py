"""Dropout: random zeros in training, nothing in evaluation.

The masks come from the counter-based generator in float32, so that they are the same on every
backend and for every dtype. Source: Srivastava et al., "Dropout", 2014.
"""

from __future__ import annotations

import math

from .. import dtypes
from ..geometry import Shape
from ..random import uniform_array
from ..tensor import Tensor
from .activation import SELU_ALPHA, SELU_SCALE
from .checks import tensor_of_floats


def _kept(x: Tensor, p: float, shape: Shape) -> Tensor:
    """1 with probability 1 − p, else 0, in x's dtype: a constant."""
    kernels = x.backend
    drawn = uniform_array(kernels, shape, dtypes.float32)
    return Tensor._wrap(kernels.astype(kernels.greater_equal(drawn, p), x.dtype), kernels)


def _drop(name: str, x: Tensor, p: float, training: bool, inplace: bool, shape: Shape) -> Tensor:
    """x · mask / (1 − p) with one random number for each cell of ``shape``, broadcast over x."""
    if not training or p == 0 or x.array.size == 0:
        return x
    mask = _kept(x, p, shape) * (1 / (1 - p) if p < 1 else 0.0)
    return x.inplace(lambda old: old * mask) if inplace else x * mask


def _check(name: str, x: Tensor, p: float) -> None:
    tensor_of_floats(name, x)
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p must lie in [0, 1], received {p}")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element becomes 0 with probability p, else x/(1 − p), so that the expectation stays x.

    The input itself without ``training``. Raises ValueError unless 0 ≤ p ≤ 1."""
    _check("dropout", input, p)
    return _drop("dropout", input, p, training, inplace, input.shape)


def _drop_channels(name: str, n: int, x: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    _check(name, x, p)
    if x.ndim == n + 2:
        shape = (*x.shape[:2], *(1,) * n)
    elif x.ndim == n + 1:
        shape = (x.shape[0], *(1,) * n)
    else:
        raise ValueError(
            f"{name}: expected {n + 2} dimensions (N, C, …) or {n + 1}, received shape {x.shape}"
        )
    return _drop(name, x, p, training, inplace, shape)


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """``dropout`` of whole channels of (N, C, L) or (C, L)."""
    return _drop_channels("dropout1d", 1, input, p, training, inplace)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """``dropout`` of whole channels of (N, C, H, W) or (C, H, W)."""
    return _drop_channels("dropout2d", 2, input, p, training, inplace)


def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """``dropout`` of whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    return _drop_channels("dropout3d", 3, input, p, training, inplace)


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Dropout for SELU: dropped elements become −scale·alpha; mean 0 and variance 1 are kept.

    y = a·(x·m + α′·(1 − m)) + b,  α′ = −scale·alpha,  a = ((1 − p)·(1 + p·α′²))^(−½),  b = −a·p·α′.
    Source: Klambauer et al., "Self-Normalizing Neural Networks", 2017."""
    _check("alpha_dropout", input, p)
    if not training or p == 0 or input.array.size == 0:
        return input
    if p == 1:
        return input.inplace(lambda old: old * 0) if inplace else input * 0
    low = -SELU_SCALE * SELU_ALPHA
    a = 1 / math.sqrt((1 - p) * (1 + p * low * low))
    mask = _kept(input, p, input.shape)
    shift = (1 - mask) * (a * low) - a * p * low
    if inplace:
        return input.inplace(lambda old: old * (mask * a) + shift)
    return input * (mask * a) + shift
