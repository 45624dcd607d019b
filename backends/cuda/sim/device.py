"""The simulator as a device: arrays are NumPy's, kernels run on the CPU.

``fast`` runs a kernel at the speed of compiled code. ``check`` and ``trace`` run an instrumented
build of the same text: check lists findings, trace also records every access of the first blocks.
The mode comes from the innermost ``report`` (report.py), else it is fast.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..device import Kernel, Launch, Module
from ..report import LaunchRow, Report, current_report
from ..report import report as collect
from ..source import DTYPES, rewrite_shared
from .compiler import compile_library, find_compiler, listeners
from .findings import LINES_PER_FILE, Finding, Place, Raw, describe
from .library import TRACE, FindingRecord, LaunchRecord, Library, pointer_array
from .lines import LineTable

ALIGNMENT = 256
TRACE_ROWS = 2_000_000


class CudaSimError(RuntimeError):
    """A kernel cannot go on: a divergent barrier, a deadlock, too much shared memory."""


class Memory(np.ndarray[Any, Any]):
    """Raw memory under an array; being of this type, it tells an array of its own from a view of
    one, whose base is that array."""


class SimModule:
    """A module's fast and instrumented libraries, each compiled when first needed."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._libraries: dict[bool, Library] = {}
        self._lines: LineTable | None = None
        self.verified: set[tuple[str, bool]] = set()

    def text(self) -> str:
        """The translation unit; line numbers carry the file's number (findings.LINES_PER_FILE)."""
        parts = [f"#define {name} {value}" for name, value in self.module.defines]
        for k, (name, text) in enumerate(self.module.parts):
            parts += [f'#line {k * LINES_PER_FILE + 1} "{name}"', rewrite_shared(text, 1000 * k)]
        parts += [f"CUSIM_EXPORT({name})" for name in self.module.signatures()]
        return "\n".join(parts) + "\n"

    def library(self, check: bool) -> Library:
        if check not in self._libraries:
            name = self.module.parts[-1][0]
            options = () if self.module.fmad else ("-ffp-contract=off",)
            self._libraries[check] = Library(
                compile_library(name, self.text(), check, options), check
            )
        return self._libraries[check]

    def place(self, library: Library, line: int, pc: int) -> Place:
        """The source place of a line number, or of a code address when the line is 0."""
        if not line and pc:
            if self._lines is None:
                self._lines = LineTable(library.path)
            line = self._lines.line(pc - library.lib.cusim_image_address() - 1)
        part, line = divmod(line, LINES_PER_FILE)
        return Place(self.module.parts[min(part, len(self.module.parts) - 1)][0], line)


