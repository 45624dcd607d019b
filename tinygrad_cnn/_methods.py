"""Operators and methods of Tensor: each is one call to the function of the same name in ``ops``.

They live apart so that ``tensor.py`` holds only what a graph needs.
"""

# mypy: disable-error-code="arg-type, override"
# (a mixin cannot say that self is always a Tensor, and comparisons return tensors instead of bool)

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import tinygrad_cnn.ops as ops
from tinygrad_cnn.ops.names import numpy_names

if TYPE_CHECKING:
    from .tensor import Tensor


def _one(arguments: tuple[Any, ...]) -> Any:
    """The sequence meant by ``x.f(2, 3)`` and by ``x.f((2, 3))``."""
    return arguments[0] if len(arguments) == 1 else arguments


class TensorMethods:
    """What a tensor can do; see the functions in ``ops`` for the mathematics."""

    if TYPE_CHECKING:
        array: Any
        backend: Any
        shape: Any
        ndim: Any
        dtype: Any
        requires_grad: bool

        def inplace(self, function: Any, *args: Any, **kwargs: Any) -> Self: ...
        def detach(self) -> Tensor: ...

    # -- operators -----------------------------------------------------------------------------
    def __add__(self, other: Any) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return ops.add(other, self)

    def __iadd__(self, other: Any) -> Self:
        return self.inplace(ops.add, other)

    def __sub__(self, other: Any) -> Tensor:
        return ops.sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.sub(other, self)

    def __isub__(self, other: Any) -> Self:
        return self.inplace(ops.sub, other)

    def __mul__(self, other: Any) -> Tensor:
        return ops.mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return ops.mul(other, self)

    def __imul__(self, other: Any) -> Self:
        return self.inplace(ops.mul, other)

    def __truediv__(self, other: Any) -> Tensor:
        return ops.div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.div(other, self)

    def __itruediv__(self, other: Any) -> Self:
        return self.inplace(ops.div, other)

    def __floordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(other, self)

    def __ifloordiv__(self, other: Any) -> Self:
        return self.inplace(ops.floor_divide, other)

    def __mod__(self, other: Any) -> Tensor:
        return ops.remainder(self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return ops.remainder(other, self)

    def __imod__(self, other: Any) -> Self:
        return self.inplace(ops.remainder, other)

    def __pow__(self, other: Any) -> Tensor:
        return ops.power(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.power(other, self)

    def __ipow__(self, other: Any) -> Self:
        return self.inplace(ops.power, other)

    def __matmul__(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __eq__(self, other: Any) -> Tensor:
        return NotImplemented if other is None else ops.eq(self, other)

    def __ne__(self, other: Any) -> Tensor:
        return NotImplemented if other is None else ops.ne(self, other)

    def __lt__(self, other: Any) -> Tensor:
        return ops.lt(self, other)

    def __le__(self, other: Any) -> Tensor:
        return ops.le(self, other)

    def __gt__(self, other: Any) -> Tensor:
        return ops.gt(self, other)

    def __ge__(self, other: Any) -> Tensor:
        return ops.ge(self, other)

    def __and__(self, other: Any) -> Tensor:
        return ops.bitwise_and(self, other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Tensor:
        return ops.bitwise_or(self, other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Tensor:
        return ops.bitwise_xor(self, other)

    __rxor__ = __xor__

    def __lshift__(self, other: Any) -> Tensor:
        return ops.bitwise_left_shift(self, other)

    def __rlshift__(self, other: Any) -> Tensor:
        return ops.bitwise_left_shift(other, self)

    def __rshift__(self, other: Any) -> Tensor:
        return ops.bitwise_right_shift(self, other)

    def __rrshift__(self, other: Any) -> Tensor:
        return ops.bitwise_right_shift(other, self)

    def __invert__(self) -> Tensor:
        return ops.bitwise_not(self)

    def __neg__(self) -> Tensor:
        return ops.neg(self)

    def __pos__(self) -> Tensor:
        return ops.mul(self, 1)

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(ops.unbind(self))

    def __contains__(self, element: Any) -> bool:
        return bool(ops.eq(self, element).any())

    def __setitem__(self, index: Any, value: Any) -> None:
        ops.setitem(self, index, value)

    # -- methods that are functions ---------------------------------------------------------------
    def abs(self) -> Tensor:
        return ops.abs(self)

    def exp(self) -> Tensor:
        return ops.exp(self)

    def expm1(self) -> Tensor:
        return ops.expm1(self)

    def log(self) -> Tensor:
        return ops.log(self)

    def log2(self) -> Tensor:
        return ops.log2(self)

    def log10(self) -> Tensor:
        return ops.log10(self)

    def log1p(self) -> Tensor:
        return ops.log1p(self)

    def sqrt(self) -> Tensor:
        return ops.sqrt(self)

    def rsqrt(self) -> Tensor:
        return ops.rsqrt(self)

    def square(self) -> Tensor:
        return ops.square(self)

    def reciprocal(self) -> Tensor:
        return ops.reciprocal(self)

    def sign(self) -> Tensor:
        return ops.sign(self)

    def floor(self) -> Tensor:
        return ops.floor(self)

    def ceil(self) -> Tensor:
        return ops.ceil(self)

    def round(self) -> Tensor:
        return ops.round(self)

    def trunc(self) -> Tensor:
        return ops.trunc(self)

    def nan_to_num(self, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Tensor:
        return ops.nan_to_num(self, nan, posinf, neginf)

    def bernoulli(self, *, generator: Any = None) -> Tensor:
        return ops.bernoulli(self, generator=generator)

    def sin(self) -> Tensor:
        return ops.sin(self)

    def cos(self) -> Tensor:
        return ops.cos(self)

    def tan(self) -> Tensor:
        return ops.tan(self)

    def asin(self) -> Tensor:
        return ops.asin(self)

    def acos(self) -> Tensor:
        return ops.acos(self)

    def atan(self) -> Tensor:
        return ops.atan(self)

    def tanh(self) -> Tensor:
        return ops.tanh(self)

    def sigmoid(self) -> Tensor:
        return ops.sigmoid(self)

    def erf(self) -> Tensor:
        return ops.erf(self)

    def neg(self) -> Tensor:
        return ops.neg(self)

    def logical_not(self) -> Tensor:
        return ops.logical_not(self)

    def bitwise_not(self) -> Tensor:
        return ops.bitwise_not(self)

    def isnan(self) -> Tensor:
        return ops.isnan(self)

    def isinf(self) -> Tensor:
        return ops.isinf(self)

    def isfinite(self) -> Tensor:
        return ops.isfinite(self)

    def t(self) -> Tensor:
        return ops.t(self)

    def clone(self) -> Tensor:
        return ops.clone(self)

    def contiguous(self) -> Tensor:
        return ops.contiguous(self)

    def trace(self) -> Tensor:
        return ops.trace(self)

    def median(self) -> Tensor:
        return ops.median(self)

    def floor_divide(self, other: Any) -> Tensor:
        return ops.floor_divide(self, other)

    def remainder(self, other: Any) -> Tensor:
        return ops.remainder(self, other)

    def maximum(self, other: Any) -> Tensor:
        return ops.maximum(self, other)

    def minimum(self, other: Any) -> Tensor:
        return ops.minimum(self, other)

    def eq(self, other: Any) -> Tensor:
        return ops.eq(self, other)

    def ne(self, other: Any) -> Tensor:
        return ops.ne(self, other)

    def lt(self, other: Any) -> Tensor:
        return ops.lt(self, other)

    def le(self, other: Any) -> Tensor:
        return ops.le(self, other)

    def gt(self, other: Any) -> Tensor:
        return ops.gt(self, other)

    def ge(self, other: Any) -> Tensor:
        return ops.ge(self, other)

    def logical_and(self, other: Any) -> Tensor:
        return ops.logical_and(self, other)

    def logical_or(self, other: Any) -> Tensor:
        return ops.logical_or(self, other)

    def logical_xor(self, other: Any) -> Tensor:
        return ops.logical_xor(self, other)

    def bitwise_and(self, other: Any) -> Tensor:
        return ops.bitwise_and(self, other)

    def bitwise_or(self, other: Any) -> Tensor:
        return ops.bitwise_or(self, other)

    def bitwise_xor(self, other: Any) -> Tensor:
        return ops.bitwise_xor(self, other)

    def bitwise_left_shift(self, other: Any) -> Tensor:
        return ops.bitwise_left_shift(self, other)

    def bitwise_right_shift(self, other: Any) -> Tensor:
        return ops.bitwise_right_shift(self, other)

    def matmul(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def mm(self, other: Any) -> Tensor:
        return ops.mm(self, other)

    def bmm(self, other: Any) -> Tensor:
        return ops.bmm(self, other)

    def dot(self, other: Any) -> Tensor:
        return ops.dot(self, other)

    def outer(self, other: Any) -> Tensor:
        return ops.outer(self, other)

    def mv(self, vec: Any) -> Tensor:
        return ops.mv(self, vec)

    def add(self, other: Any, *, alpha: float = 1) -> Tensor:
        return ops.add(self, other, alpha=alpha)

    def sub(self, other: Any, *, alpha: float = 1) -> Tensor:
        return ops.sub(self, other, alpha=alpha)

    def mul(self, other: Any) -> Tensor:
        return ops.mul(self, other)

    def div(self, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        return ops.div(self, other, rounding_mode=rounding_mode)

    def pow(self, exponent: Any) -> Tensor:
        return ops.power(self, exponent)

    def lerp(self, end: Tensor, weight: Any) -> Tensor:
        return ops.lerp(self, end, weight)

    def addcmul(self, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
        return ops.addcmul(self, tensor1, tensor2, value=value)

    def addcdiv(self, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
        return ops.addcdiv(self, tensor1, tensor2, value=value)

    def where(self, condition: Tensor, other: Any) -> Tensor:
        return ops.where(condition, self, other)

    def masked_fill(self, mask: Tensor, value: Any) -> Tensor:
        return ops.masked_fill(self, mask, value)

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        return ops.clamp(self, min, max)

    clip = clamp

    def isclose(
        self, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> Tensor:
        return ops.isclose(self, other, rtol, atol, equal_nan)

    def allclose(
        self, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> bool:
        return ops.allclose(self, other, rtol, atol, equal_nan)

    def equal(self, other: Tensor) -> bool:
        return ops.equal(self, other)

    def relu(self) -> Tensor:
        return ops.relu(self)

    @numpy_names
    def softmax(self, dim: int) -> Tensor:
        return ops.softmax(self, dim)

    @numpy_names
    def log_softmax(self, dim: int) -> Tensor:
        return ops.log_softmax(self, dim)

    @numpy_names
    def sum(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        return ops.sum(self, dim, keepdim, dtype=dtype)

    @numpy_names
    def mean(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        return ops.mean(self, dim, keepdim, dtype=dtype)

    @numpy_names
    def prod(self, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        return ops.prod(self, dim, keepdim, dtype=dtype)

    @numpy_names
    def cumsum(self, dim: int, *, dtype: Any = None) -> Tensor:
        return ops.cumsum(self, dim, dtype=dtype)

    @numpy_names
    def cumprod(self, dim: int) -> Tensor:
        return ops.cumprod(self, dim)

    @numpy_names
    def amax(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return ops.amax(self, dim, keepdim)

    @numpy_names
    def amin(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return ops.amin(self, dim, keepdim)

    @numpy_names
    def any(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return ops.any(self, dim, keepdim)

    @numpy_names
    def all(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return ops.all(self, dim, keepdim)

    @numpy_names
    def logsumexp(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return ops.logsumexp(self, dim, keepdim)

    @numpy_names
    def argmax(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return ops.argmax(self, dim, keepdim)

    @numpy_names
    def argmin(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return ops.argmin(self, dim, keepdim)

    @numpy_names
    def max(self, dim: Any = None, keepdim: bool = False) -> Any:
        return ops.max(self, dim, keepdim)

    @numpy_names
    def min(self, dim: Any = None, keepdim: bool = False) -> Any:
        return ops.min(self, dim, keepdim)

    @numpy_names
    def var(
        self,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Tensor:
        return ops.var(self, dim, unbiased, keepdim, correction=correction)

    @numpy_names
    def std(
        self,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Tensor:
        return ops.std(self, dim, unbiased, keepdim, correction=correction)

    @numpy_names
    def norm(self, p: float | str = "fro", dim: Any = None, keepdim: bool = False) -> Tensor:
        return ops.norm(self, p, dim, keepdim)

    @numpy_names
    def count_nonzero(self, dim: Any = None) -> Tensor:
        return ops.count_nonzero(self, dim)

    @numpy_names
    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
        return ops.argsort(self, dim, descending, stable)

    @numpy_names
    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
        return ops.sort(self, dim, descending, stable)

    @numpy_names
    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
        return ops.topk(self, k, dim, largest, sorted)

    def unique(
        self, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
    ) -> Any:
        return ops.unique(self, sorted, return_inverse, return_counts)

    def bincount(self, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
        return ops.bincount(self, weights, minlength)

    def reshape(self, *shape: Any) -> Tensor:
        return ops.reshape(self, _one(shape))

    def view(self, *shape: Any) -> Tensor:
        """``reshape``: the memory order is the backend's own affair, so a view is not always
        possible.
        """
        return ops.reshape(self, _one(shape))

    def view_as(self, other: Tensor) -> Tensor:
        return ops.reshape(self, other.shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        return ops.reshape(self, other.shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        return ops.flatten(self, start_dim, end_dim)

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Tensor:
        return ops.unflatten(self, dim, sizes)

    @numpy_names
    def squeeze(self, dim: int | Sequence[int] | None = None) -> Tensor:
        return ops.squeeze(self, dim)

    @numpy_names
    def unsqueeze(self, dim: int) -> Tensor:
        return ops.unsqueeze(self, dim)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        return ops.transpose(self, dim0, dim1)

    swapaxes = transpose

    def ravel(self) -> Tensor:
        return ops.ravel(self)

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        return ops.narrow(self, dim, start, length)

    def permute(self, *dims: Any) -> Tensor:
        return ops.permute(self, _one(dims))

    def movedim(self, source: Any, destination: Any) -> Tensor:
        return ops.movedim(self, source, destination)

    def expand(self, *sizes: Any) -> Tensor:
        return ops.expand(self, _one(sizes))

    def expand_as(self, other: Tensor) -> Tensor:
        return ops.expand(self, other.shape)

    def broadcast_to(self, shape: Sequence[int]) -> Tensor:
        return ops.broadcast_to(self, shape)

    def repeat(self, *repeats: Any) -> Tensor:
        return ops.repeat(self, _one(repeats))

    def repeat_interleave(self, repeats: Any, dim: int | None = None) -> Tensor:
        return ops.repeat_interleave(self, repeats, dim)

    def tile(self, *dims: Any) -> Tensor:
        return ops.tile(self, _one(dims))

    def flip(self, *dims: Any) -> Tensor:
        return ops.flip(self, _one(dims))

    def roll(self, shifts: Any, dims: Any = None) -> Tensor:
        return ops.roll(self, shifts, dims)

    def split(self, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
        return ops.split(self, split_size, dim)

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        return ops.chunk(self, chunks, dim)

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        return ops.unbind(self, dim)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        return ops.index_select(self, dim, index)

    def gather(self, dim: int, index: Tensor) -> Tensor:
        return ops.gather(self, dim, index)

    def masked_select(self, mask: Tensor) -> Tensor:
        return ops.masked_select(self, mask)

    def nonzero(self) -> Tensor:
        return ops.nonzero(self)

    def argwhere(self) -> Tensor:
        return ops.argwhere(self)

    def scatter(self, *args: Any, **kwargs: Any) -> Tensor:
        return ops.scatter(self, *args, **kwargs)

    def scatter_add(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        return ops.scatter_add(self, dim, index, src)

    def diag(self, diagonal: int = 0) -> Tensor:
        return ops.diag(self, diagonal)

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
        return ops.diagonal(self, offset, dim1, dim2)

    def tril(self, diagonal: int = 0) -> Tensor:
        return ops.tril(self, diagonal)

    def triu(self, diagonal: int = 0) -> Tensor:
        return ops.triu(self, diagonal)

    # -- facts and conversion ---------------------------------------------------------------------
    @property
    def T(self) -> Tensor:  # noqa: N802
        """The dimensions in reverse order."""
        return ops.permute(self, range(self.ndim)[::-1])

    @property
    def mT(self) -> Tensor:  # noqa: N802
        """The last two dimensions exchanged."""
        return ops.transpose(self, -2, -1)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim  # type: ignore[no-any-return]

    ndimension = dim

    def numel(self) -> int:
        return self.array.size  # type: ignore[no-any-return]

    nelement = numel

    def element_size(self) -> int:
        return self.dtype.itemsize  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """How many bytes the elements take."""
        return self.array.size * self.dtype.itemsize  # type: ignore[no-any-return]

    @property
    def device(self) -> str:
        """Where the elements lie, a string: "cpu", or "cuda" with the backend cupy."""
        return "cpu" if isinstance(self.array, np.ndarray) else "cuda"

    def is_floating_point(self) -> bool:
        return self.dtype.kind == "f"  # type: ignore[no-any-return]

    def to(
        self, *args: Any, dtype: Any = None, backend: str | None = None, copy: bool = False
    ) -> Tensor:
        return ops.to(self, *args, dtype=dtype, backend=backend, copy=copy)

    def type_as(self, other: Tensor) -> Tensor:
        return ops.to(self, other.dtype)

    def cpu(self) -> Tensor:
        """In the memory of the CPU: itself where its array is NumPy's (backends numpy and numba),
        else moved to the backend "numpy".
        """
        return ops.to(self, backend=self.backend if isinstance(self.array, np.ndarray) else "numpy")

    def float(self) -> Tensor:
        return ops.to(self, dtype="float32")

    def double(self) -> Tensor:
        return ops.to(self, dtype="float64")

    def half(self) -> Tensor:
        return ops.to(self, dtype="float16")

    def long(self) -> Tensor:
        return ops.to(self, dtype="int64")

    def int(self) -> Tensor:
        return ops.to(self, dtype="int32")

    def byte(self) -> Tensor:
        return ops.to(self, dtype="uint8")

    def bool(self) -> Tensor:
        return ops.to(self, dtype="bool")

    def type(self, dtype: Any) -> Tensor:
        return ops.to(self, dtype=dtype)

    def is_contiguous(self) -> builtins.bool:
        """Whether the elements lie in memory in row-major order, without gaps."""
        return builtins.bool(self.array.flags.c_contiguous)

    def new_full(self, size: Any, fill_value: Any) -> Tensor:
        return ops.full(size, fill_value, dtype=self.dtype, backend=self.backend)

    def new_zeros(self, *size: Any) -> Tensor:
        return ops.zeros(*size, dtype=self.dtype, backend=self.backend)

    def new_ones(self, *size: Any) -> Tensor:
        return ops.ones(*size, dtype=self.dtype, backend=self.backend)

    def new_empty(self, *size: Any) -> Tensor:
        return ops.empty(*size, dtype=self.dtype, backend=self.backend)

    def new_tensor(self, data: Any) -> Tensor:
        """A new leaf with a copy of ``data``, of this dtype and backend."""
        from .construct import tensor

        return tensor(data, dtype=self.dtype, backend=self.backend)

    # -- in place
    # --------------------------------------------------------------------------------------
    def add_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.add, *args, **kwargs)

    def sub_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.sub, *args, **kwargs)

    def mul_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.mul, *args, **kwargs)

    def div_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.div, *args, **kwargs)

    def pow_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.power, *args, **kwargs)

    def lerp_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.lerp, *args, **kwargs)

    def addcmul_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.addcmul, *args, **kwargs)

    def addcdiv_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.addcdiv, *args, **kwargs)

    def clamp_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.clamp, *args, **kwargs)

    clip_ = clamp_

    def masked_fill_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.masked_fill, *args, **kwargs)

    def scatter_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.scatter, *args, **kwargs)

    def scatter_add_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.scatter_add, *args, **kwargs)

    def exp_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.exp, *args, **kwargs)

    def log_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.log, *args, **kwargs)

    def sqrt_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.sqrt, *args, **kwargs)

    def abs_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.abs, *args, **kwargs)

    def neg_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.neg, *args, **kwargs)

    def tanh_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.tanh, *args, **kwargs)

    def sigmoid_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.sigmoid, *args, **kwargs)

    def relu_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.relu, *args, **kwargs)

    def floor_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.floor, *args, **kwargs)

    def ceil_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.ceil, *args, **kwargs)

    def round_(self, *args: Any, **kwargs: Any) -> Self:
        return self.inplace(ops.round, *args, **kwargs)

    def copy_(self, src: Tensor) -> Self:
        """Overwrite with the (broadcast, cast) values of ``src``."""
        return self.inplace(lambda old, new: ops.broadcast_to(ops.to(new, old), old.shape), src)

    def fill_(self, value: Any) -> Self:
        """Overwrite every element with a number or a 0-d tensor."""
        if isinstance(value, TensorMethods):
            return self.copy_(value)
        return self.inplace(ops.create.Fill(value))

    def zero_(self) -> Self:
        return self.inplace(ops.create.Fill(0))

    def uniform_(self, a: Any = 0.0, b: Any = 1.0, *, generator: Any = None) -> Self:
        """Overwrite with uniform numbers on [a, b)."""
        return self.inplace(ops.create.Uniform(a, b, generator))

    def normal_(self, mean: Any = 0.0, std: Any = 1.0, *, generator: Any = None) -> Self:
        """Overwrite with normal numbers of this mean and standard deviation."""
        return self.inplace(ops.create.Normal(mean, std, generator))
