"""Reductions over all dimensions or over ``dim``, with ``keepdim``; arguments and conventions are
PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import dtypes
from ..backend import Array, Backend
from ..geometry import Shape, normalize_axes, normalize_axis
from ..tensor import Op, Tensor
from .elementwise import cast, maximum, minimum, where
from .names import numpy_names
from .unary import _floating
from .views import Expand, Reshape

Dim = int | Sequence[int] | None


class MaxResult(NamedTuple):
    """What max(dim) and min(dim) return."""

    values: Tensor
    indices: Tensor


def _kept(shape: Shape, axes: Shape) -> Shape:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


class Sum(Op):
    """Σ over axes; the derivative repeats the gradient along them."""

    saves_inputs = False

    def __init__(self, axes: Shape, keepdim: bool) -> None:
        self.axes, self.keepdim = axes, keepdim

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.sum(x, self.axes, self.keepdim)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        shape: Shape = self.shapes[0]
        return Expand(shape)(Reshape(_kept(shape, self.axes))(grad))

    def fused_backward(self, kernels: Backend, grad: Array, out: None) -> Array:
        shape: Shape = self.shapes[0]
        return kernels.broadcast_to(kernels.reshape(grad, _kept(shape, self.axes)), shape)


class Mean(Sum):
    """Σ / count over axes of ``count`` cells."""

    def __init__(self, axes: Shape, keepdim: bool, count: int) -> None:
        super().__init__(axes, keepdim)
        self.count = count

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.divide(super().forward(kernels, x), self.count)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return super().backward(grad / self.count, out)

    def fused_backward(self, kernels: Backend, grad: Array, out: None) -> Array:
        return super().fused_backward(kernels, kernels.divide(grad, self.count), out)


class SumOfSquares(Op):
    """Σ x² over axes."""

    def __init__(self, axes: Shape, keepdim: bool) -> None:
        self.axes, self.keepdim = axes, keepdim

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.sum_of_squares(x, self.axes, self.keepdim)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return x * (Reshape(_kept(x.shape, self.axes))(grad) * 2)


class Variance(Op):
    """Σ (x − mean)² / freedom over axes of ``count`` cells; ∂x = 2·(x − mean) / freedom."""

    def __init__(self, axes: Shape, keepdim: bool, count: int, freedom: float) -> None:
        self.axes, self.keepdim, self.count, self.freedom = axes, keepdim, count, freedom

    def forward(self, kernels: Backend, x: Array) -> Array:
        mean = kernels.divide(kernels.sum(x, self.axes, True), self.count)
        centred = kernels.subtract(x, mean)
        total = kernels.sum_of_squares(centred, self.axes, self.keepdim)
        return kernels.divide(total, self.freedom)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        centred = x - Mean(self.axes, True, self.count)(x)
        return centred * (Reshape(_kept(x.shape, self.axes))(grad) * 2 / self.freedom)


class Root(Op):
    """√x with derivative 0 at 0, as norms and standard deviations define it."""

    saves_inputs, saves_output = False, True

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.sqrt(x)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        zero = out.detach() == 0
        return grad * where(zero, 0.0, 0.5 / where(zero, 1.0, out))


class Product(Op):
    """Π over one axis. ∂xᵢ is the product of the others: out/xᵢ, or, where a factor is 0, computed
    without dividing.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.prod(x, (self.axis,), True)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        if not bool((x == 0).any()):
            return grad * (Product(self.axis)(x) / x)
        from .create import eye

        n = x.shape[self.axis]
        rows = Reshape((*x.shape[: self.axis], 1, *x.shape[self.axis :]))(x)
        diagonal = eye(n, dtype=dtypes.bool_, backend=x.backend)
        diagonal = diagonal.reshape(n, n, *(1,) * (x.ndim - self.axis - 1))
        others = Product(self.axis + 1)(where(diagonal, 1.0, rows))
        return grad * Reshape(x.shape)(others)


