"""Seeded inputs for the kernel tests."""

from __future__ import annotations

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
