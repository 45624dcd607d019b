"""A recording stand-in for the part of CuPy that CupyDevice calls; launches run on the simulator.

It checks what CuPy does not: that every kernel argument has exactly the type of its parameter.
"""

from __future__ import annotations

import types
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tinygrad_cnn.backends.cuda.device import Module, check_launch
from tinygrad_cnn.backends.cuda.sim.device import SimDevice
from tinygrad_cnn.backends.cuda.source import DTYPES


class CupyArray(np.ndarray):
    """Device memory, as far as the calls can tell."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return types.SimpleNamespace(ptr=self.__array_interface__["data"][0])

    def set(self, array: np.ndarray, stream: Any) -> None:
        self[...] = array


def new(shape: Any, dtype: Any = np.float32) -> CupyArray:
    return np.ndarray.__new__(CupyArray, shape, dtype)


def make_cupy(driver: int = 12090, devices: int = 1) -> Any:
    """A module object like ``cupy``; ``calls`` lists what was called."""
    cupy = types.ModuleType("cupy")
    calls: list[tuple[str, Any]] = []
    simulator = SimDevice()

    class Kernel:
        max_dynamic_shared_size_bytes = 48 * 1024
        num_regs, shared_size_bytes = 32, 0

        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __call__(self, grid: Any, block: Any, args: Any, shared_mem: int = 0) -> None:
            assert len(grid) == len(block) == 3 and all(type(v) is int for v in (*grid, *block))
            assert shared_mem <= self.max_dynamic_shared_size_bytes
            for a, p in zip(args, self.kernel.signature.parameters, strict=True):
                if p.how == "v":
                    assert isinstance(a, np.generic) and a.dtype == DTYPES[p.code], (
                        self.kernel.name,
                        p,
                        a,
                    )
                else:
                    null = isinstance(a, np.uint64) and a == 0
                    assert null or (isinstance(a, CupyArray) and a.dtype == DTYPES[p.code]), (
                        self.kernel.name,
                        p,
                        a,
                    )
            calls.append(("launch", self.kernel.name))
            pointers = [
                None if p.how != "v" and isinstance(a, np.uint64) else a
                for a, p in zip(args, self.kernel.signature.parameters, strict=True)
            ]
            simulator.run(check_launch(self.kernel, grid, block, pointers, shared_mem))

    class RawModule:
        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            assert options[0] == "--std=c++17" and set(options[1:]) <= {"--fmad=false"}
            calls.append(("RawModule", options))
            self.kernels = simulator.compile(
                Module((("cupy.cu", code),), (), "--fmad=false" not in options)
            )

        def get_function(self, name: str) -> Kernel:
            return Kernel(self.kernels[name])

    class Graph:
        def __init__(self, launches: int) -> None:
            self.launches = launches

        def launch(self, stream: Any) -> None:
            calls.append(("graph", self.launches))

    class Stream(AbstractContextManager["Stream"]):
        def __init__(self, non_blocking: bool = False) -> None:
            self.start = 0

        def __exit__(self, *_: object) -> None: ...
        def synchronize(self) -> None:
            calls.append(("synchronize", None))

        def wait_event(self, event: Any) -> None: ...
        def begin_capture(self) -> None:
            self.start = len(calls)

        def end_capture(self) -> Graph:
            during = [name for name, _ in calls[self.start :]]
            assert set(during) <= {"launch"}, f"not allowed while capturing: {set(during)}"
            return Graph(len(during))

    class Event:
        def record(self, stream: Any = None) -> None: ...
        def synchronize(self) -> None: ...

    def asarray(a: Any) -> CupyArray:
        calls.append(("upload", np.shape(a)))
        out = new(np.shape(a), np.asarray(a).dtype)
        out[...] = a
        return out

    def asnumpy(a: CupyArray) -> Any:
        calls.append(("download", a.shape))
        return np.array(a)

    stream = Stream()
    cupy.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        is_available=lambda: bool(driver and devices),
        Stream=Stream,
        Event=Event,
        get_current_stream=lambda: stream,
        get_elapsed_time=lambda a, b: 1.5,
        Device=lambda: types.SimpleNamespace(id=0),
        runtime=types.SimpleNamespace(
            driverGetVersion=lambda: driver,
            getDeviceProperties=lambda i: {
                "major": 8,
                "minor": 0,
                "multiProcessorCount": 108,
                "clockRate": 1410000,
                "memoryClockRate": 1215000,
                "memoryBusWidth": 5120,
            },
        ),
    )
    names = {
        "ndarray": CupyArray,
        "RawModule": RawModule,
        "empty": new,
        "asarray": asarray,
        "asnumpy": asnumpy,
        "calls": calls,
        "get_default_memory_pool": lambda: types.SimpleNamespace(
            used_bytes=lambda: 1, total_bytes=lambda: 2
        ),
    }
    for name, value in names.items():
        setattr(cupy, name, value)
    for name in ("broadcast_to", "moveaxis", "flip", "may_share_memory", "matmul"):
        function = getattr(np, name)
        setattr(
            cupy,
            name,
            (
                lambda f: (
                    lambda *a, **k: f(*a, **({"subok": True} | k if f is np.broadcast_to else k))
                )
            )(function),
        )
    return cupy