class Extreme(Op):
    """amax or amin over axes; equal extremes share the gradient evenly."""

    saves_output = True

    def __init__(self, primitive: str, axes: Shape, keepdim: bool) -> None:
        self.primitive, self.axes, self.keepdim = primitive, axes, keepdim

    def forward(self, kernels: Backend, x: Array) -> Array:
        return getattr(kernels, self.primitive)(x, self.axes, self.keepdim)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        (x,) = self.inputs
        shape = _kept(x.shape, self.axes)
        wins = cast(x == Reshape(shape)(out.detach()), x.dtype)
        return Reshape(shape)(grad) * (wins / wins.sum(self.axes or None, keepdim=True))


class Position(Op):
    """argmax, argmin or argsort along one axis: int64, no gradient."""

    def __init__(self, primitive: str, axis: int) -> None:
        self.primitive, self.axis = primitive, axis

    def forward(self, kernels: Backend, x: Array) -> Array:
        return getattr(kernels, self.primitive)(x, self.axis)


class TopPositions(Op):
    """Positions of the k largest or smallest along one axis: int64, no gradient."""

    def __init__(self, k: int, axis: int, largest: bool) -> None:
        self.k, self.axis, self.largest = k, axis, largest

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.argtop(x, self.k, self.axis, self.largest)


class Truth(Op):
    """any or all over axes: bool, no gradient."""

    def __init__(self, primitive: str, axes: Shape, keepdim: bool) -> None:
        self.primitive, self.axes, self.keepdim = primitive, axes, keepdim

    def forward(self, kernels: Backend, x: Array) -> Array:
        return getattr(kernels, self.primitive)(x, self.axes, self.keepdim)


class CumulativeSum(Op):
    """y[j] = Σ_{i ≤ j} x[i]; the derivative sums from the other end."""

    saves_inputs = False

    def __init__(self, axis: int, reverse: bool = False) -> None:
        self.axis, self.reverse = axis, reverse

    def forward(self, kernels: Backend, x: Array) -> Array:
        if not self.reverse:
            return kernels.cumsum(x, self.axis)
        return kernels.copy(
            kernels.flip(kernels.cumsum(kernels.flip(x, (self.axis,)), self.axis), (self.axis,))
        )

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return CumulativeSum(self.axis, not self.reverse)(grad)


def _ready(x: Tensor, dtype: Any) -> Tensor:
    return x if dtype is None else cast(x, dtypes.as_dtype(dtype))


@numpy_names
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ of the elements; integers and booleans give int64. The sum of nothing is 0."""
    return Sum(normalize_axes(dim, input.ndim), keepdim)(_ready(input, dtype))


def _need_float(name: str, x: Tensor) -> None:
    if x.dtype.kind != "f":
        raise TypeError(
            f"{name}: expected a floating point tensor, received {x.dtype}; "
            "convert with .to(float32)"
        )


def _wide_inside(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f(x), in float32 for float16, whose sums may overflow although the result does not."""
    return cast(f(cast(x, dtypes.float32)), dtypes.float16) if x.dtype == dtypes.float16 else f(x)


@numpy_names
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ / count. Raises TypeError for integers; the mean of nothing is NaN."""
    x = _ready(input, dtype)
    _need_float("mean", x)
    axes = normalize_axes(dim, x.ndim)
    count = math.prod(x.shape[a] for a in axes)
    if not count:
        return Sum(axes, keepdim)(x) * math.nan
    return _wide_inside(Mean(axes, keepdim, count), x)


@numpy_names
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Π of the elements; integers give int64."""
    x = _ready(input, dtype)
    if x.dtype.kind in "biu":
        x = cast(x, dtypes.int64)
    if dim is None:
        made = Product(0)(Reshape((x.array.size,))(x))
        return Reshape((1,) * x.ndim if keepdim else ())(made)
    if not x.ndim:
        return x * 1
    axis = normalize_axis(dim, x.ndim)
    made = Product(axis)(x)
    return made if keepdim else Reshape((*x.shape[:axis], *x.shape[axis + 1 :]))(made)


def _nonempty(name: str, x: Tensor, axes: Shape) -> None:
    if 0 in [x.shape[a] for a in axes]:
        raise ValueError(
            f"{name}: the extreme of no elements is not defined (shape {x.shape}, dim {axes})"
        )


