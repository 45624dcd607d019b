"""New tensors: filled, counted, or like another one. Random ones are in ``tinygrad_cnn.random``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..backend import Array, Backend, BackendLike, pick_backend
from ..dtypes import as_dtype, bool_, float32, int64
from ..geometry import Shape, broadcast_shapes
from ..tensor import Op, Tensor


def _filled(
    shape: Shape, value: float, dtype: Any, backend: BackendLike, requires_grad: bool
) -> Tensor:
    if not isinstance(value, bool | int | float | np.generic):
        raise TypeError(f"full: fill_value must be a number, received {value!r}")
    owner = pick_backend(backend)
    t = Tensor._wrap(owner.full(shape, value, as_dtype(dtype)), owner)
    return t.requires_grad_() if requires_grad else t


def zeros(
    *shape: Any,
    size: Any = None,
    dtype: Any = float32,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """All elements 0; the shape as integers, as one sequence, or as ``size=``."""
    return _filled(random._shape(shape, size), 0, dtype, backend, requires_grad)


def ones(
    *shape: Any,
    size: Any = None,
    dtype: Any = float32,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """All elements 1."""
    return _filled(random._shape(shape, size), 1, dtype, backend, requires_grad)


def empty(
    *shape: Any,
    size: Any = None,
    dtype: Any = float32,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Elements of any value."""
    owner = pick_backend(backend)
    t = Tensor._wrap(owner.empty(random._shape(shape, size), as_dtype(dtype)), owner)
    return t.requires_grad_() if requires_grad else t


