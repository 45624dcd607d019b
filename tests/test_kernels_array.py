"""Elementwise, reduction, shape, indexing and matrix kernels against plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import oracles
import pytest
from tolerances import assert_close

from tinygrad_cnn.backend import Backend, load_backend

Array = Any
FLOATS = ("float64", "float32", "float16")


def normal(seed: int, shape: tuple[int, ...], dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def mapped(function: Callable[..., Any], *arrays: Array) -> Array:
    """``function`` of Python numbers, element by element."""
    broadcast = np.broadcast_arrays(*arrays)
    out = np.empty(broadcast[0].shape)
    for at in oracles.indices(out.shape):
        out[at] = function(*(a[at].item() for a in broadcast))
    return out


# -- elementwise ----------------------------------------------------------------------------------
UNARY: dict[str, Callable[[float], float]] = {
    "negative": lambda x: -x, "absolute": abs, "sign": lambda x: (x > 0) - (x < 0),
    "exp": math.exp, "expm1": math.expm1, "sin": math.sin, "cos": math.cos, "tanh": math.tanh,
    "floor": math.floor, "ceil": math.ceil, "rint": round, "erf": math.erf,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)), "relu": lambda x: max(x, 0.0),
    "log": lambda x: math.log(abs(x)), "log1p": lambda x: math.log1p(abs(x)),
    "sqrt": lambda x: math.sqrt(abs(x)),
}  # fmt: skip
BINARY: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b, "power": lambda a, b: abs(a) ** b, "maximum": max,
    "minimum": min, "remainder": lambda a, b: a % b, "floor_divide": lambda a, b: a // b,
    "relu_grad": lambda g, y: g if y > 0 else 0.0,
}  # fmt: skip
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "equal": lambda a, b: a == b, "not_equal": lambda a, b: a != b, "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b, "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b, "logical_and": lambda a, b: bool(a and b),
    "logical_or": lambda a, b: bool(a or b), "logical_xor": lambda a, b: bool(a) != bool(b),
}  # fmt: skip
NEEDS_POSITIVE = {"log", "log1p", "sqrt", "power"}


@pytest.mark.parametrize("size", (40, 40_000), ids=("small", "large"))
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_unary(kernels: Backend, name: str, dtype: str, size: int) -> None:
    """Large arrays too: a backend may compute them by other code than small ones."""
    x = np.clip(normal(1, (2, size)) * 3, -10, 10).astype(dtype)[:, ::3]
    x = np.abs(x) if name in NEEDS_POSITIVE else x
    few = (slice(None), slice(None, None, 1 + size // 400))
    found = kernels.to_numpy(getattr(kernels, name)(kernels.asarray(x)))
    wanted = mapped(UNARY[name], x[few])
    assert found.shape == x.shape
    scale = np.abs(wanted) * (1 if dtype == "float16" else 2)
    if name in ("sin", "cos"):
        scale = np.maximum(scale, 0.1)  # near a zero of the function
    assert_close(found[few], wanted, dtype, 1, scale)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_binary_broadcasts(kernels: Backend, name: str, dtype: str) -> None:
    """Both orders of broadcasting, Python scalars, ``out=``; the dtype is the array's."""
    function = getattr(kernels, name)
    a, b = normal(2, (3, 1, 5), dtype), normal(3, (4, 1), dtype) + np.array(0.1, dtype)
    if name in NEEDS_POSITIVE:
        a = np.abs(a)
    ka, kb = kernels.asarray(a), kernels.asarray(b)
    wanted = mapped(BINARY[name], *np.broadcast_arrays(a, b))
    if name in ("remainder", "floor_divide"):
        step = np.broadcast_to(np.abs(b.astype(float)), wanted.shape)
        scale = step + np.abs(a.astype(float)) if name == "remainder" else np.abs(wanted)
    else:
        scale = np.abs(a.astype(float)) + np.abs(b.astype(float)) + np.abs(wanted)
    assert_close(kernels.to_numpy(function(ka, kb)), wanted, dtype, 1, scale)
    out = kernels.empty(wanted.shape, np.dtype(dtype))
    function(ka, kb, out=out)
    assert_close(kernels.to_numpy(out), wanted, dtype, 1, scale)
    if name != "relu_grad":
        by_scalar = kernels.to_numpy(function(ka, 1.5))
        assert_close(by_scalar, mapped(lambda v: BINARY[name](v, 1.5), a), dtype, 1, abs(a) + 2)


