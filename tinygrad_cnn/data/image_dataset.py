"""Labelled images in memory, and the folder in which data sets are looked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..backend import settings
from .idx import Array

PathLike = str | os.PathLike[str]


class ImageDataset:
    """Labelled images in memory: ``images`` uint8 (N, H, W) or, with channels, (N, C, H, W), and
    ``labels`` int64 (N,).

    ``dataset[i]`` is (image, label); ``get_batch(indices)`` is the same for many at once,
    which loaders use. ``source`` says where the files were found.
    """

    name: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]

    def __init__(self, images: Array, labels: Array, train: bool, source: str) -> None:
        _check(images, labels, len(self.classes), source)
        self.images, self.labels = images, labels.astype(np.int64)
        self.train, self.source = train, source

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Array, int]:
        return self.images[index], int(self.labels[index])

    def get_batch(self, indices: Array) -> tuple[Array, ...]:
        return self.images[indices], self.labels[indices]

    def __repr__(self) -> str:
        split = "train" if self.train else "test"
        return f"{type(self).__name__}({split}, {len(self):,} images, from {self.source})"


def data_folder(root: PathLike | None) -> Path | None:
    """The data folder that was asked for, which must then exist."""
    asked = (
        ("root", root),
        ("TINYGRAD_CNN_DATA", os.environ.get("TINYGRAD_CNN_DATA")),
        ("data in the config file", settings().get("data")),
    )
    for who, folder in asked:
        if folder:
            path = Path(folder).expanduser()
            if not path.is_dir():
                raise FileNotFoundError(f"{who}: expected a folder, received {os.fspath(path)!r}")
            return path
    return None


def _check(images: Array, labels: Array, classes: int, source: str) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        received = f"{images.dtype} {images.shape}"
        raise ValueError(
            f"{source}: expected uint8 images (N, H, W) or (N, C, H, W), received {received}"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{source}: expected one label for each of {len(images)} images, "
            f"received labels of shape {labels.shape}"
        )
    if labels.dtype.kind not in "iu" or (
        labels.size and not 0 <= labels.min() <= labels.max() < classes
    ):
        raise ValueError(f"{source}: expected integer labels from 0 to {classes - 1}")
