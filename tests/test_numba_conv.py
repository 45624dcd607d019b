"""The compiled convolution and matrix-product kernels against NumPy in float64.

Bounds are not checked inside these kernels, so every case runs with guard bytes around all memory
that a kernel may write, and on views whose surroundings are NaN: whatever is read beyond an input
shows in the result.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from tinygrad_cnn.geometry import Window

pytest.importorskip("numba")
dispatch = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.dispatch")

from tinygrad_cnn.backends.numba_kernels import (  # noqa: E402
    conv_depthwise,
    conv_depthwise_lines,
    conv_direct,
    conv_pool,
    conv_pool_grad,
    conv_scatter,
    conv_volume,
    conv_whole,
    gemm,
    layout,
    memory,
    microkernel,
    pool,
    simd,
    winograd,
    winograd_grad,
    winograd_plan,
    winograd_strided,
)
from tinygrad_cnn.backends.numba_kernels.runtime import (  # noqa: E402
    address,
    get_num_threads,
    kernel_of,
    set_num_threads,
)

Array = Any
MODULES = (
    conv_depthwise,
    conv_depthwise_lines,
    conv_direct,
    conv_pool,
    conv_pool_grad,
    conv_scatter,
    conv_volume,
    conv_whole,
    gemm,
    layout,
    winograd,
    winograd_grad,
    winograd_strided,
)
GUARD = 256  # float32 before and after every array that a kernel writes
SENTINEL = np.float32(-12345.678)


@pytest.fixture(autouse=True)
def guards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Arrays for kernels get guard values around them, which must still be there at the end."""
    blocks: list[tuple[Array, int]] = []

    def guarded(shape: tuple[int, ...], dtype: Any, strides: Any = None) -> Array:
        count = int(np.prod(shape))
        block = np.full(count + 2 * GUARD, SENTINEL, np.float32)
        block[GUARD : GUARD + count] = np.nan  # uninitialised memory must not matter
        blocks.append((block, count))
        return np.ndarray(shape, dtype, block, 4 * GUARD, strides)

    for module in MODULES:
        monkeypatch.setattr(module, "empty", guarded, raising=False)
    yield
    for block, count in blocks:
        assert (block[:GUARD] == SENTINEL).all(), "written before the start of an array"
        assert (block[GUARD + count :] == SENTINEL).all(), "written beyond the end of an array"


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    count = get_num_threads()
    yield
    set_num_threads(count)


# -- oracles ---------------------------------------------------------------------------------------


def windows(x: Array, window: Window, groups: int) -> Array:
    """x under every output: (n, group, c, p, q, i, j), float64."""
    (k, m), (s, t), pads, (d, e) = window
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *pads))
    view = sliding_window_view(padded, (d * (k - 1) + 1, e * (m - 1) + 1), axis=(2, 3))
    view = view[:, :, ::s, ::t, ::d, ::e]
    return view.reshape(len(x), groups, -1, *view.shape[2:])


def forward(x: Array, w: Array, window: Window, groups: int) -> Array:
    kernel = w.astype(np.float64).reshape(groups, -1, *w.shape[1:])
    y = np.einsum("ngcpqij,gocij->ngopq", windows(x, window, groups), kernel, optimize=True)
    return y.reshape(len(x), len(w), *y.shape[3:])


def weight_grad(x: Array, gy: Array, shape: Any, window: Window, groups: int) -> Array:
    g = gy.astype(np.float64).reshape(len(gy), groups, -1, *gy.shape[2:])
    return np.einsum("ngcpqij,ngopq->gocij", windows(x, window, groups), g, optimize=True).reshape(
        shape
    )


def input_grad(gy: Array, w: Array, shape: Any, window: Window, groups: int) -> Array:
    (k, m), (s, t), ((top, bottom), (left, right)), (d, e) = window
    n, c, high, wide = shape
    p, q = gy.shape[2:]
    gx = np.zeros((n, c, high + top + bottom, wide + left + right))
    g = gy.astype(np.float64).reshape(n, groups, -1, p, q)
    kernel = w.astype(np.float64).reshape(groups, -1, *w.shape[1:])
    for i, j in itertools.product(range(k), range(m)):
        part = np.einsum("ngopq,goc->ngcpq", g, kernel[..., i, j]).reshape(n, c, p, q)
        gx[:, :, i * d : i * d + s * (p - 1) + 1 : s, j * e : j * e + t * (q - 1) + 1 : t] += part
    return gx[:, :, top : top + high, left : left + wide]


