"""Max and average pooling."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_cnn.backend import Gradients
from tinygrad_cnn.geometry import Shape, Window

from .convolution import Convolution, three, window_args
from .device import Array
from .host import c_lowest, c_type, through_float32

FILES = ["window.cu", "pool.cu"]
Divisors = tuple[tuple[int, ...], ...]


class Pooling(Convolution):
    """Windows over the spatial axes of (N, C, …)."""

    def _pool(self, name: str, dtype: Any, winner: Any = np.uint8) -> Any:
        return self.kernel(name, FILES, T=c_type(dtype), W=c_type(winner), LEAST=c_lowest(dtype))

    @through_float32
    def max_pool(self, x: Array, window: Window) -> tuple[Array, Array]:
        x = self.dense(x)
        outputs = window.output(x.shape[2:])
        y = self.new((*x.shape[:2], *outputs), x.dtype)
        winner = self.new(y.shape, np.uint8 if window.taps() <= 255 else np.int32)
        self.each(self._pool("max_pool", x.dtype, winner.dtype), y.size, x, y, winner, y.size,
                  *three(x.shape[2:], 1), *three(outputs, 1), *window_args(window))  # fmt: skip
        return y, winner

    def conv_relu_pool(
        self, x: Array, w: Array, bias: Array | None, window: Window, groups: int, pool: Window
    ) -> tuple[Array, Array]:
        y, winner = self.max_pool(self.conv(x, w, bias, window, groups), pool)
        return self._unary("relu", y, out=y), winner

    def conv_relu_pool_grad(
        self, gy: Array, y: Array, winner: Array, x: Array, w: Array, window: Window, groups: int,
        pool: Window, needs: Sequence[bool],
    ) -> Gradients:  # fmt: skip
        shape = (x.shape[0], w.shape[0], *window.output(x.shape[2:]))
        g = self.max_pool_scatter(self._binary("relu_grad", gy, y), winner, shape, pool)
        return self.conv_grad(g, x, w, window, groups, needs)

    @through_float32
    def max_pool_gather(self, x: Array, winner: Array, window: Window) -> Array:
        x, winner = self.dense(x), self.dense(winner)
        y = self.new(winner.shape, x.dtype)
        self.each(
            self._pool("max_pool_gather", x.dtype, winner.dtype),
            y.size,
            x,
            winner,
            y,
            y.size,
            *three(x.shape[2:], 1),
            *three(winner.shape[2:], 1),
            *window_args(window),
        )
        return y

    @through_float32
    def max_pool_scatter(self, gy: Array, winner: Array, shape: Shape, window: Window) -> Array:
        gy, winner = self.dense(gy), self.dense(winner)
        gx = self.new(shape, gy.dtype)
        self.each(
            self._pool("max_pool_scatter", gy.dtype, winner.dtype),
            gx.size,
            gy,
            winner,
            gx,
            gx.size,
            *three(shape[2:], 1),
            *three(gy.shape[2:], 1),
            *window_args(window),
        )
        return gx

    @functools.lru_cache(256)  # noqa: B019
    def _divisor_arrays(self, divisors: Divisors) -> tuple[Array, ...]:
        padded = ((1,),) * (3 - len(divisors)) + divisors
        return tuple(self.device.upload(np.array(axis, np.int32)) for axis in padded)

    @through_float32
    def avg_pool(self, x: Array, window: Window, divisors: Divisors) -> Array:
        x = self.dense(x)
        outputs = window.output(x.shape[2:])
        y = self.new((*x.shape[:2], *outputs), x.dtype)
        self.each(
            self._pool("avg_pool", x.dtype),
            y.size,
            x,
            *self._divisor_arrays(divisors),
            y,
            y.size,
            *three(x.shape[2:], 1),
            *three(outputs, 1),
            *window_args(window),
        )
        return y

    @through_float32
    def avg_pool_scatter(
        self, gy: Array, shape: Shape, window: Window, divisors: Divisors
    ) -> Array:
        gy = self.dense(gy)
        gx = self.new(shape, gy.dtype)
        if math.prod(gy.shape) == 0:
            self._fill(gx, 0)
            return gx
        self.each(
            self._pool("avg_pool_scatter", gy.dtype),
            gx.size,
            gy,
            *self._divisor_arrays(divisors),
            gx,
            gx.size,
            *three(shape[2:], 1),
            *three(gy.shape[2:], 1),
            *window_args(window),
        )
        return gx
