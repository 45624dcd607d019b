"""Primitives that every backend can compose of its others, and some replace by a kernel of their
own.

``self`` is any ``Backend``: nothing here knows an array module. The protocol states the meaning of
every method.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinygrad_cnn.backend import Array, Backend
from tinygrad_cnn.geometry import LinearMap, Shape, broadcast_axes

from . import activations, losses
from .steps import ComposedSteps


class Composed(ComposedSteps):
    """To inherit from: the compositions."""

    def activation(self: Backend, name: str, x: Array, *settings: float) -> Array:
        y: Array = activations.VALUES[name](self, x, *settings)
        return y

    def activation_grad(self: Backend, name: str, g: Array, x: Array, *settings: float) -> Array:
        gx: Array = activations.GRADIENTS[name](self, g, x, *settings)
        return gx

    def sum_of_squares(self: Backend, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self.sum(self.multiply(a, a), axes, keepdims)

    def prelu_grad(self: Backend, g: Array, x: Array, slope: Array) -> tuple[Array, Array]:
        part = self.where(self.greater(x, 0), 0.0, self.multiply(g, x))
        axes = broadcast_axes(x.shape, slope.shape)
        gslope = self.reshape(self.sum(part, axes, True), slope.shape)
        return self.leaky_relu_grad(g, x, slope), gslope

    def pair_loss(
        self: Backend, name: str, total: bool, x: Array, t: Array, *settings: float
    ) -> Array:
        y: Array = losses.VALUES[name](self, x, t, *settings)
        return self.sum(y, tuple(range(y.ndim)), False) if total else y

    def pair_loss_grad(
        self: Backend, name: str, g: Array, x: Array, t: Array, needs: Sequence[bool],
        *settings: float,
    ) -> tuple[Array | None, Array | None]:  # fmt: skip
        slope, target_slope = losses.SLOPES[name]
        gx = gt = None
        if needs[0] or not target_slope:
            gx = self.multiply(g, slope(self, x, t, *settings))
        if needs[1]:
            gt = self.multiply(g, target_slope(self, x, t)) if target_slope else self.negative(gx)
        return gx if needs[0] else None, gt

    def argtop(self: Backend, a: Array, k: int, axis: int, largest: bool) -> Array:
        if largest:  # sorted from the last to the first, so that equals keep their order
            last_first = self.argsort(self.flip(a, (axis,)), axis)
            order = self.flip(self.subtract(a.shape[axis] - 1, last_first), (axis,))
        else:
            order = self.argsort(a, axis)
        return self.copy(self.getitem(order, (*(slice(None),) * axis, slice(0, k))))

    def group_norm(
        self: Backend, x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """Batch norm of one image whose channels are the groups of all samples."""
        flat = self.reshape(x, (1, len(x) * groups, x.size // (len(x) * groups)))
        mean, var = self.batch_norm_stats(flat)
        y = self.reshape(self.batch_norm(flat, mean, var, None, None, eps), x.shape)
        if weight is not None:
            y = self.multiply(y, self.reshape(weight, _channels(x)))
        if bias is not None:
            y = self.add(y, self.reshape(bias, _channels(x)))
        each = (len(x), groups)
        return y, self.reshape(mean, each), self.reshape(var, each)

    def group_norm_grad(
        self: Backend, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None,
        groups: int, eps: float,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        rows = len(x) * groups
        shape, axes = (1, rows, x.size // rows), (0, *range(2, x.ndim))
        flat, mean, var = (self.reshape(a, s) for a, s in zip(
            (x, mean, var), (shape, (rows,), (rows,)), strict=True))  # fmt: skip
        xhat = self.reshape(self.batch_norm(flat, mean, var, None, None, eps), x.shape)
        g = gy if weight is None else self.multiply(gy, self.reshape(weight, _channels(x)))
        gx, _, _ = self.batch_norm_grad(self.reshape(g, shape), flat, mean, var, None, eps)
        gweight = self.sum(self.multiply(gy, xhat), axes, False)
        return self.reshape(gx, x.shape), gweight, self.sum(gy, axes, False)

    def layer_norm(
        self: Backend, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        flat = self.reshape(x, (1, *x.shape))
        mean, var = self.batch_norm_stats(flat)
        y = self.reshape(self.batch_norm(flat, mean, var, None, None, eps), x.shape)
        y = y if weight is None else self.multiply(y, weight)
        return y if bias is None else self.add(y, bias), mean, var

    def layer_norm_grad(
        self: Backend, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None,
        eps: float,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        shape = (1, *x.shape)
        flat = self.reshape(x, shape)
        xhat = self.reshape(self.batch_norm(flat, mean, var, None, None, eps), x.shape)
        g = self.reshape(gy if weight is None else self.multiply(gy, weight), shape)
        gx, _, _ = self.batch_norm_grad(g, flat, mean, var, None, eps)
        gweight = self.sum(self.multiply(gy, xhat), (0,), False)
        return self.reshape(gx, x.shape), gweight, self.sum(gy, (0,), False)

    def softmax_grad(self: Backend, g: Array, y: Array, axis: int) -> Array:
        weighted = self.multiply(g, y)
        total = self.sum(weighted, (axis,), True)
        return self.subtract(weighted, self.multiply(y, total))

    def log_softmax_grad(self: Backend, g: Array, y: Array, axis: int) -> Array:
        return self.subtract(g, self.multiply(self.exp(y), self.sum(g, (axis,), True)))

    def resample(self: Backend, x: Array, maps: Sequence[LinearMap | None]) -> Array:
        """One axis after the other, one column of the map's table at a time: y = Σ_k w_k·x[i_k].

        Rows shorter than the table point at one more cell, which is 0.
        """
        for axis, table in enumerate(maps, x.ndim - len(maps)):
            if table is None:
                continue
            n = x.shape[axis]
            if not table.longest:  # nothing is read
                x = self.full((*x.shape[:axis], len(table.rows), *x.shape[axis + 1 :]), 0, x.dtype)
                continue
            if table.ragged:
                frame = tuple((0, int(d == axis)) for d in range(x.ndim))
                x = self.pad(x, frame)
            total = None
            for cells, weights in table.columns(n):
                index = (*(slice(None),) * axis, self.asarray(cells, "int64"))
                shape = (len(cells), *(1,) * (x.ndim - axis - 1))
                weight = self.reshape(self.asarray(weights, x.dtype), shape)
                part = self.multiply(self.getitem(x, index), weight)
                total = part if total is None else self.add(total, part)
            x = total
        return x


def _channels(x: Array) -> Shape:
    """The shape of one number a channel of x (N, C, …)."""
    return (1, x.shape[1], *(1,) * (x.ndim - 2))
