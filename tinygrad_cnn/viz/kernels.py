"""The classic 3 × 3 kernels of image processing, as NumPy arrays, and how to convolve with them.

Edge kernels sum to 0 (no answer on an even surface), blurs and sharpening to 1 (brightness kept).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import BackendLike
from ..construct import tensor
from ..tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


def _kernel(*rows: Sequence[float], divisor: float = 1.0) -> Array:
    values = np.array(rows, np.float32) / np.float32(divisor)
    values.setflags(write=False)
    return values


identity = _kernel((0, 0, 0), (0, 1, 0), (0, 0, 0))
diagonal_edge = _kernel((1, 0, -1), (0, 0, 0), (-1, 0, 1))
laplacian = _kernel((0, 1, 0), (1, -4, 1), (0, 1, 0))
outline = _kernel((-1, -1, -1), (-1, 8, -1), (-1, -1, -1))
sharpen = _kernel((0, -1, 0), (-1, 5, -1), (0, -1, 0))
box_blur = _kernel((1, 1, 1), (1, 1, 1), (1, 1, 1), divisor=9)
gaussian_blur = _kernel((1, 2, 1), (2, 4, 2), (1, 2, 1), divisor=16)
vertical_edge = _kernel((-1, 0, 1), (-1, 0, 1), (-1, 0, 1))
horizontal_edge = _kernel((-1, -1, -1), (0, 0, 0), (1, 1, 1))

KERNELS = {
    "identity": identity, "diagonal edge": diagonal_edge, "laplacian": laplacian,
    "outline": outline, "sharpen": sharpen, "box blur": box_blur, "gaussian blur": gaussian_blur,
    "vertical edge": vertical_edge, "horizontal edge": horizontal_edge,
}  # fmt: skip


def line_filter(size: int, vertical: bool) -> Array:
    """size × size zeros with a line of ones through the middle."""
    values = np.zeros((size, size), np.float32)
    values[:, size // 2] = 1
    return values if vertical else np.ascontiguousarray(values.T)


def filter_weight(kernels: Sequence[Array], channels: int, backend: BackendLike = None) -> Tensor:
    """Weight (O, C, I, J) for ``conv2d``: each kernel on the mean of the image's channels."""
    stacked = np.stack(kernels)[:, None].repeat(channels, 1) / channels
    return tensor(np.ascontiguousarray(stacked, np.float32), backend=backend)
