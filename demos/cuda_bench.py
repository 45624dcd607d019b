"""Time the CUDA kernels on a GPU, against cuBLAS and (where it is installed) PyTorch.

python demos/cuda_bench.py            # needs an NVIDIA GPU and pip install tinygrad-cnn[cuda]

Each row: the median by CUDA events, the share of the card's rated operations or memory traffic that
this is (a roofline fraction), and the ratio to the other libraries. Rated figures come from the
device's properties; a card that throttles stays below them.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.geometry import Window


def torch_seconds(call: Callable[[Any], object], shapes: list[tuple[int, ...]]) -> float | None:
    """The same operation by PyTorch on the same GPU, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    tensors = [torch.randn(shape, device="cuda") for shape in shapes]
    seconds = []
    for _ in range(12):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call(tensors)
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return sorted(seconds[2:])[5]


def torch_conv(x: Any, w: Any) -> Any:
    from torch.nn.functional import conv2d

    return conv2d(x, w, padding=1)


def cases(k: Any) -> list[tuple[str, float, str, Callable[[], object], Any, list[tuple[int, ...]]]]:
    """(name, amount of work, its unit, our call, PyTorch's call, shapes)."""

    def arrays(*shapes: tuple[int, ...]) -> list[Any]:
        return [k.random_normal(s, np.dtype("float32"), 1, 0) for s in shapes]

    found: list[Any] = []
    for n in (256, 1024, 4096):
        a, b = arrays((n, n), (n, n))
        found.append((f"matmul {n}", 2.0 * n**3, "flops", lambda a=a, b=b: k.matmul(a, b),
                      lambda t: t[0] @ t[1], [(n, n)] * 2))  # fmt: skip
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    for c, size in ((64, 56), (256, 14)):
        shapes = [(32, c, size, size), (c, c, 3, 3)]
        x, w = arrays(*shapes)
        flops = 2.0 * 32 * c * c * 9 * size * size
        found.append((f"conv 3x3 {c} channels {size}x{size}", flops, "flops",
                      lambda x=x, w=w: k.conv(x, w, None, window, 1),
                      lambda t: torch_conv(t[0], t[1]), shapes))  # fmt: skip
    (x,) = arrays((1 << 26,))
    found.append(("add 64 M", 3 * 4.0 * (1 << 26), "bytes", lambda: k.add(x, x),
                  lambda t: t[0] + t[0], [(1 << 26,)]))  # fmt: skip
    return found


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    try:
        k: Any = load_backend("cupy")
    except ImportError as error:
        raise SystemExit(f"no benchmark without a GPU: {error}") from None
    peak = k.device.peak()
    print(f"{'operation':32} {'ours':>10} {'of peak':>8} {'cuBLAS':>8} {'PyTorch':>8}")
    for name, work, unit, ours, theirs, shapes in cases(k):
        seconds = k.device.time(ours)
        row = f"{name:32} {seconds * 1e6:8.1f} µs {work / seconds / peak[unit]:8.1%}"
        cublas = ""
        if name.startswith("matmul"):
            k.gemm = "cublas"
            cublas = f"{k.device.time(ours) / seconds:.2f}"
            k.gemm = "raw"
        other = torch_seconds(theirs, shapes)
        print(f"{row} {cublas:>8} {'' if other is None else f'{other / seconds:.2f}':>8}")


if __name__ == "__main__":
    main()
