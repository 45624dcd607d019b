"""Convolution, pooling, batch norm, softmax and optimiser kernels against loop oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tolerances import assert_close, bound

from tinygrad_cnn.backend import Backend, load_backend
from tinygrad_cnn.geometry import Window, pool_divisors, pool_window

Array = Any
DTYPES = ("float64", "float32", "float16")


def normal(seed: int, *shapes: tuple[int, ...], dtype: str = "float64") -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def put(kernels: Backend, *arrays: Array | None) -> list[Array]:
    return [None if a is None else kernels.asarray(a) for a in arrays]


# name: x shape, w shape, stride, padding pairs, dilation, groups
CONVOLUTIONS: dict[str, tuple[Any, ...]] = {
    "1d": ((2, 3, 9), (4, 3, 3), (1,), ((0, 0),), (1,), 1),
    "1d-stride-leaves-cells": ((2, 2, 10), (3, 2, 3), (3,), ((1, 1),), (1,), 1),
    "1d-asymmetric-dilated": ((1, 4, 11), (4, 2, 3), (2,), ((3, 1),), (2,), 2),
    "2d": ((2, 3, 5, 6), (4, 3, 3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "2d-one-by-one": ((2, 5, 3, 4), (3, 5, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "2d-one-by-one-stride": ((2, 5, 5, 4), (3, 5, 1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "2d-3x3-same": ((2, 3, 7, 5), (5, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "2d-3x3-many": ((1, 17, 6, 7), (19, 17, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "2d-stride": ((2, 3, 8, 7), (4, 3, 3, 3), (2, 3), ((1, 1), (1, 1)), (1, 1), 1),
    "2d-stride-skips": ((1, 2, 9, 10), (3, 2, 2, 1), (4, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "2d-asymmetric": ((2, 2, 5, 5), (3, 2, 3, 2), (2, 1), ((0, 2), (3, 1)), (1, 1), 1),
    "2d-dilated": ((1, 2, 9, 8), (3, 2, 3, 2), (1, 2), ((2, 2), (0, 1)), (3, 2), 1),
    "2d-groups": ((2, 6, 5, 4), (9, 2, 3, 3), (1, 2), ((1, 1), (1, 1)), (1, 1), 3),
    "2d-depthwise": ((2, 5, 6, 5), (5, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 5),
    "2d-depthwise-multiplier": ((1, 3, 6, 7), (6, 1, 3, 3), (2, 2), ((0, 1), (0, 1)), (1, 1), 3),
    "2d-5x5": ((2, 1, 9, 9), (6, 1, 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1),
    "2d-kernel-beyond-input": ((1, 2, 2, 2), (2, 2, 4, 5), (1, 1), ((2, 1), (3, 3)), (1, 1), 1),
    "2d-padding-beyond-kernel": ((1, 1, 3, 3), (2, 1, 2, 2), (2, 2), ((4, 3), (5, 0)), (1, 1), 1),
    "2d-empty-batch": ((0, 3, 5, 5), (4, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "3d": ((2, 2, 4, 5, 3), (3, 2, 2, 3, 2), (1, 1, 1), ((0, 0),) * 3, (1, 1, 1), 1),
    "3d-everything": ((1, 4, 5, 6, 5), (4, 2, 2, 3, 2), (2, 1, 3), ((1, 0), (0, 2), (1, 1)),
                      (1, 2, 1), 2),
}  # fmt: skip


@pytest.fixture(params=list(CONVOLUTIONS.values()), ids=list(CONVOLUTIONS))
def convolution(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    x_shape, w_shape, stride, padding, dilation, groups = request.param
    return x_shape, w_shape, Window(w_shape[2:], stride, padding, dilation), groups


@pytest.mark.parametrize("dtype", DTYPES)
def test_convolution_family_against_loops(
    kernels: Backend, convolution: tuple[Any, ...], dtype: str
) -> None:
    x_shape, w_shape, window, groups = convolution
    spatial = oracles.output_shape(x_shape[2:], window)
    assert window.output(x_shape[2:]) == spatial
    y_shape = (x_shape[0], w_shape[0], *spatial)
    x, w, b, gy = normal(1, x_shape, w_shape, w_shape[:1], y_shape, dtype=dtype)
    ax, aw, ab, ag = map(np.abs, (x, w, b, gy))
    kx, kw, kb, kg = put(kernels, x, w, b, gy)
    checks = (
        ("y", kernels.conv(kx, kw, kb, window, groups),
         oracles.conv(x, w, b, window, groups), math.prod(w_shape[1:]) + 1,
         oracles.conv(ax, aw, ab, window, groups)),
        ("gx", kernels.conv_input_grad(kg, kw, x_shape, window, groups),
         oracles.conv_input_grad(gy, w, x_shape, window, groups), w.size // groups,
         oracles.conv_input_grad(ag, aw, x_shape, window, groups)),
        ("gw", kernels.conv_weight_grad(kx, kg, w_shape, window, groups),
         oracles.conv_weight_grad(x, gy, w_shape, window, groups),
         gy.size // gy.shape[1], oracles.conv_weight_grad(ax, ag, w_shape, window, groups)),
    )  # fmt: skip
    for name, found, wanted, length, magnitude in checks:
        try:
            assert_close(kernels.to_numpy(found), wanted, dtype, length, magnitude)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_convolution_without_bias(kernels: Backend) -> None:
    x, w = normal(2, (2, 3, 5, 5), (4, 3, 3, 3))
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    kx, kw = put(kernels, x, w)
    y = kernels.to_numpy(kernels.conv(kx, kw, None, window, 1))
    magnitude = oracles.conv(abs(x), abs(w), None, window, 1)
    assert_close(y, oracles.conv(x, w, None, window, 1), "float64", 27, magnitude)


def strided_views(kernels: Backend, a: Array) -> dict[str, Array]:
    """Arrays equal to ``a`` that lie in memory in other ways."""
    axes = tuple(range(a.ndim))
    doubled = np.repeat(a, 2, axis=-1)
    channels_last = (0, *range(2, a.ndim), 1)
    back = tuple(int(i) for i in np.argsort(channels_last))
    get = kernels.getitem
    last = (..., slice(None, None, 2))
    return {
        "every second": get(kernels.asarray(doubled), last),
        "reversed": kernels.flip(kernels.asarray(np.flip(a, axes).copy()), axes),
        "channels last": kernels.transpose(
            kernels.asarray(a.transpose(channels_last).copy()), back
        ),
        "transposed": kernels.transpose(kernels.asarray(a.transpose().copy()), axes[::-1]),
    }


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("groups", (1, 2))
def test_non_contiguous_inputs(kernels: Backend, dtype: str, groups: int) -> None:
    """Every kernel gives the same numbers whatever the strides, and changes no input."""
    x, w, gy = normal(3, (2, 4, 6, 5), (6, 4 // groups, 3, 3), (2, 6, 3, 3), dtype=dtype)
    window = Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    pool = Window((2, 2), (2, 2), ((0, 0), (1, 0)), (1, 1))
    pooled = pool.output(x.shape[2:])
    (gp,) = normal(4, (2, 4, *pooled), dtype=dtype)
    weight, bias = normal(5, (4,), (4,), dtype=dtype)
    divisors = ((4,) * pooled[0], (1,) * pooled[1])

    def results(x: Array, w: Array, gy: Array, gp: Array) -> list[Array]:
        k = kernels
        y, winner = k.max_pool(x, pool)
        mean, var = k.batch_norm_stats(x)
        kw, kb = put(k, weight, bias)
        return [
            k.conv(x, w, None, window, groups),
            k.conv_input_grad(gy, w, x.shape, window, groups),
            k.conv_weight_grad(x, gy, w.shape, window, groups),
            y, winner,
            k.max_pool_gather(x, winner, pool),
            k.max_pool_scatter(gp, winner, x.shape, pool),
            k.avg_pool(x, pool, divisors),
            k.avg_pool_scatter(gp, x.shape, pool, divisors),
            mean, var,
            k.batch_norm(x, mean, var, kw, kb, 1e-5),
            *k.batch_norm_grad(k.multiply(x, x), x, mean, var, kw, 1e-5),
            k.softmax(x, 1), k.log_softmax(x, 2),
            k.matmul(x, k.transpose(x, (0, 1, 3, 2))),
        ]  # fmt: skip

    plain = [kernels.to_numpy(a) for a in results(*put(kernels, x, w, gy, gp))]
    views = [strided_views(kernels, a) for a in (x, w, gy, gp)]
    for kind in views[0]:
        inputs = [v[kind] for v in views]
        for i, (found, wanted) in enumerate(zip(results(*inputs), plain, strict=True)):
            scale = max(1.0, float(np.abs(wanted.astype(float)).max()))
            allowed = bound(dtype, 60, scale)
            assert np.abs(kernels.to_numpy(found).astype(float) - wanted).max() <= allowed, (
                kind,
                i,
            )
        for before, after in zip((x, w, gy, gp), inputs, strict=True):
            np.testing.assert_array_equal(kernels.to_numpy(after), before)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, ...]:
    dims = draw(st.integers(1, 3))
    most = (40, 12, 6)[dims - 1]
    sizes = draw(st.tuples(*[st.integers(1, most)] * dims))
    window = Window(
        draw(st.tuples(*[st.integers(1, 4)] * dims)),
        draw(st.tuples(*[st.integers(1, 3)] * dims)),
        draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * dims)),
        draw(st.tuples(*[st.integers(1, 3)] * dims)),
    )
    assume(min(window.output(sizes)) >= 1)
    groups = draw(st.integers(1, 3))
    c, o = groups * draw(st.integers(1, 5)), groups * draw(st.integers(1, 9))
    n = draw(st.integers(0, 3))
    return (n, c, *sizes), (o, c // groups, *window.kernel), window, groups


@given(case=convolutions(), seed=st.integers(0, 9))
def test_convolutions_are_adjoint(backend: str, case: tuple[Any, ...], seed: int) -> None:
    """⟨conv(x, w), g⟩ = ⟨x, conv_input_grad(g, w)⟩ = ⟨w, conv_weight_grad(x, g)⟩, and conv agrees
    with its definition at a few outputs."""
    kernels = load_backend(backend)
    x_shape, w_shape, window, groups = case
    y_shape = (x_shape[0], w_shape[0], *window.output(x_shape[2:]))
    x, w, g = normal(seed, x_shape, w_shape, y_shape)
    kx, kw, kg = put(kernels, x, w, g)
    y = kernels.to_numpy(kernels.conv(kx, kw, None, window, groups))
    gx = kernels.to_numpy(kernels.conv_input_grad(kg, kw, x_shape, window, groups))
    gw = kernels.to_numpy(kernels.conv_weight_grad(kx, kg, w_shape, window, groups))
    inner = float((y * g).sum())
    ax, aw = put(kernels, abs(x), abs(w))
    sizes = kernels.to_numpy(kernels.conv(ax, aw, None, window, groups))
    allowed = bound("float64", w.size + g.size, float((sizes * abs(g)).sum()))
    assert abs(inner - float((x * gx).sum())) <= allowed
    assert abs(inner - float((w * gw).sum())) <= allowed
    out_per_group, in_per_group = w_shape[0] // groups, w_shape[1]
    rng = np.random.default_rng(seed)
    for _ in range(3 if y.size else 0):
        at = tuple(int(rng.integers(n)) for n in y.shape)
        first = at[1] // out_per_group * in_per_group
        total = magnitude = 0.0
        for k in oracles.indices(window.kernel):
            h = oracles.cell(at[2:], k, x_shape[2:], window)
            if h is None:
                continue
            for c in range(in_per_group):
                term = x[(at[0], first + c, *h)] * w[(at[1], c, *k)]
                total, magnitude = total + term, magnitude + abs(term)
        assert abs(y[at] - total) <= bound("float64", w[0].size, magnitude)


# -- pooling --------------------------------------------------------------------------------------
# name: x shape, then pool_window's kernel_size, stride, padding, dilation, ceil_mode
POOLS: dict[str, tuple[Any, ...]] = {
    "1d": ((2, 3, 9), 2, None, 0, 1, False),
    "2d": ((2, 3, 6, 8), 2, None, 0, 1, False),
    "2d-remainder": ((2, 2, 7, 5), 2, None, 0, 1, False),
    "2d-ceil": ((2, 2, 7, 6), (2, 3), (2, 4), (1, 0), 1, True),
    "2d-overlap-padded": ((1, 3, 7, 6), 3, 2, 1, 1, False),
    "2d-dilated": ((1, 2, 9, 8), (2, 3), (1, 2), (1, 2), (2, 3), False),
    "2d-gaps": ((1, 2, 9, 10), 2, 4, 0, 1, False),
    "2d-global": ((2, 5, 4, 3), (4, 3), 1, 0, 1, False),
    "2d-many-taps": ((1, 1, 18, 17), 17, 6, 8, 1, False),
    "2d-empty-batch": ((0, 3, 6, 6), 2, None, 0, 1, False),
    "3d": ((1, 2, 5, 4, 6), (2, 2, 3), (1, 2, 2), (1, 0, 1), 1, False),
}


@pytest.fixture(params=list(POOLS.values()), ids=list(POOLS))
def pool(request: pytest.FixtureRequest) -> tuple[tuple[int, ...], Window, tuple[int, ...]]:
    shape, kernel, stride, padding, dilation, ceil_mode = request.param
    window = pool_window(shape[2:], kernel, stride, padding, dilation, ceil_mode, "pool")
    pads = (padding,) * (len(shape) - 2) if isinstance(padding, int) else padding
    return shape, window, pads


@pytest.mark.parametrize("dtype", (*DTYPES, "int64"))
def test_max_pool_against_loops(kernels: Backend, pool: tuple[Any, ...], dtype: str) -> None:
    """Values from a small set, so that ties are everywhere."""
    shape, window, _ = pool
    x = np.random.default_rng(6).integers(-3, 0, shape).astype(dtype)
    wanted, winner = oracles.max_pool(x, window)
    y, won = kernels.max_pool(kernels.asarray(x), window)
    assert kernels.to_numpy(y).dtype == dtype
    assert kernels.to_numpy(won).dtype == ("uint8" if window.taps() <= 255 else "int32")
    np.testing.assert_array_equal(kernels.to_numpy(y), wanted)
    np.testing.assert_array_equal(kernels.to_numpy(won), winner)


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pool_gather_and_scatter(kernels: Backend, pool: tuple[Any, ...], dtype: str) -> None:
    shape, window, _ = pool
    x, v = normal(7, shape, shape, dtype=dtype)
    _, winner = oracles.max_pool(x, window)
    (gy,) = normal(8, winner.shape, dtype=dtype)
    _, won = kernels.max_pool(kernels.asarray(x), window)
    taken = kernels.max_pool_gather(kernels.asarray(v), won, window)
    assert kernels.to_numpy(taken).dtype == dtype
    np.testing.assert_array_equal(
        kernels.to_numpy(taken), oracles.max_pool_gather(v, winner, window)
    )
    gx = kernels.max_pool_scatter(kernels.asarray(gy), won, shape, window)
    assert_close(
        kernels.to_numpy(gx), oracles.max_pool_scatter(gy, winner, shape, window), dtype,
        window.taps(), oracles.max_pool_scatter(abs(gy), winner, shape, window),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_max_pool_special_values(kernels: Backend, dtype: str) -> None:
    """The last NaN of a window wins; −inf still beats padding; a tie goes to the first."""
    inf, nan = math.inf, math.nan
    rows = [
        [1, 1, nan, 5, nan, 2, -inf, -inf],
        [1, 1, 3, nan, nan, nan, -inf, -inf],
        [-inf, 0, nan, inf, 4, 9, -0.0, 0.0],
        [inf, inf, 7, 7, 9, 9, 0.0, -0.0],
    ]
    x = np.array(rows, dtype).reshape(1, 1, 4, 8)
    for kernel, stride, padding in ((2, 2, 0), (2, 2, 1), (3, 2, 1), (3, 1, 1)):
        window = pool_window((4, 8), kernel, stride, padding, 1, True, "pool")
        y, won = kernels.max_pool(kernels.asarray(x), window)
        wanted, winner = oracles.max_pool(x, window)
        np.testing.assert_array_equal(kernels.to_numpy(y), wanted)
        np.testing.assert_array_equal(kernels.to_numpy(won), winner)
    window = Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
    _, won = kernels.max_pool(kernels.asarray(x), window)
    assert kernels.to_numpy(won).tolist() == [[[[0, 3, 3, 0], [2, 0, 1, 0]]]]


@pytest.mark.parametrize("include_pad", (True, False))
@pytest.mark.parametrize("dtype", DTYPES)
def test_avg_pool_against_loops(
    kernels: Backend, pool: tuple[Any, ...], dtype: str, include_pad: bool
) -> None:
    shape, window, pads = pool
    if set(window.dilation) != {1}:
        window = window._replace(dilation=(1,) * len(pads))
    divisors = pool_divisors(shape[2:], window, pads, include_pad)
    (x,) = normal(9, shape, dtype=dtype)
    y = kernels.to_numpy(kernels.avg_pool(kernels.asarray(x), window, divisors))
    wanted = oracles.avg_pool(x, window, divisors)
    assert_close(y, wanted, dtype, window.taps(), oracles.avg_pool(abs(x), window, divisors))
    (gy,) = normal(10, y.shape, dtype=dtype)
    gx = kernels.avg_pool_scatter(kernels.asarray(gy), shape, window, divisors)
    assert_close(
        kernels.to_numpy(gx), oracles.avg_pool_scatter(gy, shape, window, divisors), dtype,
        window.taps(), oracles.avg_pool_scatter(abs(gy), shape, window, divisors),
    )  # fmt: skip


# -- batch norm -----------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", ((5, 3), (4, 2, 7), (3, 5, 4, 3), (2, 3, 2, 3, 2), (1, 2, 3, 5)))
@pytest.mark.parametrize("affine", (True, False))
@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_against_loops(
    kernels: Backend, shape: tuple[int, ...], affine: bool, dtype: str
) -> None:
    eps = 1e-3
    x, gy = normal(11, shape, shape, dtype=dtype)
    weight, bias = normal(12, shape[1:2], shape[1:2], dtype=dtype) if affine else (None, None)
    mean, var = (a.astype(dtype) for a in oracles.batch_norm_stats(x))
    kx, kg, km, kv, kw, kb = put(kernels, x, gy, mean, var, weight, bias)
    count = x.size // shape[1]
    found = kernels.batch_norm_stats(kx)
    for stat, wanted in zip(found, oracles.batch_norm_stats(x), strict=True):
        assert_close(kernels.to_numpy(stat), wanted, dtype, 8, np.abs(wanted) + np.abs(x).max())
    y = kernels.to_numpy(kernels.batch_norm(kx, km, kv, kw, kb, eps))
    wanted = oracles.batch_norm(x, mean, var, weight, bias, eps)
    assert_close(y, wanted, dtype, 8, np.abs(wanted).max() + 1)
    grads = kernels.batch_norm_grad(kg, kx, km, kv, kw, eps)
    exact = oracles.batch_norm_grad(gy, x, mean, var, weight, eps)
    for name, a, wanted in zip(("gx", "gweight", "gbias"), grads, exact, strict=True):
        scale = np.abs(gy).max() * (4 if name == "gx" else count) / math.sqrt(float(var.min()))
        try:
            assert_close(kernels.to_numpy(a), wanted, dtype, 8, max(scale, np.abs(wanted).max()))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_batch_norm_survives_a_large_mean(kernels: Backend) -> None:
    """E[x²] − E[x]² would lose every digit here."""
    (noise,) = normal(13, (64, 2, 5, 5))
    x = (noise + 4096.0).astype("float32")
    mean, var = kernels.batch_norm_stats(kernels.asarray(x))
    wanted_mean, wanted_var = oracles.batch_norm_stats(x)
    np.testing.assert_allclose(kernels.to_numpy(mean), wanted_mean, rtol=2e-7)
    np.testing.assert_allclose(kernels.to_numpy(var), wanted_var, rtol=1e-6)


# -- softmax, cross-entropy, linear ---------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ((4, 10), (1, 1), (3, 70), (2, 3, 5), (0, 4)))
def test_softmax_family(kernels: Backend, shape: tuple[int, ...], dtype: str) -> None:
    x = (normal(14, shape)[0] * 5).astype(dtype)
    kx = kernels.asarray(x)
    p, logs = oracles.softmax(x), oracles.log_softmax(x)
    scale = np.abs(logs).max(initial=1.0) + np.abs(x).max(initial=1.0)
    assert_close(kernels.to_numpy(kernels.softmax(kx, x.ndim - 1)), p, dtype, 8, p * scale + 1e-7)
    assert_close(kernels.to_numpy(kernels.log_softmax(kx, x.ndim - 1)), logs, dtype, 8, scale)
    turned = kernels.transpose(kx, tuple(range(x.ndim))[::-1])
    found = kernels.to_numpy(kernels.softmax(turned, 0)).transpose()
    assert_close(found, p, dtype, 8, p * scale + 1e-7)
    if x.ndim == 2:
        target = np.random.default_rng(15).integers(0, shape[1], shape[0])
        losses, probabilities = kernels.cross_entropy(kx, kernels.asarray(target))
        wanted = np.array([-logs[n, t] for n, t in enumerate(target)])
        assert_close(kernels.to_numpy(losses), wanted, dtype, 8, scale)
        assert_close(kernels.to_numpy(probabilities), p, dtype, 8, p * scale + 1e-7)
        (g,) = normal(16, shape[:1], dtype=dtype)
        stored = p.astype(dtype)
        gx = kernels.cross_entropy_grad(*put(kernels, g, stored, target))
        onehot = np.arange(shape[1]) == target[:, None]
        wanted = (stored.astype(float) - onehot) * g.astype(float)[:, None]
        assert_close(kernels.to_numpy(gx), wanted, dtype, 2, np.abs(g.astype(float))[:, None])


def test_softmax_does_not_overflow(kernels: Backend) -> None:
    x = np.array([[1e30, 1.0, -1e30], [-1e30, -1e30, -1e30]], "float32")
    wanted = [[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(
        kernels.to_numpy(kernels.softmax(kernels.asarray(x), 1)), wanted, rtol=1e-6
    )
    losses, _ = kernels.cross_entropy(kernels.asarray(x), kernels.asarray(np.array([0, 2])))
    np.testing.assert_allclose(kernels.to_numpy(losses), [0, math.log(3)], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lead", ((), (5,), (2, 3), (0,)))
@pytest.mark.parametrize("with_bias", (True, False))
def test_linear(kernels: Backend, lead: tuple[int, ...], with_bias: bool, dtype: str) -> None:
    x, w, b = normal(17, (*lead, 7), (4, 7), (4,), dtype=dtype)
    bias = b if with_bias else np.zeros_like(b)
    wanted = oracles.matmul(x.reshape(-1, 7), w.T) + bias
    size = oracles.matmul(abs(x).reshape(-1, 7), abs(w).T) + abs(bias)
    found = kernels.linear(*put(kernels, x, w, b if with_bias else None))
    shape = (*lead, 4)
    assert_close(kernels.to_numpy(found), wanted.reshape(shape), dtype, 9, size.reshape(shape))


# -- optimiser steps ------------------------------------------------------------------------------
def step_arrays(kernels: Backend, dtype: str, count: int) -> list[list[Array]]:
    """``count`` lists of parameters of shapes (3, 4), (), (0,) and a transposed (5, 2)."""
    lists = []
    for i in range(count):
        a, b, c, d = normal(20 + i, (3, 4), (), (0,), (2, 5))
        plain = [np.abs(v) if i == 3 else v for v in (a, np.asarray(b), c, d)]  # 3: Adam's v
        arrays = [kernels.asarray(v.astype(dtype)) for v in plain]
        arrays[3] = kernels.transpose(arrays[3], (1, 0))
        lists.append(arrays)
    return lists


def compare_steps(kernels: Backend, before: Any, after: Any, dtype: str, rule: Any) -> None:
    """``rule`` maps one number of each list before to the numbers expected after."""
    for old, new in zip(zip(*before, strict=True), zip(*after, strict=True), strict=True):
        for at in oracles.indices(old[0].shape):
            wanted = rule(*(float(a[at]) for a in old))
            found = [kernels.to_numpy(a)[at] for a in new]
            scale = 4 + max(abs(float(a[at])) for a in old)
            for f, w in zip(found, wanted, strict=True):
                assert_close(f, w, dtype, 4, scale)


def snapshot(kernels: Backend, lists: list[list[Array]]) -> list[list[Array]]:
    return [[kernels.to_numpy(a).copy() for a in arrays] for arrays in lists]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("weight_decay", (0.0, 0.1))
@pytest.mark.parametrize(
    ("momentum", "dampening", "nesterov", "first"),
    ((0.0, 0.0, False, True), (0.9, 0.0, False, True), (0.9, 0.0, False, False),
     (0.8, 0.3, False, False), (0.9, 0.0, True, False), (0.9, 0.0, True, True)),
)  # fmt: skip
def test_sgd_step(
    kernels: Backend, dtype: str, weight_decay: float, momentum: float, dampening: float,
    nesterov: bool, first: bool,
) -> None:  # fmt: skip
    params, grads, momenta = lists = step_arrays(kernels, dtype, 3)
    before = snapshot(kernels, lists)
    options: dict[str, Any] = {
        "lr": 0.05, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
        "nesterov": nesterov, "first": first,
    }  # fmt: skip
    kernels.sgd_step(params, grads, momenta if momentum else None, **options)
    for g, old in zip(grads, before[1], strict=True):
        np.testing.assert_array_equal(kernels.to_numpy(g), old)

    def rule(p: float, g: float, m: float) -> tuple[float, float]:
        new_p, new_m = oracles.sgd(p, g, m, **options)
        return new_p, new_m if momentum else m

    compare_steps(kernels, before, [params, momenta], dtype, rule)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize(("weight_decay", "decoupled"), ((0.0, False), (0.1, False), (0.1, True)))
@pytest.mark.parametrize("step", (1, 7))
def test_adam_step(
    kernels: Backend, dtype: str, weight_decay: float, decoupled: bool, step: int
) -> None:
    params, grads, m, v = lists = step_arrays(kernels, dtype, 4)
    before = snapshot(kernels, lists)
    options: dict[str, Any] = {
        "lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": weight_decay,
        "decoupled": decoupled, "step": step,
    }  # fmt: skip
    kernels.adam_step(params, grads, m, v, **options)
    for g, old in zip(grads, before[1], strict=True):
        np.testing.assert_array_equal(kernels.to_numpy(g), old)

    def rule(p: float, g: float, mean: float, square: float) -> tuple[float, float, float]:
        return oracles.adam(p, g, mean, square, **options)

    compare_steps(kernels, before, [params, m, v], dtype, rule)
