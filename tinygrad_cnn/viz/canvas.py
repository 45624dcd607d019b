"""What all pictures are made with: a figure without a window, and sheets of tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


def figure(width: float, height: float) -> Any:
    """A matplotlib figure of this many inches that draws into memory, whatever backend is set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(drawn: Any, path: str | Path, dpi: int = 110) -> Path:
    """Write a figure; the ending of ``path`` names the format. Missing folders are made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(target, dpi=dpi)
    return target


def save_pixels(pixels: Array, path: str | Path) -> Path:
    """Write values in [0, 1], (H, W) grey or (H, W, 3), one pixel each."""
    from matplotlib.image import imsave

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    levels = np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    imsave(target, levels if levels.ndim == 3 else np.stack([levels] * 3, axis=2))
    return target


def host(x: Any) -> Array:
    """A tensor or array-like as a NumPy array."""
    return x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)


def pixels_of(images: Any) -> Array:
    """(N, C, H, W) with one or three channels → (N, H, W) or (N, H, W, 3), for drawing."""
    array = host(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise ValueError(
            f"expected images (N, C, H, W) with 1 or 3 channels, received {array.shape}"
        )
    return array[:, 0] if array.shape[1] == 1 else array.transpose(0, 2, 3, 1)


def tiles(images: Array, columns: int, gap: int = 1, fill: float = 1.0) -> Array:
    """One sheet of images (N, H, W) or (N, H, W, 3) in rows of ``columns``, ``gap`` cells apart.

    N images in R rows give (R·(H + gap) + gap, columns·(W + gap) + gap) cells; those between
    and after the images are ``fill``.
    """
    count, height, width = images.shape[:3]
    columns = max(min(columns, count), 1)
    rows = -(-count // columns)
    shape = (rows * (height + gap) + gap, columns * (width + gap) + gap, *images.shape[3:])
    sheet = np.full(shape, fill, np.float32)
    for k, image in enumerate(images):
        top = gap + k // columns * (height + gap)
        left = gap + k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet
