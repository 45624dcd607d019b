"""The compiled forms of what ``composed.py`` composes; what a kernel does not take is composed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_cnn.backend import Array
from tinygrad_cnn.geometry import LinearMap, Shape

from .numba_kernels import activation, gather, norm_groups, pair_loss, prelu, resample, softmax
from .numba_steps import StepKernels


class FusedKernels(StepKernels):
    """To inherit from: one method an operation."""

    # Of arrays too small for the loops of ``elementwise``, where NumPy takes several calls.
    def sigmoid(self, a: Array, out: Array | None = None) -> Array:
        y = activation.value("sigmoid", a, ()) if out is None and type(a) is np.ndarray else None
        return super().sigmoid(a, out) if y is None else y

    def erf(self, a: Array, out: Array | None = None) -> Array:
        y = activation.value("erf", a, ()) if out is None and type(a) is np.ndarray else None
        return super().erf(a, out) if y is None else y

    def activation(self, name: str, x: Array, *settings: float) -> Array:
        y = activation.value(name, x, settings)
        return super().activation(name, x, *settings) if y is None else y

    def activation_grad(self, name: str, g: Array, x: Array, *settings: float) -> Array:
        gx = activation.gradient(name, g, x, settings)
        return super().activation_grad(name, g, x, *settings) if gx is None else gx

    def prelu_grad(self, g: Array, x: Array, slope: Array) -> tuple[Array, Array]:
        made = prelu.gradients(g, x, slope)
        return super().prelu_grad(g, x, slope) if made is None else made

    def pair_loss(self, name: str, total: bool, x: Array, t: Array, *settings: float) -> Array:
        y = (pair_loss.total if total else pair_loss.values)(name, x, t, settings)
        return super().pair_loss(name, total, x, t, *settings) if y is None else y

    def pair_loss_grad(
        self, name: str, g: Array, x: Array, t: Array, needs: Sequence[bool], *settings: float
    ) -> tuple[Array | None, Array | None]:
        made: Any = pair_loss.gradients(name, g, x, t, needs, settings)
        return super().pair_loss_grad(name, g, x, t, needs, *settings) if made is None else made

    def resample(self, x: Array, maps: Sequence[LinearMap | None]) -> Array:
        """Images and signals by the kernel: x is seen as (N, C, H, W)."""
        rank = x.ndim - len(maps)
        taken = x.dtype == np.float32 and x.size and len(maps) <= 2 and rank in (1, 2)
        if not taken or any(table is not None and not table.rows for table in maps):
            return super().resample(x, maps)
        image = x[None] if rank == 1 else x
        image = image if len(maps) == 2 else image[:, :, None]
        y = resample.resample(image, *((None,) * (2 - len(maps)) + tuple(maps)))
        y = y if len(maps) == 2 else y[:, :, 0]
        return y[0] if rank == 1 else y

    def group_norm(
        self, x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        if x.dtype != np.float32 or x.ndim < 3:
            return super().group_norm(x, groups, weight, bias, eps)
        return norm_groups.group_norm(x, groups, weight, bias, eps)

    def group_norm_grad(
        self, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, groups: int,
        eps: float,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        if x.dtype != np.float32 or x.ndim < 3:
            return super().group_norm_grad(gy, x, mean, var, weight, groups, eps)
        return norm_groups.group_norm_grad(gy, x, mean, var, weight, groups, eps)

    def layer_norm(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        if x.dtype != np.float32:
            return super().layer_norm(x, weight, bias, eps)
        return norm_groups.layer_norm(x, weight, bias, eps)

    def layer_norm_grad(
        self, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        if x.dtype != np.float32:
            return super().layer_norm_grad(gy, x, mean, var, weight, eps)
        return norm_groups.layer_norm_grad(gy, x, mean, var, weight, eps)

    def softmax(self, x: Array, axis: int) -> Array:
        y = softmax.forward(x, axis, False)
        return super().softmax(x, axis) if y is None else y

    def log_softmax(self, x: Array, axis: int) -> Array:
        y = softmax.forward(x, axis, True)
        return super().log_softmax(x, axis) if y is None else y

    def softmax_grad(self, g: Array, y: Array, axis: int) -> Array:
        gx = softmax.gradient(g, y, axis, False)
        return super().softmax_grad(g, y, axis) if gx is None else gx

    def log_softmax_grad(self, g: Array, y: Array, axis: int) -> Array:
        gx = softmax.gradient(g, y, axis, True)
        return super().log_softmax_grad(g, y, axis) if gx is None else gx

    def getitem(self, a: Array, index: Any) -> Array:
        axis, numbers = gather.only_numbers(index)
        y = None if numbers is None else gather.take(a, numbers, axis)
        return super().getitem(a, index) if y is None else y

    def index_add(self, shape: Shape, index: Any, values: Array) -> Array:
        axis, numbers = gather.only_numbers(index)
        out = None if numbers is None else gather.add(shape, numbers, values, axis)
        return super().index_add(shape, index, values) if out is None else out

    def take_along_axis(self, a: Array, indices: Array, axis: int) -> Array:
        y = gather.gather(a, indices, axis)
        return super().take_along_axis(a, indices, axis) if y is None else y

    def add_along_axis(self, shape: Shape, indices: Array, values: Array, axis: int) -> Array:
        out = gather.scatter(shape, indices, values, axis)
        return super().add_along_axis(shape, indices, values, axis) if out is None else out
