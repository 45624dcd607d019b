"""CUDA kernels for learners: write one, run it, and see what it does — with or without a GPU.

>>> import numpy as np
>>> import tinygrad_cnn as tg
>>> source = '''
... extern "C" __global__ void twice(const float* x, float* y, int n) {
...     int i = blockIdx.x * blockDim.x + threadIdx.x;
...     if (i < n) y[i] = 2 * x[i];
... }'''
>>> twice = tg.cuda.RawKernel(source, "twice", backend="cudasim")
>>> x, y = np.arange(5, dtype=np.float32), np.zeros(5, np.float32)
>>> with tg.cuda.report(mode="check") as r:
...     twice((1,), (32,), (x, y, np.int32(5)))
>>> y.tolist(), r.findings
([0.0, 2.0, 4.0, 6.0, 8.0], [])

On ``cudasim`` the kernel runs on the CPU and can be checked and traced; on ``cupy`` it runs on a
GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from .backend import Backend, get_backend, load_backend

__all__ = ["RawKernel", "replay", "report"]


def _part(name: str) -> Any:
    """A module of the CUDA side, loaded when first used: the engine never imports it."""
    return importlib.import_module(f"tinygrad_cnn.backends.cuda.{name}")


def RawKernel(
    source: str,
    name: str,
    *,
    backend: str | Backend | None = None,
    defines: Mapping[str, object] | None = None,
) -> Any:
    """A kernel from CUDA C text, called as CuPy's is: ``k(grid, block, args, shared_mem=0)``.

    ``source`` contains ``extern "C" __global__ void name(...)``; ``defines`` are its -D macros.
    ``backend`` is "cudasim" or "cupy"; without it the backend in use if it is one of these, else
    cudasim. Arguments are NumPy arrays (written in place), tensors, None for a null pointer, and
    numbers; each is checked against the declaration, and a mistake raises ValueError.
    """
    if backend is None:
        used = get_backend()
        backend = used if hasattr(used, "device") else "cudasim"
    chosen = load_backend(backend) if isinstance(backend, str) else backend
    if not hasattr(chosen, "device"):
        raise ValueError(
            f'RawKernel: backend must be "cudasim" or "cupy", received {chosen.name!r}'
        )
    return _part("raw").RawKernel(source, name, chosen, defines)


def report(mode: str = "trace", blocks: int = 2, arch: int = 80) -> AbstractContextManager[Any]:
    """``with report() as r:`` lists in ``r.launches`` every kernel that this thread launches;
    ``print(r)``.

    ``mode="trace"`` (on cudasim) adds sectors a request, bank conflicts, SIMD efficiency and bytes
    from the first ``blocks`` blocks of each launch; ``mode="check"`` looks for data races,
    barriers, bounds, alignment, uninitialised shared memory and wrong arguments in all blocks and
    puts them in ``r.findings``, each with ``kind``, ``message``, ``line``, ``block`` and
    ``thread``; ``mode="fast"`` only lists launches. Registers and occupancy are those of compute
    capability ``arch``, where NVRTC is installed. Simulated times are not GPU times, and none are
    given.
    """
    return _part("report").report(mode, blocks, arch)  # type: ignore[no-any-return]


def replay(kernel: Any, block: int | Sequence[int], thread: int | Sequence[int]) -> list[Any]:
    """What one thread of a kernel did: a list of its memory accesses in order, one printable step
    each.

    ``kernel`` is a RawKernel, whose last launch is run again on its arguments of then, or one of
    the ``launches`` of a trace report. A step has ``place`` (file and line), ``action``, ``array``,
    ``index``, ``value`` and ``barriers``, the number of barriers that the block had passed.
    """
    return _part("raw").replay(kernel, block, thread)  # type: ignore[no-any-return]
