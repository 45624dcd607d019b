"""The CUDA kernels on the CPU: the same text, the same host layer, no GPU."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .cuda.backend import CudaBackend
from .cuda.device import Array
from .cuda.sim.device import Memory, SimDevice


def device_from_environment() -> SimDevice:
    """The device that TINYGRAD_CNN_CUDASIM describes: any of ``check``, ``descending`` and
    ``seed=N``, separated by commas. Raises ValueError on anything else."""
    options: dict[str, Any] = {}
    for part in filter(None, os.environ.get("TINYGRAD_CNN_CUDASIM", "").split(",")):
        name, _, value = part.strip().partition("=")
        if name in ("check", "descending") and not value:
            options[name] = True
        elif name == "seed" and value.isdigit():
            options["block_seed"] = int(value)
        else:
            raise ValueError(
                f"TINYGRAD_CNN_CUDASIM: expected check, descending or seed=N, received {part!r}"
            )
    return SimDevice(**options)


class CudaSimBackend(CudaBackend):
    """Arrays are NumPy's, aligned as CUDA's are; every number is computed by a kernel of
    cuda/kernels, compiled for the CPU. Raises ImportError when no C++ compiler is found."""

    name = "cudasim"

    def __init__(self, device: SimDevice | None = None) -> None:
        super().__init__(device or device_from_environment())

    def from_numpy(self, array: Any) -> Array:
        """Shares the memory: simulated kernels read it where it is."""
        return np.asarray(array)

    def owns(self, a: Array) -> bool:
        fresh = a.base is None or isinstance(a.base, Memory)
        return fresh and bool(a.flags.writeable)
