"""Random transforms of batches of images, (N, H, W) or (N, C, H, W), and crops for testing.

    DataLoader(digits, 64, shuffle=True, seed=0, transform=Compose(
        ImageAugmentation(rotation_range=15, width_shift_range=2.0, height_shift_range=2.0),
        ToFloat(), Normalize(0.1307, 0.3081), Pad(2), ExpandDims(1)))

turns digits by up to 15° and shifts them by up to 2 pixels, differently in each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .idx import Array
from .keys import Keys, RandomTransform
from .warp import FILL_MODES, affine_warp

Range = float | Sequence[float]


def affine_matrices(
    size: tuple[int, int],
    theta: Array,
    row_shift: Array,
    column_shift: Array,
    shear: Array,
    row_zoom: Array,
    column_zoom: Array,
    flip: Array,
) -> Array:
    """The matrices (N, 2, 3) of ``affine_warp`` for N random changes; all arguments are (N,).

    In coordinates (r, c, 1) with the origin in the middle of the image, ((H−1)/2, (W−1)/2), rows
    pointing down, a pixel of the result comes from R · T · S · Z · F · (r, c, 1): ::

        R = cos θ  −sin θ  0     T = 1  0  tr     S = 1  −sin s  0     Z = zr   0  0     F = 1   0
            sin θ   cos θ  0         0  1  tc         0   cos s  0          0  zc  0         0  ±1

    which is A · (r, c) + R · (tr, tc) with

        A = zr cos θ   ∓ zc sin(θ+s)
            zr sin θ   ± zc cos(θ+s)

    θ and s in degrees, shifts in pixels. As the matrices go from the result to the image, θ > 0
    turns the picture clockwise as seen on the screen, tr > 0 moves it up, z < 1 enlarges it. The
    order and the signs are Keras's (``apply_affine_transform``).
    """
    turn, slant = np.deg2rad(theta), np.deg2rad(theta + shear)
    cos, sin = np.cos(turn), np.sin(turn)
    zoom = np.where(flip, -column_zoom, column_zoom)
    matrices = np.empty((len(theta), 2, 3))
    matrices[:, :, 0] = np.stack([row_zoom * cos, row_zoom * sin], axis=1)
    matrices[:, :, 1] = np.stack([-zoom * np.sin(slant), zoom * np.cos(slant)], axis=1)
    middle = (np.array(size) - 1) / 2
    matrices[:, 0, 2] = cos * row_shift - sin * column_shift
    matrices[:, 1, 2] = sin * row_shift + cos * column_shift
    matrices[:, :, 2] += middle - matrices[:, :, :2] @ middle
    return matrices


class ImageAugmentation(RandomTransform):
    """Rotation, shift, shear, zoom and flip at random, resampled once: Keras's names and meaning.

    ``rotation_range``  degrees: an angle from −r to r
    ``width_shift_range``, ``height_shift_range``
        a float below 1 is a fraction of the width or height, from 1 on it is in pixels, and the
        shift any amount from −s to s; an int s gives whole pixels *between* −s and s, that is at
        most s − 1, as Keras has it; a sequence: one of these numbers of pixels. So "± 2 pixels" is
        2.0, or [-2, -1, 0, 1, 2] for whole ones
    ``shear_range``  degrees, counter-clockwise: an angle from −s to s. Early versions of Keras
        took radians, so the 0.1 of old recipes was 5.7 degrees; today it is a tenth of a degree
    ``zoom_range``  z for factors from 1 − z to 1 + z, or (lowest, highest); one factor for the
        height and one for the width, each drawn anew. Below 1 the image grows
    ``horizontal_flip``  True mirrors every other image, left to right
    ``fill_mode``, ``cval``  what lies beyond the edges: see ``affine_warp``

    ``affine_matrices`` says how these are put together. uint8 or floating point images.
    """

    def __init__(
        self,
        *,
        rotation_range: float = 0.0,
        width_shift_range: Range = 0.0,
        height_shift_range: Range = 0.0,
        shear_range: float = 0.0,
        zoom_range: Range = 0.0,
        horizontal_flip: bool = False,
        fill_mode: str = "nearest",
        cval: float = 0.0,
    ) -> None:
        self.rotation_range = _finite("rotation_range", rotation_range)
        self.width_shift_range = _shift("width_shift_range", width_shift_range)
        self.height_shift_range = _shift("height_shift_range", height_shift_range)
        self.shear_range = _finite("shear_range", shear_range)
        self.zoom_range = _zoom(zoom_range)
        self.horizontal_flip, self.fill_mode, self.cval = horizontal_flip, fill_mode, cval
        if fill_mode not in FILL_MODES:
            expected = ", ".join(FILL_MODES)
            raise ValueError(f"fill_mode: expected one of {expected}, received {fill_mode!r}")

    def apply(self, batch: Array, keys: Keys) -> Array:
        return affine_warp(batch, self.matrices(batch.shape[-2:], keys), self.fill_mode, self.cval)

    def matrices(self, size: tuple[int, ...], keys: Keys) -> Array:
        """The matrices (N, 2, 3) drawn for images of ``size`` (H, W)."""
        height, width = size
        u = keys.uniform(7).T
        low, high = self.zoom_range
        return affine_matrices(
            (height, width),
            (2 * u[0] - 1) * self.rotation_range,
            _drawn_shift(self.height_shift_range, height, u[1]),
            _drawn_shift(self.width_shift_range, width, u[2]),
            (2 * u[3] - 1) * self.shear_range,
            low + (high - low) * u[4],
            low + (high - low) * u[5],
            self.horizontal_flip & (u[6] < 0.5),
        )

    def __repr__(self) -> str:
        return f"ImageAugmentation({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


def _finite(name: str, value: float) -> float:
    if isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: expected a number of at least 0, received {value!r}")
    return value


def _shift(name: str, value: Range) -> Range:
    if isinstance(value, Sequence):
        if not len(value) or not np.isfinite(value).all():
            raise ValueError(f"{name}: expected finite numbers of pixels, received {value!r}")
        return value
    if isinstance(value, int) and value == 1:
        raise ValueError(
            f"{name}: an int s means whole pixels between −s and s, so 1 leaves only 0: "
            "expected 1.0 for up to one pixel, or [-1, 0, 1] for whole ones"
        )
    return _finite(name, value)


def _drawn_shift(value: Range, length: int, u: Array) -> Array:
    """A shift in pixels for each uniform number u, as ImageAugmentation's first lines say."""
    if isinstance(value, int):
        value = range(-value + 1, value) if value else [0]
    if isinstance(value, Sequence):
        return np.asarray(value, np.float64)[(u * len(value)).astype(np.int64)]
    return (2 * u - 1) * (value * length if value < 1 else value)


