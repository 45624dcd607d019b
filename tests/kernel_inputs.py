"""Seeded inputs for the kernel tests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_cnn.backend import Backend

Array = Any
DTYPES = ("float64", "float32", "float16")


def normal(seed: int, *shapes: tuple[int, ...], dtype: str = "float64") -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def put(kernels: Backend, *arrays: Array | None) -> list[Array]:
    return [None if a is None else kernels.asarray(a) for a in arrays]


class Guarded:
    """Fresh arrays between guard bytes, in place of a kernel module's ``empty``."""

    SIZE = 64  # bytes before and after

    def __init__(self) -> None:
        self.made: list[Array] = []

    def empty(self, shape: Any, dtype: Any, strides: Any = None) -> Array:
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        raw = np.full(nbytes + 2 * self.SIZE, 0xA5, np.uint8)
        self.made.append(raw)
        return np.ndarray(shape, dtype, raw.data, self.SIZE, strides)

    def check(self) -> None:
        """Nothing was written outside the arrays."""
        for raw in self.made:
            assert (raw[: self.SIZE] == 0xA5).all() and (raw[-self.SIZE :] == 0xA5).all()
