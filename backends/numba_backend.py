"""NumPy arrays with the hot loops compiled by Numba."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_cnn.backend import Array, DType, Gradients
from tinygrad_cnn.geometry import Pairs, Shape, Window

from .numba_fused import FusedKernels
from .numba_kernels import (
    cumulate,
    dispatch,
    draws,
    elements,
    elementwise,
    extremes,
    info,
    loss,
    memory,
    norm,
    optim,
    pool,
    positions,
    reduce,
    runtime,
    select,
    strided,
    warp,
)

BINARY = (
    "add subtract multiply divide maximum minimum equal not_equal less less_equal greater "
    "greater_equal logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor"
).split()
UNARY = "negative absolute sign sqrt exp log tanh isnan isinf isfinite logical_not".split()


class NumbaBackend(FusedKernels):
    """The reference backend with compiled, parallel kernels where arrays are large enough."""

    name = "numba"

    def __init__(self) -> None:
        super().__init__()
        for name in BINARY:
            setattr(self, name, elementwise.bind_binary(name, getattr(self, name)))
        for name in UNARY:
            setattr(self, name, elementwise.bind_unary(name, getattr(self, name)))
        self.power = elementwise.bind_power(self.power)
        for name in ("sigmoid", "erf", "relu"):
            setattr(self, name, elementwise.bind_unary(name, getattr(super(), name)))
        self.relu_grad = elementwise.bind_binary("relu_grad", super().relu_grad)  # type: ignore[method-assign]

    def empty(self, shape: Shape, dtype: DType) -> Array:
        return memory.empty(shape, dtype)

    def owns(self, a: Array) -> bool:
        """Arrays of the memory pool hang on a lease of a whole block."""
        return (memory.is_whole(a) and bool(a.flags.writeable)) or super().owns(a)

    # -- random numbers ---------------------------------------------------------------------------
    def random_bits(self, count: int, seed: int, offset: int) -> Array:
        return draws.random_bits(count, seed, offset)

    def random_uniform(self, shape: Shape, dtype: DType, seed: int, offset: int) -> Array:
        drawn = draws.random_uniform(shape, dtype, seed, offset)
        return super().random_uniform(shape, dtype, seed, offset) if drawn is None else drawn

    def random_normal(self, shape: Shape, dtype: DType, seed: int, offset: int) -> Array:
        drawn = draws.random_normal(shape, dtype, seed, offset)
        return super().random_normal(shape, dtype, seed, offset) if drawn is None else drawn

    def astype(self, a: Array, dtype: DType) -> Array:
        made = None
        if type(a) is np.ndarray and a.size >= elementwise.SIMPLE // 4:
            made = elementwise.unary(elements.conversion(dtype), a, None)
        return super().astype(a, dtype) if made is None else made

    # -- copies between memory layouts -------------------------------------------------------------
    def copy(self, a: Array) -> Array:
        made = strided.copy(a) if type(a) is np.ndarray and a.size >= strided.LARGE else None
        return super().copy(a) if made is None else made

    def assign(self, a: Array, value: Array | float) -> None:
        alike = (
            a.size >= strided.LARGE
            and type(value) is np.ndarray
            and value.shape == a.shape
            and value.dtype == a.dtype
            and a.flags.writeable
        )
        if not (alike and strided.assign(a, self._apart(a, value))):
            super().assign(a, value)

    def assign_at(self, a: Array, index: Any, value: Array | float) -> None:
        if a.size >= strided.LARGE and strided.is_basic(index):
            self.assign(a[index if ... in index else (*index, ...)], value)
        else:
            super().assign_at(a, index, value)

    def reshape(self, a: Array, shape: Shape) -> Array:
        if type(a) is np.ndarray and a.size >= strided.LARGE and not a.flags.c_contiguous:
            made = strided.reshape(a, shape)
            if made is not None:
                return made
        return a.reshape(shape)

    def pad(self, a: Array, padding: Pairs) -> Array:
        made = strided.pad(a, padding) if a.size >= strided.LARGE else None
        return super().pad(a, padding) if made is None else made

    def concatenate(self, arrays: Sequence[Array], axis: int) -> Array:
        large = sum(a.size for a in arrays) >= strided.LARGE
        made = strided.concatenate(arrays, axis) if large else None
        return super().concatenate(arrays, axis) if made is None else made

    def index_add(self, shape: Shape, index: Any, values: Array) -> Array:
        large = math.prod(shape) >= strided.LARGE and type(values) is np.ndarray
        if large and strided.is_basic(index):
            made = strided.slice_add(shape, index, values)
            if made is not None:
                return made
        return super().index_add(shape, index, values)

    def leaky_relu(self, x: Array, slope: Array | float) -> Array:
        made = None
        if x.size >= elementwise.LARGE:
            if isinstance(slope, float | int):
                return self.leaky_relu_grad(x, x, slope)
            made = elementwise.binary("leaky", x, slope, None)
        return super().leaky_relu(x, slope) if made is None else made

    def leaky_relu_grad(self, g: Array, x: Array, slope: Array | float) -> Array:
        made = None
        if x.size >= elementwise.LARGE and isinstance(slope, float | int):
            made = elementwise.slope(g, x, slope)
        return super().leaky_relu_grad(g, x, slope) if made is None else made

    # -- matrix products and convolution (numba_kernels/dispatch.py says which algorithm) ----------
    def matmul(self, a: Array, b: Array) -> Array:
        return dispatch.matmul(a, b)

    def linear(self, x: Array, w: Array, bias: Array | None) -> Array:
        return dispatch.linear(x, w, bias)

    def conv(self, x: Array, w: Array, bias: Array | None, window: Window, groups: int) -> Array:
        return dispatch.conv(x, w, bias, window, groups)

    def conv_relu(
        self, x: Array, w: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        return dispatch.conv(x, w, bias, window, groups, relu=True)

    def conv_relu_pool(
        self, x: Array, w: Array, bias: Array | None, window: Window, groups: int, pool: Window
    ) -> tuple[Array, Array]:
        made = dispatch.conv_relu_pool(x, w, bias, window, groups, pool)
        return super().conv_relu_pool(x, w, bias, window, groups, pool) if made is None else made

    def conv_relu_pool_grad(
        self, gy: Array, y: Array, winner: Array, x: Array, w: Array, window: Window, groups: int,
        pool: Window, needs: Sequence[bool],
    ) -> Gradients:  # fmt: skip
        made: Gradients | None = dispatch.conv_relu_pool_grad(
            gy, y, winner, x, w, window, groups, pool, needs
        )
        if made is not None:
            return made
        return super().conv_relu_pool_grad(gy, y, winner, x, w, window, groups, pool, needs)

    def set_conv_algorithm(self, name: str) -> None:
        dispatch.set_conv_algorithm(name)

    def linear_relu(self, x: Array, w: Array, bias: Array | None) -> Array:
        return dispatch.linear(x, w, bias, relu=True)

    def linear_grad(
        self, gy: Array, x: Array, w: Array, needs: Sequence[bool], y: Array | None = None
    ) -> Gradients:
        made: Gradients | None = dispatch.linear_grad(gy, x, w, needs, y)
        return super().linear_grad(gy, x, w, needs, y) if made is None else made

    def conv_input_grad(
        self, gy: Array, w: Array, shape: Shape, window: Window, groups: int
    ) -> Array:
        return dispatch.conv_input_grad(gy, w, shape, window, groups)

    def conv_weight_grad(
        self, x: Array, gy: Array, shape: Shape, window: Window, groups: int
    ) -> Array:
        return dispatch.conv_weight_grad(x, gy, shape, window, groups)

    def where(self, condition: Array, a: Array | float, b: Array | float) -> Array:
        sizes = [v.size for v in (condition, a, b) if type(v) is np.ndarray]
        if type(condition) is np.ndarray and max(sizes) >= elementwise.LARGE:
            z = elementwise.where(condition, a, b)
            if z is not None:
                return z
        return np.where(condition, a, b)

    def affine_warp(self, x: Array, matrices: Array, mode: int, cval: float) -> Array:
        """For the data layer: the compiled form of data/warp.py."""
        warped: Array = warp.affine_warp(x, matrices, mode, cval)
        return warped

    def set_num_threads(self, n: int) -> None:
        runtime.set_num_threads(n)

    def get_num_threads(self) -> int:
        return runtime.get_num_threads()

    def on_compile(self, listener: Callable[[str, float | None], None]) -> Callable[[], None]:
        return runtime.on_compile(listener)

    def explain(self, op: str, x_shape: Shape, w_shape: Shape, window: Window, groups: int) -> str:
        """Which algorithm a 2-D convolution gets and why: one line "operation: algorithm (reason)"
        each."""
        return dispatch.explain(op, x_shape, w_shape, window, groups)

    def kernel_info(self) -> list[tuple[str, str]]:
        """(operations, which kernels run them and when), for all but convolution."""
        return info.kernel_info()

    def memory_report(self) -> dict[str, Any]:
        """Bytes ``in_use``, ``pooled``, ``peak``, ``limit`` and ``classes`` of the memory pool."""
        return memory.pool.report()

    def sum(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        if a.size >= reduce.LARGE and a.dtype == np.float32:
            total = reduce.sum_axes(a, axes, keepdims)
            if total is not None:
                return total
        if a.dtype == np.float32:
            return np.add.reduce(a, axes, keepdims=keepdims)  # type: ignore[call-overload]
        if a.dtype == np.bool_ and len(axes) == a.ndim and not keepdims:
            return np.array(np.count_nonzero(a))  # many bytes at once
        return super().sum(a, axes, keepdims)

    def sum_of_squares(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        if a.size >= reduce.LARGE and a.dtype == np.float32:
            total = reduce.sum_axes(a, axes, keepdims, squares=True)
            if total is not None:
                return total
        return super().sum_of_squares(a, axes, keepdims)

    def max(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._extreme(np.maximum, a, axes, keepdims)

    def min(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._extreme(np.minimum, a, axes, keepdims)

    def _extreme(self, better: np.ufunc, a: Array, axes: Shape, keepdims: bool) -> Array:
        if a.size >= reduce.LARGE and a.dtype == np.float32:
            best = extremes.extreme_axes(a, axes, keepdims, better is np.maximum)
            if best is not None:
                return best
        return better.reduce(a, axes, keepdims=keepdims)

    def argmax(self, a: Array, axis: int) -> Array:
        found = positions.position(a, axis, True) if a.size >= positions.LARGE else None
        return super().argmax(a, axis) if found is None else found

    def argmin(self, a: Array, axis: int) -> Array:
        found = positions.position(a, axis, False) if a.size >= positions.LARGE else None
        return super().argmin(a, axis) if found is None else found

    def argtop(self, a: Array, k: int, axis: int, largest: bool) -> Array:
        if select.accepts(a, k):
            return select.argtop(a, k, axis, largest)
        return super().argtop(a, k, axis, largest)

    def cumsum(self, a: Array, axis: int) -> Array:
        large = a.size >= cumulate.LARGE and a.dtype == np.float32
        return cumulate.cumsum(a, axis) if large else super().cumsum(a, axis)

    # -- pooling -----------------------------------------------------------------------------------
    def max_pool(self, x: Array, window: Window) -> tuple[Array, Array]:
        return pool.max_pool(x, window) if pool.accepts(x, window) else super().max_pool(x, window)

    def max_pool_gather(self, x: Array, winner: Array, window: Window) -> Array:
        if pool.accepts(x, window):
            return pool.gather(x, winner, window)
        return super().max_pool_gather(x, winner, window)

    def max_pool_scatter(self, gy: Array, winner: Array, shape: Shape, window: Window) -> Array:
        if pool.accepts(gy, window):
            return pool.scatter(gy, winner, shape, window)
        return super().max_pool_scatter(gy, winner, shape, window)

    def avg_pool(self, x: Array, window: Window, divisors: tuple[tuple[int, ...], ...]) -> Array:
        if pool.accepts(x, window):
            return pool.average(x, window, divisors)
        return super().avg_pool(x, window, divisors)

    def avg_pool_scatter(
        self, gy: Array, shape: Shape, window: Window, divisors: tuple[tuple[int, ...], ...]
    ) -> Array:
        if pool.accepts(gy, window):
            return pool.spread(gy, shape, window, divisors)
        return super().avg_pool_scatter(gy, shape, window, divisors)

    # -- batch norm --------------------------------------------------------------------------------
    def batch_norm_stats(self, x: Array) -> tuple[Array, Array]:
        return norm.stats(x) if norm.accepts(x) else super().batch_norm_stats(x)

    def batch_norm(
        self,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        bias: Array | None,
        eps: float,
    ) -> Array:
        if norm.accepts(x):
            return norm.forward(x, mean, var, weight, bias, eps, None, False)
        return super().batch_norm(x, mean, var, weight, bias, eps)

    def batch_norm_grad(
        self, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        if norm.accepts(x) and gy.dtype == x.dtype:
            return norm.backward(gy, x, None, mean, var, weight, eps, False)[:3]
        return super().batch_norm_grad(gy, x, mean, var, weight, eps)

    def batch_norm_relu(
        self,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        bias: Array | None,
        eps: float,
        residual: Array | None,
    ) -> Array:
        """relu(batch_norm(x) + residual) in one pass."""
        if norm.accepts(x) and (residual is None or residual.dtype == x.dtype):
            return norm.forward(x, mean, var, weight, bias, eps, residual, True)
        y = self.batch_norm(x, mean, var, weight, bias, eps)
        return self.relu(y if residual is None else self.add(y, residual))

    def batch_norm_relu_grad(
        self,
        gy: Array,
        y: Array,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        eps: float,
        residual: bool,
    ) -> tuple[Array, Array, Array, Array | None]:
        """(gx, gweight, gbias, gresidual or None) of ``batch_norm_relu`` with result y, in training
        mode."""
        if norm.accepts(x) and gy.dtype == x.dtype:
            return norm.backward(gy, x, y, mean, var, weight, eps, residual)
        g = self.relu_grad(gy, y)
        return (*self.batch_norm_grad(g, x, mean, var, weight, eps), g if residual else None)

    # -- cross-entropy ----------------------------------------------------------------------------
    def cross_entropy(self, logits: Array, target: Array) -> tuple[Array, Array]:
        if loss.is_rows(logits):
            return loss.cross_entropy(logits, np.ascontiguousarray(target, np.int64))
        return super().cross_entropy(logits, target)

    def cross_entropy_grad(self, g: Array, probabilities: Array, target: Array) -> Array:
        if loss.is_rows(probabilities) and g.dtype == np.float32:
            classes = np.ascontiguousarray(target, np.int64)
            return loss.cross_entropy_grad(g, probabilities, classes)
        return super().cross_entropy_grad(g, probabilities, target)

    # -- optimiser steps ---------------------------------------------------------------------------
    def sgd_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        momenta: Sequence[Array] | None,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        first: bool,
    ) -> None:
        settings = (lr, momentum, dampening, weight_decay, nesterov, first)
        left = optim.sgd_step(params, grads, momenta, *settings)
        if left:
            some = None if momenta is None else [momenta[i] for i in left]
            super().sgd_step([params[i] for i in left], [grads[i] for i in left], some, *settings)

    def adam_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        m: Sequence[Array],
        v: Sequence[Array],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
        step: int,
    ) -> None:
        settings = (lr, betas, eps, weight_decay, decoupled, step)
        left = optim.adam_step(params, grads, m, v, *settings)
        if left:
            some = [[a[i] for i in left] for a in (params, grads, m, v)]
            super().adam_step(some[0], some[1], some[2], some[3], *settings)
