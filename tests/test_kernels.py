"""Convolution and pooling kernels against loop oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernel_inputs import DTYPES, Array, normal, put
from tolerances import assert_close, bound

from tinygrad_cnn.backend import Backend, load_backend
from tinygrad_cnn.geometry import Window, pool_divisors, pool_window

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


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_adjoints_take_the_output_sizes_from_gy(kernels: Backend, dtype: str) -> None:
    """A transposed convolution may ask for an input so large (output_padding up to the dilation)
    that the window would have more outputs; the sum is over those that gy has."""
    window = Window((3, 2), (1, 2), ((1, 1), (0, 1)), (3, 1))
    x_shape, w_shape = (2, 4, 11, 10), (6, 2, 3, 2)
    gy_shape = (2, 6, 5, 4)
    assert window.output(x_shape[2:]) == (7, 5)
    x, w, gy = normal(18, x_shape, w_shape, gy_shape, dtype=dtype)
    kx, kw, kg = put(kernels, x, w, gy)
    gx = kernels.to_numpy(kernels.conv_input_grad(kg, kw, x_shape, window, 2))
    size = oracles.conv_input_grad(abs(gy), abs(w), x_shape, window, 2)
    assert_close(gx, oracles.conv_input_grad(gy, w, x_shape, window, 2), dtype, 18, size)
    gw = kernels.to_numpy(kernels.conv_weight_grad(kx, kg, w_shape, window, 2))
    size = oracles.conv_weight_grad(abs(x), abs(gy), w_shape, window, 2)
    assert_close(gw, oracles.conv_weight_grad(x, gy, w_shape, window, 2), dtype, 40, size)


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
    "1d-long": ((1, 2, 71), 3, 2, 1, 1, False),  # lines of more outputs than a vector's lanes
    "2d-long": ((1, 1, 4, 40), (2, 3), 1, (0, 1), (1, 2), True),
    "2d-long-strided": ((2, 1, 7, 83), 3, (2, 4), 1, 1, True),
    "2d-long-apart": ((1, 2, 5, 131), (2, 5), (2, 7), 0, 1, False),
    "3d-long": ((1, 1, 3, 3, 75), 2, (1, 1, 2), 1, 1, False),
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


@pytest.mark.parametrize("stride", (1, 2))
def test_not_a_number_wins_in_long_lines(kernels: Backend, stride: int) -> None:
    (x,) = normal(18, (2, 3, 90), dtype="float32")
    x[0, 1, 40] = x[1, 2, 0] = x[1, 2, 89] = np.nan
    window = pool_window((90,), 3, stride, 1, 1, False, "pool")
    for found, wanted in zip(
        kernels.max_pool(kernels.asarray(x), window), oracles.max_pool(x, window), strict=True
    ):
        np.testing.assert_array_equal(kernels.to_numpy(found), wanted)


@st.composite
def pools(draw: st.DrawFn) -> tuple[tuple[int, ...], Window]:
    dims = draw(st.integers(1, 3))
    sizes = draw(st.tuples(*[st.integers(1, (20, 8, 5)[dims - 1])] * dims))
    kernel = draw(st.tuples(*[st.integers(1, 3)] * dims))
    stride = draw(st.tuples(*[st.integers(1, 3)] * dims))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    try:
        window = pool_window(sizes, kernel, stride, padding, 1, draw(st.booleans()), "pool")
    except ValueError:
        assume(False)
    return (draw(st.integers(0, 2)), draw(st.integers(1, 5)), *sizes), window


@given(case=pools(), seed=st.integers(0, 9))
def test_max_pool_of_any_shape(
    backend: str, case: tuple[tuple[int, ...], Window], seed: int
) -> None:
    """Values and winners are the loops', and ⟨gather(v), g⟩ = ⟨v, scatter(g)⟩."""
    kernels = load_backend(backend)
    shape, window = case
    x = np.random.default_rng(seed).integers(-4, 4, shape).astype("float64")
    x[x == 3] = math.nan
    y, won = kernels.max_pool(kernels.asarray(x), window)
    wanted, winner = oracles.max_pool(x, window)
    np.testing.assert_array_equal(kernels.to_numpy(y), wanted)
    np.testing.assert_array_equal(kernels.to_numpy(won), winner)
    v, g = normal(seed, shape, winner.shape)
    kv, kg = put(kernels, v, g)
    gathered = kernels.to_numpy(kernels.max_pool_gather(kv, won, window))
    scattered = kernels.to_numpy(kernels.max_pool_scatter(kg, won, shape, window))
    allowed = bound("float64", v.size + g.size, float(abs(gathered * g).sum()))
    assert abs(float((gathered * g).sum()) - float((v * scattered).sum())) <= allowed


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
