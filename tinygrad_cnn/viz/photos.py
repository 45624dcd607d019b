"""Photographs through the classic kernels of image processing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import BackendLike
from ..construct import tensor
from ..nn import functional as F
from .canvas import Array, figure, save
from .kernels import KERNELS, line_filter


def apply_kernel(image: Array, kernel: Array, backend: BackendLike = None) -> Array:
    """Each channel of an image (H, W, C) slid over by one kernel, SAME padding: (H, W, C)."""
    planes = tensor(np.ascontiguousarray(image.transpose(2, 0, 1)[:, None]), backend=backend)
    weight = tensor(kernel[None, None].astype(image.dtype), backend=planes.backend)
    return F.conv2d(planes, weight, padding="same").numpy()[:, 0].transpose(1, 2, 0)


def filtered_photographs(
    photographs: Mapping[str, Array], path: str | Path,
    kernels: Mapping[str, Array] = KERNELS, columns: int = 5, dpi: int = 110,
) -> dict[str, dict[str, Array]]:  # fmt: skip
    """Draw each photograph (H, W, C), values in [0, 1], and what every kernel makes of it.

    What a kernel that sums to 1 makes is drawn in colour, what others make as the strength of the
    answer, |mean over the channels|, white at its 99th percentile. Returns the answers (H, W, C)
    by photograph and kernel.
    """
    found = {
        name: {title: apply_kernel(image, kernel) for title, kernel in kernels.items()}
        for name, image in photographs.items()
    }
    lines = -(-(1 + len(kernels)) // columns)
    wide = max(image.shape[1] / image.shape[0] for image in photographs.values())
    drawn = figure(1.9 * columns, (1.9 / wide + 0.3) * lines * len(photographs))
    axes = drawn.subplots(lines * len(photographs), columns, squeeze=False)
    for block, (name, image) in enumerate(photographs.items()):
        cells = iter(axes[block * lines : (block + 1) * lines].flat)
        for cell in axes[block * lines : (block + 1) * lines].flat:
            cell.set_axis_off()
        _show(next(cells), name, image)
        for title, answer in found[name].items():
            keeps = abs(float(kernels[title].sum()) - 1) < 1e-5
            _show(next(cells), title, answer if keeps else _strength(answer))
    save(drawn, path, dpi)
    return found


def line_answers(
    photographs: Mapping[str, Array], path: str | Path, size: int = 7, dpi: int = 110
) -> dict[str, Array]:
    """Two filters over each photograph (H, W, C), in grey: a vertical and a horizontal line.

    The filters are size × size × C with ones along the middle column or row of every channel,
    stride 1, SAME padding. Returns (2, H, W) by photograph: vertical, horizontal.
    """
    lines = [line_filter(size, vertical) for vertical in (True, False)]
    found = {
        name: np.stack([apply_kernel(image, line).sum(2) for line in lines])
        for name, image in photographs.items()
    }
    drawn = figure(7, 2.7 * len(photographs))
    for row, (name, maps) in zip(
        drawn.subplots(len(photographs), 2, squeeze=False), found.items(), strict=True
    ):
        for axes, answer, title in zip(row, maps, ("vertical", "horizontal"), strict=True):
            axes.set_axis_off()
            axes.imshow(answer, cmap="gray")
            axes.set_title(f"{name}: {title} line of {size}", fontsize=9)
    save(drawn, path, dpi)
    return found


def drawn_scenes(height: int = 240, width: int = 360) -> dict[str, Array]:
    """Two pictures (H, W, 3) made by formulas, for where there are no photographs.

    "hall": columns that catch the light, beams and steps; "blossom": petals around a centre.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    columns = 0.5 + 0.5 * np.cos(2 * np.pi * 6 * x)
    steps = np.floor(8 * y) / 8
    beam = (np.abs(y - 0.15) < 0.04) | (np.abs(y - 0.85) < 0.04)
    light = np.where(beam, 0.9, 0.25 + 0.6 * columns * (0.4 + 0.6 * steps))
    hall = light[..., None] * np.array((0.95, 0.75, 0.55), np.float32)

    dx, dy = x - x.max() / 2, y - 0.5
    radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    petal = radius < 0.28 + 0.12 * np.cos(7 * angle)
    blossom = np.where(petal[..., None], (0.9, 0.3, 0.5), (0.15, 0.45, 0.2))
    blossom = blossom * (0.75 + 0.25 * np.cos(21 * angle) * petal)[..., None]
    blossom = np.where((radius < 0.09)[..., None], (0.95, 0.8, 0.2), blossom)
    return {"hall": hall.astype(np.float32), "blossom": blossom.clip(0, 1).astype(np.float32)}


def _strength(answer: Array) -> Array:
    size = np.abs(answer.mean(2))
    return np.asarray(size / (np.percentile(size, 99) or 1.0))


def _show(axes: Any, title: str, image: Array) -> None:
    axes.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=8)
