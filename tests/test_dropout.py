"""Dropout: who is dropped, how often, and that everybody draws the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.nn import functional as F

CHANNELS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "dropout1d": (F.dropout1d, (40, 30, 5)),
    "dropout1d-unbatched": (F.dropout1d, (400, 5)),
    "dropout2d": (F.dropout2d, (40, 30, 2, 3)),
    "dropout2d-unbatched": (F.dropout2d, (400, 2, 3)),
    "dropout3d": (F.dropout3d, (20, 30, 2, 1, 3)),
    "dropout3d-unbatched": (F.dropout3d, (400, 2, 1, 3)),
}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_elements_are_zero_or_scaled(backend: str, p: float) -> None:
    tg.manual_seed(1)
    x = tg.ones(200, 300, dtype="float64", backend=backend)
    y = F.dropout(x, p).numpy()
    dropped = y == 0
    np.testing.assert_allclose(y[~dropped], 1 / (1 - p), rtol=1e-12)
    spread = np.sqrt(p * (1 - p) / y.size)
    assert abs(dropped.mean() - p) < 5 * spread
    neighbours = np.mean((dropped[:, 1:] - p) * (dropped[:, :-1] - p))
    assert abs(neighbours) < 5 * p * (1 - p) / np.sqrt(y.size)


@pytest.mark.parametrize("name", CHANNELS)
def test_whole_channels(backend: str, name: str) -> None:
    tg.manual_seed(2)
    function, shape = CHANNELS[name]
    y = function(tg.ones(*shape, backend=backend), 0.3).numpy()
    lead = 1 if "unbatched" in name else 2
    flat = y.reshape(int(np.prod(shape[:lead])), -1)
    assert ((flat == flat[:, :1]).all(axis=1)).all()
    assert set(np.round(flat[:, 0], 5)) == {0.0, np.float32(np.round(1 / 0.7, 5))}
    assert abs((flat[:, 0] == 0).mean() - 0.3) < 5 * np.sqrt(0.21 / len(flat))


def test_the_gradient_is_the_mask_to_every_order(backend: str) -> None:
    tg.manual_seed(3)
    x = tg.full((50,), 2.0, dtype="float64", backend=backend, requires_grad=True)
    y = F.dropout(x, 0.5)
    (g,) = tg.autograd.grad((y * y).sum(), x, create_graph=True)
    (h,) = tg.autograd.grad(g.sum(), x)
    np.testing.assert_array_equal(g.detach().numpy(), 8.0 * (y.detach().numpy() != 0) * 2)
    np.testing.assert_array_equal(h.numpy(), 8.0 * (y.detach().numpy() != 0))


def test_same_mask_for_every_backend_and_dtype() -> None:
    results = []
    for name in ("numpy", "numba"):
        try:
            load_backend(name)
        except ImportError:
            pytest.skip(f"backend {name} is missing")
        for dtype in ("float32", "float64", "float16"):
            tg.manual_seed(4)
            results.append(F.dropout(tg.ones(1000, dtype=dtype, backend=name), 0.4).numpy() == 0)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_limits_and_evaluation(backend: str) -> None:
    x = tg.randn(7, 5, backend=backend)
    assert F.dropout(x, 0.5, training=False) is x
    assert F.alpha_dropout(x, 0.5) is x
    np.testing.assert_array_equal(F.dropout(x, 0.0).numpy(), x.numpy())
    for function in (F.dropout, F.alpha_dropout):
        np.testing.assert_array_equal(function(x, 1.0, True).numpy(), np.zeros((7, 5)))
    assert F.dropout(tg.zeros(0, 3, backend=backend)).shape == (0, 3)
    y = x.clone()
    assert F.dropout(y, 0.5, inplace=True) is y
    assert (y.numpy() == 0).any()
    with pytest.raises(ValueError, match="dropout2d: expected 4 dimensions"):
        F.dropout2d(x)


def test_alpha_dropout_keeps_mean_and_variance(backend: str) -> None:
    tg.manual_seed(5)
    x = tg.randn(400, 500, dtype="float64", backend=backend)
    y = F.alpha_dropout(x, 0.3, training=True).numpy()
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02
    _, counts = np.unique(y, return_counts=True)
    assert abs(counts.max() / y.size - 0.3) < 0.01  # the dropped ones, all of one value
