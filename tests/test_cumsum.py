"""Running sums of large arrays: every axis, memory order and direction give NumPy's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_cnn.backend import Backend


@pytest.mark.parametrize(
    "shape", ((17, 1501), (1501, 17), (7, 33, 99), (2, 3, 41, 71), (20011,), (1, 20011), (18000, 1))
)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_running_sums(kernels: Backend, shape: tuple[int, ...], dtype: str) -> None:
    if kernels.name not in ("numpy", "numba"):
        pytest.skip("the others sum in another order, on a simulator too slow for this size")
    rng = np.random.default_rng(8)
    plain = rng.standard_normal(shape).astype(dtype)
    turned = rng.standard_normal(shape[::-1]).astype(dtype).T
    sliced = rng.standard_normal((*shape[:-1], 2 * shape[-1])).astype(dtype)[..., ::2]
    for a in (plain, turned, sliced):
        for axis in range(a.ndim):
            for view in (a, np.flip(a, axis)):
                found = kernels.cumsum(view, axis)
                assert found.dtype == dtype
                np.testing.assert_array_equal(found, np.cumsum(view, axis))


def test_running_sums_on_any_number_of_threads(kernels: Backend) -> None:
    if kernels.name not in ("numpy", "numba"):
        pytest.skip("the others have no threads to choose")
    a = np.random.default_rng(9).standard_normal((61, 77, 13), dtype=np.float32)
    before = kernels.get_num_threads()
    try:
        for threads in (1, 3):
            kernels.set_num_threads(threads)
            for axis in range(3):
                exact = np.cumsum(a.astype(np.float64), axis)
                found = kernels.cumsum(a, axis)
                np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4)
                np.testing.assert_array_equal(found, np.cumsum(a, axis))
    finally:
        kernels.set_num_threads(before)
