"""NumPy arrays with the hot loops compiled by Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_cnn.backend import Array, DType
from tinygrad_cnn.geometry import Shape

from .numba_kernels import elementwise, memory
from .numpy_backend import NumpyBackend

BINARY = "add subtract multiply divide maximum minimum".split()
UNARY = "negative absolute sqrt exp log tanh".split()


class NumbaBackend(NumpyBackend):
    """The reference backend with compiled, parallel kernels where arrays are large enough to gain."""

    name = "numba"

    def __init__(self) -> None:
        super().__init__()
        for name in BINARY:
            setattr(self, name, elementwise.bind_binary(name, getattr(np, name)))
        for name in UNARY:
            setattr(self, name, elementwise.bind_unary(name, getattr(np, name)))
        for name in ("sigmoid", "erf", "relu"):
            setattr(self, name, elementwise.bind_unary(name, getattr(super(), name)))
        self.relu_grad = elementwise.bind_binary("relu_grad", super().relu_grad)  # type: ignore[method-assign]

    def empty(self, shape: Shape, dtype: DType) -> Array:
        return memory.empty(shape, dtype)

    def owns(self, a: Array) -> bool:
        """Arrays of the memory pool hang on a lease of a whole block."""
        return (memory.is_whole(a) and bool(a.flags.writeable)) or super().owns(a)

    def where(self, condition: Array, a: Array | float, b: Array | float) -> Array:
        if type(condition) is np.ndarray and condition.size >= elementwise.LARGE:
            z = elementwise.where(condition, a, b)
            if z is not None:
                return z
        return np.where(condition, a, b)

    def memory_report(self) -> dict[str, Any]:
        """Bytes ``in_use``, ``pooled``, ``peak``, ``limit`` and ``classes`` of the memory pool."""
        return memory.pool.report()
