"""Batch norm, softmax, cross-entropy, linear and optimiser kernels against loop oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracles
import pytest
from kernel_inputs import DTYPES, Array, normal, put
from tolerances import assert_close

from tinygrad_cnn.backend import Backend, load_backend
from tinygrad_cnn.geometry import LinearMap


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


def test_batch_norm_of_an_empty_batch(kernels: Backend) -> None:
    x = kernels.empty((0, 3, 4, 5), np.dtype("float32"))
    ones = kernels.full((3,), 1.0, np.dtype("float32"))
    assert kernels.batch_norm(x, ones, ones, ones, ones, 1e-5).shape == (0, 3, 4, 5)
    gx, gweight, gbias = kernels.batch_norm_grad(x, x, ones, ones, ones, 1e-5)
    assert gx.shape == (0, 3, 4, 5)
    for sums in (gweight, gbias):
        assert kernels.to_numpy(sums).tolist() == [0.0, 0.0, 0.0]


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


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize(("weight_decay", "decoupled"), ((0.0, False), (0.1, False), (0.1, True)))
def test_amsgrad_step(kernels: Backend, dtype: str, weight_decay: float, decoupled: bool) -> None:
    params, grads, m, v = lists = step_arrays(kernels, dtype, 4)
    largest = [kernels.multiply(a, 1.5, out=kernels.copy(a)) for a in v]  # some stay the largest
    lists.append(largest)
    before = snapshot(kernels, lists)
    options: dict[str, Any] = {
        "lr": 0.01, "betas": (0.9, 0.7), "eps": 1e-6, "weight_decay": weight_decay,
        "decoupled": decoupled, "step": 3,
    }  # fmt: skip
    kernels.amsgrad_step(params, grads, m, v, largest, *options.values())
    larger = 0

    def rule(p: float, g: float, mean: float, square: float, top: float) -> tuple[float, ...]:
        nonlocal larger
        _, mean, square = oracles.adam(p, g, mean, square, **options)
        larger += square > top
        top = max(top, square)
        shrunk = p * (1 - 0.01 * weight_decay) if decoupled else p
        root = math.sqrt(top / (1 - 0.7**3)) + 1e-6
        return shrunk - 0.01 * mean / (1 - 0.9**3) / root, mean, square, top

    compare_steps(kernels, before, [params, m, v, largest], dtype, rule)
    assert 0 < larger < sum(np.size(a) for a in before[0])


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("centered", (False, True))
@pytest.mark.parametrize("momentum", (0.0, 0.8))
@pytest.mark.parametrize("weight_decay", (0.0, 0.1))
def test_rmsprop_step(
    kernels: Backend, dtype: str, centered: bool, momentum: float, weight_decay: float
) -> None:
    params, grads, momenta, squares = step_arrays(kernels, dtype, 4)
    means = [kernels.multiply(a, 0.5, out=kernels.copy(a)) for a in grads]
    for v, a in zip(squares, means, strict=True):  # so that no variance is negative
        kernels.add(kernels.multiply(a, a, out=v), 0.1, out=v)
    lists = [params, grads, squares, means, momenta]
    before = snapshot(kernels, lists)
    kernels.rmsprop_step(
        params, grads, squares, means if centered else None, momenta if momentum else None,
        0.01, 0.9, 1e-6, weight_decay, momentum,
    )  # fmt: skip

    def rule(p: float, g: float, v: float, a: float, b: float) -> tuple[float, ...]:
        g += weight_decay * p
        v = 0.9 * v + 0.1 * g * g
        a = 0.9 * a + 0.1 * g if centered else a
        step = g / (math.sqrt(v - a * a if centered else v) + 1e-6)
        if momentum:
            b = step = momentum * b + step
        return p - 0.01 * step, v, a, b

    compare_steps(kernels, before, [params, squares, means, momenta], dtype, rule)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("weight_decay", (0.0, 0.1))
def test_adagrad_step(kernels: Backend, dtype: str, weight_decay: float) -> None:
    params, grads, _, sums = step_arrays(kernels, dtype, 4)
    before = snapshot(kernels, [params, grads, sums])
    kernels.adagrad_step(params, grads, sums, 0.05, 1e-6, weight_decay)

    def rule(p: float, g: float, s: float) -> tuple[float, float]:
        g += weight_decay * p
        s += g * g
        return p - 0.05 * g / (math.sqrt(s) + 1e-6), s

    compare_steps(kernels, before, [params, sums], dtype, rule)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_squared_norms(kernels: Backend, dtype: str) -> None:
    shapes = ((3, 4), (), (0,), (33,), (129, 257), (5, 4, 3))
    arrays = [a.astype(dtype) for a in normal(7, *shapes)]
    given = [kernels.asarray(a) for a in arrays]
    given[-1] = kernels.getitem(given[-1], (slice(None, None, 2),))
    given[3] = kernels.asarray(arrays[3][1:])  # 32 numbers
    arrays[-1], arrays[3] = arrays[-1][::2], arrays[3][1:]
    found = kernels.to_numpy(kernels.squared_norms(given))
    assert found.shape == (6,) and found.dtype == dtype
    wanted = [math.fsum(float(v) ** 2 for v in a.flat) for a in arrays]
    np.testing.assert_allclose(found, wanted, rtol=2e-6 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("shape", [(5,), (3, 7, 120, 40), (0,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("slope", [0.2, 0.0, -0.5])
def test_leaky_relu(kernels: Backend, shape: tuple[int, ...], dtype: Any, slope: float) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    g = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    if x.size > 3:
        x.reshape(-1)[:3] = 0, np.nan, -1e30
    wanted, gradient = np.where(x > 0, x, slope * x), np.where(x > 0, g, slope * g)
    y = kernels.to_numpy(kernels.leaky_relu(kernels.asarray(x), slope))
    gx = kernels.to_numpy(kernels.leaky_relu_grad(kernels.asarray(g), kernels.asarray(x), slope))
    assert y.dtype == dtype and gx.dtype == dtype
    np.testing.assert_allclose(y, wanted, rtol=1e-6)
    np.testing.assert_allclose(gx, gradient, rtol=1e-6)


# -- activation functions -------------------------------------------------------------------------
def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def normal_cdf(x: float) -> float:
    return math.erfc(-x * math.sqrt(0.5)) / 2


def bend(x: float) -> float:
    return math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


ACTIVATIONS: dict[str, tuple[tuple[float, ...], Any]] = {
    "elu": ((0.7, 1.5, 2.0), lambda x: 1.5 * x if x > 0 else 1.05 * math.expm1(2 * x)),
    "silu": ((), lambda x: x * sigma(x)),
    "gelu": ((), lambda x: x * normal_cdf(x)),
    "gelu_tanh": ((), lambda x: x * (1 + bend(x)) / 2),
    "softplus": ((2.0, 5.0), lambda x: x if 2 * x > 5 else math.log1p(math.exp(2 * x)) / 2),
    "log_sigmoid": ((), lambda x: min(x, 0) - math.log1p(math.exp(-abs(x)))),
    "hardtanh": ((-1.0, 2.0), lambda x: min(max(x, -1), 2)),
    "hardswish": ((), lambda x: x * min(max(x + 3, 0), 6) / 6),
    "hardsigmoid": ((), lambda x: min(max(x + 3, 0), 6) / 6),
    "softsign": ((), lambda x: x / (abs(x) + 1)),
}
KINKS = (-3, -2, -1, 0, 2, 2.5, 3)  # of all of them: there a difference says nothing about slopes
SLOPES_OF_RESULTS = {
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
    "absolute": np.sign,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ((), (7,), (3, 5), (2, 3, 4, 5), (9000,)))
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(kernels: Backend, name: str, shape: tuple[int, ...], dtype: str) -> None:
    settings, f = ACTIVATIONS[name]
    x, g = normal(31, shape, shape)
    x, g = np.asarray(4 * x, dtype), np.asarray(g, dtype)
    x.reshape(-1)[:1] = 2.5
    exact = np.vectorize(f, [float])(x.astype(float))
    slopes = np.vectorize(lambda v: (f(v + 1e-6) - f(v - 1e-6)) / 2e-6)(x.astype(float))
    kx, kg = put(kernels, x, g)
    size = np.abs(x.astype(float)) + 1
    y = kernels.to_numpy(kernels.activation(name, kx, *settings))
    assert_close(y, exact, dtype, 32, size)
    gx = kernels.to_numpy(kernels.activation_grad(name, kg, kx, *settings))
    smooth = np.abs(x.astype(float)[..., None] - KINKS).min(-1) > 1e-5
    found, wanted = gx[smooth].astype(float), (g.astype(float) * slopes)[smooth]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-7 if dtype == "float64" else
                               1e-5 if dtype == "float32" else 0.05)  # fmt: skip
    if x.ndim > 1:  # another memory order, and a gradient that is one number
        axes = tuple(range(x.ndim))[::-1]
        turned = kernels.activation_grad(
            name, kernels.transpose(kg, axes), kernels.transpose(kx, axes), *settings
        )
        np.testing.assert_array_equal(kernels.to_numpy(turned).transpose(axes), gx)
        one = kernels.broadcast_to(kernels.asarray(np.ones((), dtype)), shape)
        mixed = kernels.to_numpy(kernels.activation_grad(name, one, kx, *settings))
        np.testing.assert_allclose(mixed[smooth].astype(float), slopes[smooth], rtol=0, atol=0.05)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SLOPES_OF_RESULTS)
def test_gradient_from_the_result(kernels: Backend, name: str, dtype: str) -> None:
    g, y = normal(32, (3, 5), (3, 5), dtype=dtype)
    wanted = g.astype(float) * SLOPES_OF_RESULTS[name](y.astype(float))
    found = kernels.to_numpy(kernels.activation_grad(name, *put(kernels, g, y)))
    assert_close(found, wanted, dtype, 4, 10.0)


def test_activations_of_special_values(kernels: Backend) -> None:
    x = kernels.asarray(np.array([np.nan, np.inf, -np.inf, 100, -100], "float32"))
    for name, limits in {
        "elu": (np.inf, -1), "softplus": (np.inf, 0), "log_sigmoid": (0, -np.inf),
        "hardtanh": (1, -1),
    }.items():  # fmt: skip
        settings = {"elu": (1.0, 1.0, 1.0), "softplus": (1.0, 20.0), "hardtanh": (-1.0, 1.0)}
        y = kernels.to_numpy(kernels.activation(name, x, *settings.get(name, ())))
        assert np.isnan(y[0]) and tuple(y[1:3]) == limits, name
    for name in ("gelu", "gelu_tanh", "silu"):
        y = kernels.to_numpy(kernels.activation(name, x))
        assert np.isnan(y[0]) and y[1] == np.inf and y[3] == 100 and abs(y[4]) < 1e-40, name


# -- sparse linear maps ----------------------------------------------------------------------------
def some_map(seed: int, rows: int, cells: int, most: int) -> LinearMap:
    """Rows of 0 to ``most`` pairs, cells repeated and unordered."""
    rng = np.random.default_rng(seed)
    return LinearMap(
        [
            [(int(rng.integers(cells)), float(rng.standard_normal())) for _ in range(length)]
            for length in rng.integers(0, most + 1, rows)
        ],
        cells,
    )


def dense(table: LinearMap) -> Array:
    matrix = np.zeros((len(table.rows), table.inputs))
    for p, row in enumerate(table.rows):
        for cell, weight in row:
            matrix[p, cell] += weight
    return matrix


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", (1, 3, 16, 19))
def test_resample_is_a_product_with_sparse_matrices(
    kernels: Backend, channels: int, dtype: str
) -> None:
    (x,) = normal(33, (2, channels, 5, 4), dtype=dtype)
    rows, columns = some_map(1, 7, 5, 3), some_map(2, 6, 4, 2)
    nothing = LinearMap([[], []], 4)
    wide = x.astype(float)
    last = kernels.transpose(
        kernels.asarray(np.ascontiguousarray(x.transpose(0, 2, 3, 1))), (0, 3, 1, 2)
    )
    part = kernels.getitem(kernels.asarray(np.concatenate([x, x], 3)), (..., slice(0, 4)))
    for kx in (kernels.asarray(x), last, part):
        for maps in ((rows, columns), (rows, None), (None, columns), (columns,), (rows, nothing)):
            matrices = [None if m is None else dense(m) for m in maps]
            wanted = wide
            for axis, matrix in enumerate(matrices, 4 - len(maps)):
                if matrix is not None:
                    wanted = np.moveaxis(np.tensordot(matrix, wanted, (1, axis)), 0, axis)
            found = kernels.to_numpy(kernels.resample(kx, maps))
            assert_close(found, wanted, dtype, 12, 40.0)
    lead = kernels.getitem(kernels.asarray(x), (0,))
    found = kernels.to_numpy(kernels.resample(lead, (rows, columns)))
    wanted = np.einsum("ph,qw,chw->cpq", dense(rows), dense(columns), wide[0])
    assert_close(found, wanted, dtype, 12, 40.0)
    back = kernels.resample(
        kernels.asarray(wanted.astype(dtype)), (rows.transposed, columns.transposed)
    )
    wanted = np.einsum(
        "ph,qw,cpq->chw", dense(rows), dense(columns), wanted.astype(dtype).astype(float)
    )
    assert_close(kernels.to_numpy(back), wanted, dtype, 24, 400.0)


@pytest.mark.parametrize("repeats", (False, True))
def test_resample_of_pixels_that_are_neighbours_in_memory(kernels: Backend, repeats: bool) -> None:
    """One channel of transposed images, and channels that every column repeats."""
    shape = (2, 5, 1, 3) if repeats else (2, 4, 5, 1)
    (x,) = put(kernels, *normal(19, shape, dtype="float32"))
    x = kernels.broadcast_to(x, (2, 5, 4, 3)) if repeats else kernels.transpose(x, (0, 2, 1, 3))
    x = kernels.transpose(x, (0, 3, 1, 2))
    rows, columns = some_map(1, 7, 5, 3), some_map(2, 6, 4, 2)
    found = kernels.to_numpy(kernels.resample(x, (rows, columns)))
    wide = kernels.to_numpy(x).astype(float)
    wanted = np.einsum("ph,qw,nchw->ncpq", dense(rows), dense(columns), wide)
    assert_close(found, wanted, "float32", 12, 40.0)


def test_resample_reads_no_other_cell(kernels: Backend) -> None:
    """An infinity reaches only the outputs that have it in their row."""
    x = kernels.asarray(np.array([[[[1.0, np.inf, 2.0]]]], "float32"))
    table = LinearMap([[(0, 1.0)], [(0, 0.5), (2, 0.5)], [(1, 1.0)], []], 3)
    found = kernels.to_numpy(kernels.resample(x, (table,)))
    np.testing.assert_array_equal(found[0, 0, 0], [1.0, 1.5, np.inf, 0.0])


# -- normalisation of groups and rows --------------------------------------------------------------
def by_rows(
    x: Array, gy: Array, weight: Array, bias: Array, eps: float
) -> tuple[Array, Array, Array, Array, Array]:
    """(y, mean, var, gx, x̂) of rows in float64; weight and bias (M, K) or (K,)."""
    mean, var = x.mean(1), x.var(1)
    sigma = np.sqrt(var + eps)[:, None]
    xhat = (x - mean[:, None]) / sigma
    g = gy * weight
    gx = (g - g.mean(1, keepdims=True) - xhat * (g * xhat).mean(1, keepdims=True)) / sigma
    return xhat * weight + bias, mean, var, gx, xhat


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("affine", (True, False))
@pytest.mark.parametrize("shape", ((3, 8, 5, 4), (2, 36, 9, 9), (1, 4, 7), (2, 6, 2, 3, 2), (3, 4)))
def test_group_norm_against_rows(
    kernels: Backend, shape: tuple[int, ...], affine: bool, dtype: str
) -> None:
    eps, (n, c), nd = 1e-3, shape[:2], len(shape)
    x, gy = normal(41, shape, shape, dtype=dtype)
    x = x + x.dtype.type(2)
    weight, bias = normal(42, (c,), (c,), dtype=dtype) if affine else (None, None)
    full = [
        np.broadcast_to(np.full(c, v) if a is None else a.astype(float), (n, c)).reshape(
            n, c, *(1,) * (nd - 2)
        )
        * np.ones(shape)
        for a, v in ((weight, 1.0), (bias, 0.0))
    ]
    for groups in (1, 2, c):
        if nd == 2 and groups == c:
            continue
        rows = [a.astype(float).reshape(n * groups, -1) for a in (x, gy, *full)]
        y, mean, var, gx, xhat = by_rows(*rows, eps)
        product = (xhat * rows[1]).reshape(shape)
        axes = (0, *range(2, nd))
        wanted = [gx.reshape(shape), product.sum(axes), gy.astype(float).sum(axes)]
        last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        order = (0, nd - 1, *range(1, nd - 1))
        for kx in (kernels.asarray(x), kernels.transpose(kernels.asarray(last), order)):
            kg, kw, kb = put(kernels, gy, weight, bias)
            found, km, kv = kernels.group_norm(kx, groups, kw, kb, eps)
            assert_close(kernels.to_numpy(found), y.reshape(shape), dtype, 16, 10.0)
            assert_close(kernels.to_numpy(km), mean.reshape(n, groups), dtype, 16, 4.0)
            assert_close(kernels.to_numpy(kv), var.reshape(n, groups), dtype, 16, 4.0)
            grads = kernels.group_norm_grad(kg, kx, km, kv, kw, groups, eps)
            scale = 40 / math.sqrt(float(var.min()) + eps)
            for a, exact in zip(grads, wanted, strict=True):
                magnitude = scale if exact.ndim == nd else 4 * rows[0].size / c
                assert_close(kernels.to_numpy(a), exact, dtype, 16, magnitude)


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("shape", ((1, 7), (5, 16), (40, 33), (70, 130)))
def test_layer_norm_against_rows(kernels: Backend, shape: tuple[int, int], dtype: str) -> None:
    eps = 1e-3
    x, gy = normal(43, shape, shape, dtype=dtype)
    weight, bias = normal(44, shape[1:], shape[1:], dtype=dtype)
    for w, b in ((weight, bias), (weight, None), (None, None)):
        scale = np.ones(shape[1]) if w is None else w.astype(float)
        shift = np.zeros(shape[1]) if b is None else b.astype(float)
        y, mean, var, gx, xhat = by_rows(x.astype(float), gy.astype(float), scale, shift, eps)
        for turned in (False, True):  # rows that are not contiguous
            kx, kg, kw, kb = put(kernels, x, gy, w, b)
            if turned:
                kx, kg = (
                    kernels.transpose(kernels.asarray(np.ascontiguousarray(a.T)), (1, 0))
                    for a in (x, gy)
                )
            found, km, kv = kernels.layer_norm(kx, kw, kb, eps)
            assert_close(kernels.to_numpy(found), y, dtype, 16, 10.0)
            assert_close(kernels.to_numpy(km), mean, dtype, 16, 4.0)
            assert_close(kernels.to_numpy(kv), var, dtype, 16, 4.0)
            grads = kernels.layer_norm_grad(kg, kx, km, kv, kw, eps)
            assert_close(kernels.to_numpy(grads[0]), gx, dtype, 16, 40.0)
            assert_close(kernels.to_numpy(grads[1]), (gy * xhat).sum(0), dtype, 16, 4.0 * len(x))
            assert_close(
                kernels.to_numpy(grads[2]), gy.astype(float).sum(0), dtype, 16, 4.0 * len(x)
            )


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("shape", ((5,), (3, 10), (2, 21, 5, 7), (3, 1, 4), (1, 4, 1, 1)))
def test_softmax_along_any_axis(kernels: Backend, shape: tuple[int, ...], dtype: str) -> None:
    x, g = normal(45, shape, shape, dtype=dtype)
    x = 5 * x
    variants = [(kernels.asarray(x), kernels.asarray(g))]
    if len(shape) > 2:  # channels last, and g in another order than y
        last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        back = (0, x.ndim - 1, *range(1, x.ndim - 1))
        variants.append((kernels.transpose(kernels.asarray(last), back), kernels.asarray(g)))
    for kx, kg in variants:
        for axis in range(x.ndim):
            shifted = x.astype(float) - x.astype(float).max(axis, keepdims=True, initial=-1e9)
            logs = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
            p = np.exp(logs)
            y, z = kernels.softmax(kx, axis), kernels.log_softmax(kx, axis)
            assert_close(kernels.to_numpy(y), p, dtype, 16, p * 40 + 1e-7)
            assert_close(kernels.to_numpy(z), logs, dtype, 16, 40.0)
            w = g.astype(float)
            wanted = p * (w - (w * p).sum(axis, keepdims=True))
            found = kernels.to_numpy(kernels.softmax_grad(kg, y, axis))
            assert_close(found, wanted, dtype, 32, 40.0)
            wanted = w - p * w.sum(axis, keepdims=True)
            found = kernels.to_numpy(kernels.log_softmax_grad(kg, z, axis))
            assert_close(found, wanted, dtype, 32, 80.0)


# -- cells along an axis, in arrays large enough for kernels of their own --------------------------
@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize(
    "shape, axis, count",
    (
        ((50, 130), 0, 90),
        ((90, 70), 1, 60),
        ((9, 20, 33), 1, 21),
        ((3, 9000), 1, 5000),
        ((7000,), 0, 6000),
    ),
)
def test_many_cells_along_an_axis(
    kernels: Backend, shape: tuple[int, ...], axis: int, count: int, dtype: str
) -> None:
    rng = np.random.default_rng(46)
    (x,) = normal(46, shape, dtype=dtype)
    n = shape[axis]
    numbers = rng.integers(-n, n, count)
    lead = (slice(None),) * axis
    taken = kernels.getitem(kernels.asarray(x), (*lead, kernels.asarray(numbers)))
    np.testing.assert_array_equal(kernels.to_numpy(taken), x[(*lead, numbers)])
    folded = (
        kernels.getitem(kernels.asarray(x), (*lead, kernels.asarray(numbers.reshape(2, -1))))
        if count % 2 == 0
        else None
    )
    if folded is not None:
        np.testing.assert_array_equal(kernels.to_numpy(folded), x[(*lead, numbers.reshape(2, -1))])
    (values,) = normal(47, np.shape(x[(*lead, numbers)]), dtype=dtype)
    wanted, size = np.zeros(shape), np.zeros(shape)
    for j, number in enumerate(numbers):
        wanted[(*lead, number)] += values[(*lead, j)]
        size[(*lead, number)] += abs(values[(*lead, j)])
    rest = (slice(None),) * (len(shape) - axis - 1)
    for index in ((*lead, kernels.asarray(numbers)), (*lead, kernels.asarray(numbers), *rest)):
        added = kernels.index_add(shape, index, kernels.asarray(values))
        assert_close(kernels.to_numpy(added), wanted, dtype, 16, size + 1)
        np.testing.assert_array_equal(
            kernels.to_numpy(kernels.getitem(kernels.asarray(x), index)), x[(*lead, numbers)]
        )
    each = rng.integers(0, n, (*shape[:axis], count, *shape[axis + 1 :]))
    along = kernels.take_along_axis(*put(kernels, x, each), axis)
    np.testing.assert_array_equal(kernels.to_numpy(along), np.take_along_axis(x, each, axis))
    wanted, size = np.zeros(shape), np.zeros(shape)
    for place in np.ndindex(*each.shape):
        to = (*place[:axis], each[place], *place[axis + 1 :])
        wanted[to] += values[place]
        size[to] += abs(values[place])
    added = kernels.add_along_axis(shape, kernels.asarray(each), kernels.asarray(values), axis)
    assert_close(kernels.to_numpy(added), wanted, dtype, 16, size + 1)


def test_a_cell_that_does_not_exist_is_an_error() -> None:
    kernels = load_backend("numba")
    x = kernels.asarray(np.zeros((50, 200), "float32"))
    for numbers in (np.full(100, 50), np.full(100, -51)):
        with pytest.raises(IndexError):
            kernels.getitem(x, (kernels.asarray(numbers),))
        with pytest.raises(IndexError):
            kernels.index_add((50, 200), (numbers,), np.zeros((100, 200), "float32"))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_along_an_axis_counted_from_the_end(kernels: Backend, name: str) -> None:
    x, g = (a.astype(np.float32) for a in normal(4, (2, 5, 3, 4), (2, 5, 3, 4)))
    for axis in range(4):
        a, b = put(kernels, x, g)
        forward, gradient = getattr(kernels, name), getattr(kernels, f"{name}_grad")
        y = forward(a, axis)
        np.testing.assert_array_equal(kernels.to_numpy(forward(a, axis - 4)), kernels.to_numpy(y))
        found = kernels.to_numpy(gradient(b, y, axis - 4))
        np.testing.assert_array_equal(found, kernels.to_numpy(gradient(b, y, axis)))
