"""What was launched: ``with report() as r:`` collects launches, figures and findings."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .device import Dim, Launch, Module
from .sim.findings import Finding

MODES = ("fast", "check", "trace")
NOTICE = "Simulated on a CPU: counts are exact for the traced blocks; times are not GPU times."


@dataclass
class LaunchRow:
    """One launch. The figures from ``sites`` on exist in trace mode only."""

    kernel: str
    grid: Dim
    block: Dim
    shared_mem: int
    device: str
    flops: float = 0.0
    registers: int | None = None  # known when NVRTC is installed
    static_shared: int | None = None
    occupancy: float | None = None
    arch: int = 80  # compute capability of these figures
    sites: list[Any] = field(default_factory=list)
    simd_efficiency: float | None = None
    bytes_moved: float | None = None  # global memory, scaled from the traced blocks to the grid
    traced_blocks: int = 0
    trace: Any = None

    @staticmethod
    def of(launch: Launch, device: str) -> LaunchRow:
        return LaunchRow(
            launch.kernel.name, launch.grid, launch.block, launch.shared_mem, device, launch.flops
        )


class _Stack(threading.local):
    reports: tuple[Report, ...] = ()


_stack = _Stack()


def current_report() -> Report | None:
    """The innermost ``report`` of this thread."""
    return _stack.reports[-1] if _stack.reports else None


class Report:
    """Launches and findings of one ``report`` block; ``print(r)`` shows them as a table."""

    def __init__(self, mode: str, blocks: int, arch: int) -> None:
        self.mode, self.blocks, self.arch = mode, blocks, arch
        self.launches: list[LaunchRow] = []
        self.findings: list[Finding] = []

    def add(self, row: LaunchRow, launch: Launch) -> None:
        """One more launch; in trace mode, and with NVRTC, what its kernel needs on a real GPU."""
        self.launches.append(row)
        if self.mode != "trace" or row.registers is not None:
            return
        try:
            needs = _needs(launch.kernel.module, self.arch)
        except RuntimeError as error:  # runs here, but a GPU's compiler refuses it: worth knowing
            where = (0, 0, 0)
            self.findings.append(Finding("nvrtc", str(error), row.kernel, 0, where, where))
            return
        if launch.kernel.name in needs:
            from .nvrtc import occupancy

            need, row.arch = needs[launch.kernel.name], self.arch
            row.registers, row.static_shared = need.registers, need.shared
            threads = launch.block[0] * launch.block[1] * launch.block[2]
            row.occupancy = occupancy(self.arch, need, threads, launch.shared_mem)[1]

    def add_trace(
        self, launch: Launch, device: str, trace: Any, buffers: Any, ranges: Any, shared: Any,
        place: Callable[[int], Any], order: tuple[int, int],
    ) -> None:  # fmt: skip
        """Analyse the traced blocks of a launch (see sim/trace.py)."""
        from .sim.trace import Trace

        row = LaunchRow.of(launch, device)
        Trace(launch, trace, buffers, ranges, shared, place, order).fill(row)
        self.add(row, launch)

    def __str__(self) -> str:
        from .report_text import render

        return render(self)


@functools.lru_cache(256)
def _needs(module: Module, arch: int) -> dict[str, Any]:
    """Registers and shared memory of a module's kernels by NVRTC; nothing where it is missing."""
    from . import nvrtc

    if nvrtc.find_library() is None:
        return {}
    return nvrtc.resources(nvrtc.compile_module(module, arch)[1])


@contextmanager
def report(mode: str = "trace", blocks: int = 2, arch: int = 80) -> Iterator[Report]:
    """Collect every launch of this thread.

    ``mode``: "trace" records the accesses of the first ``blocks`` blocks of each launch, "check"
    looks for faults in all blocks, "fast" only lists launches. ``arch`` is the compute capability
    for which registers and occupancy are computed, where NVRTC is installed. Raises ValueError on
    another mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, received {mode!r}")
    made = Report(mode, blocks, arch)
    before = _stack.reports
    _stack.reports = (*before, made)
    try:
        yield made
    finally:
        _stack.reports = before
