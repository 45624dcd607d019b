"""Kernels that a user writes: ``RawKernel``, and ``replay`` of one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .device import Kernel, Launch, LaunchError, Module, check_launch, defines_key
from .report import LaunchRow, current_report, report
from .sim.findings import Finding
from .source import signatures

KEEP_BYTES = 64 * 2**20  # arguments up to this size are kept for ``replay``


class RawKernel:
    """A CUDA C kernel, called as CuPy's RawKernel is: ``k(grid, block, args, shared_mem=0)``.

    ``source`` holds ``extern "C" __global__ void name(...)``; ``defines`` are its -D macros.
    Arguments are NumPy arrays (read and written in place), tensors or arrays of the backend, None
    for a null pointer, and numbers: NumPy scalars of exactly the parameter's type, or Python
    numbers that fit it. Everything is checked against the kernel's declaration; a mistake raises
    LaunchError (a ValueError), or is a finding inside ``report(mode="check")``.
    """

    def __init__(
        self, source: str, name: str, backend: Any, defines: Mapping[str, object] | None = None
    ) -> None:
        found = signatures(source, defines)
        if name not in found:
            raise ValueError(f"no kernel {name!r} in the source: it has {', '.join(found)}")
        self.name, self.source, self.backend = name, source, backend
        module = Module((("kernel.cu", source),), defines_key(defines or {}))
        self.kernel: Kernel = backend.device.compile(module)[name]
        self._last: tuple[Any, Any, list[Any], int] | None = None

    def __repr__(self) -> str:
        return f"RawKernel({self.name!r}, backend={self.backend.name!r})"

    def __call__(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        args: Sequence[Any],
        shared_mem: int = 0,
    ) -> None:
        device = self.backend.device
        placed = [self._place(a) for a in args]
        try:
            launch = check_launch(self.kernel, grid, block, placed, shared_mem)
        except LaunchError as error:
            active = current_report()
            if active is None or active.mode != "check":
                raise
            active.findings.append(
                Finding("launch", str(error), self.name, 0, (0, 0, 0), (0, 0, 0))
            )
            return
        self._remember(launch)
        device.run(launch)
        for given, array, parameter in zip(
            args, placed, self.kernel.signature.parameters, strict=True
        ):
            if isinstance(given, np.ndarray) and array is not given and parameter.how == "p":
                given[...] = device.download(array)

    def _place(self, a: Any) -> Any:
        """The argument as an array or number of the device."""
        owner = getattr(a, "backend", None)
        if owner is not None and hasattr(a, "array"):
            if not isinstance(a.array, self.backend.xp.ndarray):
                raise LaunchError(
                    f"kernel {self.name} runs on {self.backend.name}, the tensor is on "
                    f"{owner.name}: "
                    f"use tensor.to({self.backend.name!r})"
                )
            a = a.array
        if isinstance(a, np.ndarray) and self.backend.xp is not np:
            return self.backend.device.upload(a)
        return a

    def _remember(self, launch: Launch) -> None:
        """Keep the arguments as they are before the launch, so that it can be replayed."""
        self._last = None
        arrays = [a for a in launch.args if isinstance(a, np.ndarray)]
        if self.backend.name == "cudasim" and sum(a.nbytes for a in arrays) <= KEEP_BYTES:
            kept = [
                self.backend.device.upload(a) if isinstance(a, np.ndarray) else a
                for a in launch.args
            ]
            self._last = (launch.grid, launch.block, kept, launch.shared_mem)

    def trace_block(self, block: tuple[int, int, int]) -> Any:
        """The trace of one block of the last launch, run again on its arguments of then."""
        if self._last is None:
            raise ValueError(
                f"replay: call {self.name} on cudasim first (with at most {KEEP_BYTES >> 20} MB "
                "of arrays)"
            )
        grid, threads, kept, shared_mem = self._last
        if not all(0 <= b < g for b, g in zip(block, grid, strict=True)):
            raise ValueError(f"replay: block must lie in the grid {grid}, received {block}")
        args = [self.backend.device.upload(a) if isinstance(a, np.ndarray) else a for a in kept]
        number = block[0] + grid[0] * (block[1] + grid[1] * block[2])
        with self.backend.device.starting_at(number), report("trace", blocks=1) as r:
            self.backend.device.run(check_launch(self.kernel, grid, threads, args, shared_mem))
        return r.launches[0].trace


def replay(
    kernel: RawKernel | LaunchRow, block: int | Sequence[int], thread: int | Sequence[int]
) -> list[Any]:
    """The accesses of one thread in order: place, load or store, array, index, value, barriers
    passed.

    ``kernel`` is a RawKernel, whose last launch is run again on copies of its arguments as they
    were (from this block on, so a kernel whose blocks depend on each other is not reproduced), or a
    launch of a trace report. Raises ValueError when there is nothing to replay.
    """
    b, t = _triple(block), _triple(thread)
    if isinstance(kernel, RawKernel):
        trace = kernel.trace_block(b)
    elif isinstance(kernel, LaunchRow):
        trace = kernel.trace
    else:
        raise TypeError(
            "replay: expected a RawKernel or a launch of a report, received "
            f"{type(kernel).__name__}"
        )
    if trace is None:
        raise ValueError('replay: that launch was not traced: use report(mode="trace") on cudasim')
    if not all(0 <= x < n for x, n in zip(t, trace.launch.block, strict=True)):
        raise ValueError(f"replay: thread must lie in the block {trace.launch.block}, received {t}")
    return list(trace.steps(b, t))


def _triple(value: int | Sequence[int]) -> tuple[int, int, int]:
    sizes = (value,) if isinstance(value, int) else tuple(value)
    x, y, z = (*sizes, 0, 0)[:3]
    return int(x), int(y), int(z)
