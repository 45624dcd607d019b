"""The CUDA kernels on a GPU, through CuPy."""

from __future__ import annotations

from typing import Any

from .cuda.backend import CudaBackend
from .cuda.cupy_device import CupyDevice


class CupyBackend(CudaBackend):
    """Arrays are CuPy's and stay on the device; nothing is copied to the host unless asked for.

    Kernels are compiled for each convolution window (``fixed_kernels``), and ``gemm = "cublas"``
    sends matrix products to cuBLAS. Raises ImportError, saying what to install, without CuPy,
    driver or GPU.
    """

    name = "cupy"
    fixed_kernels = True
    device: CupyDevice

    def __init__(self, device: Any = None) -> None:
        super().__init__(device or CupyDevice())
