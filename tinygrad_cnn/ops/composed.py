"""Functions known from PyTorch and NumPy that are a line of other operations.

Their derivatives, of every order, follow from those operations.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence

import numpy as np

from ..dtypes import bool_, int64
from ..geometry import normalize_axis
from ..tensor import Tensor
from .create import eye
from .elementwise import Operand, add, cast, isnan, mul, where
from .index import Pad, cat, stack, unbind
from .index import diagonal as diagonal_of
from .linalg import _dims, matmul
from .names import numpy_names
from .unary import ceil, cos, floor, log, sin
from .views import Reshape, Select


# -- of every element ------------------------------------------------------------------------------
def log2(input: Tensor) -> Tensor:
    """log x / log 2: −∞ at 0, NaN below."""
    return log(input) / math.log(2)


def log10(input: Tensor) -> Tensor:
    """log x / log 10: −∞ at 0, NaN below."""
    return log(input) / math.log(10)


def tan(input: Tensor) -> Tensor:
    """Tangent of radians: sin x / cos x."""
    return sin(input) / cos(input)


def trunc(input: Tensor) -> Tensor:
    """The integer part: rounded towards 0; the derivative is 0. Raises TypeError for booleans."""
    if input.dtype == bool_:
        raise TypeError("trunc: not defined for booleans; convert with .to(int64)")
    if input.dtype.kind != "f":
        return input.clone()
    return where(input < 0, ceil(input), floor(input))


def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """``nan`` in place of NaN, ``posinf`` of ∞, ``neginf`` of −∞ (None: the largest and the
    smallest number of the dtype); the derivative is 0 there.
    """
    if input.dtype.kind != "f":
        return input.clone()
    limits = np.finfo(input.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    made = where(isnan(input), nan, input)
    return where(input == math.inf, high, where(input == -math.inf, low, made))


def lerp(input: Tensor, end: Tensor, weight: Operand) -> Tensor:
    """input + weight·(end − input), broadcast: from input at weight 0 to end at 1."""
    return add(input, mul(end - input, weight))


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value·tensor1·tensor2, broadcast."""
    return add(input, tensor1 * tensor2, alpha=value)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value·tensor1 / tensor2, broadcast."""
    return add(input, tensor1 / tensor2, alpha=value)


# -- along a dimension -----------------------------------------------------------------------------
@numpy_names
def cumprod(input: Tensor, dim: int) -> Tensor:
    """Running products along ``dim``: y[j] = Π_{i ≤ j} x[i]; one multiplication a step. Integers
    and booleans give int64."""
    axis = normalize_axis(dim, input.ndim)
    x = cast(input, int64) if input.dtype.kind in "biu" else input
    if not x.array.size or not x.ndim:
        return x * 1
    return stack(list(itertools.accumulate(unbind(x, axis), operator.mul)), axis)


# -- joining and cutting ---------------------------------------------------------------------------
def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Side by side: ``cat`` along dimension 1, vectors and numbers along dimension 0."""
    found = [Reshape((1,))(t) if not t.ndim else t for t in tensors]
    return cat(found, 1 if found and found[0].ndim > 1 else 0)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """One below the other: ``cat`` along dimension 0, vectors and numbers being rows."""
    return cat([Reshape((1, t.array.size))(t) if t.ndim < 2 else t for t in tensors])


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A view of ``length`` slices of ``dim`` from ``start`` on.

    Raises ValueError beyond the end."""
    axis = normalize_axis(dim, input.ndim)
    n = input.shape[axis] if input.ndim else 0
    first = start + n if start < 0 else start
    if length < 0 or not 0 <= first <= first + length <= n:
        raise ValueError(f"narrow: {length} slices from {start} do not fit dimension {dim} of {n}")
    return Select((*(slice(None),) * axis, slice(first, first + length)))(input)


def ravel(input: Tensor) -> Tensor:
    """All elements as a vector."""
    return Reshape((input.array.size,))(input)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with this vector on diagonal number ``diagonal``.

    Raises ValueError for other ranks."""
    if input.ndim == 2:
        return diagonal_of(input, diagonal)
    if input.ndim != 1:
        raise ValueError(f"diag: expected a vector or a matrix, received shape {input.shape}")
    square = where(eye(input.shape[0], dtype=bool_, backend=input.backend), input, False)
    above, below = max(diagonal, 0), max(-diagonal, 0)
    return Pad(((below, above), (above, below)))(square)


# -- products --------------------------------------------------------------------------------------
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """(M, K) @ (K): a matrix times a vector."""
    _dims("mv", 2, input)
    _dims("mv", 1, vec)
    return matmul(input, vec)
