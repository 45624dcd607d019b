"""The affine warp of tinygrad_cnn/data/warp.py, compiled.

Images are made by the loader's thread while another one trains, so this loop runs on its own thread
without the interpreter lock, instead of on the pool of threads that kernels share.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from .cache import KernelCache
from .runtime import device


@device
def _continued(k, n, mode):
    """The position in 0 … n−1 that holds pixel k of a line of n pixels; −1 for the constant."""
    if 0 <= k < n:
        return k
    if mode == 0:
        return 0 if k < 0 else n - 1
    if mode == 1:
        return -1
    if mode == 2:
        k %= 2 * n
        return k if k < n else 2 * n - 1 - k
    return k % n


def _affine_warp(x, matrices, mode, cval, half, y):
    """y = the images x (N, C, H, W) warped by matrices (N, 2, 3), plus ``half`` for uint8, which
    cuts off the fraction."""
    images, channels, height, width = x.shape
    for n in range(images):
        a, b, top = matrices[n, 0, 0], matrices[n, 0, 1], matrices[n, 0, 2]
        c, d, left = matrices[n, 1, 0], matrices[n, 1, 1], matrices[n, 1, 2]
        for r in range(height):
            for q in range(width):
                row, column = (a * r + b * q) + top, (c * r + d * q) + left
                i, j = int(np.floor(row)), int(np.floor(column))
                down, right = row - i, column - j
                i0, i1, j0, j1 = i, i + 1, j, j + 1
                if i < 0 or j < 0 or i1 >= height or j1 >= width:
                    i0, i1 = _continued(i0, height, mode), _continued(i1, height, mode)
                    j0, j1 = _continued(j0, width, mode), _continued(j1, width, mode)
                for k in range(channels):
                    p00 = cval if i0 < 0 or j0 < 0 else np.float64(x[n, k, i0, j0])
                    p01 = cval if i0 < 0 or j1 < 0 else np.float64(x[n, k, i0, j1])
                    p10 = cval if i1 < 0 or j0 < 0 else np.float64(x[n, k, i1, j0])
                    p11 = cval if i1 < 0 or j1 < 0 else np.float64(x[n, k, i1, j1])
                    upper, lower = p00 + right * (p01 - p00), p10 + right * (p11 - p10)
                    y[n, k, r, q] = (upper + down * (lower - upper)) + half


@cache
def _compiled() -> Any:
    """The dispatcher: it compiles (or loads) a version a dtype when it is first called."""
    dispatcher = njit(error_model="numpy", boundscheck=False, nogil=True)(_affine_warp)
    dispatcher._cache = KernelCache("warp.affine_warp", _affine_warp)
    return dispatcher


def affine_warp(x: Any, matrices: Any, mode: int, cval: float) -> Any:
    """The images x (N, C, H, W), uint8 or floating point, warped; arrays are C-contiguous."""
    wide = x.astype(np.float64) if x.dtype == np.float16 else x  # rounded once, at the end
    y = np.empty_like(wide)
    _compiled()(wide, matrices, mode, float(cval), 0.5 if x.dtype == np.uint8 else 0.0, y)
    return y.astype(x.dtype, copy=False)
