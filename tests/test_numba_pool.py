"""2×2 pooling of planes: vectors that run over the ends of lines write nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_inputs import Guarded

from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.geometry import pool_divisors, pool_window

pytest.importorskip("numba")
pool = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.pool")


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("padding", [(0, 0), (1, 0), (0, 1)])
def test_lines_of_every_length(
    monkeypatch: pytest.MonkeyPatch, padding: tuple[int, int], ceil_mode: bool
) -> None:
    guard, rng = Guarded(), np.random.default_rng(0)
    monkeypatch.setattr(pool, "empty", guard.empty)
    monkeypatch.setattr(pool, "SMALL", 0)
    monkeypatch.setattr(pool, "WORK", 500)  # a line, a few, or parts of a plane
    numpy, numba = load_backend("numpy"), load_backend("numba")
    for width in (2, 3, 7, 14, 16, 17, 28, 31, 32, 33, 34, 35, 47, 64, 97):
        shape = (2, 3, int(rng.integers(2, 8)), width)
        x: Any = rng.integers(-3, 3, shape).astype(np.float32)
        x[rng.random(shape) < 0.02] = np.nan
        window = pool_window(shape[2:], 2, 2, padding, 1, ceil_mode, "pool")
        wanted, winner = numpy.max_pool(x, window)
        y, won = numba.max_pool(x, window)
        np.testing.assert_array_equal(y, wanted)
        np.testing.assert_array_equal(won, winner)
        gy = rng.standard_normal(y.shape).astype(np.float32)
        np.testing.assert_array_equal(
            numba.max_pool_scatter(gy, won, shape, window),
            numpy.max_pool_scatter(gy, winner, shape, window),
        )
        np.testing.assert_array_equal(numba.max_pool_gather(x, won, window), wanted)
        divisors = pool_divisors(shape[2:], window, padding, True)
        x = np.nan_to_num(x)
        np.testing.assert_allclose(
            numba.avg_pool(x, window, divisors), numpy.avg_pool(x, window, divisors), rtol=1e-6
        )
        guard.check()