@numpy_names
def amax(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest elements; several equal ones share the gradient evenly. NaN if there is one."""
    axes = normalize_axes(dim, input.ndim)
    _nonempty("amax", input, axes)
    return Extreme("max", axes, keepdim)(input)


@numpy_names
def amin(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The smallest elements; several equal ones share the gradient evenly."""
    axes = normalize_axes(dim, input.ndim)
    _nonempty("amin", input, axes)
    return Extreme("min", axes, keepdim)(input)


def _along(name: str, input: Tensor, dim: int, keepdim: bool, primitive: str) -> MaxResult:
    from .index import gather

    axis = normalize_axis(dim, input.ndim)
    if not input.ndim:
        return MaxResult(input * 1, Position(primitive, 0)(Reshape((1,))(input)).reshape(()))
    _nonempty(name, input, (axis,))
    index = Position(primitive, axis)(input.detach())
    kept = Reshape(_kept(input.shape, (axis,)))(index)
    values = gather(input, axis, kept)
    if not keepdim:
        return MaxResult(Reshape(index.shape)(values), index)
    return MaxResult(values, kept)


@numpy_names
def max(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """Without ``dim`` the largest element; with it (values, indices), the gradient going to the
    first maximum; with a tensor, the elementwise ``maximum``."""
    if isinstance(dim, Tensor):
        return maximum(input, dim)
    return amax(input) if dim is None else _along("max", input, dim, keepdim, "argmax")


@numpy_names
def min(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """Without ``dim`` the smallest element; with it (values, indices); with a tensor, the
    elementwise ``minimum``.
    """
    if isinstance(dim, Tensor):
        return minimum(input, dim)
    return amin(input) if dim is None else _along("min", input, dim, keepdim, "argmin")


def _position(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    x = input.detach()
    if dim is None or not x.ndim:
        flat = Reshape((x.array.size,))(x)
        _nonempty(name, flat, (0,))
        return Reshape((1,) * x.ndim if keepdim else ())(Position(name, 0)(flat))
    axis = normalize_axis(dim, x.ndim)
    _nonempty(name, x, (axis,))
    made = Position(name, axis)(x)
    return Reshape(_kept(x.shape, (axis,)))(made) if keepdim else made


@numpy_names
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the first maximum, in the flat tensor or along ``dim``; int64."""
    return _position("argmax", input, dim, keepdim)


@numpy_names
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the first minimum, in the flat tensor or along ``dim``; int64."""
    return _position("argmin", input, dim, keepdim)


@numpy_names
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The order that sorts along ``dim``; equal elements keep their order."""
    x, axis = input.detach(), normalize_axis(dim, input.ndim)
    if not x.ndim:
        return Position("argsort", 0)(Reshape((1,))(x)).reshape(())
    if not descending:
        return Position("argsort", axis)(x)
    backward = Position("argsort", axis)(Flip((axis,))(x))  # last first, so that equals keep order
    return Flip((axis,))(x.shape[axis] - 1 - backward)


@numpy_names
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> MaxResult:
    """(values, indices) in ascending or descending order along ``dim``."""
    from .index import gather

    index = argsort(input, dim, descending)
    return MaxResult(gather(input, dim, index), index)


@numpy_names
def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> MaxResult:
    """The k largest (or smallest) elements along ``dim``, in order, with their positions."""
    axis = normalize_axis(dim, input.ndim)
    limit = input.shape[axis] if input.ndim else 1
    if not 0 <= k <= limit:
        raise ValueError(f"topk: k must lie in [0, {limit}] for dim {dim}, received {k}")
    if not input.ndim:
        return sort(input, axis, descending=largest)
    from .index import gather

    index = TopPositions(k, axis, largest)(input.detach())
    return MaxResult(gather(input, axis, index), index)


@numpy_names
def any(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether at least one element is non-zero; bool (uint8 of uint8)."""
    made = Truth("any", normalize_axes(dim, input.ndim), keepdim)(input)
    return cast(made, dtypes.uint8) if input.dtype == dtypes.uint8 else made


@numpy_names
def all(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether every element is non-zero; bool (uint8 of uint8)."""
    made = Truth("all", normalize_axes(dim, input.ndim), keepdim)(input)
    return cast(made, dtypes.uint8) if input.dtype == dtypes.uint8 else made


@numpy_names
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running sums along ``dim``; integers and booleans give int64."""
    x = _ready(input, dtype)
    if x.dtype.kind in "biu":
        x = cast(x, dtypes.int64)
    return CumulativeSum(normalize_axis(dim, x.ndim))(x) if x.ndim else x * 1


@numpy_names
def logsumexp(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """log Σ eˣ without overflow: m + log Σ e^(x−m), m the (finite) maximum."""
    x = _floating(input)
    axes = normalize_axes(dim, x.ndim)
    if _is_empty(x, axes):
        return x.exp().sum(axes or None, keepdim).log()
    top = amax(x.detach(), axes or None, keepdim=True)
    top = where(top.isfinite(), top, 0.0)
    made = (x - top).exp().sum(axes or None, keepdim=True).log() + top
    return (
        made if keepdim else Reshape(tuple(n for i, n in enumerate(x.shape) if i not in axes))(made)
    )


def _is_empty(x: Tensor, axes: Shape) -> bool:
    return math.prod(x.shape[a] for a in axes) == 0


@numpy_names
def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Σ (x − mean)² / (count − correction); ``correction`` is 1, or 0 with unbiased=False."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    _need_float("var", input)
    less = correction if correction is not None else 0 if unbiased is False else 1
    axes = normalize_axes(dim, input.ndim)
    count = math.prod(input.shape[a] for a in axes)
    if not count:
        return Sum(axes, keepdim)(input) * math.nan
    freedom = count - less if count > less else 0.0
    return _wide_inside(Variance(axes, keepdim, count, freedom), input)


@numpy_names
def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """√var, with derivative 0 where the variance is 0."""
    return Root()(var(input, dim, unbiased, keepdim, correction=correction))


@numpy_names
def norm(input: Tensor, p: float | str = "fro", dim: Dim = None, keepdim: bool = False) -> Tensor:
    """(Σ |x|ᵖ)^(1/p); p may be "fro" (2), ±inf or 0 (count of non-zeros). The derivative at 0 is
    0.
    """
    _need_float("norm", input)
    if isinstance(p, str) and p != "fro":
        raise ValueError(f'norm: p must be a number or "fro", received {p!r}')
    order = 2.0 if p == "fro" else float(p)
    axes = normalize_axes(dim, input.ndim)
    where_ = axes or None
    if order == 2:
        return _wide_inside(lambda x: Root()(SumOfSquares(axes, keepdim)(x)), input)
    if math.isinf(order):
        return (amax if order > 0 else amin)(input.abs(), where_, keepdim)
    if order == 0:
        return cast(input != 0, input.dtype).sum(where_, keepdim)
    if order == 1:
        return input.abs().sum(where_, keepdim)
    none = input.detach() == 0  # their powers have derivative 0, or none, at 0
    powers = where(none, 0.0, where(none, 1.0, input).abs() ** order)
    total = powers.sum(where_, keepdim)
    zero = total.detach() == 0
    return where(zero, 0.0, where(zero, 1.0, total) ** (1 / order))


@numpy_names
def count_nonzero(input: Tensor, dim: Dim = None) -> Tensor:
    """How many elements are not 0; int64."""
    return (input != 0).sum(dim)


def median(input: Tensor) -> Tensor:
    """The middle element (the lower of two)."""
    flat = input.reshape(-1)
    _nonempty("median", flat, (0,))
    return sort(flat).values[(flat.array.size - 1) // 2]


def flip(input: Tensor, dims: int | Sequence[int]) -> Tensor:
    """The elements in reverse order along ``dims``."""
    axes = normalize_axes(dims, input.ndim) if dims != () else ()
    return Flip(axes)(input)


class Flip(Op):
    """Reversal, its own inverse and its own derivative."""

    saves_inputs = False

    def __init__(self, axes: Shape) -> None:
        self.axes = axes

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.copy(kernels.flip(x, self.axes))

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return Flip(self.axes)(grad)
