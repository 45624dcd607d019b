"""Sheets of what a generator makes, and the way from one sample to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..nn import Module
from ..nn.utils import evaluation_mode
from ..random import Generator, randn
from .canvas import Array, host, pixels_of, save_pixels, tiles
from .watch import batch_for


def sample_sheet(
    images: Any, path: str | Path, columns: int = 8, limits: tuple[float, float] = (-1.0, 1.0)
) -> Path:
    """Images (N, C, H, W), C 1 or 3, side by side, one cell apart; ``limits`` are black and white.

    The file has columns·(W + 1) + 1 by rows·(H + 1) + 1 pixels.
    """
    low, high = limits
    shown = (pixels_of(images).astype(np.float32) - low) / (high - low)
    return save_pixels(tiles(shown, columns, fill=0.5), path)


def interpolate(start: Any, end: Any, steps: int, spherical: bool = True) -> Array:
    """``steps`` points from each row of ``start`` (N, D) to that of ``end``: (N, steps, D).

    Normal noise in D dimensions lies near a sphere of radius √D, and the middle of a straight line
    lies well inside, where the generator has seen nothing. The spherical way turns the direction by
    equal angles, with Ω the angle between both ends:

        z(t) = sin((1 − t)Ω)/sin Ω · a + sin(tΩ)/sin Ω · b

    (T. White: Sampling generative networks, 2016). ``spherical=False`` is (1 − t)·a + t·b; so is
    the way between rows of (nearly) the same or opposite direction.
    """
    a, b = host(start)[:, None].astype(np.float64), host(end)[:, None].astype(np.float64)
    t = np.linspace(0, 1, steps)[None, :, None]
    straight = (1 - t) * a + t * b
    if not spherical:
        return straight
    lengths = np.linalg.norm(a, axis=2, keepdims=True) * np.linalg.norm(b, axis=2, keepdims=True)
    cosine = (a * b).sum(2, keepdims=True) / np.where(lengths > 0, lengths, 1)
    angle = np.arccos(cosine.clip(-1, 1))
    sine = np.sin(angle)
    turns = sine > 1e-6
    below = np.where(turns, sine, 1)
    curved = np.sin((1 - t) * angle) / below * a + np.sin(t * angle) / below * b
    return np.where(turns, curved, straight)


def interpolation_sheet(
    generator: Module, latent: int, path: str | Path, *, rows: int = 6, steps: int = 10,
    seed: int = 0, spherical: bool = True, limits: tuple[float, float] = (-1.0, 1.0),
) -> Path:  # fmt: skip
    """Images on the way between two random latent vectors, a pair a row.

    ``generator`` turns (N, latent) into images (N, C, H, W) with values in ``limits``.
    """
    ends = host(randn(2, rows, latent, generator=Generator(seed)))
    points = interpolate(ends[0], ends[1], steps, spherical).reshape(rows * steps, latent)
    with evaluation_mode(generator), no_grad():
        images = generator(batch_for(generator, points))
    return sample_sheet(images, path, steps, limits)
