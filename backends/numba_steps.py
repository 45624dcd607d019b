"""Optimiser steps on all parameters in one launch; what no kernel takes is left to NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_cnn.backend import Array

from .numba_kernels import optim
from .numpy_backend import NumpyBackend

Arrays = Sequence[Array]


def _only(positions: list[int], *lists: Arrays | None) -> list[Any]:
    return [None if arrays is None else [arrays[i] for i in positions] for arrays in lists]


class StepKernels(NumpyBackend):
    """To inherit from: one method a step."""

    def amsgrad_step(
        self, params: Arrays, grads: Arrays, m: Arrays, v: Arrays, largest: Arrays, lr: float,
        betas: tuple[float, float], eps: float, weight_decay: float, decoupled: bool, step: int,
    ) -> None:  # fmt: skip
        settings = (lr, betas, eps, weight_decay, decoupled, step)
        left = optim.adam_step(params, grads, m, v, *settings, largest)
        if left:
            some = _only(left, params, grads, m, v, largest)
            super().amsgrad_step(some[0], some[1], some[2], some[3], some[4], *settings)

    def rmsprop_step(
        self, params: Arrays, grads: Arrays, squares: Arrays, means: Arrays | None,
        momenta: Arrays | None, *settings: Any,
    ) -> None:  # fmt: skip
        left = optim.rmsprop_step(params, grads, squares, means, momenta, *settings)
        if left:
            super().rmsprop_step(*_only(left, params, grads, squares, means, momenta), *settings)

    def adagrad_step(self, params: Arrays, grads: Arrays, sums: Arrays, *settings: Any) -> None:
        left = optim.adagrad_step(params, grads, sums, *settings)
        if left:
            super().adagrad_step(*_only(left, params, grads, sums), *settings)

    def squared_norms(self, arrays: Arrays) -> Array:
        if all(type(a) is np.ndarray and optim.is_run(a) for a in arrays):
            return optim.squared_norms(arrays)
        return super().squared_norms(arrays)