# -- inputs ----------------------------------------------------------------------------------------


def surrounded(a: Array, order: tuple[int, ...], rng: np.random.Generator) -> Array:
    """The values of ``a`` as a view, stored in this axis order, inside an array of NaN."""
    before, after = rng.integers(0, 3, (2, a.ndim))
    shape = [n + b + e for n, b, e in zip(a.shape, before, after, strict=True)]
    whole = np.full([shape[i] for i in order], np.nan, np.float32).transpose(np.argsort(order))
    view = whole[tuple(slice(b, b + n) for n, b in zip(a.shape, before, strict=True))]
    view[...] = a
    return view


ORDERS = [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0), (2, 0, 1, 3)]


def array(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    values = rng.standard_normal(shape, dtype=np.float32)
    if rng.random() < 0.3:
        return values
    return surrounded(values, ORDERS[rng.integers(len(ORDERS))], rng)


DIRECT, WINOGRAD = (1e-6, 1e-7), (1e-4, 1e-5)  # largest and root mean square error of a term


def check(got: Array, expected: Array, terms: float, allowed: Any = DIRECT) -> None:
    """Errors relative to √terms, the size of a sum of so many products of standard normal numbers.

    Rounding a growing sum at every step adds errors that themselves grow as the root of the count.
    """
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    error = (got - expected) / (np.sqrt(terms) + 1)
    steps = np.sqrt(terms) * np.finfo(np.float32).eps
    assert np.abs(error).max(initial=0) <= allowed[0] + 2 * steps
    assert np.sqrt(np.mean(np.square(error))) <= allowed[1] + steps / 2


def sizes(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...], Window, int]:
    """A random convolution: x shape, w shape, window, groups."""
    while True:
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        c = groups * int(rng.choice([1, 2, 3, 5, 8, 15, 16, 17, 33]))
        o = groups * int(rng.choice([1, 3, 6, 15, 16, 17, 31, 32, 33, 47, 48, 64, 80, 97]))
        kernel, stride, dilation = (
            (int(a), int(b)) for a, b in rng.integers(1, (5, 4, 4), (2, 3)).T
        )
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 4, (2, 2)))
        window = Window(kernel, stride, padding, dilation)
        n, high, wide = (int(v) for v in rng.integers(1, (7, 15, 15)))
        if min(window.output((high, wide))) > 0:
            return (n, c, high, wide), (o, c // groups, *kernel), window, groups


# -- tests -----------------------------------------------------------------------------------------


def check_all_directions(
    module: Any, case: Any, rng: np.random.Generator, allowed: Any = DIRECT
) -> None:
    """conv, conv_input_grad (also added to an array) and conv_weight_grad of one module."""
    x_shape, w_shape, window, groups = case
    x, w = array(rng, x_shape), array(rng, w_shape)
    bias = rng.standard_normal(len(w), dtype=np.float32)
    terms = w[0].size
    expected = forward(x, w, window, groups)
    check(module.conv(x, w, None, window, groups), expected, terms, allowed)
    expected += bias[:, None, None]
    check(module.conv(x, w, bias, window, groups, True), np.maximum(expected, 0), terms, allowed)
    gy = array(rng, expected.shape)
    per_cell = w.shape[0] // groups * window.taps()
    expected = input_grad(gy, w, x_shape, window, groups)
    check(module.conv_input_grad(gy, w, x_shape, window, groups), expected, per_cell, allowed)
    into = layout.channels_last(x_shape)
    into[...] = x
    assert module.conv_input_grad(gy, w, x_shape, window, groups, into) is into
    check(into, expected + x, per_cell, allowed)
    expected = weight_grad(x, gy, w_shape, window, groups)
    check(module.conv_weight_grad(x, gy, w_shape, window, groups), expected, gy[:, 0].size, allowed)


@pytest.mark.parametrize("seed", range(40))
def test_direct_convolution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_all_directions(conv_direct, sizes(rng), rng)


@pytest.mark.parametrize("channels", [2, 15, 16, 17, 33, 40])
@pytest.mark.parametrize("seed", range(4))
def test_depthwise_convolution(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    (n, _, high, wide), (_, _, *kernel), window, _ = sizes(rng)
    case = (n, channels, high, wide), (channels, 1, *kernel), window, channels
    check_all_directions(conv_depthwise, case, rng)


@pytest.mark.parametrize("channels", [2, 15, 16, 17, 33, 40])
@pytest.mark.parametrize("seed", range(6))
def test_depthwise_convolution_by_lines(seed: int, channels: int) -> None:
    rng = np.random.default_rng(100 * seed + channels)
    kernel = [(3, 3), (2, 4), (5, 5)][rng.integers(3)]  # each is compiled for some seconds
    stride = [(1, 1), (2, 2), (3, 1)][rng.integers(3)]
    padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 6, (2, 2)))
    window = Window(kernel, stride, padding, (1, 1))
    assert conv_depthwise_lines.accepts(window)
    n, high, wide = (int(v) for v in rng.integers(5, (9, 24, 24)))
    case = (n, channels, high, wide), (channels, 1, *kernel), window, channels
    check_all_directions(conv_depthwise_lines, case, rng)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (9, 1)])