def full(
    size: Any,
    fill_value: float,
    *,
    dtype: Any = None,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """All elements ``fill_value``; the dtype follows its type unless given."""
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    if dtype is None:
        dtype = (
            bool_
            if isinstance(fill_value, bool)
            else int64
            if isinstance(fill_value, int)
            else float32
        )
    return _filled(
        random._shape((), size),
        fill_value,
        dtype,
        backend,
        requires_grad,
    )


def arange(
    start: float = 0,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, … below end (0 … start−1 with one argument). Raises ValueError for a
    zero step or the wrong sign.
    """
    if end is None:
        start, end = 0, start
    if not step or (end - start) * step < 0:
        raise ValueError(f"arange: a step of {step} does not lead from {start} to {end}")
    if dtype is None:
        dtype = int64 if all(isinstance(v, int) for v in (start, end, step)) else float32
    owner = pick_backend(backend)
    t = Tensor._wrap(owner.arange(start, end, step, as_dtype(dtype)), owner)
    return t.requires_grad_() if requires_grad else t


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: Any = float32,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """``steps`` equally spaced numbers from start to end, both included."""
    if steps < 0:
        raise ValueError(f"linspace: steps must not be negative, received {steps}")
    owner = pick_backend(backend)
    t = Tensor._wrap(owner.asarray(np.linspace(start, end, steps), as_dtype(dtype)), owner)
    return t.requires_grad_() if requires_grad else t


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: Any = float32,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the main diagonal of an n × m matrix (m = n by default), zeros elsewhere."""
    owner = pick_backend(backend)
    t = Tensor._wrap(owner.asarray(np.eye(n, m), as_dtype(dtype)), owner)
    return t.requires_grad_() if requires_grad else t


def _like(input: Tensor, dtype: Any, backend: BackendLike) -> dict[str, Any]:
    return {"dtype": input.dtype if dtype is None else dtype, "backend": backend or input.backend}


def zeros_like(
    input: Tensor, *, dtype: Any = None, backend: BackendLike = None, requires_grad: bool = False
) -> Tensor:
    """Zeros of input's shape, dtype and backend."""
    return zeros(input.shape, requires_grad=requires_grad, **_like(input, dtype, backend))


def ones_like(
    input: Tensor, *, dtype: Any = None, backend: BackendLike = None, requires_grad: bool = False
) -> Tensor:
    """Ones of input's shape, dtype and backend."""
    return ones(input.shape, requires_grad=requires_grad, **_like(input, dtype, backend))


def empty_like(
    input: Tensor, *, dtype: Any = None, backend: BackendLike = None, requires_grad: bool = False
) -> Tensor:
    """Any values, of input's shape, dtype and backend."""
    return empty(input.shape, requires_grad=requires_grad, **_like(input, dtype, backend))


def full_like(
    input: Tensor,
    fill_value: float,
    *,
    dtype: Any = None,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """``fill_value`` everywhere, of input's shape, dtype and backend."""
    return full(
        input.shape, fill_value, requires_grad=requires_grad, **_like(input, dtype, backend)
    )


def rand_like(
    input: Tensor, *, dtype: Any = None, backend: BackendLike = None, requires_grad: bool = False
) -> Tensor:
    """Uniform numbers in [0, 1), of input's shape, dtype and backend."""
    return random.rand(input.shape, requires_grad=requires_grad, **_like(input, dtype, backend))


def randn_like(
    input: Tensor, *, dtype: Any = None, backend: BackendLike = None, requires_grad: bool = False
) -> Tensor:
    """Standard normal numbers, of input's shape, dtype and backend."""
    return random.randn(input.shape, requires_grad=requires_grad, **_like(input, dtype, backend))


def bernoulli(input: Tensor, *, generator: random.Generator | None = None) -> Tensor:
    """1 with probability input, else 0, for every element; no gradient.

    Raises TypeError unless input is floating point, ValueError for numbers outside [0, 1]."""
    p = input.detach()
    if p.dtype.kind != "f":
        raise TypeError(f"bernoulli: expected floating point probabilities, received {p.dtype}")
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError("bernoulli: expected probabilities from 0 to 1, received others")
    return (random.rand(p.shape, generator=generator, dtype=p.dtype, backend=p.backend) < p).to(p)


def normal(
    mean: Tensor | float = 0.0,
    std: Tensor | float = 1.0,
    size: Any = None,
    *,
    generator: random.Generator | None = None,
    dtype: Any = float32,
    backend: BackendLike = None,
) -> Tensor:
    """Normal numbers of this mean and standard deviation: ``size`` of them for two numbers, else
    one for each element of the tensors, which broadcast; no gradient.

    Raises TypeError unless either a size or a tensor is given."""
    like = next((v for v in (mean, std) if isinstance(v, Tensor)), None)
    if (size is None) == (like is None):
        raise TypeError("normal: expected two numbers and a size, or at least one tensor")
    if like is not None:
        shapes = [v.shape for v in (mean, std) if isinstance(v, Tensor)]
        size, dtype, backend = broadcast_shapes(*shapes), like.dtype, like.backend
    z = random.randn(size=size, generator=generator, dtype=dtype, backend=backend)
    made = mean + std * z
    return made.detach()


def randint_like(
    input: Tensor, low: int, high: int | None = None, *, dtype: Any = None,
    backend: BackendLike = None,
) -> Tensor:  # fmt: skip
    """Integers in [low, high), or in [0, low), of input's shape, dtype and backend."""
    low, high = (0, low) if high is None else (low, high)
    return random.randint(low, high, input.shape, **_like(input, dtype, backend))


class Fill(Op):
    """The same number everywhere; the derivative is 0."""

    saves_inputs = False

    def __init__(self, value: float) -> None:
        self.value = value

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.full(x.shape, self.value, x.dtype)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return zeros_like(grad)


class Uniform(Op):
    """Random numbers on [a, b) in place of the input; the derivative is 0."""

    saves_inputs = False

    def __init__(self, a: float, b: float, generator: random.Generator | None) -> None:
        self.a, self.b, self.generator = a, b, generator

    def forward(self, kernels: Backend, x: Array) -> Array:
        u = random.uniform_array(kernels, x.shape, x.dtype, self.generator)
        return kernels.add(kernels.multiply(u, self.b - self.a), self.a)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return zeros_like(grad)


class Normal(Op):
    """Normal random numbers in place of the input; the derivative is 0."""

    saves_inputs = False

    def __init__(self, mean: float, std: float, generator: random.Generator | None) -> None:
        self.mean, self.std, self.generator = mean, std, generator

    def forward(self, kernels: Backend, x: Array) -> Array:
        z = random.normal_array(kernels, x.shape, x.dtype, self.generator)
        return kernels.add(kernels.multiply(z, self.std), self.mean)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return zeros_like(grad)


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> int:
    """How many elements ``input`` has."""
    return input.numel()


def meshgrid(*tensors: Tensor, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinate grids of 1-d tensors; indexing "ij" or "xy"."""
    if indexing not in ("ij", "xy"):
        raise ValueError(f'meshgrid: indexing must be "ij" or "xy", received {indexing!r}')
    shape = tuple(math.prod(t.shape) for t in tensors)
    grids = [
        t.reshape([n if i == k else 1 for i, n in enumerate(shape)]).expand(shape).clone()
        for k, t in enumerate(tensors)
    ]
    return tuple(g.transpose(0, 1) if indexing == "xy" and len(shape) > 1 else g for g in grids)
