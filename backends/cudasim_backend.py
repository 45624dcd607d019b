"""The CUDA kernels on the CPU: the same text, the same host layer, no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from .cuda.backend import CudaBackend
from .cuda.device import Array
from .cuda.sim.device import Memory, SimDevice


class CudaSimBackend(CudaBackend):
    """Arrays are NumPy's, aligned as CUDA's are; every number is computed by a kernel of cuda/kernels,
    compiled for the CPU. Raises ImportError when no C++ compiler is found."""

    name = "cudasim"

    def __init__(self, device: SimDevice | None = None) -> None:
        super().__init__(device or SimDevice())

    def from_numpy(self, array: Any) -> Array:
        """Shares the memory: simulated kernels read it where it is."""
        return np.asarray(array)

    def owns(self, a: Array) -> bool:
        fresh = a.base is None or isinstance(a.base, Memory)
        return fresh and bool(a.flags.writeable)
