"""3-D convolution by the compiled kernels, stacked and depth by depth, against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.geometry import Window

pytest.importorskip("numba")
dispatch = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.dispatch")

from tinygrad_cnn.backends.numba_kernels import conv_volume  # noqa: E402

PLAIN = ((1, 1, 1), ((1, 1), (1, 1), (1, 1)), (1, 1, 1))
UNEVEN = ((2, 1, 3), ((2, 0), (0, 1), (1, 2)), (2, 1, 1))


@pytest.mark.parametrize("order", ((0, 1, 2, 3, 4), (0, 2, 3, 4, 1), (1, 4, 0, 2, 3)))
@pytest.mark.parametrize("stacked", (True, False))
@pytest.mark.parametrize(
    "n, c, o, sizes, kernel, rest",
    (
        (2, 3, 5, (5, 6, 7), (3, 3, 3), PLAIN),
        (1, 17, 16, (4, 9, 8), (3, 3, 3), PLAIN),
        (3, 2, 4, (6, 5, 9), (2, 1, 4), UNEVEN),
        (2, 4, 3, (4, 3, 2), (4, 3, 2), ((1, 1, 1), ((0, 0),) * 3, (1, 1, 1))),
        (3, 1, 20, (5, 6, 7), (3, 3, 3), ((2, 2, 2), ((1, 1),) * 3, (1, 1, 1))),
        (2, 17, 6, (4, 3, 5), (1, 1, 1), ((1, 1, 1), ((0, 0),) * 3, (1, 1, 1))),
        (3, 6, 17, (5, 4, 6), (1, 1, 1), ((2, 2, 2), ((0, 0),) * 3, (1, 1, 1))),
        (2, 5, 4, (6, 5, 4), (1, 3, 2), ((3, 1, 2), ((0, 0), (1, 0), (1, 1)), (1, 1, 1))),
        (2, 5, 4, (3, 5, 4), (1, 3, 2), ((1, 1, 2), ((1, 2), (1, 0), (1, 1)), (1, 1, 1))),
    ),
)
def test_volumes(
    n: int, c: int, o: int, sizes: Any, kernel: Any, rest: Any, stacked: bool, order: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not stacked:
        monkeypatch.setattr(conv_volume, "STACK_BYTES", 0)
    stride, padding, dilation = rest
    window = Window(kernel, stride, padding, dilation)
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, c, *sizes), dtype=np.float32)
    w = rng.standard_normal((o, c, *kernel), dtype=np.float32)
    bias = rng.standard_normal(o, dtype=np.float32)
    gy = rng.standard_normal((n, o, *window.output(sizes)), dtype=np.float32)
    x, gy = (np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order)) for a in (x, gy))
    exact = load_backend("numpy")
    wide = [a.astype(np.float64) for a in (x, w, bias, gy)]
    found = (
        dispatch.conv(x, w, bias, window, 1),
        dispatch.conv_input_grad(gy, w, x.shape, window, 1),
        dispatch.conv_input_grad(gy, w, x.shape, window, 1, x.copy()) - x,
        dispatch.conv_weight_grad(x, gy, w.shape, window, 1),
    )
    gx = exact.conv_input_grad(wide[3], wide[1], x.shape, window, 1)
    wanted = (
        exact.conv(wide[0], wide[1], wide[2], window, 1), gx, gx,
        exact.conv_weight_grad(wide[0], wide[3], w.shape, window, 1),
    )  # fmt: skip
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.sqrt(np.mean(b**2)) + 1e-6)
