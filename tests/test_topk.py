"""topk against a stable sort in NumPy: order, ties, NaN, axes and layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinygrad_cnn.backend import Backend

Array = Any


def sorted_positions(a: Array, k: int, axis: int, largest: bool) -> Array:
    """Literally: positions in order of (not NaN or NaN, value, position), row by row."""

    def best(row: Array) -> list[int]:
        sign = -1 if largest else 1
        keys = [(sign * int(np.isnan(v)), 0 if np.isnan(v) else sign * v, j)
                for j, v in enumerate(row.tolist())]  # fmt: skip
        return [j for *_, j in sorted(keys)[:k]]

    return np.apply_along_axis(best, axis, a)


@pytest.mark.parametrize("largest", (True, False))
@pytest.mark.parametrize(
    "shape, axis, k",
    (((7, 83), 1, 5), ((83, 3), 0, 1), ((2, 130, 3), 1, 32), ((3, 9), 1, 9), ((1, 150), 1, 40)),
)
@pytest.mark.parametrize("dtype", ("float32", "float64", "int64"))
def test_positions_of_the_best(
    kernels: Backend, shape: tuple[int, ...], axis: int, k: int, largest: bool, dtype: str
) -> None:
    """Few different values, so that ties are everywhere; both zeros are equal."""
    rng = np.random.default_rng(5)
    a = rng.integers(-4, 5, shape).astype(dtype)
    if a.dtype.kind == "f":
        a[a == 4] = np.where(rng.random(int((a == 4).sum())) < 0.5, np.nan, np.inf)
        a[(a == 0) & (rng.random(shape) < 0.5)] = -0.0
        a[a == -4] = -np.inf
    wanted = sorted_positions(a, k, axis, largest)
    for order in (a, np.asfortranarray(a), np.repeat(a, 2, 0)[::2]):
        found = kernels.to_numpy(kernels.argtop(kernels.asarray(order), k, axis, largest))
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("largest", (True, False))
def test_many_rows_on_any_number_of_threads(kernels: Backend, largest: bool) -> None:
    if kernels.name not in ("numpy", "numba"):
        pytest.skip("the others have no threads to choose")
    a = np.random.default_rng(6).standard_normal((60, 999), dtype=np.float32)
    a[1] = np.sort(a[1])  # every number is better than those before it
    a[2] = -np.sort(-a[2])
    wanted = np.argsort(-a if largest else a, axis=1, kind="stable")[:, :11]
    before = kernels.get_num_threads()
    try:
        for threads in (1, 3):
            kernels.set_num_threads(threads)
            np.testing.assert_array_equal(kernels.argtop(a, 11, 1, largest), wanted)
    finally:
        kernels.set_num_threads(before)


def test_nothing_wanted(kernels: Backend) -> None:
    a = kernels.asarray(np.ones((3, 4), np.float32))
    assert kernels.argtop(a, 0, 1, True).shape == (3, 0)
