"""Elementwise kernels of large arrays: any memory order, special values, number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.backend import load_backend

pytest.importorskip("numba")
memory = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.memory")
elementwise = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.elementwise")
elements = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.elements")
REFERENCE: Any = load_backend("numpy")
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The backend with its kernels for arrays of any size."""
    monkeypatch.setattr(elementwise, "LARGE", 1)
    monkeypatch.setattr(elementwise, "SIMPLE", 1)
    monkeypatch.setattr(elementwise.strided, "FLAT", 1)
    made: Any = load_backend("numba")
    before = made.get_num_threads()
    yield made
    made.set_num_threads(before)


def laid_out(a: Any) -> dict[str, Any]:
    """(9, 8, 7, …) numbers in several memory orders, with gaps, and none at all."""
    last = np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    gaps = a[:, ::2, 1:, ::-1]
    return {"plain": a, "last": last, "gaps": gaps, "flat": a.reshape(-1), "empty": a[:0]}


def same_on_all_threads(kernels: Any, function: Callable[[], Any]) -> Any:
    """The result, once it is known to have the same bits on one thread and on three."""
    kernels.set_num_threads(1)
    found = function()
    kernels.set_num_threads(3)
    assert function().tobytes() == found.tobytes()
    return found


@pytest.mark.parametrize("exponent", [3, 4, -1, -2, -3, 0.5, 1.5, -0.5, 3.0, 0, 1.7, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_power(kernels: Any, exponent: float, dtype: Any) -> None:
    """Within four units in the last place of the exact power, over all magnitudes; special values
    and what over- or underflows as NumPy has it."""
    rng = np.random.default_rng(3)
    a = np.exp(rng.uniform(-100, 88, (9, 8, 27, 31))) * rng.choice([-1, 1], (9, 8, 27, 31))
    a.reshape(-1)[: 5 * len(SPECIAL)] = SPECIAL * 5
    for name, x in laid_out(a.astype(dtype)).items():
        found = same_on_all_threads(kernels, lambda x=x: kernels.power(x, exponent))
        with np.errstate(all="ignore"):
            exact = np.power(x.astype(np.longdouble), np.longdouble(exponent))
            wanted = REFERENCE.power(x, exponent)
        assert found.dtype == dtype and found.shape == x.shape, name
        finite = np.isfinite(wanted) & (wanted != 0)
        np.testing.assert_array_equal(found[~finite], wanted[~finite])
        np.testing.assert_array_equal(np.signbit(found[~finite]), np.signbit(wanted[~finite]))
        error = np.abs(found[finite].astype(np.longdouble) - exact[finite])
        limit = 4 if exponent in elements.POWERS else 64
        assert (error <= limit * np.spacing(np.abs(wanted[finite]))).all(), name
        if name != "gaps":  # whose copy has another order, so may go another way
            into = np.array(x)
            assert kernels.power(into, exponent, out=into) is into
            np.testing.assert_array_equal(into, found)


LIMITS: list[tuple[float | None, float | None]] = [
    (-0.5, 0.5), (0.0, None), (None, 1), (1.0, -1.0), (None, 1e4), (-0.25, -0.25),
]  # fmt: skip


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("device", ["numba", "numpy"])
def test_clamp(kernels: Any, device: str, dtype: Any, limits: Any) -> None:
    """The gradient passes at the limits, too, and not where x is NaN; of second order as well."""
    low, high = (s * np.inf if v is None else v for v, s in zip(limits, (-1, 1), strict=True))
    a = np.random.default_rng(4).standard_normal((9, 8, 7, 5)).astype(dtype)
    a.reshape(-1)[:9] = [*SPECIAL, -0.5, 0.5, 1, -1]
    g = np.random.default_rng(5).standard_normal(a.shape).astype(dtype)
    for (name, x), gx in zip(laid_out(a).items(), laid_out(g).values(), strict=True):
        t = tg.from_numpy(x).to(device).requires_grad_()
        y = t.clamp(*limits)
        y.backward(tg.from_numpy(gx).to(device))
        wanted = np.minimum(np.maximum(x, dtype(low)), dtype(high))
        inside = (x >= dtype(low)) & (x <= dtype(high))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.detach().numpy(), wanted, err_msg=name)
        np.testing.assert_array_equal(t.grad.numpy(), np.where(inside, gx, 0), err_msg=name)
        t.grad = None
        (slope,) = tg.autograd.grad(t.clamp(*limits).sum(), [t], create_graph=True)
        np.testing.assert_array_equal(slope.detach().numpy(), inside)


@pytest.mark.parametrize("shape", [(3, 37, 13, 11), (2, 640, 5, 7), (4, 3, 40, 33), (5, 1, 1, 99)])
@pytest.mark.parametrize("streamed", [False, True])
def test_operands_constant_along_some_axes(
    kernels: Any, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], streamed: bool
) -> None:
    """Any of the axes, on either side, in any memory order of both, and in place."""
    if streamed:
        monkeypatch.setattr(memory, "STREAM_BYTES", -1)
    rng = np.random.default_rng(6)
    for axes in ((0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)):
        back = tuple(np.argsort(axes))
        a = rng.standard_normal([shape[i] for i in axes], dtype=np.float32).transpose(back)
        for number in range(15):
            kept = [n if number >> i & 1 else 1 for i, n in enumerate(shape)]
            b = rng.standard_normal(kept, dtype=np.float32)
            b = np.ascontiguousarray(b.transpose(3, 0, 1, 2)).transpose(1, 2, 3, 0)
            for x, y in ((a, b), (b, a)):
                found = same_on_all_threads(kernels, lambda x=x, y=y: kernels.subtract(x, y))
                np.testing.assert_array_equal(found, x - y)
            into = np.array(a)
            assert kernels.subtract(into, b, out=into) is into
            np.testing.assert_array_equal(into, a - b)


