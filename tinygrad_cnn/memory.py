"""How much memory tensors take."""

from __future__ import annotations

from typing import NamedTuple

from .backend import get_backend, load_backend


class MemoryReport(NamedTuple):
    """Bytes of one backend's memory pool: ``used`` by arrays that somebody holds, ``pooled`` for
    later ones, ``peak`` of ``used`` so far."""

    backend: str
    used: int
    pooled: int
    peak: int

    def __str__(self) -> str:
        used, pooled, peak = (f"{count / 1e6:.1f} MB" for count in self[1:])
        return f"{self.backend}: {used} used, {pooled} pooled, peak {peak}"


def memory_report(backend: str | None = None) -> MemoryReport:
    """What the memory pool of a backend (default: that of new tensors) holds now.

    A training step takes the blocks that the step before gave back, so after the first few steps
    ``used + pooled`` stays as it is. Arrays too small for the pool are not counted; a backend
    without a pool, such as numpy, reports zeros.

    >>> import tinygrad_cnn as tg
    >>> print(tg.memory_report("numpy"))
    numpy: 0.0 MB used, 0.0 MB pooled, peak 0.0 MB
    """
    kernels = load_backend(backend) if backend else get_backend()
    report = getattr(kernels, "memory_report", None)
    if report is None:
        return MemoryReport(kernels.name, 0, 0, 0)
    found = report()
    return MemoryReport(kernels.name, found["in_use"], found["pooled"], found["peak"])
