"""Transforms of whole batches: callables from array to array, chained by ``Compose``.

A loader applies them to a batch at once, so each is one or two NumPy calls: ::

    Compose(ToFloat(), Normalize(0.1307, 0.3081), Pad(2), ExpandDims(1))

takes uint8 (N, 28, 28) to float32 (N, 1, 32, 32). They never change their input. Random ones
(augment.py) have their numbers from keys, which ``Compose`` passes on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .idx import Array
from .keys import Keys, Transform, apply, is_random


class Compose:
    """The transforms one after the other, the first one first.

    Random ones get keys of their own by their number among the random ones, so that one more
    ``ToFloat`` in the chain changes no number. Without keys, each call is new.
    """

    def __init__(self, *transforms: Transform) -> None:
        for transform in transforms:
            if not callable(transform):
                raise TypeError(f"Compose expects callables, received {transform!r}")
        self.transforms = transforms
        self.random = any(map(is_random, transforms))

    def __call__(self, batch: Array, keys: Keys | None = None) -> Array:
        if self.random and keys is None:
            keys = Keys.fresh(len(batch))
        number = 0
        for transform in self.transforms:
            batch = apply(transform, batch, keys and keys.child(number))
            number += is_random(transform)
        return batch

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


class ToFloat:
    """uint8 to float32 in [0, 1]: y = x / 255."""

    def __call__(self, batch: Array) -> Array:
        if batch.dtype != np.uint8:
            raise TypeError(f"ToFloat expects uint8 values 0 to 255, received {batch.dtype}")
        return np.multiply(batch, np.float32(1 / 255), dtype=np.float32)

    def __repr__(self) -> str:
        return "ToFloat()"


class Normalize:
    """y = (x − mean) / std, floating point.

    ``mean`` and ``std`` are numbers, or one number a channel, and then the batch is (N, C, H, W).
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        if self.mean.ndim > 1 or self.mean.shape != self.std.shape:
            raise ValueError(
                "Normalize expects two numbers or two sequences of equal length, "
                f"received mean={mean!r}, std={std!r}"
            )
        if not (
            np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()
        ):
            raise ValueError(
                f"Normalize expects finite mean and std > 0, received {mean!r}, {std!r}"
            )

    def __call__(self, batch: Array) -> Array:
        if batch.dtype.kind != "f":
            raise TypeError(
                f"Normalize expects floats, received {batch.dtype}: put ToFloat() before it"
            )
        mean, std = self.mean, self.std
        if mean.ndim:
            if batch.ndim != 4 or batch.shape[1] != len(mean):
                raise ValueError(
                    f"Normalize has {len(mean)} channels and expects (N, {len(mean)}, H, W), "
                    f"received {batch.shape}"
                )
            mean, std = mean[:, None, None], std[:, None, None]
        normalised: Array = batch - mean.astype(batch.dtype)
        normalised /= std.astype(batch.dtype)
        return normalised

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.tolist()}, std={self.std.tolist()})"


class Pad:
    """``fill`` around the last two axes: one width for all sides, (sides, top and bottom), or
    (left, top, right, bottom). ``Pad(2)`` makes MNIST's 28 × 28 the 32 × 32 of LeNet-5."""

    def __init__(self, padding: int | Sequence[int], fill: float = 0) -> None:
        widths = (padding,) if isinstance(padding, int) else tuple(padding)
        if len(widths) not in (1, 2, 4) or any(not isinstance(w, int) or w < 0 for w in widths):
            raise ValueError(f"Pad expects 1, 2 or 4 widths, each ≥ 0, received {padding!r}")
        self.left, self.top, self.right, self.bottom = widths * (4 // len(widths))
        self.fill = fill

    def __call__(self, batch: Array) -> Array:
        if batch.ndim < 3:
            raise ValueError(
                f"Pad expects a batch of images (N, ..., H, W), received {batch.shape}"
            )
        *front, height, width = batch.shape
        padded = np.full(
            (*front, self.top + height + self.bottom, self.left + width + self.right),
            self.fill,
            batch.dtype,
        )
        padded[..., self.top : self.top + height, self.left : self.left + width] = batch
        return padded

    def __repr__(self) -> str:
        return f"Pad(({self.left}, {self.top}, {self.right}, {self.bottom}), fill={self.fill})"


class ExpandDims:
    """A new axis of length 1 at ``axis``: (N, H, W) becomes (N, 1, H, W) with ``axis=1``."""

    def __init__(self, axis: int = 1) -> None:
        self.axis = axis

    def __call__(self, batch: Array) -> Array:
        if not -batch.ndim - 1 <= self.axis <= batch.ndim:
            raise ValueError(f"ExpandDims({self.axis}): the batch has only shape {batch.shape}")
        return np.expand_dims(batch, self.axis)

    def __repr__(self) -> str:
        return f"ExpandDims({self.axis})"


class OneHot:
    """Integer labels (N, ...) to float32 (N, ..., K): 1 at the label, else 0."""

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"OneHot expects at least 1 class, received {num_classes}")
        self.num_classes = num_classes

    def __call__(self, labels: Array) -> Array:
        if labels.dtype.kind not in "iu":
            raise TypeError(f"OneHot expects integer labels, received {labels.dtype}")
        if labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(
                f"OneHot({self.num_classes}) expects labels from 0 to {self.num_classes - 1}, "
                f"received {labels.min()} to {labels.max()}"
            )
        hot: Array = labels[..., None] == np.arange(self.num_classes)
        return hot.astype(np.float32)

    def __repr__(self) -> str:
        return f"OneHot({self.num_classes})"