COMPARED = "equal not_equal less less_equal greater greater_equal".split()


def assert_same(found: Any, wanted: Any, name: str = "") -> None:
    assert found.dtype == wanted.dtype and found.shape == wanted.shape, name
    np.testing.assert_array_equal(found, wanted, err_msg=name)
    if wanted.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted), err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.float16])
@pytest.mark.parametrize("name", COMPARED)
def test_comparisons(kernels: Any, name: str, dtype: Any) -> None:
    """Any memory order, repeated operands and numbers on both sides, NaN and numbers that do not
    fit the dtype: what NumPy says, on any number of threads."""
    rng = np.random.default_rng(7)
    a = rng.integers(-2, 3, (9, 8, 27, 31)).astype(dtype)
    b = rng.integers(-2, 3, (9, 8, 27, 31)).astype(dtype)
    numbers: list[Any] = [1, -2, 0.5]
    if a.dtype.kind == "f":
        a.reshape(-1)[:5], b.reshape(-1)[3:8] = SPECIAL, SPECIAL
        numbers += [np.inf, np.nan, -0.0]
    else:
        numbers += [2**70, -(2**63)]
    operate, reference = getattr(kernels, name), getattr(np, name)
    for (where, x), y in zip(laid_out(a).items(), laid_out(b).values(), strict=True):
        others = [y, x, *numbers]
        others += [y[:1, :, :1, :1], y[:, :1], y[:, :, :1, :1]] if x.ndim == 4 else []
        for other in others:
            assert_same(same_on_all_threads(kernels, lambda x=x, o=other: operate(x, o)),
                        reference(x, other), where)  # fmt: skip
            assert_same(operate(other, x), reference(other, x), where)
    into = np.zeros(a.shape, bool)
    assert operate(a, b, out=into) is into
    assert_same(into, reference(a, b))


@pytest.mark.parametrize("kind", ["logical", "bitwise"])
@pytest.mark.parametrize("name", ["and", "or", "xor"])
def test_logic_of_booleans(kernels: Any, kind: str, name: str) -> None:
    rng = np.random.default_rng(8)
    a, b = rng.random((2, 9, 8, 27, 31)) < 0.5
    operate, reference = getattr(kernels, f"{kind}_{name}"), getattr(np, f"{kind}_{name}")
    for (where, x), y in zip(laid_out(a).items(), laid_out(b).values(), strict=True):
        others = [y, x, True, *([y[:1, :, :1, :1], y[:, :1]] if x.ndim == 4 else [])]
        for other in others:
            assert_same(same_on_all_threads(kernels, lambda x=x, o=other: operate(x, o)),
                        reference(x, other), where)  # fmt: skip
            assert_same(operate(other, x), reference(other, x), where)
        assert_same(kernels.logical_not(x), ~x, where)
        assert kernels.sum(x, tuple(range(x.ndim)), False) == x.sum()
    into = np.array(a)
    assert operate(into, b, out=into) is into
    assert_same(into, reference(a, b))