class SimDevice:
    """Runs launches on the CPU. ``descending`` and ``block_seed`` change the order of threads and
    blocks, which a correct kernel does not notice; ``check`` checks every launch and raises
    CudaSimError at a finding, also where no report asks for it."""

    name = "cudasim"
    xp: Any = np

    def __init__(self, descending: bool = False, block_seed: int = 0, check: bool = False) -> None:
        find_compiler()
        self.check = check
        self.descending, self.block_seed, self._first_block = descending, block_seed, 0
        self._lock = threading.RLock()
        self._modules: OrderedDict[Module, dict[str, Kernel]] = OrderedDict()

    # -- memory -----------------------------------------------------------------------------------
    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        raw = Memory((size + ALIGNMENT,), np.uint8)
        start = -self.pointer(raw) % ALIGNMENT
        return np.ndarray(shape, dtype, buffer=raw, offset=start)

    def upload(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        copy = self.empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def upload_table(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self.upload(array)

    def download(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return array

    def pointer(self, array: np.ndarray[Any, Any]) -> int:
        return int(array.__array_interface__["data"][0])

    def synchronize(self) -> None:
        """A launch has finished when it returns."""

    def on_compile(self, listener: Callable[[str, float | None], None]) -> Callable[[], None]:
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    # -- kernels ----------------------------------------------------------------------------------
    def compile(self, module: Module) -> dict[str, Kernel]:
        with self._lock:
            if module not in self._modules:
                built = SimModule(module)
                self._modules[module] = {
                    name: Kernel(name, signature, module, built)
                    for name, signature in module.signatures().items()
                }
            return self._modules[module]

    def run(self, launch: Launch) -> None:
        """Run to the end. Raises CudaSimError when the kernel cannot go on, unless a report in
        check mode collects that as a finding."""
        report = current_report()
        if report is None and self.check:
            with collect("check") as own:
                self.run(launch)
            if own.findings:
                raise CudaSimError("\n".join(map(str, own.findings)))
            return
        with self._lock:
            if report is None or report.mode == "fast":
                self._run_fast(launch, report)
            else:
                self._run_checked(launch, report)

    def _run_fast(self, launch: Launch, report: Report | None) -> None:
        library = self._library(launch.kernel, check=False)
        record, _kept = self._record(launch, library)
        findings = library.run(record)
        if report is not None:
            report.add(LaunchRow.of(launch, self.name), launch)
        if findings:
            raise CudaSimError(str(self._describe(launch, library, findings[0], [])))

    def _library(self, kernel: Kernel, check: bool) -> Library:
        built: SimModule = kernel.handle
        library = built.library(check)
        if (kernel.name, check) not in built.verified:
            seen, read = library.letters(kernel.name), kernel.signature.letters()
            if seen != read:
                raise RuntimeError(
                    f"kernel {kernel.name}: compiled as {seen}, read as {read}: simplify its "
                    "declaration"
                )
            built.verified.add((kernel.name, check))
        return library

    def _record(self, launch: Launch, library: Library) -> tuple[LaunchRecord, list[Any]]:
        kept: list[Any] = []
        pointers = pointer_array(max(len(launch.args), 1))()
        for i, (parameter, a) in enumerate(
            zip(launch.kernel.signature.parameters, launch.args, strict=True)
        ):
            if parameter.how == "v":
                cell: Any = np.array(a)
                pointers[i] = cell.ctypes.data
            else:
                cell = ctypes.c_void_p(0 if a is None else self.pointer(a))
                pointers[i] = ctypes.addressof(cell)
            kept.append(cell)
        blocks = math.prod(launch.grid)
        step, shift = self._block_order(blocks)
        record = LaunchRecord(
            entry=library.entry(launch.kernel.name),
            arguments=ctypes.addressof(pointers),
            grid=launch.grid,
            block=launch.block,
            dynamic_bytes=launch.shared_mem,
            descending=int(self.descending),
            block_step=step,
            block_shift=shift,
        )
        return record, [kept, pointers]

    def _block_order(self, blocks: int) -> tuple[int, int]:
        """(step, shift): block k·step + shift (mod blocks) runs as the k-th; a permutation."""
        if not self.block_seed:
            return 1, self._first_block % blocks
        step = self.block_seed * 2654435761 % 2**31 % blocks | 1
        while math.gcd(step, blocks) != 1:
            step += 2
        return step % max(blocks, 2), self.block_seed % blocks

    @contextmanager
    def starting_at(self, block: int) -> Iterator[None]:
        """Launches inside begin with the block of this number, and so trace it."""
        before = self.block_seed, self._first_block
        self.block_seed, self._first_block = 0, block
        try:
            yield
        finally:
            self.block_seed, self._first_block = before

    # -- check and trace --------------------------------------------------------------------------
    def _run_checked(self, launch: Launch, report: Report) -> None:
        library = self._library(launch.kernel, check=True)
        record, _kept = self._record(launch, library)
        buffers, ranges = _buffers(launch, self.pointer)
        library.add_buffers(ranges)
        record.check = 1
        trace = np.empty(TRACE_ROWS if report.mode == "trace" else 0, TRACE)
        record.traced_blocks = report.blocks if report.mode == "trace" else 0
        record.trace, record.trace_capacity = trace.ctypes.data, len(trace)
        raw = sorted(
            library.run(record), key=lambda f: f.kind == 8
        )  # a race explains a missing value
        findings = [self._describe(launch, library, f, buffers) for f in raw]
        if report.mode == "trace":
            order = self._block_order(math.prod(launch.grid))
            report.add_trace(
                launch,
                self.name,
                trace[: record.trace_count].copy(),
                buffers,
                ranges,
                library.shared_arrays(),
                lambda pc: _place(launch, library, pc),
                order,
            )
        else:
            report.add(LaunchRow.of(launch, self.name), launch)
        report.findings += findings

    def _describe(
        self, launch: Launch, library: Library, f: FindingRecord, buffers: list[tuple[str, int]]
    ) -> Finding:
        built: SimModule = launch.kernel.handle
        name, size = "a buffer", 0
        if 0 <= f.buffer < len(buffers):
            name, size = buffers[f.buffer]
        elif f.buffer == 999:
            name, size = "the dynamic shared memory", launch.shared_mem
        elif f.buffer >= 1000:
            array, _, size, _ = library.shared_arrays()[f.buffer - 1000]
            name = f"__shared__ {array}"
        raw = Raw(
            f.kind,
            built.place(library, f.line, f.pc),
            built.place(library, f.other_line, f.other_pc),
            tuple(f.block),
            tuple(f.thread),
            tuple(f.other_block),
            tuple(f.other_thread),
            name,
            size,
            f.bytes,
            f.offset,
            f.detail,
            f.count,
        )
        return describe(launch.kernel.name, raw)


def _place(launch: Launch, library: Library, pc: int) -> Place:
    """A traced position: atomics carry their line number in place of a code address."""
    built: SimModule = launch.kernel.handle
    return (
        built.place(library, pc, 0) if pc < 1000 * LINES_PER_FILE else built.place(library, 0, pc)
    )


Ranges = list[tuple[int, int, int, bool]]  # (address, bytes, unit, constant)


def _buffers(launch: Launch, pointer: Any) -> tuple[list[tuple[str, int]], Ranges]:
    """(name, bytes) and ranges of the memory of a launch; overlapping arguments become one."""
    found: list[tuple[int, int, int, bool, str]] = []
    for parameter, a in zip(launch.kernel.signature.parameters, launch.args, strict=True):
        if parameter.how != "v" and a is not None and a.size:
            low, high = np.lib.array_utils.byte_bounds(a)
            unit = DTYPES[parameter.code].itemsize if parameter.code in DTYPES else 4
            found.append((low, high, unit, parameter.how == "c", parameter.name))
    for k, a in enumerate(launch.uses):
        low, high = np.lib.array_utils.byte_bounds(a)
        found.append((low, high, a.itemsize, False, f"table entry {k}"))
    merged: list[tuple[int, int, int, bool, str]] = []
    for low, high, unit, constant, name in sorted(found):
        if merged and low < merged[-1][1]:
            low0, high0, unit0, constant0, name0 = merged[-1]
            both = name0 if name in name0.split(" / ") else f"{name0} / {name}"
            merged[-1] = (low0, max(high, high0), min(unit, unit0), constant and constant0, both)
        else:
            merged.append((low, high, unit, constant, name))
    names = [(name, high - low) for low, high, _, _, name in merged]
    return names, [(low, high - low, unit, constant) for low, high, unit, constant, _ in merged]
