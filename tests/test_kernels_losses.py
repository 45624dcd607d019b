"""The kernels of losses of pairs: values, sums and gradients, of every backend and in any memory
order."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.nn import functional as F

SETTINGS = {"huber": (0.7,)}
NAMES = ["square", "absolute", "huber", "logistic", "binary", "divergence"]


def exact(name: str, x: Any, t: Any) -> tuple[Any, Any, Any]:
    """(ℓ, ∂ℓ/∂x, ∂ℓ/∂t) in float64."""
    x, t = x.astype(np.float64), t.astype(np.float64)
    d = x - t
    if name == "square":
        return d**2, 2 * d, -2 * d
    if name == "absolute":
        return np.abs(d), np.sign(d), -np.sign(d)
    if name == "huber":
        near = np.abs(d) < 0.7
        slope = np.where(near, d, 0.7 * np.sign(d))
        return np.where(near, d**2 / 2, 0.7 * (np.abs(d) - 0.35)), slope, -slope
    if name == "logistic":
        return np.logaddexp(0, x) - t * x, 1 / (1 + np.exp(-x)) - t, -x
    if name == "binary":
        a, b = np.log(x), np.log(1 - x)
        return -(t * a + (1 - t) * b), d / (x * (1 - x)), b - a
    return t * (np.log(t) - x), -t, np.log(t) + 1 - x


def drawn(shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Numbers between 0 and 1, so that they may be probabilities."""
    rng = np.random.default_rng(3)
    x, t, g = (rng.uniform(0.02, 0.98, shape).astype(np.float32) for _ in range(3))
    return x, t, g


@pytest.fixture(params=["numpy", "numba"])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
    return str(request.param)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(5,), (3, 4, 5, 6), (2, 3, 65, 67), (4, 9, 40, 41)])
def test_against_float64(device: str, name: str, shape: tuple[int, ...]) -> None:
    k: Any = load_backend(device)
    x, t, g = drawn(shape)
    settings = SETTINGS.get(name, ())
    wanted, slope, target_slope = exact(name, x, t)
    orders = [(x, t, g), (x, np.asfortranarray(t), g), (x[::-1], t, g[..., ::-1])]
    for i, arrays in enumerate(orders):
        a, b, c = map(k.asarray, arrays)
        if i:
            wanted, slope, target_slope = exact(name, arrays[0], arrays[1])
        found = k.to_numpy(k.pair_loss(name, False, a, b, *settings))
        np.testing.assert_allclose(found, wanted, rtol=4e-6, atol=4e-7)
        total = k.to_numpy(k.pair_loss(name, True, a, b, *settings))
        assert total.shape == () and total.dtype == np.float32
        np.testing.assert_allclose(total, wanted.sum(), rtol=3e-6)
        for needs in ((True, True), (True, False), (False, True)):
            one = k.broadcast_to(k.asarray(np.float32(0.5)), shape)
            for grad, factor in ((c, arrays[2]), (one, 0.5)):
                parts = k.pair_loss_grad(name, grad, a, b, needs, *settings)
                for part, need, s in zip(parts, needs, (slope, target_slope), strict=True):
                    assert (part is not None) == need
                    if need:
                        np.testing.assert_allclose(
                            k.to_numpy(part), factor * s, rtol=1e-5, atol=2e-6
                        )


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_on_any_number_of_threads(name: str) -> None:
    pytest.importorskip("numba")
    k: Any = load_backend("numba")
    x, t, _ = drawn((7, 31, 29, 23))
    before = k.get_num_threads()
    try:
        found = set()
        for count in (1, 2, 3):
            k.set_num_threads(count)
            found.add(k.pair_loss(name, True, x, t, *SETTINGS.get(name, ())).tobytes())
    finally:
        k.set_num_threads(before)
    assert len(found) == 1


SPECIAL = np.array([0, -0.0, 1, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, 88, -104], np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_special_numbers_as_composed(name: str) -> None:
    """Infinities, NaN and what overflows: as the composition of NumPy's operations has it."""
    pytest.importorskip("numba")
    x, t = (np.ascontiguousarray(a) for a in np.broadcast_arrays(SPECIAL, SPECIAL[:, None]))
    settings, one = SETTINGS.get(name, ()), np.ones(x.shape, np.float32)
    results = []
    for backend in ("numba", "numpy"):
        k: Any = load_backend(backend)
        with np.errstate(all="ignore"):
            parts = k.pair_loss_grad(name, one, x, t, (True, True), *settings)
            results.append((k.pair_loss(name, False, x, t, *settings), *parts))
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=4e-6, atol=1e-30)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div"])
def test_shapes_and_dtypes_that_differ(device: str, name: str) -> None:
    """Both are brought to one shape and dtype, and the gradients back to theirs."""
    loss = getattr(F, name)
    x = tg.tensor([[0.5, 0.25, 2.0], [1.0, 0.75, 3.0]], backend=device).requires_grad_()
    t = tg.tensor([0.25, 0.5, 0.125], dtype="float64", backend=device).requires_grad_()
    whole = t.detach().reshape(1, 3).expand(2, 3) * 1
    with nullcontext() if name == "kl_div" else pytest.warns(UserWarning, match="broadcast"):
        found = loss(x, t)
    wanted = loss(x.detach().double(), whole)
    assert found.dtype == tg.float64
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    found.backward()
    assert x.grad is not None and t.grad is not None
    assert x.grad.dtype == tg.float32 and t.grad.shape == (3,)
    each = [loss(x.detach().double(), whole + 1e-6 * row).item()
            for row in np.eye(3)]  # fmt: skip
    np.testing.assert_allclose(t.grad.numpy(), (np.array(each) - wanted.item()) / 1e-6, atol=1e-4)


def test_no_warnings_of_what_is_too_large(device: str) -> None:
    x = tg.tensor([math.inf, 1e30], backend=device).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in (F.mse_loss, F.huber_loss):
            loss(x, tg.tensor([math.inf, -1e30], backend=device)).backward()
        huge = tg.tensor([1e30, -1e30], backend=device).requires_grad_()
        (tg.norm(huge) + tg.var(huge)).backward()


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_dtypes(device: str, dtype: str) -> None:
    x, t = (tg.tensor(a, dtype=dtype, backend=device) for a in ([3.0, 5.0], [1.0, 1.0]))
    for reduction, wanted in (("sum", 20.0), ("mean", 10.0)):
        found = F.mse_loss(x, t, reduction=reduction)
        assert found.item() == wanted and str(found.dtype) == dtype
