"""Optimiser steps that only some backends have a kernel for, composed of arithmetic in place.

``self`` is any ``Backend``; the protocol states the meaning of every method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinygrad_cnn.backend import Array, Backend

Arrays = Sequence[Array]


class ComposedSteps:
    """To inherit from: the compositions, one parameter after another."""

    def amsgrad_step(
        self: Backend, params: Arrays, grads: Arrays, m: Arrays, v: Arrays, largest: Arrays,
        lr: float, betas: tuple[float, float], eps: float, weight_decay: float, decoupled: bool,
        step: int,
    ) -> None:  # fmt: skip
        beta1, beta2 = betas
        rate, root = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
        for p, g, mean, square, top in zip(params, grads, m, v, largest, strict=True):
            if decoupled:
                self.multiply(p, 1 - lr * weight_decay, out=p)
            else:
                g = _decayed(self, p, g, weight_decay)
            _average(self, mean, g, beta1)
            _average(self, square, self.multiply(g, g), beta2)
            self.maximum(top, square, out=top)
            scale = self.add(self.divide(self.sqrt(top), root), eps)
            self.subtract(p, self.divide(self.multiply(mean, rate), scale), out=p)

    def rmsprop_step(
        self: Backend, params: Arrays, grads: Arrays, squares: Arrays, means: Arrays | None,
        momenta: Arrays | None, lr: float, alpha: float, eps: float, weight_decay: float,
        momentum: float,
    ) -> None:  # fmt: skip
        for i, (p, g, v) in enumerate(zip(params, grads, squares, strict=True)):
            g = _decayed(self, p, g, weight_decay)
            _average(self, v, self.multiply(g, g), alpha)
            if means is not None:
                _average(self, means[i], g, alpha)
                v = self.subtract(v, self.multiply(means[i], means[i]))
            g = self.divide(g, self.add(self.sqrt(v), eps))
            if momenta is not None:
                b = momenta[i]
                g = self.add(self.multiply(b, momentum, out=b), g, out=b)
            self.subtract(p, self.multiply(g, lr), out=p)

    def adagrad_step(
        self: Backend, params: Arrays, grads: Arrays, sums: Arrays, rate: float, eps: float,
        weight_decay: float,
    ) -> None:  # fmt: skip
        for p, g, s in zip(params, grads, sums, strict=True):
            g = _decayed(self, p, g, weight_decay)
            self.add(s, self.multiply(g, g), out=s)
            scale = self.add(self.sqrt(s), eps)
            self.subtract(p, self.divide(self.multiply(g, rate), scale), out=p)

    def squared_norms(self: Backend, arrays: Arrays) -> Array:
        dtype = arrays[0].dtype
        found = [self.sum_of_squares(a, tuple(range(a.ndim)), False) for a in arrays]
        return self.concatenate([self.reshape(self.astype(s, dtype), (1,)) for s in found], 0)


def _decayed(k: Backend, p: Array, g: Array, weight_decay: float) -> Array:
    return k.add(g, k.multiply(p, weight_decay)) if weight_decay else g


def _average(k: Backend, mean: Array, value: Array, keep: float) -> None:
    """mean = keep·mean + (1 − keep)·value, in place."""
    k.add(k.multiply(mean, keep, out=mean), k.multiply(value, 1 - keep), out=mean)
