"""What the steps share: the convolution they all compute, its check, and the stop watch.

A 3×3 convolution of 64 to 64 channels on 8 images of 56×56, padding 1, float32, one thread. Every
step is checked against the definition, evaluated in float64 for 500 outputs drawn at random. Times
are the best of several runs: other programs can only make a run slower. ``--small`` takes tiny
images, for a test of the files.
"""

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_cnn as tg

SMALL = "--small" in sys.argv
N, C, H, W, O = (1, 32, 8, 8, 32) if SMALL else (8, 64, 56, 56, 64)  # noqa: E741
K, PAD = 3, 1
FLOPS = 2 * N * H * W * O * C * K * K

_random = np.random.default_rng(0)
x = _random.standard_normal((N, C, H, W), dtype=np.float32)
w = _random.standard_normal((O, C, K, K), dtype=np.float32) / np.float32((C * K * K) ** 0.5)


def padded_nhwc() -> Any:
    """The images with their border of zeros, channels last in memory: (N, H + 2, W + 2, C)."""
    border = ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0))
    return np.ascontiguousarray(np.pad(x.transpose(0, 2, 3, 1), border))


def error(y: Any) -> float:
    """The largest error of y (N, O, H, W) at 500 places; outputs have standard deviation 1."""
    wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    worst = 0.0
    places = np.random.default_rng(1)
    for _ in range(500):
        n, o, p, q = (int(places.integers(size)) for size in (N, O, H, W))
        exact = (wide[n, :, p : p + K, q : q + K] * w[o]).sum()
        worst = max(worst, abs(float(y[n, o, p, q]) - exact))
    return worst


def seconds(run: Callable[[], Any], least: float = 1.0) -> float:
    """The shortest of the runs that fit into ``least`` seconds, after one that does not count."""
    run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < least:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        if SMALL:
            break
    return min(times)


def peak() -> float:
    """Floating-point operations a second of multiply-adds in registers, on the threads in use."""
    limits = importlib.import_module("tinygrad_cnn.backends.numba_kernels.limits")
    run, flops = limits.multiply_add_peak()
    return float(flops / seconds(run, 0.3))


def report(name: str, run: Callable[[], Any], bound: float = 1e-5) -> None:
    """Check the result of ``run``, y as (N, O, H, W), and print how fast it is."""
    found = error(run())
    if not found < bound:
        raise SystemExit(f"{name}: error {found:.1e}, expected less than {bound:.0e}")
    print(f"{line(name, run)}   error {found:.0e}")


def line(name: str, run: Callable[[], Any], flops: float = FLOPS) -> str:
    """How fast ``run`` is, also as a share of the peak just before and after."""
    before = peak()
    rate = flops / seconds(run)
    most = max(before, peak())
    return f"{name:<46}{rate / 1e9:7.1f} GFLOP/s {100 * rate / most:5.0f} % of {most / 1e9:.0f}"


tg.set_backend("numba")
tg.set_num_threads(1)
importlib.import_module("tinygrad_cnn.backends.numba_kernels.threads").set_blas_threads(1)
