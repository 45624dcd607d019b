"""One affine warp of a batch of images with bilinear interpolation: the definition.

A matrix says where each pixel of the result comes from, so that rotation, shift, shear, zoom and
flip together resample an image once. The fast version (Numba) has the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..backend import load_backend
from .idx import Array

FILL_MODES = ("nearest", "constant", "reflect", "wrap")
_LIMIT = 1e9  # of a matrix's entries: positions in an image then fit an int64


def affine_warp(
    images: Array, matrices: Array, fill_mode: str = "nearest", cval: float = 0.0
) -> Array:
    """y[n, …, r, c] = x[n, …, M[n] · (r, c, 1)], interpolated linearly along rows and columns.

    ``images`` (N, H, W) or (N, C, H, W), uint8 or floating point; ``matrices`` (N, 2, 3): the rows
    (row of r, c, 1) and (column of r, c, 1). Beyond its edges an image goes on by ``fill_mode``:

        nearest    aaaa|abcd|dddd        reflect    dcba|abcd|dcba
        constant   kkkk|abcd|kkkk        wrap       abcd|abcd|abcd        k = ``cval``

    pixel by pixel, and interpolation sees these pixels: SciPy calls the last three grid-constant,
    reflect (or grid-mirror) and grid-wrap. Computed in float64; uint8 is rounded to the nearest,
    halves up. Returns an array like ``images``. Raises TypeError or ValueError for other input.
    """
    _check(images, matrices, fill_mode, cval)
    shaped = images if images.ndim == 4 else images[:, None]
    mode = FILL_MODES.index(fill_mode)
    if shaped.size == 0:
        return images.copy()
    exact = np.ascontiguousarray(matrices, np.float64)
    return fastest()(np.ascontiguousarray(shaped), exact, mode, cval).reshape(images.shape)


@cache
def fastest() -> Callable[[Array, Array, int, float], Array]:
    """The compiled warp, or the definition below where Numba is missing."""
    try:
        numba: Any = load_backend("numba")
    except ImportError:
        return warp
    compiled: Callable[[Array, Array, int, float], Array] = numba.affine_warp
    return compiled


def warp(x: Array, matrices: Array, mode: int, cval: float) -> Array:
    """The definition, of (N, C, H, W) images; ``mode`` is a position in FILL_MODES."""
    height, width = x.shape[2:]
    (a, b, top), (c, d, left) = matrices.transpose(1, 2, 0)[..., None, None]
    rows, columns = np.arange(height)[:, None], np.arange(width)
    row = (a * rows + b * columns) + top  # (N, H, W): where the pixels come from
    column = (c * rows + d * columns) + left
    i, j = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    down, right = (row - i)[:, None], (column - j)[:, None]

    def pixels(i: Array, j: Array) -> Array:
        """x at rows i and columns j (N, H, W) of the images continued beyond their edges."""
        inside = (0 <= i) & (i < height) & (0 <= j) & (j < width)
        n = np.arange(len(x))[:, None, None]
        found = x[n, :, _continued(i, height, mode), _continued(j, width, mode)]
        found = np.moveaxis(found, -1, 1).astype(np.float64)
        filled: Array = np.where(inside[:, None], found, cval) if mode == 1 else found
        return filled

    upper = pixels(i, j) + right * (pixels(i, j + 1) - pixels(i, j))
    lower = pixels(i + 1, j) + right * (pixels(i + 1, j + 1) - pixels(i + 1, j))
    y = upper + down * (lower - upper)
    half = 0.5 if x.dtype == np.uint8 else 0.0  # uint8 cuts off the fraction
    warped: Array = (y + half).astype(x.dtype)
    return warped


def _continued(k: Array, n: int, mode: int) -> Array:
    """The position in 0 … n−1 that holds pixel k of a line of n pixels continued by ``mode``."""
    if mode == 2:
        k = k % (2 * n)
        k = np.minimum(k, 2 * n - 1 - k)
    elif mode == 3:
        k = k % n
    return np.clip(k, 0, n - 1)


def _check(images: Array, matrices: Array, fill_mode: str, cval: float) -> None:
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise TypeError(f"affine_warp expects uint8 or floats, received {images.dtype}")
    if images.ndim not in (3, 4):
        raise ValueError(
            f"affine_warp expects images (N, H, W) or (N, C, H, W), received {images.shape}"
        )
    if matrices.shape != (len(images), 2, 3):
        raise ValueError(
            f"affine_warp expects matrices {(len(images), 2, 3)}, received {matrices.shape}"
        )
    if not (np.abs(matrices) < _LIMIT).all():
        raise ValueError(f"affine_warp expects finite matrix entries below {_LIMIT:.0e}")
    if fill_mode not in FILL_MODES:
        raise ValueError(
            f"fill_mode: expected one of {', '.join(FILL_MODES)}, received {fill_mode!r}"
        )
    if not np.isfinite(cval) or (images.dtype == np.uint8 and not 0 <= cval <= 255):
        raise ValueError(f"cval: expected a value that {images.dtype} pixels have, received {cval}")