@pytest.mark.parametrize("name", COMPARE)
def test_comparisons(kernels: Backend, name: str) -> None:
    a = np.array([[0.0, 1.0, -1.0, math.inf], [math.nan, 2.0, 0.0, 2.0]])
    b = np.array([0.0, math.nan, 1.0, 2.0])
    found = kernels.to_numpy(getattr(kernels, name)(kernels.asarray(a), kernels.asarray(b)))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, mapped(COMPARE[name], a, b).astype(bool))


@pytest.mark.parametrize("dtype", FLOATS)
def test_arcs(kernels: Backend, dtype: str) -> None:
    x = np.linspace(-1, 1, 41).astype(dtype)
    for name, function in (("arcsin", math.asin), ("arccos", math.acos), ("arctan", math.atan)):
        found = kernels.to_numpy(getattr(kernels, name)(kernels.asarray(x)))
        assert_close(found, mapped(function, x), dtype, 2, math.pi)
    far = kernels.asarray(np.array([-2.0, math.nan, math.inf], dtype))
    for name in ("arcsin", "arccos"):
        assert np.isnan(kernels.to_numpy(getattr(kernels, name)(far))).all()
    assert kernels.to_numpy(kernels.arctan(far))[2] == np.array(math.pi / 2, dtype)


BITS: dict[str, Callable[[Any, Any], Any]] = {
    "bitwise_and": lambda a, b: a & b, "bitwise_or": lambda a, b: a | b,
    "bitwise_xor": lambda a, b: a ^ b, "left_shift": lambda a, b: a << b,
    "right_shift": lambda a, b: a >> b,
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("name", BITS)
def test_bits(kernels: Backend, name: str, dtype: str) -> None:
    """Python's integers have as many bits as needed: what a dtype lacks is cut off."""
    sign = -1 if dtype.startswith("int") else 1
    a = np.array([[0, 1, 2, 5], [100, 127, 3, 77]]) * [[1], [sign]]
    b = np.array([3, 0, 1, 200])  # a shift by more than all bits, too
    a, b = a.astype(dtype), b.astype(dtype)
    found = kernels.to_numpy(getattr(kernels, name)(kernels.asarray(a), kernels.asarray(b)))
    wanted = [
        [BITS[name](x, y) for x, y in zip(row, b.tolist(), strict=True)] for row in a.tolist()
    ]
    beyond = 1 << 8 * a.itemsize
    kept = [[(v + beyond // 2) % beyond - beyond // 2 for v in row] for row in wanted]
    assert found.dtype == dtype
    assert found.tolist() == (kept if sign < 0 else [[v % beyond for v in row] for row in wanted])


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bits_of_booleans(kernels: Backend, name: str) -> None:
    a, b = np.array([[False], [True]]), np.array([False, True])
    found = kernels.to_numpy(getattr(kernels, name)(kernels.asarray(a), kernels.asarray(b)))
    assert found.dtype == bool
    assert found.tolist() == [[BITS[name](x, y) for y in (False, True)] for x in (False, True)]


def test_predicates_and_where(kernels: Backend) -> None:
    x = kernels.asarray(np.array([0.0, math.nan, math.inf, -math.inf], "float32"))
    for name, wanted in (
        ("isnan", [False, True, False, False]), ("isinf", [False, False, True, True]),
        ("isfinite", [True, False, False, False]), ("logical_not", [True, False, False, False]),
    ):  # fmt: skip
        assert kernels.to_numpy(getattr(kernels, name)(x)).tolist() == wanted, name
    chosen = kernels.to_numpy(kernels.where(kernels.isfinite(x), x, -1.0))
    assert chosen.dtype == np.float32
    assert chosen.tolist() == [0.0, -1.0, -1.0, -1.0]


def test_special_values_come_without_warnings(kernels: Backend) -> None:
    """IEEE results, silently (the suite turns warnings into errors)."""
    x = kernels.asarray(np.array([0.0, -1.0, math.nan, 1000.0, -1000.0], "float32"))

    def values(a: Array) -> list[float]:
        return [float(v) for v in kernels.to_numpy(a)]

    nan, inf = math.nan, math.inf
    np.testing.assert_array_equal(values(kernels.log(x))[:3], [-inf, nan, nan])
    np.testing.assert_array_equal(values(kernels.sqrt(x))[:3], [0.0, nan, nan])
    np.testing.assert_array_equal(values(kernels.exp(x))[2:], [nan, inf, 0.0])
    np.testing.assert_array_equal(values(kernels.divide(x, 0.0)), [nan, -inf, nan, inf, -inf])
    np.testing.assert_array_equal(values(kernels.sigmoid(x))[2:], [nan, 1.0, 0.0])
    np.testing.assert_array_equal(values(kernels.relu(x)), [0.0, 0.0, nan, 1000.0, 0.0])
    np.testing.assert_array_equal(values(kernels.erf(x))[2:], [nan, 1.0, -1.0])
    half = kernels.to_numpy(kernels.astype(kernels.asarray(np.array([1e6])), np.dtype("float16")))
    assert half[0] == inf


# -- reductions -----------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("shape", "axes"),
    (((7,), (0,)), ((3, 4, 5), (0,)), ((3, 4, 5), (1,)), ((3, 4, 5), (0, 2)),
     ((3, 4, 5), (0, 1, 2)), ((), ()), ((3, 0, 2), (1,)), ((200, 300), (0,)), ((200, 300), (1,))),
)  # fmt: skip
@pytest.mark.parametrize("keepdims", (True, False))
def test_reductions(
    kernels: Backend, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool, dtype: str
) -> None:
    x = normal(4, shape, dtype)
    kx = kernels.asarray(x)
    kept = [1 if d in axes else n for d, n in enumerate(shape)]
    rest = [n for d, n in enumerate(shape) if d not in axes]
    groups = np.moveaxis(x, axes, range(len(axes))).reshape(-1, math.prod(rest))
    length = math.prod(shape[d] for d in axes)
    groups = groups[:length].T.tolist()
    wanted_shape = tuple(kept if keepdims else rest)

    def check(name: str, rule: Callable[[list[float]], float], magnitude: Any, n: int) -> None:
        found = kernels.to_numpy(getattr(kernels, name)(kx, axes, keepdims))
        wanted = np.array([rule(g) for g in groups]).reshape(wanted_shape)
        size = np.array([magnitude(g) for g in groups]).reshape(wanted_shape)
        assert_close(found, wanted, dtype, n, size)

    check("sum", math.fsum, lambda g: math.fsum(map(abs, g)), length)
    if length < 1000:
        check("prod", math.prod, lambda g: abs(math.prod(g)), length)
    if length:
        check("max", max, lambda g: 0.0, 1)
        check("min", min, lambda g: 0.0, 1)
    flags = kernels.greater(kx, 0.5)
    for name, rule in (("any", any), ("all", all)):
        found = kernels.to_numpy(getattr(kernels, name)(flags, axes, keepdims))
        wanted = np.array([rule(v > 0.5 for v in g) for g in groups], bool).reshape(wanted_shape)
        np.testing.assert_array_equal(found, wanted)


def test_integer_and_half_sums(kernels: Backend) -> None:
    bools = kernels.asarray(np.ones((300,), bool))
    small = kernels.asarray(np.full((300,), 200, "uint8"))
    half = kernels.asarray(np.ones((4096 + 1000,), "float16"))
    for a, wanted, dtype in (
        (bools, 300, "int64"),
        (small, 60000, "int64"),
        (half, 5096, "float16"),
    ):
        found = kernels.to_numpy(kernels.sum(a, (0,), False))
        assert found.dtype == dtype
        assert float(found) == wanted


def test_argmax_argmin_argsort(kernels: Backend) -> None:
    nan = math.nan
    x = np.array([[1.0, 5.0, 5.0, -2.0], [nan, 7.0, nan, 1.0], [3.0, 3.0, 3.0, 3.0]], "float32")
    kx = kernels.asarray(x)
    assert kernels.to_numpy(kernels.argmax(kx, 1)).tolist() == [1, 0, 0]
    assert kernels.to_numpy(kernels.argmin(kx, 1)).tolist() == [3, 0, 0]
    assert kernels.to_numpy(kernels.argmax(kx, 0)).tolist() == [1, 1, 1, 2]
    order = kernels.to_numpy(kernels.argsort(kx, 1))
    assert order.tolist() == [[3, 0, 1, 2], [3, 1, 0, 2], [0, 1, 2, 3]]
    assert order.dtype == kernels.to_numpy(kernels.argmax(kx, 0)).dtype == np.int64
    ties = np.random.default_rng(13).integers(0, 5, 300).astype("float32")
    stable = sorted(range(300), key=lambda i: ties[i])
    assert kernels.to_numpy(kernels.argsort(kernels.asarray(ties), 0)).tolist() == stable


@pytest.mark.parametrize("dtype", (*FLOATS, "int32"))
def test_cumsum(kernels: Backend, dtype: str) -> None:
    x = (normal(5, (3, 6)) * 4).astype(dtype)
    found = kernels.to_numpy(kernels.cumsum(kernels.asarray(x), 1))
    wanted = np.array([[math.fsum(row[: i + 1]) for i in range(6)] for row in x.tolist()])
    if dtype == "int32":
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, wanted)
    else:
        assert_close(found, wanted, dtype, 6, np.abs(x.astype(float)).sum(1, keepdims=True))


# -- arrays, shapes, indexing ---------------------------------------------------------------------
def test_making_and_converting(kernels: Backend) -> None:
    k, f32 = kernels, np.dtype("float32")
    source = np.arange(6.0)
    a = k.asarray(source)
    source[0] = 9
    assert k.to_numpy(a)[0] == 0, "asarray copies"
    assert k.to_numpy(k.asarray([[1, 2], [3, 4]], f32)).dtype == f32
    assert k.to_numpy(k.full((2, 2), 3, f32)).tolist() == [[3, 3], [3, 3]]
    assert k.empty((2, 0), f32).shape == (2, 0)
    assert k.to_numpy(k.arange(2, 11, 3, np.dtype("int64"))).tolist() == [2, 5, 8]
    assert k.to_numpy(k.arange(5, 0, -2, f32)).tolist() == [5, 3, 1]
    tenths = k.to_numpy(k.arange(0.0, 100.0, 0.1, f32))
    np.testing.assert_array_equal(tenths, np.array([i * 0.1 for i in range(1000)], "float32"))
    assert k.to_numpy(k.astype(a, np.dtype("int32"))).dtype == np.int32
    np.testing.assert_array_equal(k.to_numpy(k.from_numpy(np.eye(2))), np.eye(2))
    k.synchronize()


def test_ownership(kernels: Backend) -> None:
    a = kernels.full((4, 3), 1, np.dtype("float32"))
    assert kernels.owns(a)
    assert kernels.owns(kernels.copy(a))
    assert not kernels.owns(kernels.broadcast_to(a, (2, 4, 3)))
    assert not kernels.owns(kernels.getitem(a, (slice(0, 2),)))


def test_outputs_have_memory_of_their_own(kernels: Backend) -> None:
    """Also where nothing changes: only the shape primitives and basic indexing return views."""
    a = kernels.asarray(normal(14, (3, 3), "float32"))
    every = (slice(None), slice(None))
    outputs = {
        "astype": kernels.astype(a, np.dtype("float32")),
        "copy": kernels.copy(a),
        "asarray": kernels.asarray(a),
        "pad": kernels.pad(a, ((0, 0), (0, 0))),
        "concatenate": kernels.concatenate([a], 0),
        "sum": kernels.sum(a, (), True),
        "max": kernels.max(a, (), True),
        "index_add": kernels.index_add((3, 3), every, a),
        "maximum": kernels.maximum(a, a),
        "where": kernels.where(kernels.equal(a, a), a, a),
    }
    for name, out in outputs.items():
        assert not np.shares_memory(kernels.to_numpy(out), kernels.to_numpy(a)), name
        np.testing.assert_array_equal(kernels.to_numpy(out), kernels.to_numpy(a))


def test_assign_is_safe_when_memory_overlaps(kernels: Backend) -> None:
    a = kernels.arange(0, 6, 1, np.dtype("float64"))
    get = kernels.getitem
    kernels.assign(get(a, (slice(1, 6),)), get(a, (slice(0, 5),)))
    assert kernels.to_numpy(a).tolist() == [0, 0, 1, 2, 3, 4]
    kernels.assign_at(a, (slice(0, 5),), get(a, (slice(1, 6),)))
    assert kernels.to_numpy(a).tolist() == [0, 1, 2, 3, 4, 4]
    kernels.assign(a, kernels.flip(a, (0,)))
    assert kernels.to_numpy(a).tolist() == [4, 4, 3, 2, 1, 0]
    kernels.assign_at(a, (kernels.asarray(np.array([0, 2])),), -1.0)
    kernels.assign(get(a, (5,)), 7.0)
    assert kernels.to_numpy(a).tolist() == [-1, 4, -1, 2, 1, 7]


def test_shape_primitives(kernels: Backend) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    k, a = kernels, kernels.asarray(x)
    np.testing.assert_array_equal(k.to_numpy(k.reshape(a, (4, 6))), x.reshape(4, 6))
    np.testing.assert_array_equal(k.to_numpy(k.transpose(a, (2, 0, 1))), x.transpose(2, 0, 1))
    np.testing.assert_array_equal(k.to_numpy(k.flip(a, (0, 2))), x[::-1, :, ::-1])
    wide = k.broadcast_to(k.getitem(a, (slice(0, 1),)), (5, 3, 4))
    np.testing.assert_array_equal(k.to_numpy(wide), np.stack([x[0]] * 5))
    joined = k.concatenate([a, k.getitem(a, (slice(None), slice(0, 1)))], 1)
    assert k.to_numpy(joined)[1, 3].tolist() == x[1, 0].tolist()
    padded = k.to_numpy(k.pad(a, ((0, 1), (2, 0), (1, 1))))
    assert padded.shape == (3, 5, 6)
    np.testing.assert_array_equal(padded[:2, 2:, 1:5], x)
    assert padded.sum() == x.sum()


INDICES: dict[str, Any] = {
    "integers": (1, 2),
    "all-integers": (1, 2, 3),
    "slices": (slice(None), slice(0, 3, 2), slice(3, 0, -2)),
    "none-and-ellipsis": (None, ..., 1),
    "array": (np.array([1, 0, 1, 1]),),
    "two-arrays": (np.array([[0], [1]]), slice(1, 3), np.array([2, 2, -1])),
    "mask": (np.arange(24).reshape(2, 3, 4) % 5 == 0,),
    "partial-mask": (slice(None), np.array([True, False, True])),
    "empty": (np.array([], "int64"),),
    "mixed": (..., np.array([0, 0, 3]), None),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
@pytest.mark.parametrize("dtype", ("float64", "float32"))
def test_getitem_and_its_adjoint(kernels: Backend, index: Any, dtype: str) -> None:
    x = normal(6, (2, 3, 4), dtype)
    at = tuple(kernels.asarray(i) if isinstance(i, np.ndarray) else i for i in index)
    found = kernels.getitem(kernels.asarray(x), at)
    np.testing.assert_array_equal(kernels.to_numpy(found), x[index])
    values = normal(7, x[index].shape, dtype)
    added = kernels.to_numpy(kernels.index_add((2, 3, 4), at, kernels.asarray(values)))
    wanted = oracles.index_add((2, 3, 4), index, values)
    assert_close(added, wanted, dtype, 8, oracles.index_add((2, 3, 4), index, abs(values)))


def test_basic_index_is_a_view(kernels: Backend) -> None:
    a = kernels.full((2, 3), 0, np.dtype("float32"))
    for index in ((1,), (slice(0, 1), 2), (0, 0)):
        kernels.assign(kernels.getitem(a, index), 1.0)
    assert kernels.to_numpy(a).tolist() == [[1, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("axis", (0, 1, 2))
def test_along_axis(kernels: Backend, axis: int) -> None:
    """The index may be smaller than the array on the other axes and of any length on its own."""
    x = normal(8, (3, 4, 5), "float32")
    shape = [2, 3, 4]
    shape[axis] = 7
    index = np.random.default_rng(9).integers(0, x.shape[axis], shape)
    kx, ki = kernels.asarray(x), kernels.asarray(index)
    taken = kernels.to_numpy(kernels.take_along_axis(kx, ki, axis))
    np.testing.assert_array_equal(taken, oracles.take_along_axis(x, index, axis))
    values = normal(10, tuple(shape), "float32")
    added = kernels.add_along_axis(x.shape, ki, kernels.asarray(values), axis)
    wanted = oracles.add_along_axis(x.shape, index, values, axis)
    size = oracles.add_along_axis(x.shape, index, abs(values), axis)
    assert_close(kernels.to_numpy(added), wanted, "float32", 7, size)


# -- matrix product -------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    (((3, 4), (4, 5)), ((1, 1), (1, 1)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)),
     ((3, 4), (2, 4, 1)), ((0, 4), (4, 3)), ((3, 0), (0, 2)), ((2, 0, 4), (4, 3)),
     ((37, 70), (70, 41))),
)  # fmt: skip
def test_matmul(
    kernels: Backend, a_shape: tuple[int, ...], b_shape: tuple[int, ...], dtype: str
) -> None:
    a, b = normal(11, a_shape, dtype), normal(12, b_shape, dtype)
    wanted, size = oracles.matmul(a, b), oracles.matmul(abs(a), abs(b))
    length = a_shape[-1]
    ka, kb = kernels.asarray(a), kernels.asarray(b)
    assert_close(kernels.to_numpy(kernels.matmul(ka, kb)), wanted, dtype, length, size)

    def swapped(v: Array) -> Array:
        """The same values stored with the last two axes exchanged."""
        axes = (*range(v.ndim - 2), v.ndim - 1, v.ndim - 2)
        return kernels.transpose(kernels.asarray(v.transpose(axes).copy()), axes)

    for left, right in ((swapped(a), kb), (ka, swapped(b)), (swapped(a), swapped(b))):
        assert_close(kernels.to_numpy(kernels.matmul(left, right)), wanted, dtype, length, size)


def test_matmul_of_integers(kernels: Backend) -> None:
    a, b = np.arange(12).reshape(3, 4), np.arange(8).reshape(4, 2)
    found = kernels.to_numpy(kernels.matmul(kernels.asarray(a), kernels.asarray(b)))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, oracles.matmul(a, b))


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("side", [3, 40])
def test_frames_and_gradients_of_slices_keep_the_memory_order(name: str, side: int) -> None:
    """Else every operation that joins them with another map of the network has to copy."""
    kernels: Any = load_backend(name)
    x = np.ones((2, side, side, 5), np.float32).transpose(0, 3, 1, 2)  # channels last
    padded = kernels.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0)))
    assert np.argsort(padded.strides).tolist() == [1, 3, 2, 0]
    assert np.array_equal(padded, np.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0))))
    slices = (slice(None), slice(None), slice(None, None, 2), slice(None, None, 2))
    spread = kernels.index_add((2, 5, 2 * side, 2 * side), slices, x)
    assert np.argsort(spread.strides).tolist() == [1, 3, 2, 0]
    assert np.array_equal(spread[slices], x) and spread.sum() == x.size