@pytest.mark.parametrize("kernel, stride", [((7, 7), (1, 1)), ((3, 3), (2, 2)), ((1, 2), (3, 3))])
def test_lines_shorter_than_the_kernel(size: Any, kernel: Any, stride: Any) -> None:
    window = Window(kernel, stride, ((3, 4), (4, 3)), (1, 1))
    case = (2, 20, *size), (20, 1, *kernel), window, 20
    check_all_directions(conv_depthwise_lines, case, np.random.default_rng(sum(size)))


@pytest.mark.parametrize("channels", [1, 3, 16, 17])
@pytest.mark.parametrize("seed", range(3))
def test_stacked_volumes_and_their_adjoint(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    k, step, dilation = ((2, 2, 2), (3, 1, 1), (3, 2, 1))[seed]
    window = Window((k, 3, 3), (step, 1, 1), ((2, 1), (0, 0), (0, 0)), (dilation, 1, 1))
    shape = (3, channels, 6, 5, 7)
    order = [(0, 1, 2, 3, 4), (0, 2, 3, 4, 1), (4, 1, 0, 3, 2)][seed]
    x = surrounded(rng.standard_normal(shape, dtype=np.float32), order, rng)
    outputs = window.output(shape[2:])[0]
    s = conv_volume.stack(x, window, outputs)
    deep = s.reshape(3, outputs, k, channels, 5, 7)
    g = layout.to_channels_last(rng.standard_normal(s.shape, dtype=np.float32))
    back = np.zeros(shape)
    for a, i in itertools.product(range(outputs), range(k)):
        at = a * step + i * dilation - 2
        inside = 0 <= at < 6
        np.testing.assert_array_equal(deep[:, a, i], x[:, :, at] if inside else 0)
        if inside:
            back[:, :, at] += g.reshape(deep.shape)[:, a, i]
    found = conv_volume.unstack(g, shape, window, outputs)
    np.testing.assert_allclose(found, back, rtol=0, atol=2e-6)


@pytest.mark.parametrize("seed", range(30))
def test_product_and_scatter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x_shape, w_shape, window, _ = sizes(rng)
    w_shape = (w_shape[0], x_shape[1], *w_shape[2:])
    w = array(rng, w_shape)
    gy = array(rng, (x_shape[0], w_shape[0], *window.output(x_shape[2:])))
    terms = w_shape[0] * window.taps()
    expected = input_grad(gy, w, x_shape, window, 1)
    check(conv_scatter.conv_input_grad(gy, w, x_shape, window, 1), expected, terms)
    into = layout.channels_last(x_shape)
    into[...] = 1
    check(conv_scatter.conv_input_grad(gy, w, x_shape, window, 1, into), expected + 1, terms)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("n, c, o, size", [
    (1, 1, 1, (1, 1)), (5, 3, 7, (1, 1)), (3, 2, 5, (4, 3)), (17, 33, 65, (4, 4)),
    (2, 1, 3, (28, 27)), (9, 100, 31, (1, 5)),
])  # fmt: skip
def test_kernel_as_large_as_the_image(
    n: int, c: int, o: int, size: tuple[int, int], channels_last: bool
) -> None:
    rng = np.random.default_rng(n)
    window = Window(size, (2, 3), ((0, 0), (0, 0)), (1, 1))
    x_shape, w_shape = (n, c, *size), (o, c, *size)
    check_all_directions(conv_whole, (x_shape, w_shape, window, 1), rng)
    for op in dispatch.ROUTES:
        assert ": one product (" in dispatch.explain(op, (1, *x_shape[1:]), w_shape, window)
    x, w, gy = array(rng, x_shape), array(rng, w_shape), array(rng, (n, o, 1, 1))
    if channels_last:
        w = np.ascontiguousarray(w.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    check(dispatch.conv(x, w, None, window, 1), forward(x, w, window, 1), w[0].size)
    gx = dispatch.conv_input_grad(gy, w, x_shape, window, 1)
    assert gx.strides[1] == 4
    check(gx, input_grad(gy, w, x_shape, window, 1), o)
    found = []
    for count in (1, 3):
        set_num_threads(count)
        found.append(dispatch.conv_weight_grad(x, gy, w_shape, window, 1))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("seed", range(30))
def test_convolution_relu_pooling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x_shape, w_shape, window, groups = sizes(rng)
    p, q = (n // 2 for n in window.output(x_shape[2:]))
    x = array(rng, x_shape)
    x[...] = rng.integers(-2, 3, x_shape)  # small whole numbers: exact sums, and many ties
    w = rng.integers(-2, 3, w_shape).astype(np.float32)
    bias = rng.integers(-2, 3, len(w)).astype(np.float32)
    if seed % 5 == 0:
        x[0, 0, x_shape[2] // 2, x_shape[3] // 2] = np.nan
    if p == 0 or q == 0:
        assert dispatch.conv_relu_pool(x, w, bias, window, groups, conv_pool.POOL) is None
        return
    y = forward(x, w, window, groups) + bias[:, None, None]
    cells = y[:, :, : 2 * p, : 2 * q].reshape(*y.shape[:2], p, 2, q, 2)
    cells = cells.transpose(0, 1, 2, 4, 3, 5).reshape(*y.shape[:2], p, q, 4)
    winner = np.where(
        np.isnan(cells).any(-1),
        3 - np.isnan(cells)[..., ::-1].argmax(-1),
        np.nan_to_num(cells, nan=-1e9).argmax(-1),
    )
    best = np.take_along_axis(cells, winner[..., None], -1)[..., 0]
    got, got_winner = conv_pool.conv_relu_pool(x, w, bias, window, groups)
    np.testing.assert_array_equal(got, np.where(best <= 0, 0, best))
    np.testing.assert_array_equal(got_winner, winner)
    assert got_winner.dtype == np.uint8


@pytest.mark.parametrize("seed", range(40))
def test_gradients_of_convolution_relu_pooling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x_shape, w_shape, window, _ = sizes(rng)
    w_shape = (w_shape[0], x_shape[1], *w_shape[2:])
    x, w = array(rng, x_shape), array(rng, w_shape)
    large = (x_shape[0], w_shape[0], *window.output(x_shape[2:]))
    if min(large[2:]) < 2:
        return
    y, winner = conv_pool.conv_relu_pool(x, w, None, window, 1)
    accepted = conv_pool_grad.accepts(x, w, y, winner, window)
    assert accepted == (w.size <= conv_pool_grad.LARGEST)
    if not accepted:
        return
    gy = array(rng, y.shape)
    gy[0, 0, 0, 0] = 0
    g = np.zeros(large)
    for n, o, p, q in np.ndindex(y.shape):
        k = int(winner[n, o, p, q])
        g[n, o, 2 * p + k // 2, 2 * q + k % 2] = gy[n, o, p, q] if y[n, o, p, q] > 0 else 0
    expected = input_grad(g, w, x_shape, window, 1), weight_grad(x, g, w_shape, window, 1)
    for needs in ((True, True, True), (False, True, True), (True, False, False)):
        gx, gw, gb = conv_pool_grad.conv_relu_pool_grad(gy, y, winner, x, w, window, needs)
        assert [g is not None for g in (gx, gw, gb)] == list(needs)
        if gx is not None:
            check(gx, expected[0], w_shape[0] * window.taps())
        if gw is not None:
            check(gw, expected[1], g[:, 0].size)
            check(gb, g.sum((0, 2, 3)), g[:, 0].size)


@pytest.mark.parametrize("order", ORDERS)
def test_pooled_gradients_of_any_strides(order: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    window = Window((5, 3), (1, 1), ((1, 2), (0, 1)), (1, 1))
    x, w = array(rng, (3, 6, 14, 13)), array(rng, (20, 6, 5, 3))
    y, winner = conv_pool.conv_relu_pool(x, w, None, window, 1)
    gy = array(rng, y.shape)
    needs = (True, True, True)
    expected = conv_pool_grad.conv_relu_pool_grad(gy, y, winner, x, w, window, needs)
    gy = surrounded(gy, order, rng)
    got = conv_pool_grad.conv_relu_pool_grad(gy, y, winner, x, w, window, needs)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
def test_pooled_gradients_that_are_not_finite(special: float, dilation: int) -> None:
    """They reach the pixels under the winner's kernel positions and no others."""
    rng = np.random.default_rng(1)
    window = Window((3, 3), (1, 2), ((1, 1), (1, 1)), (dilation, dilation))
    x, w = array(rng, (2, 3, 13, 17)), array(rng, (17, 3, 3, 3))
    y, winner = conv_pool.conv_relu_pool(x, w, None, window, 1)
    gy = array(rng, y.shape)
    n, o, p, q = np.argwhere(y > 0)[rng.integers((y > 0).sum())]
    gy[n, o, p, q] = special
    dead = tuple(np.argwhere(y == 0)[0])
    gy[dead] = np.nan  # behind the ReLU: must not matter
    gx, gw, gb = conv_pool_grad.conv_relu_pool_grad(gy, y, winner, x, w, window, (True,) * 3)
    gy[n, o, p, q] = 0
    gy[dead] = 0
    zero = conv_pool_grad.conv_relu_pool_grad(gy, y, winner, x, w, window, (True,) * 3)
    row = 2 * p + winner[n, o, p, q] // 2 - 1 + dilation * np.arange(3)
    column = 2 * (2 * q + winner[n, o, p, q] % 2) - 1 + dilation * np.arange(3)
    rows, columns = (v[(v >= 0) & (v < m)] for v, m in ((row, 13), (column, 17)))
    reached = np.zeros(x.shape, bool)
    reached[np.ix_([n], range(3), rows, columns)] = True
    np.testing.assert_array_equal(~np.isfinite(gx), reached)
    check(gx[~reached], zero[0][~reached].astype(np.float64), w.shape[0] * 9)
    np.testing.assert_array_equal(~np.isfinite(gb), np.arange(17) == o)
    assert not np.isfinite(gw[o]).any() and np.isfinite(np.delete(gw, o, 0)).all()


@pytest.mark.parametrize("wide", [40, 80])
def test_pooled_gradients_refuse_shifts_of_more_than_16_bits(wide: int) -> None:
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    x, w = (np.zeros(shape, np.float32) for shape in ((1, 512, 2, wide), (16, 512, 3, 3)))
    y, winner = conv_pool.conv_relu_pool(x, w, None, window, 1)
    assert conv_pool_grad.accepts(x, w, y, winner, window) == (wide == 40)


@pytest.mark.parametrize("seed", range(24))
def test_winograd_convolution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, high, wide = (int(v) for v in rng.integers(1, (8, 20, 20)))
    c, o = (int(rng.choice([1, 3, 15, 16, 17, 32, 48, 80, 130])) for _ in range(2))
    padding = tuple((int(a), int(b)) for a, b in rng.integers(1, 4, (2, 2)))
    window = Window((3, 3), (1, 1), padding, (1, 1))
    x, w = array(rng, (n, c, high, wide)), array(rng, (o, c, 3, 3))
    bias = rng.standard_normal(o, dtype=np.float32)
    expected = forward(x, w, window, 1)
    check(winograd.conv(x, w, None, window, 1), expected, 9 * c, WINOGRAD)
    expected = np.maximum(expected + bias[:, None, None], 0)
    check(winograd.conv(x, w, bias, window, 1, True), expected, 9 * c, WINOGRAD)
    gy = array(rng, expected.shape)
    expected = input_grad(gy, w, x.shape, window, 1)
    check(winograd.conv_input_grad(gy, w, x.shape, window, 1), expected, 9 * o, WINOGRAD)
    into = layout.channels_last(x.shape)
    into[...] = x
    winograd.conv_input_grad(gy, w, x.shape, window, 1, into)
    check(into, expected + x, 9 * o, WINOGRAD)
    expected = weight_grad(x, gy, w.shape, window, 1)
    got = winograd_grad.conv_weight_grad(x, gy, w.shape, window, 1)
    check(got, expected, gy[:, 0].size, WINOGRAD)


def strided_case(rng: np.random.Generator) -> Any:
    """A random stride-2 convolution with a kernel of 2 to 4 rows and columns."""
    while True:
        n, high, wide = (int(v) for v in rng.integers(1, (8, 20, 20)))
        c, o = (int(rng.choice([1, 3, 15, 16, 17, 32, 48, 80, 130])) for _ in range(2))
        kernel = tuple(int(k) for k in rng.integers(2, 5, 2))
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 4, (2, 2)))
        window = Window(kernel, (2, 2), padding, (1, 1))
        if min(window.output((high, wide))) > 0:
            return (n, c, high, wide), (o, c, *kernel), window, 1


@pytest.mark.parametrize("seed", range(30))
def test_winograd_of_stride_two(seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_all_directions(winograd_strided, strided_case(rng), rng, WINOGRAD)


@pytest.mark.parametrize("seed", range(4))
def test_winograd_in_separate_stages(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd_plan, "STAGED_WEIGHTS", 0)
    monkeypatch.setattr(winograd_plan, "STAGED_SUMS", 0)
    monkeypatch.setattr(winograd_plan, "STAGED_BYTES", 1 if seed % 2 else 1 << 24)
    winograd_plan.make_plan.cache_clear()
    rng = np.random.default_rng(seed)
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    x, w = array(rng, (5, 17, 18, 19)), array(rng, (33, 17, 3, 3))
    y = forward(x, w, window, 1)
    try:
        gy = array(rng, y.shape)
        got = winograd_grad.conv_weight_grad(x, gy, w.shape, window, 1)
        check(got, weight_grad(x, gy, w.shape, window, 1), gy[:, 0].size, WINOGRAD)
        check(winograd.conv(x, w, None, window, 1), y, 9 * 17, WINOGRAD)
        check_all_directions(winograd_strided, strided_case(rng), rng, WINOGRAD)
    finally:
        winograd_plan.make_plan.cache_clear()


def operand(rng: np.random.Generator, batch: tuple[int, ...], rows: int, columns: int) -> Array:
    """A (…, rows, columns) matrix: plain, transposed, cut out, or with a step."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.standard_normal((*batch, rows, columns), dtype=np.float32)
    if kind == 1:
        a = rng.standard_normal((*batch, columns, rows), dtype=np.float32)
        return np.swapaxes(a, -1, -2)
    step = 2 if kind == 2 else 1
    a = np.full((*batch, rows + 3, step * columns + 2), np.nan, np.float32)
    view = a[..., 1 : rows + 1, 1 : step * columns + 1 : step]
    view[...] = rng.standard_normal(view.shape)
    return view


@pytest.mark.parametrize("seed", range(40))
def test_matrix_product(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, k, n = (int(rng.choice([1, 2, 7, 8, 9, 16, 31, 33, 64, 100, 130])) for _ in range(3))
    k = 1100 if seed % 8 == 0 else k
    batch = [(), (3,), (2, 3)][rng.integers(3)]
    one = rng.integers(4)
    a = operand(rng, () if one == 1 else batch, m, k)
    b = operand(rng, () if one == 2 else batch, k, n)
    bias = rng.standard_normal(n, dtype=np.float32)
    expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
    check(gemm.product(a, b), expected, k)
    check(gemm.product(a, b, bias, True), np.maximum(expected + bias, 0), k)
    check(dispatch.matmul(a, b), expected, k)


def test_matrix_product_of_many_shares() -> None:
    rng = np.random.default_rng(0)
    a, b = operand(rng, (), 40, 300), operand(rng, (), 300, 1000)
    check(dispatch.matmul(a, b), a.astype(np.float64) @ b.astype(np.float64), 300)


def everything(rng: np.random.Generator) -> Callable[[], list[Array]]:
    """A call of each algorithm in each direction."""
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    strided = Window((4, 4), (2, 2), ((1, 1), (1, 1)), (1, 1))
    x, w = array(rng, (9, 20, 17, 15)), array(rng, (24, 20, 3, 3))
    gy = array(rng, (9, 24, 17, 15))
    w4, g4 = array(rng, (24, 20, 4, 4)), array(rng, (9, 24, 8, 7))
    w1, g1 = array(rng, (20, 1, 3, 3)), array(rng, x.shape)
    a, b = operand(rng, (3,), 70, 600), operand(rng, (), 600, 90)
    y, winner = conv_pool.conv_relu_pool(x, w, None, window, 1)

    def call() -> list[Array]:
        return [
            conv_direct.conv(x, w, None, window, 1),
            winograd.conv(x, w, None, window, 1),
            conv_direct.conv_input_grad(g4, w4, x.shape, strided, 1),
            conv_scatter.conv_input_grad(g4, w4, x.shape, strided, 1),
            conv_pool.conv_relu_pool(x, w, None, window, 1)[0],
            *conv_pool_grad.conv_relu_pool_grad(y, y, winner, x, w, window, (True, True, True)),
            winograd.conv_input_grad(gy, w, x.shape, window, 1),
            conv_direct.conv_weight_grad(x, g4, w4.shape, strided, 1),
            winograd_grad.conv_weight_grad(x, gy, w.shape, window, 1),
            winograd_strided.conv(x, w4, None, strided, 1),
            winograd_strided.conv_input_grad(g4, w4, x.shape, strided, 1),
            winograd_strided.conv_weight_grad(x, g4, w4.shape, strided, 1),
            conv_depthwise_lines.conv(x, w1, None, window, 20),
            conv_depthwise_lines.conv_input_grad(g1, w1, x.shape, window, 20),
            conv_depthwise_lines.conv_weight_grad(x, g1, w1.shape, window, 20),
            dispatch.matmul(a, b),
        ]

    return call


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    call = everything(np.random.default_rng(3))
    set_num_threads(1)
    expected = call()
    for count in (2, 4):
        set_num_threads(count)
        for one, other in zip(expected, call(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_calls_from_several_python_threads() -> None:
    call = everything(np.random.default_rng(4))
    expected = call()
    found: list[list[Array]] = []
    workers = [threading.Thread(target=lambda: found.append(call())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    for results in found:
        for one, other in zip(expected, results, strict=True):
            np.testing.assert_array_equal(one, other)


def test_channels_last_copies() -> None:
    rng = np.random.default_rng(5)
    for channels, wide in itertools.product((1, 3, 16, 37), (1, 15, 33)):
        x = array(rng, (2, channels, 4, wide))
        y = layout.to_channels_last(x)
        assert y.strides[1] == 4
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("columns", range(1, 20))
def test_panels_cover_the_columns_once(columns: int) -> None:
    cut = microkernel.panels(columns * simd.WIDTH - (simd.WIDTH > 1))
    assert cut.columns == columns * simd.WIDTH
    assert 1 <= cut.narrow <= cut.wide <= 3
    assert microkernel.panels(2).columns == {16: 8, 8: 4, 4: 4, 1: 2}[simd.WIDTH]


def test_vector_operations() -> None:
    width = simd.WIDTH
    load, store, splat, fma = simd.load, simd.store, simd.splat, simd.fma
    part, lane_sum, store_part = simd.load_part, simd.lane_sum, simd.store_part
    store_f32, select_gt, power_of_two = simd.store_f32, simd.select_gt, simd.power_of_two
    vmax = simd.vmax
    step = 4 * width

    def body(chunk, worker, x, y, out):  # type: ignore[no-untyped-def]
        a, b = load(x), load(y)
        store(out, fma(a, b, splat(np.float32(1))))
        store(out + step, a / b - a)
        store_part(out + 2 * step, part(x, 3), 2)
        store_f32(out + 3 * step, lane_sum(a))
        store(out + 4 * step, select_gt(a, b, a * b, a + b))
        store(out + 5 * step, power_of_two(load(out + 6 * step)))
        store(out + 7 * step, vmax(splat(np.float32(0)), load(out + 7 * step)))

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, width), dtype=np.float32)
    out = np.full((8, width), 7, np.float32)
    out[6] = np.arange(width) - 3
    out[7] = signs = np.resize(np.float32([-1, np.nan, 2]), width)
    kernel_of(body, "test_vector_operations", False)(1, address(x), address(y), address(out))
    np.testing.assert_allclose(out[0], x * y + 1, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(out[1], x / y - x)
    np.testing.assert_array_equal(out[2], [*x[:2], *[7] * (width - 2)])
    np.testing.assert_allclose(out[3, 0], x.sum(), rtol=1e-5)
    np.testing.assert_array_equal(out[4], np.where(x > y, x * y, x + y))
    np.testing.assert_array_equal(out[5], 2.0 ** out[6])
    np.testing.assert_array_equal(out[7], np.maximum(signs, 0))


def test_the_algorithm_can_be_chosen() -> None:
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    shapes = ((128, 16, 32, 32), (16, 16, 3, 3), window)
    assert "Winograd" in dispatch.explain("conv", *shapes)
    try:
        dispatch.set_conv_algorithm("direct")
        assert "Winograd" not in dispatch.explain("conv2d", *shapes)
        assert dispatch.get_conv_algorithm() == "direct"
    finally:
        dispatch.set_conv_algorithm("auto")
    assert len(dispatch.explain("conv2d", *shapes).splitlines()) == 3
    with pytest.raises(ValueError, match='expected "auto"'):
        dispatch.set_conv_algorithm("fast")
    with pytest.raises(ValueError, match="explain"):
        dispatch.explain("conv9d", *shapes)


def test_arrays_come_from_the_pool() -> None:
    """The guard fixture replaces the allocator that the modules name ``empty``."""
    assert all(getattr(module, "empty", None) is not memory.empty for module in MODULES)


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 1, 1), (3, 2, 1), (3, 3, 1)])
def test_pooling_of_lines_has_the_same_bits_for_any_number_of_threads(
    window: tuple[int, int, int],
) -> None:
    k, s, padding = window
    of = Window((k,), (s,), ((padding, padding),), (1,))
    x = np.random.default_rng(3).standard_normal((9, 21, 333), dtype=np.float32)
    divisors = ((k,) * of.output((333,))[0],)
    found = []
    for count in (1, 3):
        set_num_threads(count)
        y, winner = pool.max_pool(x, of)
        found.append([y, winner, pool.average(x, of, divisors)])
    for alone, shared in zip(*found, strict=True):
        np.testing.assert_array_equal(alone, shared)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding)))
    exact = sliding_window_view(padded, k, axis=2)[:, :, ::s].mean(-1)
    np.testing.assert_allclose(found[0][2], exact, rtol=0, atol=1e-6)