@pytest.mark.parametrize("name", ["sign", "isnan", "isinf", "isfinite", "absolute", "negative"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_signs_and_tests_of_numbers(kernels: Any, name: str, dtype: Any) -> None:
    a = np.random.default_rng(9).standard_normal((9, 8, 27, 31)).astype(dtype)
    a.reshape(-1)[: 5 * len(SPECIAL)] = SPECIAL * 5
    a.reshape(-1)[-1] = -np.nan
    for where, x in laid_out(a).items():
        found = same_on_all_threads(kernels, lambda x=x: getattr(kernels, name)(x))
        wanted = getattr(np, name)(x)
        assert found.dtype == wanted.dtype and found.shape == wanted.shape, where
        np.testing.assert_array_equal(found, wanted, err_msg=where)
        known = ~np.isnan(x)
        np.testing.assert_array_equal(np.signbit(found[known]), np.signbit(wanted[known]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8, bool])
def test_choice_by_a_condition(kernels: Any, dtype: Any) -> None:
    """Arrays, arrays of one number and numbers in both places; the bits are those of the chosen."""
    rng = np.random.default_rng(10)
    c, a = rng.random((9, 8, 27, 31)) < 0.5, rng.integers(-9, 9, (9, 8, 27, 31)).astype(dtype)
    b = (a * 3 + 1).astype(dtype)
    if a.dtype.kind == "f":
        b.reshape(-1)[-5:] = SPECIAL
    for (where, condition), x, y in zip(
        laid_out(c).items(), laid_out(a).values(), laid_out(b).values(), strict=True
    ):
        for first, second in ((x, y), (x, 1), (2.5, y), (x, np.array(3, dtype)),
                              (x, np.array([[3]], dtype)), (1, 0.0)):  # fmt: skip
            choose = lambda k, c=condition, f=first, s=second: k.where(c, f, s)  # noqa: E731
            if (
                x.ndim == 4 and x.size
            ):  # masks that are repeated, to one of the shapes or to neither
                for mask in (condition[:1, :, :1], condition[0, 0], condition[:, :, :, :1]):
                    assert_same(kernels.where(mask, first, second),
                                REFERENCE.where(mask, first, second), where)  # fmt: skip
            assert_same(same_on_all_threads(kernels, lambda: choose(kernels)),  # noqa: B023
                        choose(REFERENCE), where)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 8, 27, 31), (7, 300, 3, 2), (50, 33), (70_001,), (3, 1, 5)])
def test_prelu_and_its_gradients(kernels: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """One slope, or one a channel, in any memory order: values as NumPy's, sums to float32's
    precision, and the same bits on any number of threads."""
    rng = np.random.default_rng(11)
    x, g = rng.standard_normal((2, *shape)).astype(dtype)
    x.reshape(-1)[: len(SPECIAL)] = [0.0, -0.0, 1e30, -1e10, 3.0]
    channels = shape[1] if len(shape) > 1 else 1
    for count in {1, channels}:
        w = rng.standard_normal((1, count, *(1,) * (len(shape) - 2))[: len(shape)]).astype(dtype)
        for a, b in ((x, g), (np.asfortranarray(x), g), (x[::-1], g), (x[:0], g[:0])):
            found = same_on_all_threads(kernels, lambda a=a, w=w: kernels.leaky_relu(a, w))
            np.testing.assert_array_equal(found, np.where(a > 0, a, w * a))
            gx, gw = kernels.prelu_grad(b, a, w)
            assert gx.dtype == gw.dtype == dtype and gw.shape == w.shape
            np.testing.assert_array_equal(gx, np.where(a > 0, b, w * b))
            part = np.where(a > 0, 0, b.astype(np.float64) * a)
            axes = tuple(i for i, n in enumerate(w.shape) if n == 1)
            size = np.abs(part).sum(axis=axes, keepdims=True)
            error = np.abs(gw - part.sum(axis=axes, keepdims=True))
            assert (error <= 1e-6 * size).all()
            same_on_all_threads(kernels, lambda a=a, b=b, w=w: kernels.prelu_grad(b, a, w)[1])
        infinite = np.where(x > 0, np.inf, g).astype(dtype)  # passed on, not to the slopes
        np.testing.assert_array_equal(
            kernels.prelu_grad(infinite, x, w)[1], kernels.prelu_grad(g, x, w)[1]
        )


@pytest.mark.parametrize("to", [np.float32, np.float64, np.float16, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8, bool])
def test_conversions(kernels: Any, dtype: Any, to: Any) -> None:
    """As NumPy rounds, in the memory order of what is converted; infinities and NaN stay."""
    rng = np.random.default_rng(12)
    a = (rng.standard_normal((9, 8, 27, 31)) * 100).astype(np.int64).astype(dtype)
    if a.dtype.kind == "f" and to is not np.int64:
        a.reshape(-1)[: len(SPECIAL) + 1] = [*SPECIAL, 1 + 2.0**-30]
    if dtype is np.int64:
        a.reshape(-1)[:4] = [2**62 + 1, -(2**63), 2**24 + 1, 2**53 + 1]
    for where, x in laid_out(a).items():
        found = same_on_all_threads(kernels, lambda x=x: kernels.astype(x, np.dtype(to)))
        with np.errstate(all="ignore"):
            assert_same(found, x.astype(to), where)
        assert not np.shares_memory(found, x)