def _zoom(value: Range) -> tuple[float, float]:
    if not isinstance(value, Sequence):
        value = (1 - value, 1 + value)
    if len(value) != 2 or not 0 < value[0] <= value[1] < math.inf:
        raise ValueError(
            "zoom_range: expected a number from 0 to below 1, or (lowest, highest) above 0, "
            f"received {value!r}"
        )
    return value[0], value[1]


class RandomCrop(RandomTransform):
    """A part of each image at a random place, ``size`` high and wide (or (height, width)).

    ``padding`` puts that many pixels of value ``fill`` around the images first. An image of 256 has
    33 × 33 places for 224, so with flips there are 2,178 variants; the 2,048 = 32 · 32 · 2 of the
    AlexNet paper leave out one place in each direction. Raises ValueError when it does not fit.
    """

    def __init__(self, size: int | tuple[int, int], padding: int = 0, fill: float = 0.0) -> None:
        self.size, self.padding, self.fill = _pair(size), padding, fill
        if padding < 0:
            raise ValueError(f"RandomCrop expects padding of at least 0, received {padding}")

    def apply(self, batch: Array, keys: Keys) -> Array:
        p = self.padding
        height, width = batch.shape[-2] + 2 * p, batch.shape[-1] + 2 * p
        _check_fits(self.size, (height, width))
        padded = np.full((*batch.shape[:-2], height, width), self.fill, batch.dtype)
        padded[..., p : height - p, p : width - p] = batch
        places = np.array([height - self.size[0] + 1, width - self.size[1] + 1])
        corners = (keys.uniform(2) * places).astype(np.int64)
        cut = np.empty((*batch.shape[:-2], *self.size), batch.dtype)
        for n, (top, left) in enumerate(corners.tolist()):
            cut[n] = padded[n, ..., top : top + self.size[0], left : left + self.size[1]]
        return cut

    def __repr__(self) -> str:
        return f"RandomCrop({self.size}, padding={self.padding}, fill={self.fill})"


class RandomHorizontalFlip(RandomTransform):
    """Each image mirrored left to right with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip expects p from 0 to 1, received {p}")
        self.p = p

    def apply(self, batch: Array, keys: Keys) -> Array:
        flipped = keys.uniform(1)[:, 0] < self.p
        made = batch.copy()
        made[flipped] = batch[flipped][..., ::-1]
        return made

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


def multi_crop(batch: Array, size: int | tuple[int, int], flip: bool = True) -> Array:
    """The four corners and the middle of images (N, ..., H, W), and these five mirrored.

    Returns (10, N, ..., h, w), or (5, N, ..., h, w) without ``flip``; the mean of a model's
    probabilities over axis 0 is the prediction (the AlexNet paper's test). Raises ValueError if
    ``size`` is larger than the images.
    """
    height, width = _pair(size)
    below, beside = batch.shape[-2] - height, batch.shape[-1] - width
    _check_fits((height, width), batch.shape[-2:])
    corners = [(0, 0), (0, beside), (below, 0), (below, beside), (below // 2, beside // 2)]
    cuts = [batch[..., top : top + height, left : left + width] for top, left in corners]
    return np.stack(cuts + [cut[..., ::-1] for cut in cuts] if flip else cuts)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"size: expected at least 1, received {size}")
    return height, width


def _check_fits(size: tuple[int, int], images: Sequence[int]) -> None:
    if size[0] > images[0] or size[1] > images[1]:
        raise ValueError(f"size: expected at most {tuple(images)} as the images, received {size}")
