"""The one file that needs a GPU: CuPy as a device.

CuPy compiles kernels (NVRTC, cached on disk), owns memory (a pool, so that allocation is cheap and
never waits) and launches. It checks no argument; device.py has done that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .device import STATIC_SHARED, Array, Kernel, Launch, Module
from .report import LaunchRow, current_report


def import_cupy() -> Any:
    """The cupy module, where it can work. Raises ImportError saying in one line what is missing."""
    try:
        import cupy
    except ImportError as error:
        raise ImportError(
            f'CuPy is not installed ({error}): "pip install tinygrad-cnn[cuda]" (CUDA 12)'
        ) from error
    if not cupy.cuda.is_available():
        if not cupy.cuda.runtime.driverGetVersion():
            raise ImportError(
                "CuPy finds no NVIDIA driver: install the driver of your GPU, or use backend "
                "cudasim"
            )
        raise ImportError(
            "CuPy finds no NVIDIA GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES, or use "
            "backend cudasim"
        )
    return cupy


def module_source(module: Module) -> tuple[str, tuple[str, ...]]:
    """(text, NVRTC options) of a module; ``#line`` keeps each part's own line numbers in messages.

    The -D set becomes #define lines: as options, short names such as T would also rewrite the
    header that NVRTC puts before every source.
    """
    lines = [f"#define {name} {value}" for name, value in module.defines]
    for name, part in module.parts:
        lines += [f'#line 1 "{name}"', part]
    return "\n".join(lines) + "\n", ("--std=c++17", *([] if module.fmad else ["--fmad=false"]))


class CupyDevice:
    """The current CUDA device through CuPy; work goes to the current CuPy stream."""

    name = "cupy"

    def __init__(self) -> None:
        self.cupy = import_cupy()
        self.xp: Any = self.cupy
        self._modules: dict[Module, dict[str, Kernel]] = {}
        self._pinned: deque[Any] = deque(maxlen=64)  # sources of copies that may still be under way

    # -- memory -----------------------------------------------------------------------------------
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.cupy.empty(shape, dtype)

    def upload(self, array: np.ndarray[Any, Any]) -> Array:
        return self.cupy.asarray(array)

    def upload_table(self, array: np.ndarray[Any, Any]) -> Array:
        """From pinned memory, on the current stream: nobody waits, and a graph may hold it."""
        import cupyx

        pinned = cupyx.empty_pinned(array.shape, array.dtype)
        pinned[...] = array
        table = self.cupy.empty(array.shape, array.dtype)
        table.set(pinned, stream=self.cupy.cuda.get_current_stream())
        self._pinned.append(pinned)
        return table

    def download(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(self.cupy.asnumpy(array))

    def pointer(self, array: Array) -> int:
        return int(array.data.ptr)

    def synchronize(self) -> None:
        self.cupy.cuda.get_current_stream().synchronize()

    def on_compile(self, listener: Callable[[str, float | None], None]) -> Callable[[], None]:
        """CuPy compiles at a kernel's first launch, or finds it on disk, and tells nobody."""
        return lambda: None

    def memory(self) -> tuple[int, int]:
        """(bytes in use, bytes held) of the memory pool."""
        pool = self.cupy.get_default_memory_pool()
        return int(pool.used_bytes()), int(pool.total_bytes())

    # -- kernels ----------------------------------------------------------------------------------
    def compile(self, module: Module) -> dict[str, Kernel]:
        if module not in self._modules:
            text, options = module_source(module)
            made = self.cupy.RawModule(code=text, options=options)
            self._modules[module] = {
                name: Kernel(name, signature, module, made)
                for name, signature in module.signatures().items()
            }
        return self._modules[module]

    def run(self, launch: Launch) -> None:
        function = launch.kernel.handle.get_function(launch.kernel.name)
        if launch.shared_mem > STATIC_SHARED:
            function.max_dynamic_shared_size_bytes = launch.shared_mem
        args = tuple(
            np.uint64(0) if a is None else a for a in launch.args
        )  # CuPy has no null pointer
        function(launch.grid, launch.block, args, shared_mem=launch.shared_mem)
        report = current_report()
        if report is not None:
            row = LaunchRow.of(launch, self.name)
            row.registers, row.static_shared = function.num_regs, function.shared_size_bytes
            report.launches.append(row)

    # -- streams ----------------------------------------------------------------------------------
    def time(self, step: Callable[[], object], repeats: int = 10) -> float:
        """Seconds a call of ``step`` takes on the GPU, the median of ``repeats`` by CUDA events."""
        step()
        seconds = []
        for _ in range(repeats):
            start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            start.record()
            step()
            end.record()
            end.synchronize()
            seconds.append(self.cupy.cuda.get_elapsed_time(start, end) / 1e3)
        return float(sorted(seconds)[len(seconds) // 2])

    def prefetch(
        self, batches: Iterable[tuple[np.ndarray[Any, Any], ...]], ahead: int = 2
    ) -> Iterator[tuple[Array, ...]]:
        """Batches on the device, copied from pinned memory on a stream of their own while the
        caller computes; at most ``ahead`` wait."""
        import cupyx

        stream = self.cupy.cuda.Stream(non_blocking=True)
        waiting: deque[tuple[Any, tuple[Array, ...], list[Any]]] = deque()
        for batch in batches:
            pinned, moved = [], []
            for a in batch:
                host = cupyx.empty_pinned(a.shape, a.dtype)
                host[...] = a
                target = self.cupy.empty(a.shape, a.dtype)
                target.set(host, stream=stream)
                pinned.append(host)
                moved.append(target)
            event = self.cupy.cuda.Event()
            event.record(stream)
            waiting.append((event, tuple(moved), pinned))
            if len(waiting) > ahead:
                yield self._arrived(*waiting.popleft())
        while waiting:
            yield self._arrived(*waiting.popleft())

    def _arrived(
        self, event: Any, moved: tuple[Array, ...], pinned: list[Any]
    ) -> tuple[Array, ...]:
        self.cupy.cuda.get_current_stream().wait_event(event)
        event.synchronize()  # the pinned memory may be reused from here on
        pinned.clear()
        return moved

    def capture(self, step: Callable[[], object]) -> Callable[[], None]:
        """A function that repeats ``step`` as one CUDA graph: one launch instead of hundreds.

        ``step`` must use the same arrays and shapes each time and may not wait for the device
        (boolean indexing, ``.item()``, copies from the host do). It runs twice first, to fill the
        memory pool and the tables that later runs reuse. Numbers passed to kernels, such as the
        learning rate, are frozen; arrays are not.
        """
        stream = self.cupy.cuda.Stream(non_blocking=True)
        with stream:
            step()
            step()
            stream.synchronize()
            stream.begin_capture()
            step()
            graph = stream.end_capture()

        def again(tables: list[Any] = list(self._pinned)) -> None:  # noqa: B006
            graph.launch(stream)
            stream.synchronize()

        return again

    def peak(self) -> dict[str, float]:
        """Float32 operations and bytes of memory a second at the rated clocks, from the device's
        properties.
        """
        p = self.cupy.cuda.runtime.getDeviceProperties(self.cupy.cuda.Device().id)
        lanes = {(7, 0): 64, (7, 5): 64, (8, 0): 64}.get((p["major"], p["minor"]), 128)
        clock = p.get("clockRate", 0) * 1e3
        flops = 2.0 * lanes * p["multiProcessorCount"] * clock
        moved = 2.0 * p.get("memoryClockRate", 0) * 1e3 * p.get("memoryBusWidth", 0) / 8
        return {"flops": flops or math.nan, "bytes": moved or math.nan}
