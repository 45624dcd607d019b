"""Results that are streamed past the caches are those that are stored, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.geometry import Window

pytest.importorskip("numba")
memory = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.memory")

PAIRS = Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))


@pytest.mark.parametrize("threads", [1, 2])
def test_results_streamed_past_the_caches_are_the_same(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    backend = load_backend("numba")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3, 5, 47, 61), dtype=np.float32)
    row, plane = rng.standard_normal(61, dtype=np.float32), np.float32([[[1]], [[2]], [[3]]] * 2)
    maps = rng.standard_normal((5, 9, 48, 64), dtype=np.float32)
    image = rng.standard_normal((5, 64, 12, 16), dtype=np.float32)
    last = np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def everything() -> list[Any]:
        found = [backend.add(x, y), backend.relu(x), backend.multiply(x, row), backend.exp(x)]
        found += [backend.subtract(row, x), backend.add(x.astype(np.float64), y.astype(np.float64))]
        found += [backend.leaky_relu_grad(x, y, 0.2), backend.multiply(x, 2.0)]
        found += [backend.add(np.tile(x, (2, 1, 1, 1)), plane[:, :, :, None])]
        found += [backend.copy(x), backend.copy(x[:, :, ::2]), backend.copy(x[..., 1:60])]
        for width in (24, 56, 60, 64):  # 60 is no multiple of half a vector
            planes = maps[..., :width].copy()
            pooled, winner = backend.max_pool(planes, PAIRS)
            found.append(backend.max_pool_scatter(pooled, winner, planes.shape, PAIRS))
        inplace = x.copy()
        backend.add(inplace, y, out=inplace)
        found.append(inplace)
        for a in (image, last):
            mean, var = backend.batch_norm_stats(a)
            b = backend.batch_norm_relu(a, mean, var, mean, var, 1e-5, a)
            found += [b, backend.batch_norm(a, mean, var, None, None, 1e-5)]
            found += backend.batch_norm_relu_grad(a, b, a, mean, var, mean, 1e-5, True)
            found += backend.batch_norm_grad(b, a, mean, var, None, 1e-5)
        return found

    before = backend.get_num_threads()
    backend.set_num_threads(threads)
    try:
        expected = everything()
        monkeypatch.setattr(memory, "STREAM_BYTES", -1)
        got = everything()
    finally:
        backend.set_num_threads(before)
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_cache_that_a_processor_sees_is_the_largest(tmp_path: Path) -> None:
    for index, size in enumerate(["32K", "32K", "1024K", "32768K"]):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert memory.last_level_cache(tmp_path) == 32 << 20
    assert memory.last_level_cache(tmp_path / "none", default=7) == 7
    (tmp_path / "index3" / "size").write_text("unknown")
    assert memory.last_level_cache(tmp_path) == 1 << 20
