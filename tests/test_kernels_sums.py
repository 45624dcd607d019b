"""Sums and extremes of large arrays over any axes in any memory order, between guard bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from kernel_inputs import Guarded

from tinygrad_cnn.backend import load_backend

pytest.importorskip("numba")
extremes = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.extremes")
positions = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.positions")
reduce = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.reduce")

LARGEST = (0, 40000, 700, 60, 25)  # size of an axis, by their number


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The backend with its kernels for arrays of any size."""
    guard = Guarded()
    monkeypatch.setattr(reduce, "empty", guard.empty)
    monkeypatch.setattr(reduce, "LARGE", 1)
    monkeypatch.setattr(reduce, "FEW", 1)
    monkeypatch.setattr(extremes, "FEW", 1)
    kernels: Any = load_backend("numba")
    before = kernels.get_num_threads()
    yield kernels
    kernels.set_num_threads(before)
    guard.check()


def drawn(seed: int) -> tuple[np.random.Generator, list[int], Any]:
    """A generator, an order of axes and numbers that lie in memory in that order."""
    rng = np.random.default_rng(seed)
    ndim = 1 + seed % 4
    shape = [int(n) for n in rng.integers(1, LARGEST[ndim], ndim)]
    if seed % 8 > 4:  # many rows, few columns
        shape = [int(rng.integers(500, 3000)), *(min(n, 9) for n in shape[1:])]
    order = [int(i) for i in rng.permutation(ndim)]
    a = rng.standard_normal([shape[i] for i in order], dtype=np.float32)
    return rng, order, a


@pytest.mark.parametrize("seed", range(60))
def test_sums(guarded: Any, seed: int) -> None:
    """Over every choice of axes, against float64; the same bits on one thread and on three."""
    rng, order, a = drawn(seed)
    ndim = a.ndim
    a = a.transpose(np.argsort(order))
    wide = a.astype(np.float64)
    for number in range(1, 2**ndim):
        axes = tuple(i for i in range(ndim) if number >> i & 1)
        guarded.set_num_threads(1)
        found = guarded.sum(a, axes, bool(number % 2))
        wanted = wide.sum(axes, keepdims=bool(number % 2))
        scale = np.abs(wide).sum(axes, keepdims=bool(number % 2))
        assert found.shape == wanted.shape and found.dtype == np.float32
        assert np.all(np.abs(found - wanted) <= 1e-6 * scale)
        guarded.set_num_threads(3)
        assert guarded.sum(a, axes, bool(number % 2)).tobytes() == found.tobytes()


@pytest.mark.parametrize("seed", range(60))
def test_sums_of_squares(guarded: Any, seed: int) -> None:
    """Over every choice of axes, against float64; the same bits on one thread and on three."""
    rng, order, a = drawn(seed)
    a = a.transpose(np.argsort(order))
    wide = a.astype(np.float64) ** 2
    for number in range(1, 2**a.ndim):
        axes = tuple(i for i in range(a.ndim) if number >> i & 1)
        if reduce.plan(a.shape, a.strides, axes) is None:  # NumPy's, term after term
            continue
        guarded.set_num_threads(1)
        found = guarded.sum_of_squares(a, axes, bool(number % 2))
        wanted = wide.sum(axes, keepdims=bool(number % 2))
        assert found.shape == wanted.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=512 * 2.0**-26)
        guarded.set_num_threads(3)
        again = guarded.sum_of_squares(a, axes, bool(number % 2))
        assert again.tobytes() == found.tobytes()


@pytest.mark.parametrize("seed", range(60))
def test_extremes(guarded: Any, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Over every choice of axes, with infinities and NaN; the same bits on one thread and three."""
    monkeypatch.setattr(extremes, "empty", reduce.empty)
    rng, order, a = drawn(seed)
    ndim = a.ndim
    a -= np.float32(5 * (seed % 3 - 1))  # all of one sign: nothing beside the array may take part
    a.reshape(-1)[rng.integers(a.size, size=seed % 4)] = rng.choice([np.nan, np.inf, -np.inf])
    a = a.transpose(np.argsort(order))
    for number in range(1, 2**ndim):
        axes = tuple(i for i in range(ndim) if number >> i & 1)
        for name in ("max", "min"):
            guarded.set_num_threads(1)
            found = getattr(guarded, name)(a, axes, bool(number % 2))
            wanted = getattr(a, name)(axes, keepdims=bool(number % 2))
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, wanted)
            guarded.set_num_threads(3)
            again = getattr(guarded, name)(a, axes, bool(number % 2))
            assert again.tobytes() == found.tobytes()


@pytest.mark.parametrize("seed", range(60))
def test_positions(guarded: Any, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Along every axis: the first of many equal numbers, the first NaN; the same on all threads."""
    monkeypatch.setattr(positions, "empty", reduce.empty)
    monkeypatch.setattr(positions, "LARGE", 1)
    rng, order, a = drawn(seed)
    a = np.rint(a * (seed % 3))  # −0 and 0 are equal
    special = rng.choice([np.nan, np.inf, -np.inf], a.size // 50 + seed % 4)
    a.reshape(-1)[rng.integers(a.size, size=special.size)] = special
    a = a.transpose(np.argsort(order))
    for axis in range(a.ndim):
        for name in ("argmax", "argmin"):
            for threads in (1, 3):
                guarded.set_num_threads(threads)
                found = getattr(guarded, name)(a, axis)
                assert found.dtype == np.int64
                np.testing.assert_array_equal(found, getattr(a, name)(axis))


def test_every_place_of_an_extreme(guarded: Any) -> None:
    """One element of a run, or of a column, at each place in turn: the largest, smallest, NaN."""
    for value, name in ((1, "max"), (-1, "min"), (np.nan, "max"), (np.nan, "min")):
        for count in (3, 16, 37, 150):
            a = np.zeros((count, count), np.float32)
            np.fill_diagonal(a, value)
            for axes in ((0,), (1,)):
                found = getattr(guarded, name)(a, axes, False)
                np.testing.assert_array_equal(found, np.full(count, value, np.float32))
                place = getattr(guarded, f"arg{name}")(a, axes[0])
                np.testing.assert_array_equal(place, np.arange(count))


def test_long_sums_stay_exact() -> None:
    """Equal terms lose four digits one after another in float32, in pieces of 512 hardly one."""
    kernels: Any = load_backend("numba")
    rows = np.full((400_000, 16), 0.1, np.float32)
    exact = 400_000 * float(np.float32(0.1))
    for a, axes in ((rows, (0,)), (np.asfortranarray(rows), (0,)), (rows, (0, 1))):
        found = kernels.sum(a, axes, False)
        np.testing.assert_allclose(
            found, exact * (16 if axes == (0, 1) else 1), rtol=512 * 2.0**-26
        )
