"""What every backend over an array module needs, written once.

``xp`` is NumPy or a module with its interface (CuPy). All that is one or a few calls into it lives
here; a subclass adds ``name``, ``to_numpy``, ``synchronize`` and the kernels that deserve loops of
their own: convolution, pooling and batch norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tinygrad_cnn.backend import Array, DType, Elementwise, Gradients
from tinygrad_cnn.geometry import Pairs, Shape, Window

from . import philox, special
from .composed import Composed

UFUNCS = (
    "add subtract multiply divide power maximum minimum remainder floor_divide negative absolute "
    "sign exp expm1 log log1p sqrt sin cos arcsin arccos arctan tanh floor ceil rint equal "
    "not_equal less less_equal greater greater_equal logical_and logical_or logical_xor "
    "logical_not bitwise_and bitwise_or bitwise_xor left_shift right_shift isnan isinf isfinite"
).split()


class ArrayBackend(Composed):
    """The primitives of ``tinygrad_cnn.backend.Backend`` that an array module almost has already.

    The protocol states the meaning of every method; docstrings here add only what is not there.
    """

    name: str

    if TYPE_CHECKING:  # what a subclass adds and the fused operations below are composed of
        conv: Callable[..., Array]
        conv_input_grad: Callable[..., Array]
        conv_weight_grad: Callable[..., Array]
        max_pool_scatter: Callable[..., Array]
        max_pool: Callable[..., tuple[Array, Array]]
        batch_norm: Callable[..., Array]
        batch_norm_grad: Callable[..., tuple[Array, Array, Array]]

    # Bound to the module's ufuncs themselves, so that a call costs no Python frame.
    add: Elementwise
    subtract: Elementwise
    multiply: Elementwise
    divide: Elementwise
    power: Elementwise
    maximum: Elementwise
    minimum: Elementwise
    remainder: Elementwise
    floor_divide: Elementwise
    negative: Elementwise
    absolute: Elementwise
    sign: Elementwise
    exp: Elementwise
    expm1: Elementwise
    log: Elementwise
    log1p: Elementwise
    sqrt: Elementwise
    sin: Elementwise
    cos: Elementwise
    arcsin: Elementwise
    arccos: Elementwise
    arctan: Elementwise
    tanh: Elementwise
    floor: Elementwise
    ceil: Elementwise
    rint: Elementwise
    equal: Elementwise
    not_equal: Elementwise
    less: Elementwise
    less_equal: Elementwise
    greater: Elementwise
    greater_equal: Elementwise
    logical_and: Elementwise
    logical_or: Elementwise
    logical_xor: Elementwise
    logical_not: Elementwise
    bitwise_and: Elementwise
    bitwise_or: Elementwise
    bitwise_xor: Elementwise
    left_shift: Elementwise
    right_shift: Elementwise
    isnan: Elementwise
    isinf: Elementwise
    isfinite: Elementwise

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        for name in UFUNCS:
            setattr(self, name, getattr(xp, name))

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    # -- arrays -----------------------------------------------------------------------------------
    def asarray(self, data: Any, dtype: DType | None = None) -> Array:
        return self.xp.array(data, dtype=dtype)

    def from_numpy(self, array: Any) -> Array:
        return self.xp.asarray(array)

    def owns(self, a: Array) -> bool:
        """An array without a base allocated its buffer itself, and so fills it."""
        return a.base is None and bool(a.flags.owndata)

    def empty(self, shape: Shape, dtype: DType) -> Array:
        return self.xp.empty(shape, dtype)

    def full(self, shape: Shape, value: float, dtype: DType) -> Array:
        if type(value) is int and value == 0:  # memory from the system is zero already
            return self.xp.zeros(shape, dtype)
        return self.xp.full(shape, value, dtype)

    def arange(self, start: float, stop: float, step: float, dtype: DType) -> Array:
        """start + step·i for 0 ≤ i < ceil((stop − start)/step), in int64 or float64, then cast."""
        if all(isinstance(v, int) for v in (start, stop, step)):
            return self.xp.arange(start, stop, step, dtype="int64").astype(dtype)
        count = max(math.ceil((stop - start) / step), 0)
        return (self.xp.arange(count, dtype="float64") * step + start).astype(dtype)

    def astype(self, a: Array, dtype: DType) -> Array:
        return a.astype(dtype)

    def copy(self, a: Array) -> Array:
        return self.xp.array(a, order="K")

    def assign(self, a: Array, value: Array | float) -> None:
        a[...] = self._apart(a, value)

    def assign_at(self, a: Array, index: Any, value: Array | float) -> None:
        a[index] = self._apart(a, value)

    def _apart(self, a: Array, value: Array | float) -> Array | float:
        """``value``, copied if writing to ``a`` could change it on the way."""
        if isinstance(value, type(a)) and self.xp.may_share_memory(a, value):
            return self.copy(value)
        return value

    def set_num_threads(self, n: int) -> None:
        """The array module decides for itself how many threads it uses."""

    def get_num_threads(self) -> int:
        return 1

    def on_compile(self, listener: Callable[[str, float | None], None]) -> Callable[[], None]:
        """Nothing is compiled here, so the listener is never called."""
        return lambda: None

    # -- random numbers ---------------------------------------------------------------------------
    def random_bits(self, count: int, seed: int, offset: int) -> Array:
        return philox.random_bits(self.xp, count, seed, offset)

    def random_uniform(self, shape: Shape, dtype: DType, seed: int, offset: int) -> Array:
        return philox.random_uniform(self.xp, shape, dtype, seed, offset)

    def random_normal(self, shape: Shape, dtype: DType, seed: int, offset: int) -> Array:
        return philox.random_normal(self.xp, shape, dtype, seed, offset)

    # -- elementwise ------------------------------------------------------------------------------
    def sigmoid(self, a: Array, out: Array | None = None) -> Array:
        """1 / (1 + exp(−a)), by exp(−|a|): nothing overflows and small results stay exact."""
        e = self.exp(-self.absolute(a))
        return self.divide(self.xp.where(a < 0, e, self.xp.ones_like(e)), 1 + e, out=out)

    def erf(self, a: Array, out: Array | None = None) -> Array:
        return self._into(out, special.erf(self.xp, a))

    def relu(self, a: Array, out: Array | None = None) -> Array:
        return self.maximum(a, 0, out=out)

    def relu_grad(self, g: Array, y: Array, out: Array | None = None) -> Array:
        return self._into(out, self.xp.where(y > 0, g, self.xp.zeros((), g.dtype)))

    def _into(self, out: Array | None, result: Array) -> Array:
        if out is None:
            return result
        out[...] = result
        return out

    def where(self, condition: Array, a: Array | float, b: Array | float) -> Array:
        return self.xp.where(condition, a, b)

    # -- reductions -------------------------------------------------------------------------------
    def _accumulator(self, a: Array) -> DType:
        """The dtype in which sums and products of ``a`` are formed."""
        return "int64" if a.dtype.kind in "biu" else "float32" if a.dtype == "float16" else a.dtype

    def _narrow(self, total: Array, a: Array) -> Array:
        return total.astype("float16") if a.dtype == "float16" else total

    def sum(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._narrow(a.sum(axis=axes, dtype=self._accumulator(a), keepdims=keepdims), a)

    def prod(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._narrow(a.prod(axis=axes, dtype=self._accumulator(a), keepdims=keepdims), a)

    def max(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return a.max(axis=axes, keepdims=keepdims)

    def min(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return a.min(axis=axes, keepdims=keepdims)

    def any(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self.xp.any(a, axis=axes, keepdims=keepdims)

    def all(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self.xp.all(a, axis=axes, keepdims=keepdims)

    def argmax(self, a: Array, axis: int) -> Array:
        return self.xp.argmax(a, axis=axis)

    def argmin(self, a: Array, axis: int) -> Array:
        return self.xp.argmin(a, axis=axis)

    def argsort(self, a: Array, axis: int) -> Array:
        return self.xp.argsort(a, axis=axis, kind="stable")

    def cumsum(self, a: Array, axis: int) -> Array:
        return self._narrow(self.xp.cumsum(a, axis=axis, dtype=self._accumulator(a)), a)

    # -- shape ------------------------------------------------------------------------------------
    def reshape(self, a: Array, shape: Shape) -> Array:
        return a.reshape(shape)

    def transpose(self, a: Array, axes: Shape) -> Array:
        return a.transpose(axes)

    def broadcast_to(self, a: Array, shape: Shape) -> Array:
        return self.xp.broadcast_to(a, shape)

    def flip(self, a: Array, axes: Shape) -> Array:
        return self.xp.flip(a, axes)

    def zeros_like(self, a: Array, shape: Shape) -> Array:
        """Zeros in the memory order of ``a``, if they have as many dimensions."""
        return self.xp.zeros_like(a, shape=shape)

    def pad(self, a: Array, padding: Pairs) -> Array:
        out = self.zeros_like(
            a, tuple(lo + n + hi for n, (lo, hi) in zip(a.shape, padding, strict=True))
        )
        out[tuple(slice(lo, lo + n) for n, (lo, _) in zip(a.shape, padding, strict=True))] = a
        return out

    def concatenate(self, arrays: Sequence[Array], axis: int) -> Array:
        return self.xp.concatenate(arrays, axis=axis)

    # -- indexing ---------------------------------------------------------------------------------
    def getitem(self, a: Array, index: Any) -> Array:
        found = a[index]
        return (
            found if isinstance(found, self.xp.ndarray) else a[(*index, ...)]
        )  # 0-d: still a view

    def index_add(self, shape: Shape, index: Any, values: Array) -> Array:
        """The index is applied to an array of positions, which are then added to in one pass."""
        parts = index if isinstance(index, tuple) else (index,)
        if not any(isinstance(part, self.xp.ndarray | list) for part in parts):
            out = self.zeros_like(values, shape)
            out[index] = values  # slices name a position once
            return out
        out = self.xp.zeros(shape, values.dtype)
        positions = self.xp.arange(out.size).reshape(shape)[index]
        self.xp.add.at(out.reshape(-1), positions.reshape(-1), values.reshape(-1))
        return out

    def take_along_axis(self, a: Array, indices: Array, axis: int) -> Array:
        return a[self._along(a.ndim, indices, axis)]

    def add_along_axis(self, shape: Shape, indices: Array, values: Array, axis: int) -> Array:
        return self.index_add(shape, self._along(len(shape), indices, axis), values)

    def _along(self, ndim: int, indices: Array, axis: int) -> tuple[Array, ...]:
        """An index that is ``indices`` along ``axis`` and counts through its other axes."""
        grid = [
            self.xp.arange(n).reshape((1,) * d + (n,) + (1,) * (ndim - d - 1))
            for d, n in enumerate(indices.shape)
        ]
        grid[axis] = indices
        return tuple(grid)

    # -- linear algebra ---------------------------------------------------------------------------
    def matmul(self, a: Array, b: Array) -> Array:
        return self.xp.matmul(a, b)

    def linear(self, x: Array, w: Array, bias: Array | None) -> Array:
        rows = math.prod(x.shape[:-1])
        y = self.matmul(x.reshape(rows, x.shape[-1]), w.T)
        if bias is not None:
            self.add(y, bias, out=y)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])

    def linear_grad(
        self, gy: Array, x: Array, w: Array, needs: Sequence[bool], y: Array | None = None
    ) -> Gradients:
        gy = gy if y is None else self.relu_grad(gy, y)
        count = math.prod(x.shape[:-1])
        g, rows = gy.reshape(count, w.shape[0]), x.reshape(count, w.shape[1])
        return (
            self.matmul(g, w).reshape(x.shape) if needs[0] else None,
            self.matmul(g.T, rows) if needs[1] else None,
            self.sum(g, (0,), False) if needs[2] else None,
        )

    def conv_grad(
        self, gy: Array, x: Array, w: Array, window: Window, groups: int, needs: Sequence[bool]
    ) -> Gradients:
        return (
            self.conv_input_grad(gy, w, x.shape, window, groups) if needs[0] else None,
            self.conv_weight_grad(x, gy, w.shape, window, groups) if needs[1] else None,
            self.sum(gy, (0, *range(2, gy.ndim)), False) if needs[2] else None,
        )

    def leaky_relu(self, x: Array, slope: Array | float) -> Array:
        if isinstance(slope, float | int) and 0 < slope <= 1:  # 0·∞ is no number
            return self.maximum(x, self.multiply(x, slope))
        return self.leaky_relu_grad(x, x, slope)

    def leaky_relu_grad(self, g: Array, x: Array, slope: Array | float) -> Array:
        return self.xp.where(x > 0, g, self.multiply(g, slope))

    # -- fused: convolution, linear or batch norm with the ReLU (and pooling) after it -----------
    def conv_relu(
        self, x: Array, w: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        y = self.conv(x, w, bias, window, groups)
        return self.relu(y, out=y)

    def conv_relu_pool(
        self, x: Array, w: Array, bias: Array | None, window: Window, groups: int, pool: Window
    ) -> tuple[Array, Array]:
        y, winner = self.max_pool(self.conv(x, w, bias, window, groups), pool)
        return self.relu(y, out=y), winner

    def conv_relu_pool_grad(
        self, gy: Array, y: Array, winner: Array, x: Array, w: Array, window: Window, groups: int,
        pool: Window, needs: Sequence[bool],
    ) -> Gradients:  # fmt: skip
        shape = (x.shape[0], w.shape[0], *window.output(x.shape[2:]))
        g = self.max_pool_scatter(self.relu_grad(gy, y), winner, shape, pool)
        return self.conv_grad(g, x, w, window, groups, needs)

    def linear_relu(self, x: Array, w: Array, bias: Array | None) -> Array:
        y = self.linear(x, w, bias)
        return self.relu(y, out=y)

    def batch_norm_relu(
        self, x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None,
        eps: float, residual: Array | None,
    ) -> Array:  # fmt: skip
        y = self.batch_norm(x, mean, var, weight, bias, eps)
        return self.relu(y if residual is None else self.add(y, residual))

    def batch_norm_relu_grad(
        self, gy: Array, y: Array, x: Array, mean: Array, var: Array, weight: Array | None,
        eps: float, residual: bool,
    ) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
        g = self.relu_grad(gy, y)
        return (*self.batch_norm_grad(g, x, mean, var, weight, eps), g if residual else None)

    # -- softmax and its cross-entropy ------------------------------------------------------------
    def softmax(self, x: Array, axis: int) -> Array:
        """exp(x − max) / Σ exp(x − max)."""
        e = self.exp(x - x.max(axis=axis, keepdims=True))
        return self.divide(e, self.sum(e, (axis,), True), out=e)

    def log_softmax(self, x: Array, axis: int) -> Array:
        """x − max − log Σ exp(x − max)."""
        shifted = x - x.max(axis=axis, keepdims=True)
        return self.subtract(
            shifted, self.log(self.sum(self.exp(shifted), (axis,), True)), out=shifted
        )

    def cross_entropy(self, logits: Array, target: Array) -> tuple[Array, Array]:
        """losses[n] = −log_softmax(logits)[n, target[n]]; the probabilities are its exponential."""
        logs = self.log_softmax(logits, 1)
        losses = -logs[self.xp.arange(len(target)), target]
        return losses, self.exp(logs, out=logs)

    def cross_entropy_grad(self, g: Array, probabilities: Array, target: Array) -> Array:
        out = probabilities * g[:, None]
        out[self.xp.arange(len(target)), target] -= g
        return out

    # -- optimiser steps --------------------------------------------------------------------------
    def sgd_step(
        self, params: Sequence[Array], grads: Sequence[Array], momenta: Sequence[Array] | None,
        lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool,
        first: bool,
    ) -> None:  # fmt: skip
        for i, (p, grad) in enumerate(zip(params, grads, strict=True)):
            step = grad + weight_decay * p if weight_decay else grad
            if momenta is not None:
                m = momenta[i]
                m[...] = step if first else momentum * m + (1 - dampening) * step
                step = step + momentum * m if nesterov else m
            self.subtract(p, lr * step, out=p)

    def adam_step(
        self, params: Sequence[Array], grads: Sequence[Array], m: Sequence[Array],
        v: Sequence[Array], lr: float, betas: tuple[float, float], eps: float, weight_decay: float,
        decoupled: bool, step: int,
    ) -> None:  # fmt: skip
        """m = β₁m + (1−β₁)g;  v = β₂v + (1−β₂)g²;  p −= lr/(1−β₁ᵗ)·m / (sqrt(v)/sqrt(1−β₂ᵗ) + eps).

        Source: Kingma and Ba, "Adam", 2015; ``decoupled``: Loshchilov and Hutter, 2019.
        """
        beta1, beta2 = betas
        rate, root = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
        for p, grad, mean, square in zip(params, grads, m, v, strict=True):
            if weight_decay and decoupled:
                self.multiply(p, 1 - lr * weight_decay, out=p)
            g = grad + weight_decay * p if weight_decay and not decoupled else grad
            mean[...] = beta1 * mean + (1 - beta1) * g
            square[...] = beta2 * square + (1 - beta2) * (g * g)
            self.subtract(p, rate * mean / (self.sqrt(square) / root + eps), out=p)
