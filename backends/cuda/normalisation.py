"""Batch norm, softmax and cross-entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .device import Array
from .host import c_type, through_float32
from .pooling import Pooling

PIECE = 8192  # elements of a channel that one block handles


class Normalisation(Pooling):
    """Statistics along all axes but one, and along one axis."""

    def _channels(self, x: Array) -> tuple[int, int, int, int]:
        """(N, C, S, pieces a channel is cut into)."""
        N, C, S = x.shape[0], x.shape[1], math.prod(x.shape[2:])
        return N, C, S, max(1, -(-N * S // PIECE))

    @through_float32
    def batch_norm_stats(self, x: Array) -> tuple[Array, Array]:
        x = self.dense(x)
        N, C, S, chunks = self._channels(x)
        mean, var, partial = (
            self.new((C,), x.dtype),
            self.new((C,), x.dtype),
            self.new((C, chunks, 3), x.dtype),
        )
        names: dict[str, Any] = {"T": c_type(x.dtype)}
        if not x.size:
            self._fill(mean, 0)
            self._fill(var, 0)
            return mean, var
        kernel = self.kernel("batch_norm_partial", ["batch_norm.cu"], **names)
        self.launch(kernel, C * chunks, 128, x, partial, N, C, S, chunks, PIECE)
        kernel = self.kernel("batch_norm_merge", ["batch_norm.cu"], **names)
        self.each(kernel, C, partial, x, mean, var, C, S, chunks)
        return mean, var

    def batch_norm(
        self,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        bias: Array | None,
        eps: float,
    ) -> Array:
        return self._normalise(x, mean, var, weight, bias, eps, None, 0)

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
        return self._normalise(x, mean, var, weight, bias, eps, residual, 1)

    @through_float32
    def _normalise(
        self,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        bias: Array | None,
        eps: float,
        residual: Array | None,
        relu: int,
    ) -> Array:
        x = self.dense(x)
        _, C, S, _ = self._channels(x)
        y = self.new(x.shape, x.dtype)
        others = [
            None if v is None else self.dense(v, x.dtype)
            for v in (mean, var, weight, bias, residual)
        ]
        kernel = self.kernel("batch_norm_apply", ["batch_norm.cu"], T=c_type(x.dtype))
        self.each(kernel, x.size, x, *others, y, eps, x.size, C, S, relu)
        return y

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
        g = self._binary("relu_grad", gy, y)
        return (*self.batch_norm_grad(g, x, mean, var, weight, eps), g if residual else None)

    @through_float32
    def batch_norm_grad(
        self, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        gy, x = self.dense(gy), self.dense(x)
        mean, var = self.dense(mean, x.dtype), self.dense(var, x.dtype)
        weight = None if weight is None else self.dense(weight, x.dtype)
        N, C, S, chunks = self._channels(x)
        gx, partial = self.new(x.shape, x.dtype), self.new((2, C, chunks), x.dtype)
        names: dict[str, Any] = {"T": c_type(x.dtype)}
        if C:
            kernel = self.kernel("batch_norm_sums", ["batch_norm.cu"], **names)
            self.launch(
                kernel,
                C * chunks,
                128,
                gy,
                x,
                mean,
                var,
                partial,
                eps,
                N,
                C,
                max(S, 1),
                chunks,
                PIECE,
            )
        sums = self._merge("sum", partial, 2 * C, chunks, 1, np.dtype(x.dtype)).reshape(2, C)
        gbias, gweight = self.cast(sums[0], x.dtype), self.cast(sums[1], x.dtype)
        kernel = self.kernel("batch_norm_input_grad", ["batch_norm.cu"], **names)
        self.each(kernel, x.size, gy, x, mean, var, weight, gweight, gbias, gx, eps, x.size, C, S)
        return gx, gweight, gbias

    # -- softmax ----------------------------------------------------------------------------------
    def softmax(self, x: Array, axis: int) -> Array:
        return self._softmax(x, axis, 0)

    def log_softmax(self, x: Array, axis: int) -> Array:
        return self._softmax(x, axis, 1)

    @through_float32
    def _softmax(self, x: Array, axis: int, logarithm: int) -> Array:
        rows = self.dense(self.xp.moveaxis(x, axis, -1))
        y = self.new(rows.shape, rows.dtype)
        K = rows.shape[-1]
        if y.size:
            kernel = self.kernel("softmax", ["softmax.cu"], T=c_type(x.dtype))
            self.warps(kernel, y.size // K, rows, y, y.size // K, K, logarithm)
        return self.xp.moveaxis(y, -1, axis)

    @through_float32
    def cross_entropy(self, logits: Array, target: Array) -> tuple[Array, Array]:
        x, target = self.dense(logits), self.dense(target, np.int64)
        rows, K = x.shape
        loss, probability = self.new((rows,), x.dtype), self.new(x.shape, x.dtype)
        kernel = self.kernel("cross_entropy", ["softmax.cu"], T=c_type(x.dtype))
        self.warps(kernel, rows, x, target, loss, probability, rows, K)
        return loss, probability

    @through_float32
    def cross_entropy_grad(self, g: Array, probabilities: Array, target: Array) -> Array:
        p, g = self.dense(probabilities), self.dense(g, probabilities.dtype)
        gx = self.new(p.shape, p.dtype)
        kernel = self.kernel("cross_entropy_grad", ["softmax.cu"], T=c_type(p.dtype))
        self.each(kernel, p.size, g, p, self.dense(target, np.int64), gx, p.size, p.shape[1])
        return gx
