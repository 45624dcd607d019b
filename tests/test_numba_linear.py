"""The compiled gradients of fully connected layers against the definition in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.backends.numba_kernels import linear_grads, runtime

Array = Any


def operands(seed: int, relu: bool) -> tuple[Array, Array, Array, Array | None]:
    """gy, x, w and the layer's result (or None) in several memory orders, large enough for the
    kernel."""
    rng = np.random.default_rng(seed)
    m, k, n = (int(v) for v in rng.integers([60, 70, 75], [300, 250, 200]))
    gy, x, w = (rng.standard_normal(s, dtype=np.float32) for s in ((2 * m, n), (m, k), (n, k)))
    gy = gy[::2] if seed % 2 else gy[:m]
    x = np.asfortranarray(x) if seed % 3 else x
    w = np.asfortranarray(w) if seed % 5 else w
    y = np.maximum(rng.standard_normal((m, n), dtype=np.float32), 0) if relu else None
    return gy, x, w, y


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_linear_gradients(seed: int, relu: bool) -> None:
    gy, x, w, y = operands(seed, relu)
    assert linear_grads.accepts(gy, x, y)
    needs = [bool(seed & 1), bool(seed & 2), bool(seed & 4)] if seed % 8 else [True] * 3
    made = load_backend("numba").linear_grad(gy, x, w, needs, y)
    exact = [None if a is None else a.astype(np.float64) for a in (gy, x, w, y)]
    right = load_backend("numpy").linear_grad(exact[0], exact[1], exact[2], needs, exact[3])
    for got, expected in zip(made, right, strict=True):
        assert (got is None) == (expected is None)
        if got is not None:
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, expected, atol=3e-6 * np.abs(expected).max())


def test_nan_in_the_result_stops_the_gradient() -> None:
    gy, x, w, y = operands(0, True)
    assert y is not None
    y[3, 5], gy[4, 6], y[4, 6] = np.nan, np.nan, 1.0
    gx, gw, gb = load_backend("numba").linear_grad(gy, x, w, (True, True, True), y)
    assert np.isfinite(gx[3]).all() and np.isnan(gx[4]).all()
    assert np.isfinite(gb[5]) and np.isnan(gb[6]) and np.isnan(gw[6]).all()


def test_same_bits_for_any_number_of_threads() -> None:
    found = []
    before = runtime.get_num_threads()
    try:
        for count in (1, 2, 3):
            runtime.set_num_threads(count)
            gy, x, w, y = operands(7, True)
            made = load_backend("numba").linear_grad(gy, x, w, (True, True, True), y)
            found.append([a.tobytes() for a in made])
    finally:
        runtime.set_num_threads(before)
    assert found[0] == found[1] == found[2]
