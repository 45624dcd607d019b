"""Copies between memory layouts: every kind of strides, guard bytes around what is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from kernel_inputs import Guarded

from tinygrad_cnn.backend import Backend, load_backend

pytest.importorskip("numba")
strided = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.strided")

LARGEST = (0, 9000, 120, 30, 14, 8)  # size of an axis, by their number
DTYPES = (np.float32, np.float32, np.int32, np.float64, np.uint8)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """The backend with its kernels for arrays of any size, results between guard bytes."""
    guard = Guarded()
    monkeypatch.setattr(strided, "empty", guard.empty)
    monkeypatch.setattr(strided, "LARGE", 1)
    monkeypatch.setattr(strided, "FLAT", 1)
    monkeypatch.setattr(strided, "CHUNK", 300)
    for cached in (strided.plan, strided.copy_plan, strided._spread_plan):
        cached.cache_clear()
    yield load_backend("numba")
    for cached in (strided.plan, strided.copy_plan, strided._spread_plan):
        cached.cache_clear()
    guard.check()


def awkward(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of this shape: permuted, or a window, every second, reversed or repeated cells."""
    axes = tuple(int(i) for i in rng.permutation(len(shape)))
    kind = int(rng.integers(5))
    sizes = [(n, n + 3, 2 * n, n, 1 if i % 2 else n)[kind] for i, n in enumerate(shape)]
    a = rng.integers(1, 100, [sizes[i] for i in axes]).astype(dtype).transpose(np.argsort(axes))
    if kind == 4:
        return np.broadcast_to(a, shape)
    part = (slice(None), slice(1, -2), slice(None, None, 2), slice(None, None, -1))[kind]
    return a[(part,) * len(shape)]


def drawn_index(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A basic index that leaves something of every axis."""
    index: list[Any] = []
    for n in shape:
        first = int(rng.integers(n))
        last = int(rng.integers(first, n)) + 1
        some = slice(first, last, int(rng.integers(1, 4)))
        kind = int(rng.integers(6))
        index += ((first - n,), (slice(None),), (None, some), (some,), (some,), (some,))[kind]
    return (*index, ...) if rng.integers(2) else tuple(index)


@pytest.mark.parametrize("seed", range(60))
def test_layouts(guarded: Any, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    if seed % 2:  # as large results are written
        monkeypatch.setattr(strided.memory, "STREAM_BYTES", -1)
    rng = np.random.default_rng(seed)
    ndim, dtype = 1 + seed % 5, DTYPES[seed // 5 % 5]
    shape = tuple(int(n) for n in rng.integers(1, LARGEST[ndim], ndim))
    a = awkward(rng, shape, dtype)
    copied = guarded.copy(a)
    assert a.itemsize != 4 or strided.copy(a) is not None
    np.testing.assert_array_equal(copied, a)
    assert not np.shares_memory(copied, a) and copied.dtype == dtype
    np.testing.assert_array_equal(
        guarded.reshape(a, (a.size // shape[0], shape[0])), a.reshape(-1, shape[0])
    )
    padding = tuple((int(lo), int(hi)) for lo, hi in rng.integers(0, 4, (ndim, 2)))
    np.testing.assert_array_equal(guarded.pad(a, padding), np.pad(a, padding))

    axis = int(rng.integers(ndim))
    parts = [awkward(rng, (*shape[:axis], n, *shape[axis + 1 :]), dtype) for n in (3, 1, 18)]
    np.testing.assert_array_equal(
        guarded.concatenate(parts, axis), np.concatenate(parts, axis), strict=True
    )

    whole = tuple(int(n) for n in rng.integers(1, LARGEST[ndim], ndim))
    index = drawn_index(rng, whole)
    wanted = np.zeros(whole, dtype)
    values = awkward(rng, wanted[index].shape, dtype)
    wanted[index] = values
    np.testing.assert_array_equal(guarded.index_add(whole, index, values), wanted, strict=True)


@pytest.mark.parametrize("seed", range(40))
def test_writing_into_a_view(guarded: Any, seed: int) -> None:
    """Nothing but the view changes, also when the values share its memory."""
    rng = np.random.default_rng(1000 + seed)
    ndim, dtype = 1 + seed % 4, DTYPES[seed // 4 % 5]
    whole = tuple(int(n) for n in rng.integers(1, LARGEST[ndim], ndim))
    axes = tuple(int(i) for i in rng.permutation(ndim))
    found = guarded.copy(rng.integers(1, 100, whole).astype(dtype).transpose(axes))
    wanted = found.copy(order="K")
    index = drawn_index(rng, wanted.shape)
    values = awkward(rng, wanted[index].shape, dtype)
    wanted[index] = values
    guarded.assign_at(found, index, values)
    np.testing.assert_array_equal(found, wanted)
    flipped = (slice(None, None, -1),) * ndim
    guarded.assign(found[flipped], wanted)
    np.testing.assert_array_equal(found[flipped], wanted)
    mirrored = found[flipped].copy()
    guarded.assign(found, found[flipped])  # the values share the memory that is written
    np.testing.assert_array_equal(found, mirrored)


def test_what_is_a_view_stays_one() -> None:
    kernels: Any = load_backend("numba")
    a = np.arange(64 * 1024, dtype=np.float32).reshape(16, 32, 128)
    for b, shape in (
        (a[:, ::2], (4, 4, 16, 128)), (a[::-1], (16, 4096)), (a.transpose(2, 0, 1), (128, 512)),
        (a[:, :, ::2], (512, 64)), (a, (2, -1)),
    ):  # fmt: skip
        assert np.shares_memory(b.reshape(shape), a)
        assert np.shares_memory(kernels.reshape(b, shape), a)
    for b, shape in (
        (a.transpose(1, 0, 2), (32, 2048)),
        (a[:, :16], (256 * 128,)),
        (a.T, (16 * 4096,)),
    ):
        made = kernels.reshape(b, shape)
        np.testing.assert_array_equal(made, b.reshape(shape))
        assert not np.shares_memory(made, a)
    with pytest.raises(ValueError, match="reshape"):
        kernels.reshape(a.T, (7, 5))


@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
def test_the_memory_order_is_kept(last: bool) -> None:
    """A pass backward in another order than the images' would change it at every layer."""
    kernels: Any = load_backend("numba")
    shape = (8, 16, 24, 24)
    a = np.ones(shape, np.float32)
    if last:
        a = np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    index = (slice(None), slice(None), slice(None, None, 2), slice(None, None, 2))
    for made in (
        kernels.copy(a[:, :, ::2]), kernels.pad(a, ((0, 0), (4, 4), (1, 1), (0, 0))),
        kernels.index_add((8, 16, 48, 48), index, a), kernels.concatenate([a, a], 1),
    ):  # fmt: skip
        inner = made.transpose(0, 2, 3, 1) if last else made
        assert inner.flags.c_contiguous
