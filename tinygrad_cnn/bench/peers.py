"""Who takes part: this project on a backend, PyTorch in three settings, and the machine itself.

Each lives in a process of its own, since two thread pools in one process take each other's
processors.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from typing import Any, NamedTuple

import numpy as np

from . import programs

COPY_BYTES = 128 << 20  # more than caches hold
KEPT = "keeping memory"
TORCH = (
    "contiguous",
    "channels_last",
    KEPT,
)  # the last is channels_last too: PyTorch's best setting


class Peer(NamedTuple):
    """``kind`` is "ours", "torch" or "machine"; ``variant`` a backend or one of ``TORCH``."""

    kind: str
    variant: str

    @property
    def name(self) -> str:
        return self.variant if self.kind == "ours" else f"{self.kind} {self.variant}".strip()

    def prepare(self, threads: int) -> Any:
        """In the peer's process: load the library and set it up; returns ``make(workload)``."""
        return {"ours": _ours, "torch": _torch, "machine": _machine}[self.kind](
            self.variant, threads
        )


MACHINE = Peer("machine", "")


def torch_is_installed() -> bool:
    """Whether there is a PyTorch to compare with."""
    return importlib.util.find_spec("torch") is not None


def _ours(backend: str, threads: int) -> Any:
    import tinygrad_cnn as tg

    kernels, told = tg.set_backend(backend), False

    def tell(name: str, seconds: float | None) -> None:
        nonlocal told
        if not told:
            print("compiling kernels for this processor (first run only) …", file=sys.stderr)
        told = True

    kernels.on_compile(tell)
    tg.set_num_threads(threads)
    tg.manual_seed(0)
    library = programs.Library(tg, tg.tensor)
    return lambda workload: programs.make(library, workload)


def _torch(variant: str, threads: int) -> Any:
    if variant == KEPT:
        _keep_memory()
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch.manual_seed(0)

    def layout(thing: Any) -> Any:
        if variant == "contiguous" or getattr(thing, "ndim", 4) != 4:
            return thing
        return thing.to(memory_format=torch.channels_last)

    library = programs.Library(torch, torch.from_numpy, layout, {"fused": True})
    return lambda workload: programs.make(library, workload)


def _keep_memory() -> None:
    """Tell glibc to keep what is freed: large tensors then cause no page faults."""
    if sys.platform == "linux":
        mallopt = ctypes.CDLL(None).mallopt
        mmap_max, trim_threshold = -4, -1
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def _machine(_: str, threads: int) -> Any:
    """make("peak"), make("copy") and make("read"): a run and, as ``amount``, what it does."""
    try:
        limits = importlib.import_module("tinygrad_cnn.backends.numba_kernels.limits")
        importlib.import_module("tinygrad_cnn").load_backend("numba").set_num_threads(threads)
        runs = {
            "peak": limits.multiply_add_peak(),
            "copy": limits.copy(COPY_BYTES),
            "read": limits.read(COPY_BYTES),
        }
    except ImportError:  # without Numba: the fastest that NumPy can do
        runs = {"peak": _numpy_product(), "copy": _numpy_copy(), "read": _numpy_read()}
    return lambda limit: {limit: runs[limit][0], "amount": runs[limit][1]}


def _numpy_product(n: int = 1024) -> tuple[Any, float]:
    a, b, c = (np.ones((n, n), np.float32) for _ in range(3))
    return lambda: np.matmul(a, b, out=c), 2.0 * n**3


def _numpy_copy() -> tuple[Any, float]:
    a, b = (np.ones(COPY_BYTES // 4, np.float32) for _ in range(2))
    return lambda: np.copyto(a, b), 2.0 * COPY_BYTES


def _numpy_read() -> tuple[Any, float]:
    a = np.ones(COPY_BYTES // 4, np.float32)
    return lambda: np.max(a), 1.0 * COPY_BYTES
